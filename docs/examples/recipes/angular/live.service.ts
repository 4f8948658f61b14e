// Angular 16 or newer, with zones and without. Install: npm install @roomcast/client socket.io-client
import { DestroyRef, Injectable, InjectionToken, inject, NgZone, signal } from '@angular/core';
import { type ConnectOptions, connect, type Live, type Meta, type RoomcastEvents, type Status } from '@roomcast/client';
import { Observable } from 'rxjs';

/** In app.config.ts: `{ provide: LIVE_OPTIONS, useValue: { url: 'https://bridge.example', rooms: { tenantId } } }`. */
export const LIVE_OPTIONS = new InjectionToken<ConnectOptions>('options of connect');

@Injectable({ providedIn: 'root' })
export class LiveService {
  private readonly zone = inject(NgZone);
  private readonly options = inject(LIVE_OPTIONS);
  /** Outside of the zone: otherwise each heartbeat and each timer would check the whole application for changes. */
  readonly live: Live = this.zone.runOutsideAngular(() => connect(this.options));
  private readonly current = signal<Status>(this.live.status);
  /** In a template: `{{ live.status().state }}`. */
  readonly status = this.current.asReadonly();

  constructor() {
    this.live.on('status', (status) => this.zone.run(() => this.current.set(status)));
    inject(DestroyRef).onDestroy(() => this.live.close());
  }

  /** In a component: `service.on('messages.new').pipe(takeUntilDestroyed()).subscribe(({ payload }) => …)`. */
  on<Name extends keyof RoomcastEvents>(name: Name): Observable<{ payload: RoomcastEvents[Name]; meta: Meta }> {
    return new Observable((subscriber) =>
      this.live.on(name, (payload, meta) => this.zone.run(() => subscriber.next({ payload, meta }))),
    );
  }
}

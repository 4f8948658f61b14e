/**
 * The place of a client in a tree of components: a component registers its handlers here, also before there is a client,
 * and keeps them when another client takes the place. A client's handlers are registered before its first event arrives,
 * and a client that is replaced calls none of them any more.
 */
import { type ConnectOptions, connect, type Handler, type Live } from '../client.ts';
import type { Reset, RoomName, Status } from '../events.ts';
import type { Store } from './shared-store.ts';

export interface LiveSlot<Events, Kind extends string> extends Store<Live<Events, Kind> | null> {
  /** Returns a function that removes the handler. */
  on<Name extends HandlerName<Events>>(name: Name, handler: HandlerOf<Events, Kind, Name>): () => void;
  readonly status: Store<Status>;
  /** The client that was here first: what a server renders. */
  readonly first: Live<Events, Kind> | null;
  put(live: Live<Events, Kind> | null): void;
}

export type HandlerName<Events> = 'reset' | 'status' | 'signals' | (keyof Events & string);

/** As `live.on` takes it. */
export type HandlerOf<Events, Kind extends string, Name> = Name extends 'reset'
  ? (reset: Reset) => void
  : Name extends 'status'
    ? (status: Status) => void
    : Name extends 'signals'
      ? (room: RoomName<Kind>) => void
      : Name extends keyof Events
        ? Handler<Events, Name>
        : never;

export const CONNECTING: Status = { state: 'connecting', transport: null, error: null };

export function createLiveSlot<Events, Kind extends string>(first: Live<Events, Kind> | null): LiveSlot<Events, Kind> {
  const registered = new Set<{ attach(): void; detach(): void }>();
  const listeners = new Set<() => void>();
  let live = first;

  const on: LiveSlot<Events, Kind>['on'] = (name, handler) => {
    const registration = {
      detach() {},
      attach() {
        if (live !== null) registration.detach = live.on(name as never, handler as never);
      },
    };
    registration.attach();
    registered.add(registration);
    return () => {
      registration.detach();
      registered.delete(registration);
    };
  };

  function subscribe(changed: () => void): () => void {
    const listener = (): void => changed(); // one for each subscription, also of the same function
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  return {
    on,
    subscribe,
    snapshot: () => live,
    first,
    status: {
      subscribe(changed) {
        const offs = [on('status', changed as never), subscribe(changed)];
        return () => {
          for (const off of offs) off();
        };
      },
      snapshot: () => live?.status ?? CONNECTING,
    },
    put(next) {
      if (next === live) return;
      for (const { detach } of registered) detach();
      live = next;
      for (const { attach } of registered) attach();
      for (const changed of [...listeners]) changed();
    },
  };
}

/**
 * Connects, with the options as they are. The functions among them are called as they are later. Returns a function that
 * closes the client.
 */
export function connectIn<Events, Kind extends string>(
  slot: LiveSlot<Events, Kind>,
  latest: () => ConnectOptions<Kind>,
): () => void {
  const options = latest();
  const { token, state } = options;
  const live = connect<Events, Kind>({
    ...options,
    ...(typeof token === 'function' ? { token: () => call(latest().token) } : {}),
    ...(state ? { state: (request) => latest().state?.(request) } : {}),
  });
  slot.put(live);
  return () => {
    slot.put(null);
    live.close();
  };
}

const call = (token: ConnectOptions['token']) => (typeof token === 'function' ? token() : (token as string));

const identities = new WeakMap<object, number>();
let count = 0;

/** Equal for options that make the same connection. Functions count as equal, objects such as `sessionStorage` do not. */
export function optionsKey(options: object): string {
  return JSON.stringify(options, (_, value: unknown) => {
    if (typeof value === 'function') return 'function';
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
    const prototype = Object.getPrototypeOf(value);
    if (prototype === Object.prototype || prototype === null) return Object.fromEntries(Object.entries(value).sort());
    if (!identities.has(value)) identities.set(value, count++);
    return `#${identities.get(value)}`;
  });
}

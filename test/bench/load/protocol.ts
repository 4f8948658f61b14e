/** What the bench asks of its load processes over IPC, and what they answer. */

export type Mode = 'sse' | 'websocket';

export interface ConnectOptions {
  readonly mode: Mode;
  readonly port: number;
  /** `%r` stands for the connection's room: its number modulo `rooms`. */
  readonly path: string;
  /** Of the request. Default 1.1. The answer to 1.0 has no chunks, whose bounds could fall into a stamp. */
  readonly httpVersion?: '1.0' | '1.1';
  readonly connections: number;
  readonly rooms: number;
  /** Websockets: each joins one ticket beside its room. */
  readonly tickets?: Tickets;
  readonly timeoutMs: number;
}

export interface Tickets {
  /** `%r` stands for the room of those who share it, `%t` for its number there. */
  readonly name: string;
  /** How many connections of one room share its first ticket, its second … */
  readonly sizes: readonly number[];
}

export function nameOf(template: string, room: number, ticket = 0): string {
  return template.replace('%r', String(room)).replace('%t', String(ticket));
}

export interface Connected {
  readonly ready: number;
  readonly failed: number;
  /** What the first that failed was told. */
  readonly reason: string | null;
  readonly seconds: number;
}

export interface CountOptions {
  /** Ends at so many deliveries, or at the time, or at `stop`. */
  readonly deliveries: number;
  readonly timeoutMs: number;
}

export interface Latency {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export interface SignalOptions {
  /** Of all connections together, which take turns; each signals to its ticket. */
  readonly perSecond: number;
  /** Whether they ask for acknowledgements. */
  readonly acks: boolean;
}

export interface Counted {
  /** Of records; those of signals are counted beside them. */
  readonly deliveries: number;
  /** Connections that ended since they were ready. */
  readonly closed: number;
  /** From the first delivery to the last. */
  readonly seconds: number;
  readonly latency: Latency;
  readonly signals: { readonly deliveries: number; readonly latency: Latency };
  /** This process's share of one core meanwhile; near 1 it was the load that was the limit. */
  readonly load: number;
}

export interface PublishOptions {
  readonly port: number;
  readonly path: string;
  readonly connections: number;
  readonly events: number;
  /** Left out: as fast as the connections are answered. */
  readonly perSecond?: number;
  /**
   * `envelope`: `{ event, payload }`; `payload`: the payload alone, an array of them in a batch; `channel`: Centrifugo's
   * `{ channel, data }`; `signal`: what `POST /signals` takes.
   */
  readonly body: 'envelope' | 'payload' | 'channel' | 'signal';
  /** More than 1: events per POST, of envelopes and payloads. */
  readonly batch?: number;
  /** Of one payload's JSON text. */
  readonly payloadBytes: number;
  readonly tenantId: string;
  /** In place of `tenantId`: the rooms `tenant-0`, `tenant-1` … in turn, and their tickets in turn. */
  readonly spread?: { readonly rooms: number; readonly tickets: Tickets };
  readonly timeoutMs: number;
}

export interface PublishResult {
  readonly answered: number;
  readonly refused: number;
  /** What the first that was refused was told. */
  readonly reason: string | null;
  readonly seconds: number;
  /** Until the answer. */
  readonly latency: Latency;
}

/** A load process may have several requests under way; `id` tells whose the answer is. */
export type Request = { readonly id: number } & Order;

export type Order =
  | { readonly kind: 'connect'; readonly options: ConnectOptions }
  | { readonly kind: 'count'; readonly options: CountOptions }
  | { readonly kind: 'stop' }
  /** From now on signals are sent; null: no more. */
  | { readonly kind: 'signal'; readonly options: SignalOptions | null }
  | { readonly kind: 'publish'; readonly options: PublishOptions };

export type Reply =
  | { readonly kind: 'answer'; readonly id: number; readonly value: Connected | Counted | PublishResult | null }
  | { readonly kind: 'failed'; readonly id: number; readonly message: string }
  | { readonly kind: 'progress'; readonly deliveries: number };

/** The stamp in a payload: this, and 16 digits. */
export const STAMP = '"sentAt":';
export const STAMP_DIGITS = 16;
/** Added to the time in the stamp of a signal, so that the first digit tells it from a record's (clock.ts). */
export const SIGNAL_SHIFT_US = 1e15;
export const SIGNAL = 'tickets.typing';

/** Serves requests from the parent and ends with it. */
export function serve(handle: (order: Order) => Promise<Connected | Counted | PublishResult | null>): void {
  const reply = (message: Reply): void => void process.send?.(message);
  process.on('message', (request: Request) => {
    handle(request).then(
      (value) => reply({ kind: 'answer', id: request.id, value }),
      (error: unknown) => {
        reply({ kind: 'failed', id: request.id, message: error instanceof Error ? error.message : String(error) });
      },
    );
  });
  process.on('disconnect', () => process.exit(0));
  // The terminal sends Ctrl-C to all; the parent ends us.
  process.on('SIGINT', () => {});
}

export function reportProgress(deliveries: number): void {
  process.send?.({ kind: 'progress', deliveries } satisfies Reply);
}

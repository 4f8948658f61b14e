/**
 * When an exchange of request and response has ended: the response was sent, or its connection closed. And how much of
 * it the client has taken.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** Past this time without a byte taken, an answer or a stream that waits is cut (protocol §16). */
export const STALLED_MS = 30_000;

export function hasExchangeEnded(request: IncomingMessage, response: ServerResponse): boolean {
  return response.closed || request.socket.destroyed;
}

/** Calls `listener` once, when the exchange ends. The returned function removes the listener. */
export function onExchangeEnd(response: ServerResponse, listener: () => void): () => void {
  response.once('close', listener);
  return () => void response.off('close', listener);
}

/** Ends the response. A client that has not read the rest after `lingerMs` is cut. */
export function endExchange(request: IncomingMessage, response: ServerResponse, lingerMs: number): void {
  response.end();
  if (hasExchangeEnded(request, response)) return;
  const linger = setTimeout(() => request.socket.destroy(), lingerMs);
  onExchangeEnd(response, () => clearTimeout(linger));
}

/**
 * A figure that changes whenever the network takes bytes of this connection, and only then. `writeQueueSize`, an internal of
 * Node, tells of a write that is half done; without it, only whole writes count. Canary: test/transports/internals.test.ts.
 */
export function takenBytes(socket: Socket): number {
  const { _handle } = socket as { readonly _handle?: { readonly writeQueueSize?: number } | null };
  return socket.bytesWritten - socket.writableLength - (_handle?.writeQueueSize ?? 0);
}

/** Watches whether the client of a connection takes what waits for it. */
export class StallWatch {
  readonly #socket: Socket;
  #taken: number;
  /** On the monotonic clock. */
  #takenAtMs = performance.now();

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#taken = takenBytes(socket);
  }

  /**
   * Whether the client has taken nothing for 30 s, although bytes wait. Call it about once a second. The kernel tells of
   * what was taken in amounts of a third of its send buffer: up to 1.3 MB on a fast network, far less on a slow one.
   */
  isStalled(nowMs: number): boolean {
    const taken = takenBytes(this.#socket);
    if (taken === this.#taken && this.#socket.writableLength > 0) return nowMs - this.#takenAtMs >= STALLED_MS;
    this.#taken = taken;
    this.#takenAtMs = nowMs;
    return false;
  }
}

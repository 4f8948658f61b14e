/**
 * When an exchange of request and response has ended: the response was sent, or its connection closed. And how much of
 * it the client has taken.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** Past this time without a byte taken, an answer that waits is cut (protocol §16). */
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

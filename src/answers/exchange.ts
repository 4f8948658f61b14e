/**
 * When an exchange of request and response has ended: the response was sent, or its connection closed.
 *
 * With HTTP pipelining, a response can wait behind another one on its connection. Node emits nothing on such a response
 * when the connection closes, so its count in the limits would never be released. One 'close' listener per connection
 * therefore serves all of its exchanges.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

const exchanges = new WeakMap<Socket, Set<() => void>>();

export function hasExchangeEnded(request: IncomingMessage, response: ServerResponse): boolean {
  return response.closed || request.socket.destroyed;
}

/** Calls `listener` once, when the exchange ends. The returned function removes the listener. */
export function onExchangeEnd({ socket }: IncomingMessage, response: ServerResponse, listener: () => void): () => void {
  const existing = exchanges.get(socket);
  const listeners = existing ?? new Set();
  if (existing === undefined) {
    exchanges.set(socket, listeners);
    socket.once('close', () => {
      for (const ended of [...listeners]) ended();
    });
  }
  const remove = (): void => {
    listeners.delete(ended);
    response.off('close', ended);
  };
  const ended = (): void => {
    remove();
    listener();
  };
  listeners.add(ended);
  response.on('close', ended);
  return remove;
}

/** Ends the response. A client that has not read the rest after `lingerMs` is cut; nothing else would cut it. */
export function endExchange(request: IncomingMessage, response: ServerResponse, lingerMs: number): void {
  response.end();
  // A pipelined response waits for the one before it, which is not this client's fault.
  if (response.socket === null || hasExchangeEnded(request, response)) return;
  const linger = setTimeout(() => request.socket.destroy(), lingerMs);
  onExchangeEnd(request, response, () => clearTimeout(linger));
}

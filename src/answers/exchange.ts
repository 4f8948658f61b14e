/**
 * When an exchange is over: the response was sent, or its connection is gone.
 *
 * Node tells a response that waits behind another one on its connection (HTTP pipelining) nothing when that connection
 * closes. What is held for such a response would be held for ever, so the connection is listened to as well, by one
 * listener for all of its exchanges.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

const exchanges = new WeakMap<Socket, Set<() => void>>();

export function isOver(request: IncomingMessage, response: ServerResponse): boolean {
  return response.closed || request.socket.destroyed;
}

/** Calls `act` once, when the exchange is over. The returned function takes that back. */
export function whenOver({ socket }: IncomingMessage, response: ServerResponse, act: () => void): () => void {
  const known = exchanges.get(socket);
  const waiting = known ?? new Set();
  if (known === undefined) {
    exchanges.set(socket, waiting);
    socket.once('close', () => {
      for (const over of [...waiting]) over();
    });
  }
  const forget = (): void => {
    waiting.delete(over);
    response.off('close', over);
  };
  const over = (): void => {
    forget();
    act();
  };
  waiting.add(over);
  response.on('close', over);
  return forget;
}

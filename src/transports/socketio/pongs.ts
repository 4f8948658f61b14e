/**
 * Pongs (RFC 6455 §5.5.3): "If an endpoint receives a Ping frame and has not yet sent Pong frame(s) in response to
 * previous Ping frame(s), the endpoint MAY elect to send a Pong frame for only the most recently processed Ping frame."
 * ws queues one for each ping, without bound. Here at most one pong waits for a client that does not read.
 */
import type { WebSocket } from './internals.ts';

/**
 * Call it once for each open websocket, after `takeOverWebsockets`.
 * @param received is called for each ping
 */
export function answerPings(websocket: WebSocket, received: () => void): void {
  let isSending = false;
  /** The newest ping that came while a pong was being sent. */
  let newest: Buffer | null = null;

  function pong(data: Buffer): void {
    isSending = true;
    websocket.pong(data, false, () => {
      isSending = false;
      const next = newest;
      newest = null;
      if (next !== null) pong(next);
    });
  }

  websocket.on('ping', (data) => {
    received();
    if (isSending) newest = data;
    else pong(data);
  });
}

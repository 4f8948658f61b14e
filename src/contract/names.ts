/** The names that the protocol fixes: transports, as metrics and `/stats` count them, and the bridge's own events. */

/** `polling` is Socket.IO over HTTP; `longpoll` is a `GET /events` that waits. */
export const TRANSPORTS = ['websocket', 'polling', 'sse', 'longpoll'] as const;
export type TransportName = (typeof TRANSPORTS)[number];

/** Carries the newest cursor from which the client may resume (protocol §5, §6). */
export const BRIDGE_CURSOR = 'bridge.cursor';
/** Events are lost; the payload is a `Reset` (protocol §8). */
export const BRIDGE_RESET = 'bridge.reset';
/** An error: `{ code, message, room? }` (protocol §5, §6). */
export const BRIDGE_ERROR = 'bridge.error';

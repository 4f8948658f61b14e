/** Names that the protocol fixes: transports, as metrics and `/stats` count them, and the bridge's own events. */

/** `polling` is Socket.IO's; `longpoll` is a waiting `GET /events`. */
export const TRANSPORTS = ['websocket', 'polling', 'sse', 'longpoll'] as const;
export type TransportName = (typeof TRANSPORTS)[number];

/** The newest cursor that the client may resume from (protocol §5, §6). */
export const BRIDGE_CURSOR = 'bridge.cursor';
/** Events were lost; the payload is a `Reset` (protocol §8). */
export const BRIDGE_RESET = 'bridge.reset';
/** A refusal: `{ code, message, room? }` (protocol §5, §6). */
export const BRIDGE_ERROR = 'bridge.error';

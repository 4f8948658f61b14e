/**
 * The names that the protocol fixes: transports, as metrics and `/stats` count them, the canonical events, and the bridge's
 * own.
 */

/** `polling` is Socket.IO over HTTP; `longpoll` is a `GET /events` that waits. */
export const TRANSPORTS = ['websocket', 'polling', 'sse', 'longpoll'] as const;
export type TransportName = (typeof TRANSPORTS)[number];

/** The events whose payloads the protocol describes (protocol §3). */
export const CANONICAL_EVENTS: readonly string[] = [
  'tickets.updated',
  'messages.new',
  'messages.updated',
  'messages.deleted',
];

/** Carries the newest cursor from which the client may resume (protocol §5, §6). */
export const BRIDGE_CURSOR = 'bridge.cursor';
/** Events are lost; the payload is a `Reset` (protocol §8). */
export const BRIDGE_RESET = 'bridge.reset';
/** Comes right before an event whose rooms are not those of its payload's ids (protocol §5, §6). */
export const BRIDGE_AUDIENCE = 'bridge.audience';
/** An error: `{ code, message, room? }` (protocol §5, §6). */
export const BRIDGE_ERROR = 'bridge.error';

/**
 * The legacy aliases of protocol §4, made here for the handlers that still use them. The server does not send them: that
 * takes half the bytes, and a group is never cut in two. A test compares the table with the contract's.
 */
import type { LegacyName } from './events.ts';

export interface Legacy {
  /** In the order in which they are emitted, before the canonical event. */
  readonly names: readonly LegacyName[];
  /** The member whose fields are merged into the envelope. */
  readonly entity: string;
}

export const LEGACY: Readonly<Record<string, Legacy>> = {
  'tickets.updated': { names: ['ticket.updated'], entity: 'ticket' },
  'messages.new': { names: ['ticket.message', 'ticket.message.created', 'message:created'], entity: 'message' },
  'messages.updated': { names: ['message:updated'], entity: 'message' },
};

/** Spread defines own properties, so a key named `__proto__` stays a key. */
export function legacyPayload({ entity }: Legacy, payload: Record<string, unknown>): Record<string, unknown> {
  return { ...(payload[entity] as object), ...payload };
}

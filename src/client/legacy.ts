/**
 * The legacy aliases of protocol §4, made here for the handlers that still ask for them and not sent by the server: half
 * the bytes, and a group is never cut in two. A test holds the table to the contract's.
 */
import type { LegacyName } from './events.ts';

export interface Legacy {
  /** Emitted before the canonical event, in this order. */
  readonly names: readonly LegacyName[];
  /** The payload's member whose fields are merged in beneath the envelope. */
  readonly entity: string;
}

export const LEGACY: Readonly<Record<string, Legacy>> = {
  'tickets.updated': { names: ['ticket.updated'], entity: 'ticket' },
  'messages.new': { names: ['ticket.message', 'ticket.message.created', 'message:created'], entity: 'message' },
};

/** Spread defines own properties: a key named __proto__ stays a key. */
export function legacyPayload({ entity }: Legacy, payload: Record<string, unknown>): Record<string, unknown> {
  return { ...(payload[entity] as object), ...payload };
}

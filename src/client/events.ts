/**
 * What an application sees: the contract's events, typed (protocol §3, §4), and what comes with each. Types only.
 *
 * Written out instead of inferred from the contract's schemas, so that an application needs no schema library to read
 * them; a test holds the two together.
 */
import type { RoomcastError } from './http.ts';

/** What both canonical payloads carry. Unknown extra keys pass through. */
export interface Envelope {
  tenantId: string;
  ticketId: string;
  ticketStatus: string;
  /** An ISO 8601 instant. */
  ticketUpdatedAt: string;
  agreementId?: string | null | undefined;
  instanceId?: string | null | undefined;
  messageId?: string | null | undefined;
  providerMessageId?: string | null | undefined;
  [extra: string]: unknown;
}

export interface TicketsUpdated extends Envelope {
  ticket: Record<string, unknown>;
}

export interface MessagesNew extends Envelope {
  message: Record<string, unknown>;
}

/** The events that an application hears. Legacy payloads have the entity's fields merged in beneath the envelope. */
export interface RoomcastEvents {
  'tickets.updated': TicketsUpdated;
  'messages.new': MessagesNew;
  'ticket.updated': TicketsUpdated;
  'ticket.message': MessagesNew;
  'ticket.message.created': MessagesNew;
  'message:created': MessagesNew;
}

/** Rooms, by the ids that name them. */
export interface RoomIds {
  readonly tenantId?: string | readonly string[];
  readonly ticketId?: string | readonly string[];
  readonly agreementId?: string | readonly string[];
  readonly userId?: string | readonly string[];
}

/** In the order of preference when nothing else is said. */
export type TransportName = 'websocket' | 'sse' | 'poll';

export interface Meta {
  readonly event: string;
  /** The record's place in the log: the same on every transport. */
  readonly cursor: string;
  readonly transport: TransportName;
  /** History that a `join` with `after` asked for. */
  readonly replay: boolean;
}

/** One record, as `for await (const event of live)` gives it: canonical and declared events, no legacy aliases. */
export type LiveEvent<Events> = {
  [Name in Exclude<keyof Events & string, LegacyName>]: Meta & {
    readonly event: Name;
    readonly payload: Events[Name];
  };
}[Exclude<keyof Events & string, LegacyName>];

export type LegacyName = 'ticket.updated' | 'ticket.message' | 'ticket.message.created' | 'message:created';

/** The state routes' answers after a reset: the newest of each, at most 1000. */
export interface State {
  /** The newest payload of each ticket of the tenants heard, newest first. */
  readonly tickets: readonly TicketsUpdated[];
  /** For each ticket room heard, its messages, oldest first. */
  readonly messages: Readonly<Record<string, readonly MessagesNew[]>>;
}

/** What lay after a place is gone (protocol §8): the application reads the state anew. */
export interface Reset {
  readonly reason: 'expired' | 'unknown';
  readonly after: string | null;
  readonly oldest: string;
  /** The events go on from here. With `refetch`, the place that `state` reflects. */
  readonly cursor: string;
  /** The room whose history was asked for by a `join`; null when it is the whole stream. */
  readonly room: string | null;
  /** With `refetch`: what the state routes say. Else null. */
  readonly state: State | null;
}

export interface Status {
  /** `connecting` until the first answer; `reconnecting` while nothing gets through; `closed` for good. */
  readonly state: 'connecting' | 'live' | 'reconnecting' | 'closed';
  /** Over which events come in now. */
  readonly transport: TransportName | null;
  /** Why it is not live, or why it closed by itself. */
  readonly error: RoomcastError | null;
}

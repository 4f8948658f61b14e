/**
 * The types that an application sees: the events of the contract (protocol §3, §4), their metadata, and the status.
 *
 * They are written out, not inferred from the contract's schemas, so that an application needs no schema library to
 * compile. A test compares the two.
 */
import type { Reset as BridgeReset } from '../contract/reset.ts';
import type { RoomcastError } from './http.ts';

/** Members of every canonical payload. Unknown members pass through. */
export interface Ids {
  tenantId: Id;
  ticketId: Id;
  agreementId?: Id | null | undefined;
  instanceId?: Id | null | undefined;
  messageId?: Id | null | undefined;
  providerMessageId?: Id | null | undefined;
  [extra: string]: unknown;
}

export interface Envelope extends Ids {
  ticketStatus: string;
  /** An ISO 8601 instant. */
  ticketUpdatedAt: string;
}

export interface TicketsUpdated extends Envelope {
  ticket: Record<string, unknown>;
}

export interface MessagesNew extends Envelope {
  message: Record<string, unknown>;
}

/** A change of a message. It means the message with its `messageId`, else the one with its `providerMessageId`. */
export interface MessageChange extends Ids {
  /** An ISO 8601 instant: when the message changed. A change that arrives later may be an older one. */
  messageUpdatedAt: string;
  ticketStatus?: string | null | undefined;
  ticketUpdatedAt?: string | null | undefined;
}

/** Lowest first: of two changes at one instant, the one with the higher status stands (protocol §7). */
export type MessageStatus = 'failed' | 'queued' | 'sent' | 'delivered' | 'read' | 'played';

export interface MessagesUpdated extends MessageChange {
  /** The message as it is now. */
  message: Record<string, unknown>;
  messageStatus?: MessageStatus | null | undefined;
}

export interface MessagesDeleted extends MessageChange {
  messageStatus?: null | undefined;
}

/** In a legacy payload, the entity's fields are merged into the envelope, which wins where a key clashes. */
export interface RoomcastEvents {
  'tickets.updated': TicketsUpdated;
  'messages.new': MessagesNew;
  'messages.updated': MessagesUpdated;
  'messages.deleted': MessagesDeleted;
  'ticket.updated': TicketsUpdated;
  'ticket.message': MessagesNew;
  'ticket.message.created': MessagesNew;
  'message:created': MessagesNew;
  'message:updated': MessagesUpdated;
}

/** A whole number means its decimal text (protocol §2). */
export type Id = string | number;

export type BuiltInKind = 'tenant' | 'ticket' | 'agreement' | 'user';

/**
 * Rooms, by their ids: `{ tenantId: 'tenant-1', ticketId: ['1', '2'] }`. `Kind` names the kinds that your operator declares
 * (ROOM_KINDS): `RoomIds<'queue'>` also has `queueId`.
 */
export type RoomIds<Kind extends string = never> = {
  readonly [Field in `${BuiltInKind | Kind}Id`]?: Id | readonly Id[];
};

/** Best first, which is the default order. */
export type TransportName = 'websocket' | 'sse' | 'poll';

/** What every signal holds beside its sender's own members (protocol §14). */
export interface SignalFields {
  /** Its name: `ticket:1`. */
  readonly room: string;
  /** The sender's `sub`; null if the sender has none. */
  readonly from: string | null;
  /** An opaque name. It tells apart two senders with the same `from`, such as two tabs. */
  readonly sender: string;
  /** Seconds until it ends; 0 says that it has ended. */
  readonly ttlSeconds: number;
}

/**
 * The type of a signal that your operator declares (SIGNALS), for `connect`. `Own` is what its sender puts in:
 * `{ 'tickets.typing': Signal; 'tickets.viewing': Signal<{ name: string }> }`.
 */
export type Signal<Own extends object = object> = Own & SignalFields;

/** `Either` is for a payload of type `unknown` or `any`. */
export type IfSignal<Payload, Yes, No, Either = No> = unknown extends Payload
  ? Either
  : Payload extends SignalFields
    ? Yes
    : No;

/** The names of the signals among the events. */
export type SignalName<Events> = {
  [Name in keyof Events & string]: IfSignal<Events[Name], Name, never, Name>;
}[keyof Events & string];

/** What the sender of a signal puts in. */
export type SignalPayload<Events, Name extends keyof Events> = Omit<Events[Name], keyof SignalFields>;

export type ActiveSignal<Events> = {
  [Name in SignalName<Events>]: Omit<SignalFields, 'ttlSeconds'> & {
    readonly event: Name;
    readonly payload: SignalPayload<Events, Name>;
    readonly expiresAt: Date;
  };
}[SignalName<Events>];

/** `ticket:123`. */
export type RoomName<Kind extends string = never> = `${BuiltInKind | Kind}:${string}`;

/** One room: its name, or its id as `RoomIds` has it. */
export type OneRoom<Kind extends string = never> =
  | RoomName<Kind>
  | { readonly [Field in `${BuiltInKind | Kind}Id`]?: Id };

export interface Meta {
  readonly event: string;
  /** The record's position in the log, the same on every transport. */
  readonly cursor: string;
  readonly transport: TransportName;
  /** Whether the record is history that a `join` with `after` asked for. */
  readonly replay: boolean;
}

/** A signal has no position in the log. */
export interface SignalMeta extends Omit<Meta, 'cursor'> {
  readonly cursor: null;
}

/** One record, as `for await (const event of live)` gives it: canonical and declared events; no aliases, no signals. */
export type LiveEvent<Events> = {
  [Name in RecordName<Events>]: Meta & {
    readonly event: Name;
    readonly payload: Events[Name];
  };
}[RecordName<Events>];

type RecordName<Events> = {
  [Name in Exclude<keyof Events & string, LegacyName>]: IfSignal<Events[Name], never, Name>;
}[Exclude<keyof Events & string, LegacyName>];

export type LegacyName =
  | 'ticket.updated'
  | 'ticket.message'
  | 'ticket.message.created'
  | 'message:created'
  | 'message:updated';

/** The answers of the state routes after a reset: the newest items of each list, at most 1000. */
export interface State {
  /** The newest payload of each ticket of the joined tenants, newest first. */
  readonly tickets: readonly TicketsUpdated[];
  /** The newest payload of each message of the joined tickets, oldest message first, without those that were deleted. */
  readonly messages: Readonly<Record<string, readonly (MessagesNew | MessagesUpdated)[]>>;
}

/** One page of a state route (protocol §7). */
export interface StateList<Item> {
  readonly items: readonly Item[];
  /** For the query of the next page; null after the last one. */
  readonly nextPage: string | null;
  /** The state is that of this position, or newer. It is the same for all pages. */
  readonly cursor: string;
}

interface PageQuery {
  readonly tenantId: Id;
  /** 1 to 1000. Default 100. A page may have fewer items, even none, and not be the last one. */
  readonly limit?: number | undefined;
  /** The `nextPage` of the page before. */
  readonly page?: string | undefined;
}

/** Of `GET /tickets` (protocol §7): the newest `ticketUpdatedAt` first. */
export interface TicketsQuery extends PageQuery {
  readonly agreementId?: Id | undefined;
  /** The `ticketStatus`. */
  readonly status?: string | undefined;
  /** An ISO 8601 instant: only tickets with a later `ticketUpdatedAt`. */
  readonly updatedAfter?: string | undefined;
}

/** Of `GET /tickets/{ticketId}/messages` (protocol §7). */
export interface MessagesQuery extends PageQuery {
  /** `asc`, the default, has the oldest message first. */
  readonly order?: 'asc' | 'desc' | undefined;
}

/** Events are lost (protocol §8): read the state again. With `refetch`, `cursor` is the position of `state`. */
export interface Reset extends BridgeReset<string> {
  /** The room whose history a `join` asked for; null if the whole stream is affected. */
  readonly room: string | null;
  /** The answers of the state routes, with `refetch`; null without it. */
  readonly state: State | null;
}

/** Reads the application's state, and draws it. `rooms` holds names, such as `ticket:1`. */
export type ReadOwnState = (request: {
  /** `start`: the client has not been live. Else why the state is out of date (protocol §8). */
  readonly reason: StateReason;
  readonly rooms: readonly string[];
  /** Aborts when the answer is no longer wanted: the client was closed, or a minute is over. */
  readonly signal: AbortSignal;
}) => Promise<unknown> | unknown;

export type StateReason = 'start' | BridgeReset<string>['reason'];

export interface Status {
  /** `connecting` until the first answer; `reconnecting` while nothing gets through; `closed` is final. */
  readonly state: 'connecting' | 'live' | 'reconnecting' | 'closed';
  /** The transport that delivers events now. */
  readonly transport: TransportName | null;
  /** Why it is not live, or why the bridge closed it. */
  readonly error: RoomcastError | null;
}

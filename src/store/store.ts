/**
 * The store ports: what the bridge needs of an engine that keeps its log. SQLite (sqlite/) and Redis (redis/) implement
 * them; test/store/conformance.ts holds both to every law below.
 *
 * Each port is small, so that a consumer names what it takes. Laws stand on the methods that they bind. One law binds
 * all of them: no call may block the event loop, and what waits for the engine is bounded; past the bound, and after at
 * most 5 s, a call MUST fail with `unavailable` (or `outcome_unknown`, see {@link Log.append}).
 */
import type { Cursor } from '../contract/cursor.ts';
import { BridgeError } from '../contract/errors.ts';
import type { CheckedEvent } from '../contract/events.ts';
import type { LogRecord } from '../contract/frames.ts';

/** A checked event with the audience keys under which the log indexes it. */
export interface AppendEvent extends CheckedEvent {
  readonly audiences: readonly string[];
}

/** One publish: all of its events are appended, or none. */
export interface AppendRequest {
  /** 1 to 1000. */
  readonly events: readonly AppendEvent[];
  readonly idempotency: {
    /** Already scoped to the publisher. */
    readonly key: string;
    /** A hash of the body: the same key with another fingerprint is a conflict. */
    readonly fingerprint: string;
  } | null;
  /** Milliseconds since 1970. */
  readonly acceptedAtMs: number;
}

export interface AppendedEvent {
  /** The record's cursor; of a duplicate, the first one's. */
  readonly id: Cursor;
  readonly duplicate: boolean;
}

/**
 * `appended`: durable (or a repeat: every event `duplicate`). An event repeats a `messages.new` of the same tenant with
 * the same `messageId`, or of the same tenant and ticket with the same `providerMessageId`, for as long as that message
 * is kept as state; also within the same request. `conflict`: the idempotency key was used with another body.
 */
export type AppendResult =
  | {
      readonly kind: 'appended';
      readonly events: readonly AppendedEvent[];
      /** When the log said so, on the monotonic clock: the answer may come later, behind what the tail was handed. */
      readonly durableAtMs: number;
    }
  | { readonly kind: 'conflict' };

/** Where the log begins and ends. */
export interface LogBounds {
  /** The place right before the oldest record kept (what was trimmed last, or genesis): reading after it returns all. */
  readonly floor: Cursor;
  /** The oldest record kept; equal to `head` when none is. */
  readonly oldest: Cursor;
  /** The newest record, or the genesis cursor of an empty log. It never falls, also when everything was trimmed. */
  readonly head: Cursor;
}

/**
 * `ok` when nothing after the cursor was trimmed, `expired` when something was, `unknown` when the cursor names no
 * record of this log (wrong epoch, wrong nonce, ahead of the head). A record that was erased still names its place.
 */
export type Resolution = { readonly kind: 'ok' } | ({ readonly kind: 'expired' | 'unknown' } & LogBounds);

export interface ReadQuery {
  /** Records of any of these audiences, each once. */
  readonly audiences: readonly string[];
  /** Exclusive. */
  readonly after: Cursor;
  /** Most records to return, 1 to 1000. */
  readonly limit: number;
  /** Stop after the record with which the payloads' total length passes this many characters. At least one record. */
  readonly maxChars: number;
}

export type ReadResult =
  | {
      readonly kind: 'ok';
      /** Oldest first. */
      readonly records: readonly LogRecord[];
      /** How far was read: the last record if there are more, else the head at the moment of reading. */
      readonly position: Cursor;
      readonly more: boolean;
    }
  | ({ readonly kind: 'expired' | 'unknown' } & LogBounds);

export interface NewestQuery {
  readonly audiences: readonly string[];
  readonly limit: number;
  /** Stop after the record with which the payloads' total length passes this many characters. */
  readonly maxChars: number;
}

/** The newest `limit` records of the audiences, oldest first, and the head of the log as of the same moment. */
export interface NewestResult {
  readonly records: readonly LogRecord[];
  readonly head: Cursor;
}

/** One page of a state list. `nextPage` is an opaque token for `page`, without whitespace. */
export interface StatePage {
  /** JSON texts. */
  readonly items: readonly string[];
  readonly nextPage: string | null;
  /** The position of the log that the page reflects. */
  readonly cursor: Cursor;
}

/** What `tickets` and `messages` throw for a `page` that is not a `nextPage` of theirs. */
export function invalidPage(): BridgeError {
  const message = 'is not one that this list has given out';
  return new BridgeError('invalid_request', `page ${message}.`, { errors: [{ path: 'page', message }] });
}

export interface TicketsQuery {
  readonly tenantId: string;
  /** What a narrowed token reaches: tickets of these ids, or of these agreements. Both null: all. At most 1000 each. */
  readonly ticketIds: readonly string[] | null;
  readonly agreementIds: readonly string[] | null;
  /** When not null, only tickets whose agreement is this. */
  readonly agreementId: string | null;
  readonly status: string | null;
  /** Exclusive, an `instantKey`. */
  readonly updatedAfter: string | null;
  readonly limit: number;
  /** The page ends, short of `limit`, with the item that brings the payloads' total length past so many characters. */
  readonly maxChars: number;
  readonly page: string | null;
}

export interface MessagesQuery {
  readonly tenantId: string;
  readonly ticketId: string;
  readonly order: 'asc' | 'desc';
  readonly limit: number;
  /** As of a {@link TicketsQuery}. */
  readonly maxChars: number;
  readonly page: string | null;
}

/** The newest `tickets.updated` payload of a ticket, null when there is none. */
export interface TicketResult {
  readonly payload: string | null;
  readonly cursor: Cursor;
}

/** What a Socket.IO client needs to be put back: opaque to the store. */
export interface Session {
  /** The private session id that the client presents. */
  readonly pid: string;
  /** The connection that may write the session. */
  readonly owner: string;
  /** JSON text. */
  readonly data: string;
  /** Milliseconds since 1970. */
  readonly expiresAtMs: number;
}

export interface Retention {
  /** Records accepted before this are trimmed from the log. Milliseconds since 1970. */
  readonly trimBeforeMs: number;
  readonly maxRecords: number;
  /** Tickets (and their messages) whose last event was accepted before this are forgotten. */
  readonly stateBeforeMs: number;
  /** Idempotency keys older than this are forgotten. */
  readonly dedupeBeforeMs: number;
  /** The wall clock, for sessions. */
  readonly nowMs: number;
}

export interface StoreStats {
  /** Records that the log keeps. */
  readonly records: number;
  readonly oldestAcceptedAtMs: number | null;
  readonly newestAcceptedAtMs: number | null;
  /** What the engine holds, state and indexes too: a SQLite file; all the memory that a Redis uses. */
  readonly bytes: number;
}

/** A node of the log, as the others see it. */
export interface NodeEntry {
  readonly id: string;
  /** JSON text, opaque to the store. */
  readonly facts: string;
  /** How long it counts as living without being told again; 0: it leaves. */
  readonly ttlMs: number;
}

/** Called by the tail. MUST NOT throw. */
export interface TailListener {
  /** One commit, in cursor order. */
  records(records: readonly LogRecord[]): void;
  /**
   * Records were trimmed before this node could read them (`expired`), or the log was replaced (`unknown`). The tail
   * continues after `bounds.head`.
   */
  gap(kind: 'expired' | 'unknown', bounds: LogBounds): void;
  /** Records at or before this cursor were trimmed or erased: nothing cached of them may be served. */
  forgotten(through: Cursor): void;
}

/** The durable log: records in cursor order, read by audience, and its tail. */
export interface Log {
  /** What the log held when the store was opened; the tail starts right after `head`. */
  readonly opened: LogBounds;
  /**
   * MUST resolve `appended` only after all records of the request are durable, and MUST NOT let `read`, the state or the
   * tail see some of them without the others. Cursors MUST rise in the order of the log, also after a restart and when
   * the clock steps back, and MUST NOT be reused.
   * @throws {BridgeError} `unavailable` (nothing was accepted and nothing will be), `outcome_unknown` (the write was
   * under way and may yet appear, whole)
   */
  append(request: AppendRequest): Promise<AppendResult>;
  /**
   * Starts the tail; call it once, before the first `append`. The tail MUST hand over each durable record once, in
   * cursor order, including the records that this node appended, and MUST NOT hand over one that is not durable. A listener that throws is a fault of the listener: the
   * store MUST log it and hand over the next commit.
   */
  tail(listener: TailListener): void;
  bounds(): Promise<LogBounds>;
  resolve(cursor: string): Promise<Resolution>;
  /** MUST cost what it returns: it reads by audience and never scans the log. */
  read(query: ReadQuery): Promise<ReadResult>;
  newest(query: NewestQuery): Promise<NewestResult>;
  /** Applies retention, in slices that do not hold up appends, and tells the tail's `forgotten`. */
  trim(retention: Retention): Promise<void>;
  stats(): Promise<StoreStats>;
  /** Whether the log accepts events, as far as the latest attempts tell. */
  healthy(): boolean;
}

/** Ticket and message state: a projection of the log, never behind it in the eyes of a reader. */
export interface TicketState {
  /**
   * Newest `ticketUpdatedAt` first; equal ones by cursor, newest first.
   * @throws {BridgeError} `invalid_request` for a `page` that this list did not give out
   */
  tickets(query: TicketsQuery): Promise<StatePage>;
  ticket(tenantId: string, ticketId: string): Promise<TicketResult>;
  /** In cursor order. @throws {BridgeError} `invalid_request` for a `page` that this list did not give out */
  messages(query: MessagesQuery): Promise<StatePage>;
}

/** Socket.IO sessions. Only the connection that owns a session may write it. */
export interface Sessions {
  /** MUST be durable once resolved. Writes nothing if the session belongs to another owner. Resolves to whether it wrote. */
  saveSession(session: Session): Promise<boolean>;
  /** Makes `owner` the owner and returns the session; null if there is none or it has expired. */
  claimSession(pid: string, owner: string, nowMs: number): Promise<Session | null>;
  /** Moves the expiry of the sessions that these owners still own, in one write. */
  touchSessions(sessions: readonly Pick<Session, 'pid' | 'owner' | 'expiresAtMs'>[]): Promise<void>;
  dropSession(pid: string, owner: string): Promise<void>;
}

export interface Secrets {
  /** A random key of 32 bytes as base64url. Made on first use; MUST be the same on every node and after a restart. */
  secret(name: string): Promise<string>;
}

export interface Nodes {
  /** Announces this node to the others. Resolves to the facts of all live nodes, this one included. */
  announce(node: NodeEntry): Promise<string[]>;
}

export interface EraseTarget {
  readonly tenantId: string;
  /** One ticket of the tenant; null for all data of the tenant. */
  readonly ticketId: string | null;
}

export interface Erasure {
  /**
   * Removes the records, state and dedupe keys of a tenant, or of one of its tickets, from the log and its files for
   * good. Cursors MUST stay valid, and replays of other records complete. Resolves to the number of records erased.
   */
  erase(target: EraseTarget): Promise<number>;
}

/** All ports of one engine. */
export interface Store extends Log, TicketState, Sessions, Secrets, Nodes, Erasure {
  /** Refuses new calls, lets those under way end, and releases files and connections. */
  close(): Promise<void>;
}

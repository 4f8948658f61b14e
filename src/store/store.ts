/**
 * The store ports: what the bridge needs from the engine behind its log. SQLite (sqlite/) and Redis (redis/) implement
 * them, and test/store/conformance.ts checks both engines against every law below.
 *
 * Each port is small, so that a consumer names only what it uses. The laws are on the methods that they bind. One law
 * binds every method: a call MUST NOT block the event loop, and only a bounded number of calls may wait for the
 * engine. Past the bound, or after at most 5 s, a call MUST fail with `unavailable` (`append`: or `outcome_unknown`).
 *
 * The log is the truth; index and state are projections of it (design law 11). A projection MAY be behind the log, and MUST
 * be redone from it after a crash. A read MUST NOT show that a projection is behind, and MUST NOT wait for a writer that a
 * disk can hold up.
 *
 * Reads name their `caller` (auth/principal.ts, `callerKey`); without one they are the bridge's own. The reads of
 * different callers MUST take turns, each of a bounded number of rows and bytes, and one caller MUST NOT take all the
 * places of those that wait: reads of one caller never delay another's for longer than a turn (protocol §16).
 */
import { hash } from 'node:crypto';
import type { Hearing } from '../contract/audiences.ts';
import type { Cursor } from '../contract/cursor.ts';
import { type BridgeError, fieldsError } from '../contract/errors.ts';
import type { CheckedEvent } from '../contract/events.ts';
import type { LogRecord } from '../contract/frames.ts';
import type { Room } from '../contract/rooms.ts';
import type { Revocations } from './revocations.ts';

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
    /** A hash of the body. The same key with another fingerprint is a conflict. */
    readonly fingerprint: string;
  } | null;
  /** Milliseconds since 1970. */
  readonly acceptedAtMs: number;
}

export interface AppendedEvent {
  /** The cursor of the record; for a duplicate, the cursor of the first record. */
  readonly id: Cursor;
  readonly duplicate: boolean;
  /** The rooms of the record; for a duplicate, those of the first record. */
  readonly rooms: readonly Room[];
}

/**
 * `appended`: the records are durable. Every event is a duplicate if the idempotency key was used with the same body. A
 * `messages.new` is a duplicate of one with the same tenant and ticket and the same `messageId` or `providerMessageId`,
 * in an earlier or the same request, for as long as the state keeps that message, deleted or not. A change of a message
 * is a duplicate of one with the same tenant, event, payload text and rooms, until `Retention.dedupeBeforeMs`.
 * `conflict`: the idempotency key was used with another body.
 */
export type AppendResult =
  | {
      readonly kind: 'appended';
      readonly events: readonly AppendedEvent[];
      /** When the log confirmed the commit, on the monotonic clock. `append` may resolve later. */
      readonly durableAtMs: number;
    }
  | { readonly kind: 'conflict' };

/** Where the log begins and ends. */
export interface LogBounds {
  /** The newest trimmed record, or the genesis cursor. A read after it returns every record. */
  readonly floor: Cursor;
  /** The oldest record; equal to `head` if the log holds none. */
  readonly oldest: Cursor;
  /** The newest record, or the genesis cursor of a new log. It never falls, even when every record is trimmed. */
  readonly head: Cursor;
}

/**
 * `ok`: no record after the cursor was trimmed. `expired`: at least one was. `unknown`: the cursor names no record of
 * this log (wrong epoch, wrong nonce, ahead of the head). The cursor of an erased record stays valid.
 */
export type Resolution = { readonly kind: 'ok' } | Missed;
type Missed = { readonly kind: 'expired' | 'unknown' } & LogBounds;

interface RecordsQuery {
  readonly caller?: string;
  /** Returns the records of any of these audiences, each once. */
  readonly audiences: readonly string[];
  /** Leaves out the records of other events, without their cost; null, or left out: keeps all. */
  readonly events?: readonly string[] | null;
  /** The maximum number of records, 1 to 1000. */
  readonly limit: number;
  /** Ends with the record that brings the total length of the payloads past this many characters. */
  readonly maxChars: number;
}

export interface NewestQuery extends RecordsQuery {
  /** Only records before this one; null, or left out: from the head. */
  readonly before?: Cursor | null;
}

export interface ReadQuery extends RecordsQuery {
  /** The read starts with the record after this cursor. */
  readonly after: Cursor;
}

export type ReadResult =
  | {
      readonly kind: 'ok';
      /** Oldest first. */
      readonly records: readonly LogRecord[];
      /** How far the read came: the last record that it looked at if `more`, else the head at the time of the read. */
      readonly position: Cursor;
      /** There may be more after `position`, even if `events` left out every record so far. */
      readonly more: boolean;
    }
  | Missed;

/** The newest `limit` records of the audiences, oldest first, and the head of the log at the time of the read. */
export interface NewestResult {
  readonly records: readonly LogRecord[];
  readonly head: Cursor;
}

/**
 * One page of a state list. Pass `nextPage` as `page` to get the next one; it is opaque and has no whitespace. A page may
 * hold fewer than `limit` items, even none, and still have a `nextPage`: its work is bounded (page.ts).
 */
export interface StatePage {
  /** JSON texts. */
  readonly items: readonly string[];
  readonly nextPage: string | null;
  /** The head of the log that the page reflects. */
  readonly cursor: Cursor;
}

/** The error of `tickets` and `messages` for a `page` that is not a `nextPage` of the same list. */
export function invalidPage(): BridgeError {
  const message = 'must be the nextPage of an answer to the same request';
  return fieldsError('invalid_request', [{ in: 'query', path: 'page', message }]);
}

interface PageQuery {
  readonly caller?: string;
  readonly tenantId: string;
  /** Only items whose record went to at least one of these rooms. */
  readonly hearing: Hearing;
  readonly limit: number;
  /** The page ends, even short of `limit`, with the item that brings the payloads' length past this many characters. */
  readonly maxChars: number;
  readonly page: string | null;
}

export interface TicketsQuery extends PageQuery {
  /** A filter, like `status` and `updatedAfter`; null for all. */
  readonly agreementId: string | null;
  readonly status: string | null;
  /** Exclusive, an `instantKey`. */
  readonly updatedAfter: string | null;
}

export interface MessagesQuery extends PageQuery {
  readonly ticketId: string;
  readonly order: 'asc' | 'desc';
}

export interface TicketQuery {
  readonly caller?: string;
  readonly tenantId: string;
  readonly ticketId: string;
  readonly hearing: Hearing;
}

/** The newest `tickets.updated` payload of a ticket; null if there is none, or its record went to none of the rooms. */
export interface TicketResult {
  readonly payload: string | null;
  readonly cursor: Cursor;
}

/** A room of a session, and JSON text about it, which is opaque to the store. */
export type SavedRoom = readonly [room: string, data: string];

/** What the bridge saves of a Socket.IO connection for recovery. */
export interface Session {
  /** The private session id that the client presents. */
  readonly pid: string;
  /** The connection that may write the session. */
  readonly owner: string;
  /** JSON text about the connection, opaque to the store. */
  readonly data: string;
  /** In no particular order. */
  readonly rooms: readonly SavedRoom[];
  /** Milliseconds since 1970. */
  readonly expiresAtMs: number;
}

/** What has changed in a session. */
export interface SessionChange extends Omit<Session, 'rooms'> {
  /** Who shares a limit on sessions. */
  readonly holder: { readonly key: string; readonly maxSessions: number };
  /** Rooms to add or replace. */
  readonly put: readonly SavedRoom[];
  readonly remove: readonly string[];
  /** `put` holds all rooms of the session, which may be new. Otherwise the session must exist. */
  readonly isWhole: boolean;
}

/** `lost`: the session does not exist (any more), and the change is not whole. `foreign`: it has another owner. */
export type SaveResult = 'saved' | 'lost' | 'foreign';

export interface Retention {
  /** Records accepted before this are trimmed from the log. Milliseconds since 1970. */
  readonly trimBeforeMs: number;
  readonly maxRecords: number;
  /** Tickets whose last event was accepted before this are removed from the state, with their messages. */
  readonly stateBeforeMs: number;
  /** Idempotency keys older than this are removed. */
  readonly dedupeBeforeMs: number;
  /** Revocations older than this are removed. */
  readonly revokedBeforeMs: number;
  /** The wall clock, to remove expired sessions. */
  readonly nowMs: number;
}

export interface StoreStats {
  /** Records in the log. */
  readonly records: number;
  readonly oldestAcceptedAtMs: number | null;
  readonly newestAcceptedAtMs: number | null;
  /** The size of the SQLite file, or all the memory that Redis uses; includes state and indexes. */
  readonly bytes: number;
}

/** A node as it announces itself to the other nodes of the log. */
export interface NodeEntry {
  readonly id: string;
  /** JSON text, opaque to the store. */
  readonly facts: string;
  /** Milliseconds until the node counts as gone, unless it announces itself again. 0: it leaves now. */
  readonly ttlMs: number;
}

/** What the tail calls. Its methods MUST NOT throw; see {@link Log.tail}. */
export interface TailListener {
  /** The records of one commit, in cursor order. */
  records(records: readonly LogRecord[]): void;
  /**
   * Records were trimmed before this node could read them (`expired`), or the log was replaced (`unknown`). The tail
   * continues after `bounds.head`.
   */
  gap(kind: 'expired' | 'unknown', bounds: LogBounds): void;
  /** Records at or before this cursor were trimmed or erased. No cached copy of them may be served from now on. */
  forgotten(through: Cursor): void;
  /**
   * A target was erased, by any node; its `erasureKey`. Null: nobody knows which targets were erased. Nothing on this
   * node may name them from now on.
   */
  erased(key: string | null): void;
}

/** The durable log: records in cursor order, read by audience, and its tail. */
export interface Log {
  /** The bounds of the log when the store was opened. The tail starts right after `head`. */
  readonly opened: LogBounds;
  /**
   * MUST resolve `appended` only after all records of the request are durable. MUST NOT let a read, the state or the tail
   * see some of them without the others. MUST find a repeat also of a record that no projection has yet. Cursors MUST rise
   * in the order of the log, even after a restart or when the clock steps back, and MUST NOT be reused.
   *
   * A change of a message (`MessageFacts.change` other than `new`) whose rooms the publisher did not name MUST go to the
   * rooms of that message's `messages.new`; before that one is known, to those of the first change that the state keeps
   * for the message; without one, to its own `rooms`.
   * @throws {BridgeError} `unavailable` (no record was or will be written), `outcome_unknown` (the write was under way
   * and all of its records may yet appear)
   */
  append(request: AppendRequest): Promise<AppendResult>;
  /**
   * Starts the tail; call it once, before the first `append`. The tail MUST hand over each durable record once, in
   * cursor order, including the records of this node, and MUST NOT hand over a record that is not durable. If the
   * listener throws, the store MUST log the error, MUST NOT fail the append, and MUST hand over the next commit.
   */
  tail(listener: TailListener): void;
  bounds(caller?: string): Promise<LogBounds>;
  resolve(cursor: string, caller?: string): Promise<Resolution>;
  /** MUST cost what it returns: it reads by audience and never scans the log. With `events`, a read MAY end early. */
  read(query: ReadQuery): Promise<ReadResult>;
  newest(query: NewestQuery): Promise<NewestResult>;
  /** Applies retention in slices, so that appends run in between, and calls `forgotten` of the tail. */
  trim(retention: Retention): Promise<void>;
  stats(): Promise<StoreStats>;
  /** Whether the log accepts events, judged by the latest attempts. */
  healthy(): boolean;
  /** Why it does not, in the words of the engine; null if it does. For operators only: it may name a host. */
  fault(): string | null;
}

/** Records of some tenants, by their room. */
export interface LogPart {
  /** Null: of every tenant. */
  readonly tenants: readonly string[] | null;
  /** Only records that went to this room; null: whatever their rooms are. */
  readonly room: Room | null;
}

export interface ScanQuery {
  readonly caller?: string;
  /** At least one. Returns the records of any of them, each once. */
  readonly parts: readonly LogPart[];
  /** Only records of these events; null: of all. */
  readonly events: readonly string[] | null;
  /** Only records whose payload contains this text (`createContains` in scan.ts); null: all. */
  readonly contains: string | null;
  /** When the log accepted the record, both ends included; milliseconds since 1970, or null. */
  readonly sinceMs: number | null;
  readonly untilMs: number | null;
  /** Cursors, both exclusive; null: from the oldest record, to the newest. */
  readonly after: Cursor | null;
  readonly before: Cursor | null;
  /** `asc`: oldest first. `desc`: newest first. */
  readonly order: 'asc' | 'desc';
  /** The maximum number of records, 1 to 1000. */
  readonly limit: number;
  /** Ends with the record that brings the payloads that were looked at past this many characters. */
  readonly maxChars: number;
}

export type ScanResult =
  | {
      readonly kind: 'ok';
      /** In the `order` of the query. */
      readonly records: readonly LogRecord[];
      /**
       * How far the scan came: every record of the range up to this one (`desc`: down to this one) was looked at. At the
       * end of an `asc` scan without `before`, it is the head.
       */
      readonly position: Cursor;
      /** The range does not end at `position`. What follows may hold no match. */
      readonly more: boolean;
    }
  /** `cursor` is the one of the two that is expired or unknown. */
  | ({ readonly kind: 'expired' | 'unknown'; readonly cursor: Cursor } & LogBounds);

/**
 * How operators look at the log (protocol §15): at any records, by tenant or room, instant, event or a text in the payload,
 * forwards or backwards. A filter may match nothing in a million records, so a scan works in steps.
 */
export interface LogScan {
  /**
   * One step through the log in its order. Returns the records of the query that it finds, and never one that was trimmed
   * or erased. MUST look at no more than `SCAN_ROWS` rows, and MUST come further with each call, even if nothing matches.
   * MUST read by tenant and room through the indexes where they have the answer, and MUST find what they do not have yet.
   * Instants are those of the clocks of the nodes, which may step back: a scan MAY skip a stretch of the log only if it
   * knows the instants of all of it.
   */
  scan(query: ScanQuery): Promise<ScanResult>;
}

/**
 * Ticket and message state: a projection of the log (protocol §7).
 *
 * A message belongs to one ticket of one tenant. An event means the message with its `messageId`, else the one with its
 * `providerMessageId`. An id that a change adds names that message from then on, unless another message that has its
 * `messages.new` has the id. A change of an unknown message MUST be kept, and MUST apply when the `messages.new` arrives; until then the
 * message is not listed. Kept changes that turn out to be of one message become one. Of two payloads of a message the
 * one with the later instant stands (a `messages.new` is the earliest), then the one with the higher `statusRank`, then the
 * later in the log. A deleted message MUST NOT be listed, whatever arrives for it later.
 *
 * It MUST reflect every record up to the cursor of each reply, even one that no projection has yet. It MUST show an item
 * only to a `hearing` of at least one room of the record that it shows, whatever other records of the ticket went to.
 * Filters MUST be indexed, or looked for in steps (page.ts).
 */
export interface TicketState {
  /**
   * Newest `ticketUpdatedAt` first; equal ones by cursor, newest first.
   * @throws {BridgeError} `invalid_request` for a `page` that is not a `nextPage` of this list
   */
  tickets(query: TicketsQuery): Promise<StatePage>;
  ticket(query: TicketQuery): Promise<TicketResult>;
  /** In the order of the cursors of their `messages.new`. @throws {BridgeError} as `tickets` does */
  messages(query: MessagesQuery): Promise<StatePage>;
}

/** Socket.IO sessions. Only the connection that owns a session may write it. */
export interface Sessions {
  /**
   * Resolves to `saved` once the change is durable; otherwise nothing was written. MUST write what changed, and not the
   * rest of the session: `data` and `expiresAtMs` count for a new session only. A holder keeps at most `maxSessions`: a
   * new session MUST remove those of the same holder that expire first. Sessions of closed connections expire before
   * those of live ones, which are extended.
   */
  saveSession(change: SessionChange): Promise<SaveResult>;
  /** Null if there is none or it has expired. MUST change nothing, so that a stranger's question ends no session. */
  findSession(pid: string, nowMs: number): Promise<Session | null>;
  /** Makes `owner` the owner and returns the session; null if there is none or it has expired. */
  claimSession(pid: string, owner: string, nowMs: number): Promise<Session | null>;
  /** Extends the sessions that these owners still own, in one write. */
  touchSessions(sessions: readonly Pick<Session, 'pid' | 'owner' | 'expiresAtMs'>[]): Promise<void>;
  dropSession(pid: string, owner: string): Promise<void>;
}

export interface Secrets {
  /** A random key of 32 bytes as base64url, made on first use. MUST be the same on every node and after a restart. */
  secret(name: string): Promise<string>;
}

export interface Nodes {
  /** Announces this node to the others. Resolves to the facts of all live nodes, this one included. */
  announce(node: NodeEntry): Promise<string[]>;
}

/** Short texts between the nodes of one log, beside the log. Nothing keeps them (protocol §14). */
export interface NodeChannel {
  /**
   * Sends a text to the other nodes, best effort. MUST NOT wait and MUST NOT throw; MUST bound what waits to be sent.
   * False: the text was dropped.
   */
  broadcast(text: string): boolean;
  /**
   * From now on, hands over each text of another node at most once, in the order of its node. `ageMs` is how long ago it
   * was sent, as far as it can be known. Call it at most once. MUST NOT throw: it connects by itself, now or later.
   */
  onBroadcast(listener: (text: string, ageMs: number) => void): void;
}

export interface EraseTarget {
  readonly tenantId: string;
  /** One ticket of the tenant; null for all data of the tenant. */
  readonly ticketId: string | null;
}

/** What tells nodes that a target was erased without naming it: the notice outlives the erasure for a while. */
export const erasureKey = ({ tenantId, ticketId }: EraseTarget): string =>
  hash('sha256', `${tenantId}\n${ticketId ?? ''}`, 'base64url');

export interface Erasure {
  /**
   * Removes the records, state and idempotency keys of the target from the log and its files for good, and calls `erased`
   * of the tail. Cursors MUST stay valid, and replays of other records MUST stay complete. A projection that is redone MUST
   * NOT bring anything back. MUST cost what it erases, in steps between which appends run. Revocations of the tenant stay
   * in force without its ids (revocations.ts). Resolves to the number of records erased.
   */
  erase(target: EraseTarget): Promise<number>;
}

/** All ports of one engine. */
export interface Store extends Log, LogScan, TicketState, Sessions, Secrets, Nodes, NodeChannel, Erasure, Revocations {
  /** Rejects new calls, waits for the calls under way, and releases files and connections. */
  close(): Promise<void>;
}

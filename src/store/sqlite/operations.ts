/**
 * What crosses between the main thread and the threads of the log: operations, the reply to each, and the messages that
 * carry groups of them.
 *
 * The two maps type both ends: the main thread gets the reply type of the operation that it submits, and a thread must
 * handle every kind. Events and records cross as arrays because cloning many small objects is slow.
 */
import type { Keying } from '../../contract/audiences.ts';
import type { EraseTarget, MessagesQuery, Retention, Session, StoreStats, TicketsQuery } from '../store.ts';

/** A cursor within one log. */
export type Position = readonly [seq: number, nonce: string];

export interface Bounds {
  readonly floor: Position;
  readonly oldest: Position;
  readonly head: Position;
}

export type EventRow = readonly [
  event: string,
  tenant: string,
  /** Joined with ROOM_SEPARATOR. */
  rooms: string,
  payload: string,
  /** The ticket whose state the event changes or keeps alive. */
  ticket: string | null,
  /** These three belong to `tickets.updated`; null for other events. */
  updatedAt: string | null,
  status: string | null,
  agreement: string | null,
  isMessage: boolean,
  messageId: string | null,
  providerMessageId: string | null,
];

export type RecordRow = readonly [
  seq: number,
  nonce: string,
  atMs: number,
  event: string,
  tenant: string,
  rooms: string,
  payload: string,
];

export type AppendArgs = WriteOperations['append']['args'];
export type AppendReply = readonly (readonly [seq: number, nonce: string, duplicate: boolean])[] | null;

export interface WriteOperations {
  /** Replies with one row per event, or null if the idempotency key was used with another body. */
  append: {
    args: {
      readonly atMs: number;
      readonly key: string | null;
      readonly fingerprint: string;
      readonly events: readonly EventRow[];
    };
    reply: AppendReply;
  };
  saveSession: { args: Session; reply: boolean };
  claimSession: {
    args: { readonly pid: string; readonly owner: string; readonly nowMs: number };
    reply: readonly [data: string, expiresAtMs: number] | null;
  };
  touchSessions: {
    args: { readonly sessions: readonly (readonly [pid: string, owner: string, expiresAtMs: number])[] };
    reply: null;
  };
  dropSession: { args: { readonly pid: string; readonly owner: string }; reply: null };
  secret: { args: { readonly name: string }; reply: string };
  /** Removes one slice. `trimmed` is the new end of the trimmed part, null if it did not move. */
  trim: {
    args: { readonly retention: Retention };
    reply: { readonly trimmed: Position | null; readonly more: boolean };
  };
  /** Erases one slice. `next` is the `after` of the next slice, null after the last. */
  erase: {
    args: { readonly target: EraseTarget; readonly after: number };
    reply: { readonly erased: number; readonly next: number | null; readonly head: Position };
  };
  /** Rewrites the file to remove erased data from it. Runs outside a transaction, so it must be a group of its own. */
  rewrite: { args: object; reply: null };
  /** Finds out whether the disk accepts a write. */
  probe: { args: object; reply: null };
}

export type Resolved = { readonly kind: 'ok' } | ({ readonly kind: 'expired' | 'unknown' } & Bounds);

/** A page is named by the position of the last item on the page before. */
interface Paged<Query, Last> {
  args: Omit<Query, 'page'> & { readonly page: Last | null };
  reply: { readonly items: readonly string[]; readonly next: Last | null; readonly head: Position };
}

interface AudienceQuery {
  readonly audiences: readonly string[];
  readonly limit: number;
  readonly maxChars: number;
}

/** `after` is null for a cursor of another log. */
export interface ReadOperations {
  bounds: { args: object; reply: Bounds };
  resolve: { args: { readonly after: Position | null }; reply: Resolved };
  read: {
    args: AudienceQuery & { readonly after: Position | null };
    reply:
      | {
          readonly kind: 'ok';
          readonly records: readonly RecordRow[];
          readonly position: Position;
          readonly more: boolean;
        }
      | Exclude<Resolved, { kind: 'ok' }>;
  };
  newest: { args: AudienceQuery; reply: { readonly records: readonly RecordRow[]; readonly head: Position } };
  tickets: Paged<TicketsQuery, readonly [updatedAt: string, seq: number]>;
  ticket: {
    args: { readonly tenantId: string; readonly ticketId: string };
    reply: { readonly payload: string | null; readonly head: Position };
  };
  messages: Paged<MessagesQuery, number>;
  stats: { args: object; reply: StoreStats };
}

export type OperationMap<Map> = { [Kind in keyof Map]: { args: object; reply: unknown } };
/** One operation of the map; by default, any of them. */
export type Operation<Map extends OperationMap<Map>, Kind extends keyof Map = keyof Map> = {
  readonly kind: Kind;
} & Map[Kind]['args'];
export type ReplyTo<Map extends OperationMap<Map>, Kind extends keyof Map = keyof Map> = Map[Kind]['reply'];
export type Handlers<Map extends OperationMap<Map>> = {
  readonly [Kind in keyof Map]: (args: Map[Kind]['args']) => Map[Kind]['reply'];
};

export function handle<Map extends OperationMap<Map>, Kind extends keyof Map>(
  handlers: Handlers<Map>,
  operation: Operation<Map, Kind>,
): ReplyTo<Map, Kind> {
  return handlers[operation.kind](operation);
}

/** What a thread is started with. The reader gets the path as the writer resolved it. */
export type ThreadTask =
  | { readonly role: 'writer'; readonly file: string; readonly keying: Keying }
  | { readonly role: 'reader'; readonly path: string };

export type Request =
  | { readonly kind: 'write'; readonly operations: readonly Operation<WriteOperations>[] }
  | { readonly kind: 'read'; readonly operations: readonly Operation<ReadOperations>[] }
  /** The thread closes its files and exits; it sends no reply. */
  | { readonly kind: 'close' };

/** The first message is `opened` or `refused`. Then each request gets one reply, in order. */
export type Reply =
  | { readonly kind: 'opened'; readonly path: string; readonly epoch: string }
  | { readonly kind: 'refused'; readonly message: string }
  | { readonly kind: 'written'; readonly replies: readonly ReplyTo<WriteOperations>[] }
  | { readonly kind: 'read'; readonly replies: readonly ReplyTo<ReadOperations>[] }
  | { readonly kind: 'writeFailed'; readonly failure: Failure }
  | { readonly kind: 'readFailed'; readonly failure: Failure };

export interface Failure {
  readonly message: string;
  /** `unknown`: the group may yet appear in the log, whole. */
  readonly outcome: 'not_written' | 'unknown';
  /** Every later attempt would fail too. */
  readonly lasting: boolean;
}

/**
 * The messages between the main thread and the threads of the log: operations, their replies, and groups of both.
 *
 * The two maps type both ends: the main thread gets the reply type of the operation that it submits, and a thread must
 * handle every kind. Events and records cross as arrays because cloning many small objects is slow.
 */
import type { Keying } from '../../contract/audiences.ts';
import type { MessageFacts } from '../../contract/facts.ts';
import type { StateStep, StepRange } from '../page.ts';
import type { NewRevocation, Revocation, RevocationKey, RevocationLimits, RevocationStep } from '../revocations.ts';
import type { ScanPlan } from '../scan.ts';
import type {
  EraseTarget,
  MessagesQuery,
  NewestQuery,
  ReadQuery,
  Retention,
  SaveResult,
  ScanQuery,
  Session,
  SessionChange,
  StoreStats,
  TicketQuery,
  TicketsQuery,
} from '../store.ts';

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
  /** See `joinRooms`. */
  rooms: string,
  payload: string,
  /** The ticket whose state the event changes or keeps alive. */
  ticket: string | null,
  /** These three belong to `tickets.updated`; null for other events. */
  updatedAt: string | null,
  status: string | null,
  agreement: string | null,
  message: MessageFactsRow | null,
  /** By the publisher: a change of a message goes to these, whatever the rooms of the message. */
  roomsAreNamed: boolean,
];

/** The fields of `MessageFacts`. */
export type MessageFactsRow = readonly [
  ...[change: MessageFacts['change'], messageId: string | null, providerMessageId: string | null],
  ...[updatedAtMs: number, statusRank: number],
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
/** `rooms` are those of the record, joined; null: the event's own. */
export type AppendedRow = readonly [seq: number, nonce: string, duplicate: boolean, rooms: string | null];
export type AppendReply = readonly AppendedRow[] | null;

export interface WriteOperations {
  /** Replies with one row per event, or null if the idempotency key was used with another body. */
  append: {
    args: { atMs: number; key: string | null; fingerprint: string; events: readonly EventRow[] };
    reply: AppendReply;
  };
  saveSession: { args: SessionChange; reply: SaveResult };
  findSession: { args: { pid: string; nowMs: number }; reply: Session | null };
  claimSession: { args: { pid: string; owner: string; nowMs: number }; reply: Session | null };
  touchSessions: {
    args: { sessions: readonly (readonly [pid: string, owner: string, expiresAtMs: number])[] };
    reply: null;
  };
  dropSession: { args: { pid: string; owner: string }; reply: null };
  secret: { args: { name: string }; reply: string };
  /** Removes one slice. `trimmed` is the new end of the trimmed part, null if it did not move. */
  trim: { args: { retention: Retention }; reply: { trimmed: Position | null; more: boolean } };
  /** Erases one slice: `erased` records, and `removed` rows. `next` is the `after` of the next slice, null after the last. */
  erase: {
    args: { target: EraseTarget; after: number };
    reply: { erased: number; removed: number; next: number | null; head: Position };
  };
  /** Replies with the number of the revocation; null if there are as many as there may be. */
  revoke: { args: NewRevocation & { nonce: string; limits: RevocationLimits }; reply: number | null };
  liftRevocation: { args: { key: RevocationKey }; reply: boolean };
  /** Finds out whether the disk accepts a write. */
  probe: { args: object; reply: null };
}

type Missed = { kind: 'expired' | 'unknown' } & Bounds;
export type Resolved = { kind: 'ok' } | Missed;

/** One step of a page (page.ts). */
interface Step<Query> {
  args: Omit<Query, 'caller' | 'limit' | 'maxChars' | 'page'> & StepRange;
  /** `positions` are joined by spaces: one text crosses between threads faster than a thousand. */
  reply: Omit<StateStep, 'cursor' | 'positions'> & { positions: string; head: Position };
}

/** The last revocation that was read, and the text that changes when one is removed (revocations.ts). */
export interface RevocationPosition {
  readonly changed: string;
  readonly number: number;
}

/** `after` is null for a cursor of another log. */
export interface ReadOperations {
  bounds: { args: object; reply: Bounds };
  resolve: { args: { after: Position | null }; reply: Resolved };
  read: {
    args: Omit<ReadQuery, 'caller' | 'after'> & { after: Position | null };
    reply: { kind: 'ok'; records: readonly RecordRow[]; position: Position; more: boolean } | Missed;
  };
  newest: {
    args: Omit<NewestQuery, 'caller' | 'before'> & { readonly beforeSeq: number | null };
    reply: { records: readonly RecordRow[]; head: Position };
  };
  scan: {
    args: Omit<ScanQuery, 'caller' | 'parts' | 'after' | 'before'> &
      ScanPlan & {
        /** Undefined: the query has none. Null: it is of another log. */
        readonly after: Position | null | undefined;
        readonly before: Position | null | undefined;
      };
    reply:
      | { kind: 'ok'; records: readonly RecordRow[]; position: Position; more: boolean }
      | (Missed & { readonly which: 'after' | 'before' });
  };
  tickets: Step<TicketsQuery>;
  ticket: { args: Omit<TicketQuery, 'caller'>; reply: { payload: string | null; head: Position } };
  messages: Step<MessagesQuery>;
  stats: { args: object; reply: StoreStats };
  revocations: {
    args: { tenants: readonly string[] | null; before: number | null; limit: number };
    reply: readonly Revocation[];
  };
  findRevocation: { args: { key: RevocationKey }; reply: Revocation | null };
  revocationsAfter: {
    args: { position: RevocationPosition | null };
    reply: RevocationStep<RevocationPosition>;
  };
}

export type OperationMap<Ops> = { [Kind in keyof Ops]: { args: object; reply: unknown } };
/** One kind of operation; by default, any. */
export type Operation<Ops extends OperationMap<Ops>, Kind extends keyof Ops = keyof Ops> = {
  readonly kind: Kind;
} & Ops[Kind]['args'];
export type ReplyTo<Ops extends OperationMap<Ops>, Kind extends keyof Ops = keyof Ops> = Ops[Kind]['reply'];
export type Handlers<Ops extends OperationMap<Ops>> = {
  readonly [Kind in keyof Ops]: (args: Ops[Kind]['args']) => Ops[Kind]['reply'];
};

export function handle<Ops extends OperationMap<Ops>, Kind extends keyof Ops>(
  handlers: Handlers<Ops>,
  operation: Operation<Ops, Kind>,
): ReplyTo<Ops, Kind> {
  return handlers[operation.kind](operation);
}

/** What a thread is started with. The reader gets the path as the writer resolved it. */
export type ThreadTask =
  | {
      readonly role: 'writer';
      readonly file: string;
      readonly keying: Keying;
      readonly declared: readonly string[];
      readonly projectAt: ProjectAt;
    }
  | { readonly role: 'reader'; readonly path: string; readonly keying: Keying };

/** When the writer projects (projection.ts): after a group that leaves so much to project, or after a time without groups. */
export interface ProjectAt {
  readonly records: number;
  /** Of payloads. */
  readonly chars: number;
  readonly quietMs: number;
}

export type Request =
  | { readonly kind: 'write'; readonly operations: readonly Operation<WriteOperations>[] }
  | { readonly kind: 'read'; readonly operations: readonly Operation<ReadOperations>[] }
  /** Clears the file of what was erased (clean-up.ts). Gets its own reply, later than the groups that come after it. */
  | { readonly kind: 'cleanUp' }
  /** The thread closes its files and exits; it sends no reply. */
  | { readonly kind: 'close' };

/** The first message is `opened` or `refused`, after any number of `upgrading`. Then each request but `cleanUp` gets one reply, in order. */
export type Reply =
  /** What an upgrade of the file tells the operator. */
  | { readonly kind: 'upgrading'; readonly text: string }
  | { readonly kind: 'opened'; readonly path: string; readonly epoch: string; readonly facts: OpenFacts }
  | { readonly kind: 'refused'; readonly message: string }
  | { readonly kind: 'written'; readonly replies: readonly ReplyTo<WriteOperations>[] }
  /** The first ones of the group: what is left of it, after a turn of the thread, has no reply and is sent again. */
  | { readonly kind: 'read'; readonly replies: readonly ReplyTo<ReadOperations>[] }
  | { readonly kind: 'writeFailed'; readonly failure: Failure }
  | { readonly kind: 'readFailed'; readonly failure: Failure }
  /** The index and the state could not be written. The thread tries again; reported once until it succeeds. */
  | { readonly kind: 'notProjected'; readonly failure: Failure }
  /** `failure` is null if the file is clean. */
  | { readonly kind: 'cleanedUp'; readonly failure: Failure | null };

/** What the writer found when it opened the file. */
export interface OpenFacts {
  /** What the operator should run, because other users can read the files; null if nobody can. */
  readonly tighten: string | null;
  /** An earlier process could not finish a clean-up, and this one could not either. */
  readonly isDirty: boolean;
}

export interface Failure {
  readonly message: string;
  /** `unknown`: the group may yet appear in the log, whole. */
  readonly outcome: 'not_written' | 'unknown';
  /** Every later attempt would fail too. */
  readonly lasting: boolean;
}

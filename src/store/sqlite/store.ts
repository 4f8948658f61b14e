/**
 * The log in one SQLite file, for one server: the main-thread half, which never touches the disk.
 *
 * Two threads do (sqlite-worker.ts): one writes, in groups that share a transaction and a sync, one reads. What is
 * appended is kept here until its group is committed, then handed to the tail and only after that acknowledged.
 */
import { once } from 'node:events';
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { audienceOf, type Keying } from '../../contract/audiences.ts';
import { type Cursor, formatCursor, parseCursor } from '../../contract/cursor.ts';
import type { LogRecord } from '../../contract/frames.ts';
import type { Room } from '../../contract/rooms.ts';
import {
  type AppendEvent,
  type AppendRequest,
  invalidPage,
  type LogBounds,
  type Store,
  type TailListener,
} from '../store.ts';
import { createJobQueue, type JobQueue } from './queue.ts';
import type {
  Bounds,
  MessagesReply,
  NewestReply,
  Position,
  ReadOp,
  ReadReply,
  RecordRow,
  Resolved,
  StatsReply,
  TicketReply,
  TicketsReply,
} from './reader.ts';
import { MEMORY, ROOM_SEPARATOR } from './schema.ts';
import type { Failure, Reply, Request, ThreadTask } from './worker.ts';
import type { AppendReply, ClaimReply, EraseReply, EventRow, TrimReply, WriteOp } from './writer.ts';

export interface SqliteOptions {
  /** A path, or `:memory:`. */
  readonly file: string;
  readonly keying: Keying;
  readonly logger: StoreLogger;
  /**
   * Milliseconds that a call may wait for the log. Default 4000, under the 5 s of protocol §10. Past it, what was not
   * yet handed to the writer is discarded.
   */
  readonly deadlineMs?: number;
}

/** The part of pino's logger that the store uses. */
export interface StoreLogger {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

const DEFAULT_DEADLINE_MS = 4_000;
/** Milliseconds between attempts to write while the log is not healthy and nobody appends. */
const PROBE_MS = 1_000;

/** What an append holds here until its group is committed. */
interface Kept {
  readonly request: AppendRequest;
  durableAtMs: number;
}

/** @throws {Error} of one line when the file cannot be the log, or another server has it open. */
export async function openSqliteStore(options: SqliteOptions): Promise<Store> {
  const { file, keying, logger, deadlineMs = DEFAULT_DEADLINE_MS } = options;
  const writer = await startThread({ role: 'writer', file, keying });
  const { path, epoch } = writer;
  const reader =
    path === MEMORY
      ? writer
      : await startThread({ role: 'reader', path }).catch(async (error) => {
          await writer.end(deadlineMs);
          throw error;
        });

  let listener: TailListener | null = null;
  let healthy = true;
  let closing: Promise<void> | null = null;

  const writes: JobQueue<WriteOp, Kept | null> = createJobQueue({
    send: (write) => writer.send({ write }),
    committed: handOver,
    late: 'outcome_unknown',
    deadlineMs,
  });
  const reads: JobQueue<ReadOp, null> = createJobQueue({
    send: (read) => reader.send({ read }),
    committed: () => {},
    late: 'unavailable',
    deadlineMs,
  });

  for (const thread of new Set([writer, reader])) thread.serve(receive, (reason) => threadLost(reason));
  const probing = setInterval(() => {
    if (!healthy && writes.idle()) write({ kind: 'probe' }).catch(ignoreFailure);
  }, PROBE_MS);
  probing.unref();

  const cursorOf = ([seq, nonce]: Position): Cursor => formatCursor({ epoch, seq, nonce });
  const boundsOf = ({ floor, oldest, head }: Bounds): LogBounds => ({
    floor: cursorOf(floor),
    oldest: cursorOf(oldest),
    head: cursorOf(head),
  });
  /** Null for what cannot be a cursor of this log. */
  const positionOf = (cursor: string): Position | null => {
    const parts = parseCursor(cursor);
    return parts === null || parts.epoch !== epoch ? null : [parts.seq, parts.nonce];
  };
  const recordOf = ([seq, nonce, acceptedAtMs, event, tenant, joined, payload]: RecordRow): LogRecord => {
    const rooms = (joined === '' ? [] : joined.split(ROOM_SEPARATOR)) as Room[];
    const audiences = rooms.map((room) => audienceOf(keying, tenant, room));
    return { id: cursorOf([seq, nonce]), event, rooms, audiences, payload, acceptedAtMs };
  };

  const write = (op: WriteOp): Promise<unknown> => writes.submit(op, null, 256);
  const read = (op: ReadOp): Promise<unknown> => reads.submit(op, null, 256);

  function receive(reply: Reply): void {
    if (reply.kind === 'done') {
      if (reply.queue === 'read') {
        reads.done(reply.results);
        return;
      }
      if (!healthy) logger.info({}, 'the log takes events again');
      healthy = true;
      writes.done(reply.results);
    } else if (reply.kind === 'failed') {
      const { queue, failure } = reply;
      if (queue === 'read') {
        logger.error({ reason: failure.message }, 'the log could not be read');
        reads.failed(failure);
        return;
      }
      if (healthy) logger.error({ reason: failure.message }, 'the log does not take events');
      healthy = false;
      if (failure.lasting) writes.end(failure);
      else writes.failed(failure);
    }
  }

  /** The tail first, then the publishers: whoever has its 201 can be sure that the record is on its way. */
  function handOver(group: readonly { readonly kept: Kept | null; readonly result: unknown }[]): void {
    const records: LogRecord[] = [];
    const durableAtMs = performance.now();
    for (const { kept, result } of group) {
      if (kept === null) continue;
      kept.durableAtMs = durableAtMs;
      const { request } = kept;
      (result as AppendReply)?.forEach(([seq, nonce, duplicate], index) => {
        const { event, rooms, audiences, payload } = request.events[index] as AppendEvent;
        if (duplicate) return;
        const { acceptedAtMs } = request;
        records.push({ id: cursorOf([seq, nonce]), event, rooms, audiences, payload, acceptedAtMs });
      });
    }
    if (records.length > 0) tell((tail) => tail.records(records));
  }

  function tell(what: (tail: TailListener) => void): void {
    try {
      if (listener !== null) what(listener);
    } catch (error) {
      logger.error({ err: error }, 'the listener of the log failed');
    }
  }

  function threadLost(reason: string): void {
    healthy = false;
    logger.error({ reason }, 'a thread of the log has ended; the log is unavailable until a restart');
    const failure: Failure = { message: 'The log is gone', outcome: 'unknown', lasting: true };
    writes.end(failure);
    reads.end(failure);
  }

  const opened = boundsOf((await read({ kind: 'bounds' })) as Bounds);

  return {
    opened,
    tail(given) {
      listener = given;
    },
    async append(request) {
      const events = request.events.map(rowOf);
      const chars = request.events.reduce((sum, event) => sum + event.payload.length + 512, 0);
      const { key = null, fingerprint = '' } = request.idempotency ?? {};
      const op: WriteOp = { kind: 'append', atMs: request.acceptedAtMs, key, fingerprint, events };
      const kept: Kept = { request, durableAtMs: 0 };
      const reply = (await writes.submit(op, kept, chars)) as AppendReply;
      if (reply === null) return { kind: 'conflict' };
      return {
        kind: 'appended',
        events: reply.map(([seq, nonce, duplicate]) => ({ id: cursorOf([seq, nonce]), duplicate })),
        durableAtMs: kept.durableAtMs,
      };
    },
    async bounds() {
      return boundsOf((await read({ kind: 'bounds' })) as Bounds);
    },
    async resolve(cursor) {
      const reply = (await read({ kind: 'resolve', after: positionOf(cursor) })) as Resolved;
      return reply.kind === 'ok' ? reply : { kind: reply.kind, ...boundsOf(reply) };
    },
    async read({ audiences, after, limit, maxChars }) {
      const reply = (await read({ kind: 'read', audiences, after: positionOf(after), limit, maxChars })) as ReadReply;
      if (reply.kind !== 'ok') return { kind: reply.kind, ...boundsOf(reply) };
      const { records, position, more } = reply;
      return { kind: 'ok', records: records.map(recordOf), position: cursorOf(position), more };
    },
    async newest({ audiences, limit, maxChars }) {
      const { records, head } = (await read({ kind: 'newest', audiences, limit, maxChars })) as NewestReply;
      return { records: records.map(recordOf), head: cursorOf(head) };
    },
    async tickets(query) {
      const page = query.page === null ? null : parseTicketsPage(query.page);
      const { items, next, head } = (await read({ ...query, kind: 'tickets', page })) as TicketsReply;
      return { items, nextPage: next === null ? null : next.join('_'), cursor: cursorOf(head) };
    },
    async ticket(tenantId, ticketId) {
      const { payload, head } = (await read({ kind: 'ticket', tenantId, ticketId })) as TicketReply;
      return { payload, cursor: cursorOf(head) };
    },
    async messages(query) {
      const page = query.page === null ? null : parseMessagesPage(query.page);
      const { items, next, head } = (await read({ ...query, kind: 'messages', page })) as MessagesReply;
      return { items, nextPage: next === null ? null : String(next), cursor: cursorOf(head) };
    },
    async saveSession({ pid, owner, data, expiresAtMs }) {
      return (await write({ kind: 'saveSession', session: [pid, owner, data, expiresAtMs] })) as boolean;
    },
    async claimSession(pid, owner, nowMs) {
      const reply = (await write({ kind: 'claimSession', pid, owner, nowMs })) as ClaimReply;
      return reply === null ? null : { pid, owner, data: reply[0], expiresAtMs: reply[1] };
    },
    async touchSessions(sessions) {
      await write({
        kind: 'touchSessions',
        sessions: sessions.map(({ pid, owner, expiresAtMs }) => [pid, owner, expiresAtMs] as const),
      });
    },
    async dropSession(pid, owner) {
      await write({ kind: 'dropSession', pid, owner });
    },
    async trim(retention) {
      for (let more = true; more; ) {
        const reply = (await write({ kind: 'trim', retention })) as TrimReply;
        const { trimmed } = reply;
        if (trimmed !== null) tell((tail) => tail.forgotten(cursorOf(trimmed)));
        more = reply.more;
      }
    },
    async secret(name) {
      return (await write({ kind: 'secret', name })) as string;
    },
    async erase(target) {
      let erased = 0;
      for (let after: number | null = 0; after !== null; ) {
        const reply = (await write({ kind: 'erase', target, after })) as EraseReply;
        tell((tail) => tail.forgotten(cursorOf(reply.head)));
        erased += reply.erased;
        after = reply.next;
      }
      await writes.submit({ kind: 'rewrite' }, null, 256, 'alone');
      return erased;
    },
    async stats() {
      const reply = (await read({ kind: 'stats' })) as StatsReply;
      const [records, oldestAcceptedAtMs, newestAcceptedAtMs, bytes] = reply;
      return { records, oldestAcceptedAtMs, newestAcceptedAtMs, bytes };
    },
    // A file has one server.
    announce: async ({ facts, ttlMs }) => (ttlMs > 0 ? [facts] : []),
    healthy: () => healthy && !writes.hangs(),
    close() {
      closing ??= (async () => {
        clearInterval(probing);
        await Promise.all([writes.drain(), reads.drain()]);
        if (reader !== writer) await reader.end(deadlineMs);
        // Last, since the last connection to close empties the write-ahead log into the database.
        await writer.end(deadlineMs);
      })();
      return closing;
    },
  };
}

function rowOf({ event, tenantId, rooms, payload, ticket, message }: AppendEvent): EventRow {
  const named = ticket?.ticketId ?? message?.ticketId;
  // An event of any name keeps alive the state of the ticket whose room it goes to.
  const ticketId = named ?? rooms.find((room) => room.startsWith('ticket:'))?.slice('ticket:'.length) ?? null;
  return [
    ...([event, tenantId, rooms.join(ROOM_SEPARATOR), payload, ticketId] as const),
    ...([ticket?.updatedAt ?? null, ticket?.status ?? null, ticket?.agreementId ?? null] as const),
    ...([message !== null, message?.messageId ?? null, message?.providerMessageId ?? null] as const),
  ];
}

function parseTicketsPage(page: string): [updatedAt: string, seq: number] {
  const match = /^(\d{1,20}\.\d{0,100})_(\d{1,15})$/.exec(page);
  if (match === null) throw invalidPage();
  return [match[1] as string, Number(match[2])];
}

function parseMessagesPage(page: string): number {
  if (!/^\d{1,15}$/.test(page)) throw invalidPage();
  return Number(page);
}

/** A failed probe was logged when it was received. */
function ignoreFailure(): void {}

interface Thread {
  readonly path: string;
  readonly epoch: string;
  send(request: Request): void;
  /** @param lost told once, when the thread ends without having been asked to */
  serve(receive: (reply: Reply) => void, lost: (reason: string) => void): void;
  /** Lets the thread close its file; one that hangs is cut off after `patienceMs`. */
  end(patienceMs: number): Promise<void>;
}

/** @throws {Error} the thread's own reason for not opening the log */
async function startThread(task: ThreadTask): Promise<Thread> {
  // The same file as ours beside it: .ts from the sources, .js when built.
  const worker = new Worker(new URL(`./worker${extname(import.meta.url)}`, import.meta.url), {
    workerData: task,
  });
  const [first] = (await once(worker, 'message')) as [Reply];
  if (first.kind !== 'opened') {
    await worker.terminate();
    throw new Error(first.kind === 'refused' ? first.message : 'the log did not open');
  }
  let ending = false;
  const exited = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
  return {
    path: first.path,
    epoch: first.epoch,
    send: (request) => worker.postMessage(request),
    serve(receive, lost) {
      worker.on('message', receive);
      worker.on('error', (error) => lost(error instanceof Error ? error.message : String(error)));
      worker.once('exit', (code) => {
        if (!ending) lost(`it exited with code ${code}`);
      });
    },
    async end(patienceMs) {
      if (ending) return exited;
      ending = true;
      worker.postMessage({ close: true } satisfies Request);
      const patience = setTimeout(() => void worker.terminate(), patienceMs);
      await exited;
      clearTimeout(patience);
    },
  };
}

/**
 * The log in one SQLite file, for one server. This is the main-thread half, which never touches the disk.
 *
 * Two threads do (worker.ts): one writes, in groups that share a transaction and a sync, and one reads. An append stays
 * here until its group is committed. Its records then go to the tail, and only after that is it acknowledged.
 */
import { randomBytes } from 'node:crypto';
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { audiencesOf, type Keying } from '../../contract/audiences.ts';
import { type Cursor, formatCursor, parseCursor } from '../../contract/cursor.ts';
import { BridgeError } from '../../contract/errors.ts';
import type { LogRecord } from '../../contract/frames.ts';
import { CANONICAL_EVENTS } from '../../contract/names.ts';
import type { Room } from '../../contract/rooms.ts';
import type { Logger } from '../../logger.ts';
import { collectPage, type StateStep } from '../page.ts';
import {
  beforeNumber,
  createFollower,
  formatRevocationId,
  pageOfRevocations,
  parseRevocationId,
} from '../revocations.ts';
import { planScan } from '../scan.ts';
import {
  type AppendEvent,
  type AppendedEvent,
  erasureKey,
  invalidPage,
  type LogBounds,
  type Store,
  type TailListener,
} from '../store.ts';
import { factsRowOf } from './messages.ts';
import type {
  AppendedRow,
  Bounds,
  EventRow,
  Failure,
  OpenFacts,
  Position,
  ProjectAt,
  ReadOperations,
  RecordRow,
  Reply,
  ReplyTo,
  Request,
  RevocationPosition,
  ThreadTask,
  WriteOperations,
} from './operations.ts';
import { createJobQueue } from './queue.ts';
import { joinRooms, MEMORY, messageOf, splitRooms } from './schema.ts';

export interface SqliteOptions {
  /** A path, or `:memory:`. */
  readonly file: string;
  readonly keying: Keying;
  readonly logger: Logger;
  /**
   * Milliseconds that a call may wait for the log. Default 4000, under the 5 s of protocol §10. Past it, an operation
   * that was not yet sent to its thread is discarded.
   */
  readonly deadlineMs?: number;
  /** Default: none. */
  readonly extraEvents?: readonly string[];
  /** Default: {@link PROJECT_AT}. */
  readonly projectAt?: Partial<ProjectAt>;
}

/**
 * A projection of one record takes about 0.2 ms, of 100, 1.4 ms, and of 8,000, 35 ms. The more at once, the less each costs;
 * the fewer, the less a read looks through, and the shorter a group waits for it.
 */
const PROJECT_AT: ProjectAt = { records: 8_000, chars: 8 * 1024 * 1024, quietMs: 100 };

/** Milliseconds between test writes while the log is not healthy and nobody appends. */
const PROBE_INTERVAL_MS = 1_000;

/**
 * Milliseconds between two looks for revocations that were removed, or added in a write that was late. One that was
 * added is followed at once.
 */
const FOLLOW_INTERVAL_MS = 400;

/** @throws {Error} of one line if the file cannot be the log, or another server has it open */
export async function openSqliteStore(options: SqliteOptions): Promise<Store> {
  const { file, keying, logger, deadlineMs = 4_000, extraEvents = [] } = options;
  const projectAt = { ...PROJECT_AT, ...options.projectAt };
  const declared = CANONICAL_EVENTS.filter((name) => extraEvents.includes(name));
  const writer = await startThread({ role: 'writer', file, keying, declared, projectAt }, logger);
  const { path, epoch, facts } = writer;
  if (facts.tighten !== null) {
    logger.warn({ run: facts.tighten }, `other users of this machine can read the log; run: ${facts.tighten}`);
  }
  const reader =
    path === MEMORY
      ? writer
      : await startThread({ role: 'reader', path, keying }, logger).catch(async (error) => {
          await writer.end(deadlineMs);
          throw error;
        });

  let listener: TailListener | null = null;
  /** Why the last write failed; null if it did not. */
  let fault: string | null = null;
  let closing: Promise<void> | null = null;
  /** Slices of erasures that removed something, and how many of them the file was cleaned of. */
  let removals = facts.isDirty ? 1 : 0;
  let cleaned = 0;
  let cleaning: Promise<void> | null = null;
  let endCleaning: (failure: Failure | null) => void = () => {};
  /** The records of the group that was just committed. */
  let committed: LogRecord[] = [];

  const writes = createJobQueue<WriteOperations>({
    send: (operations) => writer.send({ kind: 'write', operations }),
    // The tail gets the records before their publishers get a 201.
    onGroupDone() {
      const records = committed;
      committed = [];
      if (records.length > 0) notify((tail) => tail.records(records));
    },
    lateCode: 'outcome_unknown',
    deadlineMs,
    maxGroup: 2_000,
  });
  const reads = createJobQueue<ReadOperations>({
    send: (operations) => reader.send({ kind: 'read', operations }),
    lateCode: 'unavailable',
    deadlineMs,
    maxGroup: 64,
  });

  for (const thread of new Set([writer, reader])) thread.serve(receive, threadEnded);
  const probing = setInterval(() => {
    // A failed probe is logged in `receive`.
    if (fault !== null && writes.isIdle()) writes.submit({ kind: 'probe' }).catch(() => {});
  }, PROBE_INTERVAL_MS);
  probing.unref();

  const follower = createFollower({
    readAfter: (position: RevocationPosition | null) => reads.submit({ kind: 'revocationsAfter', position }),
    intervalMs: FOLLOW_INTERVAL_MS,
    logger,
  });

  const cursorOf = ([seq, nonce]: Position): Cursor => formatCursor({ epoch, seq, nonce });
  const boundsOf = ({ floor, oldest, head }: Bounds): LogBounds => ({
    floor: cursorOf(floor),
    oldest: cursorOf(oldest),
    head: cursorOf(head),
  });
  /** Null for a cursor that this log cannot have issued. */
  const positionOf = (cursor: string): Position | null => {
    const parts = parseCursor(cursor);
    return parts === null || parts.epoch !== epoch ? null : [parts.seq, parts.nonce];
  };
  const recordOf = ([seq, nonce, acceptedAtMs, event, tenant, joined, payload]: RecordRow): LogRecord => {
    const rooms = splitRooms(joined) as Room[];
    return {
      ...{
        id: cursorOf([seq, nonce]),
        event,
        rooms,
        audiences: audiencesOf(keying, tenant, rooms),
        payload,
        acceptedAtMs,
      },
    };
  };

  const stepOf = ({ items, positions, next, head }: ReplyTo<ReadOperations, 'tickets'>): StateStep => ({
    ...{ items, positions: positions.split(' '), next, cursor: cursorOf(head) },
  });

  function receive(reply: Reply): void {
    if (reply.kind === 'read') reads.done(reply.replies);
    else if (reply.kind === 'readFailed') {
      logger.error({ reason: reply.failure.message }, 'a read of the log failed');
      reads.failed(reply.failure);
    } else if (reply.kind === 'written') {
      if (fault !== null) logger.info({}, 'the log accepts events again');
      fault = null;
      writes.done(reply.replies);
    } else if (reply.kind === 'writeFailed') {
      const { failure } = reply;
      if (fault === null) {
        logger.error({ reason: failure.message }, 'the log cannot write; events are refused until it can');
      }
      fault = failure.message;
      if (failure.lasting) writes.end(failure);
      else writes.failed(failure);
    } else if (reply.kind === 'notProjected') {
      const reason = reply.failure.message;
      const message =
        'the index and the state of the log could not be written; nothing is lost or hidden, and the bridge tries again';
      logger.warn({ reason }, message);
    } else if (reply.kind === 'cleanedUp') endCleaning(reply.failure);
  }

  /** Resolves when the files hold nothing of what was removed until now. Erasures share clean-ups. */
  async function untilClean(): Promise<void> {
    for (const goal = removals; cleaned < goal; ) {
      cleaning ??= cleanUp().finally(() => {
        cleaning = null;
      });
      await cleaning;
    }
  }

  async function cleanUp(): Promise<void> {
    const began = removals;
    const failure = await new Promise<Failure | null>((resolve) => {
      endCleaning = resolve;
      writer.send({ kind: 'cleanUp' });
    });
    if (failure === null) {
      cleaned = began;
      return;
    }
    const message = 'What was erased can no longer be read, but it is still in the files of the log.';
    logger.warn({ reason: failure.message }, `${message} The bridge tries again every few seconds`);
    throw new BridgeError('unavailable', message, { cause: new Error(failure.message) });
  }

  function notify(call: (tail: TailListener) => void): void {
    try {
      if (listener !== null) call(listener);
    } catch (error) {
      logger.error({ err: error }, 'the listener of the tail threw an error; it still gets the next commit');
    }
  }

  function threadEnded(reason: string): void {
    fault = `A thread of the log ended: ${reason}`;
    logger.error({ reason }, 'a thread of the log ended; restart the server to use the log again');
    const failure: Failure = { message: 'The log has stopped.', outcome: 'unknown', lasting: true };
    writes.end(failure);
    reads.end(failure);
    endCleaning(failure);
  }

  const opened = boundsOf(await reads.submit({ kind: 'bounds' }));

  return {
    opened,
    tail(tailListener) {
      listener = tailListener;
    },
    async append({ events, idempotency, acceptedAtMs }) {
      const { key = null, fingerprint = '' } = idempotency ?? {};
      const rows: EventRow[] = [];
      let chars = 0;
      for (const event of events) {
        rows.push(eventRowOf(event));
        chars += event.payload.length + 512;
      }
      const appended: AppendedEvent[] = [];
      let durableAtMs = 0;
      const reply = await writes.submit(
        { kind: 'append', atMs: acceptedAtMs, key, fingerprint, events: rows },
        {
          chars,
          onDone(replies, doneAtMs) {
            durableAtMs = doneAtMs;
            if (replies === null) return;
            for (let index = 0; index < replies.length; index++) {
              const [seq, nonce, duplicate, decided] = replies[index] as AppendedRow;
              const { event, tenantId, payload, rooms: own } = events[index] as AppendEvent;
              const id = cursorOf([seq, nonce]);
              const rooms = decided === null ? own : (splitRooms(decided) as Room[]);
              appended.push({ id, duplicate, rooms });
              if (duplicate) continue;
              const audiences = audiencesOf(keying, tenantId, rooms);
              committed.push({ id, event, rooms, audiences, payload, acceptedAtMs });
            }
          },
        },
      );
      return reply === null ? { kind: 'conflict' } : { kind: 'appended', events: appended, durableAtMs };
    },
    async bounds(caller = '') {
      return boundsOf(await reads.submit({ kind: 'bounds' }, { caller }));
    },
    async resolve(cursor, caller = '') {
      const reply = await reads.submit({ kind: 'resolve', after: positionOf(cursor) }, { caller });
      return reply.kind === 'ok' ? reply : { kind: reply.kind, ...boundsOf(reply) };
    },
    async read({ caller = '', audiences, events = null, after, limit, maxChars }) {
      const query = { audiences, events, after: positionOf(after), limit, maxChars };
      const reply = await reads.submit({ kind: 'read', ...query }, { caller });
      if (reply.kind !== 'ok') return { kind: reply.kind, ...boundsOf(reply) };
      const { kind, records, position, more } = reply;
      return { kind, records: records.map(recordOf), position: cursorOf(position), more };
    },
    async newest({ caller = '', audiences, events = null, before = null, limit, maxChars }) {
      // A cursor of another log comes after nothing.
      const beforeSeq = before === null ? null : (positionOf(before)?.[0] ?? 0);
      const query = { audiences, events, beforeSeq, limit, maxChars };
      const { records, head } = await reads.submit({ kind: 'newest', ...query }, { caller });
      return { records: records.map(recordOf), head: cursorOf(head) };
    },
    async scan({ caller = '', after, before, parts, ...query }) {
      const args = {
        after: after === null ? undefined : positionOf(after),
        before: before === null ? undefined : positionOf(before),
        ...planScan(parts, keying),
      };
      const reply = await reads.submit({ kind: 'scan', ...query, ...args }, { caller });
      if (reply.kind !== 'ok') {
        const cursor = (reply.which === 'after' ? after : before) as Cursor;
        return { kind: reply.kind, cursor, ...boundsOf(reply) };
      }
      const { kind, records, position, more } = reply;
      return { kind, records: records.map(recordOf), position: cursorOf(position), more };
    },
    async tickets({ caller = '', limit, maxChars, page, ...query }) {
      if (page !== null && !/^\d{1,20}\.\d{0,100}_\d{1,15}$/.test(page)) throw invalidPage();
      return collectPage({ limit, maxChars, page }, async (range) => {
        return stepOf(await reads.submit({ ...query, ...range, kind: 'tickets' }, { caller }));
      });
    },
    async ticket({ caller = '', ...query }) {
      const { payload, head } = await reads.submit({ ...query, kind: 'ticket' }, { caller });
      return { payload, cursor: cursorOf(head) };
    },
    async messages({ caller = '', limit, maxChars, page, ...query }) {
      if (page !== null && !/^\d{1,15}$/.test(page)) throw invalidPage();
      return collectPage({ limit, maxChars, page }, async (range) => {
        return stepOf(await reads.submit({ ...query, ...range, kind: 'messages' }, { caller }));
      });
    },
    saveSession: (change) =>
      writes.submit(
        { kind: 'saveSession', ...change },
        { chars: 256 * (1 + change.put.length + change.remove.length) },
      ),
    findSession: (pid, nowMs) => writes.submit({ kind: 'findSession', pid, nowMs }),
    claimSession: (pid, owner, nowMs) => writes.submit({ kind: 'claimSession', pid, owner, nowMs }),
    async touchSessions(sessions) {
      const rows = sessions.map(({ pid, owner, expiresAtMs }) => [pid, owner, expiresAtMs] as const);
      await writes.submit({ kind: 'touchSessions', sessions: rows });
    },
    async dropSession(pid, owner) {
      await writes.submit({ kind: 'dropSession', pid, owner });
    },
    async trim(retention) {
      for (let more = true; more; ) {
        const reply = await writes.submit({ kind: 'trim', retention });
        const { trimmed } = reply;
        if (trimmed !== null) notify((tail) => tail.forgotten(cursorOf(trimmed)));
        more = reply.more;
      }
      // A clean-up that fails has logged it, and the next trim tries again.
      if (cleaned < removals) untilClean().catch(() => {});
    },
    secret: (name) => writes.submit({ kind: 'secret', name }),
    async erase(target) {
      let erased = 0;
      for (let after: number | null = 0; after !== null; ) {
        const reply: ReplyTo<WriteOperations, 'erase'> = await writes.submit({ kind: 'erase', target, after });
        if (reply.removed > 0) {
          removals++;
          notify((tail) => tail.forgotten(cursorOf(reply.head)));
        }
        erased += reply.erased;
        after = reply.next;
      }
      notify((tail) => tail.erased(erasureKey(target)));
      await untilClean();
      return erased;
    },
    async revoke(revocation, limits) {
      const nonce = randomBytes(8).toString('hex');
      const number = await writes.submit({ kind: 'revoke', ...revocation, nonce, limits }, { chars: 2048 });
      if (number === null) return 'full';
      await follower.refresh();
      return { id: formatRevocationId([number, nonce]), ...revocation };
    },
    async revocations({ caller = '', tenants, limit, page }) {
      const query = { tenants, limit: limit + 1, before: beforeNumber(page) };
      return pageOfRevocations(await reads.submit({ kind: 'revocations', ...query }, { caller }), limit);
    },
    async findRevocation(id) {
      const key = parseRevocationId(id);
      return key === null ? null : reads.submit({ kind: 'findRevocation', key });
    },
    async liftRevocation(id) {
      const key = parseRevocationId(id);
      const lifted = key !== null && (await writes.submit({ kind: 'liftRevocation', key }));
      await follower.refresh();
      return lifted;
    },
    followRevocations: (to) => follower.follow(to),
    stats: () => reads.submit({ kind: 'stats' }),
    // A file has one server.
    broadcast: () => true,
    onBroadcast() {},
    announce: async ({ facts, ttlMs }) => (ttlMs > 0 ? [facts] : []),
    healthy: () => fault === null && !writes.isStalled(),
    fault: () => fault ?? (writes.isStalled() ? 'The disk does not answer.' : null),
    close() {
      closing ??= (async () => {
        clearInterval(probing);
        follower.stop();
        await Promise.all([writes.drain(), reads.drain()]);
        endCleaning({ message: 'The log is closing.', outcome: 'not_written', lasting: false });
        if (reader !== writer) await reader.end(deadlineMs);
        // Last, because the last connection to close moves the write-ahead log into the database file.
        await writer.end(deadlineMs);
      })();
      return closing;
    },
  };
}

function eventRowOf(event: AppendEvent): EventRow {
  const { ticket, message } = event;
  // biome-ignore format: a literal is built at once, and one from spread pieces is not
  return [
    event.event, event.tenantId, joinRooms(event.rooms), event.payload, event.ticketId,
    ticket?.updatedAt ?? null, ticket?.status ?? null, ticket?.agreementId ?? null,
    message === null ? null : factsRowOf(message), event.roomsAreNamed,
  ];
}

interface Thread {
  readonly path: string;
  readonly epoch: string;
  readonly facts: OpenFacts;
  send(request: Request): void;
  /** `onEnd` runs once, if the thread ends before `end` was called. */
  serve(receive: (reply: Reply) => void, onEnd: (reason: string) => void): void;
  /** Lets the thread close its files, and terminates it after `graceMs`. */
  end(graceMs: number): Promise<void>;
}

/** @throws {Error} if the log cannot be opened, with the thread's reason */
async function startThread(task: ThreadTask, logger: Logger): Promise<Thread> {
  // The worker has the extension of this file: .ts in the sources, .js in the build.
  const worker = new Worker(new URL(`./worker${extname(import.meta.url)}`, import.meta.url), {
    workerData: task,
  });
  const first = await new Promise<Reply>((resolve, reject) => {
    worker.once('error', reject);
    worker.on('message', function receive(reply: Reply) {
      if (reply.kind === 'upgrading') return logger.info({}, reply.text);
      worker.off('message', receive);
      worker.off('error', reject);
      resolve(reply);
    });
  });
  if (first.kind !== 'opened') {
    await worker.terminate();
    throw new Error(first.kind === 'refused' ? first.message : 'the log did not open');
  }
  let isEnding = false;
  const exited = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
  return {
    path: first.path,
    epoch: first.epoch,
    facts: first.facts,
    send: (request) => worker.postMessage(request),
    serve(receive, onEnd) {
      worker.on('message', receive);
      worker.on('error', (error) => onEnd(messageOf(error)));
      worker.once('exit', (code) => {
        if (!isEnding) onEnd(`it exited with code ${code}`);
      });
    },
    async end(graceMs) {
      if (isEnding) return exited;
      isEnding = true;
      worker.postMessage({ kind: 'close' } satisfies Request);
      const grace = setTimeout(() => void worker.terminate(), graceMs);
      await exited;
      clearTimeout(grace);
    },
  };
}

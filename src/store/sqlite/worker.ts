/**
 * The threads of the SQLite store. Only they touch the disk, so the event loop never waits for it (design law 2). Each
 * request is a group of operations; a group of writes is one transaction and one sync.
 *
 * The writer thread holds the lock on the log and checks before each group that its files are still in place. Between
 * groups, in a transaction of its own, it writes the projections of what they appended (projection.ts). A second
 * thread reads from a file with its own connection; a log in memory is read by the writer thread. A group of reads ends
 * after a few milliseconds, and the rest of it is sent again: by then, other callers may be first.
 */
import { statSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';
import { parentPort, workerData } from 'node:worker_threads';
import type { Keying } from '../../contract/audiences.ts';
import { createCleanUp, makeSecure } from './clean-up.ts';
import type {
  Failure,
  Operation,
  ProjectAt,
  ReadOperations,
  Reply,
  ReplyTo,
  Request,
  ThreadTask,
  WriteOperations,
} from './operations.ts';
import type { Behind } from './projection.ts';
import { APPLICATION_ID, type RawFile } from './raw-file.ts';
import { createReader } from './reader.ts';
import {
  filesOf,
  MEMORY,
  messageOf,
  meta,
  openForReading,
  openForWriting,
  primaryCode,
  query,
  SQLITE_BUSY,
  SQLITE_FULL,
  tightenCommand,
} from './schema.ts';
import { upgrade } from './upgrade.ts';
import { createWriter } from './writer.ts';

/** A file is missing or was replaced. A write to the open one would be lost, or clash with another server. */
class FileGone extends Error {}
/** A commit failed after it began, so it may appear after a restart. */
class CommitFailed extends Error {}

const port = parentPort;
if (port === null) throw new Error('this module runs only as a worker thread');
const post = (reply: Reply): void => port.postMessage(reply);

interface OpenLog {
  write(group: readonly Operation<WriteOperations>[]): ReplyTo<WriteOperations>[];
  /** Call it once the replies of a `write` are posted. */
  afterWrite(): void;
  read(group: readonly Operation<ReadOperations>[]): ReplyTo<ReadOperations>[];
  cleanUp(): Promise<void>;
  close(): void;
}

/**
 * What may not be projected yet: a bound for the memory of the writer and for the work of a read. Past it, a group is
 * accepted only once it is.
 */
const MAX_BEHIND: Behind = { records: 16_384, chars: 16 * 1024 * 1024 };

async function openWriter({ file, keying, declared, projectAt }: WriterTask): Promise<OpenLog> {
  const report = (text: string): void => post({ kind: 'upgrading', text });
  const { db, path, epoch, raw, close } = await openForWriting(file, keying, (...log) => upgrade(...log, report));
  const cleanUp = raw === null ? null : createCleanUp(db, path, raw);
  const writer = createWriter(db, { keying, declared, onRemoval: () => cleanUp?.require() });
  const transactions = createTransactions(db, writer, raw, projectAt);
  const read = path === MEMORY ? createReader(db, keying) : wrongThread;
  const findLostFile = path === MEMORY ? () => undefined : watchFiles(filesOf(path));
  // What fails here is tried again before the next erasure resolves.
  if (raw !== null) attempt(() => makeSecure(db));
  // An erasure that an earlier process could not finish.
  if (cleanUp?.isDue()) await cleanUp.run().catch(() => {});
  const tighten = path === MEMORY ? null : tightenCommand(path);
  post({ kind: 'opened', path, epoch, facts: { tighten, isDirty: cleanUp?.isDue() ?? false } });
  // What an earlier process left.
  transactions.project();
  return {
    write(group) {
      const lost = findLostFile();
      if (lost !== undefined) {
        throw new FileGone(`the file ${lost} was removed or replaced while it was open; restart the server`);
      }
      return transactions.write(group);
    },
    afterWrite: transactions.afterWrite,
    read(group) {
      if (path === MEMORY) transactions.project();
      return readTurn(read, group);
    },
    cleanUp: async () => cleanUp?.run(),
    close() {
      cleanUp?.close();
      transactions.end();
      close();
    },
  };
}

type WriterTask = Extract<ThreadTask, { readonly role: 'writer' }>;

function attempt(work: () => void): void {
  try {
    work();
  } catch {
    // The disk may be full.
  }
}

/** Milliseconds after which a group of reads ends. One read is bounded by reader.ts. */
const TURN_MS = 5;

function readTurn(
  read: (operation: Operation<ReadOperations>) => ReplyTo<ReadOperations>,
  group: readonly Operation<ReadOperations>[],
): ReplyTo<ReadOperations>[] {
  const untilMs = performance.now() + TURN_MS;
  const replies: ReplyTo<ReadOperations>[] = [];
  for (const operation of group) {
    replies.push(read(operation));
    if (performance.now() > untilMs) break;
  }
  return replies;
}

function wrongThread(): never {
  throw new Error('this operation is for the other thread');
}

function openReader(path: string, keying: Keying): OpenLog {
  const db = openForReading(path);
  const read = createReader(db, keying);
  post({ kind: 'opened', path, epoch: meta(db, 'epoch'), facts: { tighten: null, isDirty: false } });
  return {
    write: wrongThread,
    afterWrite: wrongThread,
    read: (group) => readTurn(read, group),
    cleanUp: wrongThread,
    close: () => db.close(),
  };
}

/** Milliseconds until the next attempt after a projection that failed. */
const RETRY_MS = 1_000;

/** The transactions of the writer. After a failure, each cleans up before it writes anything else. */
function createTransactions(
  db: DatabaseSync,
  writer: ReturnType<typeof createWriter>,
  raw: RawFile | null,
  projectAt: ProjectAt,
) {
  const begin = db.prepare('BEGIN IMMEDIATE');
  const commit = db.prepare('COMMIT');
  let isClean = true;
  let hasFailedToProject = false;
  const quiet = setTimeout(project, projectAt.quietMs);
  quiet.unref();
  let retry: NodeJS.Timeout | null = null;

  const isPast = (bound: Behind): boolean => {
    const { records, chars } = writer.behind();
    return records >= bound.records || chars >= bound.chars;
  };

  function cleanUp(): void {
    if (db.isTransaction) db.exec('ROLLBACK');
    db.exec('PRAGMA synchronous = FULL');
    writer.reset();
    isClean = true;
  }

  /** The disk may refuse the clean-up too. The next transaction tries again, and fails as long as the clean-up fails. */
  function fail(): void {
    isClean = false;
    attempt(cleanUp);
  }

  /**
   * Writes what is not projected yet. A power failure may take this transaction back, and not the records before it, of
   * which it is made again. So it needs no sync. (The next sync covers it.)
   */
  function project(): void {
    if (writer.behind().records === 0 && !writer.isDeclaredAnew()) return;
    try {
      if (!isClean) cleanUp();
      db.exec('PRAGMA synchronous = NORMAL');
      begin.run();
      writer.project();
      commit.run();
      db.exec('PRAGMA synchronous = FULL');
      hasFailedToProject = false;
    } catch (error) {
      fail();
      if (!hasFailedToProject) post({ kind: 'notProjected', failure: failureOf(error) });
      hasFailedToProject = true;
      if (retry !== null) clearTimeout(retry);
      retry = setTimeout(project, RETRY_MS);
      retry.unref();
    }
  }

  return {
    project,

    /** Runs a group in one transaction. */
    write(group: readonly Operation<WriteOperations>[]): ReplyTo<WriteOperations>[] {
      if (!isClean) cleanUp();
      let isCommitting = false;
      try {
        begin.run();
        if (isPast(MAX_BEHIND) || writer.isDeclaredAnew()) writer.project();
        const replies = group.map(writer.run);
        writer.flush();
        isCommitting = true;
        commit.run();
        if (raw?.isComplete()) attempt(() => markIncomplete(db, raw));
        return replies;
      } catch (error) {
        fail();
        // SQLite finds a full disk or a lock before it writes the commit's last page. A failed sync proves nothing.
        const nothingWritten = !isCommitting || [SQLITE_FULL, SQLITE_BUSY].includes(primaryCode(error) ?? -1);
        throw nothingWritten ? error : new CommitFailed(messageOf(error), { cause: error });
      }
    },

    /** Call it once the replies of a group are posted. */
    afterWrite(): void {
      if (hasFailedToProject) return;
      if (isPast(projectAt)) project();
      else quiet.refresh();
    },

    end(): void {
      clearTimeout(quiet);
      project();
      if (retry !== null) clearTimeout(retry);
    },
  };
}

/** After the first commit since a checkpoint: the file alone is no longer the log. */
function markIncomplete(db: DatabaseSync, raw: RawFile): void {
  const [pages] = query<[number]>(db, 'PRAGMA wal_autocheckpoint').get() as [number];
  // Writes page 1, without a checkpoint that would copy it into the file.
  db.exec(`
    PRAGMA wal_autocheckpoint = 0;
    PRAGMA application_id = ${APPLICATION_ID};
    PRAGMA wal_autocheckpoint = ${pages};
  `);
  raw.markIncomplete();
}

/** The returned function finds a file that is no longer the one that was open at its path. */
function watchFiles(paths: readonly string[]): () => string | undefined {
  const identityOf = (path: string): string => {
    const stat = statSync(path, { throwIfNoEntry: false });
    return stat === undefined ? 'gone' : `${stat.dev}:${stat.ino}`;
  };
  const opened = paths.map(identityOf);
  return () => paths.find((path, index) => identityOf(path) !== opened[index]);
}

function failureOf(error: unknown): Failure {
  return {
    message: messageOf(error),
    outcome: error instanceof CommitFailed ? 'unknown' : 'not_written',
    lasting: error instanceof FileGone,
  };
}

try {
  const task = workerData as ThreadTask;
  const log = task.role === 'writer' ? await openWriter(task) : openReader(task.path, task.keying);
  port.on('message', (request: Request) => {
    if (request.kind === 'close') {
      log.close();
      port.close();
      return;
    }
    if (request.kind === 'cleanUp') {
      log.cleanUp().then(
        () => post({ kind: 'cleanedUp', failure: null }),
        (error: unknown) => post({ kind: 'cleanedUp', failure: failureOf(error) }),
      );
      return;
    }
    try {
      if (request.kind === 'write') {
        post({ kind: 'written', replies: log.write(request.operations) });
        log.afterWrite();
      } else post({ kind: 'read', replies: log.read(request.operations) });
    } catch (error) {
      post({ kind: request.kind === 'write' ? 'writeFailed' : 'readFailed', failure: failureOf(error) });
    }
  });
} catch (error) {
  post({ kind: 'refused', message: messageOf(error) });
}

/**
 * The threads of the SQLite store. Only they touch the disk, so the event loop never waits for it (design law 2). Each
 * request is a group of operations; a group of writes is one transaction and one sync.
 *
 * The writer thread holds the lock on the log and checks before each group that its files are still in place. A second
 * thread reads from a file with its own connection; a log in memory is read by the writer thread. A group of reads ends
 * after a few milliseconds, and the rest of it is sent again: by then, other callers may be first.
 */
import { statSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';
import { parentPort, workerData } from 'node:worker_threads';
import type { Keying } from '../../contract/audiences.ts';
import type {
  Failure,
  Operation,
  ReadOperations,
  Reply,
  ReplyTo,
  Request,
  ThreadTask,
  WriteOperations,
} from './operations.ts';
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
} from './schema.ts';
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
  read(group: readonly Operation<ReadOperations>[]): ReplyTo<ReadOperations>[];
  close(): void;
}

function openWriter(file: string, keying: Keying): OpenLog {
  const { db, path, epoch, close } = openForWriting(file, keying);
  const commit = createCommit(db, keying);
  const read = path === MEMORY ? createReader(db) : wrongThread;
  const findLostFile = path === MEMORY ? () => undefined : watchFiles(filesOf(path));
  // An erasure that an earlier process could not finish.
  if (meta(db, 'rewrite') === 'due') rewrite(db, path);
  post({ kind: 'opened', path, epoch });
  return {
    write(group) {
      const lost = findLostFile();
      if (lost !== undefined) {
        throw new FileGone(`the file ${lost} was removed or replaced while it was open; restart the server`);
      }
      return group[0]?.kind === 'rewrite' ? [rewrite(db, path)] : commit(group);
    },
    read: (group) => readTurn(read, group),
    close,
  };
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

function openReader(path: string): OpenLog {
  const db = openForReading(path);
  const read = createReader(db);
  post({ kind: 'opened', path, epoch: meta(db, 'epoch') });
  return {
    write: wrongThread,
    read: (group) => readTurn(read, group),
    close: () => db.close(),
  };
}

/** Runs a group in one transaction. After a failure it cleans up before it writes anything else. */
function createCommit(db: DatabaseSync, keying: Keying): OpenLog['write'] {
  const writer = createWriter(db, keying);
  let isClean = true;

  function cleanUp(): void {
    if (db.isTransaction) db.exec('ROLLBACK');
    writer.reset();
    isClean = true;
  }

  return (group) => {
    if (!isClean) cleanUp();
    let isCommitting = false;
    try {
      db.exec('BEGIN IMMEDIATE');
      const replies = group.map(writer.run);
      writer.flush();
      isCommitting = true;
      db.exec('COMMIT');
      return replies;
    } catch (error) {
      isClean = false;
      try {
        cleanUp();
      } catch {
        // The disk may refuse this too. The next group tries again, and fails as long as the clean-up fails.
      }
      // SQLite finds a full disk or a lock before it writes the commit's last page. A failed sync proves nothing.
      const nothingWritten = !isCommitting || [SQLITE_FULL, SQLITE_BUSY].includes(primaryCode(error) ?? -1);
      throw nothingWritten ? error : new CommitFailed(messageOf(error), { cause: error });
    }
  };
}

/**
 * Rewrites the whole file, so that free pages and the write-ahead log hold no erased data. It takes time and disk space
 * in proportion to the file, about a second for 200 MB, and appends wait.
 */
function rewrite(db: DatabaseSync, path: string): null {
  if (path !== MEMORY) {
    db.exec('VACUUM');
    const [busy] = query<[busy: number]>(db, 'PRAGMA wal_checkpoint(TRUNCATE)').get() ?? [];
    if (busy !== 0) throw new Error('the write-ahead log could not be emptied because another program reads it');
  }
  db.exec("DELETE FROM meta WHERE name = 'rewrite'");
  return null;
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
  const log = task.role === 'writer' ? openWriter(task.file, task.keying) : openReader(task.path);
  port.on('message', (request: Request) => {
    if (request.kind === 'close') {
      log.close();
      port.close();
      return;
    }
    try {
      if (request.kind === 'write') post({ kind: 'written', replies: log.write(request.operations) });
      else post({ kind: 'read', replies: log.read(request.operations) });
    } catch (error) {
      post({ kind: request.kind === 'write' ? 'writeFailed' : 'readFailed', failure: failureOf(error) });
    }
  });
} catch (error) {
  post({ kind: 'refused', message: messageOf(error) });
}

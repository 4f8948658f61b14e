/**
 * The thread half of the SQLite store: it alone touches the disk, so that the event loop never waits for it
 * (design law 2). A message is a group of operations; a group of writes is one transaction and one sync.
 *
 * The writer's thread holds the lock, and checks before each commit that its files are still the ones at their paths. For a
 * file, reads have a thread and a connection of their own; a database in memory is read by the thread that writes it.
 */
import { statSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';
import { parentPort, workerData } from 'node:worker_threads';
import type { Keying } from '../../contract/audiences.ts';
import { createReader, type ReadOp } from './reader.ts';
import {
  filesOf,
  MEMORY,
  meta,
  openForReading,
  openForWriting,
  primaryCode,
  SQLITE_BUSY,
  SQLITE_FULL,
} from './schema.ts';
import { createWriter, type WriteOp, type Writer } from './writer.ts';

/** What a thread is started with. */
export type ThreadTask =
  | { readonly role: 'writer'; readonly file: string; readonly keying: Keying }
  /** `path` as the writer has resolved it. */
  | { readonly role: 'reader'; readonly path: string };

export type Request =
  | { readonly write: readonly WriteOp[] }
  | { readonly read: readonly ReadOp[] }
  /** Answered by the thread's end. */
  | { readonly close: true };

/** First of all comes `opened` or `refused`; after that one reply for each request, in order. */
export type Reply =
  | { readonly kind: 'opened'; readonly path: string; readonly epoch: string }
  | { readonly kind: 'refused'; readonly message: string }
  | { readonly kind: 'done'; readonly queue: 'write' | 'read'; readonly results: readonly unknown[] }
  | { readonly kind: 'failed'; readonly queue: 'write' | 'read'; readonly failure: Failure };

export interface Failure {
  readonly message: string;
  /** Whether what was asked may yet be found in the log. */
  readonly outcome: 'not_written' | 'unknown';
  /** No later attempt can work. */
  readonly lasting: boolean;
}

/** A file under its path is not the one that is open, or is gone. What is written now would be lost, or clash. */
class FileGone extends Error {}
/** The commit was begun and failed, so it may be found after a restart. */
class CommitFailed extends Error {}

const port = parentPort;
if (port === null) throw new Error('sqlite-worker runs as a worker thread');
const post = (reply: Reply): void => port.postMessage(reply);

interface Opened {
  write(ops: readonly WriteOp[]): unknown[];
  read(ops: readonly ReadOp[]): unknown[];
  close(): void;
}

function openWriter(file: string, keying: Keying): Opened {
  const { db, path, epoch, close } = openForWriting(file, keying);
  const commit = createCommit(db, createWriter(db, keying));
  const reader = path === MEMORY ? createReader(db) : null;
  const lostFile = path === MEMORY ? () => undefined : watchFiles(filesOf(path));
  // What an earlier process did not get done.
  if (meta(db, 'rewrite') === 'due') rewrite(db, path);
  post({ kind: 'opened', path, epoch });
  return {
    write(ops) {
      const lost = lostFile();
      if (lost !== undefined) throw new FileGone(`the file ${lost} was removed or replaced while it was open`);
      if (ops[0]?.kind === 'rewrite') return [rewrite(db, path)];
      return commit(ops);
    },
    read: (ops) => (reader === null ? [] : ops.map(reader.run)),
    close,
  };
}

function openReader(path: string): Opened {
  const db = openForReading(path);
  const reader = createReader(db);
  post({ kind: 'opened', path, epoch: '' });
  return { write: () => [], read: (ops) => ops.map(reader.run), close: () => db.close() };
}

/** Runs a group in one transaction. What a failed one has left behind is cleared before anything else is written. */
function createCommit(db: DatabaseSync, writer: Writer): (ops: readonly WriteOp[]) => unknown[] {
  let failed = false;

  function clear(): void {
    if (db.isTransaction) db.exec('ROLLBACK');
    writer.reset();
    failed = false;
  }

  return (ops) => {
    if (failed) clear();
    let committing = false;
    try {
      db.exec('BEGIN IMMEDIATE');
      const results = ops.map(writer.run);
      writer.flush();
      committing = true;
      db.exec('COMMIT');
      return results;
    } catch (error) {
      failed = true;
      try {
        clear();
      } catch {
        // The disk may refuse this too. It is tried again before the next group, which fails as long as it does.
      }
      // A full disk and a lock are found before the commit's last page is written; a failed sync tells nothing.
      const nothingWritten = !committing || [SQLITE_FULL, SQLITE_BUSY].includes(primaryCode(error) ?? -1);
      throw nothingWritten ? error : new CommitFailed(messageOf(error), { cause: error });
    }
  };
}

/**
 * Writes the whole file anew, so that nothing of what was erased stays in freed pages or the write-ahead log. Takes a
 * time and a space that grow with the file, about a second for 200 MB; appends wait.
 */
function rewrite(db: DatabaseSync, path: string): null {
  if (path !== MEMORY) {
    db.exec('VACUUM');
    const checkpoint = db.prepare('PRAGMA wal_checkpoint(TRUNCATE)').get();
    if (checkpoint?.busy !== 0) throw new Error('the write-ahead log is in use and could not be emptied');
  }
  db.exec("DELETE FROM meta WHERE name = 'rewrite'");
  return null;
}

/** Tells the first of the files that is no longer the one at its path; undefined while all are. */
function watchFiles(paths: readonly string[]): () => string | undefined {
  const identityOf = (path: string): string => {
    const stat = statSync(path, { throwIfNoEntry: false });
    return stat === undefined ? 'gone' : `${stat.dev}:${stat.ino}`;
  };
  const opened = paths.map(identityOf);
  return () => paths.find((path, index) => identityOf(path) !== opened[index]);
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

function failureOf(error: unknown): Failure {
  return {
    message: messageOf(error),
    outcome: error instanceof CommitFailed ? 'unknown' : 'not_written',
    lasting: error instanceof FileGone,
  };
}

function serve(opened: Opened): void {
  port?.on('message', (request: Request) => {
    if ('close' in request) {
      opened.close();
      port.close();
      return;
    }
    const queue = 'write' in request ? 'write' : 'read';
    try {
      const results = 'write' in request ? opened.write(request.write) : opened.read(request.read);
      post({ kind: 'done', queue, results });
    } catch (error) {
      post({ kind: 'failed', queue, failure: failureOf(error) });
    }
  });
}

try {
  const task = workerData as ThreadTask;
  serve(task.role === 'writer' ? openWriter(task.file, task.keying) : openReader(task.path));
} catch (error) {
  post({ kind: 'refused', message: messageOf(error) });
}

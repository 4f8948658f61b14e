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
import { createCleanUp, makeSecure } from './clean-up.ts';
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
  read(group: readonly Operation<ReadOperations>[]): ReplyTo<ReadOperations>[];
  cleanUp(): Promise<void>;
  close(): void;
}

async function openWriter(file: string, keying: Keying): Promise<OpenLog> {
  const report = (text: string): void => post({ kind: 'upgrading', text });
  const { db, path, epoch, raw, close } = await openForWriting(file, keying, (...log) => upgrade(...log, report));
  const cleanUp = raw === null ? null : createCleanUp(db, path, raw);
  const commit = createCommit(db, keying, raw, () => cleanUp?.require());
  const read = path === MEMORY ? createReader(db) : wrongThread;
  const findLostFile = path === MEMORY ? () => undefined : watchFiles(filesOf(path));
  // What fails here is tried again before the next erasure resolves.
  if (raw !== null) attempt(() => makeSecure(db));
  // An erasure that an earlier process could not finish.
  if (cleanUp?.isDue()) await cleanUp.run().catch(() => {});
  const tighten = path === MEMORY ? null : tightenCommand(path);
  post({ kind: 'opened', path, epoch, facts: { tighten, isDirty: cleanUp?.isDue() ?? false } });
  return {
    write(group) {
      const lost = findLostFile();
      if (lost !== undefined) {
        throw new FileGone(`the file ${lost} was removed or replaced while it was open; restart the server`);
      }
      return commit(group);
    },
    read: (group) => readTurn(read, group),
    cleanUp: async () => cleanUp?.run(),
    close() {
      cleanUp?.close();
      close();
    },
  };
}

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

function openReader(path: string): OpenLog {
  const db = openForReading(path);
  const read = createReader(db);
  post({ kind: 'opened', path, epoch: meta(db, 'epoch'), facts: { tighten: null, isDirty: false } });
  return {
    write: wrongThread,
    read: (group) => readTurn(read, group),
    cleanUp: wrongThread,
    close: () => db.close(),
  };
}

/** Runs a group in one transaction. After a failure it cleans up before it writes anything else. */
function createCommit(db: DatabaseSync, keying: Keying, raw: RawFile | null, onRemoval: () => void): OpenLog['write'] {
  const writer = createWriter(db, keying, onRemoval);
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
      if (raw?.isComplete()) attempt(() => markIncomplete(db, raw));
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
  const log = task.role === 'writer' ? await openWriter(task.file, task.keying) : openReader(task.path);
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
      if (request.kind === 'write') post({ kind: 'written', replies: log.write(request.operations) });
      else post({ kind: 'read', replies: log.read(request.operations) });
    } catch (error) {
      post({ kind: request.kind === 'write' ? 'writeFailed' : 'readFailed', failure: failureOf(error) });
    }
  });
} catch (error) {
  post({ kind: 'refused', message: messageOf(error) });
}

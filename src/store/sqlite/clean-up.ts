/**
 * Clears the file of what was erased, without a rewrite and while appends run.
 *
 * SQLite overwrites what it deletes (secure_delete). Two kinds of copies remain: in the write-ahead log, and inside of
 * pages from which rows moved to others. A clean-up empties the write-ahead log and scrubs every page of the file. It
 * works in steps of a few milliseconds; groups of writes are committed between them. A page that such a group writes may
 * hold copies that come from a page not scrubbed yet. So the write-ahead log is not reset behind the back of a clean-up:
 * it notes the pages in it, and scrubs these again.
 */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { MAX_PAGES, type RawFile } from './raw-file.ts';
import { BUSY_TIMEOUT_MS, CHECKPOINT_PAGES, meta, query } from './schema.ts';

/** While there is something to clean up, the write-ahead log is copied into the file in steps of this many pages. */
const STEP_PAGES = 512;
/** Another program that reads the log keeps the write-ahead log from being emptied. One wait, and all waits. */
const BUSY_MS = 10;
const PATIENCE_MS = 3_000;

const WAL_HEADER_BYTES = 32;
const FRAME_HEADER_BYTES = 24;

export type CleanUp = ReturnType<typeof createCleanUp>;

export function createCleanUp(db: DatabaseSync, path: string, file: RawFile) {
  const [pageSize] = query<[number]>(db, 'PRAGMA page_size').get() as [number];
  const emptyWal = query<[busy: number]>(db, 'PRAGMA wal_checkpoint(TRUNCATE)');
  const remember = db.prepare("INSERT OR REPLACE INTO meta VALUES ('rewrite', 'due')");
  const forget = db.prepare("DELETE FROM meta WHERE name = 'rewrite'");
  const wal = `${path}-wal`;
  /** Since the last clean-up; at the start, those that an earlier process did not clean up count as one. */
  let removals = meta(db, 'rewrite') === '' ? 0 : 1;
  let closed = false;

  /** The numbers of the pages in the write-ahead log. */
  function addLoggedPages(numbers: Set<number>): void {
    const fd = openSync(wal, 'r');
    const number = Buffer.alloc(4);
    for (let at = WAL_HEADER_BYTES; readSync(fd, number, 0, 4, at) === 4; at += FRAME_HEADER_BYTES + pageSize) {
      numbers.add(number.readUInt32BE());
    }
    closeSync(fd);
  }

  /** Moves the write-ahead log into the file and empties it. Returns false if another program reads it. */
  function tryToEmptyWal(): boolean {
    db.exec(`PRAGMA busy_timeout = ${BUSY_MS}`);
    try {
      return emptyWal.get()?.[0] === 0;
    } finally {
      db.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
    }
  }

  /** Scrubs the pages that were written since the last time, and drops all cached pages, which may be older. */
  async function scrubWritten(): Promise<void> {
    const written = new Set<number>();
    const givesUpAtMs = performance.now() + PATIENCE_MS;
    for (;;) {
      addLoggedPages(written);
      if (tryToEmptyWal()) break;
      if (performance.now() > givesUpAtMs) {
        throw new Error('the write-ahead log could not be emptied because another program reads it');
      }
      await pause(BUSY_MS);
    }
    for (const number of written) file.scrub(number);
    db.exec('PRAGMA shrink_memory');
  }

  async function pause(ms: number): Promise<void> {
    await sleep(ms);
    if (closed) throw new Error('the log is closing; the next start finishes the clean-up');
  }

  return {
    /** Call it in the transaction that removes something. A clean-up is then due, also after a crash. */
    require(): void {
      if (removals++ === 0) db.exec(`PRAGMA wal_autocheckpoint = ${STEP_PAGES}`);
      remember.run();
    },
    isDue: () => removals > 0,
    /** @throws {Error} the clean-up is still due */
    async run(): Promise<void> {
      const began = removals;
      db.exec('PRAGMA wal_autocheckpoint = 0');
      try {
        makeSecure(db);
        await scrubWritten();
        if (file.pages() > MAX_PAGES) throw new Error(`a file of more than ${MAX_PAGES} pages cannot be cleaned up`);
        for (let page = 1, end = file.pages(); page <= end; ) {
          page = await file.scrubFrom(page);
          await pause(0);
          if (statSync(wal).size > STEP_PAGES * pageSize) await scrubWritten();
        }
        await scrubWritten();
        await file.sync();
        await pause(0);
        if (removals === began) {
          forget.run();
          removals = 0;
        }
      } finally {
        if (!closed) db.exec(`PRAGMA wal_autocheckpoint = ${removals > 0 ? STEP_PAGES : CHECKPOINT_PAGES}`);
      }
    },
    close(): void {
      closed = true;
    },
  };
}

/**
 * Free pages of a file of an earlier version may hold anything, so it is rewritten once, which takes about a second for
 * 100 MB and as much space as the file. Returns at once if that was done.
 */
export function makeSecure(db: DatabaseSync): void {
  if (meta(db, 'secure_delete') === 'on') return;
  db.exec("VACUUM; INSERT INTO meta VALUES ('secure_delete', 'on')");
}

/**
 * Brings a file of an earlier format to the present one, at the start, and keeps a copy of it.
 *
 * The copy is made before the first change. The change is made in short transactions, so that it can be killed at any
 * instant and goes on at the next start. The first one sets the version, so that from then on earlier builds refuse the
 * file. Format 4 has the tables of format 3, so it needs neither copy nor change: an earlier build would only not read the
 * records past the head row (projection.ts).
 */
import {
  chmodSync,
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { backup, DatabaseSync } from 'node:sqlite';
import { pathToFileURL } from 'node:url';
import { createBulkInsert } from './bulk.ts';
import { nameOf } from './messages.ts';
import {
  AUDIENCE_TABLES,
  meta,
  prepareLogState,
  primaryCode,
  query,
  SCHEMA_VERSION,
  SESSION_TABLES,
  SQLITE_FULL,
  transaction,
} from './schema.ts';

/** The format with the tables of the present one. */
const SAME_TABLES = 3;
/** Rows of one transaction: some milliseconds. */
const STEP = 1_000;
/** Pages that the copy takes at a time: 8 MiB. */
const COPY_PAGES = 2_048;
/** Milliseconds between two reports. */
const REPORT_MS = 5_000;
const MB = 1_000_000;
/** What the write-ahead log takes meanwhile. */
const LOG_BYTES = 40 * MB;

/** @param report gets what the operator should know, a sentence each */
export async function upgrade(db: DatabaseSync, path: string, version: number, report: (text: string) => void) {
  if (version === SAME_TABLES) db.exec(`PRAGMA user_version = ${SCHEMA_VERSION}`);
  else if (version < SCHEMA_VERSION) {
    const copy = await keepCopy(db, path, version, report);
    report(`the log is of format ${version} and becomes one of format ${SCHEMA_VERSION}; ${copy} keeps it as it was`);
    orSayHow(() => transaction(db, () => begin(db, version)));
  }
  if (!isUnfinished(db)) return;
  orSayHow(() => moveMessages(db, report));
  report(`the log is of format ${SCHEMA_VERSION}; delete the copy of the earlier format when you no longer need it`);
}

function orSayHow(work: () => void): void {
  try {
    work();
  } catch (error) {
    if (primaryCode(error) !== SQLITE_FULL) throw error;
    const remedy = 'free some space and start again: the upgrade goes on where it stopped';
    throw new Error(`the disk is full; ${remedy}`, { cause: error });
  }
}

/** The table that a first transaction leaves behind for the next ones. */
const isUnfinished = (db: DatabaseSync): boolean =>
  query(db, "SELECT 1 FROM sqlite_schema WHERE name = 'messages_2'").get() !== undefined;

function begin(db: DatabaseSync, version: number): void {
  // Version 1 kept a session's rooms readable in one text, so its sessions are dropped: their clients start anew after
  // a `bridge.reset`.
  if (version === 1) {
    db.exec(`
      DROP TABLE sessions;
      ${SESSION_TABLES}
      CREATE INDEX IF NOT EXISTS idempotency_by_scope ON idempotency (tenant_key, ticket_key);
    `);
  }
  // Records of earlier versions went to the rooms of their tenant, ticket and agreement only, so that `strays` and
  // `ticket_rooms` have nothing to tell of them.
  db.exec(`
    ALTER TABLE messages RENAME TO messages_2;
    ${AUDIENCE_TABLES}
    ALTER TABLE tickets ADD COLUMN rooms TEXT;
    PRAGMA user_version = ${SCHEMA_VERSION};
  `);
}

/** Up to version 2, a message had at most two ids, in columns, and showed its `messages.new`. */
function moveMessages(db: DatabaseSync, report: (text: string) => void): void {
  type Row = [seq: number, ticketId: number, nonce: string, messageKey: string | null, providerId: string | null];
  const select = query<Row>(
    db,
    'SELECT seq, ticket_id, nonce, message_key, provider_id FROM messages_2 ORDER BY seq LIMIT ?',
  );
  const remove = db.prepare('DELETE FROM messages_2 WHERE seq <= ?');
  const messages = createBulkInsert(db, 'messages', 8);
  const names = createBulkInsert(db, 'message_names', 3);
  const [total] = query<[number]>(db, 'SELECT count(*) FROM messages_2').get() as [number];
  let reportedMs = performance.now();
  for (let moved = 0; moved < total; ) {
    transaction(db, () => {
      const rows = select.all(STEP);
      for (const [seq, ticketId, nonce, messageKey, providerId] of rows) {
        messages.add(ticketId, seq, nonce, seq, null, 0, null, null);
        // The tenant, which has no line break, a line break, and the id.
        const messageId = messageKey?.slice(messageKey.indexOf('\n') + 1);
        if (messageId !== undefined) names.add(ticketId, nameOf('m', messageId), seq);
        if (providerId !== null) names.add(ticketId, nameOf('p', providerId), seq);
      }
      messages.flush();
      names.flush();
      remove.run(rows.at(-1)?.[0] ?? 0);
      moved += rows.length;
    });
    if (performance.now() - reportedMs < REPORT_MS) continue;
    reportedMs = performance.now();
    report(`upgrading the log: ${moved} of ${total} messages`);
  }
  db.exec('DROP TABLE messages_2');
}

/** Makes the copy, or finds the one that an earlier start made. Returns its path. */
async function keepCopy(db: DatabaseSync, path: string, version: number, report: (text: string) => void) {
  const copy = `${path}.format-${version}`;
  const why = `it is of format ${version}, and the upgrade to format ${SCHEMA_VERSION} keeps a copy of it`;
  if (existsSync(copy)) {
    if (isCopy(db, copy)) return copy;
    throw new Error(`${why} in ${copy}, but there is another file of that name: move it away and start again`);
  }
  const folder = dirname(path);
  const { bavail, bsize } = statfsSync(folder);
  const [free, needed] = [bavail * bsize, 1.5 * statSync(path).size + LOG_BYTES];
  const remedy = `free some space and start again, or go on with the earlier version of Roomcast`;
  if (free < needed) {
    const [has, wants] = [Math.floor(free / MB), Math.ceil(needed / MB)];
    throw new Error(`${why}: that takes ${wants} MB in ${folder}, which has ${has} MB; ${remedy}`);
  }
  // Under another name until it is whole.
  const part = `${copy}.part`;
  for (const name of [part, `${part}-journal`]) rmSync(name, { force: true });
  closeSync(openSync(part, 'wx', 0o600));
  let reportedMs = performance.now();
  try {
    await backup(db, part, {
      rate: COPY_PAGES,
      progress({ totalPages, remainingPages }) {
        if (performance.now() - reportedMs < REPORT_MS) return;
        reportedMs = performance.now();
        report(`copying the log before its upgrade: ${totalPages - remainingPages} of ${totalPages} pages`);
      },
    });
    chmodSync(part, 0o600);
    sync(part);
  } catch (error) {
    rmSync(part, { force: true });
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`${why}, which failed (${reason}): ${remedy}`, { cause: error });
  }
  renameSync(part, copy);
  sync(folder);
  return copy;
}

/** Waits until the disk has a file or folder. */
function sync(name: string): void {
  const fd = openSync(name, 'r');
  fsyncSync(fd);
  closeSync(fd);
}

/** Whether a file is the log at its present head. */
function isCopy(db: DatabaseSync, file: string): boolean {
  const identityOf = (log: DatabaseSync) => JSON.stringify([meta(log, 'epoch'), prepareLogState(log)()]);
  const url = pathToFileURL(file);
  // Without this, SQLite would make files beside it.
  url.searchParams.set('immutable', '1');
  try {
    const other = new DatabaseSync(url, { readOnly: true });
    try {
      return identityOf(other) === identityOf(db);
    } finally {
      other.close();
    }
  } catch {
    return false;
  }
}

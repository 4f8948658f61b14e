/**
 * The format of the file, and how a thread opens it.
 *
 * `records` stores each record once; the audience index, the tickets and the messages refer to it by `seq`. The log is
 * the records above `trimmed_seq`; an older record remains only while the state shows it. An erased record leaves its
 * nonce in `tombstones`, so that cursors to it stay valid.
 *
 * `records`, `idempotency`, the sessions and the revocations are written when they are accepted. All other tables are
 * projections of the records up to `head_seq` (projection.ts): there may be newer records.
 *
 * WAL with synchronous=FULL: a commit is on the disk before it returns and before a reader can see it.
 */
import { randomInt } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readSync, realpathSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { DatabaseSync, type SQLInputValue, type SQLOutputValue } from 'node:sqlite';
import { audienceOf, type Keying } from '../../contract/audiences.ts';
import { GENESIS_NONCE } from '../../contract/cursor.ts';
import type { Position } from './operations.ts';
import { APPLICATION_ID, INCOMPLETE_ID, MAX_PAGES, openRawFile, type RawFile } from './raw-file.ts';

export const MEMORY = ':memory:';

/** A file of any version from 1 is upgraded. An older build refuses the file of a newer one. */
export const SCHEMA_VERSION = 4;

/** Milliseconds to wait for a lock that another program holds, such as a backup. Past it, a group is `unavailable`. */
export const BUSY_TIMEOUT_MS = 3_000;
/** Pages of 4 KiB that the write-ahead log holds before SQLite copies them into the database: 32 MiB. */
export const CHECKPOINT_PAGES = 8_192;
/**
 * KiB of page cache per connection. A commit that splits a page scans the whole cache, so a larger one is slower; pages
 * that do not fit are in the operating system's cache.
 */
const CACHE_KIB = 8_192;

/**
 * Records of a stretch: those whose sequence numbers have the same quotient by this. Of each whole stretch, the file keeps
 * the earliest and the latest instant, so that a scan can skip it, whatever the clocks did. One that is not known is not
 * skipped: an earlier version may have written it.
 */
export const STRETCH_RECORDS = 512;
/** The most stretches that one step skips at an end of its range: 2.5 million records. */
export const MAX_SKIPPED = 5_000;

export const stretchOf = (seq: number): number => Math.floor(seq / STRETCH_RECORDS);

/** Rooms hold no comma (protocol §2). */
const ROOM_SEPARATOR = ',';
/** The inverse of `splitRooms`. For two rooms, `Array.join` takes four times as long. */
export function joinRooms(rooms: readonly string[]): string {
  let joined = '';
  for (const room of rooms) joined = joined === '' ? room : `${joined}${ROOM_SEPARATOR}${room}`;
  return joined;
}
export const splitRooms = (joined: string): string[] => (joined === '' ? [] : joined.split(ROOM_SEPARATOR));

const SCHEMA = `
  CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

  CREATE TABLE log (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    head_seq INTEGER NOT NULL, head_nonce TEXT NOT NULL,
    trimmed_seq INTEGER NOT NULL, trimmed_nonce TEXT NOT NULL,
    kept INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE records (
    seq INTEGER PRIMARY KEY, nonce TEXT NOT NULL, at INTEGER NOT NULL, event TEXT NOT NULL, tenant TEXT NOT NULL,
    rooms TEXT NOT NULL, ticket_id INTEGER, payload TEXT NOT NULL
  ) STRICT;
  CREATE TABLE tombstones (seq INTEGER PRIMARY KEY, nonce TEXT NOT NULL) STRICT;

  CREATE TABLE audiences (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
  CREATE TABLE audience_records (
    audience_id INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (audience_id, seq)
  ) STRICT, WITHOUT ROWID;

  -- seq: the newest tickets.updated; NULL if the ticket has only messages. rooms: those of that record that a list by
  -- ticket or agreement does not find; NULL if there are none.
  CREATE TABLE tickets (
    id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, ticket TEXT NOT NULL, seq INTEGER, updated_at TEXT, agreement TEXT,
    status TEXT, last_at INTEGER NOT NULL, last_hour INTEGER NOT NULL, rooms TEXT, UNIQUE (tenant, ticket)
  ) STRICT;
  -- By hour, so that a busy ticket moves in this index once an hour and not with each event.
  CREATE INDEX tickets_by_age ON tickets (last_hour);

  -- Keys are hashes, because an entry may outlive an erasure. tenant_key and ticket_key: shared by all events of the
  -- request, or NULL.
  CREATE TABLE idempotency (
    key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, at INTEGER NOT NULL, tenant_key TEXT, ticket_key TEXT,
    results TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX idempotency_by_age ON idempotency (at);
  CREATE INDEX idempotency_by_scope ON idempotency (tenant_key, ticket_key);
`;

/** What version 3 added. */
export const AUDIENCE_TABLES = `
  -- The \`rooms\` of tickets, for lists.
  CREATE TABLE ticket_rooms (
    tenant TEXT NOT NULL, room TEXT NOT NULL, updated_at TEXT NOT NULL, seq INTEGER NOT NULL, ticket_id INTEGER NOT NULL,
    PRIMARY KEY (tenant, room, updated_at, seq)
  ) STRICT, WITHOUT ROWID;

  -- Records that are not in the room of their tenant or of their ticket: an erasure finds them here.
  CREATE TABLE strays (seq INTEGER PRIMARY KEY, tenant TEXT NOT NULL, ticket TEXT) STRICT;
  CREATE INDEX strays_by_owner ON strays (tenant, ticket);

  -- seq and nonce: of the messages.new. Of a message that is known only by changes, seq is that of the first, and nonce is
  -- NULL. shown: the record that stands, with its instant and rank; NULL if the message was deleted. rooms: of record seq,
  -- if that one is not shown. same_as: the row that stands for this one, because both are one message.
  CREATE TABLE messages (
    ticket_id INTEGER NOT NULL, seq INTEGER NOT NULL, nonce TEXT, shown INTEGER, instant INTEGER, rank INTEGER NOT NULL,
    rooms TEXT, same_as INTEGER, PRIMARY KEY (ticket_id, seq)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX messages_by_change ON messages (shown) WHERE shown <> seq;
  -- The ids of messages. They are not hashed: ids that rise with time then share pages.
  CREATE TABLE message_names (
    ticket_id INTEGER NOT NULL, name TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (ticket_id, name)
  ) STRICT, WITHOUT ROWID;
  -- Changes of messages, to find repeats. A key is made of hashes: tenant, ticket, change.
  CREATE TABLE message_changes (
    key TEXT PRIMARY KEY, at INTEGER NOT NULL, seq INTEGER NOT NULL, nonce TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX message_changes_by_age ON message_changes (at);
`;

/** `session_counts` holds the number of sessions of each holder; the triggers keep it, and remove a session's rooms. */
export const SESSION_TABLES = `
  CREATE TABLE sessions (
    pid TEXT PRIMARY KEY, owner TEXT NOT NULL, holder TEXT NOT NULL, data TEXT NOT NULL, expires_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX sessions_by_expiry ON sessions (expires_at);
  CREATE INDEX sessions_by_holder ON sessions (holder, expires_at);
  CREATE TABLE session_rooms (
    pid TEXT NOT NULL, room TEXT NOT NULL, data TEXT NOT NULL, PRIMARY KEY (pid, room)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE session_counts (holder TEXT PRIMARY KEY, sessions INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TRIGGER session_began AFTER INSERT ON sessions BEGIN
    INSERT INTO session_counts VALUES (NEW.holder, 1) ON CONFLICT DO UPDATE SET sessions = sessions + 1;
  END;
  CREATE TRIGGER session_ended AFTER DELETE ON sessions BEGIN
    DELETE FROM session_rooms WHERE pid = OLD.pid;
    UPDATE session_counts SET sessions = sessions - 1 WHERE holder = OLD.holder;
    DELETE FROM session_counts WHERE holder = OLD.holder AND sessions = 0;
  END;
`;

/**
 * One index for each order in which tickets are listed. A file of an earlier version gets those that it lacks, in about
 * a second for a million tickets; earlier versions keep them up to date.
 */
const TICKET_INDEXES = `
  CREATE INDEX IF NOT EXISTS tickets_by_update ON tickets (tenant, updated_at, seq) WHERE seq IS NOT NULL;
  CREATE INDEX IF NOT EXISTS tickets_by_status ON tickets (tenant, status, updated_at, seq) WHERE seq IS NOT NULL;
  CREATE INDEX IF NOT EXISTS tickets_by_agreement ON tickets (tenant, agreement, updated_at, seq)
    WHERE seq IS NOT NULL AND agreement IS NOT NULL;
`;

/** The instants of whole stretches of records. A file without the table gets it when it is opened. */
const STRETCHES = `
  CREATE TABLE IF NOT EXISTS stretches (
    number INTEGER PRIMARY KEY, earliest INTEGER NOT NULL, latest INTEGER NOT NULL
  ) STRICT;
`;

/** Reads the strays of a tenant in order (reader.ts). A file without the index gets it when it is opened. */
const STRAYS_INDEX = 'CREATE INDEX IF NOT EXISTS strays_by_tenant ON strays (tenant, seq)';

/** A file of a version without revocations gets the table when it is opened. */
const REVOCATIONS = `
  CREATE TABLE IF NOT EXISTS revocations (
    number INTEGER PRIMARY KEY, nonce TEXT NOT NULL, sub TEXT, tenant TEXT, jti TEXT,
    before_at INTEGER NOT NULL, created_at INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX IF NOT EXISTS revocations_by_tenant ON revocations (tenant);
  CREATE INDEX IF NOT EXISTS revocations_by_age ON revocations (created_at);
`;
/** Brings a file to `SCHEMA_VERSION` (upgrade.ts). Also called for a file of that version, which may be half upgraded. */
export type Upgrade = (db: DatabaseSync, path: string, version: number) => Promise<void>;

/**
 * Opens the log. Creates it if it is new, upgrades it if it is of an earlier format, and rebuilds its index if it was made
 * under another keying.
 * `path` of the result is the file with symbolic links resolved, or `:memory:`.
 * @throws {Error} of one line if the file cannot be the log
 */
export async function openForWriting(file: string, keying: Keying, upgrade: Upgrade) {
  const connections: DatabaseSync[] = [];
  const connect = (path: string): DatabaseSync => {
    const db = new DatabaseSync(path);
    connections.unshift(db);
    return db;
  };
  let raw: RawFile | null = null;
  // The lock was opened first, so it is released last.
  const close = () => {
    // As the last connection, `db` moves the write-ahead log into the file.
    if (raw !== null && !raw.isComplete()) raw.markComplete();
    const [db, lock] = connections;
    db?.close();
    raw?.close();
    lock?.close();
  };
  try {
    const path = file === MEMORY ? MEMORY : resolveFile(file);
    if (path !== MEMORY) {
      lock(connect(lockPathOf(path)));
      refuseForeignWal(path);
    }
    const db = connect(path);
    db.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}; PRAGMA cache_size = -${CACHE_KIB};`);
    if (pragma(db, 'application_id') === INCOMPLETE_ID) {
      throw new Error(
        `its write-ahead log ${path}-wal is missing, and the newest records with it; put back the one of this file, or ` +
          `restore a backup (to go on without them: sqlite3 ${file} "PRAGMA application_id = ${APPLICATION_ID}")`,
      );
    }
    const isForeign = pragma(db, 'application_id') !== APPLICATION_ID;
    if (isForeign && pragma(db, 'schema_version') !== 0) throw new Error('it is a database of another program');
    const version = pragma(db, 'user_version');
    if (!isForeign && (version < 1 || version > SCHEMA_VERSION)) {
      throw new Error(`its format is ${version}; this version of Roomcast reads 1 to ${SCHEMA_VERSION}`);
    }
    db.exec(`
      PRAGMA journal_mode = WAL;
      PRAGMA synchronous = FULL;
      PRAGMA secure_delete = ON;
      PRAGMA max_page_count = ${MAX_PAGES};
      PRAGMA wal_autocheckpoint = ${CHECKPOINT_PAGES};
      PRAGMA journal_size_limit = ${CHECKPOINT_PAGES * 4096};
    `);
    if (isForeign) create(db, keying);
    else await upgrade(db, path, version);
    db.exec(TICKET_INDEXES);
    db.exec(REVOCATIONS);
    db.exec(STRAYS_INDEX);
    db.exec(STRETCHES);
    if (meta(db, 'keying') !== keying) reindex(db, keying);
    if (path !== MEMORY) {
      raw = openRawFile(path, pragma(db, 'page_size'));
      // So that the file is a log of this format, even without its write-ahead log.
      if (isForeign || version < SCHEMA_VERSION) db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    }
    return { db, epoch: meta(db, 'epoch'), path, raw, close };
  } catch (error) {
    close();
    const [reason] = messageOf(error).split('\n', 1);
    throw new Error(`STORE_URL: cannot open the log ${file}: ${reason}`, { cause: error });
  }
}

/** Opens a read-only connection for another thread. Open the file for writing first. */
export function openForReading(path: string): DatabaseSync {
  const db = new DatabaseSync(path, { readOnly: true });
  db.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}; PRAGMA cache_size = -${CACHE_KIB};`);
  return db;
}

export type Columns = readonly SQLOutputValue[];

/** A prepared statement that returns rows, each an array of the selected columns. */
export interface Query<Row> {
  get(...values: SQLInputValue[]): Row | undefined;
  all(...values: SQLInputValue[]): Row[];
  iterate(...values: SQLInputValue[]): Iterable<Row>;
}

/**
 * The only place where rows get a type. The caller names the columns that `text` selects, and STRICT tables guarantee
 * their types. node:sqlite itself types every row as an object, even when it returns arrays.
 */
export function query<Row extends Columns>(db: DatabaseSync, text: string): Query<Row> {
  const statement = db.prepare(text);
  statement.setReturnArrays(true);
  const untyped: object = statement;
  return untyped as Query<Row>;
}

export interface LogState {
  head: Position;
  trimmed: Position;
  /** The number of records in the log. */
  kept: number;
}

export function prepareLogState(db: DatabaseSync): () => LogState {
  type Row = [headSeq: number, headNonce: string, trimmedSeq: number, trimmedNonce: string, kept: number];
  const select = query<Row>(db, 'SELECT head_seq, head_nonce, trimmed_seq, trimmed_nonce, kept FROM log');
  return () => {
    const [headSeq, headNonce, trimmedSeq, trimmedNonce, kept] = select.get() as Row;
    return { head: [headSeq, headNonce], trimmed: [trimmedSeq, trimmedNonce], kept };
  };
}

export function meta(db: DatabaseSync, name: string): string {
  return query<[string]>(db, 'SELECT value FROM meta WHERE name = ?').get(name)?.[0] ?? '';
}

const DECLARED = 'declared';

/** The events that were declared (`EXTRA_EVENTS`) when the log accepted the records past the head row. */
export const declaredEvents = (db: DatabaseSync): string[] => meta(db, DECLARED).split(' ').filter(Boolean);

export function setDeclaredEvents(db: DatabaseSync, names: readonly string[]): void {
  db.prepare('INSERT OR REPLACE INTO meta VALUES (?, ?)').run(DECLARED, names.join(' '));
}

/** Runs `work` in one transaction, and rolls it back if `work` throws. */
export function transaction(db: DatabaseSync, work: () => void): void {
  db.exec('BEGIN IMMEDIATE');
  try {
    work();
    db.exec('COMMIT');
  } catch (error) {
    if (db.isTransaction) db.exec('ROLLBACK');
    throw error;
  }
}

/**
 * All names of a file must lead to one lock and one write-ahead log, so a file with several hard links is refused. An
 * existing file is not opened here, because closing any handle of a file drops the locks that this process holds on it
 * (fcntl).
 */
function resolveFile(file: string): string {
  mkdirSync(dirname(file), { recursive: true, mode: PRIVATE_FOLDER });
  createPrivate(file);
  const stat = statSync(file);
  if (!stat.isFile()) throw new Error('it is not a file');
  if (stat.nlink > 1) throw new Error(`it has ${stat.nlink} names (hard links); remove all but one`);
  const path = realpathSync(file);
  createPrivate(lockPathOf(path));
  return path;
}

/** Of the header: 1 is a rollback journal, 2 a write-ahead log (https://sqlite.org/fileformat2.html, section 1.3.3). */
const JOURNAL_FORMAT_AT = 18;

/**
 * SQLite would apply any write-ahead log to the file beside it, and so damage a backup that was put in the place of a log.
 * A copy that `VACUUM INTO` made has never had one. Call it with the lock, before this process opens the file.
 */
function refuseForeignWal(path: string): void {
  const fd = openSync(path, 'r');
  const format = Buffer.alloc(1);
  readSync(fd, format, 0, 1, JOURNAL_FORMAT_AT);
  closeSync(fd);
  const walBytes = statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0;
  if (format[0] !== 1 || walBytes === 0) return;
  throw new Error(
    `${path}-wal beside it is of the log that was there before, and would damage this copy; move ${path}-wal and ` +
      `${path}-shm to another folder`,
  );
}

/** SQLite gives the files beside a database the mode of the database. */
const PRIVATE_FILE = 0o600;
const PRIVATE_FOLDER = 0o700;

function createPrivate(file: string): void {
  if (!existsSync(file)) closeSync(openSync(file, 'a', PRIVATE_FILE));
}

/**
 * The command that takes the rights of other users away from files that exist already; null if there are none. It is
 * for the operator to run: another user may be meant to read them, for a backup. A folder that is shared by its nature
 * does not count: the working directory, or one like /tmp.
 */
export function tightenCommand(path: string): string | null {
  if (process.platform === 'win32') return null;
  const isOpen = (name: string): boolean => ((statSync(name, { throwIfNoEntry: false })?.mode ?? 0) & 0o077) !== 0;
  const folder = dirname(path);
  const isShared = folder === resolve('.') || (statSync(folder).mode & 0o1000) !== 0;
  const files = [...filesOf(path), `${path}-shm`];
  const commands = [
    ...(!isShared && isOpen(folder) ? [`chmod 700 ${folder}`] : []),
    ...(files.some(isOpen) ? [`chmod 600 ${path}*`] : []),
  ];
  return commands.length === 0 ? null : commands.join(' && ');
}

const lockPathOf = (path: string): string => `${path}.lock`;

/** The files of one log. If any of them is replaced, a second server could write to the log. */
export const filesOf = (path: string): string[] => [path, `${path}-wal`, lockPathOf(path)];

/** Locks a separate file beside the log. The operating system releases the lock however the process ends. */
function lock(db: DatabaseSync): void {
  try {
    db.exec('PRAGMA busy_timeout = 0; BEGIN EXCLUSIVE;');
  } catch (error) {
    const isBusy = primaryCode(error) === SQLITE_BUSY;
    throw isBusy ? new Error('another server has it open; stop it or use another file', { cause: error }) : error;
  }
}

export const SQLITE_BUSY = 5;
export const SQLITE_FULL = 13;

/** SQLite's primary result code; null for any other error. */
export function primaryCode(error: unknown): number | null {
  const code = (error as { errcode?: unknown } | null)?.errcode;
  return typeof code === 'number' ? code & 0xff : null;
}

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

function pragma(db: DatabaseSync, name: string): number {
  return query<[number]>(db, `PRAGMA ${name}`).get()?.[0] ?? 0;
}

function create(db: DatabaseSync, keying: Keying): void {
  transaction(db, () => {
    db.exec(SCHEMA);
    db.exec(AUDIENCE_TABLES);
    db.exec(SESSION_TABLES);
    const insert = db.prepare('INSERT INTO meta (name, value) VALUES (?, ?)');
    insert.run('epoch', Array.from({ length: 8 }, () => randomInt(36).toString(36)).join(''));
    insert.run('keying', keying);
    insert.run('secure_delete', 'on');
    db.prepare('INSERT INTO log VALUES (1, 0, ?, 0, ?, 0)').run(GENESIS_NONCE, GENESIS_NONCE);
    db.exec(`PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${SCHEMA_VERSION};`);
  });
}

/** Rebuilds the audience index under another keying, from the tenant and rooms of each record that it holds. */
function reindex(db: DatabaseSync, keying: Keying): void {
  transaction(db, () => {
    db.exec('DELETE FROM audience_records; DELETE FROM audiences;');
    const intern = query<[number]>(
      db,
      'INSERT INTO audiences (name) VALUES (?) ON CONFLICT DO UPDATE SET name = name RETURNING id',
    );
    const insert = db.prepare('INSERT OR IGNORE INTO audience_records VALUES (?, ?)');
    const ids = new Map<string, number>();
    const records = query<[seq: number, tenant: string, rooms: string]>(
      db,
      'SELECT seq, tenant, rooms FROM records, log WHERE seq > trimmed_seq AND seq <= head_seq ORDER BY seq',
    );
    for (const [seq, tenant, rooms] of records.iterate()) {
      for (const room of splitRooms(rooms)) {
        const name = audienceOf(keying, tenant, room);
        let id = ids.get(name);
        if (id === undefined) {
          [id] = intern.get(name) as [number];
          if (ids.size >= 100_000) ids.clear();
          ids.set(name, id);
        }
        insert.run(id, seq);
      }
    }
    db.prepare("UPDATE meta SET value = ? WHERE name = 'keying'").run(keying);
  });
}

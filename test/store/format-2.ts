/** Log files of the formats 1 and 2, made by the SQL of their time, for the tests of the upgrade. */
import assert from 'node:assert/strict';
import { DatabaseSync } from 'node:sqlite';
import type { AppendedEvent, Store } from '../../src/store/store.ts';
import { ALL_MESSAGES, ALL_TICKETS, message, only, outcome, pagesOf, readAll, request } from './conformance.ts';

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
  CREATE TABLE tickets (
    id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, ticket TEXT NOT NULL, seq INTEGER, updated_at TEXT, agreement TEXT,
    status TEXT, last_at INTEGER NOT NULL, last_hour INTEGER NOT NULL, UNIQUE (tenant, ticket)
  ) STRICT;
  CREATE INDEX tickets_by_age ON tickets (last_hour);
  CREATE TABLE messages (
    seq INTEGER PRIMARY KEY, ticket_id INTEGER NOT NULL, nonce TEXT NOT NULL, message_key TEXT, provider_id TEXT
  ) STRICT;
  CREATE INDEX messages_by_ticket ON messages (ticket_id, seq);
  CREATE UNIQUE INDEX messages_by_id ON messages (message_key) WHERE message_key IS NOT NULL;
  CREATE UNIQUE INDEX messages_by_provider_id ON messages (ticket_id, provider_id) WHERE provider_id IS NOT NULL;
  CREATE TABLE idempotency (
    key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, at INTEGER NOT NULL, tenant_key TEXT, ticket_key TEXT,
    results TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX idempotency_by_age ON idempotency (at);
`;

const SESSIONS_1 = `
  CREATE TABLE sessions (
    pid TEXT PRIMARY KEY, owner TEXT NOT NULL, data TEXT NOT NULL, expires_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX sessions_by_expiry ON sessions (expires_at);
  INSERT INTO sessions VALUES ('p', 'a', '{"rooms":["ticket:readable"]}', 2000000000000000);
`;

const SESSIONS_2 = `
  CREATE INDEX idempotency_by_scope ON idempotency (tenant_key, ticket_key);
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

/** Milliseconds since 1970 at which the log accepted its records. */
const AT_MS = 1_767_225_600_000;
/** `instantKey` of 2026-01-01T00:00:00Z. */
const UPDATED_AT = '071767225600.';

/** The payload of the n-th message. */
export const payloadOf = (n: number): string => JSON.stringify({ tenantId: 't1', ticketId: `k${n % 10}`, n });

/**
 * Ten tickets of tenant `t1` and agreement `g`, `k0` to `k9`, and the messages `m0` to `m{count-1}`, the n-th of ticket
 * `k{n % 10}`, every second one with the provider's id `p{n}`. The first half of the log is trimmed. The records are
 * those of the messages, then those of the tickets.
 */
export function makeFormat(version: 1 | 2, file: string, count: number): void {
  const db = new DatabaseSync(file);
  db.exec(`
    PRAGMA journal_mode = WAL; PRAGMA secure_delete = ON;
    BEGIN;
    ${SCHEMA} ${version === 1 ? SESSIONS_1 : SESSIONS_2}
    CREATE INDEX tickets_by_update ON tickets (tenant, updated_at, seq) WHERE seq IS NOT NULL;
    INSERT INTO meta VALUES ('epoch', 'abcdefgh'), ('keying', 'room'), ('secure_delete', 'on');
    INSERT INTO audiences VALUES (1, 'tenant:t1'), (2, 'agreement:g');
    PRAGMA application_id = 0x52435354; PRAGMA user_version = ${version};
  `);
  const record = db.prepare('INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)');
  const heard = db.prepare('INSERT INTO audience_records VALUES (?, ?)');
  const message = db.prepare('INSERT INTO messages VALUES (?, ?, ?, ?, ?)');
  const ticket = db.prepare('INSERT INTO tickets VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)');
  const trimmed = Math.floor(count / 2);
  for (let n = 0; n < count; n++) {
    const [seq, ticketId] = [n + 1, n % 10];
    record.run(seq, 'aaaa', AT_MS, 'messages.new', 't1', `tenant:t1,ticket:k${ticketId}`, ticketId + 1, payloadOf(n));
    message.run(seq, ticketId + 1, 'aaaa', `t1\nm${n}`, n % 2 === 0 ? `p${n}` : null);
    if (seq > trimmed) heard.run(1, seq);
  }
  for (let n = 0; n < 10; n++) {
    const seq = count + 1 + n;
    const rooms = `tenant:t1,ticket:k${n},agreement:g`;
    record.run(seq, 'aaaa', AT_MS, 'tickets.updated', 't1', rooms, n + 1, JSON.stringify({ ticketId: `k${n}` }));
    ticket.run(n + 1, 't1', `k${n}`, seq, UPDATED_AT, 'g', 'OPEN', AT_MS, Math.floor(AT_MS / 3_600_000));
    heard.run(1, seq);
    heard.run(2, seq);
  }
  const head = count + 10;
  db.exec(`INSERT INTO log VALUES (1, ${head}, 'aaaa', ${trimmed}, 'aaaa', ${head - trimmed}); COMMIT;`);
  db.close();
}

export const formatOf = (file: string): number => {
  const db = new DatabaseSync(file, { readOnly: true });
  const { user_version } = db.prepare('PRAGMA user_version').get() as { user_version: number };
  db.close();
  return user_version;
};

/** The log, its state and its repeats are those of `makeFormat`. */
export async function assertWhole(store: Store, count: number): Promise<void> {
  const { head, floor } = await store.bounds();
  assert.equal((await store.stats()).records, count + 10 - Math.floor(count / 2));
  const { records } = await readAll(store, ['tenant:t1'], floor);
  assert.equal(records.length, (await store.stats()).records);
  assert.equal(records.at(-1)?.id, head);
  assert.equal((await store.tickets({ ...ALL_TICKETS, tenantId: 't1', ...only('agreement:g') })).items.length, 10);
  for (let k = 0; k < 10; k++) {
    const pages = await pagesOf((page) => store.messages({ ...ALL_MESSAGES, ticketId: `k${k}`, limit: 1000, page }));
    const expected = Array.from({ length: Math.ceil((count - k) / 10) }, (_, n) => payloadOf(10 * n + k));
    assert.deepEqual(pages.flat(), expected);
  }
  for (const n of [0, 1, 7, count - 2, count - 1]) {
    const repeat = async (ids: object) =>
      (await outcome(store, request([message({ ticketId: `k${n % 10}`, ...ids })])))[0] as AppendedEvent;
    const byId = await repeat({ messageId: `m${n}` });
    assert.deepEqual([byId.duplicate, byId.rooms], [true, ['tenant:t1', `ticket:k${n % 10}`]]);
    if (n % 2 === 0) assert.equal((await repeat({ messageId: null, providerMessageId: `p${n}` })).id, byId.id);
  }
}

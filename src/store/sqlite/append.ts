/**
 * Appends: how an event becomes a record, with its index entries and the state of its ticket.
 *
 * Many appends share one transaction. They change the caches here at once and the tables as late as `flush`, in
 * statements of many rows. After a rollback, `reset` drops the caches and reads them again.
 */
import { hash, randomFillSync } from 'node:crypto';
import type { DatabaseSync, SQLInputValue } from 'node:sqlite';
import { audienceOf, type Keying } from '../../contract/audiences.ts';
import type { AppendArgs, AppendReply, EventRow, Position } from './operations.ts';
import { type Columns, type LogState, prepareLogState, query, splitRooms } from './schema.ts';

export type Appender = ReturnType<typeof createAppender>;

/** Entries in the caches of audience ids and of tickets; a full cache is emptied. */
const MAX_CACHED = 50_000;
const HOUR_MS = 3_600_000;

interface Ticket {
  readonly id: number;
  readonly tenant: string;
  readonly ticket: string;
  seq: number | null;
  updatedAt: string | null;
  status: string | null;
  agreement: string | null;
  lastAt: number;
  /** The hour in the ticket's row, which may be older than `lastAt`. */
  lastHour: number;
  /** What the row lacks: everything, the state, only the age, or nothing. */
  dirty: 'new' | 'state' | 'age' | null;
}

type TicketRow = readonly [
  ...[id: number, seq: number | null, updatedAt: string | null, agreement: string | null, status: string | null],
  ...[lastAt: number, lastHour: number],
];

export const hourOf = (atMs: number): number => Math.floor(atMs / HOUR_MS);
/** 22 characters of base64url: 128 bits. */
export const keyOf = (...parts: string[]): string => hash('sha256', parts.join('\n'), 'base64url').slice(0, 22);

export function createAppender(db: DatabaseSync, keying: Keying) {
  const sql = (text: string) => db.prepare(text);
  const select = <Row extends Columns>(text: string) => query<Row>(db, text);
  const readLog = prepareLogState(db);
  const writeLog = sql('UPDATE log SET head_seq = ?, head_nonce = ?, trimmed_seq = ?, trimmed_nonce = ?, kept = ?');
  const records = createBulkInsert(db, 'records', 8);
  const index = createBulkInsert(db, 'audience_records', 2);
  const deleteRecord = sql('DELETE FROM records WHERE seq = ?');
  const selectAudience = select<[id: number]>('SELECT id FROM audiences WHERE name = ?');
  const insertAudience = select<[id: number]>('INSERT INTO audiences (name) VALUES (?) RETURNING id');
  const selectTicket = select<TicketRow>(
    'SELECT id, seq, updated_at, agreement, status, last_at, last_hour FROM tickets WHERE tenant = ? AND ticket = ?',
  );
  const maxTicketId = select<[number | null]>('SELECT max(id) FROM tickets');
  const insertTicket = sql('INSERT INTO tickets VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)');
  const updateTicket = sql(
    'UPDATE tickets SET seq = ?, updated_at = ?, agreement = ?, status = ?, last_at = ? WHERE id = ?',
  );
  const updateLastAt = sql('UPDATE tickets SET last_at = ? WHERE id = ?');
  // A statement of its own, because naming a column writes its index even if the value stays the same.
  const updateLastHour = sql('UPDATE tickets SET last_hour = ? WHERE id = ?');
  const insertMessage = sql('INSERT OR IGNORE INTO messages VALUES (?, ?, ?, ?, ?)');
  const messageById = select<Position>('SELECT seq, nonce FROM messages WHERE message_key = ?');
  const messageByProviderId = select<Position>(
    'SELECT seq, nonce FROM messages WHERE ticket_id = ? AND provider_id = ?',
  );
  const selectIdempotency = select<[fingerprint: string, results: string]>(
    'SELECT fingerprint, results FROM idempotency WHERE key = ?',
  );
  const insertIdempotency = sql('INSERT INTO idempotency VALUES (?, ?, ?, ?, ?, ?)');

  const log = readLog();
  let isLogChanged = false;
  let nextTicketId = 1;
  const audienceIds = new Map<string, number>();
  const tickets = new Map<string, Ticket>();
  const dirtyTickets = new Set<Ticket>();
  /** The records that are not in the index yet, by audience id. */
  const unindexed = new Map<number, number[]>();
  const nextNonce = createNonces();
  reset();

  /** Reads the caches again after a rollback. */
  function reset(): void {
    Object.assign(log, readLog());
    isLogChanged = false;
    nextTicketId = (maxTicketId.get()?.[0] ?? 0) + 1;
    audienceIds.clear();
    tickets.clear();
    dirtyTickets.clear();
    records.clear();
    unindexed.clear();
    index.clear();
  }

  /** Writes what the appends have put off: before COMMIT, and before rows are removed in the same transaction. */
  function flush(): void {
    for (const t of dirtyTickets) {
      const hour = hourOf(t.lastAt);
      if (t.dirty === 'new') {
        insertTicket.run(t.id, t.tenant, t.ticket, t.seq, t.updatedAt, t.agreement, t.status, t.lastAt, hour);
      } else {
        if (t.dirty === 'state') updateTicket.run(t.seq, t.updatedAt, t.agreement, t.status, t.lastAt, t.id);
        else updateLastAt.run(t.lastAt, t.id);
        if (hour !== t.lastHour) updateLastHour.run(hour, t.id);
      }
      t.lastHour = hour;
      t.dirty = null;
    }
    dirtyTickets.clear();
    records.flush();
    // By audience, so that neighbours in the index are written together.
    for (const id of [...unindexed.keys()].sort((a, b) => a - b)) {
      for (const seq of unindexed.get(id) as number[]) index.add(id, seq);
    }
    unindexed.clear();
    index.flush();
    if (tickets.size > MAX_CACHED) tickets.clear();
    if (audienceIds.size > MAX_CACHED) audienceIds.clear();
    if (isLogChanged) writeLog.run(...log.head, ...log.trimmed, log.kept);
    isLogChanged = false;
  }

  function append({ atMs, key, fingerprint, events }: AppendArgs): AppendReply {
    const hashedKey = key === null ? null : keyOf(key);
    const first = hashedKey === null ? undefined : selectIdempotency.get(hashedKey);
    if (first !== undefined) return first[0] === fingerprint ? duplicatesOf(first[1]) : null;
    const rows = events.map((event) => appendEvent(event, atMs));
    if (hashedKey !== null) {
      const results = rows.map(([seq, nonce]) => `${seq}:${nonce}`).join(' ');
      insertIdempotency.run(hashedKey, fingerprint, atMs, ...scopeOf(events), results);
    }
    return rows;
  }

  function appendEvent(row: EventRow, atMs: number): readonly [...Position, duplicate: boolean] {
    const [event, tenant, rooms, payload, ticketId, updatedAt, status, agreement, isMessage, messageId, providerId] =
      row;
    const seq = log.head[0] + 1;
    const nonce = nextNonce();
    const ticket = ticketId === null ? null : ticketOf(tenant, ticketId, atMs, updatedAt !== null || isMessage);
    if (isMessage && ticket !== null) {
      const messageKey = messageId === null ? null : `${tenant}\n${messageId}`;
      if (insertMessage.run(seq, ticket.id, nonce, messageKey, providerId).changes === 0) {
        const first = messageById.get(messageKey) ?? messageByProviderId.get(ticket.id, providerId);
        return [...(first as Position), true];
      }
    }
    records.add(seq, nonce, atMs, event, tenant, rooms, ticket?.id ?? null, payload);
    // The rooms of an event differ (protocol §2), and no two rooms share an audience.
    for (const room of splitRooms(rooms)) {
      const id = audienceId(audienceOf(keying, tenant, room));
      const seqs = unindexed.get(id);
      if (seqs === undefined) unindexed.set(id, [seq]);
      else seqs.push(seq);
    }
    log.head = [seq, nonce];
    log.kept++;
    isLogChanged = true;
    if (ticket !== null) {
      ticket.lastAt = atMs;
      markDirty(ticket, 'age');
      // An older update never overwrites a newer one; of equal ones the later wins (protocol §7).
      if (updatedAt !== null && (ticket.updatedAt === null || updatedAt >= ticket.updatedAt)) {
        if (ticket.seq !== null && ticket.seq <= log.trimmed[0]) deleteRecord.run(ticket.seq);
        Object.assign(ticket, { seq, updatedAt, status, agreement });
        markDirty(ticket, 'state');
      }
    }
    return [seq, nonce, false];
  }

  /** An update or a message creates the ticket; any other event only keeps an existing ticket alive. */
  function ticketOf(tenant: string, name: string, atMs: number, mayCreate: boolean): Ticket | null {
    const cacheKey = `${tenant}\n${name}`;
    const cached = tickets.get(cacheKey);
    if (cached !== undefined) return cached;
    const row = selectTicket.get(tenant, name);
    if (row === undefined && !mayCreate) return null;
    const [id, seq, updatedAt, agreement, status, lastAt, lastHour] =
      row ?? ([nextTicketId++, null, null, null, null, atMs, 0] satisfies TicketRow);
    const dirty = row === undefined ? 'new' : null;
    const ticket: Ticket = { id, tenant, ticket: name, seq, updatedAt, status, agreement, lastAt, lastHour, dirty };
    tickets.set(cacheKey, ticket);
    return ticket;
  }

  function markDirty(ticket: Ticket, what: 'state' | 'age'): void {
    if (ticket.dirty === null || (ticket.dirty === 'age' && what === 'state')) ticket.dirty = what;
    dirtyTickets.add(ticket);
  }

  function audienceId(name: string): number {
    let id = audienceIds.get(name);
    if (id === undefined) {
      [id] = (selectAudience.get(name) ?? insertAudience.get(name)) as [number];
      audienceIds.set(name, id);
    }
    return id;
  }

  return {
    append,
    flush,
    reset,
    log: log as Readonly<LogState>,
    updateLog(change: Partial<LogState>): void {
      Object.assign(log, change);
      isLogChanged = true;
    },
    audienceId,
    forgetAudience: (name: string) => audienceIds.delete(name),
    forgetTicket: (tenant: string, ticket: string) => tickets.delete(`${tenant}\n${ticket}`),
  };
}

/** The reply to a repeated idempotency key: the results of its first use. */
function duplicatesOf(results: string): AppendReply {
  return results.split(' ').map((result) => {
    const [seq, nonce] = result.split(':') as [string, string];
    return [Number(seq), nonce, true];
  });
}

/** The tenant and the ticket that all events share, so that erasing either also erases the request's key. */
function scopeOf(events: readonly EventRow[]): [tenantKey: string | null, ticketKey: string | null] {
  const [, tenant, , , ticket] = events[0] as EventRow;
  if (events.some((row) => row[1] !== tenant)) return [null, null];
  const sameTicket = ticket !== null && events.every((row) => row[4] === ticket);
  return [keyOf(tenant), sameTicket ? keyOf(tenant, ticket) : null];
}

/** Four characters of [0-9a-z] per call, from a pool of the system's randomness. */
function createNonces(): () => string {
  const pool = new Uint32Array(1024);
  let used = pool.length;
  return () => {
    if (used === pool.length) {
      randomFillSync(pool);
      used = 0;
    }
    return ((pool[used++] as number) % 36 ** 4).toString(36).padStart(4, '0');
  };
}

/** Rows of one insert. */
const BULK_ROWS = 32;

/**
 * Inserts many rows with one statement, in half the time of one statement each. `OR IGNORE` spares SQLite the statement
 * journal that it keeps to undo a statement that fails halfway. An ignored row is an error all the same, and the
 * transaction is rolled back.
 */
function createBulkInsert(db: DatabaseSync, table: string, columns: number) {
  const row = `(${Array(columns).fill('?').join(', ')})`;
  const insertOne = db.prepare(`INSERT OR IGNORE INTO ${table} VALUES ${row}`);
  const insertMany = db.prepare(`INSERT OR IGNORE INTO ${table} VALUES ${Array(BULK_ROWS).fill(row).join(', ')}`);
  const many = BULK_ROWS * columns;
  /** Row after row. */
  let values: SQLInputValue[] = [];

  return {
    add: (...row: SQLInputValue[]) => values.push(...row),
    flush(): void {
      let at = 0;
      let inserted = 0;
      for (; at + many <= values.length; at += many) {
        inserted += Number(insertMany.run(...values.slice(at, at + many)).changes);
      }
      for (; at < values.length; at += columns) {
        inserted += Number(insertOne.run(...values.slice(at, at + columns)).changes);
      }
      const ignored = values.length / columns - inserted;
      values = [];
      if (ignored > 0) throw new Error(`${ignored} rows are already in ${table}`);
    },
    clear(): void {
      values = [];
    },
  };
}

/**
 * Appends: how an event becomes a record, with its index entries and the state of its ticket.
 *
 * Many appends share one transaction. They change the caches here at once and the tables as late as `flush`, in
 * statements of many rows. After a rollback, `reset` drops the caches and reads them again.
 */
import { hash, randomFillSync } from 'node:crypto';
import type { DatabaseSync } from 'node:sqlite';
import { audienceOf, type Keying } from '../../contract/audiences.ts';
import { createBulkInsert } from './bulk.ts';
import { createMessages, type Meaning, namesOf } from './messages.ts';
import type { AppendArgs, AppendedRow, AppendReply, EventRow } from './operations.ts';
import {
  type Columns,
  type LogState,
  prepareLogState,
  query,
  ROOM_SEPARATOR,
  STRETCH_RECORDS,
  splitRooms,
  stretchOf,
} from './schema.ts';

export type Appender = ReturnType<typeof createAppender>;

/** Entries in the caches of audience ids and of tickets; a full cache is emptied. */
const MAX_CACHED = 50_000;
const HOUR_MS = 3_600_000;

interface Ticket {
  readonly id: number;
  readonly tenant: string;
  readonly ticket: string;
  /** Where the keys of its changes begin; null: not asked for yet. */
  scope: string | null;
  seq: number | null;
  updatedAt: string | null;
  status: string | null;
  agreement: string | null;
  /** The rooms of the update that no other column tells, joined; null if there are none. */
  rooms: string | null;
  /** The entries of the table `ticket_rooms`. */
  listed: { readonly rooms: string; readonly updatedAt: string; readonly seq: number } | null;
  lastAt: number;
  /** The hour in the ticket's row, which may be older than `lastAt`. */
  lastHour: number;
  /** What the row lacks: everything, the state, only the age, or nothing. */
  dirty: 'new' | 'state' | 'age' | null;
}

type TicketRow = readonly [
  ...[id: number, seq: number | null, updatedAt: string | null, agreement: string | null, status: string | null],
  ...[lastAt: number, lastHour: number, rooms: string | null],
];

export const hourOf = (atMs: number): number => Math.floor(atMs / HOUR_MS);
/** 22 characters of base64url: 128 bits. */
export const keyOf = (...parts: string[]): string => hash('sha256', parts.join('\n'), 'base64url').slice(0, 22);

/**
 * The keys of the changes of a ticket's messages begin with this; those of a tenant with what it is if `ticket` is null. Hashes, because keys outlive what they are made of.
 */
export const changeScope = (tenant: string, ticket: string | null): string =>
  `${keyOf(tenant).slice(0, 10)}${ticket === null ? '' : keyOf(tenant, ticket).slice(0, 6)}`;

/** The rooms that are not among others, joined; null if there are none. */
function roomsBeyond(rooms: string, others: string): string | null {
  if (rooms === others) return null;
  const known = splitRooms(others);
  return (
    splitRooms(rooms)
      .filter((room) => !known.includes(room))
      .join(ROOM_SEPARATOR) || null
  );
}

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
    'SELECT id, seq, updated_at, agreement, status, last_at, last_hour, rooms FROM tickets WHERE tenant = ? AND ticket = ?',
  );
  const maxTicketId = select<[number | null]>('SELECT max(id) FROM tickets');
  const insertTicket = sql('INSERT INTO tickets VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)');
  const updateTicket = sql(
    'UPDATE tickets SET seq = ?, updated_at = ?, agreement = ?, status = ?, last_at = ?, rooms = ? WHERE id = ?',
  );
  const updateLastAt = sql('UPDATE tickets SET last_at = ? WHERE id = ?');
  // A statement of its own, because naming a column writes its index even if the value stays the same.
  const updateLastHour = sql('UPDATE tickets SET last_hour = ? WHERE id = ?');
  const listTicket = sql('INSERT INTO ticket_rooms VALUES (?, ?, ?, ?, ?)');
  const unlistTicket = sql('DELETE FROM ticket_rooms WHERE tenant = ? AND room = ? AND updated_at = ? AND seq = ?');
  const insertStray = sql('INSERT INTO strays VALUES (?, ?, ?)');
  const insertChange = sql('INSERT OR IGNORE INTO message_changes VALUES (?, ?, ?, ?)');
  const selectChange = select<[seq: number, nonce: string]>('SELECT seq, nonce FROM message_changes WHERE key = ?');
  const selectRooms = select<[rooms: string]>('SELECT rooms FROM records WHERE seq = ?');
  const selectIdempotency = select<[fingerprint: string, results: string]>(
    'SELECT fingerprint, results FROM idempotency WHERE key = ?',
  );
  const insertIdempotency = sql('INSERT INTO idempotency VALUES (?, ?, ?, ?, ?, ?)');

  const insertStretches = sql(`
    INSERT OR REPLACE INTO stretches SELECT seq / ${STRETCH_RECORDS}, min(at), max(at) FROM records
    WHERE seq >= ? AND seq < ? GROUP BY 1`);

  const log = readLog();
  let isLogChanged = false;
  /** Of the next record. */
  let stretch = 0;
  let nextTicketId = 1;
  const audienceIds = new Map<string, number>();
  const tickets = new Map<string, Ticket>();
  const dirtyTickets = new Set<Ticket>();
  /** The records that are not in the index yet, by audience id. */
  const unindexed = new Map<number, number[]>();
  /** The newest record that is in the table. */
  let flushedSeq = 0;
  const nextNonce = createNonces();
  const messages = createMessages(db, roomsOfRecord, dropRecord);
  reset();

  function roomsOfRecord(seq: number): string | null {
    if (seq > flushedSeq) flushRecords();
    return selectRooms.get(seq)?.[0] ?? null;
  }

  function flushRecords(): void {
    records.flush();
    flushedSeq = log.head[0];
  }

  /** Removes a record that the state no longer shows, unless the log still holds it. */
  function dropRecord(seq: number): void {
    if (seq <= log.trimmed[0]) deleteRecord.run(seq);
  }

  /** Reads the caches again after a rollback. */
  function reset(): void {
    Object.assign(log, readLog());
    isLogChanged = false;
    stretch = stretchOf(log.head[0] + 1);
    nextTicketId = (maxTicketId.get()?.[0] ?? 0) + 1;
    audienceIds.clear();
    tickets.clear();
    dirtyTickets.clear();
    records.clear();
    flushedSeq = log.head[0];
    messages.reset();
    unindexed.clear();
    index.clear();
  }

  /** Writes what the appends have put off: before COMMIT, and before rows are removed in the same transaction. */
  function flush(): void {
    for (const t of dirtyTickets) {
      const hour = hourOf(t.lastAt);
      if (t.dirty === 'new') {
        insertTicket.run(t.id, t.tenant, t.ticket, t.seq, t.updatedAt, t.agreement, t.status, t.lastAt, hour, t.rooms);
      } else {
        if (t.dirty === 'state') updateTicket.run(t.seq, t.updatedAt, t.agreement, t.status, t.lastAt, t.rooms, t.id);
        else updateLastAt.run(t.lastAt, t.id);
        if (hour !== t.lastHour) updateLastHour.run(hour, t.id);
      }
      if (t.dirty !== 'age') list(t);
      t.lastHour = hour;
      t.dirty = null;
    }
    dirtyTickets.clear();
    messages.flush();
    flushRecords();
    const next = stretchOf(log.head[0] + 1);
    if (next > stretch) insertStretches.run(stretch * STRETCH_RECORDS, next * STRETCH_RECORDS);
    stretch = next;
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

  /** Brings `ticket_rooms` up to date. */
  function list(t: Ticket): void {
    const { listed, tenant } = t;
    const { rooms, updatedAt, seq } = t;
    if (listed?.seq === seq) return;
    if (listed !== null) {
      for (const room of splitRooms(listed.rooms)) unlistTicket.run(tenant, room, listed.updatedAt, listed.seq);
    }
    t.listed = rooms === null || updatedAt === null || seq === null ? null : { rooms, updatedAt, seq };
    for (const room of splitRooms(t.listed?.rooms ?? '')) listTicket.run(tenant, room, updatedAt, seq, t.id);
  }

  function append({ atMs, key, fingerprint, events }: AppendArgs): AppendReply {
    const hashedKey = key === null ? null : keyOf(key);
    const first = hashedKey === null ? undefined : selectIdempotency.get(hashedKey);
    if (first !== undefined) return first[0] === fingerprint ? duplicatesOf(first[1], events) : null;
    const rows = events.map((event) => appendEvent(event, atMs));
    if (hashedKey !== null) {
      const results = rows.map(([seq, nonce]) => `${seq}:${nonce}`).join(' ');
      insertIdempotency.run(hashedKey, fingerprint, atMs, ...scopeOf(events), results);
    }
    return rows;
  }

  /** The reply to a repeated idempotency key: the results of its first use. The events are the same. */
  function duplicatesOf(results: string, events: readonly EventRow[]): AppendReply {
    return results.split(' ').map((result, index): AppendedRow => {
      const [seq, nonce] = result.split(':') as [string, string];
      const event = events[index] as EventRow;
      return [Number(seq), nonce, true, roomsOfRecord(Number(seq)) ?? decideRooms(event)];
    });
  }

  /** The rooms to which an event would go now, or the record of which it is a repeat; null: its own. */
  function decideRooms([, tenant, , , ticketId, , , , message, roomsAreNamed]: EventRow): string | null {
    const ticket = message === null || ticketId === null ? null : ticketOf(tenant, ticketId, 0, false);
    if (message === null || ticket === null) return null;
    return inheritedRooms(messages.meaningOf(ticket.id, namesOf(message)), message[0] !== 'new' && roomsAreNamed);
  }

  function inheritedRooms({ message }: Meaning, roomsAreNamed: boolean): string | null {
    return roomsAreNamed || message === null ? null : messages.firstRoomsOf(message);
  }

  function appendEvent(row: EventRow, atMs: number): AppendedRow {
    const [event, tenant, ownRooms, payload, ticketId, updatedAt, status, agreement, message, roomsAreNamed] = row;
    const seq = log.head[0] + 1;
    const nonce = nextNonce();
    const ticket = ticketId === null ? null : ticketOf(tenant, ticketId, atMs, updatedAt !== null || message !== null);
    let rooms = ownRooms;
    if (message !== null && ticket !== null) {
      if (message[0] === 'new') {
        const first = messages.create(ticket.id, message, [seq, nonce], rooms);
        if (first !== null) return [first.seq, first.nonce ?? '', true, messages.firstRoomsOf(first)];
      } else {
        const meaning = messages.meaningOf(ticket.id, namesOf(message));
        rooms = inheritedRooms(meaning, roomsAreNamed) ?? ownRooms;
        ticket.scope ??= changeScope(tenant, ticketId);
        const key = `${ticket.scope}${keyOf(event, splitRooms(rooms).sort().join(), payload)}`;
        if (insertChange.run(key, atMs, seq, nonce).changes === 0) {
          const first = selectChange.get(key) as [number, string];
          return [...first, true, roomsOfRecord(first[0]) ?? rooms];
        }
        messages.change(ticket.id, message, meaning, seq, rooms);
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
    const home = ticketId === null ? `tenant:${tenant}` : `tenant:${tenant},ticket:${ticketId}`;
    const isHome = rooms === home || rooms.startsWith(`${home},`);
    if (!isHome && roomsBeyond(home, rooms) !== null) insertStray.run(seq, tenant, ticketId);
    log.head = [seq, nonce];
    log.kept++;
    isLogChanged = true;
    if (ticket !== null) {
      ticket.lastAt = atMs;
      markDirty(ticket, 'age');
      // An older update never overwrites a newer one; of equal ones the later wins (protocol §7).
      if (updatedAt !== null && (ticket.updatedAt === null || updatedAt >= ticket.updatedAt)) {
        if (ticket.seq !== null) dropRecord(ticket.seq);
        const found = agreement === null ? home : `${home},agreement:${agreement}`;
        Object.assign(ticket, { seq, updatedAt, status, agreement, rooms: roomsBeyond(rooms, found) });
        markDirty(ticket, 'state');
      }
    }
    return [seq, nonce, false, rooms === ownRooms ? null : rooms];
  }

  /** An update or a message creates the ticket; any other event only keeps an existing ticket alive. */
  function ticketOf(tenant: string, name: string, atMs: number, mayCreate: boolean): Ticket | null {
    const cacheKey = `${tenant}\n${name}`;
    const cached = tickets.get(cacheKey);
    if (cached !== undefined) return cached;
    const row = selectTicket.get(tenant, name);
    if (row === undefined && !mayCreate) return null;
    const [id, seq, updatedAt, agreement, status, lastAt, lastHour, rooms] =
      row ?? ([nextTicketId++, null, null, null, null, atMs, 0, null] satisfies TicketRow);
    const ticket: Ticket = {
      ...{ id, tenant, ticket: name, seq, updatedAt, status, agreement, rooms, lastAt, lastHour },
      scope: null,
      listed: rooms === null || updatedAt === null || seq === null ? null : { rooms, updatedAt, seq },
      dirty: row === undefined ? 'new' : null,
    };
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

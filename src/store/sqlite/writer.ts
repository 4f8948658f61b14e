/**
 * What changes the log, as operations that a thread runs several of in one transaction (sqlite-worker.ts).
 *
 * An operation either throws, and then the whole transaction is rolled back, or has changed everything that it says.
 * What is remembered between operations (the head, ids of audiences, the tickets under way) is forgotten by `reset`
 * after a rollback and read again.
 */
import { hash, randomBytes, randomFillSync } from 'node:crypto';
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { audienceOf, type Keying } from '../../contract/audiences.ts';
import type { Retention } from '../store.ts';
import { createBulk } from './bulk.ts';
import { ROOM_SEPARATOR } from './schema.ts';

/** An event as it crosses to the thread: an array, since many small objects are slow to send. */
export type EventRow = readonly [
  event: string,
  tenant: string,
  /** Joined with ROOM_SEPARATOR. */
  rooms: string,
  payload: string,
  /** The ticket whose state this event changes, else null. */
  ticket: string | null,
  /** Of a `tickets.updated`, else null. */
  updatedAt: string | null,
  status: string | null,
  agreement: string | null,
  isMessage: boolean,
  messageId: string | null,
  providerMessageId: string | null,
];

export interface EraseTarget {
  readonly tenantId: string;
  readonly ticketId: string | null;
}

export type WriteOp =
  | {
      readonly kind: 'append';
      readonly atMs: number;
      readonly key: string | null;
      readonly fingerprint: string;
      readonly events: readonly EventRow[];
    }
  | {
      readonly kind: 'saveSession';
      readonly session: readonly [pid: string, owner: string, data: string, expiresAtMs: number];
    }
  | { readonly kind: 'claimSession'; readonly pid: string; readonly owner: string; readonly nowMs: number }
  | {
      readonly kind: 'touchSessions';
      readonly sessions: readonly (readonly [pid: string, owner: string, expiresAtMs: number])[];
    }
  | { readonly kind: 'dropSession'; readonly pid: string; readonly owner: string }
  | { readonly kind: 'secret'; readonly name: string }
  | { readonly kind: 'trim'; readonly retention: Retention }
  | { readonly kind: 'erase'; readonly target: EraseTarget; readonly after: number }
  /** Not in a transaction, so always alone: the thread runs it (see `rewrite` in sqlite-worker.ts). */
  | { readonly kind: 'rewrite' }
  /** Whether the disk takes a write. */
  | { readonly kind: 'probe' };

/** Per event: its place, and whether it repeats an earlier one. Null: the idempotency key was used with another body. */
export type AppendReply = readonly (readonly [seq: number, nonce: string, duplicate: boolean])[] | null;
export type ClaimReply = readonly [data: string, expiresAtMs: number] | null;
export interface TrimReply {
  /** Up to where the log is trimmed when this slice moved that, else null. */
  readonly trimmed: readonly [seq: number, nonce: string] | null;
  readonly more: boolean;
}
export interface EraseReply {
  readonly erased: number;
  /** Where the next slice begins; null when this was the last. */
  readonly next: number | null;
  readonly head: readonly [seq: number, nonce: string];
}

export interface Writer {
  run(op: WriteOp): unknown;
  /** Writes what the operations so far have put off; before COMMIT. */
  flush(): void;
  /** After a rollback. */
  reset(): void;
}

/** Rows that one slice of `trim` or `erase` takes, so that appends get their turn in between. */
const SLICE = 2_000;
/** Of tickets, each of which may hold many messages. */
const TICKET_SLICE = 200;
/** Entries in the caches of audience ids and of tickets; a full one is emptied. */
const CACHED = 50_000;
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
  /** As the row has it: the hour of a `last_at` that may be older. */
  lastHour: number;
  /** What the row lacks: all of it, its state, only its age, nothing. */
  dirty: 'new' | 'state' | 'age' | null;
}

const EMPTY_TICKET = { seq: null, updatedAt: null, status: null, agreement: null } as const;

const hourOf = (atMs: number): number => Math.floor(atMs / HOUR_MS);
/** 22 characters of base64url: 128 bits. */
const keyOf = (...parts: string[]): string => hash('sha256', parts.join('\n'), 'base64url').slice(0, 22);
const roomsOf = (joined: string): string[] => (joined === '' ? [] : joined.split(ROOM_SEPARATOR));

export function createWriter(db: DatabaseSync, keying: Keying): Writer {
  const sql = (text: string): StatementSync => db.prepare(text);
  const readLog = sql('SELECT head_seq, head_nonce, trimmed_seq, trimmed_nonce, kept FROM log');
  const writeLog = sql('UPDATE log SET head_seq = ?, head_nonce = ?, trimmed_seq = ?, trimmed_nonce = ?, kept = ?');
  const records = createBulk(db, 'records', 8);
  const index = createBulk(db, 'audience_records', 2);
  const deleteRecord = sql('DELETE FROM records WHERE seq = ?');
  const selectAudience = sql('SELECT id FROM audiences WHERE name = ?');
  const insertAudience = sql('INSERT INTO audiences (name) VALUES (?) RETURNING id');
  const selectTicket = sql(
    `SELECT id, seq, updated_at AS updatedAt, agreement, status, last_at AS lastAt, last_hour AS lastHour FROM tickets
     WHERE tenant = ? AND ticket = ?`,
  );
  const maxTicket = sql('SELECT max(id) AS id FROM tickets');
  const insertTicket = sql('INSERT INTO tickets VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)');
  const updateTicket = sql(
    'UPDATE tickets SET seq = ?, updated_at = ?, agreement = ?, status = ?, last_at = ? WHERE id = ?',
  );
  const ageTicket = sql('UPDATE tickets SET last_at = ? WHERE id = ?');
  // Apart, since a statement that names a column writes its index, also where the value stays.
  const moveTicketByAge = sql('UPDATE tickets SET last_hour = ? WHERE id = ?');
  const insertMessage = sql('INSERT OR IGNORE INTO messages VALUES (?, ?, ?, ?, ?)');
  const messageById = sql('SELECT seq, nonce FROM messages WHERE message_key = ?');
  const messageByProviderId = sql('SELECT seq, nonce FROM messages WHERE ticket_id = ? AND provider_id = ?');
  const selectIdempotency = sql('SELECT fingerprint, results FROM idempotency WHERE key = ?');
  const insertIdempotency = sql('INSERT INTO idempotency VALUES (?, ?, ?, ?, ?, ?)');

  let head = { seq: 0, nonce: '' };
  let trimmed = { seq: 0, nonce: '' };
  let kept = 0;
  let logChanged = false;
  let nextTicketId = 1;
  const audienceIds = new Map<string, number>();
  const tickets = new Map<string, Ticket>();
  const dirtyTickets = new Set<Ticket>();
  /** The places of records that are not in the index yet, by audience. */
  const unindexed = new Map<number, number[]>();
  const nonces = createNonces();
  reset();

  function reset(): void {
    const row = readLog.get() as unknown as LogRow;
    head = { seq: row.head_seq, nonce: row.head_nonce };
    trimmed = { seq: row.trimmed_seq, nonce: row.trimmed_nonce };
    kept = row.kept;
    logChanged = false;
    nextTicketId = ((maxTicket.get()?.id as number | null) ?? 0) + 1;
    audienceIds.clear();
    tickets.clear();
    dirtyTickets.clear();
    records.clear();
    unindexed.clear();
    index.clear();
  }

  function flush(): void {
    for (const t of dirtyTickets) {
      const hour = hourOf(t.lastAt);
      if (t.dirty === 'new') {
        insertTicket.run(t.id, t.tenant, t.ticket, t.seq, t.updatedAt, t.agreement, t.status, t.lastAt, hour);
      } else {
        if (t.dirty === 'state') updateTicket.run(t.seq, t.updatedAt, t.agreement, t.status, t.lastAt, t.id);
        else ageTicket.run(t.lastAt, t.id);
        if (hour !== t.lastHour) moveTicketByAge.run(hour, t.id);
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
    if (tickets.size > CACHED) tickets.clear();
    if (audienceIds.size > CACHED) audienceIds.clear();
    if (logChanged) writeLog.run(head.seq, head.nonce, trimmed.seq, trimmed.nonce, kept);
    logChanged = false;
  }

  function append(op: Extract<WriteOp, { kind: 'append' }>): AppendReply {
    const key = op.key === null ? null : keyOf(op.key);
    if (key !== null) {
      const known = selectIdempotency.get(key) as { fingerprint: string; results: string } | undefined;
      if (known !== undefined) return known.fingerprint === op.fingerprint ? repeated(known.results) : null;
    }
    const replies: [number, string, boolean][] = [];
    for (const row of op.events) replies.push(appendEvent(row, op.atMs));
    if (key !== null) {
      const results = replies.map(([seq, nonce]) => `${seq}:${nonce}`).join(' ');
      insertIdempotency.run(key, op.fingerprint, op.atMs, ...scopeOf(op.events), results);
    }
    return replies;
  }

  function appendEvent(row: EventRow, atMs: number): [number, string, boolean] {
    const [event, tenant, rooms, payload, ticketId, updatedAt, status, agreement, isMessage, messageId, providerId] =
      row;
    const seq = head.seq + 1;
    const ticket = ticketId === null ? null : ticketOf(tenant, ticketId, atMs, updatedAt !== null || isMessage);
    const nonce = nonces();
    if (isMessage && ticket !== null) {
      const messageKey = messageId === null ? null : `${tenant}\n${messageId}`;
      if (insertMessage.run(seq, ticket.id, nonce, messageKey, providerId).changes === 0) {
        const first = messageById.get(messageKey) ?? messageByProviderId.get(ticket.id, providerId);
        return [first?.seq as number, first?.nonce as string, true];
      }
    }
    records.add(seq, nonce, atMs, event, tenant, rooms, ticket?.id ?? null, payload);
    // Two rooms of an event are never the same (protocol §2), and no two rooms share an audience.
    for (const room of roomsOf(rooms)) {
      const id = audienceId(audienceOf(keying, tenant, room));
      const seqs = unindexed.get(id);
      if (seqs === undefined) unindexed.set(id, [seq]);
      else seqs.push(seq);
    }
    head = { seq, nonce };
    kept++;
    logChanged = true;
    if (ticket !== null) {
      age(ticket, atMs);
      // An older update never overwrites; of equal ones the later stands (protocol §7).
      if (updatedAt !== null && (ticket.updatedAt === null || updatedAt >= ticket.updatedAt)) {
        if (ticket.seq !== null && ticket.seq <= trimmed.seq) deleteRecord.run(ticket.seq);
        Object.assign(ticket, { seq, updatedAt, status, agreement });
        mark(ticket, 'state');
      }
    }
    return [seq, nonce, false];
  }

  /** A ticket is first known by an update or a message; other events only keep alive what is known. */
  function ticketOf(tenant: string, name: string, atMs: number, mayBegin: boolean): Ticket | null {
    const cacheKey = `${tenant}\n${name}`;
    const cached = tickets.get(cacheKey);
    if (cached !== undefined) return cached;
    const row = selectTicket.get(tenant, name) as unknown as Omit<Ticket, 'tenant' | 'ticket' | 'dirty'> | undefined;
    if (row === undefined && !mayBegin) return null;
    const ticket: Ticket =
      row === undefined
        ? { ...EMPTY_TICKET, id: nextTicketId++, tenant, ticket: name, lastAt: atMs, lastHour: 0, dirty: 'new' }
        : { ...row, tenant, ticket: name, dirty: null };
    tickets.set(cacheKey, ticket);
    return ticket;
  }

  function age(ticket: Ticket, atMs: number): void {
    mark(ticket, 'age');
    ticket.lastAt = atMs;
  }

  function mark(ticket: Ticket, what: 'state' | 'age'): void {
    if (ticket.dirty === null || (ticket.dirty === 'age' && what === 'state')) ticket.dirty = what;
    dirtyTickets.add(ticket);
  }

  function audienceId(name: string): number {
    let id = audienceIds.get(name);
    if (id === undefined) {
      id = (selectAudience.get(name)?.id ?? insertAudience.get(name)?.id) as number;
      audienceIds.set(name, id);
    }
    return id;
  }

  const oldestRecords = sql('SELECT seq, nonce, at, tenant, rooms FROM records WHERE seq > ? ORDER BY seq LIMIT ?');
  const unindexThrough = sql('DELETE FROM audience_records WHERE audience_id = ? AND seq <= ?');
  const unindex = sql('DELETE FROM audience_records WHERE audience_id = ? AND seq = ?');
  const dropEmptyAudience = sql(
    'DELETE FROM audiences WHERE id = ? AND NOT EXISTS (SELECT 1 FROM audience_records WHERE audience_id = audiences.id)',
  );
  const deleteUnneeded = sql(`
    DELETE FROM records WHERE seq > ? AND seq <= ?
      AND NOT EXISTS (SELECT 1 FROM tickets t WHERE t.id = records.ticket_id AND t.seq = records.seq)
      AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.seq = records.seq)`);
  const deleteTombstones = sql('DELETE FROM tombstones WHERE seq <= ?');
  const agedTickets = sql(
    'SELECT id, tenant, ticket, seq FROM tickets WHERE last_hour <= ? AND last_at < ? ORDER BY last_hour LIMIT ?',
  );
  const messagesOf = sql('SELECT seq FROM messages WHERE ticket_id = ?');
  const deleteMessages = sql('DELETE FROM messages WHERE ticket_id = ?');
  const deleteTicket = sql('DELETE FROM tickets WHERE id = ?');
  const deleteOldKeys = sql(
    'DELETE FROM idempotency WHERE key IN (SELECT key FROM idempotency WHERE at < ? ORDER BY at LIMIT ?)',
  );
  const deleteOldSessions = sql(
    'DELETE FROM sessions WHERE pid IN (SELECT pid FROM sessions WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)',
  );

  /** One slice of each kind; `more` as long as one of them was full. */
  function trim({ trimBeforeMs, maxRecords, stateBeforeMs, dedupeBeforeMs, nowMs }: Retention): TrimReply {
    flush();
    const moved = trimLog(trimBeforeMs, Math.max(0, kept - maxRecords));
    const aged = agedTickets.all(hourOf(stateBeforeMs), stateBeforeMs, TICKET_SLICE) as unknown as TicketRow[];
    for (const ticket of aged) forgetTicket(ticket);
    const keys = Number(deleteOldKeys.run(dedupeBeforeMs, SLICE).changes);
    const sessions = Number(deleteOldSessions.run(nowMs, SLICE).changes);
    return {
      trimmed: moved > 0 ? [trimmed.seq, trimmed.nonce] : null,
      more: moved === SLICE || aged.length === TICKET_SLICE || keys === SLICE || sessions === SLICE,
    };
  }

  /** Only ever a prefix of the log goes, so that what a cursor has missed can be told from its place alone. */
  function trimLog(beforeMs: number, excess: number): number {
    const rows = oldestRecords.all(trimmed.seq, SLICE) as unknown as IndexedRow[];
    const stays = rows.findIndex((row, index) => index >= excess && row.at >= beforeMs);
    const gone = stays === -1 ? rows : rows.slice(0, stays);
    const last = gone.at(-1);
    if (last === undefined) return 0;
    const names = new Set(gone.flatMap((row) => audiencesOf(row)));
    for (const name of names) {
      const id = audienceId(name);
      unindexThrough.run(id, last.seq);
      forgetEmptyAudience(name, id);
    }
    deleteUnneeded.run(trimmed.seq, last.seq);
    deleteTombstones.run(last.seq);
    trimmed = { seq: last.seq, nonce: last.nonce };
    kept -= gone.length;
    logChanged = true;
    return gone.length;
  }

  function audiencesOf(row: { tenant: string; rooms: string }): string[] {
    return roomsOf(row.rooms).map((room) => audienceOf(keying, row.tenant, room));
  }

  function forgetEmptyAudience(name: string, id: number): void {
    if (dropEmptyAudience.run(id).changes !== 0) audienceIds.delete(name);
  }

  /** Takes the ticket and its messages out of the state, and returns the records that were there for the state alone. */
  function forgetTicket(ticket: TicketRow): number {
    let records = 0;
    const seqs = (messagesOf.all(ticket.id) as unknown as { seq: number }[]).map((row) => row.seq);
    if (ticket.seq !== null) seqs.push(ticket.seq);
    for (const seq of seqs) if (seq <= trimmed.seq) records += Number(deleteRecord.run(seq).changes);
    deleteMessages.run(ticket.id);
    deleteTicket.run(ticket.id);
    tickets.delete(`${ticket.tenant}\n${ticket.ticket}`);
    return records;
  }

  const recordsOfAudience = sql(`
    SELECT r.seq, r.nonce, r.tenant, r.rooms FROM audience_records a JOIN records r ON r.seq = a.seq
    WHERE a.audience_id = ? AND a.seq > ? ORDER BY a.seq LIMIT ?`);
  const insertTombstone = sql('INSERT INTO tombstones VALUES (?, ?)');
  const ticketsOfTenant = sql('SELECT id, tenant, ticket, seq FROM tickets WHERE tenant = ? LIMIT ?');
  const oneTicket = sql('SELECT id, tenant, ticket, seq FROM tickets WHERE tenant = ? AND ticket = ?');
  const deleteKeysOfTenant = sql('DELETE FROM idempotency WHERE tenant_key = ?');
  const deleteKeysOfTicket = sql('DELETE FROM idempotency WHERE ticket_key = ?');
  const setMeta = sql('INSERT OR REPLACE INTO meta VALUES (?, ?)');

  /** First the log, slice by slice; with the last of it the dedupe keys; then the state. */
  function erase({ tenantId, ticketId }: EraseTarget, after: number): EraseReply {
    flush();
    setMeta.run('rewrite', 'due');
    let erased = 0;
    const room = ticketId === null ? `tenant:${tenantId}` : `ticket:${ticketId}`;
    const id = selectAudience.get(audienceOf(keying, tenantId, room))?.id as number | undefined;
    const rows = id === undefined ? [] : (recordsOfAudience.all(id, after, SLICE) as unknown as IndexedRow[]);
    for (const row of rows) {
      // Keyed by room, an audience may hold records of another tenant with the same ticket id.
      if (row.tenant !== tenantId) continue;
      eraseRecord(row);
      erased++;
    }
    const last = rows.at(-1);
    if (rows.length === SLICE && last !== undefined) return { erased, next: last.seq, head: [head.seq, head.nonce] };

    const state = (ticketId === null
      ? ticketsOfTenant.all(tenantId, TICKET_SLICE)
      : oneTicket.all(tenantId, ticketId)) as unknown as TicketRow[];
    for (const ticket of state) erased += forgetTicket(ticket);
    if (ticketId === null) deleteKeysOfTenant.run(keyOf(tenantId));
    else deleteKeysOfTicket.run(keyOf(tenantId, ticketId));
    const next = ticketId === null && state.length === TICKET_SLICE ? head.seq : null;
    return { erased, next, head: [head.seq, head.nonce] };
  }

  function eraseRecord(row: IndexedRow): void {
    for (const name of audiencesOf(row)) {
      const id = audienceId(name);
      unindex.run(id, row.seq);
      forgetEmptyAudience(name, id);
    }
    deleteRecord.run(row.seq);
    insertTombstone.run(row.seq, row.nonce);
    kept--;
    logChanged = true;
  }

  const saveSession = sql(`
    INSERT INTO sessions VALUES (?, ?, ?, ?)
    ON CONFLICT (pid) DO UPDATE SET data = excluded.data, expires_at = excluded.expires_at WHERE owner = excluded.owner`);
  const claimSession = sql('UPDATE sessions SET owner = ? WHERE pid = ? AND expires_at > ? RETURNING data, expires_at');
  const touchSession = sql('UPDATE sessions SET expires_at = ? WHERE pid = ? AND owner = ?');
  const dropSession = sql('DELETE FROM sessions WHERE pid = ? AND owner = ?');
  const insertMeta = sql('INSERT OR IGNORE INTO meta VALUES (?, ?)');
  const selectMeta = sql('SELECT value FROM meta WHERE name = ?');

  function run(op: WriteOp): unknown {
    switch (op.kind) {
      case 'append':
        return append(op) satisfies AppendReply;
      case 'saveSession':
        return saveSession.run(...op.session).changes !== 0;
      case 'claimSession': {
        const row = claimSession.get(op.owner, op.pid, op.nowMs);
        return (row === undefined ? null : [row.data as string, row.expires_at as number]) satisfies ClaimReply;
      }
      case 'touchSessions':
        for (const [pid, owner, expiresAtMs] of op.sessions) touchSession.run(expiresAtMs, pid, owner);
        return null;
      case 'dropSession':
        dropSession.run(op.pid, op.owner);
        return null;
      case 'secret': {
        const name = `secret:${op.name}`;
        insertMeta.run(name, randomBytes(32).toString('base64url'));
        return selectMeta.get(name)?.value as string;
      }
      case 'trim':
        return trim(op.retention) satisfies TrimReply;
      case 'erase':
        return erase(op.target, op.after) satisfies EraseReply;
      case 'probe':
        setMeta.run('probed', String(Date.now()));
        return null;
      case 'rewrite':
        throw new Error('a rewrite is not run in a transaction');
    }
  }

  function repeated(results: string): AppendReply {
    return results.split(' ').map((result) => {
      const [seq, nonce] = result.split(':') as [string, string];
      return [Number(seq), nonce, true];
    });
  }

  return { run, flush, reset };
}

interface LogRow {
  readonly head_seq: number;
  readonly head_nonce: string;
  readonly trimmed_seq: number;
  readonly trimmed_nonce: string;
  readonly kept: number;
}

interface TicketRow {
  readonly id: number;
  readonly tenant: string;
  readonly ticket: string;
  readonly seq: number | null;
}

interface IndexedRow {
  readonly seq: number;
  readonly nonce: string;
  readonly at: number;
  readonly tenant: string;
  readonly rooms: string;
}

/** The tenant, and the ticket, that all events share, so that erasing it takes the request's key along. */
function scopeOf(events: readonly EventRow[]): [string | null, string | null] {
  const [, tenant, , , ticket] = events[0] as EventRow;
  if (events.some((row) => row[1] !== tenant)) return [null, null];
  const sameTicket = ticket !== null && events.every((row) => row[4] === ticket);
  return [keyOf(tenant), sameTicket ? keyOf(tenant, ticket) : null];
}

/** Four characters of [0-9a-z] each time, drawn from the system's randomness a page at a time. */
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

/**
 * Retention and erasure: how records and state leave the log.
 *
 * Retention trims only the oldest records, so the position of a cursor tells whether it has missed any. Erasure may
 * remove any record; a tombstone keeps its position valid. Both work in slices, so that appends run in between.
 */
import type { DatabaseSync } from 'node:sqlite';
import { audienceOf, type Keying } from '../../contract/audiences.ts';
import { type Appender, hourOf, keyOf } from './append.ts';
import type { Handlers, WriteOperations } from './operations.ts';
import { type Columns, query, splitRooms } from './schema.ts';

/** Rows per slice. */
const SLICE = 2_000;
/** Tickets per slice. A ticket may have many messages. */
const TICKET_SLICE = 200;
/** Sessions per slice. A session may have MAX_ROOMS rooms. */
const SESSION_SLICE = 200;

type IndexedRow = readonly [seq: number, nonce: string, atMs: number, tenant: string, rooms: string];
type TicketRow = readonly [id: number, tenant: string, ticket: string, seq: number | null];

export function createRemoval(
  db: DatabaseSync,
  keying: Keying,
  { log, updateLog, flush, audienceId, forgetAudience, forgetTicket }: Appender,
): Pick<Handlers<WriteOperations>, 'trim' | 'erase'> {
  const sql = (text: string) => db.prepare(text);
  const select = <Row extends Columns>(text: string) => query<Row>(db, text);
  const oldestRecords = select<IndexedRow>(
    'SELECT seq, nonce, at, tenant, rooms FROM records WHERE seq > ? ORDER BY seq LIMIT ?',
  );
  const recordsOfAudience = select<IndexedRow>(`
    SELECT r.seq, r.nonce, r.at, r.tenant, r.rooms FROM audience_records a JOIN records r ON r.seq = a.seq
    WHERE a.audience_id = ? AND a.seq > ? ORDER BY a.seq LIMIT ?`);
  const deleteRecord = sql('DELETE FROM records WHERE seq = ?');
  const deleteUnusedRecords = sql(`
    DELETE FROM records WHERE seq > ? AND seq <= ?
      AND NOT EXISTS (SELECT 1 FROM tickets t WHERE t.id = records.ticket_id AND t.seq = records.seq)
      AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.seq = records.seq)`);
  const insertTombstone = sql('INSERT INTO tombstones VALUES (?, ?)');
  const deleteTombstones = sql('DELETE FROM tombstones WHERE seq <= ?');

  const selectAudience = select<[id: number]>('SELECT id FROM audiences WHERE name = ?');
  const unindexThrough = sql('DELETE FROM audience_records WHERE audience_id = ? AND seq <= ?');
  const unindex = sql('DELETE FROM audience_records WHERE audience_id = ? AND seq = ?');
  const deleteEmptyAudience = sql(
    'DELETE FROM audiences WHERE id = ? AND NOT EXISTS (SELECT 1 FROM audience_records WHERE audience_id = audiences.id)',
  );

  const selectTickets = (where: string) =>
    select<TicketRow>(`SELECT id, tenant, ticket, seq FROM tickets WHERE ${where} LIMIT ?`);
  const agedTickets = selectTickets('last_hour <= ? AND last_at < ? ORDER BY last_hour');
  const ticketsOfTenant = selectTickets('tenant = ?');
  const ticketByName = selectTickets('tenant = ? AND ticket = ?');
  const messagesOfTicket = select<[seq: number]>('SELECT seq FROM messages WHERE ticket_id = ?');
  const deleteMessages = sql('DELETE FROM messages WHERE ticket_id = ?');
  const deleteTicket = sql('DELETE FROM tickets WHERE id = ?');

  const deleteOldKeys = sql(
    'DELETE FROM idempotency WHERE key IN (SELECT key FROM idempotency WHERE at < ? ORDER BY at LIMIT ?)',
  );
  const deleteKeysOfTenant = sql('DELETE FROM idempotency WHERE tenant_key = ?');
  const deleteKeysOfTicket = sql('DELETE FROM idempotency WHERE ticket_key = ?');
  const deleteExpiredSessions = sql(
    'DELETE FROM sessions WHERE pid IN (SELECT pid FROM sessions WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)',
  );
  const requireRewrite = sql("INSERT OR REPLACE INTO meta VALUES ('rewrite', 'due')");

  /** Trims at most a slice of the log. Returns the number of records trimmed. */
  function trimLog(beforeMs: number, excess: number): number {
    const rows = oldestRecords.all(log.trimmed[0], SLICE);
    const stays = rows.findIndex(([, , atMs], index) => index >= excess && atMs >= beforeMs);
    const removed = stays === -1 ? rows : rows.slice(0, stays);
    const last = removed.at(-1);
    if (last === undefined) return 0;
    const [seq, nonce] = last;
    for (const name of new Set(removed.flatMap(audiencesOf))) {
      const id = audienceId(name);
      unindexThrough.run(id, seq);
      dropIfEmpty(name, id);
    }
    deleteUnusedRecords.run(log.trimmed[0], seq);
    deleteTombstones.run(seq);
    updateLog({ trimmed: [seq, nonce], kept: log.kept - removed.length });
    return removed.length;
  }

  function eraseRecord(row: IndexedRow): void {
    const [seq, nonce] = row;
    for (const name of audiencesOf(row)) {
      const id = audienceId(name);
      unindex.run(id, seq);
      dropIfEmpty(name, id);
    }
    deleteRecord.run(seq);
    insertTombstone.run(seq, nonce);
    updateLog({ kept: log.kept - 1 });
  }

  function audiencesOf([, , , tenant, rooms]: IndexedRow): string[] {
    return splitRooms(rooms).map((room) => audienceOf(keying, tenant, room));
  }

  function dropIfEmpty(audience: string, id: number): void {
    if (deleteEmptyAudience.run(id).changes !== 0) forgetAudience(audience);
  }

  /** Removes a ticket and its messages from the state. Returns the number of records that only the state still held. */
  function removeTicket([id, tenant, ticket, updateSeq]: TicketRow): number {
    let records = 0;
    for (const seq of [...messagesOfTicket.all(id).map(([seq]) => seq), updateSeq]) {
      if (seq !== null && seq <= log.trimmed[0]) records += Number(deleteRecord.run(seq).changes);
    }
    deleteMessages.run(id);
    deleteTicket.run(id);
    forgetTicket(tenant, ticket);
    return records;
  }

  return {
    /** Takes one slice of each kind of row. There is more to do while any slice is full. */
    trim({ retention: { trimBeforeMs, maxRecords, stateBeforeMs, dedupeBeforeMs, nowMs } }) {
      flush();
      const records = trimLog(trimBeforeMs, Math.max(0, log.kept - maxRecords));
      const aged = agedTickets.all(hourOf(stateBeforeMs), stateBeforeMs, TICKET_SLICE);
      for (const ticket of aged) removeTicket(ticket);
      const keys = deleteOldKeys.run(dedupeBeforeMs, SLICE).changes;
      const sessions = deleteExpiredSessions.run(nowMs, SESSION_SLICE).changes;
      return {
        trimmed: records > 0 ? log.trimmed : null,
        more: records === SLICE || aged.length === TICKET_SLICE || keys === SLICE || sessions === SESSION_SLICE,
      };
    },

    /** Erases the log slice by slice. The last slice also erases the state and the idempotency keys. */
    erase({ target: { tenantId, ticketId }, after }) {
      flush();
      requireRewrite.run();
      let erased = 0;
      const room = ticketId === null ? `tenant:${tenantId}` : `ticket:${ticketId}`;
      const [id] = selectAudience.get(audienceOf(keying, tenantId, room)) ?? [];
      const rows = id === undefined ? [] : recordsOfAudience.all(id, after, SLICE);
      for (const row of rows) {
        // Keyed by room alone, an audience may hold records of another tenant's ticket with the same id.
        if (row[3] !== tenantId) continue;
        eraseRecord(row);
        erased++;
      }
      const last = rows.at(-1);
      if (rows.length === SLICE && last !== undefined) return { erased, next: last[0], head: log.head };

      const tickets =
        ticketId === null
          ? ticketsOfTenant.all(tenantId, TICKET_SLICE)
          : ticketByName.all(tenantId, ticketId, TICKET_SLICE);
      for (const ticket of tickets) erased += removeTicket(ticket);
      if (ticketId === null) deleteKeysOfTenant.run(keyOf(tenantId));
      else deleteKeysOfTicket.run(keyOf(tenantId, ticketId));
      return { erased, next: tickets.length === TICKET_SLICE ? log.head[0] : null, head: log.head };
    },
  };
}

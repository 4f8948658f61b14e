/**
 * Retention and erasure: how records and state leave the log.
 *
 * Retention trims only the oldest records, so the position of a cursor tells whether it has missed any. Erasure may
 * remove any record; a tombstone keeps its position valid. Both work in slices, so that appends run in between. A slice
 * of an erasure that finds nothing writes nothing.
 */
import type { DatabaseSync } from 'node:sqlite';
import { audienceOf, audiencesOf, type Keying } from '../../contract/audiences.ts';
import type { Handlers, WriteOperations } from './operations.ts';
import { hourOf, type Projection } from './projection.ts';
import type { RevocationWriter } from './revocations.ts';
import { type Columns, query, splitRooms, stretchOf } from './schema.ts';
import { changeScope, keyOf } from './state.ts';

/** Rows per slice and kind, and bytes of payloads, since what is deleted is overwritten: some milliseconds. */
const SLICE = 128;
const SLICE_BYTES = 256 * 1024;
/** Sessions per slice. A session may have MAX_ROOMS rooms, which go with it. */
const SESSION_SLICE = 16;

type IndexedRow = readonly [seq: number, nonce: string, atMs: number, tenant: string, rooms: string, bytes: number];
type TicketRow = readonly [
  ...[id: number, tenant: string, ticket: string, seq: number | null],
  ...[updatedAt: string | null, rooms: string | null],
];

export function createRemoval(
  db: DatabaseSync,
  keying: Keying,
  { log, updateLog, audienceId, forgetAudience, forgetTicket, earliestMs }: Projection,
  revocations: Pick<RevocationWriter, 'trim' | 'eraseIds'>,
  project: () => void,
  onRemoval: () => void,
): Pick<Handlers<WriteOperations>, 'trim' | 'erase'> {
  const sql = (text: string) => db.prepare(text);
  const select = <Row extends Columns>(text: string) => query<Row>(db, text);
  const oldestRecords = select<IndexedRow>(
    'SELECT seq, nonce, at, tenant, rooms, octet_length(payload) FROM records WHERE seq > ? ORDER BY seq LIMIT ?',
  );
  const recordsOfAudience = select<IndexedRow>(`
    SELECT r.seq, r.nonce, r.at, r.tenant, r.rooms, octet_length(r.payload) FROM audience_records a JOIN records r ON r.seq = a.seq
    WHERE a.audience_id = ? AND a.seq > ? ORDER BY a.seq LIMIT ?`);
  const selectStrays = (where: string) =>
    select<IndexedRow>(`
      SELECT r.seq, r.nonce, r.at, r.tenant, r.rooms, octet_length(r.payload) FROM strays s JOIN records r ON r.seq = s.seq
      WHERE s.tenant = ? ${where} LIMIT ?`);
  const straysOfTenant = selectStrays('');
  const straysOfTicket = selectStrays('AND s.ticket = ?');
  const deleteStrays = sql('DELETE FROM strays WHERE seq > ? AND seq <= ?');
  const deleteStretches = sql('DELETE FROM stretches WHERE number < ?');
  const deleteRecord = sql('DELETE FROM records WHERE seq = ?');
  const deleteUnusedRecords = sql(`
    DELETE FROM records WHERE seq > ? AND seq <= ?
      AND NOT EXISTS (SELECT 1 FROM tickets t WHERE t.id = records.ticket_id AND t.seq = records.seq)
      AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.ticket_id = records.ticket_id AND m.seq = records.seq AND m.shown = m.seq)
      AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.shown = records.seq AND m.shown <> m.seq)`);
  const forgetRooms = sql(
    'UPDATE messages SET rooms = NULL WHERE (ticket_id, seq) = (SELECT ticket_id, seq FROM records WHERE seq = ?)',
  );
  const insertTombstone = sql('INSERT INTO tombstones VALUES (?, ?)');
  const deleteTombstones = sql(
    'DELETE FROM tombstones WHERE seq IN (SELECT seq FROM tombstones WHERE seq <= ? ORDER BY seq LIMIT ?)',
  );

  const selectAudience = select<[id: number]>('SELECT id FROM audiences WHERE name = ?');
  const unindexThrough = sql('DELETE FROM audience_records WHERE audience_id = ? AND seq <= ?');
  const unindex = sql('DELETE FROM audience_records WHERE audience_id = ? AND seq = ?');
  const deleteEmptyAudience = sql(
    'DELETE FROM audiences WHERE id = ? AND NOT EXISTS (SELECT 1 FROM audience_records WHERE audience_id = audiences.id)',
  );

  const selectTickets = (where: string) =>
    select<TicketRow>(`SELECT id, tenant, ticket, seq, updated_at, rooms FROM tickets WHERE ${where} LIMIT ?`);
  const agedTickets = selectTickets('last_hour <= ? AND last_at < ? ORDER BY last_hour');
  const ticketsOfTenant = selectTickets('tenant = ?');
  const ticketByName = selectTickets('tenant = ? AND ticket = ?');
  const deleteNames = sql(`
    DELETE FROM message_names WHERE ticket_id = ?1
      AND name IN (SELECT name FROM message_names WHERE ticket_id = ?1 ORDER BY name LIMIT ?2)`);
  const messagesOfTicket = select<[seq: number, shown: number | null]>(
    'SELECT seq, shown FROM messages WHERE ticket_id = ? ORDER BY seq LIMIT ?',
  );
  const deleteMessage = sql('DELETE FROM messages WHERE ticket_id = ? AND seq = ?');
  const unlistTicket = sql('DELETE FROM ticket_rooms WHERE tenant = ? AND room = ? AND updated_at = ? AND seq = ?');
  const deleteTicket = sql('DELETE FROM tickets WHERE id = ?');

  const deleteOldKeys = sql(
    'DELETE FROM idempotency WHERE key IN (SELECT key FROM idempotency WHERE at < ? ORDER BY at LIMIT ?)',
  );
  const deleteKeys = (where: string) =>
    sql(`DELETE FROM idempotency WHERE key IN (SELECT key FROM idempotency WHERE ${where} LIMIT ?)`);
  const deleteKeysOfTenant = deleteKeys('tenant_key = ?');
  const deleteKeysOfTicket = deleteKeys('tenant_key = ? AND ticket_key = ?');
  const deleteOldChanges = sql(
    'DELETE FROM message_changes WHERE key IN (SELECT key FROM message_changes WHERE at < ? ORDER BY at LIMIT ?)',
  );
  const deleteChanges = sql(`
    DELETE FROM message_changes WHERE key IN
      (SELECT key FROM message_changes WHERE key >= ?1 AND key < ?1 || '~' ORDER BY key LIMIT ?2)`);
  const deleteExpiredSessions = sql(
    'DELETE FROM sessions WHERE pid IN (SELECT pid FROM sessions WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)',
  );

  /** Trims at most a slice of the log. */
  function trimLog(beforeMs: number, excess: number): { readonly records: number; readonly more: boolean } {
    const { rows, more } = sliceOf(oldestRecords.iterate(log.trimmed[0], SLICE));
    const stays = rows.findIndex(([, , atMs], index) => index >= excess && atMs >= beforeMs);
    const removed = stays === -1 ? rows : rows.slice(0, stays);
    const last = removed.at(-1);
    if (last === undefined) return { records: 0, more: false };
    project();
    const [seq, nonce] = last;
    for (const name of new Set(removed.flatMap(audiencesOfRow))) {
      const id = audienceId(name);
      unindexThrough.run(id, seq);
      dropIfEmpty(name, id);
    }
    deleteStrays.run(log.trimmed[0], seq);
    deleteStretches.run(stretchOf(seq + 1));
    deleteUnusedRecords.run(log.trimmed[0], seq);
    updateLog({ trimmed: [seq, nonce], kept: log.kept - removed.length });
    return { records: removed.length, more: more && stays === -1 };
  }

  /** At least one row, if there is one. */
  function sliceOf(found: Iterable<IndexedRow>): { readonly rows: readonly IndexedRow[]; readonly more: boolean } {
    const rows: IndexedRow[] = [];
    let bytes = 0;
    for (const row of found) {
      bytes += row[5];
      if (rows.push(row) === SLICE || bytes > SLICE_BYTES) return { rows, more: true };
    }
    return { rows, more: false };
  }

  function eraseRecord(row: IndexedRow): void {
    const [seq, nonce] = row;
    for (const name of audiencesOfRow(row)) {
      const id = audienceId(name);
      unindex.run(id, seq);
      dropIfEmpty(name, id);
    }
    deleteStrays.run(seq - 1, seq);
    // Those of a message of another ticket, which may name the room of the erased one.
    forgetRooms.run(seq);
    deleteRecord.run(seq);
    insertTombstone.run(seq, nonce);
    updateLog({ kept: log.kept - 1 });
  }

  function audiencesOfRow([, , , tenant, rooms]: IndexedRow): readonly string[] {
    return audiencesOf(keying, tenant, splitRooms(rooms));
  }

  function dropIfEmpty(audience: string, id: number): void {
    if (deleteEmptyAudience.run(id).changes !== 0) forgetAudience(audience);
  }

  interface Removed {
    /** Rows of the state. */
    readonly rows: number;
    /** Records that only the state still held. */
    readonly records: number;
  }

  /** Removes tickets with their messages from the state, about `budget` rows. There are more if it returns that many. */
  function removeTickets(tickets: readonly TicketRow[], budget: number): Removed {
    let rows = 0;
    let records = 0;
    const removeRecord = (seq: number): void => {
      if (seq <= log.trimmed[0]) records += Number(deleteRecord.run(seq).changes);
    };
    for (const [id, tenant, ticket, updateSeq, updatedAt, joinedRooms] of tickets) {
      // Before the messages, so that no name is left that leads nowhere, whatever is appended between slices.
      rows += Number(deleteNames.run(id, budget - rows).changes);
      if (rows >= budget) break;
      const messages = messagesOfTicket.all(id, budget - rows);
      for (const [seq, shown] of messages) {
        if (shown !== null) removeRecord(shown);
        deleteMessage.run(id, seq);
      }
      rows += messages.length;
      if (rows >= budget) break;
      for (const room of splitRooms(joinedRooms ?? '')) unlistTicket.run(tenant, room, updatedAt, updateSeq);
      if (updateSeq !== null) removeRecord(updateSeq);
      deleteTicket.run(id);
      forgetTicket(tenant, ticket);
      rows++;
      if (rows >= budget) break;
    }
    return { rows, records };
  }

  function removeAgedTickets(beforeMs: number): number {
    const select = () => agedTickets.all(hourOf(beforeMs), beforeMs, SLICE);
    if (select().length === 0) return 0;
    // Newer events may keep some of them alive.
    project();
    return removeTickets(select(), SLICE).rows;
  }

  return {
    /** Takes one slice of each kind of row. There is more to do while any slice is full. */
    trim({ retention: { trimBeforeMs, maxRecords, stateBeforeMs, dedupeBeforeMs, revokedBeforeMs, nowMs } }) {
      // A trim that removes nothing writes nothing: at a low rate, appends would wait for it.
      if (earliestMs() < Math.max(stateBeforeMs, dedupeBeforeMs)) project();
      const { records, more } = trimLog(trimBeforeMs, Math.max(0, log.kept - maxRecords));
      const removed = [
        deleteTombstones.run(log.trimmed[0], SLICE).changes,
        removeAgedTickets(stateBeforeMs),
        deleteOldKeys.run(dedupeBeforeMs, SLICE).changes,
        deleteOldChanges.run(dedupeBeforeMs, SLICE).changes,
        revocations.trim(revokedBeforeMs, SLICE),
      ];
      const sessions = deleteExpiredSessions.run(nowMs, SESSION_SLICE).changes;
      return {
        trimmed: records > 0 ? log.trimmed : null,
        more: more || removed.some((rows) => Number(rows) >= SLICE) || sessions === SESSION_SLICE,
      };
    },

    /** Erases the log slice by slice, the strays first, then the state, the keys of repeats, and the ids in revocations. */
    erase({ target: { tenantId, ticketId }, after }) {
      project();
      const room = ticketId === null ? `tenant:${tenantId}` : `ticket:${ticketId}`;
      const [id] = selectAudience.get(audienceOf(keying, tenantId, room)) ?? [];
      const strays = sliceOf(
        ticketId === null ? straysOfTenant.iterate(tenantId, SLICE) : straysOfTicket.iterate(tenantId, ticketId, SLICE),
      );
      if (strays.rows.length > 0) {
        for (const row of strays.rows) eraseRecord(row);
        onRemoval();
        return { erased: strays.rows.length, removed: strays.rows.length, next: after, head: log.head };
      }
      const { rows, more } = sliceOf(id === undefined ? [] : recordsOfAudience.iterate(id, after, SLICE));
      // Keyed by room alone, an audience may hold records of another tenant's ticket with the same id.
      const own = rows.filter(([, , , tenant]) => tenant === tenantId);
      for (const row of own) eraseRecord(row);
      let erased = own.length;
      let removed = own.length;
      let next = rows.at(-1)?.[0] ?? after;
      let isDone = !more;
      if (isDone) {
        next = Math.max(next, log.head[0]);
        const tickets =
          ticketId === null ? ticketsOfTenant.all(tenantId, SLICE) : ticketByName.all(tenantId, ticketId, SLICE);
        const state = removeTickets(tickets, SLICE);
        const tenantKey = keyOf(tenantId);
        const keys =
          ticketId === null
            ? deleteKeysOfTenant.run(tenantKey, SLICE).changes
            : deleteKeysOfTicket.run(tenantKey, keyOf(tenantId, ticketId), SLICE).changes;
        const changes = deleteChanges.run(changeScope(tenantId, ticketId), SLICE).changes;
        const revoked = ticketId === null ? revocations.eraseIds(tenantId, SLICE) : 0;
        const rows = [state.rows, Number(keys), Number(changes), revoked];
        erased += state.records;
        removed += rows.reduce((sum, count) => sum + count, 0);
        isDone = rows.every((count) => count < SLICE);
      }
      if (removed > 0) onRemoval();
      return { erased, removed, next: isDone ? null : next, head: log.head };
    },
  };
}

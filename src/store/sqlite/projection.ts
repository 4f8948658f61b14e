/**
 * The log is the truth; index and state are projections of it (design law 11).
 *
 * A commit writes `records` alone. What follows from a record is entered here in memory: the entries of its audiences, its
 * ticket, its message, the key by which a repeat is found. `write` puts all of it into the tables, with the head row, in one
 * transaction, at most every few seconds. After a crash or a rollback, `reset` reads the records past the head row again.
 */
import type { DatabaseSync } from 'node:sqlite';
import { audienceOf, type Keying } from '../../contract/audiences.ts';
import { createBulkInsert } from './bulk.ts';
import { instantColumn } from './messages.ts';
import { type LogState, prepareLogState, query, STRETCH_RECORDS, splitRooms, stretchOf } from './schema.ts';
import {
  createState,
  type EnteredRecord,
  homeOf,
  LOGGED_ROW,
  type LoggedRow,
  roomsBeyond,
  type Ticket,
} from './state.ts';

export type Projection = ReturnType<typeof createProjection>;

/** Entries in the cache of audience ids; a full one is emptied. */
const MAX_CACHED = 50_000;
const HOUR_MS = 3_600_000;
export const hourOf = (atMs: number): number => Math.floor(atMs / HOUR_MS);

/**
 * @param declared the events that were declared when the log accepted the records that are not in the tables yet
 * @param roomsOfRecord the joined rooms of a record; null if it is gone
 */
export function createProjection(
  db: DatabaseSync,
  keying: Keying,
  declared: () => readonly string[],
  roomsOfRecord: (seq: number) => string | null,
) {
  const sql = (text: string) => db.prepare(text);
  const readLog = prepareLogState(db);
  const recordsAfter = query<LoggedRow>(db, `SELECT ${LOGGED_ROW} FROM records WHERE seq > ? ORDER BY seq`);
  const deleteRecord = sql('DELETE FROM records WHERE seq = ?');
  const writeLog = sql('UPDATE log SET head_seq = ?, head_nonce = ?, trimmed_seq = ?, trimmed_nonce = ?, kept = ?');
  const index = createBulkInsert(db, 'audience_records', 2);
  const selectAudience = query<[id: number]>(db, 'SELECT id FROM audiences WHERE name = ?');
  const insertAudience = query<[id: number]>(db, 'INSERT INTO audiences (name) VALUES (?) RETURNING id');
  const insertTicket = sql('INSERT INTO tickets VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)');
  const updateTicket = sql(
    'UPDATE tickets SET seq = ?, updated_at = ?, agreement = ?, status = ?, last_at = ?, rooms = ? WHERE id = ?',
  );
  const updateLastAt = sql('UPDATE tickets SET last_at = ? WHERE id = ?');
  // A statement of its own, because naming a column writes its index even if the value stays the same.
  const updateLastHour = sql('UPDATE tickets SET last_hour = ? WHERE id = ?');
  const listTicket = sql('INSERT INTO ticket_rooms VALUES (?, ?, ?, ?, ?)');
  const unlistTicket = sql('DELETE FROM ticket_rooms WHERE tenant = ? AND room = ? AND updated_at = ? AND seq = ?');
  const messages = createBulkInsert(db, 'messages', 8);
  const updateMessage = sql(
    'UPDATE messages SET shown = ?, instant = ?, rank = ?, rooms = ?, same_as = ? WHERE ticket_id = ? AND seq = ?',
  );
  const insertName = sql('INSERT OR REPLACE INTO message_names VALUES (?, ?, ?)');
  const insertChange = sql('INSERT INTO message_changes VALUES (?, ?, ?, ?)');
  const insertStray = sql('INSERT INTO strays VALUES (?, ?, ?)');
  const insertStretches = sql(`
    INSERT OR REPLACE INTO stretches SELECT seq / ${STRETCH_RECORDS}, min(at), max(at) FROM records
    WHERE seq >= ? AND seq < ? GROUP BY 1`);

  const state = createState(db, roomsOfRecord);
  const log = readLog();
  /** The head row of the file. */
  let projectedSeq = 0;
  let isLogChanged = false;
  const audienceIds = new Map<string, number>();
  /** The records that are not in the index yet, by audience. */
  const unindexed = new Map<string, number[]>();
  const strays: (readonly [seq: number, tenant: string, ticketId: string | null])[] = [];
  reset();

  /** Reads the log again: what the tables have, and the records that they lack. */
  function reset(): void {
    Object.assign(log, readLog());
    projectedSeq = log.head[0];
    isLogChanged = false;
    audienceIds.clear();
    unindexed.clear();
    index.clear();
    messages.clear();
    strays.length = 0;
    state.reset();
    for (const row of recordsAfter.iterate(projectedSeq)) enterIndex(state.enterLogged(row, declared()));
  }

  /** What follows from a record that the log accepts now, but its ticket and message, which `state` has. */
  function enterIndex({
    position,
    tenant,
    rooms,
    ticketId,
  }: Pick<EnteredRecord, 'position' | 'tenant' | 'rooms' | 'ticketId'>): void {
    const [seq] = position;
    // The rooms of an event differ (protocol §2), and no two rooms share an audience.
    for (const room of splitRooms(rooms)) {
      const audience = audienceOf(keying, tenant, room);
      const seqs = unindexed.get(audience);
      if (seqs === undefined) unindexed.set(audience, [seq]);
      else seqs.push(seq);
    }
    const home = homeOf(tenant, ticketId);
    const isHome = rooms === home || rooms.startsWith(`${home},`);
    if (!isHome && roomsBeyond(home, rooms) !== null) strays.push([seq, tenant, ticketId]);
    log.head = position;
    log.kept++;
  }

  /** Writes what the tables lack. Call it in a transaction, after the records; `reset` if that is rolled back. */
  function write(): void {
    if (log.head[0] > projectedSeq) {
      for (const ticket of state.changedTickets) writeTicket(ticket);
      writeMessages();
      for (const [key, { atMs, seq, nonce }] of state.changes) insertChange.run(key, atMs, seq, nonce);
      for (const stray of strays) insertStray.run(...stray);
      writeIndex();
      const [from, to] = [stretchOf(projectedSeq + 1), stretchOf(log.head[0] + 1)];
      if (to > from) insertStretches.run(from * STRETCH_RECORDS, to * STRETCH_RECORDS);
      strays.length = 0;
      state.projected();
      projectedSeq = log.head[0];
      isLogChanged = true;
    }
    if (isLogChanged) writeLog.run(...log.head, ...log.trimmed, log.kept);
    isLogChanged = false;
  }

  function writeTicket(ticket: Ticket): void {
    const { id, tenant, now, projected } = ticket;
    const hour = hourOf(now.lastAt);
    const { seq, updatedAt, agreement, status, lastAt, rooms } = now;
    if (projected === null) {
      insertTicket.run(id, tenant, ticket.ticket, seq, updatedAt, agreement, status, lastAt, hour, rooms);
    } else {
      if (seq === projected.seq) updateLastAt.run(lastAt, id);
      else updateTicket.run(seq, updatedAt, agreement, status, lastAt, rooms, id);
      if (hour !== projected.lastHour) updateLastHour.run(hour, id);
    }
    if (seq !== (projected?.seq ?? null)) {
      for (const room of splitRooms(projected?.rooms ?? '')) {
        unlistTicket.run(tenant, room, projected?.updatedAt ?? null, projected?.seq ?? null);
      }
      for (const room of splitRooms(rooms ?? '')) listTicket.run(tenant, room, updatedAt, seq, id);
      dropRecord(projected?.seq ?? null);
    }
    ticket.projected = { ...now, lastHour: hour };
  }

  function writeMessages(): void {
    const shown = new Set<number | null>();
    for (const message of state.messages.changed) shown.add(message.shown);
    for (const message of state.messages.changed) {
      const { ticketId, seq, nonce, rank, sameAs, projected } = message;
      const rooms = message.shown === seq ? null : message.rooms;
      const instant = instantColumn(message);
      if (projected === undefined) messages.add(ticketId, seq, nonce, message.shown, instant, rank, rooms, sameAs);
      else {
        updateMessage.run(message.shown, instant, rank, rooms, sameAs, ticketId, seq);
        if (!shown.has(projected)) dropRecord(projected);
      }
    }
    messages.flush();
    for (const { ticketId, name, seq } of state.messages.names.values()) insertName.run(ticketId, name, seq);
  }

  /** By audience, so that neighbours in the index are written together. */
  function writeIndex(): void {
    const byId = [...unindexed].map(([audience, seqs]) => [audienceId(audience), seqs] as const);
    byId.sort(([a], [b]) => a - b);
    for (const [id, seqs] of byId) for (const seq of seqs) index.add(id, seq);
    unindexed.clear();
    index.flush();
    if (audienceIds.size > MAX_CACHED) audienceIds.clear();
  }

  /** Removes a record that the state no longer shows, unless the log still holds it. */
  function dropRecord(seq: number | null): void {
    if (seq !== null && seq <= log.trimmed[0]) deleteRecord.run(seq);
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
    state,
    enterIndex,
    write,
    reset,
    /** Records that the tables lack. */
    get behind() {
      return log.head[0] - projectedSeq;
    },
    /** `updateLog` was called since the last `write`. */
    get isRowChanged() {
      return isLogChanged;
    },
    log: log as Readonly<LogState>,
    /** For changes of the tables beside the projection, after a `write`; the next `write` writes the head row. */
    updateLog(change: Partial<LogState>): void {
      Object.assign(log, change);
      isLogChanged = true;
    },
    audienceId,
    forgetAudience: (name: string) => audienceIds.delete(name),
    forgetTicket: state.forgetTicket,
  };
}

/**
 * The log is the truth; index and state are projections of it (design law 11).
 *
 * A commit writes `records` alone. What follows from a record is entered here in memory: the entries of its audiences, its
 * ticket, its message, the key by which a repeat is found. `write` puts all of it into the tables, with the head row, in one
 * transaction, behind many commits. After a crash or a rollback, `reset` reads the records past the head row again.
 */
import type { DatabaseSync } from 'node:sqlite';
import { audiencesOf, type Keying } from '../../contract/audiences.ts';
import { createBulkInsert } from './bulk.ts';
import { instantColumn } from './messages.ts';
import { type LogState, prepareLogState, query, splitRooms, stretchOf } from './schema.ts';
import {
  createState,
  type EnteredRecord,
  homeOf,
  LOGGED_ROW,
  type LoggedRow,
  MAX_CACHED,
  roomsBeyond,
  type Ticket,
} from './state.ts';
import { createNewStretches } from './stretches.ts';

export type Projection = ReturnType<typeof createProjection>;

/** Records, and the length of their payloads. */
export interface Behind {
  readonly records: number;
  readonly chars: number;
}

/** Records of one ticket, or a single one, with the same rooms. */
interface Route {
  readonly tenant: string;
  /** Joined. */
  readonly rooms: string;
  readonly ticketId: string | null;
  readonly seqs: number[];
}

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
  const names = createBulkInsert(db, 'message_names', 3, 'REPLACE');
  const insertChange = sql('INSERT INTO message_changes VALUES (?, ?, ?, ?)');
  const insertStray = sql('INSERT INTO strays VALUES (?, ?, ?)');
  const insertStretch = sql('INSERT OR REPLACE INTO stretches VALUES (?, ?, ?)');

  const state = createState(db, roomsOfRecord);
  const log = readLog();
  /** The head row of the file. */
  let projectedSeq = 0;
  /** Of the records after it: the length of their payloads, and the earliest instant. */
  let waitingChars = 0;
  let earliestMs = Number.POSITIVE_INFINITY;
  let isLogChanged = false;
  const audienceIds = new Map<string, number>();
  const stretches = createNewStretches(db);
  /** The records that are not in the index yet, in the order of the log: those of one ticket that go the same way, together. */
  const routes: Route[] = [];
  const routesOfTickets = new Map<Ticket, Route>();
  reset();

  /** Reads the log again: what the tables have, and the records that they lack. */
  function reset(): void {
    Object.assign(log, readLog());
    projectedSeq = log.head[0];
    waitingChars = 0;
    earliestMs = Number.POSITIVE_INFINITY;
    isLogChanged = false;
    audienceIds.clear();
    index.clear();
    messages.clear();
    names.clear();
    forgetRoutes();
    stretches.restart(projectedSeq);
    state.reset();
    for (const row of recordsAfter.iterate(projectedSeq)) enterIndex(state.enterLogged(row, declared()));
  }

  function forgetRoutes(): void {
    routes.length = 0;
    routesOfTickets.clear();
  }

  /** Enters a record that the log accepts now, but for its ticket and message, which `state` has. */
  function enterIndex({ position, atMs, tenant, rooms, payload, ticketId, ticket }: EnteredRecord): void {
    const [seq] = position;
    waitingChars += payload.length;
    if (atMs < earliestMs) earliestMs = atMs;
    stretches.add(seq, atMs);
    log.head = position;
    log.kept++;
    const known = ticket === null ? undefined : routesOfTickets.get(ticket);
    if (known?.rooms === rooms) {
      known.seqs.push(seq);
      return;
    }
    const route: Route = { tenant, rooms, ticketId, seqs: [seq] };
    routes.push(route);
    if (ticket !== null) routesOfTickets.set(ticket, route);
  }

  /** Writes what the tables lack. Call it in a transaction, after the records; `reset` if that is rolled back. */
  function write(): void {
    if (log.head[0] > projectedSeq) {
      for (const ticket of state.changedTickets) writeTicket(ticket);
      writeMessages();
      for (const [key, { atMs, seq, nonce }] of state.changes) insertChange.run(key, atMs, seq, nonce);
      writeIndex();
      for (let stretch = stretches.first; stretch < stretchOf(log.head[0] + 1); stretch++) {
        const instants = stretches.of(stretch);
        if (instants !== null) insertStretch.run(stretch, ...instants);
      }
      projectedSeq = log.head[0];
      waitingChars = 0;
      earliestMs = Number.POSITIVE_INFINITY;
      stretches.restart(projectedSeq);
      isLogChanged = true;
    }
    // Also what repeats have loaded: the tables may be about to change in other ways.
    state.projected();
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
    // By ticket, as in the table.
    const sorted = [...state.messages.names.values()].sort((a, b) => a.ticketId - b.ticketId);
    for (const { ticketId, name, seq } of sorted) names.add(ticketId, name, seq);
    names.flush();
  }

  /** By audience, so that neighbours in the index are written together. */
  function writeIndex(): void {
    const byAudience = new Map<number, number[]>();
    for (const { tenant, rooms, ticketId, seqs } of routes) {
      const home = homeOf(tenant, ticketId);
      const isHome = rooms === home || rooms.startsWith(`${home},`);
      if (!isHome && roomsBeyond(home, rooms) !== null) for (const seq of seqs) insertStray.run(seq, tenant, ticketId);
      // The rooms of an event differ (protocol §2), and no two rooms share an audience.
      for (const audience of audiencesOf(keying, tenant, splitRooms(rooms))) {
        const id = audienceId(audience);
        const ofAudience = byAudience.get(id);
        if (ofAudience === undefined) byAudience.set(id, [...seqs]);
        else for (const seq of seqs) ofAudience.push(seq);
      }
    }
    for (const [id, seqs] of [...byAudience].sort(([a], [b]) => a - b)) {
      for (const seq of seqs.sort((a, b) => a - b)) index.add(id, seq);
    }
    index.flush();
    forgetRoutes();
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
    /** What the tables lack, or what is in memory for repeats. */
    behind: (): Behind => ({ records: Math.max(log.head[0] - projectedSeq, state.loaded()), chars: waitingChars }),
    /** When the earliest of the records that the tables lack was accepted; infinite if they have all. */
    earliestMs: () => earliestMs,
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

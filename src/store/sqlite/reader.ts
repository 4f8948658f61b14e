/**
 * Reads of the log. Each reply comes from one snapshot, so its rows, head and bounds belong together.
 *
 * A read of several audiences merges their index ranges and fetches a chunk of each at a time, so that it costs what it
 * returns and not what the log holds. A list of tickets merges index ranges of tickets in the same way. What the tables do
 * not show yet joins the merge from memory (tail.ts).
 */
import type { DatabaseSync } from 'node:sqlite';
import { createHears, type Hearing, type Keying } from '../../contract/audiences.ts';
import { GENESIS_NONCE } from '../../contract/cursor.ts';
import { formatRoom, idOf, kindOf, type Room, type RoomKind } from '../../contract/rooms.ts';
import { createContains, SCAN_ROWS, type ScanLists } from '../scan.ts';
import type { NewestQuery, StoreStats } from '../store.ts';
import { merge, type Seq, type Source, sourceOf, sourceOfSeqs } from './merge.ts';
import {
  type Bounds,
  type Handlers,
  handle,
  type Operation,
  type Position,
  type ReadOperations,
  type RecordRow,
  type ReplyTo,
  type Resolved,
} from './operations.ts';
import { createRevocationReads } from './revocations.ts';
import { type Columns, type LogState, MAX_SKIPPED, query, STRETCH_RECORDS, splitRooms, stretchOf } from './schema.ts';
import type { Ticket } from './state.ts';
import { compareUpdates, createTail } from './tail.ts';

/** Rows that one read looks at for a filter, or for a caller that may not hear all of them: a few milliseconds. */
const STEP_ROWS = 1_024;
/** Above every sequence number. */
const BEYOND = Number.MAX_SAFE_INTEGER;

type Stretch = readonly [number: number, earliestMs: number, latestMs: number];
/** `shown` is null for a message that is not listed. */
type MessageRow = readonly [seq: number, shown: number | null];
type TicketRow = readonly [seq: number, updatedAt: string, agreement: string | null, status: string];

type Args<Kind extends keyof ReadOperations> = ReadOperations[Kind]['args'];
type ReplyOf<Kind extends keyof ReadOperations> = ReplyTo<ReadOperations, Kind>;

export function createReader(
  db: DatabaseSync,
  keying: Keying,
): (operation: Operation<ReadOperations>) => ReplyTo<ReadOperations> {
  const select = <Row extends Columns>(text: string) => query<Row>(db, text);
  const tail = createTail(db, keying);
  /** As of the read that runs. */
  let log: LogState = tail.refresh();
  const firstRecord = select<[seq: number, nonce: string, at: number]>(
    'SELECT seq, nonce, at FROM records WHERE seq > ? ORDER BY seq LIMIT 1',
  );
  const lastRecord = select<[at: number]>(
    'SELECT at FROM records WHERE seq > (SELECT trimmed_seq FROM log) ORDER BY seq DESC LIMIT 1',
  );
  const fileBytes = select<[number]>('SELECT page_count * page_size FROM pragma_page_count, pragma_page_size');
  const selectNonce = select<[string]>(
    'SELECT nonce FROM records WHERE seq = ? UNION ALL SELECT nonce FROM tombstones WHERE seq = ?',
  );
  const selectRecord = select<RecordRow>(
    'SELECT seq, nonce, at, event, tenant, rooms, payload FROM records WHERE seq = ?',
  );
  const selectFacts = select<[nonce: string, atMs: number, event: string, tenant: string, rooms: string]>(
    'SELECT nonce, at, event, tenant, rooms FROM records WHERE seq = ?',
  );
  const stretchesFrom = select<Stretch>(
    'SELECT number, earliest, latest FROM stretches WHERE number >= ? ORDER BY number LIMIT ?',
  );
  const stretchesTo = select<Stretch>(
    'SELECT number, earliest, latest FROM stretches WHERE number <= ? ORDER BY number DESC LIMIT ?',
  );
  const recordsAfter = select<Seq>('SELECT seq FROM records WHERE seq > ? ORDER BY seq LIMIT ?');
  const recordsBefore = select<Seq>('SELECT seq FROM records WHERE seq < ? ORDER BY seq DESC LIMIT ?');
  const straysAfter = select<Seq>('SELECT seq FROM strays WHERE tenant = ? AND seq > ? ORDER BY seq LIMIT ?');
  const straysBefore = select<Seq>('SELECT seq FROM strays WHERE tenant = ? AND seq < ? ORDER BY seq DESC LIMIT ?');
  const selectEvent = select<[nonce: string, event: string]>('SELECT nonce, event FROM records WHERE seq = ?');
  const selectItem = select<[rooms: string, payload: string]>('SELECT rooms, payload FROM records WHERE seq = ?');
  const selectAudience = select<[id: number]>('SELECT id FROM audiences WHERE name = ?');
  const ascending = select<Seq>(
    'SELECT seq FROM audience_records WHERE audience_id = ? AND seq > ? ORDER BY seq LIMIT ?',
  );
  const descending = select<Seq>(
    'SELECT seq FROM audience_records WHERE audience_id = ? AND seq < ? ORDER BY seq DESC LIMIT ?',
  );
  const selectTickets = (index: string, where = '') =>
    select<TicketRow>(`
      SELECT seq, updated_at, agreement, status FROM tickets ${index}
      WHERE tenant = ? AND seq IS NOT NULL AND updated_at > ? AND (updated_at, seq) < (?, ?) ${where}
      ORDER BY updated_at DESC, seq DESC LIMIT ?`);
  const ticketsByUpdate = selectTickets('INDEXED BY tickets_by_update');
  const ticketsByStatus = selectTickets('INDEXED BY tickets_by_status', 'AND status = ?');
  const ticketsByAgreement = selectTickets('INDEXED BY tickets_by_agreement', 'AND agreement = ?');
  const ticketByName = selectTickets('', 'AND ticket = ?');
  const ticketsByRoom = select<TicketRow>(`
    SELECT t.seq, t.updated_at, t.agreement, t.status FROM ticket_rooms r CROSS JOIN tickets t ON t.id = r.ticket_id
    WHERE r.tenant = ? AND r.updated_at > ? AND (r.updated_at, r.seq) < (?, ?) AND r.room = ?
    ORDER BY r.updated_at DESC, r.seq DESC LIMIT ?`);
  const selectTicket = select<[id: number, seq: number | null]>(
    'SELECT id, seq FROM tickets WHERE tenant = ? AND ticket = ?',
  );
  const selectMessages = (where: string) =>
    select<MessageRow>(
      `SELECT seq, iif(nonce IS NULL, NULL, shown) FROM messages WHERE ticket_id = ? AND ${where} LIMIT ?`,
    );
  const messagesAfter = selectMessages('seq > ? ORDER BY seq');
  const messagesBefore = selectMessages('seq < ? ORDER BY seq DESC');

  // These rows exist: the writer never removes a record before its index entries.
  const recordAt = (seq: number) => selectRecord.get(seq) as RecordRow;

  function boundsOf(): Bounds {
    const { head, trimmed } = log;
    const first = firstRecord.get(trimmed[0]);
    return { floor: trimmed, oldest: first === undefined ? head : [first[0], first[1]], head };
  }

  function resolve(after: Position | null): Resolved {
    const kind = resolutionOf(after);
    return kind === 'ok' ? { kind } : { kind, ...boundsOf() };
  }

  /** The nonce of a trimmed record can be checked only while the state still holds the record. */
  function resolutionOf(after: Position | null): Resolved['kind'] {
    const { head, trimmed } = log;
    if (after === null || after[0] > head[0]) return 'unknown';
    const [seq, nonce] = after;
    const known = [head, trimmed, [0, GENESIS_NONCE] as const].find((position) => position[0] === seq);
    const expected = known?.[1] ?? selectNonce.get(seq, seq)?.[0];
    if (expected !== undefined && expected !== nonce) return 'unknown';
    if (seq < trimmed[0]) return 'expired';
    return expected === undefined ? 'unknown' : 'ok';
  }

  /** The sequence numbers of all lists, each once, in order, from after (descending: before) `from`; null: of all records. */
  function mergeLists(lists: ScanLists | null, from: number, wanted: number, order: 'asc' | 'desc'): Generator<Seq> {
    const isAscending = order === 'asc';
    const sign = isAscending ? 1 : -1;
    const [all, ofAudience, ofTenant] = isAscending
      ? [recordsAfter, ascending, straysAfter]
      : [recordsBefore, descending, straysBefore];
    const fromTail = (seqs: readonly number[]): void => {
      if (seqs.length > 0) sources.push(sourceOfSeqs(seqs, from, isAscending));
    };
    const sources: Source<Seq>[] = [];
    if (lists === null) sources.push((after, size) => all.all(after?.[0] ?? from, size));
    for (const name of new Set(lists?.audiences)) {
      const [id] = selectAudience.get(name) ?? [];
      if (id !== undefined) sources.push((after, size) => ofAudience.all(id, after?.[0] ?? from, size));
      fromTail(tail.seqsOfAudience(name));
    }
    for (const tenant of lists?.tenants ?? []) {
      sources.push((after, size) => ofTenant.all(tenant, after?.[0] ?? from, size));
      fromTail(tail.seqsOfTenant(tenant));
    }
    return merge(sources, wanted, ([a], [b]) => sign * (a - b));
  }

  /**
   * Loads the records of a merge, up to `limit`, or past `maxChars`; with a filter of events, at most STEP_ROWS are looked
   * at. `last` is the last one looked at, null if that was every one.
   */
  function load(
    seqs: Iterable<Seq>,
    { limit, maxChars, events = null }: Pick<NewestQuery, 'limit' | 'maxChars' | 'events'>,
  ): { records: RecordRow[]; last: Position | null } {
    const records: RecordRow[] = [];
    let last: Position | null = null;
    let chars = 0;
    let rows = 0;
    for (const [seq] of seqs) {
      if (records.length === limit || chars > maxChars || rows === STEP_ROWS) return { records, last };
      if (events !== null) {
        rows++;
        const [nonce, event] = selectEvent.get(seq) as [string, string];
        last = [seq, nonce];
        if (!events.includes(event)) continue;
      }
      const record = recordAt(seq);
      records.push(record);
      chars += record[6].length;
      last = [seq, record[1]];
    }
    return { records, last: null };
  }

  function read(args: Args<'read'>): ReplyOf<'read'> {
    const resolved = resolve(args.after);
    if (resolved.kind !== 'ok') return resolved;
    const wanted = wantedOf(args);
    const seqs = mergeLists({ ...args, tenants: [] }, (args.after as Position)[0], wanted, 'asc');
    const { records, last } = load(seqs, args);
    return { kind: 'ok', records, position: last ?? log.head, more: last !== null };
  }

  function newest(args: Args<'newest'>): ReplyOf<'newest'> {
    const seqs = mergeLists({ ...args, tenants: [] }, args.beforeSeq ?? BEYOND, wantedOf(args), 'desc');
    const { records } = load(seqs, args);
    return { records: records.reverse(), head: log.head };
  }

  function scan(args: Args<'scan'>): ReplyOf<'scan'> {
    for (const which of ['after', 'before'] as const) {
      const position = args[which];
      const kind = position === undefined ? 'ok' : resolutionOf(position);
      if (kind !== 'ok') return { kind, which, ...boundsOf() };
    }
    const { order, filter, events, sinceMs, untilMs, limit, maxChars } = args;
    const after = args.after ?? log.trimmed;
    const [end] = args.before ?? [log.head[0] + 1];
    const isWanted = createIsWanted(filter);
    const contains = createContains(args.contains);
    const records: RecordRow[] = [];
    let last: Position | null = null;
    let chars = 0;
    let rows = 0;
    const low = skipEarly(after[0], sinceMs);
    const high = skipLate(end, untilMs);
    for (const [seq] of mergeLists(args.lists, order === 'asc' ? low : high, SCAN_ROWS, order)) {
      if (order === 'asc' ? seq >= high : seq <= low) break;
      if (last !== null && (rows === SCAN_ROWS || records.length === limit || chars > maxChars)) {
        return { kind: 'ok', records, position: last, more: true };
      }
      const [nonce, atMs, event, tenant, rooms] = selectFacts.get(seq) as [string, number, string, string, string];
      last = [seq, nonce];
      rows++;
      if ((sinceMs !== null && atMs < sinceMs) || (untilMs !== null && atMs > untilMs)) continue;
      if ((events !== null && !events.includes(event)) || !isWanted(tenant, rooms)) continue;
      const record = recordAt(seq);
      chars += record[6].length;
      if (contains(record[6])) records.push(record);
    }
    if (order === 'desc') return { kind: 'ok', records, position: after, more: false };
    const position = args.before == null ? log.head : positionBefore(end, after);
    return { kind: 'ok', records, position, more: false };
  }

  /** Skips the stretches after `seq` that are known to be earlier than an instant. */
  function skipEarly(seq: number, sinceMs: number | null): number {
    if (sinceMs === null) return seq;
    let next = stretchOf(seq + 1);
    for (const [number, , latestMs] of stretchesFrom.iterate(next, MAX_SKIPPED)) {
      if (number !== next || latestMs >= sinceMs) break;
      next++;
    }
    while (next >= tail.stretches.first && (tail.stretches.of(next)?.[1] ?? sinceMs) < sinceMs) next++;
    return Math.max(seq, next * STRETCH_RECORDS - 1);
  }

  /** Skips the stretches before `seq` that are known to be later than an instant. */
  function skipLate(seq: number, untilMs: number | null): number {
    if (untilMs === null) return seq;
    let next = stretchOf(seq - 1);
    while (next >= tail.stretches.first && (tail.stretches.of(next)?.[0] ?? Number.POSITIVE_INFINITY) > untilMs) next--;
    if (next < tail.stretches.first) {
      for (const [number, earliestMs] of stretchesTo.iterate(next, MAX_SKIPPED)) {
        if (number !== next || earliestMs <= untilMs) break;
        next--;
      }
    }
    return Math.min(seq, (next + 1) * STRETCH_RECORDS);
  }

  /** The newest record before `end`, if it comes after `after`. */
  function positionBefore(end: number, after: Position): Position {
    const [seq = 0] = recordsBefore.get(end, 1) ?? [];
    return seq > after[0] ? [seq, (selectNonce.get(seq, seq) as [string])[0]] : after;
  }

  /** Whether a record is in one of the parts; without parts, every one is. */
  function createIsWanted(parts: Args<'scan'>['filter']): (tenant: string, rooms: string) => boolean {
    if (parts.length === 0) return () => true;
    const known = parts.map(({ tenants, room }) => ({ tenants: tenants === null ? null : new Set(tenants), room }));
    return (tenant, joined) => {
      const rooms = splitRooms(joined);
      return known.some(
        ({ tenants, room }) => (tenants === null || tenants.has(tenant)) && (room === null || rooms.includes(room)),
      );
    };
  }

  function tickets(args: Args<'tickets'>): ReplyOf<'tickets'> {
    const isOther = ([, , agreement, status]: TicketRow): boolean =>
      (args.agreementId !== null && agreement !== args.agreementId) || (args.status !== null && status !== args.status);
    const { tickets, replaced } = tail.tickets(args.tenantId);
    // An instant's key begins with a digit, so every key lies between '' and '~'.
    const [startAt = '~', startSeq = 0] = args.from?.split('_') ?? [];
    const start: TicketRow = [Number(startSeq), startAt, null, ''];
    const changed = tickets.filter(createIsOfQuery(args)).map(({ now }): TicketRow => {
      return [now.seq as number, now.updatedAt as string, now.agreement, now.status as string];
    });
    const ofTail = sourceOf(changed, (row, after) => newerFirst(after ?? start, row) < 0);
    const rows = merge([...ticketRanges(args, start), ofTail], args.want, newerFirst);
    const shownBy = (row: TicketRow) => (isOther(row) || replaced.has(row[0]) ? null : row[0]);
    return takeStep(rows, args, shownBy, ([seq, at]) => `${at}_${seq}`);
  }

  /** Whether a ticket of the tail may be in the list: leaves out most of the others, which the list would look up. */
  function createIsOfQuery({ tenantId, hearing, agreementId, status, updatedAfter }: Args<'tickets'>) {
    const heard = hearsTenant(hearing, tenantId) ? null : new Set<string>(hearing.rooms);
    return ({ ticket, now }: Ticket): boolean => {
      if ((agreementId ?? now.agreement) !== now.agreement || (status ?? now.status) !== now.status) return false;
      if ((now.updatedAt as string) <= (updatedAfter ?? '')) return false;
      if (heard === null || heard.has(formatRoom('ticket', ticket))) return true;
      if (now.agreement !== null && heard.has(formatRoom('agreement', now.agreement))) return true;
      return splitRooms(now.rooms ?? '').some((room) => heard.has(room));
    };
  }

  const hearsTenant = ({ kinds, rooms }: Hearing, tenantId: string): boolean =>
    kinds.length > 0 || rooms.includes(formatRoom('tenant', tenantId));

  /** The index ranges that hold every ticket of the query: of the rooms that the caller may hear, or of a filter. */
  function ticketRanges(
    { tenantId, hearing, agreementId, status, updatedAfter }: Args<'tickets'>,
    start: TicketRow,
  ): Source<TicketRow>[] {
    const source =
      (statement: typeof ticketsByStatus, ...keys: string[]): Source<TicketRow> =>
      (after, size) => {
        const [seq, at] = after ?? start;
        return statement.all(tenantId, updatedAfter ?? '', at, seq, ...keys, size);
      };
    if (!hearsTenant(hearing, tenantId)) {
      const ids = (kind: RoomKind) => hearing.rooms.filter((room) => kindOf(room) === kind).map(idOf);
      return [
        ...ids('ticket').map((id) => source(ticketByName, id)),
        ...ids('agreement').map((id) => source(ticketsByAgreement, id)),
        ...hearing.rooms.map((room) => source(ticketsByRoom, room)),
      ];
    }
    if (agreementId !== null) return [source(ticketsByAgreement, agreementId)];
    return [status === null ? source(ticketsByUpdate) : source(ticketsByStatus, status)];
  }

  function ticket({ tenantId, ticketId, hearing }: Args<'ticket'>): ReplyOf<'ticket'> {
    const changed = tail.ticket(tenantId, ticketId);
    const seq = changed === null ? (selectTicket.get(tenantId, ticketId)?.[1] ?? null) : changed.now.seq;
    return { payload: seq === null ? null : itemAt(seq, createHears(hearing)).heard, head: log.head };
  }

  function messages(args: Args<'messages'>): ReplyOf<'messages'> {
    const id = tail.ticket(args.tenantId, args.ticketId)?.id ?? selectTicket.get(args.tenantId, args.ticketId)?.[0];
    const [changed, added] = changedMessages(id);
    const [statement, start, sign] =
      args.order === 'asc' ? ([messagesAfter, 0, 1] as const) : ([messagesBefore, BEYOND, -1] as const);
    const from = args.from === null ? start : Number(args.from);
    const source: Source<MessageRow> = (after, size) =>
      id === undefined ? [] : statement.all(id, after?.[0] ?? from, size).map((row) => changed.get(row[0]) ?? row);
    if (args.order === 'desc') added.reverse();
    const ofTail = sourceOf(added, ([seq], after) => sign * (seq - (after?.[0] ?? from)) > 0);
    const rows = merge([source, ofTail], args.want, ([a], [b]) => sign * (a - b));
    return takeStep(
      rows,
      args,
      ([, shown]) => shown,
      ([seq]) => String(seq),
    );
  }

  /** The messages of a ticket as the tail has them: those of the table that it changes, and those that it adds, rising. */
  function changedMessages(ticketId: number | undefined): [changed: Map<number, MessageRow>, added: MessageRow[]] {
    const changed = new Map<number, MessageRow>();
    const added: MessageRow[] = [];
    for (const message of ticketId === undefined ? [] : tail.messages(ticketId)) {
      const row: MessageRow = [message.seq, message.nonce === null ? null : message.shown];
      if (message.projected === undefined) added.push(row);
      else changed.set(message.seq, row);
    }
    return [changed, added];
  }

  /** The payload of a state item, if the caller may hear its record, and no erasure has removed it. */
  function itemAt(seq: number, hears: (room: Room) => boolean): { heard: string | null; chars: number } {
    const item = selectItem.get(seq);
    if (item === undefined) return NOTHING;
    const [rooms, payload] = item;
    return { heard: (splitRooms(rooms) as Room[]).some(hears) ? payload : null, chars: payload.length };
  }

  /** Takes the rows of one step: up to `want` items, STEP_ROWS rows, or past `maxChars`. */
  function takeStep<Row>(
    rows: Iterable<Row>,
    { want, maxChars, hearing }: Pick<Args<'messages'>, 'want' | 'maxChars' | 'hearing'>,
    shownBy: (row: Row) => number | null,
    positionOf: (row: Row) => string,
  ): ReplyOf<'messages'> {
    const { head } = log;
    const hears = createHears(hearing);
    const items: string[] = [];
    const positions: string[] = [];
    let looked = 0;
    let chars = 0;
    for (const row of rows) {
      looked++;
      const shown = shownBy(row);
      const item = shown === null ? NOTHING : itemAt(shown, hears);
      chars += item.chars;
      if (item.heard !== null) {
        items.push(item.heard);
        positions.push(positionOf(row));
      }
      // Whether a row follows is left to the next step: to find out here could cost another chunk.
      if (items.length === want || looked === STEP_ROWS || chars > maxChars) {
        return { items, positions: positions.join(' '), next: positionOf(row), head };
      }
    }
    return { items, positions: positions.join(' '), next: null, head };
  }

  function stats(): StoreStats {
    const { trimmed, kept } = log;
    return {
      records: kept,
      oldestAcceptedAtMs: firstRecord.get(trimmed[0])?.[2] ?? null,
      newestAcceptedAtMs: lastRecord.get()?.[0] ?? null,
      bytes: fileBytes.get()?.[0] ?? 0,
    };
  }

  const handlers: Handlers<ReadOperations> = {
    bounds: () => boundsOf(),
    resolve: ({ after }) => resolve(after),
    read,
    newest,
    scan,
    tickets,
    ticket,
    messages,
    stats,
    ...createRevocationReads(db),
  };

  return (operation) => {
    db.exec('BEGIN');
    try {
      log = tail.refresh();
      return handle(handlers, operation);
    } finally {
      // A failed read may have ended the transaction.
      if (db.isTransaction) db.exec('COMMIT');
    }
  };
}

const NOTHING = { heard: null, chars: 0 } as const;

/** A filter may leave out most rows, so it looks at many. */
const wantedOf = ({ limit, events = null }: Pick<NewestQuery, 'limit' | 'events'>) =>
  events === null ? limit : STEP_ROWS;

const newerFirst = ([seqA, atA]: TicketRow, [seqB, atB]: TicketRow): number => compareUpdates(atA, seqA, atB, seqB);

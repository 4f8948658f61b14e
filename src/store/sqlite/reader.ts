/**
 * Reads of the log. Each reply comes from one snapshot, so its rows, head and bounds belong together.
 *
 * A read of several audiences merges their index ranges and fetches a chunk of each at a time, so that it costs what it
 * returns and not what the log holds.
 */
import type { DatabaseSync } from 'node:sqlite';
import { GENESIS_NONCE } from '../../contract/cursor.ts';
import type { StoreStats } from '../store.ts';
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
import { type Columns, type LogState, prepareLogState, query } from './schema.ts';

/** Rows of one audience that a merge fetches at a time: more if it reads few audiences. */
const CHUNK = { min: 8, max: 256 } as const;
/** Above every sequence number. */
const BEYOND = Number.MAX_SAFE_INTEGER;

/** The part of one audience's index that a merge is reading. */
interface Run {
  readonly audienceId: number;
  chunk: number[];
  at: number;
}

type Seq = readonly [seq: number];
type TicketRow = readonly [seq: number, updatedAt: string, ticket: string, agreement: string | null, status: string];

type Args<Kind extends keyof ReadOperations> = ReadOperations[Kind]['args'];
type ReplyOf<Kind extends keyof ReadOperations> = ReplyTo<ReadOperations, Kind>;

export function createReader(db: DatabaseSync): (operation: Operation<ReadOperations>) => ReplyTo<ReadOperations> {
  const select = <Row extends Columns>(text: string) => query<Row>(db, text);
  const readLog = prepareLogState(db);
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
  const selectPayload = select<[string]>('SELECT payload FROM records WHERE seq = ?');
  const selectAudience = select<[id: number]>('SELECT id FROM audiences WHERE name = ?');
  const ascending = select<Seq>(
    'SELECT seq FROM audience_records WHERE audience_id = ? AND seq > ? ORDER BY seq LIMIT ?',
  );
  const descending = select<Seq>(
    'SELECT seq FROM audience_records WHERE audience_id = ? AND seq < ? ORDER BY seq DESC LIMIT ?',
  );
  const ticketColumns = 'seq, updated_at, ticket, agreement, status';
  const ticketsByUpdate = select<TicketRow>(`
    SELECT ${ticketColumns} FROM tickets
    WHERE tenant = ? AND seq IS NOT NULL AND updated_at > ? AND (updated_at, seq) < (?, ?)
    ORDER BY updated_at DESC, seq DESC`);
  const ticketByName = select<TicketRow>(`
    SELECT ${ticketColumns} FROM tickets
    WHERE tenant = ? AND seq IS NOT NULL AND updated_at > ? AND (updated_at, seq) < (?, ?) AND ticket = ?`);
  const selectTicket = select<[id: number, seq: number | null]>(
    'SELECT id, seq FROM tickets WHERE tenant = ? AND ticket = ?',
  );
  const messagesAfter = select<Seq>('SELECT seq FROM messages WHERE ticket_id = ? AND seq > ? ORDER BY seq LIMIT ?');
  const messagesBefore = select<Seq>(
    'SELECT seq FROM messages WHERE ticket_id = ? AND seq < ? ORDER BY seq DESC LIMIT ?',
  );

  // These rows exist: the writer never removes a record before its index entries.
  const recordAt = (seq: number) => selectRecord.get(seq) as RecordRow;
  const payloadAt = ([seq]: readonly [seq: number, ...unknown[]]) => (selectPayload.get(seq) as [string])[0];

  function boundsOf({ head, trimmed }: LogState): Bounds {
    const first = firstRecord.get(trimmed[0]);
    return { floor: trimmed, oldest: first === undefined ? head : [first[0], first[1]], head };
  }

  function resolve(log: LogState, after: Position | null): Resolved {
    const kind = kindOf(log, after);
    return kind === 'ok' ? { kind } : { kind, ...boundsOf(log) };
  }

  /** The nonce of a trimmed record can be checked only while the state still holds the record. */
  function kindOf({ head, trimmed }: LogState, after: Position | null): Resolved['kind'] {
    if (after === null || after[0] > head[0]) return 'unknown';
    const [seq, nonce] = after;
    const known = [head, trimmed, [0, GENESIS_NONCE] as const].find((position) => position[0] === seq);
    const expected = known?.[1] ?? selectNonce.get(seq, seq)?.[0];
    if (expected !== undefined && expected !== nonce) return 'unknown';
    if (seq < trimmed[0]) return 'expired';
    return expected === undefined ? 'unknown' : 'ok';
  }

  /** The sequence numbers of all audiences, each once, in order, from after (descending: before) `from`. */
  function* merge(
    audiences: readonly string[],
    from: number,
    wanted: number,
    order: 'asc' | 'desc',
  ): Generator<number> {
    const [statement, sign] = order === 'asc' ? [ascending, 1] : [descending, -1];
    const size = Math.min(CHUNK.max, Math.max(CHUNK.min, Math.ceil((2 * wanted) / audiences.length)));
    const fetch = (id: number, after: number) => statement.all(id, after, size).map(([seq]) => seq);
    const nextOf = (run: Run) => sign * (run.chunk[run.at] as number);
    const runs: Run[] = [];
    for (const name of new Set(audiences)) {
      const [id] = selectAudience.get(name) ?? [];
      const chunk = id === undefined ? [] : fetch(id, from);
      if (id !== undefined && chunk.length > 0) runs.push({ audienceId: id, chunk, at: 0 });
    }
    let last = from;
    while (runs.length > 0) {
      let first = runs[0] as Run;
      for (const run of runs) if (nextOf(run) < nextOf(first)) first = run;
      const seq = first.chunk[first.at++] as number;
      // A record of several audiences is in several runs.
      if (seq !== last) yield seq;
      last = seq;
      if (first.at < first.chunk.length) continue;
      first.chunk = first.chunk.length === size ? fetch(first.audienceId, seq) : [];
      first.at = 0;
      if (first.chunk.length === 0) runs.splice(runs.indexOf(first), 1);
    }
  }

  /** Loads what the rows refer to, up to `limit` or past `maxChars`. `last` is null if that was every row. */
  function load<Row, Item>(
    rows: Iterable<Row>,
    { limit, maxChars }: { readonly limit: number; readonly maxChars: number },
    itemOf: (row: Row) => Item,
    payloadOf: (item: Item) => string,
  ): { items: Item[]; last: Row | null } {
    const items: Item[] = [];
    let last: Row | null = null;
    let chars = 0;
    for (const row of rows) {
      if (last !== null && (items.length === limit || chars > maxChars)) return { items, last };
      const item = itemOf(row);
      items.push(item);
      chars += payloadOf(item).length;
      last = row;
    }
    return { items, last: null };
  }

  function read(args: Args<'read'>): ReplyOf<'read'> {
    const log = readLog();
    const resolved = resolve(log, args.after);
    if (resolved.kind !== 'ok') return resolved;
    const seqs = merge(args.audiences, (args.after as Position)[0], args.limit, 'asc');
    const { items: records, last } = load(seqs, args, recordAt, ([, , , , , , payload]) => payload);
    const [seq, nonce] = last === null ? log.head : (records.at(-1) as RecordRow);
    return { kind: 'ok', records, position: [seq, nonce], more: last !== null };
  }

  function newest(args: Args<'newest'>): ReplyOf<'newest'> {
    const seqs = merge(args.audiences, args.beforeSeq ?? BEYOND, args.limit, 'desc');
    const { items } = load(seqs, args, recordAt, ([, , , , , , payload]) => payload);
    return { records: items.reverse(), head: readLog().head };
  }

  function tickets(args: Args<'tickets'>): ReplyOf<'tickets'> {
    const { head } = readLog();
    // An instant's key begins with a digit, so every key lies between '' and '~'.
    const [before, beforeSeq] = args.page ?? ['~', 0];
    const range = [args.tenantId, args.updatedAfter ?? '', before, beforeSeq] as const;
    const names = new Set(args.ticketIds);
    const agreements = new Set<string | null>(args.agreementIds);
    const isNarrowed = args.ticketIds !== null || args.agreementIds !== null;
    const candidates: Iterable<TicketRow> =
      args.ticketIds === null || agreements.size > 0
        ? ticketsByUpdate.iterate(...range)
        : [...names]
            .flatMap((name) => ticketByName.all(...range, name))
            .sort(([seqA, atA], [seqB, atB]) => (atA === atB ? seqB - seqA : atA < atB ? 1 : -1));
    const found: TicketRow[] = [];
    for (const row of candidates) {
      const [, , ticket, agreement, status] = row;
      if (isNarrowed && !names.has(ticket) && !agreements.has(agreement)) continue;
      if (args.agreementId !== null && agreement !== args.agreementId) continue;
      if (args.status !== null && status !== args.status) continue;
      if (found.push(row) > args.limit) break;
    }
    const { items, last } = load(found, args, payloadAt, (payload) => payload);
    return { items, next: last === null ? null : [last[1], last[0]], head };
  }

  function ticket({ tenantId, ticketId }: Args<'ticket'>): ReplyOf<'ticket'> {
    const seq = selectTicket.get(tenantId, ticketId)?.[1] ?? null;
    return { payload: seq === null ? null : payloadAt([seq]), head: readLog().head };
  }

  function messages(args: Args<'messages'>): ReplyOf<'messages'> {
    const { head } = readLog();
    const [id] = selectTicket.get(args.tenantId, args.ticketId) ?? [];
    if (id === undefined) return { items: [], next: null, head };
    const [statement, start] = args.order === 'asc' ? [messagesAfter, 0] : [messagesBefore, BEYOND];
    const found = statement.all(id, args.page ?? start, args.limit + 1);
    const { items, last } = load(found, args, payloadAt, (payload) => payload);
    return { items, next: last?.[0] ?? null, head };
  }

  function stats(): StoreStats {
    const { trimmed, kept } = readLog();
    return {
      records: kept,
      oldestAcceptedAtMs: firstRecord.get(trimmed[0])?.[2] ?? null,
      newestAcceptedAtMs: lastRecord.get()?.[0] ?? null,
      bytes: fileBytes.get()?.[0] ?? 0,
    };
  }

  const handlers: Handlers<ReadOperations> = {
    bounds: () => boundsOf(readLog()),
    resolve: ({ after }) => resolve(readLog(), after),
    read,
    newest,
    tickets,
    ticket,
    messages,
    stats,
  };

  return (operation) => {
    db.exec('BEGIN');
    try {
      return handle(handlers, operation);
    } finally {
      // A failed read may have ended the transaction.
      if (db.isTransaction) db.exec('COMMIT');
    }
  };
}

/**
 * What is asked of the log, each answer from one snapshot: the rows, the head and the bounds belong together.
 *
 * Reading several audiences merges their index ranges, a chunk of each at a time, so that an answer costs what it
 * returns and not what the log holds.
 */

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { GENESIS_NONCE } from '../../contract/cursor.ts';
import type { MessagesQuery, TicketsQuery } from '../store.ts';

export type Position = readonly [seq: number, nonce: string];
export type RecordRow = readonly [
  seq: number,
  nonce: string,
  atMs: number,
  event: string,
  tenant: string,
  rooms: string,
  payload: string,
];
export interface Bounds {
  /** Up to where the log is trimmed. */
  readonly floor: Position;
  readonly oldest: Position;
  readonly head: Position;
}

/** A query whose page is told by the place of the last item of the page before. */
type Paged<Query, Last> = Omit<Query, 'page'> & { readonly page: Last | null };

export type ReadOp =
  | { readonly kind: 'bounds' }
  /** `after` is null for a cursor that is not of this log's epoch. */
  | { readonly kind: 'resolve'; readonly after: Position | null }
  | {
      readonly kind: 'read';
      readonly audiences: readonly string[];
      readonly after: Position | null;
      readonly limit: number;
      readonly maxChars: number;
    }
  | {
      readonly kind: 'newest';
      readonly audiences: readonly string[];
      readonly limit: number;
      readonly maxChars: number;
    }
  | ({ readonly kind: 'tickets' } & Paged<TicketsQuery, readonly [updatedAt: string, seq: number]>)
  | { readonly kind: 'ticket'; readonly tenantId: string; readonly ticketId: string }
  | ({ readonly kind: 'messages' } & Paged<MessagesQuery, number>)
  | { readonly kind: 'stats' };

export type Resolved = { readonly kind: 'ok' } | ({ readonly kind: 'expired' | 'unknown' } & Bounds);
export type ReadReply =
  | { readonly kind: 'ok'; readonly records: readonly RecordRow[]; readonly position: Position; readonly more: boolean }
  | ({ readonly kind: 'expired' | 'unknown' } & Bounds);
export interface NewestReply {
  readonly records: readonly RecordRow[];
  readonly head: Position;
}
export interface TicketsReply {
  readonly items: readonly string[];
  readonly next: readonly [updatedAt: string, seq: number] | null;
  readonly head: Position;
}
export interface TicketReply {
  readonly payload: string | null;
  readonly head: Position;
}
export interface MessagesReply {
  readonly items: readonly string[];
  readonly next: number | null;
  readonly head: Position;
}
export type StatsReply = readonly [
  records: number,
  oldestAtMs: number | null,
  newestAtMs: number | null,
  bytes: number,
];

export interface Reader {
  run(op: ReadOp): unknown;
}

/** Rows fetched of one audience at a time while merging; of few audiences more at once. */
const CHUNK = { fewest: 8, most: 256 } as const;
/** Above and below every sequence number. */
const BEYOND = Number.MAX_SAFE_INTEGER;

interface LogRow {
  readonly head: Position;
  readonly trimmed: Position;
  readonly kept: number;
}

export function createReader(db: DatabaseSync): Reader {
  const rows = (text: string): StatementSync => {
    const statement = db.prepare(text);
    statement.setReturnArrays(true);
    return statement;
  };
  const selectLog = rows('SELECT head_seq, head_nonce, trimmed_seq, trimmed_nonce, kept FROM log');
  const firstRecord = rows('SELECT seq, nonce, at FROM records WHERE seq > ? ORDER BY seq LIMIT 1');
  const lastRecord = rows('SELECT at FROM records WHERE seq > (SELECT trimmed_seq FROM log) ORDER BY seq DESC LIMIT 1');
  const fileBytes = rows('SELECT page_count * page_size FROM pragma_page_count, pragma_page_size');
  const nonceAt = rows(
    'SELECT nonce FROM records WHERE seq = :seq UNION ALL SELECT nonce FROM tombstones WHERE seq = :seq',
  );
  const selectRecord = rows('SELECT seq, nonce, at, event, tenant, rooms, payload FROM records WHERE seq = ?');
  const selectPayload = rows('SELECT payload FROM records WHERE seq = ?');
  const audienceId = rows('SELECT id FROM audiences WHERE name = ?');
  const ascending = rows('SELECT seq FROM audience_records WHERE audience_id = ? AND seq > ? ORDER BY seq LIMIT ?');
  const descending = rows(
    'SELECT seq FROM audience_records WHERE audience_id = ? AND seq < ? ORDER BY seq DESC LIMIT ?',
  );

  function log(): LogRow {
    const [seq, nonce, trimmedSeq, trimmedNonce, kept] = selectLog.get() as unknown as [
      ...[number, string, number, string, number],
    ];
    return { head: [seq, nonce], trimmed: [trimmedSeq, trimmedNonce], kept };
  }

  function boundsOf({ head, trimmed }: LogRow): Bounds {
    const first = firstRecord.get(trimmed[0]) as unknown as [number, string] | undefined;
    return { floor: trimmed, oldest: first === undefined ? head : [first[0], first[1]], head };
  }

  function resolve(state: LogRow, after: Position | null): Resolved {
    const kind = place(state, after);
    return kind === 'ok' ? { kind } : { kind, ...boundsOf(state) };
  }

  /** A trimmed record's nonce can be compared only while the state still holds the record. */
  function place({ head, trimmed }: LogRow, after: Position | null): Resolved['kind'] {
    if (after === null || after[0] > head[0]) return 'unknown';
    const [seq, nonce] = after;
    const kept = seq === head[0] ? head[1] : seq === trimmed[0] ? trimmed[1] : seq === 0 ? GENESIS_NONCE : nonceOf(seq);
    if (kept !== null && kept !== nonce) return 'unknown';
    if (seq < trimmed[0]) return 'expired';
    return kept === null ? 'unknown' : 'ok';
  }

  function nonceOf(seq: number): string | null {
    const row = nonceAt.get({ seq }) as unknown as [string] | undefined;
    return row?.[0] ?? null;
  }

  /** The places of any of the audiences, each once, in order, beginning after (or, descending, before) `from`. */
  function* merge(
    audiences: readonly string[],
    from: number,
    wanted: number,
    order: 'asc' | 'desc',
  ): Generator<number> {
    const statement = order === 'asc' ? ascending : descending;
    const sign = order === 'asc' ? 1 : -1;
    const runs: { id: number; chunk: number[]; at: number; full: boolean }[] = [];
    const size = Math.min(CHUNK.most, Math.max(CHUNK.fewest, Math.ceil((2 * wanted) / audiences.length)));
    const fetch = (id: number, after: number) =>
      (statement.all(id, after, size) as unknown as [number][]).map((row) => row[0]);
    for (const name of new Set(audiences)) {
      const row = audienceId.get(name) as unknown as [number] | undefined;
      if (row === undefined) continue;
      const chunk = fetch(row[0], from);
      if (chunk.length > 0) runs.push({ id: row[0], chunk, at: 0, full: chunk.length === size });
    }
    let last = from;
    while (runs.length > 0) {
      let next = 0;
      for (let i = 1; i < runs.length; i++) {
        const [a, b] = [runs[i], runs[next]] as [(typeof runs)[number], (typeof runs)[number]];
        if (sign * ((a.chunk[a.at] as number) - (b.chunk[b.at] as number)) < 0) next = i;
      }
      const run = runs[next] as (typeof runs)[number];
      const seq = run.chunk[run.at++] as number;
      if (seq !== last) yield seq;
      last = seq;
      if (run.at < run.chunk.length) continue;
      run.chunk = run.full ? fetch(run.id, seq) : [];
      run.at = 0;
      run.full = run.chunk.length === size;
      if (run.chunk.length === 0) runs.splice(next, 1);
    }
  }

  function read(op: Extract<ReadOp, { kind: 'read' }>): ReadReply {
    const state = log();
    const resolved = resolve(state, op.after);
    if (resolved.kind !== 'ok') return resolved;
    const records: RecordRow[] = [];
    let chars = 0;
    for (const seq of merge(op.audiences, (op.after as Position)[0], op.limit, 'asc')) {
      const last = records.at(-1);
      if (last !== undefined && (records.length === op.limit || chars > op.maxChars)) {
        return { kind: 'ok', records, position: [last[0], last[1]], more: true };
      }
      const row = recordAt(seq);
      records.push(row);
      chars += row[6].length;
    }
    return { kind: 'ok', records, position: state.head, more: false };
  }

  function newest(op: Extract<ReadOp, { kind: 'newest' }>): NewestReply {
    const records: RecordRow[] = [];
    let chars = 0;
    for (const seq of merge(op.audiences, BEYOND, op.limit, 'desc')) {
      if (records.length === op.limit || chars > op.maxChars) break;
      const record = recordAt(seq);
      chars += record[6].length;
      records.push(record);
    }
    return { records: records.reverse(), head: log().head };
  }

  const recordAt = (seq: number): RecordRow => selectRecord.get(seq) as unknown as RecordRow;
  const payloadAt = (seq: number): string => (selectPayload.get(seq) as unknown as [string])[0];

  type TicketRow = readonly [seq: number, updatedAt: string, ticket: string, agreement: string | null, status: string];
  const ticketColumns = 'seq, updated_at, ticket, agreement, status';
  const ticketsByUpdate = rows(`
    SELECT ${ticketColumns} FROM tickets
    WHERE tenant = ? AND seq IS NOT NULL AND updated_at > ? AND (updated_at, seq) < (?, ?)
    ORDER BY updated_at DESC, seq DESC`);
  const ticketByName = rows(`
    SELECT ${ticketColumns} FROM tickets
    WHERE tenant = ? AND seq IS NOT NULL AND updated_at > ? AND (updated_at, seq) < (?, ?) AND ticket = ?`);
  const ticketId = rows('SELECT id, seq FROM tickets WHERE tenant = ? AND ticket = ?');
  const messagesAfter = rows('SELECT seq FROM messages WHERE ticket_id = ? AND seq > ? ORDER BY seq LIMIT ?');
  const messagesBefore = rows('SELECT seq FROM messages WHERE ticket_id = ? AND seq < ? ORDER BY seq DESC LIMIT ?');

  function tickets(op: Extract<ReadOp, { kind: 'tickets' }>): TicketsReply {
    const { head } = log();
    // A key of an instant begins with a digit, so it lies between these.
    const [before, beforeSeq] = op.page ?? ['~', 0];
    const range = [op.tenantId, op.updatedAfter ?? '', before, beforeSeq] as const;
    const names = new Set(op.ticketIds);
    const agreements = new Set<string | null>(op.agreementIds);
    const isNarrowed = op.ticketIds !== null || op.agreementIds !== null;
    const candidates: Iterable<unknown> =
      op.ticketIds === null || agreements.size > 0
        ? ticketsByUpdate.iterate(...range)
        : [...names]
            .flatMap((name) => ticketByName.all(...range, name) as unknown as TicketRow[])
            .sort(([seqA, atA], [seqB, atB]) => (atA === atB ? seqB - seqA : atA < atB ? 1 : -1));
    const found: TicketRow[] = [];
    for (const row of candidates as Iterable<TicketRow>) {
      if (isNarrowed && !names.has(row[2]) && !agreements.has(row[3])) continue;
      if (op.agreementId !== null && row[3] !== op.agreementId) continue;
      if (op.status !== null && row[4] !== op.status) continue;
      if (found.push(row) > op.limit) break;
    }
    const items = payloadsOf(found, op);
    const last = found[items.length - 1];
    return {
      items,
      next: found.length > items.length && last !== undefined ? [last[1], last[0]] : null,
      head,
    };
  }

  function ticket(tenantId: string, name: string): TicketReply {
    const row = ticketId.get(tenantId, name) as unknown as [number, number | null] | undefined;
    return { payload: row === undefined || row[1] === null ? null : payloadAt(row[1]), head: log().head };
  }

  function messages(op: Extract<ReadOp, { kind: 'messages' }>): MessagesReply {
    const { head } = log();
    const row = ticketId.get(op.tenantId, op.ticketId) as unknown as [number] | undefined;
    if (row === undefined) return { items: [], next: null, head };
    const [statement, start] = op.order === 'asc' ? [messagesAfter, 0] : [messagesBefore, BEYOND];
    const found = statement.all(row[0], op.page ?? start, op.limit + 1) as unknown as [number][];
    const items = payloadsOf(found, op);
    return {
      items,
      next: found.length > items.length ? (found[items.length - 1] as [number])[0] : null,
      head,
    };
  }

  /** Of the rows that one page has room for; each begins with the record's place. */
  function payloadsOf(
    found: readonly (readonly [seq: number, ...unknown[]])[],
    { limit, maxChars }: { readonly limit: number; readonly maxChars: number },
  ): string[] {
    const payloads: string[] = [];
    let chars = 0;
    for (const [seq] of found) {
      if (payloads.length === limit || chars > maxChars) break;
      const payload = payloadAt(seq);
      payloads.push(payload);
      chars += payload.length;
    }
    return payloads;
  }

  function stats(): StatsReply {
    const { trimmed, kept } = log();
    const first = firstRecord.get(trimmed[0]) as unknown as [number, string, number] | undefined;
    const last = lastRecord.get() as unknown as [number] | undefined;
    const [bytes] = fileBytes.get() as unknown as [number];
    return [kept, first?.[2] ?? null, last?.[0] ?? null, bytes];
  }

  function answer(op: ReadOp): unknown {
    switch (op.kind) {
      case 'bounds':
        return boundsOf(log());
      case 'resolve':
        return resolve(log(), op.after);
      case 'read':
        return read(op);
      case 'newest':
        return newest(op);
      case 'tickets':
        return tickets(op);
      case 'ticket':
        return ticket(op.tenantId, op.ticketId);
      case 'messages':
        return messages(op);
      case 'stats':
        return stats();
    }
  }

  return {
    run(op) {
      db.exec('BEGIN');
      try {
        return answer(op);
      } finally {
        // A failed read may have ended it.
        if (db.isTransaction) db.exec('COMMIT');
      }
    },
  };
}

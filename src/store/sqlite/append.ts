/**
 * Appends: which events are repeats, to which rooms a change of a message goes, and the records of the others.
 *
 * Many appends share one transaction, which writes their records and nothing that follows from them (projection.ts). Records
 * wait here until `flush`, to be written in statements of many rows.
 */
import { randomFillSync } from 'node:crypto';
import type { DatabaseSync } from 'node:sqlite';
import type { Keying } from '../../contract/audiences.ts';
import { createBulkInsert } from './bulk.ts';
import { type Meaning, namesOf } from './messages.ts';
import type { AppendArgs, AppendedRow, AppendReply, EventRow } from './operations.ts';
import { createProjection } from './projection.ts';
import { query } from './schema.ts';
import { keyOf } from './state.ts';

export function createAppender(db: DatabaseSync, keying: Keying, declared: () => readonly string[]) {
  const records = createBulkInsert(db, 'records', 8);
  const selectRooms = query<[rooms: string]>(db, 'SELECT rooms FROM records WHERE seq = ?');
  const selectIdempotency = query<[fingerprint: string, results: string]>(
    db,
    'SELECT fingerprint, results FROM idempotency WHERE key = ?',
  );
  const insertIdempotency = db.prepare('INSERT INTO idempotency VALUES (?, ?, ?, ?, ?, ?)');
  /** The newest record that is in the table. */
  let flushedSeq = Number.POSITIVE_INFINITY;
  const projection = createProjection(db, keying, declared, roomsOfRecord);
  const { state, log } = projection;
  flushedSeq = log.head[0];
  const nextNonce = createNonces();

  function roomsOfRecord(seq: number): string | null {
    if (seq > flushedSeq) flush();
    return selectRooms.get(seq)?.[0] ?? null;
  }

  /** Writes the records: before COMMIT, and before the projection is written in the same transaction. */
  function flush(): void {
    records.flush();
    flushedSeq = log.head[0];
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
    const ticket = message === null || ticketId === null ? null : state.ticketOf(tenant, ticketId, 0, false, null);
    if (message === null || ticket === null) return null;
    const meaning = state.messages.meaningOf(ticket.id, namesOf(message));
    return inheritedRooms(meaning, message[0] !== 'new' && roomsAreNamed);
  }

  function inheritedRooms({ message }: Meaning, roomsAreNamed: boolean): string | null {
    return roomsAreNamed || message === null ? null : state.messages.firstRoomsOf(message);
  }

  function appendEvent(row: EventRow, atMs: number): AppendedRow {
    const [event, tenant, ownRooms, payload, ticketId, updatedAt, status, agreement, message, roomsAreNamed] = row;
    const mayCreate = updatedAt !== null || message !== null;
    const ticket = ticketId === null ? null : state.ticketOf(tenant, ticketId, atMs, mayCreate, null);
    let rooms = ownRooms;
    let meaning: Meaning | null = null;
    let changeKey: string | null = null;
    if (message !== null && ticket !== null) {
      meaning = state.messages.meaningOf(ticket.id, namesOf(message));
      if (message[0] === 'new') {
        const first = meaning.message;
        if (first !== null && first.nonce !== null) {
          return [first.seq, first.nonce, true, state.messages.firstRoomsOf(first)];
        }
      } else {
        rooms = inheritedRooms(meaning, roomsAreNamed) ?? ownRooms;
        changeKey = state.changeKeyOf(ticket, event, rooms, payload);
        const first = state.changeOf(changeKey);
        if (first !== undefined) return [first.seq, first.nonce, true, roomsOfRecord(first.seq) ?? rooms];
      }
    }
    const seq = log.head[0] + 1;
    const nonce = nextNonce();
    records.add(seq, nonce, atMs, event, tenant, rooms, ticket?.id ?? null, payload);
    const record = {
      ...{ position: [seq, nonce] as const, atMs, event, tenant, rooms, payload, ticketId, ticket, updatedAt, status },
      ...{ agreement, message },
    };
    projection.enterIndex(record);
    state.enter(record, meaning, changeKey);
    return [seq, nonce, false, rooms === ownRooms ? null : rooms];
  }

  return {
    append,
    flush,
    projection,
    /** After a rollback. */
    reset(): void {
      records.clear();
      projection.reset();
      flushedSeq = log.head[0];
    },
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

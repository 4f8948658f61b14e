/**
 * The state of messages, as appends change it (protocol §7): which message an event means, and which record it shows.
 *
 * A message is a row, and each of its ids a name that leads to the row. Rows change here in memory, and in the table as
 * late as `flush`; names are written at once.
 */
import type { DatabaseSync } from 'node:sqlite';
import { createBulkInsert } from './bulk.ts';
import type { MessageFactsRow, Position } from './operations.ts';
import { type Columns, query } from './schema.ts';

/** Of a `messages.new`: earlier than every change. */
const EARLIEST = Number.NEGATIVE_INFINITY;

export interface Message {
  readonly ticketId: number;
  /** Its `messages.new`; of a message of which only changes are known, the first of them. */
  readonly seq: number;
  /** Of its `messages.new`; null if only changes are known. */
  readonly nonce: string | null;
  /** The record that is shown; null if the message was deleted. */
  shown: number | null;
  instant: number;
  rank: number;
  /** The rooms of record `seq`; null if they are not known here. */
  rooms: string | null;
  /** The row that stands for this one, because both turned out to be one message. */
  sameAs: number | null;
  /** What the table lacks. */
  dirty: 'new' | 'changed' | null;
}

type MessageRow = readonly [
  ...[nonce: string | null, shown: number | null, instant: number | null, rank: number],
  ...[rooms: string | null, sameAs: number | null],
];

/** The names of an event's message, `messageId` first. */
export function namesOf([, messageId, providerMessageId]: MessageFactsRow): readonly string[] {
  if (providerMessageId === null) return [nameOf('m', messageId ?? '')];
  return messageId === null
    ? [nameOf('p', providerMessageId)]
    : [nameOf('m', messageId), nameOf('p', providerMessageId)];
}

/** UTF-8 has no lone surrogates: without this, ids that differ only in them would become one. */
export const nameOf = (sort: 'm' | 'p', id: string): string =>
  id.isWellFormed() ? `${sort}${id}` : `${sort.toUpperCase()}${JSON.stringify(id)}`;

/** What the event of an append means. */
export interface Meaning {
  /** The names of the event that no message has yet. */
  readonly unused: readonly string[];
  /** The message with a `messages.new`, else the oldest of those known by changes; null if there is none. */
  readonly message: Message | null;
  /** Further messages that are known only by changes, and are the same message. */
  readonly others: readonly Message[];
}

/** @param roomsOfRecord the joined rooms of a record; null if it is gone */
export function createMessages(
  db: DatabaseSync,
  roomsOfRecord: (seq: number) => string | null,
  dropRecord: (seq: number) => void,
) {
  const select = <Row extends Columns>(text: string) => query<Row>(db, text);
  const selectNames = select<[name: string, seq: number]>(
    'SELECT name, seq FROM message_names WHERE ticket_id = ? AND name IN (?, ?)',
  );
  const insertName = db.prepare('INSERT OR IGNORE INTO message_names VALUES (?, ?, ?)');
  const insertBoth = db.prepare('INSERT OR IGNORE INTO message_names VALUES (?, ?, ?), (?, ?, ?)');
  const replaceName = db.prepare('INSERT OR REPLACE INTO message_names VALUES (?, ?, ?)');
  const deleteName = db.prepare('DELETE FROM message_names WHERE ticket_id = ? AND name = ? AND seq = ?');
  const selectMessage = select<MessageRow>(
    'SELECT nonce, shown, instant, rank, rooms, same_as FROM messages WHERE ticket_id = ? AND seq = ?',
  );
  const inserts = createBulkInsert(db, 'messages', 8);
  const updateMessage = db.prepare(
    'UPDATE messages SET shown = ?, instant = ?, rank = ?, rooms = ?, same_as = ? WHERE ticket_id = ? AND seq = ?',
  );
  /** Those that events meant since the last flush, by `seq`. */
  const cache = new Map<number, Message>();

  function load(ticketId: number, seq: number): Message | null {
    const cached = cache.get(seq);
    if (cached !== undefined) return cached;
    const row = selectMessage.get(ticketId, seq);
    if (row === undefined) return null;
    const [nonce, shown, instant, rank, rooms, sameAs] = row;
    const message: Message = {
      ...{ ticketId, seq, nonce, shown, instant: instant ?? EARLIEST, rank, rooms, sameAs, dirty: null },
    };
    cache.set(seq, message);
    return message;
  }

  /** The row that stands for a row. Shortens the way for the next search. */
  function standingFor(first: Message): Message {
    const passed: Message[] = [];
    let message = first;
    while (message.sameAs !== null) {
      const next = load(message.ticketId, message.sameAs);
      if (next === null) break;
      passed.push(message);
      message = next;
    }
    for (const each of passed) {
      if (each.sameAs === message.seq) continue;
      each.sameAs = message.seq;
      markChanged(each);
    }
    return message;
  }

  function markChanged(message: Message): void {
    message.dirty ??= 'changed';
  }

  function meaningOf(ticketId: number, names: readonly string[], ignoredSeq = 0): Meaning {
    const [first, second = first] = names as [string, string?];
    const rows = selectNames.all(ticketId, first, second);
    // The one with the `messageId` first.
    if (rows.length === 2 && rows[0]?.[0] !== first) rows.reverse();
    const found: Message[] = [];
    for (const [, seq] of rows) {
      const row = seq === ignoredSeq ? null : load(ticketId, seq);
      if (row === null) continue;
      const message = standingFor(row);
      if (!found.includes(message)) found.push(message);
    }
    const known = found.find(({ nonce }) => nonce !== null);
    const pending = found.filter(({ nonce }) => nonce === null).sort((a, b) => a.seq - b.seq);
    const unused = rows.length === names.length ? [] : names.filter((name) => rows.every(([used]) => used !== name));
    return known === undefined
      ? { unused, message: pending[0] ?? null, others: pending.slice(1) }
      : { unused, message: known, others: pending };
  }

  function firstRoomsOf(message: Message): string | null {
    message.rooms ??= roomsOfRecord(message.seq);
    return message.rooms;
  }

  function show(message: Message, shown: number | null, instant: number, rank: number): void {
    // From now on, the row keeps them in place of the record.
    firstRoomsOf(message);
    if (message.shown !== null) dropRecord(message.shown);
    Object.assign(message, { shown, instant, rank });
    markChanged(message);
  }

  /** Makes `other`, which is known only by changes, the same message as `message`. */
  function merge(message: Message, other: Message): void {
    if (other.shown === null) {
      if (message.shown !== null) show(message, null, EARLIEST, 0);
    } else if (message.shown !== null && isNewer(other, message)) {
      show(message, other.shown, other.instant, other.rank);
    } else {
      dropRecord(other.shown);
    }
    other.sameAs = message.seq;
    other.shown = null;
    other.rooms = null;
    markChanged(other);
  }

  function add(message: Omit<Message, 'sameAs' | 'dirty'>): Message {
    const added: Message = { ...message, sameAs: null, dirty: 'new' };
    cache.set(message.seq, added);
    return added;
  }

  return {
    meaningOf,
    firstRoomsOf,

    /** A `messages.new`. Returns the message of which it is a repeat, else null. */
    create(ticketId: number, facts: MessageFactsRow, [seq, nonce]: Position, rooms: string): Message | null {
      const names = namesOf(facts);
      const [first, second] = names as [string, string?];
      const { changes } =
        second === undefined
          ? insertName.run(ticketId, first, seq)
          : insertBoth.run(ticketId, first, seq, ticketId, second, seq);
      const fresh = { ticketId, seq, nonce, shown: seq, instant: EARLIEST, rank: 0, rooms };
      if (Number(changes) === names.length) {
        add(fresh);
        return null;
      }
      const { message, others } = meaningOf(ticketId, names, seq);
      if (message !== null && message.nonce !== null) {
        for (const name of names) deleteName.run(ticketId, name, seq);
        return message;
      }
      const created = add(fresh);
      if (message !== null) for (const other of [message, ...others]) merge(created, other);
      for (const name of names) replaceName.run(ticketId, name, seq);
      return null;
    },

    /** A change that is not a repeat, with its meaning. */
    change(ticketId: number, facts: MessageFactsRow, { unused, message, others }: Meaning, seq: number, rooms: string) {
      const [change, , , instant, rank] = facts;
      const shown = change === 'deleted' ? null : seq;
      let target = message;
      if (target === null) {
        target = add({ ticketId, seq, nonce: null, shown, instant, rank, rooms });
      } else {
        for (const other of others) merge(target, other);
        if (target.shown !== null) {
          if (shown === null) show(target, null, EARLIEST, 0);
          else if (instant > target.instant || (instant === target.instant && rank >= target.rank)) {
            show(target, shown, instant, rank);
          }
        }
      }
      for (const name of unused) insertName.run(ticketId, name, target.seq);
    },

    flush(): void {
      for (const message of cache.values()) {
        const { ticketId, seq, nonce, shown, rank, sameAs, dirty } = message;
        if (dirty === null) continue;
        const instant = message.instant === EARLIEST ? null : message.instant;
        const rooms = shown === seq ? null : message.rooms;
        if (dirty === 'new') inserts.add(ticketId, seq, nonce, shown, instant, rank, rooms, sameAs);
        else updateMessage.run(shown, instant, rank, rooms, sameAs, ticketId, seq);
      }
      inserts.flush();
      cache.clear();
    },
    reset(): void {
      inserts.clear();
      cache.clear();
    },
  };
}

const isNewer = (a: Message, b: Message): boolean =>
  a.instant !== b.instant
    ? a.instant > b.instant
    : a.rank !== b.rank
      ? a.rank > b.rank
      : (a.shown ?? 0) > (b.shown ?? 0);

/**
 * The state of messages (protocol §7): which message an event means, and which record a message shows.
 *
 * A message is a row, and each of its ids a name that leads to the row. Rows and names change here in memory; projection.ts
 * writes them into the tables.
 */
import type { DatabaseSync } from 'node:sqlite';
import type { MessageFacts } from '../../contract/facts.ts';
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
  /** What the table shows; undefined: it lacks the row. */
  projected: number | null | undefined;
  instant: number;
  rank: number;
  /** The rooms of record `seq`; null if they are not known here. */
  rooms: string | null;
  /** The row that stands for this one, because both turned out to be one message. */
  sameAs: number | null;
}

type MessageRow = readonly [
  ...[nonce: string | null, shown: number | null, instant: number | null, rank: number],
  ...[rooms: string | null, sameAs: number | null],
];

export const factsRowOf = (facts: MessageFacts): MessageFactsRow => [
  ...([facts.change, facts.messageId, facts.providerMessageId, facts.updatedAtMs, facts.statusRank] as const),
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

/** What the event of a record means. */
export interface Meaning {
  readonly names: readonly string[];
  /** The names of the event that no message has yet. */
  readonly unused: readonly string[];
  /** The message with a `messages.new`, else the oldest of those known by changes; null if there is none. */
  readonly message: Message | null;
  /** Further messages that are known only by changes, and are the same message. */
  readonly others: readonly Message[];
}

/** A name in a ticket. */
const nameKey = (ticketId: number, name: string): string => `${ticketId}\n${name}`;

/** @param roomsOfRecord the joined rooms of a record; null if it is gone */
export function createMessages(db: DatabaseSync, roomsOfRecord: (seq: number) => string | null) {
  const select = <Row extends Columns>(text: string) => query<Row>(db, text);
  const selectName = select<[seq: number]>('SELECT seq FROM message_names WHERE ticket_id = ? AND name = ?');
  const selectMessage = select<MessageRow>(
    'SELECT nonce, shown, instant, rank, rooms, same_as FROM messages WHERE ticket_id = ? AND seq = ?',
  );
  /** Those that events meant since the tables had everything, by `seq`. */
  const cache = new Map<number, Message>();
  const changed = new Set<Message>();
  /** The names that the table lacks, or has for another message. */
  const names = new Map<string, { readonly ticketId: number; readonly name: string; readonly seq: number }>();

  function load(ticketId: number, seq: number): Message | null {
    const cached = cache.get(seq);
    if (cached !== undefined) return cached;
    const row = selectMessage.get(ticketId, seq);
    if (row === undefined) return null;
    const [nonce, shown, instant, rank, rooms, sameAs] = row;
    const message: Message = {
      ...{ ticketId, seq, nonce, shown, projected: shown, instant: instant ?? EARLIEST, rank, rooms, sameAs },
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
      changed.add(each);
    }
    return message;
  }

  /** The rows that these names lead to, in their order. */
  function find(ticketId: number, wanted: readonly string[]): (readonly [name: string, seq: number])[] {
    const found: (readonly [name: string, seq: number])[] = [];
    for (const name of wanted) {
      const seq = names.get(nameKey(ticketId, name))?.seq ?? selectName.get(ticketId, name)?.[0];
      if (seq !== undefined) found.push([name, seq]);
    }
    return found;
  }

  function meaningOf(ticketId: number, wanted: readonly string[]): Meaning {
    const rows = find(ticketId, wanted);
    if (rows.length === 0) return { names: wanted, unused: wanted, message: null, others: [] };
    const found: Message[] = [];
    for (const [, seq] of rows) {
      const row = load(ticketId, seq);
      if (row === null) continue;
      const message = standingFor(row);
      if (!found.includes(message)) found.push(message);
    }
    const known = found.find(({ nonce }) => nonce !== null);
    const pending = found.filter(({ nonce }) => nonce === null).sort((a, b) => a.seq - b.seq);
    const unused = wanted.filter((name) => rows.every(([used]) => used !== name));
    return known === undefined
      ? { names: wanted, unused, message: pending[0] ?? null, others: pending.slice(1) }
      : { names: wanted, unused, message: known, others: pending };
  }

  function firstRoomsOf(message: Message): string | null {
    message.rooms ??= roomsOfRecord(message.seq);
    return message.rooms;
  }

  function show(message: Message, shown: number | null, instant: number, rank: number): void {
    // From now on, the row keeps them in place of the record.
    firstRoomsOf(message);
    Object.assign(message, { shown, instant, rank });
    changed.add(message);
  }

  /** Makes `other`, which is known only by changes, the same message as `message`. */
  function merge(message: Message, other: Message): void {
    if (other.shown === null) {
      if (message.shown !== null) show(message, null, EARLIEST, 0);
    } else if (message.shown !== null && isNewer(other, message)) {
      show(message, other.shown, other.instant, other.rank);
    }
    other.sameAs = message.seq;
    other.shown = null;
    other.rooms = null;
    changed.add(other);
  }

  function add(message: Omit<Message, 'sameAs' | 'projected'>): Message {
    const added: Message = { ...message, sameAs: null, projected: undefined };
    cache.set(message.seq, added);
    changed.add(added);
    return added;
  }

  function nameAs(ticketId: number, used: readonly string[], { seq }: Message): void {
    for (const name of used) names.set(nameKey(ticketId, name), { ticketId, name, seq });
  }

  /** A `messages.new` whose meaning is no message that has one. */
  function create(ticketId: number, meaning: Meaning, [seq, nonce]: Position, rooms: string): void {
    const created = add({ ticketId, seq, nonce, shown: seq, instant: EARLIEST, rank: 0, rooms });
    if (meaning.message !== null) for (const other of [meaning.message, ...meaning.others]) merge(created, other);
    nameAs(ticketId, meaning.names, created);
  }

  /** A change that is not a repeat. */
  function change(ticketId: number, facts: MessageFactsRow, meaning: Meaning, seq: number, rooms: string): void {
    const [change, , , instant, rank] = facts;
    const shown = change === 'deleted' ? null : seq;
    let target = meaning.message;
    if (target === null) {
      target = add({ ticketId, seq, nonce: null, shown, instant, rank, rooms });
    } else {
      for (const other of meaning.others) merge(target, other);
      if (target.shown !== null) {
        if (shown === null) show(target, null, EARLIEST, 0);
        else if (instant > target.instant || (instant === target.instant && rank >= target.rank)) {
          show(target, shown, instant, rank);
        }
      }
    }
    nameAs(ticketId, meaning.unused, target);
  }

  return {
    meaningOf,
    firstRoomsOf,
    enter(ticketId: number, facts: MessageFactsRow, meaning: Meaning, position: Position, rooms: string): void {
      if (facts[0] === 'new') create(ticketId, meaning, position, rooms);
      else change(ticketId, facts, meaning, position[0], rooms);
    },
    /** What the table lacks. */
    changed: changed as ReadonlySet<Message>,
    names: names as Pick<ReadonlyMap<string, { ticketId: number; name: string; seq: number }>, 'values'>,
    /** Messages in memory. */
    loaded: () => cache.size,
    /** The tables have everything now, or are to be read again. */
    projected(): void {
      cache.clear();
      changed.clear();
      names.clear();
    },
  };
}

/** The instant of a message in its row: null for the earliest. */
export const instantColumn = ({ instant }: Message): number | null => (instant === EARLIEST ? null : instant);

const isNewer = (a: Message, b: Message): boolean =>
  a.instant !== b.instant
    ? a.instant > b.instant
    : a.rank !== b.rank
      ? a.rank > b.rank
      : (a.shown ?? 0) > (b.shown ?? 0);

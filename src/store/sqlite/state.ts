/**
 * Tickets and messages as the records of the log change them (protocol §7), in memory, over the tables of the file.
 *
 * Both threads use it. The writer decides by it which events are repeats, and writes what has changed into the tables
 * (projection.ts). The reader enters the records that the tables lack, so that it reads as if they had them (tail.ts).
 * Nothing here writes to the file.
 */
import { hash } from 'node:crypto';
import type { DatabaseSync } from 'node:sqlite';
import { factsOf } from '../../contract/facts.ts';
import { createMessages, factsRowOf, type Meaning, namesOf } from './messages.ts';
import type { MessageFactsRow, Position } from './operations.ts';
import { type Columns, joinRooms, query, splitRooms } from './schema.ts';

/** Entries in the caches of tickets and of audience ids; a full one is emptied once the tables have all of them. */
export const MAX_CACHED = 50_000;

/** The columns of a ticket that change. */
interface TicketColumns {
  /** Its newest `tickets.updated`; null: it has only messages. */
  readonly seq: number | null;
  readonly updatedAt: string | null;
  readonly status: string | null;
  readonly agreement: string | null;
  /** The rooms of the update that no other column tells, joined; null if there are none. */
  readonly rooms: string | null;
  readonly lastAt: number;
}

export interface Ticket {
  readonly id: number;
  readonly tenant: string;
  readonly ticket: string;
  /** See {@link homeOf}. */
  readonly home: string;
  now: TicketColumns;
  /** What the tables have; null: nothing. `lastHour` may be older than `lastAt`. */
  projected: (TicketColumns & { readonly lastHour: number }) | null;
  /** Where the keys of its changes begin; null: not asked for yet. */
  scope: string | null;
}

/** A record with the facts of its payload. */
export interface EnteredRecord {
  readonly position: Position;
  readonly atMs: number;
  readonly event: string;
  readonly tenant: string;
  /** Joined. */
  readonly rooms: string;
  readonly payload: string;
  /** The ticket that the payload names; null if it names none. */
  readonly ticketId: string | null;
  /** The ticket that the record changes or keeps alive. */
  readonly ticket: Ticket | null;
  /** These three belong to `tickets.updated`; null for other events. */
  readonly updatedAt: string | null;
  readonly status: string | null;
  readonly agreement: string | null;
  readonly message: MessageFactsRow | null;
}

/** A row of `records`. */
export type LoggedRow = readonly [
  ...[seq: number, nonce: string, atMs: number, event: string, tenant: string, rooms: string, payload: string],
  ticketRow: number | null,
];
export const LOGGED_ROW = 'seq, nonce, at, event, tenant, rooms, payload, ticket_id';

/** A change of a message, to find its repeats. */
export interface Change {
  readonly atMs: number;
  readonly seq: number;
  readonly nonce: string;
}

type TicketRow = readonly [
  ...[id: number, seq: number | null, updatedAt: string | null, agreement: string | null, status: string | null],
  ...[lastAt: number, lastHour: number, rooms: string | null],
];

/** 22 characters of base64url: 128 bits. */
export const keyOf = (...parts: string[]): string => hash('sha256', parts.join('\n'), 'base64url').slice(0, 22);

/**
 * The keys of the changes of a ticket's messages begin with this; those of a tenant with what it is if `ticket` is null.
 * Hashes, because keys outlive what they are made of.
 */
export const changeScope = (tenant: string, ticket: string | null): string =>
  `${keyOf(tenant).slice(0, 10)}${ticket === null ? '' : keyOf(tenant, ticket).slice(0, 6)}`;

/** The rooms of a record that goes where its ids say, joined. */
export const homeOf = (tenant: string, ticketId: string | null): string =>
  ticketId === null ? `tenant:${tenant}` : `tenant:${tenant},ticket:${ticketId}`;

/** The rooms that are not among others, joined; null if there are none. */
export function roomsBeyond(rooms: string, others: string): string | null {
  if (rooms === others) return null;
  const known = splitRooms(others);
  return joinRooms(splitRooms(rooms).filter((room) => !known.includes(room))) || null;
}

export type State = ReturnType<typeof createState>;

/** @param roomsOfRecord the joined rooms of a record; null if it is gone */
export function createState(db: DatabaseSync, roomsOfRecord: (seq: number) => string | null) {
  const select = <Row extends Columns>(text: string) => query<Row>(db, text);
  const selectTicket = select<TicketRow>(
    'SELECT id, seq, updated_at, agreement, status, last_at, last_hour, rooms FROM tickets WHERE tenant = ? AND ticket = ?',
  );
  const maxTicketId = select<[number | null]>('SELECT max(id) FROM tickets');
  const selectChange = select<[at: number, seq: number, nonce: string]>(
    'SELECT at, seq, nonce FROM message_changes WHERE key = ?',
  );
  const messages = createMessages(db, roomsOfRecord);
  const tickets = new Map<string, Ticket>();
  const changedTickets = new Set<Ticket>();
  const changes = new Map<string, Change>();
  let nextTicketId: number | null = null;

  /**
   * An update or a message creates the ticket; any other event only keeps an existing ticket alive.
   * @param id of a ticket that the log knows and the tables lack; null: a new one
   */
  function ticketOf(tenant: string, name: string, atMs: number, mayCreate: boolean, id: number | null): Ticket | null {
    const cacheKey = `${tenant}\n${name}`;
    const cached = tickets.get(cacheKey);
    if (cached !== undefined) return cached;
    const row = selectTicket.get(tenant, name);
    if (row === undefined && !mayCreate) return null;
    const ticket = row === undefined ? newTicket(tenant, name, atMs, id) : loadedTicket(tenant, name, row);
    tickets.set(cacheKey, ticket);
    return ticket;
  }

  function newTicket(tenant: string, ticket: string, lastAt: number, given: number | null): Ticket {
    nextTicketId ??= (maxTicketId.get()?.[0] ?? 0) + 1;
    const id = given ?? nextTicketId;
    nextTicketId = Math.max(nextTicketId, id + 1);
    const now = { seq: null, updatedAt: null, status: null, agreement: null, rooms: null, lastAt };
    return { id, tenant, ticket, home: homeOf(tenant, ticket), now, projected: null, scope: null };
  }

  function loadedTicket(tenant: string, ticket: string, row: TicketRow): Ticket {
    const [id, seq, updatedAt, agreement, status, lastAt, lastHour, rooms] = row;
    const projected = { seq, updatedAt, status, agreement, rooms, lastAt, lastHour };
    return { id, tenant, ticket, home: homeOf(tenant, ticket), now: projected, projected, scope: null };
  }

  function changeKeyOf(ticket: Ticket, event: string, rooms: string, payload: string): string {
    ticket.scope ??= changeScope(ticket.tenant, ticket.ticket);
    return `${ticket.scope}${keyOf(event, splitRooms(rooms).sort().join(), payload)}`;
  }

  /** @param changeKey of a change of a message, else null */
  function enter(record: EnteredRecord, meaning: Meaning | null, changeKey: string | null): void {
    const { position, atMs, rooms, ticket, updatedAt, status, agreement, message } = record;
    if (ticket === null) return;
    changedTickets.add(ticket);
    if (message !== null && meaning !== null) messages.enter(ticket.id, message, meaning, position, rooms);
    if (changeKey !== null) changes.set(changeKey, { atMs, seq: position[0], nonce: position[1] });
    // An older update never overwrites a newer one; of equal ones the later wins (protocol §7).
    const { now } = ticket;
    if (updatedAt === null || (now.updatedAt !== null && updatedAt < now.updatedAt)) {
      ticket.now = { ...now, lastAt: atMs };
      return;
    }
    const found = agreement === null ? ticket.home : `${ticket.home},agreement:${agreement}`;
    const beyond = roomsBeyond(rooms, found);
    ticket.now = { seq: position[0], updatedAt, status, agreement, rooms: beyond, lastAt: atMs };
  }

  return {
    messages,
    ticketOf,
    /** A ticket that was entered or asked for. */
    knownTicket: (tenant: string, name: string): Ticket | undefined => tickets.get(`${tenant}\n${name}`),
    changeKeyOf,
    /** The change of this key, if there was one. */
    changeOf(key: string): Change | undefined {
      const entered = changes.get(key);
      if (entered !== undefined) return entered;
      const row = selectChange.get(key);
      return row === undefined ? undefined : { atMs: row[0], seq: row[1], nonce: row[2] };
    },
    enter,

    /**
     * Enters a record as the log has it.
     * @param declared the events that were declared when the log accepted it (`EXTRA_EVENTS`)
     */
    enterLogged([seq, nonce, atMs, event, tenant, rooms, payload, id]: LoggedRow, declared: readonly string[]) {
      const facts = factsOf(event, JSON.parse(payload), declared.includes(event));
      const { ticketId, ticket: update } = facts;
      const ticket = id === null || ticketId === null ? null : ticketOf(tenant, ticketId, atMs, true, id);
      const message = facts.message === null ? null : factsRowOf(facts.message);
      const record: EnteredRecord = {
        ...{ position: [seq, nonce], atMs, event, tenant, rooms, payload, ticketId, ticket, message },
        ...{ updatedAt: update?.updatedAt ?? null, status: update?.status ?? null },
        agreement: update?.agreementId ?? null,
      };
      const isMessage = ticket !== null && message !== null;
      const meaning = isMessage ? messages.meaningOf(ticket.id, namesOf(message)) : null;
      const isChange = isMessage && message[0] !== 'new';
      enter(record, meaning, isChange ? changeKeyOf(ticket, event, rooms, payload) : null);
      return record;
    },

    /** What the tables lack. */
    changedTickets: changedTickets as ReadonlySet<Ticket>,
    changes: changes as ReadonlyMap<string, Change>,

    /** Rows of the tables that are in memory until `projected`. */
    loaded: (): number => messages.loaded() + Math.max(0, tickets.size - MAX_CACHED),

    /** The tables have everything now. */
    projected(): void {
      changedTickets.clear();
      changes.clear();
      messages.projected();
      if (tickets.size > MAX_CACHED) tickets.clear();
    },
    forgetTicket: (tenant: string, ticket: string) => tickets.delete(`${tenant}\n${ticket}`),
    /** Forgets everything, also what the tables lack. */
    reset(): void {
      nextTicketId = null;
      tickets.clear();
      changedTickets.clear();
      changes.clear();
      messages.projected();
    },
  };
}

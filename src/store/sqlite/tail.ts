/**
 * The records that the tables do not show yet (projection.ts), as the reader sees them: a read never waits for the writer,
 * and never shows that a projection is behind.
 *
 * They are the records past the head row: a few thousand at most. They are entered here in memory, each once, and
 * forgotten when the head row has moved.
 */
import type { DatabaseSync } from 'node:sqlite';
import { audiencesOf, type Keying } from '../../contract/audiences.ts';
import { CANONICAL_EVENTS } from '../../contract/names.ts';
import type { Message } from './messages.ts';
import type { Position } from './operations.ts';
import { type Columns, declaredEvents, type LogState, prepareLogState, query, splitRooms } from './schema.ts';
import { createState, LOGGED_ROW, type LoggedRow, type State, type Ticket } from './state.ts';
import { createNewStretches } from './stretches.ts';

type IndexedRow = readonly [seq: number, nonce: string, atMs: number, tenant: string, rooms: string];

export interface Tail {
  /** The log with the tail. Call it first in the transaction of each read. */
  refresh(): LogState;
  readonly stretches: Pick<ReturnType<typeof createNewStretches>, 'first' | 'of'>;
  /** Rising. */
  seqsOfAudience(audience: string): readonly number[];
  /** All records of the tenant, rising. */
  seqsOfTenant(tenant: string): readonly number[];
  /** The ticket as the tail leaves it; null if the tail does not change it. */
  ticket(tenant: string, name: string): Ticket | null;
  tickets(tenant: string): ChangedTickets;
  /** The messages of a ticket that the tail adds or changes, rising. */
  messages(ticketId: number): readonly Message[];
}

/** The tickets of a tenant that the tail adds, or whose update it replaces. */
export interface ChangedTickets {
  /** Newest update first. */
  readonly tickets: readonly Ticket[];
  /** The updates that the tables show in their place. */
  readonly replaced: ReadonlySet<number>;
}

const NONE: readonly never[] = [];
const NO_TICKETS: ChangedTickets = { tickets: NONE, replaced: new Set() };
/** Only these change tickets and messages. */
const WITH_FACTS = CANONICAL_EVENTS.map((name) => `'${name}'`).join();

export function createTail(db: DatabaseSync, keying: Keying): Tail {
  const select = <Row extends Columns>(text: string) => query<Row>(db, text);
  const readLog = prepareLogState(db);
  const indexedAfter = select<IndexedRow>(
    'SELECT seq, nonce, at, tenant, rooms FROM records WHERE seq > ? ORDER BY seq',
  );
  const recordsAfter = select<LoggedRow>(
    `SELECT ${LOGGED_ROW} FROM records WHERE seq > ? AND event IN (${WITH_FACTS}) ORDER BY seq`,
  );
  const selectRooms = select<[rooms: string]>('SELECT rooms FROM records WHERE seq = ?');
  const state = createState(db, (seq) => selectRooms.get(seq)?.[0] ?? null);
  const stretches = createNewStretches(db);
  const byAudience = new Map<string, number[]>();
  const byTenant = new Map<string, number[]>();
  let projectedSeq = -1;
  /** The newest record that is entered in the index, and the newest that is entered in the state. */
  let head: Position = [0, ''];
  let stateSeq = 0;
  let count = 0;
  /** Of the state up to `stateSeq`; null: not made since that has moved. */
  let ticketsOfTenants: Map<string, ChangedTickets> | null = null;
  let messagesOfTickets: Map<number, Message[]> | null = null;

  /** The state with the tail. Records that nobody asks for are not entered. */
  function upToDate(): State {
    if (stateSeq === head[0]) return state;
    ticketsOfTenants = null;
    messagesOfTickets = null;
    const declared = declaredEvents(db);
    for (const row of recordsAfter.iterate(stateSeq)) {
      state.enterLogged(row, declared);
      [stateSeq] = row;
    }
    [stateSeq] = head;
    return state;
  }

  function groupTickets(): Map<string, ChangedTickets> {
    const changed = [...state.changedTickets].filter(({ now, projected }) => now.seq !== (projected?.seq ?? null));
    changed.sort(({ now: a }, { now: b }) =>
      compareUpdates(a.updatedAt ?? '', a.seq ?? 0, b.updatedAt ?? '', b.seq ?? 0),
    );
    return new Map(
      [...Map.groupBy(changed, ({ tenant }) => tenant)].map(([tenant, tickets]) => {
        return [tenant, { tickets, replaced: new Set(tickets.flatMap(({ projected }) => projected?.seq ?? [])) }];
      }),
    );
  }

  function groupMessages(): Map<number, Message[]> {
    const changed = [...state.messages.changed].sort((a, b) => a.seq - b.seq);
    return Map.groupBy(changed, ({ ticketId }) => ticketId);
  }

  const isEmpty = () => head[0] === projectedSeq;

  function add(lists: Map<string, number[]>, key: string, seq: number): void {
    const list = lists.get(key);
    if (list === undefined) lists.set(key, [seq]);
    else list.push(seq);
  }

  return {
    refresh() {
      const log = readLog();
      if (log.head[0] !== projectedSeq) {
        byAudience.clear();
        byTenant.clear();
        state.reset();
        ticketsOfTenants = null;
        messagesOfTickets = null;
        [projectedSeq] = log.head;
        stretches.restart(projectedSeq);
        stateSeq = projectedSeq;
        head = log.head;
        count = 0;
      }
      for (const [seq, nonce, atMs, tenant, rooms] of indexedAfter.iterate(head[0])) {
        for (const audience of audiencesOf(keying, tenant, splitRooms(rooms))) add(byAudience, audience, seq);
        add(byTenant, tenant, seq);
        stretches.add(seq, atMs);
        head = [seq, nonce];
        count++;
      }
      return { ...log, head, kept: log.kept + count };
    },
    stretches,
    seqsOfAudience: (audience) => byAudience.get(audience) ?? NONE,
    seqsOfTenant: (tenant) => byTenant.get(tenant) ?? NONE,
    ticket: (tenant, name) => (isEmpty() ? null : (upToDate().knownTicket(tenant, name) ?? null)),
    tickets(tenant) {
      if (isEmpty()) return NO_TICKETS;
      upToDate();
      ticketsOfTenants ??= groupTickets();
      return ticketsOfTenants.get(tenant) ?? NO_TICKETS;
    },
    messages(ticketId) {
      if (isEmpty()) return NONE;
      upToDate();
      messagesOfTickets ??= groupMessages();
      return messagesOfTickets.get(ticketId) ?? NONE;
    },
  };
}

/** The order of lists of tickets: newest update first (`TicketState.tickets`). */
export const compareUpdates = (atA: string, seqA: number, atB: string, seqB: number): number =>
  atA === atB ? seqB - seqA : atA < atB ? 1 : -1;

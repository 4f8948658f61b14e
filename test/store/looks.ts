/**
 * Looks at a store: every sort of read, drawn by a seed and answered in a form that two stores of the same life share.
 * Cursors become sequence numbers, because two logs have different epochs and nonces.
 */
import { audienceOf, HEARS_ALL, type Hearing, type Keying } from '../../src/contract/audiences.ts';
import { type Cursor, formatCursor, parseCursor } from '../../src/contract/cursor.ts';
import type { LogRecord } from '../../src/contract/frames.ts';
import { instantKey } from '../../src/contract/instants.ts';
import type { Room } from '../../src/contract/rooms.ts';
import type { AppendResult, LogBounds, LogPart, StatePage, Store } from '../../src/store/store.ts';
import type { Random } from '../support/random.ts';
import { NOW } from './conformance.ts';
import { AGREEMENTS, NAMED, SECOND, STATUSES, TENANTS, TICKETS } from './random-log.ts';

/** A store with the cursors that it has given out. */
export class Viewed {
  readonly store: Store;
  readonly #cursors = new Map<number, Cursor>();

  constructor(store: Store, cursors: ReadonlyMap<number, Cursor> = new Map()) {
    this.store = store;
    this.#cursors = new Map(cursors);
    this.#note(store.opened.floor);
  }

  #note(cursor: Cursor): number {
    const seq = parseCursor(cursor)?.seq ?? Number.NaN;
    this.#cursors.set(seq, cursor);
    return seq;
  }

  /** Of a process that reported them. */
  static of(store: Store, cursors: readonly Cursor[]): Viewed {
    return new Viewed(store, new Map(cursors.map((cursor) => [seqOf(cursor), cursor])));
  }

  /** The same log, opened anew. */
  reopened(store: Store): Viewed {
    return new Viewed(store, this.#cursors);
  }

  /** The cursor of a record, whatever became of it. */
  at(seq: number): Cursor {
    const cursor = this.#cursors.get(seq);
    if (cursor === undefined) throw new Error(`no record was number ${seq}`);
    return cursor;
  }

  /**
   * The answers to appends.
   * @param floor the newest trimmed record: once the state no longer shows it either, nobody knows the rooms of its repeat
   */
  seqsOf(results: readonly AppendResult[], floor = 0): unknown {
    return results.map((result) =>
      result.kind === 'conflict'
        ? result.kind
        : result.events.map(({ id, duplicate, rooms }) => {
            const seq = this.#note(id);
            return [seq, duplicate, duplicate && seq <= floor ? null : rooms];
          }),
    );
  }
}

export const seqOf = (cursor: Cursor): number => parseCursor(cursor)?.seq ?? Number.NaN;
const boundsOf = ({ floor, oldest, head }: LogBounds): unknown => [floor, oldest, head].map(seqOf);
const recordsOf = (records: readonly LogRecord[]): unknown =>
  records.map((record) => ({ ...record, id: seqOf(record.id) }));

/** A read of a name that says all about it. `more` keeps the positions of pages for later looks. */
export interface Look {
  readonly name: string;
  at(viewed: Viewed): Promise<unknown>;
}

/** What the looks of a test need of the log. `head`: of the newest record that every store has; the first one is 1. */
export interface Known {
  readonly keying: Keying;
  readonly head: number;
  readonly floor: number;
  /** The `nextPage`s of earlier answers, by the list that they belong to. */
  readonly pages: Map<string, string>;
}

const HEARINGS: readonly Hearing[] = [
  HEARS_ALL,
  ...TENANTS.map((tenant): Hearing => ({ kinds: [], rooms: [`tenant:${tenant}`] })),
  { kinds: [], rooms: ['ticket:k1', 'ticket:7'] },
  { kinds: [], rooms: ['queue:a', 'ticket:k2', 'agreement:b'] },
  { kinds: [], rooms: ['user:u', 'queue:b'] },
  { kinds: [], rooms: ['agreement:a'] },
  { kinds: ['queue'], rooms: [] },
  { kinds: ['ticket'], rooms: ['queue:a'] },
];

export const ROOMS: readonly Room[] = [
  ...TENANTS.map((tenant): Room => `tenant:${tenant}`),
  ...TICKETS.map((ticket): Room => `ticket:${ticket}`),
  ...AGREEMENTS.map((agreement): Room => `agreement:${agreement}`),
  ...NAMED.filter((room) => !room.startsWith('ticket:') && !room.startsWith('agreement:')),
  'ticket:nobody',
];

const audiencesOf = (keying: Keying, rooms: readonly Room[]): string[] =>
  rooms.flatMap((room) => [...new Set(TENANTS.map((tenant) => audienceOf(keying, tenant, room)))]);

const named = (name: string, query: object, at: Look['at']): Look => ({ name: `${name} ${JSON.stringify(query)}`, at });

function stats(): Look {
  return named('stats', {}, async ({ store }) => {
    const { bytes: _, ...rest } = await store.stats();
    return rest;
  });
}
const bounds = (): Look => named('bounds', {}, async ({ store }) => boundsOf(await store.bounds()));

type RecordsQuery = Parameters<Store['newest']>[0];

function newest(query: Omit<RecordsQuery, 'before'>, before: number | null): Look {
  return named('newest', { ...query, before }, async (viewed) => {
    const { records, head } = await viewed.store.newest({
      ...query,
      before: before === null ? null : viewed.at(before),
    });
    return [recordsOf(records), seqOf(head)];
  });
}

/** `pages`: how many to read, one after the other. */
function read(query: Omit<RecordsQuery, 'before'>, after: number, pages: number): Look {
  return named('read', { ...query, after, pages }, async (viewed) => {
    const answers: unknown[] = [];
    let position = viewed.at(after);
    for (let page = 0; page < pages; page++) {
      const result = await viewed.store.read({ ...query, after: position });
      if (result.kind !== 'ok') {
        answers.push([result.kind, boundsOf(result)]);
        break;
      }
      answers.push([recordsOf(result.records), seqOf(result.position), result.more]);
      position = result.position;
      if (!result.more) break;
    }
    return answers;
  });
}

type ScanQuery = Parameters<Store['scan']>[0];
type Scanned = Omit<ScanQuery, 'after' | 'before'>;

/** To its end: where a step ends may depend on what it can skip. */
function scan(query: Scanned, after: number | null, before: number | null): Look {
  return named('scan', { ...query, after, before }, async (viewed) => {
    const found: LogRecord[] = [];
    const range = {
      after: after === null ? null : viewed.at(after),
      before: before === null ? null : viewed.at(before),
    };
    for (;;) {
      const result = await viewed.store.scan({ ...query, ...range });
      if (result.kind !== 'ok') return [result.kind, seqOf(result.cursor), boundsOf(result)];
      found.push(...result.records);
      range[query.order === 'asc' ? 'after' : 'before'] = result.position;
      if (!result.more) return [recordsOf(found), seqOf(result.position)];
    }
  });
}

/** Reads a list to its end, from a page of an earlier look if there is one: how much of it a page holds may differ. */
function list(
  name: string,
  query: object,
  { pages: kept }: Known,
  fromKept: boolean,
  readPage: (store: Store, page: string | null) => Promise<StatePage>,
): Look {
  const key = `${name} ${JSON.stringify(query)}`;
  const first = fromKept ? (kept.get(key) ?? null) : null;
  return named(name, { ...query, page: first }, async ({ store }) => {
    const found: string[] = [];
    const heads = new Set<number>();
    for (let page = first; ; ) {
      const { items, nextPage, cursor } = await readPage(store, page);
      found.push(...items);
      heads.add(seqOf(cursor));
      if (nextPage === null) return [found, [...heads]];
      page = nextPage;
      kept.set(key, nextPage);
    }
  });
}

type TicketsQuery = Omit<Parameters<Store['tickets']>[0], 'page'>;
type MessagesQuery = Omit<Parameters<Store['messages']>[0], 'page'>;

const tickets = (query: TicketsQuery, known: Known, fromKept: boolean): Look =>
  list('tickets', query, known, fromKept, (store, page) => store.tickets({ ...query, page }));
const messages = (query: MessagesQuery, known: Known, fromKept: boolean): Look =>
  list('messages', query, known, fromKept, (store, page) => store.messages({ ...query, page }));

const ticket = (query: Parameters<Store['ticket']>[0]): Look =>
  named('ticket', query, async ({ store }) => {
    const { payload, cursor } = await store.ticket(query);
    return [payload, seqOf(cursor)];
  });

function resolve(seq: number, how: 'own' | 'ahead' | 'foreign' | 'forged'): Look {
  return named('resolve', { seq, how }, async (viewed) => {
    const parts = parseCursor(viewed.at(seq));
    if (parts === null) throw new Error('not a cursor');
    const cursors = {
      own: viewed.at(seq),
      ahead: formatCursor({ ...parts, seq: seq + 1 }),
      foreign: formatCursor({ ...parts, epoch: parts.epoch === 'aaaaaaaa' ? 'bbbbbbbb' : 'aaaaaaaa' }),
      forged: formatCursor({ ...parts, nonce: parts.nonce === 'aaaa' ? 'bbbb' : 'aaaa' }),
    };
    const result = await viewed.store.resolve(cursors[how]);
    return result.kind === 'ok' ? result.kind : [result.kind, boundsOf(result)];
  });
}

const EVENTS = ['tickets.updated', 'tickets.new', 'messages.new', 'messages.updated', 'messages.deleted'];

/** A sample of all reads. */
export function drawLooks(random: Random, count: number, known: Known): Look[] {
  const { pick, whole, chance } = random;
  const { keying, head, floor } = known;
  const maybe = <T>(share: number, make: () => T): T | null => (chance(share) ? make() : null);
  const some = <T>(items: readonly T[], share = 0.4): T[] => items.filter(() => chance(share));
  // Most of them near the head, where records are not projected yet.
  const anySeq = (): number => (chance(0.6) ? whole(Math.max(0, head - 60), head) : whole(0, head));
  const sizes = () => ({ limit: pick([7, 20, 1000]), maxChars: pick([2_000, 1e9, 1e9]) });
  const records = () => ({
    audiences: audiencesOf(keying, some(ROOMS, pick([0.1, 0.5, 1]))),
    events: maybe(0.4, () => some(EVENTS)),
    ...sizes(),
  });
  const part = (): LogPart => ({
    tenants: maybe(0.6, () => some([...TENANTS, 'nobody'], 0.6)),
    room: maybe(0.4, () => pick(ROOMS)),
  });
  const instant = () => NOW + whole(-3_600_000, Math.max(1, head) * 60_000);
  const one = (): Look => {
    const sort = pick([
      'read',
      'read',
      'newest',
      'scan',
      'scan',
      'tickets',
      'tickets',
      'ticket',
      'messages',
      'messages',
      'resolve',
    ]);
    const of = { tenantId: pick(TENANTS), ticketId: pick([...TICKETS, 'nobody']) };
    const hearing = pick([HEARS_ALL, ...HEARINGS]);
    if (sort === 'read') return read(records(), chance(0.8) ? Math.max(anySeq(), floor) : anySeq(), whole(1, 3));
    if (sort === 'newest') return newest(records(), maybe(0.4, anySeq));
    if (sort === 'scan') {
      const query: Scanned = {
        parts: Array.from({ length: whole(1, 2) }, part),
        events: maybe(0.3, () => some(EVENTS)),
        contains: maybe(0.3, () => pick(['olá mundo', 'SAY "HI"', '"n":3', 'k1', 'nothing at all'])),
        sinceMs: maybe(0.3, instant),
        untilMs: maybe(0.3, instant),
        order: pick(['asc', 'desc']),
        ...sizes(),
      };
      const bound = () => maybe(0.4, () => (chance(0.9) ? Math.max(anySeq(), floor) : anySeq()));
      return scan(query, bound(), bound());
    }
    if (sort === 'tickets') {
      const query: TicketsQuery = {
        tenantId: of.tenantId,
        hearing,
        agreementId: maybe(0.3, () => pick(AGREEMENTS)),
        status: maybe(0.3, () => pick(STATUSES)),
        updatedAfter: maybe(0.2, () => instantKey(SECOND(whole(0, 6)))),
        limit: pick([1, 2, 100]),
        maxChars: pick([100, 1e9]),
      };
      return tickets(query, known, chance(0.3));
    }
    if (sort === 'ticket') return ticket({ ...of, hearing });
    if (sort === 'messages') {
      const query: MessagesQuery = {
        ...of,
        hearing,
        order: pick(['asc', 'desc']),
        limit: pick([1, 2, 100]),
        maxChars: pick([100, 1e9]),
      };
      return messages(query, known, chance(0.3));
    }
    const how = pick(['own', 'own', 'own', 'ahead', 'foreign', 'forged'] as const);
    // Of what was trimmed, a forged cursor may go unnoticed; ahead of the log is only what comes after the head.
    if (how === 'forged') return resolve(Math.max(anySeq(), Math.min(head, floor + 1)), how);
    return resolve(how === 'ahead' ? head : anySeq(), how);
  };
  return [bounds(), stats(), ...Array.from({ length: count }, one)];
}

/** Every read that there is, of all rooms, tickets and hearings. */
export function allLooks(known: Known): Look[] {
  const { keying, floor } = known;
  const sizes = { limit: 1000, maxChars: 1e9 };
  const everything = { events: null, contains: null, sinceMs: null, untilMs: null, ...sizes } as const;
  const each = [...ROOMS.map((room) => [room]), ROOMS];
  const pairs = TENANTS.flatMap((tenantId) => TICKETS.map((ticketId) => ({ tenantId, ticketId })));
  return [
    bounds(),
    stats(),
    ...each.flatMap((rooms) => {
      const query = { audiences: audiencesOf(keying, rooms), ...sizes };
      return [read(query, floor, 20), newest({ ...query, limit: 7 }, null)];
    }),
    ...(['asc', 'desc'] as const).flatMap((order) =>
      [
        [{ tenants: null, room: null }],
        ...TENANTS.map((tenant) => [{ tenants: [tenant], room: null }]),
        ...ROOMS.map((room) => [{ tenants: null, room }]),
      ].map((parts) => scan({ parts, order, ...everything }, null, null)),
    ),
    ...HEARINGS.flatMap((hearing) => [
      ...TENANTS.flatMap((tenantId) =>
        [null, ...STATUSES].flatMap((status) =>
          [null, ...AGREEMENTS].map((agreementId) =>
            tickets({ tenantId, hearing, status, agreementId, updatedAfter: null, ...sizes }, known, false),
          ),
        ),
      ),
      ...pairs.flatMap((pair) => [
        ticket({ ...pair, hearing }),
        messages({ ...pair, hearing, order: 'asc', ...sizes }, known, false),
        messages({ ...pair, hearing, order: 'desc', ...sizes, limit: 2 }, known, false),
      ]),
    ]),
  ];
}

/**
 * The laws of the store ports (src/store/store.ts) as one suite that every engine must pass.
 *
 * Events come from the contract's own catalog, so the store sees what the bridge would pass to it. The tests set the
 * time; none of them sleeps.
 */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { audienceOf, HEARS_ALL, type Hearing, type Keying } from '../../src/contract/audiences.ts';
import type { Cursor } from '../../src/contract/cursor.ts';
import { formatCursor, isWellFormedCursor, parseCursor } from '../../src/contract/cursor.ts';
import { BridgeError } from '../../src/contract/errors.ts';
import { createEventCatalog } from '../../src/contract/events.ts';
import type { LogRecord } from '../../src/contract/frames.ts';
import { instantKey } from '../../src/contract/instants.ts';
import {
  type AppendEvent,
  type AppendedEvent,
  type AppendRequest,
  erasureKey,
  type LogBounds,
  type MessagesQuery,
  type Retention,
  type Session,
  type SessionChange,
  type StatePage,
  type Store,
  type TicketsQuery,
} from '../../src/store/store.ts';
import { until } from '../support/until.ts';
import { revocationConformance } from './revocations.ts';
import { scanConformance } from './scan.ts';

/** A log that can be opened again after its store was closed. */
export interface TestLog {
  open(keying?: Keying): Promise<Store>;
  /** Call it after the last store on the log was closed. */
  remove(): Promise<void>;
}

export interface Engine {
  /** Creates an empty log. */
  create(): Promise<TestLog>;
  /** Whether the records are still there when the log is closed and opened again. */
  readonly keeps: boolean;
  /** Whether the log can be opened under another keying than it was made with. */
  readonly rekeys: boolean;
  /** Whether several stores can have the log open at once. */
  readonly nodes: 'one' | 'many';
}

/** 2026-01-01. */
export const NOW = 1_767_225_600_000;
export const HOUR = 3_600_000;
const catalog = createEventCatalog(['tickets.new']);

/** Removes nothing; a test overrides one of the limits. */
export const KEEP: Retention = {
  ...{ trimBeforeMs: 0, maxRecords: 1e9, stateBeforeMs: 0, dedupeBeforeMs: 0, revokedBeforeMs: 0, nowMs: 0 },
};
/** More characters than any test appends. */
const BIG = 1e9;
const PAGE = { hearing: HEARS_ALL, limit: 100, maxChars: BIG, page: null } as const;
export const ALL_MESSAGES: MessagesQuery = { tenantId: 't1', ticketId: 'k1', order: 'asc', ...PAGE };
export const ALL_TICKETS: Omit<TicketsQuery, 'tenantId'> = {
  ...{ agreementId: null, status: null, updatedAfter: null },
  ...PAGE,
};

function checked(name: string, payload: Record<string, unknown>, keying: Keying = 'room'): AppendEvent {
  const result = catalog.check(name, payload);
  assert.equal(result.kind, 'ok', `the test's own ${name} is not valid`);
  const { event } = result as Extract<typeof result, { kind: 'ok' }>;
  return { ...event, audiences: event.rooms.map((room) => audienceOf(keying, event.tenantId, room)) };
}

let drawn = 0;

/** A change that saves a whole session. */
export const sessionChange = (overrides: Partial<SessionChange> = {}): SessionChange => ({
  ...{ pid: 'p', owner: 'a', data: '{"sid":"s"}', expiresAtMs: 2e15, holder: { key: 'h', maxSessions: 3 } },
  ...{ put: [['tenant:t1', '1']], remove: [], isWhole: true },
  ...overrides,
});

export function message(overrides: Record<string, unknown> = {}, keying: Keying = 'room'): AppendEvent {
  const base = { tenantId: 't1', ticketId: 'k1', ticketStatus: 'OPEN', ticketUpdatedAt: '2026-01-01T00:00:00Z' };
  return checked('messages.new', { ...base, messageId: `m${++drawn}`, message: { text: 'hi' }, ...overrides }, keying);
}

export function ticket(overrides: Record<string, unknown> = {}, keying: Keying = 'room'): AppendEvent {
  const base = { tenantId: 't1', ticketId: 'k1', ticketStatus: 'OPEN', ticketUpdatedAt: '2026-01-01T00:00:00Z' };
  return checked('tickets.updated', { ...base, ticket: { n: ++drawn }, ...overrides }, keying);
}

/** An event that does not change any state. */
export function declared(overrides: Record<string, unknown> = {}, keying: Keying = 'room'): AppendEvent {
  return checked('tickets.new', { tenantId: 't1', n: ++drawn, ...overrides }, keying);
}

export function request(events: readonly AppendEvent[], atMs = NOW, key?: string, body = 'body'): AppendRequest {
  const idempotency = key === undefined ? null : { key, fingerprint: body };
  return { events, idempotency, acceptedAtMs: atMs };
}

/** Returns the cursors. Fails if the append is refused or any event is a duplicate. */
export async function append(store: Store, events: readonly AppendEvent[], atMs = NOW): Promise<Cursor[]> {
  const appended = await outcome(store, request(events, atMs));
  assert.ok(!duplicates(appended).includes(true));
  return appended.map(({ id }) => id);
}

export async function outcome(store: Store, body: AppendRequest): Promise<readonly AppendedEvent[]> {
  const result = await store.append(body);
  assert.equal(result.kind, 'appended');
  return result.kind === 'appended' ? result.events : [];
}

const ticketOf = (store: Store, tenantId: string, ticketId: string, hearing: Hearing = HEARS_ALL) =>
  store.ticket({ tenantId, ticketId, hearing });

/** The hearing of a caller that may hear these rooms only. */
export const only = (...rooms: Hearing['rooms']): { hearing: Hearing } => ({ hearing: { kinds: [], rooms } });

/** Reads all records after a cursor, page by page. */
export async function readAll(store: Store, audiences: readonly string[], after: Cursor, limit = 1000) {
  const records: LogRecord[] = [];
  for (let position = after; ; ) {
    const page = await store.read({ audiences, after: position, limit, maxChars: 1e9 });
    assert.equal(page.kind, 'ok');
    if (page.kind !== 'ok') throw new Error('unreachable');
    records.push(...page.records);
    position = page.position;
    if (!page.more) return { records, position };
  }
}

export function refusedAs(code: string): (error: unknown) => boolean {
  return (error) => error instanceof BridgeError && error.code === code;
}

const ids = (records: readonly LogRecord[]): Cursor[] => records.map(({ id }) => id);
const payloads = (of: readonly { readonly payload: string }[]): string[] => of.map(({ payload }) => payload);
const duplicates = (events: readonly AppendedEvent[]): boolean[] => events.map(({ duplicate }) => duplicate);
const many = (length: number, make: (n: number) => AppendEvent) => Array.from({ length }, (_, n) => make(n));
const readIds = async (store: Store, audiences: readonly string[], after = store.opened.head): Promise<Cursor[]> =>
  ids((await readAll(store, audiences, after)).records);
const newestOf = async (store: Store, audiences: readonly string[], limit = 100) =>
  (await store.newest({ audiences, before: null, limit, maxChars: BIG })).records;

/** The items of each page of a state list. */
export async function pagesOf(list: (page: string | null) => Promise<StatePage>): Promise<(readonly string[])[]> {
  const pages: (readonly string[])[] = [];
  for (let page: string | null = null; ; ) {
    const { items, nextPage } = await list(page);
    pages.push(items);
    if (nextPage === null) return pages;
    assert.doesNotMatch(nextPage, /\s/);
    page = nextPage;
  }
}

interface Tail {
  readonly records: LogRecord[];
  /** One entry per commit. */
  readonly commits: (readonly LogRecord[])[];
  readonly forgotten: Cursor[];
  readonly erased: (string | null)[];
  /** The listener throws on the next commit. */
  throwsNext: boolean;
}

export function tailOf(store: Store): Tail {
  const tail: Tail = { records: [], commits: [], forgotten: [], erased: [], throwsNext: false };
  store.tail({
    records(records) {
      const { throwsNext } = tail;
      tail.throwsNext = false;
      if (throwsNext) throw new Error('the listener fails on purpose');
      tail.commits.push(records);
      tail.records.push(...records);
    },
    // Thrown outside of the store, which only logs what a listener throws.
    gap: (kind) => queueMicrotask(() => assert.fail(`the tail reports a gap: ${kind}`)),
    forgotten: (through) => tail.forgotten.push(through),
    erased: (key) => tail.erased.push(key),
  });
  return tail;
}

/** Waits until the tail is at the head. The tail may lag behind an `append` that has resolved. */
export async function caughtUp(store: Store, { records }: Tail): Promise<void> {
  const { head } = await store.bounds();
  await until('the tail is at the head', () => (records.at(-1)?.id ?? store.opened.head) >= head);
}

export function storeConformance(name: string, engine: Engine): void {
  revocationConformance(name, engine);
  scanConformance(name, engine);

  /** Opens a store on a new log. The end of the test closes and removes it. `reopen` closes it first. */
  async function setUp(t: TestContext, keying: Keying = 'room') {
    const log = await engine.create();
    const stores: Store[] = [];
    t.after(async () => {
      await Promise.all(stores.map((store) => store.close()));
      await log.remove();
    });
    const open = async (openKeying: Keying = keying) => {
      const store = await log.open(openKeying);
      stores.push(store);
      const tail = tailOf(store);
      const { trim, erase } = store;
      // A tail that is behind what is removed gets a gap, and these cases are not about that.
      store.trim = async (retention) => {
        await caughtUp(store, tail);
        return trim(retention);
      };
      store.erase = async (request) => {
        await caughtUp(store, tail);
        return erase(request);
      };
      return { store, tail };
    };
    const first = await open();
    const reopen = async (openKeying?: Keying) => {
      await Promise.all(stores.map((store) => store.close()));
      return open(openKeying);
    };
    return { ...first, open, reopen };
  }

  /** Runs a case only if the engine has the feature. A case for a missing feature does not count as skipped. */
  const itIf = (applies: boolean) => (name: string, run: (t: TestContext) => Promise<void>) => {
    if (applies) it(name, run);
  };
  const itKeeps = itIf(engine.keeps);
  const itRekeys = itIf(engine.rekeys);
  const itHasNodes = itIf(engine.nodes === 'many');

  describe(`store: ${name}`, () => {
    describe('the log', () => {
      it('starts empty, with a valid cursor as its head', async (t) => {
        const { store } = await setUp(t);
        const bounds = await store.bounds();
        assert.deepEqual(bounds, store.opened);
        assert.equal(bounds.oldest, bounds.head);
        assert.equal(bounds.floor, bounds.head);
        assert.ok(isWellFormedCursor(bounds.head));
        assert.deepEqual(await store.resolve(bounds.head), { kind: 'ok' });
        assert.deepEqual(await readAll(store, ['tenant:t1'], bounds.head), { records: [], position: bounds.head });
        const newest = await store.newest({ audiences: ['tenant:t1'], before: null, limit: 5, maxChars: BIG });
        assert.deepEqual(newest, { records: [], head: bounds.head });
        const { bytes: _, ...stats } = await store.stats();
        assert.deepEqual(stats, { records: 0, oldestAcceptedAtMs: null, newestAcceptedAtMs: null });
        assert.equal(store.healthy(), true);
      });

      it('returns each record as it was appended, the payload byte for byte', async (t) => {
        const { store, tail } = await setUp(t);
        const hostile = [
          '\u2028\u2029\u0085',
          '\u0000\u001f\\"\'</script>',
          '\ud83d\ude00 \u05e9\u05dc\u05d5\u05dd',
          '\r\n\n',
          '\ud800',
          'x'.repeat(1_000_000),
        ];
        const events = [
          ...hostile.map((text) => declared({ text, ticketId: 'a:b', agreementId: 'g', userId: 'u' })),
          message({ agreementId: 'g1', tenantId: 'tenant:x', 'ké\u2028y': 1e21 }),
        ];
        const cursors = await append(store, events, NOW + 5);
        const expected = events.map((event, index) => ({
          ...{ id: cursors[index], event: event.event, rooms: event.rooms, audiences: event.audiences },
          ...{ payload: event.payload, acceptedAtMs: NOW + 5 },
        }));
        await until('the tail has all', () => tail.records.length === events.length);
        assert.deepEqual(tail.records, expected);
        const { records } = await readAll(store, ['tenant:t1', 'tenant:tenant:x'], store.opened.head);
        assert.deepEqual(records, expected);
      });

      it('hands every record to the tail once, in order, and a request in one commit', async (t) => {
        const { store, tail } = await setUp(t);
        const batches = Array.from({ length: 200 }, (_, n) =>
          Array.from({ length: 1 + (n % 7) }, () => declared({ ticketId: `k${n}` })),
        );
        const results = await Promise.all(batches.map((events) => append(store, events)));
        await caughtUp(store, tail);
        assert.deepEqual(ids(tail.records), results.flat().sort());
        assert.equal(new Set(results.flat()).size, batches.flat().length);
        assert.deepEqual((await readAll(store, ['tenant:t1'], store.opened.head, 64)).records, tail.records);
        for (const cursors of results) {
          const commit = tail.commits.find((records) => records.some(({ id }) => id === cursors[0]));
          const start = ids(commit ?? []).indexOf(cursors[0] as Cursor);
          assert.deepEqual(
            ids(commit ?? []).slice(start, start + cursors.length),
            cursors,
            'the request is in one commit',
          );
        }
      });

      it('hands the next commit to a listener that threw, and resolves every append', async (t) => {
        const { store, tail } = await setUp(t);
        tail.throwsNext = true;
        const [first] = await append(store, [declared()]);
        await until('the listener has thrown', () => !tail.throwsNext);
        const [second] = await append(store, [declared()]);
        await caughtUp(store, tail);
        assert.deepEqual(ids(tail.records), [second]);
        assert.deepEqual(await readIds(store, ['tenant:t1']), [first, second]);
      });

      it('appends a batch of 1000 events whole and in order', async (t) => {
        const { store, tail } = await setUp(t);
        const events = many(1000, (n) => declared({ n }));
        const cursors = await append(store, events);
        assert.deepEqual(cursors, [...cursors].sort());
        await caughtUp(store, tail);
        assert.deepEqual(payloads(tail.records), payloads(events));
      });

      it('issues rising cursors when the clock steps back', async (t) => {
        const { store } = await setUp(t);
        const [a] = await append(store, [declared()], NOW);
        const [b] = await append(store, [declared()], NOW - 10 * HOUR);
        const [c] = await append(store, [declared()], 1);
        assert.ok((a as Cursor) < (b as Cursor) && (b as Cursor) < (c as Cursor));
      });

      itKeeps('continues where it was after a restart', async (t) => {
        const { store, reopen } = await setUp(t);
        const before = await append(store, [declared(), message(), ticket()]);
        const again = await reopen();
        assert.equal(again.store.opened.head, before.at(-1));
        assert.equal(again.store.opened.oldest, before[0]);
        const after = await append(again.store, [declared()]);
        assert.ok((after[0] as Cursor) > (before.at(-1) as Cursor));
        await caughtUp(again.store, again.tail);
        assert.deepEqual(ids(again.tail.records), after);
        assert.deepEqual(await readIds(again.store, ['tenant:t1'], store.opened.head), [...before, ...after]);
        assert.deepEqual(await again.store.resolve(before[1] as Cursor), { kind: 'ok' });
      });

      it('does not know cursors of another log, with a wrong nonce, or ahead of the head', async (t) => {
        const { store } = await setUp(t);
        const [first, second] = await append(store, [declared(), declared()]);
        const parts = parseCursor(second as Cursor);
        assert.ok(parts !== null);
        const other = (text: string) => text.replace(/./, (char) => (char === 'z' ? 'y' : 'z'));
        const { floor } = await store.bounds();
        const unknown = { kind: 'unknown', oldest: first, head: second, floor };
        const strangers = [
          formatCursor({ ...parts, epoch: other(parts.epoch) }),
          formatCursor({ ...parts, nonce: other(parts.nonce) }),
          formatCursor({ ...parts, seq: parts.seq + 1 }),
          formatCursor({ ...parts, seq: Number.MAX_SAFE_INTEGER }),
          formatCursor({ ...parts, seq: 0, nonce: 'zzzz' }),
          'nonsense',
          '1700000000000-0',
        ];
        for (const cursor of strangers) {
          assert.deepEqual(await store.resolve(cursor), unknown, cursor);
          const read = await store.read({ audiences: ['tenant:t1'], after: cursor as Cursor, limit: 1, maxChars: 1 });
          assert.deepEqual(read, unknown, cursor);
        }
      });

      it('keeps its head when every record is trimmed, even after a restart', async (t) => {
        const { store, reopen } = await setUp(t);
        const before = await append(store, [declared(), declared()]);
        await store.trim({ ...KEEP, maxRecords: 0 });
        const head = before.at(-1) as Cursor;
        const empty = { floor: head, oldest: head, head };
        assert.deepEqual(await store.bounds(), empty);
        const again = engine.keeps ? (await reopen()).store : store;
        assert.deepEqual(await again.bounds(), empty);
        const [next] = await append(again, [declared()]);
        assert.ok((next as Cursor) > head);
        assert.deepEqual(await readIds(again, ['tenant:t1'], head), [next]);
      });

      it('completes the appends under way before it closes, and rejects new ones', async (t) => {
        const { store } = await setUp(t);
        const pending = Array.from({ length: 50 }, () => append(store, [declared()]));
        const closed = store.close();
        assert.equal((await Promise.all(pending)).length, 50);
        await closed;
        await assert.rejects(store.append(request([declared()])), refusedAs('unavailable'));
        await store.close();
      });
    });

    describe('reading', () => {
      it('merges the audiences in order, each record once, and no record of other audiences', async (t) => {
        const { store, tail } = await setUp(t);
        for (let n = 0; n < 300; n++) {
          const where = { tenantId: `t${n % 3}`, ticketId: `k${n % 11}`, agreementId: n % 2 ? `g${n % 5}` : null };
          void append(store, [declared(where)]);
        }
        await until('all are appended', () => tail.records.length === 300);
        const choices = [
          ['tenant:t1'],
          ['ticket:k3', 'ticket:k3'],
          ['tenant:t0', 'ticket:k4', 'agreement:g1', 'user:nobody'],
        ];
        for (const audiences of [...choices, ['user:nobody'], []]) {
          const expected = tail.records.filter((record) => record.rooms.some((room) => audiences.includes(room)));
          for (const limit of [1, 7, 1000]) {
            const { records, position } = await readAll(store, audiences, store.opened.head, limit);
            assert.deepEqual(records, expected);
            assert.equal(position, tail.records.at(-1)?.id);
          }
          const newest = await store.newest({ audiences, before: null, limit: 9, maxChars: BIG });
          const before = (expected.at(-3) ?? tail.records[0])?.id as Cursor;
          const older = await store.newest({ audiences, before, limit: 4, maxChars: BIG });
          assert.deepEqual(older.records, expected.slice(0, -3).slice(-4), 'only what lies before');
          const small = await store.newest({ audiences, before: null, limit: 9, maxChars: 1 });
          assert.deepEqual(
            ids(small.records),
            ids(newest.records).slice(-1),
            'stops after the record that passes maxChars',
          );
          assert.deepEqual(newest, { records: expected.slice(-9), head: tail.records.at(-1)?.id });
          const middle = tail.records[150]?.id as Cursor;
          const rest = await readAll(store, audiences, middle, 10);
          assert.deepEqual(
            ids(rest.records),
            ids(expected).filter((id) => id > middle),
          );
        }
      });

      it('merges many audiences', async (t) => {
        const { store, tail } = await setUp(t);
        const audiences = Array.from({ length: 600 }, (_, n) => `ticket:k${n}`);
        const events = many(1000, (n) => declared({ ticketId: `k${(n * 7) % 700}` }));
        await append(store, events);
        await caughtUp(store, tail);
        const expected = tail.records.filter((record) => record.rooms.some((room) => audiences.includes(room)));
        assert.deepEqual((await readAll(store, audiences, store.opened.head, 100)).records, expected);
      });

      it('stops at the limit or past maxChars, and returns the position and whether there is more', async (t) => {
        const { store } = await setUp(t);
        const events = many(5, () => declared({ text: 'x'.repeat(1000) }));
        const cursors = await append(store, events);
        await append(store, [declared({ tenantId: 'elsewhere' })]);
        const head = (await store.bounds()).head;
        const read = async (limit: number, maxChars: number, after = store.opened.head) => {
          const result = await store.read({ audiences: ['tenant:t1'], after, limit, maxChars });
          return result.kind === 'ok' ? [result.records.length, result.position, result.more] : [result.kind];
        };
        assert.deepEqual(await read(3, 1e6), [3, cursors[2], true]);
        assert.deepEqual(await read(5, 1e6), [5, head, false]);
        assert.deepEqual(await read(5, 1), [1, cursors[0], true]);
        assert.deepEqual(await read(5, 1500), [2, cursors[1], true]);
        assert.deepEqual(await read(5, 1, cursors[3]), [1, head, false]);
        assert.deepEqual(await read(5, 1, cursors[4]), [0, head, false]);
      });

      it('keeps the events of a filter, and says how far it came', async (t) => {
        const { store } = await setUp(t);
        const events = many(2_600, (n) => (n % 1_100 === 1_099 ? message() : declared({ n })));
        for (let from = 0; from < events.length; from += 650) await append(store, events.slice(from, from + 650));
        const wanted = payloads(events.filter(({ event }) => event === 'messages.new'));
        for (const audiences of [['tenant:t1'], ['tenant:t1', 'ticket:k1']]) {
          for (const limit of [1, 5]) {
            const found: LogRecord[] = [];
            let position = store.opened.head;
            for (let more = true; more; ) {
              const query = { audiences, events: ['messages.new', 'messages.other'], after: position, limit };
              const page = await store.read({ ...query, maxChars: BIG });
              assert.ok(page.kind === 'ok' && page.records.length <= limit);
              assert.ok(page.position > position || !page.more, 'it comes further');
              assert.deepEqual(await store.resolve(page.position), { kind: 'ok' });
              found.push(...page.records);
              ({ position, more } = page);
            }
            assert.deepEqual(payloads(found), wanted);
            assert.equal(position, (await store.bounds()).head);
          }
        }
        const newest = (limit: number, names: string[]) =>
          store.newest({ audiences: ['tenant:t1'], events: names, limit, maxChars: BIG });
        assert.deepEqual(payloads((await newest(5, ['messages.new'])).records), wanted.slice(-1));
        assert.deepEqual((await newest(5, ['tickets.updated'])).records, []);
        assert.deepEqual(payloads((await newest(2, ['tickets.new'])).records), payloads(events.slice(-2)));
      });

      it('neither loses nor repeats a record while appends run', async (t) => {
        const { store, tail } = await setUp(t);
        const appending = (async () => {
          for (let n = 0; n < 40; n++)
            await Promise.all([1, 2, 3].map((k) => append(store, [declared({ ticketId: `k${k}` })])));
        })();
        const read: LogRecord[] = [];
        for (let position = store.opened.head; read.length < 120; ) {
          const page = await readAll(store, ['tenant:t1', 'ticket:k2'], position, 5);
          read.push(...page.records);
          position = page.position;
        }
        await appending;
        await caughtUp(store, tail);
        assert.deepEqual(ids(read), ids(tail.records));
      });
    });

    describe('repeats', () => {
      it('replies to a repeated key with the first cursors, and to another body with a conflict', async (t) => {
        const { store, tail, reopen } = await setUp(t);
        const events = [declared(), declared()];
        const first = await outcome(store, request(events, NOW, 'key-1', 'a'));
        const again = await outcome(store, request(events, NOW + 1, 'key-1', 'a'));
        assert.deepEqual(
          again,
          first.map((result) => ({ ...result, duplicate: true })),
        );
        assert.deepEqual(await store.append(request(events, NOW, 'key-1', 'b')), { kind: 'conflict' });
        assert.equal((await outcome(store, request(events, NOW, 'key-2', 'a')))[0]?.duplicate, false);
        await caughtUp(store, tail);
        assert.equal(tail.records.length, 4);
        const reopened = engine.keeps ? (await reopen()).store : store;
        assert.deepEqual(await outcome(reopened, request(events, NOW, 'key-1', 'a')), again);
        assert.equal((await reopened.stats()).records, 4);
      });

      it('accepts one of several concurrent requests with the same key', async (t) => {
        const { store, tail } = await setUp(t);
        const results = await Promise.all(
          Array.from({ length: 20 }, (_, n) => store.append(request([declared()], NOW, 'key', n % 2 ? 'odd' : 'even'))),
        );
        const appended = results.filter((result) => result.kind === 'appended').flatMap((result) => result.events);
        assert.equal(appended.length, 10);
        assert.equal(appended.filter(({ duplicate }) => !duplicate).length, 1);
        assert.equal(new Set(appended.map(({ id }) => id)).size, 1);
        await caughtUp(store, tail);
        assert.equal(tail.records.length, 1);
      });

      it('removes keys by their age', async (t) => {
        const { store } = await setUp(t);
        await outcome(store, request([declared()], NOW, 'old'));
        await outcome(store, request([declared()], NOW + HOUR, 'new'));
        await store.trim({ ...KEEP, dedupeBeforeMs: NOW + HOUR });
        assert.equal((await outcome(store, request([declared()], NOW, 'new')))[0]?.duplicate, true);
        assert.equal((await outcome(store, request([declared()], NOW, 'old')))[0]?.duplicate, false);
      });

      it('finds a repeat by messageId or providerMessageId within a ticket', async (t) => {
        const { store, tail, reopen } = await setUp(t);
        const known = message({ messageId: 'm', providerMessageId: 'p' });
        const [id] = await append(store, [known]);
        const appended = async (overrides: Record<string, unknown>, on = store) =>
          (await outcome(on, request([message(overrides)])))[0] as AppendedEvent;
        const repeat = { id, duplicate: true, rooms: known.rooms };
        assert.deepEqual(await appended({ messageId: 'm', providerMessageId: 'p' }), repeat);
        assert.deepEqual(await appended({ messageId: 'm', providerMessageId: 'q' }), repeat);
        assert.deepEqual(await appended({ messageId: null, providerMessageId: 'p' }), repeat);
        assert.deepEqual(await appended({ messageId: 'other', providerMessageId: 'p' }), repeat);
        for (const fresh of [
          { messageId: 'm', providerMessageId: 'p', tenantId: 't2' },
          { messageId: null, providerMessageId: 'p', ticketId: 'k2' },
          { messageId: 'm', providerMessageId: 'q', ticketId: 'k2' },
          { messageId: 'p', providerMessageId: 'm' },
        ]) {
          assert.equal((await appended(fresh)).duplicate, false);
        }
        await caughtUp(store, tail);
        assert.equal(tail.records.length, 5);
        await store.trim({ ...KEEP, maxRecords: 0 });
        const reopened = engine.keeps ? (await reopen()).store : store;
        assert.deepEqual(await appended({ messageId: 'm' }, reopened), repeat, 'while the state keeps the message');
        assert.equal((await reopened.messages(ALL_MESSAGES)).items.length, 2);
      });

      it('finds a repeat within a request and among concurrent requests', async (t) => {
        const { store, tail } = await setUp(t);
        const twice = [message({ messageId: 'a' }), declared(), message({ messageId: 'a' })];
        const results = await outcome(store, request(twice));
        assert.deepEqual(duplicates(results), [false, false, true]);
        assert.equal(results[2]?.id, results[0]?.id);
        await caughtUp(store, tail);
        assert.equal(tail.records.length, 2);
        const racing = await Promise.all(
          Array.from({ length: 20 }, () => outcome(store, request([message({ messageId: 'b' })]))),
        );
        assert.equal(racing.flat().filter(({ duplicate }) => !duplicate).length, 1);
        assert.equal(new Set(racing.flat().map(({ id }) => id)).size, 1);
      });

      it('replies to a repeated key with the result of its first use, including duplicates', async (t) => {
        const { store } = await setUp(t);
        const [id] = await append(store, [message({ messageId: 'a' })]);
        const events = [message({ messageId: 'a' }), message({ messageId: 'b' })];
        const first = await outcome(store, request(events, NOW, 'key'));
        assert.deepEqual(duplicates(first), [true, false]);
        assert.equal(first[0]?.id, id);
        assert.deepEqual(
          await outcome(store, request(events, NOW, 'key')),
          first.map((result) => ({ ...result, duplicate: true })),
        );
      });
    });

    describe('state', () => {
      it('shows the newest update of each ticket, and the later one of two with equal times', async (t) => {
        const { store } = await setUp(t);
        const newest = async () => (await ticketOf(store, 't1', 'k1')).payload;
        assert.equal(await newest(), null);
        const at = (ticketUpdatedAt: string) => ticket({ ticketUpdatedAt });
        const steps: [AppendEvent, boolean][] = [
          [at('2026-01-01T00:00:01Z'), true],
          [at('2026-01-01T00:00:00.999999Z'), false],
          [at('2026-01-01T00:00:01.000Z'), true],
          [at('2026-01-01T02:00:01+02:00'), true],
          [at('2026-01-01T00:00:01.0000001Z'), true],
          [at('2025-12-31T23:59:59Z'), false],
        ];
        let expected: string | null = null;
        for (const [event, overwrites] of steps) {
          const [cursor] = await append(store, [event]);
          if (overwrites) expected = event.payload;
          assert.deepEqual(await ticketOf(store, 't1', 'k1'), { payload: expected, cursor });
        }
        const both = [at('2026-01-02T00:00:00Z'), at('2026-01-01T00:00:00Z')];
        await append(store, both);
        assert.equal(await newest(), both[0]?.payload);
        await append(store, [message({ ticketId: 'k1' })]);
        assert.equal(await newest(), both[0]?.payload);
        assert.equal((await ticketOf(store, 't2', 'k1')).payload, null);
      });

      it('lists tickets newest first, then by cursor, with filters and pages', async (t) => {
        const { store } = await setUp(t);
        const make = (n: number, second: number, overrides = {}) =>
          ticket({ ticketId: `k${n}`, ticketUpdatedAt: `2026-01-01T00:00:0${second}Z`, ...overrides });
        const events = [
          make(1, 5),
          make(2, 9),
          make(3, 5, { agreementId: 'g1' }),
          make(4, 1, { ticketStatus: 'CLOSED' }),
          make(5, 5),
        ];
        await append(store, events);
        await append(store, [ticket({ tenantId: 't2' }), message({ ticketId: 'only-messages' })]);
        const of = (...ns: number[]) => ns.map((n) => events[n - 1]?.payload);
        const list = async (overrides: Partial<TicketsQuery> = {}) =>
          store.tickets({ ...ALL_TICKETS, tenantId: 't1', ...overrides });
        const all = await list();
        assert.deepEqual(all.items, of(2, 5, 3, 1, 4));
        assert.equal(all.nextPage, null);
        assert.equal(all.cursor, (await store.bounds()).head);
        assert.deepEqual((await list({ status: 'CLOSED' })).items, of(4));
        assert.deepEqual((await list(only('agreement:g1', 'agreement:g2'))).items, of(3));
        assert.deepEqual((await list(only())).items, []);
        assert.deepEqual((await list(only('ticket:k4', 'ticket:k2', 'ticket:k2', 'ticket:nope'))).items, of(2, 4));
        assert.deepEqual((await list(only('ticket:k4', 'ticket:k1', 'agreement:g1'))).items, of(3, 1, 4), 'either');
        assert.deepEqual((await list(only('agreement:g1', 'user:u1'))).items, of(3));
        assert.deepEqual((await list(only('ticket:k4'))).items, of(4));
        assert.deepEqual((await list({ agreementId: 'g1' })).items, of(3));
        assert.deepEqual((await list({ agreementId: 'g2' })).items, []);
        assert.deepEqual((await list({ agreementId: 'g1', ...only('ticket:k1', 'ticket:k3') })).items, of(3));
        assert.deepEqual((await list({ agreementId: 'g1', ...only('ticket:k1', 'agreement:g2') })).items, []);
        assert.deepEqual((await list({ updatedAfter: instantKey('2026-01-01T00:00:05Z') })).items, of(2));
        assert.deepEqual(
          (await list({ updatedAfter: instantKey('2026-01-01T00:00:04.9Z'), status: 'OPEN' })).items,
          of(2, 5, 3, 1),
        );
        for (const overrides of [{}, only('ticket:k1', 'ticket:k2', 'ticket:k3', 'ticket:k4', 'ticket:k5')]) {
          const pages = await pagesOf((page) => list({ ...overrides, limit: 2, page }));
          assert.deepEqual(pages, [of(2, 5), of(3, 1), of(4)]);
        }
        for (const page of ['nonsense', '', '1', "'; --", '9'.repeat(400)]) {
          await assert.rejects(list({ page }), refusedAs('invalid_request'), page);
        }
      });

      it('lists each message of a ticket once, in both orders, with pages', async (t) => {
        const { store } = await setUp(t);
        const events = many(5, () => message());
        for (const event of events) await append(store, [event]);
        const others = [message({ ticketId: 'k2' }), message({ tenantId: 't2' })];
        await outcome(store, request([events[0] as AppendEvent, ...others]));
        const list = (order: 'asc' | 'desc', limit: number, page: string | null = null) =>
          store.messages({ ...ALL_MESSAGES, order, limit, page });
        for (const order of ['asc', 'desc'] as const) {
          const expected = payloads(order === 'asc' ? events : events.toReversed());
          assert.deepEqual((await list(order, 5)).items, expected);
          assert.deepEqual((await pagesOf((page) => list(order, 2, page))).flat(), expected);
        }
        assert.deepEqual(await store.messages({ ...ALL_MESSAGES, ticketId: 'none' }), {
          ...{ items: [], nextPage: null, cursor: (await store.bounds()).head },
        });
        await assert.rejects(list('asc', 5, 'x y'), refusedAs('invalid_request'));
      });

      /** Five messages of one ticket, and five tickets from the oldest to the newest. */
      async function appendFive(store: Store, text: string) {
        const messages = many(5, () => message({ message: { text } }));
        const tickets = many(5, (n) =>
          ticket({ ticketId: `k${n}`, ticketUpdatedAt: `2026-01-0${n + 1}T00:00:00Z`, ticket: { text } }),
        );
        for (const event of [...messages, ...tickets]) await append(store, [event]);
        return { messages, tickets };
      }

      it('returns a whole page, even if its payloads are large', async (t) => {
        const { store } = await setUp(t);
        const { messages, tickets } = await appendFive(store, 'x'.repeat(1024 * 1024));
        for (const limit of [4, 5]) {
          const ticketPage = await store.tickets({ ...ALL_TICKETS, tenantId: 't1', limit });
          assert.deepEqual(ticketPage.items, payloads(tickets.toReversed().slice(0, limit)));
          const messagePage = await store.messages({ ...ALL_MESSAGES, limit });
          assert.deepEqual(messagePage.items, payloads(messages.slice(0, limit)));
          for (const { nextPage } of [ticketPage, messagePage]) assert.equal(nextPage !== null, limit === 4);
        }
      });

      it('ends a page with the item that passes maxChars, and continues after it', async (t) => {
        const { store } = await setUp(t);
        const { messages, tickets } = await appendFive(store, 'x'.repeat(1000));
        const inPairs = (events: readonly AppendEvent[]) => [0, 2, 4].map((at) => payloads(events.slice(at, at + 2)));
        for (const heard of [{}, only('ticket:k0', 'ticket:k1', 'ticket:k2', 'ticket:k3', 'ticket:k4')]) {
          const query = { ...ALL_TICKETS, ...heard, tenantId: 't1', maxChars: 1500 };
          assert.deepEqual(await pagesOf((page) => store.tickets({ ...query, page })), inPairs(tickets.toReversed()));
        }
        for (const order of ['asc', 'desc'] as const) {
          const expected = inPairs(order === 'asc' ? messages : messages.toReversed());
          const query = { ...ALL_MESSAGES, order, maxChars: 1500 };
          assert.deepEqual(await pagesOf((page) => store.messages({ ...query, page })), expected);
        }
      });

      /** The event, published to these rooms and no others. */
      const to = (event: AppendEvent, ...rooms: AppendEvent['rooms']): AppendEvent => ({
        ...event,
        rooms,
        audiences: rooms.map((room) => audienceOf('room', event.tenantId, room)),
      });

      it('shows an item only to a hearing of a room of the record that it shows', async (t) => {
        const { store } = await setUp(t);
        const where = (agreementId: string, minute: number) => ({
          ...{ ticketId: 'moved', agreementId, ticketUpdatedAt: `2026-01-01T00:0${minute}:00Z` },
        });
        const everyone: Hearing = { kinds: ['ticket', 'agreement'], rooms: ['tenant:t1', 'user:u1'] };
        const [ofA, ofB, alone, last] = [
          message(where('a', 1)),
          message(where('b', 2)),
          to(message(where('a', 2)), 'user:u1'),
          message(where('a', 3)),
        ];
        // The ticket moves from A to B and back; each update and message went to the agreement of its time.
        const events = [ticket(where('a', 1)), ofA, ticket(where('b', 2)), ofB, alone, ticket(where('a', 3)), last];
        const seen = async (hearing: Hearing) => {
          const query = { ...ALL_MESSAGES, ticketId: 'moved', hearing };
          const [asc, desc, paged] = [
            (await store.messages(query)).items,
            (await store.messages({ ...query, order: 'desc' })).items,
            (await pagesOf((page) => store.messages({ ...query, limit: 1, page }))).flat(),
          ];
          assert.deepEqual(desc.toReversed(), asc);
          assert.deepEqual(paged, asc);
          const list = await store.tickets({ ...ALL_TICKETS, tenantId: 't1', hearing });
          const { payload } = await ticketOf(store, 't1', 'moved', hearing);
          assert.deepEqual(list.items, payload === null ? [] : [payload], 'the list shows what the ticket shows');
          return { payload, messages: asc };
        };
        const steps: [number, string | null, string | null][] = [
          [2, 'a', null],
          [5, null, 'b'],
          [7, 'a', null],
        ];
        let appended = 0;
        for (const [through, forA, forB] of steps) {
          await append(store, events.slice(appended, through));
          appended = through;
          const newest = events.slice(0, through).findLast(({ ticket }) => ticket !== null)?.payload ?? null;
          assert.equal((await seen(only('agreement:a').hearing)).payload, forA && newest);
          assert.equal((await seen(only('agreement:b').hearing)).payload, forB && newest);
        }
        assert.deepEqual((await seen(only('agreement:a').hearing)).messages, payloads([ofA, last]));
        assert.deepEqual((await seen(only('agreement:b').hearing)).messages, payloads([ofB]));
        assert.deepEqual((await seen(only('user:u1').hearing)).messages, payloads([alone]));
        assert.deepEqual(await seen(only('user:u2', 'agreement:c').hearing), { payload: null, messages: [] });
        assert.deepEqual((await seen(only('ticket:moved').hearing)).messages, payloads([ofA, ofB, last]));
        assert.deepEqual(
          (await seen(only('agreement:b', 'ticket:other', 'user:u1').hearing)).messages,
          payloads([ofB, alone]),
        );
        assert.deepEqual((await seen(everyone)).messages, payloads([ofA, ofB, alone, last]));
        assert.deepEqual(
          (await seen({ ...everyone, rooms: ['tenant:t1', 'user:u2'] })).messages,
          payloads([ofA, ofB, last]),
        );
      });

      it('says nothing of hidden items: no page follows the last item that the caller may read', async (t) => {
        const { store } = await setUp(t);
        const of = (agreementId: string) => many(3, () => message({ agreementId }));
        const [visible, hidden] = [of('a'), of('b')];
        await append(store, [...visible, ...hidden]);
        const query = { ...ALL_MESSAGES, ...only('agreement:a') };
        const page = await store.messages({ ...query, limit: 3 });
        assert.deepEqual(page, { items: payloads(visible), nextPage: null, cursor: page.cursor });
        const first = await store.messages({ ...query, order: 'desc', limit: 3 });
        assert.deepEqual(first.items, payloads(visible.toReversed()));
        assert.equal(first.nextPage, null);
      });

      it('finds few among many tickets, by any filters together', async (t) => {
        const { store } = await setUp(t);
        const at = (second: number) => new Date(NOW + second * 1000).toISOString();
        const make = (n: number) => {
          const [ticketStatus, agreementId] = [n % 600 === 0 ? 'RARE' : 'OPEN', n % 2 === 0 ? 'even' : 'odd'];
          return ticket({ ticketId: `k${n}`, ticketUpdatedAt: at(n), ticketStatus, agreementId });
        };
        const events = many(2_400, make);
        for (let from = 0; from < events.length; from += 800) await append(store, events.slice(from, from + 800));
        const rare = payloads([events[1800], events[1200], events[600], events[0]] as AppendEvent[]);
        const list = (overrides: Partial<TicketsQuery>) =>
          store.tickets({ ...ALL_TICKETS, tenantId: 't1', ...overrides });
        const even = only('agreement:even', 'ticket:k1', 'ticket:k600');
        for (const filter of [{}, { agreementId: 'even' }, even, { ...even, agreementId: 'even' }]) {
          assert.deepEqual((await list({ ...filter, status: 'RARE' })).items, rare);
          assert.deepEqual(await pagesOf((page) => list({ ...filter, status: 'RARE', limit: 2, page })), [
            rare.slice(0, 2),
            rare.slice(2),
          ]);
          const recent = { ...filter, status: 'RARE', updatedAfter: instantKey(at(600)) };
          assert.deepEqual((await list(recent)).items, rare.slice(0, 2));
          assert.deepEqual((await list({ ...filter, status: 'NONE' })).items, []);
        }
        assert.deepEqual((await list({ status: 'RARE', agreementId: 'odd' })).items, []);
        assert.equal((await pagesOf((page) => list({ ...even, limit: 1000, page }))).flat().length, 1_201);
        assert.equal((await list({ limit: 1000, agreementId: 'odd' })).items.length, 1_000);
      });

      it('lets callers take turns', async (t) => {
        const { store } = await setUp(t);
        await append(store, [message()]);
        let done = 0;
        const busy = Array.from({ length: 400 }, () =>
          store.messages({ ...ALL_MESSAGES, caller: 'busy' }).then(() => done++),
        );
        await store.messages({ ...ALL_MESSAGES, caller: 'other' });
        assert.ok(done < 200, `${done} of 400 reads of another caller came first`);
        await Promise.all(busy);
      });

      itKeeps('is complete after a restart', async (t) => {
        const { store, reopen } = await setUp(t);
        const events = [ticket(), message()];
        const cursors = await append(store, events);
        const again = (await reopen()).store;
        assert.deepEqual(await ticketOf(again, 't1', 'k1'), { payload: events[0]?.payload, cursor: cursors[1] });
        assert.deepEqual((await again.messages(ALL_MESSAGES)).items, [events[1]?.payload]);
        await append(again, [ticket({ ticketUpdatedAt: '2020-01-01T00:00:00Z' })]);
        assert.equal((await ticketOf(again, 't1', 'k1')).payload, events[0]?.payload);
      });
    });

    describe('retention', () => {
      it('trims by age and by number, and resolves the cursors that missed records as expired', async (t) => {
        const { store, tail } = await setUp(t);
        const c: Cursor[] = [];
        for (let n = 0; n < 10; n++) c.push(...(await append(store, [declared({ ticketId: `k${n}` })], NOW + n)));
        await store.trim({ ...KEEP, trimBeforeMs: NOW + 3 });
        assert.deepEqual(await store.bounds(), { floor: c[2], oldest: c[3], head: c[9] });
        const { bytes, ...stats } = await store.stats();
        assert.deepEqual(stats, { records: 7, oldestAcceptedAtMs: NOW + 3, newestAcceptedAtMs: NOW + 9 });
        assert.ok(bytes > 0);
        await until('forgotten has been called', () => tail.forgotten.at(-1) === c[2]);
        await store.trim({ ...KEEP, trimBeforeMs: NOW + 3, maxRecords: 5 });
        const bounds: LogBounds = { floor: c[4] as Cursor, oldest: c[5] as Cursor, head: c[9] as Cursor };
        assert.deepEqual(await store.bounds(), bounds);
        assert.equal((await store.stats()).records, 5);
        for (const cursor of [store.opened.head, c[0], c[3]]) {
          assert.deepEqual(await store.resolve(cursor as Cursor), { kind: 'expired', ...bounds });
          const read = await store.read({ audiences: ['tenant:t1'], after: cursor as Cursor, limit: 1, maxChars: 1 });
          assert.deepEqual(read, { kind: 'expired', ...bounds });
        }
        assert.deepEqual(await store.resolve(c[4] as Cursor), { kind: 'ok' });
        assert.deepEqual(await readIds(store, ['tenant:t1'], c[4] as Cursor), c.slice(5));
        assert.deepEqual(ids(await newestOf(store, ['tenant:t1', 'ticket:k1'])), c.slice(5));
        const atFloor = parseCursor(c[4] as Cursor);
        assert.ok(atFloor !== null);
        const forged = formatCursor({ ...atFloor, nonce: atFloor.nonce === 'aaaa' ? 'bbbb' : 'aaaa' });
        assert.equal((await store.resolve(forged)).kind, 'unknown');
      });

      it('trims many records while appends run', async (t) => {
        const { store } = await setUp(t);
        const batches = Array.from({ length: 12 }, () => many(1000, () => declared()));
        for (const events of batches) await append(store, events);
        const trimming = store.trim({ ...KEEP, trimBeforeMs: NOW + 1 });
        const [id] = await append(store, [declared()], NOW + 1);
        await trimming;
        assert.partialDeepStrictEqual(await store.stats(), { records: 1, oldestAcceptedAtMs: NOW + 1 });
        assert.equal((await store.bounds()).oldest, id);
      });

      it('keeps the state when it trims the log', async (t) => {
        const { store } = await setUp(t);
        const events = [ticket(), message(), message(), ticket({ ticketUpdatedAt: '2025-01-01T00:00:00Z' })];
        await append(store, events);
        await store.trim({ ...KEEP, maxRecords: 0 });
        const list = async () => (await store.messages(ALL_MESSAGES)).items;
        assert.equal((await ticketOf(store, 't1', 'k1')).payload, events[0]?.payload);
        assert.deepEqual(await list(), [events[1]?.payload, events[2]?.payload]);
        assert.deepEqual(await newestOf(store, ['tenant:t1']), []);
        const update = ticket({ ticketUpdatedAt: '2026-02-01T00:00:00Z' });
        await append(store, [update]);
        assert.equal((await ticketOf(store, 't1', 'k1')).payload, update.payload);
        await store.trim({ ...KEEP, maxRecords: 0 });
        assert.equal((await ticketOf(store, 't1', 'k1')).payload, update.payload);
        assert.equal((await list()).length, 2);
      });

      it('removes a ticket and its messages once its last event of any kind is old enough', async (t) => {
        const { store } = await setUp(t);
        const repeated = () => message({ messageId: 'm', ticketId: 'quiet' });
        await append(store, [repeated(), ticket({ ticketId: 'quiet' })]);
        await append(store, [ticket({ ticketId: 'busy' }), message({ ticketId: 'busy' })]);
        await append(store, [message({ ticketId: 'busy' })], NOW + 1);
        await append(store, [message({ ticketId: 'busy', tenantId: 't2' })], NOW);
        await store.trim({ ...KEEP, stateBeforeMs: NOW + 1 });
        assert.equal((await ticketOf(store, 't1', 'quiet')).payload, null);
        assert.notEqual((await ticketOf(store, 't1', 'busy')).payload, null);
        const list = async (tenantId: string, ticketId: string) =>
          (await store.messages({ ...ALL_MESSAGES, tenantId, ticketId })).items.length;
        assert.deepEqual([await list('t1', 'quiet'), await list('t1', 'busy'), await list('t2', 'busy')], [0, 2, 0]);
        assert.equal((await store.stats()).records, 6, 'the log has its own retention');
        assert.deepEqual(duplicates(await outcome(store, request([repeated()], NOW + 1))), [false]);
        assert.equal(await list('t1', 'quiet'), 1);
        await store.trim({ ...KEEP, maxRecords: 0, stateBeforeMs: NOW + 100 * HOUR });
        assert.deepEqual((await store.tickets({ ...ALL_TICKETS, tenantId: 't1' })).items, []);
        assert.deepEqual([await list('t1', 'quiet'), await list('t1', 'busy')], [0, 0]);
      });

      it('removes messages with ids of any length', async (t) => {
        const { store } = await setUp(t);
        const long = message({ messageId: 'm'.repeat(5_000), providerMessageId: 'p'.repeat(5_000) });
        for (const forget of [
          () => store.trim({ ...KEEP, maxRecords: 0, stateBeforeMs: NOW + HOUR }),
          () => store.erase({ tenantId: 't1', ticketId: null }),
        ]) {
          await append(store, [long]);
          await forget();
          assert.equal((await store.stats()).records, 0);
          assert.equal((await newestOf(store, long.audiences)).length, 0);
        }
      });
    });

    describe('sessions', () => {
      const change = (overrides: Partial<SessionChange> = {}) => sessionChange({ expiresAtMs: NOW + 10, ...overrides });
      const room = (name: string, data = '1') => [name, data] as const;
      const saved = (overrides = {}) => ({
        ...{ pid: 'p', owner: 'a', data: '{"sid":"s"}', rooms: [room('tenant:t1')], expiresAtMs: NOW + 10 },
        ...overrides,
      });

      it('belong to one owner, and only the owner can write, extend or drop them', async (t) => {
        const { store, reopen } = await setUp(t);
        assert.equal(await store.claimSession('p', 'a', NOW), null);
        assert.equal(await store.saveSession(change()), 'saved');
        assert.equal(await store.saveSession(change({ owner: 'b' })), 'foreign');
        assert.equal(await store.saveSession(change({ owner: 'b', isWhole: false })), 'foreign');
        const reopened = engine.keeps ? (await reopen()).store : store;
        assert.deepEqual(await reopened.claimSession('p', 'b', NOW), saved({ owner: 'b' }));
        assert.equal(await reopened.saveSession(change()), 'foreign', 'the old owner can no longer write');
        await reopened.dropSession('p', 'a');
        await reopened.touchSessions([
          { pid: 'p', owner: 'a', expiresAtMs: NOW },
          { pid: 'none', owner: 'b', expiresAtMs: NOW + 99 },
        ]);
        await reopened.touchSessions([{ pid: 'p', owner: 'b', expiresAtMs: NOW + 20 }]);
        assert.deepEqual(await reopened.claimSession('p', 'c', NOW + 15), saved({ owner: 'c', expiresAtMs: NOW + 20 }));
        assert.equal(await reopened.claimSession('none', 'b', NOW), null);
        await reopened.dropSession('p', 'c');
        assert.equal(await reopened.claimSession('p', 'c', NOW), null);
      });

      it('are found without a change of the owner', async (t) => {
        const { store } = await setUp(t);
        assert.equal(await store.findSession('p', NOW), null);
        await store.saveSession(change());
        assert.deepEqual(await store.findSession('p', NOW), saved());
        assert.equal(await store.findSession('p', NOW + 10), null, 'it has expired');
        assert.equal(await store.saveSession(change({ isWhole: false })), 'saved', 'the owner can still write');
        assert.equal(await store.findSession('__proto__', NOW), null);
      });

      it('take changes room by room', async (t) => {
        const { store, reopen } = await setUp(t);
        const rooms = async (from: Store) =>
          [...((await from.findSession('p', NOW))?.rooms ?? [])].sort(([a], [b]) => (a < b ? -1 : 1));
        const partly = { isWhole: false, data: 'ignored', expiresAtMs: NOW + 99 };
        assert.equal(await store.saveSession(change(partly)), 'lost', 'nothing to change');
        assert.equal(await store.findSession('p', NOW), null);
        const all = Array.from({ length: 600 }, (_, n) => room(`ticket:${n}`, `[${n}]`));
        await store.saveSession(change({ put: all }));
        assert.equal((await rooms(store)).length, 600);
        await store.saveSession(change({ put: [room('ticket:a'), room('ticket:b,c')] }));
        assert.deepEqual(
          await rooms(store),
          [room('ticket:a'), room('ticket:b,c')],
          'a whole change replaces all rooms',
        );
        const put = [room('ticket:a', '2'), room('__proto__', '3')];
        await store.saveSession(change({ ...partly, put, remove: ['ticket:b,c', 'ticket:none'] }));
        const kept = engine.keeps ? (await reopen()).store : store;
        assert.deepEqual(await rooms(kept), [room('__proto__', '3'), room('ticket:a', '2')]);
        const { data, expiresAtMs } = (await kept.findSession('p', NOW)) as Session;
        assert.deepEqual([data, expiresAtMs], ['{"sid":"s"}', NOW + 10]);
      });

      it('are limited for each holder; a new one removes those that expire first', async (t) => {
        const { store } = await setUp(t);
        const save = (pid: string, expires: number, key = 'h') =>
          store.saveSession(change({ pid, expiresAtMs: NOW + expires, holder: { key, maxSessions: 3 } }));
        const left = async () => {
          const pids = ['a', 'b', 'c', 'd', 'e', 'f', 'other'];
          const found = await Promise.all(pids.map((pid) => store.findSession(pid, NOW)));
          return pids.filter((_, index) => found[index] !== null).join('');
        };
        await save('other', 1, 'h2');
        for (const [pid, expires] of [
          ['a', 10],
          ['b', 20],
          ['c', 30],
        ] as const)
          await save(pid, expires);
        await save('c', 30);
        assert.equal(await left(), 'abcother', 'a session that is saved again counts once');
        await store.touchSessions([{ pid: 'a', owner: 'a', expiresAtMs: NOW + 40 }]);
        await save('d', 5);
        assert.equal(await left(), 'acdother', 'b went, and not the new one');
        await store.dropSession('c', 'a');
        await save('e', 50);
        assert.equal(await left(), 'adeother', 'a session that was dropped no longer counts');
        await store.trim({ ...KEEP, nowMs: NOW + 6 });
        await save('f', 60);
        assert.equal(await left(), 'aef', 'nor one that has expired');
        assert.deepEqual((await store.findSession('a', NOW))?.rooms, [room('tenant:t1')]);
      });

      it('expire', async (t) => {
        const { store } = await setUp(t);
        await store.saveSession(change());
        assert.equal(await store.claimSession('p', 'b', NOW + 10), null);
        await store.trim({ ...KEEP, nowMs: NOW + 9 });
        assert.notEqual(await store.claimSession('p', 'b', NOW + 9), null);
        await store.trim({ ...KEEP, nowMs: NOW + 11 });
        assert.equal(await store.claimSession('p', 'b', NOW), null);
      });

      it('have one owner after many concurrent claims', async (t) => {
        const { store } = await setUp(t);
        await store.saveSession(change());
        const owners = Array.from({ length: 10 }, (_, n) => `o${n}`);
        await Promise.all(owners.map((owner) => store.claimSession('p', owner, NOW)));
        const wrote = await Promise.all(owners.map((owner) => store.saveSession(change({ owner, isWhole: false }))));
        assert.equal(wrote.filter((result) => result === 'saved').length, 1);
      });
    });

    it('makes a secret once and keeps it', async (t) => {
      const { store, reopen } = await setUp(t);
      const made = await Promise.all(Array.from({ length: 5 }, () => store.secret('pass')));
      assert.equal(new Set(made).size, 1);
      assert.equal(Buffer.from(made[0] as string, 'base64url').length, 32);
      assert.match(made[0] as string, /^[\w-]{43}$/);
      assert.notEqual(await store.secret('other'), made[0]);
      const reopened = engine.keeps ? (await reopen()).store : store;
      assert.equal(await reopened.secret('pass'), made[0]);
    });

    describe('erasure', () => {
      it('removes one ticket of one tenant from log, state and deduplication, and nothing else', async (t) => {
        const { store, tail } = await setUp(t);
        const events = [
          ticket(),
          message({ tenantId: 't2' }),
          message({ messageId: 'm', agreementId: 'g' }),
          message({ ticketId: 'k2', agreementId: 'g' }),
          declared({ ticketId: 'k1', userId: 'u' }),
          declared(),
          ticket({ tenantId: 't2' }),
        ];
        const others = [1, 3, 5, 6].map((n) => events[n] as AppendEvent);
        const c = await append(store, events);
        const keyed = await outcome(store, request([message()], NOW, 'gone'));
        const kept = await outcome(store, request([declared({ ticketId: 'k9' })], NOW, 'kept'));
        assert.equal(await store.erase({ tenantId: 't1', ticketId: 'k1' }), 4);
        const audiences = ['tenant:t1', 'tenant:t2', 'ticket:k1', 'agreement:g'];
        const { records } = await readAll(store, audiences, store.opened.head);
        assert.deepEqual(ids(records), [c[1], c[3], c[5], c[6], kept[0]?.id]);
        assert.deepEqual(payloads(records).slice(0, 4), payloads(others));
        assert.deepEqual(ids(await newestOf(store, ['user:u', 'ticket:k1'])), [c[1], c[6]]);
        for (const cursor of [...c, keyed[0]?.id])
          assert.deepEqual(await store.resolve(cursor as Cursor), { kind: 'ok' });
        assert.deepEqual(await readIds(store, ['tenant:t1'], c[4] as Cursor), [c[5], kept[0]?.id]);
        assert.partialDeepStrictEqual(await store.stats(), { records: 5, oldestAcceptedAtMs: NOW });
        assert.equal((await store.bounds()).oldest, c[1]);
        assert.equal((await ticketOf(store, 't1', 'k1')).payload, null);
        assert.equal((await ticketOf(store, 't2', 'k1')).payload, events[6]?.payload);
        assert.deepEqual((await store.messages(ALL_MESSAGES)).items, []);
        // No cached copy of the erased records may be served.
        await until('forgotten has been called', () => (tail.forgotten.at(-1) ?? '') >= (keyed[0]?.id as Cursor));
        assert.equal((await outcome(store, request([message({ messageId: 'm' })], NOW, 'gone')))[0]?.duplicate, false);
        assert.equal((await outcome(store, request([declared()], NOW, 'kept')))[0]?.duplicate, true);
        const forgotten = tail.forgotten.length;
        assert.equal(await store.erase({ tenantId: 't9', ticketId: null }), 0);
        const keys = [erasureKey({ tenantId: 't1', ticketId: 'k1' }), erasureKey({ tenantId: 't9', ticketId: null })];
        await until('the tail knows of both erasures', () => tail.erased.length === 2);
        assert.deepEqual(tail.erased, keys);
        // Nothing was erased, so copies in memory stay good.
        assert.equal(tail.forgotten.length, forgotten);
      });

      it('removes a tenant, even from the state alone, and later trims past its tombstones', async (t) => {
        const { store, reopen } = await setUp(t);
        const c = await append(store, [ticket(), message(), ticket({ tenantId: 't2' }), declared()], NOW);
        await store.trim({ ...KEEP, maxRecords: 1 });
        const later = await append(store, [message(), declared({ tenantId: 't2' }), declared()], NOW + 1);
        assert.equal(await store.erase({ tenantId: 't1', ticketId: null }), 5);
        assert.deepEqual((await store.tickets({ ...ALL_TICKETS, tenantId: 't1' })).items, []);
        assert.equal((await store.tickets({ ...ALL_TICKETS, tenantId: 't2' })).items.length, 1);
        const reopened = engine.keeps ? (await reopen()).store : store;
        const bounds = await reopened.bounds();
        assert.deepEqual(bounds, { floor: c[2], oldest: later[1], head: later[2] });
        for (const cursor of [c[2], c[3], ...later])
          assert.deepEqual(await reopened.resolve(cursor as Cursor), { kind: 'ok' });
        assert.deepEqual(await reopened.resolve(c[1] as Cursor), { kind: 'expired', ...bounds });
        assert.deepEqual(await readIds(reopened, ['tenant:t1', 'tenant:t2'], c[3] as Cursor), [later[1]]);
        await reopened.trim({ ...KEEP, maxRecords: 0 });
        assert.equal((await reopened.stats()).records, 0);
        const [next] = await append(reopened, [declared()]);
        assert.deepEqual(await readIds(reopened, ['tenant:t1'], later[2] as Cursor), [next]);
      });
    });

    describe('keying', () => {
      it('keeps tenants apart when audiences hold the tenant', async (t) => {
        const { store } = await setUp(t, 'tenant');
        const [a, b] = await append(store, [
          declared({ ticketId: 'k' }, 'tenant'),
          declared({ ticketId: 'k', tenantId: 't2' }, 'tenant'),
        ]);
        const read = (...audiences: string[]) => readIds(store, audiences);
        assert.deepEqual(await read(audienceOf('tenant', 't1', 'ticket:k')), [a]);
        assert.deepEqual(await read(audienceOf('tenant', 't2', 'ticket:k')), [b]);
        assert.deepEqual(await read('ticket:k'), []);
        assert.equal(await store.erase({ tenantId: 't2', ticketId: 'k' }), 1);
        assert.deepEqual(await read(audienceOf('tenant', 't1', 'ticket:k'), audienceOf('tenant', 't2', 'ticket:k')), [
          a,
        ]);
      });

      itRekeys('rebuilds the index when the log is opened under the other keying', async (t) => {
        const { store, reopen } = await setUp(t);
        const gone = await append(store, [ticket({ ticketId: 'k' })]);
        await store.trim({ ...KEEP, maxRecords: 0 });
        const cursors = await append(store, [declared({ ticketId: 'k' }), declared({ ticketId: 'k', tenantId: 't2' })]);
        for (const keying of ['tenant', 'room', 'tenant'] as const) {
          const { store: again } = await reopen(keying);
          const audience = audienceOf(keying, 't1', 'ticket:k');
          const { records } = await readAll(again, [audience], gone[0] as Cursor);
          assert.deepEqual(ids(records), keying === 'room' ? cursors : cursors.slice(0, 1));
          assert.ok(records[0]?.audiences.includes(audience));
          assert.deepEqual(await again.bounds(), { floor: gone[0], oldest: cursors[0], head: cursors[1] });
        }
      });
    });

    itHasNodes('hands all records to the tail of every node in one order', async (t) => {
      const { store, tail, open } = await setUp(t);
      const other = await open();
      await Promise.all(
        Array.from({ length: 100 }, (_, n) => append(n % 2 ? store : other.store, [declared(), declared()])),
      );
      await until('both tails have all', () => tail.records.length === 200 && other.tail.records.length === 200);
      assert.deepEqual(tail.records, other.tail.records);
      assert.deepEqual(ids(tail.records), ids(tail.records).sort());
      assert.equal((await other.store.bounds()).head, tail.records.at(-1)?.id);
    });
  });
}

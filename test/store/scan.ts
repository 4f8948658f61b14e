/** The laws of the scan of the log (src/store/store.ts), for every engine. */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { audienceOf, type Keying } from '../../src/contract/audiences.ts';
import { type Cursor, formatCursor, parseCursor } from '../../src/contract/cursor.ts';
import type { LogRecord } from '../../src/contract/frames.ts';
import type { Room } from '../../src/contract/rooms.ts';
import { SCAN_ROWS } from '../../src/store/scan.ts';
import type { AppendEvent, ScanQuery, ScanResult, Store } from '../../src/store/store.ts';
import { createRandom } from '../support/random.ts';
import { append, declared, type Engine, HOUR, KEEP, message, NOW, tailOf, ticket } from './conformance.ts';

export const SCAN_ALL: ScanQuery = {
  ...{ parts: [{ tenants: null, room: null }], events: null, contains: null, sinceMs: null, untilMs: null },
  ...{ after: null, before: null, order: 'asc', limit: 1000, maxChars: 1e9 },
};
const MINUTE = 60_000;

/** The event, sent to these rooms in place of those of its payload. */
const sentTo = (event: AppendEvent, keying: Keying, ...rooms: Room[]): AppendEvent => ({
  ...{ ...event, rooms, roomsAreNamed: true },
  audiences: rooms.map((room) => audienceOf(keying, event.tenantId, room)),
});

type Step = Extract<ScanResult, { kind: 'ok' }>;

export async function step(store: Store, query: Partial<ScanQuery>): Promise<Step> {
  const result = await store.scan({ ...SCAN_ALL, ...query });
  assert.equal(result.kind, 'ok');
  return result as Step;
}

/** All records of a query, step by step. */
async function scanned(store: Store, query: Partial<ScanQuery>): Promise<LogRecord[]> {
  const found: LogRecord[] = [];
  const { order, limit } = { ...SCAN_ALL, ...query };
  const from = order === 'asc' ? 'after' : 'before';
  let position = query[from] ?? null;
  for (;;) {
    const { records, position: reached, more } = await step(store, { ...query, [from]: position });
    assert.ok(records.length <= limit);
    if (more && position !== null)
      assert.ok(order === 'asc' ? reached > position : reached < position, 'it comes further');
    found.push(...records);
    if (!more) return found;
    position = reached;
  }
}

const idsOf = (records: readonly LogRecord[]): Cursor[] => records.map(({ id }) => id);

export function scanConformance(name: string, engine: Engine): void {
  async function setUp(t: TestContext, keying: Keying = 'room'): Promise<Store> {
    const log = await engine.create();
    const store = await log.open(keying);
    tailOf(store);
    t.after(async () => {
      await store.close();
      await log.remove();
    });
    return store;
  }

  describe(`the scan of the log: ${name}`, () => {
    it('finds nothing in an empty log, and ends at its head', async (t) => {
      const store = await setUp(t);
      const { head } = await store.bounds();
      for (const order of ['asc', 'desc'] as const) {
        assert.deepEqual(await step(store, { order }), { kind: 'ok', records: [], position: head, more: false });
      }
    });

    for (const keying of ['room', 'tenant'] as const) {
      it(`agrees with a search of every record, keyed by ${keying}: parts, filters, bounds, orders and limits`, async (t) => {
        const store = await setUp(t, keying);
        const random = createRandom(keying === 'room' ? 1 : 2);
        const log: (LogRecord & { readonly tenant: string })[] = [];
        const tenants = ['t1', 't2', 't3'];
        const rooms: Room[] = ['ticket:k1', 'ticket:k2', 'user:u1', 'tenant:t1', 'agreement:a'];
        let atMs = NOW;
        for (let group = 0; group < 50; group++) {
          // A clock that steps, back and forth.
          atMs += random.chance(0.05) ? random.whole(-HOUR, HOUR) : random.whole(-5, 5000);
          const events = Array.from({ length: random.whole(1, 4) }, () => {
            const payload = { tenantId: random.pick(tenants), ticketId: random.pick(['k1', 'k2']), agreementId: 'a' };
            const text = random.pick(['Olá MUNDO', 'say "hi"', 'a\\b', 'ünï']);
            const make = random.pick([declared, message, ticket]);
            const event = make({ ...payload, text }, keying);
            if (random.chance(0.7)) return event;
            return sentTo(event, keying, random.pick<Room>(['user:u1', 'ticket:k1', 'ticket:k2']));
          });
          const cursors = await append(store, events, atMs);
          for (const [index, { event, rooms, audiences, payload, tenantId }] of events.entries()) {
            const id = cursors[index] as Cursor;
            log.push({ id, event, rooms, audiences, payload, acceptedAtMs: atMs, tenant: tenantId });
          }
        }
        const maybe = <T>(make: () => T): T | null => (random.chance(0.4) ? make() : null);
        const someOf = <T>(items: readonly T[]) => items.filter(() => random.chance(0.5));
        for (let n = 0; n < 100; n++) {
          const query: ScanQuery = {
            parts: Array.from({ length: random.whole(1, 2) }, () => ({
              tenants: random.chance(0.5) ? null : someOf(tenants),
              room: random.chance(0.5) ? null : random.pick(rooms),
            })),
            events: maybe(() => someOf(['tickets.new', 'messages.new', 'tickets.updated'])),
            contains: maybe(() => random.pick(['olá mundo', 'SAY "HI"', 'a\\b', '"text":"ÜNÏ"', 'uni', 'k1'])),
            sinceMs: maybe(() => random.pick(log).acceptedAtMs),
            untilMs: maybe(() => random.pick(log).acceptedAtMs),
            after: maybe(() => random.pick(log).id),
            before: maybe(() => random.pick(log).id),
            order: random.pick(['asc', 'desc']),
            limit: random.pick([5, 40, 1000]),
            maxChars: random.pick([2000, 1e9, 1e9]),
          };
          const { parts, events, contains, sinceMs, untilMs, after, before, order } = query;
          const expected = log.filter(
            ({ id, event, rooms, payload, acceptedAtMs, tenant }) =>
              parts.some(
                (part) => (part.tenants?.includes(tenant) ?? true) && (part.room === null || rooms.includes(part.room)),
              ) &&
              (events?.includes(event) ?? true) &&
              (contains === null ||
                [contains, JSON.stringify(contains).slice(1, -1)].some((text) =>
                  payload.toLowerCase().includes(text.toLowerCase()),
                )) &&
              (sinceMs === null || acceptedAtMs >= sinceMs) &&
              (untilMs === null || acceptedAtMs <= untilMs) &&
              (after === null || id > after) &&
              (before === null || id < before),
          );
          if (order === 'desc') expected.reverse();
          const found = await scanned(store, query);
          assert.deepEqual(
            found,
            expected.map(({ tenant: _, ...record }) => record),
            JSON.stringify(query),
          );
        }
      });
    }

    it('says how far it came, and whether there is more', async (t) => {
      const store = await setUp(t);
      const floor = store.opened.head;
      const ids = await append(
        store,
        Array.from({ length: 5 }, (_, n) => declared({ text: 'x'.repeat(1000), n })),
      );
      const [a, b, c, , e] = ids as [Cursor, Cursor, Cursor, Cursor, Cursor];
      const scan = async (query: Partial<ScanQuery>) => {
        const { records, position, more } = await step(store, query);
        return [records.length, position, more];
      };
      assert.deepEqual(await scan({ limit: 3 }), [3, c, true]);
      assert.deepEqual(await scan({ limit: 5 }), [5, e, false], 'the end of the log');
      assert.deepEqual(await scan({ maxChars: 1 }), [1, a, true]);
      assert.deepEqual(await scan({ maxChars: 1500 }), [2, b, true]);
      assert.deepEqual(await scan({ after: e }), [0, e, false]);
      assert.deepEqual(await scan({ before: c }), [2, b, false], 'the last record before the end of the range');
      assert.deepEqual(await scan({ before: c, limit: 2 }), [2, b, false]);
      assert.deepEqual(await scan({ after: c, before: b }), [0, c, false], 'an empty range');
      assert.deepEqual(await scan({ order: 'desc', limit: 3 }), [3, c, true]);
      assert.deepEqual(await scan({ order: 'desc', limit: 5 }), [5, floor, false], 'the start of the log');
      assert.deepEqual(await scan({ order: 'desc', after: b }), [3, b, false]);
      assert.deepEqual(await scan({ order: 'desc', before: b }), [1, floor, false]);
      assert.deepEqual(await scan({ order: 'desc', before: b, after: c }), [0, c, false]);
      assert.deepEqual(await scan({ contains: 'not there', maxChars: 1 }), [0, a, true], 'it reads what it searches');
      const other = [{ tenants: ['t2'], room: null }];
      assert.deepEqual(await scan({ parts: other }), [0, e, false]);
      assert.deepEqual(await scan({ parts: other, order: 'desc' }), [0, floor, false]);
    });

    it('looks at a bounded number of rows, and comes further even if nothing matches', async (t) => {
      const store = await setUp(t);
      const ids: Cursor[] = [];
      const records = 1_750;
      for (let n = 0; n < records; n += 250) {
        ids.push(
          ...(await append(
            store,
            Array.from({ length: 250 }, (_, k) => declared({ n: n + k })),
            NOW + n,
          )),
        );
      }
      const queries: Partial<ScanQuery>[] = [
        { contains: 'nothing' },
        { events: ['tickets.updated'] },
        { parts: [{ tenants: null, room: 'user:nobody' }], sinceMs: NOW + HOUR },
        {
          parts: [
            { tenants: ['t1'], room: 'ticket:none' },
            { tenants: null, room: null },
          ],
          events: [],
        },
        { parts: [{ tenants: ['t1'], room: null }], contains: 'nothing' },
      ];
      for (const order of ['asc', 'desc'] as const) {
        for (const query of queries) {
          const from = order === 'asc' ? 'after' : 'before';
          let position: Cursor | null = null;
          let steps = 0;
          for (let more = true; more; steps++) {
            const before: number = position === null ? (order === 'asc' ? -1 : ids.length) : ids.indexOf(position);
            const result: Step = await step(store, { ...query, order, [from]: position });
            assert.deepEqual(result.records, []);
            ({ position, more } = result);
            const rows = more ? Math.abs(ids.indexOf(position) - before) : 0;
            assert.ok(rows <= SCAN_ROWS, `${rows} rows in one step`);
            assert.ok(!more || rows > 0, 'it comes further');
          }
          assert.ok(steps <= Math.ceil(records / SCAN_ROWS) + 1, `${steps} steps`);
        }
      }
    });

    it('finds every instant, however the clocks step', async (t) => {
      const store = await setUp(t);
      const log: { id: Cursor; atMs: number }[] = [];
      // An hour forward, two back, a day forward, and back again: most stretches see one of these steps, or none.
      for (const [part, startMs] of [0, HOUR, -HOUR, 24 * HOUR, MINUTE].entries()) {
        for (let n = 0; n < 1_000; n += 250) {
          const atMs = NOW + startMs + n * 10;
          const ids = await append(
            store,
            Array.from({ length: 250 }, (_, k) => declared({ part, n: n + k })),
            atMs,
          );
          log.push(...ids.map((id) => ({ id, atMs })));
        }
      }
      const instants = [-HOUR, 0, HOUR + 2500, 24 * HOUR, 48 * HOUR].map((ms) => NOW + ms);
      const ranges = [
        ...instants.flatMap((ms) => [
          { sinceMs: ms, untilMs: null },
          { sinceMs: null, untilMs: ms },
        ]),
        { sinceMs: NOW, untilMs: NOW + HOUR },
        { sinceMs: NOW + HOUR, untilMs: NOW },
      ];
      for (const order of ['asc', 'desc'] as const) {
        for (const { sinceMs, untilMs } of ranges) {
          const expected = log
            .filter(({ atMs }) => (sinceMs === null || atMs >= sinceMs) && (untilMs === null || atMs <= untilMs))
            .map(({ id }) => id);
          if (order === 'desc') expected.reverse();
          assert.deepEqual(idsOf(await scanned(store, { order, sinceMs, untilMs })), expected);
        }
      }
    });

    it('says that a cursor is expired or unknown, and which', async (t) => {
      const store = await setUp(t);
      const ids = await append(
        store,
        Array.from({ length: 6 }, () => declared()),
      );
      const [first, , third, fourth] = ids as [Cursor, Cursor, Cursor, Cursor];
      await store.trim({ ...KEEP, maxRecords: 3 });
      const head = parseCursor(ids.at(-1) as Cursor);
      assert.ok(head !== null);
      const foreign = formatCursor({ ...head, epoch: '00000000' });
      const ahead = formatCursor({ ...head, seq: head.seq + 1 });
      const bounds = await store.bounds();
      const cases: [Partial<ScanQuery>, object][] = [
        [{ after: first }, { kind: 'expired', cursor: first, ...bounds }],
        [
          { before: first, order: 'desc' },
          { kind: 'expired', cursor: first, ...bounds },
        ],
        [
          { after: first, order: 'desc' },
          { kind: 'expired', cursor: first, ...bounds },
        ],
        [{ after: foreign }, { kind: 'unknown', cursor: foreign, ...bounds }],
        [{ before: ahead }, { kind: 'unknown', cursor: ahead, ...bounds }],
        [
          { after: fourth, before: 'start' as Cursor },
          { kind: 'unknown', cursor: 'start', ...bounds },
        ],
      ];
      for (const [query, expected] of cases) assert.deepEqual(await store.scan({ ...SCAN_ALL, ...query }), expected);
      assert.deepEqual(idsOf(await scanned(store, { after: third })), ids.slice(3), 'nothing after it was trimmed');
      assert.deepEqual(idsOf(await scanned(store, { order: 'desc' })), ids.slice(3).reverse());
    });

    it('never shows what was trimmed or erased, even if the state shows it still', async (t) => {
      const store = await setUp(t);
      await append(
        store,
        [ticket({ ticketId: 'old', text: 'trimmed' }), message({ ticketId: 'old', text: 'trimmed' })],
        NOW,
      );
      const [, erased] = await append(
        store,
        [declared({ n: 1 }), declared({ ticketId: 'gone' }), declared({ n: 2 })],
        NOW + HOUR,
      );
      await append(store, [sentTo(declared({ ticketId: 'gone' }), 'room', 'user:u1')], NOW + HOUR);
      const [last] = await append(store, [declared({ n: 3 })], NOW + HOUR);
      await store.trim({ ...KEEP, trimBeforeMs: NOW + 1 });
      await store.erase({ tenantId: 't1', ticketId: 'gone' });
      const lists = [
        [{ tenants: null, room: null }],
        [{ tenants: ['t1'], room: null }],
        [{ tenants: ['t1'], room: 'tenant:t1' as Room }],
        [{ tenants: null, room: 'tenant:t1' as Room }],
      ];
      for (const parts of lists) {
        for (const order of ['asc', 'desc'] as const) {
          const found = await scanned(store, { parts, order, limit: 1 });
          const numbers = found.map(({ payload }) => (JSON.parse(payload) as { n: number }).n);
          assert.deepEqual(numbers, order === 'asc' ? [1, 2, 3] : [3, 2, 1]);
        }
      }
      for (const room of ['ticket:gone', 'ticket:old', 'user:u1'] as const) {
        assert.deepEqual(await scanned(store, { parts: [{ tenants: ['t1'], room }] }), []);
      }
      const rest = await scanned(store, { after: erased as Cursor });
      assert.deepEqual(idsOf(rest).at(-1), last, 'the cursor of an erased record is valid');
      assert.equal(rest.length, 2);
    });

    it('neither loses nor repeats a record while appends run', async (t) => {
      const store = await setUp(t);
      const all: Cursor[] = [];
      const appending = (async () => {
        for (let n = 0; n < 60; n++) {
          const parts = await Promise.all([1, 2].map((k) => append(store, [declared({ ticketId: `k${k}` })])));
          all.push(...parts.flat());
        }
      })();
      const found: Cursor[] = [];
      let after = store.opened.head;
      while (found.length < 120) {
        const { records, position } = await step(store, { after, limit: 7 });
        found.push(...idsOf(records));
        after = position;
      }
      await appending;
      assert.deepEqual(found, all.sort());
    });

    it('lets callers take turns', async (t) => {
      const store = await setUp(t);
      await append(store, [declared()]);
      let done = 0;
      const busy = Array.from({ length: 400 }, () => step(store, { caller: 'busy' }).then(() => done++));
      await step(store, { caller: 'other' });
      assert.ok(done < 200, `${done} of 400 scans of another caller came first`);
      await Promise.all(busy);
    });
  });
}

/**
 * protocol §15, `GET /log`: every record of a tenant, by room, instant, event and text, both ways, in requests of bounded
 * work. Random records and queries against a model that is written from the protocol alone.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { messageNew, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { createRandom } from '../support/random.ts';
import { admin, adminOf, call, JWT, type Logged, PLACES, sign, toQuery } from './support.ts';

interface Page {
  readonly events: Logged[];
  readonly scannedThrough: string | null;
  readonly more: boolean;
}

type Query = Record<string, string | number | undefined>;

/** Follows the pages to the end, as the protocol says. */
async function readAll(bridge: TestBridge, query: Query, token?: string): Promise<Logged[]> {
  const events: Logged[] = [];
  let from = query;
  for (let pages = 0; ; pages++) {
    assert.ok(pages < 2_000, 'it ends');
    const { status, body, text } = await call(bridge, `GET /log?${toQuery(from)}`, token);
    assert.equal(status, 200, `${toQuery(from)} ${text}`);
    const page = body as Page;
    assert.deepEqual(Object.keys(page).sort(), ['events', 'more', 'scannedThrough']);
    assert.ok(page.events.length <= Number(query.limit ?? 100));
    events.push(...page.events);
    if (!page.more) return events;
    assert.equal(typeof page.scannedThrough, 'string');
    const edge = query.order === 'asc' ? 'after' : 'before';
    assert.notEqual(from[edge], page.scannedThrough, 'it goes on');
    from = { ...from, [edge]: page.scannedThrough as string };
  }
}

const TEXTS = [
  'Olá, mundo',
  'quote " and \\ back',
  '<b>bold</b>',
  'naïve 😀',
  'ABC',
  'abc',
  'per%cent',
  "a'b",
  'tab\there',
];

for (const { name, skip, start } of PLACES) {
  describe(`the log: ${name}`, { skip }, () => {
    it('answers every query as the model does', async (t) => {
      const random = createRandom(15);
      const { a, b } = await start(t, { ...JWT, extraEvents: ['leads.updated'], roomKinds: ['queue'] });
      const publisher = await sign({ tenantId: '*', scope: 'publish' });
      const tenants = ['t1', 't2'];
      interface Record {
        readonly id: string;
        readonly event: string;
        readonly tenantId: string;
        readonly rooms: string[];
        readonly text: string;
      }
      const log: Record[] = [];
      for (let n = 0; n < 200; n++) {
        const tenantId = random.pick(tenants);
        const note = random.pick(TEXTS);
        const ids = { tenantId, ticketId: `k${random.whole(1, 4)}`, agreementId: random.pick([null, 'a1']), note };
        const event = random.pick(['tickets.updated', 'messages.new', 'leads.updated']);
        const payload =
          event === 'tickets.updated'
            ? ticketUpdated(ids)
            : event === 'messages.new'
              ? messageNew(ids)
              : { ...ids, queueId: 'q', n };
        const rooms = random.chance(0.2) ? { rooms: [random.pick(['user:u', 'queue:q', 'ticket:k1'])] } : {};
        const { status, body, text } = await call(random.pick([a, b]), 'POST /events', publisher, {
          event,
          payload,
          ...rooms,
        });
        assert.equal(status, 201, text);
        log.push({ id: body.id, event, tenantId, rooms: body.rooms, text: JSON.stringify(payload) });
      }
      const root = await admin();
      const everything = await readAll(a, { order: 'asc', limit: 1000 }, root);
      assert.deepEqual(
        everything.map(({ id, event, payload }) => [id, event, JSON.stringify(payload)]),
        log.map(({ id, event, text }) => [id, event, text]),
      );
      const atOf = new Map(everything.map(({ id, at }) => [id, at]));
      assert.deepEqual([...atOf.values()], [...atOf.values()].sort(), 'accepted in the order of the log');
      for (const [index, { rooms, at, ...entry }] of everything.entries()) {
        assert.deepEqual([...rooms].sort(), [...(log[index]?.rooms ?? [])].sort());
        assert.match(at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
        assert.deepEqual(Object.keys(entry).sort(), ['event', 'id', 'payload']);
      }
      const tokens = [
        { token: root, of: tenants },
        { token: await adminOf('t1'), of: ['t1'] },
        { token: await adminOf('t1', 't2', 't3'), of: tenants },
      ];
      for (let round = 0; round < 80; round++) {
        const { token, of } = random.pick(tokens);
        const draw = <T>(probability: number, make: () => T): T | undefined =>
          random.chance(probability) ? make() : undefined;
        const query = {
          tenantId: draw(0.3, () => random.pick(of)),
          ticketId: draw(0.3, () => `k${random.whole(1, 5)}`),
          agreementId: draw(0.1, () => 'a1'),
          userId: draw(0.1, () => 'u'),
          queueId: draw(0.1, () => 'q'),
          after: draw(0.2, () => random.pick(log).id),
          before: draw(0.2, () => random.pick(log).id),
          since: draw(0.2, () => atOf.get(random.pick(log.slice(0, 100)).id) as string),
          until: draw(0.2, () => atOf.get(random.pick(log.slice(100)).id) as string),
          event: draw(0.3, () => random.pick(['tickets.updated', 'messages.new', 'leads.updated'])),
          contains: draw(0.3, () => random.pick(TEXTS).slice(0, random.whole(1, 12))),
          order: draw(0.6, () => random.pick(['asc', 'desc'])),
          limit: draw(0.8, () => random.whole(5, 60)),
        };
        const rooms = (['ticketId', 'agreementId', 'userId', 'queueId'] as const)
          .filter((field) => query[field] !== undefined)
          .map((field) => `${field.slice(0, -2)}:${query[field]}`);
        const holds = (record: Record): boolean =>
          of.includes(record.tenantId) &&
          // A tenant stands for all of its records.
          ((query.tenantId === undefined && rooms.length === 0) ||
            query.tenantId === record.tenantId ||
            rooms.some((room) => record.rooms.includes(room))) &&
          (query.after === undefined || record.id > query.after) &&
          (query.before === undefined || record.id < query.before) &&
          (query.since === undefined || (atOf.get(record.id) as string) >= query.since) &&
          (query.until === undefined || (atOf.get(record.id) as string) <= query.until) &&
          (query.event === undefined || record.event === query.event);
        const found = await readAll(random.pick([a, b]), query, token);
        const expected = log.filter(holds);
        if (query.order !== 'asc') expected.reverse();
        const label = `round ${round}: ${JSON.stringify({ ...query, of })}`;
        const text = query.contains;
        if (text === undefined) {
          assert.deepEqual(
            found.map(({ id }) => id),
            expected.map(({ id }) => id),
            label,
          );
        } else {
          // Whether case counts is not said; the exact text is always found, and nothing that lacks it in any case.
          const got = new Set(found.map(({ id }) => id));
          const noteOf = (record: Record) => JSON.parse(record.text).note as string;
          for (const record of expected) {
            const isExact = noteOf(record).includes(text);
            const isLoose =
              record.text.toLowerCase().includes(text.toLowerCase()) ||
              noteOf(record).toLowerCase().includes(text.toLowerCase());
            if (isExact) assert.ok(got.has(record.id), `${label}: not found: ${record.text}`);
            if (!isLoose) assert.ok(!got.has(record.id), `${label}: found: ${record.text}`);
            got.delete(record.id);
          }
          assert.deepEqual([...got], [], label);
        }
      }
    });

    it('tells the end from a pause, and follows the log as it grows', async (t) => {
      const { a, b } = await start(t);
      const empty = (await call(a, 'GET /log')).body as Page;
      assert.deepEqual([empty.events, empty.more], [[], false]);
      const first = await b.publish('tickets.updated', ticketUpdated({ tenantId: 'grow' }));
      let page = (await call(a, 'GET /log?order=asc')).body as Page;
      assert.deepEqual(
        page.events.map(({ id }) => id),
        [first.id],
      );
      assert.equal(page.more, false);
      const seen = [first.id];
      for (let round = 0; round < 20; round++) {
        const { id } = await b.publish('tickets.updated', ticketUpdated({ tenantId: round % 2 ? 'grow' : 'other' }));
        if (round % 2) seen.push(id);
        const query = toQuery({ tenantId: 'grow', order: 'asc', after: page.scannedThrough ?? undefined });
        page = (await call(a, `GET /log?${query}`)).body as Page;
        if (round % 2)
          assert.deepEqual(
            page.events.map((one) => one.id),
            [id],
            `round ${round}`,
          );
        else assert.deepEqual(page.events, []);
      }
      assert.deepEqual(
        (await readAll(a, { tenantId: 'grow', order: 'asc', limit: 3 })).map(({ id }) => id),
        seen,
      );
    });

    it('bounds the work of one request, whatever is asked', async (t) => {
      const { a } = await start(t, { extraEvents: ['leads.updated'] });
      const TOTAL = 1_500;
      const hay = 'x'.repeat(9_000);
      for (let n = 0; n < TOTAL; n += 100) {
        const events = Array.from({ length: 100 }, (_, index) => ({
          event: 'leads.updated',
          payload: { tenantId: 'deep', n: n + index, hay, ...(n + index === 0 ? { needle: 'in the haystack' } : {}) },
        }));
        assert.equal((await a.post({ events })).status, 201);
      }
      let requests = 0;
      let query: Query = { tenantId: 'deep', contains: 'haystack', limit: 1000 };
      for (;;) {
        requests++;
        const page = (await call(a, `GET /log?${toQuery(query)}`)).body as Page;
        if (page.events.length > 0) {
          assert.equal(page.events[0]?.payload.n, 0);
          break;
        }
        assert.equal(page.more, true, 'it is there');
        query = { ...query, before: page.scannedThrough as string };
      }
      assert.ok(requests > 1, 'one request does not look through all of it');
      assert.ok(requests < 100, 'nor through hardly any');
      assert.equal((await readAll(a, { tenantId: 'nobody', contains: 'x' })).length, 0);
    });

    it('refuses what it does not know', async (t) => {
      const { a } = await start(t);
      for (const [query, code] of [
        ['limit=0', 'invalid_request'],
        ['limit=1001', 'invalid_request'],
        ['order=newest', 'invalid_request'],
        ['since=yesterday', 'invalid_request'],
        ['until=', 'invalid_request'],
        ['since=2026-02-30T00:00:00Z', 'invalid_request'],
        ['event=ticket.messages', 'invalid_request'],
        ['after=a%20b', 'invalid_cursor'],
        ['before=', 'invalid_cursor'],
        [`after=${'x'.repeat(65)}`, 'invalid_cursor'],
        ['tenantId=*', 'invalid_request'],
        ['ticketId=a%20b', 'invalid_request'],
        ['tenantID=t', 'unknown_parameter'],
        ['events=tickets.updated', 'unknown_parameter'],
        ['text=x', 'unknown_parameter'],
      ]) {
        const { status, body } = await call(a, `GET /log?${query}`);
        assert.deepEqual([status, body.code], [400, code], query);
      }
      assert.equal((await call(a, 'POST /log')).status, 405);
      assert.equal((await call(a, 'HEAD /log')).status, 200);
    });
  });
}

describe('the log and its edges', () => {
  it('says what a cursor that is trimmed, or of another log, means', async (t) => {
    const bridge = await startBridge();
    const other = await startBridge();
    t.after(() => Promise.all([bridge.close(), other.close()]));
    await bridge.publish('tickets.updated', ticketUpdated());
    const { id } = await other.publish('tickets.updated', ticketUpdated());
    for (const query of [`order=asc&after=${id}`, `before=${id}`]) {
      const { status, body } = await call(bridge, `GET /log?${query}`);
      assert.ok(status === 410 || (status === 200 && body.events.length <= 1), `${query}: ${status}`);
    }
  });
});

/** protocol §7 and §8 as they show on `GET /events`: every parameter, number, header and refusal. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { io } from 'socket.io-client';
import { messageNew, metric, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { get, openRaw } from '../support/raw.ts';
import { until } from '../support/until.ts';

const LIMIT = { timeout: 120_000 };

interface Item {
  readonly id: string | null;
  readonly event: string;
  readonly rooms: string[];
  readonly payload: Record<string, unknown>;
}

interface Page {
  readonly events: Item[];
  readonly cursor: string;
  readonly hasMore: boolean;
}

interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: string;
  readonly errors?: { path: string; message: string }[];
  readonly reason?: string;
  readonly after?: string;
  readonly oldest?: string;
  readonly cursor?: string;
}

let bridge: TestBridge;
before(async () => {
  bridge = await startBridge({ extraEvents: ['leads.updated'], maxRooms: 10 });
});
after(() => bridge.close());

let tenants = 0;
const freshTenant = (): string => `poll-${++tenants}`;

async function publish(to: TestBridge, tenantId: string, count = 1, overrides: Record<string, unknown> = {}) {
  const ids: string[] = [];
  for (let index = 0; index < count; index++) {
    ids.push((await to.publish('messages.new', messageNew({ tenantId, agreementId: null, ...overrides }))).id);
  }
  return ids;
}

async function publishBatch(to: TestBridge, tenantId: string, count: number): Promise<string[]> {
  const events = Array.from({ length: count }, () => ({
    event: 'messages.new',
    payload: messageNew({ tenantId, agreementId: null }),
  }));
  return (await to.post({ events })).body.results.map(({ id }) => id);
}

async function poll(of: TestBridge, query: string, headers: Record<string, string> = {}) {
  const response = await fetch(`${of.url}/events?${query}`, { headers });
  const text = await response.text();
  const page = (response.status === 200 ? JSON.parse(text) : null) as Page;
  return { status: response.status, headers: response.headers, text, page };
}

const WAITING = 'roomcast_connections{transport="longpoll"}';
const idsOf = ({ events }: Page): (string | null)[] => events.map(({ id }) => id);

test('a page: its members in order, the payload’s own bytes, every record’s rooms, oldest first', LIMIT, async () => {
  const tenantId = freshTenant();
  const payload = `{"tenantId":"${tenantId}","ticketId":"x:1","agreementId":"a+b","ticketStatus":"O\\r\\n","ticketUpdatedAt":"2024-06-01T12:00:00Z","ticket":{"__proto__":{"a":1},"2":2,"10":1,"big":1e21,"u":"\u2028\\u0000\\ud800"},"z":-0}`;
  const { body } = await bridge.post(`{"event":"tickets.updated","payload":${payload}}`);
  const [second] = await publish(bridge, tenantId);
  const { status, headers, text, page } = await poll(bridge, `tenantId=${tenantId}`);
  assert.equal(status, 200);
  assert.equal(headers.get('content-type'), 'application/json');
  assert.match(headers.get('cache-control') ?? '', /^(no-store|private, no-cache)$/);
  assert.match(headers.get('etag') ?? '', /^(W\/)?"[^"]+"$/);
  assert.deepEqual(Object.keys(page), ['events', 'cursor', 'hasMore']);
  assert.deepEqual(Object.keys(page.events[0] as Item), ['id', 'event', 'rooms', 'payload']);
  assert.deepEqual(idsOf(page), [body.id, second]);
  assert.deepEqual(page.events[0]?.rooms, [`tenant:${tenantId}`, 'ticket:x:1', 'agreement:a+b']);
  assert.ok(text.includes(`"payload":${JSON.stringify(JSON.parse(payload))}}`));
  assert.equal(page.cursor, second);
  assert.equal(page.hasMore, false);
});

test('after: left out the newest, start the oldest, now the cursor alone, else what came after', LIMIT, async () => {
  const tenantId = freshTenant();
  const ids = await publish(bridge, tenantId, 5);
  const [elsewhere] = await publish(bridge, freshTenant());
  const cases: [string, (string | undefined)[], boolean][] = [
    ['', ids, false],
    ['&limit=2', ids.slice(3), false],
    ['&after=start', ids, false],
    ['&after=start&limit=2', ids.slice(0, 2), true],
    ['&after=start&limit=5', ids, false],
    ['&after=now', [], false],
    ['&after=now&limit=1', [], false],
    [`&after=${ids[1]}`, ids.slice(2), false],
    [`&after=${ids[1]}&limit=3`, ids.slice(2), false],
    [`&after=${ids[1]}&limit=2`, ids.slice(2, 4), true],
    [`&after=${ids[4]}`, [], false],
    [`&after=${elsewhere}`, [], false],
  ];
  for (const [query, expected, hasMore] of cases) {
    const { page } = await poll(bridge, `tenantId=${tenantId}${query}`);
    assert.deepEqual(idsOf(page), expected, query);
    assert.equal(page.hasMore, hasMore, query);
    assert.equal(page.cursor, hasMore ? expected.at(-1) : elsewhere, query);
  }
});

test('an empty log gives out a cursor that holds', LIMIT, async (context) => {
  const empty = await startBridge();
  context.after(() => empty.close());
  for (const after of ['', '&after=now', '&after=start']) {
    const { page } = await poll(empty, `tenantId=t${after}`);
    assert.deepEqual(page.events, []);
    assert.equal(page.hasMore, false);
    assert.equal((await poll(empty, `tenantId=t&after=${page.cursor}`)).status, 200);
  }
  const { page } = await poll(empty, 'tenantId=t&after=now');
  const ids = await publish(empty, 't', 2);
  assert.deepEqual(idsOf((await poll(empty, `tenantId=t&after=${page.cursor}`)).page), ids);
});

test('paging by cursor to the end is the log, whatever the limit and the filter', LIMIT, async (context) => {
  const own = await startBridge();
  context.after(() => own.close());
  const ids: string[] = [];
  const tickets: string[] = [];
  for (let round = 0; round < 3; round++) {
    ids.push(...(await publishBatch(own, 't', 1000)));
    await publishBatch(own, 'other', 100);
    const { id } = await own.publish('tickets.updated', ticketUpdated({ tenantId: 't' }));
    ids.push(id);
    tickets.push(id);
  }
  for (const [query, expected] of [
    ['limit=1000', ids],
    ['limit=77', ids],
    ['limit=1000&events=tickets.updated', tickets],
    ['limit=1&events=tickets.updated', tickets],
    ['limit=2&events=tickets.updated&wait=1', tickets],
    ['events=ticket.updated', []],
    ['events=ticket.updated,&legacy=true', tickets.map(() => null)],
  ] as const) {
    const heard: (string | null)[] = [];
    let cursor = 'start';
    for (;;) {
      const { page } = await poll(own, `tenantId=t&after=${cursor}&${query}`);
      heard.push(...idsOf(page));
      assert.ok(cursor === 'start' || page.cursor >= cursor);
      cursor = page.cursor;
      if (!page.hasMore) break;
    }
    assert.deepEqual(heard, expected, query);
    assert.equal(cursor, tickets.at(-1), 'the cursor came to the end');
  }
});

test('a filtered page that ends at limit says hasMore, and its cursor pages through', LIMIT, async () => {
  const tenantId = freshTenant();
  const tickets: string[] = [];
  const [first] = await publish(bridge, tenantId);
  for (let index = 0; index < 5; index++) {
    tickets.push((await bridge.publish('tickets.updated', ticketUpdated({ tenantId }))).id);
    await publish(bridge, tenantId, 2);
  }
  const heard: (string | null)[] = [];
  const sizes: [number, boolean][] = [];
  for (let cursor = first as string, hasMore = true; hasMore; ) {
    const { page } = await poll(bridge, `tenantId=${tenantId}&events=tickets.updated&limit=2&after=${cursor}`);
    heard.push(...idsOf(page));
    sizes.push([page.events.length, page.hasMore]);
    ({ cursor, hasMore } = page);
  }
  assert.deepEqual(heard, tickets);
  assert.deepEqual(sizes, [
    [2, true],
    [2, true],
    [1, false],
  ]);
});

test('a filter that keeps almost nothing finds it, and the cursor moves on all the same', LIMIT, async (context) => {
  const own = await startBridge();
  context.after(() => own.close());
  const ids: string[] = [];
  for (let round = 0; round < 12; round++) {
    await publishBatch(own, 't', 1000);
    if (round >= 10) ids.push((await own.publish('tickets.updated', ticketUpdated({ tenantId: 't' }))).id);
  }
  const first = await poll(own, 'tenantId=t&after=start&events=tickets.updated');
  assert.deepEqual(first.page.events, []);
  assert.equal(first.page.hasMore, true, 'one request reads so much and no more');
  const second = await poll(own, `tenantId=t&after=${first.page.cursor}&events=tickets.updated`);
  assert.deepEqual(idsOf(second.page), ids);
  assert.equal(second.page.hasMore, false);
  for (const [limit, hasMore] of [
    [1, true],
    [2, false],
  ] as const) {
    const waited = await poll(own, `tenantId=t&after=start&events=tickets.updated&wait=20&limit=${limit}`);
    assert.deepEqual(idsOf(waited.page), ids.slice(0, limit));
    assert.equal(waited.page.cursor, ids[limit - 1]);
    assert.equal(waited.page.hasMore, hasMore);
  }
});

test('legacy is off here; with it each record’s group stands together, and limit counts records', LIMIT, async () => {
  const tenantId = freshTenant();
  const ids = await publish(bridge, tenantId, 3);
  assert.deepEqual(
    (await poll(bridge, `tenantId=${tenantId}`)).page.events.map(({ event }) => event),
    ['messages.new', 'messages.new', 'messages.new'],
  );
  assert.deepEqual(idsOf((await poll(bridge, `tenantId=${tenantId}&legacy=false`)).page), ids);
  const { page } = await poll(bridge, `tenantId=${tenantId}&legacy=true&limit=2&after=start`);
  assert.deepEqual(
    page.events.map(({ event, id }) => [event, id]),
    ids.slice(0, 2).flatMap((id) => [
      ['ticket.message', null],
      ['ticket.message.created', null],
      ['message:created', null],
      ['messages.new', id],
    ]),
  );
  assert.equal(page.hasMore, true);
  assert.equal(page.cursor, ids[1]);
  const [legacy, , , canonical] = page.events;
  assert.deepEqual(legacy?.rooms, canonical?.rooms);
  assert.deepEqual(legacy?.payload, { ...(canonical?.payload.message as object), ...canonical?.payload });
  const kept = await poll(bridge, `tenantId=${tenantId}&legacy=true&events=message:created&limit=2`);
  assert.deepEqual(
    kept.page.events.map(({ event, id }) => [event, id]),
    [
      ['message:created', null],
      ['message:created', null],
    ],
  );
});

test('rooms: repeated, comma-separated, of every kind; each record once', LIMIT, async () => {
  const base = freshTenant();
  const odd = encodeURIComponent(`${base}:a@b+c/é🎟%`);
  const [one] = await publish(bridge, base, 1, { ticketId: `${base}-1`, agreementId: `${base}-a` });
  const [two] = await publish(bridge, decodeURIComponent(odd), 1, { ticketId: `${base}-2` });
  const { id: lead } = await bridge.publish('leads.updated', { tenantId: `${base}-x`, userId: `${base}-u` });
  const { page } = await poll(
    bridge,
    `tenantId=${base},${odd}&tenantId=${base}&ticketId=${base}-1&ticketId=${base}-2,${base}-1&agreementId=${base}-a&userId=${base}-u`,
  );
  assert.deepEqual(idsOf(page), [one, two, lead]);
  for (const [query, ids] of [
    [`ticketId=${base}-2`, [two]],
    [`agreementId=${base}-a`, [one]],
    [`userId=${base}-u`, [lead]],
    [`tenantId=${base}-`, []],
  ] as const) {
    assert.deepEqual(idsOf((await poll(bridge, query)).page), ids, query);
  }
});

test('what is out of range, malformed or too many is a 400 that names the parameter', LIMIT, async () => {
  const many = Array.from({ length: 11 }, (_, index) => index).join(',');
  const wrong: [query: string, code: string, at: string | null][] = [
    ['', 'invalid_request', 'tenantId'],
    ['limit=1', 'invalid_request', 'tenantId'],
    ['tenantId=&ticketId=x', 'invalid_request', 'tenantId'],
    ['tenantId=a,', 'invalid_request', 'tenantId'],
    ['ticketId=%20', 'invalid_request', 'ticketId'],
    ['agreementId=%0D', 'invalid_request', 'agreementId'],
    [`userId=${'x'.repeat(129)}`, 'invalid_request', 'userId'],
    [`ticketId=${many}`, 'too_many_rooms', null],
    ...['0', '1001', '-1', '1.5', 'x', '', '1e2', '%201', '99999999999999999999'].map(
      (value): [string, string, string] => [`tenantId=t&limit=${value}`, 'invalid_request', 'limit'],
    ),
    ...['26', '-1', '0.5', 'x', '', '1e1'].map((value): [string, string, string] => [
      `tenantId=t&wait=${value}`,
      'invalid_request',
      'wait',
    ]),
    ...['1', '', 'TRUE'].map((value): [string, string, string] => [
      `tenantId=t&legacy=${value}`,
      'invalid_request',
      'legacy',
    ]),
    ['tenantId=t&limit=1&limit=2', 'invalid_request', 'limit'],
    ...['', 'x'.repeat(65), 'a%20b', 'a+b', '%00', 'a%7F', '%C2%A0'].map((value): [string, string, string] => [
      `tenantId=t&after=${value}`,
      'invalid_cursor',
      'after',
    ]),
  ];
  for (const [query, code, at] of wrong) {
    const { status, headers, text } = await poll(bridge, query);
    const problem = JSON.parse(text) as Problem;
    assert.equal(status, 400, query);
    assert.equal(headers.get('content-type'), 'application/problem+json');
    assert.equal(problem.status, 400);
    assert.equal(problem.code, code, query);
    for (const member of ['type', 'title', 'detail'] as const) assert.ok(problem[member]);
    if (at !== null) {
      assert.deepEqual(
        problem.errors?.map(({ path }) => path),
        [at],
        query,
      );
    }
  }
  const both = await poll(bridge, 'tenantId=t&limit=0&wait=99');
  assert.deepEqual(
    (JSON.parse(both.text) as Problem).errors?.map(({ path }) => path),
    ['limit', 'wait'],
  );
  assert.equal((await poll(bridge, 'tenantId=t&limit=1000&wait=0')).status, 200);
  assert.equal((await poll(bridge, 'tenantId=0,1,2,3,4,5,6,7,8,9')).status, 200);
});

test('as many rooms as MAX_ROOMS allows may be asked for, however long their ids', LIMIT, async (context) => {
  const roomy = await startBridge();
  context.after(() => roomy.close());
  const query = (count: number): string =>
    `ticketId=${Array.from({ length: count }, (_, index) => String(index).padStart(128, 'x')).join('%2C')}`;
  assert.equal((await poll(roomy, query(500))).status, 200);
  const { status, text } = await poll(roomy, query(501));
  assert.equal(status, 400);
  assert.equal((JSON.parse(text) as Problem).code, 'too_many_rooms');
});

test('ETag and 304: nothing new is not sent again', LIMIT, async () => {
  const tenantId = freshTenant();
  const [first] = await publish(bridge, tenantId, 2);
  for (const query of [
    `tenantId=${tenantId}`,
    `tenantId=${tenantId}&after=${first}`,
    `tenantId=${tenantId}&after=now`,
  ]) {
    const { headers } = await poll(bridge, query);
    const etag = headers.get('etag') as string;
    const strong = etag.replace(/^W\//, '');
    for (const known of [etag, strong, '*', `"x", ${etag}`, ` ${strong} , W/"y"`]) {
      const raw = openRaw(bridge.url);
      raw.send(get(`/events?${query}`, `If-None-Match: ${known}`));
      await until('answered', () => raw.responses().length === 1);
      const [answer] = raw.responses();
      assert.equal(answer?.status, 304, known);
      assert.equal(answer?.headers.etag, etag);
      assert.equal(answer?.headers['cache-control'], headers.get('cache-control'));
      raw.send(get('/healthz'));
      await until('a 304 has no body', () => raw.responses().length === 2);
      raw.destroy();
    }
    for (const known of ['"x"', 'W/"x"', 'x', '']) {
      assert.equal((await poll(bridge, query, { 'if-none-match': known })).status, 200, known);
    }
  }
  const newest = `tenantId=${tenantId}&limit=2`;
  const known = { 'if-none-match': (await poll(bridge, newest)).headers.get('etag') as string };
  await publish(bridge, freshTenant());
  assert.equal((await poll(bridge, newest, known)).status, 304, 'news of other rooms are none');
  const legacy = await poll(bridge, `${newest}&legacy=true`, known);
  assert.equal(legacy.status, 200, 'another view is another answer');
  await publish(bridge, tenantId);
  assert.equal((await poll(bridge, newest, known)).status, 200);
  const [start] = await publish(bridge, tenantId, 2);
  const page = `tenantId=${tenantId}&limit=1&after=${start}`;
  const whole = await poll(bridge, page);
  await publish(bridge, tenantId);
  const cut = await poll(bridge, page, { 'if-none-match': whole.headers.get('etag') as string });
  assert.deepEqual([whole.page.hasMore, cut.status, cut.page?.hasMore], [false, 200, true], 'hasMore is news');
  assert.deepEqual(idsOf(cut.page), idsOf(whole.page));
  const now = await poll(bridge, `tenantId=${tenantId}&after=now`);
  await publish(bridge, freshTenant());
  const later = await poll(bridge, `tenantId=${tenantId}&after=now`, {
    'if-none-match': now.headers.get('etag') as string,
  });
  assert.equal(later.status, 200, 'of now the cursor is what was asked for');
});

test('a cursor that leads nowhere is a 410 that says where to go on', LIMIT, async (context) => {
  const small = await startBridge({ retentionEvents: 5 });
  context.after(() => small.close());
  const ids = await publish(small, 't', 30);
  await until('trimmed', async () => (await poll(small, `tenantId=t&after=${ids[0]}`)).status === 410);
  const { page: kept } = await poll(small, 'tenantId=t&after=start');
  assert.deepEqual(idsOf(kept), ids.slice(25));
  for (const [after, reason, code] of [
    [ids[0], 'expired', 'cursor_expired'],
    ['of-another-log', 'unknown', 'cursor_unknown'],
    [`${ids[29]?.slice(0, -1)}~`, 'unknown', 'cursor_unknown'],
  ] as const) {
    for (const wait of [0, 25]) {
      const { status, headers, text } = await poll(small, `tenantId=t&wait=${wait}&after=${after}`, {
        'if-none-match': '*',
      });
      const problem = JSON.parse(text) as Problem;
      assert.equal(status, 410);
      assert.equal(headers.get('content-type'), 'application/problem+json');
      assert.equal(problem.code, code);
      assert.equal(problem.status, 410);
      assert.equal(problem.reason, reason);
      assert.equal(problem.after, after);
      assert.equal(problem.cursor, ids[29]);
      assert.ok((problem.oldest as string) <= (ids[25] as string));
      const { status: next } = await poll(small, `tenantId=t&after=${problem.cursor}`);
      assert.equal(next, 200);
    }
  }
  assert.equal(await metric(small, 'roomcast_resets_total{transport="longpoll",reason="unknown"}'), 4);
  const last = await poll(small, `tenantId=t&after=${ids[28]}`);
  assert.deepEqual(idsOf(last.page), [ids[29]]);
});

test('a long poll answers as soon as one record is there', LIMIT, async () => {
  const tenantId = freshTenant();
  const { page } = await poll(bridge, `tenantId=${tenantId}&after=now`);
  for (const query of [`after=${page.cursor}`, '', `after=${page.cursor}&limit=1`, `after=start`]) {
    const room = freshTenant();
    const answer = poll(bridge, `tenantId=${room}&wait=25&${query}`);
    await until('waiting', async () => (await metric(bridge, WAITING)) === 1);
    await publish(bridge, freshTenant());
    assert.equal(await metric(bridge, WAITING), 1, 'other rooms wake nobody');
    const [id] = await publish(bridge, room);
    const { status, page: fresh } = await answer;
    assert.equal(status, 200);
    assert.deepEqual(idsOf(fresh), [id]);
    assert.equal(fresh.cursor, id);
    assert.equal(fresh.hasMore, false);
  }
  assert.equal(await metric(bridge, WAITING), 0);
});

test('a long poll woken by a batch gives up to limit of it, and the rest after its cursor', LIMIT, async () => {
  const tenantId = freshTenant();
  const { page: now } = await poll(bridge, `tenantId=${tenantId}&after=now`);
  const answer = poll(bridge, `tenantId=${tenantId}&after=${now.cursor}&wait=25&limit=3`);
  await until('waiting', async () => (await metric(bridge, WAITING)) === 1);
  const ids = await publishBatch(bridge, tenantId, 10);
  const { page } = await answer;
  assert.deepEqual(idsOf(page), ids.slice(0, 3));
  assert.equal(page.hasMore, true);
  assert.equal(page.cursor, ids[2]);
  const { page: rest } = await poll(bridge, `tenantId=${tenantId}&after=${page.cursor}&wait=25`);
  assert.deepEqual(idsOf(rest), ids.slice(3));
});

test('what a filter leaves out wakes nobody; the cursor has moved when the wait ends', LIMIT, async () => {
  const tenantId = freshTenant();
  const { page: now } = await poll(bridge, `tenantId=${tenantId}&after=now`);
  const answer = poll(bridge, `tenantId=${tenantId}&after=${now.cursor}&wait=1&events=tickets.updated`);
  await until('waiting', async () => (await metric(bridge, WAITING)) === 1);
  const [left] = await publish(bridge, tenantId);
  const { status, page } = await answer;
  assert.equal(status, 200);
  assert.deepEqual(page, { events: [], cursor: left, hasMore: false });

  const woken = poll(bridge, `tenantId=${tenantId}&after=${left}&wait=25&events=tickets.updated`);
  await until('waiting', async () => (await metric(bridge, WAITING)) === 1);
  await publish(bridge, tenantId);
  const { id } = await bridge.publish('tickets.updated', ticketUpdated({ tenantId }));
  assert.deepEqual(idsOf((await woken).page), [id]);
});

test('a long poll with If-None-Match waits past what the client holds', LIMIT, async () => {
  const tenantId = freshTenant();
  const [first, second] = await publish(bridge, tenantId, 2);
  for (const query of [`tenantId=${tenantId}`, `tenantId=${tenantId}&after=${first}`]) {
    const { headers, page } = await poll(bridge, query);
    const known = { 'if-none-match': headers.get('etag') as string };
    const answer = poll(bridge, `${query}&wait=25`, known);
    await until('waiting', async () => (await metric(bridge, WAITING)) === 1);
    const [id] = await publish(bridge, tenantId);
    assert.deepEqual(idsOf((await answer).page), [...idsOf(page), id]);
  }
  const { headers } = await poll(bridge, `tenantId=${tenantId}&after=${second}`);
  const known = { 'if-none-match': headers.get('etag') as string };
  assert.equal((await poll(bridge, `tenantId=${tenantId}&after=${second}&wait=1`, known)).status, 304);
});

test('HEAD answers as GET, at once and without a body, and counts no delivery', LIMIT, async () => {
  const tenantId = freshTenant();
  await publish(bridge, tenantId);
  const delivered = 'roomcast_deliveries_total{transport="longpoll",event="messages.new"}';
  const { headers, text } = await poll(bridge, `tenantId=${tenantId}`);
  const before = await metric(bridge, delivered);
  const raw = openRaw(bridge.url);
  raw.send(get(`/events?tenantId=${tenantId}`).replace('GET', 'HEAD'));
  raw.send(get(`/events?tenantId=${freshTenant()}&wait=25`).replace('GET', 'HEAD'));
  raw.send(get(`/events?tenantId=${tenantId}&after=no-such`).replace('GET', 'HEAD'));
  await until('answered', () => raw.responses(true).length === 3);
  const [full, empty, gone] = raw.responses(true);
  raw.destroy();
  assert.equal(full?.status, 200);
  assert.equal(full?.headers.etag, headers.get('etag'));
  assert.equal(full?.headers['content-length'], String(Buffer.byteLength(text)));
  assert.equal(empty?.status, 200);
  assert.equal(gone?.status, 410);
  assert.equal(await metric(bridge, delivered), before);
});

test('a client that goes frees its long poll, also one that waits behind another answer', LIMIT, async () => {
  for (const count of [1, 5]) {
    const raw = openRaw(bridge.url);
    raw.send(get(`/events?tenantId=${freshTenant()}&wait=25`).repeat(count));
    // The others wait for their turn.
    await until('waiting', async () => (await metric(bridge, WAITING)) === 1);
    raw.destroy();
    // Well before the wait is over.
    await until('freed', async () => (await metric(bridge, WAITING)) === 0, 15_000);
  }
});

test('MAX_CONNECTIONS counts long polls, not plain requests', LIMIT, async (context) => {
  const one = await startBridge({ maxConnections: 1 });
  context.after(() => one.close());
  const answer = poll(one, 'tenantId=t&wait=25');
  await until('waiting', async () => (await metric(one, WAITING)) === 1);
  assert.equal((await poll(one, 'tenantId=t')).status, 200);
  assert.equal((await poll(one, 'tenantId=t&after=now')).status, 200);
  const refused = await poll(one, 'tenantId=t&wait=1', { accept: 'text/event-stream' });
  assert.equal(refused.status, 503);
  assert.ok(Number(refused.headers.get('retry-after')) >= 1);
  assert.equal((JSON.parse(refused.text) as Problem).code, 'too_many_connections');
  const [id] = await publish(one, 't');
  assert.deepEqual(idsOf((await answer).page), [id]);
  const next = poll(one, `tenantId=t&wait=25&after=${id}`);
  await until('room again', async () => (await metric(one, WAITING)) === 1);
  const [last] = await publish(one, 't');
  assert.deepEqual(idsOf((await next).page), [last]);
  assert.equal((await poll(one, `tenantId=t&wait=25&after=${id}`)).status, 200, 'no wait, no connection');
});

test('a drain answers waiting requests with a cursor to continue from', LIMIT, async () => {
  const draining = await startBridge();
  const [id] = await publish(draining, 'other');
  const answer = poll(draining, 'tenantId=t&wait=25');
  await until('waiting', async () => (await metric(draining, WAITING)) === 1);
  await draining.close();
  const { status, page } = await answer;
  assert.equal(status, 200);
  assert.deepEqual(page, { events: [], cursor: id, hasMore: false });
});

test('the lag of deliveries is that of records that were waited for, not of history', LIMIT, async (context) => {
  const own = await startBridge();
  context.after(() => own.close());
  const lag = 'roomcast_delivery_lag_seconds_count{transport="longpoll"}';
  const [, last] = await publish(own, 't', 2);
  await poll(own, 'tenantId=t&after=start');
  await poll(own, 'tenantId=t');
  assert.equal(await metric(own, lag), 0);
  assert.equal(await metric(own, 'roomcast_deliveries_total{transport="longpoll",event="messages.new"}'), 4);
  assert.equal(await metric(own, 'roomcast_replayed_total{transport="longpoll"}'), 4);
  const answer = poll(own, `tenantId=t&after=${last}&wait=25`);
  await until('waiting', async () => (await metric(own, WAITING)) === 1);
  await publish(own, 't');
  await answer;
  assert.equal(await metric(own, lag), 1);
});

test('a cursor of any transport goes on at any other', LIMIT, async (context) => {
  const tenantId = freshTenant();
  const ids = await publish(bridge, tenantId, 6);
  const stream = await fetch(`${bridge.url}/sse?tenantId=${tenantId}&legacy=false&after=${ids[0]}&events=messages.new`);
  const reader = stream.body?.getReader();
  let text = '';
  await until('two heard', async () => {
    text += new TextDecoder().decode((await reader?.read())?.value);
    return (text.match(/^event: messages\.new$/gm) ?? []).length >= 2;
  });
  await reader?.cancel();
  const fromSse = [...text.matchAll(/^event: messages\.new\nid: (.*)$/gm)][1]?.[1];
  assert.equal(fromSse, ids[2]);
  const { page } = await poll(bridge, `tenantId=${tenantId}&after=${fromSse}&limit=1`);
  assert.deepEqual(idsOf(page), [ids[3]]);

  const socket = io(bridge.url, { transports: ['websocket'], forceNew: true, auth: { legacy: false } });
  context.after(() => socket.disconnect());
  const heard: string[] = [];
  socket.on('messages.new', (_: object, cursor: string) => heard.push(cursor));
  const joined = (await socket.emitWithAck('join-tenant', tenantId, { after: page.cursor })) as { cursor: string };
  assert.deepEqual(heard, ids.slice(4));
  assert.deepEqual(idsOf((await poll(bridge, `tenantId=${tenantId}&after=${joined.cursor}`)).page), []);
  const [next] = await publish(bridge, tenantId);
  assert.deepEqual(idsOf((await poll(bridge, `tenantId=${tenantId}&after=${joined.cursor}`)).page), [next]);
});

test('GET /events takes no other method than POST and the readers’', LIMIT, async () => {
  for (const method of ['PUT', 'DELETE', 'PATCH']) {
    for (const path of ['/events?tenantId=t', '/sse?tenantId=t']) {
      const response = await fetch(bridge.url + path, { method });
      assert.equal(response.status, 405);
      assert.match(response.headers.get('allow') ?? '', /GET, HEAD/);
      assert.equal(((await response.json()) as Problem).code, 'method_not_allowed');
    }
  }
});

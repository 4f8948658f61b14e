/** Plain HTTP answers have limits (protocol §16): one request at a time, counted while they wait, streamed when large. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { messageNew, metric, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { get, openRaw, type RawConnection } from '../support/raw.ts';
import { until } from '../support/until.ts';

const LIMIT = { timeout: 60_000 };
const WAITING = 'roomcast_connections{transport="longpoll"}';
const REFUSED = 'roomcast_refused_total{code="too_many_connections"}';
const DELIVERED = 'roomcast_deliveries_total{transport="longpoll",event="messages.new"}';
/** More than the kernel takes for a client that does not read. */
const RECORDS = 100;
const RECORD_BYTES = 90_000;

interface Page {
  readonly events: readonly { readonly id: string; readonly payload: { readonly message: { readonly n: number } } }[];
  readonly cursor: string;
  readonly hasMore: boolean;
}

const post = (path: string, body: string): string =>
  `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;

/** Records, messages of one ticket, and tickets, with 9 MB of each. */
async function fill(bridge: TestBridge, tenantId: string): Promise<string[]> {
  const ids: string[] = [];
  const text = 'é'.repeat(RECORD_BYTES / 2);
  for (let n = 0; n < RECORDS; n += 10) {
    const events = Array.from({ length: 10 }, (_, index) => ({
      event: 'messages.new',
      payload: messageNew({ tenantId, message: { n: n + index, text } }),
    }));
    const { status, body } = await bridge.post({ events });
    assert.equal(status, 201);
    ids.push(...body.results.map(({ id }) => id));
  }
  return ids;
}

describe('one connection', () => {
  let bridge: TestBridge;
  const opened: RawConnection[] = [];
  before(async () => {
    bridge = await startBridge({ maxConnections: 3 });
  });
  after(async () => {
    for (const raw of opened) raw.destroy();
    await bridge.close();
  });
  const open = (): RawConnection => {
    const raw = openRaw(bridge.url);
    opened.push(raw);
    return raw;
  };

  test(
    'answers pipelined requests in order, with and without bodies, however many packets they take',
    LIMIT,
    async () => {
      const raw = open();
      const requests: string[] = [];
      for (let n = 0; n < 200; n++) {
        const event = JSON.stringify({
          event: 'messages.new',
          payload: messageNew({ tenantId: 'order', message: { n } }),
        });
        requests.push(n % 2 === 0 ? get('/healthz') : post('/events', event));
      }
      const text = requests.join('');
      for (let at = 0; at < text.length; at += 10_000) raw.send(text.slice(at, at + 10_000));
      await until('all answered', () => raw.responses().filter(({ ended }) => ended).length === 200);
      assert.deepEqual(
        raw.responses().map(({ status }) => status),
        requests.map((_, n) => (n % 2 === 0 ? 200 : 201)),
      );
      const response = await fetch(`${bridge.url}/events?tenantId=order&after=start&limit=1000`);
      const { events } = (await response.json()) as Page;
      assert.deepEqual(
        events.map(({ payload }) => payload.message.n),
        Array.from({ length: 100 }, (_, n) => 2 * n + 1),
      );
    },
  );

  test('serves a request only once the answer before it was sent', LIMIT, async () => {
    const raw = open();
    const event = JSON.stringify({ event: 'messages.new', payload: messageNew({ tenantId: 'behind' }) });
    raw.send(get('/events?tenantId=turn&wait=25') + post('/events', event));
    await until('waiting', async () => (await metric(bridge, WAITING)) === 1);
    const read = async (): Promise<Page> =>
      (await (await fetch(`${bridge.url}/events?tenantId=behind`)).json()) as Page;
    assert.equal((await read()).events.length, 0);
    await bridge.publish('messages.new', messageNew({ tenantId: 'turn' }));
    await until('both answered', () => raw.responses().length === 2);
    assert.deepEqual(
      raw.responses().map(({ status }) => status),
      [200, 201],
    );
    assert.equal((await read()).events.length, 1);
  });

  test('is cut when it has far too many requests under way, or upgrades behind one', LIMIT, async () => {
    const flood = open();
    flood.send(get('/events?tenantId=flood&wait=25') + get('/healthz').repeat(1_000));
    const upgrade = open();
    const headers = [
      'Connection: Upgrade',
      'Upgrade: websocket',
      'Sec-WebSocket-Version: 13',
      'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
    ];
    upgrade.send(get('/events?tenantId=flood&wait=25') + get('/socket.io/?EIO=4&transport=websocket', ...headers));
    await until('cut', () => flood.closed && upgrade.closed);
    assert.equal(flood.bytes().length + upgrade.bytes().length, 0);
    await until('not counted', async () => (await metric(bridge, WAITING)) === 0);
  });

  test('that does not read costs one answer, and counts until it has gone', LIMIT, async () => {
    await fill(bridge, 'unread');
    const path = '/events?tenantId=unread&limit=1000';
    const page = await (await fetch(`${bridge.url}${path}`)).text();
    const before = await metric(bridge, DELIVERED);
    const readers = Array.from({ length: 3 }, open);
    for (const reader of readers) {
      reader.pause();
      reader.send(get(path).repeat(3));
    }
    await until('the limit is reached', async () => (await fetch(`${bridge.url}${path}`)).status === 503);
    const refused = await fetch(`${bridge.url}${path}`);
    assert.equal(refused.headers.get('retry-after'), '5');
    assert.equal(((await refused.json()) as { code: string }).code, 'too_many_connections');
    assert.ok((await metric(bridge, REFUSED)) >= 2);
    assert.equal(
      (await fetch(`${bridge.url}/events?tenantId=unread&wait=1&after=now`)).status,
      200,
      'it does not wait',
    );
    assert.equal((await fetch(`${bridge.url}/healthz`)).status, 200);
    assert.equal((await fetch(`${bridge.url}/sse?tenantId=t`)).status, 503);
    assert.ok(
      (await metric(bridge, DELIVERED)) - before < 3 * RECORDS,
      'no answer is read from the log before its turn',
    );
    const [reader, ...others] = readers as [RawConnection, RawConnection, RawConnection];
    for (const other of others) other.destroy();
    reader.resume();
    await until('it has them all', () => reader.responses().filter(({ ended }) => ended).length >= 2, 30_000);
    assert.equal(reader.responses()[1]?.body, page);
    reader.destroy();
    await until('free again', async () => (await fetch(`${bridge.url}${path}`)).status === 200);
  });
});

describe('a large page', () => {
  let bridge: TestBridge;
  let ids: string[];
  before(async () => {
    // Each page takes several steps.
    bridge = await startBridge({ maxBufferBytes: 1_000_000 });
    ids = await fill(bridge, 'large');
    await bridge.post({ event: 'messages.new', payload: messageNew({ tenantId: 'other' }) });
    for (let n = 0; n < 30; n++) {
      const payload = ticketUpdated({
        tenantId: 'large',
        ticketId: `t${n}`,
        ticket: { text: 'x'.repeat(RECORD_BYTES) },
      });
      await bridge.post({ event: 'tickets.updated', payload });
    }
  });
  after(() => bridge.close());
  const read = async (query: string, headers = {}): Promise<Response> =>
    fetch(`${bridge.url}/events?tenantId=large&events=messages.new&${query}`, { headers });

  test('of events holds every record up to the limit, in order, from each end of the log', LIMIT, async () => {
    const all = (await (await read('limit=1000&after=start')).json()) as Page;
    assert.deepEqual(
      all.events.map(({ id }) => id),
      ids,
    );
    assert.equal(all.hasMore, false);
    const first = (await (await read('limit=60&after=start')).json()) as Page;
    assert.deepEqual(
      first.events.map(({ id }) => id),
      ids.slice(0, 60),
    );
    assert.deepEqual([first.hasMore, first.cursor], [true, ids[59]]);
    const newest = (await (await read('limit=70')).json()) as Page;
    assert.deepEqual(
      newest.events.map(({ id }) => id),
      ids.slice(-70),
    );
    assert.equal(newest.hasMore, false);
    const legacy = (await (await read('limit=30&legacy=true')).json()) as Page;
    assert.equal(legacy.events.filter(({ id }) => id !== null).length, 30);
  });

  test('of events has an ETag that changes with its records alone', LIMIT, async () => {
    for (const query of ['limit=1000&after=start', 'limit=70']) {
      const { headers } = await read(query);
      const etag = headers.get('etag') as string;
      assert.equal((await read(query, { 'if-none-match': etag })).status, 304);
      const head = await fetch(`${bridge.url}/events?tenantId=large&events=messages.new&${query}`, { method: 'HEAD' });
      assert.deepEqual([head.status, head.headers.get('etag'), await head.text()], [200, etag, '']);
    }
    const [whole, part] = await Promise.all([read('limit=1000&after=start'), read('limit=60&after=start')]);
    assert.notEqual(whole.headers.get('etag'), part.headers.get('etag'));
    await Promise.all([whole.text(), part.text()]);
  });

  test('of state holds every item up to the limit, and the next page goes on from it', LIMIT, async () => {
    type List = { items: { ticketId: string }[]; nextPage: string | null; cursor: string };
    const list = async (path: string): Promise<List> => (await (await fetch(`${bridge.url}${path}`)).json()) as List;
    const all = await list('/tickets?tenantId=large&limit=1000');
    assert.equal(all.items.length, 30);
    assert.equal(all.nextPage, null);
    const first = await list('/tickets?tenantId=large&limit=20');
    assert.deepEqual(first.items, all.items.slice(0, 20));
    const rest = await list(`/tickets?tenantId=large&limit=20&page=${first.nextPage}`);
    assert.deepEqual(rest.items, all.items.slice(20));
    assert.deepEqual([rest.nextPage, rest.cursor], [null, first.cursor]);
    const messages = await list('/tickets/ticket-123/messages?tenantId=large&limit=1000');
    assert.equal(messages.items.length, RECORDS);
  });
});

/** protocol §6 as it shows on the wire of `GET /sse`: every header, number, first byte, end and refusal. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { type IncomingHttpHeaders, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { EventSource } from 'eventsource';
import { createParser } from 'eventsource-parser';
import { messageNew, metric, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { startCutProxy } from '../support/cut-proxy.ts';
import { get, openRaw, type RawConnection } from '../support/raw.ts';
import { until } from '../support/until.ts';

const LIMIT = { timeout: 120_000 };
const ID = '[!-~]{1,64}';

interface Block {
  readonly event: string;
  readonly id: string | null;
  readonly data: string;
}

interface Stream {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly blocks: Block[];
  readonly retries: number[];
  readonly comments: string[];
  text(): string;
  readonly ended: boolean;
  readonly aborted: boolean;
  pause(): void;
  resume(): void;
  close(): void;
}

/** A stream as a spec-abiding parser reads it. Resolves with the response's head. */
function open(url: string, path: string, headers: Record<string, string> = {}): Promise<Stream> {
  return new Promise((resolve, reject) => {
    const outgoing = request(`${url}${path}`, { headers }, (response) => {
      const blocks: Block[] = [];
      const retries: number[] = [];
      const comments: string[] = [];
      let text = '';
      let ended = false;
      let aborted = false;
      const parser = createParser({
        onEvent: ({ event = 'message', id, data }) => blocks.push({ event, id: id ?? null, data }),
        onRetry: (retry) => retries.push(retry),
        onComment: (comment) => comments.push(comment),
        onError: reject,
      });
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
        parser.feed(chunk);
      });
      response.on('end', () => {
        ended = true;
      });
      response.on('error', () => {
        aborted = true;
      });
      resolve({
        status: response.statusCode as number,
        headers: response.headers,
        blocks,
        retries,
        comments,
        text: () => text,
        get ended() {
          return ended;
        },
        get aborted() {
          return aborted;
        },
        pause: () => void response.pause(),
        resume: () => void response.resume(),
        close: () => void outgoing.destroy(),
      });
    });
    outgoing.on('error', reject);
    outgoing.end();
  });
}

let bridge: TestBridge;
/** Heartbeats come fast here. */
let quick: TestBridge;
before(async () => {
  bridge = await startBridge({ extraEvents: ['leads.updated'], maxRooms: 10 });
  quick = await startBridge({ heartbeatMs: 20 });
});
after(() => Promise.all([bridge.close(), quick.close()]));

let tenants = 0;
const freshTenant = (): string => `sse-${++tenants}`;

async function publish(to: TestBridge, tenantId: string, count = 1, overrides: Record<string, unknown> = {}) {
  const ids: string[] = [];
  for (let index = 0; index < count; index++) {
    ids.push((await to.publish('messages.new', messageNew({ tenantId, agreementId: null, ...overrides }))).id);
  }
  return ids;
}

async function publishBatch(to: TestBridge, tenantId: string, count: number, content: string): Promise<string[]> {
  const events = Array.from({ length: count }, () => ({
    event: 'messages.new',
    payload: messageNew({ tenantId, agreementId: null, message: { content } }),
  }));
  const { status, body } = await to.post({ events });
  assert.equal(status, 201);
  return body.results.map(({ id }) => id);
}

const OPEN = 'roomcast_connections{transport="sse"}';
const SLOW = 'roomcast_slow_consumers_total{transport="sse"}';

const canonicalIds = (blocks: readonly Block[]): (string | null)[] =>
  blocks.filter(({ event }) => !event.startsWith('bridge.') && event === 'messages.new').map(({ id }) => id);

test('the head and the first bytes are there at once, whatever Accept says', LIMIT, async () => {
  const [newest] = await publish(bridge, freshTenant());
  for (const headers of [
    [],
    ['Accept: text/event-stream'],
    ['Accept: application/json'],
    ['Accept: text/html;q=0.1, nothing/at-all', 'Accept-Encoding: gzip, deflate, br, zstd'],
    ['Accept: '],
  ]) {
    const raw = openRaw(bridge.url);
    raw.send(get(`/sse?tenantId=${freshTenant()}`, ...headers));
    await until('the first block', () => raw.responses()[0]?.body.endsWith('\n\n') ?? false);
    const [response] = raw.responses();
    raw.destroy();
    assert.equal(response?.status, 200);
    assert.equal(response?.version, '1.1');
    assert.equal(response?.headers['content-type'], 'text/event-stream; charset=utf-8');
    assert.equal(response?.headers['cache-control'], 'no-store, no-transform');
    assert.equal(response?.headers['x-accel-buffering'], 'no');
    assert.equal(response?.headers['transfer-encoding'], 'chunked');
    assert.equal(response?.headers['content-encoding'], undefined);
    assert.equal(response?.headers['content-length'], undefined);
    assert.match(response?.body ?? '', /^retry: \d+\nevent: bridge\.cursor\nid: \S+\ndata: \{\}\n\n$/);
    assert.equal(/id: (\S+)/.exec(response?.body ?? '')?.[1], newest, 'the current cursor');
  }
});

test('retry is jittered about its base', LIMIT, async () => {
  const streams = await Promise.all(Array.from({ length: 20 }, () => open(bridge.url, '/sse?tenantId=t')));
  await until('all told', () => streams.every(({ retries }) => retries.length === 1));
  const retries = streams.flatMap((stream) => stream.retries);
  for (const stream of streams) stream.close();
  assert.ok(new Set(retries).size > 5, 'not all the same');
  assert.ok(retries.every((retry) => retry >= 1000 && retry <= 3000));
});

test('a stream of an empty log begins with a cursor that can be resumed from', LIMIT, async (context) => {
  const empty = await startBridge();
  context.after(() => empty.close());
  const first = await open(empty.url, '/sse?tenantId=t');
  await until('begun', () => first.blocks.length === 1);
  const cursor = first.blocks[0]?.id as string;
  assert.match(cursor, new RegExp(`^${ID}$`));
  first.close();
  const published = await publish(empty, 't', 3);
  const second = await open(empty.url, '/sse?tenantId=t&legacy=false', { 'last-event-id': cursor });
  await until('resumed', () => second.blocks.length === 4);
  assert.deepEqual(
    second.blocks.map(({ id }) => id),
    [cursor, ...published],
  );
  second.close();
});

test('padding is a leading comment of that many bytes', LIMIT, async () => {
  for (const padding of [0, 1, 2, 2048, 8192]) {
    const stream = await open(bridge.url, `/sse?tenantId=t&padding=${padding}`);
    await until('begun', () => stream.blocks.length === 1);
    stream.close();
    assert.match(stream.text(), padding === 0 ? /^retry: / : new RegExp(`^: {${padding}}\nretry: `));
    assert.equal(stream.retries.length, 1);
  }
});

interface Problem {
  readonly status: number;
  readonly code: string;
  readonly errors?: { path: string; message: string }[];
}

test('a lasting fault is a status, also for EventSource: malformed queries', LIMIT, async () => {
  const many = Array.from({ length: 11 }, (_, index) => `t${index}`).join(',');
  const wrong: [query: string, code: string, at: string | null][] = [
    ['', 'invalid_request', 'tenantId'],
    ['events=messages.new', 'invalid_request', 'tenantId'],
    ['tenantId=', 'invalid_request', 'tenantId'],
    ['ticketId=a&tenantId=b,,c', 'invalid_request', 'tenantId'],
    ['ticketId=a%20b', 'invalid_request', 'ticketId'],
    ['ticketId=a+b', 'invalid_request', 'ticketId'],
    ['agreementId=a%0Ab', 'invalid_request', 'agreementId'],
    ['userId=%00', 'invalid_request', 'userId'],
    ['userId=%E2%80%A8', 'invalid_request', 'userId'],
    [`tenantId=${'x'.repeat(129)}`, 'invalid_request', 'tenantId'],
    [`tenantId=${many}`, 'too_many_rooms', null],
    [`tenantId=1,2,3,4,5,6&ticketId=1,2,3&agreementId=1&userId=1`, 'too_many_rooms', null],
    ...['-1', '8193', '1.5', '1e3', 'x', '', '%2B5', '0x10', '99999999999999999999'].map(
      (value): [string, string, string] => [`tenantId=t&padding=${value}`, 'invalid_request', 'padding'],
    ),
    ['tenantId=t&padding=1&padding=1', 'invalid_request', 'padding'],
    ...['0', '-1', '3601', '1.5', 'x', ''].map((value): [string, string, string] => [
      `tenantId=t&life=${value}`,
      'invalid_request',
      'life',
    ]),
    ...['yes', '', 'False'].map((value): [string, string, string] => [
      `tenantId=t&legacy=${value}`,
      'invalid_request',
      'legacy',
    ]),
    ...['', 'x'.repeat(65), 'a%20b', 'a+b', '%09', 'a%00', 'a%7F', 'a%C2%85', 'a%E2%80%A8b', '%EF%BB%BF'].map(
      (value): [string, string, string] => [`tenantId=t&after=${value}`, 'invalid_cursor', 'after'],
    ),
  ];
  for (const [query, code, at] of wrong) {
    for (const accept of ['text/event-stream', '*/*']) {
      const response = await fetch(`${bridge.url}/sse?${query}`, { headers: { accept } });
      const problem = (await response.json()) as Problem;
      assert.equal(response.status, 400, query);
      assert.equal(response.headers.get('content-type'), 'application/problem+json', query);
      assert.equal(problem.code, code, query);
      if (at !== null) {
        assert.deepEqual(
          problem.errors?.map(({ path }) => path),
          [at],
          query,
        );
      }
    }
  }
  assert.equal(await metric(bridge, OPEN), 0);
});

test('a malformed Last-Event-ID is a 400', LIMIT, async () => {
  for (const value of ['', 'x'.repeat(65), 'a b', 'a\tb', 'a\u007f']) {
    const raw = openRaw(bridge.url);
    raw.send(get('/sse?tenantId=t', `Last-Event-ID: ${value}`, 'Accept: text/event-stream'));
    await until('answered', () => (raw.responses()[0]?.ended ?? false) || raw.closed);
    const [response] = raw.responses();
    raw.destroy();
    assert.equal(response?.status, 400, JSON.stringify(value));
    // A control character in a header is refused by the HTTP parser already.
    if (value !== 'a\u007f') assert.equal((JSON.parse(response?.body ?? '') as Problem).code, 'invalid_cursor');
  }
});

test('rooms: repeated, comma-separated, percent-encoded, of every kind', LIMIT, async () => {
  const base = freshTenant();
  const ids = ['a:b', 'a@b', 'a+b', 'a/b', 'é%', '🎟', '&=#?', 'tenant:x', '__proto__'].map((id) => `${base}${id}`);
  const query = `tenantId=${ids.slice(0, 3).map(encodeURIComponent).join(',')}&tenantId=${ids
    .slice(3)
    .map(encodeURIComponent)
    .join('%2C')}`;
  const stream = await open(bridge.url, `/sse?${query}&legacy=false&tenantId=${encodeURIComponent(ids[0] as string)}`);
  await until('begun', () => stream.blocks.length === 1);
  const published = [];
  for (const tenantId of ids) published.push(...(await publish(bridge, tenantId)));
  await until('all heard', () => stream.blocks.length > ids.length);
  assert.deepEqual(canonicalIds(stream.blocks), published);
  stream.close();

  const user = await open(bridge.url, `/sse?userId=${base}u&agreementId=${base}a&ticketId=${base}t`);
  await until('begun', () => user.blocks.length === 1);
  const lead = { tenantId: base, userId: `${base}u`, agreementId: `${base}a`, n: 1 };
  await bridge.publish('leads.updated', lead);
  await until('heard', () => user.blocks.length >= 2);
  await bridge.publish('leads.updated', { ...lead, n: 2 });
  await until('heard again', () => user.blocks.length >= 3);
  assert.deepEqual(
    user.blocks.slice(1).map(({ event, data }) => [event, (JSON.parse(data) as { n: number }).n]),
    [
      ['leads.updated', 1],
      ['leads.updated', 2],
    ],
  );
  user.close();
});

test('an event is event, id when canonical, and one line of data: the payload’s JSON text', LIMIT, async () => {
  const tenantId = freshTenant();
  const raw = openRaw(bridge.url);
  raw.send(get(`/sse?tenantId=${tenantId}`));
  await until('begun', () => raw.responses()[0]?.body.endsWith('\n\n') ?? false);
  const beginning = raw.responses()[0]?.body ?? '';
  const text = `{"event":"tickets.updated","payload":{"tenantId":"${tenantId}","ticketId":"x\\u2029y:1","ticketStatus":"O\\r\\nid: 1\\n\\nevent: x","ticketUpdatedAt":"2024-06-01T12:00:00Z","ticket":{"__proto__":{"a":1},"10":1,"2":2,"big":1e21,"u":"\u2028\u2029\\u0085\\u0000\\ud800","ticketStatus":"beneath"},"z":-0}}`;
  const refused = await bridge.post(text);
  assert.equal(refused.status, 422, 'U+2029 is white space');
  const { status, body } = await bridge.post(text.replace('\\u2029', ''));
  assert.equal(status, 201);
  await until('heard', () => raw.responses()[0]?.body.includes(`id: ${body.id}\n`) ?? false);
  const { payload } = JSON.parse(text.replace('\\u2029', '')) as { payload: Record<string, object> };
  const merged = { ...payload.ticket, ...payload };
  assert.equal(
    raw.responses()[0]?.body.slice(beginning.length),
    `event: ticket.updated\ndata: ${JSON.stringify(merged)}\n\n` +
      `event: tickets.updated\nid: ${body.id}\ndata: ${JSON.stringify(payload)}\n\n`,
  );
  raw.destroy();

  const replayed = await open(bridge.url, `/sse?tenantId=${tenantId}&after=start`);
  await until('heard', () => replayed.blocks.length === 3);
  assert.deepEqual(replayed.blocks.slice(1), [
    { event: 'ticket.updated', id: null, data: JSON.stringify(merged) },
    { event: 'tickets.updated', id: body.id, data: JSON.stringify(payload) },
  ]);
  replayed.close();
});

test('life ends the stream cleanly, and its connection serves on', LIMIT, async () => {
  const tenantId = freshTenant();
  const raw = openRaw(bridge.url);
  raw.send(get(`/sse?tenantId=${tenantId}&life=1`));
  await until('begun', () => raw.responses()[0]?.body.endsWith('\n\n') ?? false);
  const [heard] = await publish(bridge, tenantId);
  const [elsewhere] = await publish(bridge, freshTenant());
  await until('ended', () => raw.responses()[0]?.ended ?? false);
  const [stream] = raw.responses();
  assert.equal(stream?.headers.connection, 'keep-alive');
  assert.match(stream?.body ?? '', new RegExp(`id: ${heard}\n`));
  assert.match(stream?.body ?? '', new RegExp(`event: bridge\\.cursor\nid: ${elsewhere}\ndata: {}\n\n$`));
  raw.send(get('/healthz'));
  await until('answered', () => raw.responses().length === 2 && (raw.responses()[1]?.ended ?? false));
  assert.equal(raw.responses()[1]?.status, 200);
  raw.send(get(`/sse?tenantId=${tenantId}&life=1`));
  await until('a second stream ended', () => raw.responses()[2]?.ended ?? false);
  assert.equal(raw.closed, false);
  raw.destroy();
});

test('an EventSource whose streams end by life goes on with nothing lost', LIMIT, async (context) => {
  const short = await startBridge({ retryMs: 10 });
  context.after(() => short.close());
  const source = new EventSource(`${short.url}/sse?tenantId=t&life=1`);
  context.after(() => source.close());
  const heard: string[] = [];
  let opened = 0;
  source.addEventListener('messages.new', ({ lastEventId }) => heard.push(lastEventId));
  source.addEventListener('open', () => {
    opened++;
  });
  await until('open', () => opened === 1);
  const published: string[] = [];
  await until('resumed twice', async () => {
    published.push(...(await publish(short, 't')));
    return opened >= 3;
  });
  await until('all heard', () => heard.length >= published.length);
  assert.deepEqual(heard, published);
});

test('heartbeats of a quiet stream carry the newest cursor, also of other rooms', LIMIT, async () => {
  const tenantId = freshTenant();
  const stream = await open(quick.url, `/sse?tenantId=${tenantId}`);
  await until('two heartbeats', () => stream.blocks.length >= 3);
  const [elsewhere] = await publish(quick, freshTenant());
  await until('moved on', () => stream.blocks.at(-1)?.id === elsewhere);
  const [mine] = await publish(quick, tenantId);
  await until('heard', () => stream.blocks.at(-1)?.id === mine);
  const count = stream.blocks.length;
  await until('a heartbeat after it', () => stream.blocks.length > count);
  assert.equal(stream.blocks.at(-1)?.id, mine);
  assert.ok(
    stream.blocks
      .filter(({ event }) => event === 'bridge.cursor')
      .every(({ data, id }) => data === '{}' && id !== null),
  );
  const ids = stream.blocks.flatMap(({ id }) => id ?? []);
  assert.deepEqual(ids, [...ids].sort(), 'cursors never step back');
  stream.close();
});

test('onmessage sees nothing of the bridge’s own, and EventSource keeps each cursor', LIMIT, async (context) => {
  const source = new EventSource(`${quick.url}/sse?tenantId=${freshTenant()}`);
  context.after(() => source.close());
  let messages = 0;
  let last = '';
  source.onmessage = () => {
    messages++;
  };
  source.addEventListener('bridge.cursor', ({ lastEventId }) => {
    last = lastEventId;
  });
  const [elsewhere] = await publish(quick, freshTenant());
  await until('kept', () => last === elsewhere);
  assert.equal(messages, 0);
});

test('events keeps names: where only legacy ones are kept, a bridge.cursor follows them', LIMIT, async () => {
  const tenantId = freshTenant();
  const stream = await open(bridge.url, `/sse?tenantId=${tenantId}&events=message:created,&events=ticket.message`);
  await until('begun', () => stream.blocks.length === 1);
  await bridge.publish('tickets.updated', ticketUpdated({ tenantId }));
  const [id] = await publish(bridge, tenantId);
  await until('heard', () => stream.blocks.length >= 4);
  assert.deepEqual(
    stream.blocks.slice(1).map(({ event, id }) => [event, id]),
    [
      ['ticket.message', null],
      ['message:created', null],
      ['bridge.cursor', id],
    ],
  );
  stream.close();

  const mixed = await open(bridge.url, `/sse?tenantId=${tenantId}&after=start&events=messages.new,ticket.updated`);
  await until('heard', () => mixed.blocks.length >= 4);
  assert.deepEqual(
    mixed.blocks.slice(1).map(({ event }) => event),
    ['ticket.updated', 'bridge.cursor', 'messages.new'],
  );
  mixed.close();
});

test('audience=true with events marks only what the filter shows', LIMIT, async () => {
  const tenantId = freshTenant();
  const rooms = [`tenant:${tenantId}`];
  await bridge.publish('tickets.updated', ticketUpdated({ tenantId }), { rooms });
  const { id } = await bridge.publish('messages.new', messageNew({ tenantId }), { rooms });
  const query = `tenantId=${tenantId}&after=start&events=message:created`;
  for (const [path, marks] of [
    [`/sse?${query}&audience=true`, [['bridge.audience', null, '{}']]],
    [`/sse?${query}&audience=false`, []],
  ] as const) {
    const stream = await open(bridge.url, path);
    await until('heard', () => stream.blocks.at(-1)?.id === id);
    assert.deepEqual(
      stream.blocks
        .slice(1, -1)
        .map(({ event, id, data }) => (event === 'bridge.audience' ? [event, id, data] : [event])),
      [...marks, ['message:created']],
    );
    stream.close();
  }
  assert.equal((await fetch(`${bridge.url}/sse?tenantId=t&audience=1`)).status, 400);
  assert.equal((await fetch(`${bridge.url}/events?tenantId=t&audience=true`)).status, 400);
});

test('a record filtered out whole moves the cursor by the next heartbeat, in a replay too', LIMIT, async () => {
  const tenantId = freshTenant();
  const stream = await open(quick.url, `/sse?tenantId=${tenantId}&events=tickets.updated`);
  const [first, last] = await publish(quick, tenantId, 2);
  await until('moved on', () => stream.blocks.at(-1)?.id === last);
  stream.close();
  const resumed = await open(quick.url, `/sse?tenantId=${tenantId}&events=tickets.updated&after=${first}`);
  await until('moved on', () => resumed.blocks.at(-1)?.id === last);
  resumed.close();
  assert.deepEqual(
    [...new Set([...stream.blocks, ...resumed.blocks].map(({ event }) => event))],
    ['bridge.cursor'],
    'nothing else was heard',
  );
  assert.equal(resumed.blocks[0]?.id, first, 'not ahead of what was looked at');
});

test('legacy=false and LEGACY_EVENTS=off leave canonical events only', LIMIT, async (context) => {
  const off = await startBridge({ legacyEvents: false });
  context.after(() => off.close());
  for (const [to, query] of [
    [bridge, '&legacy=false'],
    [off, ''],
    [off, '&legacy=true'],
  ] as const) {
    const tenantId = freshTenant();
    const stream = await open(to.url, `/sse?tenantId=${tenantId}${query}`);
    await until('begun', () => stream.blocks.length === 1);
    const published = await publish(to, tenantId, 2);
    await until('heard', () => stream.blocks.at(-1)?.id === published[1]);
    stream.close();
    assert.deepEqual(
      stream.blocks.slice(1).map(({ event, id }) => [event, id]),
      published.map((id) => ['messages.new', id]),
    );
  }
});

test('Last-Event-ID goes before after; the stream begins with the cursor resumed from', LIMIT, async () => {
  const tenantId = freshTenant();
  const [first, second, third] = await publish(bridge, tenantId, 3);
  const query = `/sse?tenantId=${tenantId}&legacy=false`;
  const cases: [string, Record<string, string>, (string | undefined)[]][] = [
    [`&after=${first}`, {}, [first, second, third]],
    [`&after=${first}`, { 'last-event-id': second as string }, [second, third]],
    ['', { 'last-event-id': third as string }, [third]],
    ['&after=no-such', { 'last-event-id': second as string }, [second, third]],
    // Polyfills that cannot set headers.
    [`&after=${first}&lastEventId=${second}&t=1&r=0.5`, {}, [second, third]],
    [`&Last-Event-ID=${second}&after=${first}`, {}, [second, third]],
    [`&after=${first}&lastEventId=&Last-Event-ID=`, {}, [first, second, third]],
    [`&lastEventId=${first}`, { 'last-event-id': third as string }, [third]],
  ];
  for (const [after, headers, expected] of cases) {
    const stream = await open(bridge.url, query + after, headers);
    await until('resumed', () => stream.blocks.length >= expected.length);
    const [live] = await publish(bridge, freshTenant());
    assert.ok(live);
    assert.deepEqual(
      stream.blocks.map(({ id }) => id),
      expected,
    );
    assert.equal(stream.blocks[0]?.event, 'bridge.cursor');
    stream.close();
  }
});

test('a cursor that leads nowhere: bridge.reset with its cursor as id, then on from there', LIMIT, async (context) => {
  const small = await startBridge({ retentionEvents: 5 });
  context.after(() => small.close());
  const [old] = await publish(small, 't', 30);
  await until('trimmed', async () => (await fetch(`${small.url}/events?tenantId=t&after=${old}`)).status === 410);
  const cases: [string, string][] = [
    [old as string, 'expired'],
    ['no-such-cursor', 'unknown'],
    [`${old?.slice(0, -1)}~`, 'unknown'],
    ['é'.repeat(40), 'unknown'],
  ];
  for (const [after, reason] of cases) {
    const asHeader = Buffer.from(after).toString('latin1');
    for (const [query, headers] of [
      [`&after=${encodeURIComponent(after)}`, {}],
      ['', { 'last-event-id': asHeader }],
    ] as [string, Record<string, string>][]) {
      const stream = await open(small.url, `/sse?tenantId=t&legacy=false${query}`, headers);
      await until('told', () => stream.blocks.length === 2);
      const [reset, cursor] = stream.blocks;
      assert.equal(stream.retries.length, 1);
      assert.equal(reset?.event, 'bridge.reset');
      const told = JSON.parse(reset?.data ?? '') as Record<string, string>;
      assert.deepEqual(Object.keys(told), ['reason', 'after', 'oldest', 'cursor']);
      assert.equal(told.reason, reason);
      assert.equal(told.after, after);
      assert.equal(reset?.id, told.cursor);
      assert.deepEqual(cursor, { event: 'bridge.cursor', id: told.cursor ?? '', data: '{}' });
      assert.ok((told.oldest as string) <= (told.cursor as string));
      const [live] = await publish(small, 't');
      await until('live', () => stream.blocks.length === 3);
      assert.equal(stream.blocks[2]?.id, live);
      stream.close();
    }
  }
  assert.equal(await metric(small, 'roomcast_resets_total{transport="sse",reason="expired"}'), 2);
  assert.equal(await metric(small, 'roomcast_resets_total{transport="sse",reason="unknown"}'), 6);
});

test('over HTTP/1.0 the stream is not chunked and ends with the connection', LIMIT, async () => {
  for (const keepAlive of ['', 'Connection: keep-alive\r\n']) {
    const tenantId = freshTenant();
    const raw = openRaw(bridge.url);
    raw.send(`GET /sse?tenantId=${tenantId}&life=1 HTTP/1.0\r\n${keepAlive}\r\n`);
    await until('begun', () => raw.responses()[0]?.body.endsWith('\n\n') ?? false);
    const [id] = await publish(bridge, tenantId);
    await until('the connection ended', () => raw.closed);
    const [response] = raw.responses();
    assert.equal(response?.status, 200);
    assert.equal(response?.headers['transfer-encoding'], undefined);
    assert.equal(response?.headers.connection, 'close');
    assert.match(response?.body ?? '', new RegExp(`^retry: \\d+\nevent: bridge.cursor\n[^]*id: ${id}\ndata: .*\n\n$`));
  }
});

test('HEAD answers as GET and ends, taking no connection', LIMIT, async () => {
  const raw = openRaw(bridge.url);
  raw.send(get('/sse?tenantId=t').replace('GET', 'HEAD'));
  raw.send(get('/sse?tenantId=t&padding=x').replace('GET', 'HEAD'));
  await until('answered', () => raw.responses(true).length === 2);
  const [good, bad] = raw.responses(true);
  assert.equal(good?.status, 200);
  assert.equal(good?.headers['content-type'], 'text/event-stream; charset=utf-8');
  assert.equal(good?.headers['content-length'], undefined, 'a GET has none');
  assert.equal(bad?.status, 400);
  raw.send(get('/healthz'));
  await until('the connection serves on', () => raw.bytes().includes('\r\n\r\n{'));
  raw.destroy();
  assert.equal(await metric(bridge, OPEN), 0);
});

test('an offer to upgrade to another protocol is ignored', LIMIT, async () => {
  const raw = openRaw(bridge.url);
  raw.send(
    get('/sse?tenantId=t', 'Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABkAAQCAAAA'),
  );
  await until('answered', () => raw.responses().length === 1);
  assert.equal(raw.responses()[0]?.status, 200);
  raw.destroy();
});

test('pipelined requests: a stream behind a slow answer, and answers behind a stream', LIMIT, async () => {
  const tenantId = freshTenant();
  const polled = freshTenant();
  const raw = openRaw(bridge.url);
  raw.send(
    get(`/events?tenantId=${polled}&after=${(await publish(bridge, polled))[0]}&wait=25`) +
      get(`/sse?tenantId=${tenantId}&life=1&legacy=false`) +
      get('/healthz'),
  );
  await until('the poll waits', async () => (await metric(bridge, 'roomcast_connections{transport="longpoll"}')) === 1);
  assert.equal(await metric(bridge, OPEN), 0, 'nothing is served before its turn');
  await publish(bridge, polled);
  await until('the stream is open', () => raw.responses()[1]?.body.includes('bridge.cursor') ?? false);
  const behind = await publish(bridge, tenantId, 2);
  await until('the stream is on', () => (raw.responses()[1]?.body.match(/^id: /gm) ?? []).length >= 3);
  const [live] = await publish(bridge, tenantId);
  await until('all answered', () => raw.responses()[2]?.ended ?? false);
  const [poll, stream, health] = raw.responses();
  assert.equal((JSON.parse(poll?.body ?? '') as { events: unknown[] }).events.length, 1);
  assert.equal(stream?.ended, true);
  assert.deepEqual(
    [...(stream?.body ?? '').matchAll(/^event: messages\.new\nid: (.*)$/gm)].map(([, id]) => id),
    [...behind, live],
  );
  assert.equal(health?.status, 200);
  assert.match(health?.headers['content-type'] ?? '', /json/);
  raw.destroy();
});

test('streams that wait behind another answer end with their connection', LIMIT, async (context) => {
  const few = await startBridge({ maxConnections: 20 });
  context.after(() => few.close());
  const raw = openRaw(few.url);
  raw.send(get('/sse?tenantId=t&life=1') + get('/sse?tenantId=t').repeat(15));
  await until('the second is open', () => raw.responses()[1]?.body.includes('bridge.cursor') ?? false);
  assert.equal(await metric(few, OPEN), 1, 'the others wait for their turn');
  raw.destroy();
  await until('all ended', async () => (await metric(few, OPEN)) === 0);
  const others = await Promise.all(Array.from({ length: 20 }, () => open(few.url, '/sse?tenantId=t')));
  assert.deepEqual(new Set(others.map(({ status }) => status)), new Set([200]));
  await until('all begun', () => others.every(({ blocks }) => blocks.length === 1));
  for (const other of others) {
    assert.equal(other.blocks[0]?.event, 'bridge.cursor');
    other.close();
  }
});

test(
  'a passing fault is told in band to who accepts event streams by name, by a status to others',
  LIMIT,
  async (context) => {
    const one = await startBridge({ maxConnections: 1, retryMs: 10 });
    context.after(() => one.close());
    const first = await open(one.url, '/sse?tenantId=t');
    for (const accept of ['text/event-stream', 'application/json, Text/Event-Stream;q=0.9']) {
      const stream = await open(one.url, '/sse?tenantId=t', { accept });
      await until('ended', () => stream.ended);
      assert.equal(stream.status, 200);
      assert.equal(stream.headers['content-type'], 'text/event-stream; charset=utf-8');
      assert.equal(stream.headers['cache-control'], 'no-store, no-transform');
      assert.match(stream.text(), /^retry: \d+\nevent: bridge\.error\ndata: .*\n\n$/);
      const { code, message, ...rest } = JSON.parse(stream.blocks[0]?.data ?? '') as Record<string, string>;
      assert.equal(code, 'too_many_connections');
      assert.ok(message);
      assert.deepEqual(rest, {});
    }
    for (const accept of ['*/*', 'application/json', 'text/*']) {
      const response = await fetch(`${one.url}/sse?tenantId=t`, { headers: { accept } });
      assert.equal(response.status, 503);
      assert.ok(Number(response.headers.get('retry-after')) >= 1);
      assert.equal(response.headers.get('content-type'), 'application/problem+json');
      assert.equal(((await response.json()) as Problem).code, 'too_many_connections');
    }
    const lasting = await fetch(`${one.url}/sse?tenantId=t&after=`, { headers: { accept: 'text/event-stream' } });
    assert.equal(lasting.status, 400, 'what will not pass is said even so');
    assert.equal(await metric(one, 'roomcast_refused_total{code="too_many_connections"}'), 5);

    const source = new EventSource(`${one.url}/sse?tenantId=t`);
    context.after(() => source.close());
    const errors: string[] = [];
    let begun = 0;
    source.addEventListener('bridge.error', ({ data, lastEventId }) =>
      errors.push(`${JSON.parse(data).code}${lastEventId}`),
    );
    source.addEventListener('bridge.cursor', () => {
      begun++;
    });
    await until('told', () => errors.length > 0);
    assert.equal(errors[0], 'too_many_connections');
    first.close();
    await until('let in', () => begun === 1);
  },
);

test(
  'clients refused together are told different times to come back, none before there is hope',
  LIMIT,
  async (context) => {
    const one = await startBridge({ maxConnections: 1, retryMs: 10 });
    context.after(() => one.close());
    const first = await open(one.url, '/sse?tenantId=t');
    const plain = await fetch(`${one.url}/sse?tenantId=t`);
    const leastMs = Number(plain.headers.get('retry-after')) * 1000;
    await plain.body?.cancel();
    const retries = new Set<number>();
    for (let count = 0; count < 10; count++) {
      const refused = await open(one.url, '/sse?tenantId=t', { accept: 'text/event-stream' });
      await until('told', () => refused.ended);
      for (const retry of refused.retries) retries.add(retry);
    }
    first.close();
    assert.ok(retries.size > 3);
    assert.ok([...retries].every((retry) => retry >= leastMs));
  },
);

/** Publishes until the stalled stream of `raw` is cut. */
async function stall(to: TestBridge, tenantId: string, raw: RawConnection): Promise<string[]> {
  await until('begun', () => raw.responses()[0]?.body.endsWith('\n\n') ?? false);
  raw.pause();
  const published: string[] = [];
  await until('cut', async () => {
    published.push(...(await publish(to, tenantId, 10, { message: { content: 'x'.repeat(50_000) } })));
    return (await metric(to, SLOW)) > 0;
  });
  return published;
}

const idsOf = (raw: RawConnection): string[] =>
  [...(raw.responses()[0]?.body ?? '').matchAll(/^event: messages\.new\nid: (.*)\ndata: .*\n\n/gm)].map(
    ([, id]) => id as string,
  );

test('a reader that stalls is cut, counted once, and resumes with nothing lost', LIMIT, async (context) => {
  const small = await startBridge({ maxBufferBytes: 65_536 });
  context.after(() => small.close());
  const raw = openRaw(small.url);
  raw.send(get('/sse?tenantId=t'));
  const published = await stall(small, 't', raw);
  published.push(...(await publish(small, 't', 5)));
  raw.resume();
  await until('the connection ended', () => raw.closed);
  assert.equal(raw.responses()[0]?.ended, false, 'cut, not ended');
  assert.equal(await metric(small, SLOW), 1);
  assert.equal(await metric(small, OPEN), 0);
  const heard = idsOf(raw);
  const resumed = await open(small.url, '/sse?tenantId=t&legacy=false', { 'last-event-id': heard.at(-1) as string });
  await until('the rest heard', () => canonicalIds(resumed.blocks).length >= published.length - heard.length);
  assert.deepEqual([...heard, ...canonicalIds(resumed.blocks)], published);
  resumed.close();
});

test('a stream behind another answer, through the response, has the same bound', LIMIT, async (context) => {
  const small = await startBridge({ maxBufferBytes: 65_536 });
  context.after(() => small.close());
  const raw = openRaw(small.url);
  raw.send(get('/events?tenantId=other&wait=1') + get('/sse?tenantId=t'));
  await until('open', async () => (await metric(small, OPEN)) === 1);
  raw.pause();
  await until('cut', async () => {
    await publish(small, 't', 10, { message: { content: 'x'.repeat(500_000) } });
    return (await metric(small, SLOW)) > 0;
  });
  await publish(small, 't', 10);
  await until('let go', async () => (await metric(small, OPEN)) === 0);
  assert.equal(await metric(small, SLOW), 1);
  raw.resume();
  await until('the connection ended', () => raw.closed);
});

test('batches and records larger than the budget cut nobody who reads', LIMIT, async (context) => {
  const small = await startBridge({ maxBufferBytes: 65_536, maxBodyBytes: 4_000_000 });
  context.after(() => small.close());
  const stream = await open(small.url, '/sse?tenantId=t');
  await until('begun', () => stream.blocks.length === 1);
  const published: string[] = [];
  for (let round = 0; round < 4; round++) {
    published.push(...(await publishBatch(small, 't', 100, 'y'.repeat(5_000))));
    published.push(...(await publish(small, 't', 1, { message: { content: 'é'.repeat(700_000) } })));
    await until('all heard', () => stream.blocks.at(-1)?.id === published.at(-1));
  }
  assert.deepEqual(canonicalIds(stream.blocks), published);
  assert.equal(await metric(small, SLOW), 0);
  stream.close();
});

test('a batch far larger than the budget does not cut a reader that has yet to take it', LIMIT, async (context) => {
  const small = await startBridge({ maxBufferBytes: 65_536, maxBodyBytes: 16_000_000 });
  context.after(() => small.close());
  const stream = await open(small.url, '/sse?tenantId=t');
  await until('begun', () => stream.blocks.length === 1);
  stream.pause();
  const published = await publishBatch(small, 't', 1000, 'b'.repeat(3_000));
  published.push(...(await publish(small, 't', 5)));
  assert.equal(await metric(small, SLOW), 0);
  stream.resume();
  await until('all heard', () => stream.blocks.at(-1)?.id === published.at(-1));
  assert.deepEqual(canonicalIds(stream.blocks), published);
  stream.close();
});

test('one record larger than the budget does not cut a reader that has yet to take it', LIMIT, async (context) => {
  const small = await startBridge({ maxBufferBytes: 1_000, maxBodyBytes: 4_000_000 });
  context.after(() => small.close());
  const stream = await open(small.url, '/sse?tenantId=t');
  await until('begun', () => stream.blocks.length === 1);
  stream.pause();
  const published = await publish(small, 't', 1, { message: { content: 'z'.repeat(3_500_000) } });
  published.push(...(await publish(small, 't', 1)));
  assert.equal(await metric(small, SLOW), 0);
  stream.resume();
  await until('both heard', () => stream.blocks.at(-1)?.id === published[1]);
  assert.deepEqual(canonicalIds(stream.blocks), published);
  stream.close();
});

test('a long replay is paced by a slow reader, and goes live without a cut', LIMIT, async (context) => {
  const small = await startBridge({ maxBufferBytes: 65_536 });
  context.after(() => small.close());
  const [first, ...published] = await publishBatch(small, 't', 1000, 'r'.repeat(500));
  for (let batch = 0; batch < 2; batch++) published.push(...(await publishBatch(small, 't', 1000, 'r'.repeat(500))));
  const stream = await open(small.url, `/sse?tenantId=t`, { 'last-event-id': first as string });
  let reading = true;
  const slowly = (): void => {
    if (!reading) return;
    stream.pause();
    setImmediate(() => {
      stream.resume();
      setTimeout(slowly, 1);
    });
  };
  slowly();
  await until('some heard', () => stream.blocks.length > 10);
  published.push(...(await publish(small, 't', 20)));
  await until('all heard', () => stream.blocks.at(-1)?.id === published.at(-1), 40_000);
  reading = false;
  assert.deepEqual(canonicalIds(stream.blocks), published);
  assert.equal(await metric(small, SLOW), 0);
  assert.equal(await metric(small, 'roomcast_connections{transport="sse"}'), 1, 'on one connection');
  stream.close();
});

test('a drain tells a time to come back and the newest cursor, and ends', LIMIT, async () => {
  const draining = await startBridge();
  const tenantId = freshTenant();
  const raw = openRaw(draining.url);
  raw.send(get(`/sse?tenantId=${tenantId}`));
  await until('begun', () => raw.responses()[0]?.body.endsWith('\n\n') ?? false);
  await publish(draining, tenantId);
  const [elsewhere] = await publish(draining, freshTenant());
  await draining.close();
  await until('the connection ended', () => raw.closed);
  const [response] = raw.responses();
  assert.equal(response?.ended, true, 'by its terminating chunk');
  assert.match(
    response?.body ?? '',
    new RegExp(`\n\nretry: \\d+\nevent: bridge.cursor\nid: ${elsewhere}\ndata: {}\n\n$`),
  );
});

test('a stream requested while draining gets bridge.error in the stream', LIMIT, async () => {
  // The server lets go of idle connections as it drains, so that the request may come too late to be answered at all.
  let body: string | undefined;
  for (let attempt = 0; body === undefined && attempt < 10; attempt++) {
    const draining = await startBridge();
    const raw = openRaw(draining.url);
    raw.send(get('/events?tenantId=t&wait=25') + get('/sse?tenantId=t', 'Accept: text/event-stream').slice(0, -2));
    await until('waiting', async () => (await metric(draining, 'roomcast_connections{transport="longpoll"}')) === 1);
    raw.send('\r\n');
    await draining.close();
    await until('the connection ended', () => raw.closed);
    const [poll, stream] = raw.responses();
    assert.equal(poll?.status, 200);
    assert.equal((JSON.parse(poll?.body ?? '') as { events: unknown[] }).events.length, 0);
    if (stream === undefined) continue;
    assert.equal(stream.status, 200);
    if (stream.body.includes('bridge.error')) body = stream.body;
  }
  assert.match(body ?? '', /^retry: \d+\nevent: bridge\.error\ndata: \{"code":"unavailable",.*\n\n$/);
});

test('an EventSource survives a server that drains and restarts', LIMIT, async (context) => {
  const directory = await mkdtemp(join(tmpdir(), 'roomcast-'));
  context.after(() => rm(directory, { recursive: true }));
  const store = `sqlite:${join(directory, 'log.db')}`;
  const before = await startBridge({ storeUrl: store, retryMs: 10 });
  const proxy = await startCutProxy(before.url);
  context.after(() => proxy.close());
  const source = new EventSource(`${proxy.url}/sse?tenantId=t`);
  context.after(() => source.close());
  const heard: string[] = [];
  let begun = 0;
  source.addEventListener('messages.new', ({ lastEventId }) => heard.push(lastEventId));
  source.addEventListener('bridge.cursor', () => {
    begun++;
  });
  await until('begun', () => begun > 0);
  const published = await publish(before, 't', 3);
  await until('heard', () => heard.length === 3);
  await before.close();
  const again = await startBridge({ storeUrl: store, retryMs: 10 });
  context.after(() => again.close());
  published.push(...(await publish(again, 't', 3)));
  proxy.retarget(again.url);
  await until('all heard', () => heard.length >= 6);
  assert.deepEqual(heard, published);
});

test('cursors move between transports', LIMIT, async () => {
  const tenantId = freshTenant();
  const [first, ...rest] = await publish(bridge, tenantId, 5);
  const stream = await open(bridge.url, `/sse?tenantId=${tenantId}&legacy=false&after=${first}`);
  await until('two heard', () => stream.blocks.length >= 3);
  stream.close();
  const page = (await (
    await fetch(`${bridge.url}/events?tenantId=${tenantId}&after=${stream.blocks[2]?.id}&limit=1`)
  ).json()) as { events: { id: string }[]; cursor: string };
  assert.deepEqual(
    page.events.map(({ id }) => id),
    [rest[2]],
  );
  const back = await open(bridge.url, `/sse?tenantId=${tenantId}&legacy=false`, { 'last-event-id': page.cursor });
  await until('the last heard', () => back.blocks.length === 2);
  assert.equal(back.blocks[1]?.id, rest[3]);
  back.close();
});

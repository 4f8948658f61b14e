/** protocol §9, §10: publishing over HTTP, and each of its errors. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { messageNew, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { openRaw } from '../support/raw.ts';
import { until } from '../support/until.ts';

interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: string;
  readonly errors?: readonly { readonly in: string; readonly path: string; readonly message: string }[];
}

interface Sent {
  readonly response: Response;
  readonly problem: Problem;
}

async function send(
  url: string,
  body: string | Uint8Array<ArrayBuffer>,
  headers: Record<string, string> = {},
  method = 'POST',
): Promise<Sent> {
  const response = await fetch(`${url}/events`, {
    method,
    headers: { 'content-type': 'application/json', ...headers },
    body,
  });
  const problem = (await response.clone().json()) as Problem;
  if (response.status >= 400) {
    assert.equal(response.headers.get('content-type'), 'application/problem+json');
    assert.equal(problem.status, response.status);
    assert.equal(problem.type, `urn:roomcast:error:${problem.code}`);
    assert.ok(problem.title.length > 0 && problem.detail.length > 0);
  }
  return { response, problem };
}

/** An event with more members beside its payload. */
const beside = (more: object): string => JSON.stringify({ ...JSON.parse(one()), ...more });
const roomsTo = (count: number): string[] =>
  Array.from({ length: count }, (_, index) => `queue:${'q'.repeat(2)}${index}`);

const one = (payload: unknown = ticketUpdated(), event: unknown = 'tickets.updated'): string =>
  JSON.stringify({ event, payload });

async function eventsOf(bridge: TestBridge, tenantId: string): Promise<{ event: string; payload: unknown }[]> {
  const response = await fetch(`${bridge.url}/events?tenantId=${tenantId}&after=start&limit=1000`);
  return ((await response.json()) as { events: { event: string; payload: unknown }[] }).events;
}

describe('publishing', () => {
  let bridge: TestBridge;
  before(async () => {
    bridge = await startBridge({ maxBodyBytes: 100_000, extraEvents: ['leads.updated'], roomKinds: ['queue'] });
  });
  after(() => bridge.close());

  test('one event: 201 with its cursor and rooms', async () => {
    const { status, body } = await bridge.post({ event: 'tickets.updated', payload: ticketUpdated() });
    assert.equal(status, 201);
    assert.deepEqual(Object.keys(body), ['id', 'event', 'rooms', 'duplicate']);
    assert.equal(body.event, 'tickets.updated');
    assert.deepEqual(body.rooms, ['tenant:tenant-1', 'ticket:ticket-123', 'agreement:agreement-9']);
    assert.equal(body.duplicate, false);
  });

  test('a batch: 201 when any is new, else 200, results in order', async () => {
    const first = messageNew();
    const second = messageNew();
    const batch = (...payloads: unknown[]) => ({
      events: payloads.map((payload) => ({ event: 'messages.new', payload })),
    });
    const fresh = await bridge.post(batch(first));
    assert.equal(fresh.status, 201);
    const mixed = await bridge.post(batch(first, second, second));
    assert.equal(mixed.status, 201);
    assert.deepEqual(
      mixed.body.results.map(({ duplicate }) => duplicate),
      [true, false, true],
    );
    assert.equal(mixed.body.results[0]?.id, fresh.body.results[0]?.id);
    assert.equal(mixed.body.results[1]?.id, mixed.body.results[2]?.id);
    assert.equal((await bridge.post(batch(first, second))).status, 200);
  });

  test('a batch is accepted whole or not at all', async () => {
    const tenantId = 'all-or-nothing';
    const { response, problem } = await send(
      bridge.url,
      JSON.stringify({
        events: [
          { event: 'tickets.updated', payload: ticketUpdated({ tenantId }) },
          { event: 'tickets.updated', payload: ticketUpdated({ tenantId, ticketId: 'a b' }) },
          { event: 'nope', payload: {} },
        ],
      }),
    );
    assert.equal(response.status, 422);
    assert.deepEqual(
      problem.errors?.map(({ path }) => path),
      ['/events/1/payload/ticketId', '/events/2/event'],
    );
    assert.deepEqual(await eventsOf(bridge, tenantId), []);
  });

  test('a repeat with the same Idempotency-Key answers 200 with the first id; a different body is an error', async () => {
    const headers = { 'Idempotency-Key': 'a-key' };
    const body = { event: 'tickets.updated', payload: ticketUpdated({ tenantId: 'idempotent' }) };
    const first = await bridge.post(body, headers);
    const repeat = await bridge.post(JSON.stringify(body, null, 2), headers);
    assert.equal(first.status, 201);
    assert.equal(repeat.status, 200);
    assert.deepEqual(repeat.body, { ...first.body, duplicate: true });
    const other = await send(
      bridge.url,
      one(ticketUpdated({ tenantId: 'idempotent', ticketStatus: 'CLOSED' })),
      headers,
    );
    assert.equal(other.response.status, 422);
    assert.equal(other.problem.code, 'idempotency_conflict');
    assert.equal((await eventsOf(bridge, 'idempotent')).length, 1);
  });

  test('the payload is the parsed body, key by key, never a schema’s output', async () => {
    const payload =
      '{"zz":1,"tenantId":"bytes","ticketId":"t","10":"b","9":"a","ticketStatus":"OPEN","ticketUpdatedAt":"2024-06-01T12:00:00+03:00",' +
      '"ticket":{"__proto__":{"x":1},"n":1e21,"f":1.10,"s":"\\u2028\\r\\n\\ud800é"},"constructor":null}';
    const { status } = await bridge.post(`{"payload":${payload},"event":"tickets.updated"}`);
    assert.equal(status, 201);
    const text = await (await fetch(`${bridge.url}/tickets/t?tenantId=bytes`)).text();
    assert.equal(text, JSON.stringify(JSON.parse(payload)));
    assert.ok(text.includes('"__proto__":{"x":1}') && text.includes('1e+21') && text.includes('\\ud800'));
  });

  const badBodies: [string, string | Uint8Array<ArrayBuffer>, number, string, string[]?][] = [
    ['an empty body', '', 400, 'invalid_json', ['']],
    ['malformed JSON', '{"event":', 400, 'invalid_json', ['']],
    ['JSON with a trailing comma', '{"event":"tickets.updated",}', 400, 'invalid_json', ['']],
    ['invalid UTF-8', Buffer.from('{"event":"\xff"}', 'latin1'), 400, 'invalid_json', ['']],
    ['a string', '"hello"', 422, 'invalid_body', ['']],
    ['null', 'null', 422, 'invalid_body', ['']],
    ['an array', '[]', 422, 'invalid_body', ['']],
    ['neither event nor events', '{"payload":{}}', 422, 'invalid_body', ['/event']],
    ['both event and events', '{"event":"tickets.updated","payload":{},"events":[]}', 422, 'invalid_body', ['']],
    ['events that is not an array', '{"events":{}}', 422, 'invalid_body', ['/events']],
    ['an empty batch', '{"events":[]}', 422, 'invalid_body', ['/events']],
    ['a batch with a non-object', '{"events":[{"event":"x"},3]}', 422, 'invalid_body', ['/events/1']],
    ['a batch of 1001', JSON.stringify({ events: Array(1001).fill({}) }), 400, 'batch_too_large'],
    ['an unknown event', one({}, 'tickets.gone'), 422, 'unknown_event', ['/event']],
    ['a legacy event', one({}, 'message:created'), 422, 'unknown_event', ['/event']],
    ['an inherited name', one({}, '__proto__'), 422, 'unknown_event', ['/event']],
    ['an event that is not a string', one({}, 5), 422, 'unknown_event', ['/event']],
    ['no payload', '{"event":"tickets.updated"}', 422, 'invalid_payload', ['/payload']],
    ['a payload that is an array', one([]), 422, 'invalid_payload', ['/payload']],
    [
      'two wrong fields',
      one(ticketUpdated({ ticketId: 'a b', ticket: 'x' })),
      422,
      'invalid_payload',
      ['/payload/ticketId', '/payload/ticket'],
    ],
    [
      'a bad instant',
      one(ticketUpdated({ ticketUpdatedAt: 'yesterday' })),
      422,
      'invalid_payload',
      ['/payload/ticketUpdatedAt'],
    ],
    [
      'a declared event without tenant',
      one({ userId: 'u' }, 'leads.updated'),
      422,
      'invalid_payload',
      ['/payload/tenantId'],
    ],
    ['100,000 levels of arrays', `${'['.repeat(49_000)}${']'.repeat(49_000)}`, 422, 'invalid_body', ['']],
    [
      'a payload 40,000 levels deep',
      one(ticketUpdated({ ticket: { x: 0 } })).replace('"x":0', `"x":${'['.repeat(40_000)}${']'.repeat(40_000)}`),
      422,
      'invalid_payload',
      ['/payload'],
    ],
    ['brackets that never close', '['.repeat(90_000), 400, 'invalid_json', ['']],
    ['a misspelt member', '{"event":"tickets.updated","paylod":{}}', 422, 'invalid_body', ['/paylod']],
    ['a member beside events', '{"events":[{}],"event_":1}', 422, 'invalid_body', ['/event_']],
    ['rooms that are no array', beside({ rooms: 'user:u' }), 422, 'invalid_body', ['/rooms']],
    ['no rooms', beside({ rooms: [] }), 422, 'invalid_body', ['/rooms']],
    ['101 rooms', beside({ rooms: roomsTo(101) }), 422, 'invalid_body', ['/rooms']],
    [
      'bad rooms, each once',
      beside({ rooms: ['ticket:1', 'team:1', 'ticket:', 'team:1', 7, null, 'ticket:a b', 'QUEUE:1', '__proto__:x'] }),
      422,
      'invalid_body',
      ['/rooms/1', '/rooms/2', '/rooms/4', '/rooms/5', '/rooms/6', '/rooms/7', '/rooms/8'],
    ],
    ['the room of another tenant', beside({ rooms: ['tenant:tenant-2'] }), 422, 'invalid_body', ['/rooms/0']],
    ['the room of all tenants', beside({ rooms: ['queue:1', 'tenant:*'] }), 422, 'invalid_body', ['/rooms/1']],
    ['tenantId * beside', beside({ tenantId: '*' }), 422, 'invalid_body', ['/tenantId']],
    ['a fraction as tenantId', beside({ tenantId: 1.5 }), 422, 'invalid_body', ['/tenantId']],
    ['tenantId * within', one(ticketUpdated({ tenantId: '*' })), 422, 'invalid_payload', ['/payload/tenantId']],
    [
      'an id of a declared kind that is none',
      one(ticketUpdated({ queueId: 1.5 })),
      422,
      'invalid_payload',
      ['/payload/queueId'],
    ],
    [
      'faults of the payload and beside it, in one answer',
      JSON.stringify({
        events: [
          JSON.parse(one()),
          { event: 'tickets.updated', payload: ticketUpdated({ ticket: 1 }), tenantId: 't', rooms: ['x:1'] },
          { event: 'leads.updated', payload: {}, rooms: ['queue:'] },
          { event: 'leads.updated', payload: null, rooms: 7 },
        ],
      }),
      422,
      'invalid_payload',
      [
        ...['/events/1/payload/ticket', '/events/1/tenantId', '/events/1/rooms/0'],
        ...['/events/2/payload/tenantId', '/events/2/rooms/0', '/events/3/payload', '/events/3/rooms'],
      ],
    ],
    ['another tenantId', JSON.stringify({ ...JSON.parse(one()), tenantId: 't' }), 422, 'invalid_body', ['/tenantId']],
    [
      'a batch with members that no event has',
      JSON.stringify({
        events: [
          { ...JSON.parse(one()), 'a/b~c': 1 },
          { event: 'x', Payload: 1, key: 2 },
        ],
      }),
      422,
      'invalid_body',
      ['/events/0/a~1b~0c', '/events/1/Payload', '/events/1/key'],
    ],
    ['a body over the limit', JSON.stringify('x'.repeat(100_000)), 413, 'body_too_large'],
  ];
  for (const [what, body, status, code, paths] of badBodies) {
    test(`${what}: ${status} ${code}`, async () => {
      const { response, problem } = await send(bridge.url, body);
      assert.equal(response.status, status);
      assert.equal(problem.code, code);
      assert.deepEqual(
        problem.errors?.map(({ path }) => path),
        paths,
      );
      for (const { in: place, message } of problem.errors ?? []) {
        assert.equal(place, 'body');
        assert.match(message, code === 'invalid_json' ? /^is (required|not valid) ?/ : /\bmust (be|have) /);
      }
    });
  }

  test('tenantId beside the payload is a check, and null counts as absent', async () => {
    const { event, payload } = JSON.parse(one());
    for (const more of [{ tenantId: payload.tenantId }, { tenantId: null, rooms: null }]) {
      assert.equal((await bridge.post({ event, payload, ...more })).status, 201);
    }
  });

  test('rooms replace those of the payload; repeats count once, and null is absent', async () => {
    const payload = ticketUpdated({ tenantId: 'audience', queueId: 7 });
    const rooms = ['queue:7', 'user:ana', 'tenant:audience', 'queue:7', 'ticket:another'];
    const named = await bridge.post({ event: 'tickets.updated', payload, rooms });
    assert.equal(named.status, 201);
    assert.deepEqual(named.body.rooms, ['queue:7', 'user:ana', 'tenant:audience', 'ticket:another']);
    const derived = await bridge.post({ event: 'tickets.updated', payload, rooms: null, tenantId: null });
    assert.deepEqual(derived.body.rooms, [
      ...['tenant:audience', 'ticket:ticket-123', 'agreement:agreement-9', 'queue:7'],
    ]);
    assert.equal((await bridge.post({ event: 'tickets.updated', payload, rooms: roomsTo(100) })).status, 201);
    const heard = await (await fetch(`${bridge.url}/events?queueId=7&after=start`)).json();
    const { events } = heard as { events: { id: string; payload: object }[] };
    assert.deepEqual(
      events.map(({ id }) => id),
      [named.body.id, derived.body.id],
    );
    assert.deepEqual(events[0]?.payload, payload, 'the payload stays as published');
  });

  test('the tenant may stand beside the payload, and integers are ids', async () => {
    const lead = { event: 'leads.updated', payload: { leadId: 1, userId: 42 }, tenantId: 7 };
    const first = await bridge.post(lead);
    assert.deepEqual([first.status, first.body.rooms], [201, ['tenant:7', 'user:42']]);
    const named = await bridge.post({ ...lead, rooms: ['tenant:7', 'user:lead'] });
    assert.deepEqual(named.body.rooms, ['tenant:7', 'user:lead']);
    const inside = await bridge.post({ event: 'leads.updated', payload: { tenantId: 7 }, tenantId: '7' });
    assert.deepEqual(inside.body.rooms, ['tenant:7']);
    const ticket = await bridge.post({
      event: 'tickets.updated',
      payload: ticketUpdated({ tenantId: 7, ticketId: -1, agreementId: '*' }),
    });
    assert.deepEqual(ticket.body.rooms, ['tenant:7', 'ticket:-1', 'agreement:*'], 'only the tenant may not be *');
    const inProcess = await bridge.publish('leads.updated', { leadId: 2 }, { tenantId: 7, rooms: ['queue:1'] });
    assert.deepEqual(inProcess.rooms, ['queue:1']);
    for (const options of [{ tenantId: 8 }, { rooms: ['team:x'] }, { rooms: [] }]) {
      await assert.rejects(bridge.publish('leads.updated', { tenantId: 7 }, options), { code: 'invalid_body' });
    }
  });

  test('a batch names at most 10,000 rooms', async () => {
    const wide = await startBridge({ roomKinds: ['queue'] });
    try {
      const events = (count: number) =>
        Array.from({ length: count }, (_, index) => ({
          event: 'tickets.updated',
          payload: ticketUpdated({ ticketId: `t${index}` }),
          rooms: roomsTo(100),
        }));
      const { response, problem } = await send(wide.url, JSON.stringify({ events: events(101) }));
      assert.deepEqual([response.status, problem.code], [400, 'batch_too_large']);
      assert.equal((await wide.post({ events: events(100) })).status, 201);
    } finally {
      await wide.close();
    }
  });

  test('the same Idempotency-Key with other rooms is another body', async () => {
    const headers = { 'Idempotency-Key': 'rooms' };
    const body = { event: 'leads.updated', payload: { tenantId: 'other-rooms' } };
    const first = await bridge.post({ ...body, rooms: ['queue:1', 'queue:2'] }, headers);
    const repeat = await bridge.post({ ...body, rooms: ['queue:2', 'queue:1'] }, headers);
    assert.deepEqual([repeat.status, repeat.body.id], [200, first.body.id]);
    assert.deepEqual(repeat.body.rooms, first.body.rooms);
    for (const rooms of [['queue:1'], null, ['tenant:other-rooms']]) {
      const { response, problem } = await send(bridge.url, JSON.stringify({ ...body, rooms }), headers);
      assert.deepEqual([response.status, problem.code], [422, 'idempotency_conflict'], JSON.stringify(rooms));
    }
  });

  test('a refusal lists at most 100 faults', async () => {
    const bad = { event: 'leads.updated', payload: {}, rooms: Array.from({ length: 50 }, (_, index) => `x:${index}`) };
    const { problem } = await send(bridge.url, JSON.stringify({ events: Array(40).fill(bad) }));
    assert.equal(problem.errors?.length, 100);
  });

  test('brackets within strings do not count as nesting, and 1000 levels pass', async () => {
    const ticket = { text: '["{'.repeat(5_000), deep: 0 };
    const deep = `${'['.repeat(995)}${']'.repeat(995)}`;
    const body = one(ticketUpdated({ tenantId: 'deep', ticket })).replace('"deep":0', `"deep":${deep}`);
    assert.equal((await bridge.post(body)).status, 201);
    assert.equal((await eventsOf(bridge, 'deep')).length, 1);
  });

  test('a body of exactly the limit passes', async () => {
    const frame = one(ticketUpdated({ ticket: { fill: '' } }));
    const fill = 'é'.repeat((100_000 - Buffer.byteLength(frame)) >> 1);
    const body = frame.replace('"fill":""', `"fill":"${fill}"`);
    const padded = body + ' '.repeat(100_000 - Buffer.byteLength(body));
    assert.equal((await bridge.post(padded)).status, 201);
  });

  test('content types', async () => {
    const cases: [Record<string, string>, number][] = [
      [{ 'content-type': 'application/json; charset=utf-8' }, 201],
      [{ 'content-type': 'Application/JSON;charset="UTF-8"' }, 201],
      [{ 'content-type': 'application/json; profile=x' }, 201],
      [{ 'content-type': 'application/json; charset=utf8' }, 201],
      [{ 'content-type': 'application/json; charset=latin1' }, 415],
      [{ 'content-type': 'text/plain' }, 415],
      [{ 'content-type': 'application/jsonx' }, 415],
      [{ 'content-type': '' }, 415],
      [{ 'content-encoding': 'gzip' }, 415],
    ];
    for (const [headers, status] of cases) {
      const { response } = await send(bridge.url, one(), headers);
      assert.equal(response.status, status, JSON.stringify(headers));
    }
  });

  test('Idempotency-Key is 1 to 255 visible ASCII characters', async () => {
    const cases: [string, number][] = [
      ['k', 201],
      [`~${'!'.repeat(254)}`, 201],
      ['k'.repeat(256), 400],
      ['', 400],
      ['a b', 400],
      ['é', 400],
    ];
    for (const [key, status] of cases) {
      const { response, problem } = await send(bridge.url, one(messageNew(), 'messages.new'), {
        'Idempotency-Key': key,
      });
      assert.equal(response.status, status, key);
      if (status === 400) assert.equal(problem.code, 'invalid_request');
    }
  });

  test('other methods: 405 with Allow; an unknown path: 404', async () => {
    for (const method of ['PUT', 'DELETE', 'PATCH']) {
      const { response, problem } = await send(bridge.url, '{}', {}, method);
      assert.equal(response.status, 405);
      assert.equal(problem.code, 'method_not_allowed');
      assert.equal(response.headers.get('allow'), 'GET, HEAD, POST, OPTIONS');
    }
    const missing = await fetch(`${bridge.url}/event`);
    assert.equal(missing.status, 404);
    assert.equal(((await missing.json()) as Problem).code, 'not_found');
  });

  test('an endless chunked body: 413 without reading the rest, and the server keeps running', async () => {
    const socket = connect(Number(new URL(bridge.url).port), '127.0.0.1');
    socket.on('error', () => {});
    const chunk = `4000\r\n${'x'.repeat(0x4000)}\r\n`;
    socket.write(
      'POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n',
    );
    let answer = '';
    socket.on('data', (data) => {
      answer += data;
    });
    const closed = new Promise((resolve) => socket.on('close', resolve));
    const pump = () => {
      while (!socket.destroyed && socket.write(chunk));
    };
    socket.on('drain', pump);
    pump();
    await closed;
    assert.match(answer, /^HTTP\/1\.1 413 Payload Too Large\r\n/);
    assert.equal((await bridge.post({ event: 'tickets.updated', payload: ticketUpdated() })).status, 201);
  });

  test('a declared length over the limit: 413 at once, before the body', async () => {
    const socket = connect(Number(new URL(bridge.url).port), '127.0.0.1');
    socket.write(
      'POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 999999\r\n\r\n{',
    );
    const [data] = (await once(socket, 'data')) as [Buffer];
    assert.match(data.toString(), /^HTTP\/1\.1 413 /);
    socket.destroy();
  });

  test('after an error the connection serves the next request', async () => {
    const socket = connect(Number(new URL(bridge.url).port), '127.0.0.1');
    const request = (body: string, connection: string) =>
      `POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: ${connection}\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
    let answers = '';
    socket.on('data', (data) => {
      answers += data;
    });
    socket.write(request(JSON.stringify('x'.repeat(120_000)), 'keep-alive') + request(one(), 'close'));
    await once(socket, 'close');
    assert.deepEqual(answers.match(/HTTP\/1\.1 \d+/g), ['HTTP/1.1 413', 'HTTP/1.1 201']);
  });
});

test('a rate limit: a request over it is a 429 with Retry-After, and none of its events are accepted', async () => {
  const bridge = await startBridge({ ratePublish: 2 });
  try {
    const events = Array.from({ length: 600 }, () => ({ event: 'messages.new', payload: messageNew() }));
    assert.equal((await bridge.post({ events })).status, 201, 'a batch may leave the publisher in debt');
    const { response, problem } = await send(bridge.url, one());
    assert.equal(response.status, 429);
    assert.equal(problem.code, 'rate_limited');
    const retryAfter = Number(response.headers.get('retry-after'));
    assert.ok(retryAfter > 250 && retryAfter <= 300, String(retryAfter));
    assert.equal((await eventsOf(bridge, 'tenant-1')).length, 600);
  } finally {
    await bridge.close();
  }
});

test('a rate limit: requests that hold back their bodies do not pass together', async () => {
  const bridge = await startBridge({ ratePublish: 1 });
  const publishers = Array.from({ length: 40 }, () => openRaw(bridge.url));
  try {
    const body = one();
    const head = [
      'POST /events HTTP/1.1',
      'Host: localhost',
      'Content-Type: application/json',
      `Content-Length: ${Buffer.byteLength(body)}`,
    ];
    for (const publisher of publishers) publisher.send(`${head.join('\r\n')}\r\n\r\n`);
    const statuses = () => publishers.map((publisher) => publisher.responses()[0]?.status);
    await until('most are refused by their heads', () => statuses().filter((status) => status === 429).length >= 30);
    for (const publisher of publishers) publisher.send(body);
    await until('the others are let in', () => statuses().includes(201));
  } finally {
    for (const publisher of publishers) publisher.destroy();
    await bridge.close();
  }
});

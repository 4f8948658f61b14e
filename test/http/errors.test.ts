/** Protocol §10: nothing is ignored in silence, and an error says what is wrong, where, and what to do next. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { acceptsByName, prefers } from '../../src/answers/accept.ts';
import { locateJsonFault } from '../../src/answers/json.ts';
import { startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { get, openRaw } from '../support/raw.ts';
import { until } from '../support/until.ts';

interface Problem {
  readonly code: string;
  readonly detail: string;
  readonly requestId: string;
  readonly errors?: readonly { readonly in: string; readonly path: string; readonly message: string }[];
}

const ORIGIN = 'https://app.example.com';
let bridge: TestBridge;

before(async () => {
  bridge = await startBridge({ corsOrigins: [ORIGIN], extraEvents: ['leads.updated'] });
});
after(() => bridge.close());

async function ask(path: string, init: RequestInit = {}) {
  const response = await fetch(bridge.url + path, init);
  const text = await response.text();
  const isProblem = response.headers.get('content-type') === 'application/problem+json';
  return { response, problem: (isProblem ? JSON.parse(text) : null) as Problem };
}

const post = (body: string) =>
  ask('/events', { method: 'POST', headers: { 'content-type': 'application/json' }, body });

const ROUTES: readonly (readonly [method: string, path: string])[] = [
  ['GET', '/sse?tenantId=t'],
  ['GET', '/events?tenantId=t'],
  ['POST', '/events?'],
  ['GET', '/tickets?tenantId=t'],
  ['GET', '/tickets/1?tenantId=t'],
  ['GET', '/tickets/1/messages?tenantId=t'],
  ['DELETE', '/tickets/1?tenantId=t'],
  ['DELETE', '/tenants/t?'],
  ['POST', '/pass?'],
  ['GET', '/stats?'],
  ['GET', '/check/poll?'],
  ['GET', '/check/stream?'],
];

test('every route refuses a parameter that it does not know', async () => {
  for (const [method, path] of ROUTES) {
    const { response, problem } = await ask(`${path}&colour=red`, { method });
    assert.equal(response.status, 400, `${method} ${path}`);
    assert.equal(problem.code, 'unknown_parameter', `${method} ${path}`);
    assert.deepEqual(
      problem.errors?.map((error) => [error.in, error.path]),
      [['query', 'colour']],
    );
  }
});

test('access_token and names that begin with _ are known everywhere', async () => {
  for (const [method, path] of ROUTES) {
    if (path.startsWith('/check/stream')) continue;
    const aborter = new AbortController();
    const query = `${path}&access_token=&_=1712&_cb=x`;
    const body = JSON.stringify({ event: 'tickets.updated', payload: ticketUpdated() });
    const headers = { 'content-type': 'application/json' };
    const init = { method, signal: aborter.signal, ...(method === 'POST' ? { headers, body } : {}) };
    const response = await fetch(bridge.url + query, init);
    assert.notEqual(response.status, 400, `${method} ${path}`);
    aborter.abort();
  }
});

const hints: readonly (readonly [path: string, parameter: string, hint: RegExp])[] = [
  ['/sse?tenantID=t', 'tenantID', /did you mean tenantId\?/],
  ['/events?tenant_id=t', 'tenant_id', /did you mean tenantId\?/],
  ['/events?tenantId=t&cursor=X', 'cursor', /did you mean after\?/],
  ['/events?tenantId=t&lastEventId=X', 'lastEventId', /did you mean after\?/],
  ['/events?tenantId=t&life=10', 'life', /it takes tenantId, .*limit, wait, signals/],
  ['/sse?tenantId=t&wait=10', 'wait', /it takes tenantId, .*padding, life/],
  ['/sse?tenantId=t&token=x', 'token', /did you mean access_token\?/],
  ['/tickets?tenantId=t&Status=OPEN', 'Status', /did you mean status\?/],
  ['/tickets?tenantId=t&updated_after=2024', 'updated_after', /did you mean updatedAfter\?/],
  ['/tickets?tenantId=t&pass=x', 'pass', /it takes tenantId/],
];

for (const [path, parameter, hint] of hints) {
  test(`${path}: a hint`, async () => {
    const { response, problem } = await ask(path);
    assert.equal(response.status, 400);
    assert.equal(problem.code, 'unknown_parameter');
    const fault = problem.errors?.[0];
    assert.deepEqual([fault?.in, fault?.path], ['query', parameter]);
    assert.match(fault?.message ?? '', hint);
    assert.match(problem.detail, hint);
  });
}

test('all faults of a query are reported together', async () => {
  const { problem } = await ask('/events?tenantID=t&limit=0&wait=x&after=&events=a,messages.neww&legacy=1&legacy=2');
  assert.equal(problem.code, 'unknown_parameter');
  assert.deepEqual(
    problem.errors?.map(({ path }) => path),
    ['tenantID', 'events', 'events', 'legacy', 'after', 'limit', 'wait'],
  );
  assert.ok(problem.errors?.every((error) => error.in === 'query'));
});

test('a query full of faults has a short answer', async () => {
  const { problem } = await ask(`/events?${Array.from({ length: 4000 }, (_, n) => `x${n}=1`).join('&')}`);
  assert.ok((problem.errors?.length ?? 0) <= 21);
});

const filters: readonly (readonly [filter: string, hint: RegExp | null])[] = [
  ['messages.neww', /did you mean messages\.new\?/],
  ['ticket:updated', /did you mean ticket\.updated\?/],
  ['leads.update', /did you mean leads\.updated\?/],
  ['tickets.updated,nothing', /the events are .*tickets\.updated/],
  ['bridge.reset', /is no event/],
  ['tickets.updated,messages.new,leads.updated', null],
  ['ticket.updated,message:created,', null],
];

for (const [filter, hint] of filters) {
  test(`events=${filter}`, async () => {
    for (const route of ['/sse', '/events']) {
      const aborter = new AbortController();
      const response = await fetch(`${bridge.url}${route}?tenantId=t&events=${filter}`, { signal: aborter.signal });
      assert.equal(response.status, hint === null ? 200 : 400);
      if (hint !== null) {
        const { code, errors } = (await response.json()) as Problem;
        assert.equal(code, 'invalid_request');
        assert.deepEqual([errors?.[0]?.in, errors?.[0]?.path], ['query', 'events']);
        assert.match(errors?.[0]?.message ?? '', hint);
      }
      aborter.abort();
    }
  });
}

test('a filter may name legacy events where they are off', async () => {
  const without = await startBridge({ legacyEvents: false });
  try {
    assert.equal((await fetch(`${without.url}/events?tenantId=t&events=message:created`)).status, 200);
  } finally {
    await without.close();
  }
});

test('every fault says where it is: path, header and query', async () => {
  const ofPath = await ask('/tenants/a%20b', { method: 'DELETE' });
  assert.deepEqual(
    ofPath.problem.errors?.map((error) => [error.in, error.path]),
    [['path', 'tenantId']],
  );
  const ofHeader = await ask('/sse?tenantId=t', { headers: { 'last-event-id': 'a b' } });
  assert.deepEqual(
    ofHeader.problem.errors?.map((error) => [error.in, error.path]),
    [['header', 'Last-Event-ID']],
  );
  const ofQuery = await ask('/tickets');
  assert.deepEqual(ofQuery.problem.errors, [{ in: 'query', path: 'tenantId', message: 'is required' }]);
  const noRoom = await ask('/sse');
  assert.match(noRoom.problem.detail, /required/);
});

const malformed: readonly (readonly [text: string, line: number, column: number])[] = [
  ['{', 1, 2],
  ['{"a":1,}', 1, 8],
  ['{"a":1\n "b":2}', 2, 2],
  ['{\n  "a": tru\n}', 2, 8],
  ['[1,2', 1, 5],
  ['[1 2]', 1, 4],
  ['{"a":"x\ny"}', 1, 8],
  ['{"a":"\\q"}', 1, 7],
  ['{"a":"never ends', 1, 17],
  ['{"a" 1}', 1, 6],
  ['{a:1}', 1, 2],
  ["{'a':1}", 1, 2],
  ['{} {}', 1, 4],
  ['[01]', 1, 3],
  ['[]]', 1, 3],
  ['{"a":[{"b":null},\n\n  }]}', 3, 3],
];

for (const [text, line, column] of malformed) {
  test(`${JSON.stringify(text)} stops being JSON at ${line}:${column}`, async () => {
    assert.throws(() => JSON.parse(text));
    const fault = locateJsonFault(text);
    assert.deepEqual([fault.line, fault.column], [line, column]);
    const { problem } = await post(text);
    assert.equal(problem.code, 'invalid_json');
    assert.ok(problem.detail.includes(`line ${line}, column ${column}`), problem.detail);
    assert.equal(problem.errors?.[0]?.in, 'body');
  });
}

test('an error in JSON never quotes the body', async () => {
  const { problem } = await post('{"token": "a-secret", "more": a-secret}');
  assert.doesNotMatch(JSON.stringify(problem), /a-secret/);
});

test('an unknown event names EXTRA_EVENTS and the nearest event', async () => {
  for (const [event, near] of [
    ['messages.neww', 'messages.new'],
    ['message:created', 'messages.new'],
    ['lead.updated', 'leads.updated'],
  ]) {
    const { response, problem } = await post(JSON.stringify({ event, payload: {} }));
    assert.equal(response.status, 422);
    assert.equal(problem.code, 'unknown_event');
    assert.match(problem.detail, /EXTRA_EVENTS/);
    assert.ok(problem.detail.endsWith(`did you mean ${near}?`), problem.detail);
  }
});

test('a missing field of a body is required', async () => {
  for (const body of [
    '',
    '{}',
    '{"event":"tickets.updated"}',
    '{"event":"tickets.updated","payload":{"tenantId":"t"}}',
  ]) {
    const { problem } = await post(body);
    assert.match(problem.errors?.[0]?.message ?? '', /^is required/, body);
  }
});

const IDS: readonly (readonly [sent: string, kept: boolean])[] = [
  ['abc-123', true],
  ['~'.repeat(128), true],
  ['~'.repeat(129), false],
  ['a b', false],
  ['é', false],
  ['', false],
];

test('X-Request-Id: the request’s own if it is well-formed, else a new one, in the header and in the problem', async () => {
  const seen = new Set<string>();
  for (const [sent, kept] of IDS) {
    const { response, problem } = await ask('/nothing', { headers: { 'x-request-id': sent } });
    const id = response.headers.get('x-request-id') ?? '';
    assert.match(id, /^[\x21-\x7e]{1,128}$/);
    assert.equal(id === sent, kept, sent);
    assert.equal(problem.requestId, id);
    seen.add(id);
  }
  assert.equal(seen.size, IDS.length);
});

test('every answer outside Socket.IO has an X-Request-Id', async () => {
  const etag = (await fetch(`${bridge.url}/events?tenantId=t`)).headers.get('etag') ?? '';
  const upgrade = [
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
  ];
  const requests: readonly (readonly [text: string, status: number])[] = [
    [get('/healthz'), 200],
    [get('/metrics'), 200],
    [get('/docs'), 200],
    [get('/docs/'), 302],
    [get('/nothing'), 404],
    [get('/sse?tenantId=t'), 200],
    [get('/sse?tenantId=t&life=1'), 200],
    [get('/sse'), 400],
    [get('/events?tenantId=t', `If-None-Match: ${etag}`), 304],
    [get('/tickets?tenantId=t').replace('GET', 'HEAD'), 200],
    [get('/tickets?tenantId=t').replace('GET', 'PUT'), 405],
    [get('/events', `Origin: ${ORIGIN}`, 'Access-Control-Request-Method: POST').replace('GET', 'OPTIONS'), 204],
    [get('/nothing', ...upgrade), 404],
    ['GET / HTTP/1.1\r\nHost: a b\r\n\r\n', 400],
    ['GARBAGE\r\n\r\n', 400],
    [get(`/events?tenantId=${'t'.repeat(100_000)}`), 431],
  ];
  for (const [text, status] of requests) {
    const connection = openRaw(bridge.url);
    connection.send(text);
    await until('there is a head', () => connection.bytes().includes('\r\n\r\n'));
    const [response] = connection.responses(text.startsWith('HEAD'));
    const what = text.split('\r\n')[0]?.slice(0, 60);
    assert.equal(response?.status, status, what);
    assert.match(response.headers['x-request-id'] ?? '', /^[\x21-\x7e]{1,128}$/, what);
    connection.destroy();
  }
});

test('pages of CORS_ORIGINS may read X-Request-Id', async () => {
  const { response } = await ask('/events?tenantId=t', { headers: { origin: ORIGIN } });
  assert.match(response.headers.get('access-control-expose-headers') ?? '', /\bX-Request-Id\b/);
});

const OPENMETRICS = 'application/openmetrics-text';
const accepted: readonly (readonly [accept: string | undefined, openMetrics: boolean])[] = [
  [undefined, false],
  ['', false],
  ['*/*', false],
  [OPENMETRICS, true],
  [`${OPENMETRICS};q=0`, false],
  [`${OPENMETRICS};q=0, */*`, false],
  [`${OPENMETRICS};version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1`, true],
  [`${OPENMETRICS};version=0.0.1;q=0.3,${OPENMETRICS};version=1.0.0;q=0.8, text/plain;q=0.5`, true],
  [`text/plain, ${OPENMETRICS};q=0.9`, false],
  [`Application/OpenMetrics-Text; Q=0.9 , text/*;q=0.1`, true],
  ['application/*, text/plain;q=0.5', true],
  [`x${OPENMETRICS}`, false],
];

for (const [accept, openMetrics] of accepted) {
  test(`/metrics for Accept: ${accept}`, async () => {
    assert.equal(prefers(accept, OPENMETRICS, 'text/plain'), openMetrics);
    const { response } = await ask('/metrics', accept === undefined ? {} : { headers: { accept } });
    const type = response.headers.get('content-type') ?? '';
    assert.ok(type.startsWith(openMetrics ? OPENMETRICS : 'text/plain'), type);
  });
}

test('an event stream is accepted by name only', () => {
  assert.ok(acceptsByName('text/html, text/event-stream;q=0.1', 'text/event-stream'));
  for (const accept of [undefined, '*/*', 'text/*', 'text/event-stream;q=0', 'x-text/event-stream']) {
    assert.ok(!acceptsByName(accept, 'text/event-stream'), accept);
  }
});

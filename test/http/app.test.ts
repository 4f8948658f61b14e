/** Behaviour that all routes share (protocol §10, §12, §13): base path, headers for browsers, HEAD, problems. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { type TestContext, test } from 'node:test';
import { getRequestListener } from '@hono/node-server';
import { pino } from 'pino';
import { BridgeResponse, SECURITY_HEADERS } from '../../src/answers/headers.ts';
import { createRefusals } from '../../src/answers/refusals.ts';
import { ANONYMOUS } from '../../src/auth/principal.ts';
import { createRevoked } from '../../src/auth/revocations.ts';
import { configure } from '../../src/config.ts';
import { BridgeError } from '../../src/contract/errors.ts';
import { type AppDeps, createApp } from '../../src/http/app.ts';
import { createLogger } from '../../src/logger.ts';
import { createPrometheus } from '../../src/metrics/prometheus.ts';
import { metric, startBridge } from '../support/bridge.ts';
import { get, openRaw } from '../support/raw.ts';
import { until } from '../support/until.ts';

/** Serves the routes with stubs behind them; `lines` collects the log lines. */
async function serve(context: TestContext, deps: Partial<AppDeps>): Promise<{ url: string; lines: string[] }> {
  const lines: string[] = [];
  const unused = () => assert.fail('not used here');
  const prometheus = createPrometheus({
    roomLabel: 'room',
    maxRooms: 1,
    sampleStore: async () => ({ records: 0, oldestAcceptedAtMs: null }),
  });
  const logger = pino({ level: 'info' }, { write: (line: string) => lines.push(line) });
  const app = createApp({
    config: configure(),
    bus: {} as never,
    gate: { admitAnswer: () => {} },
    store: {} as never,
    revoked: createRevoked(createLogger('silent')),
    logger,
    prometheus,
    refusals: createRefusals({ metrics: prometheus.metrics, logger, trustProxy: 0, readIdentity: async () => null }),
    allNodes: { ask: unused },
    authenticate: async () => ANONYMOUS,
    authenticateReader: async () => ANONYMOUS,
    authorizeMetrics: async () => {},
    countRead: () => {},
    mintPass: unused,
    ready: () => true,
    transports: { sse: unused, events: unused },
    stats: { stats: unused, statsHistory: unused },
    check: { stream: unused, poll: unused },
    ...deps,
  });
  const handle = getRequestListener(app.fetch, { overrideGlobalObjects: false });
  const server = createServer<typeof IncomingMessage, typeof BridgeResponse>(
    { ServerResponse: BridgeResponse },
    (request, response) => {
      response.share(null);
      void handle(request, response);
    },
  );
  await once(server.listen(0, '127.0.0.1'), 'listening');
  context.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, lines };
}

test('an unexpected error is a bare 500; only the logger gets the details', async (context) => {
  const authenticate = () => Promise.reject(new Error('the inner detail', { cause: new Error('the deeper cause') }));
  const { url, lines } = await serve(context, { authenticate });
  const response = await fetch(`${url}/tickets?tenantId=t&access_token=the-token`);
  const text = await response.text();
  assert.equal(response.status, 500);
  assert.equal(response.headers.get('content-type'), 'application/problem+json');
  assert.equal((JSON.parse(text) as { code: string }).code, 'internal');
  assert.doesNotMatch(text, /detail.*inner|the inner|deeper|\.ts/);
  assert.equal(lines.length, 1);
  assert.match(lines[0] as string, /the inner detail/);
  assert.match(lines[0] as string, /the deeper cause/);
  assert.doesNotMatch(lines[0] as string, /the-token/);
  const metrics = await (await fetch(`${url}/metrics`)).text();
  assert.match(metrics, /^roomcast_refused_total\{code="internal"\} 1$/m);
});

test('an expected error goes to the client and is not logged', async (context) => {
  const cases: [BridgeError, number, string, string | null][] = [
    [new BridgeError('unauthorized', 'A token is required.'), 401, 'www-authenticate', 'Bearer'],
    [new BridgeError('forbidden', 'No.'), 403, 'www-authenticate', null],
    [new BridgeError('unavailable', 'Later.', { retryAfterSeconds: 1.2 }), 503, 'retry-after', '2'],
    [new BridgeError('outcome_unknown', 'Maybe.'), 503, 'retry-after', '1'],
  ];
  for (const [error, status, header, value] of cases) {
    const { url, lines } = await serve(context, { authenticate: () => Promise.reject(error) });
    const response = await fetch(`${url}/events`, { method: 'POST', body: 'not even read' });
    assert.equal(response.status, status);
    assert.equal(response.headers.get(header), value);
    assert.equal(((await response.json()) as { code: string }).code, error.code);
    assert.deepEqual(lines, []);
  }
});

test('the fields of an error are members of the problem', async (context) => {
  const fields = { reason: 'expired', after: 'a', oldest: 'b', cursor: 'c' };
  const events = () => Promise.reject(new BridgeError('cursor_expired', 'Gone.', { fields }));
  const { url } = await serve(context, { transports: { sse: events, events } });
  const response = await fetch(`${url}/events`, { headers: { 'x-request-id': 'r-1' } });
  assert.equal(response.status, 410);
  assert.deepEqual(await response.json(), {
    type: 'urn:roomcast:error:cursor_expired',
    title: 'The cursor is older than the log',
    status: 410,
    detail: 'Gone.',
    code: 'cursor_expired',
    requestId: 'r-1',
    ...fields,
  });
});

test('readyz is a 503 while the log accepts no events; healthz stays 200', async (context) => {
  const { url } = await serve(context, { ready: () => false });
  const ready = await fetch(`${url}/readyz`);
  assert.equal(ready.status, 503);
  assert.equal(ready.headers.get('retry-after'), '1');
  assert.equal((await fetch(`${url}/healthz`)).status, 200);
});

test('BASE_PATH prefixes every route, and pages of allowed origins may read the answers', async () => {
  const origin = 'https://app.example.com';
  const bridge = await startBridge({ basePath: '/bridge', corsOrigins: [origin] });
  try {
    const response = await fetch(`${bridge.url}/tickets?tenantId=t`, { headers: { origin } });
    assert.equal(response.status, 200);
    assert.equal(response.headers.get('access-control-allow-origin'), origin);
    assert.equal(response.headers.get('access-control-allow-credentials'), 'true');
    assert.equal(response.headers.get('vary'), 'Origin');
    const foreign = await fetch(`${bridge.url}/tickets?tenantId=t`, { headers: { origin: 'https://evil.example' } });
    assert.equal(foreign.headers.get('access-control-allow-origin'), null);

    const preflight = await fetch(`${bridge.url}/events`, {
      method: 'OPTIONS',
      headers: { origin, 'access-control-request-method': 'POST', 'access-control-request-headers': 'idempotency-key' },
    });
    assert.equal(preflight.status, 204);
    assert.match(preflight.headers.get('access-control-allow-methods') ?? '', /POST/);
    assert.match(preflight.headers.get('access-control-allow-headers') ?? '', /Idempotency-Key/);

    const stream = await fetch(`${bridge.url}/sse?tenantId=t`, { headers: { origin } });
    assert.equal(stream.headers.get('access-control-allow-origin'), origin);
    assert.equal(stream.headers.get('x-content-type-options'), 'nosniff');
    await stream.body?.cancel();

    for (const [path, method] of [
      ['/sse?tenantId=t', 'GET'],
      ['/events?tenantId=t', 'GET'],
      ['/pass', 'POST'],
    ] as const) {
      for (const [from, timed] of [
        [origin, origin],
        ['https://evil.example', null],
      ] as const) {
        const { headers, body } = await fetch(bridge.url + path, { method, headers: { origin: from } });
        assert.equal(headers.get('timing-allow-origin'), timed, `${path} for ${from}`);
        await body?.cancel();
      }
    }

    const outside = await fetch(new URL('/events?tenantId=t', bridge.url));
    assert.equal(outside.status, 404);
    assert.equal(outside.headers.get('x-content-type-options'), 'nosniff');
  } finally {
    await bridge.close();
  }
});

test('a page’s URL with a trailing slash redirects to the page, also behind a proxy that strips a prefix', async () => {
  for (const basePath of ['', '/a/b']) {
    const bridge = await startBridge({ basePath });
    try {
      for (const page of ['console', 'check', 'docs']) {
        const response = await fetch(`${bridge.url}/${page}/?lang=pt&idle=90`, { redirect: 'manual' });
        assert.equal(response.status, 302, page);
        const location = response.headers.get('location') ?? '';
        assert.equal(
          new URL(location, `https://proxy/prefix/${page}/`).href,
          `https://proxy/prefix/${page}?lang=pt&idle=90`,
        );
      }
    } finally {
      await bridge.close();
    }
  }
});

test('the links of the reference resolve, also behind a proxy that strips a prefix', async () => {
  const bridge = await startBridge({ basePath: '/a/b' });
  try {
    const page = await (await fetch(`${bridge.url}/docs`)).text();
    const links = [...page.matchAll(/(?:href|src)="(?!data:)([^#"]+)"/g)].map(([, link]) => link as string);
    assert.deepEqual(
      links.map((link) => new URL(link, 'https://proxy/prefix/docs').pathname),
      ['assets/docs.css', 'assets/docs.js', 'openapi.json', 'openapi.yaml', 'asyncapi.yaml', 'console', 'check'].map(
        (name) => `/prefix/${name}`,
      ),
    );
  } finally {
    await bridge.close();
  }
});

test('HEAD answers like GET without a body, and ends', { timeout: 20_000 }, async () => {
  const bridge = await startBridge();
  try {
    for (const path of [
      '/healthz',
      '/docs',
      '/tickets?tenantId=t',
      '/events?tenantId=t',
      '/sse?tenantId=t',
      '/nothing',
    ]) {
      const socket = connect(Number(new URL(bridge.url).port), '127.0.0.1');
      let answer = '';
      socket.on('data', (data) => {
        answer += data;
      });
      socket.write(`HEAD ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
      await once(socket, 'close');
      assert.match(answer, path === '/nothing' ? /^HTTP\/1\.1 404 / : /^HTTP\/1\.1 200 /, path);
      assert.ok(answer.endsWith('\r\n\r\n'), `${path} has a body: ${answer}`);
      assert.equal(answer.indexOf('\r\n\r\n'), answer.length - 4, path);
    }
  } finally {
    await bridge.close();
  }
});

const UPGRADE =
  'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==';

test('every answer has the security headers, from routes and from Socket.IO', async () => {
  const origin = 'https://app.example.com';
  const bridge = await startBridge({ corsOrigins: [origin], maxConnections: 1 });
  try {
    const { paths } = (await (await fetch(`${bridge.url}/openapi.json`)).json()) as { paths: object };
    const queryOf = (path: string) => (path === '/check/stream' ? 'ticks=1' : 'tenantId=t');
    const asked = Object.keys(paths).map((path) => `${path.replaceAll(/\{\w+\}/g, 'x')}?${queryOf(path)}`);
    const handshake = '/socket.io/?EIO=4&transport=polling';
    for (const path of [...asked, '/nothing', '/socket.io/', handshake, handshake]) {
      const response = await fetch(bridge.url + path, { headers: { origin }, signal: AbortSignal.timeout(60_000) });
      await response.body?.cancel();
      for (const [name, value] of SECURITY_HEADERS) {
        // A stream has only those that protect more than documents, and a short head.
        const isOfStream = ['Cross-Origin-Resource-Policy', 'X-Content-Type-Options'].includes(name);
        if (path.startsWith('/sse') && !isOfStream) assert.equal(response.headers.get(name), null, path);
        // Pages have their own policy.
        else if (name !== 'Content-Security-Policy')
          assert.equal(response.headers.get(name), value, `${name} of ${path}`);
        else assert.match(response.headers.get(name) ?? '', /^default-src 'none';.* frame-ancestors 'none'$/, path);
      }
      assert.equal(response.headers.get('access-control-allow-origin'), origin, path);
      assert.equal(response.headers.get('access-control-allow-credentials'), 'true', path);
      assert.match(response.headers.get('vary') ?? '', /^Origin\b/, path);
      if (path === handshake && response.status === 503) return;
    }
    assert.fail('the second handshake should be refused');
  } finally {
    await bridge.close();
  }
});

test('invalid requests and unknown websocket paths get a problem, and are counted', async () => {
  const bridge = await startBridge();
  const cases: [string, number, string][] = [
    ['GARBAGE\r\n\r\n', 400, 'invalid_request'],
    ['GET / HTTP/1.1\r\nHost: a b\r\n\r\n', 400, 'invalid_request'],
    [`GET /events?tenantId=${'t'.repeat(100_000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`, 431, 'headers_too_large'],
    [
      `GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${'t'.repeat(100_000)}\r\n\r\n`,
      431,
      'headers_too_large',
    ],
    [`GET /nothing HTTP/1.1\r\nHost: localhost\r\n${UPGRADE}\r\n\r\n`, 404, 'not_found'],
    [
      `GET /socket.io/ HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n${UPGRADE}\r\n\r\n`,
      403,
      'forbidden',
    ],
  ];
  try {
    for (const [text, status, code] of cases) {
      const before = await metric(bridge, `roomcast_refused_total{code="${code}"}`);
      const connection = openRaw(bridge.url);
      connection.send(text);
      await until('there is an answer', () => connection.responses()[0]?.ended === true);
      connection.destroy();
      const [response] = connection.responses();
      assert.equal(response?.status, status);
      assert.equal(response.headers['content-type'], 'application/problem+json');
      assert.equal(response.headers['x-content-type-options'], 'nosniff');
      assert.equal((JSON.parse(response.body) as { code: string }).code, code);
      assert.equal(await metric(bridge, `roomcast_refused_total{code="${code}"}`), before + 1);
    }
  } finally {
    await bridge.close();
  }
});

test('invalid bytes do not end up in an answer that has started', async () => {
  const bridge = await startBridge();
  try {
    const connection = openRaw(bridge.url);
    // Pipelined behind a request, a stream goes through Node's response, and its connection is still read.
    connection.send(`${get('/healthz')}${get('/sse?tenantId=t')}`);
    await until('the stream has begun', () => connection.responses()[1]?.body.includes('bridge.cursor') === true);
    connection.send('GARBAGE\r\n\r\n');
    await until('the connection is cut', () => connection.closed);
    assert.equal(connection.responses().length, 2);
    assert.doesNotMatch(connection.bytes().toString(), / 400 /);
  } finally {
    await bridge.close();
  }
});

/**
 * One exchange on the wire, whatever the route (protocol §10, §11, §16): heads with each header once, pipelined publishes in
 * order, bodies in every form that HTTP has and bodies that end early, targets and hosts, and answers while draining.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { BridgeResponse } from '../../src/answers/headers.ts';
import { metric, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { openRaw, type RawConnection, type RawResponse } from '../support/raw.ts';
import { until as untilNamed } from '../support/until.ts';

const PAGE = 'https://app.example';
const SHARED = [
  ...['content-security-policy', 'cross-origin-opener-policy', 'cross-origin-resource-policy', 'referrer-policy'],
  ...['x-content-type-options', 'x-frame-options', 'x-request-id', 'vary'],
];
const OF_PAGES = [
  ...['access-control-allow-origin', 'access-control-allow-credentials', 'access-control-expose-headers'],
  'timing-allow-origin',
];
const BODY = JSON.stringify({ event: 'tickets.updated', payload: ticketUpdated() });
const until = (condition: () => boolean | Promise<boolean>): Promise<void> =>
  untilNamed('the exchange went on', condition);
const LIMIT = { timeout: 30_000 };

const request = (line: string, headers: readonly string[] = [], body = ''): string =>
  `${[`${line} HTTP/1.1`, 'Host: localhost', ...headers].join('\r\n')}\r\n\r\n${body}`;
const post = (path: string, headers: readonly string[] = [], body = BODY): string =>
  request(
    `POST ${path}`,
    ['Content-Type: application/json', `Content-Length: ${Buffer.byteLength(body)}`, ...headers],
    body,
  );

/** How often each header stands in the first head, by its name in lower case. */
function headerCounts(connection: RawConnection): Map<string, number> {
  const [head = ''] = connection.bytes().toString('latin1').split('\r\n\r\n');
  const counts = new Map<string, number>();
  for (const line of head.split('\r\n').slice(1)) {
    const name = line.slice(0, line.indexOf(':')).toLowerCase();
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}

describe('an exchange', () => {
  let bridge: TestBridge;
  let path: string;
  const opened: RawConnection[] = [];
  const open = (text: string): RawConnection => {
    const connection = openRaw(bridge.url);
    opened.push(connection);
    connection.send(text);
    return connection;
  };
  const answered = async (connection: RawConnection, count = 1, bodiless = false): Promise<RawResponse[]> => {
    await until(() => connection.responses(bodiless).filter(({ ended }) => ended).length >= count || connection.closed);
    return connection.responses(bodiless);
  };
  const ask = async (text: string, bodiless = false): Promise<RawResponse> => {
    const [response] = await answered(open(text), 1, bodiless);
    assert.ok(response, 'no answer');
    return response;
  };

  /** By then, the bridge has read what was sent before. */
  const laterAnswer = async (): Promise<void> => {
    assert.equal((await ask(request(`GET ${path}/healthz`))).status, 200);
  };

  before(async () => {
    bridge = await startBridge({ corsOrigins: [PAGE], basePath: '/bridge', maxBodyBytes: 100_000 });
    path = new URL(bridge.url).pathname;
  });
  after(async () => {
    for (const connection of opened) connection.destroy();
    await bridge.close();
  });

  const routes: readonly (readonly [status: number, name: string, text: () => string])[] = [
    [201, 'a publish', () => post(`${path}/events`, [`Origin: ${PAGE}`])],
    [422, 'a publish with faults', () => post(`${path}/events`, [`Origin: ${PAGE}`], '{}')],
    [400, 'no JSON', () => post(`${path}/events`, [`Origin: ${PAGE}`], '{')],
    [415, 'another type', () => request(`POST ${path}/events`, [`Origin: ${PAGE}`, 'Content-Length: 1'], 'x')],
    [
      413,
      'too large a body',
      () =>
        request(`POST ${path}/events`, [`Origin: ${PAGE}`, 'Content-Type: application/json', 'Content-Length: 999999']),
    ],
    [404, 'an unknown path', () => request(`GET ${path}/nothing`, [`Origin: ${PAGE}`])],
    [405, 'another method', () => request(`PUT ${path}/events`, [`Origin: ${PAGE}`])],
    [204, 'a preflight', () => request(`OPTIONS ${path}/events`, [`Origin: ${PAGE}`])],
    [200, 'a page of events', () => request(`GET ${path}/events?tenantId=t1`, [`Origin: ${PAGE}`])],
    [200, 'a state list', () => request(`GET ${path}/tickets?tenantId=t1`, [`Origin: ${PAGE}`])],
    [200, 'metrics', () => request(`GET ${path}/metrics`, [`Origin: ${PAGE}`])],
    [200, 'Socket.IO polling', () => request(`GET /socket.io/?EIO=4&transport=polling`, [`Origin: ${PAGE}`])],
  ];
  for (const [status, name, text] of routes) {
    test(`${name}: ${status}, with each shared header once`, LIMIT, async () => {
      const connection = open(text());
      await until(() => connection.responses(status === 204).some(({ ended }) => ended));
      const [response] = connection.responses(status === 204);
      assert.equal(response?.status, status, response?.body);
      const counts = headerCounts(connection);
      for (const header of [...SHARED, ...OF_PAGES]) assert.ok(counts.has(header), header);
      for (const [header, count] of counts)
        assert.equal(count, header === 'vary' && name === 'metrics' ? 2 : 1, header);
      assert.equal(response?.headers['access-control-allow-origin'], PAGE);
    });
  }

  test('a page of no listed origin, and a program, read no CORS headers', LIMIT, async () => {
    for (const headers of [['Origin: https://other.example', 'Sec-Fetch-Site: same-origin'], []]) {
      const { status, headers: got } = await ask(post(`${path}/events`, headers));
      assert.equal(status, 201);
      assert.equal(got.vary, 'Origin');
      for (const header of OF_PAGES) assert.equal(got[header], undefined, header);
    }
  });

  test('pipelined publishes are answered in order, each with its own id', LIMIT, async () => {
    const bodies = Array.from({ length: 8 }, (_, index) =>
      index === 3
        ? '{'
        : JSON.stringify({ event: 'tickets.updated', payload: ticketUpdated({ ticketId: `p${index}` }) }),
    );
    const connection = open(
      bodies.map((body, index) => post(`${path}/events`, [`X-Request-Id: r${index}`], body)).join(''),
    );
    const responses = await answered(connection, bodies.length);
    assert.deepEqual(
      responses.map(({ status, headers }) => [status, headers['x-request-id']]),
      bodies.map((body, index) => [body === '{' ? 400 : 201, `r${index}`]),
    );
    const ids = responses
      .filter(({ status }) => status === 201)
      .map(({ body }) => (JSON.parse(body) as { id: string }).id);
    assert.deepEqual(ids, [...ids].sort());
    assert.match(responses[0]?.body ?? '', /ticket:p0/);
    assert.match(responses[7]?.body ?? '', /ticket:p7/);
  });

  test('a body in chunks, in many packets, and after 100 Continue', LIMIT, async () => {
    const chunks = [BODY.slice(0, 10), BODY.slice(10)].map(
      (text) => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`,
    );
    const head = request(`POST ${path}/events`, ['Content-Type: application/json', 'Transfer-Encoding: chunked']);
    assert.equal((await ask(`${head}${chunks.join('')}0\r\n\r\n`)).status, 201);

    const slow = open(post(`${path}/events`).slice(0, -40));
    await laterAnswer();
    slow.send(BODY.slice(-40));
    assert.equal((await answered(slow))[0]?.status, 201);

    const expecting = open(post(`${path}/events`, ['Expect: 100-continue']).slice(0, -BODY.length));
    await until(() => expecting.bytes().includes('100 Continue'));
    expecting.send(BODY);
    await until(() => expecting.bytes().includes('201 Created'));
  });

  test('a BOM and other white space around a body are as they were', LIMIT, async () => {
    assert.equal((await ask(post(`${path}/events`, [], `\ufeff${BODY}`))).status, 201);
    assert.equal((await ask(post(`${path}/events`, [], ` \r\n\t${BODY}\n`))).status, 201);
    const types = ['application/json; charset=utf-8', 'Application/JSON', 'application/json;charset="UTF8"'];
    for (const type of types) {
      const text = request(
        `POST ${path}/events`,
        [`Content-Type: ${type}`, `Content-Length: ${Buffer.byteLength(BODY)}`],
        BODY,
      );
      assert.equal((await ask(text)).status, 201, type);
    }
  });

  test('a body that ends early is refused and counted, and takes nothing with it', LIMIT, async () => {
    const refusals = async (): Promise<number> =>
      (await metric(bridge, 'roomcast_refused_total{code="invalid_request"}')) || 0;
    const before = await refusals();
    const cut = open(post(`${path}/events`).slice(0, -5));
    await laterAnswer();
    cut.destroy();
    await until(async () => (await refusals()) > before);
    assert.equal((await ask(post(`${path}/events`))).status, 201);
  });

  test('the rest of a refused body is discarded, and the connection serves the next request', LIMIT, async () => {
    const head = request(`POST ${path}/events`, ['Content-Type: application/json', 'Content-Length: 150000']);
    const connection = open(head);
    assert.equal((await answered(connection))[0]?.status, 413);
    connection.send('x'.repeat(150_000) + post(`${path}/events`));
    assert.deepEqual(
      (await answered(connection, 2)).map(({ status }) => status),
      [413, 201],
    );
  });

  test('a client that never sends the rest of a refused body is closed', LIMIT, async () => {
    const connection = open(
      request(`POST ${path}/events`, ['Content-Type: application/json', 'Content-Length: 150000']),
    );
    assert.equal((await answered(connection))[0]?.status, 413);
    await until(() => connection.closed);
  });

  test('a request for no valid host or target is a 400', LIMIT, async () => {
    const of = (target: string, ...hosts: string[]) =>
      ask(`GET ${target} HTTP/1.1\r\n${hosts.map((host) => `Host: ${host}\r\n`).join('')}\r\n`);
    const bad: readonly (readonly [string, ...string[]])[] = [
      [`${path}/healthz`, 'a b'],
      [`${path}/healthz`, 'a@b'],
      [`${path}/healthz`, 'a/b'],
      [`${path}/healthz`, 'localhost:x'],
      [`${path}/healthz`, 'localhost:99999'],
      [`${path}/healthz`, '[::1'],
      [`${path}/healthz`, 'localhost', 'localhost'],
      ['ftp://localhost/', 'localhost'],
      ['http://a@localhost/', 'localhost'],
    ];
    for (const [target, ...hosts] of bad) {
      const { status, headers, body } = await of(target, ...hosts);
      assert.equal(status, 400, `${target} ${hosts}: ${body}`);
      assert.equal(headers['content-type'], 'application/problem+json');
      assert.equal((JSON.parse(body) as { code: string }).code, 'invalid_request');
      assert.equal(headers['x-frame-options'], 'DENY');
    }
    assert.equal((await ask('OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n')).status, 400);
    const good = ['localhost', 'LOCALHOST:80', '127.0.0.1:65000', '[::1]:8080', 'localhost:1'];
    for (const host of good) assert.equal((await of(`${path}/healthz`, host)).status, 200, host);
    assert.equal((await of(`http://localhost${path}/healthz`, 'other.example')).status, 200);
    const absolute = post(`http://localhost${path}/events`).replace('Host: localhost', 'Host: other.example');
    assert.equal((await ask(absolute)).status, 201);
  });

  test('HEAD and OPTIONS, also where there is no GET', LIMIT, async () => {
    assert.equal((await ask(request(`HEAD ${path}/healthz`), true)).status, 200);
    const { status, headers } = await ask(request(`HEAD ${path}/pass`), true);
    assert.deepEqual([status, headers.allow], [405, 'POST, OPTIONS']);
    const options = await ask(request(`OPTIONS ${path}/tickets/1`), true);
    assert.deepEqual([options.status, options.headers.allow], [204, 'GET, HEAD, DELETE, OPTIONS']);
    assert.equal((await ask(request(`TRACE ${path}/events`))).status, 405);
    assert.equal((await ask(request(`HEAD ${path}/nothing`), true)).status, 404);
  });
});

test('an answer while the bridge drains closes its connection, once said', LIMIT, async () => {
  const bridge = await startBridge();
  const connection = openRaw(bridge.url);
  const second = openRaw(bridge.url);
  const text = post('/events');
  connection.send(text.slice(0, -1));
  // Connected, and so part of the drain, before it begins.
  second.send(text.slice(0, 10));
  const later = openRaw(bridge.url);
  later.send(request('GET /healthz'));
  await until(() => later.responses().some(({ ended }) => ended));
  const closing = bridge.close();
  // The next request waits for its turn, which comes while the bridge drains.
  connection.send(text.slice(-1) + text);
  await until(() => connection.closed);
  const responses = connection.responses();
  assert.deepEqual(
    responses.map(({ status, ended }) => [status, ended]),
    [
      [201, true],
      [201, true],
    ],
  );
  assert.equal(headerCounts(connection).get('x-frame-options'), 1);
  assert.equal(responses[1]?.headers.connection, 'close');
  assert.equal(responses[1]?.headers['x-frame-options'], 'DENY');
  second.destroy();
  await closing;
});

test('a header of the answer replaces a shared one, whether it is set before the head or with it', LIMIT, async () => {
  const heads: readonly ((response: BridgeResponse) => void)[] = [
    (response) => response.writeHead(200, { 'X-Frame-Options': 'SAMEORIGIN', 'Content-Length': 0 }).end(),
    (response) => response.writeHead(200, 'OK', { 'X-Frame-Options': 'SAMEORIGIN', 'Content-Length': 0 }).end(),
    (response) => response.writeHead(200, ['X-Frame-Options', 'SAMEORIGIN', 'Content-Length', '0']).end(),
    (response) => response.setHeader('x-frame-options', 'SAMEORIGIN').writeHead(200, { 'Content-Length': 0 }).end(),
    (response) => {
      assert.equal(response.getHeader('X-Frame-Options'), 'DENY');
      response.removeHeader('X-Frame-Options');
      response.appendHeader('X-Frame-Options', 'SAMEORIGIN').end();
    },
  ];
  const server = createServer<typeof IncomingMessage, typeof BridgeResponse>(
    { ServerResponse: BridgeResponse },
    (incoming, response) => {
      response.share(null);
      heads[Number(incoming.url?.slice(1))]?.(response);
    },
  );
  await once(server.listen(0, '127.0.0.1'), 'listening');
  for (const index of heads.keys()) {
    const connection = openRaw(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    connection.send(request(`GET /${index}`, ['X-Request-Id: mine']));
    await until(() => connection.responses()[0]?.ended === true);
    const [response] = connection.responses();
    assert.equal(response?.headers['x-frame-options'], 'SAMEORIGIN', String(index));
    assert.equal(response?.headers['x-request-id'], 'mine');
    for (const [header, count] of headerCounts(connection)) assert.equal(count, 1, `${index}: ${header}`);
    connection.destroy();
  }
  server.close();
});

/**
 * protocol §11, §12: who reaches a bridge that needs no token. A hostile page rebinds its name, comes from another site, or
 * writes a path another way; a scraper comes without a token. Tables of the rules, then the same over real sockets.
 */
import assert from 'node:assert/strict';
import { request as httpRequest, type OutgoingHttpHeaders } from 'node:http';
import { after, before, test } from 'node:test';
import { type JWTPayload, SignJWT } from 'jose';
import { createHostRule, isLoopback, toHostName } from '../../src/auth/hosts.ts';
import { createOrigins, pageFacts } from '../../src/auth/origins.ts';
import { startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { openRaw } from '../support/raw.ts';
import { startServer } from '../support/server.ts';
import { until } from '../support/until.ts';

const SECRET = 'a secret of thirty-two bytes or more';
const sign = (claims: JWTPayload) => new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).sign(Buffer.from(SECRET));

const LOCAL_HOSTS = [
  '',
  'localhost',
  'localhost:4003',
  'LOCALHOST:1',
  'localhost.',
  'localhost.:80',
  'app.localhost',
  'a.b.localhost:5173',
  '127.0.0.1',
  '127.0.0.1:9999',
  '192.168.1.20:4003',
  '[::1]',
  '[::1]:4003',
  '[fe80::1]:80',
  '[::ffff:127.0.0.1]',
  'bridge.test',
  'Bridge.Test:1',
  'bridge.test.',
];
const FOREIGN_HOSTS = [
  'evil.example',
  'evil.example:4003',
  'localhost.evil.example',
  'notlocalhost',
  'evil-localhost',
  'localhost..',
  '127.0.0.1.evil.example',
  '127.0.0.1.nip.io:4003',
  // What a URL parser, but no browser, would write for 127.0.0.1.
  '127.1',
  '0x7f.0.0.1',
  '2130706433',
  '0177.0.0.1',
  '127.0.0.01',
  '%6cocalhost',
  '[evil.example]',
  '[::1',
  '[]',
  '::1',
  'sub.bridge.test',
  'bridge.test.evil.example',
  'bridge.test,localhost',
  'localhost:80:80',
  'localhost:80a',
  'xn--lcalhost-54a',
];

test('a Host is local, an IP address, or in ALLOWED_HOSTS', () => {
  const rule = createHostRule(['bridge.test']);
  assert.equal(rule(undefined), null);
  for (const host of LOCAL_HOSTS) assert.equal(rule(host), null, host);
  for (const host of FOREIGN_HOSTS) {
    const refusal = rule(host);
    assert.equal(refusal?.code, 'host_not_allowed', host);
    assert.equal(refusal.status, 421);
    assert.match(refusal.message, /ALLOWED_HOSTS/);
    assert.ok(refusal.message.includes(host), host);
  }
  assert.ok((rule('x'.repeat(10_000))?.message.length ?? 0) < 400, 'a sentence stays short');
  assert.doesNotMatch(rule('evil\u0085\u202e')?.message ?? '', /[^\x20-\x7e]/);
});

test('ALLOWED_HOSTS takes names, as browsers send them', () => {
  for (const [text, name] of [
    ['bridge.test', 'bridge.test'],
    ['Bridge.TEST.', 'bridge.test'],
    ['my_bridge', 'my_bridge'],
    ['bücher.example', 'xn--bcher-kva.example'],
    ['192.168.1.2', '192.168.1.2'],
  ]) {
    assert.equal(toHostName(text as string), name);
  }
  const others = [
    '',
    'a b',
    'a:80',
    'http://a',
    'a/b',
    'a?',
    'a#',
    'u@a',
    '*',
    '*.a',
    '[::1]',
    'a,b',
    '%61',
    '\\',
    '.',
  ];
  for (const text of others) assert.equal(toHostName(text), undefined, text);
  for (const host of ['127.0.0.1', '127.9.9.9', '::1', '[::1]', 'localhost', 'LOCALHOST']) assert.ok(isLoopback(host));
  for (const host of ['0.0.0.0', '::', '127.0.0.1.evil', '1127.0.0.1', 'a.localhost']) assert.ok(!isLoopback(host));
});

const SELF = '127.0.0.1:4003';
/** `Origin` and `Sec-Fetch-Site`; whether the page may come in with local pages listed, with CORS_ORIGINS set instead. */
const PAGES: readonly [origin: string | null, site: string | null, local: boolean, listed: boolean][] = [
  [null, null, true, true],
  [null, 'none', true, true],
  [null, 'same-origin', true, true],
  [null, 'same-site', true, true],
  [null, 'cross-site', false, false],
  [`http://${SELF}`, null, true, true],
  [`http://${SELF}`, 'same-origin', true, true],
  // The browser knows better than Host, which a page's own proxy can set.
  [`http://${SELF}`, 'cross-site', true, false],
  [`https://${SELF}`, 'same-site', true, false],
  ['http://localhost:5173', null, true, false],
  ['http://localhost:5173', 'same-site', true, false],
  ['http://localhost:5173', 'cross-site', true, false],
  // Vite's proxy: the page has the origin of the development server, whatever Host it sends on.
  ['http://localhost:5173', 'same-origin', true, true],
  ['http://dev.example:5173', 'same-origin', true, true],
  ['https://localhost', 'cross-site', true, false],
  ['http://127.0.0.1:3000', 'same-site', true, false],
  ['http://[::1]:3000', null, true, false],
  ['HTTP://LOCALHOST:3000', null, true, false],
  ['https://app.example', 'cross-site', false, true],
  ['https://app.example', null, false, true],
  ['http://app.example', null, false, false],
  ['null', 'cross-site', false, false],
  ['null', null, false, false],
  ['null', 'same-origin', true, true],
  ['', null, false, false],
  ['file://', null, false, false],
  ['http://evil.example', null, false, false],
  ['http://evil.example', 'same-site', false, false],
  ['http://evil.example', 'none', false, false],
  ['http://evil.example', 'cross-site', false, false],
  ['http://localhost.evil.example', null, false, false],
  ['http://localhost:5173.evil.example', null, false, false],
  ['http://localhost@evil.example', null, false, false],
  ['http://app.localhost:5173', null, false, false],
  ['http://127.0.0.2:5173', null, false, false],
  ['http://0.0.0.0:5173', null, false, false],
  ['http://192.168.1.20:5173', null, false, false],
  ['http://[::]:5173', null, false, false],
  ['ftp://localhost', null, false, false],
  ['chrome-extension://localhost', null, false, false],
];

test('pages of this machine count as listed until CORS_ORIGINS is set; the rest comes in by its own rule', () => {
  const ofThisMachine = createOrigins({ corsOrigins: [], localPages: true });
  const listed = createOrigins({ corsOrigins: ['https://app.example'], localPages: true });
  const strict = createOrigins({ corsOrigins: [] });
  for (const [origin, site, isLocal, isListed] of PAGES) {
    const page = pageFacts({
      host: SELF,
      ...(origin === null ? {} : { origin }),
      ...(site === null ? {} : { 'sec-fetch-site': site }),
    });
    const what = `${origin} ${site}`;
    assert.equal(ofThisMachine.refusal(page) === null, isLocal, what);
    assert.equal(listed.refusal(page) === null, isListed, what);
    assert.equal(strict.refusal(page) === null, isListed && origin !== 'https://app.example', what);
    if (origin === null || isLocal) continue;
    const sentence = ofThisMachine.refusal(page) ?? '';
    for (const part of [`Origin ${origin} `, SELF, 'CORS_ORIGINS']) assert.ok(sentence.includes(part), sentence);
  }
  assert.deepEqual([ofThisMachine.listsAny, listed.listsAny, strict.listsAny], [true, true, false]);
});

interface Ask {
  readonly method?: string;
  readonly headers?: OutgoingHttpHeaders;
  readonly body?: string;
}

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly code: string | null;
}

/** `fetch` leaves no say over Host, Origin and Upgrade. Resolves on the head of a 101 or a stream. */
function ask(url: string, path: string, { method = 'GET', headers = {}, body }: Ask = {}): Promise<Answer> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const request = httpRequest({ host: hostname, port, path, method, headers, agent: false });
    const settle = (status = 0, raw: NodeJS.Dict<string | string[]> = {}, text = ''): void => {
      const pairs = Object.entries(raw).map(([name, value]): [string, string] => [name, String(value)]);
      const code = /"code":"(\w+)"/.exec(text)?.[1] ?? null;
      resolve({ status, headers: new Headers(pairs), text, code });
      request.destroy();
    };
    request.on('upgrade', (response) => settle(response.statusCode, response.headers));
    request.on('response', (response) => {
      if (response.headers['content-type']?.startsWith('text/event-stream')) {
        return settle(response.statusCode, response.headers);
      }
      let text = '';
      response.setEncoding('utf8').on('data', (chunk) => {
        text += chunk;
      });
      response.on('close', () => settle(response.statusCode, response.headers, text));
    });
    request.on('error', reject).end(body);
  });
}

const UPGRADE = {
  connection: 'Upgrade',
  upgrade: 'websocket',
  'sec-websocket-version': '13',
  'sec-websocket-key': Buffer.alloc(16).toString('base64'),
};
const JSON_HEADERS = { 'content-type': 'application/json' };
const publishing = (): Ask => ({
  method: 'POST',
  headers: JSON_HEADERS,
  body: JSON.stringify({ event: 'tickets.updated', payload: ticketUpdated() }),
});

/** What reads, listens or changes something: closed to foreign pages. */
const CLOSED: Readonly<Record<string, readonly [path: string, ask?: Ask | undefined]>> = {
  publish: ['/events', publishing()],
  events: ['/events?tenantId=t'],
  'long poll': ['/events?tenantId=t&after=now'],
  sse: ['/sse?tenantId=t'],
  tickets: ['/tickets?tenantId=t'],
  messages: ['/tickets/1/messages?tenantId=t'],
  'erase a ticket': ['/tickets/1?tenantId=t', { method: 'DELETE' }],
  'erase a tenant': ['/tenants/t', { method: 'DELETE' }],
  pass: ['/pass', { method: 'POST' }],
  stats: ['/stats'],
  polling: ['/socket.io/?EIO=4&transport=polling'],
  websocket: ['/socket.io/?EIO=4&transport=websocket', { headers: UPGRADE }],
};
/** Pages, documents, health and the connection check: open to all pages, and to no foreign Host but the health routes. */
const OPEN = ['/', '/docs', '/openapi.json', '/asyncapi.yaml', '/console', '/check', '/check/poll', '/metrics'];

let bridge: TestBridge;
before(async () => {
  bridge = await startBridge({ allowedHosts: ['bridge.test'] });
});
after(() => bridge.close());

function withHeaders(
  [path, asked = {}]: readonly [string, (Ask | undefined)?],
  headers: OutgoingHttpHeaders,
  of = bridge,
) {
  return ask(of.url, path, { ...asked, headers: { ...asked.headers, ...headers } });
}

test('a page that rebinds its name gets 421 on every route and transport; health answers to every Host', async () => {
  const routes = [...Object.values(CLOSED), ...OPEN.map((path) => [path] as const), ['/nowhere'] as const];
  for (const route of routes) {
    for (const host of ['evil.example:4003', 'localhost.evil.example']) {
      // For the browser, a rebound page is of the bridge's own origin.
      const answer = await withHeaders(route, { host, origin: `http://${host}`, 'sec-fetch-site': 'same-origin' });
      assert.equal(answer.status, 421, `${route[0]} ${host}`);
      assert.equal(answer.code, 'host_not_allowed');
      assert.match(answer.text, /ALLOWED_HOSTS/);
      assert.ok(answer.headers.get('x-content-type-options') === 'nosniff', route[0]);
    }
    for (const host of ['localhost:1', 'app.localhost', 'BRIDGE.test.', '10.0.0.1', '[::1]']) {
      assert.notEqual((await withHeaders(route, { host })).status, 421, `${route[0]} ${host}`);
    }
  }
  for (const path of ['/healthz', '/readyz']) {
    assert.equal((await ask(bridge.url, path, { headers: { host: 'evil.example' } })).status, 200);
  }
  for (const path of ['/healthz/', '//healthz', '/%68ealthz', '/tickets/healthz', '/x/healthz']) {
    assert.equal((await ask(bridge.url, path, { headers: { host: 'evil.example' } })).status, 421, path);
  }
  const forwarded = { host: 'evil.example', 'x-forwarded-host': 'localhost', forwarded: 'host=localhost' };
  assert.equal((await ask(bridge.url, '/stats', { headers: forwarded })).status, 421);
});

test('an open session does not vouch for the next request of another Host or page', async () => {
  const opened = await ask(bridge.url, '/socket.io/?EIO=4&transport=polling');
  const { sid } = JSON.parse(opened.text.slice(1)) as { sid: string };
  const base = `/socket.io/?EIO=4&sid=${sid}&transport=`;
  for (const [headers, status] of [
    [{ host: 'evil.example' }, 421],
    [{ origin: 'http://evil.example' }, 403],
  ] as const) {
    assert.equal((await ask(bridge.url, `${base}polling`, { headers })).status, status);
    assert.equal((await ask(bridge.url, `${base}polling`, { method: 'POST', body: '40', headers })).status, status);
    assert.equal((await ask(bridge.url, `${base}websocket`, { headers: { ...UPGRADE, ...headers } })).status, status);
  }
  assert.equal((await ask(bridge.url, `${base}polling`, { method: 'POST', body: '40' })).status, 200);
});

test('the authority of an absolute target is the Host, on every route; an ambiguous one is a 400', async () => {
  for (const [name, route] of Object.entries(CLOSED)) {
    const [path, asked] = route;
    const bare = await withHeaders(route, {});
    const absolute = await withHeaders([`http://localhost:4003${path}`, asked], { host: 'evil.example' });
    assert.equal(absolute.status, bare.status, name);
    assert.equal(absolute.code, bare.code, name);
    const foreign = await withHeaders([`HTTP://evil.example${path}`, asked], { host: 'localhost' });
    assert.equal(foreign.status, 421, name);
  }
  const statusOf = async (lines: string): Promise<number | undefined> => {
    const connection = openRaw(bridge.url);
    connection.send(`${lines}\r\nConnection: close\r\n\r\n`);
    await until('there is an answer', () => connection.responses()[0]?.ended === true);
    connection.destroy();
    return connection.responses()[0]?.status;
  };
  for (const [lines, status] of [
    ['GET http://localhost HTTP/1.1\r\nHost: localhost', 302],
    ['GET http://localhost?x=1 HTTP/1.1\r\nHost: localhost', 302],
    ['GET https://127.0.0.1/healthz HTTP/1.1\r\nHost: x', 200],
    ['GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost', 200],
    ['GET http://localhost@evil.example/stats HTTP/1.1\r\nHost: localhost', 400],
    ['GET http:///stats HTTP/1.1\r\nHost: localhost', 400],
    ['GET ftp://localhost/stats HTTP/1.1\r\nHost: localhost', 400],
    ['GET /stats HTTP/1.1\r\nHost: localhost\r\nHost: evil.example', 400],
    ['GET /stats HTTP/1.1\r\nHost: evil.example\r\nhost: localhost', 400],
    ['GET /stats HTTP/1.1\r\nHost: localhost@evil.example', 400],
    ['GET /stats HTTP/1.1\r\nHost: localhost/evil', 400],
    ['GET /stats HTTP/1.1\r\nHost: evil.example#localhost', 400],
    ['GET /stats HTTP/1.0', 200],
    ['GET /stats HTTP/1.1\r\nHost:', 200],
    ['GET /stats HTTP/1.1\r\nHost:   evil.example  ', 421],
    ['GET /stats HTTP/1.1\r\nhOsT:localhost:80', 200],
    ['OPTIONS * HTTP/1.1\r\nHost: evil.example', 421],
  ] as const) {
    assert.equal(await statusOf(lines), status, lines);
  }
});

test('with tokens, or on another address, every Host is served', async () => {
  for (const options of [
    { authMode: 'jwt', jwtSecret: SECRET },
    { authMode: 'none', host: '0.0.0.0' },
  ] as const) {
    const other = await startBridge(options);
    try {
      const { port } = new URL(other.url);
      const { status } = await ask(`http://127.0.0.1:${port}`, '/docs', { headers: { host: 'bridge.example' } });
      assert.equal(status, 200);
    } finally {
      await other.close();
    }
  }
});

test('a page of another site publishes, reads, listens and erases nothing; pages and documents stay open', async () => {
  const listing = await startBridge({ corsOrigins: ['https://app.example'] });
  try {
    for (const [name, route] of Object.entries(CLOSED)) {
      for (const headers of [
        { origin: 'http://evil.example' },
        { origin: 'null', 'sec-fetch-site': 'cross-site' },
        { origin: 'http://evil.example', 'sec-fetch-site': 'same-site' },
        { 'sec-fetch-site': 'cross-site' },
      ]) {
        const answer = await withHeaders(route, headers);
        assert.equal(answer.status, 403, `${name} ${JSON.stringify(headers)}`);
        assert.equal(answer.code, 'forbidden');
        assert.match(answer.text, /CORS_ORIGINS/);
        assert.equal(answer.headers.get('access-control-allow-origin'), null);
      }
      const local = { origin: 'http://localhost:5173', 'sec-fetch-site': 'same-site' };
      const ok = await withHeaders(route, local);
      assert.ok(ok.status < 300, `${name}: ${ok.status}`);
      assert.ok(ok.status === 101 || ok.headers.get('access-control-allow-origin') === local.origin, name);
      assert.ok(ok.status === 101 || ok.headers.get('access-control-allow-credentials') === 'true', name);
      // With CORS_ORIGINS, its origins come in and local pages no longer do.
      assert.equal((await withHeaders(route, local, listing)).status, 403, name);
      const app = { origin: 'https://app.example', 'sec-fetch-site': 'cross-site' };
      assert.ok((await withHeaders(route, app, listing)).status < 300, name);
      for (const headers of [{}, { 'sec-fetch-site': 'none' }, { 'sec-fetch-site': 'same-site' }]) {
        assert.ok((await withHeaders(route, headers, listing)).status < 300, `${name} ${JSON.stringify(headers)}`);
      }
    }
    for (const path of [...OPEN, '/healthz']) {
      const { status, headers } = await ask(bridge.url, path, { headers: { 'sec-fetch-site': 'cross-site' } });
      assert.ok(status < 400, path);
      assert.equal(headers.get('cross-origin-resource-policy'), 'same-origin', path);
    }
  } finally {
    await listing.close();
  }
});

test('a fixed route has one spelling; a parameter still decodes', async () => {
  const spellings = [
    ...[
      '/%6detrics',
      '/metric%73',
      '/%6D%65trics',
      '/METRICS',
      '/metrics/',
      '//metrics',
      '/./metrics',
      '/x/../metrics',
    ],
    ...['/%2fmetrics', '/metrics%2f', '/metrics%3f', '/metrics;x', '/%2e/metrics', '/x/%2e%2e/metrics', '/metrics%00'],
    ...['/docs/../metrics', '/.%2fmetrics', '/%25%36%64etrics'],
  ];
  const based = await startBridge({ basePath: '/rt', socketPath: '/rt/ws' });
  try {
    for (const path of spellings) assert.equal((await ask(bridge.url, path)).status, 404, path);
    for (const path of spellings) assert.equal((await ask(based.url, `/rt${path}`)).status, 404, path);
    for (const path of ['/%72t/metrics', '/RT/metrics', '//rt/metrics', '/metrics', '/x/../rt/metrics']) {
      assert.equal((await ask(based.url, path)).status, 404, path);
    }
    assert.equal((await ask(based.url, '/rt/metrics')).status, 200);
    const engine = '?EIO=4&transport=polling';
    assert.equal((await ask(based.url, `/rt/ws/${engine}`)).status, 200);
    for (const path of ['/rt/%77s/', '/rt/WS/', '/rt//ws/', '/rt/./ws/', '/socket.io/']) {
      assert.equal((await ask(based.url, path + engine)).status, 404, path);
    }
    for (const path of ['/%65vents?tenantId=t', '/tickets/1/%6dessages?tenantId=t', '/%74ickets/1?tenantId=t']) {
      assert.equal((await ask(bridge.url, path)).status, 404, path);
    }
    for (const ticketId of ['a/b?c#d', '100%', 'é:😀', '..', '.', 'a%2Fb', '%61']) {
      await bridge.post({ event: 'tickets.updated', payload: ticketUpdated({ tenantId: 'paths', ticketId }) });
      const path =
        ticketId === '..' || ticketId === '.' ? ticketId.replaceAll('.', '%2E') : encodeURIComponent(ticketId);
      const { status, text } = await ask(bridge.url, `/tickets/${path}?tenantId=paths`);
      assert.equal(status, 200, ticketId);
      assert.equal((JSON.parse(text) as { ticketId: string }).ticketId, ticketId);
    }
  } finally {
    await based.close();
  }
});

test('with tokens, metrics take METRICS_TOKEN, or a token for them and all tenants', async () => {
  const of = await startBridge({ authMode: 'jwt', jwtSecret: SECRET, metricsToken: 's3cret/scraper+token==' });
  try {
    const scrape = (authorization?: string) =>
      ask(of.url, '/metrics', { headers: authorization === undefined ? {} : { authorization } });
    for (const authorization of [
      'Bearer s3cret/scraper+token==',
      'bearer s3cret/scraper+token==',
      `Bearer ${await sign({ tenantId: '*', scope: 'metrics' })}`,
      `Bearer ${await sign({ tenantId: '*', scope: 'publish admin' })}`,
    ]) {
      assert.equal((await scrape(authorization)).status, 200, authorization);
    }
    for (const authorization of [
      undefined,
      'Bearer s3cret/scraper+token=',
      'Bearer S3cret/scraper+token==',
      'Bearer s3cret/scraper+token== x',
      'Basic s3cret/scraper+token==',
      `Bearer ${await sign({ tenantId: '*', scope: 'metrics', exp: 1 })}`,
    ]) {
      const { status, text, headers } = await scrape(authorization);
      assert.equal(status, 401, authorization);
      assert.match(text, /METRICS_TOKEN.*METRICS_PORT/);
      assert.equal(headers.get('www-authenticate'), 'Bearer');
      assert.ok(!text.includes('s3cret'));
    }
    for (const claims of [
      { tenantId: 't', scope: 'metrics' },
      { tenantId: 't', scope: 'admin' },
      { tenantId: '*', scope: 'publish subscribe' },
      { scope: 'metrics' },
      { tenantId: '*', scope: 'metrics', ticketIds: ['1'] },
    ]) {
      const { status, text } = await scrape(`Bearer ${await sign(claims)}`);
      assert.equal(status, 403, JSON.stringify(claims));
      assert.match(text, /scope metrics/);
    }
    // It opens nothing else.
    for (const path of ['/events?tenantId=t', '/stats', '/tickets?tenantId=t']) {
      const headers = { authorization: 'Bearer s3cret/scraper+token==' };
      assert.equal((await ask(of.url, path, { headers })).status, 401, path);
      const scraper = { authorization: `Bearer ${await sign({ tenantId: '*', scope: 'metrics' })}` };
      assert.equal((await ask(of.url, path, { headers: scraper })).status, 403, path);
    }
    for (const path of ['/metrics?access_token=s3cret%2Fscraper%2Btoken%3D%3D', '/metrics?pass=s3cret']) {
      assert.equal((await ask(of.url, path)).status, 401, path);
    }
  } finally {
    await of.close();
  }
});

test('without tokens, metrics are open unless METRICS_TOKEN is set', async () => {
  const of = await startBridge({ metricsToken: 'scraper' });
  try {
    assert.equal((await ask(bridge.url, '/metrics')).status, 200);
    const refused = await ask(of.url, '/metrics');
    assert.equal(refused.status, 401);
    assert.match(refused.text, /METRICS_TOKEN.*METRICS_PORT/);
    assert.equal((await ask(of.url, '/metrics', { headers: { authorization: 'Bearer scraper' } })).status, 200);
    assert.equal((await ask(of.url, '/stats')).status, 200);
  } finally {
    await of.close();
  }
});

test('METRICS_PORT serves metrics alone, without a token, to local names, and closes with the bridge', async () => {
  const of = await startBridge({
    authMode: 'jwt',
    jwtSecret: SECRET,
    metricsPort: 0,
    basePath: '/rt',
    corsOrigins: ['https://app.example'],
  });
  const url = of.metricsUrl as string;
  try {
    const { pathname, port } = new URL(url);
    assert.equal(pathname, '/metrics');
    assert.notEqual(port, new URL(of.url).port);
    for (const path of ['/metrics', '/rt/metrics']) {
      const { status, text, headers } = await ask(url, path, { headers: { origin: 'https://app.example' } });
      assert.equal(status, 200);
      assert.match(text, /^ws_emit_total|^# HELP/m);
      assert.equal(headers.get('access-control-allow-origin'), null);
      assert.equal(headers.get('x-content-type-options'), 'nosniff');
    }
    for (const path of [
      '/',
      '/healthz',
      '/rt/stats',
      '/rt/events?tenantId=t',
      '/%6detrics',
      '//metrics',
      '/socket.io/',
    ]) {
      assert.equal((await ask(url, path)).status, 404, path);
    }
    assert.equal((await ask(url, '/metrics', { method: 'POST' })).status, 405);
    assert.equal((await ask(url, '/metrics', { method: 'HEAD' })).status, 200);
    assert.equal((await ask(url, '/socket.io/?EIO=4&transport=websocket', { headers: UPGRADE })).status, 404);
    for (const host of ['evil.example', 'localhost.evil.example']) {
      assert.equal((await ask(url, '/metrics', { headers: { host } })).status, 421, host);
      assert.equal((await ask(url, `http://${host}/metrics`)).status, 421, host);
    }
    assert.equal((await ask(url, '/metrics', { headers: { host: 'app.localhost' } })).status, 200);
  } finally {
    await of.close();
  }
  await assert.rejects(ask(url, '/metrics'), /ECONNREFUSED/);
});

test('the log says where metrics are, and why a Host or a page was refused, once a second', async (t) => {
  const server = await startServer({ STORE_URL: 'sqlite::memory:', METRICS_PORT: '0' });
  t.after(() => server.end('SIGKILL'));
  let output = '';
  server.process.stdout?.on('data', (chunk) => {
    output += chunk;
  });
  const foreign = { origin: 'http://dev.example:5173', host: '127.0.0.1:4003' };
  for (let n = 0; n < 20; n++) {
    assert.equal((await ask(server.url, '/events?tenantId=t', { headers: foreign })).status, 403);
    assert.equal((await ask(server.url, '/events?tenantId=t', { headers: { host: 'bridge.lan' } })).status, 421);
  }
  await until('both are logged', () => /bridge\.lan[^\n]*ALLOWED_HOSTS/.test(output) && /dev\.example/.test(output));
  assert.match(output, /Origin http:\/\/dev\.example:5173 [^\n]*Host 127\.0\.0\.1:4003[^\n]*CORS_ORIGINS/);
  assert.ok(output.split('\n').length < 20, 'not a line for each');
});

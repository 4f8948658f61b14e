/**
 * The server's side of the connection check (open to anyone, bounded, free of anyone's data), and the verdict on a result.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, request } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { type TestContext, test } from 'node:test';
import { Server } from 'socket.io';
import { io, type Socket } from 'socket.io-client';
import { reportText } from '../../src/check/report.ts';
import type { CheckResult, Greeting, Handshake, QuietPeriod, TickDelivery } from '../../src/check/result.ts';
import { quietSecondsFor } from '../../src/check/run.ts';
import { causeText, LANGUAGES, TEXTS, verdictText } from '../../src/check/texts.ts';
import { verdictOf } from '../../src/check/verdict.ts';
import type { Config } from '../../src/config.ts';
import { TRANSPORTS } from '../../src/contract/names.ts';
import { createCheckArrivals } from '../../src/transports/check-arrivals.ts';
import { openCheckNamespace } from '../../src/transports/socketio/check.ts';
import { messageNew, metric, startBridge, type TestBridge } from '../support/bridge.ts';
import { until } from '../support/until.ts';

const JWT = { authMode: 'jwt', jwtSecret: 'a secret of thirty-two bytes or more' } as const;

async function start(t: TestContext, options: Partial<Config> = {}): Promise<TestBridge> {
  const bridge = await startBridge(options);
  t.after(() => bridge.close());
  return bridge;
}

function open(t: TestContext, url: string, options: object = {}): Socket {
  const socket = io(`${new URL(url).origin}/check`, { forceNew: true, reconnection: false, ...options });
  t.after(() => socket.disconnect());
  return socket;
}

async function connected(t: TestContext, url: string, options: object = {}): Promise<Socket> {
  const socket = open(t, url, options);
  await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('connect_error', reject));
  return socket;
}

/** The first argument of the next event of this name. */
function next(socket: Socket, name: string): Promise<{ readonly data?: { readonly code?: string } }> {
  return new Promise((resolve) => socket.once(name as 'connect_error', resolve as never));
}

/** The names of a stream's events. */
function eventsOf(text: string): string[] {
  return [...text.matchAll(/^event: (\S+)$/gm)].map(([, name]) => name as string);
}

test('in jwt mode the stream ticks without a token, with the headers of /sse, and ends by itself', async (t) => {
  const bridge = await start(t, { ...JWT, heartbeatMs: 100, basePath: '/rt' });
  const response = await fetch(`${bridge.url}/check/stream?ticks=3&every=50&hold=1&padding=100`);
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('content-type'), 'text/event-stream; charset=utf-8');
  assert.equal(response.headers.get('cache-control'), 'no-store, no-transform');
  assert.equal(response.headers.get('x-accel-buffering'), 'no');
  const text = await response.text();
  assert.ok(text.startsWith(`:${' '.repeat(100)}\nretry: `));
  const names = eventsOf(text);
  assert.equal(names.filter((name) => name === 'check.tick').length, 4);
  assert.ok(names.filter((name) => name === 'check.heartbeat').length > 1);
  assert.deepEqual(
    [...text.matchAll(/"n":(\d)/g)].map(([, n]) => n),
    ['0', '1', '2', '3'],
  );
  assert.doesNotMatch(text, /^id:/m, 'no cursor');
});

test('quiet connections are watched for longer than the longest quiet of any transport', () => {
  assert.equal(quietSecondsFor({ heartbeatMs: 15_000, pingMs: 25_000 }), 28);
  assert.equal(quietSecondsFor({ heartbeatMs: 100, pingMs: 5_000 }), 28, 'a long poll lasts 25 s');
  assert.equal(quietSecondsFor({ heartbeatMs: 15_000, pingMs: 50_000 }), 53);
  assert.equal(quietSecondsFor({ heartbeatMs: 600_000, pingMs: 25_000 }), 65);
});

test('a stream without heartbeats is silent between its ticks', async (t) => {
  const bridge = await start(t, { heartbeatMs: 50 });
  const text = await (await fetch(`${bridge.url}/check/stream?ticks=1&hold=1&heartbeats=false`)).text();
  assert.deepEqual(eventsOf(text), ['check.tick', 'check.tick']);
});

test('the poll reveals the server’s clock and what a check needs, and no more', async (t) => {
  const bridge = await start(t, { ...JWT, socketPath: '/live', heartbeatMs: 1234, pingMs: 5678 });
  const beforeMs = Date.now();
  const response = await fetch(`${bridge.url}/check/poll?wait=1`, { headers: { via: '1.1 secret-name' } });
  const { timeMs, node, ...facts } = (await response.json()) as { timeMs: number; node: string };
  assert.match(node, /^[\w-]{8}$/);
  assert.ok(timeMs >= beforeMs + 1000 && timeMs <= Date.now());
  assert.deepEqual(facts, {
    roomcast: 'check',
    ready: true,
    heartbeatMs: 1234,
    pingMs: 5678,
    socketPath: '/live',
    httpVersion: '1.1',
    proxyHeaders: ['via'],
  });
});

test('the poll says how a check’s websocket handshake arrived, and forgets it in time', async (t) => {
  const bridge = await start(t);
  const { hostname, port } = new URL(bridge.url);
  const ask = async (id: string): Promise<unknown> => {
    const response = await fetch(`${bridge.url}/check/poll?id=${id}`);
    return ((await response.json()) as { websocket: unknown }).websocket;
  };
  async function handshake(id: string, version: string, ...headers: readonly string[]): Promise<void> {
    const socket = connect(Number(port), hostname);
    const path = `/socket.io/?EIO=4&transport=websocket&check=${id}`;
    socket.write([`GET ${path} HTTP/${version}`, 'Host: localhost', ...headers, '', ''].join('\r\n'));
    await once(socket, 'data');
    socket.destroy();
  }
  assert.equal(await ask('no-such-check'), null);
  await handshake('check-one', '1.0', 'Connection: close');
  assert.deepEqual(await ask('check-one'), { httpVersion: '1.0', hasUpgrade: false, hasConnection: false });
  await handshake('check-two', '1.1', 'Connection: close', 'Upgrade: websocket');
  assert.deepEqual(await ask('check-two'), { httpVersion: '1.1', hasUpgrade: true, hasConnection: false });
  const socket = await connected(t, bridge.url, { transports: ['websocket'], query: { check: 'check-ok' } });
  assert.deepEqual(await ask('check-ok'), { httpVersion: '1.1', hasUpgrade: true, hasConnection: true });
  socket.disconnect();
  await handshake('short', '1.1');
  assert.equal(await ask('short'), null, 'no id of a check');

  const arrivals = createCheckArrivals();
  for (let n = 0; n <= 1000; n++) arrivals.note(`check-${n}-of-many`, { httpVersion: '1.1', headers: {} });
  assert.equal(arrivals.find('check-0-of-many'), null);
  assert.notEqual(arrivals.find('check-1-of-many'), null);
});

test('values out of range get a 400 that names them; other methods get a 405', async (t) => {
  const bridge = await start(t);
  for (const query of [
    'stream?ticks=0',
    'stream?ticks=21',
    'stream?every=49',
    'stream?every=1001',
    'stream?padding=8193',
    'stream?hold=121',
    'stream?hold=-1',
    'stream?heartbeats=maybe',
    'stream?ticks=1e1',
    'stream?ticks=2&ticks=3',
    'poll?wait=26',
    'poll?wait=%00',
    'poll?wait=1.5',
  ]) {
    const response = await fetch(`${bridge.url}/check/${query}`);
    assert.equal(response.status, 400, query);
    assert.equal(response.headers.get('content-type'), 'application/problem+json');
    const { code, errors } = (await response.json()) as { code: string; errors: { path: string }[] };
    assert.equal(code, 'invalid_request');
    assert.equal(errors[0]?.path, /\?(\w+)=/.exec(query)?.[1]);
  }
  for (const path of ['/check/stream', '/check/poll']) {
    assert.equal((await fetch(bridge.url + path, { method: 'POST', body: 'x' })).status, 405);
    const head = await fetch(`${bridge.url}${path}`, { method: 'HEAD' });
    assert.equal(head.status, 200);
    assert.equal(await head.text(), '');
  }
});

test('checks count as connections until they end or the client leaves', async (t) => {
  const bridge = await start(t, { maxConnections: 2 });
  const leaving = new AbortController();
  const held = await Promise.all(
    [1, 2].map(() => fetch(`${bridge.url}/check/stream?hold=100`, { signal: leaving.signal })),
  );
  assert.deepEqual(
    held.map(({ status }) => status),
    [200, 200],
  );
  assert.equal(await metric(bridge, 'roomcast_connections{transport="sse"}'), 2);
  for (const path of ['/check/stream', '/check/poll?wait=1', '/sse?tenantId=t']) {
    const refused = await fetch(bridge.url + path);
    assert.equal(refused.status, 503, path);
    assert.equal(((await refused.json()) as { code: string }).code, 'too_many_connections');
  }
  assert.equal((await fetch(`${bridge.url}/check/poll`)).status, 200, 'a plain request is none');
  leaving.abort();
  await until('counted out', async () => (await metric(bridge, 'roomcast_connections{transport="sse"}')) === 0);
  assert.equal((await fetch(`${bridge.url}/check/stream?ticks=1`)).status, 200);
});

test('checks leave most connections to listeners', async (t) => {
  const bridge = await start(t, { maxConnections: 40 });
  const leaving = new AbortController();
  t.after(() => leaving.abort());
  const ask = () => fetch(`${bridge.url}/check/stream?hold=100`, { signal: leaving.signal });
  const answers = await Promise.all(Array.from({ length: 12 }, ask));
  assert.equal(answers.filter(({ status }) => status === 200).length, 10);
  const socket = open(t, bridge.url, { transports: ['websocket'] });
  const error = await next(socket, 'connect_error');
  assert.equal(error.data?.code, 'too_many_connections');
  await until('its connection ends', async () => {
    return (await metric(bridge, 'roomcast_connections{transport="websocket"}')) === 0;
  });
  assert.equal((await fetch(`${bridge.url}/sse?tenantId=t`, { signal: leaving.signal })).status, 200);
});

for (const transport of ['websocket', 'polling']) {
  test(`the namespace /check, by ${transport}: ticks and echoes for anyone, no room, no event, no session`, async (t) => {
    const bridge = await start(t, { ...JWT, recoverySeconds: 60 });
    const socket = await connected(t, bridge.url, { transports: [transport], auth: { token: 'nonsense' } });
    const heard: unknown[][] = [];
    socket.onAny((...args) => heard.push(args));
    for (const verb of ['join-tenant', 'join-ticket', 'join-user', 'leave-tenant', 'subscribe']) {
      assert.equal((await socket.emitWithAck(verb, 'tenant-1')).code, 'unknown_event');
    }
    await bridge.publish('messages.new', messageNew());
    assert.deepEqual(await socket.emitWithAck('check.start', { ticks: 2, every: 50 }), { ok: true });
    await until('ticks', () => heard.length === 2);
    assert.deepEqual(await socket.emitWithAck('check.echo', 'é'), { ok: true, text: 'é' });
    assert.deepEqual(
      heard.map(([name, tick]) => [name, (tick as { n: number }).n]),
      [
        ['check.tick', 0],
        ['check.tick', 1],
      ],
    );
    for (const args of heard) assert.equal(typeof args.at(-1), 'object', 'nothing that looks like an offset');
    for (const options of [{ ticks: 0 }, { ticks: 21 }, { every: 1 }, { ticks: '5' }, null, 7, [], 'x']) {
      const { ok, code } = await socket.emitWithAck('check.start', options);
      assert.deepEqual([ok, code], [false, 'invalid_request'], JSON.stringify(options));
    }
    for (const text of ['x'.repeat(1025), 5, { a: 1 }, Buffer.from('x')]) {
      assert.equal((await socket.emitWithAck('check.echo', text)).code, 'body_too_large');
    }
    // A client cannot recover a session here, even with a session id and an offset.
    const again = await connected(t, bridge.url, {
      transports: [transport],
      auth: { pid: Reflect.get(socket, '_pid'), offset: 'x' },
    });
    assert.equal(again.recovered, false);
  });
}

test('a client that sends endlessly, or joins and leaves endlessly, is cut', async (t) => {
  const bridge = await start(t);
  const chatty = await connected(t, bridge.url, { transports: ['websocket'] });
  const ended = next(chatty, 'disconnect');
  for (let n = 0; n < 60; n++) chatty.emit('anything', n);
  await ended;

  const restless = await connected(t, bridge.url, { transports: ['websocket'] });
  let connects = 0;
  const cut = new Promise<void>((resolve) => restless.io.once('close', () => resolve()));
  restless.on('connect', () => {
    connects++;
    restless.io.engine.write('41/check,');
    restless.io.engine.write('40/check,');
  });
  restless.io.engine.write('41/check,');
  restless.io.engine.write('40/check,');
  await cut;
  assert.ok(connects < 60, String(connects));
});

test('a connection that was used for a check ends after its time, even if it left the namespace', async (t) => {
  const server = createServer();
  const namespaces = new Server(server);
  let held = 0;
  const share = () => {
    held++;
    return () => void held--;
  };
  openCheckNamespace(namespaces, { admitOpen: share, admit: async () => share() }, 300);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => namespaces.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const [staying, leaving] = await Promise.all([connected(t, url), connected(t, url)]);
  assert.equal(held, 2);
  const cuts = [staying, leaving].map((socket) => new Promise((resolve) => socket.io.once('close', resolve)));
  leaving.io.engine.write('41/check,');
  await Promise.all(cuts);
  await until('counted out', () => held === 0);
});

test('a stock client that shares its connection with a check is still recovered', async (t) => {
  const bridge = await start(t, { recoverySeconds: 60 });
  const main = io(bridge.url, { forceNew: true, transports: ['websocket'], reconnectionDelay: 10 });
  t.after(() => main.disconnect());
  await next(main, 'connect');
  await main.emitWithAck('join-tenant', 'tenant-1');
  const check = main.io.socket('/check').connect();
  t.after(() => check.disconnect());
  await next(check, 'connect');
  const heard: string[] = [];
  main.on('messages.new', (_payload, cursor) => heard.push(cursor));
  const { id: first } = await bridge.publish('messages.new', messageNew());
  await until('heard', () => heard.length === 1);
  main.io.engine.close();
  const { id: second } = await bridge.publish('messages.new', messageNew());
  await until('heard what was missed', () => heard.length === 2);
  assert.equal(main.recovered, true);
  assert.deepEqual(heard, [first, second]);
});

test('a drain ends streams, polls and sockets', async () => {
  const bridge = await startBridge({ drainMs: 30_000 });
  const stream = fetch(`${bridge.url}/check/stream?hold=100`).then((response) => response.text());
  const poll = fetch(`${bridge.url}/check/poll?wait=25`).then((response) => response.json());
  const sockets = ['websocket', 'polling'].map((transport) =>
    io(`${bridge.url}/check`, { transports: [transport], forceNew: true, reconnection: false }),
  );
  await Promise.all(sockets.map((socket) => next(socket, 'connect')));
  await until('all are there', async () => {
    const kinds = ['sse', 'longpoll', 'websocket', 'polling'];
    const counts = await Promise.all(kinds.map((kind) => metric(bridge, `roomcast_connections{transport="${kind}"}`)));
    return counts.every((count) => count === 1);
  });
  const ended = Promise.all(sockets.map((socket) => next(socket, 'disconnect')));
  await bridge.close();
  await stream;
  assert.equal(((await poll) as { ready: boolean }).ready, false);
  await ended;
});

test('only a listed origin may read the check’s answers', async (t) => {
  const bridge = await start(t, { corsOrigins: ['https://app.example'] });
  const allowed = async (origin: string) =>
    (await fetch(`${bridge.url}/check/poll`, { headers: { origin } })).headers.get('access-control-allow-origin');
  assert.equal(await allowed('https://app.example'), 'https://app.example');
  assert.equal(await allowed('https://other.example'), null);
});

test('over HTTP/1.0 the stream is unchunked and ends with the connection', async (t) => {
  const bridge = await start(t);
  const { hostname, port } = new URL(bridge.url);
  const socket = connect(Number(port), hostname);
  socket.write('GET /check/stream?ticks=2&every=50 HTTP/1.0\r\n\r\n');
  let text = '';
  for await (const piece of socket) text += piece;
  assert.doesNotMatch(text, /transfer-encoding/i);
  assert.equal(eventsOf(text).length, 2);
});

test('a client that reads nothing counts no longer than its check lasts', async (t) => {
  const bridge = await start(t);
  const asking = request(`${bridge.url}/check/stream?ticks=1&padding=8192`).end();
  const [response] = await once(asking, 'response');
  t.after(() => response.destroy());
  await until('counted out', async () => (await metric(bridge, 'roomcast_connections{transport="sse"}')) === 0);
});

// The verdict.

const PASSES: TickDelivery = {
  connectMs: 10,
  ticks: [0, 300, 600, 900, 1200].map((sentMs) => ({ sentMs, arrivedMs: sentMs + 20 })),
  expected: 5,
  fault: null,
};
const HELD: TickDelivery = { ...PASSES, ticks: PASSES.ticks.map(({ sentMs }) => ({ sentMs, arrivedMs: 1230 })) };
const LATE: TickDelivery = {
  ...PASSES,
  ticks: PASSES.ticks.map(({ sentMs }) => ({ sentMs, arrivedMs: sentMs === 600 ? 2000 : sentMs + 20 })),
};
const failed = (kind: 'blocked' | 'silent' | 'timeout' | 'busy', connectMs: number | null = null): TickDelivery => ({
  connectMs,
  ticks: [],
  expected: 5,
  fault: { kind, detail: '' },
});
const STOPS: TickDelivery = { ...PASSES, ticks: PASSES.ticks.slice(0, 1), fault: { kind: 'timeout', detail: '' } };
const STAYS: QuietPeriod = { watchedMs: 28_000, cutMs: null, isDead: false };
const CUT: QuietPeriod = { ...STAYS, cutMs: 10_040 };
const GREETING = {
  roundTripMs: 10,
  skewMs: 5,
  skewErrorMs: 5,
  heartbeatMs: 15_000,
  pingMs: 25_000,
  socketPath: '/socket.io',
  isReady: true,
  httpVersion: '1.1',
  proxyHeaders: [],
  via: null,
  server: null,
  protocol: 'http/1.1',
  nodes: 1,
};
const FINE = { frames: PASSES, quiet: STAYS, isOver: true };
const GOOD: CheckResult = {
  greeting: GREETING,
  fault: null,
  quietMs: 28_000,
  websocket: { ...FINE, handshake: null },
  polling: FINE,
  sse: { ...FINE, encoding: null, padded: null, silent: STAYS },
  longpoll: FINE,
};
const trial = (frames: TickDelivery, quiet: QuietPeriod | null = null) => ({
  frames,
  quiet,
  isOver: true,
  handshake: null,
  encoding: null,
  padded: null,
  silent: null,
});

for (const [name, result, code, level, transport] of [
  ['all is well', GOOD, 'good', 'good', 'websocket'],
  ['websocket refused', { ...GOOD, websocket: trial(failed('blocked')) }, 'websocketBlocked', 'fair', 'sse'],
  ['websocket swallowed', { ...GOOD, websocket: trial(failed('silent', 9)) }, 'websocketSilent', 'fair', 'sse'],
  [
    'websocket refused, stream held',
    { ...GOOD, websocket: trial(failed('blocked')), sse: trial(HELD) },
    'onlyPoll',
    'fair',
    'poll',
  ],
  [
    'short requests only',
    { ...GOOD, websocket: trial(failed('blocked')), sse: trial(HELD), longpoll: trial(STOPS) },
    'onlyShort',
    'fair',
    'poll',
  ],
  ['stream held', { ...GOOD, sse: trial(HELD) }, 'fallbackFails', 'fair', 'websocket'],
  ['a frame comes late', { ...GOOD, websocket: trial(LATE, STAYS) }, 'late', 'fair', 'websocket'],
  ['cut when idle', { ...GOOD, websocket: { ...FINE, handshake: null, quiet: CUT } }, 'cut', 'fair', 'websocket'],
  [
    'gone dead when idle',
    { ...GOOD, polling: { ...FINE, quiet: { ...STAYS, isDead: true } } },
    'cut',
    'fair',
    'websocket',
  ],
  ['cut when silent only', { ...GOOD, sse: { ...GOOD.sse, silent: CUT } }, 'good', 'good', 'websocket'],
  ['a wrong clock', { ...GOOD, greeting: { ...GREETING, skewMs: -600_000 } }, 'clock', 'fair', 'websocket'],
  [
    'a slow way is no wrong clock',
    { ...GOOD, greeting: { ...GREETING, skewMs: 70_000, skewErrorMs: 20_000 } },
    'good',
    'good',
    'websocket',
  ],
  ['the log takes no events', { ...GOOD, greeting: { ...GREETING, isReady: false } }, 'notReady', 'fair', 'websocket'],
  [
    'the server is full',
    { ...GOOD, websocket: trial(failed('blocked')), sse: trial(failed('busy')), longpoll: trial(failed('busy')) },
    'busy',
    'bad',
    null,
  ],
  [
    'nothing gets through',
    {
      ...GOOD,
      websocket: trial(failed('timeout')),
      polling: trial(failed('timeout')),
      sse: trial(failed('timeout')),
      longpoll: trial(failed('timeout')),
    },
    'nothing',
    'bad',
    null,
  ],
  ['nobody there', { ...GOOD, greeting: null, fault: { kind: 'refused', detail: '' } }, 'refused', 'bad', null],
] as readonly [string, CheckResult, string, string, string | null][]) {
  test(`the verdict: ${name}`, () => {
    const verdict = verdictOf(result, 'https://bridge.example');
    assert.deepEqual([verdict.code, verdict.level, verdict.transport], [code, level, transport]);
    for (const language of LANGUAGES) assert.doesNotMatch(verdictText(verdict, language), /[{}]|\(\)/);
    if (level !== 'good') assert.ok(verdict.advice.length > 0 || code === 'late', 'what to do');
  });
}

const DROPPED = { kind: 'arrived', httpVersion: '1.0', hasUpgrade: false, hasConnection: false } as const;
const TINYPROXY = '1.1 vm (tinyproxy/1.11.1)';
for (const [name, greeting, handshake, cause, proxies] of [
  ['an upgrade that nginx dropped', { httpVersion: '1.0', server: 'nginx' }, DROPPED, 'upgradeDropped', ['nginx']],
  ['by HTTP/1.0 alone', { httpVersion: '1.0' }, DROPPED, 'upgradeDropped', ['nginx']],
  ['by an unknown proxy', {}, { ...DROPPED, httpVersion: '1.1' }, 'upgradeDropped', ['nginx', 'apache']],
  ['by Apache', { proxyHeaders: ['x-forwarded-server'] }, DROPPED, 'upgradeDropped', ['apache']],
  ['by Traefik', { proxyHeaders: ['x-forwarded-server', 'x-real-ip'] }, DROPPED, 'upgradeDropped', []],
  ['by Caddy', { via: '1.1 Caddy' }, DROPPED, 'upgradeDropped', []],
  ['only Connection is lost', {}, { ...DROPPED, hasUpgrade: true }, 'upgradeDropped', ['nginx', 'apache']],
  ['by the reader’s network', { httpVersion: '1.0', via: TINYPROXY }, DROPPED, 'upgradeDroppedOnTheWay', []],
  [
    'nginx behind the reader’s proxy',
    { httpVersion: '1.0', server: 'nginx', via: TINYPROXY },
    DROPPED,
    'upgradeDropped',
    ['nginx'],
  ],
  ['a handshake that never arrives', { protocol: 'h2' }, { kind: 'absent' }, 'upgradeStopped', []],
  ['a handshake of which nothing is known', {}, null, undefined, []],
  ['a whole handshake', {}, { ...DROPPED, hasUpgrade: true, hasConnection: true }, undefined, []],
] as readonly [string, Partial<Greeting>, Handshake | null, string | undefined, string[]][]) {
  test(`the cause: ${name}`, () => {
    const websocket = { ...trial(failed('blocked')), handshake };
    const { causes, advice, notes } = verdictOf(
      { ...GOOD, greeting: { ...GREETING, ...greeting }, websocket },
      'https://bridge.example',
    );
    assert.deepEqual([causes[0]?.code, causes[0]?.remedies.map(({ proxy }) => proxy) ?? []], [cause, proxies]);
    assert.equal(
      advice.some(({ code }) => code === 'allowWebsocket'),
      cause !== 'upgradeDropped',
      'the network’s administrator is asked only if the fault may be theirs',
    );
    assert.equal(
      notes.some(({ code }) => code === 'http2'),
      cause === 'upgradeStopped',
    );
    for (const language of LANGUAGES) {
      for (const one of causes) assert.doesNotMatch(causeText(one, language), /[{}]/);
    }
  });
}

test('the transport that is used never has a row that failed', () => {
  const websocket = trial(failed('blocked'));
  const used = (longpoll: TickDelivery) => {
    const { transports } = verdictOf(
      { ...GOOD, websocket, sse: trial(HELD), longpoll: trial(longpoll) },
      'http://here',
    );
    return transports.find(({ transport }) => transport === 'longpoll');
  };
  assert.deepEqual([used(STOPS)?.outcome, used(STOPS)?.level], ['stops', 'fair']);
  assert.deepEqual([used(HELD)?.outcome, used(HELD)?.level], ['late', 'fair']);
});

test('a cut of a connection without heartbeats is noted with the heartbeat that prevents it', () => {
  const { notes } = verdictOf({ ...GOOD, sse: { ...GOOD.sse, silent: CUT } }, 'https://bridge.example');
  assert.deepEqual(notes, [{ code: 'silentCut', values: { seconds: 10, heartbeat: 15 } }]);
});

test('a wrong clock does not change how ticks are judged', () => {
  const shifted = PASSES.ticks.map(({ sentMs, arrivedMs }) => ({ sentMs: sentMs + 5e9, arrivedMs }));
  const verdict = verdictOf({ ...GOOD, sse: trial({ ...PASSES, ticks: shifted }, STAYS) }, 'https://bridge.example');
  assert.equal(verdict.code, 'good');
});

test('each language writes fractions of seconds in its own way', () => {
  const quiet = { ...CUT, cutMs: 4_800 };
  const verdict = verdictOf({ ...GOOD, websocket: { ...GOOD.websocket, quiet } }, 'http://here');
  const facts = { atMs: 0, origin: 'http://here', from: 'a test' };
  assert.match(reportText(verdict, facts, 'en'), /about 4\.8 s[\s\S]*✗ 4\.8 s[\s\S]*after 4\.8 s of quiet/);
  assert.match(reportText(verdict, facts, 'pt'), /cerca de 4,8 s[\s\S]*✗ 4,8 s[\s\S]*após 4,8 s em silêncio/);
});

test('both languages have all texts, with the same values in them', () => {
  const valuesOf = (value: unknown): unknown =>
    typeof value === 'string'
      ? [...value.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort()
      : Object.fromEntries(Object.entries(value as object).map(([key, inner]) => [key, valuesOf(inner)]));
  assert.deepEqual(valuesOf(TEXTS.pt), valuesOf(TEXTS.en));
  assert.deepEqual(Object.keys(TEXTS.en.transports), [...TRANSPORTS]);
});

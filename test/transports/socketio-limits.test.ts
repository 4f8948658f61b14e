/** Socket.IO under hostile clients (protocol §5, §11, §16): nothing waits, holds or outlives without bound. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { type JWTPayload, SignJWT } from 'jose';
import { io, type Socket } from 'socket.io-client';
import type { Config } from '../../src/config.ts';
import { metric, startBridge, type TestBridge } from '../support/bridge.ts';
import { frame, openRawWebSocket, PING } from '../support/raw-websocket.ts';
import { startServer } from '../support/server.ts';
import { until } from '../support/until.ts';

const SECRET = 'of thirty-two characters at least, this one';
const sign = (claims: JWTPayload) =>
  new SignJWT({ scope: 'subscribe', ...claims })
    .setProtectedHeader({ alg: 'HS256' })
    .sign(new TextEncoder().encode(SECRET));

async function start(context: TestContext, options: Partial<Config> = {}): Promise<TestBridge> {
  const bridge = await startBridge({ drainMs: 100, ...options });
  context.after(() => bridge.close());
  return bridge;
}

async function open(context: TestContext, ...args: Parameters<typeof openRawWebSocket>) {
  const raw = await openRawWebSocket(...args);
  context.after(() => raw.destroy());
  return raw;
}

const POLLING = '/socket.io/?EIO=4&transport=polling';

/** Opens a polling session and returns its `sid`. */
async function openSession({ url }: TestBridge): Promise<string> {
  const text = await (await fetch(url + POLLING)).text();
  return (JSON.parse(text.slice(1)) as { sid: string }).sid;
}

function stock(context: TestContext, { url }: TestBridge, options: Parameters<typeof io>[1] = {}): Socket {
  const socket = io(url, { transports: ['websocket'], forceNew: true, reconnectionDelay: 10, ...options });
  context.after(() => socket.disconnect());
  return socket;
}

async function connected(socket: Socket): Promise<Socket> {
  if (!socket.connected) await new Promise<void>((resolve) => socket.once('connect', resolve));
  return socket;
}

const refusals = (bridge: TestBridge, code: string) => metric(bridge, `roomcast_refused_total{code="${code}"}`);
const connections = (bridge: TestBridge, transport: string) =>
  metric(bridge, `roomcast_connections{transport="${transport}"}`);

for (const state of ['before CONNECT', 'after CONNECT'] as const) {
  test(`a client that floods with pings waits, and others get their pongs (${state})`, async (context) => {
    const bridge = await start(context);
    const [polite, rude] = [await open(context, bridge.url), await open(context, bridge.url)];
    for (const raw of [polite, rude]) {
      if (state === 'after CONNECT') raw.send('40');
      await raw.write(frame(PING, 'the first one'));
      await until('answered', () => raw.text().includes('the first one'));
    }
    const ping = frame(PING, 'x'.repeat(120));
    // More than the kernel's buffers hold. A paused client reads no pong.
    rude.pause();
    rude.write(Buffer.concat(Array.from({ length: 120_000 }, () => ping))).catch(() => {});
    for (let index = 0; index < 40; index++) {
      await polite.write(frame(PING, `ping ${index}.`));
      await until('the pong', () => polite.text().includes(`ping ${index}.`));
    }
    assert.ok(rude.unsentBytes > 0, 'its pings wait with it');
    rude.resume();
    await until('it gets pongs', () => rude.receivedBytes > 10_000);
    assert.ok(rude.receivedBytes < 5_000_000, `${rude.receivedBytes} bytes of pongs`);
    assert.deepEqual([rude.closed, polite.closed], [false, false]);
  });
}

test('a polling client that sends packets without end is cut', async (context) => {
  const bridge = await start(context);
  const sid = await openSession(bridge);
  const send = (packets: string[]) =>
    fetch(`${bridge.url}${POLLING}&sid=${sid}`, { method: 'POST', body: packets.join('\x1e') });
  await send(['40']);
  // A thousand joins at once are many, but no flood.
  assert.equal((await send(Array.from({ length: 1_000 }, () => '42["leave-tenant","x"]'))).status, 200);
  await send(Array.from({ length: 4_000 }, () => '42["leave-tenant","x"]'));
  assert.equal((await send(['42["leave-tenant","x"]'])).status, 400);
});

test('a client that probes an upgrade again and again is cut', async (context) => {
  const bridge = await start(context);
  const raw = await open(context, bridge.url, `EIO=4&transport=websocket&sid=${await openSession(bridge)}`);
  raw.send('2probe');
  await until('the first probe is answered', () => raw.text().includes('3probe'));
  raw.send('2probe');
  await until('cut', () => raw.closed);
});

test('refusals of CONNECT that are not read are bounded too, on every transport', async (context) => {
  const bridge = await start(context, { maxBufferBytes: 1_000 });
  const sid = await openSession(bridge);
  const send = (packets: string[]) =>
    fetch(`${bridge.url}${POLLING}&sid=${sid}`, { method: 'POST', body: packets.join('\x1e') });
  await send(Array.from({ length: 5 }, () => `40/${'x'.repeat(300)},`));
  await send(['40/another,']);
  assert.equal(await metric(bridge, 'roomcast_slow_consumers_total{transport="polling"}'), 1);
  assert.equal((await send(['40'])).status, 400, 'the session has ended');
});

test('connections that never send CONNECT take a quarter of MAX_CONNECTIONS, or 10', async (context) => {
  for (const [maxConnections, silent] of [
    [48, 12],
    [20, 10],
  ] as const) {
    const bridge = await start(context, { maxConnections });
    const raws = [];
    for (let index = 0; index < silent - 1; index++) raws.push(await open(context, bridge.url));
    await openSession(bridge);
    for (const response of [await fetch(bridge.url + POLLING), await fetch(bridge.url + POLLING)]) {
      assert.equal(response.status, 503);
      assert.ok(response.headers.has('retry-after'));
      assert.equal(((await response.json()) as { code: string }).code, 'too_many_connections');
    }
    assert.equal((await open(context, bridge.url)).status, 503);
    const [first, second] = raws;
    first?.send('40');
    await until('the first is in', () => first?.text().includes('40{"sid"') === true);
    const next = await open(context, bridge.url);
    assert.equal(next.status, 101, 'one that has sent CONNECT no longer counts');
    assert.equal((await open(context, bridge.url)).status, 503);
    second?.destroy();
    await until('nor one that has gone', async () => (await open(context, bridge.url)).status === 101);
    // As many as may are silent again, so one that leaves its namespace cannot stay.
    first?.send('41');
    await until('closed', () => first?.closed === true);
    assert.equal((await fetch(`${bridge.url}/events?tenantId=a`)).status, 200, 'other transports have room');
  }
});

test('a session gets one websocket, and no stranger gets one', async (context) => {
  const bridge = await start(context);
  const sid = await openSession(bridge);
  const before = await refusals(bridge, 'invalid_request');
  const upgrade = (session: string) => open(context, bridge.url, `EIO=4&transport=websocket&sid=${session}`);
  const first = await upgrade(sid);
  assert.equal(first.status, 101);
  for (const again of [await upgrade(sid), await upgrade(sid)]) assert.equal(again.status, 400);
  for (const unknown of ['none', '__proto__', 'x'.repeat(5_000)]) assert.equal((await upgrade(unknown)).status, 400);
  const direct = await open(context, bridge.url);
  await until('it has its sid', () => direct.text().includes('"sid"'));
  const ofWebsocket = /"sid":"([^"]+)"/.exec(direct.text())?.[1] as string;
  assert.equal((await upgrade(ofWebsocket)).status, 400);
  assert.equal((await open(context, bridge.url, 'EIO=4&transport=polling')).status, 400);
  assert.equal(await refusals(bridge, 'invalid_request'), before + 7);
  first.destroy();
  await until('another attempt is free', async () => (await upgrade(sid)).status === 101);
});

test('a websocket counts until its TCP connection is closed', async (context) => {
  const bridge = await start(context, { maxConnections: 1 });
  const raw = await open(context, bridge.url);
  raw.send('40');
  await until('it is in', () => raw.text().includes('40{"sid"'));
  // Not allowed to a client: Engine.IO closes the session, and waits for an answer to its close frame.
  raw.send('2');
  await until('the session has ended', async () => (await connections(bridge, 'websocket')) === 0);
  assert.equal((await fetch(bridge.url + POLLING)).status, 503);
  raw.destroy();
  await until('there is room', async () => (await fetch(bridge.url + POLLING)).status === 200);
});

test('other revisions of Engine.IO are refused before any upgrade, in a sentence', async (context) => {
  const bridge = await start(context);
  for (const query of ['EIO=3&transport=', 'transport=', 'EIO=4&EIO=3&transport=', 'EIO=__proto__&transport=']) {
    const response = await fetch(`${bridge.url}/socket.io/?${query}polling`);
    const { detail, code } = (await response.json()) as { detail: string; code: string };
    assert.deepEqual([response.status, code], [400, 'invalid_request']);
    assert.match(detail, /revision 4 .*socket\.io-client 3 and 4/);
    const raw = await open(context, bridge.url, `${query}websocket`);
    assert.equal(raw.status, 400);
    assert.match(raw.text(), /socket\.io-client 3 and 4/);
  }
});

test('every refused handshake is counted, whoever refuses it', async (context) => {
  const bridge = await start(context);
  const before = await refusals(bridge, 'invalid_request');
  const badKey = await open(context, bridge.url, 'EIO=4&transport=websocket', 'Sec-WebSocket-Key: !');
  assert.equal(badKey.status, 400);
  const ask = async (query: string, method = 'GET') =>
    (await fetch(`${bridge.url}/socket.io/?EIO=4&transport=${query}`, { method })).status;
  assert.deepEqual(
    [await ask('carrier-pigeon'), await ask('polling&sid=none'), await ask('polling', 'POST'), await ask('websocket')],
    [400, 400, 400, 400],
  );
  assert.equal(await refusals(bridge, 'invalid_request'), before + 5);
  assert.equal(await ask(`polling&sid=${await openSession(bridge)}`, 'PUT'), 405);
});

test('an unknown event is answered, with the nearest known one', async (context) => {
  const bridge = await start(context);
  const socket = await connected(stock(context, bridge));
  const told: { readonly code: string; readonly message: string }[] = [];
  socket.on('bridge.error', (error) => told.push(error));
  for (const [event, near] of [
    ['join-tennant', 'join-tenant'],
    ['JoinTicket', 'join-ticket'],
    ['bridge.error', null],
    ['__proto__', null],
    ['constructor', null],
    ['error', null],
    ['message', null],
    ['x'.repeat(10_000), null],
  ] as const) {
    const answer = await socket.emitWithAck(event, { tenantId: 't' });
    assert.deepEqual([answer.ok, answer.code], [false, 'unknown_event'], event);
    assert.ok(answer.error.length < 300);
    if (near !== null) assert.match(answer.error, new RegExp(`"${near}"`));
  }
  assert.deepEqual((await socket.emitWithAck('join-tenants', Buffer.from('binary'))).code, 'unknown_event');
  assert.equal(told.length, 0);
  for (let index = 0; index < 50; index++) socket.emit('subscribe', 'tenant-1');
  socket.volatile.emit('subscribe');
  await socket.emitWithAck('leave-tenant', 'x');
  assert.deepEqual(
    told.map(({ code }) => code),
    ['unknown_event'],
    'at most one a second',
  );
  assert.match(told[0]?.message ?? '', /"subscribe"/);
  const check = await connected(socket.io.socket('/check'));
  context.after(() => check.disconnect());
  assert.equal((await check.emitWithAck('check.ecco', 'x')).code, 'unknown_event');
  const [error] = await new Promise<[{ code: string }]>((resolve) => {
    check.once('bridge.error', (...args: [{ code: string }]) => resolve(args));
    check.emit('join-tenant', 'x');
  });
  assert.equal(error.code, 'unknown_event');
});

test('an unknown event does not hold back the joins of a client that retries', async (context) => {
  const bridge = await start(context);
  const socket = await connected(stock(context, bridge, { retries: 3, ackTimeout: 60_000 }));
  socket.emit('subscribe', 'tenant-1');
  const answer = await new Promise<{ ok: boolean }>((resolve) => {
    socket.emit('join-tenant', 'tenant-1', (_error: Error | null, reply: { ok: boolean }) => resolve(reply));
  });
  assert.equal(answer.ok, true);
});

interface Private {
  readonly _pid: string;
  readonly _lastOffset: string;
}

test('a stolen session id neither cuts its owner nor reveals a room, whoever presents it', async (context) => {
  const bridge = await start(context, { authMode: 'jwt', jwtSecret: SECRET });
  const victims = [{ tenantId: 'a', sub: 'victim' }, { tenantId: 'a', ticketIds: ['1'] }, { tenantId: 'a' }];
  const thieves = [
    { tenantId: 'a', sub: 'thief' },
    { tenantId: 'b', sub: 'victim' },
    { tenantId: 'a', ticketIds: ['2'] },
    { tenantId: 'a', sub: 'victim', ticketIds: ['2'] },
  ];
  for (const claims of victims) {
    const victim = await connected(stock(context, bridge, { auth: { token: await sign(claims) } }));
    await victim.emitWithAck('join-ticket', '1');
    const { _pid: pid, _lastOffset: offset } = victim as unknown as Private;
    const ends: string[] = [];
    victim.on('disconnect', (reason) => ends.push(reason));
    for (const other of thieves) {
      const thief = stock(context, bridge, { auth: { token: await sign(other), pid, offset } });
      const told: unknown[][] = [];
      thief.onAny((...args: unknown[]) => told.push(args));
      await until('reset', () => told.length >= 2);
      assert.equal(thief.recovered, false);
      assert.equal(told[0]?.[0], 'bridge.reset');
      assert.doesNotMatch(JSON.stringify(told), /ticket:/);
      thief.disconnect();
    }
    for (const hostile of ['x'.repeat(50_000), '__proto__', ['a'], { length: 1 }, '']) {
      const thief = await connected(
        stock(context, bridge, { auth: { token: await sign(claims), pid: hostile, offset } }),
      );
      assert.equal(thief.recovered, false);
      thief.disconnect();
    }
    assert.equal((await victim.emitWithAck('leave-ticket', '1')).ok, true, 'the victim still owns its session');
    assert.deepEqual(ends, []);
  }
});

test('the transport of a client that left its namespace ends with its token', async (context) => {
  const bridge = await start(context, { authMode: 'jwt', jwtSecret: SECRET });
  const token = await sign({ tenantId: 'a', exp: Math.ceil(Date.now() / 1000) + 1 });
  const raw = await open(context, bridge.url);
  raw.send('40/check,');
  await raw.write(longText(`40{"token":"${token}"}`));
  await until('it is in', () => raw.text().includes('bridge.cursor'));
  raw.send('41');
  await until('closed', () => raw.closed);
  assert.equal(await connections(bridge, 'websocket'), 0);
});

/** A client's text message of 126 to 65,535 bytes. */
function longText(text: string): Buffer {
  return Buffer.concat([
    Buffer.from([0x81, 0x80 | 126, text.length >> 8, text.length & 0xff, 0, 0, 0, 0]),
    Buffer.from(text),
  ]);
}

test('MAX_ROOMS counts a room once for each tenant of the token, on every transport', async (context) => {
  const bridge = await start(context, { authMode: 'jwt', jwtSecret: SECRET, maxRooms: 5 });
  const token = await sign({ tenantId: ['a', 'b'], sub: 'u' });
  const socket = await connected(stock(context, bridge, { auth: { token } }));
  const join = async (kind: string, id: string) => {
    const { ok, code } = await socket.emitWithAck(`join-${kind}`, id);
    return ok ? 'ok' : code;
  };
  assert.deepEqual(
    [await join('ticket', '1'), await join('tenant', 'a'), await join('ticket', '2'), await join('tenant', 'b')],
    ['ok', 'ok', 'ok', 'too_many_rooms'],
  );
  assert.deepEqual([await join('ticket', '1'), await join('ticket', '3')], ['ok', 'too_many_rooms']);
  await socket.emitWithAck('leave-ticket', '1');
  assert.deepEqual([await join('tenant', 'b'), await join('ticket', '1')], ['ok', 'too_many_rooms']);
  for (const path of ['/sse', '/events']) {
    const ask = async (query: string) => {
      const response = await fetch(`${bridge.url}${path}?${query}`, { headers: { authorization: `Bearer ${token}` } });
      const code = response.ok ? 'ok' : ((await response.json()) as { code: string }).code;
      if (response.ok) await response.body?.cancel();
      return [response.status, code];
    };
    assert.deepEqual(await ask('tenantId=a&ticketId=1,2'), [200, 'ok']);
    assert.deepEqual(await ask('ticketId=1,2,3'), [400, 'too_many_rooms']);
  }
});

test('a session holds what was joined and not left, and a connection without rooms has none', async (context) => {
  const folder = mkdtempSync(join(tmpdir(), 'roomcast-'));
  context.after(() => rmSync(folder, { recursive: true }));
  const bridge = await start(context, { storeUrl: `sqlite:${folder}/log.db` });
  const db = new DatabaseSync(`${folder}/log.db`, { readOnly: true });
  context.after(() => db.close());
  const rooms = () => db.prepare('SELECT room FROM sessions JOIN session_rooms USING (pid) ORDER BY room').all();
  // The names of rooms are sealed.
  const saved = () => [Number(db.prepare('SELECT count(*) AS count FROM sessions').get()?.count), rooms().length];
  const socket = await connected(stock(context, bridge));
  assert.deepEqual(saved(), [0, 0]);
  await socket.emitWithAck('leave-ticket', '1');
  assert.deepEqual(saved(), [0, 0]);
  await Promise.all(['1', '2', '3'].map((id) => socket.emitWithAck('join-ticket', id)));
  assert.deepEqual(saved(), [1, 3]);
  await Promise.all([socket.emitWithAck('leave-ticket', '2'), socket.emitWithAck('join-tenant', '2')]);
  assert.deepEqual(saved(), [1, 3]);
  socket.io.engine.close();
  await until('it is back', () => socket.connected);
  assert.equal(socket.recovered, true);
  assert.deepEqual(saved(), [1, 3]);
  await Promise.all(['1', '3'].map((id) => socket.emitWithAck('leave-ticket', id)));
  await socket.emitWithAck('leave-tenant', '2');
  assert.deepEqual(saved(), [0, 0]);
  await socket.emitWithAck('join-ticket', '4');
  assert.deepEqual(saved(), [1, 1]);
});

test('refused handshakes are logged with their reason, in bounded numbers', async (context) => {
  const server = await startServer({ STORE_URL: 'sqlite::memory:' });
  context.after(() => server.end('SIGKILL'));
  const lines: { msg: string; code: string; reason: string; address: string }[] = [];
  const reader = createInterface({ input: server.process.stdout as NodeJS.ReadableStream });
  reader.on('line', (line) => lines.push(JSON.parse(line)));
  const path = `${server.url}/socket.io/`;
  for (const query of ['EIO=3&transport=polling', 'EIO=4&transport=pigeon', 'EIO=4&transport=polling&sid=none']) {
    assert.equal((await fetch(`${path}?${query}`)).status, 400);
  }
  const answer = await fetch(`${path}?EIO=4&transport=polling`, { headers: { origin: 'https://elsewhere.example' } });
  const { detail } = (await answer.json()) as { detail: string };
  assert.equal(answer.status, 403);
  assert.match(detail, /https:\/\/elsewhere\.example.*CORS_ORIGINS.*127\.0\.0\.1:\d+/);
  await until('it is logged', () => lines.some(({ reason }) => reason === detail));
  const reasons = lines.filter(({ msg }) => msg === 'a Socket.IO client was refused').map(({ reason }) => reason);
  for (const part of ['revision 3', 'Transport unknown', 'Session ID unknown']) {
    assert.ok(
      reasons.some((reason) => reason.includes(part)),
      part,
    );
  }
  for (let index = 0; index < 100; index++) await fetch(`${path}?EIO=4&transport=pigeon`);
  await fetch(`${path}?EIO=4&transport=polling`, { headers: { origin: 'https://last.example' } });
  await until('the last is logged', () => lines.some(({ reason }) => reason?.includes('last.example')));
  assert.ok(lines.filter(({ code }) => code === 'invalid_request').length < 60);
});

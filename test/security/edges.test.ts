/** protocol §10, §11: secrets stay out of the log, a missing issuer is a passing fault, and limits hold on every transport. */
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { EventSource } from 'eventsource';
import { exportJWK, type JWTPayload, SignJWT } from 'jose';
import { io } from 'socket.io-client';
import type { Config } from '../../src/config.ts';
import { messageNew, metric, startBridge } from '../support/bridge.ts';
import { spawnServer, startServer } from '../support/server.ts';
import { until } from '../support/until.ts';

const SECRET = 'a secret of thirty-two bytes or more';
const CLAIMS = { tenantId: 't1', sub: 'u1', scope: 'subscribe publish' };

const sign = (claims: JWTPayload = CLAIMS, secret = SECRET) =>
  new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).sign(Buffer.from(secret));

async function start(t: TestContext, options: Partial<Config>) {
  const bridge = await startBridge({ authMode: 'jwt', jwtSecret: SECRET, ...options });
  t.after(() => bridge.close());
  return bridge;
}

test('at LOG_LEVEL=trace no token, pass, cookie, key or payload is in what the server writes', async (t) => {
  const server = await startServer({
    AUTH_MODE: 'jwt',
    JWT_SECRET: SECRET,
    STORE_URL: 'sqlite::memory:',
    LOG_LEVEL: 'trace',
  });
  t.after(() => server.end('SIGKILL'));
  let output = '';
  for (const stream of [server.process.stdout, server.process.stderr]) {
    stream?.on('data', (chunk) => {
      output += chunk;
    });
  }
  const good = await sign();
  const expired = await sign({ ...CLAIMS, exp: 1 });
  const forged = await sign(CLAIMS, `${SECRET}!`);
  const oddClaims = await sign({ ...CLAIMS, ticketIds: 'claim-canary' });
  const json = { 'content-type': 'application/json' };
  const payload = { event: 'tickets.updated', payload: { tenantId: 't1', text: 'payload-canary' } };
  const ask = async (path: string, init: RequestInit = {}) => {
    const response = await fetch(server.url + path, { ...init, signal: AbortSignal.timeout(20_000) });
    const text = path.startsWith('/sse') && response.ok ? '' : await response.text();
    if (text === '') await response.body?.cancel();
    return text;
  };
  const { pass } = JSON.parse(await ask('/pass', { method: 'POST', headers: { authorization: `Bearer ${good}` } })) as {
    pass: string;
  };
  const secrets = [good, expired, forged, oddClaims, pass];
  for (const token of secrets) {
    for (const path of ['/events?tenantId=t1', '/sse?tenantId=t1', '/tickets?tenantId=t1', '/nowhere?x=1']) {
      await ask(path, { headers: { authorization: `Bearer ${token}` } });
      await ask(path, { headers: { cookie: `access_token=${token}` } });
      await ask(`${path}&access_token=${token}`);
      await ask(`${path}&pass=${token}`);
    }
    const body = JSON.stringify(payload);
    await ask(`/events?access_token=${token}`, { method: 'POST', headers: json, body });
    await ask(`/events?access_token=${token}`, { method: 'POST', headers: json, body: `{"token":"${token}"` });
    for (const transports of [['websocket'], ['polling']]) {
      const socket = io(server.url, {
        transports,
        auth: { token },
        query: { access_token: token },
        reconnection: false,
      });
      await new Promise<void>((resolve) => {
        socket.once('connect_error', () => resolve());
        socket.once('connect', () => socket.emit('join-tenant', 't1', () => resolve()));
      });
      socket.disconnect();
    }
  }
  output += await ask('/metrics');
  assert.equal(await server.end('SIGTERM'), 0);
  assert.match(output, /draining|stopped/, 'the output was seen');
  for (const secret of [...secrets, SECRET, 'claim-canary', 'payload-canary']) {
    assert.ok(!output.includes(secret));
    // A token's middle and end tell as much as the whole.
    for (const part of secret
      .split('.')
      .filter((text) => text.length > 20 && !text.startsWith('eyJhbGciOiJIUzI1NiJ9'))) {
      assert.ok(!output.includes(part));
    }
  }
});

test('while the issuer of keys is away clients are told to come back, and are let in once it is there', async (t) => {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const jwks = JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: 'k' }] });
  let away = true;
  const issuer = createServer((_request, response) => void response.writeHead(away ? 503 : 200).end(away ? '' : jwks));
  await new Promise<void>((resolve) => issuer.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    issuer.closeAllConnections();
    issuer.close();
  });
  const jwksUrl = `http://127.0.0.1:${(issuer.address() as AddressInfo).port}/jwks`;
  const bridge = await start(t, { jwtSecret: null, jwksUrl, retryMs: 10 });
  const token = await new SignJWT(CLAIMS).setProtectedHeader({ alg: 'EdDSA', kid: 'k' }).sign(privateKey);

  const plain = await fetch(`${bridge.url}/events?tenantId=t1&access_token=${token}`);
  assert.equal(plain.status, 503);
  assert.ok(Number(plain.headers.get('retry-after')) >= 1);
  const url = `${bridge.url}/sse?tenantId=t1&access_token=${token}`;
  const stream = await fetch(url, { headers: { accept: 'text/event-stream' } });
  assert.equal(stream.status, 200);
  assert.match(await stream.text(), /^retry: \d+\n(?:.*\n)*?event: bridge\.error\ndata: .*"code":"unavailable"/);

  const source = new EventSource(url);
  t.after(() => source.close());
  const told: string[] = [];
  let open = false;
  source.addEventListener('bridge.error', ({ data }) => told.push(JSON.parse(data).code));
  source.addEventListener('bridge.cursor', () => {
    open = true;
  });
  const socket = io(bridge.url, { transports: ['websocket'], auth: { token }, reconnectionDelay: 10 });
  t.after(() => socket.disconnect());
  await until('the stream is told', () => told.includes('unavailable'));
  assert.ok(!socket.connected && !open);
  away = false;
  await until('both are let in', () => open && socket.connected);
});

test('a client that resets its connection after a refused upgrade ends that connection only', async (t) => {
  const server = await startServer({ STORE_URL: 'sqlite::memory:' });
  t.after(() => server.end('SIGKILL'));
  for (const path of ['/healthz', '/sse?tenantId=t', '/socket.io/?EIO=4&transport=websocket&sid=unknown']) {
    const socket = connect(Number(new URL(server.url).port), '127.0.0.1');
    socket.on('error', () => {});
    socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`);
    await once(socket, 'data');
    socket.resetAndDestroy();
    await once(socket, 'close');
    assert.equal((await fetch(`${server.url}/healthz`)).status, 200, path);
  }
  assert.equal(server.process.exitCode, null);
});

test('connections are counted over all transports, per address and per node', async (t) => {
  const bridge = await start(t, { maxConnectionsPerAddress: 2, trustProxy: 1, retryMs: 10 });
  const token = await sign();
  const aborter = new AbortController();
  t.after(() => aborter.abort());
  const stream = (address: string) =>
    fetch(`${bridge.url}/sse?tenantId=t1&access_token=${token}`, {
      headers: { 'x-forwarded-for': `203.0.113.7, ${address}` },
      signal: aborter.signal,
    });
  const socketAt = (address: string, transport: string) =>
    fetch(`${bridge.url}/socket.io/?EIO=4&transport=${transport}`, { headers: { 'x-forwarded-for': address } });
  assert.equal((await stream('192.0.2.1')).status, 200);
  const held = new AbortController();
  const second = await fetch(`${bridge.url}/sse?tenantId=t1&access_token=${token}`, {
    headers: { 'x-forwarded-for': '192.0.2.1' },
    signal: held.signal,
  });
  assert.equal(second.status, 200);
  const refused = await stream('192.0.2.1');
  assert.equal(refused.status, 503);
  assert.ok(Number(refused.headers.get('retry-after')) >= 1);
  assert.equal(((await refused.json()) as { code: string }).code, 'too_many_connections');
  assert.equal((await socketAt('192.0.2.1', 'polling')).status, 503);
  const poll = (wait: number) =>
    fetch(`${bridge.url}/events?tenantId=t1&after=now&wait=${wait}&access_token=${token}`, {
      headers: { 'x-forwarded-for': '192.0.2.1' },
    });
  assert.equal((await poll(0)).status, 200, 'a plain request is no connection');
  assert.equal((await stream('192.0.2.2')).status, 200, 'another address has room');
  held.abort();
  await until('the place is free again', async () => (await socketAt('192.0.2.1', 'polling')).status === 200);
});

test('one connection is one listener, looked at a few times at most, whatever its client sends at once', async (t) => {
  const bridge = await start(t, {});
  const good = JSON.stringify({ token: await sign() });
  for (const packet of ['40', '40{"token":"garbage"}', `40${good}`, '40/nowhere,']) {
    const url = `${bridge.url}/socket.io/?EIO=4&transport=polling`;
    const opened = await (await fetch(url)).text();
    const { sid } = JSON.parse(opened.slice(1)) as { sid: string };
    const before = await metric(bridge, 'roomcast_refused_total{code="unauthorized"}');
    const body = new Array(Math.floor(99_000 / (packet.length + 1))).fill(packet).join('\x1e');
    await fetch(`${url}&sid=${sid}`, { method: 'POST', body });
    // What it is told before it is closed, if anything.
    const told = await (await fetch(`${url}&sid=${sid}`)).text();
    assert.ok(told.split('\x1e').length <= 20, `${packet}: ${told.length} characters`);
    await until(`${packet}: closed`, async () => (await fetch(`${url}&sid=${sid}`)).status === 400);
    assert.ok((await metric(bridge, 'roomcast_refused_total{code="unauthorized"}')) - before <= 10, packet);
    assert.equal(await metric(bridge, 'roomcast_connections{transport="polling"}'), 0);
  }
});

test('who takes nothing when its token ends is cut all the same, and has no more of what waited', async (t) => {
  const bridge = await start(t, { maxBufferBytes: 64 * 1024 * 1024 });
  const token = await sign({ ...CLAIMS, exp: Math.floor(Date.now() / 1000) + 3 });

  const socket = io(bridge.url, { transports: ['websocket'], auth: { token }, reconnection: false });
  t.after(() => socket.disconnect());
  let heard = 0;
  socket.on('messages.new', () => heard++);
  assert.equal((await socket.emitWithAck('join-tenant', 't1')).ok, true);
  const { transport } = socket.io.engine as unknown as { transport: { ws: { _socket: Socket } } };
  const raw = transport.ws._socket;

  const url = `${bridge.url}/socket.io/?EIO=4&transport=polling`;
  const { sid } = JSON.parse((await (await fetch(url)).text()).slice(1)) as { sid: string };
  const poll = () => fetch(`${url}&sid=${sid}`);
  const send = (body: string) => fetch(`${url}&sid=${sid}`, { method: 'POST', body });
  await send(`40${JSON.stringify({ token })}`);
  await poll();
  await send('420["join-tenant","t1"]');
  assert.match(await (await poll()).text(), /"ok":true/);

  raw.pause();
  const message = { content: 'x'.repeat(400_000) };
  for (let n = 0; n < 10; n++) await bridge.publish('messages.new', messageNew({ tenantId: 't1', message }));
  const polling = () => metric(bridge, 'roomcast_connections{transport="polling"}');
  assert.equal(await polling(), 1);
  await until('the poll that never comes is not waited for', async () => (await polling()) === 0, 20_000);
  assert.equal((await poll()).status, 400);
  raw.resume();
  await until('the websocket has ended', () => !socket.connected);
  assert.ok(heard < 10, 'what waited was let go of');
});

test('a key without AUTH_MODE=jwt is not passed over in silence', async (t) => {
  const { process: child, stderr } = spawnServer({ JWT_SECRET: SECRET, STORE_URL: 'sqlite::memory:' });
  t.after(() => child.kill('SIGKILL'));
  let output = '';
  child.stdout?.on('data', (chunk) => {
    output += chunk;
  });
  await until(`it listens: ${stderr()}`, () => output.includes('listening on'));
  assert.match(output, /"level":40,.*AUTH_MODE is none/);
});

/** The client library with AUTH_MODE=jwt: tokens are renewed after a refusal or expiry, and are part of no URL. */
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { SignJWT } from 'jose';
import { type ConnectOptions, connect, type Live } from '../../src/client/client.ts';
import { messageNew, startBridge, type TestBridge } from '../support/bridge.ts';
import { type Obstacle, startObstacle } from '../support/obstacles.ts';
import { until } from '../support/until.ts';

const secret = 'a secret that is long enough for HS256';

function tokenFor(tenantId: string, seconds: number, scope = 'subscribe'): Promise<string> {
  return new SignJWT({ tenantId, scope, sub: 'user-1' })
    .setProtectedHeader({ alg: 'HS256' })
    .setExpirationTime(Math.floor(Date.now() / 1000) + seconds)
    .sign(new TextEncoder().encode(secret));
}

let bridge: TestBridge;
let between: Obstacle;
before(async () => {
  bridge = await startBridge({ authMode: 'jwt', jwtSecret: secret, heartbeatMs: 250, retryMs: 20 });
  between = await startObstacle(bridge.url);
});
after(async () => {
  await between.close();
  await bridge.close();
});

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

let tenants = 0;
const freshTenant = (): string => `jwt-${++tenants}`;

function listen(options: Omit<ConnectOptions, 'url'>): { live: Live; heard: string[] } {
  const live = connect({ heartbeatMs: 250, url: between.url, ...options });
  closing.push(live.close);
  const heard: string[] = [];
  live.on('messages.new', (_payload, { cursor }) => heard.push(cursor));
  return { live, heard };
}

for (const transport of ['websocket', 'sse', 'poll'] as const) {
  test(`over ${transport}, a token that expires is renewed, and no event is lost`, async () => {
    const tenantId = freshTenant();
    const tokens: string[] = [];
    const token = async (): Promise<string> => {
      tokens.push(await tokenFor(tenantId, 3));
      return tokens.at(-1) as string;
    };
    const { live, heard } = listen({ rooms: { tenantId }, token, transports: [transport, 'poll'] });
    await until('live', () => live.status.transport === transport);
    const published: string[] = [];
    while (tokens.length < 3) {
      published.push((await bridge.publish('messages.new', messageNew({ tenantId }))).id);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await until('all heard', () => heard.length >= published.length);
    assert.deepEqual(heard, published);
    await until('live again', () => live.status.transport === transport);
    for (const line of between.seen) {
      for (const held of tokens) assert.ok(!line.includes(held), 'no token is part of a URL');
    }
    if (transport === 'sse') assert.ok(between.seen.some((line) => /^GET \/sse\?.*pass=/.test(line)));
    assert.ok(tokens.length < 12, `asked for ${tokens.length} tokens`);
  });
}

test('a token function that returns bad tokens, and then fails, is called again', async () => {
  const tenantId = freshTenant();
  let calls = 0;
  const { live } = listen({
    rooms: { tenantId },
    token() {
      calls++;
      if (calls === 1) return 'no token at all';
      if (calls === 2) throw new Error('the session endpoint is down');
      return tokenFor(tenantId, 60);
    },
  });
  await until('live', () => live.status.state === 'live');
  assert.ok(calls >= 3);
});

test('a string that is refused, or rooms that the token does not allow, close the client with the reason', async () => {
  const tenantId = freshTenant();
  const bad = listen({ rooms: { tenantId }, token: 'no token at all' });
  const foreign = listen({ rooms: { tenantId }, token: await tokenFor('another', 60) });
  await until('both closed', () => [bad, foreign].every(({ live }) => live.status.state === 'closed'));
  assert.equal(bad.live.status.error?.code, 'unauthorized');
  assert.equal(foreign.live.status.error?.code, 'forbidden');
  await assert.rejects(async () => {
    for await (const _ of bad.live);
  }, /./);
});

for (const transport of ['websocket', 'sse', 'poll'] as const) {
  test(`over ${transport}, a token that may listen to nothing closes the client, in a sentence that says why`, async () => {
    const tenantId = freshTenant();
    let calls = 0;
    const deaf = listen({
      rooms: { tenantId },
      transports: [transport, 'poll'],
      token() {
        calls++;
        return tokenFor(tenantId, 60, 'publish');
      },
    });
    await until('closed', () => deaf.live.status.state === 'closed');
    const { error } = deaf.live.status;
    assert.equal(error?.code, 'forbidden');
    assert.match(error?.message ?? '', /lacks the scope subscribe/);
    assert.ok(calls <= 2, `asked for ${calls} tokens`);
  });
}

test('a string that expires closes the client with the reason, on every transport', async () => {
  const tenantId = freshTenant();
  const token = await tokenFor(tenantId, 2);
  const all = (['websocket', 'sse', 'poll'] as const).map((transport) =>
    listen({ rooms: { tenantId }, token, transports: [transport, 'poll'] }),
  );
  await until('all live', () => all.every(({ live }) => live.status.state === 'live'));
  await until('all closed', () => all.every(({ live }) => live.status.state === 'closed'));
  for (const { live } of all) assert.equal(live.status.error?.code, 'token_expired');
});

for (const transport of ['websocket', 'sse', 'poll'] as const) {
  test(`over ${transport} alone, a renewed token that may hear nothing closes the client with the reason`, async () => {
    const tenantId = freshTenant();
    let wasLive = false;
    let renewals = 0;
    const token = (): Promise<string> => {
      // A busy machine may take longer than the first token's life.
      if (!wasLive) return tokenFor(tenantId, 2);
      renewals++;
      return tokenFor(tenantId, 60, 'publish');
    };
    const { live } = listen({ rooms: { tenantId }, token, transports: [transport] });
    live.on('status', ({ state }) => {
      wasLive ||= state === 'live';
    });
    await until('closed', () => live.status.state === 'closed', 30_000);
    assert.ok(wasLive);
    assert.equal(live.status.error?.code, 'forbidden');
    assert.match(live.status.error?.message, /scope subscribe/);
    assert.equal(renewals, 1);
  });
}

test('a room that the token does not allow is refused, and the client continues', async () => {
  const tenantId = freshTenant();
  const { live, heard } = listen({ rooms: { tenantId }, token: () => tokenFor(tenantId, 60) });
  await until('live', () => live.status.transport === 'websocket');
  await assert.rejects(live.join({ tenantId: 'another' }), { code: 'forbidden' });
  const { id } = await bridge.publish('messages.new', messageNew({ tenantId }));
  await until('heard', () => heard.length > 0);
  assert.deepEqual(heard, [id]);
});

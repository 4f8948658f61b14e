/** Joins and leaves over Socket.IO (protocol §5): rooms by name, many at once, and of the kinds that an operator declares. */
import assert from 'node:assert/strict';
import { after, before, describe, type TestContext, test } from 'node:test';
import { SignJWT } from 'jose';
import { io } from 'socket.io-client';
import type { Config } from '../../src/config.ts';
import { canonical, ids } from '../delivery/conformance.ts';
import { messageNew, metric, startBridge, type TestBridge } from '../support/bridge.ts';
import { connectSocket, type SocketClient } from '../support/clients.ts';
import { startCutProxy } from '../support/cut-proxy.ts';
import { missing, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';

const SECRET = 'a secret of thirty-two bytes or more';

const sign = (claims: Record<string, unknown>): Promise<string> =>
  new SignJWT(claims)
    .setProtectedHeader({ alg: 'HS256' })
    .setExpirationTime('5m')
    .sign(new TextEncoder().encode(SECRET));

async function start(context: TestContext, options: Partial<Config> = {}): Promise<TestBridge> {
  const bridge = await startBridge(options);
  context.after(() => bridge.close());
  return bridge;
}

async function connect(
  context: TestContext,
  url: string,
  { transport = 'websocket' as 'websocket' | 'polling', token = undefined as string | undefined } = {},
): Promise<SocketClient> {
  const client = await connectSocket(transport)(url, {}, token === undefined ? {} : { token });
  context.after(() => client.close());
  return client;
}

let tickets = 0;
/** Publishes to the named rooms, and returns the cursors. */
async function publish(bridge: TestBridge, ...audiences: string[][]): Promise<string[]> {
  const published: string[] = [];
  for (const rooms of audiences) {
    const payload = messageNew({ tenantId: 'acme', ticketId: `t${++tickets}`, agreementId: null });
    published.push((await bridge.publish('messages.new', payload, { rooms })).id);
  }
  return published;
}

for (const transport of ['websocket', 'polling'] as const) {
  describe(`rooms by name over ${transport}`, () => {
    let bridge: TestBridge;
    before(async () => {
      bridge = await startBridge({ maxRooms: 5, roomKinds: ['queue'], claimedRoomKinds: ['team'] });
    });
    after(() => bridge.close());

    test('join and leave take a name or an array, and declared kinds have events of their own', async (context) => {
      const { socket } = await connect(context, bridge.url, { transport });
      const [one, many, queue, team, numeric] = await Promise.all([
        socket.emitWithAck('join', 'ticket:a:b'),
        socket.emitWithAck('join', ['queue:1', 'ticket:1', 'queue:1']),
        socket.emitWithAck('join-queue', { queueId: 2 }),
        socket.emitWithAck('join-team', 'x', {}),
        socket.emitWithAck('join-queue', 2),
      ]);
      assert.deepEqual([one.ok, one.room, one.rooms], [true, 'ticket:a:b', undefined]);
      assert.deepEqual([many.ok, many.room, many.rooms], [true, undefined, ['queue:1', 'ticket:1']]);
      assert.deepEqual([queue.room, team.room, numeric.room], ['queue:2', 'team:x', 'queue:2']);
      for (const { cursor } of [one, many, queue, team]) assert.match(cursor, /^\S{1,64}$/);
      const left = await socket.emitWithAck('leave', ['queue:1', 'queue:9']);
      assert.deepEqual([left.ok, left.rooms], [true, ['queue:1', 'queue:9']]);
      assert.deepEqual((await socket.emitWithAck('leave', 'ticket:1')).room, 'ticket:1');
      assert.deepEqual((await socket.emitWithAck('leave-queue', 2)).room, 'queue:2');
      // Five rooms are allowed, and three of them are left.
      assert.equal((await socket.emitWithAck('join', ['ticket:2', 'ticket:3', 'ticket:4'])).ok, true);
      assert.equal((await socket.emitWithAck('join', 'ticket:5')).code, 'too_many_rooms');
    });

    test('an integer is an id, and a fraction, a large number and `*` are none', async (context) => {
      const { socket } = await connect(context, bridge.url, { transport });
      assert.equal((await socket.emitWithAck('join-tenant', 7)).room, 'tenant:7');
      assert.equal((await socket.emitWithAck('join-ticket', { ticketId: -7 })).room, 'ticket:-7');
      for (const id of [1.5, 2 ** 53, '*', { tenantId: '*' }, true, [], {}]) {
        const answer = await socket.emitWithAck('join-tenant', id);
        assert.deepEqual([answer.code, answer.room], ['invalid_room', undefined], JSON.stringify(id));
      }
      assert.equal((await socket.emitWithAck('join-ticket', '*')).ok, true, 'only the tenant');
    });

    test('names that are no rooms are refused, all or nothing, and the sentence names the bad one', async (context) => {
      const { socket } = await connect(context, bridge.url, { transport });
      const told: { code: string; message: string; room?: string }[] = [];
      socket.on('bridge.error', (error) => told.push(error));
      const refusals: [unknown, string, RegExp][] = [
        [[], 'invalid_room', /array of rooms is empty/],
        ['bogus:1', 'invalid_room', /^The room must be .*queue:, team:, but got "bogus:1"\.$/],
        ['ticket', 'invalid_room', /"ticket"/],
        ['ticket:', 'invalid_room', /whose id must be/],
        ['tenant:*', 'invalid_room', /no tenant is named \*/],
        [7, 'invalid_room', /must be the name of a room/],
        [null, 'invalid_room', /must be the name of a room/],
        [{ ticketId: '1' }, 'invalid_room', /must be the name of a room/],
        [['ticket:1', 'ticket:a b'], 'invalid_room', /^rooms\[1\] must be/],
        [['ticket:1', 'Queue:1'], 'invalid_room', /^rooms\[1\] .*"Queue:1"/],
        [['ticket:1', ['ticket:2']], 'invalid_room', /^rooms\[1\] must be/],
        [['1', '2', '3', '4', '5', '6'].map((id) => `ticket:${id}`), 'too_many_rooms', /names 6 rooms; at most 5/],
      ];
      for (const [rooms, code, sentence] of refusals) {
        for (const event of ['join', 'leave']) {
          const answer = await socket.emitWithAck(event, rooms);
          assert.deepEqual([answer.ok, answer.code], [false, code], JSON.stringify([event, rooms]));
          assert.match(answer.error, sentence);
        }
        socket.emit('join', rooms);
      }
      const answer = await socket.emitWithAck('join', ['ticket:1', 'ticket:2'], { after: 7 });
      assert.deepEqual([answer.code, answer.room], ['invalid_cursor', undefined]);
      await until('each refusal without a callback is told', () => told.length === refusals.length);
      assert.deepEqual(
        told.map(({ code }) => code),
        refusals.map(([, code]) => code),
      );
      await publish(bridge, ['ticket:1'], ['ticket:2']);
      await socket.emitWithAck('leave', 'ticket:1');
      assert.equal((await socket.emitWithAck('join', refusals.at(-1)?.[0])).code, 'too_many_rooms');
      assert.equal((await socket.emitWithAck('join', ['ticket:6', 'ticket:6', 'ticket:6'])).ok, true);
    });

    test('an array with after replays all rooms as one; joining again replays nothing', async (context) => {
      const client = await connect(context, bridge.url, { transport });
      const [a, b, c] = ['a', 'b', 'c'].map((id) => `ticket:${transport}-${id}`) as [string, string, string];
      const [first] = await publish(bridge, [a]);
      const missed = await publish(bridge, [a], [b], [a, b], [b], [a], [b, c]);
      const answer = await client.socket.emitWithAck('join', [b, a], { after: first });
      assert.deepEqual(answer.rooms, [b, a]);
      assert.deepEqual(ids(client), missed, 'in the order of the log, each once');
      assert.ok(canonical(client.heard).every(({ replay }) => replay));
      await client.socket.emitWithAck('join', [a, b], { after: first });
      assert.equal(ids(client).length, missed.length, 'joined already');
      await client.socket.emitWithAck('join', [a, c], { after: first });
      assert.equal(ids(client).length, missed.length, 'another room has brought it');
      await client.socket.emitWithAck('leave', [a, b, c]);
      await client.socket.emitWithAck('join', [c], { after: first });
      assert.equal(ids(client).length, missed.length + 1, 'leaving forgets');
    });
  });
}

test('an array is accepted while a join is left, and what exceeds the limit delays later joins', async (context) => {
  const bridge = await start(context, { rateJoins: 3 });
  const { socket } = await connect(context, bridge.url);
  const names = Array.from({ length: 12 }, (_, index) => `ticket:${index}`);
  assert.equal((await socket.emitWithAck('join', names)).ok, true);
  const refused = await socket.emitWithAck('join', 'ticket:0');
  assert.deepEqual([refused.code, refused.room], ['rate_limited', 'ticket:0']);
  assert.deepEqual((await socket.emitWithAck('join', names)).code, 'rate_limited');
  assert.equal((await socket.emitWithAck('leave', names)).ok, true, 'leaving is free');
  await until('joins are allowed again', async () => (await socket.emitWithAck('join', names)).ok, 10_000);
});

test('rooms that wait for the log are bounded, also as arrays', async (context) => {
  const bridge = await start(context, { rateJoins: 100_000 });
  const { socket } = await connect(context, bridge.url);
  const names = Array.from({ length: 500 }, (_, index) => `ticket:${index}`);
  const answers = await Promise.all(Array.from({ length: 20 }, () => socket.emitWithAck('leave', names)));
  const refused = answers.filter(({ code }) => code === 'rate_limited');
  assert.equal(answers[0].ok, true);
  assert.ok(answers.length - refused.length >= 2 && refused.every(({ error }) => /pending/.test(error)));
  assert.equal((await socket.emitWithAck('join', names)).ok, true, 'the answers make room again');
});

test('an array with one room that is not allowed joins none, and the refusal names it', async (context) => {
  const bridge = await start(context, {
    authMode: 'jwt',
    jwtSecret: SECRET,
    roomKinds: ['queue'],
    claimedRoomKinds: ['team'],
  });
  const agent = await sign({ tenantId: 'acme', sub: 'ana', scope: 'subscribe', queueIds: ['a', 2], teamIds: ['x'] });
  const client = await connect(context, bridge.url, { token: agent });
  const { socket } = client;
  const errors: { code: string; room?: string }[] = [];
  socket.on('bridge.error', (error) => errors.push(error));
  for (const [rooms, room] of [
    [['queue:a', 'queue:b', 'queue:2'], 'queue:b'],
    [['queue:a', 'tenant:acme'], 'tenant:acme'],
    [['team:x', 'team:y'], 'team:y'],
    [['user:ana', 'user:bob'], 'user:bob'],
    ['ticket:1', 'ticket:1'],
  ] as const) {
    const answer = await socket.emitWithAck('join', rooms);
    assert.deepEqual([answer.ok, answer.code, answer.room], [false, 'forbidden', room]);
    assert.match(answer.error, new RegExp(room));
    socket.emit('join', rooms);
    await until('told', () => errors.at(-1)?.room === room);
  }
  await publish(bridge, ['queue:a'], ['team:x'], ['user:ana']);
  const allowed = ['queue:a', 'queue:2', 'team:x', 'user:ana'];
  assert.deepEqual((await socket.emitWithAck('join', allowed)).rooms, allowed);
  const heard = await publish(bridge, ['queue:a', 'user:ana'], ['queue:b', 'tenant:acme'], ['queue:2'], ['team:x']);
  await until('heard', () => ids(client).at(-1) === heard[3]);
  assert.deepEqual(
    ids(client),
    heard.filter((_, index) => index !== 1),
  );

  // A lead that is not narrowed joins every queue, and no team that the token does not claim.
  const lead = await connect(context, bridge.url, { token: await sign({ tenantId: 'acme', scope: 'subscribe' }) });
  assert.equal((await lead.socket.emitWithAck('join', ['queue:b', 'tenant:acme'])).ok, true);
  assert.equal((await lead.socket.emitWithAck('join-team', 'x')).code, 'forbidden');
});

test('a leave that arrives during the replay of its array is done after it', async (context) => {
  const bridge = await start(context);
  const client = await connect(context, bridge.url);
  const [first, ...missed] = await publish(bridge, ['ticket:a'], ...Array<string[]>(50).fill(['ticket:a', 'ticket:b']));
  const [joined, left] = await Promise.all([
    client.socket.emitWithAck('join', ['ticket:a', 'ticket:b'], { after: first }),
    client.socket.emitWithAck('leave-ticket', 'a'),
  ]);
  assert.deepEqual([joined.ok, left.ok], [true, true]);
  assert.deepEqual(ids(client), missed);
  const [, live] = await publish(bridge, ['ticket:a'], ['ticket:b']);
  await until('live', () => ids(client).length > missed.length);
  assert.deepEqual(ids(client), [...missed, live]);
});

test('an array whose ack was lost replays again after the recovery, each record once', async (context) => {
  const bridge = await start(context);
  const proxy = await startCutProxy(bridge.url);
  context.after(() => proxy.close());
  const client = await connect(context, proxy.url);
  const rooms = ['ticket:a', 'ticket:b'];
  const [first, ...missed] = await publish(bridge, rooms, ['ticket:a'], ['ticket:b'], rooms);
  await client.socket.emitWithAck('join', 'ticket:c');
  const replayed = 'roomcast_replayed_total{transport="websocket"}';
  proxy.loseDownstream();
  client.socket.emit('join', rooms, { after: first });
  await until('replayed into the void', async () => (await metric(bridge, replayed)) >= 3);
  proxy.cut();
  await until('back', () => client.recoveries.length === 2);
  assert.equal(client.recoveries[1], true);
  const [between] = await publish(bridge, rooms);
  await until('the recovered rooms are live', () => ids(client).includes(between as string));
  assert.equal((await client.socket.emitWithAck('join', [...rooms, 'ticket:c'], { after: first })).ok, true);
  assert.deepEqual([...new Set(ids(client))].sort(), [...missed, between]);
  assert.equal(ids(client).length, missed.length + 1);
});

test('a client that is cut in the middle of a large replay of an array comes back and joins again', async (context) => {
  const bridge = await start(context, { maxBufferBytes: 65_536 });
  const proxy = await startCutProxy(bridge.url);
  context.after(() => proxy.close());
  const client = await connect(context, proxy.url);
  const rooms = ['ticket:a', 'ticket:b'];
  const [first] = await publish(bridge, ['ticket:a']);
  const events = Array.from({ length: 400 }, (_, index) => ({
    event: 'messages.new',
    payload: messageNew({ tenantId: 'acme', ticketId: 'many', message: { content: 'x'.repeat(2_000) } }),
    rooms: [rooms[index % 2]],
  }));
  const missed = (await bridge.post({ events })).body.results.map(({ id }) => id);
  client.socket.emit('join', rooms, { after: first });
  await until('some are replayed', () => ids(client).length > 0);
  proxy.cut();
  await until('back', () => client.recoveries.length === 2);
  client.heard.splice(0);
  assert.equal((await client.socket.emitWithAck('join', rooms, { after: first })).ok, true);
  assert.deepEqual(ids(client), missed);
});

test('rooms that were joined as an array are recovered on another node', {
  skip: missing('redis-server'),
}, async (context) => {
  const redis = await startRedis();
  context.after(() => redis.stop());
  const options = { storeUrl: redis.url, roomKinds: ['queue'] };
  const [one, other] = [await start(context, options), await start(context, options)];
  const proxy = await startCutProxy(one.url);
  context.after(() => proxy.close());
  const client = await connect(context, proxy.url);
  await client.socket.emitWithAck('join', ['queue:a', 'queue:b', 'ticket:x']);
  await client.socket.emitWithAck('leave', ['ticket:x']);
  const published = await publish(one, ['queue:a']);
  await until('heard', () => ids(client).length === 1);
  proxy.refuse();
  await until('cut off', () => client.socket.disconnected);
  published.push(...(await publish(other, ['queue:b'], ['ticket:x'], ['queue:a', 'queue:b'])));
  proxy.retarget(other.url);
  proxy.restore();
  await until('back', () => client.recoveries.length === 2);
  published.push(...(await publish(one, ['queue:b'])));
  await until('all heard', () => ids(client).at(-1) === published.at(-1));
  assert.equal(client.recoveries[1], true);
  assert.deepEqual(
    ids(client),
    published.filter((_, index) => index !== 2),
  );
});

test('a token that may listen to nothing is refused at connect, and counted', async (context) => {
  const bridge = await start(context, { authMode: 'jwt', jwtSecret: SECRET, claimedRoomKinds: ['queue'] });
  const refusals = () => metric(bridge, 'roomcast_refused_total{code="forbidden"}');
  for (const [claims, sentence] of [
    [{ tenantId: 'acme', sub: 'ana' }, /lacks the scope subscribe/],
    [{ tenantId: 'acme', sub: 'ana', scope: 'publish admin' }, /lacks the scope subscribe/],
    [{ sub: 'ana', scope: 'subscribe' }, /lacks the claim tenantId/],
    [{ tenantId: [], sub: 'ana', scope: 'subscribe' }, /lacks the claim tenantId/],
    [{ tenantId: '*', scope: 'subscribe' }, /for all tenants listens to none/],
    [{ tenantId: 'acme', scope: 'subscribe', ticketIds: [] }, /claim ticketIds names none, and it has no sub/],
    [{ tenantId: 'acme', scope: 'subscribe', ticketIds: null, queueIds: [] }, /ticketIds/],
  ] as const) {
    const token = await sign(claims);
    for (const transport of ['websocket', 'polling'] as const) {
      const before = await refusals();
      const socket = io(bridge.url, {
        transports: [transport],
        forceNew: true,
        auth: { token },
        reconnectionDelay: 10,
      });
      context.after(() => socket.disconnect());
      const error = await new Promise<Error & { data?: { code: string } }>((resolve, reject) => {
        socket.once('connect_error', resolve);
        socket.once('connect', () => reject(new Error('it connected')));
      });
      assert.equal(error.data?.code, 'forbidden');
      assert.match(error.message, sentence);
      assert.equal(await refusals(), before + 1);
      assert.equal(socket.active, false, 'a stock client does not retry');
    }
    for (const path of ['/sse', '/events']) {
      const response = await fetch(`${bridge.url}${path}?tenantId=acme`, {
        headers: { authorization: `Bearer ${token}`, accept: 'text/event-stream' },
      });
      const { code, detail } = (await response.json()) as { code: string; detail: string };
      assert.deepEqual([response.status, code], [403, 'forbidden']);
      assert.match(detail, sentence);
    }
  }
  // A narrowed token that names no ticket still has its own room; one that claims a queue has that.
  for (const [claims, room] of [
    [{ tenantId: 'acme', scope: 'subscribe', sub: 'ana', ticketIds: [] }, 'user:ana'],
    [{ tenantId: 'acme', scope: 'subscribe', ticketIds: [], queueIds: 7 }, 'queue:7'],
  ] as const) {
    const client = await connect(context, bridge.url, { token: await sign(claims) });
    assert.equal((await client.socket.emitWithAck('join', room)).ok, true);
  }
});

test('JWT_DEFAULT_SCOPE is for tokens without a scope, and never for a refresh token', async (context) => {
  const bridge = await start(context, {
    authMode: 'jwt',
    jwtSecret: SECRET,
    jwtDefaultScope: ['subscribe', 'publish'],
  });
  const base = { tenantId: 'acme', sub: 'ana' };
  for (const [claims, mayListen] of [
    [base, true],
    [{ ...base, type: 'access' }, true],
    [{ ...base, type: 'refresh' }, false],
    [{ ...base, type: null }, false],
    [{ ...base, scope: '' }, false],
    [{ ...base, scope: [] }, false],
    [{ ...base, scope: 'publish' }, false],
    [{ ...base, scope: 'subscribe', type: 'refresh' }, true],
  ] as const) {
    const token = await sign(claims);
    const bearer = { authorization: `Bearer ${token}` };
    const poll = await fetch(`${bridge.url}/events?tenantId=acme`, { headers: bearer });
    assert.equal(poll.status, mayListen ? 200 : 403, JSON.stringify(claims));
    const minted = await fetch(`${bridge.url}/pass`, { method: 'POST', headers: bearer });
    assert.equal(minted.status, mayListen ? 201 : 403);
    const connecting = connectSocket('websocket')(bridge.url, { tenantId: ['acme'] }, { token });
    if (mayListen) (await connecting).close();
    else await assert.rejects(connecting, /lacks the scope subscribe/);
    const posted = await bridge.post({ event: 'messages.new', payload: messageNew({ tenantId: 'acme' }) }, bearer);
    const mayPublish = !('scope' in claims) ? mayListen : claims.scope === 'publish';
    assert.equal(posted.status, mayPublish ? 201 : 403, JSON.stringify(claims));
    const erased = await fetch(`${bridge.url}/tenants/acme`, { method: 'DELETE', headers: bearer });
    assert.equal(erased.status, 403, 'it never administers');
  }
});

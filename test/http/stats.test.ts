/** `GET /stats` (openapi.yaml): its counts are right, it is bounded, and it shows no other tenant's rooms. */
import assert from 'node:assert/strict';
import { afterEach, describe, mock, test } from 'node:test';
import { SignJWT } from 'jose';
import type { Config } from '../../src/config.ts';
import type { Stats } from '../../src/contract/stats.ts';
import { createNodeMonitor, type NodeMonitor } from '../../src/http/node-monitor.ts';
import { createLogger } from '../../src/logger.ts';
import { createPrometheus } from '../../src/metrics/prometheus.ts';
import { openStore } from '../../src/store/open.ts';
import { messageNew, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { missing, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';

const SECRET = 'a secret of at least thirty-two bytes';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function start(options: Partial<Config> = {}): Promise<TestBridge> {
  const bridge = await startBridge(options);
  closing.push(bridge.close);
  return bridge;
}

const token = (claims: object): Promise<string> =>
  new SignJWT({ ...claims })
    .setProtectedHeader({ alg: 'HS256' })
    .setExpirationTime('1h')
    .sign(new TextEncoder().encode(SECRET));

const ask = (bridge: TestBridge, query = '', headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`${bridge.url}/stats${query}`, { headers });

async function stats(bridge: TestBridge, query = '', headers: Record<string, string> = {}): Promise<Stats> {
  const response = await ask(bridge, query, headers);
  assert.equal(response.status, 200);
  return (await response.json()) as Stats;
}

/** An answer may be half a second old, so this asks until the figure is there. */
async function statsOnce(
  bridge: TestBridge,
  what: string,
  holds: (now: Stats) => boolean,
  headers: Record<string, string> = {},
): Promise<Stats> {
  let now = await stats(bridge, '', headers);
  await until(what, async () => {
    now = await stats(bridge, '', headers);
    return holds(now);
  });
  return now;
}

/** A stream that is open and read until the test ends. */
async function listen(bridge: TestBridge, query: string, headers: Record<string, string> = {}): Promise<void> {
  const ending = new AbortController();
  closing.push(() => ending.abort());
  const response = await fetch(`${bridge.url}/sse?${query}`, { headers, signal: ending.signal });
  assert.equal(response.status, 200);
  (async () => {
    for await (const _ of response.body ?? []);
  })().catch(() => {});
}

test('counts connections, publishes, deliveries and lag, and names the rooms', async () => {
  const bridge = await start();
  await listen(bridge, 'tenantId=tenant-1&ticketId=quiet');
  await listen(bridge, 'tenantId=tenant-1&legacy=false');
  await bridge.post({ event: 'tickets.updated', payload: ticketUpdated() });
  const message = messageNew();
  await bridge.post({ event: 'messages.new', payload: message });
  await bridge.post({ event: 'messages.new', payload: message });
  await bridge.post({ event: 'messages.new', payload: {} });

  // With legacy events: 2 and 4 names. Without: one name each.
  const now = await statsOnce(bridge, 'delivered', ({ deliveries }) => deliveries.sse === 8);
  assert.deepEqual(now.connections, { websocket: 0, polling: 0, sse: 2, longpoll: 0 });
  assert.deepEqual(now.publishes, { accepted: 2, duplicate: 1, rejected: 1, failed: 0 });
  assert.equal(now.deliveryLag.counts.sse?.length, now.deliveryLag.boundsSeconds.length + 1);
  assert.ok((now.deliveryLag.counts.sse?.at(-1) ?? 0) >= 2);
  assert.ok(now.deliveryLag.recent.count >= 2 && (now.deliveryLag.recent.p99Seconds ?? -1) >= 0);

  const tenant = { room: 'tenant:tenant-1', tenantId: null, listeners: 2, events: 2 };
  const ticket = { room: 'ticket:ticket-123', tenantId: null, listeners: 0, events: 2 };
  assert.deepEqual(now.rooms.byListeners.top, [
    tenant,
    { room: 'ticket:quiet', tenantId: null, listeners: 1, events: 0 },
  ]);
  assert.deepEqual(
    now.rooms.byEvents.top,
    [{ ...ticket, room: 'agreement:agreement-9' }, tenant, ticket].sort((a, b) => (a.room < b.room ? -1 : 1)),
  );
  assert.ok(now.rooms.byEvents.seconds <= 61);
});

test('shows the log and the node', async () => {
  const bridge = await start();
  assert.partialDeepStrictEqual(await stats(bridge), {
    log: { engine: 'sqlite', healthy: true, reached: true, records: 0, oldest: null, newest: null },
    redis: null,
  });
  const before = Date.now();
  const { body: first } = await bridge.post({ event: 'tickets.updated', payload: ticketUpdated() });
  const { body: last } = await bridge.post({ event: 'tickets.updated', payload: ticketUpdated() });
  const { log, node, nodes } = await statsOnce(bridge, 'both', (now) => now.log.records === 2);
  assert.equal(log.oldest?.cursor, first.id);
  assert.equal(log.newest?.cursor, last.id);
  assert.ok(Date.parse(log.oldest?.at ?? '') >= before && Date.parse(log.newest?.at ?? '') <= Date.now());
  assert.ok((log.bytes ?? 0) > 0);
  assert.equal(node.pid, process.pid);
  assert.deepEqual(
    nodes?.map(({ id }) => id),
    [node.id],
  );
});

test('is not cacheable, and answers HEAD; a limit out of range is a 400', async () => {
  const bridge = await start();
  const response = await ask(bridge);
  assert.equal(response.headers.get('cache-control'), 'no-store');
  assert.equal(response.headers.get('content-type'), 'application/json');
  assert.equal(await (await fetch(`${bridge.url}/stats`, { method: 'HEAD' })).text(), '');
  for (const limit of ['0', '201', 'x', '-1', '1&limit=2']) {
    assert.equal((await ask(bridge, `?limit=${limit}`)).status, 400, limit);
  }
});

test('lists at most `limit` rooms and sums up the others', async () => {
  const bridge = await start();
  for (let room = 0; room < 30; room++) {
    for (let times = 0; times <= room; times++) {
      await bridge.publish(
        'tickets.updated',
        ticketUpdated({ tenantId: `t${room}`, ticketId: `k${room}`, agreementId: null }),
      );
    }
  }
  let now = await stats(bridge, '?limit=3');
  await until('all of them', async () => {
    now = await stats(bridge, '?limit=3');
    return now.rooms.byEvents.others.rooms === 57;
  });
  assert.deepEqual(
    now.rooms.byEvents.top.map(({ room, events }) => [room, events]),
    [
      ['tenant:t29', 30],
      ['ticket:k29', 30],
      ['tenant:t28', 29],
    ],
  );
  assert.equal(now.rooms.byEvents.others.events, 2 * ((30 * 31) / 2) - 30 - 30 - 29);
});

test('`rooms` finds a room among all, in any case, and counts the others that match', async () => {
  const bridge = await start();
  const events = Array.from({ length: 600 }, (_, n) => ({
    event: 'tickets.updated',
    payload: ticketUpdated({ ticketId: n === 500 ? 'Needle/ça' : `k-${n}`, agreementId: null }),
  }));
  await bridge.post({ events });
  await listen(bridge, 'ticketId=needle-2');
  let now = await stats(bridge, '?rooms=NEEDLE');
  await until('both', async () => {
    now = await stats(bridge, '?rooms=NEEDLE');
    return now.rooms.byListeners.top.length === 1 && now.rooms.byEvents.top.length === 1;
  });
  assert.deepEqual(now.rooms.byEvents.top, [{ room: 'ticket:Needle/ça', tenantId: null, listeners: 0, events: 1 }]);
  assert.deepEqual(now.rooms.byListeners.top, [{ room: 'ticket:needle-2', tenantId: null, listeners: 1, events: 0 }]);
  const tickets = await stats(bridge, `?rooms=${encodeURIComponent('ticket:k-')}&limit=7`);
  assert.equal(tickets.rooms.byEvents.top.length, 7);
  assert.deepEqual(tickets.rooms.byEvents.others, { rooms: 592, events: 592 });
  assert.deepEqual((await stats(bridge, '?rooms=.*')).rooms.byEvents.top, [], 'a text and no pattern');
  for (const query of ['?rooms=', `?rooms=${'x'.repeat(162)}`, '?rooms=a&rooms=b']) {
    assert.equal((await ask(bridge, query)).status, 400, query);
  }
});

describe('with tokens', () => {
  const jwt = { authMode: 'jwt', jwtSecret: SECRET } as const;

  test('requires the scope admin', async () => {
    const bridge = await start(jwt);
    assert.equal((await ask(bridge)).status, 401);
    const refused = [
      { tenantId: 'a', scope: 'subscribe publish' },
      { tenantId: '*', scope: 'publish' },
      { tenantId: 'a', scope: 'admin', ticketIds: ['k'] },
    ];
    for (const claims of refused) {
      const response = await ask(bridge, '', { authorization: `Bearer ${await token(claims)}` });
      assert.equal(response.status, 403, JSON.stringify(claims));
      assert.equal(((await response.json()) as { code: string }).code, 'forbidden');
    }
    const listener = await token({ tenantId: 'a', scope: 'subscribe' });
    const pass = await fetch(`${bridge.url}/pass`, {
      method: 'POST',
      headers: { authorization: `Bearer ${listener}` },
    });
    const minted = (await pass.json()) as { pass: string };
    assert.equal((await ask(bridge, `?pass=${minted.pass}`)).status, 401);
  });

  test('an admin of a tenant sees its rooms, and no figures that name other tenants or hosts', async () => {
    const bridge = await start(jwt);
    const bearer = async (claims: object) => ({ authorization: `Bearer ${await token(claims)}` });
    const ofA = await bearer({ tenantId: 'a', scope: 'admin' });
    const ofAll = await bearer({ tenantId: '*', scope: 'admin' });
    await listen(
      bridge,
      'tenantId=secret-b&ticketId=shared',
      await bearer({ tenantId: 'secret-b', scope: 'subscribe' }),
    );
    await listen(bridge, 'tenantId=a&ticketId=shared', await bearer({ tenantId: 'a', scope: 'subscribe' }));
    for (const tenantId of ['a', 'secret-b', 'secret-b']) {
      await bridge.publish(
        'tickets.updated',
        ticketUpdated({ tenantId, ticketId: 'shared', agreementId: `g-${tenantId}` }),
      );
    }
    const all = await statsOnce(bridge, 'all', (now) => now.rooms.byEvents.top[0]?.events === 2, ofAll);
    assert.deepEqual(all.rooms.byListeners.top.map(({ room, tenantId }) => `${tenantId} ${room}`).sort(), [
      'a tenant:a',
      'a ticket:shared',
      'secret-b tenant:secret-b',
      'secret-b ticket:shared',
    ]);
    const own = await statsOnce(bridge, 'own', (now) => now.rooms.byEvents.top[0]?.events === 1, ofA);
    assert.doesNotMatch(JSON.stringify(own), /secret-b/);
    assert.deepEqual(own.rooms.byListeners, {
      top: [
        { room: 'tenant:a', tenantId: 'a', listeners: 1, events: 1 },
        { room: 'ticket:shared', tenantId: 'a', listeners: 1, events: 1 },
      ],
      others: { rooms: 0, listeners: 0 },
    });
    assert.equal(own.rooms.byEvents.others.events, 0);
    assert.equal(own.connections.sse, 2);
    assert.equal(own.nodes, null);
    assert.equal(own.node.host, null);
    assert.equal(own.node.pid, null);
    assert.equal(own.silentNodes, null);
    const found = await stats(bridge, '?rooms=ticket:', ofA);
    assert.deepEqual(
      found.rooms.byListeners.top.map(({ room, tenantId }) => [room, tenantId]),
      [['ticket:shared', 'a']],
    );
    assert.deepEqual((await stats(bridge, '?rooms=secret-b', ofA)).rooms.byListeners, {
      top: [],
      others: { rooms: 0, listeners: 0 },
    });
  });

  test('contains no payload, token or address', async () => {
    const bridge = await start(jwt);
    const admin = await token({ tenantId: '*', scope: 'admin publish' });
    await bridge.post(
      { event: 'tickets.updated', payload: ticketUpdated({ ticket: { note: 'a-private-note' } }) },
      { authorization: `Bearer ${admin}` },
    );
    const text = await (await ask(bridge, '', { authorization: `Bearer ${admin}` })).text();
    for (const secret of ['a-private-note', admin, SECRET, '127.0.0.1']) assert.ok(!text.includes(secret), secret);
  });
});

describe('on Redis', { skip: missing('redis-server') }, () => {
  test('lists the nodes of the log, and shows when Redis is unreachable', async () => {
    const redis = await startRedis();
    closing.push(redis.stop);
    const one = await start({ storeUrl: redis.url });
    const two = await startBridge({ storeUrl: redis.url });
    assert.ok(Date.parse((await stats(one)).node.announcedAt ?? '') <= Date.now());
    await listen(two, 'tenantId=tenant-1');
    await one.publish('tickets.updated', ticketUpdated());
    // Each node announces itself every five seconds.
    const now = await statsOnce(
      one,
      'both nodes',
      ({ nodes }) => nodes?.some(({ connections }) => connections.sse === 1) ?? false,
    );
    assert.equal(now.nodes?.length, 2);
    assert.equal(now.log.engine, 'redis');
    assert.equal(now.log.records, 1);
    assert.ok((now.log.bytes ?? 0) > 0);
    assert.equal(now.redis?.reached, true);
    assert.equal(now.redis?.tailLag.count, 1);
    const other = await statsOnce(two, 'traffic of the other node', ({ rooms }) => rooms.byEvents.top.length === 3);
    assert.equal(other.publishes.accepted, 0);

    await two.close();
    const alone = await statsOnce(one, 'the other has left', ({ nodes }) => nodes?.length === 1);
    assert.deepEqual(alone.silentNodes, []);
    assert.equal(alone.log.fault, null);

    await redis.kill();
    const away = await statsOnce(one, 'Redis is unreachable', ({ log }) => !log.reached);
    assert.equal(away.log.healthy, false);
    assert.match(away.log.fault ?? '', /^Redis at 127\.0\.0\.1:\d+ cannot be reached: /);
    assert.equal(away.log.records, null);
    assert.equal(away.redis?.reached, false);
    await redis.restart();
    await statsOnce(one, 'Redis is back', ({ log }) => log.reached && log.healthy && log.records === 1);
  });

  test('a node that dies is silent, and one that shuts down is not', async () => {
    const redis = await startRedis();
    closing.push(redis.stop);
    const store = await openStore(redis.url, 'room', createLogger('silent'));
    closing.push(() => store.close());
    const prometheus = createPrometheus({ roomLabel: 'kind', maxRooms: 0, sampleStore: () => store.stats() });
    mock.timers.enable({ apis: ['setInterval'] });
    closing.push(() => mock.timers.reset());
    const [one, two] = [1, 2].map(() => createNodeMonitor({ store, prometheus, logger: createLogger('silent') })) as [
      NodeMonitor,
      NodeMonitor,
    ];
    closing.push(() => one.close());
    /** The beats of both, which are five seconds apart. */
    const seen = (what: string, holds: () => boolean): Promise<void> =>
      until(what, () => {
        mock.timers.tick(5_000);
        return holds();
      });
    const connections = { websocket: 7, polling: 0, sse: 0, longpoll: 0 };
    const announce = (id: string, ttlMs: number): Promise<unknown> =>
      store.announce({ id, facts: JSON.stringify({ ...two.self, id, connections }), ttlMs });
    await announce('dead', 60_000);
    await seen('all', () => one.nodes.length === 3);
    assert.deepEqual(one.silentNodes, []);
    await announce('dead', 1);
    await seen('it is silent', () => one.silentNodes.length === 1);
    assert.partialDeepStrictEqual(one.silentNodes, [{ id: 'dead', connections }]);
    assert.equal(one.nodes.length, 2);
    await two.close();
    await seen('the other has left', () => one.nodes.length === 1);
    assert.equal(one.silentNodes.length, 1);
    await announce('dead', 60_000);
    await seen('it is back', () => one.silentNodes.length === 0 && one.nodes.length === 2);
  });
});

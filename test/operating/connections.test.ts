/**
 * protocol §15, `GET /connections`: every connection of every node and transport, with what is known of it, as long as it
 * lives and no longer.
 */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { io } from 'socket.io-client';
import { messageNew, metric, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { get, openRaw } from '../support/raw.ts';
import { until } from '../support/until.ts';
import {
  admin,
  adminOf,
  type Connection,
  call,
  connections,
  hold,
  JWT,
  nowS,
  PLACES,
  roomQuery,
  sign,
  TRANSPORTS,
  untilListed,
} from './support.ts';

const FIELDS = {
  id: /^.{1,64}$/,
  node: /^.{1,64}$/,
  transport: /^(websocket|polling|sse|longpoll)$/,
  since: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/,
};
const KEYS = [
  'address',
  'behindMs',
  'cursor',
  'expiresAt',
  'id',
  'lastDeliveryAt',
  'node',
  'pendingBytes',
  'roomCount',
  'rooms',
  'since',
  'sub',
  'tenantIds',
  'transport',
  'userAgent',
];
const HOSTILE = [
  '<img/src=x/onerror=alert(1)>',
  `it's"quoted"`,
  '\u202eabc\u202c',
  'a\u200bb',
  'é😀:b',
  '%2e%2e/..',
  '__proto__',
  'constructor',
  'x'.repeat(128),
];

const isRecent = (instant: string): boolean => Math.abs(Date.parse(instant) - Date.now()) < 120_000;

/** The one connection of a listing. */
async function only(bridge: TestBridge, query: Record<string, string>, token?: string): Promise<Connection> {
  const [item, ...others] = await connections(bridge, query, token);
  assert.ok(item !== undefined, `nothing is listed for ${JSON.stringify(query)}`);
  assert.deepEqual(others, []);
  return item;
}

for (const { name, skip, nodes, start } of PLACES) {
  describe(`connections: ${name}`, { skip }, () => {
    it('lists a connection of each transport with all that is known of it, on every node', async (t) => {
      const { a, b } = await start(t, JWT);
      const exp = nowS() + 3_000;
      const root = await admin();
      const ofAdmin = await hold(t, 'websocket', a, [], { token: await sign({ sub: 'at a', exp }) });
      for (const transport of TRANSPORTS) {
        const token = await sign({ sub: `by ${transport}`, tenantId: ['t2', 't1'], exp, jti: `j-${transport}` });
        const held = await hold(t, transport, b, ['ticket:1', 'agreement:9'], { token, userAgent: `UA ${transport}` });
        const query = { sub: `by ${transport}` };
        await untilListed(a, 1, query, root);
        const item = await only(a, query, root);
        assert.deepEqual(Object.keys(item).sort(), KEYS);
        for (const [key, pattern] of Object.entries(FIELDS)) assert.match(item[key as keyof typeof FIELDS], pattern);
        assert.ok(isRecent(item.since), item.since);
        assert.deepEqual(
          {
            transport: item.transport,
            address: item.address,
            userAgent: item.userAgent,
            tenantIds: [...item.tenantIds].sort(),
            rooms: [...item.rooms].sort(),
            ...{ roomCount: item.roomCount, behindMs: item.behindMs, pendingBytes: item.pendingBytes },
            ...{ lastDeliveryAt: item.lastDeliveryAt, expiresAt: item.expiresAt },
          },
          {
            transport,
            address: '127.0.0.1',
            userAgent: `UA ${transport}`,
            tenantIds: ['t1', 't2'],
            rooms: ['agreement:9', 'ticket:1'],
            ...{ roomCount: 2, behindMs: 0, pendingBytes: 0 },
            ...{ lastDeliveryAt: null, expiresAt: new Date(exp * 1000).toISOString() },
          },
        );
        if (held.socket !== null) assert.equal(item.id, held.socket.id);
        const seenByB = await only(b, query, root);
        assert.deepEqual({ ...seenByB, cursor: null }, { ...item, cursor: null });
        for (const node of [a, b]) {
          const single = await call(node, `GET /connections/${encodeURIComponent(item.id)}`, root);
          assert.equal(single.status, 200);
          assert.deepEqual({ ...single.body, cursor: null }, { ...item, cursor: null });
        }
      }
      const items = await connections(a, {}, root);
      assert.equal(items.length, 5);
      assert.equal(new Set(items.map(({ id }) => id)).size, 5);
      assert.equal(new Set(items.map(({ node }) => node)).size, nodes);
      const at = (node: TestBridge) => call(node, 'GET /stats', root).then(({ body }) => body.node.id as string);
      assert.equal(items.find(({ id }) => id === ofAdmin.socket?.id)?.node, await at(a));
      assert.equal((await only(a, { sub: 'by sse' }, root)).node, await at(b));
    });

    it('lists anonymous connections, and an upgraded one once', async (t) => {
      const { a, b } = await start(t);
      for (const transport of TRANSPORTS) await hold(t, transport, b, ['ticket:1']);
      const items = await untilListed(a, 4);
      assert.deepEqual(
        items.map(({ sub, tenantIds, expiresAt }) => ({ sub, tenantIds, expiresAt })),
        items.map(() => ({ sub: null, tenantIds: [], expiresAt: null })),
      );
      const socket = io(b.url, { forceNew: true });
      t.after(() => void socket.disconnect());
      await until('it has upgraded', () => socket.connected && socket.io.engine.transport.name === 'websocket');
      await until('it is listed as a websocket', async () => {
        const own = (await connections(a)).filter(({ id }) => id === socket.id);
        assert.equal(own.length, 1);
        return own[0]?.transport === 'websocket';
      });
    });

    it('filters by tenant, user, room, address and transport, and by all of them', async (t) => {
      const { a, b } = await start(t, { ...JWT, trustProxy: 1 });
      const root = await admin();
      interface Wanted {
        readonly tenantIds: string[];
        readonly sub: string;
        readonly room: string;
        readonly address: string;
        readonly transport: (typeof TRANSPORTS)[number];
      }
      const population: Wanted[] = [];
      for (const [index, sub] of [...HOSTILE, 'plain', 'plain'].entries()) {
        const transport = TRANSPORTS[index % 4] as Wanted['transport'];
        const tenantIds = index % 3 === 0 ? ['t1', 't2'] : [`t${(index % 3) as number}`];
        const room = `ticket:${HOSTILE[index % 5]}`;
        const address = index % 2 === 0 ? '10.0.0.1' : '2001:db8::1';
        population.push({ tenantIds, sub, room, address, transport });
        const token = await sign({ tenantId: tenantIds, sub });
        const at = index % 2 === 0 ? a : b;
        await hold(t, transport, at, [room], { token, headers: { 'x-forwarded-for': address } });
      }
      await untilListed(a, population.length, {}, root);
      const keyOf = ({ sub, room, address, transport }: Wanted) => `${sub} ${room} ${address} ${transport}`;
      const check = async (query: Record<string, string>, holds: (one: Wanted) => boolean): Promise<void> => {
        const items = await connections(a, query, root);
        assert.deepEqual(
          items.map((one) => keyOf({ ...one, room: one.rooms[0], tenantIds: [] } as never)).sort(),
          population.filter(holds).map(keyOf).sort(),
          JSON.stringify(query),
        );
      };
      for (const one of population) {
        await check({ sub: one.sub }, ({ sub }) => sub === one.sub);
        await check({ room: one.room }, ({ room }) => room === one.room);
        const { sub, room, address, transport } = one;
        const tenantId = one.tenantIds[0] as string;
        const isSame = (other: Wanted) => keyOf(other) === keyOf(one) && other.tenantIds.includes(tenantId);
        await check({ sub, room, address, transport, tenantId }, isSame);
        await check({ sub, transport: transport === 'sse' ? 'polling' : 'sse' }, (other) =>
          other.sub === sub ? other.transport === (transport === 'sse' ? 'polling' : 'sse') : false,
        );
      }
      for (const tenant of ['t1', 't2', 't3']) {
        await check({ tenantId: tenant }, ({ tenantIds }) => tenantIds.includes(tenant));
      }
      for (const transport of TRANSPORTS) await check({ transport }, (one) => one.transport === transport);
      for (const address of ['10.0.0.1', '2001:db8::1', '127.0.0.1', '10.0.0']) {
        await check({ address }, (one) => one.address === address);
      }
      for (const query of [{ sub: 'PLAIN' }, { sub: 'plai' }, { room: 'ticket:x' }, { room: 'agreement:1' }]) {
        await check(query as Record<string, string>, () => false);
      }
    });

    it('pages through them, oldest first, each once, while others come and go', async (t) => {
      const { a, b } = await start(t);
      const open = async (count: number) => {
        const sockets = [];
        for (let n = 0; n < count; n++) sockets.push(await hold(t, 'websocket', n % 2 === 0 ? a : b, ['ticket:page']));
        return sockets;
      };
      const passing = await open(6);
      const lasting = await open(13);
      await untilListed(a, 19);
      const seen: Connection[] = [];
      let page: string | null = null;
      for (let pages = 0; pages === 0 || page !== null; pages++) {
        assert.ok(pages < 20, 'it ends');
        const query: string = page === null ? 'limit=3' : `limit=3&page=${encodeURIComponent(page)}`;
        const { status, body, text } = await call(a, `GET /connections?room=ticket:page&${query}`);
        assert.equal(status, 200, text);
        assert.ok(body.items.length <= 3);
        seen.push(...body.items);
        page = body.nextPage;
        passing.pop()?.close();
        if (pages === 2) await open(2);
      }
      const ids = seen.map(({ id }) => id);
      assert.equal(new Set(ids).size, ids.length, 'none twice');
      for (const { socket } of lasting) assert.ok(ids.includes(socket?.id as string), 'all that stayed');
      const since = seen.map((one) => one.since);
      assert.deepEqual(since, [...since].sort());
      const whole = (await call(a, 'GET /connections?limit=1000')).body;
      assert.equal(whole.nextPage, null);
      assert.ok(whole.items.length >= 15);
    });

    it('shows what a client has got, and how far it is behind', async (t) => {
      const { a, b } = await start(t, { legacyEvents: false });
      for (const transport of ['websocket', 'polling', 'sse'] as const) {
        await hold(t, transport, b, ['tenant:cursor'], { userAgent: transport });
      }
      await untilListed(a, 3);
      const quiet = await connections(a);
      assert.deepEqual(
        quiet.map(({ lastDeliveryAt }) => lastDeliveryAt),
        [null, null, null],
      );
      const elsewhere = await a.publish('tickets.updated', ticketUpdated({ tenantId: 'elsewhere' }));
      for (const { lastDeliveryAt } of await connections(a)) assert.equal(lastDeliveryAt, null);
      let { id } = await a.publish('tickets.updated', ticketUpdated({ tenantId: 'cursor' }));
      assert.ok(id > elsewhere.id);
      ({ id } = await a.publish('tickets.updated', ticketUpdated({ tenantId: 'cursor' })));
      await until('all have it', async () => (await connections(a)).every(({ cursor }) => cursor === id));
      for (const item of await connections(a)) {
        assert.ok(isRecent(item.lastDeliveryAt as string), item.transport);
        assert.ok((item.lastDeliveryAt as string) >= item.since);
      }
      await until('nothing waits', async () =>
        (await connections(a)).every(({ behindMs, pendingBytes }) => behindMs === 0 && pendingBytes === 0),
      );
    });

    it('shows the rooms of now, and at most 100 of them in a list', async (t) => {
      const { a, b } = await start(t);
      const { socket } = await hold(t, 'websocket', b, ['ticket:1', 'ticket:2']);
      await socket?.emitWithAck('leave-ticket', '1');
      await socket?.emitWithAck('join-user', 'ü:1');
      await until('the rooms of now', async () => {
        const [item] = await connections(a);
        return String([...(item?.rooms ?? [])].sort()) === 'ticket:2,user:ü:1' && item?.roomCount === 2;
      });
      assert.deepEqual(await connections(a, { room: 'ticket:1' }), []);
      const many = Array.from({ length: 250 }, (_, n) => `agreement:${n}`);
      await hold(t, 'sse', b, many);
      const item = await only(a, { transport: 'sse' });
      assert.deepEqual([item.roomCount, item.rooms.length], [250, 100]);
      assert.equal((await only(a, { room: 'agreement:249' })).id, item.id, 'a filter looks at all rooms');
      const { body } = await call(a, `GET /connections/${item.id}`);
      assert.deepEqual([body.roomCount, [...body.rooms].sort()], [250, [...many].sort()]);
    });

    it('leaves none behind: closed, aborted, refused, HEAD, answered', async (t) => {
      const { a, b } = await start(t, { ...JWT, maxConnections: 50 });
      const root = await admin();
      const token = await sign();
      const held = [];
      for (const transport of TRANSPORTS) {
        for (let n = 0; n < 3; n++) held.push(await hold(t, transport, b, ['ticket:1'], { token }));
      }
      await untilListed(a, 12, {}, root);
      for (const transport of TRANSPORTS) {
        assert.equal(await metric(b, `roomcast_connections{transport="${transport}"}`), 3, transport);
      }
      for (const one of held) one.close();
      await untilListed(a, 0, {}, root);
      for (const one of held.filter(({ socket }) => socket !== null)) {
        // A client that drops the TCP connection without a word.
        one.socket?.connect();
        await until('it is back', () => one.socket?.connected === true);
        one.socket?.io.reconnection(false);
        one.socket?.io.engine.transport.close();
        one.socket?.disconnect();
      }
      const headers = { authorization: `Bearer ${token}` };
      for (let n = 0; n < 5; n++) {
        assert.equal((await fetch(`${b.url}/sse?ticketId=1`, { method: 'HEAD', headers })).status, 200);
        await fetch(`${b.url}/events?ticketId=1&wait=25&after=now`, { method: 'HEAD', headers });
        const raw = openRaw(b.url);
        raw.send(get('/sse?ticketId=1', `Authorization: Bearer ${token}`));
        raw.destroy();
        const half = openRaw(b.url);
        half.send(get('/sse?ticketId=1', `Authorization: Bearer ${token}`));
        await until('the stream begins', () => half.bytes().includes('bridge.cursor'));
        half.destroy();
      }
      for (const [path, status] of [
        ['/sse?tenantId=t9', 403],
        ['/sse', 400],
        ['/events?tenantId=t9&wait=25&after=now', 403],
      ] as const) {
        assert.equal((await fetch(b.url + path, { headers })).status, status);
      }
      const { body } = await call(b, 'GET /events?ticketId=1&after=now', token);
      const poll = call(b, `GET /events?ticketId=1&wait=25&after=${body.cursor}`, token);
      const item = (await untilListed(a, 1, {}, root))[0] as Connection;
      assert.equal(item.transport, 'longpoll');
      await b.publish('tickets.updated', ticketUpdated({ tenantId: 't1', ticketId: '1' }));
      assert.equal((await poll).body.events.length, 1);
      await untilListed(a, 0, {}, root);
      assert.equal((await call(a, `GET /connections/${item.id}`, root)).status, 404);
      for (const transport of TRANSPORTS) {
        assert.equal(await metric(b, `roomcast_connections{transport="${transport}"}`), 0, transport);
      }
    });

    it('keeps the id over a recovery, and lists the client once', async (t) => {
      const { a, b } = await start(t);
      const { socket } = await hold(t, 'websocket', b, ['tenant:tenant-1']);
      await a.publish('messages.new', messageNew());
      const { id } = (await untilListed(a, 1))[0] as Connection;
      assert.equal(id, socket?.id);
      socket?.io.engine.close();
      await until('recovered', () => socket?.connected === true && socket.recovered);
      const [item] = await untilListed(a, 1);
      assert.equal(item?.id, id);
      assert.deepEqual(item?.rooms, ['tenant:tenant-1']);
    });

    it('refuses a query that it does not know', async (t) => {
      const { a } = await start(t);
      for (const [query, code] of [
        ['limit=0', 'invalid_request'],
        ['limit=1001', 'invalid_request'],
        ['limit=1.5', 'invalid_request'],
        ['page=', 'invalid_request'],
        ['page=x', 'invalid_request'],
        ['page=%00', 'invalid_request'],
        ['transport=carrier-pigeon', 'invalid_request'],
        ['room=ticket', 'invalid_request'],
        ['room=tickett:1', 'invalid_request'],
        ['room=ticket:a%20b', 'invalid_request'],
        ['tenantId=a%20b', 'invalid_request'],
        ['tenantID=t', 'unknown_parameter'],
        ['user=t', 'unknown_parameter'],
      ]) {
        for (const path of [
          '/connections',
          ...(query?.includes('page') || query?.includes('limit') ? ['/refusals'] : []),
        ]) {
          const { status, body } = await call(a, `GET ${path}?${query}`);
          assert.deepEqual([status, body.code], [400, code], `${path}?${query}`);
        }
      }
      assert.equal((await call(a, 'GET /connections?_=1')).status, 200);
      for (const id of ['x', '%00', '..%2F..', '__proto__', 'x'.repeat(4000)]) {
        assert.equal((await call(a, `GET /connections/${id}`)).status, 404, id);
      }
      assert.equal((await call(a, 'POST /connections')).status, 405);
      assert.equal((await call(a, 'GET /connections')).headers.get('cache-control'), 'no-store');
    });
  });
}

describe('a slow client', () => {
  /** A client that reads nothing. */
  async function stall(t: TestContext, bridge: TestBridge, path: string) {
    const raw = openRaw(bridge.url);
    t.after(() => raw.destroy());
    raw.send(get(path));
    await until('the stream begins', () => raw.bytes().includes('bridge.cursor'));
    raw.pause();
    return raw;
  }

  it('is behind and has bytes pending until it reads', async (t) => {
    const bridge = await startBridge({ legacyEvents: false, maxBufferBytes: 64 * 1024 * 1024 });
    t.after(() => bridge.close());
    const raw = await stall(t, bridge, `/sse?${roomQuery(['tenant:slow'])}`);
    await hold(t, 'sse', bridge, ['tenant:slow'], { userAgent: 'fast' });
    const padding = 'x'.repeat(200_000);
    let last = '';
    const publish = async (count: number): Promise<void> => {
      for (let n = 0; n < count; n++) {
        last = (await bridge.publish('tickets.updated', ticketUpdated({ tenantId: 'slow', padding }))).id;
      }
    };
    await publish(60);
    const slow = async () => (await connections(bridge)).find(({ userAgent }) => userAgent === null) as Connection;
    const fast = async () => (await connections(bridge, { transport: 'sse' })).find((one) => one.userAgent === 'fast');
    await until('bytes wait for it', async () => (await slow()).pendingBytes > 1_000_000);
    await until('it is behind', async () => (await slow()).behindMs > 0);
    const { behindMs } = await slow();
    await until('it is further behind', async () => (await slow()).behindMs > behindMs + 20);
    await until('the other is not', async () => {
      const other = await fast();
      return other?.cursor === last && other.behindMs === 0 && other.pendingBytes === 0;
    });
    raw.resume();
    await until('it has caught up', async () => {
      const { behindMs, pendingBytes, cursor } = await slow();
      return behindMs === 0 && pendingBytes === 0 && cursor === last;
    });
  });

  it('that replays is behind until it has the newest record', async (t) => {
    const bridge = await startBridge({ legacyEvents: false });
    t.after(() => bridge.close());
    const padding = 'x'.repeat(100_000);
    const { id: after } = await bridge.publish('tickets.updated', ticketUpdated({ tenantId: 'slow' }));
    for (let n = 0; n < 200; n++) await bridge.publish('tickets.updated', ticketUpdated({ tenantId: 'slow', padding }));
    const raw = await stall(t, bridge, `/sse?${roomQuery(['tenant:slow'], { after })}`);
    await until('it is behind', async () => {
      const [item] = await connections(bridge);
      return (item?.behindMs ?? 0) > 0 && (item?.cursor ?? '') > after;
    });
    raw.resume();
    await until('it has caught up', async () => (await connections(bridge))[0]?.behindMs === 0);
  });
});

describe('who is listed', () => {
  it('is in the listing a tenant admin gets only with all of its tenants', async (t) => {
    const bridge = await startBridge(JWT);
    t.after(() => bridge.close());
    await hold(t, 'sse', bridge, ['tenant:t1'], { token: await sign({ sub: 'one' }) });
    await hold(t, 'sse', bridge, ['tenant:t2'], { token: await sign({ sub: 'both', tenantId: ['t1', 't2'] }) });
    const subs = async (...tenantIds: string[]) =>
      (await connections(bridge, {}, await adminOf(...tenantIds))).map(({ sub }) => sub);
    assert.deepEqual(await subs('t1'), ['one']);
    assert.deepEqual(await subs('t2'), []);
    assert.deepEqual(await subs('t1', 't2', 't3'), ['one', 'both']);
  });
});

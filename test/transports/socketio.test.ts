/** Socket.IO (protocol §5): the join protocol, recovery of stock clients, and what cannot be recovered. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { queryObjects } from 'node:v8';
import { generateKeyPair, SignJWT } from 'jose';
import { Socket as ServerSocket } from 'socket.io';
import { io, Manager } from 'socket.io-client';
import { canonical, ids } from '../delivery/conformance.ts';
import { messageNew, metric, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { connectSocket, type SocketClient } from '../support/clients.ts';
import { type CutProxy, startCutProxy } from '../support/cut-proxy.ts';
import { get, openRaw } from '../support/raw.ts';
import { frame, openRawWebSocket, TEXT } from '../support/raw-websocket.ts';
import { until } from '../support/until.ts';

let tenants = 0;
const freshTenant = (): string => `io-${++tenants}`;

async function publish(bridge: TestBridge, tenantId: string, count: number, overrides = {}): Promise<string[]> {
  const published: string[] = [];
  for (let index = 0; index < count; index++) {
    const payload = messageNew({ tenantId, agreementId: null, ...overrides });
    published.push((await bridge.publish('messages.new', payload)).id);
  }
  return published;
}

for (const transport of ['websocket', 'polling'] as const) {
  const connect = connectSocket(transport);
  describe(`Socket.IO over ${transport}`, () => {
    let bridge: TestBridge;
    before(async () => {
      bridge = await startBridge({ maxRooms: 5, rateJoins: 20 });
    });
    after(() => bridge.close());

    async function withClient(use: (client: SocketClient) => Promise<void>, url = bridge.url): Promise<void> {
      const client = await connect(url, {});
      try {
        await use(client);
      } finally {
        client.close();
      }
    }

    test('a join takes an id or an object that holds it, and acks room and cursor', () =>
      withClient(async ({ socket }) => {
        const [plain, object, ticket] = await Promise.all([
          socket.emitWithAck('join-tenant', 'a:b'),
          socket.emitWithAck('join-tenant', { tenantId: 'c' }),
          socket.emitWithAck('join-ticket', { ticketId: 'd' }, {}),
        ]);
        assert.deepEqual([plain.ok, plain.room], [true, 'tenant:a:b']);
        assert.deepEqual([object.ok, object.room], [true, 'tenant:c']);
        assert.deepEqual([ticket.ok, ticket.room], [true, 'ticket:d']);
        assert.match(plain.cursor, /^\S{1,64}$/);
        const left = await socket.emitWithAck('leave-tenant', { tenantId: 'c' });
        assert.deepEqual([left.ok, left.room], [true, 'tenant:c']);
      }));

    test('a bad join is refused with a code and a sentence', () =>
      withClient(async ({ socket }) => {
        const refusals: [string, unknown[], string][] = [
          ['join-tenant', [''], 'invalid_room'],
          ['join-tenant', ['a b'], 'invalid_room'],
          ['join-tenant', ['a,b'], 'invalid_room'],
          ['join-tenant', ['x'.repeat(129)], 'invalid_room'],
          ['join-tenant', [1.5], 'invalid_room'],
          ['join-tenant', [{ ticketId: 'x' }], 'invalid_room'],
          ['join-tenant', [null], 'invalid_room'],
          ['join-tenant', [], 'invalid_room'],
          ['leave-user', [{}], 'invalid_room'],
          ['join-tenant', ['t', { after: '' }], 'invalid_cursor'],
          ['join-tenant', ['t', { after: 'a b' }], 'invalid_cursor'],
          ['join-tenant', ['t', { after: 'x'.repeat(65) }], 'invalid_cursor'],
          ['join-tenant', ['t', { after: 3 }], 'invalid_cursor'],
        ];
        for (const [event, args, code] of refusals) {
          const answer = await socket.emitWithAck(event, ...args);
          assert.equal(answer.ok, false, JSON.stringify([event, args]));
          assert.equal(answer.code, code, JSON.stringify([event, args]));
          assert.match(answer.error, /\w+ .*\.$/);
        }
      }));

    test('a refused join without a callback gets bridge.error', () =>
      withClient(async ({ socket }) => {
        const told = new Promise<{ code: string; message: string }>((resolve) => socket.once('bridge.error', resolve));
        socket.emit('join-tenant', 'a b');
        const { code, message } = await told;
        assert.equal(code, 'invalid_room');
        assert.match(message, /tenantId must be/);
      }));

    test('too many rooms and too many joins a second are refused', async () => {
      await withClient(async ({ socket }) => {
        const answers = await Promise.all(
          ['a', 'b', 'c', 'd', 'e', 'f'].map((id) => socket.emitWithAck('join-tenant', id)),
        );
        assert.deepEqual(
          answers.map(({ ok, code }) => (ok ? 'ok' : code)),
          ['ok', 'ok', 'ok', 'ok', 'ok', 'too_many_rooms'],
        );
        const [, next, full] = await Promise.all([
          socket.emitWithAck('leave-tenant', 'a'),
          socket.emitWithAck('join-tenant', 'f'),
          socket.emitWithAck('join-tenant', 'a'),
        ]);
        assert.deepEqual([next.ok, full.code], [true, 'too_many_rooms'], 'a place is free as soon as it is left');
      });
      await withClient(async ({ socket }) => {
        const answers = await Promise.all(Array.from({ length: 60 }, () => socket.emitWithAck('join-tenant', 'same')));
        assert.ok(answers.some(({ code }) => code === 'rate_limited'));
        assert.ok(answers.slice(0, 20).every(({ ok }) => ok));
      });
    });

    test('a join with after replays with cursor and flag; joining again replays nothing; leaving forgets', () =>
      withClient(async (client) => {
        const tenantId = freshTenant();
        const [first, ...rest] = await publish(bridge, tenantId, 4);
        await client.join('tenantId', tenantId, first);
        assert.deepEqual(ids(client), rest);
        assert.ok(canonical(client.heard).every(({ replay }) => replay));
        await client.join('tenantId', tenantId, first);
        assert.deepEqual(ids(client), rest);
        await client.socket.emitWithAck('leave-tenant', tenantId);
        await publish(bridge, tenantId, 1);
        await client.join('tenantId', tenantId, first);
        assert.equal(ids(client).length, 3 + 4, 'after leaving, a join replays again');
      }));

    test('a replay leaves out what another joined room has brought', () =>
      withClient(async (client) => {
        const tenantId = freshTenant();
        const ticketId = `${tenantId}-t`;
        const [first, ...both] = await publish(bridge, tenantId, 4, { ticketId });
        const foreign = await publish(bridge, `${tenantId}-other`, 2, { ticketId });
        await client.join('tenantId', tenantId, first);
        await client.join('ticketId', ticketId, first);
        assert.deepEqual(ids(client), [...both, ...foreign]);
        const [live] = await publish(bridge, tenantId, 1, { ticketId });
        await until('live heard', () => ids(client).length === 6);
        assert.equal(ids(client).at(-1), live);
      }));

    test('rooms that are joined at once bring what they share once', () =>
      withClient(async (client) => {
        const [tenantId, ticketId] = [freshTenant(), `${tenants}-t`];
        const [first] = await publish(bridge, tenantId, 1);
        const shared: string[] = [];
        for (let batch = 0; batch < 3; batch++) {
          const events = Array.from({ length: 500 }, () => ({
            event: 'messages.new',
            payload: messageNew({ tenantId, ticketId, agreementId: ticketId }),
          }));
          const { body } = await bridge.post({ events });
          shared.push(...body.results.map(({ id }) => id));
        }
        await Promise.all([
          client.join('tenantId', tenantId, first),
          client.join('ticketId', ticketId, first),
          client.join('agreementId', ticketId, first),
        ]);
        assert.deepEqual(ids(client), shared);
      }));

    test('cursor=false gets payloads alone, with audience=true marks too', async () => {
      const tenantId = freshTenant();
      const query = { cursor: 'false', audience: 'true' };
      const socket = io(bridge.url, { transports: [transport], forceNew: true, query });
      try {
        const calls: unknown[][] = [];
        socket.onAny((...args: unknown[]) => calls.push(args));
        await new Promise<void>((resolve) => socket.once('connect', resolve));
        await socket.emitWithAck('join-tenant', tenantId);
        const payload = ticketUpdated({ tenantId });
        await bridge.publish('tickets.updated', payload, { rooms: [`tenant:${tenantId}`] });
        await until('heard', () => calls.length >= 3);
        assert.deepEqual(calls[0], ['bridge.audience', {}]);
        assert.deepEqual(
          calls.slice(1).map(([event]) => event),
          ['ticket.updated', 'tickets.updated'],
        );
        assert.deepEqual(calls.at(-1), ['tickets.updated', payload]);
        assert.ok(!calls.some(([event]) => event === 'bridge.cursor'));
      } finally {
        socket.disconnect();
      }
    });

    describe('recovery', () => {
      let proxy: CutProxy;
      before(async () => {
        proxy = await startCutProxy(bridge.url);
      });
      after(() => proxy.close());

      for (const [how, cut] of [
        ['cut', () => proxy.refuse()],
        ['cut while the server believes it lives', () => proxy.cutClientSide()],
      ] as const) {
        test(`a stock client that is ${how} is recovered and gets all that it missed`, () =>
          withClient(async (client) => {
            const tenantId = freshTenant();
            await client.join('tenantId', tenantId);
            const published = await publish(bridge, tenantId, 2);
            await until('heard', () => ids(client).length === 2);
            const { id } = client.socket;
            // A polling client between two polls does not notice a cut.
            await until('cut off', () => {
              cut();
              return client.socket.disconnected;
            });
            published.push(...(await publish(bridge, tenantId, 3)));
            proxy.restore();
            await until('back', () => client.recoveries.length === 2);
            published.push(...(await publish(bridge, tenantId, 1)));
            await until('all heard', () => ids(client).length >= published.length);
            assert.deepEqual(client.recoveries, [false, true]);
            assert.equal(client.socket.id, id);
            assert.deepEqual(ids(client), published);
            assert.deepEqual(client.resets, []);
          }, proxy.url));
      }

      test('a client that has heard nothing yet is recovered too', () =>
        withClient(async (client) => {
          const tenantId = freshTenant();
          await client.join('tenantId', tenantId);
          proxy.refuse();
          await until('cut off', () => client.socket.disconnected);
          const published = await publish(bridge, tenantId, 2);
          proxy.restore();
          await until('all heard', () => ids(client).length >= 2);
          assert.deepEqual(client.recoveries, [false, true]);
          assert.deepEqual(ids(client), published);
        }, proxy.url));

      test('a client with audience=true gets marks in a recovery too', async () => {
        const tenantId = freshTenant();
        const client = await connect(proxy.url, { tenantId: [tenantId] }, { audience: true, legacy: false });
        try {
          proxy.refuse();
          await until('cut off', () => client.socket.disconnected);
          const rooms = [`tenant:${tenantId}`];
          await bridge.publish('tickets.updated', ticketUpdated({ tenantId }), { rooms });
          await bridge.publish('tickets.updated', ticketUpdated({ tenantId }));
          proxy.restore();
          await until('all heard', () => ids(client).length >= 2);
          assert.deepEqual(client.recoveries, [false, true]);
          const names = client.heard.map(({ event }) => event);
          assert.deepEqual(names, ['bridge.audience', 'tickets.updated', 'tickets.updated']);
        } finally {
          client.close();
        }
      });

      test('a room that was left is not heard after a recovery', () =>
        withClient(async (client) => {
          const [left, kept] = [freshTenant(), freshTenant()];
          await client.join('tenantId', left);
          await client.join('tenantId', kept);
          await client.socket.emitWithAck('leave-tenant', left);
          proxy.refuse();
          await until('cut off', () => client.socket.disconnected);
          await publish(bridge, left, 1);
          const missed = await publish(bridge, kept, 1);
          proxy.restore();
          await until('missed heard', () => ids(client).length >= 1);
          await publish(bridge, left, 1);
          const live = await publish(bridge, kept, 1);
          await until('live heard', () => ids(client).at(-1) === live[0]);
          assert.deepEqual(client.recoveries, [false, true]);
          assert.deepEqual(ids(client), [...missed, ...live]);
        }, proxy.url));

      test('a replay that a join asked for does not become the recovery offset', () =>
        withClient(async (client) => {
          const [a, b] = [freshTenant(), freshTenant()];
          const [first] = await publish(bridge, a, 3);
          await client.join('tenantId', b);
          const live = await publish(bridge, b, 1);
          await until('live heard', () => ids(client).length === 1);
          await client.join('tenantId', a, first);
          proxy.refuse();
          await until('cut off', () => client.socket.disconnected);
          const missed = await publish(bridge, b, 2);
          proxy.restore();
          await until('missed heard', () => ids(client).length >= 5);
          assert.deepEqual(
            canonical(client.heard)
              .filter(({ replay }) => !replay)
              .map(({ id }) => id),
            [...live, ...missed],
          );
        }, proxy.url));

      test('a join whose ack was lost replays again when it is repeated after the recovery', () =>
        withClient(async (client) => {
          const tenantId = freshTenant();
          const [first, ...rest] = await publish(bridge, tenantId, 3);
          const replayed = `roomcast_replayed_total{transport="${transport}"}`;
          const before = await metric(bridge, replayed);
          proxy.loseDownstream();
          client.socket.emit('join-tenant', tenantId, { after: first });
          await until('replayed into the void', async () => (await metric(bridge, replayed)) >= before + 2);
          proxy.cut();
          await until('back', () => client.recoveries.length === 2);
          assert.equal(client.recoveries[1], true);
          const answer = await client.join('tenantId', tenantId, first);
          assert.equal(answer.ok, true);
          assert.deepEqual(ids(client), rest);
          const [live] = await publish(bridge, tenantId, 1);
          await until('live heard', () => ids(client).at(-1) === live);
          assert.equal(ids(client).length, 3);
        }, proxy.url));

      test('an unknown session or offset: not recovered, no room, bridge.reset, then bridge.cursor', async () => {
        for (const auth of [
          { pid: 'no-such-session', offset: 'no-such-cursor' },
          { pid: 'no-such-session' },
          { pid: 'no-such-session', offset: 'a b' },
        ]) {
          const socket = io(bridge.url, { transports: [transport], forceNew: true, auth });
          const told: unknown[][] = [];
          socket.onAny((...args: unknown[]) => told.push(args));
          await until('told', () => told.length >= 2);
          assert.equal(socket.recovered, false);
          assert.deepEqual(
            told.map(([event]) => event),
            ['bridge.reset', 'bridge.cursor'],
          );
          const reset = told[0]?.[1] as Record<string, string>;
          assert.deepEqual(Object.keys(reset).sort(), ['after', 'cursor', 'oldest', 'reason']);
          assert.equal(reset.reason, auth.offset === undefined ? 'expired' : 'unknown');
          socket.disconnect();
        }
      });
    });
  });
}

test('a connection that has lived longer than twice RECOVERY_SECONDS is recovered', async (context) => {
  const brief = await startBridge({ recoverySeconds: 1 });
  context.after(() => brief.close());
  const proxy = await startCutProxy(brief.url);
  context.after(() => proxy.close());
  const client = await connectSocket('websocket')(proxy.url, { tenantId: ['t1'] }, { legacy: false });
  context.after(() => client.close());
  await new Promise((resolve) => setTimeout(resolve, 2500)); // this time is what is tested
  // The server does not see the end, as if it had been killed: what it saved while the connection lived must do.
  proxy.cutClientSide();
  const missed = await publish(brief, 't1', 1);
  await until('missed heard', () => ids(client).length >= 1);
  assert.deepEqual([client.recoveries, client.resets.length, ids(client)], [[false, true], 0, missed]);
});

test('a client that upgrades from polling to websocket loses nothing', async () => {
  const bridge = await startBridge();
  const tenantId = freshTenant();
  const socket = io(bridge.url, { forceNew: true, auth: { legacy: false } });
  try {
    const heard: string[] = [];
    socket.on('messages.new', (_: object, id: string) => heard.push(id));
    await new Promise<void>((resolve) => socket.once('connect', resolve));
    await socket.emitWithAck('join-tenant', tenantId);
    const published: string[] = [];
    while (socket.io.engine.transport.name !== 'websocket') published.push(...(await publish(bridge, tenantId, 1)));
    published.push(...(await publish(bridge, tenantId, 5)));
    await until('all heard', () => heard.length >= published.length);
    assert.deepEqual(heard, published);
  } finally {
    socket.disconnect();
    await bridge.close();
  }
});

test('a client beyond MAX_CONNECTIONS is refused at the handshake, and admitted once there is room', async () => {
  const bridge = await startBridge({ maxConnections: 1 });
  const [first, second] = [1, 2].map(() =>
    io(bridge.url, { transports: ['websocket'], forceNew: true, autoConnect: false, reconnectionDelay: 20 }),
  );
  try {
    first?.connect();
    await new Promise<void>((resolve) => first?.once('connect', resolve));
    const refused = new Promise<void>((resolve) => second?.once('connect_error', () => resolve()));
    second?.connect();
    await refused;
    for (const sid of ['', '&sid=', '&sid=none&sid=']) {
      const response = await fetch(`${bridge.url}/socket.io/?EIO=4&transport=polling${sid}`);
      assert.equal(response.status, 503);
      assert.ok(Number(response.headers.get('retry-after')) >= 1);
      assert.equal(((await response.json()) as { code: string }).code, 'too_many_connections');
    }
    first?.disconnect();
    await until('let in', () => second?.connected === true);
  } finally {
    first?.disconnect();
    second?.disconnect();
    await bridge.close();
  }
});

interface RawSocket {
  pause(): void;
  resume(): void;
}

/** The TCP socket below a stock client's websocket. */
function rawSocketOf(client: SocketClient): RawSocket {
  const { transport } = client.socket.io.engine as unknown as { transport: { ws: { _socket: RawSocket } } };
  return transport.ws._socket;
}

test('refused handshakes that wait behind another answer are counted out with their connection', async (context) => {
  const bridge = await startBridge({ maxConnections: 20 });
  context.after(() => bridge.close());
  const raw = openRaw(bridge.url);
  const refused = get('/socket.io/?EIO=4&transport=carrier-pigeon');
  raw.send(get('/events?tenantId=t&wait=25') + refused.repeat(15));
  const longPolls = () => metric(bridge, 'roomcast_connections{transport="longpoll"}');
  await until('it waits', async () => (await longPolls()) === 1);
  raw.destroy();
  await until('it is gone', async () => (await longPolls()) === 0);
  const aborter = new AbortController();
  context.after(() => aborter.abort());
  const stream = () => fetch(`${bridge.url}/sse?tenantId=t`, { signal: aborter.signal });
  const others = await Promise.all(Array.from({ length: 20 }, stream));
  assert.deepEqual(new Set(others.map(({ status }) => status)), new Set([200]));
});

test('a client that does not read is cut, counted, and resumes with nothing missing', async () => {
  const bridge = await startBridge({ maxBufferBytes: 65_536 });
  const client = await connectSocket('websocket')(bridge.url, { tenantId: ['slow'] });
  try {
    const raw = rawSocketOf(client);
    raw.pause();
    const published: string[] = [];
    const message = { content: 'x'.repeat(50_000) };
    await until('cut', async () => {
      published.push(...(await publish(bridge, 'slow', 10, { message })));
      return (await metric(bridge, 'roomcast_slow_consumers_total{transport="websocket"}')) > 0;
    });
    raw.resume();
    await until('all heard', () => ids(client).length >= published.length);
    assert.deepEqual(ids(client), published);
    assert.equal(client.recoveries.at(-1), true);
  } finally {
    client.close();
    await bridge.close();
  }
});

test('a client that sends requests and reads no answers is cut too', async (context) => {
  // The server reads twice as many packets a second as joins are allowed.
  const bridge = await startBridge({ maxBufferBytes: 65_536, rateJoins: 100_000 });
  context.after(() => bridge.close());
  const cuts = (transport: string) => metric(bridge, `roomcast_slow_consumers_total{transport="${transport}"}`);

  const raw = await openRawWebSocket(bridge.url);
  context.after(() => raw.destroy());
  raw.send('40');
  await until('connected', () => raw.text().includes('40{'));
  raw.pause();
  const request = frame(TEXT, `421["join-tenant","${'x'.repeat(80)}",1]`);
  const requests = Buffer.concat(Array.from({ length: 5_000 }, () => request));
  // The kernel takes megabytes of the answers before any waits in the server.
  await until(
    'the websocket is cut',
    async () => {
      if (raw.unsentBytes === 0) void raw.write(requests);
      return (await cuts('websocket')) > 0;
    },
    60_000,
  );

  const path = `${bridge.url}/socket.io/?EIO=4&transport=polling`;
  const { sid } = JSON.parse((await (await fetch(path)).text()).slice(1)) as { sid: string };
  const send = (...packets: string[]) => fetch(`${path}&sid=${sid}`, { method: 'POST', body: packets.join('\x1e') });
  await send('40');
  await fetch(`${path}&sid=${sid}`);
  await until('the poll that never comes is not waited for', async () => {
    await send(...Array.from({ length: 500 }, (_, index) => `42${index}["leave-tenant","${'x'.repeat(100)}"]`));
    return (await cuts('polling')) > 0;
  });
});

test('one commit larger than the budget, and one huge record, cut nobody who reads', async () => {
  const bridge = await startBridge({ maxBufferBytes: 65_536, maxBodyBytes: 4_000_000 });
  const clients = [
    await connectSocket('websocket')(bridge.url, { tenantId: ['burst'] }),
    await connectSocket('polling')(bridge.url, { tenantId: ['burst'] }),
  ];
  try {
    const published: string[] = [];
    for (let round = 0; round < 5; round++) {
      const events = Array.from({ length: 100 }, () => ({
        event: 'messages.new',
        payload: messageNew({ tenantId: 'burst', message: { content: 'y'.repeat(5_000) } }),
      }));
      const { body } = await bridge.post({ events });
      published.push(...body.results.map(({ id }) => id));
      published.push(...(await publish(bridge, 'burst', 2, { message: { content: 'z'.repeat(500_000) } })));
      // A reader is given the time to read, else it would be slow indeed.
      for (const client of clients) {
        await until('all heard', () => ids(client).length >= published.length);
      }
    }
    for (const client of clients) {
      assert.deepEqual(ids(client), published);
      assert.deepEqual(client.recoveries, [false], 'never cut');
    }
  } finally {
    for (const client of clients) client.close();
    await bridge.close();
  }
});

test('a trimmed cursor gets a reset with `expired`, on a join and on recovery', async () => {
  const bridge = await startBridge({ retentionEvents: 5 });
  const proxy = await startCutProxy(bridge.url);
  const client = await connectSocket('websocket')(proxy.url, { tenantId: ['trim'] });
  try {
    const [first] = await publish(bridge, 'trim', 2);
    await until('heard', () => ids(client).length === 2);
    proxy.refuse();
    await until('cut off', () => client.socket.disconnected);
    await publish(bridge, 'trim', 30);
    const expired = async () => (await fetch(`${bridge.url}/events?tenantId=trim&after=${first}`)).status === 410;
    await until('trimmed', expired);
    proxy.restore();
    await until('back', () => client.recoveries.length === 2);
    assert.deepEqual(client.recoveries, [false, false]);
    await until('told', () => client.resets.length === 1);
    assert.equal(client.resets[0]?.reason, 'expired');
    const heard = ids(client).length;
    const answer = await client.join('tenantId', 'trim', first);
    assert.equal(answer.ok, true);
    assert.equal(client.resets.length, 2, 'told before the ack');
    assert.equal(client.resets[1]?.after, first);
    assert.equal(ids(client).length, heard, 'and in no room before it joined again');
    const [live] = await publish(bridge, 'trim', 1);
    await until('live', () => ids(client).at(-1) === live);
  } finally {
    client.close();
    await proxy.close();
    await bridge.close();
  }
});

for (const transport of ['websocket', 'polling'] as const) {
  test(`a client that leaves and reconnects on one connection (${transport}) is admitted by its own token`, async () => {
    const secret = 'of thirty-two characters at least, this one';
    const bridge = await startBridge({ authMode: 'jwt', jwtSecret: secret });
    const token = await new SignJWT({ tenantId: 'again', scope: 'subscribe', exp: Date.now() / 1000 + 60 })
      .setProtectedHeader({ alg: 'HS256' })
      .sign(new TextEncoder().encode(secret));
    const manager = new Manager(bridge.url, {
      transports: [transport],
      extraHeaders: { authorization: `Bearer ${token}` },
      reconnectionDelay: 10,
    });
    const [main, other] = [manager.socket('/'), manager.socket('/check')];
    const refusals: string[] = [];
    main.on('connect_error', ({ message }) => refusals.push(message));
    await until('both are in', () => main.connected && other.connected);
    main.disconnect();
    main.connect();
    await until('it is in again', () => main.connected);
    const { ok } = await main.emitWithAck('join-tenant', 'again');
    assert.deepEqual([ok, refusals], [true, []]);
    main.disconnect();
    other.disconnect();
    await bridge.close();
  });
}

test('a client that disconnects by itself is not recovered, even if its joins were still pending', async (context) => {
  const bridge = await startBridge();
  context.after(() => bridge.close());
  for (let round = 0; round < 20; round++) {
    const client = await connectSocket('websocket')(bridge.url, {});
    context.after(() => client.close());
    for (let index = 0; index < 20; index++) client.socket.emit('join-ticket', `${index}`);
    // Whatever of them is under way by then.
    for (let turn = 0; turn < 2 * round; turn++) await new Promise((resolve) => setImmediate(resolve));
    client.socket.disconnect();
    const connections = 'roomcast_connections{transport="websocket"}';
    await until('the server knows', async () => (await metric(bridge, connections)) === 0);
    client.socket.connect();
    await until('it is back', () => client.recoveries.length === 2);
    assert.deepEqual(client.recoveries, [false, false]);
    client.close();
  }
});

test('nothing is kept of clients that are turned away while the keys are unavailable', async (context) => {
  // The port of TCP's `discard`: nobody answers there.
  const bridge = await startBridge({ authMode: 'jwt', jwksUrl: 'http://127.0.0.1:9/' });
  context.after(() => bridge.close());
  const token = await new SignJWT({ tenantId: 'a' })
    .setProtectedHeader({ alg: 'ES256', kid: 'away' })
    .sign((await generateKeyPair('ES256')).privateKey);
  const count = () => queryObjects(ServerSocket, { format: 'count' });
  const before = count();
  const refused = 'roomcast_refused_total{code="unavailable"}';
  const socket = io(bridge.url, { transports: ['websocket'], forceNew: true, reconnectionDelay: 1, auth: { token } });
  context.after(() => socket.disconnect());
  await until('it was refused and came back', async () => (await metric(bridge, refused)) >= 2);
  socket.disconnect();
  await until('all is forgotten', () => count() === before);
});

test('a drain closes every connection, also one that has joined no namespace', async () => {
  const bridge = await startBridge({ drainMs: 30_000 });
  const opened = await Promise.all(
    ['nothing said', 'in no namespace', 'connected'].map(async (state) => {
      const socket = new WebSocket(`${bridge.url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`);
      await once(socket, 'message');
      if (state !== 'nothing said') {
        socket.send(state === 'connected' ? '40' : '40/nowhere,');
        await once(socket, 'message');
      }
      return { closed: once(socket, 'close') };
    }),
  );
  await bridge.close();
  for (const { closed } of opened) {
    const [{ wasClean }] = await closed;
    assert.equal(wasClean, true, 'closed, not destroyed at the end of the time for the drain');
  }
});

/**
 * protocol §15, `GET /refusals`: every refusal of every transport, newest first, with who was refused only if the token's
 * signature is good.
 */
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { describe, it, type TestContext } from 'node:test';
import { SignJWT } from 'jose';
import { io } from 'socket.io-client';
import { metric, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { openRaw } from '../support/raw.ts';
import { until } from '../support/until.ts';
import {
  admin,
  adminOf,
  call,
  JWT,
  nowS,
  PLACES,
  type Refusal,
  refusals,
  SECRET,
  sign,
  TRANSPORTS,
  toQuery,
  unsigned,
} from './support.ts';

const KEYS = ['address', 'at', 'code', 'message', 'node', 'sub', 'tenantIds', 'transport', 'what'];

/** A stock client that is refused; resolves to the refusal's code. */
async function refusedSocket(t: TestContext, { url }: TestBridge, transport: string, token?: string): Promise<string> {
  const socket = io(url, {
    transports: [transport],
    forceNew: true,
    reconnection: false,
    auth: token === undefined ? {} : { token },
  });
  t.after(() => void socket.disconnect());
  return new Promise((resolve, reject) => {
    socket.once('connect', () => reject(new Error('it was let in')));
    socket.once('connect_error', (error: Error & { data?: { code: string } }) =>
      resolve(error.data?.code ?? error.message),
    );
  });
}

/** Asks for tenant t1's events over a transport, with the token. */
async function ask(t: TestContext, bridge: TestBridge, transport: string, token?: string): Promise<void> {
  if (transport === 'websocket' || transport === 'polling') await refusedSocket(t, bridge, transport, token);
  else if (transport === 'sse') await call(bridge, 'GET /sse?tenantId=t1', token);
  else if (transport === 'longpoll') await call(bridge, 'GET /events?tenantId=t1&after=now&wait=5', token);
  else await call(bridge, 'GET /tickets?tenantId=t1', token);
}
const WHAT: Record<string, string> = {
  websocket: 'connect',
  polling: 'connect',
  sse: 'GET /sse',
  longpoll: 'GET /events',
  http: 'GET /tickets',
};

async function newest(bridge: TestBridge, root: string | undefined): Promise<Refusal | undefined> {
  return (await call(bridge, 'GET /refusals?limit=1', root)).body.items[0];
}

for (const { name, skip, start } of PLACES) {
  describe(`refusals: ${name}`, { skip }, () => {
    it('names the code and what was asked on each transport, and whom only by a good signature', async (t) => {
      const { a, b } = await start(t, JWT);
      const root = await admin();
      const revoked = await sign({ sub: 'revoked' });
      assert.equal((await call(a, 'POST /revocations', root, { sub: 'revoked' })).status, 201);
      await until('it is known', async () => (await call(b, 'GET /events?tenantId=t1', revoked)).status === 401);
      const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
      const ways: (readonly [string, string | undefined, string, string | null, string[]])[] = [
        [
          'expired',
          await sign({ sub: 'late', tenantId: ['t1', 't2'], exp: nowS() - 60 }),
          'token_expired',
          'late',
          ['t1', 't2'],
        ],
        ['revoked', revoked, 'token_revoked', 'revoked', ['t1']],
        ['no scope', await sign({ sub: 'narrow', scope: 'metrics' }), 'forbidden', 'narrow', ['t1']],
        ['not yet', await sign({ sub: 'early', nbf: nowS() + 600 }), 'unauthorized', 'early', ['t1']],
        ['another key', await sign({ sub: 'forger' }, 'another secret of thirty-two bytes'), 'unauthorized', null, []],
        ['another key, expired', await sign({ sub: 'forger', exp: 1 }, 'x'.repeat(32)), 'unauthorized', null, []],
        ['alg none', unsigned({ sub: 'forger', tenantId: 't1', scope: 'subscribe' }), 'unauthorized', null, []],
        ['alg none, expired', unsigned({ sub: 'forger', tenantId: 't1', exp: 1 }), 'unauthorized', null, []],
        [
          'another algorithm',
          await new SignJWT({ sub: 'forger', tenantId: 't1' }).setProtectedHeader({ alg: 'RS256' }).sign(privateKey),
          'unauthorized',
          null,
          [],
        ],
        ['no token', undefined, 'unauthorized', null, []],
        ['rubbish', 'not.a.token', 'unauthorized', null, []],
      ];
      for (const [way, token, code, sub, tenantIds] of ways) {
        for (const transport of [...TRANSPORTS, 'http']) {
          const before = await newest(a, root);
          await ask(t, b, transport, token);
          let item: Refusal | undefined;
          await until(`${way} over ${transport} is listed`, async () => {
            item = await newest(a, root);
            return item !== undefined && JSON.stringify(item) !== JSON.stringify(before);
          });
          assert.deepEqual(Object.keys(item as Refusal).sort(), KEYS);
          const { at, node, message, ...rest } = item as Refusal;
          assert.deepEqual(
            { ...rest, tenantIds: [...rest.tenantIds].sort() },
            { address: '127.0.0.1', transport, sub, tenantIds, what: WHAT[transport], code },
            way,
          );
          assert.ok(message.length > 10, message);
          assert.ok(Math.abs(Date.parse(at) - Date.now()) < 60_000, at);
          assert.match(at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
          assert.match(node, /./);
          if (token !== undefined) assert.ok(!JSON.stringify(item).includes(token.slice(-20)), way);
          assert.ok(!JSON.stringify(item).includes('forger'), way);
        }
      }
    });

    it('names joins, publishes, and requests that are refused for what they ask', async (t) => {
      const { a, b } = await start(t, { ...JWT, maxRooms: 3 });
      const root = await admin();
      const token = await sign({ sub: 'asker', scope: 'subscribe publish' });
      const socket = io(b.url, { transports: ['websocket'], forceNew: true, auth: { token } });
      t.after(() => void socket.disconnect());
      await until('connected', () => socket.connected);
      const emit =
        (event: string, ...args: unknown[]) =>
        async () => {
          assert.equal((await socket.emitWithAck(event, ...args)).ok, false, event);
        };
      const request = (route: string, body?: unknown) => async () => {
        assert.ok((await call(b, route, token, body)).status >= 400, route);
      };
      const event = { event: 'tickets.updated', payload: ticketUpdated({ tenantId: 't9' }) };
      const cases: (readonly [() => Promise<void>, string, string | RegExp, string])[] = [
        [emit('join-tenant', 't9'), 'websocket', 'join tenant:t9', 'forbidden'],
        [emit('join', 'user:somebody'), 'websocket', 'join user:somebody', 'forbidden'],
        [emit('join', 'tickett:1'), 'websocket', /^join/, 'invalid_room'],
        [emit('join-ticket', 'a b'), 'websocket', /^join/, 'invalid_room'],
        [emit('join-ticket', '1', { after: 'not a cursor' }), 'websocket', 'join ticket:1', 'invalid_cursor'],
        [emit('join', ['ticket:1', 'ticket:2', 'ticket:3', 'ticket:4']), 'websocket', /^join/, 'too_many_rooms'],
        [emit('join-tikcet', '1'), 'websocket', /join-tikcet/, 'unknown_event'],
        [request('GET /sse?tenantId=t9'), 'sse', 'GET /sse', 'forbidden'],
        [request('GET /sse?userId=somebody'), 'sse', 'GET /sse', 'forbidden'],
        [request('GET /sse?tiketId=1'), 'sse', 'GET /sse', 'unknown_parameter'],
        [request('GET /sse'), 'sse', 'GET /sse', 'invalid_request'],
        [request('GET /sse?tenantId=t1&after=%20'), 'sse', 'GET /sse', 'invalid_cursor'],
        [request('GET /events?tenantId=t9&wait=5&after=now'), 'longpoll', 'GET /events', 'forbidden'],
        [request('GET /events?tenantId=t9'), 'http', 'GET /events', 'forbidden'],
        [request('POST /events', event), 'http', 'POST /events', 'forbidden'],
        [request('POST /events', { event: 'x' }), 'http', 'POST /events', 'unknown_event'],
        [request('GET /log?tenantId=t1'), 'http', 'GET /log', 'forbidden'],
        [request('GET /connections'), 'http', 'GET /connections', 'forbidden'],
        [request('GET /tickets/7?tenantId=t9'), 'http', /^GET \/tickets/, 'forbidden'],
      ];
      for (const [act, transport, what, code] of cases) {
        const before = await newest(a, root);
        await act();
        let item: Refusal | undefined;
        await until(`${what} ${code} is listed`, async () => {
          item = await newest(a, root);
          return item !== undefined && JSON.stringify(item) !== JSON.stringify(before);
        });
        assert.deepEqual(
          [item?.transport, item?.code, item?.sub, item?.tenantIds],
          [transport, code, 'asker', ['t1']],
          JSON.stringify(item),
        );
        if (typeof what === 'string') assert.equal(item?.what, what);
        else assert.match(item?.what as string, what);
      }
    });

    it('filters by user and address, and pages, newest first', async (t) => {
      const { a, b } = await start(t, { ...JWT, trustProxy: 1 });
      const root = await admin();
      const users = ['one', 'two', '<b>three</b>', '\u202efour'];
      for (let n = 0; n < 24; n++) {
        const token = await sign({ sub: users[n % 4] as string, exp: 5 });
        const headers = { 'x-forwarded-for': `10.0.0.${n % 3}` };
        assert.equal(
          (await call(n % 2 === 0 ? a : b, `GET /events?tenantId=t1`, token, undefined, headers)).status,
          401,
        );
      }
      await until('all are there', async () => (await refusals(a, {}, root)).length >= 24);
      const list = await refusals(b, { limit: 5 }, root);
      assert.equal(list.length, 24);
      assert.deepEqual(
        list.map(({ at }) => at),
        list
          .map(({ at }) => at)
          .sort()
          .reverse(),
      );
      assert.equal(new Set(list.map((one) => JSON.stringify(one))).size, 24);
      for (const sub of [...users, 'nobody']) {
        for (const address of [undefined, '10.0.0.0', '10.0.0.1', '10.0.0', '127.0.0.1']) {
          const expected = list.filter((one) => one.sub === sub && (address === undefined || one.address === address));
          assert.deepEqual(await refusals(a, { sub, address, limit: 2 }, root), expected, `${sub} ${address}`);
        }
      }
    });

    it('shows a tenant admin the refusals of tokens all of whose tenants it names', async (t) => {
      const { a, b } = await start(t, JWT);
      const root = await admin();
      const population = [['t1'], ['t2'], ['t1', 't2'], ['*'], []] as const;
      for (const [index, tenantIds] of population.entries()) {
        const token = await sign({ sub: `u${index}`, tenantId: [...tenantIds], exp: 5 });
        await call(index % 2 === 0 ? a : b, 'GET /events?tenantId=t1', token);
      }
      await call(b, 'GET /events?tenantId=t1');
      await call(b, 'GET /events?tenantId=t1', await sign({ sub: 'forger', tenantId: 't1' }, 'x'.repeat(32)));
      await until('all are there', async () => (await refusals(a, {}, root)).length === 7);
      for (const [token, subs] of [
        [await adminOf('t1'), ['u0']],
        [await adminOf('t2'), ['u1']],
        [await adminOf('t1', 't2', 't3'), ['u2', 'u1', 'u0']],
        [await adminOf('t3'), []],
      ] as const) {
        const items = await refusals(a, {}, token);
        assert.deepEqual(items.map(({ sub }) => sub).sort(), [...subs].sort());
        assert.deepEqual(await refusals(a, { sub: 'u3' }, token), []);
      }
    });
  });
}

describe('the refusals of a node', () => {
  it('are the newest 1,000, and what the metrics count', async (t) => {
    const bridge = await startBridge(JWT);
    t.after(() => bridge.close());
    const root = await admin();
    for (let n = 0; n < 1_100; n += 50) {
      await Promise.all(
        Array.from({ length: 50 }, async (_, index) =>
          call(bridge, `GET /events?tenantId=t1`, await sign({ sub: `u${n + index}`, exp: 5 })),
        ),
      );
    }
    const items = await refusals(bridge, { limit: 1000 }, root);
    assert.equal(items.length, 1_000);
    for (let n = 100; n < 1_100; n += 50)
      assert.ok(
        items.some(({ sub }) => sub === `u${n}`),
        `u${n}`,
      );
    assert.ok(items.every(({ sub }) => sub !== 'u0' && sub !== 'u49'));
    assert.equal(await metric(bridge, 'roomcast_refused_total{code="token_expired"}'), 1_100);
  });

  it('have messages of bounded length, whatever was asked', async (t) => {
    const bridge = await startBridge({ ...JWT, jwtSecret: SECRET });
    t.after(() => bridge.close());
    const root = await admin();
    const long = 'x'.repeat(6_000);
    await call(bridge, `GET /sse?${toQuery({ [long]: 1 })}`, await sign({ sub: long }));
    await call(bridge, `GET /tickets/${long}?tenantId=t9`, await sign({ sub: long, tenantId: `t${'1'.repeat(127)}` }));
    const socket = io(bridge.url, { transports: ['websocket'], forceNew: true, auth: { token: await sign() } });
    t.after(() => void socket.disconnect());
    await until('connected', () => socket.connected);
    await socket.emitWithAck('join', `ticket:${long}`);
    await socket.emitWithAck(`join-${long}`, '1');
    await socket.emitWithAck(
      'join',
      Array.from({ length: 400 }, (_, n) => `tenant:${n}${'y'.repeat(20)}`),
    );
    const { text, body } = await call(bridge, 'GET /refusals', root);
    assert.ok(body.items.length >= 5, text.slice(0, 2000));
    for (const item of body.items) {
      const { length } = JSON.stringify({ ...item, sub: null });
      assert.ok(length < 2_000, `${length}: ${item.what.slice(0, 100)}`);
    }
  });

  it('name refusals before any token is looked at', async (t) => {
    const bridge = await startBridge({ authMode: 'none', maxConnectionsPerAddress: 3, corsOrigins: [] });
    t.after(() => bridge.close());
    const foreign = { origin: 'http://evil.example' };
    assert.equal((await call(bridge, 'GET /sse?tenantId=t', undefined, undefined, foreign)).status, 403);
    const engine = 'GET /socket.io/?transport=polling&EIO=';
    assert.equal((await call(bridge, `${engine}4`, undefined, undefined, foreign)).status, 403);
    assert.equal((await call(bridge, `${engine}3`)).status, 400);
    const raws = Array.from({ length: 6 }, () => {
      const raw = openRaw(bridge.url);
      raw.send('GET /sse?tenantId=t HTTP/1.1\r\nHost: localhost\r\n\r\n');
      t.after(() => raw.destroy());
      return raw;
    });
    await until('all are answered', () => raws.every((raw) => raw.responses().length === 1));
    await until('they are listed', async () => {
      const codes = (await refusals(bridge)).map(({ code, transport, what }) => `${transport} ${what}: ${code}`);
      return (
        codes.includes('sse GET /sse: forbidden') &&
        codes.includes('polling connect: forbidden') &&
        codes.some((one) => /^polling connect: /.test(one) && !one.endsWith('forbidden')) &&
        codes.filter((one) => one === 'sse GET /sse: too_many_connections').length === 3
      );
    }).catch(async (error) => {
      throw new Error(`${error.message}: ${JSON.stringify(await refusals(bridge))}`);
    });
  });
});

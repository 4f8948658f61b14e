/**
 * protocol §15, §11: who may operate a bridge. A table of every make of token against every route; then random tenants,
 * tokens and requests against a model that is written from the protocol alone: an operator of one tenant never gets a byte
 * of another's.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { JWTPayload } from 'jose';
import { startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { createRandom } from '../support/random.ts';
import { until } from '../support/until.ts';
import {
  type Connection,
  call,
  hold,
  JWT,
  type Logged,
  nowS,
  PLACES,
  type Refusal,
  sign,
  TRANSPORTS,
  toQuery,
  unsigned,
  untilListed,
} from './support.ts';

const ROUTES = [
  'GET /connections',
  'GET /connections/unknown',
  'DELETE /connections/unknown',
  'DELETE /connections?sub=nobody',
  'GET /refusals',
  'GET /log',
  'GET /log?tenantId=t1',
  'GET /log?ticketId=1',
  'GET /log?tenantId=t2',
] as const;
type Route = (typeof ROUTES)[number];

const everywhere = (outcome: string): Record<Route, string> =>
  Object.fromEntries(ROUTES.map((route) => [route, outcome])) as Record<Route, string>;
const LET_IN: Record<Route, string> = {
  ...everywhere('200'),
  'GET /connections/unknown': '404 not_found',
  'DELETE /connections/unknown': '404 not_found',
};

async function outcomesOf(bridge: TestBridge, token?: string, more = '', headers = {}): Promise<Record<Route, string>> {
  const outcomes = everywhere('');
  for (const route of ROUTES) {
    const path = more === '' ? route : `${route}${route.includes('?') ? '&' : '?'}${more}`;
    const { status, body } = await call(bridge, path, token, undefined, headers);
    outcomes[route] = status === 200 ? '200' : `${status} ${body?.code}`;
  }
  return outcomes;
}

describe('who may operate a bridge', () => {
  it('without tokens: everybody on a loopback address, nobody on another', async (t) => {
    const open = await startBridge();
    t.after(() => open.close());
    assert.deepEqual(await outcomesOf(open), LET_IN);
    for (const headers of [
      { origin: 'http://evil.example' },
      { 'sec-fetch-site': 'cross-site' },
      { origin: 'null', 'sec-fetch-site': 'cross-site' },
    ]) {
      assert.deepEqual(await outcomesOf(open, undefined, '', headers), everywhere('403 forbidden'));
    }
    assert.deepEqual(await outcomesOf(open, undefined, '', { origin: 'http://localhost:5173' }), LET_IN);

    const wide = await startBridge({ host: '0.0.0.0', authMode: 'none' });
    t.after(() => wide.close());
    assert.deepEqual(await outcomesOf(wide), everywhere('403 forbidden'));
    for (const route of ROUTES) assert.match((await call(wide, route)).body.detail, /AUTH_MODE=jwt/, route);
  });

  it('with tokens: scope admin, and of which tenants', async (t) => {
    const bridge = await startBridge({ ...JWT, roomKinds: ['queue'] });
    t.after(() => bridge.close());
    const foreign = { 'GET /log?tenantId=t2': '403 forbidden' };
    const makes: (readonly [string, JWTPayload, Record<Route, string>])[] = [
      ['of one tenant', { scope: 'admin' }, { ...LET_IN, ...foreign }],
      ['of one tenant, and listens', { scope: 'subscribe publish admin' }, { ...LET_IN, ...foreign }],
      ['of two tenants', { scope: 'admin', tenantId: ['t1', 't2'] }, LET_IN],
      ['of another tenant', { scope: 'admin', tenantId: 't2' }, { ...LET_IN, 'GET /log?tenantId=t1': '403 forbidden' }],
      ['of all tenants', { scope: 'admin', tenantId: '*' }, LET_IN],
      ['listens', { scope: 'subscribe' }, everywhere('403 forbidden')],
      ['publishes', { scope: 'publish' }, everywhere('403 forbidden')],
      ['publishes for all', { scope: 'publish', tenantId: '*' }, everywhere('403 forbidden')],
      ['signals', { scope: 'signal' }, everywhere('403 forbidden')],
      ['scrapes', { scope: 'metrics', tenantId: '*' }, everywhere('403 forbidden')],
      ['all but admin', { scope: 'subscribe publish signal metrics', tenantId: '*' }, everywhere('403 forbidden')],
      ['a scope like admin', { scope: 'Admin administrator admin-x', tenantId: '*' }, everywhere('403 forbidden')],
      ['no scope', { scope: '' }, everywhere('403 forbidden')],
      ['of no tenant', { scope: 'admin', tenantId: [] }, everywhere('403 forbidden')],
      ...[{ ticketIds: ['1'] }, { ticketIds: [] }, { agreementIds: ['1'] }, { queueIds: null }].flatMap((claims) => [
        [`narrowed ${JSON.stringify(claims)}`, { scope: 'admin', ...claims }, everywhere('403 forbidden')] as const,
        [
          `narrowed, of all ${JSON.stringify(claims)}`,
          { scope: 'admin', tenantId: '*', ...claims },
          everywhere('403 forbidden'),
        ] as const,
      ]),
      ['expired', { scope: 'admin', exp: nowS() - 60 }, everywhere('401 token_expired')],
      ['not yet', { scope: 'admin', nbf: nowS() + 600 }, everywhere('401 unauthorized')],
    ];
    for (const [make, claims, expected] of makes) {
      const token = await sign({ sub: 'op', ...claims });
      assert.deepEqual(await outcomesOf(bridge, token), expected, make);
      assert.deepEqual(await outcomesOf(bridge, undefined, `access_token=${token}`), expected, `${make}, in the query`);
    }
    for (const token of [
      undefined,
      'rubbish',
      unsigned({ scope: 'admin', tenantId: '*' }),
      await sign({ scope: 'admin', tenantId: '*' }, 'another secret of thirty-two bytes'),
    ]) {
      assert.deepEqual(await outcomesOf(bridge, token), everywhere('401 unauthorized'));
    }
    const { pass } = (await call(bridge, 'POST /pass', await sign({ scope: 'subscribe admin' }))).body;
    for (const route of ROUTES) {
      const path = `${route}${route.includes('?') ? '&' : '?'}pass=${pass}`;
      const { status } = await call(bridge, path);
      assert.ok(status === 401 || status === 400, `${path}: a pass listens only`);
      assert.equal((await call(bridge, route, pass)).status, 401, route);
    }
    const root = await sign({ sub: 'root', tenantId: '*', scope: 'admin' });
    for (const tenantId of ['t1', '*']) {
      const sub = `fired from ${tenantId}`;
      const token = await sign({ sub, tenantId, scope: 'admin' });
      assert.equal((await call(bridge, 'GET /log', token)).status, 200);
      assert.equal((await call(bridge, 'POST /revocations', root, { sub })).status, 201);
      await until('revoked', async () => (await call(bridge, 'GET /log', token)).status === 401);
      assert.deepEqual(await outcomesOf(bridge, token), everywhere('401 token_revoked'));
    }
    // With a claimed kind, which does not narrow.
    const claimed = await startBridge({ ...JWT, claimedRoomKinds: ['team'] });
    t.after(() => claimed.close());
    const token = await sign({ scope: 'admin', teamIds: ['a'], tenantId: ['t1', 't2'] });
    assert.deepEqual(await outcomesOf(claimed, token), LET_IN);
  });
});

const STREAMS = TRANSPORTS.slice(0, 3);

interface World {
  readonly tenants: readonly string[];
  /** The secret words of each tenant: whatever holds one, is of it. */
  wordOf(tenantId: string): string;
}

const world: World = {
  tenants: ['acme', 'bolt', 'coil'],
  wordOf: (tenantId) => `secret-of-${tenantId}`,
};

/** All subsets but the empty one. */
const SUBSETS = Array.from({ length: 2 ** world.tenants.length - 1 }, (_, index) =>
  world.tenants.filter((_, bit) => ((index + 1) >> bit) & 1),
);

/** Of an operator with these tenants (`*`: all), from the protocol alone. */
const sees = (operator: readonly string[], tenantIds: readonly string[]): boolean =>
  operator[0] === '*' || (tenantIds.length > 0 && tenantIds.every((one) => operator.includes(one)));

for (const { name, skip, start } of PLACES) {
  describe(`operators of tenants: ${name}`, { skip }, () => {
    it('see, close and read what is of their tenants, and no byte of another', async (t) => {
      const random = createRandom(17);
      const { a, b } = await start(t, { ...JWT, extraEvents: ['leads.updated'] });
      const root = await sign({ tenantId: '*', scope: 'admin', sub: 'root' });

      const log: { id: string; tenantId: string }[] = [];
      for (let n = 0; n < 60; n++) {
        const tenantId = random.pick(world.tenants);
        const word = world.wordOf(tenantId);
        const payload = ticketUpdated({ tenantId, ticketId: random.pick([word, 'shared']), ticketStatus: word });
        const rooms = random.chance(0.3) ? { rooms: [`user:${word}`] } : {};
        const token = await sign({ tenantId: '*', scope: 'publish' });
        const { status, body } = await call(random.pick([a, b]), 'POST /events', token, {
          event: 'tickets.updated',
          payload,
          ...rooms,
        });
        assert.equal(status, 201);
        log.push({ id: body.id, tenantId });
      }
      // Connections and refusals of all mixtures of tenants. A poll would not last as long as this test.
      const alive = new Map<string, { tenantIds: readonly string[]; transport: string }>();
      for (const [index, tenantIds] of [...SUBSETS, ...SUBSETS].entries()) {
        const words = tenantIds.map(world.wordOf).join('+');
        const sub = `${words}#${index}`;
        const transport = STREAMS[index % 3] as (typeof STREAMS)[number];
        const token = await sign({ tenantId: [...tenantIds], sub });
        const rooms = [`ticket:${words}`, 'ticket:shared'];
        const held = await hold(t, transport, random.pick([a, b]), rooms, { token, userAgent: words });
        held.socket?.io.reconnection(false);
        alive.set(sub, { tenantIds, transport });
        const late = await sign({ tenantId: [...tenantIds], sub, exp: 5 });
        await call(random.pick([a, b]), `GET /tickets/${words}?tenantId=${tenantIds[0]}`, late);
      }
      await untilListed(a, alive.size, {}, root);
      await until('the refusals are there', async () => {
        const { body } = await call(a, 'GET /refusals?limit=1000', root);
        return body.items.length >= alive.size;
      });

      const operators: (readonly string[])[] = [...SUBSETS, ['*'], ['nobody']];
      const filters = (): Record<string, string | undefined> => {
        const words = random.pick(SUBSETS).map(world.wordOf).join('+');
        return {
          sub: random.chance(0.3) ? `${words}#${random.whole(0, 13)}` : undefined,
          room: random.chance(0.3) ? random.pick(['ticket:shared', `ticket:${words}`]) : undefined,
          transport: random.chance(0.3) ? random.pick(STREAMS) : undefined,
          address: random.chance(0.3) ? '127.0.0.1' : undefined,
        };
      };
      for (let round = 0; round < 100; round++) {
        const operator = random.pick(operators);
        const token = await sign({ tenantId: operator[0] === '*' ? '*' : [...operator], scope: 'admin', sub: 'op' });
        const node = random.pick([a, b]);
        const query = filters();
        const visible = [...alive].filter(([, { tenantIds }]) => sees(operator, tenantIds));
        const matching = visible.filter(
          ([sub, { tenantIds, transport }]) =>
            (query.sub === undefined || query.sub === sub) &&
            (query.transport === undefined || query.transport === transport) &&
            (query.room === undefined ||
              query.room === 'ticket:shared' ||
              query.room === `ticket:${tenantIds.map(world.wordOf).join('+')}`),
        );
        const expected = matching.map(([sub]) => sub).sort();
        const label = `round ${round}: ${operator} ${JSON.stringify(query)}`;
        /** What no answer to this operator may hold; what it asked for is not counted. */
        const hidden = (text: string): void => {
          for (const tenantId of world.tenants) {
            if (operator[0] === '*' || operator.includes(tenantId)) continue;
            assert.ok(!text.includes(world.wordOf(tenantId)), `${label}: ${text.slice(0, 500)}`);
          }
        };
        switch (random.whole(0, 3)) {
          case 0: {
            const { status, body, text } = await call(node, `GET /connections?${toQuery(query)}`, token);
            assert.equal(status, 200, text);
            assert.deepEqual((body.items as Connection[]).map(({ sub }) => sub).sort(), expected, label);
            hidden(text);
            const { text: page } = await call(node, `GET /connections?limit=1&${toQuery(query)}`, token);
            hidden(page);
            for (const one of page.match(/"nextPage":"([^"]*)"/)?.slice(1) ?? []) {
              hidden(Buffer.from(one, 'base64').toString('latin1'));
            }
            break;
          }
          case 1: {
            const { room, transport, ...asked } = query;
            const { body, text } = await call(node, `GET /refusals?${toQuery({ ...asked, limit: 1000 })}`, token);
            hidden(text);
            for (const { tenantIds } of body.items as Refusal[]) {
              assert.ok(operator[0] === '*' || sees(operator, tenantIds), label);
            }
            break;
          }
          case 2: {
            const { body, text } = await call(node, 'GET /log?order=asc&limit=1000', token);
            assert.deepEqual(
              (body.events as Logged[]).map(({ id }) => id),
              log.filter(({ tenantId }) => sees(operator, [tenantId])).map(({ id }) => id),
              label,
            );
            hidden(text);
            const other = random.pick(world.tenants);
            const one = await call(node, `GET /log?tenantId=${other}&ticketId=shared`, token);
            assert.equal(one.status, sees(operator, [other]) ? 200 : 403, label);
            const rooms = await call(node, 'GET /log?ticketId=shared&userId=x&contains=secret', token);
            assert.equal(rooms.status, 200);
            hidden(rooms.text);
            break;
          }
          default: {
            // Closing: by a filter that finds few, so that the population lasts.
            if (query.sub === undefined) break;
            const { status, body, text } = await call(node, `DELETE /connections?${toQuery(query)}`, token);
            assert.deepEqual([status, body], [200, { closed: expected.length }], `${label} ${text}`);
            for (const sub of expected) alive.delete(sub);
            await untilListed(a, alive.size, {}, root);
          }
        }
      }
    });
  });
}

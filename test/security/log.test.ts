/**
 * protocol §11, §15: `GET /log` shows an operator every record of its tenants and not one byte of another's, whatever ids
 * are guessed, on both stores.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type JWTPayload, SignJWT } from 'jose';
import type { LogAnswer } from '../../src/contract/log.ts';
import { startBridge, type TestBridge } from '../support/bridge.ts';
import { missing, type RedisServer, startRedis } from '../support/redis.ts';

const SECRET = 'a secret of thirty-two bytes or more';
const sign = (claims: JWTPayload) =>
  new SignJWT({ sub: 'op', scope: 'admin', ...claims })
    .setProtectedHeader({ alg: 'HS256' })
    .setIssuedAt()
    .sign(Buffer.from(SECRET));

/** Ids that mean something to a pattern, a parser, a key, a page or a terminal; with one suffix each, also as prefixes. */
const HOSTILE = [
  't',
  't:1',
  '%',
  '_',
  '*x',
  '"',
  '\\',
  '\\"',
  '"]["x"]',
  "'",
  '[%a+]',
  '%d+',
  '<img/src=x>',
  '\u202e',
  '\u200b',
  'é',
  'e\u0301',
  '😀',
  '/',
  '\u007e',
  '__proto__',
  'tenant:t',
  'x'.repeat(128),
];

for (const store of ['sqlite', 'redis'] as const) {
  const skip = store === 'redis' && missing('redis-server');

  describe(`the log on ${store}`, { skip }, () => {
    let redis: RedisServer | null = null;
    let bridge: TestBridge;
    const ids = new Map<string, string[]>();

    before(async () => {
      redis = store === 'redis' ? await startRedis() : null;
      bridge = await startBridge({
        storeUrl: redis?.url ?? 'sqlite::memory:',
        authMode: 'jwt',
        jwtSecret: SECRET,
        extraEvents: ['leads.updated'],
        claimedRoomKinds: ['team'],
      });
      const authorization = `Bearer ${await sign({ tenantId: '*', scope: 'publish' })}`;
      // Every tenant has the same tickets, users and teams, whose ids are those of tenants, too.
      for (const tenantId of HOSTILE) {
        const events = HOSTILE.flatMap((id, index) => {
          const payload = { tenantId, ticketId: id, secret: `of ${tenantId}` };
          const rooms = index % 2 === 0 ? {} : { rooms: [`user:${id}`, `team:${id}`] };
          return [{ event: 'leads.updated', payload, ...rooms }];
        });
        const { status, body } = await bridge.post({ events }, { authorization });
        assert.equal(status, 201);
        ids.set(
          tenantId,
          body.results.map(({ id }) => id),
        );
      }
    });
    after(async () => {
      await bridge.close();
      await redis?.stop();
    });

    async function get(claims: JWTPayload, query: Record<string, string> = {}) {
      const response = await fetch(`${bridge.url}/log?${new URLSearchParams(query)}`, {
        headers: { authorization: `Bearer ${await sign(claims)}` },
      });
      const text = await response.text();
      return { status: response.status, text, body: JSON.parse(text) as LogAnswer & { readonly code: string } };
    }

    const idsOf = ({ events }: LogAnswer): string[] => events.map(({ id }) => id);
    const tenantsOf = ({ events }: LogAnswer) => new Set(events.map(({ payload }) => payload.tenantId));

    test('an admin of a tenant reads all records of it, and none of another, whatever it asks for', async () => {
      for (const tenantId of HOSTILE) {
        const all = await get({ tenantId }, { order: 'asc', limit: '1000' });
        assert.deepEqual(idsOf(all.body), ids.get(tenantId), `all of ${tenantId}, whatever the rooms`);
        assert.deepEqual(idsOf((await get({ tenantId }, { tenantId, order: 'asc' })).body), ids.get(tenantId));
        const other = HOSTILE[(HOSTILE.indexOf(tenantId) + 1) % HOSTILE.length] as string;
        for (const query of [
          { ticketId: other },
          { userId: other },
          { teamId: other },
          { room: `ticket:${other}` },
          { contains: 'secret', limit: '1000' },
          { contains: JSON.stringify(other).slice(1, -1), limit: '1000' },
          { event: 'leads.updated', limit: '1000' },
          { since: '1970-01-01T00:00:00Z', limit: '1000' },
          { before: (ids.get(other) as string[])[5] as string },
          { after: (ids.get(other) as string[])[5] as string, order: 'asc' },
        ] as Record<string, string>[]) {
          const { status, body } = await get({ tenantId }, query);
          assert.equal(status, 200, JSON.stringify(query));
          for (const seen of tenantsOf(body)) assert.equal(seen, tenantId, JSON.stringify(query));
        }
        for (const query of [{ tenantId: other }, { tenantId: `${tenantId},${other}` }, { room: `tenant:${other}` }]) {
          const { status, text } = await get({ tenantId }, query);
          assert.equal(status, 403, JSON.stringify(query));
          assert.ok(!text.includes('secret'));
        }
      }
    });

    test('a token for all reads all, and with tenantId and room one room of one tenant', async () => {
      const all = { tenantId: '*' };
      const everything: string[] = [];
      let after: Record<string, string> = {};
      for (let more = true; more; ) {
        const { body } = await get(all, { order: 'asc', limit: '1000', ...after });
        everything.push(...idsOf(body));
        more = body.more;
        after = { after: body.scannedThrough };
      }
      assert.deepEqual(everything, [...ids.values()].flat());
      for (const [index, id] of HOSTILE.entries()) {
        const room = index % 2 === 0 ? `ticket:${id}` : `team:${id}`;
        const of = async (query: Record<string, string>) =>
          (await get(all, { limit: '1000', order: 'asc', ...query })).body;
        assert.deepEqual(
          idsOf(await of({ room })),
          [...ids.values()].map((list) => list[index]),
          `${room} of every tenant`,
        );
        assert.deepEqual(idsOf(await of({ room, tenantId: '\\"' })), [ids.get('\\"')?.[index]], `${room} of one`);
      }
    });

    test('nobody else reads it', async () => {
      for (const claims of [
        { tenantId: 't', scope: 'subscribe publish signal metrics' },
        { tenantId: 't', ticketIds: ['t'] },
        { tenantId: 't', ticketIds: [] },
        { tenantId: '*', agreementIds: ['a'] },
        { tenantId: [] },
        {},
      ]) {
        const { status, body, text } = await get(claims);
        assert.deepEqual([status, body.code], [403, 'forbidden'], JSON.stringify(claims));
        assert.ok(!text.includes('secret'));
      }
      assert.equal((await fetch(`${bridge.url}/log`)).status, 401);
    });
  });
}

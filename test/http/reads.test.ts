/**
 * protocol §7, §11, §16 on both stores: who may hear a record may read it, item by item, on every route that shows it;
 * and the limit on the reads of one caller.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type JWTPayload, SignJWT } from 'jose';
import { messageNew, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { missing, type RedisServer, startRedis } from '../support/redis.ts';

const SECRET = 'a secret of thirty-two bytes or more';
const sign = (claims: JWTPayload) =>
  new SignJWT({ tenantId: 't1', sub: 'u1', scope: 'subscribe', ...claims })
    .setProtectedHeader({ alg: 'HS256' })
    .sign(Buffer.from(SECRET));

interface Entry {
  readonly rooms: readonly string[];
  readonly payload: { readonly messageId: string };
}

interface Page {
  readonly items: readonly { readonly ticketId: string; readonly messageId: string }[];
  readonly events: readonly Entry[];
  readonly nextPage: string | null;
  readonly code: string;
}

for (const store of ['sqlite', 'redis'] as const) {
  const skip = store === 'redis' && missing('redis-server');

  describe(`reads from ${store}`, { skip }, () => {
    let redis: RedisServer | null = null;
    let bridge: TestBridge;

    before(async () => {
      redis = store === 'redis' ? await startRedis() : null;
      const storeUrl = redis?.url ?? 'sqlite::memory:';
      bridge = await startBridge({ storeUrl, authMode: 'jwt', jwtSecret: SECRET, extraEvents: ['leads.updated'] });
      const authorization = `Bearer ${await sign({ scope: 'publish' })}`;
      // The ticket moves from A to B and back to A.
      for (const [minute, agreementId] of ['A', 'B', 'A'].entries()) {
        const where = { tenantId: 't1', ticketId: 'moved', agreementId };
        const update = ticketUpdated({ ...where, ticketUpdatedAt: `2026-01-01T00:0${minute}:00Z` });
        const message = messageNew({ ...where, messageId: `${minute}${agreementId}`, providerMessageId: null });
        for (const [event, payload] of [
          ['tickets.updated', update],
          ['messages.new', message],
        ]) {
          assert.equal((await bridge.post({ event, payload }, { authorization })).status, 201);
        }
      }
      const other = ticketUpdated({ tenantId: 't1', ticketId: 'other', agreementId: 'B' });
      await bridge.post({ event: 'tickets.updated', payload: other }, { authorization });
      const lead = { tenantId: 't1', ticketId: 'moved', agreementId: 'B', userId: 'u1' };
      await bridge.post({ event: 'leads.updated', payload: lead }, { authorization });
    });
    after(async () => {
      await bridge.close();
      await redis?.stop();
    });

    async function get(claims: JWTPayload, path: string): Promise<{ status: number; body: Page }> {
      const response = await fetch(`${bridge.url}${path}`, {
        headers: { authorization: `Bearer ${await sign(claims)}` },
      });
      return { status: response.status, body: (await response.json()) as Page };
    }

    const MESSAGES = '/tickets/moved/messages?tenantId=t1';
    const cases: [string, JWTPayload, tickets: string[], messages: string[] | 404][] = [
      ['of the tenant', {}, ['other', 'moved'], ['0A', '1B', '2A']],
      ['for A', { agreementIds: ['A'] }, ['moved'], ['0A', '2A']],
      ['for B', { agreementIds: ['B'] }, ['other'], ['1B']],
      ['for both', { agreementIds: ['A', 'B'] }, ['other', 'moved'], ['0A', '1B', '2A']],
      ['for the ticket', { ticketIds: ['moved'] }, ['moved'], ['0A', '1B', '2A']],
      ['for B and another ticket', { agreementIds: ['B'], ticketIds: ['x'] }, ['other'], ['1B']],
      ['for another agreement', { agreementIds: ['C'] }, [], 404],
      ['for nothing but its user', { ticketIds: [] }, [], 404],
    ];
    for (const [name, claims, tickets, messages] of cases) {
      test(`a token ${name} reads what it may hear, item by item`, async () => {
        const list = await get(claims, '/tickets?tenantId=t1');
        assert.deepEqual(list.body.items.map(({ ticketId }) => ticketId).sort(), tickets.toSorted());
        assert.equal(list.body.nextPage, null);
        for (const ticketId of ['moved', 'other']) {
          const { status } = await get(claims, `/tickets/${ticketId}?tenantId=t1`);
          assert.equal(status, tickets.includes(ticketId) ? 200 : 404, ticketId);
        }
        const found = await get(claims, MESSAGES);
        if (messages === 404) return assert.equal(found.status, 404);
        assert.deepEqual(
          found.body.items.map(({ messageId }) => messageId),
          messages,
        );
        // Whether a page follows depends on what the caller may read, and on nothing else.
        const last = await get(claims, `${MESSAGES}&limit=${messages.length}`);
        assert.equal(last.body.nextPage, null);
        const first = await get(claims, `${MESSAGES}&order=desc&limit=1`);
        assert.equal(first.body.items[0]?.messageId, messages.at(-1));
        assert.equal(first.body.nextPage !== null, messages.length > 1);
      });
    }

    test('the rooms of an event are those that the caller may hear', async () => {
      const roomsFor = async (claims: JWTPayload, query: string) => {
        const { body } = await get(claims, `/events?${query}&after=start&events=messages.new,leads.updated`);
        return body.events.map(({ rooms }) => rooms);
      };
      const [a, b, lead] = [
        ['tenant:t1', 'ticket:moved', 'agreement:A'],
        ['tenant:t1', 'ticket:moved', 'agreement:B'],
        ['tenant:t1', 'ticket:moved', 'agreement:B', 'user:u1'],
      ];
      assert.deepEqual(await roomsFor({}, 'tenantId=t1'), [a, b, a, lead]);
      assert.deepEqual(await roomsFor({ sub: 'u2' }, 'ticketId=moved'), [a, b, a, b]);
      assert.deepEqual(await roomsFor({ agreementIds: ['A'] }, 'agreementId=A'), [['agreement:A'], ['agreement:A']]);
      const ofB = [['agreement:B'], ['agreement:B', 'user:u1']];
      assert.deepEqual(await roomsFor({ agreementIds: ['B'] }, 'agreementId=B'), ofB);
      assert.deepEqual(await roomsFor({ ticketIds: [] }, 'userId=u1'), [['user:u1']]);
      const narrowed = await get({ agreementIds: ['A'] }, '/events?ticketId=moved');
      assert.equal(narrowed.status, 403);
    });
  });
}

test('RATE_READS: a caller over it gets a 429 with Retry-After; others, long polls and publishes do not', async () => {
  const bridge = await startBridge({ authMode: 'jwt', jwtSecret: SECRET, rateReads: 4 });
  try {
    const get = async (claims: JWTPayload, path: string) =>
      fetch(`${bridge.url}${path}`, { headers: { authorization: `Bearer ${await sign(claims)}` } });
    const paths = [
      '/events?tenantId=t1',
      '/tickets?tenantId=t1',
      '/tickets/a?tenantId=t1',
      '/tickets/a/messages?tenantId=t1',
    ];
    const statuses = async (claims: JWTPayload) =>
      (await Promise.all(paths.map((path) => get(claims, path)))).map(({ status }) => status);
    assert.deepEqual(await statuses({}), [200, 200, 404, 200]);
    const refused = await get({}, '/tickets?tenantId=t1');
    assert.equal(refused.status, 429);
    assert.ok(Number(refused.headers.get('retry-after')) >= 1);
    assert.equal(((await refused.json()) as { code: string }).code, 'rate_limited');
    assert.equal((await get({ scope: 'subscribe publish' }, '/events?tenantId=t1')).status, 429, 'the same caller');
    assert.deepEqual(await statuses({ sub: 'u2' }), [200, 200, 404, 200]);
    const { body } = await bridge.post(
      { event: 'messages.new', payload: messageNew({ tenantId: 't1' }) },
      { authorization: `Bearer ${await sign({ scope: 'publish' })}` },
    );
    assert.equal((await get({}, `/events?tenantId=t1&after=start&wait=1`)).status, 200);
    assert.ok(body.id);
  } finally {
    await bridge.close();
  }
});

test('RATE_READS without tokens counts by address', async () => {
  const bridge = await startBridge({ rateReads: 1, trustProxy: 1 });
  try {
    const get = async (address: string) =>
      (await fetch(`${bridge.url}/tickets?tenantId=t1`, { headers: { 'x-forwarded-for': address } })).status;
    assert.deepEqual([await get('192.0.2.1'), await get('192.0.2.1'), await get('192.0.2.2')], [200, 429, 200]);
  } finally {
    await bridge.close();
  }
});

/**
 * protocol §2, §7, §9: the audiences that help desks publish to, case by case, on every transport, in replays, and by the
 * state routes: a note that the customer must not see, an event for one agreement, one ticket or two users, and a ticket
 * that moves to another queue.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { SignJWT } from 'jose';
import { messageNew, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { CLIENTS, type Client, queryOf, type RoomIds } from '../support/clients.ts';
import { missing, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';

const SECRET = 'a secret of thirty-two bytes or more';
const TRANSPORTS = ['websocket', 'polling', 'sse', 'longpoll'] as const;
type Claims = Record<string, unknown>;

const sign = (claims: Claims) =>
  new SignJWT({ tenantId: 'acme', scope: 'subscribe', ...claims })
    .setProtectedHeader({ alg: 'HS256' })
    .sign(Buffer.from(SECRET));

function cases(start: () => Promise<{ bridge: TestBridge; stop: () => Promise<void> }>): void {
  let bridge: TestBridge;
  let stop = async (): Promise<void> => {};
  const listening: Client[] = [];
  before(async () => {
    ({ bridge, stop } = await start());
  });
  after(async () => {
    for (const client of listening) client.close();
    await stop();
  });

  async function publish(event: string, payload: object, more: object = {}) {
    const authorization = `Bearer ${await sign({ tenantId: '*', scope: 'publish' })}`;
    const { status, body } = await bridge.post({ event, payload, ...more }, { authorization });
    assert.equal(status, body.duplicate ? 200 : 201, JSON.stringify(body));
    return body;
  }

  async function get(token: string, path: string, headers: Record<string, string> = {}) {
    const response = await fetch(bridge.url + path, { headers: { authorization: `Bearer ${token}`, ...headers } });
    return { status: response.status, text: await response.text(), headers: response.headers };
  }

  /** One listener on each transport. */
  async function listen(claims: Claims, rooms: RoomIds, after?: string): Promise<Client[]> {
    const token = await sign(claims);
    const clients = await Promise.all(
      TRANSPORTS.map((transport) =>
        CLIENTS[transport]?.connect(bridge.url, rooms, { token, ...(after === undefined ? {} : { after }) }),
      ),
    );
    listening.push(...(clients as Client[]));
    return clients as Client[];
  }

  /** The `n` of each canonical event, in the order in which they came. */
  const heard = (client: Client): unknown[] =>
    client.heard.filter(({ id }) => id !== null).map(({ payload }) => (JSON.parse(payload) as { n: unknown }).n);

  let marks = 0;
  /** Every listener has heard what it will hear once it hears a mark in its room. */
  async function hears(clients: readonly Client[], room: string, expected: readonly unknown[]): Promise<void> {
    const n = `mark ${++marks}`;
    await publish('leads.updated', { n }, { tenantId: 'acme', rooms: [room] });
    for (const client of clients) {
      await until(`${n} in ${room}`, () => heard(client).includes(n));
      const without = heard(client).filter((heardOne) => !String(heardOne).startsWith('mark'));
      assert.deepEqual(without, expected, room);
    }
  }

  let tickets = 0;
  const fresh = () => `ticket-${++tickets}`;

  test('an event for one agreement only', async () => {
    const [tenant, agreement, ticket] = [
      await listen({ sub: 'u' }, { tenantId: ['acme'] }),
      await listen({ agreementIds: ['one'] }, { agreementId: ['one'] }),
      await listen({ sub: 'u' }, { ticketId: ['in-one'] }),
    ];
    const payload = ticketUpdated({ tenantId: 'acme', ticketId: 'in-one', agreementId: 'two', n: 'for one' });
    const { rooms } = await publish('tickets.updated', payload, { rooms: ['agreement:one'] });
    assert.deepEqual(rooms, ['agreement:one']);
    await hears(agreement, 'agreement:one', ['for one']);
    await hears(tenant, 'tenant:acme', []);
    await hears(ticket, 'ticket:in-one', []);
    // State follows: whoever may hear the room reads the ticket, also by the filter on what its payload says.
    const [of, other] = [await sign({ agreementIds: ['one'] }), await sign({ agreementIds: ['two'] })];
    for (const path of ['/tickets?tenantId=acme', '/tickets?tenantId=acme&agreementId=two']) {
      assert.match((await get(of, path)).text, /for one/, path);
      assert.doesNotMatch((await get(other, path)).text, /for one/, path);
    }
  });

  test('an event for a ticket only, not for the whole tenant', async () => {
    const ticketId = fresh();
    const tenant = await listen({ sub: 'u' }, { tenantId: ['acme'] });
    const ticket = await listen({ ticketIds: [ticketId] }, { ticketId: [ticketId] });
    await publish('messages.new', messageNew({ tenantId: 'acme', ticketId, n: 1 }), { rooms: [`ticket:${ticketId}`] });
    await hears(ticket, `ticket:${ticketId}`, [1]);
    await hears(tenant, 'tenant:acme', []);
  });

  test('copies for several users, and a lead whose own userId is not an addressee', async () => {
    const users = ['ana', 'bia', 'owner', 'caio'];
    const clients = await Promise.all(users.map((sub) => listen({ sub }, { userId: [sub] })));
    const tenant = await listen({ sub: 'u' }, { tenantId: ['acme'] });
    const payload = { tenantId: 'acme', userId: 'owner', n: 'lead' };
    await publish('leads.updated', payload, { rooms: ['user:ana', 'user:bia', 'user:ana'] });
    for (const [index, user] of users.entries()) {
      await hears(clients[index] as Client[], `user:${user}`, index < 2 ? ['lead'] : []);
    }
    await hears(tenant, 'tenant:acme', []);
  });

  test('an event whose payload has no tenantId: it stays as published', async () => {
    const [own, foreign] = [
      await listen({ sub: 'u' }, { tenantId: ['acme'] }),
      await listen({ tenantId: 'bolt', sub: 'u' }, { tenantId: ['bolt'], ticketId: ['9'] }),
    ];
    const { rooms } = await publish('leads.updated', { n: 'bare', ticketId: 9 }, { tenantId: 'acme' });
    assert.deepEqual(rooms, ['tenant:acme', 'ticket:9']);
    await hears(own, 'tenant:acme', ['bare']);
    for (const client of own) {
      assert.ok(client.heard.some(({ payload }) => payload === '{"n":"bare","ticketId":9}'));
    }
    await publish('leads.updated', { n: 'mark of bolt' }, { tenantId: 'bolt' });
    for (const client of foreign) {
      await until('the mark of bolt', () => heard(client).includes('mark of bolt'));
      assert.deepEqual(heard(client), ['mark of bolt']);
    }
    const authorization = `Bearer ${await sign({ tenantId: '*', scope: 'publish' })}`;
    for (const body of [
      { event: 'leads.updated', payload: { n: 'of nobody' } },
      { event: 'leads.updated', payload: { tenantId: 'bolt' }, tenantId: 'acme' },
      { event: 'leads.updated', payload: {}, tenantId: '*' },
      { event: 'leads.updated', payload: {}, tenantId: 'acme', rooms: ['tenant:bolt'] },
      { event: 'tickets.updated', payload: { ...ticketUpdated(), tenantId: undefined }, tenantId: 'acme' },
    ]) {
      assert.equal((await bridge.post(body, { authorization })).status, 422, JSON.stringify(body));
    }
  });

  test('a private note: agents get it everywhere, the customer nowhere', async () => {
    const ticketId = fresh();
    const agents = [`queue:support`, 'tenant:acme'];
    const customer = { ticketIds: [ticketId], sub: 'customer' };
    const [customerToken, agentToken] = [await sign(customer), await sign({ queueIds: ['support'], sub: 'agent' })];
    const live = await listen(customer, { ticketId: [ticketId], userId: ['customer'] });
    const queue = await listen({ queueIds: ['support'] }, { queueId: ['support'] });
    const ids = (n: string) => ({ tenantId: 'acme', ticketId, n, messageId: n, providerMessageId: `wamid.${n}` });
    const before = await publish('messages.new', { ...messageNew(), ...ids('hello') });
    const path = `/tickets/${ticketId}/messages?tenantId=acme`;
    const polled = `/events?${queryOf({ ticketId: [ticketId] }, { after: before.id })}`;
    const [list, events] = [await get(customerToken, path), await get(customerToken, polled)];
    const shown = (text: string): string => text.replace(/"cursor":"[^"]*"/, '');

    const note = { ...messageNew(), ...ids('secret-note') };
    const first = await publish('messages.new', note, { rooms: agents });
    const update = (n: string, more: object) => ({
      ...{ ...ids('secret-note'), n, message: { text: n } },
      ...more,
    });
    const changed = await publish(
      'messages.updated',
      update('secret-edit', { messageUpdatedAt: '2024-06-01T12:00:01.000Z', messageStatus: 'read' }),
    );
    assert.deepEqual(changed.rooms, agents, 'an update goes where its message went');
    // The edit by an id that the note does not have yet, and later by that id alone.
    await publish('messages.updated', {
      ...{ tenantId: 'acme', ticketId, n: 'secret-late', messageId: 'late', providerMessageId: 'wamid.secret-note' },
      ...{ messageUpdatedAt: '2024-06-01T12:00:02.000Z', message: {} },
    });
    const late = await publish('messages.updated', {
      ...{ tenantId: 'acme', ticketId, n: 'secret-later', messageId: 'late' },
      ...{ messageUpdatedAt: '2024-06-01T12:00:03.000Z', message: {} },
    });
    assert.deepEqual(late.rooms, agents);
    // A repeat, even one for other rooms: it reaches nobody, and its answer names the rooms of the first.
    for (const rooms of [null, [`ticket:${ticketId}`]]) {
      const repeat = await publish('messages.new', note, { rooms });
      assert.deepEqual([repeat.id, repeat.duplicate, repeat.rooms], [first.id, true, agents]);
    }

    const agentSees = await get(agentToken, path);
    assert.equal(agentSees.status, 200);
    assert.match(agentSees.text, /secret-later/);
    const check = async (what: string): Promise<void> => {
      const [listNow, eventsNow] = [await get(customerToken, path), await get(customerToken, polled)];
      assert.equal(shown(listNow.text), shown(list.text), what);
      assert.equal(listNow.headers.get('content-length'), list.headers.get('content-length'), what);
      assert.equal(shown(eventsNow.text), shown(events.text), what);
      assert.equal(eventsNow.headers.get('etag'), events.headers.get('etag'), what);
      const etag = events.headers.get('etag') as string;
      assert.equal((await get(customerToken, polled, { 'if-none-match': etag })).status, 304, what);
      for (const query of ['limit=1', 'limit=1&order=desc', 'order=desc']) {
        let texts = '';
        for (let page = ''; ; ) {
          const { text, status } = await get(customerToken, `${path}&${query}${page}`);
          assert.equal(status, 200);
          texts += text;
          const { nextPage } = JSON.parse(text) as { nextPage: string | null };
          if (nextPage === null) break;
          // It is opaque; what it is made of must not be found in it, also not as base64.
          assert.doesNotMatch(nextPage + Buffer.from(nextPage, 'base64url').toString('latin1'), /secret|support/, what);
          page = `&page=${encodeURIComponent(nextPage)}`;
        }
        assert.doesNotMatch(texts, /secret/, what);
        assert.equal(texts.match(/"n":"hello"/g)?.length, 1, what);
      }
      for (const after of ['start', before.id]) {
        const { text } = await get(customerToken, `/events?${queryOf({ ticketId: [ticketId] }, { after })}`);
        assert.doesNotMatch(text, /secret/, what);
      }
      const replays = await listen(customer, { ticketId: [ticketId], userId: ['customer'] }, before.id);
      await hears(replays, 'user:customer', []);
    };
    await check('after edits');

    await publish('messages.deleted', {
      ...{ tenantId: 'acme', ticketId, n: 'secret-end', messageId: 'secret-note' },
      messageUpdatedAt: '2024-06-01T12:00:04.000Z',
    });
    assert.doesNotMatch((await get(agentToken, path)).text, /secret/, 'deleted');
    await check('after the deletion');
    const tombstone = await publish('messages.new', note, { rooms: null });
    assert.deepEqual([tombstone.id, tombstone.duplicate, tombstone.rooms], [first.id, true, agents]);

    await hears(live, `ticket:${ticketId}`, ['hello']);
    const secrets = ['secret-note', 'secret-edit', 'secret-late', 'secret-later', 'secret-end'];
    await hears(queue, 'queue:support', secrets);
    for (const client of live) assert.doesNotMatch(JSON.stringify(client.heard), /secret/);
    const replay = await listen({ queueIds: ['support'] }, { queueId: ['support'] }, before.id);
    await hears(replay, 'queue:support', secrets);
  });

  test('a message that becomes private: the customer no longer reads it', async () => {
    const ticketId = fresh();
    const customer = await sign({ ticketIds: [ticketId] });
    const agent = await sign({ queueIds: ['support'] });
    const message = { tenantId: 'acme', ticketId, messageId: 'm' };
    await publish('messages.new', { ...messageNew(), ...message, n: 'said' });
    const edit = { ...message, n: 'hidden', messageUpdatedAt: '2024-06-01T12:00:01Z', message: {} };
    await publish('messages.updated', edit, { rooms: ['queue:support'] });
    const path = `/tickets/${ticketId}/messages?tenantId=acme`;
    assert.doesNotMatch((await get(customer, path)).text, /said|hidden/, 'neither the new text nor the old one');
    assert.match((await get(agent, path)).text, /hidden/);
    // Without rooms, a change still goes to those of the message's first record.
    const tick = { ...edit, n: 'shown', messageUpdatedAt: '2024-06-01T12:00:02Z' };
    const { rooms } = await publish('messages.updated', tick);
    assert.ok(rooms.includes(`ticket:${ticketId}`));
    assert.match((await get(customer, path)).text, /shown/);
  });

  test('a ticket moves from queue A to queue B', async () => {
    const ticketId = fresh();
    const [a, b] = [
      await listen({ queueIds: ['A'] }, { queueId: ['A'] }),
      await listen({ queueIds: ['B'] }, { queueId: ['B'] }),
    ];
    const [ofA, ofB, ofTenant] = [
      await sign({ queueIds: ['A'] }),
      await sign({ queueIds: ['B'] }),
      await sign({ sub: 'u' }),
    ];
    const payload = (n: string, queueId: string, second: number) =>
      ticketUpdated({ tenantId: 'acme', ticketId, queueId, n, ticketUpdatedAt: `2024-06-01T12:00:0${second}.000Z` });
    const lists = async (): Promise<boolean[]> => {
      const answers = await Promise.all([ofA, ofB, ofTenant].map((token) => get(token, '/tickets?tenantId=acme')));
      const single = await Promise.all(
        [ofA, ofB, ofTenant].map((token) => get(token, `/tickets/${ticketId}?tenantId=acme`)),
      );
      const listed = answers.map(({ text }) => text.includes(`"ticketId":"${ticketId}"`));
      assert.deepEqual(
        single.map(({ status }) => status === 200),
        listed,
      );
      return listed;
    };
    await publish('tickets.updated', payload('in A', 'A', 0));
    assert.deepEqual(await lists(), [true, false, true]);
    await publish('tickets.updated', payload('moves', 'B', 1), { rooms: ['queue:A', 'queue:B', 'tenant:acme'] });
    assert.deepEqual(await lists(), [true, true, true]);
    await publish('tickets.updated', payload('in B', 'B', 2));
    assert.deepEqual(await lists(), [false, true, true]);
    // An older update that comes late and names A brings it back for nobody.
    await publish('tickets.updated', payload('late', 'A', 0), { rooms: ['queue:A'] });
    assert.deepEqual(await lists(), [false, true, true]);
    await hears(a, 'queue:A', ['in A', 'moves', 'late']);
    await hears(b, 'queue:B', ['moves', 'in B']);
  });
}

const SETTINGS = {
  authMode: 'jwt',
  jwtSecret: SECRET,
  extraEvents: ['leads.updated'],
  roomKinds: ['queue'],
} as const;

describe('audiences by case, on SQLite', () =>
  cases(async () => {
    const bridge = await startBridge(SETTINGS);
    return { bridge, stop: () => bridge.close() };
  }));

describe('audiences by case, on Redis', { skip: missing('redis-server') }, () =>
  cases(async () => {
    const redis = await startRedis();
    const bridge = await startBridge({ ...SETTINGS, storeUrl: redis.url });
    return {
      bridge,
      async stop() {
        await bridge.close();
        await redis.stop();
      },
    };
  }),
);

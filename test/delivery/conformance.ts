/**
 * The promise, case by case, over every transport: each record of its rooms reaches a client once and in order, with the
 * same bytes and the same cursor, or the client gets `bridge.reset`. The `*.test.ts` files beside this one run it on each
 * store.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { SignJWT } from 'jose';
import type { Config } from '../../src/config.ts';
import { messageNew, metric, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { CLIENTS, type Client, type ClientKind, type Connect, type Heard, type RoomIds } from '../support/clients.ts';
import { startCutProxy } from '../support/cut-proxy.ts';
import { until } from '../support/until.ts';

const LEGACY_OF: Record<string, string[]> = {
  'tickets.updated': ['ticket.updated', 'tickets.updated'],
  'messages.new': ['ticket.message', 'ticket.message.created', 'message:created', 'messages.new'],
  'messages.updated': ['message:updated', 'messages.updated'],
};

const SECRET = 'a secret of thirty-two bytes or more';

export function canonical(heard: readonly Heard[]): Heard[] {
  return heard.filter(({ id }) => id !== null);
}

export function ids(client: Client): (string | null)[] {
  return canonical(client.heard).map(({ id }) => id);
}

/** A tenant of its own for each case, so that cases share a bridge without hearing each other. */
let tenants = 0;
const freshTenant = (): string => `tenant-${++tenants}:a@b+c`;

/** @param options the store: a fresh one at each call */
export function deliveryConformance(store: string, options: () => Partial<Config> | Promise<Partial<Config>>): void {
  for (const [name, client] of Object.entries(CLIENTS)) {
    describe(`delivery over ${name} on ${store}`, () => {
      const base = { extraEvents: ['leads.updated'], heartbeatMs: 1000, retryMs: 20 };
      const bridgeWith = (own: Partial<Config>): (() => TestBridge) => {
        let bridge: TestBridge;
        before(async () => {
          bridge = await startBridge({ ...base, ...own, ...(await options()) });
        });
        after(() => bridge.close());
        return () => bridge;
      };
      describe('to one client', () => deliveryCases(client.connect, bridgeWith({})));
      describe('beside a slow consumer', () => slowConsumerCase(client, bridgeWith({ maxBufferBytes: 262_144 })));
      if (client.marks) describe('with marks', () => markCases(client, bridgeWith({ roomKinds: ['queue'] })));
      describe('to two tenants', () =>
        isolationCases(client.connect, bridgeWith({ authMode: 'jwt', jwtSecret: SECRET })));
    });
  }

  test(`whoever was told of a record finds it at the same bridge on ${store}`, async (t) => {
    const bridge = await startBridge(await options());
    t.after(() => bridge.close());
    const tenantId = freshTenant();
    let { id: after } = await bridge.publish('messages.new', messageNew({ tenantId }));
    for (let count = 0; count < 50; count++) {
      const { id } = await bridge.publish('messages.new', messageNew({ tenantId }));
      const query = new URLSearchParams({ tenantId, after });
      const { events } = (await (await fetch(`${bridge.url}/events?${query}`)).json()) as { events: { id: string }[] };
      assert.deepEqual(
        events.map((event) => event.id),
        [id],
      );
      after = id;
    }
  });
}

/** Messages for the tenant; resolves to their cursors. */
async function publishTo(
  bridge: TestBridge,
  tenantId: string,
  count: number,
  overrides: Record<string, unknown> = {},
): Promise<string[]> {
  const published: string[] = [];
  for (let index = 0; index < count; index++) {
    const payload = messageNew({ tenantId, agreementId: null, ...overrides });
    published.push((await bridge.publish('messages.new', payload)).id);
  }
  return published;
}

function deliveryCases(connect: Connect, bridgeOf: () => TestBridge): void {
  async function withClient(
    tenantId: string,
    use: (client: Client) => Promise<void>,
    rooms: Parameters<Connect>[1] = { tenantId: [tenantId] },
    options: Parameters<Connect>[2] = {},
  ): Promise<void> {
    const client = await connect(bridgeOf().url, rooms, options);
    try {
      await use(client);
    } finally {
      client.close();
    }
  }

  const publish = (...what: [tenantId: string, count: number, overrides?: Record<string, unknown>]) =>
    publishTo(bridgeOf(), ...what);

  test('live events come once, in order, as the legacy group with the canonical one last', async () => {
    const tenantId = freshTenant();
    await withClient(tenantId, async (client) => {
      const payload = ticketUpdated({ tenantId });
      const { id } = await bridgeOf().publish('tickets.updated', payload);
      const [message] = await publish(tenantId, 1);
      await until('both groups heard', () => client.heard.length >= 6);
      assert.deepEqual(
        client.heard.map(({ event }) => event),
        [...(LEGACY_OF['tickets.updated'] ?? []), ...(LEGACY_OF['messages.new'] ?? [])],
      );
      assert.deepEqual(ids(client), [id, message]);
      assert.equal(canonical(client.heard)[0]?.payload, JSON.stringify(payload));
      const legacy = JSON.parse(client.heard[0]?.payload ?? '{}');
      assert.equal(legacy.subject, 'Olá', 'the bare entity is merged in');
      assert.equal(legacy.ticketStatus, 'OPEN', 'the envelope is there');
      assert.equal(legacy.ticket.subject, 'Olá', 'the canonical members are there');
    });
  });

  test('legacy=false gets canonical events only', async () => {
    const tenantId = freshTenant();
    await withClient(
      tenantId,
      async (client) => {
        const published = await publish(tenantId, 3);
        await until('all heard', () => client.heard.length >= 3);
        assert.deepEqual(
          client.heard.map(({ id }) => id),
          published,
        );
      },
      { tenantId: [tenantId] },
      { legacy: false },
    );
  });

  test('a client in several rooms of an event gets it once', async () => {
    const tenantId = freshTenant();
    const rooms = { tenantId: [tenantId], ticketId: [`${tenantId}-t`], agreementId: [`${tenantId}-a`] };
    await withClient(
      tenantId,
      async (client) => {
        const published = [
          ...(await publish(tenantId, 1, { ticketId: `${tenantId}-t`, agreementId: `${tenantId}-a` })),
          ...(await publish(tenantId, 1)),
          ...(await publish(`${tenantId}-other`, 1, { ticketId: `${tenantId}-t` })),
        ];
        await until('all heard', () => ids(client).length >= 3);
        assert.deepEqual(ids(client), published);
      },
      rooms,
    );
  });

  test('nobody hears rooms that it did not ask for', async () => {
    const tenantId = freshTenant();
    await withClient(tenantId, async (client) => {
      await publish(`${tenantId}x`, 3);
      const [mine] = await publish(tenantId, 1);
      await until('its own heard', () => ids(client).length > 0);
      assert.deepEqual(ids(client), [mine]);
    });
  });

  test('what was missed comes first, in order, then live', async () => {
    const tenantId = freshTenant();
    const [seen, ...missed] = await publish(tenantId, 30);
    await withClient(
      tenantId,
      async (client) => {
        const live = await publish(tenantId, 3);
        await until('all heard', () => ids(client).length >= 32);
        assert.deepEqual(ids(client), [...missed, ...live]);
      },
      { tenantId: [tenantId] },
      { after: seen as string },
    );
  });

  test('the handover from replay to live has no gap and no double while events are published', async () => {
    const tenantId = freshTenant();
    const [seen] = await publish(tenantId, 1);
    const published: string[] = [];
    let stop = false;
    const publishing = (async () => {
      while (!stop) published.push(...(await publish(tenantId, 1)));
    })();
    const clients: Client[] = [];
    try {
      for (let round = 0; round < 10; round++) {
        clients.push(await connect(bridgeOf().url, { tenantId: [tenantId] }, { after: seen as string }));
      }
    } finally {
      stop = true;
      await publishing;
    }
    for (const client of clients) {
      await until('all heard', () => ids(client).length >= published.length);
      assert.deepEqual(ids(client), published);
      client.close();
    }
  });

  test('hostile payloads come through as they are', async () => {
    const tenantId = freshTenant();
    const nasty = `{"tenantId":${JSON.stringify(tenantId)},"ticketId":"x","ticketStatus":"O","ticketUpdatedAt":"2024-06-01T12:00:00Z","ticket":{"__proto__":{"a":1},"constructor":null,"10":1,"2":2,"big":1e21,"e":"\\u2028\\r\\n\\u0000 data: x\\n\\nid: 1","long":"${'é'.repeat(100_000)}","lone":"\\ud800"}}`;
    await withClient(tenantId, async (client) => {
      const { status } = await bridgeOf().post(`{"event":"tickets.updated","payload":${nasty}}`);
      assert.equal(status, 201);
      await until('heard', () => ids(client).length > 0);
      assert.equal(canonical(client.heard)[0]?.payload, JSON.stringify(JSON.parse(nasty)));
    });
  });

  test('a cursor of another log is told as unknown, and the stream goes on', async () => {
    const tenantId = freshTenant();
    await publish(tenantId, 2);
    await withClient(
      tenantId,
      async (client) => {
        await until('told', () => client.resets.length > 0);
        assert.equal(client.resets[0]?.reason, 'unknown');
        assert.equal(client.resets[0]?.after, 'a-cursor-of-elsewhere');
        const [live] = await publish(tenantId, 1);
        await until('heard', () => ids(client).length > 0);
        assert.deepEqual(ids(client), [live]);
      },
      { tenantId: [tenantId] },
      { after: 'a-cursor-of-elsewhere' },
    );
  });

  test('a client that is cut again and again has the whole log, once each', async () => {
    const tenantId = freshTenant();
    const proxy = await startCutProxy(bridgeOf().url);
    const client = await connect(proxy.url, { tenantId: [tenantId] }, { legacy: false });
    const published: string[] = [];
    try {
      for (let round = 0; round < 12; round++) {
        published.push(...(await publish(tenantId, 5)));
        proxy.cut();
        published.push(...(await publish(tenantId, 5)));
      }
      await until('the whole log heard', () => ids(client).length >= published.length);
      assert.deepEqual(ids(client), published);
      assert.deepEqual(client.resets, []);
    } finally {
      client.close();
      await proxy.close();
    }
  });
}

function markCases({ connect, transport }: ClientKind, bridgeOf: () => TestBridge): void {
  test('a bridge.audience comes before each record, and only those, that the ids of its payload would lead elsewhere', async () => {
    const bridge = bridgeOf();
    const tenantId = freshTenant();
    const tenant = `tenant:${tenantId}`;
    const ids = { tenantId, ticketId: 7, agreementId: null, queueId: 5, userId: 'u' };
    const named = messageNew(ids);
    const routed = messageNew(ids);
    const published: [name: string, isMarked: boolean][] = [];
    const publish = async (isMarked: boolean, event: string, payload: object, beside = {}): Promise<string> => {
      const { status, body } = await bridge.post({ event, payload, ...beside });
      assert.equal(status, 201);
      published.push([event, isMarked]);
      return body.id;
    };
    const changed = (of: { readonly messageId: string }): object => ({
      ...{ ...ids, messageId: of.messageId, messageUpdatedAt: '2024-06-01T13:00:00.000Z', message: {} },
    });
    const start = await publish(false, 'tickets.updated', ticketUpdated(ids));
    published.length = 0;
    // On Redis, those who connect before the node's tail has it hear it. A read waits for the tail.
    const read = await fetch(`${bridge.url}/events?${new URLSearchParams({ tenantId, after: start })}`);
    assert.deepEqual([read.status, JSON.parse(await read.text()).events], [200, []]);
    const kinds = [{}, { audience: true }, { audience: true, legacy: false }];
    const open = (after?: string): Promise<Client[]> =>
      Promise.all(
        kinds.map((kind) => connect(bridge.url, { tenantId: [tenantId] }, { ...kind, ...(after && { after }) })),
      );
    const clients = await open();
    try {
      await publish(true, 'messages.new', named, { rooms: [tenant, 'ticket:7'] });
      await publish(false, 'messages.new', routed);
      await publish(true, 'messages.updated', changed(named));
      await publish(false, 'messages.updated', changed(routed));
      await publish(false, 'messages.deleted', { ...changed(routed), message: undefined });
      await publish(false, 'tickets.updated', ticketUpdated(ids), { rooms: ['queue:5', tenant, 'ticket:7'] });
      await publish(true, 'tickets.updated', ticketUpdated(ids), { rooms: ['user:u', 'queue:5', tenant, 'ticket:7'] });
      await publish(false, 'leads.updated', { tenantId, userId: 'u', queueId: '' });
      await publish(true, 'leads.updated', { ticketId: 7 }, { tenantId });
      await publish(true, 'leads.updated', { tenantId, userId: 'u' }, { rooms: [tenant, 'user:v'] });
      clients.push(...(await open(start)));
      const groupOf = (event: string, { legacy = true }: { legacy?: boolean }): string[] =>
        legacy ? (LEGACY_OF[event] ?? [event]) : [event];
      for (const [index, client] of clients.entries()) {
        const kind: { audience?: boolean; legacy?: boolean } = kinds[index % kinds.length] ?? {};
        const expected = published.flatMap(([event, isMarked]) => [
          ...(isMarked && kind.audience ? ['bridge.audience'] : []),
          ...groupOf(event, kind),
        ]);
        await until('all heard', () => client.heard.length >= expected.length);
        assert.deepEqual(
          client.heard.map(({ event }) => event),
          expected,
        );
        const marks = client.heard.filter(({ event }) => event === 'bridge.audience');
        assert.deepEqual(
          [...new Set(marks.map(({ id, payload }) => `${id} ${payload}`))],
          kind.audience ? ['null {}'] : [],
        );
      }
      const delivered = `roomcast_deliveries_total{transport="${transport}",event=`;
      assert.equal(await metric(bridge, `${delivered}"messages.new"}`), 2 * clients.length);
      const page = await (await fetch(`${bridge.url}/metrics`)).text();
      assert.ok(!page.includes('bridge.audience'), 'a mark is no event');
    } finally {
      for (const client of clients) client.close();
    }
  });
}

function slowConsumerCase({ connect, transport }: ClientKind, bridgeOf: () => TestBridge): void {
  test('a consumer that takes nothing is cut, delays no other, and resumes with nothing lost or doubled', async () => {
    const bridge = bridgeOf();
    const tenantId = freshTenant();
    const rooms = { tenantId: [tenantId] };
    const proxy = await startCutProxy(bridge.url);
    const slow = await connect(proxy.url, rooms);
    const other = await connect(bridge.url, rooms);
    // A long poll holds nothing but its one answer: the bridge ends it there, and nothing more waits for the client.
    const isCut = async (): Promise<boolean> =>
      transport === 'longpoll'
        ? (await metric(bridge, 'roomcast_connections{transport="longpoll"}')) <= 1
        : (await metric(bridge, `roomcast_slow_consumers_total{transport="${transport}"}`)) === 1;
    try {
      const published = await publishTo(bridge, tenantId, 1);
      await until('both have the first event', () => [slow, other].every((client) => ids(client).length === 1));
      proxy.stall();
      // The kernel's buffers take several megabytes before anything waits in the bridge.
      const message = { content: 'x'.repeat(300_000) };
      const cut = async (): Promise<boolean> => {
        published.push(...(await publishTo(bridge, tenantId, 1, { message })));
        await until('the other has every event', () => ids(other).length === published.length);
        return published.length > 10 && (await isCut());
      };
      await until('the slow consumer is cut', cut, 30_000);
      assert.equal(ids(slow).length, 1);
      proxy.flow();
      await until('the slow consumer has every event', () => ids(slow).length >= published.length);
      for (const client of [slow, other]) {
        assert.deepEqual(ids(client), published);
        assert.deepEqual(client.resets, []);
      }
    } finally {
      slow.close();
      other.close();
      await proxy.close();
    }
  });
}

function isolationCases(connect: Connect, bridgeOf: () => TestBridge): void {
  const roomsOf = (tenantId: string): RoomIds => ({
    tenantId: [tenantId],
    ticketId: ['1'],
    agreementId: ['a'],
    userId: ['u'],
  });
  const tokenOf = (tenantId: string): Promise<string> =>
    new SignJWT({ tenantId, sub: 'u', scope: 'subscribe' })
      .setProtectedHeader({ alg: 'HS256' })
      .setExpirationTime('10m')
      .sign(Buffer.from(SECRET));

  test('two tenants with the same ids get their own events only, live and in a replay', async () => {
    const pair = [freshTenant(), freshTenant()] as const;
    const published: Record<string, string[]> = { [pair[0]]: [], [pair[1]]: [] };
    const publishRound = async (round: number): Promise<void> => {
      for (const tenantId of pair) {
        const rooms = { tenantId, ticketId: '1', agreementId: 'a' };
        const message = messageNew({ ...rooms, messageId: `m${round}`, providerMessageId: null });
        for (const [event, payload] of [
          ['messages.new', message],
          ['tickets.updated', ticketUpdated(rooms)],
          ['leads.updated', { ...rooms, userId: 'u' }],
        ] as const) {
          published[tenantId]?.push((await bridgeOf().publish(event, payload)).id);
        }
      }
    };
    const assertOwn = async (tenantId: string, client: Client, expected: readonly string[]): Promise<void> => {
      await until('all its events', () => ids(client).length >= expected.length);
      assert.deepEqual(ids(client), expected);
      for (const { payload } of client.heard) assert.equal(JSON.parse(payload).tenantId, tenantId);
    };
    const clients: Client[] = [];
    const open = async (tenantId: string, after?: string): Promise<Client> => {
      const token = await tokenOf(tenantId);
      const client = await connect(bridgeOf().url, roomsOf(tenantId), { token, ...(after && { after }) });
      clients.push(client);
      return client;
    };
    try {
      const live = [await open(pair[0]), await open(pair[1])];
      for (let round = 0; round < 3; round++) await publishRound(round);
      for (const [index, client] of live.entries()) {
        const tenantId = pair[index] as string;
        await assertOwn(tenantId, client, published[tenantId] as string[]);
      }
      // The cursor of another tenant's record is a position in the log and nothing more.
      const [first] = published[pair[0]] as [string];
      await assertOwn(pair[1], await open(pair[1], first), published[pair[1]] as string[]);
      const [second] = published[pair[1]] as [string];
      await assertOwn(pair[0], await open(pair[0], second), (published[pair[0]] as string[]).slice(3));
    } finally {
      for (const client of clients) client.close();
    }
  });

  test("a tenant's room is refused to another tenant", async () => {
    const token = await tokenOf(freshTenant());
    await assert.rejects(
      connect(bridgeOf().url, { tenantId: [freshTenant()] }, { token }).then((client) => client.close()),
      /refused: (forbidden|403)/,
    );
  });
}

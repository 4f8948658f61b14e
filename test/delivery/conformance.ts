/**
 * The promise, case by case, over every transport: each record of its rooms reaches a listener once and in order, with
 * the same bytes and the same cursor, or the listener is told. Run on each store by the `delivery.*.test.ts` files.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Config } from '../../src/config.ts';
import { messageNew, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { type Client, type Connect, type Heard, TRANSPORTS } from '../support/clients.ts';
import { startCutProxy } from '../support/cut-proxy.ts';
import { until } from '../support/until.ts';

const LEGACY_OF: Record<string, string[]> = {
  'tickets.updated': ['ticket.updated', 'tickets.updated'],
  'messages.new': ['ticket.message', 'ticket.message.created', 'message:created', 'messages.new'],
};

export function canonical(heard: readonly Heard[]): Heard[] {
  return heard.filter(({ id }) => id !== null);
}

export function ids(client: Client): (string | null)[] {
  return canonical(client.heard).map(({ id }) => id);
}

/** A tenant of its own for each case, so that cases share a bridge without hearing each other. */
let tenants = 0;
const freshTenant = (): string => `tenant-${++tenants}:a@b+c`;

export function deliveryConformance(
  store: string,
  options: () => Partial<Config> | Promise<Partial<Config>>,
  transports: Readonly<Record<string, Connect>> = TRANSPORTS,
): void {
  for (const [transport, connect] of Object.entries(transports)) {
    describe(`delivery over ${transport} on ${store}`, () => {
      let bridge: TestBridge;
      before(async () => {
        bridge = await startBridge({ extraEvents: ['leads.updated'], heartbeatMs: 1000, ...(await options()) });
      });
      after(() => bridge.close());
      deliveryCases(connect, () => bridge);
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

  async function publish(tenantId: string, count: number, overrides: Record<string, unknown> = {}): Promise<string[]> {
    const published: string[] = [];
    for (let index = 0; index < count; index++) {
      const payload = messageNew({ tenantId, agreementId: null, ...overrides });
      published.push((await bridgeOf().publish('messages.new', payload)).id);
    }
    return published;
  }

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

/** protocol §7: the state of tickets and messages, page by page, only for tokens that may read it. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { getRequestListener } from '@hono/node-server';
import { createRefusals } from '../../src/answers/refusals.ts';
import type { Principal } from '../../src/auth/principal.ts';
import { createRevoked } from '../../src/auth/revocations.ts';
import { createBus } from '../../src/bus/bus.ts';
import { configure } from '../../src/config.ts';
import { createEventCatalog, LEGACY_NAMES } from '../../src/contract/events.ts';
import { createApp } from '../../src/http/app.ts';
import { createLogger } from '../../src/logger.ts';
import { createPrometheus } from '../../src/metrics/prometheus.ts';
import { openStore } from '../../src/store/open.ts';
import { messageNew, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';

interface Payload {
  readonly ticketId: string;
  readonly messageId: string;
  readonly ticketStatus: string;
}

interface List {
  readonly items: readonly Payload[];
  readonly nextPage: string | null;
  readonly cursor: string;
}

interface Refusal {
  readonly code: string;
  readonly errors?: readonly { readonly path: string; readonly message: string }[];
}

async function get<T = List>(
  url: string,
  path: string,
): Promise<{ status: number; text: string; body: T; response: Response }> {
  const response = await fetch(`${url}${path}`);
  const text = await response.text();
  return { status: response.status, text, body: JSON.parse(text) as T, response };
}

const ticketIds = ({ items }: List): string[] => items.map(({ ticketId }) => ticketId);

/** Reads all pages of a list. */
async function pages(url: string, path: string): Promise<{ items: Payload[]; count: number }> {
  const items: Payload[] = [];
  let page: string | null = null;
  let count = 0;
  do {
    const query: string = page === null ? '' : `&page=${encodeURIComponent(page)}`;
    const { body, status } = await get(url, `${path}${query}`);
    assert.equal(status, 200);
    items.push(...body.items);
    page = body.nextPage;
    count++;
  } while (page !== null);
  return { items, count };
}

describe('state routes', () => {
  let bridge: TestBridge;
  before(async () => {
    bridge = await startBridge();
  });
  after(() => bridge.close());

  const publishTicket = async (overrides: Record<string, unknown>) => {
    const { status, body } = await bridge.post({ event: 'tickets.updated', payload: ticketUpdated(overrides) });
    assert.equal(status, 201);
    return body.id;
  };
  const publishMessage = async (overrides: Record<string, unknown>) => {
    const { status, body } = await bridge.post({ event: 'messages.new', payload: messageNew(overrides) });
    assert.equal(status, 201);
    return body.id;
  };

  test('tickets: newest update first, equal ones by cursor, an older update never overwrites', async () => {
    const tenantId = 'order';
    await publishTicket({ tenantId, ticketId: 'a', ticketUpdatedAt: '2024-06-01T12:00:00.000Z' });
    await publishTicket({ tenantId, ticketId: 'b', ticketUpdatedAt: '2024-06-01T15:00:00.0001+03:00' });
    await publishTicket({ tenantId, ticketId: 'c', ticketUpdatedAt: '2024-06-01T12:00:00Z' });
    await publishTicket({ tenantId, ticketId: 'b', ticketUpdatedAt: '2024-05-01T00:00:00Z', ticketStatus: 'STALE' });
    const head = await publishTicket({ tenantId: 'elsewhere', ticketId: 'z' });
    const { body, response, status } = await get(bridge.url, `/tickets?tenantId=${tenantId}`);
    assert.equal(status, 200);
    assert.deepEqual(ticketIds(body), ['b', 'c', 'a']);
    assert.equal(body.items[0]?.ticketStatus, 'OPEN');
    assert.equal(body.nextPage, null);
    assert.equal(body.cursor, head, 'the position that the answer reflects');
    assert.equal(response.headers.get('cache-control'), 'no-store');
    assert.equal(response.headers.get('content-type'), 'application/json');
  });

  test('tickets: agreementId, status and updatedAfter (exclusive) filter', async () => {
    const tenantId = 'filters';
    await publishTicket({ tenantId, ticketId: 'a', agreementId: 'x', ticketUpdatedAt: '2024-06-01T12:00:00.000Z' });
    await publishTicket({ tenantId, ticketId: 'b', agreementId: 'y', ticketUpdatedAt: '2024-06-01T12:00:00.001Z' });
    await publishTicket({
      tenantId,
      ticketId: 'c',
      agreementId: 'x',
      ticketStatus: 'CLOSED',
      ticketUpdatedAt: '2024-06-02T00:00:00Z',
    });
    const cases: [string, string[]][] = [
      ['agreementId=x', ['c', 'a']],
      ['agreementId=nobody', []],
      ['status=OPEN', ['b', 'a']],
      ['status=OPEN&agreementId=x', ['a']],
      ['updatedAfter=2024-06-01T12:00:00Z', ['c', 'b']],
      ['updatedAfter=2024-06-01T15:00:00%2B03:00', ['c', 'b']],
      ['updatedAfter=2024-06-01T12:00:00.0009Z', ['c', 'b']],
      ['updatedAfter=2024-06-02T00:00:00.000Z', []],
    ];
    for (const [query, expected] of cases) {
      const { body } = await get(bridge.url, `/tickets?tenantId=${tenantId}&${query}`);
      assert.deepEqual(ticketIds(body), expected, query);
    }
  });

  test('tickets: pages cover everything once', async () => {
    const tenantId = 'pages';
    const expected: string[] = [];
    for (let index = 0; index < 7; index++) {
      await publishTicket({
        tenantId,
        ticketId: `t${index}`,
        ticketUpdatedAt: `2024-06-0${1 + (index >> 1)}T00:00:00Z`,
      });
      expected.unshift(`t${index}`);
    }
    const { items, count } = await pages(bridge.url, `/tickets?tenantId=${tenantId}&limit=3`);
    assert.deepEqual(
      items.map(({ ticketId }) => ticketId),
      expected,
    );
    assert.equal(count, 3);
  });

  test('a ticket: its newest payload, byte for byte, or 404', async () => {
    const ticketId = 'a/b:c+d%25é@"\\';
    const payload = ticketUpdated({
      tenantId: 'one',
      ticketId,
      ticket: { text: 'é\u2028\n', nested: { '2': 1, '1': 2 } },
    });
    await bridge.post({ event: 'tickets.updated', payload });
    const found = await get(bridge.url, `/tickets/${encodeURIComponent(ticketId)}?tenantId=one`);
    assert.equal(found.status, 200);
    assert.equal(found.text, JSON.stringify(payload));
    for (const path of ['/tickets/other?tenantId=one', '/tickets/a%20b?tenantId=one', '/tickets/other?tenantId=two']) {
      const missing = await get<Refusal>(bridge.url, path);
      assert.equal(missing.status, 404);
      assert.equal(missing.body.code, 'not_found');
      assert.equal(missing.response.headers.get('content-type'), 'application/problem+json');
    }
  });

  test('messages: each once, by cursor, in both orders, in pages', async () => {
    const where = { tenantId: 'chat', ticketId: 'room 1'.replace(' ', '-') };
    const payloads = Array.from({ length: 5 }, () => messageNew(where));
    for (const payload of payloads) await publishMessage(payload);
    const repeat = await bridge.post({ event: 'messages.new', payload: payloads[2] });
    assert.equal(repeat.status, 200);
    const head = await publishMessage({ tenantId: 'chat', ticketId: 'other' });
    const path = `/tickets/${where.ticketId}/messages?tenantId=chat`;
    const { body } = await get(bridge.url, path);
    assert.deepEqual(body.items, payloads);
    assert.equal(body.cursor, head);
    assert.deepEqual((await get(bridge.url, `${path}&order=desc`)).body.items, [...payloads].reverse());
    const paged = await pages(bridge.url, `${path}&limit=2`);
    assert.deepEqual(paged.items, payloads);
    assert.equal(paged.count, 3);
    assert.deepEqual((await pages(bridge.url, `${path}&limit=2&order=desc`)).items, [...payloads].reverse());
    assert.deepEqual((await get(bridge.url, '/tickets/nobody/messages?tenantId=chat')).body.items, []);
  });

  test('a client goes live from the answer’s cursor with no gap', async () => {
    await publishTicket({ tenantId: 'live', ticketId: 'a' });
    const { body } = await get(bridge.url, '/tickets?tenantId=live');
    const next = await publishTicket({ tenantId: 'live', ticketId: 'b' });
    const events = await get<{ events: { id: string }[] }>(bridge.url, `/events?tenantId=live&after=${body.cursor}`);
    assert.deepEqual(
      events.body.events.map(({ id }) => id),
      [next],
    );
  });

  test('a change while a client reads pages is received live after the cursor of any page', async () => {
    const tenantId = 'meanwhile';
    for (const ticketId of ['a', 'b', 'c', 'd', 'e']) await publishTicket({ tenantId, ticketId });
    const first = await get(bridge.url, `/tickets?tenantId=${tenantId}&limit=2`);
    const changed = await publishTicket({ tenantId, ticketId: first.body.items[0]?.ticketId, ticketStatus: 'CLOSED' });
    let { nextPage } = first.body;
    while (nextPage !== null) {
      const { body } = await get(bridge.url, `/tickets?tenantId=${tenantId}&limit=2&page=${nextPage}`);
      const live = await get<{ events: { id: string }[] }>(
        bridge.url,
        `/events?tenantId=${tenantId}&after=${body.cursor}`,
      );
      assert.ok(live.body.events.some(({ id }) => id === changed));
      nextPage = body.nextPage;
    }
  });

  test('nextPage tells nothing, opens for its own list alone, and also after a restart', async (context) => {
    const folder = mkdtempSync(join(tmpdir(), 'roomcast-'));
    context.after(() => rmSync(folder, { recursive: true, force: true }));
    const storeUrl = `sqlite:${folder}/log.db`;
    const first = await startBridge({ storeUrl });
    for (const tenantId of ['t', 'u']) {
      for (const ticketId of ['a', 'b']) {
        await first.publish('tickets.updated', ticketUpdated({ tenantId, ticketId }));
        for (let n = 0; n < 3; n++) await first.publish('messages.new', messageNew({ tenantId, ticketId }));
      }
    }
    const { nextPage } = (await get(first.url, '/tickets?tenantId=t&limit=1')).body;
    const messages = (await get(first.url, '/tickets/a/messages?tenantId=t&limit=1')).body;
    await first.close();
    assert.ok(nextPage !== null && messages.nextPage !== null);
    assert.doesNotMatch(nextPage, /1717243200|2024/, 'no ticketUpdatedAt');
    const second = await startBridge({ storeUrl });
    context.after(() => second.close());
    const ask = (path: string, page: string) => get<List>(second.url, `${path}&page=${encodeURIComponent(page)}`);
    assert.deepEqual(ticketIds((await ask('/tickets?tenantId=t', nextPage)).body), ['a']);
    assert.equal((await ask('/tickets/a/messages?tenantId=t', messages.nextPage)).body.items.length, 2);
    const last = nextPage.at(-3) as string;
    const changed = `${nextPage.slice(0, -3)}${last === 'A' ? 'B' : 'A'}${nextPage.slice(-2)}`;
    for (const [path, page] of [
      ['/tickets?tenantId=u', nextPage],
      ['/tickets?tenantId=t', messages.nextPage],
      ['/tickets/a/messages?tenantId=u', messages.nextPage],
      ['/tickets/b/messages?tenantId=t', messages.nextPage],
      ['/tickets?tenantId=t', changed],
    ] as const) {
      assert.equal((await ask(path, page)).status, 400, path);
    }
  });

  test('an invalid parameter is a 400 that names it', async () => {
    const cases: [string, string][] = [
      ['/tickets', 'tenantId'],
      ['/tickets?tenantId=', 'tenantId'],
      ['/tickets?tenantId=a,b', 'tenantId'],
      ['/tickets?tenantId=a&tenantId=b', 'tenantId'],
      ['/tickets?tenantId=t&limit=0', 'limit'],
      ['/tickets?tenantId=t&limit=1001', 'limit'],
      ['/tickets?tenantId=t&limit=ten', 'limit'],
      ['/tickets?tenantId=t&agreementId=', 'agreementId'],
      ['/tickets?tenantId=t&status=', 'status'],
      ['/tickets?tenantId=t&updatedAfter=yesterday', 'updatedAfter'],
      ['/tickets?tenantId=t&updatedAfter=2024-06-01', 'updatedAfter'],
      ['/tickets?tenantId=t&updatedAfter=2024-06-01T12:00:00+03:00', 'updatedAfter'],
      ['/tickets/a', 'tenantId'],
      ['/tickets/a/messages?tenantId=t&order=up', 'order'],
      ['/tickets?tenantId=t&page=x', 'page'],
      ['/tickets?tenantId=t&page=k3v9x2ma-000000000a7-q8zt.x', 'page'],
      ['/tickets/a/messages?tenantId=t&page=%00', 'page'],
    ];
    for (const [path, parameter] of cases) {
      const { status, body } = await get<Refusal>(bridge.url, path);
      assert.equal(status, 400, path);
      assert.equal(body.code, 'invalid_request');
      assert.deepEqual(
        body.errors?.map((error) => error.path),
        [parameter],
        path,
      );
    }
    const plus = await get<Refusal>(bridge.url, '/tickets?tenantId=t&updatedAfter=2024-06-01T12:00:00+03:00');
    assert.match(plus.body.errors?.[0]?.message ?? '', /%2B/);
  });
});

describe('state routes and tokens', () => {
  let principal: Principal;
  let url: string;
  const closers: (() => unknown)[] = [];

  const token = (narrowing: {
    ticketIds?: string[];
    agreementIds?: string[];
    tenants?: '*';
    scope?: string;
  }): Principal => ({
    kind: 'token',
    tenants: narrowing.tenants ?? ['t'],
    subject: 'u',
    scopes: new Set([narrowing.scope ?? 'subscribe']),
    narrowing:
      narrowing.ticketIds === undefined && narrowing.agreementIds === undefined
        ? null
        : new Map([
            ['ticket', new Set(narrowing.ticketIds ?? [])],
            ['agreement', new Set(narrowing.agreementIds ?? [])],
          ]),
    openKinds: ['ticket', 'agreement'],
    claimed: new Map(),
    tokenId: null,
    issuedAtS: null,
    expiresAtMs: null,
    viaPass: false,
  });

  before(async () => {
    const config = configure({ storeUrl: 'sqlite::memory:' });
    const logger = createLogger('silent');
    const store = await openStore(config.storeUrl, 'tenant', logger);
    const catalog = createEventCatalog();
    const prometheus = createPrometheus({ roomLabel: 'room', maxRooms: 10, sampleStore: () => store.stats() });
    const bus = createBus({
      store,
      nodes: store,
      catalog,
      keying: 'tenant',
      aliases: LEGACY_NAMES,
      maxBufferBytes: config.maxBufferBytes,
      retention: {
        retentionMs: 3_600_000,
        maxRecords: 1_000,
        stateMs: 3_600_000,
        dedupeMs: 3_600_000,
        revocationMs: 1e9,
      },
      metrics: prometheus.metrics,
      logger,
    });
    const unused = () => assert.fail('not a state route');
    const app = createApp({
      config,
      bus,
      gate: { admitAnswer: () => {} },
      store,
      logger,
      prometheus,
      refusals: createRefusals({ metrics: prometheus.metrics, logger, trustProxy: 0, readIdentity: async () => null }),
      allNodes: { ask: unused },
      revoked: createRevoked(logger),
      authenticate: async () => principal,
      authenticateReader: async () => principal,
      authorizeMetrics: async () => {},
      countRead: () => {},
      mintPass: unused,
      ready: () => true,
      transports: { sse: unused, events: unused },
      stats: { stats: unused, statsHistory: unused },
      check: { stream: unused, poll: unused },
    });
    const server = createServer(getRequestListener(app.fetch, { overrideGlobalObjects: false }));
    await once(server.listen(0, '127.0.0.1'), 'listening');
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    closers.push(
      () => server.close(),
      () => server.closeAllConnections(),
      () => bus.close(),
      () => store.close(),
    );
    const tickets = [
      { ticketId: 'a', agreementId: 'x' },
      { ticketId: 'b', agreementId: 'y' },
      { ticketId: 'c', agreementId: 'x' },
      { ticketId: 'd', agreementId: null },
    ];
    for (const ids of tickets) {
      const where = { tenantId: 't', ...ids };
      await bus.publish([
        { event: 'tickets.updated', payload: ticketUpdated(where) },
        { event: 'messages.new', payload: messageNew(where) },
      ]);
    }
  });

  after(async () => {
    for (const close of closers) await close();
  });

  test('a token of another tenant, a publisher, and a service for all tenants read nothing', async () => {
    for (const other of [
      token({ scope: 'publish' }),
      token({ tenants: '*' }),
      { ...token({}), tenants: ['u'] } as Principal,
    ]) {
      principal = other;
      for (const path of ['/tickets', '/tickets/a', '/tickets/nobody', '/tickets/a/messages']) {
        const { status, body } = await get<Refusal>(url, `${path}?tenantId=t`);
        assert.equal(status, 403, path);
        assert.equal(body.code, 'forbidden');
      }
    }
  });

  test('a narrowed token lists only its own tickets', async () => {
    const cases: [Principal, string, string[]][] = [
      [token({}), '', ['d', 'c', 'b', 'a']],
      [token({ ticketIds: ['a', 'd', 'nobody'] }), '', ['d', 'a']],
      [token({ ticketIds: [] }), '', []],
      [token({ agreementIds: ['x'] }), '', ['c', 'a']],
      [token({ agreementIds: ['x'] }), '&agreementId=y', []],
      [token({ agreementIds: ['x', 'y'] }), '&agreementId=y', ['b']],
      [token({ ticketIds: ['a', 'b'] }), '&agreementId=x', ['a']],
      [token({ ticketIds: ['b'], agreementIds: ['x'] }), '&agreementId=y', ['b']],
      [token({ ticketIds: ['b'], agreementIds: ['x'] }), '&agreementId=x', ['c', 'a']],
    ];
    for (const [who, query, expected] of cases) {
      principal = who;
      const { body } = await get(url, `/tickets?tenantId=t${query}`);
      assert.deepEqual(ticketIds(body), expected);
    }
  });

  test('a narrowed token reads its tickets; others do not seem to exist', async () => {
    const cases: [Principal, string[]][] = [
      [token({ ticketIds: ['a'] }), ['a']],
      [token({ agreementIds: ['y'] }), ['b']],
      [token({ ticketIds: ['d'], agreementIds: ['x'] }), ['a', 'c', 'd']],
    ];
    for (const [who, own] of cases) {
      principal = who;
      for (const ticketId of ['a', 'b', 'c', 'd']) {
        const status = own.includes(ticketId) ? 200 : 404;
        assert.equal((await get(url, `/tickets/${ticketId}?tenantId=t`)).status, status, ticketId);
        assert.equal((await get(url, `/tickets/${ticketId}/messages?tenantId=t`)).status, status, ticketId);
      }
      const [hidden, missing] = await Promise.all([
        get(url, `/tickets/${own.includes('b') ? 'a' : 'b'}?tenantId=t`),
        get(url, '/tickets/nobody?tenantId=t'),
      ]);
      assert.equal(hidden.text, missing.text);
    }
  });
});

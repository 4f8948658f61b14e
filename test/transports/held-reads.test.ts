/**
 * No cursor is ahead of what was written before it (protocol §5, §6), while the log is slow to answer: the transports run
 * over HTTP on a bus whose reads of the store wait until the test lets them go.
 */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { HttpBindings } from '@hono/node-server';
import { Hono } from 'hono';
import { createRefusals } from '../../src/answers/refusals.ts';
import { createConnectionLimits } from '../../src/auth/limits.ts';
import { ANONYMOUS } from '../../src/auth/principal.ts';
import { createRevoked } from '../../src/auth/revocations.ts';
import { createPacer } from '../../src/bus/pacer.ts';
import { configure } from '../../src/config.ts';
import { createHttpServer } from '../../src/http/server.ts';
import { createLogger } from '../../src/logger.ts';
import { createPrometheus } from '../../src/metrics/prometheus.ts';
import type { Store } from '../../src/store/store.ts';
import { createConnected } from '../../src/transports/connected.ts';
import { createGate } from '../../src/transports/gate.ts';
import { createPolling } from '../../src/transports/longpoll.ts';
import { createReaders } from '../../src/transports/readers.ts';
import { createSse } from '../../src/transports/sse/endpoint.ts';
import { openBus, publish, sizes } from '../bus/support.ts';
import { get, openRaw, type RawConnection } from '../support/raw.ts';
import { until } from '../support/until.ts';

const HEARTBEAT_MS = 40;

/** Counts the reads of a store, and holds back those after the first `free` ones. */
function holdReads(free: number) {
  const gate = Promise.withResolvers<void>();
  let reads = 0;
  return {
    around: (store: Store): Store => ({
      ...store,
      async read(query) {
        if (++reads > free) await gate.promise;
        return store.read(query);
      },
    }),
    get count() {
      return reads;
    },
    release: gate.resolve,
  };
}

/** A log of `sizes` messages, reopened, so that the bus has none of them in memory, with its reads held back. */
async function serveHeld(context: TestContext, messages: readonly number[], free: number) {
  const directory = mkdtempSync(join(tmpdir(), 'roomcast-held-'));
  context.after(() => rmSync(directory, { recursive: true, force: true }));
  const url = `sqlite:${join(directory, 'log.db')}`;
  let ids: readonly string[] = [];
  await context.test('the log', async (before) => {
    ids = await publish(await openBus(before, { url }), ...messages);
  });
  const held = holdReads(free);
  context.after(() => held.release());
  const bus = await openBus(context, { url, around: held.around });
  const config = configure({ port: 0, heartbeatMs: HEARTBEAT_MS, retryMs: 20 });
  const logger = createLogger('silent');
  const { metrics } = createPrometheus({ roomLabel: 'kind', maxRooms: 0, sampleStore: () => Promise.reject() });
  const readers = createReaders({ metrics, logger });
  const gate = createGate({
    store: { healthy: () => true, bounds: () => Promise.reject() },
    limits: createConnectionLimits(config),
    pacer: createPacer(8),
    trustProxy: 0,
    readers,
  });
  const revoked = createRevoked(logger);
  const refusals = createRefusals({ metrics, logger, trustProxy: 0, readIdentity: async () => null });
  const common = { bus, config, metrics, logger, gate, revoked, refusals, connected: createConnected(logger) };
  const deps = { ...common, countRead: () => {}, principalOf: async () => ANONYMOUS };
  const app = new Hono<{ Bindings: HttpBindings }>();
  app.get('/sse', createSse(deps).handle).get('/events', createPolling(deps).handle);
  const socketio = { owns: () => false, handleRequest: () => {}, handleUpgrade: () => {} };
  const server = createHttpServer({
    config,
    hostRule: null,
    origins: null,
    gate,
    readers,
    socketio,
    app,
    refusals,
    logger,
  });
  const port = await server.listen();
  context.after(() => server.drain(0));
  return { bus, ids, held, raw: () => openRaw(`http://127.0.0.1:${port}`) };
}

const textOf = (raw: RawConnection): string => raw.responses()[0]?.body ?? '';
const cursorsOf = (raw: RawConnection): string[] =>
  [...textOf(raw).matchAll(/^id: (\S+)$/gm)].map(([, id]) => id as string);
const eventsOf = (raw: RawConnection): number => textOf(raw).split('event: messages.new').length - 1;

test('a heartbeat of a stream that catches up names the cursor that it has reached', async (context) => {
  const { bus, ids, held, raw } = await serveHeld(context, sizes(3, 10), 0);
  const stream = raw();
  stream.send(get(`/sse?tenantId=tenant-1&legacy=false&after=${ids[0]}`));
  await until('it reads the log', () => held.count > 0);
  const [live] = await publish(bus, 10);
  await until('heartbeats', () => cursorsOf(stream).length >= 3);
  assert.deepEqual(new Set(cursorsOf(stream)), new Set([ids[0]]));
  held.release();
  await until('all events', () => eventsOf(stream) === 3);
  await until('a heartbeat with the newest cursor', () => cursorsOf(stream).at(-1) === live);
  assert.deepEqual([...new Set(cursorsOf(stream))], [...ids, live]);
});

test('a stream whose life ends while it catches up ends with the cursor that it has reached', async (context) => {
  const { bus, ids, held, raw } = await serveHeld(context, sizes(3, 10), 0);
  const stream = raw();
  stream.send(get(`/sse?tenantId=tenant-1&legacy=false&life=1&after=${ids[0]}`));
  await until('it reads the log', () => held.count > 0);
  await publish(bus, 10);
  await until('the stream ended', () => stream.responses()[0]?.ended === true);
  assert.equal(eventsOf(stream), 0);
  assert.deepEqual(new Set(cursorsOf(stream)), new Set([ids[0]]));
});

test('a long poll that times out while it catches up answers the cursor that it has reached', async (context) => {
  const pages = 10; // what one request reads before it waits, a thousand records each
  const { bus, ids, held, raw } = await serveHeld(context, sizes(pages * 1_000 + 500, 10), pages);
  const poll = raw();
  poll.send(get(`/events?tenantId=tenant-1&events=tickets.updated&after=start&wait=1`));
  await until('it waits, and reads on', () => held.count > pages);
  const [live] = await publish(bus, 10);
  await until('answered', () => poll.responses().length === 1);
  const { cursor, hasMore, events } = JSON.parse(textOf(poll));
  assert.deepEqual(events, []);
  assert.ok(ids.includes(cursor), `${cursor} is of a record that was read`);
  assert.ok(cursor < (ids.at(-1) as string) && cursor < (live as string));
  assert.equal(hasMore, true, 'the client asks again at once');
});

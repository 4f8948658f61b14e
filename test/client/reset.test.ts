/** The client library when the log no longer has its cursor: one reset, with the state if the application asked for it. */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { type ConnectOptions, connect, type Live, type Reset } from '../../src/client/client.ts';
import { createLogger } from '../../src/logger.ts';
import { openRedisStore } from '../../src/store/redis/store.ts';
import { messageNew, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { startObstacle } from '../support/obstacles.ts';
import { missing, useRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function start(): Promise<TestBridge> {
  const bridge = await startBridge({ heartbeatMs: 250, retryMs: 20, drainMs: 200 });
  closing.push(bridge.close);
  return bridge;
}

function listen(options: ConnectOptions): { live: Live; heard: string[]; resets: Reset[] } {
  const live = connect({ heartbeatMs: 250, patienceMs: 1000, ...options });
  closing.push(live.close);
  const heard: string[] = [];
  const resets: Reset[] = [];
  live.on('messages.new', (_payload, { cursor }) => heard.push(cursor));
  live.on('reset', (reset) => resets.push(reset));
  return { live, heard, resets };
}

for (const transport of ['websocket', 'sse', 'poll'] as const) {
  test(`over ${transport}, a log that was lost causes one reset, and the new log's events arrive`, async () => {
    const lost = await start();
    const between = await startObstacle(lost.url);
    closing.push(between.close);
    const transports = transport === 'poll' ? (['poll'] as const) : ([transport, 'poll'] as const);
    const { live, heard, resets } = listen({ url: between.url, rooms: { tenantId: 'tenant-1' }, transports });
    await until('live', () => live.status.transport === transport);
    await lost.publish('messages.new', messageNew());
    await until('heard', () => heard.length === 1);
    const fresh = await start();
    between.retarget(fresh.url);
    between.cut();
    await until('a reset', () => resets.length > 0);
    await until('live again', () => live.status.transport === transport);
    const { id } = await fresh.publish('messages.new', messageNew());
    await until('heard', () => heard.length > 1);
    assert.equal(heard[1], id);
    assert.equal(resets.length, 1);
    assert.equal(resets[0]?.reason, 'unknown');
    assert.equal(resets[0]?.state, null);
    assert.equal(resets[0]?.room, null);
  });
}

describe('on Redis', { skip: missing('redis-server') }, () => {
  const redis = useRedis();

  test('a websocket whose log is lost goes on, also if the new cursors sort before the lost ones', async () => {
    // The cursors of this log sort after those of the next one.
    await (await openRedisStore({ url: redis.url, keying: 'room', logger: createLogger('silent') })).close();
    await redis.command('HSET', '{roomcast}:log', 'epoch', 'zzzzzzzz');
    const bridge = await startBridge({ storeUrl: redis.url, drainMs: 200 });
    closing.push(bridge.close);
    const between = await startObstacle(bridge.url);
    closing.push(between.close);
    const transports = ['websocket', 'poll'] as const;
    const { live, heard, resets } = listen({
      url: between.url,
      rooms: { tenantId: 'tenant-1' },
      transports,
      patienceMs: 30_000,
    });
    await until('live', () => live.status.transport === 'websocket');
    await bridge.publish('messages.new', messageNew());
    await until('heard', () => heard.length === 1);
    await redis.command('FLUSHALL');
    await until('a reset', () => resets.length === 1);
    const { id } = await bridge.publish('messages.new', messageNew());
    await until('the event of the new log', () => heard.at(-1) === id);
    const by: string[] = [];
    live.on('messages.new', (_payload, { transport }) => by.push(transport));
    await until('the websocket brings events', async () => {
      await bridge.publish('messages.new', messageNew());
      return by.at(-1) === 'websocket';
    });
    assert.equal(between.seen.filter((line) => line.startsWith('UPGRADE')).length, 1, 'on the same connection');
    assert.equal(resets.length, 1);
  });
});

test('refetch reads the state, and continues from its cursor with no gap and no duplicate', async () => {
  const bridge = await start();
  for (const ticketId of ['a', 'b']) {
    await bridge.publish('tickets.updated', ticketUpdated({ ticketId }));
    for (let count = 0; count < 3; count++) await bridge.publish('messages.new', messageNew({ ticketId }));
  }
  // More messages than a live stream remembers, and than one answer holds.
  const many = Array.from({ length: 1000 }, () => ({ event: 'messages.new', payload: messageNew({ ticketId: 'b' }) }));
  await bridge.post({ events: many });
  let isStopped = false;
  const published: string[] = [];
  const messages: string[] = [];
  const publishing = (async () => {
    while (!isStopped) {
      const payload = messageNew({ ticketId: 'a' });
      published.push((await bridge.publish('messages.new', payload)).id);
      messages.push(payload.messageId);
      await new Promise((resolve) => setImmediate(resolve));
    }
  })();
  await until('some published', () => published.length > 20);
  const heardMessages: unknown[] = [];
  const { live, heard, resets } = listen({
    url: bridge.url,
    rooms: { tenantId: 'tenant-1', ticketId: ['a', 'b', 'never-seen'] },
    after: 'a-cursor-of-elsewhere',
    refetch: true,
  });
  live.on('messages.new', ({ messageId }) => heardMessages.push(messageId));
  await until('a reset', () => resets.length > 0);
  await until('live', () => heard.length > 20 && live.status.transport === 'websocket');
  isStopped = true;
  await publishing;
  await until('all heard', () => heard.at(-1) === published.at(-1));
  assert.equal(resets.length, 1);
  const state = resets[0]?.state;
  assert.deepEqual(state?.tickets.map(({ ticketId }) => ticketId).sort(), ['a', 'b']);
  assert.deepEqual(
    state?.messages.b?.map(({ messageId }) => messageId),
    many.map(({ payload }) => payload.messageId),
  );
  const known = state?.messages.a?.map(({ messageId }) => messageId) ?? [];
  // The three earlier messages, then all others once and in order: first as state, then live.
  assert.deepEqual([...known.slice(3), ...heardMessages], messages);
});

test('refetch has the messages as they are now, and the changes that follow arrive', async () => {
  const bridge = await start();
  const ids = { tenantId: 'tenant-1', ticketId: 'changing' };
  const [first, second] = [messageNew(ids), messageNew(ids)];
  const change = ({ messageId }: { messageId: string }, messageUpdatedAt: string, more: object) => ({
    ...ids,
    messageId,
    messageUpdatedAt,
    ...more,
  });
  for (const message of [first, second]) await bridge.publish('messages.new', message);
  const read = change(first, '2024-06-01T12:00:02Z', { message: { content: 'edited' }, messageStatus: 'read' });
  const sent = change(first, '2024-06-01T12:00:01Z', { message: { content: 'before' }, messageStatus: 'sent' });
  for (const update of [read, sent]) await bridge.publish('messages.updated', update);
  await bridge.publish('messages.deleted', change(second, '2024-06-01T12:00:01Z', {}));
  const { live, resets } = listen({
    url: bridge.url,
    rooms: { tenantId: 'tenant-1', ticketId: 'changing' },
    after: 'a-cursor-of-elsewhere',
    refetch: true,
  });
  const heard: unknown[] = [];
  live.on('messages.updated', ({ messageStatus }) => heard.push(messageStatus));
  await until('a reset', () => resets.length > 0);
  assert.deepEqual(resets[0]?.state?.messages, { changing: [read] });
  await until('live', () => live.status.state === 'live');
  const played = change(first, '2024-06-01T12:00:03Z', { message: { content: 'edited' }, messageStatus: 'played' });
  await bridge.publish('messages.updated', played);
  await until('heard', () => heard.length > 0);
  assert.deepEqual(heard, ['played']);
});

test('a join whose cursor is lost resets its room, and joins', async () => {
  const bridge = await start();
  const { live, heard, resets } = listen({ url: bridge.url, rooms: { tenantId: 'tenant-1' } });
  await until('live', () => live.status.state === 'live');
  await live.join({ ticketId: 'elsewhere' }, { after: 'a-cursor-of-elsewhere' });
  assert.deepEqual(
    resets.map(({ room, reason }) => [room, reason]),
    [['ticket:elsewhere', 'unknown']],
  );
  const { id } = await bridge.publish('messages.new', messageNew({ tenantId: 'tenant-2', ticketId: 'elsewhere' }));
  await until('heard', () => heard.length > 0);
  assert.deepEqual(heard, [id]);
});

/**
 * A fault in one subscription is that subscription's (design law 12): it is cut and resumes by its cursor, every other
 * subscription receives each record once and in order, and the head moves. On both engines, since each has its own tail.
 */
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, type TestContext, test } from 'node:test';
import type { Bus } from '../../src/bus/bus.ts';
import type { Mode, Sink, Subscription } from '../../src/bus/subscription.ts';
import type { Cursor } from '../../src/contract/cursor.ts';
import type { LogRecord } from '../../src/contract/frames.ts';
import type { Room } from '../../src/contract/rooms.ts';
import { missing, type RedisServer, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';
import { listenerCount, openBus, openTailedBus, publish, ROOM, rooms, sizes } from './support.ts';

type Fault = Mode | 'reset' | 'pendingBytes' | 'cut';

/** A connection that takes everything at once, and throws where the test wants it to. */
function createClient(...faults: readonly Fault[]) {
  const ids: Cursor[] = [];
  const calls = { resets: 0, cuts: 0, afterCut: 0 };
  const call = (fault: Fault): void => {
    if (calls.cuts > 0) calls.afterCut++;
    if (faults.includes(fault)) throw new Error(`fault in ${fault}`);
  };
  const sink: Sink = {
    write(batch, mode, flushed) {
      call(mode);
      ids.push(...batch.records.map(({ id }) => id));
      if (flushed !== undefined) setImmediate(flushed);
    },
    signals() {},
    signalsDropped() {},
    pendingBytes() {
      call('pendingBytes');
      return 0;
    },
    reset() {
      call('reset');
      calls.resets++;
    },
    cut() {
      call('cut');
      calls.cuts++;
    },
  };
  return { sink, ids, calls };
}

type Client = ReturnType<typeof createClient>;

/** The thrower between two others, since a fan-out that stops at a fault has served the first one already. */
function subscribeThree(context: TestContext, bus: Bus, after: Cursor | null, ...faults: readonly Fault[]) {
  const clients = [createClient(), createClient(...faults), createClient()] as const;
  const subscriptions = clients.map(({ sink }) => bus.subscribe({ rooms, after }, sink));
  context.after(() => {
    for (const subscription of subscriptions) subscription.close();
  });
  const [first, thrower, last] = clients;
  return { others: [first, last], thrower, subscription: subscriptions[1] as Subscription };
}

/** The others have exactly these records, and a later commit still reaches them; the thrower is cut, once and for all. */
async function assertIsolated(bus: Bus, others: readonly Client[], thrower: Client, expected: readonly Cursor[]) {
  await until('the others have the records', () => others.every(({ ids }) => ids.length >= expected.length), 10_000);
  await until('the thrower is cut', () => thrower.calls.cuts > 0, 10_000);
  const all = [...expected, ...(await publish(bus, 1))];
  await until('the head is the last record', () => bus.head === all.at(-1), 10_000);
  for (const { ids, calls } of others) {
    assert.deepEqual(ids, all);
    assert.equal(calls.cuts, 0);
  }
  assert.deepEqual({ ...thrower.calls, resets: 0 }, { resets: 0, cuts: 1, afterCut: 0 });
  assert.equal(listenerCount(bus), others.length);
}

const absent = missing('redis-server');

for (const engine of ['SQLite', 'Redis'] as const) {
  describe(`a fault in one subscription, on ${engine}`, { skip: engine === 'Redis' && absent }, () => {
    let redis: RedisServer | null = null;
    let url = 'sqlite::memory:';
    before(async () => {
      if (engine === 'SQLite') return;
      redis = await startRedis();
      url = redis.url;
    });
    beforeEach(() => redis?.command('FLUSHALL'));
    after(() => redis?.stop());

    for (const fault of ['live', 'pendingBytes'] as const) {
      test(`live (${fault}): it is cut and resumes where it was`, async (context) => {
        const bus = await openBus(context, { url });
        const [before] = await publish(bus, 1);
        await until('the bus has the first record', () => bus.head === before);
        const { others, thrower, subscription } = subscribeThree(context, bus, null, fault);
        const expected = await publish(bus, 1, 1);
        await assertIsolated(bus, others, thrower, expected);
        assert.equal(subscription.cursor, before, 'the cursor is still the last record that it has');
        const resumed = createClient();
        const again = bus.subscribe({ rooms, after: subscription.cursor }, resumed.sink);
        context.after(() => again.close());
        await until('resumed', () => resumed.ids.length > expected.length, 10_000);
        assert.deepEqual(resumed.ids, others[0]?.ids);
      });
    }

    test('live, in one of several rooms: the others have the commit once', async (context) => {
      const bus = await openBus(context, { url });
      const second: Room = 'ticket:ticket-123';
      const { others, thrower, subscription } = subscribeThree(context, bus, null, 'live');
      await subscription.join(new Map([[second, [second]]]), null);
      const other = createClient();
      const both = bus.subscribe({ rooms: new Map(), after: null }, other.sink);
      context.after(() => both.close());
      for (const room of [ROOM, second] as const) await both.join(new Map([[room, [room]]]), null);
      const expected = await publish(bus, 1, 1);
      await until('the others have the records', () => [...others, other].every(({ ids }) => ids.length >= 2), 10_000);
      for (const { ids } of [...others, other]) assert.deepEqual(ids, expected);
      await until('the head is the last record', () => bus.head === expected.at(-1), 10_000);
      assert.equal(thrower.calls.cuts, 1);
      assert.equal(listenerCount(bus), 4, 'two of the others, and one in two rooms');
    });

    for (const { what, count } of [
      { what: 'one step', count: 3 },
      { what: 'many steps', count: 300 },
    ]) {
      test(`catching up in ${what}: it is cut, the others catch up`, async (context) => {
        const bus = await openBus(context, { url });
        const [first] = await publish(bus, 1);
        const expected = await publish(bus, ...sizes(count, 1_000));
        await until('the bus has the records', () => bus.head === expected.at(-1));
        const { others, thrower } = subscribeThree(context, bus, first as Cursor, 'resumed');
        await assertIsolated(bus, others, thrower, expected);
      });
    }

    test('a join that replays: it fails, and the connection is cut', async (context) => {
      const bus = await openBus(context, { url });
      const [first] = await publish(bus, 1);
      const [second] = await publish(bus, 1);
      await until('the bus has the records', () => bus.head === second);
      const { others, thrower, subscription } = subscribeThree(context, bus, null, 'replay');
      subscription.leave(ROOM);
      const joins = [first, first].map((cursor) => subscription.join(new Map([[ROOM, [ROOM]]]), cursor as Cursor));
      for (const join of joins) await assert.rejects(join, { code: 'unavailable' });
      await assertIsolated(bus, others, thrower, []);
    });

    test('a reset: the others get theirs and go on', async (context) => {
      const { bus, tail } = await openTailedBus(context, { url });
      const { others, thrower } = subscribeThree(context, bus, null, 'reset');
      const { head } = bus;
      tail.gap('expired', { floor: head, oldest: head, head });
      await assertIsolated(bus, others, thrower, []);
      for (const { calls } of others) assert.equal(calls.resets, 1);
    });

    test('whose cut throws as well: it has left the bus all the same', async (context) => {
      const bus = await openBus(context, { url });
      const { others, thrower } = subscribeThree(context, bus, null, 'live', 'cut');
      const expected = [...(await publish(bus, 1)), ...(await publish(bus, 1))];
      await until('the head is the last record', () => bus.head === expected.at(-1), 10_000);
      for (const { ids } of others) assert.deepEqual(ids, expected);
      assert.deepEqual(thrower.ids, []);
      assert.equal(listenerCount(bus), others.length);
    });

    test('a commit that cannot be fanned out at all: everyone is cut, and nobody misses it silently', async (context) => {
      const { bus, tail } = await openTailedBus(context, { url });
      const { others, thrower } = subscribeThree(context, bus, null);
      const id = `${bus.head}-broken` as Cursor;
      const broken: LogRecord = {
        id,
        event: 'e',
        rooms: [],
        audiences: [ROOM],
        payload: null as never,
        acceptedAtMs: 0,
      };
      tail.records([broken]);
      assert.equal(bus.head, broken.id);
      for (const { calls } of [...others, thrower]) assert.equal(calls.cuts, 1);
      assert.equal(listenerCount(bus), 0);
    });

    test('metrics that throw cost nobody a record', async (context) => {
      const tailLag = () => {
        throw new Error('fault in metrics');
      };
      const bus = await openBus(context, { url, metrics: { tailLag } });
      const { others, thrower } = subscribeThree(context, bus, null);
      const expected = [...(await publish(bus, 1)), ...(await publish(bus, 1))];
      await until('the head is the last record', () => bus.head === expected.at(-1), 10_000);
      for (const { ids, calls } of [...others, thrower]) {
        assert.deepEqual(ids, expected);
        assert.equal(calls.cuts, 0);
      }
    });
  });
}

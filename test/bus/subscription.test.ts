/**
 * What is written at once, replayed or live, fits the budget on the wire, where a legacy group is several times its
 * payload: a listener that has yet to take it is not cut by the next event (protocol, Slow consumers; design law 7).
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { type Batch, encodeBatch, encodeRecord } from '../../src/bus/batch.ts';
import type { Bus } from '../../src/bus/bus.ts';
import type { Sink, Subscription } from '../../src/bus/subscription.ts';
import type { Cursor } from '../../src/contract/cursor.ts';
import { LEGACY_NAMES } from '../../src/contract/events.ts';
import { createView, framesOf, type LogRecord } from '../../src/contract/frames.ts';
import { until } from '../support/until.ts';
import { createSink, listenerCount, MAX_BUFFER_BYTES, openBus, publish, ROOM, rooms, sizes } from './support.ts';

/** A connection whose network takes nothing until it is told to. */
function stalledSink() {
  const view = createView(LEGACY_NAMES, null);
  const ids: Cursor[] = [];
  let flushes: (() => void)[] = [];
  let pending = 0;
  let cut = false;
  const sink: Sink = {
    write(batch, _mode, flushed) {
      for (const record of batch.records) {
        ids.push(record.id);
        for (const { payload } of framesOf(record, view)) pending += Buffer.byteLength(payload);
      }
      if (flushed !== undefined) flushes.push(flushed);
    },
    signals() {},
    signalsDropped() {},
    pendingBytes: () => pending,
    reset: () => assert.fail('nothing was lost'),
    cut() {
      cut = true;
    },
  };
  return {
    sink,
    ids,
    get pending() {
      return pending;
    },
    get cut() {
      return cut;
    },
    take() {
      pending = 0;
      const taken = flushes;
      flushes = [];
      for (const flushed of taken) flushed();
    },
  };
}

for (const mode of ['replayed', 'live'] as const) {
  test(`the event after many ${mode} ones cuts nobody who has yet to take those`, async (context) => {
    const bus = await openBus(context);
    const [first] = await publish(bus, 1);
    const expected = mode === 'replayed' ? await publish(bus, ...sizes(100, 2_000)) : [];
    const client = stalledSink();
    const subscription = bus.subscribe({ rooms, after: mode === 'replayed' ? (first as Cursor) : null }, client.sink);
    context.after(() => subscription.close());
    if (mode === 'live') expected.push(...(await publish(bus, ...sizes(100, 2_000))));
    expected.push(...(await publish(bus, 1)));
    await until('the tail has come', () => bus.head === expected.at(-1));
    assert.equal(client.cut, false);
    await until('all taken', () => {
      assert.ok(client.pending <= 2 * MAX_BUFFER_BYTES, 'and no more waits than that');
      client.take();
      return client.ids.length === expected.length;
    });
    assert.deepEqual(client.ids, expected);
    assert.equal(client.cut, false);
  });
}

test('the event after the last of a replay cuts nobody who has yet to take that', async (context) => {
  const bus = await openBus(context);
  const [first] = await publish(bus, 1);
  const expected = await publish(bus, ...sizes(59, 2_000));
  const client = stalledSink();
  const subscription = bus.subscribe({ rooms, after: first as Cursor }, client.sink);
  context.after(() => subscription.close());
  for (const size of sizes(10, 5_000)) expected.push(...(await publish(bus, size)));
  await until('the tail has come', () => bus.head === expected.at(-1));
  assert.equal(client.cut, false);
  assert.deepEqual(client.ids, expected);
});

test('one that takes nothing is cut once more than the budget waits', async (context) => {
  const bus = await openBus(context);
  const [first] = await publish(bus, 1);
  await publish(bus, ...sizes(59, 2_000));
  const client = stalledSink();
  const subscription = bus.subscribe({ rooms, after: first as Cursor }, client.sink);
  context.after(() => subscription.close());
  await until('cut', async () => {
    await publish(bus, 10_000);
    assert.ok(client.pending <= 3 * MAX_BUFFER_BYTES);
    return client.cut;
  });
});

/** What a client that takes everything at once is written after a place. */
function hearAfter(context: TestContext, bus: Bus, after: Cursor): readonly Batch[] {
  const batches: Batch[] = [];
  const sink = createSink({
    write(batch, _mode, flushed) {
      batches.push(batch);
      if (flushed !== undefined) queueMicrotask(flushed);
    },
  });
  const subscription = bus.subscribe({ rooms, after }, sink);
  context.after(() => subscription.close());
  return batches;
}

const idsOf = (batches: readonly Batch[]): Cursor[] => batches.flatMap(({ records }) => records.map(({ id }) => id));

test('who comes back from the same place is given the same batches, and never old ones', async (context) => {
  const bus = await openBus(context);
  const [first] = await publish(bus, 1);
  const expected = await publish(bus, ...sizes(500, 1_000));
  const [one, two] = [hearAfter(context, bus, first as Cursor), hearAfter(context, bus, first as Cursor)];
  await until('both heard all', () => [one, two].every((heard) => idsOf(heard).length === expected.length));
  assert.deepEqual(idsOf(one), expected);
  assert.ok(one.length > 1);
  for (const [index, batch] of one.entries()) assert.equal(two[index], batch);

  expected.push(...(await publish(bus, 1)));
  const later = hearAfter(context, bus, first as Cursor);
  await until('all heard by one that came later', () => idsOf(later).length >= expected.length);
  assert.deepEqual(idsOf(later), expected);
  assert.equal(later[0], one[0]);
});

test('however many views are asked for, few encodings are kept of what is in memory', async (context) => {
  const bus = await openBus(context);
  const [first] = await publish(bus, 1);
  await publish(bus, 1, 1);
  const views = Array.from({ length: 100 }, (_, index) => `view ${index}`);
  const batches = new Set<Batch>();
  const records = new Set<LogRecord>();
  for (const view of views) {
    const heard = hearAfter(context, bus, first as Cursor);
    await until('its turn', () => heard.length > 0);
    const [batch] = heard as [Batch];
    encodeBatch(batch, view, () => batch.records.map((record) => encodeRecord(record, view, () => ({}))));
    batches.add(batch);
    for (const record of batch.records) records.add(record);
  }
  assert.ok(batches.size < views.length / 5, 'they are shared all the same');
  for (const { encodings } of batches) assert.ok(encodings.size < 20, `a batch keeps ${encodings.size}`);
  assert.equal(records.size, 2);
  for (const record of records) {
    let made = 0;
    // The newest first: what is made anew takes the place of another.
    for (const view of views.toReversed()) encodeRecord(record, view, () => ({ made: made++ }));
    assert.ok(made < 100 && made > 80, `a record keeps ${100 - made}`);
  }
});

test('who comes back to a restarted server shares the reads of the log', async (context) => {
  const directory = mkdtempSync(join(tmpdir(), 'roomcast-'));
  context.after(() => rmSync(directory, { recursive: true }));
  const url = `sqlite:${join(directory, 'log.db')}`;
  let first: Cursor | undefined;
  let expected: Cursor[] = [];
  await context.test('before', async (before) => {
    const bus = await openBus(before, { url });
    [first] = await publish(bus, 1);
    expected = await publish(bus, ...sizes(500, 1_000));
  });
  let reads = 0;
  const bus = await openBus(context, {
    url,
    around: (store) => ({
      ...store,
      read(query) {
        reads++;
        return store.read(query);
      },
    }),
  });
  const all = Array.from({ length: 50 }, () => hearAfter(context, bus, first as Cursor));
  await until('all heard', () => all.every((heard) => idsOf(heard).length === expected.length));
  for (const heard of all) assert.deepEqual(idsOf(heard), expected);
  assert.ok(reads < 50, `${reads} reads`);
});

test('many who come back at once take turns, and all hear all', async (context) => {
  const bus = await openBus(context);
  const [first] = await publish(bus, 1);
  const expected = await publish(bus, ...sizes(5, 1_000));
  const all = Array.from({ length: 50 }, () => hearAfter(context, bus, first as Cursor));
  const atOnce = all.filter((heard) => heard.length > 0).length;
  assert.ok(atOnce > 0 && atOnce < all.length, `${atOnce} in the same turn`);
  await until('all heard', () => all.every((heard) => idsOf(heard).length === expected.length));
  for (const heard of all) assert.deepEqual(idsOf(heard), expected);
});

test('a join that comes to its turn after the connection has ended enters no room', async (context) => {
  const bus = await openBus(context);
  const [first] = await publish(bus, 1, 1);
  const subscription = bus.subscribe({ rooms: new Map(), after: null }, stalledSink().sink);
  const underWay = subscription.join(new Map([[ROOM, [ROOM]]]), first as Cursor);
  subscription.close();
  for (const join of [underWay, subscription.join(new Map([[ROOM, [ROOM]]]), null)]) {
    await assert.rejects(join, { code: 'unavailable' });
  }
  assert.equal(listenerCount(bus), 0);
});

test('a connection that ends with what it is written leaves nothing behind', async (context) => {
  const bus = await openBus(context);
  const [first] = await publish(bus, 1, 1);
  let written = 0;
  // More than one turn of the event loop serves, so that some are written to after `subscribe` has returned.
  let subscriptions: Subscription[] = [];
  subscriptions = Array.from({ length: 10 }, (_, index) => {
    const write = (): void => {
      written++;
      subscriptions[index]?.close();
    };
    return bus.subscribe({ rooms, after: first as Cursor }, createSink({ write }));
  });
  await until('all were written to', () => written === subscriptions.length);
  for (const subscription of subscriptions) subscription.close();
  assert.equal(listenerCount(bus), 0);
});

test('the log is trimmed once at a time, however long that takes', async (context) => {
  context.mock.timers.enable({ apis: ['setInterval'] });
  const ends: (() => void)[] = [];
  await openBus(context, {
    around: (store) => ({
      ...store,
      async trim(retention) {
        await store.trim(retention);
        await new Promise<void>((resolve) => ends.push(resolve));
      },
    }),
  });
  context.mock.timers.tick(60_000);
  await until('begun', () => ends.length > 0);
  context.mock.timers.tick(60_000);
  await turn();
  assert.equal(ends.length, 1);
  ends[0]?.();
  await turn();
  context.mock.timers.tick(60_000);
  await until('begun again', () => ends.length > 1);
  assert.equal(ends.length, 2);
  ends[1]?.();
});

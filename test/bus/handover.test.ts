/**
 * The handover at its edges (design law 3): a cursor of another node that this node's tail has yet to reach, and a log
 * that is lost while a subscription reads it. The test holds back what the store answers, and calls the tail as it would.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { Mode } from '../../src/bus/subscription.ts';
import type { Cursor } from '../../src/contract/cursor.ts';
import type { LogRecord } from '../../src/contract/frames.ts';
import type { Store, TailListener } from '../../src/store/store.ts';
import { until } from '../support/until.ts';
import { createSink, listenerCount, openBus, openTailedBus, publish, ROOM, rooms } from './support.ts';

/** A connection that takes everything at once. */
function createClient() {
  const written: [Mode, Cursor][] = [];
  const resets: Cursor[] = [];
  const sink = createSink({
    write(batch, mode, flushed) {
      written.push(...batch.records.map(({ id }) => [mode, id] as [Mode, Cursor]));
      if (flushed !== undefined) setImmediate(flushed);
    },
    reset: ({ cursor }) => void resets.push(cursor),
  });
  return { sink, written, resets };
}

/** A bus whose tail hands over nothing until `release`. */
async function openLateBus(context: TestContext) {
  let tail: TailListener | null = null;
  const late: (readonly LogRecord[])[] = [];
  let isHeld = true;
  const around = (store: Store): Store => ({
    ...store,
    tail(listener) {
      tail = listener;
      store.tail({ ...listener, records: (records) => (isHeld ? late.push(records) : listener.records(records)) });
    },
  });
  const bus = await openBus(context, { around });
  return {
    bus,
    release(): void {
      isHeld = false;
      for (const records of late.splice(0)) tail?.records(records);
    },
  };
}

test('a stream that resumes from a cursor ahead of the tail goes live at exactly that record', async (context) => {
  const { bus, release } = await openLateBus(context);
  const [, ahead] = await publish(bus, 1, 1);
  const { sink, written } = createClient();
  const subscription = bus.subscribe({ rooms, after: ahead as Cursor }, sink);
  await turn();
  assert.equal(subscription.cursor, ahead);
  assert.equal(listenerCount(bus), 0);
  release();
  await until('live, with nothing published after', () => listenerCount(bus) === 1);
  assert.deepEqual([subscription.cursor, written], [ahead, []]);
  const [next] = await publish(bus, 1);
  assert.deepEqual(written, [['live', next]]);
});

test('a join from a cursor ahead of the tail enters its room at exactly that record', async (context) => {
  const { bus, release } = await openLateBus(context);
  const [, ahead] = await publish(bus, 1, 1);
  const { sink, written } = createClient();
  const subscription = bus.subscribe({ rooms: new Map(), after: null }, sink);
  const joining = subscription.join(new Map([[ROOM, [ROOM]]]), ahead as Cursor);
  await turn();
  assert.equal(listenerCount(bus), 0);
  release();
  assert.deepEqual(await joining, { start: ahead, cursor: ahead });
  const [next] = await publish(bus, 1);
  assert.deepEqual(written, [['live', next]]);
});

/** A bus on a reopened log of three records, none of them in memory, whose reads wait for `release`. */
async function openHeldBus(context: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), 'roomcast-handover-'));
  context.after(() => rmSync(directory, { recursive: true, force: true }));
  const url = `sqlite:${join(directory, 'log.db')}`;
  let ids: readonly Cursor[] = [];
  await context.test('the log', async (before) => {
    ids = await publish(await openBus(before, { url }), 1, 1, 1);
  });
  const held = Promise.withResolvers<void>();
  context.after(() => held.resolve());
  let reads = 0;
  const around = (store: Store): Store => ({
    ...store,
    async read(query) {
      const page = await store.read(query);
      reads++;
      await held.promise;
      return page;
    },
  });
  const { bus, tail } = await openTailedBus(context, { url, around });
  const [oldest] = ids as [Cursor];
  return {
    bus,
    oldest,
    hasRead: () => reads > 0,
    /** As after a Redis that was emptied: the positions of the new log sort before those that were read. */
    loseLog: () => tail.gap('unknown', { floor: oldest, oldest, head: oldest }),
    release: () => held.resolve(),
  };
}

test('a stream that reads while the log is lost writes nothing of the lost log', async (context) => {
  const { bus, oldest, hasRead, loseLog, release } = await openHeldBus(context);
  const { sink, written, resets } = createClient();
  bus.subscribe({ rooms, after: oldest }, sink);
  await until('it has read', hasRead);
  loseLog();
  release();
  await until('live', () => listenerCount(bus) === 1);
  const [next] = await publish(bus, 1);
  await until('the next record', () => written.length > 0);
  assert.deepEqual([resets, written], [[oldest], [['live', next]]]);
});

test('a join that replays while the log is lost writes nothing of the lost log', async (context) => {
  const { bus, oldest, hasRead, loseLog, release } = await openHeldBus(context);
  const { sink, written, resets } = createClient();
  const joining = bus.subscribe({ rooms: new Map(), after: null }, sink).join(new Map([[ROOM, [ROOM]]]), oldest);
  await until('it has read', hasRead);
  loseLog();
  release();
  assert.deepEqual(await joining, { start: oldest, cursor: oldest });
  const [next] = await publish(bus, 1);
  assert.deepEqual([resets, written], [[oldest], [['live', next]]]);
});

test('the first read after a lost log does not wait for a cursor of the lost log', async (context) => {
  const { bus, tail } = await openTailedBus(context);
  const [first] = await publish(bus, 1, 1);
  assert.ok(first !== undefined && first < bus.head);
  // The new log's cursors sort before those that this node has accepted.
  tail.gap('unknown', { floor: first, oldest: first, head: first });
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const page = await Promise.race([
    bus.read({ audiences: [ROOM], limit: 10, maxChars: 1000 }, first),
    turn().then(turn).then(turn),
  ]);
  assert.deepEqual(page, { records: [], position: first, more: false });
});

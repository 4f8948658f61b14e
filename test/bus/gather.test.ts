import assert from 'node:assert/strict';
import { mock, type TestContext, test } from 'node:test';
import { createGatherer, type Gatherer } from '../../src/bus/gather.ts';
import type { Cursor } from '../../src/contract/cursor.ts';
import type { LogRecord } from '../../src/contract/frames.ts';
import { until } from '../support/until.ts';
import { createSink, openBus, openTailedBus, publish, ROOM, rooms } from './support.ts';

const MAX_CHARS = 1_000;

function recordOf(n: number, chars = 10): LogRecord {
  return { id: `c${n}` as Cursor, event: 'e', rooms: [], audiences: [], payload: 'x'.repeat(chars), acceptedAtMs: 0 };
}

/** A gatherer whose fan-outs take `tookMs` of a clock that stands still otherwise. Two have been. */
function open(context: TestContext, tookMs: number) {
  mock.timers.enable({ apis: ['setTimeout'] });
  context.after(() => mock.timers.reset());
  const fanOuts: string[][] = [];
  const clock = { nowMs: 1_000, tookMs };
  const gatherer: Gatherer = createGatherer(
    (records) => {
      fanOuts.push(records.map(({ id }) => id));
      clock.nowMs += clock.tookMs;
    },
    MAX_CHARS,
    () => clock.nowMs,
  );
  for (const n of [-1, 0]) {
    gatherer.add([recordOf(n)]);
    clock.nowMs += 100;
  }
  fanOuts.length = 0;
  return {
    gatherer,
    fanOuts,
    clock,
    advance(ms: number): void {
      clock.nowMs += ms;
      mock.timers.tick(ms);
    },
  };
}

test('commits that are close behind a fan-out wait, and go out together and in order', (context) => {
  const { gatherer, fanOuts, advance } = open(context, 10);
  gatherer.add([recordOf(1)]);
  assert.deepEqual(fanOuts, [['c1']], 'the first one does not wait');
  advance(1);
  gatherer.add([recordOf(2), recordOf(3)]);
  advance(3);
  gatherer.add([recordOf(4)]);
  assert.equal(fanOuts.length, 1);
  advance(2);
  assert.deepEqual(fanOuts.slice(1), [['c2', 'c3', 'c4']]);
  advance(100);
  assert.equal(fanOuts.length, 2);
});

test('a commit that comes later than that does not wait', (context) => {
  const { gatherer, fanOuts, advance } = open(context, 10);
  for (let n = 1; n <= 3; n++) {
    gatherer.add([recordOf(n)]);
    assert.equal(fanOuts.length, n);
    advance(6);
  }
});

test('the shorter the fan-outs, the shorter the wait; cheap ones never cause any', (context) => {
  const { gatherer, fanOuts, clock, advance } = open(context, 1);
  gatherer.add([recordOf(1)]);
  gatherer.add([recordOf(2)]);
  assert.equal(fanOuts.length, 1);
  clock.tookMs = 0.1;
  advance(2);
  assert.equal(fanOuts.length, 1);
  advance(1);
  assert.equal(fanOuts.length, 2);
  for (let n = 3; n <= 10; n++) {
    gatherer.add([recordOf(n)]);
    assert.equal(fanOuts.length, n);
  }
});

test('one long fan-out alone causes no wait', (context) => {
  const { gatherer, fanOuts, clock } = open(context, 0.1);
  for (let n = 1; n <= 10; n++) {
    clock.tookMs = n % 2 === 0 ? 0.1 : 10;
    gatherer.add([recordOf(n)]);
    assert.equal(fanOuts.length, n);
  }
});

test('what waits together is bounded, and a commit that is larger alone does not wait', (context) => {
  const { gatherer, fanOuts, advance } = open(context, 10);
  gatherer.add([recordOf(1)]);
  gatherer.add([recordOf(2, 500)]);
  gatherer.add([recordOf(3, 500)]);
  assert.equal(fanOuts.length, 1);
  gatherer.add([recordOf(4)]);
  assert.deepEqual(fanOuts.slice(1), [['c2', 'c3']], 'the fourth one did not fit, and waits');
  gatherer.add([recordOf(5, 1_001)]);
  assert.deepEqual(fanOuts.slice(2), [['c4'], ['c5']]);
  advance(100);
  assert.equal(fanOuts.length, 4, 'no timer is left');
});

test('what waits can go out at once', (context) => {
  const { gatherer, fanOuts, advance } = open(context, 10);
  gatherer.flush();
  assert.deepEqual(fanOuts, []);
  gatherer.add([recordOf(1)]);
  gatherer.add([recordOf(2)]);
  gatherer.flush();
  assert.deepEqual(fanOuts, [['c1'], ['c2']]);
  advance(100);
  assert.equal(fanOuts.length, 2);
});

/** A connection that takes long to write to, so that its fan-outs are worth gathering for. */
function createSlowClient(busyMs: number) {
  const heard: string[] = [];
  const sink = createSink({
    write(batch, _mode, flushed) {
      for (const { id } of batch.records) heard.push(id);
      for (const untilMs = performance.now() + busyMs; performance.now() < untilMs; );
      if (flushed !== undefined) setImmediate(flushed);
    },
    reset: ({ reason }) => void heard.push(reason),
  });
  return { sink, heard };
}

test('a saturated bus loses and doubles nothing, for those that listen and those that come', async (context) => {
  const bus = await openBus(context);
  const first = createSlowClient(2);
  bus.subscribe({ rooms, after: null }, first.sink);
  const published: string[] = [];
  const latecomers: { readonly from: string; readonly heard: readonly string[] }[] = [];
  const publisher = async (): Promise<void> => {
    for (let n = 0; n < 50; n++) {
      const [id] = await publish(bus, 1);
      published.push(id as string);
      if (n % 10 !== 5) continue;
      const { sink, heard } = createSlowClient(0);
      latecomers.push({ from: id as string, heard });
      bus.subscribe({ rooms, after: id as Cursor }, sink);
    }
  };
  await Promise.all([publisher(), publisher(), publisher(), publisher()]);
  published.sort();
  await until('everybody has everything', () =>
    [first, ...latecomers].every(({ heard }) => heard.at(-1) === published.at(-1)),
  );
  assert.deepEqual(first.heard, published);
  assert.equal(latecomers.length, 20);
  for (const { from, heard } of latecomers) {
    assert.deepEqual(heard, published.slice(published.indexOf(from) + 1));
  }
});

test('a publisher finds its record while the record waits for its fan-out', async (context) => {
  const bus = await openBus(context);
  const { sink, heard } = createSlowClient(4);
  bus.subscribe({ rooms, after: null }, sink);
  const start = bus.head;
  for (let n = 1; n <= 20; n++) {
    const [id] = await publish(bus, 1);
    const page = await bus.read(
      { audiences: [...rooms.values()].flatMap(({ audiences }) => audiences), limit: 100, maxChars: 100_000 },
      start,
    );
    assert.ok('records' in page);
    assert.equal(page.records.at(-1)?.id, id);
  }
  assert.equal(heard.length, 20);
});

test('what waits goes out before a gap, and before records are forgotten', async (context) => {
  const { bus, tail } = await openTailedBus(context);
  const { sink, heard } = createSlowClient(4);
  bus.subscribe({ rooms, after: null }, sink);
  const start = bus.head;
  const given: string[] = [];
  /** Usually the second record. On a busy machine, more time may pass than a record waits. */
  function giveUntilOneWaits(): void {
    while (heard.length === given.length) {
      const id = `${start}-${String(given.length).padStart(9, '0')}` as Cursor;
      given.push(id);
      tail.records([{ ...recordOf(0), id, audiences: [ROOM] }]);
    }
  }
  giveUntilOneWaits();
  tail.forgotten(start);
  assert.deepEqual(heard, given);
  giveUntilOneWaits();
  tail.gap('expired', { floor: start, oldest: start, head: given.at(-1) as Cursor });
  assert.deepEqual(heard, [...given, 'expired']);
});

/** A bus on a fresh store, and what tests publish on it. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { type Bus, createBus } from '../../src/bus/bus.ts';
import type { Sink } from '../../src/bus/subscription.ts';
import type { Cursor } from '../../src/contract/cursor.ts';
import { createEventCatalog, LEGACY_NAMES } from '../../src/contract/events.ts';
import { createLogger } from '../../src/logger.ts';
import type { Metrics } from '../../src/metrics/metrics.ts';
import { createPrometheus } from '../../src/metrics/prometheus.ts';
import { openStore } from '../../src/store/open.ts';
import type { Store, TailListener } from '../../src/store/store.ts';
import { messageNew } from '../support/bridge.ts';

export const MAX_BUFFER_BYTES = 1024 * 1024;
export const DAY_MS = 86_400_000;
export const ROOM = 'tenant:tenant-1';
export const rooms = new Map([[ROOM, { audiences: [ROOM], start: '' as Cursor }]] as const);

interface BusOptions {
  readonly url?: string;
  /** What the bus gets in place of the store. */
  readonly around?: (store: Store) => Store;
  readonly metrics?: Partial<Metrics>;
}

export async function openBus(context: TestContext, options: BusOptions = {}): Promise<Bus> {
  const { url = 'sqlite::memory:', around = (store) => store } = options;
  const logger = createLogger('silent');
  const store = await openStore(url, 'room', logger);
  const { metrics } = createPrometheus({ roomLabel: 'kind', maxRooms: 0, sampleStore: () => store.stats() });
  const bus = createBus({
    store: around(store),
    nodes: store,
    catalog: createEventCatalog(),
    keying: 'room',
    aliases: LEGACY_NAMES,
    maxBufferBytes: MAX_BUFFER_BYTES,
    retention: { retentionMs: DAY_MS, maxRecords: 1_000_000, stateMs: DAY_MS, dedupeMs: DAY_MS, revocationMs: DAY_MS },
    metrics: { ...metrics, ...options.metrics },
    logger,
  });
  context.after(async () => {
    await bus.close();
    await store.close();
  });
  return bus;
}

/** A bus, and its listener on the tail, for the test to call as the store would. */
export async function openTailedBus(
  context: TestContext,
  { around = (store) => store, ...options }: BusOptions = {},
): Promise<{ bus: Bus; tail: TailListener }> {
  let tail: TailListener | undefined;
  const bus = await openBus(context, {
    ...options,
    around: (store) => ({
      ...around(store),
      tail(listener) {
        tail = listener;
        store.tail(listener);
      },
    }),
  });
  assert.ok(tail);
  return { bus, tail };
}

/** A connection that takes everything at once. It must not be reset or cut, unless the test says what it does then. */
export const createSink = (own: Pick<Sink, 'write'> & Partial<Sink>): Sink => ({
  signals() {},
  signalsDropped() {},
  pendingBytes: () => 0,
  reset: () => assert.fail('nothing was lost'),
  cut: () => assert.fail('nobody is slow'),
  ...own,
});

/** One commit of messages whose texts have the given lengths. */
export async function publish(bus: Bus, ...sizes: readonly number[]): Promise<Cursor[]> {
  const events = sizes.map((size) => ({
    event: 'messages.new',
    payload: messageNew({ message: { content: 'x'.repeat(size) } }),
  }));
  return (await bus.publish(events)).map(({ id }) => id);
}

export const sizes = (count: number, size: number): number[] => Array.from({ length: count }, () => size);

export function listenerCount(bus: Bus): number {
  return [...bus.activity(DAY_MS).audiences].reduce((sum, { listeners }) => sum + listeners, 0);
}

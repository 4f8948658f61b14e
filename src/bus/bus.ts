/**
 * The bus: one way in, one log, one way out (design law 1).
 *
 * `publish` checks and appends; nothing is seen before the log holds it. What the log's tail hands back, this node's own
 * records included, is kept in `recent` and fanned out to the subscriptions of its rooms, once per connection and
 * commit. The handover from replay to live stands in subscription.ts.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { type Cursor, isWellFormedCursor } from '../contract/cursor.ts';
import { BridgeError } from '../contract/errors.ts';
import type { LogRecord } from '../contract/frames.ts';
import type { Reset, Start } from '../contract/reset.ts';
import type { Logger } from '../logger.ts';
import type { Log, ReadResult } from '../store/store.ts';
import { type Batch, createBatch, uniteBatches } from './batch.ts';
import { createPacer } from './pacer.ts';
import { createPublish, type Publish, type PublishDeps } from './publish.ts';
import { createRecent, stepKey } from './recent.ts';
import {
  type BusSide,
  BusSubscription,
  type Sink,
  type Subscriber,
  type Subscription,
  stepBytesFor,
} from './subscription.ts';

export interface LogPage {
  readonly records: readonly LogRecord[];
  readonly position: Cursor;
  readonly more: boolean;
}

export interface RetentionConfig {
  readonly retentionMs: number;
  readonly maxRecords: number;
  readonly stateMs: number;
  readonly dedupeMs: number;
}

export interface BusOptions extends PublishDeps {
  readonly store: Log;
  readonly maxBufferBytes: number;
  readonly retention: RetentionConfig;
  readonly logger: Logger;
}

export interface Bus {
  /** The newest record that was fanned out on this node. */
  readonly head: Cursor;
  readonly publish: Publish;
  /**
   * Where a client that has seen `after` goes on. `start`: before the oldest record kept; `now`: the head.
   * @throws {BridgeError} `invalid_cursor` when malformed, `unavailable`
   */
  resolve(after: string): Promise<Start>;
  /** Records of the audiences after a resolved cursor; or the reset, when they were trimmed meanwhile. */
  read(audiences: readonly string[], after: Cursor, limit: number): Promise<LogPage | Reset>;
  /** The newest records of the audiences, oldest first. */
  newest(audiences: readonly string[], limit: number): Promise<LogPage>;
  subscribe(subscriber: Subscriber, sink: Sink): Subscription;
  /**
   * For operators: the audiences with listeners on this node or with records in the log's recent past, and since when
   * that past is known. Costs their number; may be taken in slices, and then is not of one moment.
   */
  activity(windowMs: number): Activity;
  close(): Promise<void>;
}

export interface Activity {
  /** Milliseconds since 1970. */
  readonly sinceMs: number;
  readonly audiences: Iterable<AudienceActivity>;
}

export interface AudienceActivity {
  readonly audience: string;
  readonly listeners: number;
  /** Records since `sinceMs`, accepted by whichever node. */
  readonly records: number;
}

/** protocol §8: trimming may lag by 10 s. */
const TRIM_INTERVAL_MS = 4_000;
/** Longest that a read waits for this node's tail, which is some milliseconds behind where the log is elsewhere. */
const TAIL_PATIENCE_MS = 1_000;
/** Of a replay, each up to 256 KB to one connection, in one turn of the event loop. */
const REPLAY_STEPS_PER_TURN = 4;
/** Most payload text that one read of the store may bring, in characters. */
const READ_CHARS = 1024 * 1024;
/** The same for the newest records, of which there is one page only. */
const NEWEST_CHARS = 8 * 1024 * 1024;

export function createBus(options: BusOptions): Bus {
  const { store, metrics, logger } = options;
  const recent = createRecent(store.opened.head);
  const listeners = new Map<string, Set<Subscription>>();
  const subscriptions = new Set<Subscription>();
  /** Reads of the store that are under way: those who come back together after a restart share them. */
  const reading = new Map<string, Promise<ReadResult>>();
  const waitingForTail: { readonly cursor: Cursor; readonly resolve: () => void }[] = [];
  let head = store.opened.head;
  /** The newest record that publishers of this node were told of. */
  let accepted = head;
  let closed = false;

  const side: BusSide = {
    recent,
    pacer: createPacer(REPLAY_STEPS_PER_TURN),
    head: () => head,
    read(audiences, after, limit, maxChars) {
      const key = stepKey(audiences, after, limit, maxChars);
      const known = reading.get(key);
      if (known !== undefined) return known;
      const read = store.read({ audiences, after, limit, maxChars }).finally(() => {
        if (reading.get(key) === read) reading.delete(key);
      });
      reading.set(key, read);
      return read;
    },
    reached(cursor) {
      if (head >= cursor || closed) return Promise.resolve();
      return new Promise((resolve) => waitingForTail.push({ cursor, resolve }));
    },
    attach(audience, subscription) {
      const set = listeners.get(audience);
      if (set === undefined) listeners.set(audience, new Set([subscription]));
      else set.add(subscription);
    },
    detach(audience, subscription) {
      const set = listeners.get(audience);
      if (set?.delete(subscription) && set.size === 0) listeners.delete(audience);
    },
    forget: (subscription) => subscriptions.delete(subscription),
    resolve,
    maxBufferBytes: options.maxBufferBytes,
    stepBytes: stepBytesFor(options.maxBufferBytes),
    logger,
  };

  store.tail({
    records: fanOut,
    gap(kind, bounds) {
      head = bounds.head;
      accepted = head;
      recent.restart(head);
      reading.clear();
      for (const subscription of subscriptions) subscription.gap(kind, bounds);
      wakeWaiting(true);
    },
    forgotten(through) {
      recent.forget(through);
      reading.clear();
      // A record that was erased before this node's tail came to it is never handed over.
      if (through > head) {
        head = through;
        wakeWaiting();
      }
    },
  });

  const trimTimer = setInterval(trim, TRIM_INTERVAL_MS);
  let trimming = false;

  /** One at a time: a large backlog takes longer than the interval, and the slices of several would hold up appends. */
  function trim(): void {
    if (trimming) return;
    trimming = true;
    const nowMs = Date.now();
    const { retentionMs, maxRecords, stateMs, dedupeMs } = options.retention;
    store
      .trim({
        trimBeforeMs: nowMs - retentionMs,
        maxRecords,
        stateBeforeMs: nowMs - stateMs,
        dedupeBeforeMs: nowMs - dedupeMs,
        nowMs,
      })
      .catch((error: unknown) => {
        if (!closed) logger.warn({ err: error }, 'the log could not be trimmed');
      })
      .finally(() => {
        trimming = false;
      });
  }

  /** One commit: every subscription that hears any of it gets one batch. Costs the listeners of its rooms (law 8). */
  function fanOut(records: readonly LogRecord[]): void {
    recent.push(records);
    const newest = records[records.length - 1] as LogRecord;
    metrics.tailLag(Math.max(0, Date.now() - newest.acceptedAtMs) / 1000);
    const perAudience = new Map<string, LogRecord[]>();
    for (const record of records) {
      for (const audience of record.audiences) {
        if (!listeners.has(audience)) continue;
        const heard = perAudience.get(audience);
        if (heard === undefined) perAudience.set(audience, [record]);
        else heard.push(record);
      }
    }
    if (perAudience.size === 1) {
      for (const [audience, heard] of perAudience) {
        const batch = createBatch(heard);
        // A copy: delivering may take a subscription out of the set, and put it back in.
        for (const subscription of [...(listeners.get(audience) as Set<Subscription>)]) subscription.deliver(batch);
      }
    } else {
      for (const [subscription, batch] of batchesOf(perAudience)) subscription.deliver(batch);
    }
    head = newest.id;
    wakeWaiting();
  }

  function batchesOf(perAudience: ReadonlyMap<string, LogRecord[]>): Map<Subscription, Batch> {
    const batches = new Map<Subscription, Batch>();
    const united = new Map<Batch, Map<Batch, Batch>>();
    for (const [audience, heard] of perAudience) {
      const batch = createBatch(heard);
      for (const subscription of listeners.get(audience) as Set<Subscription>) {
        const other = batches.get(subscription);
        batches.set(subscription, other === undefined ? batch : unite(united, other, batch));
      }
    }
    return batches;
  }

  function wakeWaiting(all = closed): void {
    for (let index = waitingForTail.length - 1; index >= 0; index--) {
      const waiting = waitingForTail[index] as (typeof waitingForTail)[number];
      if (all || waiting.cursor <= head) {
        waitingForTail.splice(index, 1);
        waiting.resolve();
      }
    }
  }

  async function resolve(after: string): Promise<Start> {
    if (!isWellFormedCursor(after)) {
      throw new BridgeError(
        'invalid_cursor',
        'A cursor is 1 to 64 characters without whitespace or control characters.',
      );
    }
    if (recent.knows(after)) return { kind: 'ok', cursor: after as Cursor };
    if (after === 'now') return { kind: 'ok', cursor: head };
    if (after === 'start') return { kind: 'ok', cursor: (await store.bounds()).floor };
    const resolution = await store.resolve(after);
    if (resolution.kind === 'ok') return { kind: 'ok', cursor: after as Cursor };
    const { kind: reason, oldest, head: cursor } = resolution;
    return { kind: 'reset', reason, after, oldest, cursor };
  }

  /** Whoever was told of a record, and asks this node, finds it; unless the tail is far behind, or lost its place. */
  async function caughtUp(): Promise<void> {
    if (head >= accepted) return;
    const patience = new AbortController();
    const late = sleep(TAIL_PATIENCE_MS, true, { signal: patience.signal }).catch(() => false);
    if (await Promise.race([side.reached(accepted), late])) accepted = head;
    patience.abort();
  }

  function* audiencesSince(sinceMs: number): Generator<AudienceActivity> {
    for (const [audience, set] of listeners) {
      yield { audience, listeners: set.size, records: recent.count(audience, sinceMs) };
    }
    for (const audience of recent.audiences()) {
      const records = listeners.has(audience) ? 0 : recent.count(audience, sinceMs);
      if (records > 0) yield { audience, listeners: 0, records };
    }
  }

  return {
    get head() {
      return head;
    },
    publish: createPublish(options, (id) => {
      if (id > accepted) accepted = id;
    }),
    resolve,
    async read(audiences, after, limit) {
      await caughtUp();
      const near = recent.after(audiences, after, limit, READ_CHARS);
      if (near !== null) return near;
      const page = await store.read({ audiences, after, limit, maxChars: READ_CHARS });
      if (page.kind === 'ok') return page;
      return { reason: page.kind, after, oldest: page.oldest, cursor: page.head };
    },
    async newest(audiences, limit) {
      const { records, head: position } = await store.newest({ audiences, limit, maxChars: NEWEST_CHARS });
      return { records, position, more: false };
    },
    subscribe(subscriber, sink) {
      const subscription = new BusSubscription(side, subscriber, sink);
      subscriptions.add(subscription);
      return subscription;
    },
    activity(windowMs) {
      const sinceMs = Math.max(recent.sinceMs, Date.now() - windowMs);
      return { sinceMs, audiences: audiencesSince(sinceMs) };
    },
    async close() {
      closed = true;
      clearInterval(trimTimer);
      for (const subscription of [...subscriptions]) subscription.close();
      wakeWaiting();
    },
  };
}

function unite(cache: Map<Batch, Map<Batch, Batch>>, a: Batch, b: Batch): Batch {
  let withA = cache.get(a);
  if (withA === undefined) {
    withA = new Map();
    cache.set(a, withA);
  }
  let united = withA.get(b);
  if (united === undefined) {
    united = uniteBatches(a, b);
    withA.set(b, united);
  }
  return united;
}

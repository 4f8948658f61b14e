/**
 * The bus: one way in, one log, one way out (design law 1).
 *
 * `publish` appends to the log (publish.ts). The log's tail hands back every commit, this node's own included; the bus
 * keeps it in `recent` and fans it out to the subscriptions of its rooms, one batch per subscription and fan-out: one
 * commit, or several that come close together (gather.ts). The handover from replay to live is in subscription.ts. A
 * subscription that fails is cut, the others get the commit, and the head always moves (design law 12).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { CURSOR_RULE, type Cursor, isWellFormedCursor } from '../contract/cursor.ts';
import { BridgeError } from '../contract/errors.ts';
import { charsOf, type LogRecord } from '../contract/frames.ts';
import type { Reset, Start } from '../contract/reset.ts';
import type { Logger } from '../logger.ts';
import type { Log, NodeChannel, ReadQuery } from '../store/store.ts';
import { type Batch, createBatch, uniteBatches } from './batch.ts';
import { createGatherer } from './gather.ts';
import { createPacer } from './pacer.ts';
import { createPublish, type Publish, type PublishDeps } from './publish.ts';
import { createRecent, type LogPage, stepKey } from './recent.ts';
import { createSignalHub, type SignalHub } from './signals.ts';
import { type BusPort, type Sink, type Subscriber, Subscription, stepBytesFor } from './subscription.ts';

export type { LogPage } from './recent.ts';

export interface BusOptions extends PublishDeps {
  readonly store: Log;
  /** For signals between the nodes. */
  readonly nodes: NodeChannel;
  /** The names of SIGNALS. Default: none. */
  readonly signals?: readonly string[];
  readonly maxBufferBytes: number;
  readonly retention: Readonly<Record<'retentionMs' | 'maxRecords' | 'stateMs' | 'dedupeMs' | 'revocationMs', number>>;
  readonly logger: Logger;
}

export interface Bus {
  /** The newest record that was fanned out on this node. */
  readonly head: Cursor;
  readonly publish: Publish;
  readonly signals: SignalHub;
  /**
   * Where a client that has seen `after` continues. `start`: before the oldest record kept; `now`: the head.
   * @throws {BridgeError} `invalid_cursor` when malformed, `unavailable`
   */
  resolve(after: string, caller?: string): Promise<Start>;
  /** Records of the audiences after a resolved cursor, or a reset if they were trimmed meanwhile. */
  read(query: PageQuery, after: Cursor): Promise<LogPage | Reset>;
  /**
   * The newest records of the audiences, oldest first; given `before`, the newest ones before that record. `more` says
   * that size ended the page, and that there may be older records.
   */
  newest(query: PageQuery, before?: Cursor | null): Promise<LogPage>;
  subscribe(subscriber: Subscriber, sink: Sink): Subscription;
  /**
   * For operators: the audiences with listeners on this node or with records since `sinceMs` (milliseconds since 1970).
   * Costs their number. A caller may iterate in slices; then the figures are not of one moment.
   */
  activity(windowMs: number): { readonly sinceMs: number; readonly audiences: Iterable<AudienceActivity> };
  close(): Promise<void>;
}

/** One page of records. With `events`, it may also hold records of other events, and may end early. */
export type PageQuery = Omit<ReadQuery, 'after'>;

export interface AudienceActivity {
  readonly audience: string;
  readonly listeners: number;
  /** Records since `sinceMs`, accepted by any node. */
  readonly records: number;
}

const NOBODY: ReadonlySet<Subscription> = new Set();

/** protocol §8: trimming may lag by 10 s. */
const TRIM_INTERVAL_MS = 4_000;
/** Revocations are removed in this many steps of their time: after a removal, every node reads the others again. */
const REVOCATION_STEPS = 100;
/** The longest that a read waits for this node's tail. The tail of a remote log lags by some milliseconds. */
const TAIL_PATIENCE_MS = 1_000;
/** Catch-up steps of all subscriptions, of up to 256 KB each, in one turn of the event loop. */
const CATCH_UP_STEPS_PER_TURN = 4;
/** Records in memory of which one page with a filter is taken. */
const FILTERED_RECORDS = 1_000;

export function createBus(options: BusOptions): Bus {
  const { store, metrics, logger, signals: signalNames = [] } = options;
  const recent = createRecent(store.opened.head);
  /** The live subscriptions of each audience. */
  const listeners = new Map<string, Set<Subscription>>();
  const subscriptions = new Set<Subscription>();
  /** Reads of the store that are under way. Clients that reconnect together after a restart share them. */
  const reads = new Map<string, Promise<LogPage | Reset>>();
  const tailWaiters: { readonly cursor: Cursor; readonly resolve: () => void }[] = [];
  let head = store.opened.head;
  /** The newest record whose publisher, on this node, knows its cursor. */
  let accepted = head;
  let closed = false;

  const signals = createSignalHub({
    nodes: options.nodes,
    names: new Set(signalNames),
    listenersOf: (audience) => listeners.get(audience) ?? NOBODY,
    metrics,
    logger,
  });

  const port: BusPort = {
    recent,
    pacer: createPacer(CATCH_UP_STEPS_PER_TURN),
    head: () => head,
    read(audiences, after, limit, maxChars, caller) {
      const key = stepKey(audiences, after, limit, maxChars);
      const underWay = reads.get(key);
      if (underWay !== undefined) return underWay;
      const read = readStore({ audiences, after, limit, maxChars, caller }).finally(() => {
        if (reads.get(key) === read) reads.delete(key);
      });
      reads.set(key, read);
      return read;
    },
    reached(cursor) {
      if (head >= cursor || closed) return Promise.resolve();
      return new Promise((resolve) => tailWaiters.push({ cursor, resolve }));
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
    remove: (subscription) => subscriptions.delete(subscription),
    resolve,
    activeSignals: signals.active,
    maxBufferBytes: options.maxBufferBytes,
    stepBytes: stepBytesFor(options.maxBufferBytes),
    logger,
  };

  // What one fan-out brings should fit in one step (subscription.ts).
  const gatherer = createGatherer(fanOut, port.stepBytes / 2);
  store.tail({
    records: gatherer.add,
    gap(kind, bounds) {
      gatherer.flush();
      head = bounds.head;
      accepted = head;
      recent.restart(head);
      reads.clear();
      for (const subscription of subscriptions) subscription.gap(kind, bounds);
      wakeTailWaiters(true);
    },
    forgotten(through) {
      gatherer.flush();
      recent.forget(through);
      reads.clear();
      // The tail never hands over a record that was erased before this node read it.
      if (through > head) {
        head = through;
        wakeTailWaiters();
      }
    },
    erased: (key) => metrics.erased(key),
  });

  const trimTimer = setInterval(trim, TRIM_INTERVAL_MS);
  let trimming = false;

  /** One trim at a time: a large backlog takes longer than the interval, and several trims would hold up appends. */
  async function trim(): Promise<void> {
    if (trimming) return;
    trimming = true;
    const nowMs = Date.now();
    const { retentionMs, maxRecords, stateMs, dedupeMs, revocationMs } = options.retention;
    const revocationStepMs = Math.ceil(revocationMs / REVOCATION_STEPS);
    try {
      await store.trim({
        trimBeforeMs: nowMs - retentionMs,
        maxRecords,
        stateBeforeMs: nowMs - stateMs,
        dedupeBeforeMs: nowMs - dedupeMs,
        revokedBeforeMs: Math.floor((nowMs - revocationMs) / revocationStepMs) * revocationStepMs,
        nowMs,
      });
    } catch (error) {
      if (!closed) logger.warn({ err: error }, 'the log could not be trimmed; the next attempt follows shortly');
    }
    trimming = false;
  }

  /** One fan-out. Each subscription of any of its rooms gets one batch. Costs the listeners of its rooms (design law 8). */
  function fanOut(records: readonly LogRecord[]): void {
    const newest = records[records.length - 1] as LogRecord;
    const lagSeconds = Math.max(0, Date.now() - newest.acceptedAtMs) / 1000;
    try {
      recent.push(records);
      deliver(records);
    } catch (error) {
      // No subscription caught this, so each of them may have missed the commit: all resume from the log.
      logger.error({ err: error }, 'a commit could not be fanned out; all connections are cut and resume by cursor');
      recent.restart(newest.id);
      for (const subscription of subscriptions) subscription.cut();
    }
    head = newest.id;
    wakeTailWaiters();
    try {
      metrics.tailLag(lagSeconds);
    } catch (error) {
      logger.error({ err: error }, 'the lag of the tail could not be counted');
    }
  }

  function deliver(records: readonly LogRecord[]): void {
    const byAudience = new Map<string, LogRecord[]>();
    for (const record of records) {
      for (const audience of record.audiences) {
        if (!listeners.has(audience)) continue;
        const ofAudience = byAudience.get(audience);
        if (ofAudience === undefined) byAudience.set(audience, [record]);
        else ofAudience.push(record);
      }
    }
    if (byAudience.size === 1) {
      for (const [audience, ofAudience] of byAudience) {
        const batch = createBatch(ofAudience);
        // A copy: a delivery may take a subscription out of the set, and put it back in.
        for (const subscription of [...(listeners.get(audience) as Set<Subscription>)]) subscription.deliver(batch);
      }
    } else {
      for (const [subscription, batch] of batchesOf(byAudience)) subscription.deliver(batch);
    }
  }

  function batchesOf(byAudience: ReadonlyMap<string, LogRecord[]>): Map<Subscription, Batch> {
    const batches = new Map<Subscription, Batch>();
    const united = new Map<Batch, Map<Batch, Batch>>();
    for (const [audience, ofAudience] of byAudience) {
      const batch = createBatch(ofAudience);
      for (const subscription of listeners.get(audience) as Set<Subscription>) {
        const other = batches.get(subscription);
        batches.set(subscription, other === undefined ? batch : unite(united, other, batch));
      }
    }
    return batches;
  }

  function wakeTailWaiters(all = closed): void {
    for (let index = tailWaiters.length - 1; index >= 0; index--) {
      const waiter = tailWaiters[index] as (typeof tailWaiters)[number];
      if (all || waiter.cursor <= head) {
        tailWaiters.splice(index, 1);
        waiter.resolve();
      }
    }
  }

  async function readStore(query: ReadQuery): Promise<LogPage | Reset> {
    const page = await store.read(query);
    return page.kind === 'ok'
      ? page
      : { reason: page.kind, after: query.after, oldest: page.oldest, cursor: page.head };
  }

  async function resolve(after: string, caller = ''): Promise<Start> {
    if (!isWellFormedCursor(after)) {
      throw new BridgeError('invalid_cursor', `A cursor is ${CURSOR_RULE}.`);
    }
    if (recent.knows(after)) return { kind: 'ok', cursor: after as Cursor };
    if (after === 'now') return { kind: 'ok', cursor: head };
    if (after === 'start') return { kind: 'ok', cursor: (await store.bounds(caller)).floor };
    const resolution = await store.resolve(after, caller);
    if (resolution.kind === 'ok') return { kind: 'ok', cursor: after as Cursor };
    const { kind: reason, oldest, head: cursor } = resolution;
    return { kind: 'reset', reason, after, oldest, cursor };
  }

  /**
   * Read your writes: a publisher that has the cursor of a record finds the record on this node, unless the tail is far
   * behind or lost its position.
   */
  async function tailReachedAccepted(): Promise<void> {
    if (head >= accepted) return;
    const patience = new AbortController();
    const late = sleep(TAIL_PATIENCE_MS, true, { signal: patience.signal }).catch(() => false);
    if (await Promise.race([port.reached(accepted), late])) accepted = head;
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
    signals,
    resolve,
    async read(query, after) {
      await tailReachedAccepted();
      const limit = (query.events ?? null) === null ? query.limit : FILTERED_RECORDS;
      const inMemory = recent.after(query.audiences, after, limit, query.maxChars);
      return inMemory ?? readStore({ ...query, after });
    },
    async newest(query, before = null) {
      const { records, head: position } = await store.newest({ ...query, before });
      return { records, position, more: records.length < query.limit && charsOf(records) > query.maxChars };
    },
    subscribe(subscriber, sink) {
      const subscription = new Subscription(port, subscriber, sink);
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
      gatherer.flush();
      signals.close();
      for (const subscription of [...subscriptions]) subscription.close();
      wakeTailWaiters();
    },
  };
}

/** Unites each pair of batches once per fan-out, for all subscriptions that receive both. */
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

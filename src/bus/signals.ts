/**
 * Signals on this node (protocol §14, design law 15): who is typing, who has a ticket open.
 *
 * A signal costs the listeners of its room. It touches no disk: active signals are kept in memory, on every node, until
 * their time is up. It gives way to records: signals wait in a queue that is written in short slices, with pauses in
 * which the event loop serves records, and a client with unread bytes gets none.
 */
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { kindOf, type Room } from '../contract/rooms.ts';
import { type ActiveSignal, type Signal, withTimeLeft } from '../contract/signals.ts';
import type { Logger } from '../logger.ts';
import type { Metrics } from '../metrics/metrics.ts';
import type { NodeChannel } from '../store/store.ts';
import type { Subscription } from './subscription.ts';

export interface SignalHub {
  /**
   * To the listeners of its room on every node, but for the sender's own connection.
   * @param isOfConnection the sender is a connection of this node, and `gone` says when it is gone
   */
  send(signal: Signal, isOfConnection: boolean): void;
  /** How many connections of this node hear it. */
  listeners(signal: Signal): number;
  /** The active signals of the audiences, in no particular order. */
  active(audiences: Iterable<string>): ActiveSignal[];
  /** The sender's connection was recovered here: its signals stay. */
  back(sender: string): void;
  /** The sender's connection is gone. Unless it comes back to any node within 5 s, its signals end. */
  gone(sender: string): void;
  close(): void;
}

export interface SignalDeps {
  readonly nodes: NodeChannel;
  /** The names of SIGNALS; without one there is nothing to share. */
  readonly names: ReadonlySet<string>;
  /** The live subscriptions of an audience. */
  readonly listenersOf: (audience: string) => ReadonlySet<Subscription>;
  readonly metrics: Metrics;
  readonly logger: Logger;
}

/** protocol §14: the signals of a connection that is gone for this long end. */
const GONE_MS = 5_000;
/** Active signals that are kept, by weight and of one room. Past a limit, a signal is sent but not kept. */
const MAX_ACTIVE_WEIGHT = 32 * 1024 * 1024;
const MAX_ACTIVE_OF_ROOM = 1_000;
/** Signals that may wait to be written, by weight. Past the limit, the older half is dropped. */
const MAX_QUEUE_WEIGHT = 8 * 1024 * 1024;
/** About what a signal takes in memory. */
const weightOf = ({ payload }: Signal): number => 300 + payload.length;
/** Past so many that wait, only the newest of each sender in a room is written: the one that stands. */
const CROWD = 1_000;
/** How long signals are written in one go: least, and at most after a pause that became longer than asked for. */
const SLICE_MS = 1;
const MAX_SLICE_MS = 1;
/** The share of the event loop that this may take, and how much longer than a slice the pause after it is. */
const SHARE = 1 / 5;
const PAUSE = 1 / SHARE - 1;

/** How long the rest of a room may wait before the times left are worked out again. */
const REFRESH_MS = 250;

interface Waiting {
  readonly signal: Signal;
  /** On the monotonic clock. */
  readonly endsAtMs: number;
}

/**
 * How many signals are accepted in one turn of the event loop, for a pacer: the loop reads every socket that has bytes before
 * it does anything else, and a record that arrives behind a thousand signals would wait for all of them, about 0.1 s.
 * @param signalMs what one costs
 */
export const signalsPerTurn =
  (signalMs: number) =>
  (turnMs: number): number =>
    Math.max(MIN_PER_TURN, Math.floor((turnMs * SHARE) / signalMs));
const MIN_PER_TURN = 4;

/** A text between nodes: a signal, or the sender whose connection was recovered. */
type Message = [...SignalFields] | [sender: string];
type SignalFields = [
  ...[event: string, audience: string, room: Room, from: string | null],
  ...[sender: string, payload: string, ttlSeconds: number],
];

export function createSignalHub({ nodes, names, listenersOf, metrics, logger }: SignalDeps): SignalHub {
  const activeSignals = createActiveSignals();
  /** Senders with a connection on this node. */
  const own = new Set<string>();
  const leaving = new Map<string, NodeJS.Timeout>();
  let queue: Waiting[] = [];
  let queueWeight = 0;
  let isFlushing = false;
  let closed = false;

  if (names.size > 0) {
    nodes.onBroadcast((text, ageMs) => {
      const message = JSON.parse(text) as Message;
      if (message.length === 1) {
        stays(message[0]);
        return;
      }
      const [event, audience, room, from, sender, payload, ttlSeconds] = message;
      if (names.has(event)) receive({ event, audience, room, from, sender, payload, ttlSeconds }, ageMs);
    });
  }

  /** @param ageMs how long ago another node accepted it */
  function receive(signal: Signal, ageMs: number): void {
    const leftMs = signal.ttlSeconds * 1000 - ageMs;
    activeSignals.put(signal, leftMs);
    enqueue({ signal, endsAtMs: performance.now() + leftMs });
  }

  function share(message: Message): void {
    if (!nodes.broadcast(JSON.stringify(message))) metrics.signalsDropped('nodes', 1);
  }

  function send(signal: Signal): void {
    const { event, audience, room, from, sender, payload, ttlSeconds } = signal;
    receive(signal, 0);
    share([event, audience, room, from, sender, payload, ttlSeconds]);
  }

  function enqueue(waiting: Waiting): void {
    if (closed || listenersOf(waiting.signal.audience).size === 0) return;
    queue.push(waiting);
    queueWeight += weightOf(waiting.signal);
    if (queueWeight > MAX_QUEUE_WEIGHT) {
      const dropped = queue.splice(0, Math.ceil(queue.length / 2));
      metrics.signalsDropped('all', dropped.length);
      queueWeight = queue.reduce((sum, { signal }) => sum + weightOf(signal), 0);
    }
    if (isFlushing) return;
    isFlushing = true;
    flush()
      .catch((error: unknown) => logger.error({ err: error }, 'signals that waited could not be sent'))
      .finally(() => {
        isFlushing = false;
      });
  }

  /** Writes what waits, until nothing does. */
  async function flush(): Promise<void> {
    // Records that arrived in this turn go first.
    await nextTurn();
    const slices = createSlices();
    while (queue.length > 0 && !closed) {
      for (const [audience, waiting] of Map.groupBy(take(), ({ signal }) => signal.audience)) {
        let dueAtMs = performance.now();
        let signals = withTimesLeft(waiting, dueAtMs);
        // A copy: listeners come and go between two slices.
        for (const subscription of [...listenersOf(audience)]) {
          subscription.signal(signals);
          if (!slices.isOver()) continue;
          const nowMs = await slices.pause();
          if (nowMs - dueAtMs < REFRESH_MS) continue;
          dueAtMs = nowMs;
          signals = withTimesLeft(waiting, dueAtMs);
        }
      }
      await slices.pause();
    }
  }

  /** All that wait; of a crowd the newest of each event, room and sender. */
  function take(): Iterable<Waiting> {
    const waiting = queue;
    queue = [];
    queueWeight = 0;
    if (waiting.length <= CROWD) return waiting;
    const newest = new Map(waiting.map((one) => [`${one.signal.audience}\n${keyOf(one.signal)}`, one]));
    if (newest.size < waiting.length) metrics.signalsDropped('all', waiting.length - newest.size);
    return newest.values();
  }

  function stays(sender: string): void {
    // If its connection here still seems open, the client has left it.
    own.delete(sender);
    clearTimeout(leaving.get(sender));
    leaving.delete(sender);
  }

  function end(sender: string): void {
    leaving.delete(sender);
    for (const signal of activeSignals.of(sender)) send({ ...signal, ttlSeconds: 0 });
  }

  return {
    send(signal, isOfConnection) {
      if (isOfConnection) own.add(signal.sender);
      metrics.signalled(signal.event, kindOf(signal.room));
      send(signal);
    },
    listeners(signal) {
      let count = 0;
      for (const subscription of listenersOf(signal.audience)) if (subscription.hears(signal)) count++;
      return count;
    },
    active: (audiences) => activeSignals.in(audiences),
    back(sender) {
      if (names.size === 0) return;
      stays(sender);
      own.add(sender);
      share([sender]);
    },
    gone(sender) {
      if (!own.delete(sender) || closed || activeSignals.of(sender).length === 0) return;
      leaving.set(sender, setTimeout(() => end(sender), GONE_MS).unref());
    },
    close() {
      closed = true;
      for (const timer of leaving.values()) clearTimeout(timer);
      activeSignals.close();
    },
  };
}

const withTimesLeft = (waiting: readonly Waiting[], nowMs: number): Signal[] =>
  waiting.flatMap(({ signal, endsAtMs }) => withTimeLeft(signal, endsAtMs - nowMs) ?? []);

/** At most one active signal has a key in its audience. */
const keyOf = ({ event, sender }: Signal): string => `${event}\n${sender}`;

/** Divides the time between writing and all else. */
function createSlices() {
  let startedAtMs = performance.now();
  let lengthMs = SLICE_MS;
  return {
    isOver: (): boolean => performance.now() - startedAtMs >= lengthMs,
    /** Ends the slice. Resolves, to the time, when the next one begins. */
    async pause(): Promise<number> {
      const endedAtMs = performance.now();
      // A slice that took longer was interrupted: other processes had the core.
      await sleep(PAUSE * Math.min(endedAtMs - startedAtMs, MAX_SLICE_MS));
      startedAtMs = performance.now();
      // Where each turn of the event loop is long, the pause is too.
      lengthMs = Math.min(Math.max((startedAtMs - endedAtMs) / PAUSE, SLICE_MS), MAX_SLICE_MS);
      return startedAtMs;
    },
  };
}

/** The active signals: by audience, for who joins, and by sender. */
function createActiveSignals() {
  const byAudience = new Map<string, Map<string, ActiveSignal>>();
  const bySender = new Map<string, Set<ActiveSignal>>();
  /** By the second in which they end. */
  const due = new Map<number, Set<ActiveSignal>>();
  let weight = 0;
  let sweptS = secondOf(performance.now());
  let sweeping: NodeJS.Timeout | undefined;

  function remove(signal: ActiveSignal): void {
    const ofAudience = byAudience.get(signal.audience);
    if (ofAudience?.get(keyOf(signal)) !== signal) return;
    weight -= weightOf(signal);
    ofAudience.delete(keyOf(signal));
    if (ofAudience.size === 0) byAudience.delete(signal.audience);
    removeFrom(bySender, signal.sender, signal);
    removeFrom(due, secondOf(signal.expiresAtMs), signal);
  }

  function sweep(): void {
    const nowS = secondOf(performance.now());
    for (; sweptS < nowS; sweptS++) for (const signal of due.get(sweptS) ?? []) remove(signal);
    if (weight > 0) return;
    clearInterval(sweeping);
    sweeping = undefined;
  }

  function add(signal: ActiveSignal): void {
    const ofAudience = byAudience.get(signal.audience) ?? new Map<string, ActiveSignal>();
    if (weight + weightOf(signal) > MAX_ACTIVE_WEIGHT || ofAudience.size === MAX_ACTIVE_OF_ROOM) return;
    weight += weightOf(signal);
    if (ofAudience.size === 0) byAudience.set(signal.audience, ofAudience);
    ofAudience.set(keyOf(signal), signal);
    addTo(bySender, signal.sender, signal);
    addTo(due, secondOf(signal.expiresAtMs), signal);
    if (sweeping !== undefined) return;
    sweptS = secondOf(performance.now());
    sweeping = setInterval(sweep, 1_000).unref();
  }

  return {
    /** Replaces the one of the same event, room and sender. Without time left, it only ends that one. */
    put(signal: Signal, leftMs: number): void {
      const replaced = byAudience.get(signal.audience)?.get(keyOf(signal));
      if (replaced !== undefined) remove(replaced);
      if (leftMs > 0) add({ ...signal, expiresAtMs: performance.now() + leftMs });
    },
    of: (sender: string): ActiveSignal[] => stillActive(bySender.get(sender) ?? []),
    in: (audiences: Iterable<string>): ActiveSignal[] =>
      [...audiences].flatMap((audience) => stillActive(byAudience.get(audience)?.values() ?? [])),
    close: () => clearInterval(sweeping),
  };
}

/** A second of the monotonic clock. */
const secondOf = (ms: number): number => Math.floor(ms / 1000);

function stillActive(signals: Iterable<ActiveSignal>): ActiveSignal[] {
  const nowMs = performance.now();
  return [...signals].filter(({ expiresAtMs }) => expiresAtMs > nowMs);
}

function addTo<K>(sets: Map<K, Set<ActiveSignal>>, key: K, signal: ActiveSignal): void {
  const set = sets.get(key);
  if (set === undefined) sets.set(key, new Set([signal]));
  else set.add(signal);
}

function removeFrom<K>(sets: Map<K, Set<ActiveSignal>>, key: K, signal: ActiveSignal): void {
  const set = sets.get(key);
  if (set?.delete(signal) && set.size === 0) sets.delete(key);
}

/**
 * Follows `GET /stats/history`: the last minutes of a node, which the server has kept, so that the charts are full at once.
 * After a time without the server it asks for what it missed.
 *
 * Behind a load balancer each answer may come from another node. The points of each are kept apart, and the charts stay
 * with one node for as long as it answers.
 */
import { TRANSPORTS, type TransportName } from '../../contract/names.ts';
import type { HistoryStep, StatsHistory } from '../../contract/stats.ts';
import type { Access } from './access.ts';
import { createChanges, type Model, type Mutable } from './model.ts';

export type PerTransportValues = Readonly<Record<TransportName, number | null>>;

/** One point as the charts need it: counts are per second, and a value is null where nobody measured. */
export interface Sample {
  readonly atMs: number;
  /** 0: a gap before the next sample. */
  readonly seconds: number;
  readonly accepted: number | null;
  readonly delivered: PerTransportValues;
  readonly connections: PerTransportValues;
  readonly p50: PerTransportValues;
  readonly p99: PerTransportValues;
  /** Not per second: how many there were. */
  readonly refused: number | null;
  readonly resets: number | null;
  readonly slowConsumers: number | null;
  readonly loopMaxSeconds: number | null;
  readonly rssBytes: number | null;
  readonly logTookWrites: boolean | null;
}

export interface HistoryFeed extends Model {
  /** Oldest first. */
  readonly samples: readonly Sample[];
  readonly node: StatsHistory['node'] | null;
  /** Begins to ask. @returns a function that ends it */
  follow(): () => void;
}

const SPAN_MS: Readonly<Record<HistoryStep, number>> = { 1: 300_000, 10: 3_600_000 };
/** The newest point of ten seconds is shown soon after it was made. */
const INTERVAL_MS: Readonly<Record<HistoryStep, number>> = { 1: 1_000, 10: 3_000 };
const MAX_INTERVAL_MS = 5_000;
/** A node that gave none of so many answers gives way to another. */
const PATIENCE = 4;
/** The interval of a timer varies a little. */
const TOLERANCE_MS = 750;

interface NodeSamples {
  readonly node: StatsHistory['node'];
  readonly samples: readonly Sample[];
  /** Answers since its last one. */
  missed: number;
}

export function createHistoryFeed(access: Access, step: HistoryStep): HistoryFeed {
  const feed: Mutable<HistoryFeed> = { changes: createChanges(), samples: [], node: null, follow };
  const nodes = new Map<string, NodeSamples>();
  let generation = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;

  function follow(): () => void {
    const restart = (): void => {
      clearTimeout(timer);
      void poll(++generation, 0);
    };
    const unsubscribe = access.changes.subscribe(restart);
    restart();
    return () => {
      unsubscribe();
      clearTimeout(timer);
      generation++;
    };
  }

  async function poll(startedIn: number, failures: number): Promise<void> {
    let nextFailures = 0;
    try {
      let answer = await ask(sinceMs());
      // Of a node that is new here, everything is missing.
      if (startedIn === generation && nodes.size > 0 && !nodes.has(answer.node.id)) answer = await ask(null);
      if (startedIn !== generation) return;
      take(answer);
    } catch {
      if (startedIn !== generation) return;
      nextFailures = failures + 1;
    }
    feed.changes.notify();
    const waitMs = Math.min(Math.max(MAX_INTERVAL_MS, INTERVAL_MS[step]), INTERVAL_MS[step] * (1 + nextFailures));
    timer = setTimeout(() => void poll(startedIn, nextFailures), waitMs);
  }

  /** Any of the nodes may answer, so that the one with the oldest points decides. */
  function sinceMs(): number | null {
    const ends = [...nodes.values()].map(({ samples }) => samples.at(-1)?.atMs ?? 0);
    return ends.length === 0 ? null : Math.min(...ends);
  }

  function ask(since: number | null): Promise<StatsHistory> {
    const query = since === null ? { step } : { step, since: new Date(since).toISOString() };
    return access.request<StatsHistory>('stats/history', { query });
  }

  function take(answer: StatsHistory): void {
    const { node } = answer;
    const added = samplesOf(answer);
    const known = nodes.get(node.id)?.samples ?? [];
    // If its clock stepped back, the newest points have the right time.
    const firstMs = added[0]?.atMs ?? Number.POSITIVE_INFINITY;
    const end = Date.parse(answer.at);
    const samples = withGaps([...known.filter(({ atMs }) => atMs < firstMs && atMs <= end), ...added], step).filter(
      ({ atMs }) => atMs > end - SPAN_MS[step],
    );
    for (const [id, of] of nodes) if (++of.missed > PATIENCE) nodes.delete(id);
    nodes.set(node.id, { node, samples, missed: 0 });
    const before = nodes.get(feed.node?.id ?? '');
    const lastMs = before?.samples.at(-1)?.atMs ?? 0;
    // A node that has started since then is most likely the same server again.
    const isRestarted = Date.parse(node.startedAt) > lastMs;
    const shown = before === undefined || isRestarted ? nodes.get(node.id) : before;
    feed.node = shown?.node ?? null;
    feed.samples = shown?.samples ?? [];
  }

  return feed;
}

function samplesOf({ points }: StatsHistory): Sample[] {
  return points.atMs.map((atMs, index) => {
    const at = <T>(values: readonly T[]): T => values[index] as T;
    const per = <T>(columns: Readonly<Record<TransportName, readonly T[]>>): Record<TransportName, T> =>
      Object.fromEntries(TRANSPORTS.map((name) => [name, at(columns[name])])) as Record<TransportName, T>;
    const seconds = at(points.seconds);
    const delivered = per(points.deliveries);
    return {
      atMs,
      seconds,
      accepted: at(points.accepted) / seconds,
      delivered: Object.fromEntries(TRANSPORTS.map((name) => [name, delivered[name] / seconds])) as PerTransportValues,
      connections: per(points.connections),
      p50: per(points.deliveryLag.p50Seconds),
      p99: per(points.deliveryLag.p99Seconds),
      refused: at(points.refused),
      resets: at(points.resets),
      slowConsumers: at(points.slowConsumers),
      loopMaxSeconds: at(points.eventLoopLag.maxSeconds),
      rssBytes: at(points.memory.rssBytes),
      logTookWrites: at(points.logTookWrites),
    };
  });
}

const NOBODY: PerTransportValues = { websocket: null, polling: null, sse: null, longpoll: null };

/** Where a time was not measured, an empty sample keeps the charts from drawing a line across it. */
function withGaps(samples: readonly Sample[], step: HistoryStep): Sample[] {
  return samples.flatMap((sample, index) => {
    const last = samples[index - 1];
    const beginMs = sample.atMs - sample.seconds * 1_000;
    const isGap = last !== undefined && last.seconds > 0 && beginMs - last.atMs > step * 500 + TOLERANCE_MS;
    if (!isGap) return [sample];
    const gap: Sample = {
      atMs: Math.floor(beginMs),
      seconds: 0,
      accepted: null,
      delivered: NOBODY,
      connections: NOBODY,
      p50: NOBODY,
      p99: NOBODY,
      refused: null,
      resets: null,
      slowConsumers: null,
      loopMaxSeconds: null,
      rssBytes: null,
      logTookWrites: null,
    };
    return [gap, sample];
  });
}

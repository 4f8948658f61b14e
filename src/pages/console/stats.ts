/**
 * Asks `GET /stats` every second and keeps five minutes of samples for the charts. Counts become rates from two answers
 * of the same node, because behind a load balancer the next answer may come from another one.
 */
import type { RoomcastError } from '../../client/http.ts';
import { TRANSPORTS } from '../../contract/names.ts';
import type { PerTransport, Stats } from '../../contract/stats.ts';
import { quantile, since } from '../../metrics/quantile.ts';
import type { Access } from './access.ts';
import { createChanges, type Model, type Mutable } from './model.ts';

/** One instant of the charts. A value is null while it is unknown. */
export interface Sample {
  readonly atMs: number;
  readonly published: number | null;
  readonly delivered: number | null;
  readonly p50: number | null;
  readonly p99: number | null;
}

/** `refused`: the bridge answers, but this operator may not read statistics. */
export type StatsState = 'loading' | 'live' | 'refused' | 'unreachable';

export interface StatsFeed extends Model {
  readonly state: StatsState;
  readonly error: RoomcastError | null;
  /** The newest answer, however old. */
  readonly stats: Stats | null;
  /** Oldest first. */
  readonly history: readonly Sample[];
}

const INTERVAL_MS = 1_000;
/** Each failure waits a second longer, up to this. */
const MAX_INTERVAL_MS = 5_000;
/** Permissions seldom change, and a new token asks at once. */
const REFUSED_INTERVAL_MS = 30_000;
export const HISTORY_MS = 300_000;
/** Lag is measured over this long, because a single second may hold only one event. */
const LAG_MS = 10_000;
const MAX_ROOMS = 50;
/** Nodes whose readings are kept; past it the longest unseen is dropped. */
const MAX_NODES = 16;

interface Reading {
  readonly atMs: number;
  readonly published: number;
  readonly delivered: number;
  readonly lag: readonly number[];
}

export function createStatsFeed(access: Access): StatsFeed {
  const feed: Mutable<StatsFeed> = {
    changes: createChanges(),
    state: 'loading',
    error: null,
    stats: null,
    history: [],
  };
  const readings = new Map<string, Reading[]>();
  /** Counts restarts, so that an answer to an earlier token is ignored. */
  let generation = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;

  async function poll(startedIn: number, failures: number): Promise<void> {
    let waitMs = INTERVAL_MS;
    let nextFailures = 0;
    try {
      const next = await access.request<Stats>('stats', { query: { limit: MAX_ROOMS } });
      if (startedIn !== generation) return;
      if (next.at !== feed.stats?.at) addReading(next);
      feed.stats = next;
      feed.state = 'live';
      feed.error = null;
    } catch (problem) {
      if (startedIn !== generation) return;
      const error = problem as RoomcastError;
      const isRefused = error.status === 401 || error.status === 403;
      feed.error = error;
      feed.state = isRefused ? 'refused' : 'unreachable';
      nextFailures = failures + 1;
      waitMs = isRefused ? REFUSED_INTERVAL_MS : Math.min(MAX_INTERVAL_MS, INTERVAL_MS * nextFailures);
      if (isRefused) feed.stats = null;
      addSample({ atMs: Date.now(), published: null, delivered: null, p50: null, p99: null });
    }
    feed.changes.notify();
    timer = setTimeout(() => void poll(startedIn, nextFailures), waitMs);
  }

  function addReading(next: Stats): void {
    const sum = (counts: PerTransport<number>): number => TRANSPORTS.reduce((total, name) => total + counts[name], 0);
    const { boundsSeconds, counts } = next.deliveryLag;
    const reading: Reading = {
      atMs: Date.parse(next.at),
      published: next.publishes.accepted,
      delivered: sum(next.deliveries),
      lag: counts.websocket.map((_, bucket) => TRANSPORTS.reduce((n, name) => n + (counts[name][bucket] ?? 0), 0)),
    };
    const earlier = readings.get(next.node.id) ?? [];
    const last = earlier.at(-1);
    const seconds = last === undefined ? 0 : (reading.atMs - last.atMs) / 1000;
    const perSecond = (count: 'published' | 'delivered'): number | null =>
      last === undefined || seconds <= 0 ? null : Math.max(0, (reading[count] - last[count]) / seconds);
    const recent = since(earlier[0]?.lag, reading.lag);
    addSample({
      atMs: Date.now(),
      published: perSecond('published'),
      delivered: perSecond('delivered'),
      p50: last === undefined ? null : quantile(boundsSeconds, recent, 0.5),
      p99: last === undefined ? null : quantile(boundsSeconds, recent, 0.99),
    });
    // Set anew, so that the map's order is that of the last answers.
    readings.delete(next.node.id);
    readings.set(
      next.node.id,
      [...earlier, reading].filter(({ atMs }) => reading.atMs - atMs <= LAG_MS),
    );
    for (const id of readings.keys()) {
      if (readings.size <= MAX_NODES) break;
      readings.delete(id);
    }
  }

  function addSample(sample: Sample): void {
    feed.history = [...feed.history.filter(({ atMs }) => atMs >= sample.atMs - HISTORY_MS), sample];
  }

  function restart(): void {
    clearTimeout(timer);
    void poll(++generation, 0);
  }

  access.changes.subscribe(restart);
  restart();

  return feed;
}

/**
 * What `GET /stats` says, asked every second, and the last five minutes of it. Counts become rates by the difference of
 * two answers of the same node: behind a load balancer the next answer may be of another.
 */
import type { RoomcastError } from '../../client/http.ts';
import { TRANSPORTS } from '../../contract/names.ts';
import type { PerTransport, Stats } from '../../contract/stats.ts';
import { quantile, since } from '../../metrics/quantile.ts';
import { type Access, PATIENCE_MS } from './access.ts';
import { type Changes, createChanges } from './model.ts';

/** One moment of the charts; null where nothing is known. */
export interface Point {
  readonly atMs: number;
  readonly published: number | null;
  readonly delivered: number | null;
  readonly p50: number | null;
  readonly p99: number | null;
}

/** `refused`: the bridge answers, but not to this operator. `away`: it does not answer. */
export type FiguresState = 'asking' | 'live' | 'refused' | 'away';

export interface Figures {
  readonly changes: Changes;
  readonly state: FiguresState;
  readonly error: RoomcastError | null;
  /** The last answer, of however long ago. */
  readonly stats: Stats | null;
  /** Oldest first. */
  readonly history: readonly Point[];
}

const EVERY_MS = 1_000;
const SLOWEST_MS = 5_000;
/** A refusal may be over when somebody has changed something; a change of the token asks at once. */
const REFUSED_MS = 30_000;
export const HISTORY_MS = 300_000;
/** Lag is taken over so long, since one second may hold a single event. */
const LAG_MS = 10_000;
const MOST_ROOMS = 50;
/** Nodes whose last answers are remembered. */
const MOST_NODES = 16;

interface Reading {
  readonly atMs: number;
  readonly published: number;
  readonly delivered: number;
  readonly lag: readonly number[];
}

export function createFigures(access: Access): Figures {
  const changes = createChanges();
  const readings = new Map<string, Reading[]>();
  let state: FiguresState = 'asking';
  let error: RoomcastError | null = null;
  let stats: Stats | null = null;
  let history: Point[] = [];
  let round = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;

  async function ask(mine: number, failures: number): Promise<void> {
    let waitMs = EVERY_MS;
    let failed = 0;
    try {
      const query = { limit: MOST_ROOMS };
      const answer = access.http.json('stats', { query, signal: new AbortController().signal, timeoutMs: PATIENCE_MS });
      const next = (await answer) as Stats;
      if (mine !== round) return;
      if (next.at !== stats?.at) note(next);
      stats = next;
      state = 'live';
      error = null;
    } catch (problem) {
      if (mine !== round) return;
      error = problem as RoomcastError;
      const isRefused = error.status === 401 || error.status === 403;
      state = isRefused ? 'refused' : 'away';
      failed = failures + 1;
      waitMs = isRefused ? REFUSED_MS : Math.min(SLOWEST_MS, EVERY_MS * failed);
      if (isRefused) stats = null;
      push({ atMs: Date.now(), published: null, delivered: null, p50: null, p99: null });
    }
    changes.tell();
    timer = setTimeout(() => void ask(mine, failed), waitMs);
  }

  function note(next: Stats): void {
    const sum = (of: PerTransport<number>): number => TRANSPORTS.reduce((all, name) => all + of[name], 0);
    const { boundsSeconds, counts } = next.deliveryLag;
    const reading: Reading = {
      atMs: Date.parse(next.at),
      published: next.publishes.accepted,
      delivered: sum(next.deliveries),
      lag: counts.websocket.map((_, index) => TRANSPORTS.reduce((all, name) => all + (counts[name][index] ?? 0), 0)),
    };
    const earlier = readings.get(next.node.id) ?? [];
    const last = earlier.at(-1);
    const seconds = last === undefined ? 0 : (reading.atMs - last.atMs) / 1000;
    const perSecond = (figure: 'published' | 'delivered'): number | null =>
      last === undefined || seconds <= 0 ? null : Math.max(0, (reading[figure] - last[figure]) / seconds);
    const recent = since(earlier[0]?.lag, reading.lag);
    push({
      atMs: Date.now(),
      published: perSecond('published'),
      delivered: perSecond('delivered'),
      p50: last === undefined ? null : quantile(boundsSeconds, recent, 0.5),
      p99: last === undefined ? null : quantile(boundsSeconds, recent, 0.99),
    });
    const kept = [...earlier, reading].filter(({ atMs }) => reading.atMs - atMs <= LAG_MS);
    readings.delete(next.node.id);
    readings.set(next.node.id, kept);
    for (const id of readings.keys()) {
      if (readings.size <= MOST_NODES) break;
      readings.delete(id);
    }
  }

  function push(point: Point): void {
    const since = point.atMs - HISTORY_MS;
    history = [...history.filter(({ atMs }) => atMs >= since), point];
  }

  function restart(): void {
    clearTimeout(timer);
    void ask(++round, 0);
  }

  access.changes.on(restart);
  restart();

  return {
    changes,
    get state() {
      return state;
    },
    get error() {
      return error;
    },
    get stats() {
      return stats;
    },
    get history() {
      return history;
    },
  };
}

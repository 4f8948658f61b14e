/**
 * The last 60 minutes of this node, for people who arrive after the fact (`GET /stats/history`): a point a second for five
 * minutes, and one per ten seconds for the hour.
 *
 * Memory is fixed, about 150 KB, and a second costs about 0.1 ms, whatever the traffic: it takes the difference of two
 * readings of the metrics. A point says only what was measured. Where the clock was set or the process did not run, there
 * is none; and a clock that steps back takes the points away that would lie in the future.
 */
import { TRANSPORTS } from '../contract/names.ts';
import type { HistoryStep, PerTransport, StatsHistory } from '../contract/stats.ts';
import { type Prometheus, SECONDS_BUCKETS, type Totals } from '../metrics/prometheus.ts';
import { quantile, since } from '../metrics/quantile.ts';
import { createLoopLagMeter } from './loop-lag.ts';

const TICK_MS = 1_000;
const MINUTE_MS = 60_000;
const SPANS_MS: Readonly<Record<HistoryStep, number>> = { 1: 5 * MINUTE_MS, 10: 60 * MINUTE_MS };
/** After this long without a tick, the process was stopped or the machine slept: no point covers that time. */
const MAX_TICK_MS = 10_000;
/** If the wall clock and the monotonic clock differ by more between two ticks, the clock was set or the machine slept. */
const MAX_SKEW_MS = 500;

export interface HistoryDeps {
  readonly prometheus: Pick<Prometheus, 'totals'>;
  /** Whether the log accepts events. */
  readonly isLogHealthy: () => boolean;
}

export interface History {
  /** The points that ended after `afterMs`; all of them if it is null, or lies in the future. */
  points(step: HistoryStep, afterMs: number | null): StatsHistory['points'];
  close(): void;
}

/** The metrics at one instant, on both clocks. */
interface Reading {
  readonly wallMs: number;
  readonly runMs: number;
  readonly totals: Totals;
}

/** What has no total: it is collected tick by tick until a point is complete. */
interface Gathered {
  ticks: number;
  loopMeanSeconds: number;
  loopMaxSeconds: number;
  isLogHealthy: boolean;
}

export function createHistory({ prometheus, isLogHealthy }: HistoryDeps): History {
  const meter = createLoopLagMeter();
  const series = { 1: createSeries(1), 10: createSeries(10) } satisfies Record<HistoryStep, Series>;
  let last: Reading | null = null;
  void tick();
  const timer = setInterval(() => void tick(), TICK_MS);

  async function tick(): Promise<void> {
    const reading = { wallMs: Date.now(), runMs: performance.now(), totals: await prometheus.totals() };
    const lag = meter.take();
    const isLogWell = isLogHealthy();
    for (const of of Object.values(series)) {
      if (last === null || !isContinuous(last, reading)) of.restart(reading);
      else of.add(reading, lag?.meanSeconds ?? 0, lag?.maxSeconds ?? 0, isLogWell);
    }
    last = reading;
  }

  return {
    points: (step, afterMs) => series[step].points(afterMs !== null && afterMs > Date.now() ? null : afterMs),
    close() {
      clearInterval(timer);
      meter.close();
    },
  };
}

function isContinuous(earlier: Reading, later: Reading): boolean {
  const ranMs = later.runMs - earlier.runMs;
  return ranMs < MAX_TICK_MS && Math.abs(later.wallMs - earlier.wallMs - ranMs) < MAX_SKEW_MS;
}

interface Series {
  /** Begins a new interval here, without a point for what came before. */
  restart(reading: Reading): void;
  /** One tick; makes a point once the interval is complete. */
  add(reading: Reading, loopMeanSeconds: number, loopMaxSeconds: number, isLogHealthy: boolean): void;
  points(afterMs: number | null): StatsHistory['points'];
}

function createSeries(step: HistoryStep): Series {
  const stepMs = step * 1_000;
  const capacity = SPANS_MS[step] / stepMs;
  /** A ring of rows: the point with the number `n` is in row `n % capacity`. */
  const rows = new Float64Array(capacity * ROW);
  /** The numbers of the oldest point, and of the next one. */
  let first = 0;
  let next = 0;
  let begin: Reading | null = null;
  let gathered = nothing();

  const rowOf = (point: number): number => (point % capacity) * ROW;
  const endOf = (point: number): number => rows[rowOf(point)] as number;

  function restart(reading: Reading): void {
    while (next > first && endOf(next - 1) >= reading.wallMs) next--;
    begin = reading;
    gathered = nothing();
  }

  return {
    restart,
    add(reading, loopMeanSeconds, loopMaxSeconds, isLogHealthy) {
      gathered.ticks++;
      gathered.loopMeanSeconds += loopMeanSeconds;
      gathered.loopMaxSeconds = Math.max(gathered.loopMaxSeconds, loopMaxSeconds);
      gathered.isLogHealthy &&= isLogHealthy;
      // Timers run a little early or late.
      if (begin === null || reading.runMs - begin.runMs < stepMs - TICK_MS / 2) return;
      rows.set(rowBetween(begin, reading, gathered), rowOf(next));
      next++;
      first = Math.max(first, next - capacity);
      begin = reading;
      gathered = nothing();
    },
    points(afterMs) {
      const oldestMs = Math.max(afterMs ?? 0, Date.now() - SPANS_MS[step]);
      let from = next;
      while (from > first && endOf(from - 1) > oldestMs) from--;
      return columnsOf((column) => {
        const values: number[] = [];
        for (let point = from; point < next; point++) values.push(rows[rowOf(point) + column] as number);
        return values;
      });
    },
  };
}

const nothing = (): Gathered => ({ ticks: 0, loopMeanSeconds: 0, loopMaxSeconds: 0, isLogHealthy: true });

/** One point as a row of numbers, in the order in which `columnsOf` reads them. */
function rowBetween(from: Reading, to: Reading, gathered: Gathered): number[] {
  const a = from.totals;
  const b = to.totals;
  const { rss, heapUsed } = process.memoryUsage();
  const lags = TRANSPORTS.map((transport) => since(a.deliveryLag[transport], b.deliveryLag[transport]));
  const lagAt = (q: number) => lags.map((counts) => rounded(quantile(SECONDS_BUCKETS, counts, q) ?? Number.NaN));
  return [
    to.wallMs,
    rounded((to.runMs - from.runMs) / 1000),
    ...TRANSPORTS.map((transport) => b.connections[transport]),
    b.publishes.accepted - a.publishes.accepted,
    ...TRANSPORTS.map((transport) => b.deliveries[transport] - a.deliveries[transport]),
    b.refused - a.refused,
    b.resets - a.resets,
    b.slowConsumers - a.slowConsumers,
    ...lagAt(0.5),
    ...lagAt(0.99),
    rounded(gathered.loopMeanSeconds / gathered.ticks),
    rounded(gathered.loopMaxSeconds),
    rss,
    heapUsed,
    gathered.isLogHealthy && b.publishes.failed === a.publishes.failed ? 1 : 0,
  ];
}

/** Numbers in a row: eleven for the node, and four for each transport. */
const ROW = 11 + 4 * TRANSPORTS.length;

/** @param valuesOf the values of a column, by its place in the row */
function columnsOf(valuesOf: (column: number) => number[]): StatsHistory['points'] {
  let column = 0;
  const values = (): number[] => valuesOf(column++);
  const perTransport = <T>(read: () => T): PerTransport<T> =>
    Object.fromEntries(TRANSPORTS.map((transport) => [transport, read()])) as PerTransport<T>;
  const known = (): (number | null)[] => values().map((value) => (Number.isNaN(value) ? null : value));
  // The properties are evaluated from top to bottom.
  return {
    atMs: values(),
    seconds: values(),
    connections: perTransport(values),
    accepted: values(),
    deliveries: perTransport(values),
    refused: values(),
    resets: values(),
    slowConsumers: values(),
    deliveryLag: { p50Seconds: perTransport(known), p99Seconds: perTransport(known) },
    eventLoopLag: { meanSeconds: values(), maxSeconds: values() },
    memory: { rssBytes: values(), heapUsedBytes: values() },
    logTookWrites: values().map((value) => value === 1),
  };
}

/** To a microsecond. */
const rounded = (seconds: number): number => Math.round(seconds * 1e6) / 1e6;

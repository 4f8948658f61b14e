/**
 * The metrics of one bridge, in a Prometheus registry per bridge (protocol §12).
 *
 * Counters per publish or delivery are plain maps, without prom-client's hashing of labels, until a scrape copies them
 * to prom-client. `ws_emit_total` may have tens of thousands of series, so its lines are written here, a slice at a
 * time, and a scrape never holds up the event loop.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { TRANSPORTS, type TransportName } from '../contract/names.ts';
import { idOf, kindOf, type Room, type RoomKind } from '../contract/rooms.ts';
import { erasureKey, type StoreStats } from '../store/store.ts';
import type { Metrics, PublishResult } from './metrics.ts';

export interface PrometheusOptions {
  readonly roomLabel: 'room' | 'kind';
  /** Rooms per kind with their own series; further ones count under `{kind}:*`. */
  readonly maxRooms: number;
  readonly sampleStore: () => Promise<Pick<StoreStats, 'records' | 'oldestAcceptedAtMs'>>;
}

/** Observations at or below each of `SECONDS_BUCKETS`, and in total. */
export type BucketCounts = readonly number[];

/** Totals since the start, for `GET /stats`. */
export interface Totals {
  readonly connections: Readonly<Record<TransportName, number>>;
  readonly publishes: Readonly<Record<PublishResult, number>>;
  readonly deliveries: Readonly<Record<TransportName, number>>;
  readonly replayed: number;
  readonly resets: number;
  readonly slowConsumers: number;
  readonly refused: number;
  readonly deliveryLag: Readonly<Record<TransportName, BucketCounts>>;
  readonly tailLag: BucketCounts;
}

export interface Prometheus {
  readonly metrics: Metrics;
  totals(): Promise<Totals>;
  /**
   * The page of all metrics. Scrapes while a page is made share it, and so do scrapes of the next second while somebody
   * still reads it: bytes that wait for a client are the same for all of them.
   */
  scrape(format: MetricsFormat): Promise<MetricsPage>;
}

export type MetricsFormat = 'text' | 'openmetrics';

export interface MetricsPage {
  readonly contentType: string;
  readonly body: Buffer;
  /** Call it once the page was sent, or its reader has gone. */
  readonly release: () => void;
}

const RESULTS: readonly PublishResult[] = ['accepted', 'duplicate', 'rejected', 'failed'];
/** From a cached commit to the 5 s after which the store gives up (protocol §10). */
export const SECONDS_BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];
const EMIT_FAMILY = 'ws_emit';
const EMIT_NAME = `${EMIT_FAMILY}_total`;
const EMIT_HELP = 'Events emitted at the bus, by event name and room, on the node that accepted the publish.';
/** Lines per turn of the event loop: well under a millisecond. */
const SLICE_LINES = 2_000;
/** A page that is still being read is shared for this long. */
const SHARED_MS = 1_000;
const OPENMETRICS_TYPE = 'application/openmetrics-text; version=1.0.0; charset=utf-8';
/** Gauges whose name ends in `_total`, which `promtool check metrics` refuses. */
const MISNAMED = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total'];

/** One series of `ws_emit_total`; `line` is its text before the value. */
interface Series {
  readonly line: string;
  value: number;
}

/** The series of a room, or of all other rooms of its kind. */
interface RoomSeries {
  readonly label: string;
  readonly kind: RoomKind;
  readonly byEvent: Map<string, Series>;
  /** Whose erasure takes the room's name away. */
  readonly tenants: Set<string>;
  readonly erasureKeys: string[];
}

/** A room of more tenants is not the name of anything that one of them can erase. */
const MAX_TENANTS = 16;

interface Tally {
  add(a: string, b: string, by: number): void;
  sum(matches: (a: string, b: string) => boolean): number;
}

export function createPrometheus({ roomLabel, maxRooms, sampleStore }: PrometheusOptions): Prometheus {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  for (const name of MISNAMED) registry.removeSingleMetric(name);

  const emits = new Map<string, RoomSeries>();
  const byErasureKey = new Map<string, Set<RoomSeries>>();
  const roomsOfKind = new Map<RoomKind, number>();
  const countOf = (kind: RoomKind): number => roomsOfKind.get(kind) ?? 0;

  function emitted(names: readonly string[], rooms: readonly Room[], tenantId: string): void {
    for (const room of rooms) {
      const series = seriesOf(room);
      if (series.label === room) noteTenant(series, room, tenantId);
      for (const name of names) count(series, name, 1);
    }
  }

  const signalled = (event: string, kind: RoomKind): void => count(othersOf(kind), event, 1);

  function seriesOf(room: Room): RoomSeries {
    const known = emits.get(room);
    if (known !== undefined) return known;
    const kind = kindOf(room);
    if (roomLabel !== 'room' || countOf(kind) >= maxRooms) return othersOf(kind);
    roomsOfKind.set(kind, countOf(kind) + 1);
    return addSeries(room, kind);
  }

  function othersOf(kind: RoomKind): RoomSeries {
    const label = `${kind}:*`;
    return emits.get(label) ?? addSeries(label, kind);
  }

  function addSeries(label: string, kind: RoomKind): RoomSeries {
    const series = { label, kind, byEvent: new Map(), tenants: new Set<string>(), erasureKeys: [] };
    emits.set(label, series);
    return series;
  }

  function noteTenant(series: RoomSeries, room: Room, tenantId: string): void {
    const { tenants, kind, erasureKeys } = series;
    if (tenants.has(tenantId) || tenants.size === MAX_TENANTS) return;
    tenants.add(tenantId);
    const ticketIds = kind === 'ticket' ? [null, idOf(room)] : [null];
    for (const ticketId of ticketIds) {
      const key = erasureKey({ tenantId, ticketId });
      erasureKeys.push(key);
      byErasureKey.set(key, (byErasureKey.get(key) ?? new Set()).add(series));
    }
  }

  /** The sum stays exact: what the rooms have counted moves to the others of their kind. */
  function erased(key: string | null): void {
    const named = key === null ? emits.values() : (byErasureKey.get(key) ?? []);
    for (const series of [...named].filter(({ label, kind }) => label !== `${kind}:*`)) {
      emits.delete(series.label);
      roomsOfKind.set(series.kind, countOf(series.kind) - 1);
      for (const [event, { value }] of series.byEvent) count(othersOf(series.kind), event, value);
      for (const of of series.erasureKeys) {
        const set = byErasureKey.get(of);
        if (set?.delete(series) && set.size === 0) byErasureKey.delete(of);
      }
    }
  }

  function count({ byEvent, label }: RoomSeries, event: string, by: number): void {
    const series = byEvent.get(event);
    if (series !== undefined) series.value += by;
    else byEvent.set(event, { line: `${EMIT_NAME}{event="${escaped(event)}",room="${escaped(label)}"} `, value: by });
  }

  async function emitLines(family: string): Promise<Buffer[]> {
    const slices = [Buffer.from(`# HELP ${family} ${EMIT_HELP}\n# TYPE ${family} counter\n`)];
    let slice = '';
    let lines = 0;
    for (const { byEvent } of emits.values()) {
      for (const { line, value } of byEvent.values()) {
        slice += `${line}${value}\n`;
        if (++lines % SLICE_LINES !== 0) continue;
        slices.push(Buffer.from(slice));
        slice = '';
        await nextTurn();
      }
    }
    slices.push(Buffer.from(slice));
    return slices;
  }

  async function makePage(format: MetricsFormat): Promise<Pick<MetricsPage, 'contentType' | 'body'>> {
    const isOpenMetrics = format === 'openmetrics';
    await sample();
    const lines = await emitLines(isOpenMetrics ? EMIT_FAMILY : EMIT_NAME);
    const others = await registry.metrics();
    const rest = Buffer.from(isOpenMetrics ? toOpenMetrics(others) : others);
    return {
      contentType: isOpenMetrics ? OPENMETRICS_TYPE : registry.contentType,
      body: Buffer.concat([...lines, rest]),
    };
  }

  /** By format: the newest page, and how many scrapes wait for it or read it. */
  const pages = new Map<
    MetricsFormat,
    { readonly madeAtMs: number; readonly page: ReturnType<typeof makePage>; readers: number }
  >();

  const connections = new Map<string, number>(TRANSPORTS.map((transport) => [transport, 0]));
  new Gauge({
    name: 'roomcast_connections',
    help: 'Open connections: Socket.IO over websocket and over polling, SSE streams, waiting long polls.',
    labelNames: ['transport'],
    registers,
    collect() {
      for (const [transport, value] of connections) this.set({ transport }, value);
    },
  });

  const deliveries = tally('roomcast_deliveries_total', 'Events written to connections.', ['transport', 'event']);
  const publishes = tally('roomcast_publishes_total', 'Events published, by result.', ['event', 'result']);
  const replayed = tally('roomcast_replayed_total', 'Records replayed to connections that resumed.', ['transport']);
  const resets = tally('roomcast_resets_total', 'Resets sent to clients.', ['transport', 'reason']);
  const slow = tally('roomcast_slow_consumers_total', 'Slow consumers whose connections were cut.', ['transport']);
  const signalsDropped = tally(
    'roomcast_signals_dropped_total',
    'Signals that were not sent: to slow clients of a transport, to other nodes, or, with too many waiting, to anybody.',
    ['transport'],
  );
  const refused = tally('roomcast_refused_total', 'Requests, joins and connections refused, by error code.', ['code']);

  async function totals(): Promise<Totals> {
    const all = (): boolean => true;
    return {
      connections: Object.fromEntries(connections) as Totals['connections'],
      publishes: Object.fromEntries(
        RESULTS.map((result) => [result, publishes.sum((_, label) => label === result)]),
      ) as Totals['publishes'],
      deliveries: byTransport((transport) => deliveries.sum((name) => name === transport)),
      replayed: replayed.sum(all),
      resets: resets.sum(all),
      slowConsumers: slow.sum(all),
      refused: refused.sum(all),
      ...(await lags()),
    };
  }

  async function lags(): Promise<Pick<Totals, 'deliveryLag' | 'tailLag'>> {
    const [delivery, tail] = await Promise.all([deliveryLag.get(), tailLag.get()]);
    const counts = ({ values }: typeof delivery | typeof tail, transport?: TransportName): BucketCounts => {
      const found = values.filter(
        ({ labels }) => 'le' in labels && (labels as { transport?: string }).transport === transport,
      );
      return [...SECONDS_BUCKETS, Infinity].map((_, index) => found[index]?.value ?? 0);
    };
    return { deliveryLag: byTransport((transport) => counts(delivery, transport)), tailLag: counts(tail) };
  }

  // Series exist from the start, so that an alert sees the first increment.
  for (const transport of TRANSPORTS) {
    for (const reason of ['expired', 'unknown']) resets.add(transport, reason, 0);
    slow.add(transport, '', 0);
    replayed.add(transport, '', 0);
    signalsDropped.add(transport, '', 0);
  }
  slow.add('http', '', 0);
  for (const to of ['nodes', 'all']) signalsDropped.add(to, '', 0);

  /** A counter with one or two labels, in maps until a scrape. */
  function tally(name: string, help: string, labelNames: readonly [string, string?]): Tally {
    const [first, second] = labelNames;
    const counts = new Map<string, Map<string, number>>();
    new Counter({
      name,
      help,
      labelNames: second === undefined ? [first] : [first, second],
      registers,
      collect() {
        this.reset();
        for (const [a, inner] of counts) {
          for (const [b, value] of inner)
            this.inc(second === undefined ? { [first]: a } : { [first]: a, [second]: b }, value);
        }
      },
    });
    return {
      add(a, b, by) {
        const inner = counts.get(a) ?? new Map<string, number>();
        if (inner.size === 0) counts.set(a, inner);
        inner.set(b, (inner.get(b) ?? 0) + by);
      },
      sum(matches) {
        let sum = 0;
        for (const [a, inner] of counts) for (const [b, value] of inner) if (matches(a, b)) sum += value;
        return sum;
      },
    };
  }

  const publishDuration = new Histogram({
    name: 'roomcast_publish_duration_seconds',
    help: 'Seconds from a checked publish to its durable record, or to the refusal of the log.',
    buckets: SECONDS_BUCKETS,
    registers,
  });
  const deliveryLag = new Histogram({
    name: 'roomcast_delivery_lag_seconds',
    help: 'Seconds from the acceptance of a record to its write to the first connection of a transport.',
    labelNames: ['transport'],
    buckets: SECONDS_BUCKETS,
    registers,
  });
  const lagOf = byTransport((transport) => deliveryLag.labels(transport));
  const tailLag = new Histogram({
    name: 'roomcast_tail_lag_seconds',
    help: 'Seconds from the acceptance of a record, on any node, to the tail of the log on this node.',
    buckets: SECONDS_BUCKETS,
    registers,
  });

  const logRecords = new Gauge({ name: 'roomcast_log_records', help: 'Records in the log.', registers });
  const logOldest = new Gauge({
    name: 'roomcast_log_oldest_timestamp_seconds',
    help: 'When the oldest record in the log was accepted; absent while the log is empty.',
    registers,
  });

  /** A store that does not answer has no series, rather than old values. */
  async function sample(): Promise<void> {
    logRecords.remove();
    logOldest.remove();
    const stats = await sampleStore().catch(() => null);
    if (stats === null) return;
    logRecords.set(stats.records);
    if (stats.oldestAcceptedAtMs !== null) logOldest.set(stats.oldestAcceptedAtMs / 1000);
  }

  return {
    metrics: {
      emitted,
      signalled,
      signalsDropped: (to, count) => signalsDropped.add(to, '', count),
      erased,
      published: (event, result, by) => publishes.add(event ?? 'unknown', result, by),
      publishDuration: (seconds) => publishDuration.observe(seconds),
      connected: (transport, change) => connections.set(transport, (connections.get(transport) ?? 0) + change),
      delivered: deliveries.add,
      deliveryLag: (transport, seconds) => lagOf[transport].observe(seconds),
      tailLag: (seconds) => tailLag.observe(seconds),
      replayed: (transport, records) => replayed.add(transport, '', records),
      reset: (transport, reason) => resets.add(transport, reason, 1),
      slowConsumer: (transport) => slow.add(transport, '', 1),
      refused: (code) => refused.add(code, '', 1),
    },
    totals,
    async scrape(format) {
      const nowMs = performance.now();
      let shared = pages.get(format);
      if (shared === undefined || shared.readers === 0 || nowMs - shared.madeAtMs > SHARED_MS) {
        shared = { madeAtMs: nowMs, page: makePage(format), readers: 0 };
        pages.set(format, shared);
      }
      const own = shared;
      own.readers++;
      const release = (): void => {
        own.readers--;
        if (own.readers === 0 && pages.get(format) === own) pages.delete(format);
      };
      try {
        return { ...(await own.page), release };
      } catch (error) {
        release();
        throw error;
      }
    },
  };
}

function byTransport<T>(figure: (transport: TransportName) => T): Readonly<Record<TransportName, T>> {
  return Object.fromEntries(TRANSPORTS.map((transport) => [transport, figure(transport)])) as Record<TransportName, T>;
}

/** The exposition formats escape backslash, quote and line feed in a label value. */
function escaped(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

/**
 * OpenMetrics 1.0 names a counter's family without `_total`, has no empty lines and ends with a mark. prom-client's own
 * OpenMetrics output renames the metrics for good, which would break the other format.
 */
function toOpenMetrics(text: string): string {
  const families = text.replaceAll(/^# TYPE (\S+)_total counter$/gm, '# TYPE $1 counter');
  const counters = new Set([...families.matchAll(/^# TYPE (\S+) counter$/gm)].map(([, name]) => `${name}_total`));
  const lines = families.split('\n').filter((line) => line !== '');
  return `${lines.map((line) => renameHelp(line, counters)).join('\n')}\n# EOF\n`;
}

function renameHelp(line: string, counters: ReadonlySet<string>): string {
  const match = /^# HELP (\S+)_total /.exec(line);
  return match !== null && counters.has(`${match[1]}_total`) ? line.replace('_total ', ' ') : line;
}

/**
 * `GET /stats`: what the bridge does now, for people and for `/console`: figures and the names of rooms, but no payload, no
 * secret and no client address. `GET /stats/history`: what this node did in the last 60 minutes (history.ts).
 *
 * The figures come from what is counted anyway (metrics, the bus's audiences, records in memory), so events cost nothing
 * more. Rooms are read in slices, one reader at a time, and all requests within half a second share one answer, however
 * many consoles are open.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type Authenticate, answerJson, type BridgeContext, type Handler, queryOf } from '../../answers/answer.ts';
import { choice, instant, integer, parseQuery, text } from '../../answers/query.ts';
import { tenantsAdministered } from '../../auth/operators.ts';
import type { Principal } from '../../auth/principal.ts';
import type { Bus } from '../../bus/bus.ts';
import type { Config } from '../../config.ts';
import { parseAudience } from '../../contract/audiences.ts';
import { BridgeError } from '../../contract/errors.ts';
import { TRANSPORTS } from '../../contract/names.ts';
import {
  HISTORY_STEPS,
  type HistoryStep,
  type LagFigures,
  type LogEdge,
  type RoomFigures,
  type Stats,
  type StatsHistory,
} from '../../contract/stats.ts';
import { type Prometheus, SECONDS_BUCKETS, type Totals } from '../../metrics/prometheus.ts';
import { quantile, since } from '../../metrics/quantile.ts';
import type { Log, LogBounds, StoreStats } from '../../store/store.ts';
import { createHistory } from '../history.ts';
import type { NodeMonitor } from '../node-monitor.ts';

const MAX_LIMIT = 200;
const DEFAULT_LIMIT = 20;
/** Characters of the longest room name, of a kind and an id (protocol §2). */
const MAX_SEARCH = 161;

export const STATS_QUERY = {
  limit: integer(1, MAX_LIMIT, DEFAULT_LIMIT, 'Maximum number of rooms in each list. `others` sums up the rest.'),
  rooms: text(
    'Only rooms whose name contains this text, in any case. All rooms are searched, and `others` counts those beyond ' +
      '`limit` that match.',
    MAX_SEARCH,
  ),
} as const;

export const HISTORY_QUERY = {
  step: choice(['1', '10'], '10', 'Seconds of each point: 1 for the last 5 minutes, 10 for the last 60.'),
  since: instant(
    'Only points that ended after this instant, the last `atMs` that you have. All points if it lies in the future.',
    Date.parse,
  ),
} as const;

/** An answer is at most this old. */
const ANSWER_MS = 500;
/** Room traffic covers the records of the last minute, or as much of it as is in memory. */
const TRAFFIC_MS = 60_000;
/** Longest wait for the log. After that, the log's figures are null. */
const LOG_MS = 1_000;
/** Audiences per turn of the event loop: two or three milliseconds. */
const SLICE = 2_000;

export interface StatsDeps {
  readonly config: Config;
  readonly bus: Bus;
  readonly store: Log;
  readonly prometheus: Prometheus;
  readonly monitor: NodeMonitor;
  readonly draining: () => boolean;
  readonly authenticate: Authenticate;
}

export interface StatsRoutes {
  readonly stats: Handler;
  readonly statsHistory: Handler;
  close(): void;
}

/** The whole bridge, or the tenants whose rooms the caller may see. */
type Scope = '*' | ReadonlySet<string>;

/** Lists of rooms that are not cut to a `limit` yet. */
type Rooms = (limit: number) => Stats['rooms'];

export function createStats(deps: StatsDeps): StatsRoutes {
  const { config, bus, store, prometheus, monitor, draining, authenticate } = deps;
  const engine = config.storeUrl.startsWith('redis') ? 'redis' : 'sqlite';
  const history = createHistory({ prometheus, isLogHealthy: () => store.healthy() });
  const figures = createShared((scope: Scope) => readFigures(scope));
  let readingRooms: Promise<unknown> = Promise.resolve();
  const rooms = createShared((scope: Scope, search: string | null) => {
    const read = readingRooms.then(() => readRooms(scope, search));
    readingRooms = read.catch(() => {});
    return read;
  });

  async function stats(context: BridgeContext): Promise<Response> {
    const scope = scopeOf(await authenticate(context));
    const { limit, rooms: search } = parseQuery(queryOf(context), STATS_QUERY);
    const [found, lists] = await Promise.all([
      figures(keyOf(scope), scope),
      rooms(JSON.stringify([keyOf(scope), search]), scope, search),
    ]);
    return answerJson(context, 200, JSON.stringify({ ...found, rooms: lists(limit) } satisfies Stats));
  }

  /** Of the node as a whole, like the counts of `GET /stats`, whatever tenants the caller may see. */
  async function statsHistory(context: BridgeContext): Promise<Response> {
    scopeOf(await authenticate(context));
    const { step, since } = parseQuery(queryOf(context), HISTORY_QUERY);
    const stepSeconds = HISTORY_STEPS.find((known) => String(known) === step) as HistoryStep;
    const { id, startedAt } = monitor.self;
    const answer: StatsHistory = {
      at: new Date().toISOString(),
      node: { id, startedAt },
      stepSeconds,
      points: history.points(stepSeconds, since),
    };
    return answerJson(context, 200, JSON.stringify(answer));
  }

  async function readFigures(scope: Scope): Promise<Omit<Stats, 'rooms'>> {
    const [totals, { reached, bounds, stats }] = await Promise.all([prometheus.totals(), readLog()]);
    const { rss, heapUsed } = process.memoryUsage();
    const { connections, publishes, deliveries, replayed, resets, slowConsumers, refused, deliveryLag, tailLag } =
      totals;
    const { self, nodes, silentNodes, announcedAt, eventLoopLag, oldest } = monitor;
    const isWhole = scope === '*';
    return {
      at: new Date().toISOString(),
      node: {
        ...self,
        host: isWhole ? self.host : null,
        pid: isWhole ? self.pid : null,
        uptimeSeconds: process.uptime(),
        draining: draining(),
        announcedAt,
        eventLoopLag,
        memory: { rssBytes: rss, heapUsedBytes: heapUsed },
      },
      connections,
      publishes,
      deliveries,
      replayed,
      resets,
      slowConsumers,
      refused,
      deliveryLag: {
        boundsSeconds: SECONDS_BUCKETS,
        counts: deliveryLag,
        recent: {
          seconds: oldest === undefined ? 0 : (Date.now() - oldest.atMs) / 1000,
          ...percentiles(sumOf(deliveryLag), oldest && sumOf(oldest.totals.deliveryLag)),
        },
      },
      log: {
        engine,
        healthy: store.healthy(),
        reached,
        fault: isWhole ? store.fault() : null,
        records: stats?.records ?? null,
        bytes: stats?.bytes ?? null,
        oldest: edge(bounds?.oldest, stats?.oldestAcceptedAtMs),
        newest: edge(bounds?.head, stats?.newestAcceptedAtMs),
      },
      redis:
        engine === 'redis'
          ? { reached, takesWrites: store.healthy(), tailLag: percentiles(tailLag, oldest?.totals.tailLag) }
          : null,
      nodes: isWhole ? nodes : null,
      silentNodes: isWhole ? silentNodes : null,
    };
  }

  /** If the log hangs or is unreachable, it has no figures, rather than old ones. */
  async function readLog(): Promise<{ reached: boolean; bounds?: LogBounds; stats?: StoreStats }> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<null>((resolve) => {
      timer = setTimeout(() => resolve(null), LOG_MS);
    });
    try {
      const read = await Promise.race([Promise.all([store.bounds(), store.stats()]), late]);
      return read === null ? { reached: false } : { reached: true, bounds: read[0], stats: read[1] };
    } catch (error) {
      if (error instanceof BridgeError) return { reached: false };
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  async function readRooms(scope: Scope, search: string | null): Promise<Rooms> {
    const wanted = search?.toLowerCase() ?? '';
    const { sinceMs, audiences } = bus.activity(TRAFFIC_MS);
    const byListeners = createTop((room) => room.listeners);
    const byEvents = createTop((room) => room.events);
    let count = 0;
    for (const { audience, listeners, records } of audiences) {
      if (++count % SLICE === 0) await nextTurn();
      const { tenantId, room } = parseAudience(audience);
      if (scope !== '*' && (tenantId === null || !scope.has(tenantId))) continue;
      if (wanted !== '' && !room.toLowerCase().includes(wanted)) continue;
      const figures: RoomFigures = { room, tenantId, listeners, events: records };
      byListeners.add(figures);
      byEvents.add(figures);
    }
    const seconds = (Date.now() - sinceMs) / 1000;
    return (limit) => {
      const audible = byListeners.first(limit);
      const busy = byEvents.first(limit);
      return {
        byListeners: { top: audible.top, others: { rooms: audible.rooms, listeners: audible.rest } },
        byEvents: { seconds, top: busy.top, others: { rooms: busy.rooms, events: busy.rest } },
      };
    };
  }

  return { stats, statsHistory, close: history.close };
}

/** One answer for all requests with the same key at about the same time. */
function createShared<Of extends readonly unknown[], Answer>(read: (...of: Of) => Promise<Answer>) {
  const answers = new Map<string, { readonly madeAtMs: number; readonly answer: Promise<Answer> }>();
  return (key: string, ...of: Of): Promise<Answer> => {
    const nowMs = Date.now();
    for (const [old, { madeAtMs }] of answers) if (Math.abs(nowMs - madeAtMs) > ANSWER_MS) answers.delete(old);
    const shared = answers.get(key);
    if (shared !== undefined) return shared.answer;
    const answer = read(...of);
    answers.set(key, { madeAtMs: nowMs, answer });
    return answer;
  };
}

const keyOf = (scope: Scope): string => (scope === '*' ? scope : JSON.stringify([...scope].sort()));

function scopeOf(principal: Principal): Scope {
  const tenants = tenantsAdministered(principal);
  if (tenants === null) return '*';
  if (tenants.length > 0) return new Set(tenants);
  throw new BridgeError(
    'forbidden',
    'The token may not read the figures. Use one with the scope admin and no ticketIds or agreementIds.',
  );
}

const sumOf = (counts: Totals['deliveryLag']): number[] =>
  TRANSPORTS.map((transport) => counts[transport]).reduce<number[]>(
    (sum, of) => sum.map((value, index) => value + (of[index] ?? 0)),
    new Array<number>(SECONDS_BUCKETS.length + 1).fill(0),
  );

function percentiles(counts: readonly number[], earlier: readonly number[] | undefined): LagFigures {
  const recent = since(earlier, counts);
  return {
    count: recent.at(-1) ?? 0,
    p50Seconds: quantile(SECONDS_BUCKETS, recent, 0.5),
    p99Seconds: quantile(SECONDS_BUCKETS, recent, 0.99),
  };
}

const edge = (cursor: string | undefined, acceptedAtMs: number | null | undefined): LogEdge | null =>
  cursor === undefined || acceptedAtMs === null || acceptedAtMs === undefined
    ? null
    : { cursor, at: new Date(acceptedAtMs).toISOString() };

/** Keeps the `MAX_LIMIT` rooms with the highest figure, sorted by figure and then by name; drops rooms without any. */
function createTop(figureOf: (room: RoomFigures) => number) {
  const top: RoomFigures[] = [];
  let rooms = 0;
  let sum = 0;
  const isBefore = (a: RoomFigures, b: RoomFigures): boolean =>
    figureOf(a) === figureOf(b) ? a.room < b.room : figureOf(a) > figureOf(b);
  return {
    add(room: RoomFigures): void {
      if (figureOf(room) === 0) return;
      rooms++;
      sum += figureOf(room);
      const last = top.at(-1);
      if (top.length === MAX_LIMIT && last !== undefined && !isBefore(room, last)) return;
      let at = top.length;
      while (at > 0 && isBefore(room, top[at - 1] as RoomFigures)) at--;
      top.splice(at, 0, room);
      if (top.length > MAX_LIMIT) top.pop();
    },
    /** The first `limit` rooms; how many there are beyond them, and the sum of the figures of those. */
    first(limit: number) {
      const first = top.slice(0, limit);
      const rest = first.reduce((left, room) => left - figureOf(room), sum);
      return { top: first, rooms: rooms - first.length, rest };
    },
  };
}

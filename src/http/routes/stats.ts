/**
 * `GET /stats`: what the bridge does now, for people and for `/console`. Figures, and the names of rooms; no payload, no
 * secret, no address of a client.
 *
 * It answers from what is counted anyway, so that the way of an event costs nothing more: the metrics' totals, the
 * sizes of the bus's audiences, the records in its memory. Rooms are gone through in slices, and an answer serves all
 * who ask within half a second, however many consoles are open.
 */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { answer, type BridgeContext, type Handler, JSON_TYPE } from '../../answers/answer.ts';
import { integer, parseQuery } from '../../answers/query.ts';
import { mayAdminister, type Principal } from '../../auth/principal.ts';
import type { Bus } from '../../bus/bus.ts';
import type { Config } from '../../config.ts';
import { BridgeError } from '../../contract/errors.ts';
import { TRANSPORTS } from '../../contract/names.ts';
import type { LagFigures, LogEdge, NodeFacts, PerTransport, RoomFigures, Stats } from '../../contract/stats.ts';
import type { Logger } from '../../logger.ts';
import { type Prometheus, SECONDS_BUCKETS, type Totals } from '../../metrics/prometheus.ts';
import { quantile, since } from '../../metrics/quantile.ts';
import type { Log, LogBounds, Nodes, StoreStats } from '../../store/store.ts';

const MAX_LIMIT = 200;
const DEFAULT_LIMIT = 20;

export const STATS_QUERY = {
  limit: integer(1, MAX_LIMIT, DEFAULT_LIMIT, 'Most rooms of each list to name; the rest is told as totals.'),
} as const;

/** What `node` and `nodes` tell of each node; instants are ISO 8601. */
const nodeFacts = z.object({
  id: z.string(),
  host: z.string(),
  pid: z.number(),
  version: z.string(),
  startedAt: z.string(),
  connections: z.record(z.enum(TRANSPORTS), z.number()),
}) satisfies z.ZodType<NodeFacts>;

/** An answer is as old as this at most. */
const ANSWER_MS = 500;
/** Room traffic: records of the last minute, or of as much of it as is in memory. */
const TRAFFIC_MS = 60_000;
/** How often a node tells the others of itself, and the lags of the last minute are noted. */
const BEAT_MS = 5_000;
const BEATS_A_MINUTE = 12;
/** Two beats may be missed. */
const NODE_TTL_MS = 3 * BEAT_MS + 1_000;
/** Longest that a node which ends waits for the others to be told. They find out by themselves. */
const LEAVE_MS = 500;
/** Longest that an answer waits for the log; past it the log's figures are null. */
const LOG_MS = 1_000;
/** Interval of the timer by which the event loop's lag is known. */
const LOOP_MS = 20;
/** Audiences looked at between two turns of the event loop: two or three milliseconds. */
const SLICE = 2_000;

export interface StatsDeps {
  readonly config: Config;
  readonly bus: Bus;
  readonly store: Log & Nodes;
  readonly prometheus: Prometheus;
  readonly logger: Logger;
  readonly draining: () => boolean;
  readonly authenticate: (context: BridgeContext) => Promise<Principal>;
}

export interface StatsRoute {
  readonly handle: Handler;
  close(): Promise<void>;
}

/** The whole bridge, or the tenants whose rooms may be named. */
type Scope = '*' | ReadonlySet<string>;

/** An answer but for how many rooms it names. */
interface FiguresOf extends Omit<Stats, 'rooms'> {
  readonly rooms: (limit: number) => Stats['rooms'];
}

const VERSION = (
  JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as { readonly version: string }
).version;

export function createStats(deps: StatsDeps): StatsRoute {
  const { config, bus, store, prometheus, logger, draining, authenticate } = deps;
  const engine = config.storeUrl.startsWith('redis') ? 'redis' : 'sqlite';
  const self = { id: randomUUID(), host: hostname(), pid: process.pid, version: VERSION };
  const startedAt = new Date(Date.now() - process.uptime() * 1000).toISOString();
  const delay = monitorEventLoopDelay({ resolution: LOOP_MS });
  delay.enable();
  let eventLoopLag = { meanSeconds: 0, p99Seconds: 0 };
  /** The lags' counts at each beat of the last minute, oldest first. */
  const readings: { readonly atMs: number; readonly totals: Totals }[] = [];
  let nodes: readonly NodeFacts[] = [];
  let beating: Promise<void> = Promise.resolve();
  const answers = new Map<string, { readonly madeAtMs: number; readonly figures: Promise<FiguresOf> }>();

  const beats = setInterval(() => {
    beating = beat();
  }, BEAT_MS);
  beating = beat();

  async function beat(): Promise<void> {
    const totals = await prometheus.totals();
    readings.push({ atMs: Date.now(), totals });
    if (readings.length > BEATS_A_MINUTE) readings.shift();
    if (delay.count > 0) eventLoopLag = { meanSeconds: lagOf(delay.mean), p99Seconds: lagOf(delay.percentile(99)) };
    delay.reset();
    await announce({ ...self, startedAt, connections: totals.connections }, NODE_TTL_MS);
  }

  async function announce(facts: NodeFacts, ttlMs: number): Promise<void> {
    try {
      const told = await store.announce({ id: self.id, facts: JSON.stringify(facts), ttlMs });
      nodes = told.flatMap((text) => parseNode(text) ?? []);
    } catch (error) {
      logger.debug({ err: error }, 'the other nodes could not be told of this one');
    }
  }

  async function handle(context: BridgeContext): Promise<Response> {
    const scope = scopeOf(await authenticate(context));
    const { limit } = parseQuery(new URL(context.req.url).searchParams, STATS_QUERY);
    const { rooms, ...figures } = await recent(scope);
    const body = JSON.stringify({ ...figures, rooms: rooms(limit) } satisfies Stats);
    return answer(context, 200, { 'Content-Type': JSON_TYPE, 'Cache-Control': 'no-store' }, body);
  }

  /** One answer for all who ask at about the same time. */
  function recent(scope: Scope): Promise<FiguresOf> {
    const nowMs = Date.now();
    for (const [key, { madeAtMs }] of answers) if (Math.abs(nowMs - madeAtMs) > ANSWER_MS) answers.delete(key);
    const key = scope === '*' ? scope : JSON.stringify([...scope].sort());
    const known = answers.get(key);
    if (known !== undefined) return known.figures;
    const figures = make(scope);
    answers.set(key, { madeAtMs: nowMs, figures });
    return figures;
  }

  async function make(scope: Scope): Promise<FiguresOf> {
    const [totals, { reached, bounds, stats }, rooms] = await Promise.all([
      prometheus.totals(),
      lookAtLog(),
      lookAtRooms(scope),
    ]);
    const { rss, heapUsed } = process.memoryUsage();
    const { connections, publishes, deliveries, replayed, resets, slowConsumers } = totals;
    const isWhole = scope === '*';
    const [earliest] = readings;
    const { deliveryLag, tailLag } = totals;
    return {
      at: new Date().toISOString(),
      node: {
        id: self.id,
        host: isWhole ? self.host : null,
        pid: isWhole ? self.pid : null,
        version: VERSION,
        startedAt,
        uptimeSeconds: process.uptime(),
        draining: draining(),
        eventLoopLag,
        memory: { rssBytes: rss, heapUsedBytes: heapUsed },
      },
      connections,
      publishes,
      deliveries,
      replayed,
      resets,
      slowConsumers,
      deliveryLag: {
        boundsSeconds: SECONDS_BUCKETS,
        counts: deliveryLag,
        recent: {
          seconds: earliest === undefined ? 0 : (Date.now() - earliest.atMs) / 1000,
          ...percentiles(sumOf(deliveryLag), earliest && sumOf(earliest.totals.deliveryLag)),
        },
      },
      rooms,
      log: {
        engine,
        healthy: store.healthy(),
        reached,
        records: stats?.records ?? null,
        bytes: stats?.bytes ?? null,
        oldest: edge(bounds?.oldest, stats?.oldestAcceptedAtMs),
        newest: edge(bounds?.head, stats?.newestAcceptedAtMs),
      },
      redis:
        engine === 'redis'
          ? { reached, takesWrites: store.healthy(), tailLag: percentiles(tailLag, earliest?.totals.tailLag) }
          : null,
      nodes: isWhole ? nodes : null,
    };
  }

  /** A log that hangs or is away has no figures, rather than the ones of an hour ago. */
  async function lookAtLog(): Promise<{ reached: boolean; bounds?: LogBounds; stats?: StoreStats }> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<null>((resolve) => {
      timer = setTimeout(() => resolve(null), LOG_MS);
    });
    try {
      const looked = await Promise.race([Promise.all([store.bounds(), store.stats()]), late]);
      return looked === null ? { reached: false } : { reached: true, bounds: looked[0], stats: looked[1] };
    } catch (error) {
      if (error instanceof BridgeError) return { reached: false };
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  async function lookAtRooms(scope: Scope): Promise<FiguresOf['rooms']> {
    const { sinceMs, audiences } = bus.activity(TRAFFIC_MS);
    const byListeners = createTop((room) => room.listeners);
    const byEvents = createTop((room) => room.events);
    let looked = 0;
    for (const { audience, listeners, records } of audiences) {
      if (++looked % SLICE === 0) await nextTurn();
      const line = audience.indexOf('\n');
      const tenantId = line === -1 ? null : audience.slice(0, line);
      if (scope !== '*' && (tenantId === null || !scope.has(tenantId))) continue;
      const room: RoomFigures = { room: audience.slice(line + 1), tenantId, listeners, events: records };
      byListeners.add(room);
      byEvents.add(room);
    }
    const seconds = (Date.now() - sinceMs) / 1000;
    return (limit) => {
      const heard = byListeners.first(limit);
      const busy = byEvents.first(limit);
      return {
        byListeners: { top: heard.top, others: { rooms: heard.others, listeners: heard.left } },
        byEvents: { seconds, top: busy.top, others: { rooms: busy.others, events: busy.left } },
      };
    };
  }

  return {
    handle,
    async close() {
      clearInterval(beats);
      delay.disable();
      const leaving = beating.then(() => announce({ ...self, startedAt, connections: NO_CONNECTIONS }, 0));
      const patience = new AbortController();
      await Promise.race([leaving, sleep(LEAVE_MS, undefined, { signal: patience.signal }).catch(() => {})]);
      patience.abort();
    },
  };
}

const NO_CONNECTIONS: PerTransport<number> = { websocket: 0, polling: 0, sse: 0, longpoll: 0 };

/** Node tells, in nanoseconds, how long after the last time its timer came: the lag is what goes beyond its interval. */
const lagOf = (nanoseconds: number): number => Math.max(0, nanoseconds / 1e6 - LOOP_MS) / 1000;

function scopeOf(principal: Principal): Scope {
  if (mayAdminister(principal, null)) return '*';
  const named = principal.kind === 'token' && principal.tenants !== '*' ? principal.tenants : [];
  const tenants = named.filter((tenantId) => mayAdminister(principal, tenantId));
  if (tenants.length === 0) throw new BridgeError('forbidden', 'The token needs the scope admin to see this.');
  return new Set(tenants);
}

function parseNode(text: string): NodeFacts | null {
  try {
    return nodeFacts.parse(JSON.parse(text));
  } catch {
    return null; // of another version of the bridge
  }
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

/** The rooms of the highest figure, in memory for no more than `MAX_LIMIT`; equal ones by name. */
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
    first(limit: number) {
      const first = top.slice(0, limit);
      const left = first.reduce((rest, room) => rest - figureOf(room), sum);
      return { top: first, others: rooms - first.length, left };
    },
  };
}

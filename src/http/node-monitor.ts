/**
 * Watches this node for `GET /stats`. Every five seconds it measures the event loop's lag, keeps a reading of the metrics
 * (so that `/stats` can show the last minute), and announces the node to the other nodes of its log.
 */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { TRANSPORTS } from '../contract/names.ts';
import type { NodeFacts, SilentNode, Stats } from '../contract/stats.ts';
import type { Logger } from '../logger.ts';
import type { Prometheus, Totals } from '../metrics/prometheus.ts';
import type { Nodes } from '../store/store.ts';
import { createLoopLagMeter } from './loop-lag.ts';

const BEAT_MS = 5_000;
/** A node may miss two beats before the others drop it. */
const NODE_TTL_MS = 3 * BEAT_MS + 1_000;
const BEATS_A_MINUTE = 12;
/** Longest that a shutdown waits to announce it. Without the announcement, the node counts as silent. */
const LEAVE_MS = 500;
/** A node that leaves says so for this long, so that each other node reads it with its own next beat. */
const LEAVING_TTL_MS = BEAT_MS + 1_000;
/** Silent nodes are remembered as long as the history. The newest are kept. */
const SILENT_MS = 60 * 60_000;
const MAX_SILENT = 16;
/** The longest wait for the nodes as of now. */
const CURRENT_MS = 500;

const nodeFacts = z.object({
  id: z.string(),
  host: z.string(),
  pid: z.number(),
  version: z.string(),
  startedAt: z.string(),
  connections: z.record(z.enum(TRANSPORTS), z.number()),
  leaving: z.boolean().default(false),
});
type Announced = z.output<typeof nodeFacts>;

export const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  readonly version: string;
};

const NONE: NodeFacts['connections'] = { websocket: 0, polling: 0, sse: 0, longpoll: 0 };

export interface Reading {
  readonly atMs: number;
  readonly totals: Totals;
}

export interface NodeMonitor {
  readonly self: Omit<NodeFacts, 'connections'>;
  /** The live nodes of the log, this one included, as of a few seconds ago. */
  readonly nodes: readonly NodeFacts[];
  /** The same as of now, unless the log does not answer. */
  current(): Promise<readonly NodeFacts[]>;
  /** Nodes that this node saw, and that stopped to announce themselves without a shutdown. */
  readonly silentNodes: readonly SilentNode[];
  /** When this node last announced itself; null if it never could. ISO 8601. */
  readonly announcedAt: string | null;
  readonly eventLoopLag: Stats['node']['eventLoopLag'];
  /** The oldest reading of the last minute; undefined right after the start. */
  readonly oldest: Reading | undefined;
  close(): Promise<void>;
}

export interface NodeMonitorDeps {
  readonly store: Nodes;
  readonly prometheus: Prometheus;
  readonly logger: Logger;
}

export function createNodeMonitor({ store, prometheus, logger }: NodeMonitorDeps): NodeMonitor {
  const startedAt = new Date(Date.now() - process.uptime() * 1000).toISOString();
  const self = { id: randomUUID(), host: hostname(), pid: process.pid, version, startedAt };
  const meter = createLoopLagMeter();
  let eventLoopLag = { meanSeconds: 0, p99Seconds: 0 };
  const readings: Reading[] = [];
  let nodes: readonly NodeFacts[] = [];
  let silentNodes: readonly SilentNode[] = [];
  let announcedAtMs = Number.NEGATIVE_INFINITY;
  let connections: NodeFacts['connections'] = NONE;
  let closed = false;
  let beating = beat();
  const timer = setInterval(() => {
    beating = beat();
  }, BEAT_MS);

  async function beat(): Promise<void> {
    const totals = await prometheus.totals();
    readings.push({ atMs: Date.now(), totals });
    if (readings.length > BEATS_A_MINUTE) readings.shift();
    const lag = meter.take();
    if (lag !== null) eventLoopLag = { meanSeconds: lag.meanSeconds, p99Seconds: lag.p99Seconds };
    connections = totals.connections;
    await announce(false);
  }

  async function announce(leaving: boolean): Promise<void> {
    const facts: Announced = { ...self, connections, leaving };
    const ttlMs = leaving ? LEAVING_TTL_MS : NODE_TTL_MS;
    try {
      const announced = await store.announce({ id: self.id, facts: JSON.stringify(facts), ttlMs });
      note(announced.flatMap((text) => parseNode(text) ?? []));
    } catch (error) {
      logger.debug({ err: error }, 'could not announce this node to the others; the next attempt is in 5 s');
    }
  }

  function note(announced: readonly Announced[]): void {
    const nowMs = Date.now();
    const ids = new Set(announced.map(({ id }) => id));
    const isGone = ({ id }: NodeFacts): boolean => !ids.has(id);
    const isDue = ({ silentSince }: SilentNode): boolean => nowMs - Date.parse(silentSince) < SILENT_MS;
    // After a time without Redis, every node is missing until its next beat.
    const wasHere = nowMs - announcedAtMs < 2 * BEAT_MS;
    const fallen = wasHere ? nodes.filter(isGone) : [];
    const silentSince = new Date(nowMs).toISOString();
    silentNodes = [...fallen.map((node) => ({ ...node, silentSince })), ...silentNodes.filter(isGone).filter(isDue)];
    silentNodes = silentNodes.slice(0, MAX_SILENT);
    nodes = announced.filter(({ leaving }) => !leaving).map(({ leaving, ...facts }) => facts);
    announcedAtMs = nowMs;
  }

  return {
    self,
    get nodes() {
      return nodes;
    },
    get silentNodes() {
      return silentNodes;
    },
    get announcedAt() {
      return Number.isFinite(announcedAtMs) ? new Date(announcedAtMs).toISOString() : null;
    },
    get eventLoopLag() {
      return eventLoopLag;
    },
    get oldest() {
      return readings[0];
    },
    async current() {
      if (!closed) await within(CURRENT_MS, announce(false));
      return nodes;
    },
    async close() {
      closed = true;
      clearInterval(timer);
      meter.close();
      const leaving = beating.then(() => {
        connections = NONE;
        return announce(true);
      });
      await within(LEAVE_MS, leaving);
    },
  };
}

async function within(ms: number, task: Promise<void>): Promise<void> {
  const patience = new AbortController();
  await Promise.race([task, sleep(ms, undefined, { signal: patience.signal }).catch(() => {})]);
  patience.abort();
}

function parseNode(text: string): Announced | null {
  try {
    return nodeFacts.parse(JSON.parse(text));
  } catch {
    return null; // from another version of the bridge
  }
}

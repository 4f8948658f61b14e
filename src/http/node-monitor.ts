/**
 * Watches this node for `GET /stats`. Every five seconds it measures the event loop's lag, keeps a reading of the metrics
 * (so that `/stats` can show the last minute), and announces the node to the other nodes of its log.
 */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { TRANSPORTS } from '../contract/names.ts';
import type { NodeFacts, Stats } from '../contract/stats.ts';
import type { Logger } from '../logger.ts';
import type { Prometheus, Totals } from '../metrics/prometheus.ts';
import type { Nodes } from '../store/store.ts';

const BEAT_MS = 5_000;
/** A node may miss two beats before the others drop it. */
const NODE_TTL_MS = 3 * BEAT_MS + 1_000;
const BEATS_A_MINUTE = 12;
/** Longest that a shutdown waits to announce it. Without the announcement, the others notice after `NODE_TTL_MS`. */
const LEAVE_MS = 500;
/** The longest wait for the nodes as of now. */
const CURRENT_MS = 500;
/** Interval of the timer that measures the event loop's lag. */
const LOOP_MS = 20;

const nodeFacts = z.object({
  id: z.string(),
  host: z.string(),
  pid: z.number(),
  version: z.string(),
  startedAt: z.string(),
  connections: z.record(z.enum(TRANSPORTS), z.number()),
}) satisfies z.ZodType<NodeFacts>;

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
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
  const delay = monitorEventLoopDelay({ resolution: LOOP_MS });
  delay.enable();
  let eventLoopLag = { meanSeconds: 0, p99Seconds: 0 };
  const readings: Reading[] = [];
  let nodes: readonly NodeFacts[] = [];
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
    if (delay.count > 0) eventLoopLag = { meanSeconds: lagOf(delay.mean), p99Seconds: lagOf(delay.percentile(99)) };
    delay.reset();
    connections = totals.connections;
    await announce(NODE_TTL_MS);
  }

  async function announce(ttlMs: number): Promise<void> {
    const facts: NodeFacts = { ...self, connections };
    try {
      const announced = await store.announce({ id: self.id, facts: JSON.stringify(facts), ttlMs });
      nodes = announced.flatMap((text) => parseNode(text) ?? []);
    } catch (error) {
      logger.debug({ err: error }, 'could not announce this node to the others; the next attempt is in 5 s');
    }
  }

  return {
    self,
    get nodes() {
      return nodes;
    },
    get eventLoopLag() {
      return eventLoopLag;
    },
    get oldest() {
      return readings[0];
    },
    async current() {
      if (!closed) await within(CURRENT_MS, announce(NODE_TTL_MS));
      return nodes;
    },
    async close() {
      closed = true;
      clearInterval(timer);
      delay.disable();
      // A lifetime of 0 removes the node at once.
      const leaving = beating.then(() => {
        connections = NONE;
        return announce(0);
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

/** Node measures nanoseconds between two runs of the timer; the lag is the time beyond the timer's interval. */
const lagOf = (nanoseconds: number): number => Math.max(0, nanoseconds / 1e6 - LOOP_MS) / 1000;

function parseNode(text: string): NodeFacts | null {
  try {
    return nodeFacts.parse(JSON.parse(text));
  } catch {
    return null; // from another version of the bridge
  }
}

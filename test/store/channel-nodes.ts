/** Nodes that hear each other through Redis, for the tests of the channel between them. */
import type { TestContext } from 'node:test';
import { createLogger } from '../../src/logger.ts';
import { openRedisStore } from '../../src/store/redis/store.ts';
import type { Store } from '../../src/store/store.ts';
import type { RedisServer } from '../support/redis.ts';
import { until } from '../support/until.ts';

/** Begins the texts of `untilConnected`. */
const PROBE = 'connected? ';

export interface Node {
  readonly store: Store;
  readonly heard: string[];
  /** Of the texts in `heard`. */
  readonly ages: number[];
  readonly probes: Set<string>;
}

export async function openNode(t: TestContext, url: string, logger = createLogger('silent')): Promise<Node> {
  const store = await openRedisStore({ url, keying: 'room', logger });
  t.after(() => store.close());
  return { store, heard: [], ages: [], probes: new Set() };
}

/** A node that listens. Returns once it has its connection. */
export async function startNode(t: TestContext, url: string, logger = createLogger('silent')): Promise<Node> {
  const node = await openNode(t, url, logger);
  node.store.onBroadcast((text, ageMs) => {
    if (text.startsWith(PROBE)) return void node.probes.add(text);
    node.heard.push(text);
    node.ages.push(ageMs);
  });
  await until('the channel is open', () => node.store.broadcast(PROBE));
  return node;
}

/** Starts nodes that hear each other. */
export async function startNodes(t: TestContext, ...urls: readonly string[]): Promise<Node[]> {
  const nodes = await Promise.all(urls.map((url) => startNode(t, url)));
  await untilConnected(nodes);
  return nodes;
}

/** Waits until each node hears each other one. */
export async function untilConnected(nodes: readonly Node[]): Promise<void> {
  const texts = nodes.map(() => `${PROBE}${Math.random()}`);
  await until('the nodes hear each other', () => {
    for (const [index, { store }] of nodes.entries()) store.broadcast(texts[index] as string);
    return nodes.every(({ probes }, index) => texts.every((text, of) => of === index || probes.has(text)));
  });
}

/** How many nodes have opened the channel. A Redis that becomes the master cuts all connections, this one too. */
export const channelsOf = async (redis: RedisServer): Promise<number> =>
  String(await redis.command('CLIENT', 'LIST').catch(() => '')).match(/name=roomcast-channel /g)?.length ?? 0;

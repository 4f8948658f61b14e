/** Two nodes on one Redis that is killed, paused, cut off, flushed or full. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type RedisServer, startRedis } from '../support/redis.ts';
import type { Objection } from './checker.ts';
import { startRelay } from './relay.ts';
import { latecomers } from './scenarios-crash.ts';
import { eventually, type Kit, logOf, onStage, type Stage, type Verdict } from './stage.ts';

type Play = (stage: Stage, redis: RedisServer) => Promise<Verdict>;

async function onRedis(kit: Kit, play: Play, mayReset = false, lostLogs = new Set<string>()): Promise<Verdict> {
  const redis = await startRedis();
  try {
    const options = { env: { STORE_URL: redis.url }, nodes: 2, auth: 'jwt', mayReset, lostLogs } as const;
    return await onStage(kit, options, (stage) => play(stage, redis));
  } finally {
    redis.resume();
    await redis.stop();
  }
}

/** Redis is killed and started again, nodes are killed, and their clients go to the other node. */
export function redisKilled(kit: Kit): Promise<Verdict> {
  return onRedis(kit, async (stage, redis) => {
    await stage.audience();
    const stop = stage.publishing(4);
    const stopComing = latecomers(kit, stage, 200);
    const ends = Date.now() + kit.budgetMs;
    let kills = 0;
    while (kills < 5 || Date.now() < ends) {
      await sleep(kit.random.whole(200, 900));
      const victim = kit.random.pick(['redis', 'redis', 'node', 'both'] as const);
      if (victim !== 'node') {
        await redis.kill();
        await sleep(kit.random.whole(0, 700));
      }
      if (victim !== 'redis') {
        const node = kit.random.whole(0, 1);
        const ending = stage.servers[node]?.end(kit.random.pick(['SIGKILL', 'SIGTERM'] as const));
        // Its clients go to the other node meanwhile.
        stage.retarget(node, 1 - node);
        await ending;
      }
      if (victim !== 'node') await redis.restart();
      for (const [node, server] of stage.servers.entries()) if (!server.alive()) await stage.start(node);
      kills++;
      kit.progress(`${kills} kills, ${stage.counts.acknowledged} acknowledged`);
    }
    await stopComing();
    await stop();
    return stage.verdict({ kills, refusals: stage.counts.refusals }, { patienceMs: 40_000 });
  });
}

/** Redis stops answering for longer than publishers are kept waiting. */
export function redisPaused(kit: Kit): Promise<Verdict> {
  return onRedis(kit, async (stage, redis) => {
    await stage.audience();
    const stop = stage.publishing(4);
    const objections: Objection[] = [];
    for (const pauseMs of [kit.random.whole(200, 1_500), kit.random.whole(5_500, 7_000)]) {
      await sleep(400);
      redis.pause();
      const begunAt = performance.now();
      await stage.publish();
      const waitedMs = performance.now() - begunAt;
      // protocol §10: within 5 s also when the log hangs; and what a busy machine adds.
      if (waitedMs > 6_000) objections.push({ law: 'lost', who: 'server', detail: `a publish waited ${waitedMs} ms` });
      await sleep(Math.max(0, pauseMs - waitedMs));
      redis.resume();
      const acknowledged = stage.counts.acknowledged;
      await eventually('publishes go on', () => stage.counts.acknowledged > acknowledged + 10, 20_000);
    }
    await stop();
    return stage.verdict({ refusals: stage.counts.refusals }, { objections, patienceMs: 40_000 });
  });
}

/** The network between nodes and Redis is cut in the middle of commands, goes silent, and is refused. */
export async function redisCutOff(kit: Kit): Promise<Verdict> {
  const redis = await startRedis();
  const relay = await startRelay({ host: '127.0.0.1', port: redis.port });
  try {
    const env = { STORE_URL: `redis://127.0.0.1:${relay.port}` };
    return await onStage(kit, { env, nodes: 2, auth: 'jwt' }, async (stage) => {
      await stage.audience();
      const stop = stage.publishing(4);
      const rounds = kit.long ? 40 : 10;
      for (let round = 0; round < rounds; round++) {
        await sleep(kit.random.whole(50, 400));
        const fault = kit.random.pick(['cut', 'cutAfter', 'cutAfter', 'orphan', 'freeze', 'refuse'] as const);
        if (fault === 'cut') relay.cut();
        if (fault === 'cutAfter') relay.cutAfter(kit.random.whole(0, 4_000));
        if (fault === 'orphan') relay.orphan();
        if (fault === 'refuse') relay.refuse();
        if (fault === 'freeze') relay.freeze();
        if (fault === 'refuse' || fault === 'freeze') {
          await sleep(kit.random.whole(100, 1_500));
          relay.restore();
          if (fault === 'freeze') relay.cut();
        }
        kit.progress(`${round + 1} of ${rounds} cuts, ${stage.counts.acknowledged} acknowledged`);
      }
      const acknowledged = stage.counts.acknowledged;
      await eventually('publishes go on', () => stage.counts.acknowledged > acknowledged + 10, 20_000);
      await stop();
      return stage.verdict({ cuts: rounds, refusals: stage.counts.refusals }, { patienceMs: 40_000 });
    });
  } finally {
    await relay.close();
    await redis.stop();
  }
}

/** Someone empties Redis: the log is gone, and every listener is told so. */
export function redisFlushed(kit: Kit): Promise<Verdict> {
  const lostLogs = new Set<string>();
  return onRedis(
    kit,
    async (stage, redis) => {
      await stage.audience();
      for (let count = 0; count < 60; count++) await stage.publish();
      lostLogs.add(logOf(stage.publications[0]?.ids[0] ?? ''));
      await sleep(300);
      await redis.command('FLUSHALL');
      await eventually('publishes go on in a new log', async () => (await stage.publish()) !== null, 20_000);
      const told = (): number =>
        stage.listeners.filter(({ entries }) => entries.some(({ kind }) => kind === 'reset')).length;
      const objections: Objection[] = [];
      const stop = stage.publishing(2, 10);
      await eventually('every listener is told', () => told() === stage.listeners.length, 20_000).catch(() => {
        const names = stage.listeners.filter(({ entries }) => !entries.some(({ kind }) => kind === 'reset'));
        for (const { history } of names) objections.push({ law: 'reset', who: history.name, detail: 'was not told' });
      });
      await sleep(500);
      await stop();
      return stage.verdict({ told: told() }, { objections });
    },
    true,
    lostLogs,
  );
}

/** Redis has no memory left and evicts nothing: publishes are refused, nothing is lost, listening goes on. */
export function redisFull(kit: Kit): Promise<Verdict> {
  return onRedis(kit, async (stage, redis) => {
    await stage.audience();
    const stop = stage.publishing(3);
    await sleep(500);
    await redis.command('CONFIG', 'SET', 'maxmemory-policy', 'noeviction');
    await redis.command('CONFIG', 'SET', 'maxmemory', '1mb');
    await eventually('publishes are refused', () => stage.counts.refusals > 20, 20_000);
    const objections: Objection[] = [];
    // Reconnecting while nothing can be written.
    for (const relay of stage.relays.slice(0, 4)) relay.cut();
    await sleep(1_000);
    await redis.command('CONFIG', 'SET', 'maxmemory', '0');
    const acknowledged = stage.counts.acknowledged;
    await eventually('publishes go on', () => stage.counts.acknowledged > acknowledged + 20, 20_000);
    await stop();
    return stage.verdict({ refusals: stage.counts.refusals }, { objections, patienceMs: 40_000 });
  });
}

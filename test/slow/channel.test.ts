/** The channel between nodes while Redis, or the way to it, fails. Real Redis servers, which the tests kill and pause. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { describe, it, type TestContext } from 'node:test';
import { setImmediate as immediate } from 'node:timers/promises';
import { channelsOf, type Node, startNode, startNodes, untilConnected } from '../store/channel-nodes.ts';
import { startCutProxy } from '../support/cut-proxy.ts';
import { missing, type RedisServer, startRedis, startSentinels } from '../support/redis.ts';
import { until } from '../support/until.ts';

const absent = missing('redis-server');

async function ownRedis(t: TestContext): Promise<RedisServer> {
  const redis = await startRedis();
  t.after(() => redis.stop());
  return redis;
}

describe('the channel between nodes', { skip: absent }, () => {
  it('tells the age of a text, whatever the clocks of the nodes', async (t) => {
    const redis = await ownRedis(t);
    const node = await startNode(t, redis.url);
    const startedMs = performance.now();
    const child = spawn(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', `${import.meta.dirname}/channel.child.ts`, redis.url, 'text'],
      { stdio: 'inherit' },
    );
    t.after(() => child.kill('SIGKILL'));
    await until('the other process is heard', () => node.heard.length >= 20, 30_000);
    // Its clock began after `startedMs`, so a comparison of the clocks themselves would give at least the age of this one.
    const elapsedMs = performance.now() - startedMs;
    assert.ok(
      node.ages.every((age) => age < Math.min(startedMs, elapsedMs)),
      `${node.ages} ${startedMs} ${elapsedMs}`,
    );

    redis.pause();
    const pausedMs = performance.now();
    await until('texts wait for Redis', () => performance.now() > pausedMs + 600);
    const heard = node.heard.length;
    redis.resume();
    await until('one that waited is heard', () => node.ages.slice(heard).some((age) => age > 300));
    assert.ok(node.ages.slice(heard).every((age) => age < performance.now() - pausedMs));
    await until('texts are in time again', () => (node.ages.at(-1) as number) < 300);
  });

  it('drops texts past a bound while Redis hangs, and none of them twice or out of order', async (t) => {
    const redis = await ownRedis(t);
    const [a, b] = (await startNodes(t, redis.url, redis.url)) as [Node, Node];
    redis.pause();
    const filler = 'x'.repeat(1_000);
    let accepted = 0;
    // What is on its way to Redis, and what waits.
    for (let n = 0; n < 4_000; n++) {
      if (a.store.broadcast(`${n} ${filler}`)) accepted++;
      if (n % 100 === 0) await immediate();
    }
    assert.ok(accepted > 500 && accepted < 2_200, `${accepted}`);
    redis.resume();
    await until('it accepts texts again', () => a.store.broadcast('last'));
    await until('that is heard', () => b.heard.includes('last'));
    const numbers = b.heard.slice(0, -1).map((text) => Number.parseInt(text, 10));
    assert.deepEqual(
      numbers,
      [...new Set(numbers)].sort((x, y) => x - y),
    );
    assert.equal(a.store.broadcast('y'.repeat(2_000_000)), false);
  });

  it('drops texts while Redis is away, and works again when it is back', async (t) => {
    const redis = await ownRedis(t);
    const [a, b] = (await startNodes(t, redis.url, redis.url)) as [Node, Node];
    await redis.kill();
    await until('texts are dropped', () => !a.store.broadcast('lost') && !b.store.broadcast('lost'));
    await redis.restart();
    await untilConnected([a, b]);
    await redis.command('CLIENT', 'KILL', 'TYPE', 'pubsub');
    await untilConnected([a, b]);
    redis.pause();
    await until('texts are dropped', () => !a.store.broadcast('lost') && !b.store.broadcast('lost'));
    redis.resume();
    await untilConnected([a, b]);
  });

  for (const [what, act] of [
    ['whose answers are lost', 'loseDownstream'],
    ['that is half-open', 'cutClientSide'],
  ] as const) {
    it(`replaces a connection ${what}`, async (t) => {
      const redis = await ownRedis(t);
      const proxy = await startCutProxy(redis.url);
      t.after(() => proxy.close());
      const nodes = await startNodes(t, redis.url, proxy.url.replace('http', 'redis'));
      const [a, b] = nodes as [Node, Node];
      proxy[act]();
      // A node that only listens notices it, too.
      await until('it hears others again', () => a.store.broadcast('again') && b.heard.includes('again'));
      await untilConnected(nodes);
    });
  }

  it('replaces a connection that takes nothing', async (t) => {
    const redis = await ownRedis(t);
    const proxy = await startCutProxy(redis.url);
    t.after(() => proxy.close());
    const nodes = await startNodes(t, redis.url, proxy.url.replace('http', 'redis'));
    proxy.stall();
    await until('texts are dropped', () => nodes[1]?.store.broadcast('lost') === false);
    proxy.flow();
    await untilConnected(nodes);
  });

  it('leaves a Redis that is not the master any more', async (t) => {
    const [first, second] = await Promise.all([ownRedis(t), ownRedis(t)]);
    const proxy = await startCutProxy(first.url);
    t.after(() => proxy.close());
    const url = proxy.url.replace('http', 'redis');
    const nodes = await startNodes(t, url, url);
    proxy.retarget(second.url);
    await first.command('REPLICAOF', '127.0.0.1', String(second.port));
    await until('the nodes are on the new master', async () => (await channelsOf(second)) === 2);
    await untilConnected(nodes);
  });
});

describe('the channel with Sentinels', { skip: missing('redis-server', 'redis-sentinel') }, () => {
  it('moves to the new master', async (t) => {
    const sentinels = await startSentinels();
    t.after(() => sentinels.stop());
    const nodes = await startNodes(t, sentinels.url, sentinels.url);
    const master = await sentinels.master();
    const replica = sentinels.servers.find((server) => server !== master) as RedisServer;
    await master.kill();
    await until('the nodes are on the new master', async () => (await channelsOf(replica)) === 2, 30_000);
    await untilConnected(nodes);
  });
});

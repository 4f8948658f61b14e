/** What nodes say to each other over real Redis servers, which the tests kill, pause, restart and replace. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { describe, it, type TestContext } from 'node:test';
import { setImmediate as immediate } from 'node:timers/promises';
import { pino } from 'pino';
import { createLogger } from '../../src/logger.ts';
import { openRedisStore } from '../../src/store/redis/store.ts';
import type { Store } from '../../src/store/store.ts';
import { startCutProxy } from '../support/cut-proxy.ts';
import { missing, type RedisServer, startRedis, startSentinels } from '../support/redis.ts';
import { until } from '../support/until.ts';
import { append, declared } from './conformance.ts';

const absent = missing('redis-server');

interface Node {
  readonly store: Store;
  readonly heard: string[];
  readonly ages: number[];
}

async function openNode(t: TestContext, url: string, logger = createLogger('silent')): Promise<Node> {
  const store = await openRedisStore({ url, keying: 'room', logger });
  t.after(() => store.close());
  return { store, heard: [], ages: [] };
}

/** A node that listens. Returns once it has its connection. */
async function startNode(t: TestContext, url: string): Promise<Node> {
  const node = await openNode(t, url);
  node.store.onBroadcast((text, ageMs) => {
    node.heard.push(text);
    node.ages.push(ageMs);
  });
  await until('the channel is open', () => node.store.broadcast('hello'));
  return node;
}

/** Starts nodes that hear each other, and forgets what they said for that. */
async function startNodes(t: TestContext, ...urls: readonly string[]): Promise<Node[]> {
  const nodes = await Promise.all(urls.map((url) => startNode(t, url)));
  await untilConnected(nodes);
  return nodes;
}

let connects = 0;

/** Waits until each node hears each other one. */
async function untilConnected(nodes: readonly Node[]): Promise<void> {
  const attempt = ++connects;
  const texts = nodes.map((_, index) => `connected ${attempt} ${index}`);
  await until('the nodes hear each other', () => {
    for (const [index, { store }] of nodes.entries()) store.broadcast(texts[index] as string);
    return nodes.every(({ heard }, index) => texts.every((text, of) => of === index || heard.includes(text)));
  });
  // What is still on its way comes before this.
  for (const { store } of nodes) await until('it is accepted', () => store.broadcast(`settled ${attempt}`));
  const settled = ({ heard }: Node): boolean =>
    heard.filter((text) => text === `settled ${attempt}`).length === nodes.length - 1;
  await until('all is heard', () => nodes.every(settled));
  for (const { heard, ages } of nodes) {
    heard.length = 0;
    ages.length = 0;
  }
}

async function publishes(redis: RedisServer): Promise<number> {
  return Number(/cmdstat_publish:calls=(\d+)/.exec(String(await redis.command('INFO', 'commandstats')))?.[1] ?? 0);
}

/** A Redis that becomes the master cuts all connections, also the one of this command. */
const channelsOf = async (redis: RedisServer): Promise<number> =>
  String(await redis.command('CLIENT', 'LIST').catch(() => '')).match(/name=roomcast-channel /g)?.length ?? 0;

async function ownRedis(t: TestContext): Promise<RedisServer> {
  const redis = await startRedis();
  t.after(() => redis.stop());
  return redis;
}

// Most of their time, they wait for a deadline to pass.
describe('the channel between nodes', { skip: absent, concurrency: 4 }, () => {
  it('makes a connection only for a listener', async (t) => {
    const redis = await ownRedis(t);
    const [silent] = await Promise.all([
      openNode(t, redis.url),
      append((await openNode(t, redis.url)).store, [declared()]),
    ]);
    assert.equal(silent.store.broadcast('text'), false);
    assert.equal(await channelsOf(redis), 0);
    await startNode(t, redis.url);
    assert.equal(await channelsOf(redis), 1);
  });

  it('brings each text to all other nodes once, in the order of its node', async (t) => {
    const redis = await ownRedis(t);
    const nodes = await startNodes(t, redis.url, redis.url, redis.url);
    const said: string[][] = nodes.map(() => []);
    for (let round = 0; round < 300; round++) {
      for (const [index, { store }] of nodes.entries()) {
        for (let n = 0; n < 5; n++) {
          const text = `${index} ${round * 5 + n}`;
          if (store.broadcast(text)) said[index]?.push(text);
        }
      }
      await immediate();
    }
    for (const [index, { heard, ages }] of nodes.entries()) {
      const others = [0, 1, 2].filter((other) => other !== index);
      await until('all is heard', () => heard.length >= 3_000);
      for (const other of others) {
        assert.deepEqual(
          heard.filter((text) => text.startsWith(`${other} `)),
          said[other],
        );
      }
      assert.equal(heard.length, 3_000);
      assert.ok(ages.every((age) => Number.isFinite(age) && age >= 0));
    }
  });

  it('brings any text as it is', async (t) => {
    const redis = await ownRedis(t);
    const [a, b] = (await startNodes(t, redis.url, redis.url)) as [Node, Node];
    const texts = ['', '\n', '\u2028\u0000"\\', '🙂'.repeat(1000), '{"a":[1,2]}', ' 1\n[]'];
    for (const text of texts) assert.equal(a.store.broadcast(text), true);
    await until('all is heard', () => b.heard.length === texts.length);
    assert.deepEqual(b.heard, texts);
  });

  it('sends the texts that wait together', async (t) => {
    const redis = await ownRedis(t);
    const [a, b] = (await startNodes(t, redis.url, redis.url)) as [Node, Node];
    const before = await publishes(redis);
    for (let n = 0; n < 2_000; n++) assert.equal(a.store.broadcast(`${n}`), true);
    await until('all is heard', () => b.heard.length === 2_000);
    assert.equal((await publishes(redis)) - before, 1);
  });

  it('keeps bridges of other prefixes and databases apart', async (t) => {
    const redis = await ownRedis(t);
    const urls = ['', '?prefix=a', '?prefix=a.b', '/1', '/1?prefix=a'].map((rest) => `${redis.url}${rest}`);
    const nodes = await Promise.all(urls.map((url) => startNode(t, url)));
    for (const [index, { store }] of nodes.entries()) store.broadcast(`${index}`);
    const [a, b] = (await startNodes(t, urls[3] as string, urls[3] as string)) as [Node, Node];
    b.store.broadcast('to /1');
    await until('its own nodes hear it', () => a.heard.length === 1 && nodes[3]?.heard.includes('to /1') === true);
    for (const index of [0, 1, 2, 4]) assert.deepEqual(nodes[index]?.heard, []);
  });

  it('tells the age of a text, whatever the clocks of the nodes', async (t) => {
    const redis = await ownRedis(t);
    const node = await startNode(t, redis.url);
    const startedMs = performance.now();
    const child = spawn(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', `${import.meta.dirname}/redis-channel.child.ts`, redis.url, 'text'],
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
    await until('texts are in time again', () => (node.ages.at(-1) as number) < 100);
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
      proxy[act]();
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

  it('ignores a message that comes after a later one, and what it cannot read', async (t) => {
    const redis = await ownRedis(t);
    const [a, b] = (await startNodes(t, redis.url, redis.url)) as [Node, Node];
    const channel = '{roomcast}:channel:0';
    for (const garbage of ['', 'text', 'abcdefgh 1\n{', 'abcdefgh 2\n', 'abcdefgh x\n[]']) {
      assert.equal(await redis.command('PUBLISH', channel, garbage), 2);
    }
    for (const [number, text] of [
      [7, 'first'],
      [6, 'late'],
      [7, 'twice'],
      [8, 'second'],
    ] as const) {
      await redis.command('PUBLISH', channel, `zyxwvuts ${number}\n${JSON.stringify([Date.now(), text])}`);
    }
    a.store.broadcast('last');
    await until('all is heard', () => b.heard.includes('last'));
    assert.deepEqual(b.heard, ['first', 'second', 'last']);
  });

  it('hands over the next text when the listener throws', async (t) => {
    const redis = await ownRedis(t);
    const a = await startNode(t, redis.url);
    const b = await openNode(t, redis.url);
    b.store.onBroadcast((text) => {
      b.heard.push(text);
      throw new Error('a fault of the listener');
    });
    await until('the first is heard', () => a.store.broadcast('first') && b.heard.includes('first'));
    for (let n = 0; n < 3; n++) a.store.broadcast(`${n}`);
    await until('the others are heard', () => b.heard.includes('2'));
    assert.deepEqual(b.heard.slice(-3), ['0', '1', '2']);
  });

  it('says once that Redis does not allow it, and works once it does; records go on meanwhile', async (t) => {
    const redis = await ownRedis(t);
    const rules = '~{roomcast}:* -@all +@read +@write +@scripting +@connection +time +info +bgrewriteaof';
    const user = (...more: string[]) =>
      redis.command('ACL', 'SETUSER', 'bridge', 'reset', 'on', '>pw', ...rules.split(' '), ...more);
    await user();
    const lines: string[] = [];
    const logger = pino({ base: null }, { write: (line: string) => void lines.push(line) });
    const url = redis.url.replace('//', '//bridge:pw@');
    const node = await openNode(t, url, logger);
    node.store.onBroadcast((text) => void node.heard.push(text));
    await until('it is logged', () => lines.some((line) => line.includes('NOPERM')));
    await append(node.store, [declared()]);
    assert.equal(node.store.broadcast('text'), false);

    await user('&{roomcast}:*', '+subscribe');
    const other = await startNode(t, redis.url);
    await until('it hears others', () => other.store.broadcast('heard') && node.heard.length > 0);
    assert.ok(node.store.broadcast('refused'));
    await user('&{roomcast}:*', '+subscribe', '+publish');
    await until('others hear it', () => node.store.broadcast('allowed') && other.heard.includes('allowed'));
    const told = lines.map((line) => JSON.parse(line) as { level: number; msg: string; cause?: string });
    assert.deepEqual(
      told.filter(({ msg }) => msg.includes('pub/sub')).map(({ level }) => level),
      [50, 30],
    );
  });

  it('ends with its store', async (t) => {
    const redis = await ownRedis(t);
    const [a, b] = (await startNodes(t, redis.url, redis.url)) as [Node, Node];
    a.store.broadcast('under way');
    await a.store.close();
    assert.equal(a.store.broadcast('late'), false);
    b.store.broadcast('nobody hears this');
    await until('the connection is gone', async () => (await channelsOf(redis)) === 1);
    assert.deepEqual(a.heard, []);
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

/** What nodes say to each other over a real Redis. What takes a time-out to see is in test/slow/channel.test.ts. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { setImmediate as immediate } from 'node:timers/promises';
import { pino } from 'pino';
import { missing, type RedisServer, useRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';
import { channelsOf, type Node, openNode, startNode, startNodes } from './channel-nodes.ts';
import { append, declared } from './conformance.ts';

async function publishes(redis: RedisServer): Promise<number> {
  return Number(/cmdstat_publish:calls=(\d+)/.exec(String(await redis.command('INFO', 'commandstats')))?.[1] ?? 0);
}

describe('the channel between nodes', { skip: missing('redis-server') }, () => {
  const redis = useRedis();

  it('makes a connection only for a listener', async (t) => {
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
    const [a, b] = (await startNodes(t, redis.url, redis.url)) as [Node, Node];
    const texts = ['', '\n', '\u2028\u0000"\\', '🙂'.repeat(1000), '{"a":[1,2]}', ' 1\n[]'];
    for (const text of texts) assert.equal(a.store.broadcast(text), true);
    await until('all is heard', () => b.heard.length === texts.length);
    assert.deepEqual(b.heard, texts);
  });

  it('sends the texts that wait together', async (t) => {
    const [a, b] = (await startNodes(t, redis.url, redis.url)) as [Node, Node];
    const before = await publishes(redis);
    for (let n = 0; n < 2_000; n++) assert.equal(a.store.broadcast(`${n}`), true);
    await until('all is heard', () => b.heard.length === 2_000);
    // The last probe of `startNodes` may have waited, too.
    assert.ok((await publishes(redis)) - before <= 2);
  });

  it('keeps bridges of other prefixes and databases apart', async (t) => {
    const urls = ['', '?prefix=a', '?prefix=a.b', '/1', '/1?prefix=a'].map((rest) => `${redis.url}${rest}`);
    const nodes = await Promise.all(urls.map((url) => startNode(t, url)));
    for (const [index, { store }] of nodes.entries()) store.broadcast(`${index}`);
    const [a, b] = (await startNodes(t, urls[3] as string, urls[3] as string)) as [Node, Node];
    b.store.broadcast('to /1');
    await until('its own nodes hear it', () => a.heard.length === 1 && nodes[3]?.heard.includes('to /1') === true);
    for (const index of [0, 1, 2, 4]) assert.deepEqual(nodes[index]?.heard, []);
  });

  it('ignores a message that comes after a later one, and what it cannot read', async (t) => {
    const [a, b] = (await startNodes(t, redis.url, redis.url)) as [Node, Node];
    const channel = '{roomcast}:channel:0';
    for (const garbage of ['', 'text', 'abcdefgh 1\n{', 'abcdefgh 2\n', 'abcdefgh 3\nnull', 'abcdefgh x\n[]']) {
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
    const page = await readFile(new URL('../../docs/scaling.md', import.meta.url), 'utf8');
    const [, documented = ''] = /`ACL SETUSER roomcast on >password (.+?)`/.exec(page) ?? [];
    const user = (withoutThese = /$/g) => {
      const rules = documented.replace(withoutThese, '').split(/ +/);
      return redis.command('ACL', 'SETUSER', 'bridge', 'reset', 'on', '>pw', ...rules);
    };
    await user(/ (&\S+|\+publish|\+subscribe)/g);
    const lines: string[] = [];
    const logger = pino({ base: null }, { write: (line: string) => void lines.push(line) });
    const url = redis.url.replace('//', '//bridge:pw@');
    const node = await openNode(t, url, logger);
    node.store.onBroadcast((text) => void node.heard.push(text));
    await until('it is logged', () => lines.some((line) => line.includes('NOPERM')));
    await append(node.store, [declared()]);
    assert.equal(node.store.broadcast('text'), false);

    await user(/ \+publish/g);
    const other = await startNode(t, redis.url);
    await until('it hears others', () => other.store.broadcast('heard') && node.heard.length > 0);
    assert.ok(node.store.broadcast('refused'));
    await user();
    await until('others hear it', () => node.store.broadcast('allowed') && other.heard.includes('allowed'));
    const told = lines.map((line) => JSON.parse(line) as { level: number; msg: string; cause?: string });
    assert.deepEqual(
      told.filter(({ msg }) => msg.includes('pub/sub')).map(({ level }) => level),
      [50, 30],
    );
  });

  it('ends with its store', async (t) => {
    const [a, b] = (await startNodes(t, redis.url, redis.url)) as [Node, Node];
    a.store.broadcast('under way');
    await a.store.close();
    assert.equal(a.store.broadcast('late'), false);
    b.store.broadcast('nobody hears this');
    await until('the connection is gone', async () => (await channelsOf(redis)) === 1);
    assert.deepEqual(a.heard, []);
  });
});

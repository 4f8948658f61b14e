/** Revocations on a real Redis that goes away, loses what it confirmed, or is emptied: every node learns of it. */
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { createLogger } from '../../src/logger.ts';
import { openRedisStore } from '../../src/store/redis/store.ts';
import { erasedClaim, type Revocation } from '../../src/store/revocations.ts';
import { startCutProxy } from '../support/cut-proxy.ts';
import { missing, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';
import { followerOf, revocation } from './revocations.ts';

const LIMITS = { inAll: 100, ofTenant: 100 };

describe('revocations in Redis', { skip: missing('redis-server') }, () => {
  async function setUp(t: TestContext) {
    const redis = await startRedis();
    t.after(redis.stop);
    const open = async (url: string) => {
      const store = await openRedisStore({ url, keying: 'tenant', logger: createLogger('silent') });
      t.after(() => store.close());
      return { store, followed: await followerOf(store) };
    };
    const proxy = await startCutProxy(redis.url);
    t.after(() => proxy.close());
    const [a, b] = [await open(redis.url), await open(proxy.url.replace('http', 'redis'))];
    const revoke = async (sub: string) => (await a.store.revoke(revocation({ sub }), LIMITS)) as Revocation;
    const known = () => b.followed.known.map(({ sub }) => sub);
    const bothKnow = (...subs: string[]) =>
      until(`both nodes know ${subs}`, () =>
        [a.followed.known.map(({ sub }) => sub), known()].every((of) => String(of) === String(subs)),
      );
    return { redis, proxy, a, b, revoke, bothKnow };
  }

  it('are learned after a broken connection and after a restart of Redis', async (t) => {
    const { redis, proxy, a, revoke, bothKnow } = await setUp(t);
    const first = await revoke('u1');
    proxy.cut();
    await revoke('u2');
    await bothKnow('u1', 'u2');
    await redis.kill();
    await redis.restart();
    await until('the log takes revocations again', () =>
      revoke('u3').then(
        () => true,
        () => false,
      ),
    );
    await bothKnow('u1', 'u2', 'u3');
    await a.store.liftRevocation(first.id);
    await bothKnow('u2', 'u3');
  });

  it('are as the log has them after a failover that lost the newest', async (t) => {
    const { redis, revoke, bothKnow } = await setUp(t);
    await revoke('kept');
    await revoke('lost');
    await bothKnow('kept', 'lost');
    const facts = '{roomcast}:revocation-facts';
    assert.equal(await redis.command('HGET', facts, 'last'), '2');
    // What a replica that lags behind has, in one step.
    const script = `redis.call('ZREMRANGEBYSCORE', KEYS[1], 2, 2) redis.call('HSET', KEYS[2], 'last', 1)`;
    await redis.command('EVAL', script, '2', '{roomcast}:revocations', facts);
    await revoke('new');
    await bothKnow('kept', 'new');
  });

  it('are gone with a log that was emptied, and new ones are followed', async (t) => {
    const { redis, revoke, bothKnow } = await setUp(t);
    await revoke('u1');
    await bothKnow('u1');
    await redis.command('FLUSHALL');
    await bothKnow();
    await revoke('u2');
    await bothKnow('u2');
  });

  it('leave no id of an erased tenant in Redis', async (t) => {
    const { redis, a, revoke, bothKnow } = await setUp(t);
    await revoke('user-of-tenant');
    await a.store.erase({ tenantId: 't1', ticketId: null });
    const keys = (await redis.command('KEYS', '*')) as string[];
    const texts = await redis.command('ZRANGE', '{roomcast}:revocations', '0', '-1');
    assert.doesNotMatch(JSON.stringify([keys, texts]), /user-of-tenant|revocations:t1|t1\b/);
    assert.equal((texts as string[]).length, 1);
    await bothKnow(erasedClaim('t1', 'user-of-tenant'));
    const { dir = '' } = (await redis.command('CONFIG', 'GET', 'dir')) as Record<string, string>;
    await until('the append-only file holds nothing of it, either', async () => {
      const files = await readdir(join(dir, 'appendonlydir'));
      const texts = await Promise.all(files.map((file) => readFile(join(dir, 'appendonlydir', file), 'latin1')));
      return !texts.join().includes('user-of-tenant');
    });
  });
});

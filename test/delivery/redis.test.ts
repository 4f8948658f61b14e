/** The delivery suite on a real Redis server, and clients that live on when their log is lost. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { createLogger } from '../../src/logger.ts';
import { PREFIX } from '../../src/store/redis/script.ts';
import { openRedisStore } from '../../src/store/redis/store.ts';
import { messageNew, startBridge } from '../support/bridge.ts';
import { connectSocket } from '../support/clients.ts';
import { startCutProxy } from '../support/cut-proxy.ts';
import { missing, type RedisServer, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';
import { deliveryConformance, ids } from './conformance.ts';

const absent = missing('redis-server');

if (absent !== false) {
  test('delivery on Redis', { skip: absent }, () => {});
} else {
  describe('on Redis', () => {
    let redis: RedisServer;
    before(async () => {
      redis = await startRedis();
    });
    after(() => redis.stop());
    deliveryConformance('Redis', async () => {
      await redis.command('FLUSHALL');
      return { storeUrl: redis.url };
    });
  });

  describe('when Redis was emptied', () => {
    let redis: RedisServer;
    before(async () => {
      redis = await startRedis();
    });
    after(() => redis.stop());
    beforeEach(async () => {
      await redis.command('FLUSHALL');
      // The cursors of this log are greater than those of the next.
      await (await openRedisStore({ url: redis.url, keying: 'room', logger: createLogger('silent') })).close();
      await redis.command('HSET', `${PREFIX}meta`, 'epoch', 'zzzzzzzz');
    });

    for (const joinsAgain of [false, true]) {
      const history = joinsAgain ? 'that joined one more room since' : 'that did nothing since';
      test(`a socket ${history} is put back in its rooms and misses nothing`, async (t) => {
        const bridge = await startBridge({ storeUrl: redis.url });
        t.after(() => bridge.close());
        const proxy = await startCutProxy(bridge.url);
        t.after(() => proxy.close());
        const client = await connectSocket('websocket')(proxy.url, { tenantId: ['t1'] }, { legacy: false });
        t.after(() => client.close());
        await redis.command('FLUSHALL');
        await until('it is told', () => client.resets.length === 1);
        if (joinsAgain) await client.join('ticketId', 'other');
        await until(
          'its session is there',
          async () => String(await redis.command('ZCARD', `${PREFIX}sessions`)) === '1',
        );
        proxy.refuse();
        const { id } = await bridge.publish('messages.new', messageNew({ tenantId: 't1' }));
        proxy.restore();
        await until('it is back', () => client.recoveries.length === 2);
        await until('it has what it missed', () => ids(client).includes(id));
        assert.deepEqual([client.recoveries, client.resets.length, ids(client)], [[false, true], 1, [id]]);
      });
    }
  });
}

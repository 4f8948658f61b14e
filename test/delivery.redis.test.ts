/** The delivery suite on a real Redis server. */
import { after, before, describe, test } from 'node:test';
import { deliveryConformance } from './delivery.conformance.ts';
import { missing, type RedisServer, startRedis } from './redis.ts';

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
}

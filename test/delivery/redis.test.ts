/** The delivery suite on a real Redis server, and clients whose log is lost. */
import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { type JWTPayload, SignJWT } from 'jose';
import { io } from 'socket.io-client';
import { createLogger } from '../../src/logger.ts';
import { openRedisStore } from '../../src/store/redis/store.ts';
import { messageNew, startBridge } from '../support/bridge.ts';
import { connectSocket } from '../support/clients.ts';
import { startCutProxy } from '../support/cut-proxy.ts';
import { missing, useRedis } from '../support/redis.ts';
import { startServer } from '../support/server.ts';
import { until } from '../support/until.ts';
import { deliveryConformance, ids } from './conformance.ts';

const absent = missing('redis-server');
const SECRET = 'of thirty-two characters at least, this one';

describe('on Redis', { skip: absent }, () => {
  const redis = useRedis();
  deliveryConformance('Redis', async () => {
    await redis.command('FLUSHALL');
    return { storeUrl: redis.url };
  });
});

describe('when Redis was emptied', { skip: absent }, () => {
  const redis = useRedis();
  beforeEach(async () => {
    await redis.command('FLUSHALL');
    // The cursors of this log sort after those of the next one.
    await (await openRedisStore({ url: redis.url, keying: 'room', logger: createLogger('silent') })).close();
    await redis.command('HSET', '{roomcast}:log', 'epoch', 'zzzzzzzz');
  });

  for (const joinsAgain of [false, true]) {
    const history = joinsAgain ? 'that has joined another room since' : 'that has done nothing since';
    test(`a socket ${history} recovers its rooms and misses nothing`, async (t) => {
      const bridge = await startBridge({ storeUrl: redis.url });
      t.after(() => bridge.close());
      const proxy = await startCutProxy(bridge.url);
      t.after(() => proxy.close());
      const client = await connectSocket('websocket')(proxy.url, { tenantId: ['t1'] }, { legacy: false });
      t.after(() => client.close());
      await redis.command('FLUSHALL');
      await until('it gets a reset', () => client.resets.length === 1);
      if (joinsAgain) await client.join('ticketId', 'other');
      const countSessions = () => redis.command('ZCARD', '{roomcast}:sessions');
      await until('its session is saved', async () => String(await countSessions()) === '1');
      proxy.refuse();
      const { id } = await bridge.publish('messages.new', messageNew({ tenantId: 't1' }));
      proxy.restore();
      await until('it has reconnected', () => client.recoveries.length === 2);
      await until('it has the event that it missed', () => ids(client).includes(id));
      assert.deepEqual([client.recoveries, client.resets.length, ids(client)], [[false, true], 1, [id]]);
    });
  }

  test('a socket that was reset and whose node then dies is recovered at another, without a second reset', async (t) => {
    const dying = await startServer({ STORE_URL: redis.url, LOG_LEVEL: 'info' });
    t.after(() => dying.end('SIGKILL'));
    const other = await startBridge({ storeUrl: redis.url });
    t.after(() => other.close());
    const proxy = await startCutProxy(dying.url);
    t.after(() => proxy.close());
    const client = await connectSocket('websocket')(proxy.url, { tenantId: ['t1'] }, { legacy: false });
    t.after(() => client.close());
    await redis.command('FLUSHALL');
    await until('it gets a reset', () => client.resets.length === 1);
    const countSessions = () => redis.command('ZCARD', '{roomcast}:sessions');
    await until('its session is saved', async () => String(await countSessions()) === '1');
    const heard = await other.publish('messages.new', messageNew({ tenantId: 't1' }));
    await until('it has the first event', () => ids(client).length === 1);
    proxy.retarget(other.url);
    await dying.end('SIGKILL');
    const missed = await other.publish('messages.new', messageNew({ tenantId: 't1' }));
    await until('it has the event that it missed', () => ids(client).includes(missed.id));
    assert.deepEqual([client.recoveries, client.resets.length, ids(client)], [[false, true], 1, [heard.id, missed.id]]);
  });
});

describe('two nodes on one Redis', { skip: absent }, () => {
  const redis = useRedis();
  test('a stolen session id neither cuts its owner on another node nor takes its session', async (t) => {
    await redis.command('FLUSHALL');
    const options = { storeUrl: redis.url, authMode: 'jwt', jwtSecret: SECRET } as const;
    const [home, away] = [await startBridge(options), await startBridge(options)];
    t.after(() => Promise.all([home.close(), away.close()]));
    const open = async (url: string, claims: JWTPayload, auth: object = {}) => {
      const token = await new SignJWT({ tenantId: 't', scope: 'subscribe', ...claims })
        .setProtectedHeader({ alg: 'HS256' })
        .sign(Buffer.from(SECRET));
      const socket = io(url, { transports: ['websocket'], forceNew: true, auth: { token, ...auth } });
      t.after(() => socket.disconnect());
      await new Promise<void>((resolve) => socket.once('connect', resolve));
      return socket;
    };
    const owner = await open(home.url, { sub: 'owner' });
    assert.equal((await owner.emitWithAck('join-ticket', '1')).ok, true);
    const { _pid: pid, _lastOffset: offset } = owner as unknown as {
      readonly _pid: string;
      readonly _lastOffset: string;
    };
    const thief = await open(away.url, { sub: 'thief' }, { pid, offset });
    assert.notEqual(thief.id, owner.id);
    assert.equal((await owner.emitWithAck('join-ticket', '2')).ok, true, 'it still owns its session');
    const moved = await open(away.url, { sub: 'owner' }, { pid, offset });
    assert.equal(moved.id, owner.id, 'its owner takes it along');
    const cut = new Promise((resolve) => owner.once('disconnect', resolve));
    owner.emit('join-ticket', '3');
    // The old connection no longer owns the session.
    await cut;
  });
});

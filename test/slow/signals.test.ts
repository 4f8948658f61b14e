/**
 * protocol §14: how signals end. On time, without a further event; and 5 s after the connection that sent them is gone,
 * or has left the namespace, with one, unless it was recovered. All cases wait at the same time.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  active,
  type Ear,
  freshRoom,
  PLACES,
  type Place,
  post,
  SETTINGS,
  type SocketEar,
  settle,
  socketEar,
  sseEar,
  TYPING,
  VIEWING,
} from '../signals/support.ts';
import { startCutProxy } from '../support/cut-proxy.ts';
import { openRawWebSocket } from '../support/raw-websocket.ts';
import { missing, startRedis } from '../support/redis.ts';
import { startServer } from '../support/server.ts';
import { until } from '../support/until.ts';

const CLEAN_UP_MS = 5_000;
/** A clock may count a little short. */
const SLACK_MS = 50;
const ends = (ear: Ear) => ear.signals().filter(({ payload }) => payload.ttlSeconds === 0);

for (const { name, skip, start } of PLACES) {
  describe(name, { skip, concurrency: true }, () => {
    let place: Place;
    before(async () => {
      place = await start();
    });
    after(() => place.stop());

    /** A sender whose signals, in two rooms, a listener on each transport hears. */
    async function scene(
      run: (scene: {
        sender: SocketEar;
        ears: Ear[];
        proxy: Awaited<ReturnType<typeof startCutProxy>>;
        one: string;
        two: string;
      }) => Promise<void>,
    ) {
      const [one, two] = [freshRoom(), freshRoom()];
      const proxy = await startCutProxy(place.to.url);
      const sender = await socketEar(proxy.url, [one]);
      const ears = [
        await socketEar(place.at.url, [one, two]),
        await socketEar(place.at.url, [one, two], {}, 'polling'),
        await sseEar(place.at.url, [one, two]),
      ];
      for (const room of [one, two]) {
        const signal = { event: TYPING, room, payload: { n: room }, ttlSeconds: 100 };
        assert.deepEqual(await sender.socket.emitWithAck('signal', signal), { ok: true });
      }
      for (const ear of ears) await until('both are heard', () => ear.signals().length === 2);
      await run({ sender, ears, proxy, one, two });
      sender.close();
      for (const ear of ears) ear.close();
      await proxy.close();
    }

    async function endsOnce([one, two]: readonly [string, string], ears: readonly Ear[], since: number): Promise<void> {
      for (const ear of ears) {
        await until(`${ear.transport} hears both ends`, () => ends(ear).length === 2, 20_000);
        assert.deepEqual(
          ends(ear)
            .map(({ payload }) => payload.room)
            .sort(),
          [one, two].sort(),
        );
        for (const { atMs, event } of ends(ear)) {
          assert.equal(event, TYPING);
          assert.ok(atMs - since >= CLEAN_UP_MS - SLACK_MS, `${ear.transport} after ${atMs - since} ms`);
        }
      }
      assert.deepEqual(await active(place.at, [one, two]), []);
      assert.deepEqual(await active(place.to, [one, two]), []);
      await settle(place.to, ears, one);
      for (const ear of ears) assert.equal(ear.signals().length, 4, 'nothing more');
    }

    test('the client leaves the namespace', () =>
      scene(async ({ sender, ears, one, two }) => {
        const since = performance.now();
        sender.socket.disconnect();
        await endsOnce([one, two], ears, since);
      }));

    test('the TCP connection is cut, and nobody comes back', () =>
      scene(async ({ ears, proxy, one, two }) => {
        const since = performance.now();
        proxy.refuse();
        await endsOnce([one, two], ears, since);
      }));

    test('the client is recovered in time: nothing ends, and its signal can be replaced', () =>
      scene(async ({ sender, ears, proxy, one, two }) => {
        proxy.refuse();
        await until('it is gone', () => !sender.socket.connected);
        proxy.retarget(place.at.url);
        proxy.restore();
        await until('it is back', () => sender.socket.connected);
        assert.equal(sender.socket.recovered, true);
        await sleep(CLEAN_UP_MS + 2_000);
        await settle(place.to, ears, one);
        for (const ear of ears) assert.deepEqual(ends(ear), [], ear.transport);
        for (const node of [place.to, place.at]) assert.equal((await active(node, [one, two])).length, 2);
        // Gone for good now: what it sent before its recovery ends, too.
        const since = performance.now();
        sender.socket.disconnect();
        await endsOnce([one, two], ears, since);
      }));

    test('the client comes back too late: its signals have ended', () =>
      scene(async ({ sender, ears, proxy, one, two }) => {
        const since = performance.now();
        proxy.refuse();
        await endsOnce([one, two], ears, since);
        proxy.restore();
        await until('it is back', () => sender.socket.connected);
        assert.equal(sender.socket.recovered, true);
        assert.deepEqual(await active(place.at, [one, two]), []);
        assert.deepEqual(
          await sender.socket.emitWithAck('signal', { event: VIEWING, room: two, payload: { n: 'again' } }),
          { ok: true },
        );
        for (const ear of ears)
          await until('it is heard', () => ear.signals().some(({ payload }) => payload.n === 'again'));
      }));

    test('the client leaves a room: its signals there go on', () =>
      scene(async ({ sender, ears, one }) => {
        assert.equal((await sender.socket.emitWithAck('leave', one)).ok, true);
        await sleep(CLEAN_UP_MS + 1_000);
        await settle(place.to, ears, one);
        for (const ear of ears) assert.deepEqual(ends(ear), []);
        assert.equal((await active(place.at, [one])).filter(({ event }) => event === TYPING).length, 1);
      }));

    test('signals that were ended, or that another connection sent, are not ended again', () =>
      scene(async ({ sender, ears, one, two }) => {
        await sender.socket.emitWithAck('signal', { event: TYPING, room: two, ttlSeconds: 0 });
        await post(place.to, { event: TYPING, room: one, payload: { n: 'post' }, client: 'c', ttlSeconds: 100 });
        await until('it is active there', async () => (await active(place.at, [one])).length === 2);
        for (const ear of ears) await until('the end is heard', () => ends(ear).length === 1);
        sender.socket.disconnect();
        for (const ear of ears) await until('the other end is heard', () => ends(ear).length === 2, 20_000);
        await settle(place.to, ears, one);
        for (const ear of ears)
          assert.deepEqual(
            ends(ear).map(({ payload }) => payload.room),
            [two, one],
          );
        assert.deepEqual(
          (await active(place.at, [one])).filter(({ event }) => event === TYPING).map(({ payload }) => payload.n),
          ['post'],
        );
      }));

    test('a signal ends on time, without a further event, also when its sender is gone', async () => {
      const one = freshRoom();
      const sender = await socketEar(place.to.url, []);
      const ears = [await socketEar(place.at.url, [one]), await sseEar(place.at.url, [one])];
      const sentAt = performance.now();
      await sender.socket.emitWithAck('signal', { event: TYPING, room: one, payload: { n: 1 }, ttlSeconds: 2 });
      for (const ear of ears) await until('it is heard', () => ear.signals().length === 1);
      sender.close();
      await until('it is listed no more', async () => (await active(place.at, [one])).length === 0);
      assert.ok(performance.now() - sentAt >= 2_000 - SLACK_MS, 'not before its time');
      const late = await sseEar(place.at.url, [one]);
      await sleep(CLEAN_UP_MS + 1_500);
      await settle(place.to, [...ears, late], one);
      for (const ear of ears) assert.equal(ear.signals().length, 1);
      assert.deepEqual(late.signals(), []);
      for (const ear of [...ears, late]) ear.close();
    });

    test('renewing postpones the end', async () => {
      const one = freshRoom();
      const sender = await socketEar(place.to.url, []);
      const ear = await sseEar(place.at.url, [one]);
      for (let n = 0; n < 6; n++) {
        await sender.socket.emitWithAck('signal', { event: TYPING, room: one, payload: { n }, ttlSeconds: 3 });
        await sleep(700);
      }
      assert.deepEqual(
        (await active(place.at, [one])).map(({ payload }) => payload.n),
        [5],
      );
      assert.deepEqual(ends(ear), []);
      ear.close();
      sender.close();
    });

    test('the half of a second rule: who joins never keeps a signal longer than its time and a second', async () => {
      const one = freshRoom();
      await post(place.to, { event: TYPING, room: one, payload: { n: 1 }, ttlSeconds: 3 });
      const sentAt = performance.now();
      await until('it is shared', async () => (await active(place.at, [one])).length === 1);
      let joins = 0;
      while (performance.now() - sentAt < 4_000) {
        const askedAt = performance.now();
        const ear = await socketEar(place.at.url, [one]);
        // What is active follows the ack at once; this asks once more, and the answer comes behind it.
        await ear.socket.emitWithAck('leave', freshRoom());
        const [signal] = ear.signals();
        if (signal !== undefined) {
          joins++;
          const { ttlSeconds } = signal.payload as { ttlSeconds: number };
          assert.ok(Number.isInteger(ttlSeconds) && ttlSeconds >= 1 && ttlSeconds <= 3, String(ttlSeconds));
          assert.ok(
            askedAt + ttlSeconds * 1000 <= sentAt + 4_000 + SLACK_MS,
            `${ttlSeconds} s at ${askedAt - sentAt} ms`,
          );
        }
        ear.close();
        await sleep(100);
      }
      assert.ok(joins > 0);
    });
  });
}

test('a websocket that is destroyed', async () => {
  const { to, stop } = await (PLACES[0] as (typeof PLACES)[number]).start();
  const ear = await sseEar(to.url, ['ticket:1']);
  const raw = await openRawWebSocket(to.url);
  raw.send('40');
  await until('CONNECT', () => raw.text().includes('40{'));
  raw.send(`420["${TYPING}",{"ticketId":"1"}]`);
  await until('it is heard', () => ear.signals().length === 1);
  raw.destroy();
  await until('its signal ends', () => ends(ear).length === 1, 20_000);
  ear.close();
  await stop();
});

test('a node that is killed ends no signal of its own: the others drop them when their time is up', {
  skip: missing('redis-server'),
}, async () => {
  const redis = await startRedis();
  const env = { LOG_LEVEL: 'info', STORE_URL: redis.url, SIGNALS: SETTINGS.signals.join(','), AUTH_MODE: 'none' };
  const [dies, lives] = [await startServer(env), await startServer(env)];
  const ear = await sseEar(lives.url, ['ticket:1']);
  const sender = await socketEar(dies.url, []);
  await sender.socket.emitWithAck('signal', { event: TYPING, room: 'ticket:1', payload: { n: 1 }, ttlSeconds: 8 });
  await until('it is heard', () => ear.signals().length === 1);
  await dies.end('SIGKILL');
  await sleep(CLEAN_UP_MS + 1_000);
  assert.equal((await active(lives, ['ticket:1'])).length, 1, 'it has time left');
  await until('it has ended', async () => (await active(lives, ['ticket:1'])).length === 0);
  assert.equal(ear.signals().length, 1);
  sender.close();
  ear.close();
  await lives.end('SIGKILL');
  await redis.stop();
});

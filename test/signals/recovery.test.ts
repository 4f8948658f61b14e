/**
 * protocol §5 and §14: signals and Socket.IO's recovery. No signal becomes a recovery offset; a recovered client misses no
 * record, gets what is active after its first bridge.cursor, and keeps its name and its signals.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { startCutProxy } from '../support/cut-proxy.ts';
import { until } from '../support/until.ts';
import { openWebSocket } from '../support/wires.ts';
import { active, ids, type Json, PLACES, post, settle, socketEar, TYPING, VIEWING } from './support.ts';

const ROOM = 'ticket:1';

for (const { name, skip, start } of PLACES) {
  describe(name, { skip }, () => {
    test('a client that got nothing but signals is recovered and misses nothing', async () => {
      const { to, at, stop } = await start();
      const proxy = await startCutProxy(at.url);
      const ear = await socketEar(proxy.url, [ROOM]);
      const recovered: boolean[] = [];
      ear.socket.on('connect', () => recovered.push(ear.socket.recovered));
      for (let n = 0; n < 5; n++)
        await post(to, {
          event: TYPING,
          room: ROOM,
          payload: { n, text: 'a-string' },
          client: `c${n}`,
          ttlSeconds: 60,
        });
      await until('all are heard', () => ear.signals().length === 5);
      proxy.refuse();
      const published: string[] = [];
      for (let n = 0; n < 3; n++)
        published.push((await to.publish('leads.updated', { tenantId: 't', ticketId: '1', n })).id);
      await until('the connection is gone', () => !ear.socket.connected);
      proxy.retarget(to.url);
      proxy.restore();
      await until('it is back', () => ear.socket.connected);
      assert.deepEqual(recovered, [true]);
      const records = () => ear.heard.filter(({ event }) => event === 'leads.updated');
      await until('it has what it missed', () => records().length === 3);
      assert.deepEqual(
        records().map(({ id }) => id),
        published,
      );
      // The active signals come again, after the first cursor of the new connection.
      await until('the signals come again', () => ear.signals().length === 10);
      const cursors = ear.heard.flatMap(({ event }, index) => (event === 'bridge.cursor' ? [index] : []));
      assert.equal(cursors.length >= 2, true);
      const again = ear.heard.findIndex((each, index) => index > (cursors[1] as number) && each.event === TYPING);
      assert.ok(again > (cursors[1] as number));
      assert.equal(ear.heard.slice(cursors[0], cursors[1]).filter(({ event }) => event === TYPING).length, 5);
      assert.equal(
        ear.heard.some(({ event }) => event === 'bridge.reset'),
        false,
      );
      // Once more, without having received a record since.
      const { id } = await to.publish('leads.updated', { tenantId: 't', ticketId: '1', n: 'live' });
      await until('it is live', () => records().at(-1)?.id === id);
      assert.equal(records().length, 4);
      ear.close();
      await proxy.close();
      await stop();
    });

    test('a recovered sender keeps its name and its signals, and gets none of its own', async () => {
      const { to, at, stop } = await start();
      const proxy = await startCutProxy(to.url);
      const sender = await socketEar(proxy.url, [ROOM]);
      const ear = await socketEar(at.url, [ROOM]);
      const name = sender.socket.id;
      const send = (n: number) =>
        sender.socket.emitWithAck('signal', { event: TYPING, room: ROOM, payload: { n }, ttlSeconds: 60 });
      assert.deepEqual(await send(1), { ok: true });
      await until('it is heard', () => ear.signals().length === 1);
      proxy.refuse();
      await until('it is gone', () => !sender.socket.connected);
      // On a place with two nodes it comes back to the other one.
      proxy.retarget(at.url);
      proxy.restore();
      await until('it is back', () => sender.socket.connected);
      assert.equal(sender.socket.recovered, true);
      assert.equal(sender.socket.id, name);
      assert.deepEqual(await send(2), { ok: true });
      await until('the second is heard', () => ear.signals().length === 2);
      await until('it replaced the first', async () =>
        (await active(to, [ROOM])).some(({ payload }) => payload.n === 2),
      );
      for (const node of [to, at]) {
        assert.deepEqual(
          (await active(node, [ROOM])).map(({ sender: of, payload }) => [of, payload.n]),
          [[name, 2]],
        );
      }
      await settle(to, [sender, ear], ROOM);
      assert.deepEqual(ids(ear.signals()), [1, 2]);
      assert.deepEqual(ids(sender.signals()), []);
      sender.close();
      ear.close();
      await proxy.close();
      await stop();
    });
  });
}

test('no frame of a signal ends in a string, so that no client takes one for an offset', async () => {
  const { to, at, stop } = await (PLACES[0] as (typeof PLACES)[number]).start();
  const wire = openWebSocket(at.url);
  await until('the handshake', () => wire.frames.length > 0);
  wire.send('40');
  await until('CONNECT', () => wire.frames.some((frame) => frame.startsWith('40')));
  wire.send('420["join","ticket:1"]');
  await until('the ack', () => wire.frames.some((frame) => frame.startsWith('430')));
  await post(to, { event: TYPING, room: ROOM, payload: { text: 'string' } });
  await post(to, { event: VIEWING, room: ROOM, ttlSeconds: 0 });
  await until('both come', () => wire.frames.filter((frame) => frame.includes('"tickets.')).length === 2);
  for (const frame of wire.frames.filter((each) => each.includes('"tickets.'))) {
    const args = JSON.parse(frame.slice(2)) as Json[];
    assert.equal(args.length, 2, frame);
    assert.equal(typeof args[1], 'object');
  }
  wire.close();
  await stop();
});

test('a client that has moved on its cursor by records only resumes from the last record, whatever signals came after', async () => {
  const { to, at, stop } = await (PLACES[0] as (typeof PLACES)[number]).start();
  const proxy = await startCutProxy(at.url);
  const ear = await socketEar(proxy.url, [ROOM]);
  const first = await to.publish('leads.updated', { tenantId: 't', ticketId: '1', n: 1 });
  await until('it has the record', () => ear.heard.some(({ id }) => id === first.id));
  await post(to, { event: TYPING, room: ROOM, payload: { n: 1 } });
  await until('it has the signal', () => ear.signals().length === 1);
  proxy.refuse();
  const missed = await to.publish('leads.updated', { tenantId: 't', ticketId: '1', n: 2 });
  proxy.restore();
  await until('it is back', () => ear.heard.some(({ id }) => id === missed.id));
  assert.equal(ear.socket.recovered, true);
  assert.deepEqual(
    ear.heard.filter(({ event }) => event === 'leads.updated').map(({ id }) => id),
    [first.id, missed.id],
  );
  ear.close();
  await proxy.close();
  await stop();
});

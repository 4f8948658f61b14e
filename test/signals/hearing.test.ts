/**
 * protocol §14, the listener's side, on each transport: who gets a signal, in which form, what joiners and leavers get,
 * and what is listed. Once on one node, and once with the sender on another node than the listeners.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { messageNew } from '../support/bridge.ts';
import { until } from '../support/until.ts';
import {
  type Active,
  active,
  type Ear,
  freshRoom,
  type Heard,
  ids,
  type Json,
  listen,
  OLD_TYPING,
  PLACES,
  type Place,
  post,
  request,
  roomQuery,
  type SocketEar,
  settle,
  socketEar,
  sseEar,
  TRANSPORTS,
  TYPING,
  VIEWING,
} from './support.ts';

const idOf = (room: string): string => room.slice(room.indexOf(':') + 1);
const FOUR = ['room', 'from', 'sender', 'ttlSeconds'];

for (const { name, skip, start } of PLACES) {
  describe(name, { skip }, () => {
    let place: Place;
    let sender: SocketEar;
    before(async () => {
      place = await start();
      sender = await socketEar(place.to.url, []);
    });
    after(async () => {
      sender.close();
      await place.stop();
    });

    const send = async (room: string, payload: Json = {}, more: Json = {}): Promise<void> => {
      const ack = await sender.socket.emitWithAck('signal', { event: TYPING, room, payload, ...more });
      assert.deepEqual(ack, { ok: true });
    };
    const everybody = (rooms: readonly string[]): Promise<Ear[]> =>
      Promise.all(TRANSPORTS.map((transport) => listen(transport, place.at, rooms)));
    const readyAll = async (ears: readonly Ear[]): Promise<void> => {
      for (const ear of ears) await ear.ready();
    };
    const heardBy = (ear: Ear, n: unknown): Heard | undefined => ear.signals().find(({ payload }) => payload.n === n);
    const listed = async (room: string): Promise<Active[]> => active(place.at, [room]);
    /** Nodes share signals soon, not at once. */
    const untilListed = (room: string, count: number): Promise<void> =>
      until(`${count} are active`, async () => (await listed(room)).length === count);

    test('everyone in the room gets { ...payload, room, from, sender, ttlSeconds }, in the form of the transport', async () => {
      const room = freshRoom();
      const ears = await everybody([room]);
      await readyAll(ears);
      await send(room, { n: 1, deep: { é: [1, null, '😀'] } }, { ttlSeconds: 30 });
      for (const ear of ears) {
        await until(`${ear.transport} hears it`, () => ear.signals().length > 0);
        const signal = ear.signals()[0] as Heard;
        assert.equal(signal.event, TYPING);
        assert.equal(signal.id, null, ear.transport);
        assert.deepEqual(signal.payload, {
          ...{ n: 1, deep: { é: [1, null, '😀'] } },
          ...{ room, from: null, sender: sender.socket.id, ttlSeconds: 30 },
        });
        assert.deepEqual(Object.keys(signal.payload).slice(-4), FOUR);
        if (signal.args !== undefined) assert.equal(signal.args.length, 1, 'no trailing argument');
        if (ear.transport === 'longpoll') assert.deepEqual(signal.rooms, [room]);
      }
      await settle(place.to, ears, room);
      for (const ear of ears) assert.deepEqual(ids(ear.signals()), [1], ear.transport);
      for (const ear of ears) ear.close();
    });

    test('on SSE a signal is a block without id, of one data line', async () => {
      const room = freshRoom();
      const stream = await sseEar(place.at.url, [room]);
      await send(room, { text: 'a\nb\r\nc\u2028d', n: 1 });
      await until('it is heard', () => stream.signals().length === 1);
      const block = stream
        .text()
        .split('\n\n')
        .find((each) => each.includes(TYPING));
      assert.match(block ?? '', /^event: tickets\.typing\ndata: \{[^\n]*\}$/);
      stream.close();
    });

    test('with legacy=false, cursor=false and after, too', async () => {
      const room = freshRoom();
      const ears = [
        await socketEar(place.at.url, [room], { auth: { legacy: false } }),
        await socketEar(place.at.url, [room], { auth: { cursor: false } }),
        await socketEar(place.at.url, [room], { auth: { cursor: false, legacy: false } }, 'polling'),
        await sseEar(place.at.url, [room], { auth: { legacy: 'false' } }),
        await sseEar(place.at.url, [room], { after: 'start' }),
        await sseEar(place.at.url, [room], { auth: { padding: '100', life: '60' } }),
      ];
      await send(room, { n: 1 });
      for (const ear of ears) await until('it is heard', () => ear.signals().length === 1);
      for (const ear of ears) for (const { args } of ear.signals()) assert.equal(args?.length ?? 1, 1);
      assert.equal(
        ears[1]?.heard.some(({ event }) => event === 'bridge.cursor'),
        false,
      );
      for (const ear of ears) ear.close();
    });

    test('the sending connection gets none of its own, another of the same client does', async () => {
      const room = freshRoom();
      const other = await socketEar(place.at.url, [room]);
      const own = await socketEar(place.to.url, [room]);
      const ack = await own.socket.emitWithAck('signal', { event: TYPING, room, payload: { n: 1 } });
      assert.deepEqual(ack, { ok: true });
      assert.deepEqual(await own.socket.emitWithAck(TYPING, { ticketId: idOf(room), n: 2 }), { ok: true });
      await until('the other hears both', () => other.signals().length === 2);
      // Nor when it leaves the room and joins again, while its signals are active.
      assert.equal((await own.socket.emitWithAck('leave', room)).ok, true);
      assert.equal((await own.socket.emitWithAck('join', room)).ok, true);
      await settle(place.to, [own, other], room);
      assert.deepEqual(ids(own.signals()), []);
      assert.deepEqual(ids(other.signals()), [1, 2]);
      own.close();
      other.close();
    });

    test('a listener in several rooms gets a signal once, and of other rooms none', async () => {
      const [room, second, third] = [freshRoom(), freshRoom('queue'), freshRoom()];
      const ears = await everybody([room, second]);
      await readyAll(ears);
      await send(third, { n: 0 });
      await send(room, { n: 1 });
      for (const ear of ears) await until(`${ear.transport} hears it`, () => heardBy(ear, 1) !== undefined);
      await settle(place.to, ears, second);
      for (const ear of ears) assert.deepEqual(ids(ear.signals()), [1], ear.transport);
      for (const ear of ears) ear.close();
    });

    test('a client that left a room gets none of it', async () => {
      const [room, stays] = [freshRoom(), freshRoom()];
      const ear = await socketEar(place.at.url, [room, stays]);
      await send(room, { n: 1 });
      await until('the first is heard', () => ear.signals().length === 1);
      assert.equal((await ear.socket.emitWithAck('leave-ticket', idOf(room))).ok, true);
      await send(room, { n: 2 });
      await send(stays, { n: 3 });
      await until('that of the other room is heard', () => heardBy(ear, 3) !== undefined);
      await settle(place.to, [ear], stays);
      assert.deepEqual(ids(ear.signals()), [1, 3]);
      ear.close();
    });

    test('`events` filters signals', async () => {
      const room = freshRoom();
      const rows: [readonly string[], string[]][] = [
        [[TYPING], [TYPING]],
        [[VIEWING], [VIEWING]],
        [['leads.updated'], ['leads.updated']],
        [
          [OLD_TYPING, 'leads.updated'],
          [OLD_TYPING, 'leads.updated'],
        ],
        [
          [TYPING, VIEWING, OLD_TYPING, 'leads.updated'],
          [TYPING, VIEWING, OLD_TYPING, 'leads.updated'],
        ],
      ];
      for (const transport of ['sse', 'longpoll'] as const) {
        const ears = await Promise.all(rows.map(([events]) => listen(transport, place.at, [room], { events })));
        for (const event of [TYPING, VIEWING, OLD_TYPING]) {
          await readyAll(ears);
          await send(room, { n: event }, { event });
          for (const [index, [, expected]] of rows.entries()) {
            if (expected.includes(event))
              await until(`${event} is heard`, () => heardBy(ears[index] as Ear, event) !== undefined);
          }
        }
        await readyAll(ears);
        await place.to.publish('leads.updated', { tenantId: 't', ticketId: idOf(room) });
        for (const [index, [, expected]] of rows.entries()) {
          const ear = ears[index] as Ear;
          if (expected.includes('leads.updated'))
            await until('the record is heard', () => ear.heard.some(({ event }) => event === 'leads.updated'));
          const names = ear.heard.map(({ event }) => event).filter((event) => !event.startsWith('bridge.'));
          assert.deepEqual([...new Set(names)].sort(), [...expected].sort(), `${transport} ${expected}`);
        }
        for (const ear of ears) ear.close();
      }
      for (const more of [{}, { after: 'start' }, { wait: 1 }, { limit: 1, after: 'start' }]) {
        const query = roomQuery([room], { events: TYPING, ...more });
        const { status, body } = await request(place.at, `GET /events?${query}`);
        assert.deepEqual({ status, events: body.events }, { status: 200, events: [] }, 'records are filtered out');
      }
      for (const path of ['/sse', '/events']) {
        const { status, body } = await request(
          place.at,
          `GET ${path}?${roomQuery([room], { events: 'tickets.typin' })}`,
        );
        assert.equal(status, 400);
        assert.match(JSON.stringify(body), /tickets\.typing/);
      }
    });

    test('GET /events has signals only with signals=true, and only those that arrive while it waits', async () => {
      const room = freshRoom();
      await send(room, { n: 1 });
      await untilListed(room, 1);
      for (const more of [
        {},
        { after: 'start' },
        { signals: true },
        { signals: true, after: 'start' },
        { signals: true, after: 'now' },
      ]) {
        const { status, body } = await request(place.at, `GET /events?${roomQuery([room], more)}`);
        assert.equal(status, 200, JSON.stringify(body));
        assert.deepEqual(body.events, [], JSON.stringify(more));
      }
      // A poll without `signals` goes on waiting; a record ends it. One with them does not get the active ones.
      const cursor = (await request(place.at, `GET /events?${roomQuery([room], { after: 'now' })}`)).body
        .cursor as string;
      const deaf = request(place.at, `GET /events?${roomQuery([room], { after: cursor, wait: 20 })}`);
      const no = request(place.at, `GET /events?${roomQuery([room], { after: cursor, wait: 20, signals: false })}`);
      const ear = await listen('longpoll', place.at, [room], { after: cursor });
      await until('three polls wait', async () =>
        (await (await fetch(`${place.at.url}/metrics`)).text()).includes(
          'roomcast_connections{transport="longpoll"} 3',
        ),
      );
      assert.deepEqual(ear.signals(), []);
      await send(room, { n: 2 });
      await until('the ear hears it', () => ear.signals().length === 1);
      assert.deepEqual(ids(ear.signals()), [2]);
      const { id } = await place.to.publish('leads.updated', { tenantId: 't', ticketId: idOf(room) });
      for (const answer of [await deaf, await no]) {
        assert.deepEqual(
          answer.body.events.map((item: Heard) => [item.id, item.event]),
          [[id, 'leads.updated']],
        );
      }
      await until('the ear has the record', () => ear.heard.some((item) => item.id === id));
      ear.close();
    });

    test('a poll that a signal ends moves no cursor past a record, and If-None-Match does not hide the signal', async () => {
      const room = freshRoom();
      const { id } = await place.to.publish('leads.updated', { tenantId: 't', ticketId: idOf(room), n: 1 });
      await until(
        'the other node has it',
        async () =>
          (await request(place.at, `GET /events?${roomQuery([room], { after: 'start' })}`)).body.events.length === 1,
      );
      const first = await request(place.at, `GET /events?${roomQuery([room], { after: id })}`);
      const etag = first.headers.get('etag') as string;
      const waiting = request(
        place.at,
        `GET /events?${roomQuery([room], { after: id, wait: 20, signals: true })}`,
        undefined,
        {
          'if-none-match': etag,
        },
      );
      await until('it waits', async () =>
        (await (await fetch(`${place.at.url}/metrics`)).text()).includes(
          'roomcast_connections{transport="longpoll"} 1',
        ),
      );
      await send(room, { n: 2 });
      const answer = await waiting;
      assert.equal(answer.status, 200, 'a signal is something new');
      assert.deepEqual(ids(answer.body.events), [2]);
      assert.equal(answer.body.hasMore, false);
      const { id: next } = await place.to.publish('leads.updated', { tenantId: 't', ticketId: idOf(room), n: 3 });
      const after = await request(
        place.at,
        `GET /events?${roomQuery([room], { after: answer.body.cursor, wait: 20 })}`,
      );
      assert.deepEqual(
        after.body.events.map((item: Heard) => item.id),
        [next],
      );
      assert.notEqual(answer.headers.get('etag'), etag);
    });

    test('GET /signals lists what is active: event, room, from, sender, payload, expiresAt', async () => {
      const [room, second] = [freshRoom(), freshRoom('user')];
      const before = Date.now();
      await send(room, { n: 1, room: 'x' }, { ttlSeconds: 60 });
      await send(second, { n: 2 }, { event: OLD_TYPING, ttlSeconds: 120 });
      await untilListed(room, 1);
      await untilListed(second, 1);
      const signals = await active(place.at, [room, second]);
      assert.deepEqual(
        signals.map(({ expiresAt, ...rest }) => rest).sort((a, b) => (a.room < b.room ? -1 : 1)),
        [
          { event: TYPING, room, from: null, sender: sender.socket.id, payload: { n: 1 } },
          { event: OLD_TYPING, room: second, from: null, sender: sender.socket.id, payload: { n: 2 } },
        ],
      );
      for (const { expiresAt, room: of } of signals) {
        assert.match(expiresAt, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/);
        const end = Date.parse(expiresAt);
        const ttlMs = of === room ? 60_000 : 120_000;
        assert.ok(end > before + ttlMs - 1_001 && end <= Date.now() + ttlMs + 1, expiresAt);
      }
      assert.deepEqual(await active(place.at, [freshRoom()]), []);
    });

    test('there is one active signal per event, room and sender: a new one replaces it', async () => {
      const [room, second] = [freshRoom(), freshRoom()];
      for (let n = 1; n <= 3; n++) await send(room, { n });
      await send(room, { n: 'viewing' }, { event: VIEWING });
      await send(second, { n: 'second' });
      await post(place.to, { event: TYPING, room, payload: { n: 'a' }, client: 'a' });
      await post(place.to, { event: TYPING, room, payload: { n: 'b' }, client: 'b' });
      await post(place.to, { event: TYPING, room, payload: { n: 'b2' }, client: 'b' });
      await untilListed(second, 1);
      await until('four are active', async () => (await listed(room)).some(({ payload }) => payload.n === 'b2'));
      assert.deepEqual((await listed(room)).map(({ payload }) => payload.n).sort(), [3, 'a', 'b2', 'viewing']);
      // Who joins gets the same.
      for (const transport of ['websocket', 'polling', 'sse'] as const) {
        const ear = await listen(transport, place.at, [room]);
        await until(`${transport} hears four`, () => ear.signals().length >= 4);
        await settle(place.to, [ear], room);
        assert.deepEqual(ids(ear.signals()).sort(), [3, 'a', 'b2', 'viewing'], transport);
        ear.close();
      }
    });

    test('ttlSeconds: 0 ends a signal: listeners get it with 0, it is listed no more, and who joins gets none', async () => {
      const room = freshRoom();
      const ears = await everybody([room]);
      await readyAll(ears);
      await send(room, { n: 1 });
      for (const ear of ears) await until(`${ear.transport} hears it`, () => heardBy(ear, 1) !== undefined);
      await readyAll(ears);
      await send(room, { n: 2 }, { ttlSeconds: 0 });
      for (const ear of ears) {
        await until(`${ear.transport} hears the end`, () => ear.signals().length === 2);
        const { payload, event } = ear.signals()[1] as Heard;
        assert.equal(event, TYPING);
        assert.equal(payload.ttlSeconds, 0);
        assert.equal(payload.sender, sender.socket.id);
        assert.equal(payload.room, room);
      }
      assert.deepEqual(await listed(room), []);
      const late = await sseEar(place.at.url, [room]);
      await settle(place.to, [...ears, late], room);
      assert.deepEqual(late.signals(), []);
      // It may begin again.
      await send(room, { n: 3 });
      for (const ear of [...ears, late]) await until(`${ear.transport} hears it`, () => heardBy(ear, 3) !== undefined);
      for (const ear of [...ears, late]) ear.close();
    });

    test('the active signals come after the ack of a join, with the seconds that remain', async () => {
      const room = freshRoom();
      await send(room, { n: 1 }, { ttlSeconds: 60 });
      await untilListed(room, 1);
      for (const transport of ['websocket', 'polling'] as const) {
        const ear = await socketEar(place.at.url, [], {}, transport);
        const order: string[] = [];
        ear.socket.on(TYPING, () => order.push('signal'));
        ear.socket.emit('join-ticket', idOf(room), () => order.push('ack'));
        await until('both came', () => order.length === 2);
        assert.deepEqual(order, ['ack', 'signal']);
        const ttlSeconds = Number(ear.signals()[0]?.payload.ttlSeconds);
        assert.ok(Number.isInteger(ttlSeconds) && ttlSeconds > 30 && ttlSeconds <= 60, String(ttlSeconds));
        // With a replay: the records, the ack, the signals.
        order.length = 0;
        assert.equal((await ear.socket.emitWithAck('leave', room)).ok, true);
        await place.to.publish('leads.updated', { tenantId: 't', ticketId: idOf(room) });
        ear.socket.on('leads.updated', () => order.push('record'));
        ear.socket.emit('join', [room], { after: 'start' }, () => order.push('ack'));
        await until('all came', () => order.includes('signal') && order.includes('record'));
        assert.equal(order.indexOf('ack') < order.indexOf('signal'), true, order.join());
        assert.equal(order.lastIndexOf('record') < order.indexOf('ack'), true, order.join());
        ear.close();
      }
    });

    test('the active signals come after the first bridge.cursor of a stream, also when it resumes', async () => {
      const room = freshRoom();
      const { id } = await place.to.publish('leads.updated', { tenantId: 't', ticketId: idOf(room), n: 'first' });
      await place.to.publish('leads.updated', { tenantId: 't', ticketId: idOf(room), n: 'second' });
      await send(room, { n: 1 }, { ttlSeconds: 60 });
      await untilListed(room, 1);
      for (const after of [undefined, 'now', 'start', id]) {
        const ear = await sseEar(place.at.url, [room], after === undefined ? {} : { after });
        await until('the signal came', () => ear.signals().length === 1);
        assert.equal(ear.heard[0]?.event, 'bridge.cursor');
        assert.equal(ear.signals()[0]?.id, null);
        const expected = after === 'start' ? ['first', 'second'] : after === id ? ['second'] : [];
        const records = () => ear.heard.filter(({ event }) => event === 'leads.updated');
        await until('the records came', () => records().length === expected.length);
        assert.deepEqual(ids(records()), expected);
        ear.close();
      }
    });

    test('a resume with Last-Event-ID gets the active signals once and every record', async () => {
      const room = freshRoom();
      const { id } = await place.to.publish('leads.updated', { tenantId: 't', ticketId: idOf(room), n: 1 });
      await place.to.publish('leads.updated', { tenantId: 't', ticketId: idOf(room), n: 2 });
      await send(room, { n: 's' }, { ttlSeconds: 60 });
      await untilListed(room, 1);
      const ear = await sseEar(place.at.url, [room], { auth: { lastEventId: id } });
      await settle(place.to, [ear], room);
      await until('the record came', () => ear.heard.some(({ event }) => event === 'leads.updated'));
      assert.deepEqual(ids(ear.heard.filter(({ event }) => event === 'leads.updated')), [2]);
      assert.deepEqual(ids(ear.signals()), ['s']);
      ear.close();
    });

    test('a signal is never in the log: not in a replay, not in state, and no cursor moves', async () => {
      const room = freshRoom();
      const cursorNow = async () =>
        (await request(place.at, `GET /events?${roomQuery([room], { after: 'now' })}`)).body.cursor as string;
      const before = await cursorNow();
      for (let n = 0; n < 50; n++) await send(room, { n });
      await untilListed(room, 1);
      assert.equal(await cursorNow(), before);
      const { body } = await request(
        place.at,
        `GET /events?${roomQuery([room, 'tenant:t'], { after: 'start', limit: 1000 })}`,
      );
      assert.deepEqual(
        body.events.filter(({ event }: Heard) => event === TYPING),
        [],
      );
      const ear = await socketEar(place.at.url, []);
      assert.equal((await ear.socket.emitWithAck('join', room, { after: 'start' })).ok, true);
      await settle(place.to, [ear], room);
      assert.deepEqual(ids(ear.signals()), [49]);
      ear.close();
    });

    test('signals and records of one room come together on one connection, records in order', async () => {
      const room = freshRoom();
      const ears = await everybody([room]);
      const published: string[] = [];
      for (let n = 0; n < 40; n++) {
        const [{ id }] = await Promise.all([
          place.to.publish('messages.new', messageNew({ tenantId: 't', ticketId: idOf(room) })),
          send(room, { n }),
        ]);
        published.push(id);
      }
      await settle(place.to, ears, room);
      for (const ear of ears) {
        const records = () => ear.heard.filter(({ event }) => event === 'messages.new').map(({ id }) => id);
        await until(`${ear.transport} has all records`, () => records().length === published.length);
        assert.deepEqual(records(), published, ear.transport);
        const numbers = ids(ear.signals()) as number[];
        assert.deepEqual(
          numbers,
          [...numbers].sort((a, b) => a - b),
          ear.transport,
        );
        if (ear.transport !== 'longpoll') assert.equal(numbers.length, 40, ear.transport);
        ear.close();
      }
    });
  });
}

/** Signals in the client library: over every transport they arrive, end on time, survive a lost connection, and are nobody's own. */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import {
  type ConnectOptions,
  connect,
  type Live,
  type RoomcastEvents,
  type Signal,
  type TransportName,
} from '../../src/client/client.ts';
import { messageNew, startBridge, type TestBridge } from '../support/bridge.ts';
import { startObstacle } from '../support/obstacles.ts';
import { until } from '../support/until.ts';

type Events = RoomcastEvents & {
  'tickets.typing': Signal;
  'tickets.viewing': Signal<{ readonly name: string }>;
};

const TRANSPORTS: readonly TransportName[] = ['websocket', 'sse', 'poll'];
const SIGNALS = ['tickets.typing', 'tickets.viewing'];

let tickets = 0;
const freshTicket = (): string => `signals-${++tickets}`;

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

interface Listener {
  readonly live: Live<Events>;
  /** Each signal that a handler got. */
  readonly heard: { readonly event: string; readonly ttlSeconds: number; readonly transport: string }[];
  /** The rooms whose signals changed. */
  readonly changed: string[];
}

async function listen(options: ConnectOptions, transport: TransportName): Promise<Listener> {
  const live = connect<Events>({ heartbeatMs: 250, patienceMs: 1000, transports: [transport], ...options });
  closing.push(live.close);
  const listener: Listener = { live, heard: [], changed: [] };
  for (const event of ['tickets.typing', 'tickets.viewing'] as const) {
    live.on(event, ({ ttlSeconds }, meta) => {
      assert.equal(meta.cursor, null);
      listener.heard.push({ event: meta.event, ttlSeconds, transport: meta.transport });
    });
  }
  live.on('signals', (room) => listener.changed.push(room));
  await until(`live over ${transport}`, () => live.status.transport === transport);
  return listener;
}

/** What a UI shows of the room. */
const shown = ({ live }: Listener, room: `ticket:${string}`): string[] => live.signals(room).map(({ event }) => event);

describe('signals', () => {
  let bridge: TestBridge;
  before(async () => {
    bridge = await startBridge({ heartbeatMs: 250, retryMs: 50, signals: SIGNALS, rateSignals: 100 });
  });
  after(() => bridge.close());

  for (const from of TRANSPORTS) {
    for (const to of TRANSPORTS) {
      test(`from ${from} to ${to}: it arrives, is listed, ends, and is not the sender's own`, async () => {
        const ticketId = freshTicket();
        const room = `ticket:${ticketId}` as const;
        const options = { url: bridge.url, rooms: { ticketId } };
        const sender = await listen(options, from);
        const listener = await listen(options, to);
        const names: string[] = [];
        listener.live.on('tickets.viewing', ({ name, room: at, from: sub }) => names.push(`${name} ${at} ${sub}`));

        await sender.live.signal('tickets.viewing', room, { name: 'Ana' }, { ttlSeconds: 60 });
        await until('listed', () => shown(listener, room).length === 1);
        const [active] = listener.live.signals({ ticketId });
        assert.equal(active?.event, 'tickets.viewing');
        assert.deepEqual(active?.payload, { name: 'Ana' });
        assert.equal(active.from, null);
        const leftMs = active.expiresAt.getTime() - Date.now();
        assert.ok(leftMs > 50_000 && leftMs <= 60_000, `${leftMs}`);

        await sender.live.signal('tickets.viewing', { ticketId }, { name: 'Ana' }, { ttlSeconds: 0 });
        await until('ended', () => shown(listener, room).length === 0);
        // A poll may learn of a signal from the list.
        if (to !== 'poll') {
          assert.deepEqual(names, [`Ana ${room} null`, `Ana ${room} null`]);
          assert.deepEqual(
            listener.heard.map(({ ttlSeconds, transport }) => [ttlSeconds, transport]),
            [
              [60, to],
              [0, to],
            ],
          );
        }
        assert.deepEqual(listener.changed, [room, room]);
        assert.deepEqual(sender.heard, []);
        assert.deepEqual(sender.live.signals(), []);
      });
    }

    test(`a signal expires on time over ${from}, with no timer left`, async () => {
      const ticketId = freshTicket();
      const room = `ticket:${ticketId}` as const;
      const options = { url: bridge.url, rooms: { ticketId } };
      const listener = await listen(options, from);
      const sender = await listen(options, 'websocket');
      await sender.live.signal('tickets.typing', room, {}, { ttlSeconds: 1 });
      await until('shown', () => shown(listener, room).length === 1);
      await until('expired', () => listener.changed.length === 2);
      assert.deepEqual(shown(listener, room), []);
      assert.ok(!listener.heard.some(({ ttlSeconds }) => ttlSeconds === 0), 'nothing arrived');
    });

    test(`what is active when a client starts over ${from}, or joins a room, is known`, async () => {
      const [first, second] = [freshTicket(), freshTicket()];
      const sender = await listen({ url: bridge.url, rooms: { ticketId: [first, second] } }, 'websocket');
      for (const ticketId of [first, second]) {
        await sender.live.signal('tickets.viewing', { ticketId }, { name: 'Ana' }, { ttlSeconds: 100 });
      }
      const listener = await listen({ url: bridge.url, rooms: { ticketId: first } }, from);
      await until('the first', () => shown(listener, `ticket:${first}`).length === 1);
      assert.deepEqual(shown(listener, `ticket:${second}`), []);
      await listener.live.join({ ticketId: second });
      await until('the second', () => shown(listener, `ticket:${second}`).length === 1);
      await listener.live.leave({ ticketId: first });
      assert.deepEqual(shown(listener, `ticket:${first}`), []);
      assert.equal(listener.changed.at(-1), `ticket:${first}`);
      assert.equal(listener.live.signals().length, 1);
    });

    test(`signals beside records over ${from} change neither the cursor nor the order`, async () => {
      const ticketId = freshTicket();
      const options = { url: bridge.url, rooms: { ticketId } };
      const listener = await listen(options, from);
      const sender = await listen(options, 'websocket');
      const cursors: string[] = [];
      listener.live.on('messages.new', (_, { cursor }) => cursors.push(cursor));
      const published: string[] = [];
      for (let round = 0; round < 30; round++) {
        await sender.live.signal('tickets.viewing', { ticketId }, { name: `n ${round}` });
        published.push((await bridge.publish('messages.new', messageNew({ ticketId }))).id);
      }
      await until('all records', () => cursors.length === published.length);
      assert.deepEqual(cursors, published);
      await until('the last signal', () => {
        const [viewing] = listener.live.signals({ ticketId });
        return viewing?.event === 'tickets.viewing' && viewing.payload.name === 'n 29';
      });
      assert.equal(listener.live.cursor, published.at(-1));
    });

    test(`what ended while ${from} was cut off is not shown after the reconnect, and what is active is`, async () => {
      const ticketId = freshTicket();
      const room = `ticket:${ticketId}` as const;
      const between = await startObstacle(bridge.url);
      closing.push(between.close);
      const listener = await listen({ url: between.url, rooms: { ticketId } }, from);
      const [ana, bo] = [
        await listen({ url: bridge.url, rooms: { ticketId } }, 'websocket'),
        await listen({ url: bridge.url, rooms: { ticketId } }, 'websocket'),
      ];
      await ana.live.signal('tickets.viewing', room, { name: 'Ana' }, { ttlSeconds: 100 });
      await until('shown', () => shown(listener, room).length === 1);
      between.retarget('http://127.0.0.1:1');
      between.cut();
      await until('cut off', () => listener.live.status.state === 'reconnecting');
      await ana.live.signal('tickets.viewing', room, { name: 'Ana' }, { ttlSeconds: 0 });
      await bo.live.signal('tickets.viewing', room, { name: 'Bo' }, { ttlSeconds: 100 });
      between.retarget(bridge.url);
      await until(
        'the truth',
        () =>
          listener.live
            .signals(room)
            .map((one) => Object(one.payload).name)
            .join() === 'Bo',
      );
    });
  }
});

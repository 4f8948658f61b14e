/** Signals in the client library: over every transport they arrive, end on time, survive a lost connection, and are nobody's own. */
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { after, afterEach, before, describe, mock, test } from 'node:test';
import { promisify } from 'node:util';
import { SignJWT } from 'jose';
import {
  type ConnectOptions,
  connect,
  type Live,
  type RoomcastError,
  type RoomcastEvents,
  type Signal,
  type TransportName,
} from '../../src/client/client.ts';
import type { Config } from '../../src/config.ts';
import { messageNew, metric, startBridge, type TestBridge } from '../support/bridge.ts';
import { type Obstacle, startObstacle } from '../support/obstacles.ts';
import { until } from '../support/until.ts';

type Events = RoomcastEvents & {
  'tickets.typing': Signal;
  'tickets.viewing': Signal<{ readonly name: string }>;
};

const TRANSPORTS: readonly TransportName[] = ['websocket', 'sse', 'poll'];
const SIGNALS = ['tickets.typing', 'tickets.viewing'];

const SECRET = 'a secret that is long enough for HS256';
const tokenOf = (claims: object): Promise<string> =>
  new SignJWT({ ...claims })
    .setProtectedHeader({ alg: 'HS256' })
    .setIssuedAt()
    .setExpirationTime('1h')
    .sign(new TextEncoder().encode(SECRET));

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

  async function activeAt(ticketId: string): Promise<{ event: string; sender: string; payload: object }[]> {
    const response = await fetch(`${bridge.url}/signals?ticketId=${ticketId}`);
    return ((await response.json()) as { signals: [] }).signals;
  }

  /** How many signals of tickets the bridge has accepted. */
  const accepted = (event: string): Promise<number> =>
    metric(bridge, `ws_emit_total{event="${event}",room="ticket:*"}`);

  async function between(): Promise<Obstacle> {
    const started = await startObstacle(bridge.url);
    closing.push(started.close);
    return started;
  }

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
      const network = await between();
      const listener = await listen({ url: network.url, rooms: { ticketId } }, from);
      const [ana, bo] = [
        await listen({ url: bridge.url, rooms: { ticketId } }, 'websocket'),
        await listen({ url: bridge.url, rooms: { ticketId } }, 'websocket'),
      ];
      await ana.live.signal('tickets.viewing', room, { name: 'Ana' }, { ttlSeconds: 100 });
      await until('shown', () => shown(listener, room).length === 1);
      network.retarget('http://127.0.0.1:1');
      network.cut();
      await until('cut off', () => listener.live.status.state === 'reconnecting');
      await ana.live.signal('tickets.viewing', room, { name: 'Ana' }, { ttlSeconds: 0 });
      await bo.live.signal('tickets.viewing', room, { name: 'Bo' }, { ttlSeconds: 100 });
      network.retarget(bridge.url);
      await until(
        'the truth',
        () =>
          listener.live
            .signals(room)
            .map((one) => Object(one.payload).name)
            .join() === 'Bo',
      );
    });

    test(`one call of signal on each keystroke is one send over ${from}, and its end comes last`, async () => {
      const ticketId = freshTicket();
      const sender = await listen({ url: bridge.url, rooms: { ticketId } }, from);
      const listener = await listen({ url: bridge.url, rooms: { ticketId } }, 'websocket');
      const before = await accepted('tickets.typing');
      const type = (ttlSeconds?: number) =>
        sender.live.signal('tickets.typing', { ticketId }, {}, ttlSeconds === undefined ? {} : { ttlSeconds });
      const keystrokes = Array.from({ length: 50 }, () => type());
      const ended = type(0);
      await Promise.all([...keystrokes, ended]);
      await until('ended', () => listener.heard.length === 2);
      assert.deepEqual(
        listener.heard.map(({ ttlSeconds }) => ttlSeconds),
        [10, 0],
      );
      await type();
      await until('shown again', () => shown(listener, `ticket:${ticketId}`).length === 1);
      assert.equal(await accepted('tickets.typing'), before + 3);
    });

    test(`of signals that differ, those between the first and the newest are dropped over ${from}`, async () => {
      const ticketId = freshTicket();
      const sender = await listen({ url: bridge.url, rooms: { ticketId } }, from);
      const before = await accepted('tickets.viewing');
      const names = Array.from({ length: 20 }, (_, at) => `${at}`);
      await Promise.all(names.map((name) => sender.live.signal('tickets.viewing', { ticketId }, { name })));
      assert.deepEqual(
        (await activeAt(ticketId)).map(({ payload }) => payload),
        [{ name: '19' }],
      );
      assert.equal(await accepted('tickets.viewing'), before + 2);
    });

    test(`a kept signal is renewed over ${from} until it is stopped, the room is left, or the client is closed`, async () => {
      for (const stop of ['stop', 'leave', 'close'] as const) {
        const ticketId = freshTicket();
        const room = `ticket:${ticketId}` as const;
        const sender = await listen({ url: bridge.url, rooms: { ticketId }, patienceMs: 10_000 }, from);
        const listener = await listen({ url: bridge.url, rooms: { ticketId } }, 'websocket');
        const before = await accepted('tickets.viewing');
        const stopKeeping = sender.live.keep('tickets.viewing', room, { name: 'Ana' }, { ttlSeconds: 4 });
        // It is renewed about every 2 s: four times need more than 4 s.
        await until('renewed', () => listener.heard.length >= (stop === 'stop' ? 4 : 1));
        assert.deepEqual(listener.changed, [room], 'it was active all the time');
        if (stop === 'stop') stopKeeping();
        else if (stop === 'leave') await sender.live.leave({ ticketId });
        else sender.live.close();
        await until('ended', () => listener.heard.at(-1)?.ttlSeconds === 0);
        stopKeeping();
        // The bridge itself ends the signals of a closed websocket, but later, and does not count that.
        assert.equal((await accepted('tickets.viewing')) - before, listener.heard.length);
      }
    });

    test(`a kept signal survives a lost connection over ${from}, and is nobody's own`, async () => {
      const ticketId = freshTicket();
      const room = `ticket:${ticketId}` as const;
      const network = await between();
      const sender = await listen({ url: network.url, rooms: { ticketId } }, from);
      const listener = await listen({ url: bridge.url, rooms: { ticketId } }, 'websocket');
      sender.live.keep('tickets.viewing', room, { name: 'Ana' }, { ttlSeconds: 2 });
      await until('shown', () => shown(listener, room).length === 1);
      let losses = 0;
      sender.live.on('status', ({ state }) => {
        if (state === 'reconnecting') losses++;
      });
      const sendersBefore = listener.live.signals(room).map((one) => one.sender);
      for (let round = 0; round < 2; round++) {
        const before = losses;
        await until('lost', () => {
          network.cut();
          return losses > before;
        });
        await until('back', () => sender.live.status.state === 'live');
      }
      await until('renewed since', () => {
        const senders = listener.live.signals(room).map((one) => one.sender);
        return senders.length === 1 && (from !== 'websocket' || !sendersBefore.includes(senders[0] as string));
      });
      assert.deepEqual(sender.heard, []);
      assert.deepEqual(sender.live.signals(), []);
    });

    test(`refusals over ${from} say what is wrong`, async () => {
      const ticketId = freshTicket();
      const { live } = await listen({ url: bridge.url, rooms: { ticketId } }, from);
      const untyped = live as Live<Record<string, unknown>>;
      await assert.rejects(untyped.signal('tickets.dancing', { ticketId }), {
        name: 'RoomcastError',
        code: 'unknown_event',
        passing: false,
      });
      for (const [payload, options] of [
        [{ name: 'x'.repeat(5000) }, {}],
        [{ name: 'x' }, { ttlSeconds: 121 }],
        [{ name: 'x' }, { ttlSeconds: 1.5 }],
      ] as const) {
        await assert.rejects(live.signal('tickets.viewing', { ticketId }, payload, options), {
          name: 'RoomcastError',
          code: 'invalid_signal',
          passing: false,
        });
      }
      live.close();
      await assert.rejects(live.signal('tickets.typing', { ticketId }), { name: 'RoomcastError', code: 'closed' });
    });

    test(`past RATE_SIGNALS over ${from}, signal rejects and keep tries again`, async () => {
      const slow = await startBridge({ heartbeatMs: 250, retryMs: 50, signals: SIGNALS, rateSignals: 2 });
      closing.push(slow.close);
      const ticketIds = Array.from({ length: 3 }, freshTicket);
      const { live } = await listen({ url: slow.url, rooms: { ticketId: ticketIds } }, from);
      const results = await Promise.allSettled(
        ticketIds.map((ticketId) => live.signal('tickets.typing', { ticketId }, {}, { ttlSeconds: 1 })),
      );
      const codes = results.flatMap((result) => (result.status === 'rejected' ? [result.reason.code] : []));
      assert.ok(codes.length > 0 && codes.every((code) => code === 'rate_limited'), codes.join());
      const listener = await listen({ url: slow.url, rooms: { ticketId: ticketIds } }, 'sse');
      const failed: RoomcastError[] = [];
      const onError = (error: RoomcastError): void => void failed.push(error);
      for (const ticketId of ticketIds)
        live.keep('tickets.viewing', { ticketId }, { name: 'Ana' }, { ttlSeconds: 60, onError });
      await until('all are shown', () => new Set(listener.live.signals().map(({ room }) => room)).size === 3);
      assert.deepEqual(failed, []);
    });
  }

  test('a signal that moves from requests to the websocket ends where it was, and none comes back as that of another', async () => {
    const ticketId = freshTicket();
    const room = `ticket:${ticketId}` as const;
    const network = await between();
    network.habits.upgrade = 'refuse';
    const options = { url: network.url, rooms: { ticketId }, transports: ['websocket', 'sse'] as const };
    const sender = await listen(options, 'sse');
    const listener = await listen({ url: bridge.url, rooms: { ticketId } }, 'websocket');
    sender.live.keep('tickets.viewing', room, { name: 'Ana' }, { ttlSeconds: 120 });
    await sender.live.signal('tickets.typing', room, {}, { ttlSeconds: 60 });
    await until('shown', () => shown(listener, room).length === 2);
    const [posted] = await activeAt(ticketId);
    assert.match(posted?.sender ?? '', /\.\w+$/);
    network.habits.upgrade = 'pass';
    await until('a websocket', () => sender.live.status.transport === 'websocket');
    await until('moved', async () => {
      const viewing = (await activeAt(ticketId)).filter(({ event }) => event === 'tickets.viewing');
      return viewing.length === 1 && !viewing[0]?.sender.includes('.');
    });
    assert.deepEqual(sender.live.signals(), []);
    // Back to requests: the signals of the websocket are its own, too.
    network.habits.upgrade = 'refuse';
    network.cut();
    await until('a stream', () => sender.live.status.transport === 'sse');
    await until('sent again', async () => (await activeAt(ticketId)).some(({ sender }) => sender === posted?.sender));
    await until('the bridge ended those of the websocket', async () => {
      return (await activeAt(ticketId)).every(({ sender }) => sender.includes('.'));
    });
    assert.deepEqual(sender.heard, []);
    assert.deepEqual(sender.live.signals(), []);
    assert.deepEqual(sender.changed, []);
  });

  test('two keeps of one signal: the second stays when the first is stopped', async () => {
    const ticketId = freshTicket();
    const room = `ticket:${ticketId}` as const;
    const sender = await listen({ url: bridge.url, rooms: { ticketId } }, 'websocket');
    const listener = await listen({ url: bridge.url, rooms: { ticketId } }, 'websocket');
    const first = sender.live.keep('tickets.viewing', room, { name: 'one' });
    const second = sender.live.keep('tickets.viewing', room, { name: 'two' });
    await until('shown', () => listener.heard.length > 0);
    first();
    await until('the second', async () => JSON.stringify((await activeAt(ticketId))[0]?.payload) === '{"name":"two"}');
    assert.ok(!listener.heard.some(({ ttlSeconds }) => ttlSeconds === 0));
    second();
    await until('ended', () => listener.heard.at(-1)?.ttlSeconds === 0);
  });

  test('a lasting refusal ends a keep, and goes to onError once, or to the console', async () => {
    const ticketId = freshTicket();
    const { live } = await listen({ url: bridge.url, rooms: { ticketId } }, 'websocket');
    const untyped = live as Live<Record<string, unknown>>;
    const failed: string[] = [];
    const stop = untyped.keep('tickets.dancing', { ticketId }, {}, { onError: ({ code }) => failed.push(code) });
    await until('refused', () => failed.length > 0);
    stop();
    const log = mock.method(console, 'error', () => {});
    closing.push(() => log.mock.restore());
    untyped.keep('tickets.dancing', { ticketId });
    await until('said', () => log.mock.callCount() === 1);
    const [text] = log.mock.calls[0]?.arguments ?? [];
    assert.match(
      text,
      /^roomcast: "tickets\.dancing" is not kept in ticket:signals-\d+: unknown_event: No signal has the name/,
    );
    assert.deepEqual(failed, ['unknown_event']);
    live.close();
    live.keep('tickets.viewing', { ticketId }, { name: 'Ana' }, { onError: ({ code }) => failed.push(code) });
    await until('closed', () => failed.includes('closed'));
  });

  test('mistakes are TypeErrors', async () => {
    const { live } = await listen({ url: bridge.url, rooms: { ticketId: 'x' }, extraEvents: SIGNALS }, 'poll');
    const untyped = live as unknown as Record<'signal' | 'keep' | 'signals', (...args: unknown[]) => unknown>;
    for (const [args, message] of [
      [['tickets.typing', 'ticket'], /^room must be one room, such as 'ticket:1' or { ticketId: '1' }\.$/],
      [['tickets.typing', { tenantId: 't', ticketId: '1' }], /^room must be one room/],
      [['tickets.typing', { ticketId: [] }], /^room must be one room/],
      [['tickets.typing', { ticket: '1' }], /^The field "ticket" of rooms must be ticketId/],
      [['tickets.typing', undefined], /^rooms must be an object/],
      [['tickets.typing', 'ticket:1', {}, { ttl: 5 }], /^The option "ttl" must be one of ttlSeconds, tenantId/],
      [['tickets.typing', 'ticket:1', {}, { ttlSeconds: '5' }], /^ttlSeconds must be a number of at least [01]\.$/],
      [['tickets.typing', 'ticket:1', {}, { tenantId: '' }], /^tenantId must be an id/],
      [['tickets.tipping', 'ticket:1'], /^No event is named "tickets\.tipping"/],
    ] as const) {
      await assert.rejects(async () => untyped.signal(...args), { name: 'TypeError', message });
      assert.throws(() => untyped.keep(...args), { name: 'TypeError', message });
    }
    assert.throws(() => untyped.keep('tickets.typing', 'ticket:1', {}, { ttlSeconds: 0 }), { name: 'TypeError' });
    assert.throws(() => untyped.signals('ticket'), { name: 'TypeError', message: /^room must be one room/ });
    assert.throws(() => live.on('signal' as 'signals', () => {}), /Use signals,/);
  });

  test('what a signal holds is typed as it is declared', async () => {
    const { live } = await listen({ url: bridge.url, rooms: { ticketId: 'typed' } }, 'poll');
    const types = (): void => {
      live.on('tickets.viewing', ({ name, sender, ttlSeconds }, { cursor }) => [
        name.length,
        sender,
        ttlSeconds,
        cursor,
      ]);
      live.on('messages.new', (_, { cursor }) => cursor.length);
      for (const one of live.signals('ticket:1'))
        if (one.event === 'tickets.viewing') one.payload.name.length.toFixed();
      // @ts-expect-error: not declared
      void live.signal('tickets.dancing', 'ticket:1');
      // @ts-expect-error: an event is no signal
      void live.signal('messages.new', 'ticket:1');
      // @ts-expect-error: another payload
      void live.signal('tickets.viewing', 'ticket:1', { name: 1 });
      // @ts-expect-error: not a declared kind
      live.keep('tickets.typing', 'queue:1');
      // @ts-expect-error: not a declared kind
      live.keep('tickets.typing', { queueId: 1 });
      const kinds = connect<Events, 'queue'>({ url: bridge.url });
      kinds.keep('tickets.typing', { queueId: 1 });
      void kinds.signal('tickets.viewing', 'queue:1', { name: 'Ana' }, { tenantId: 7 });
    };
    assert.equal(typeof types, 'function');
  });
});

test('with tokens, a signal needs the scope, and the tenant if the token has several', async () => {
  const config: Partial<Config> = { authMode: 'jwt', jwtSecret: SECRET, heartbeatMs: 250, signals: SIGNALS };
  const bridge = await startBridge(config);
  closing.push(bridge.close);
  for (const transport of TRANSPORTS) {
    const ticketId = freshTicket();
    const as = async (claims: object) =>
      listen({ url: bridge.url, rooms: { ticketId }, token: await tokenOf(claims) }, transport);
    const ana = await as({ sub: 'ana', tenantId: ['t1', 't2'], scope: 'subscribe signal' });
    const bo = await as({ sub: 'bo', tenantId: 't1', scope: 'subscribe' });
    const other = await as({ sub: 'eve', tenantId: 't2', scope: 'subscribe signal' });
    await assert.rejects(bo.live.signal('tickets.typing', { ticketId }), { code: 'forbidden', message: /signal/ });
    await assert.rejects(ana.live.signal('tickets.typing', { ticketId }), {
      code: 'invalid_signal',
      message: /tenantId/,
    });
    await ana.live.signal('tickets.viewing', { ticketId }, { name: 'Ana' }, { tenantId: 't1' });
    await until('shown', () => bo.live.signals().length === 1);
    assert.equal(bo.live.signals()[0]?.from, 'ana');
    await other.live.signal('tickets.typing', { ticketId });
    await until('shown in its tenant', () => ana.live.signals().length === 1);
    assert.equal(bo.live.signals().length, 1);
    assert.deepEqual(other.live.signals(), []);
  }
});

test('the list of signals is right where the clock is wrong', async () => {
  const bridge = await startBridge({ signals: SIGNALS });
  closing.push(bridge.close);
  const sender = await listen({ url: bridge.url, rooms: { ticketId: 'clock' } }, 'websocket');
  await sender.live.signal('tickets.typing', 'ticket:clock', {}, { ttlSeconds: 60 });
  const client = new URL('../../src/client/client.ts', import.meta.url).href;
  for (const aheadMs of [3_600_000, -3_600_000]) {
    const script = `
      const now = Date.now;
      Date.now = () => now() + ${aheadMs};
      const { connect } = await import(${JSON.stringify(client)});
      const live = connect({ url: ${JSON.stringify(bridge.url)}, rooms: { ticketId: 'clock' }, transports: ['poll'] });
      const stop = live.on('signals', () => {
        stop();
        const [{ expiresAt }] = live.signals();
        console.log(Math.round((expiresAt - Date.now()) / 10_000));
        live.close();
      });
    `;
    const args = ['--disable-warning=ExperimentalWarning', '--input-type=module', '--eval', script];
    const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 20_000 });
    assert.match(stdout, /^[3-6]\n$/);
  }
});

test('the library touches no member of a browser when it is imported', () => {
  const client = new URL('../../src/client/client.ts', import.meta.url).href;
  const script = `
    for (const name of ['document', 'addEventListener', 'location']) {
      Object.defineProperty(globalThis, name, { get() { throw new Error(name + ' was read'); } });
    }
    console.log(typeof (await import(${JSON.stringify(client)})).connect);
  `;
  const args = ['--disable-warning=ExperimentalWarning', '--input-type=module', '--eval', script];
  assert.equal(execFileSync(process.execPath, args, { encoding: 'utf8' }), 'function\n');
});

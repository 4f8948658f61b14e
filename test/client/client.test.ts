/**
 * The client library on bad networks: it falls back to a transport that works, and returns to better ones, and the
 * application receives every event of the log once and in order.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { type ConnectOptions, connect, type Live, type Status } from '../../src/client/client.ts';
import type { TransportName } from '../../src/client/events.ts';
import { messageNew, metric, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { type Obstacle, startObstacle } from '../support/obstacles.ts';
import { keepPublishing, type Publishing } from '../support/publishing.ts';
import { startServer } from '../support/server.ts';
import { until } from '../support/until.ts';

let tenants = 0;
const freshTenant = (): string => `sdk-${++tenants}`;

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const WEBSOCKET_DELIVERIES = 'roomcast_deliveries_total{transport="websocket",event="messages.new"}';

const MUTE = { upgrade: 'swallow' } as const;

interface Listener {
  readonly live: Live;
  readonly heard: string[];
  /** The transport of each event. */
  readonly by: string[];
  readonly states: Status[];
}

function listen(options: ConnectOptions): Listener {
  const live = connect({ heartbeatMs: 250, patienceMs: 500, ...options });
  closing.push(live.close);
  const listener: Listener = { live, heard: [], by: [], states: [] };
  for (const event of ['messages.new', 'tickets.updated'] as const) {
    live.on(event, (_payload, { cursor, transport }) => {
      listener.heard.push(cursor);
      listener.by.push(transport);
    });
  }
  live.on('status', (status) => listener.states.push(status));
  return listener;
}

const liveOver = (listener: Listener, transport: string) =>
  // Before Engine.IO's own time-out of 45 s would end a silent websocket.
  until(`live over ${transport}`, () => listener.live.status.transport === transport, 25_000);

/** Publishes both events in turn, without a pause, until `stop`, which returns the cursors in order. */
function publishOn(bridge: Pick<TestBridge, 'publish'>, tenantId: string): Publishing {
  const overrides = { tenantId, agreementId: null };
  let count = 0;
  const publishing = keepPublishing(async () => {
    const { id } = await (count++ % 2 === 0
      ? bridge.publish('messages.new', messageNew(overrides))
      : bridge.publish('tickets.updated', ticketUpdated(overrides)));
    return id;
  });
  closing.push(publishing.stop);
  return publishing;
}

async function heardAll(listener: Listener, published: readonly string[]): Promise<void> {
  await until('all heard', () => listener.heard.length >= published.length);
  assert.deepEqual(listener.heard, published);
}

describe('on a bad network', () => {
  let bridge: TestBridge;
  before(async () => {
    bridge = await startBridge({ heartbeatMs: 250, retryMs: 50, extraEvents: ['leads.updated'] });
  });
  after(() => bridge.close());

  async function obstacle(habits: Partial<Obstacle['habits']> = {}): Promise<Obstacle> {
    const started = await startObstacle(bridge.url, habits);
    closing.push(started.close);
    return started;
  }

  test('a good network has a websocket', async () => {
    const listener = listen({ url: bridge.url, rooms: { tenantId: freshTenant() } });
    await liveOver(listener, 'websocket');
    assert.equal(listener.live.status.state, 'live');
  });

  for (const [name, habits, lands] of [
    ['refuses upgrades', { upgrade: 'refuse' }, 'sse'],
    ['accepts upgrades and drops the frames', { upgrade: 'swallow' }, 'sse'],
    ['refuses upgrades and holds streams back', { upgrade: 'refuse', sse: 'hold' }, 'poll'],
    ['drops frames and refuses streams', { upgrade: 'swallow', sse: 'refuse' }, 'poll'],
  ] as const) {
    test(`a network that ${name} uses ${lands}, and a websocket when it improves`, async () => {
      const tenantId = freshTenant();
      const between = await obstacle(habits);
      // With a long heartbeat, only `patienceMs` can end a transport.
      const listener = listen({ url: between.url, rooms: { tenantId }, heartbeatMs: 60_000 });
      await until('begun', () => listener.live.cursor !== null);
      const publishing = publishOn(bridge, tenantId);
      await liveOver(listener, lands);
      await until('heard over it', () => listener.by.includes(lands));
      Object.assign(between.habits, { upgrade: 'pass', sse: 'pass' });
      await liveOver(listener, 'websocket');
      const heard = listener.heard.length;
      await until('heard over the websocket', () => listener.heard.length > heard + 20);
      await heardAll(listener, await publishing.stop());
      assert.equal(listener.by.at(-1), 'websocket');
    });
  }

  test('a websocket that falls silent is replaced, and its lost events arrive over another transport', async () => {
    const tenantId = freshTenant();
    const between = await obstacle();
    const listener = listen({ url: between.url, rooms: { tenantId } });
    await liveOver(listener, 'websocket');
    const publishing = publishOn(bridge, tenantId);
    await until('some heard', () => listener.heard.length > 20);
    between.habits.upgrade = 'swallow';
    await liveOver(listener, 'sse');
    await until('more heard', () => listener.by.includes('sse'));
    await heardAll(listener, await publishing.stop());
  });

  test('a stream that falls silent is replaced', async () => {
    const tenantId = freshTenant();
    const between = await obstacle();
    const listener = listen({ url: between.url, rooms: { tenantId }, transports: ['sse', 'poll'] });
    await liveOver(listener, 'sse');
    between.habits.sse = 'hold';
    const publishing = publishOn(bridge, tenantId);
    await liveOver(listener, 'poll');
    await until('more heard', () => listener.by.filter((by) => by === 'poll').length > 20);
    await heardAll(listener, await publishing.stop());
  });

  for (const [name, transports, die] of [
    ['a websocket that is cut', ['websocket', 'sse', 'poll'], ({ cut }) => cut()],
    ['a websocket that falls silent', ['websocket', 'sse', 'poll'], ({ habits }) => Object.assign(habits, MUTE)],
    ['a stream that is cut', ['sse', 'poll'], ({ cut }) => cut()],
    ['a stream that falls silent', ['sse', 'poll'], ({ habits }) => Object.assign(habits, { sse: 'hold' })],
    [
      'a websocket that is cut and then refused',
      ['websocket', 'sse', 'poll'],
      ({ habits, cut }) => {
        Object.assign(habits, { upgrade: 'refuse', sse: 'hold' });
        cut();
      },
    ],
  ] as readonly (readonly [string, readonly TransportName[], (between: Obstacle) => void])[]) {
    test(`the time without events after ${name}`, async (t) => {
      const between = await obstacle();
      const times: number[] = [];
      for (let round = 0; round < 5; round++) {
        Object.assign(between.habits, { upgrade: 'pass', sse: 'pass' });
        const tenantId = freshTenant();
        // Each at a new origin, for which no transport is remembered.
        const url = between.url.replace('127.0.0.1', `127.0.0.${round + 2}`);
        const listener = listen({ url, rooms: { tenantId }, transports });
        await liveOver(listener, transports[0] as string);
        die(between);
        const diedAtMs = performance.now();
        const { id } = await bridge.publish('messages.new', messageNew({ tenantId }));
        await heardAll(listener, [id]);
        times.push(performance.now() - diedAtMs);
        listener.live.close();
      }
      t.diagnostic(`${name}: first event over the next transport after ${times.map(Math.round).join(', ')} ms`);
    });
  }

  test('connections that are cut every few hundred milliseconds lose no event', async () => {
    const tenantId = freshTenant();
    const between = await obstacle();
    const listener = listen({ url: between.url, rooms: { tenantId } });
    await liveOver(listener, 'websocket');
    between.habits.cutEveryMs = 200;
    const publishing = publishOn(bridge, tenantId);
    await until('a long list', () => between.cuts > 12 && listener.heard.length > 1000);
    await heardAll(listener, await publishing.stop());
  });

  test('a network that cuts long answers delivers the missed events in shorter ones', async () => {
    const tenantId = freshTenant();
    const events = Array.from({ length: 500 }, () => ({
      event: 'messages.new',
      payload: messageNew({ tenantId, agreementId: null, message: { content: 'x'.repeat(1000) } }),
    }));
    const { body } = await bridge.post({ events });
    const between = await obstacle({ mostPollBytes: 100_000 });
    const listener = listen({ url: between.url, rooms: { tenantId }, after: 'start' });
    await heardAll(
      listener,
      body.results.map(({ id }) => id),
    );
    await liveOver(listener, 'websocket');
  });

  test('the next connection begins with the transport that worked', async () => {
    const between = await obstacle({ upgrade: 'swallow' });
    const rooms = { tenantId: freshTenant() };
    const first = listen({ url: between.url, rooms });
    await liveOver(first, 'sse');
    const upgrades = (): number => between.seen.filter((line) => line.startsWith('UPGRADE')).length;
    first.live.close();
    const before = upgrades();
    const second = listen({ url: between.url, rooms });
    await liveOver(second, 'sse');
    assert.equal(upgrades(), before, 'no websocket was tried first');
  });

  test('with a wrong socketPath, or with only poll allowed, it uses the transport that works', async () => {
    const tenantId = freshTenant();
    const between = await obstacle();
    const wrongPath = listen({ url: between.url, rooms: { tenantId }, socketPath: '/elsewhere' });
    const polling = listen({ url: bridge.url, rooms: { tenantId }, transports: ['poll'] });
    await liveOver(wrongPath, 'sse');
    await liveOver(polling, 'poll');
    const { id } = await bridge.publish('messages.new', messageNew({ tenantId }));
    await heardAll(wrongPath, [id]);
    await heardAll(polling, [id]);
  });

  test('a connection with more transports ignores the transport that worked for one with fewer', async () => {
    const between = await obstacle({ upgrade: 'refuse' });
    for (const transports of [['poll'], ['sse', 'poll']] as const) {
      const listener = listen({ url: between.url, rooms: { tenantId: freshTenant() }, transports });
      await liveOver(listener, transports[0]);
    }
    const before = between.seen.length;
    const upgrade = (): number => between.seen.findIndex((line) => line.startsWith('UPGRADE'));
    assert.equal(upgrade(), -1);
    listen({ url: between.url, rooms: { tenantId: freshTenant() } });
    await until('the websocket tried', () => upgrade() !== -1);
    assert.ok(upgrade() - before <= 1, `first: ${between.seen.slice(before)}`);
  });

  for (const transport of ['websocket', 'sse', 'poll'] as const) {
    test(`rooms that are joined and left over ${transport} deliver their history and their events once each`, async () => {
      const tenantId = freshTenant();
      const [ticketId, other] = [`${tenantId}-t`, `${tenantId}-o`];
      const publish = async (overrides: object): Promise<string> =>
        (await bridge.publish('messages.new', messageNew({ agreementId: null, ...overrides }))).id;
      const start = await publish({ tenantId: other, ticketId });
      const history: string[] = [];
      for (let index = 0; index < 5; index++) history.push(await publish({ tenantId: other, ticketId }));
      const listener = listen({ url: bridge.url, rooms: { tenantId }, transports: [transport, 'poll'] });
      const replayed: string[] = [];
      for (const event of ['messages.new', 'tickets.updated'] as const) {
        listener.live.on(event, (_payload, { cursor, replay }) => {
          if (replay) replayed.push(cursor);
        });
      }
      await liveOver(listener, transport);
      const tenantOnly = publishOn(bridge, tenantId);
      const bothRooms = publishOn(
        { publish: (name, payload) => bridge.publish(name, { ...payload, ticketId }) },
        tenantId,
      );
      const ticketOnly = publishOn(
        { publish: (name, payload) => bridge.publish(name, { ...payload, ticketId }) },
        other,
      );
      await until('some published', () => ticketOnly.published.length > 50);
      const joinedAt = await listener.live.join({ ticketId }, { after: start });
      assert.ok(joinedAt > start);
      await until('more published', () => listener.heard.some((id) => id > joinedAt));
      const all = [...history, ...(await tenantOnly.stop()), ...(await bothRooms.stop()), ...(await ticketOnly.stop())];
      await until('all heard', () => listener.heard.length >= all.length);
      assert.deepEqual([...listener.heard].sort(), all.sort(), 'every event once');
      assert.deepEqual(replayed, [...replayed].sort(), 'the history in order');
      const live = listener.heard.filter((id) => !replayed.includes(id));
      assert.deepEqual(live, [...live].sort(), 'the live events in order');
      assert.deepEqual(replayed.slice(0, 5), history);

      await listener.live.leave({ ticketId });
      await publish({ tenantId: other, ticketId });
      const last = await publish({ tenantId });
      await until('the last heard', () => listener.heard.includes(last));
      assert.equal(listener.heard.length, all.length + 1, 'no event of the room that was left');
    });
  }

  test('an event that the websocket brings while a page is under way is delivered', async () => {
    const between = await startObstacle(bridge.url);
    closing.push(between.close);
    const [kept, left] = [freshTenant(), freshTenant()];
    const listener = listen({
      url: between.url,
      rooms: { tenantId: [kept, left] },
      transports: ['websocket', 'poll'],
      heartbeatMs: 60_000,
      patienceMs: 30_000,
    });
    await liveOver(listener, 'websocket');
    const pages = () => between.seen.filter((line) => line.startsWith('GET /events')).length;
    const before = pages();
    between.habits.polls = 'hold';
    const leaving = listener.live.leave({ tenantId: left });
    await until('a page is requested', () => pages() > before);
    // By now the page has been read, and its answer is held.
    for (let count = 0; count < 5; count++) await fetch(`${bridge.url}/events?tenantId=${kept}`);
    const delivered = await metric(bridge, WEBSOCKET_DELIVERIES);
    const { id } = await bridge.publish('messages.new', messageNew({ tenantId: kept }));
    await until('the websocket has brought it', async () => (await metric(bridge, WEBSOCKET_DELIVERIES)) > delivered);
    between.habits.polls = 'pass';
    await leaving;
    await heardAll(listener, [id]);
    assert.deepEqual(listener.by, ['websocket']);
  });

  test('a room can be joined from a cursor ahead of the stream, from the start, and from now', async () => {
    const tenantId = freshTenant();
    const other = freshTenant();
    const publish = async (to: string): Promise<string> =>
      (await bridge.publish('messages.new', messageNew({ tenantId: to, ticketId: `${to}-t`, agreementId: null }))).id;
    const old = [await publish(other), await publish(other)];
    const listener = listen({ url: bridge.url, rooms: {} });
    await listener.live.join({ tenantId });
    await until('begun', () => listener.live.cursor !== null);
    const ahead = await publish(other);
    await listener.live.join({ ticketId: `${other}-t` }, { after: ahead });
    const next = await publish(other);
    await until('what came after it', () => listener.heard.length >= 1);
    assert.deepEqual(listener.heard, [next]);
    await listener.live.leave({ ticketId: `${other}-t` });
    await publish(other);
    await listener.live.join({ tenantId: other });
    const live = await publish(other);
    await until('what is live', () => listener.heard.length >= 2);
    assert.deepEqual(listener.heard, [next, live]);
    await listener.live.leave({ tenantId: [tenantId, other] });
    await listener.live.join({ tenantId: other }, { after: 'start' });
    await until('all of it', () => listener.heard.length >= 8);
    assert.deepEqual(listener.heard.slice(2, 6), [old[0], old[1], ahead, next]);
  });

  test('the first room that is joined has its history and a cursor, like any other', async () => {
    const tenantId = freshTenant();
    const publish = async (): Promise<string> => (await bridge.publish('messages.new', messageNew({ tenantId }))).id;
    const first = await publish();
    const missed = [await publish(), await publish()];
    for (const [options, after] of [
      [{}, first],
      // The client's own `after`.
      [{ after: first }, undefined],
    ] as const) {
      const listener = listen({ url: bridge.url, ...options });
      const replayed: boolean[] = [];
      listener.live.on('messages.new', (_payload, { replay }) => replayed.push(replay));
      const cursor = await listener.live.join({ tenantId }, after === undefined ? {} : { after });
      assert.deepEqual(listener.heard, missed, 'when the join has resolved');
      assert.ok(replayed.length > 0 && !replayed.includes(false));
      assert.ok(cursor >= (missed.at(-1) as string));
      missed.push(await publish());
      await heardAll(listener, missed);
      assert.equal(replayed.at(-1), false);
      listener.live.close();
    }
    const lost = listen({ url: bridge.url });
    const resets: unknown[] = [];
    lost.live.on('reset', ({ room, reason }) => resets.push([room, reason]));
    await lost.live.join({ tenantId }, { after: 'a-cursor-of-elsewhere' });
    assert.deepEqual(resets, [[`tenant:${tenantId}`, 'unknown']]);
    const fresh = listen({ url: bridge.url, rooms: { tenantId } });
    assert.notEqual(await fresh.live.join({ tenantId }), '', 'a room that is joined already');
    assert.notEqual(await listen({ url: bridge.url }).live.join({ tenantId }), '', 'from now');
  });

  test('a reload continues at the cursor of the page, and keeps the transport that worked', async () => {
    const tenantId = freshTenant();
    const kept = new Map<string, string>();
    const persist = {
      getItem: (key: string) => kept.get(key) ?? null,
      setItem: (key: string, value: string) => void kept.set(key, value),
    };
    const all: string[] = [];
    const publishing = publishOn(bridge, tenantId);
    await until('some published', () => publishing.published.length > 5);
    for (let load = 0; load < 5; load++) {
      const page = listen({ url: bridge.url, rooms: { tenantId }, persist });
      await until('some heard', () => page.heard.length > 20);
      page.live.close();
      all.push(...page.heard);
    }
    const published = await publishing.stop();
    const first = published.indexOf(all[0] as string);
    assert.ok(first >= 0);
    assert.deepEqual(all, published.slice(first, first + all.length));
    const worked = [...kept].filter(([key]) => key.startsWith('roomcast:transport:')).map(([, value]) => value);
    assert.match(worked.join(), /^(websocket|sse|poll) /);
  });

  test('a slow for await receives every event once, and ends with close', async () => {
    const tenantId = freshTenant();
    const published: string[] = [];
    for (let batch = 0; batch < 5; batch++) {
      const events = Array.from({ length: 900 }, () => ({
        event: 'messages.new',
        payload: messageNew({ tenantId, agreementId: null }),
      }));
      const { body } = await bridge.post({ events });
      published.push(...body.results.map(({ id }) => id));
    }
    const live = connect({ url: bridge.url, rooms: { tenantId }, after: 'start' });
    closing.push(live.close);
    const heard: string[] = [];
    for await (const { event, cursor, payload } of live) {
      heard.push(cursor);
      if (event === 'messages.new') assert.equal(payload.tenantId, tenantId);
      if (heard.length % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
      if (heard.length === published.length) live.close();
    }
    assert.deepEqual(heard, published);
    assert.equal(live.cursor, published.at(-1));
  });

  test('each of several for await loops receives every event, and all end with close', async () => {
    const tenantId = freshTenant();
    const live = connect({ url: bridge.url, rooms: { tenantId }, after: 'start' });
    closing.push(live.close);
    const mayGoOn = Promise.withResolvers<void>();
    const quick: string[] = [];
    const slow: string[] = [];
    const brief: string[] = [];
    const reading = Promise.all([
      (async () => {
        for await (const { cursor } of live) quick.push(cursor);
      })(),
      (async () => {
        for await (const { cursor } of live) {
          slow.push(cursor);
          await mayGoOn.promise;
        }
      })(),
      (async () => {
        for await (const { cursor } of live) {
          brief.push(cursor);
          return;
        }
      })(),
    ]);
    const events = Array.from({ length: 990 }, () => ({
      event: 'messages.new',
      payload: messageNew({ tenantId, agreementId: null }),
    }));
    const publish = async () => (await bridge.post({ events: events.splice(0, 330) })).body.results.map(({ id }) => id);
    const published = [...(await publish()), ...(await publish())];
    await until('the quick one has all', () => quick.length === published.length);
    assert.equal(slow.length, 1);
    assert.equal(live.cursor, published[0], 'no further than the slowest loop');
    mayGoOn.resolve();
    await until('the slow one has caught up', () => slow.length === published.length);
    published.push(...(await publish()));
    await until('both have the rest', () => [quick, slow].every((heard) => heard.length === published.length));
    assert.equal(live.cursor, published.at(-1));
    live.close();
    await reading;
    assert.deepEqual(quick, published);
    assert.deepEqual(slow, published);
    assert.deepEqual(brief, published.slice(0, 1));
  });

  test('a reload in the middle of the body of a for await repeats that event', async () => {
    const tenantId = freshTenant();
    const publish = async (to: string): Promise<string> =>
      (await bridge.publish('messages.new', messageNew({ tenantId: to, agreementId: null }))).id;
    const kept = new Map<string, string>();
    const persist = {
      getItem: (key: string) => kept.get(key) ?? null,
      setItem: (key: string, value: string) => void kept.set(key, value),
    };
    const cursorKept = () => [...kept].find(([key]) => key.startsWith('roomcast:cursor:'))?.[1];
    const published = [await publish(tenantId), await publish(tenantId)];
    const live = connect({ url: bridge.url, rooms: { tenantId }, after: 'start', persist });
    closing.push(live.close);
    const heard: string[] = [];
    for await (const { cursor } of live) {
      heard.push(cursor);
      assert.equal(live.cursor, cursor);
      if (heard.length < published.length) continue;
      const elsewhere = await publish(freshTenant());
      await live.join({ ticketId: 'another' });
      assert.equal(live.cursor, elsewhere, 'the stream continued');
      assert.equal(cursorKept(), published[0]);
      live.close();
    }
    assert.deepEqual(heard, published);
    assert.equal(cursorKept(), live.cursor);
  });

  test('a for await that falls behind during a reconnect receives every event once', async () => {
    const tenantId = freshTenant();
    const between = await obstacle();
    const polls = (): number => between.seen.filter((line) => line.startsWith('GET /events')).length;
    const live = connect({ url: between.url, rooms: { tenantId }, transports: ['websocket'] });
    closing.push(live.close);
    const published: string[] = [];
    const heard: string[] = [];
    const isBehind = Promise.withResolvers<void>();
    const reading = (async () => {
      for await (const { cursor } of live) {
        heard.push(cursor);
        await isBehind.promise;
        if (heard.length === published.length) live.close();
      }
    })();
    await until('live', () => live.status.transport === 'websocket');
    // After the cut it reconnects, and buffers the websocket's events until a poll has brought the missed ones.
    between.habits.polls = 'hold';
    const before = polls();
    between.cut();
    await until('a poll under way', () => polls() > before);
    for (let batch = 0; batch < 2; batch++) {
      const payload = () => messageNew({ tenantId, agreementId: null });
      const events = Array.from({ length: 600 }, () => ({ event: 'messages.new', payload: payload() }));
      published.push(...(await bridge.post({ events })).body.results.map(({ id }) => id));
    }
    await fetch(`${between.url}/tickets?tenantId=${tenantId}`);
    between.habits.polls = 'pass';
    await until('behind', () => heard.length > 0);
    isBehind.resolve();
    await reading;
    assert.deepEqual(heard, published);
  });

  test('an AbortSignal closes the client, and a later join is refused', async () => {
    const aborter = new AbortController();
    const listener = listen({ url: bridge.url, rooms: { tenantId: freshTenant() }, signal: aborter.signal });
    await until('live', () => listener.live.status.state === 'live');
    aborter.abort();
    assert.equal(listener.live.status.state, 'closed');
    await assert.rejects(listener.live.join({ tenantId: 'x' }), { code: 'closed' });
  });

  test('a join of an invalid room throws, and the client continues', async () => {
    const tenantId = freshTenant();
    const listener = listen({ url: bridge.url, rooms: { tenantId } });
    await until('live', () => listener.live.status.state === 'live');
    await assert.rejects(listener.live.join({ ticketId: 'no spaces' }), { name: 'TypeError' });
    const { id } = await bridge.publish('messages.new', messageNew({ tenantId }));
    await heardAll(listener, [id]);
  });
});

test('a server that is killed and restarted, at full speed, loses no event', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'roomcast-client-'));
  closing.push(() => rmSync(directory, { recursive: true }));
  const env = { STORE_URL: `sqlite:${join(directory, 'log.db')}`, LOG_LEVEL: 'info' };
  let server = await startServer(env);
  const between = await startObstacle(server.url);
  closing.push(between.close, () => server.end('SIGKILL'));
  const tenantId = 'killed';
  const listeners = (['websocket', 'sse', 'poll'] as const).map((transport) =>
    listen({ url: between.url, rooms: { tenantId }, transports: [transport, 'poll'], after: 'start' }),
  );
  const acknowledged: string[] = [];
  let isStopped = false;
  const publishing = (async () => {
    while (!isStopped) {
      try {
        const response = await fetch(`${between.url}/events`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ event: 'messages.new', payload: messageNew({ tenantId, agreementId: null }) }),
        });
        if (response.status === 201) acknowledged.push(((await response.json()) as { id: string }).id);
      } catch {
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
  })();
  for (let round = 0; round < 3; round++) {
    const enough = acknowledged.length + 50;
    await until('some acknowledged', () => acknowledged.length >= enough);
    await server.end('SIGKILL');
    server = await startServer(env);
    between.retarget(server.url);
  }
  const enough = acknowledged.length + 50;
  await until('some acknowledged', () => acknowledged.length >= enough);
  isStopped = true;
  await publishing;
  const response = await fetch(`${server.url}/events?tenantId=${tenantId}&after=start&limit=1000`);
  const log = ((await response.json()) as { events: { id: string }[] }).events.map(({ id }) => id);
  assert.deepEqual(
    acknowledged.filter((id) => !log.includes(id)),
    [],
  );
  for (const listener of listeners) await heardAll(listener, log);
});

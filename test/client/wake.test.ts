/**
 * Somebody looks at the page again, the machine slept, or the network changed: what was missed is there within about two
 * seconds, once and in order, and a dead connection is replaced. Here the events of a browser's window are fake, and the
 * networks are real. The heartbeat is so long that nothing else finds out in time.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, afterEach, before, test } from 'node:test';
import { type ConnectOptions, connect, type Live, type Status } from '../../src/client/client.ts';
import type { TransportName } from '../../src/client/events.ts';
import { onWake } from '../../src/client/wake.ts';
import { messageNew, startBridge, type TestBridge } from '../support/bridge.ts';
import { type CutProxy, startCutProxy } from '../support/cut-proxy.ts';
import { type Obstacle, startObstacle } from '../support/obstacles.ts';
import { until } from '../support/until.ts';

const TRANSPORTS = ['websocket', 'sse', 'poll'] as const;

/** The window and its document, as far as the library listens to them. */
const page = Object.assign(new EventTarget(), { visibilityState: 'visible' });
const navigator = { onLine: true };
const happen = (name: string, more: object = {}): boolean => page.dispatchEvent(Object.assign(new Event(name), more));
const now = Date.now;
let aheadMs = 0;

let bridge: TestBridge;
before(async () => {
  bridge = await startBridge({ heartbeatMs: 60_000, retryMs: 20 });
  Object.defineProperties(globalThis, {
    document: { value: page, configurable: true },
    navigator: { value: navigator, configurable: true },
    addEventListener: { value: page.addEventListener.bind(page), configurable: true },
    removeEventListener: { value: page.removeEventListener.bind(page), configurable: true },
  });
  Date.now = () => now() + aheadMs;
});
after(() => bridge.close());

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  navigator.onLine = true;
  page.visibilityState = 'visible';
});

let tenants = 0;
const freshTenant = (): string => `wake-${++tenants}`;

interface Listener {
  readonly live: Live;
  readonly tenantId: string;
  readonly heard: string[];
  readonly states: Status[];
  publish(): Promise<string>;
}

function listen(url: string, transports: readonly TransportName[], options: Partial<ConnectOptions> = {}): Listener {
  const tenantId = freshTenant();
  const live = connect({ url, rooms: { tenantId }, transports, heartbeatMs: 60_000, ...options });
  closing.push(live.close);
  const heard: string[] = [];
  const states: Status[] = [];
  live.on('messages.new', (_, { cursor }) => heard.push(cursor));
  live.on('status', (status) => states.push(status));
  const publish = async () => (await bridge.publish('messages.new', messageNew({ tenantId }))).id;
  return { live, tenantId, heard, states, publish };
}

const isLive = ({ live }: Listener, limitMs?: number) => until('live', () => live.status.state === 'live', limitMs);

async function heardAll({ heard }: Listener, published: readonly string[]): Promise<void> {
  await until('all heard', () => heard.length >= published.length);
  assert.deepEqual(heard, published);
}

async function startProxy(): Promise<CutProxy> {
  const proxy = await startCutProxy(bridge.url);
  closing.push(proxy.close);
  return proxy;
}

async function obstacle(): Promise<Obstacle> {
  const between = await startObstacle(bridge.url);
  closing.push(between.close);
  return between;
}

const requests = ({ seen }: Obstacle, path: string): number => seen.filter((line) => line.includes(path)).length;

for (const transport of TRANSPORTS) {
  test(`over ${transport}, a look brings what a dead network connection did not, and replaces it`, async (t) => {
    const proxy = await startProxy();
    const listener = listen(proxy.url, [transport]);
    await isLive(listener);
    const published = [await listener.publish()];
    await heardAll(listener, published);
    // Those that are open, also the ones that the next request would use, bring nothing more.
    proxy.loseDownstream();
    published.push(await listener.publish(), await listener.publish());
    const lookedMs = performance.now();
    happen('visibilitychange');
    await heardAll(listener, published);
    t.diagnostic(`missed events after ${Math.round(performance.now() - lookedMs)} ms`);
    // The next ones come by themselves, over another connection.
    await until('asked', () => listener.states.length > 1 || transport === 'poll');
    await isLive(listener);
    for (let count = 0; count < 3; count++) {
      published.push(await listener.publish());
      await heardAll(listener, published);
    }
  });
}

for (const [transport, replacement] of [
  ['websocket', 'UPGRADE'],
  ['sse', 'GET /sse'],
  ['poll', 'wait=20'],
] as const) {
  test(`over ${transport}, a look finds a dead network connection also if nothing was missed`, async () => {
    const between = await obstacle();
    const proxy = await startCutProxy(between.url);
    closing.push(proxy.close);
    const listener = listen(proxy.url, [transport]);
    await isLive(listener);
    await until('it waits', () => requests(between, replacement) === 1);
    proxy.loseDownstream();
    aheadMs += 6_000; // the last byte is old
    happen('focus');
    // Engine.IO would find out after 45 s.
    await until('replaced', () => requests(between, replacement) > 1, 4_000);
    await isLive(listener);
    await heardAll(listener, [await listener.publish()]);
  });
}

for (const transport of ['sse', 'poll'] as const) {
  test(`over ${transport}, a look asks the connection, and one that lives stays live`, async () => {
    const between = await obstacle();
    const listener = listen(between.url, [transport]);
    await isLive(listener);
    const path = transport === 'sse' ? 'GET /sse' : 'wait=20';
    await until('it waits', () => requests(between, path) === 1);
    aheadMs += 6_000; // the last byte is old
    happen('focus');
    await until('asked anew', () => requests(between, path) === 2);
    const published = [];
    for (let count = 0; count < 50; count++) published.push(await listener.publish());
    await heardAll(listener, published);
    assert.deepEqual(
      listener.states.map(({ state }) => state),
      ['live'],
    );
  });
}

test('a stream that brought something a moment ago is not asked', async () => {
  const between = await obstacle();
  const listener = listen(between.url, ['sse']);
  await isLive(listener);
  await heardAll(listener, [await listener.publish()]);
  const pages = requests(between, 'GET /events');
  happen('focus');
  await until('the page', () => requests(between, 'GET /events') > pages);
  assert.equal(requests(between, 'GET /sse'), 1);
});

test('a stream that brought something a moment ago, and lost the next event, is replaced', async () => {
  const proxy = await startProxy();
  const listener = listen(proxy.url, ['sse', 'poll']);
  await isLive(listener);
  await until('over SSE', () => listener.live.status.transport === 'sse');
  const published = [await listener.publish()];
  await heardAll(listener, published);
  proxy.loseDownstream();
  published.push(await listener.publish());
  happen('focus');
  await heardAll(listener, published);
  await until('replaced', () => listener.states.some(({ state }) => state === 'reconnecting'));
  published.push(await listener.publish());
  await heardAll(listener, published);
});

for (const [name, act] of [
  ['the page is shown', () => happen('visibilitychange')],
  ['the page comes out of the back/forward cache', () => happen('pageshow', { persisted: true })],
  ['a frozen page resumes', () => happen('resume')],
  ['the window gets the focus', () => happen('focus')],
  ['the network returns', () => happen('online')],
  [
    'the clock jumps',
    () => {
      aheadMs += 60_000;
    },
  ],
] as const) {
  test(`it wakes when ${name}`, async () => {
    const aborter = new AbortController();
    closing.push(() => aborter.abort());
    let woken = 0;
    onWake(() => woken++, aborter.signal);
    act();
    await until('woken', () => woken === 1);
    aborter.abort();
    aheadMs += 10_000;
    act();
    assert.equal(woken, 1, 'not after the end');
  });
}

test('a page that is hidden, or loaded, is no look; many looks within a second are two', async () => {
  const aborter = new AbortController();
  closing.push(() => aborter.abort());
  let woken = 0;
  const wake = onWake(() => woken++, aborter.signal);
  happen('pageshow');
  page.visibilityState = 'hidden';
  happen('visibilitychange');
  assert.equal(woken, 0);
  page.visibilityState = 'visible';
  happen('visibilitychange');
  happen('focus');
  assert.equal(woken, 1);
  for (let count = 0; count < 100; count++) wake();
  assert.equal(woken, 1);
  await until('the second', () => woken === 2);
  happen('focus');
  assert.equal(woken, 2);
});

for (const transports of [['websocket'], ['sse'], ['poll'], ['websocket', 'sse', 'poll']] as const) {
  test(`with ${transports}, a look ends every wait, also the one that the server asked for`, async () => {
    const between = await obstacle();
    const listener = listen(between.url, transports);
    await isLive(listener);
    Object.assign(between.habits, { bridge: 'unavailable' });
    const asked = between.seen.length;
    between.cut();
    await until('asked, and told to wait', () => between.seen.length > asked);
    Object.assign(between.habits, { bridge: 'up' });
    const published = [await listener.publish()];
    happen('focus');
    await heardAll(listener, published);
    await isLive(listener);
  });
}

test('a start that was told to wait, or whose answer was lost, begins anew with a look', async () => {
  for (const bridgeIs of ['unavailable', 'hang'] as const) {
    const between = await obstacle();
    Object.assign(between.habits, { bridge: bridgeIs });
    const listener = listen(between.url, ['websocket', 'sse', 'poll']);
    await until('asked', () => between.seen.length > 0);
    if (bridgeIs === 'unavailable') await until('refused', () => listener.live.status.error !== null);
    Object.assign(between.habits, { bridge: 'up' });
    aheadMs += 2_500;
    happen('focus');
    // A request that hangs would be given up after 10 s.
    await isLive(listener, 5_000);
  }
});

test('a plain request without an answer is asked once more beside it: its network connection may be dead', async () => {
  const between = await obstacle();
  between.habits.bridge = 'hang';
  const listener = listen(between.url, ['websocket']);
  await until('asked', () => requests(between, '/events') === 1);
  between.habits.bridge = 'up';
  // The first request would be given up after 10 s.
  await isLive(listener, 5_000);
});

test('offline, no transport is live and nothing is asked; a look changes nothing; online again, it is live', async () => {
  for (const transport of TRANSPORTS) {
    const between = await obstacle();
    const listener = listen(between.url, [transport]);
    await isLive(listener);
    navigator.onLine = false;
    happen('offline');
    await until('not live', () => listener.live.status.state === 'reconnecting');
    const asked = between.seen.length;
    const published = [await listener.publish()];
    listener.live.wake();
    happen('focus');
    await fetch(`${bridge.url}/events?tenantId=x`);
    assert.equal(between.seen.length, asked);
    navigator.onLine = true;
    happen('online');
    await heardAll(listener, published);
    await isLive(listener);
    listener.live.close();
  }
});

test('without a room, and while a slow for await holds everything up, it is not live', async () => {
  const listener = listen(bridge.url, ['sse']);
  const { live, tenantId } = listener;
  await isLive(listener);
  await live.leave({ tenantId });
  assert.deepEqual(live.status, { state: 'connecting', transport: null, error: null });
  await live.join({ tenantId });
  await isLive(listener);
  const events = live[Symbol.asyncIterator]();
  const first = events.next();
  const batch = Array.from({ length: 1000 }, () => ({ event: 'messages.new', payload: messageNew({ tenantId }) }));
  for (let count = 0; count < 2; count++)
    await bridge.post({ events: batch.map((one) => ({ ...one, payload: messageNew({ tenantId }) })) });
  await first;
  await until('held up', () => live.status.state === 'reconnecting');
  for (let count = 1; count < 2000; count++) await events.next();
  void events.next();
  await isLive(listener);
});

test('a client that is closed does not wake', async () => {
  const between = await obstacle();
  const listener = listen(between.url, ['sse']);
  await isLive(listener);
  happen('focus');
  listener.live.close();
  const asked = between.seen.length;
  listener.live.wake();
  aheadMs += 60_000;
  happen('online');
  await fetch(`${bridge.url}/events?tenantId=x`);
  await fetch(`${bridge.url}/events?tenantId=x`);
  assert.equal(between.seen.length, asked);
});

test('in Node, waiting for a wake keeps no process alive', () => {
  const code = `import { onWake } from './src/client/wake.ts'; onWake(() => {}, new AbortController().signal)();`;
  const { status, signal } = spawnSync(process.execPath, ['--input-type=module', '-e', code], { timeout: 30_000 });
  assert.deepEqual([status, signal], [0, null]);
});

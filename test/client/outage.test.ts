/**
 * Coming back after an outage, in the time of a fake clock: many clients of each list of transports, and outages of one
 * second to five minutes. The picker and the polls are real. Instead of a network there is a model: a bridge that refuses, or one
 * that takes what is asked and never answers.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import type { Status, TransportName } from '../../src/client/events.ts';
import { RoomcastError } from '../../src/client/http.ts';
import type { Connection, ConnectionEvents, ConnectionOptions } from '../../src/client/transports/connection.ts';
import { createTransportPicker } from '../../src/client/transports/picker.ts';
import { openPoll } from '../../src/client/transports/poll.ts';

const LISTS: readonly (readonly TransportName[])[] = [
  ['websocket'],
  ['sse'],
  ['poll'],
  ['websocket', 'poll'],
  ['websocket', 'sse', 'poll'],
];
const PATIENCE_MS = 6_000;
const STEP_MS = 100;

const performanceNow = performance.now;
beforeEach(() => {
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1e12 });
  performance.now = () => Date.now() - 1e12;
});
const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
  mock.timers.reset();
  performance.now = performanceNow;
});

async function pass(milliseconds: number): Promise<void> {
  for (let passed = 0; passed < milliseconds; passed += STEP_MS) {
    mock.timers.tick(STEP_MS);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

type Answers = 'yes' | 'refuses' | 'hangs';

/** What stands between the clients and their events. */
function createNetwork() {
  const cuts = new Set<() => void>();
  const answers: Record<TransportName, Answers> = { websocket: 'yes', sse: 'yes', poll: 'yes' };
  return {
    answers,
    asked: { websocket: 0, sse: 0, poll: 0 },
    /** Ends what is open and what waits. */
    cut() {
      for (const end of [...cuts]) end();
    },
    whenCut(end: () => void): () => void {
      cuts.add(end);
      return () => cuts.delete(end);
    },
    set(to: Answers) {
      for (const name of ['websocket', 'sse', 'poll'] as const) answers[name] = to;
    },
  };
}
type Network = ReturnType<typeof createNetwork>;

const refused = (): RoomcastError => new RoomcastError('unreachable', 'Refused.');

/** A stream that has nothing new. */
function pagesOver(network: Network): ConnectionOptions['stream'] {
  const writer = { isCurrent: true };
  const readPage = (_: unknown, waitSeconds: number, signal: AbortSignal, patienceMs = 10_000): Promise<boolean> =>
    new Promise((resolve, reject) => {
      network.asked.poll++;
      const end = (act: () => void): void => {
        clearTimeout(timer);
        forget();
        act();
      };
      const fail = (): void => end(() => reject(refused()));
      const forget = network.whenCut(fail);
      signal.addEventListener('abort', fail);
      const answer = network.answers.poll;
      const delayMs = 1000 * waitSeconds + (answer === 'hangs' ? patienceMs : 20);
      const timer = setTimeout(() => end(() => (answer === 'yes' ? resolve(false) : reject(refused()))), delayMs);
      if (answer === 'refuses') fail();
    });
  return { writer: () => writer, readPage } as unknown as ConnectionOptions['stream'];
}

function openStreaming(network: Network, name: 'websocket' | 'sse', events: ConnectionEvents): Connection {
  network.asked[name]++;
  const end = (): void => {
    close();
    events.ended({ error: refused() });
  };
  const forget = network.whenCut(end);
  const answer = network.answers[name];
  const timer = answer === 'hangs' ? undefined : setTimeout(() => (answer === 'yes' ? events.proven() : end()), 20);
  const close = (): void => {
    clearTimeout(timer);
    forget();
  };
  return { attach() {}, probe() {}, close };
}

interface Client {
  status: Omit<Status, 'state'>;
  liveAtMs: number | null;
}

function connectOver(network: Network, allowed: readonly TransportName[]): Client {
  const aborter = new AbortController();
  closing.push(() => aborter.abort());
  const client: Client = { status: { transport: null, error: null }, liveAtMs: null };
  const stream = pagesOver(network);
  const http = { url: new URL('http://bridge.example') };
  const signals = { take() {}, refresh: async () => {} };
  const picker = createTransportPicker({
    allowed,
    open: (name, events) =>
      name === 'poll'
        ? openPoll({ http, stream, signals, patienceMs: PATIENCE_MS } as unknown as ConnectionOptions, events)
        : openStreaming(network, name, events),
    remembered: null,
    remember() {},
    report(status) {
      client.status = status;
      if (status.transport === null) client.liveAtMs = null;
      else client.liveAtMs ??= performance.now();
    },
    renew: () => true,
    failed: assert.fail,
    patienceMs: PATIENCE_MS,
    signal: aborter.signal,
  });
  picker.start();
  return client;
}

for (const [seconds, crowd] of [
  [1, 40],
  [10, 40],
  [60, 40],
  [300, 20],
] as const) {
  for (const how of ['refuses', 'hangs'] as const) {
    test(`${how} for ${seconds} s: each list is back within 10 s at the median, 15 s at worst`, async (t) => {
      const network = createNetwork();
      const clients = LISTS.flatMap((list) =>
        Array.from({ length: crowd }, () => ({ list, client: connectOver(network, list) })),
      );
      await pass(5_000);
      assert.ok(clients.every(({ client }) => client.liveAtMs !== null));
      network.set(how);
      network.cut();
      await pass(1000 * seconds);
      assert.ok(clients.every(({ client }) => client.liveAtMs === null));
      const backMs = performance.now();
      network.set('yes');
      await pass(16_000);
      for (const list of LISTS) {
        const times = clients
          .filter((one) => one.list === list)
          .map(({ client }) => (client.liveAtMs ?? Number.POSITIVE_INFINITY) - backMs)
          .sort((a, b) => a - b);
        const [median, worst] = [times[times.length >> 1] as number, times.at(-1) as number];
        t.diagnostic(`${list}: median ${(median / 1000).toFixed(1)} s, worst ${(worst / 1000).toFixed(1)} s`);
        assert.ok(median <= 10_000, `${list}: median ${median} ms`);
        assert.ok(worst <= 15_000, `${list}: worst ${worst} ms`);
      }
      const inOneSecond = (from: number): number =>
        clients.filter(({ client }) => Math.abs((client.liveAtMs as number) - backMs - from) < 500).length;
      const most = Math.max(...Array.from({ length: 160 }, (_, index) => inOneSecond(100 * index)));
      if (seconds >= 10 && crowd > 10) assert.ok(most < clients.length / 2, `${most} came back within one second`);
    });
  }
}

test('while nothing works, a client asks at most every few seconds', async () => {
  for (const list of LISTS) {
    const network = createNetwork();
    connectOver(network, list);
    await pass(5_000);
    network.set('refuses');
    network.cut();
    await pass(60_000);
    const { websocket, sse, poll } = network.asked;
    network.asked = { websocket: 0, sse: 0, poll: 0 };
    await pass(600_000);
    // A random delay of up to 10 s is 5 s on average, of up to 20 s 10 s.
    assert.ok(network.asked.poll < 200, `${list}: ${network.asked.poll} plain requests in ten minutes`);
    assert.ok(network.asked.websocket + network.asked.sse < 250, `${list}: ${JSON.stringify(network.asked)}`);
    assert.ok(websocket + sse + poll < 60, `${list}: ${[websocket, sse, poll]} in the first minute`);
  }
});

test('a transport that worked and was cut is tried again within 20 s, for ten minutes', async () => {
  const network = createNetwork();
  const client = connectOver(network, ['websocket', 'poll']);
  await pass(2_000);
  assert.equal(client.status.transport, 'websocket');
  network.answers.websocket = 'refuses';
  network.cut();
  for (let count = 0; count < 25; count++) {
    const before = network.asked.websocket;
    await pass(21_000);
    assert.equal(client.status.transport, 'poll');
    assert.ok(network.asked.websocket > before, `after ${performance.now()} ms`);
  }
  network.answers.websocket = 'yes';
  await pass(20_500);
  assert.equal(client.status.transport, 'websocket');
});

test('a transport that never worked is tried less and less often while another one works', async () => {
  const network = createNetwork();
  network.answers.websocket = 'refuses';
  connectOver(network, ['websocket', 'poll']);
  await pass(900_000);
  network.asked.websocket = 0;
  await pass(900_000);
  assert.ok(network.asked.websocket < 25, `${network.asked.websocket} attempts in a quarter of an hour`);
});

test('a poll without an answer is no longer live when its wait and the patience are over', async () => {
  const network = createNetwork();
  const client = connectOver(network, ['poll']);
  await pass(2_000);
  assert.equal(client.status.transport, 'poll');
  network.answers.poll = 'hangs';
  // The one that waits is answered still.
  await pass(20_000);
  assert.equal(client.status.transport, 'poll');
  await pass(26_500);
  assert.equal(client.status.transport, null);
});

/**
 * `state`: the application's own function reads its state between the position and the events that follow it, so that no
 * event is lost in between, at the start and after each reset.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { type ConnectOptions, connect, type Live, type RoomcastError } from '../../src/client/client.ts';
import { createOwnState } from '../../src/client/own-state.ts';
import { messageNew, startBridge, type TestBridge } from '../support/bridge.ts';
import { startObstacle } from '../support/obstacles.ts';
import { until } from '../support/until.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function start(options: Parameters<typeof startBridge>[0] = {}): Promise<TestBridge> {
  const bridge = await startBridge({ heartbeatMs: 250, retryMs: 20, drainMs: 200, ...options });
  closing.push(bridge.close);
  return bridge;
}

type Read = Parameters<NonNullable<ConnectOptions['state']>>[0];

/** What happened, in order: `start`, `unknown: ticket:1`, `state`, `reset`, and the cursors of events. */
interface Listener {
  readonly live: Live;
  readonly happened: string[];
  readonly reads: Read[];
  /** The function answers only while this is true. */
  isOpen: boolean;
}

function listen(options: ConnectOptions, isOpen = true): Listener {
  const happened: string[] = [];
  const reads: Read[] = [];
  const live = connect({
    heartbeatMs: 250,
    patienceMs: 1000,
    async state(read) {
      reads.push(read);
      happened.push(`${read.reason}: ${read.rooms}`);
      await until('the state is open', () => listener.isOpen || read.signal.aborted, 60_000);
      happened.push(read.signal.aborted ? 'aborted' : 'state');
    },
    ...options,
  });
  closing.push(live.close);
  const listener: Listener = { live, happened, reads, isOpen };
  live.on('messages.new', (_payload, { cursor }) => happened.push(cursor));
  live.on('reset', ({ reason, room }) => happened.push(`reset: ${reason}, ${room}`));
  return listener;
}

async function publish(bridge: TestBridge, count: number): Promise<string[]> {
  const ids: string[] = [];
  for (let each = 0; each < count; each++) ids.push((await bridge.publish('messages.new', messageNew())).id);
  return ids;
}

const rooms = { tenantId: 'tenant-1' };

for (const transport of ['websocket', 'sse', 'poll'] as const) {
  test(`over ${transport}: at the start and after a lost log, what is published while the state is read follows it`, async () => {
    const lost = await start();
    await publish(lost, 3);
    const between = await startObstacle(lost.url);
    closing.push(between.close);
    const listener = listen({ url: between.url, rooms, transports: [transport, 'poll'] }, false);
    const { live, happened } = listener;
    await until('it reads', () => happened.length === 1);
    const first = await publish(lost, 20);
    assert.deepEqual(happened, ['start: tenant:tenant-1']);
    assert.notEqual(live.status.state, 'live');
    listener.isOpen = true;
    await until('live', () => live.status.transport === transport);
    first.push(...(await publish(lost, 3)));
    await until('heard', () => happened.length >= 2 + first.length);
    listener.isOpen = false;

    const fresh = await start();
    await publish(fresh, 2);
    between.retarget(fresh.url);
    between.cut();
    await until('it reads again', () => happened.some((line) => line.startsWith('unknown')));
    const second = await publish(fresh, 20);
    assert.equal(live.status.state, 'reconnecting');
    listener.isOpen = true;
    await until('live again', () => live.status.transport === transport);
    second.push(...(await publish(fresh, 3)));
    await until('heard', () => happened.at(-1) === second.at(-1));
    assert.deepEqual(happened, [
      'start: tenant:tenant-1',
      'state',
      ...first,
      'unknown: tenant:tenant-1',
      'state',
      'reset: unknown, null',
      ...second,
    ]);
  });
}

test('after a log that was trimmed, the reason is expired', async () => {
  const bridge = await start({ retentionEvents: 5 });
  const between = await startObstacle(bridge.url);
  closing.push(between.close);
  const { live, happened } = listen({ url: between.url, rooms });
  await until('live', () => live.status.state === 'live');
  between.retarget('http://127.0.0.1:1'); // nobody answers
  between.cut();
  const [gone] = await publish(bridge, 30);
  await until(
    'trimmed',
    async () => (await fetch(`${bridge.url}/events?tenantId=tenant-1&after=${gone}`)).status === 410,
  );
  between.retarget(bridge.url);
  await until('read again', () => happened.length >= 5, 30_000);
  assert.deepEqual(happened.slice(0, 5), [
    'start: tenant:tenant-1',
    'state',
    'expired: tenant:tenant-1',
    'state',
    'reset: expired, null',
  ]);
});

test('it is not called where the application gives `after`, to connect or to the first join', async () => {
  const bridge = await start();
  const [first, second] = (await publish(bridge, 2)) as [string, string];
  const given = listen({ url: bridge.url, rooms, after: first });
  const joined = listen({ url: bridge.url });
  await joined.live.join(rooms, { after: first });
  for (const { happened } of [given, joined]) {
    await until('heard', () => happened.length > 0);
    assert.deepEqual(happened, [second]);
  }
});

test('a client whose first rooms come by join reads them, and not those that it joins later', async () => {
  const bridge = await start();
  const { live, happened } = listen({ url: bridge.url });
  await live.join(rooms);
  await live.join({ ticketId: 'ticket-123' });
  const [id] = await publish(bridge, 1);
  await until('heard', () => happened.includes(id as string));
  assert.deepEqual(happened, ['start: tenant:tenant-1', 'state', id]);
  // With no room left, the next one is a new start.
  await live.leave({ ...rooms, ticketId: 'ticket-123' });
  await live.join({ tenantId: 'tenant-2' });
  await until('read again', () => happened.length >= 5);
  assert.deepEqual(happened.slice(3), ['start: tenant:tenant-2', 'state']);
});

test('a function that rejects or throws is called again with a growing pause, and the status says why', async () => {
  const bridge = await start();
  const errors: RoomcastError[] = [];
  let calls = 0;
  const { live, happened } = listen({
    url: bridge.url,
    rooms,
    state: () => {
      calls++;
      if (calls === 1) throw new Error('thrown');
      return calls < 4 ? Promise.reject(new Error('rejected')) : undefined;
    },
  });
  live.on('status', ({ error }) => {
    if (error !== null) errors.push(error);
  });
  await until('one failure', () => errors.length > 0);
  const ids = await publish(bridge, 5);
  await until('live', () => live.status.state === 'live', 30_000);
  assert.deepEqual(happened, ids);
  assert.equal(calls, 4);
  assert.deepEqual(
    errors.map(({ code, cause }) => [code, (cause as Error).message]),
    [
      ['state', 'thrown'],
      ['state', 'rejected'],
      ['state', 'rejected'],
    ],
  );
  assert.equal(live.status.error, null);
});

test('a function that does not resolve in time has failed, and its signal aborts', async () => {
  const signals: AbortSignal[] = [];
  const closed = new AbortController();
  const own = createOwnState(
    ({ signal }) => {
      signals.push(signal);
      return new Promise(() => {});
    },
    closed.signal,
    () => {},
    20,
  );
  await assert.rejects(own.read('start', []), { code: 'state', passing: true });
  assert.equal(signals[0]?.aborted, true);
  const reading = own.read('start', []);
  closed.abort();
  await assert.rejects(reading, { code: 'state' });
  assert.equal(signals[1]?.aborted, true);
});

test('close aborts the signal, and nothing is delivered after it', async () => {
  const bridge = await start();
  const listener = listen({ url: bridge.url, rooms }, false);
  const { live, happened, reads } = listener;
  await until('it reads', () => reads.length === 1);
  live.close();
  assert.equal(reads[0]?.signal.aborted, true);
  await publish(bridge, 1);
  await until('ended', () => happened.includes('aborted'));
  assert.deepEqual(happened, ['start: tenant:tenant-1', 'aborted']);
});

test('with persist, a page that is loaded again reads the state anew, and older events are not replayed', async () => {
  const bridge = await start();
  const kept = new Map<string, string>();
  const persist = {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
  };
  const before = listen({ url: bridge.url, rooms, persist });
  await until('live', () => before.live.status.state === 'live');
  await publish(bridge, 1);
  await until('heard', () => before.happened.length === 3);
  before.live.close();
  await publish(bridge, 5);
  const after = listen({ url: bridge.url, rooms, persist });
  await until('live', () => after.live.status.state === 'live');
  const [id] = await publish(bridge, 1);
  await until('heard', () => after.happened.includes(id as string));
  assert.deepEqual(after.happened, ['start: tenant:tenant-1', 'state', id]);
});

test('a second reset while it reads: the state is read again, and only then events follow', async () => {
  const [lost, second, third] = [await start(), await start(), await start()];
  const between = await startObstacle(lost.url);
  closing.push(between.close);
  const listener = listen({ url: between.url, rooms });
  const { live, happened, reads } = listener;
  await until('live', () => live.status.transport === 'websocket');
  listener.isOpen = false;
  between.retarget(second.url);
  between.cut();
  await until('it reads', () => reads.length === 2);
  await publish(second, 3); // they are lost with their log
  between.retarget(third.url);
  between.cut();
  listener.isOpen = true;
  await until('it has read again', () => reads.length === 3);
  await until('live', () => live.status.state === 'live');
  const ids = await publish(third, 3);
  await until('heard', () => happened.at(-1) === ids.at(-1));
  const read = ['unknown: tenant:tenant-1', 'state', 'reset: unknown, null'];
  assert.deepEqual(happened, ['start: tenant:tenant-1', 'state', ...read, ...read, ...ids]);
});

test('rooms that are left while it reads are not waited for', async () => {
  const bridge = await start();
  const listener = listen({ url: bridge.url, rooms }, false);
  const { live, happened, reads } = listener;
  await until('it reads', () => reads.length === 1);
  await live.leave(rooms);
  assert.equal(reads[0]?.signal.aborted, true);
  const joining = live.join({ tenantId: 'tenant-2' });
  await until('it reads the others', () => reads.length === 2);
  listener.isOpen = true;
  await joining;
  await until('live', () => live.status.state === 'live');
  assert.deepEqual(happened, ['start: tenant:tenant-1', 'aborted', 'start: tenant:tenant-2', 'state']);
});

test('a join whose history is lost has the state of its rooms read', async () => {
  const bridge = await start();
  const { live, happened } = listen({ url: bridge.url, rooms });
  await until('live', () => live.status.state === 'live');
  await live.join({ ticketId: 'elsewhere' }, { after: 'a-cursor-of-elsewhere' });
  assert.deepEqual(happened.slice(2), ['unknown: ticket:elsewhere', 'state', 'reset: unknown, ticket:elsewhere']);
});

test('refetch and state exclude each other', () => {
  const options = { url: 'http://127.0.0.1:1', state: () => {}, refetch: true };
  assert.throws(() => connect(options), /^TypeError: refetch must be false where state is given/);
  connect({ ...options, refetch: false }).close();
});

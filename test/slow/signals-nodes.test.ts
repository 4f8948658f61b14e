/** Signals between nodes on one Redis (protocol §14): whole servers, stock clients, nodes and Redis that fail. */
import assert from 'node:assert/strict';
import { beforeEach, describe, it, type TestContext } from 'node:test';
import { EventSource } from 'eventsource';
import { SignJWT } from 'jose';
import { messageNew } from '../support/bridge.ts';
import { connectSocket, type SocketClient } from '../support/clients.ts';
import { startCutProxy } from '../support/cut-proxy.ts';
import { missing, useRedis } from '../support/redis.ts';
import { type ServerProcess, startServer } from '../support/server.ts';
import { until } from '../support/until.ts';

const TYPING = 'tickets.typing';
const ROOM = 'ticket:1';
const SECRET = 'a secret of thirty-two bytes or more';

interface Heard {
  readonly from: string | null;
  readonly sender: string;
  readonly ttlSeconds: number;
  readonly n?: number;
  readonly sentAtMs?: number;
}

interface Listener {
  readonly signals: Heard[];
}

interface PollAnswer {
  readonly events: { readonly event: string; readonly payload: Heard }[];
  readonly cursor: string;
}

type Item = Pick<Heard, 'sender'> & { readonly payload: Partial<Heard>; readonly expiresAt: string };

async function startNode(t: TestContext, url: string, env: Record<string, string> = {}): Promise<ServerProcess> {
  const node = await startServer({ STORE_URL: url, SIGNALS: TYPING, RATE_SIGNALS: '1000', LOG_LEVEL: 'info', ...env });
  t.after(() => node.end('SIGKILL'));
  return node;
}

const startNodes = (t: TestContext, url: string, env?: Record<string, string>) =>
  Promise.all([startNode(t, url, env), startNode(t, url, env)]);

async function connect(
  t: TestContext,
  url: string,
  { transport = 'websocket', token }: { transport?: 'websocket' | 'polling'; token?: string } = {},
): Promise<SocketClient & Listener> {
  const options = { legacy: false, ...(token === undefined ? {} : { token }) };
  const client = await connectSocket(transport)(url, { ticketId: ['1'] }, options);
  t.after(() => client.close());
  const signals: Heard[] = [];
  client.socket.on(TYPING, (payload: Heard) => signals.push(payload));
  return Object.assign(client, { signals });
}

async function listenSse(t: TestContext, url: string): Promise<Listener> {
  const source = new EventSource(`${url}/sse?ticketId=1`);
  t.after(() => source.close());
  const signals: Heard[] = [];
  source.addEventListener(TYPING, ({ data }) => signals.push(JSON.parse(data)));
  await new Promise<void>((resolve) => source.addEventListener('bridge.cursor', () => resolve(), { once: true }));
  return { signals };
}

function listenByPoll(t: TestContext, url: string): Listener {
  const signals: Heard[] = [];
  const aborter = new AbortController();
  t.after(() => aborter.abort());
  const loop = async (): Promise<void> => {
    for (let after = 'now'; !aborter.signal.aborted; ) {
      const query = `ticketId=1&after=${after}&wait=5&signals=true`;
      const response = await fetch(`${url}/events?${query}`, { signal: aborter.signal });
      const { events, cursor } = (await response.json()) as PollAnswer;
      after = cursor;
      signals.push(...events.filter(({ event }) => event === TYPING).map(({ payload }) => payload));
    }
  };
  loop().catch(() => {});
  return { signals };
}

const send = (client: SocketClient, payload: object = {}, ttlSeconds = 60): Promise<{ ok: boolean }> =>
  client.socket.emitWithAck('signal', { event: TYPING, room: ROOM, payload, ttlSeconds });

async function post(url: string, payload: object, ttlSeconds = 10): Promise<Response> {
  const body = JSON.stringify({ event: TYPING, room: ROOM, payload, ttlSeconds, client: 'poster' });
  return fetch(`${url}/signals`, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
}

async function active(url: string): Promise<Item[]> {
  const response = await fetch(`${url}/signals?ticketId=1`);
  assert.equal(response.status, 200);
  return ((await response.json()) as { signals: Item[] }).signals;
}

let probes = 0;

/** Waits until what is sent to the first node is heard by the second one, and the other way round. */
async function untilShared(...urls: readonly string[]): Promise<void> {
  for (const [index, from] of urls.entries()) {
    const to = urls[(index + 1) % urls.length] as string;
    const room = `ticket:probe-${++probes}`;
    await until('the nodes share signals', async () => {
      const body = JSON.stringify({ event: TYPING, room });
      await fetch(`${from}/signals`, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
      const response = await fetch(`${to}/signals?ticketId=probe-${probes}`);
      return ((await response.json()) as { signals: unknown[] }).signals.length > 0;
    });
  }
}

const endsOf = ({ signals }: Listener, sender: string | undefined): number =>
  signals.filter((signal) => signal.sender === sender && signal.ttlSeconds === 0).length;

describe('signals between nodes', { skip: missing('redis-server') }, () => {
  const redis = useRedis();
  beforeEach(() => redis.command('FLUSHALL'));

  it('reach the listeners of every node once, on all transports, from all transports', async (t) => {
    const [a, b] = await startNodes(t, redis.url);
    await untilShared(a.url, b.url);
    const listeners = (
      await Promise.all(
        [a.url, b.url].map(async (url) => [
          await connect(t, url),
          await connect(t, url, { transport: 'polling' }),
          await listenSse(t, url),
          listenByPoll(t, url),
        ]),
      )
    ).flat();
    const sender = await connect(t, a.url);
    const pollingSender = await connect(t, b.url, { transport: 'polling' });
    const count = ({ signals }: Listener, n: number): number => signals.filter((signal) => signal.n === n).length;
    const polls = listeners.filter((_, index) => index % 4 === 3);
    for (const [n, by] of [
      [1, () => send(sender, { n: 1 })],
      [2, () => send(pollingSender, { n: 2 })],
      [3, () => post(b.url, { n: 3 })],
    ] as const) {
      let sent = 0;
      // A poll that does not wait hears nothing, so each signal is sent until the polls have heard it.
      await until(`the polls hear signal ${n}`, async () => {
        await by();
        sent++;
        return polls.every((poll) => count(poll, n) > 0);
      });
      for (const [index, listener] of listeners.entries()) {
        if (polls.includes(listener)) continue;
        await until(`listener ${index} hears each signal ${n}`, () => count(listener, n) >= sent);
        assert.equal(count(listener, n), sent, 'once');
      }
    }
    assert.equal(count(sender, 1), 0, 'the sender itself hears nothing');
    assert.ok(count(pollingSender, 1) > 0);
    for (const { url } of [a, b]) {
      assert.deepEqual((await active(url)).map(({ payload }) => payload.n).sort(), [1, 2, 3]);
    }
  });

  for (const [when, cut] of [
    ['when its connection was cut', 'cut'],
    ['while its node believes in the old connection', 'cutClientSide'],
  ] as const) {
    it(`of a client that is recovered on another node stay, ${when}; those of one that is not end on all nodes, once`, async (t) => {
      const [a, b] = await startNodes(t, redis.url);
      await untilShared(a.url, b.url);
      const listeners = [await connect(t, a.url), await connect(t, b.url)];
      const proxy = await startCutProxy(a.url);
      t.after(() => proxy.close());
      const [moving, leaving] = [await connect(t, proxy.url), await connect(t, a.url)];
      await send(moving, { n: 1 });
      await send(leaving, { n: 2 });
      for (const { signals } of listeners) await until('both are heard', () => signals.length === 2);
      const [stays, ends] = [moving.socket.id, leaving.socket.id];
      proxy.retarget(b.url);
      proxy[cut]();
      await until('it is recovered', () => moving.recoveries.length === 2);
      assert.deepEqual(moving.recoveries, [false, true]);
      assert.equal(moving.socket.id, stays);
      // It leaves later, so its end tells that the time of the other one has passed, too.
      leaving.close();
      for (const listener of listeners) {
        await until('the end is heard', () => endsOf(listener, ends) > 0);
        assert.deepEqual([endsOf(listener, ends), endsOf(listener, stays)], [1, 0]);
      }
      for (const { url } of [a, b])
        assert.deepEqual(
          (await active(url)).map(({ sender }) => sender),
          [stays],
        );

      // Now its own node is the other one.
      moving.close();
      for (const listener of listeners) {
        await until('the end is heard', () => endsOf(listener, stays) > 0);
        assert.equal(endsOf(listener, stays), 1);
      }
      for (const { url } of [a, b]) assert.deepEqual(await active(url), []);
    });
  }

  it('of a node that is killed end when their time is up; a node that has just started hears the next one', async (t) => {
    const [a, b] = await startNodes(t, redis.url);
    await untilShared(a.url, b.url);
    const listener = await connect(t, b.url);
    const sender = await connect(t, a.url);
    await send(sender, { n: 1 }, 3);
    await until('it is heard', () => listener.signals.length === 1);
    const [before] = await active(b.url);
    assert.ok(before !== undefined);
    await a.end('SIGKILL');
    sender.close();
    const isListed = async (): Promise<boolean> => {
      const [signal] = await active(b.url);
      if (signal !== undefined) {
        // Two clocks are read for it, and the process may pause in between.
        assert.ok(Math.abs(Date.parse(signal.expiresAt) - Date.parse(before.expiresAt)) < 250);
      }
      return signal !== undefined;
    };
    await until('its time is up', async () => !(await isListed()));
    assert.ok(Date.now() >= Date.parse(before.expiresAt) - 250);
    assert.equal(listener.signals.length, 1);

    assert.equal((await post(b.url, { n: 2 }, 120)).status, 202);
    const c = await startNode(t, redis.url);
    assert.deepEqual(
      (await active(c.url)).filter(({ payload }) => payload.n === 1),
      [],
    );
    const late = await connect(t, c.url);
    await until('the next one is heard', async () => {
      await post(b.url, { n: 3 }, 120);
      return late.signals.some(({ n }) => n === 3);
    });
    assert.deepEqual(
      (await active(c.url)).map(({ payload }) => payload.n),
      [3],
    );
  });

  for (const pausedMs of [1_200, 3_000]) {
    it(`outlive their time by no more than 1 s on any node when Redis hangs for ${pausedMs} ms`, async (t) => {
      const [a, b] = await startNodes(t, redis.url);
      await untilShared(a.url, b.url);
      const listeners = [await connect(t, a.url), await connect(t, b.url)];
      let n = 0;
      const flood = async (): Promise<void> => {
        const ttlSeconds = 1 + (++n % 4);
        await post(n % 2 === 0 ? a.url : b.url, { n, sentAtMs: Date.now() }, ttlSeconds);
      };
      /** The bridge's own account of when each active signal ends. The test and its nodes have one wall clock. */
      const check = async (): Promise<void> => {
        for (const { url } of [a, b]) {
          for (const { payload, expiresAt } of await active(url)) {
            if (payload.n === undefined) continue;
            const dueMs = (payload.sentAtMs as number) + (1 + (payload.n % 4)) * 1000;
            assert.ok(Date.parse(expiresAt) <= dueMs + 1_000, `${JSON.stringify(payload)} ${expiresAt} ${dueMs}`);
          }
        }
      };
      const record = messageNew({ tenantId: 't', ticketId: '1' });
      const headers = { 'content-type': 'application/json', 'idempotency-key': `k${pausedMs}` };
      const body = JSON.stringify({ event: 'messages.new', payload: record });
      const publish = () => fetch(`${b.url}/events`, { method: 'POST', headers, body });

      redis.pause();
      const sinceMs = performance.now();
      const published = publish();
      await until('Redis has hung for that long', async () => {
        await flood();
        await check();
        return performance.now() - sinceMs > pausedMs;
      });
      redis.resume();
      const { status } = await published;
      await until('the record is accepted', async () => {
        const response = await publish();
        await response.body?.cancel();
        return response.ok;
      });
      assert.ok(status === 201 || status === 503, `${status}`);
      for (const { signals } of listeners) {
        const from = signals.length;
        await until('signals are shared again', async () => {
          await flood();
          await check();
          return signals.length > from + 10;
        });
      }
      for (const client of listeners) {
        await until('the record is heard', () => client.cursor() !== null);
        for (const { n: number = 0, ttlSeconds } of client.signals) {
          // What arrives late has less time left.
          assert.ok(ttlSeconds <= 1 + (number % 4), `${number} ${ttlSeconds}`);
        }
      }
    });
  }

  it('have only the time that is left when they reach a node that hung', async (t) => {
    const [a, b] = await startNodes(t, redis.url);
    await untilShared(a.url, b.url);
    const listener = await connect(t, b.url);
    b.process.kill('SIGSTOP');
    const sinceMs = performance.now();
    await post(a.url, { n: 1, sentAtMs: Date.now() }, 1);
    await post(a.url, { n: 2, sentAtMs: Date.now() }, 60);
    await until('the node has hung for that long', () => performance.now() - sinceMs > 1_600);
    b.process.kill('SIGCONT');
    await until('signals are heard again', async () => {
      if (performance.now() - sinceMs > 3_000) await post(a.url, { n: 3, sentAtMs: Date.now() }, 60);
      return listener.signals.length > 0;
    });
    assert.ok(listener.signals.every(({ n }) => n !== 1));
    for (const { payload, expiresAt } of await active(b.url)) {
      assert.ok(Date.parse(expiresAt) <= (payload.sentAtMs as number) + 61_000);
    }
  });

  it('of one tenant never reach another', async (t) => {
    const [a, b] = await startNodes(t, redis.url, { AUTH_MODE: 'jwt', JWT_SECRET: SECRET });
    const tokenOf = (tenantId: string) =>
      new SignJWT({ tenantId, sub: 'u', scope: 'subscribe signal' })
        .setProtectedHeader({ alg: 'HS256' })
        .setExpirationTime('10m')
        .sign(Buffer.from(SECRET));
    const [one, two] = await Promise.all(['t1', 't2'].map(tokenOf));
    const of = (url: string, token: string | undefined) => connect(t, url, { token: token as string });
    const [sender, friend, stranger] = [await of(a.url, one), await of(b.url, one), await of(b.url, two)];
    const [strangerHere, strangerSends] = [await of(a.url, two), await of(a.url, two)];
    await until('the own tenant hears it', async () => {
      await send(sender, { n: 1 });
      return friend.signals.length > 0;
    });
    await until('the other tenant hears its own', async () => {
      await send(strangerSends, { n: 2 });
      return stranger.signals.length > 0 && strangerHere.signals.length > 0;
    });
    for (const { signals } of [stranger, strangerHere, strangerSends]) assert.ok(signals.every(({ n }) => n === 2));
    for (const { signals } of [sender, friend]) assert.ok(signals.every(({ n }) => n === 1));
    const late = await of(b.url, two);
    await until('who joins later hears what is active, or what comes next', async () => {
      if (late.signals.length === 0) await send(strangerSends, { n: 2 });
      return late.signals.length > 0;
    });
    assert.ok(late.signals.every(({ n }) => n === 2));
  });
});

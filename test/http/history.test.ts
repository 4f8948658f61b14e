/**
 * The last 60 minutes of a node: `GET /stats/history` (openapi.yaml) over a real bridge, and the history itself on clocks
 * that a test can move, because nobody waits an hour.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, mock, test } from 'node:test';
import { SignJWT } from 'jose';
import type { Config } from '../../src/config.ts';
import { TRANSPORTS } from '../../src/contract/names.ts';
import type { StatsHistory } from '../../src/contract/stats.ts';
import { createHistory, type History } from '../../src/http/history.ts';
import { createPrometheus, type Prometheus } from '../../src/metrics/prometheus.ts';
import { startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { until } from '../support/until.ts';

const SECRET = 'a secret of at least thirty-two bytes';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  mock.reset();
  mock.timers.reset();
});

async function start(options: Partial<Config> = {}): Promise<TestBridge> {
  const bridge = await startBridge(options);
  closing.push(bridge.close);
  return bridge;
}

async function history(bridge: TestBridge, query: string, headers: Record<string, string> = {}): Promise<StatsHistory> {
  const response = await fetch(`${bridge.url}/stats/history${query}`, { headers });
  assert.equal(response.status, 200);
  return (await response.json()) as StatsHistory;
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** The columns, by their path. */
function columns(points: object, path = ''): [path: string, values: readonly unknown[]][] {
  return Object.entries(points).flatMap(([name, value]: [string, object]) =>
    Array.isArray(value) ? [[`${path}${name}`, value] as [string, unknown[]]] : columns(value, `${path}${name}.`),
  );
}

describe('GET /stats/history', () => {
  test('each second is a point, with what happened in it; `since` gives what is new', async () => {
    const bridge = await start();
    const stream = await fetch(`${bridge.url}/sse?tenantId=tenant-1&legacy=false`);
    // Kept: once a response is garbage, its connection ends.
    closing.push(async () => stream.body?.cancel());
    await bridge.post({ event: 'tickets.updated', payload: ticketUpdated() });
    await bridge.post({ event: 'tickets.updated', payload: {} });
    await bridge.post({ event: 'nonsense', payload: {} });

    let now = await history(bridge, '?step=1');
    await until('the point of these', async () => {
      now = await history(bridge, '?step=1');
      return sum(now.points.deliveries.sse) === 1 && sum(now.points.refused) === 2;
    });
    const { points } = now;
    assert.equal(now.stepSeconds, 1);
    assert.equal(sum(points.accepted), 1);
    assert.equal(points.connections.sse.at(-1), 1);
    const at = points.deliveries.sse.indexOf(1);
    assert.ok((points.deliveryLag.p99Seconds.sse[at] ?? -1) > 0);
    assert.equal(points.deliveryLag.p50Seconds.longpoll[at], null);
    assert.ok(points.logTookWrites.every((took) => took));
    assert.ok((points.memory.rssBytes.at(-1) ?? 0) > 10_000_000);
    const lengths = new Set(columns(points).map(([, values]) => values.length));
    assert.deepEqual([...lengths], [points.atMs.length]);

    const since = new Date(points.atMs.at(-1) as number).toISOString();
    await until('a new point', async () => (await history(bridge, `?step=1&since=${since}`)).points.atMs.length > 0);
    const fresh = await history(bridge, `?step=1&since=${since}`);
    assert.ok(fresh.points.atMs.every((atMs) => atMs > Date.parse(since)));
    assert.equal(sum(fresh.points.accepted), 0);
    const future = new Date(Date.now() + 60_000).toISOString();
    assert.ok((await history(bridge, `?step=1&since=${future}`)).points.atMs.length >= points.atMs.length);
  });

  test('says when the node started; a bad or unknown parameter is a 400', async () => {
    const bridge = await start();
    const now = await history(bridge, '');
    assert.equal(now.stepSeconds, 10);
    assert.ok(Date.parse(now.node.startedAt) <= Date.parse(now.at));
    const figures = (await (await fetch(`${bridge.url}/stats`)).json()) as { node: { id: string; startedAt: string } };
    assert.deepEqual(now.node, { id: figures.node.id, startedAt: figures.node.startedAt });
    for (const query of ['?step=2', '?step=', '?since=yesterday', '?since=', '?steps=1', '?step=1&step=10']) {
      const response = await fetch(`${bridge.url}/stats/history${query}`);
      assert.equal(response.status, 400, query);
    }
  });

  test('needs the scope admin; a tenant’s admin sees counts and no names', async () => {
    const bridge = await start({ authMode: 'jwt', jwtSecret: SECRET });
    const bearer = async (claims: object) => ({
      authorization: `Bearer ${await new SignJWT({ ...claims })
        .setProtectedHeader({ alg: 'HS256' })
        .setExpirationTime('1h')
        .sign(new TextEncoder().encode(SECRET))}`,
    });
    const status = async (headers: Record<string, string>) =>
      (await fetch(`${bridge.url}/stats/history`, { headers })).status;
    assert.equal(await status({}), 401);
    assert.equal(await status(await bearer({ tenantId: 'a', scope: 'subscribe publish' })), 403);
    assert.equal(await status(await bearer({ tenantId: 'a', scope: 'admin', ticketIds: ['k'] })), 403);
    await bridge.publish('tickets.updated', ticketUpdated({ tenantId: 'secret-b', ticketId: 'secret-k' }));
    const ofA = await bearer({ tenantId: 'a', scope: 'admin' });
    await until('the point', async () => sum((await history(bridge, '?step=1', ofA)).points.accepted) === 1);
    assert.doesNotMatch(JSON.stringify(await history(bridge, '?step=1', ofA)), /secret-/);
  });
});

describe('the history', () => {
  /** A history on clocks that the test moves. */
  function onClocks() {
    mock.timers.enable({ apis: ['setInterval'] });
    let wallMs = Date.parse('2024-06-01T12:00:00.000Z');
    let runMs = 1_000;
    mock.method(Date, 'now', () => wallMs);
    mock.method(performance, 'now', () => runMs);
    const prometheus = createPrometheus({ roomLabel: 'kind', maxRooms: 0, sampleStore: async () => Promise.reject() });
    let isLogHealthy = true;
    // Each tick is over before the next one begins, as on a real clock.
    const reads: Promise<unknown>[] = [];
    const totals: Prometheus['totals'] = () => {
      const read = prometheus.totals();
      reads.push(read);
      return read;
    };
    const history = createHistory({ prometheus: { totals }, isLogHealthy: () => isLogHealthy });
    closing.push(history.close);
    const settle = async (): Promise<void> => {
      await Promise.all(reads.splice(0));
      await Promise.resolve();
    };
    return {
      history,
      metrics: prometheus.metrics,
      setLog: (healthy: boolean) => {
        isLogHealthy = healthy;
      },
      settle,
      async pass(seconds: number, each: (second: number) => void = () => {}): Promise<void> {
        await settle();
        for (let second = 0; second < seconds; second++) {
          each(second);
          runMs += 1_000;
          wallMs += 1_000;
          mock.timers.tick(1_000);
          await settle();
        }
      },
      /** The machine sleeps: the wall clock goes on, and the monotonic one stands still. */
      setClock(byMs: number): void {
        wallMs += byMs;
      },
      /** The process is stopped: both clocks go on, and no timer runs. */
      stop(ms: number): void {
        runMs += ms;
        wallMs += ms;
      },
    };
  }

  const all = (of: History, step: 1 | 10) => of.points(step, null);

  test('keeps five minutes by the second and an hour by ten seconds, and no more', async () => {
    const { history, metrics, pass } = onClocks();
    await pass(2 * 3600, () => metrics.published('tickets.updated', 'accepted', 2));
    const fine = all(history, 1);
    assert.equal(fine.atMs.length, 300);
    assert.deepEqual(new Set(fine.accepted), new Set([2]));
    assert.equal(fine.atMs.at(-1), Date.now());
    const coarse = all(history, 10);
    assert.equal(coarse.atMs.length, 360);
    assert.deepEqual(new Set(coarse.accepted), new Set([20]));
    assert.deepEqual(new Set(coarse.seconds), new Set([10]));
    assert.deepEqual(
      columns(coarse).filter(([, values]) => values.length !== 360),
      [],
    );
  });

  test('every column holds its own figure', async () => {
    const { history, metrics, pass } = onClocks();
    await pass(1);
    await pass(1, () => {
      TRANSPORTS.forEach((transport, index) => {
        for (let n = 0; n <= index; n++) metrics.connected(transport, 1);
        metrics.delivered(transport, 'tickets.updated', 10 + index);
        metrics.deliveryLag(transport, 0.001 * (index + 1));
      });
      metrics.published('tickets.updated', 'accepted', 3);
      metrics.refused('forbidden');
      metrics.refused('token_expired');
      metrics.reset('sse', 'expired');
      for (let n = 0; n < 4; n++) metrics.slowConsumer('http');
    });
    const last = Object.fromEntries(columns(all(history, 1)).map(([path, values]) => [path, values.at(-1)]));
    assert.partialDeepStrictEqual(last, {
      seconds: 1,
      'connections.websocket': 1,
      'connections.polling': 2,
      'connections.sse': 3,
      'connections.longpoll': 4,
      accepted: 3,
      'deliveries.websocket': 10,
      'deliveries.polling': 11,
      'deliveries.sse': 12,
      'deliveries.longpoll': 13,
      refused: 2,
      resets: 1,
      slowConsumers: 4,
      logTookWrites: true,
    });
    const lag = (of: string): number => last[`deliveryLag.${of}`] as number;
    assert.ok(lag('p99Seconds.websocket') < lag('p99Seconds.polling'));
    assert.ok(lag('p50Seconds.sse') < lag('p99Seconds.sse'));
    assert.ok((last['memory.rssBytes'] as number) > (last['memory.heapUsedBytes'] as number));
  });

  test('one second without the log marks its ten seconds, and so does one failed publish', async () => {
    const { history, metrics, setLog, pass } = onClocks();
    await pass(30, (second) => {
      setLog(second !== 14);
      if (second === 25) metrics.published('tickets.updated', 'failed', 1);
    });
    assert.deepEqual(all(history, 10).logTookWrites, [true, false, false]);
    assert.equal(all(history, 1).logTookWrites.filter((took) => !took).length, 2);
  });

  for (const [what, gap] of [
    ['the machine slept', (clock: ReturnType<typeof onClocks>) => clock.setClock(600_000)],
    ['the process was stopped', (clock: ReturnType<typeof onClocks>) => clock.stop(600_000)],
  ] as const) {
    test(`no point covers a time in which ${what}`, async () => {
      const clock = onClocks();
      const { history, metrics, pass } = clock;
      await pass(25);
      const before = Date.now();
      gap(clock);
      const after = Date.now();
      metrics.published('tickets.updated', 'accepted', 1_000);
      await pass(31);
      for (const step of [1, 10] as const) {
        const { atMs, seconds, accepted } = all(history, step);
        const begins = atMs.map((at, index) => at - (seconds[index] as number) * 1_000);
        assert.ok(begins.every((begin, index) => (atMs[index] as number) <= before || begin >= after));
        assert.ok(accepted.every((count) => count === 0));
        assert.ok(atMs.some((at) => at > after));
      }
      assert.deepEqual(all(history, 10).seconds, [10, 10, 10, 10, 10]);
    });
  }

  test('a clock that steps back takes the points of the future away, and the instants rise', async () => {
    const clock = onClocks();
    const { history, pass } = clock;
    await pass(120);
    const before = Date.now();
    clock.setClock(-60_000);
    await pass(30);
    for (const step of [1, 10] as const) {
      const { atMs } = all(history, step);
      assert.ok(atMs.length > 0 && atMs.every((at, index) => index === 0 || at > (atMs[index - 1] as number)));
      assert.ok((atMs.at(-1) as number) <= Date.now() && (atMs.at(-1) as number) < before);
    }
    assert.equal(all(history, 1).atMs.filter((at) => at > Date.now() - 29_500).length, 29);
    // What a console had asked for last lies in the future now.
    assert.equal(history.points(1, before).atMs.length, all(history, 1).atMs.length);
  });

  test('a turn of four seconds is one point of four seconds', async () => {
    const clock = onClocks();
    const { history, metrics, pass } = clock;
    await pass(3);
    metrics.published('tickets.updated', 'accepted', 8);
    clock.stop(3_000);
    await pass(1);
    const { seconds, accepted } = all(history, 1);
    assert.equal(seconds.at(-1), 4);
    assert.equal(accepted.at(-1), 8);
  });
});

/** j: what an operator's questions about many connections cost those who listen. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ours, type Server } from '../contenders.ts';
import { atMost, type Column, type Figures, type Scenario } from '../figures.ts';
import type { Stage } from '../stage.ts';
import { DELIVER_MS, entrant, publishTo, SETTLE_MS, type Size } from './measures.ts';

/** Of the calm, and of each kind of request. */
const SECONDS = 6;
const RECORDS_PER_SECOND = 20;
const ROOMS = 100;
const CASE = 'half by SSE, half by websocket';
const COLUMNS: readonly Column[] = [
  { key: 'connections', heading: 'connections' },
  { key: 'calmMs', heading: 'longest turn, nobody asks, ms', decimals: 1 },
  { key: 'listMs', heading: 'pages of 1000, ms', decimals: 1 },
  { key: 'filterMs', heading: 'one room, ms', decimals: 1 },
  { key: 'closeMs', heading: 'closing, ms', decimals: 1 },
  { key: 'page', heading: 'a page takes, ms', decimals: 1 },
  { key: 'filter', heading: 'a filter takes, ms', decimals: 1 },
  { key: 'calmP99Ms', heading: 'p99 of records, nobody asks, ms', decimals: 1 },
  { key: 'listP99Ms', heading: 'beside pages, ms', decimals: 1 },
];

interface Listing {
  readonly items: readonly unknown[];
  readonly nextPage: string | null;
}

async function ask<T>({ port }: Server, path: string, method = 'GET'): Promise<T> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, { method });
  const body = await response.text();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${body.slice(0, 200)}`);
  return JSON.parse(body) as T;
}

function operating(connections: number, seconds: number) {
  return async (stage: Stage): Promise<Figures> => {
    const server = await stage.start(ours.watchedSse);
    const audience = stage.audience();
    const half = { port: server.port, connections: connections / 2, rooms: ROOMS };
    await audience.connect({ ...half, mode: 'sse', path: ours.sse.listenPath });
    await audience.connect({ ...half, mode: 'websocket', path: ours.websocket.listenPath });
    await sleep(SETTLE_MS);
    const publishing = { ...publishTo(ours.watchedSse, server), events: 1e9, timeoutMs: DELIVER_MS };
    const endRecords = stage.keepPublishing({ ...publishing, perSecond: RECORDS_PER_SECOND });

    /** Asks one request after the other for that long. */
    const during = async (act: () => Promise<unknown>) => {
      await sleep(SETTLE_MS);
      const counting = audience.count({ deliveries: Number.POSITIVE_INFINITY, timeoutMs: seconds * 1000 });
      await server.longestTurnMs();
      const until = performance.now() + seconds * 1000;
      let requests = 0;
      while (performance.now() < until) {
        await act();
        requests++;
      }
      const turnMs = (await server.longestTurnMs()) ?? Number.NaN;
      return { turnMs, eachMs: (seconds * 1000) / requests, p99Ms: (await counting.result).latency.p99Ms };
    };

    const rest = async (): Promise<void> => void (await sleep(100));
    stage.say('warming up …');
    await during(rest);
    const calm = await during(rest);
    stage.say('pages …');
    let page: string | null = null;
    let listed = 0;
    let most = 0;
    const nextPage = async (): Promise<void> => {
      const query: string = page === null ? '' : `&page=${encodeURIComponent(page)}`;
      const body: Listing = await ask(server, `/connections?limit=1000${query}`);
      listed += body.items.length;
      most = Math.max(most, listed);
      page = body.nextPage;
      if (page === null) listed = 0;
    };
    await during(nextPage);
    const list = await during(nextPage);
    if (most !== connections) throw new Error(`${most} of ${connections} connections were listed`);
    stage.say('filters …');
    let room = 0;
    const filter = await during(() => ask(server, `/connections?room=tenant:tenant-${room++ % ROOMS}`));
    stage.say('closing …');
    await sleep(SETTLE_MS);
    await server.longestTurnMs();
    let closed = 0;
    for (let one = 1; one < ROOMS; one++) {
      closed += (await ask<{ closed: number }>(server, `/connections?room=tenant:tenant-${one}`, 'DELETE')).closed;
    }
    closed += (await ask<{ closed: number }>(server, '/connections?address=127.0.0.1', 'DELETE')).closed;
    if (closed !== connections) throw new Error(`${closed} of ${connections} connections were closed`);
    const closeMs = (await server.longestTurnMs()) ?? Number.NaN;
    await endRecords();
    return {
      ...{ connections, calmMs: calm.turnMs, listMs: list.turnMs, filterMs: filter.turnMs, closeMs },
      ...{ page: list.eachMs, filter: filter.eachMs, calmP99Ms: calm.p99Ms, listP99Ms: list.p99Ms },
    };
  };
}

export function operators(size: Size): Scenario {
  const connections = Math.floor(size.connections(size.quick ? 2_000 : 10_000) / 2) * 2;
  const name = CASE;
  const one = entrant(ours.watchedSse, operating(connections, size.quick ? 2 : SECONDS));
  return {
    name: 'j',
    title: 'An operator who looks at all connections',
    runs: 1,
    isCompared: false,
    cases: [{ name, columns: COLUMNS, entrants: [one] }],
    targets: ({ median }) =>
      (
        [
          ['listMs', 'longest turn beside pages of 1000'],
          ['filterMs', 'longest turn beside filters'],
          ['closeMs', 'longest turn while connections are closed'],
        ] as const
      ).map(([key, what]) => atMost(what, median(name, one.name, key), 10, 'ms')),
  };
}

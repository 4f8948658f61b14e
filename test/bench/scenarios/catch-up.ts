/** g: many listeners far behind return at once, while others listen live. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ours, ROOM } from '../contenders.ts';
import { atLeast, atMost, type Column, type Figures, type Scenario } from '../figures.ts';
import type { Stage } from '../stage.ts';
import { DELIVER_MS, entrant, fanOut, PACE_PER_SECOND, publishTo, SETTLE_MS, type Size } from './measures.ts';

const LIVE_ROOM = 'tenant-live';
const COLUMNS: readonly Column[] = [
  { key: 'perSecond', heading: 'deliveries/s', compared: true },
  { key: 'cpuUs', heading: 'server CPU, µs per delivery', decimals: 2, compared: true },
  { key: 'missing', heading: 'missing' },
  { key: 'calmP99Ms', heading: 'p99 of live ones before, ms', decimals: 2 },
  { key: 'p99Ms', heading: 'and meanwhile, ms', decimals: 2 },
];

/** The returning ones run at a lower priority: what is to be seen of the live ones is the server's delay. */
function catchingUp(listeners: number, behind: number, calmSeconds: number) {
  return async (stage: Stage): Promise<Figures> => {
    const server = await stage.start(ours.sse);
    const { port } = server;
    const here = await fetch(`http://127.0.0.1:${port}/events?tenantId=${ROOM}&after=now`);
    const { cursor } = (await here.json()) as { readonly cursor: string };
    await stage.publish({ ...publishTo(ours.sse, server), events: behind, batch: 100 });

    const live = stage.audience();
    const path = ours.sse.listenPath.replace('tenant-%r', LIVE_ROOM);
    await live.connect({ mode: 'sse', port, path, connections: listeners, rooms: 1 });
    await sleep(SETTLE_MS);
    const end = stage.keepPublishing({
      ...publishTo(ours.sse, server, LIVE_ROOM),
      ...{ events: 1e9, perSecond: PACE_PER_SECOND },
    });
    await sleep(1_000); // the first ones warm it up
    stage.say('live listeners alone …');
    const calm = await live.count({ deliveries: 1e9, timeoutMs: calmSeconds * 1_000 }).result;

    const returning = stage.audience(true);
    const replay = returning.count({ deliveries: listeners * behind, timeoutMs: DELIVER_MS });
    const meanwhile = live.count({ deliveries: 1e9, timeoutMs: DELIVER_MS });
    const before = server.usage();
    const since = `${ours.sse.listenPath}&after=${encodeURIComponent(cursor)}`;
    await returning.connect({ mode: 'sse', port, path: since, connections: listeners, rooms: 1 });
    replay.settle();
    const replayed = await replay.result;
    const after = server.usage();
    meanwhile.stop();
    const { latency, deliveries } = await meanwhile.result;
    await end();
    return {
      perSecond: replayed.deliveries / replayed.seconds,
      cpuUs: ((after.cpuMs - before.cpuMs) * 1000) / (replayed.deliveries + deliveries),
      missing: listeners * behind - replayed.deliveries,
      calmP99Ms: calm.latency.p99Ms,
      p99Ms: latency.p99Ms,
    };
  };
}

export function catchUp(size: Size): Scenario {
  const listeners = Math.floor(size.connections(size.quick ? 400 : 2_000) / 2);
  const behind = size.quick ? 500 : 1_000;
  const name = `${listeners} listeners, ${behind} events behind, beside ${listeners} live ones`;
  const returning = 'all returning at once';
  const live = 'the same, live';
  return {
    name: 'g',
    title: 'Catching up',
    runs: 3,
    isCompared: false,
    cases: [
      {
        name,
        columns: COLUMNS,
        entrants: [
          entrant(ours.sse, catchingUp(listeners, behind, size.quick ? 3 : 8), returning),
          entrant(ours.sse, fanOut(ours.sse, listeners, behind), live),
        ],
      },
    ],
    targets: ({ ratio, combined }) => [
      atLeast('rate to the live rate', ratio(name, returning, live, 'perSecond'), 0.5),
      atMost(
        'p99 of the live ones meanwhile, to theirs before',
        combined(name, [returning], ({ p99Ms = Number.NaN, calmP99Ms = Number.NaN }) => p99Ms / calmP99Ms),
        3,
      ),
    ],
  };
}

/** d: what a connection costs that hears nothing. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Contender, ours, peers } from '../contenders.ts';
import { atMost, type Column, type Figures, type Scenario } from '../figures.ts';
import type { Stage } from '../stage.ts';
import { entrant, listen, SETTLE_MS, type Size } from './measures.ts';

/** What was needed to connect is let go of meanwhile. */
const REST_MS = 2_000;
/** Two intervals of Engine.IO's pings (25 s), so that each run has as many of them; three and a bit of our heartbeats. */
const IDLE_MS = 50_000;
const COLUMNS: readonly Column[] = [
  { key: 'kbPerConnection', heading: 'RSS, KB per connection', decimals: 1, compared: true },
  { key: 'cpuPercent', heading: 'CPU while idle, % of a core', decimals: 2 },
];

function idling(contender: Contender, connections: number, idleMs: number) {
  return async (stage: Stage): Promise<Figures> => {
    const server = await stage.start(contender);
    await sleep(SETTLE_MS);
    const before = server.usage();
    await listen(stage, contender, server, connections);
    await sleep(REST_MS);
    const connected = server.usage();
    const kbPerConnection = (connected.rssKb - before.rssKb) / connections;
    if (idleMs === 0) return { kbPerConnection };
    stage.say(`${connections} idle connections for ${idleMs / 1000} s …`);
    await sleep(idleMs);
    return { kbPerConnection, cpuPercent: ((server.usage().cpuMs - connected.cpuMs) / idleMs) * 100 };
  };
}

export function idle(size: Size): Scenario {
  const connections = size.connections(size.quick ? 2_000 : 10_000);
  const idleMs = size.quick ? 5_000 : IDLE_MS;
  const sse = `${connections} SSE connections`;
  const websocket = `${connections} Socket.IO websocket connections`;
  const silent = [peers.nchan, peers.betterSse, peers.hono, peers.bare];
  const entrants = (timed: readonly Contender[], others: readonly Contender[]) => [
    ...timed.map((one) => entrant(one, idling(one, connections, idleMs))),
    ...others.map((one) => entrant(one, idling(one, connections, 0))),
  ];
  return {
    name: 'd',
    title: 'Idle connections',
    runs: 1,
    isCompared: false,
    cases: [
      { name: sse, columns: COLUMNS, entrants: entrants([ours.sse], silent) },
      { name: websocket, columns: COLUMNS, entrants: entrants([ours.websocket, peers.socketio], []) },
    ],
    targets: ({ median, ratio }) => [
      atMost('SSE, by public APIs alone', median(sse, ours.sse.name, 'kbPerConnection'), 18, 'KB'),
      atMost('SSE, without parser and response', median(sse, ours.sse.name, 'kbPerConnection'), 12, 'KB'),
      atMost(
        "websocket, to plain Socket.IO's",
        ratio(websocket, ours.websocket.name, peers.socketio.name, 'kbPerConnection'),
        0.6,
      ),
      atMost('SSE, CPU while idle', median(sse, ours.sse.name, 'cpuPercent'), 2, '% of a core'),
      atMost('websocket, CPU while idle', median(websocket, ours.websocket.name, 'cpuPercent'), 2, '% of a core'),
    ],
  };
}

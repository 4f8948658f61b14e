/** c: how long an event takes from POST to receipt where nothing is in its way but the commit and the fan-out. */
import { ours, peers } from '../contenders.ts';
import { atMost, type Figures, type Scenario } from '../figures.ts';
import { entrant, PACE_PER_SECOND, PACED_COLUMNS, paced, type Size } from './measures.ts';

export function latency(size: Size): Scenario {
  const listeners = size.connections(size.quick ? 200 : 1000);
  const seconds = size.quick ? 5 : 15;
  const name = `${listeners} listeners, ${PACE_PER_SECOND} events/s`;
  const beyond = (key: 'p50Ms' | 'p99Ms') => (mine: Figures, bare: Figures) =>
    ((mine[key] ?? Number.NaN) - (bare[key] ?? Number.NaN)) / (mine.commitMs ?? Number.NaN);
  return {
    name: 'c',
    title: 'Latency from POST to receipt',
    leastRuns: 5,
    cases: [
      {
        name,
        columns: PACED_COLUMNS,
        entrants: [ours.sse, peers.bare, peers.nchan, ours.websocket, peers.socketio].map((one) =>
          entrant(one, paced(one, listeners, seconds)),
        ),
      },
    ],
    targets: ({ combined }) =>
      (['p50Ms', 'p99Ms'] as const).map((key) =>
        atMost(
          `${key.slice(0, 3)} beyond the bare server's, in commit times of that run`,
          combined(name, [ours.sse.name, peers.bare.name], beyond(key)),
          2,
        ),
      ),
  };
}

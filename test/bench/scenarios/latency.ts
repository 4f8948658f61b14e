/** c: how long an event takes from POST to receipt where nothing is in its way but the commit and the fan-out. */
import { type Contender, ours, peers } from '../contenders.ts';
import { atMost, type Entrant, type Figures, once, type Results, type Scenario } from '../figures.ts';
import { entrant, PACE_PER_SECOND, PACED_COLUMNS, paced, type Size } from './measures.ts';

export function latency(size: Size): Scenario {
  const listeners = size.connections(size.quick ? 200 : 1000);
  const seconds = size.quick ? 5 : 15;
  const name = `${listeners} listeners, ${PACE_PER_SECOND} events/s`;
  const measured = (one: Contender): Entrant => entrant(one, paced(one, listeners, seconds));
  /** How much later than at the bare server, in times of that run's commits. */
  const beyond = (key: 'p50Ms' | 'p99Ms', inTimesOf: 'commitMs' | 'commitP99Ms') => {
    const times = (mine: Figures, bare: Figures): number =>
      ((mine[key] ?? Number.NaN) - (bare[key] ?? Number.NaN)) / (mine[inTimesOf] ?? Number.NaN);
    return (results: Results) => results.combined(name, [ours.sse.name, peers.bare.name], times);
  };
  return {
    name: 'c',
    title: 'Latency from POST to receipt',
    runs: 3,
    isCompared: true,
    cases: [
      {
        name,
        columns: PACED_COLUMNS,
        entrants: [
          ...[ours.sse, peers.bare].map(measured),
          ...[peers.nchan, peers.centrifugo, peers.durableStreams, ours.websocket, peers.socketio].map((one) =>
            once(measured(one)),
          ),
        ],
      },
    ],
    targets: (results) => [
      atMost("p50 beyond the bare server's, in commit times", beyond('p50Ms', 'commitMs')(results), 1.5),
      atMost("p99 beyond the bare server's, in p99 of the commits", beyond('p99Ms', 'commitP99Ms')(results), 2),
      atMost(
        "CPU per delivery to the bare server's",
        results.ratio(name, ours.sse.name, peers.bare.name, 'cpuUs'),
        1.15,
      ),
    ],
  };
}

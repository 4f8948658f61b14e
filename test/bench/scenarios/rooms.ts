/** f: whether a publish costs the listeners of its rooms alone, whoever else is connected. */
import { type Contender, ours } from '../contenders.ts';
import { atMost, type Column, type Figures, type Scenario } from '../figures.ts';
import type { Stage } from '../stage.ts';
import { DELIVER_MS, entrant, listen, publishTo, type Size } from './measures.ts';

const PER_ROOM = 10;
const PER_SECOND = 500;
const COLUMNS: readonly Column[] = [
  { key: 'cpuUs', heading: 'server CPU, µs per publish', decimals: 1, compared: true },
  { key: 'p50Ms', heading: 'p50, ms', decimals: 2 },
  { key: 'p99Ms', heading: 'p99, ms', decimals: 2 },
];

function oneRoom(contender: Contender, rooms: number, seconds: number) {
  return async (stage: Stage): Promise<Figures> => {
    const server = await stage.start(contender);
    const audience = await listen(stage, contender, server, rooms * PER_ROOM, rooms);
    const publishing = async (events: number) => {
      const counting = audience.count({ deliveries: events * PER_ROOM, timeoutMs: DELIVER_MS });
      await stage.publish({ ...publishTo(contender, server), events, perSecond: PER_SECOND });
      counting.settle();
      return counting.result;
    };
    await publishing(PER_SECOND);
    const before = server.usage();
    const events = PER_SECOND * seconds;
    const { latency } = await publishing(events);
    return { cpuUs: ((server.usage().cpuMs - before.cpuMs) * 1000) / events, ...latency };
  };
}

export function rooms(size: Size): Scenario {
  const many = Math.floor(size.connections(size.quick ? 2_000 : 10_000) / PER_ROOM);
  const seconds = size.quick ? 3 : 8;
  const crowded = `${many * PER_ROOM} connected in ${many} rooms`;
  const alone = `only those ${PER_ROOM} connected`;
  const cases = [
    { name: `SSE, ${PER_SECOND} publishes/s to a room of ${PER_ROOM}`, contender: ours.sse },
    { name: `Socket.IO, ${PER_SECOND} publishes/s to a room of ${PER_ROOM}`, contender: ours.websocket },
  ];
  return {
    name: 'f',
    title: 'Scale in rooms',
    runs: 2,
    isCompared: false,
    cases: cases.map(({ name, contender }) => ({
      name,
      columns: COLUMNS,
      entrants: [
        entrant(contender, oneRoom(contender, many, seconds), crowded),
        entrant(contender, oneRoom(contender, 1, seconds), alone),
      ],
    })),
    targets: ({ ratio }) =>
      cases.map(({ name }) => atMost(`${name}: cost of a publish`, ratio(name, crowded, alone, 'cpuUs'), 1.3)),
  };
}

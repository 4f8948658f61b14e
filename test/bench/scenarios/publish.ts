/** e: what publishing costs by itself, with nobody listening. */
import { type Contender, ours, peers } from '../contenders.ts';
import { atLeast, atMost, before, type Column, type Figures, type Scenario } from '../figures.ts';
import type { Stage } from '../stage.ts';
import { entrant, PAYLOAD_BYTES, PUBLISHERS, publishTo, type Size } from './measures.ts';

const SMALL_BYTES = 256;
const OURS = 'roomcast';
/** What the CPU per event may be, to that of the bare server: the room index, the state, cursors and dedupe cost that. */
const MOST_TO_BARE = 1.6;
const COLUMNS: readonly Column[] = [
  { key: 'perSecond', heading: 'events/s', compared: true },
  { key: 'cpuUs', heading: 'server CPU, µs per event', decimals: 1, compared: true },
  { key: 'p50Ms', heading: 'answer p50, ms', decimals: 2 },
  { key: 'p99Ms', heading: 'answer p99, ms', decimals: 2 },
];

interface Posting {
  readonly name: string;
  readonly connections: number;
  readonly batch: number;
  readonly payloadBytes: number;
  readonly events: number;
  /** What is wanted of the rate, to that of the tree before. */
  readonly toBefore: number;
}

/** A quarter goes before as warm-up. */
function publishing(contender: Contender, { connections, batch, payloadBytes, events }: Posting) {
  return async (stage: Stage): Promise<Figures> => {
    const server = await stage.start(contender);
    const posting = { ...publishTo(contender, server), connections, batch, payloadBytes };
    stage.say('warming up …');
    await stage.publish({ ...posting, events: events / 4 });
    stage.say(`${events} events …`);
    const before = server.usage();
    const { seconds, latency } = await stage.publish({ ...posting, events });
    const cpuMs = server.usage().cpuMs - before.cpuMs;
    return { perSecond: events / seconds, cpuUs: (cpuMs * 1000) / events, ...latency };
  };
}

export function publish({ quick }: Size): Scenario {
  const scale = quick ? 5 : 1;
  const single = (connections: number): string => `single POSTs of 1 KB over ${connections} connections`;
  const batches = (size: string): string => `batches of 100, ${size} each, over ${PUBLISHERS} connections`;
  const one = { batch: 1, payloadBytes: PAYLOAD_BYTES, events: 20_000 / scale };
  const hundred = { connections: PUBLISHERS, batch: 100, events: 100_000 / scale };
  const postings: Posting[] = [
    { ...one, name: single(PUBLISHERS), connections: PUBLISHERS, toBefore: 1.35 },
    { ...one, name: single(64), connections: 64, toBefore: 1.6 },
    { ...hundred, name: batches(`${SMALL_BYTES} bytes`), payloadBytes: SMALL_BYTES, toBefore: 1.7 },
    { ...hundred, name: batches('1 KB'), payloadBytes: PAYLOAD_BYTES, toBefore: 1.4 },
  ];
  const all = [ours.sse, peers.httpSqlite, peers.durableStreams, peers.honoEmpty];
  const nameOf = (contender: Contender): string => (contender === ours.sse ? OURS : contender.name);
  return {
    name: 'e',
    title: 'Publishing with nobody listening',
    runs: 5,
    isCompared: true,
    cases: postings.map((posting) => ({
      name: posting.name,
      columns: COLUMNS,
      entrants: all.map((contender) => entrant(contender, publishing(contender, posting), nameOf(contender))),
    })),
    targets: ({ ratio }) =>
      postings.flatMap(({ name, toBefore }) => [
        atLeast(`${name}: rate to that of the tree before`, ratio(name, OURS, before(OURS), 'perSecond'), toBefore),
        atMost(
          `${name}: CPU per event to ${peers.httpSqlite.name}`,
          ratio(name, OURS, peers.httpSqlite.name, 'cpuUs'),
          MOST_TO_BARE,
        ),
      ]),
  };
}

/** e: what publishing costs by itself, with nobody listening. */
import { type Contender, ours, peers } from '../contenders.ts';
import { atLeast, type Column, type Figures, type Scenario } from '../figures.ts';
import type { Stage } from '../stage.ts';
import { entrant, PAYLOAD_BYTES, PUBLISHERS, publishTo, type Size } from './measures.ts';

const SMALL_BYTES = 256;
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
}

/** A fifth goes before as warm-up. */
function publishing(contender: Contender, { connections, batch, payloadBytes, events }: Posting) {
  return async (stage: Stage): Promise<Figures> => {
    const server = await stage.start(contender);
    const posting = { ...publishTo(contender, server), connections, batch, payloadBytes };
    stage.say('warming up …');
    await stage.publish({ ...posting, events: events / 5 });
    stage.say(`${events} events …`);
    const before = server.usage();
    const { seconds, latency } = await stage.publish({ ...posting, events });
    const cpuMs = server.usage().cpuMs - before.cpuMs;
    return { perSecond: events / seconds, cpuUs: (cpuMs * 1000) / events, ...latency };
  };
}

export function publish({ quick }: Size): Scenario {
  const scale = quick ? 5 : 1;
  const single = `single POSTs of 1 KB over ${PUBLISHERS} connections`;
  const many = 'single POSTs of 1 KB over 64 connections';
  const batches = (size: string): string => `batches of 100, ${size} each, over ${PUBLISHERS} connections`;
  const one = { batch: 1, payloadBytes: PAYLOAD_BYTES, events: 40_000 / scale };
  const hundred = { connections: PUBLISHERS, batch: 100, events: 200_000 / scale };
  const postings: Posting[] = [
    { ...one, name: single, connections: PUBLISHERS },
    { ...one, name: many, connections: 64 },
    { ...hundred, name: batches(`${SMALL_BYTES} bytes`), payloadBytes: SMALL_BYTES },
    { ...hundred, name: batches('1 KB'), payloadBytes: PAYLOAD_BYTES },
  ];
  return {
    name: 'e',
    title: 'Publishing with nobody listening',
    cases: postings.map((posting) => ({
      name: posting.name,
      columns: COLUMNS,
      entrants: [ours.sse, peers.honoEmpty].map((contender) =>
        entrant(contender, publishing(contender, posting), contender === ours.sse ? 'roomcast' : contender.name),
      ),
    })),
    targets: ({ median, ratio }) => [
      atLeast(
        `${single}: rate to the empty route's`,
        ratio(single, 'roomcast', peers.honoEmpty.name, 'perSecond'),
        0.6,
      ),
      ...postings.slice(2).map(({ name }) => atLeast(name, median(name, 'roomcast', 'perSecond'), 60_000, 'events/s')),
    ],
  };
}

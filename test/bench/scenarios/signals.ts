/** i: whether 10,000 signals a second delay the records beside them. Rounds with and without signals take turns. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ours, type Server } from '../contenders.ts';
import { atMost, type Column, type Figures, median, reported, type Scenario } from '../figures.ts';
import { type Counted, SIGNAL, type Tickets } from '../load/protocol.ts';
import type { Stage } from '../stage.ts';
import { DELIVER_MS, entrant, publishTo, SETTLE_MS, type Size } from './measures.ts';

const RECORDS_PER_SECOND = 500;
const SIGNALS_PER_SECOND = 10_000;
/** Each waits for the answer to its last signal. */
const SIGNAL_PUBLISHERS = 64;
/** After signals begin or end. */
const CHANGE_MS = 1_000;
const COLUMNS: readonly Column[] = [
  { key: 'calmP50Ms', heading: 'p50 of records alone, ms', decimals: 2 },
  { key: 'p50Ms', heading: 'beside signals, ms', decimals: 2 },
  { key: 'calmP99Ms', heading: 'p99 of records alone, ms', decimals: 2 },
  { key: 'p99Ms', heading: 'beside signals, ms', decimals: 2 },
  { key: 'accepted', heading: 'signals/s' },
  { key: 'delivered', heading: 'deliveries of them/s' },
  { key: 'dropped', heading: 'dropped/s' },
  { key: 'signalP99Ms', heading: 'their p99, ms', decimals: 1 },
  { key: 'calmCpu', heading: 'server, cores, records alone', decimals: 2 },
  { key: 'cpu', heading: 'beside signals', decimals: 2 },
  { key: 'load', heading: 'load, cores', decimals: 2 },
];

interface Shape {
  readonly name: string;
  readonly connections: number;
  /** The tenants. */
  readonly rooms: number;
  readonly tickets: Tickets;
  readonly sends: 'with acknowledgement' | 'without' | 'by POST';
}

const TICKET = 'ticket-%r-%t';
/** 50 tenants of 20 agents, who share four tickets. */
const INBOX = { connections: 1000, rooms: 50, tickets: { name: TICKET, sizes: [2, 3, 5, 10] } };
/** 20 tenants of 5 agents. All signal to all, and each hears the records of its tenant. */
const CROWD = { connections: 100, rooms: 20, tickets: { name: 'everyone', sizes: [5] } };
const SHAPES: readonly Shape[] = [
  { ...INBOX, name: '1,000 agents in 200 tickets of 2 to 10', sends: 'with acknowledgement' },
  { ...CROWD, name: '100 agents in one ticket', sends: 'without' },
  { ...INBOX, name: '1,000 agents in 200 tickets, signals by POST', sends: 'by POST' },
];

interface Totals {
  readonly accepted: number;
  readonly dropped: number;
  readonly cpuMs: number;
  readonly atMs: number;
}

async function totalsOf(server: Server): Promise<Totals> {
  const text = await (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text();
  const sum = (series: RegExp): number => [...text.matchAll(series)].reduce((all, [, value]) => all + Number(value), 0);
  return {
    accepted: sum(new RegExp(`^ws_emit_total\\{.*event="${SIGNAL}".*\\} (\\S+)`, 'gm')),
    dropped: sum(/^roomcast_signals_dropped_total\{.*\} (\S+)/gm),
    cpuMs: server.usage().cpuMs,
    atMs: performance.now(),
  };
}

interface Round extends Counted {
  readonly perSecond: (key: 'accepted' | 'dropped' | 'cpuMs') => number;
}

function besideSignals({ connections, rooms, tickets, sends }: Shape, rounds: number, seconds: number) {
  return async (stage: Stage): Promise<Figures> => {
    const server = await stage.start(ours.signalling);
    const { port } = server;
    const audience = stage.audience();
    await audience.connect({ mode: 'websocket', port, path: ours.signalling.listenPath, connections, rooms, tickets });
    await sleep(SETTLE_MS);
    const publishing = { ...publishTo(ours.signalling, server), events: 1e9, timeoutMs: DELIVER_MS };
    const endRecords = stage.keepPublishing({
      ...publishing,
      ...{ perSecond: RECORDS_PER_SECOND, spread: { rooms, tickets: { ...tickets, name: TICKET } } },
    });

    const startSignals = (): (() => void | Promise<void>) =>
      sends === 'by POST'
        ? stage.keepPublishing({
            ...publishing,
            ...{ path: '/signals', body: 'signal', connections: SIGNAL_PUBLISHERS },
            ...{ perSecond: SIGNALS_PER_SECOND, spread: { rooms, tickets } },
          })
        : audience.signal({ perSecond: SIGNALS_PER_SECOND, acks: sends === 'with acknowledgement' });

    const round = async (): Promise<Round> => {
      await sleep(CHANGE_MS);
      const before = await totalsOf(server);
      const counted = await audience.count({ deliveries: Number.POSITIVE_INFINITY, timeoutMs: seconds * 1000 }).result;
      const after = await totalsOf(server);
      return { ...counted, perSecond: (key) => ((after[key] - before[key]) / (after.atMs - before.atMs)) * 1000 };
    };
    const roundWithSignals = async (): Promise<Round> => {
      const endSignals = startSignals();
      const result = await round();
      await endSignals();
      return result;
    };

    stage.say('warming up …');
    await roundWithSignals();
    const calm: Round[] = [];
    const beside: Round[] = [];
    for (let one = 1; one <= rounds; one++) {
      stage.say(`round ${one} of ${rounds} …`);
      calm.push(await round());
      beside.push(await roundWithSignals());
    }
    await endRecords();
    const of = (all: readonly Round[], figure: (one: Round) => number): number => median(all.map(figure)) ?? Number.NaN;
    return {
      calmP50Ms: of(calm, ({ latency }) => latency.p50Ms),
      p50Ms: of(beside, ({ latency }) => latency.p50Ms),
      calmP99Ms: of(calm, ({ latency }) => latency.p99Ms),
      p99Ms: of(beside, ({ latency }) => latency.p99Ms),
      accepted: of(beside, ({ perSecond }) => perSecond('accepted')),
      delivered: of(beside, ({ signals }) => signals.deliveries / seconds),
      dropped: of(beside, ({ perSecond }) => perSecond('dropped')),
      signalP99Ms: of(beside, ({ signals }) => signals.latency.p99Ms),
      calmCpu: of(calm, ({ perSecond }) => perSecond('cpuMs')) / 1000,
      cpu: of(beside, ({ perSecond }) => perSecond('cpuMs')) / 1000,
      load: of(beside, ({ load }) => load),
    };
  };
}

export function signals({ quick }: Size): Scenario {
  const rounds = quick ? 3 : 4;
  const seconds = quick ? 4 : 8;
  return {
    name: 'i',
    title: 'Signals beside records',
    runs: 1,
    isCompared: false,
    sharesCores: true,
    cases: SHAPES.map((shape) => ({
      name: shape.name,
      columns: COLUMNS,
      entrants: [entrant(ours.signalling, besideSignals(shape, rounds, seconds))],
    })),
    targets: ({ combined }) =>
      SHAPES.map(({ name, sends }) => {
        const what = `${name}: p99 of records beside signals, to theirs alone`;
        const toCalm = ({ p99Ms = Number.NaN, calmP99Ms = Number.NaN }: Figures): number => p99Ms / calmP99Ms;
        const got = combined(name, [ours.signalling.name], toCalm);
        // Requests come as fast as they are answered, and take the whole core (RATE_SIGNALS limits them).
        return sends === 'by POST' ? reported(what, got, 'no limit set') : atMost(what, got, 1.5);
      }),
  };
}

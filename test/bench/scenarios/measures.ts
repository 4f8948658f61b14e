/** The measurements that several scenarios share. */
import { setTimeout as sleep } from 'node:timers/promises';
import { commitsBetween, readCommits } from '../commits.ts';
import { type Contender, ROOM, type Server } from '../contenders.ts';
import type { Column, Entrant, Figures } from '../figures.ts';
import { medianSyncMs } from '../machine.ts';
import type { Audience, Stage } from '../stage.ts';

export interface Size {
  readonly quick: boolean;
  /** As many connections as the limit of open files allows. */
  connections(wanted: number): number;
}

/** Keep-alive connections of those who publish. */
export const PUBLISHERS = 4;
export const PAYLOAD_BYTES = 1024;
/** Where nothing coalesces. */
export const PACE_PER_SECOND = 20;
/** After the last listener is ready. */
export const SETTLE_MS = 500;
/** Longest that the deliveries of one measurement may take. */
export const DELIVER_MS = 120_000;
const WARM_UP_EVENTS = 50;
const WARM_UP_PER_SECOND = 50;

export function entrant(contender: Contender, measure: (stage: Stage) => Promise<Figures>, name?: string): Entrant {
  return {
    name: name ?? contender.name,
    isBridge: contender.isBridge,
    missing: (programs) => contender.missing(programs),
    measure,
  };
}

export function publishTo(contender: Contender, { port }: Server, tenantId = ROOM) {
  return {
    port,
    path: contender.publishPath(tenantId),
    tenantId,
    body: contender.body,
    connections: PUBLISHERS,
    payloadBytes: PAYLOAD_BYTES,
    timeoutMs: DELIVER_MS,
  } as const;
}

export async function listen(
  stage: Stage,
  contender: Contender,
  { port }: Server,
  connections: number,
  rooms = 1,
): Promise<Audience> {
  const audience = stage.audience();
  const { mode, httpVersion, listenPath: path } = contender;
  await audience.connect({
    mode,
    port,
    path,
    connections,
    rooms,
    ...(httpVersion === undefined ? {} : { httpVersion }),
  });
  await sleep(SETTLE_MS);
  return audience;
}

export const FAN_OUT_COLUMNS: readonly Column[] = [
  { key: 'perSecond', heading: 'deliveries/s', compared: true },
  { key: 'cpuUs', heading: 'server CPU, µs per delivery', decimals: 2, compared: true },
  { key: 'missing', heading: 'missing' },
  { key: 'load', heading: 'load, cores', decimals: 2 },
];

/** As fast as the publishers are answered. */
export function fanOut(contender: Contender, listeners: number, events: number) {
  return async (stage: Stage): Promise<Figures> => {
    const server = await stage.start(contender);
    const audience = await listen(stage, contender, server, listeners);
    const before = server.usage();
    const counting = audience.count({ deliveries: listeners * events, timeoutMs: DELIVER_MS });
    await stage.publish({ ...publishTo(contender, server), events });
    counting.settle();
    const counted = await counting.result;
    const cpuMs = server.usage().cpuMs - before.cpuMs;
    return {
      perSecond: counted.deliveries / counted.seconds,
      cpuUs: (cpuMs * 1000) / counted.deliveries,
      missing: listeners * events - counted.deliveries,
      load: counted.load,
    };
  };
}

export const PACED_COLUMNS: readonly Column[] = [
  { key: 'p50Ms', heading: 'p50, ms', decimals: 2, compared: true },
  { key: 'p99Ms', heading: 'p99, ms', decimals: 2, compared: true },
  { key: 'cpuUs', heading: 'server CPU, µs per delivery', decimals: 2, compared: true },
  { key: 'commitMs', heading: 'commit, ms', decimals: 2 },
  { key: 'commitP99Ms', heading: 'commit p99, ms', decimals: 2 },
  { key: 'syncMs', heading: 'fdatasync, ms', decimals: 2 },
  { key: 'missing', heading: 'missing' },
];

/** At a fixed rate that leaves every event alone, after a warm-up: from POST to receipt. */
export function paced(contender: Contender, listeners: number, seconds: number) {
  return async (stage: Stage): Promise<Figures> => {
    const syncMs = contender.isBridge ? medianSyncMs(stage.options.directory) : null;
    const server = await stage.start(contender);
    const audience = await listen(stage, contender, server, listeners);
    await warmUp(stage, contender, server, audience, listeners);
    const before = server.usage();
    const committed = contender.isBridge ? await readCommits(server) : null;
    const events = PACE_PER_SECOND * seconds;
    const counting = audience.count({ deliveries: listeners * events, timeoutMs: DELIVER_MS });
    await stage.publish({ ...publishTo(contender, server), events, perSecond: PACE_PER_SECOND });
    counting.settle();
    const { deliveries, latency } = await counting.result;
    const cpuMs = server.usage().cpuMs - before.cpuMs;
    return {
      ...latency,
      cpuUs: (cpuMs * 1000) / deliveries,
      missing: listeners * events - deliveries,
      ...(committed === null ? {} : commitsBetween(committed, await readCommits(server))),
      ...(syncMs === null ? {} : { syncMs }),
    };
  };
}

async function warmUp(
  stage: Stage,
  contender: Contender,
  server: Server,
  audience: Audience,
  listeners: number,
): Promise<void> {
  const counting = audience.count({ deliveries: listeners * WARM_UP_EVENTS, timeoutMs: DELIVER_MS });
  const posting = { events: WARM_UP_EVENTS, perSecond: WARM_UP_PER_SECOND };
  await stage.publish({ ...publishTo(contender, server), ...posting });
  counting.settle();
  await counting.result;
}

/**
 * What an attack costs others: the memory of the server and the answers of another caller, before the attack and under it,
 * in the same run. Bounds: memory within 150 MiB of its level before, the other caller's p99 within 3 times of it. Continuous
 * integration (`--short`) judges the memory and the answers, and only prints the times.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { Objection } from './checker.ts';
import type { Server } from './server.ts';
import { type Kit, quantile } from './stage.ts';

const BOUND_MIB = 150;
const BOUND_FACTOR = 3;
/**
 * A p99 under this passes whatever it was before. Server, attacker and caller share two cores here, and a time slice of
 * another process takes longer than an answer.
 */
const FLOOR_MS = 60;
const BEFORE_MS = 3_000;
const SAMPLE_MS = 50;

export interface AttackOptions {
  readonly server: Server;
  /** How the other caller authenticates. It needs the scopes publish and subscribe for `tenantId`. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly tenantId?: string;
  /** At most 10,000. */
  readonly attackMs?: number;
  /** Begins the attack. It goes on until the signal aborts, and then closes what it opened. */
  readonly attack: (signal: AbortSignal) => Promise<unknown>;
}

interface Measured {
  readonly reads: readonly number[];
  readonly publishes: readonly number[];
  readonly failures: readonly string[];
}

/** Figures for the table, and an objection for each bound that does not hold. */
export async function underAttack(
  { judgesTimes }: Pick<Kit, 'judgesTimes'>,
  { server, headers = {}, tenantId = 'bystander', attackMs = 8_000, attack }: AttackOptions,
) {
  const bystander = new Worker(new URL('./bystander.ts', import.meta.url), {
    workerData: { url: server.url, headers, tenantId },
  });
  const measured = (): Promise<Measured> =>
    new Promise((resolve) => {
      bystander.once('message', resolve);
      bystander.postMessage('measured');
    });
  try {
    // The first answers are slower: code is compiled, connections are opened.
    await sleep(BEFORE_MS / 3);
    await measured();
    await sleep(BEFORE_MS);
    const before = await measured();
    const beforeMiB = server.memoryMiB();
    const ending = new AbortController();
    const attacking = attack(ending.signal);
    attacking.catch(() => {});
    let highestMiB = 0;
    for (const endAt = performance.now() + attackMs; performance.now() < endAt && server.alive(); ) {
      highestMiB = Math.max(highestMiB, server.memoryMiB());
      await sleep(SAMPLE_MS);
    }
    const under = await measured();
    ending.abort();
    await attacking;
    return judge(before, under, beforeMiB, highestMiB, server.alive(), judgesTimes);
  } finally {
    await bystander.terminate();
  }
}

function judge(
  before: Measured,
  under: Measured,
  beforeMiB: number,
  highestMiB: number,
  alive: boolean,
  judgesTimes: boolean,
) {
  const objections: Objection[] = [];
  const object = (detail: string): void => void objections.push({ law: 'lost', who: 'server under attack', detail });
  const rose = Math.round(highestMiB - beforeMiB);
  if (!alive) object('it died');
  if (rose > BOUND_MIB) object(`memory rose by ${rose} MiB, from ${Math.round(beforeMiB)}`);
  const figures: Record<string, string> = { 'memory MiB': `${Math.round(beforeMiB)} → ${Math.round(highestMiB)}` };
  for (const kind of ['reads', 'publishes'] as const) {
    const [was, is] = [quantile(before[kind], 0.99), quantile(under[kind], 0.99)];
    figures[`p99 of other ${kind} ms`] = `${was.toFixed(1)} → ${is.toFixed(1)}`;
    if (judgesTimes && is > Math.max(FLOOR_MS, BOUND_FACTOR * was))
      object(`p99 of other ${kind}: ${was.toFixed(1)} → ${is.toFixed(1)} ms`);
    if (under[kind].length === 0) object(`no other ${kind} were answered`);
  }
  const [failure] = under.failures;
  if (failure !== undefined) object(`${under.failures.length} requests of another caller failed: ${failure}`);
  return { figures, objections };
}

/** Where the bridge's time went: the CPU profiles of a directory (`node --cpu-prof`) as one table per thread. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { table } from './report.ts';

interface Profile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

const MOST_ROWS = 20;
/** Not work; all shares are of the rest. */
const IDLE = '(idle)';

/** Threads are told apart by the number that Node gives them, over all processes of the directory: 0 is the event loop. */
export function summary(directory: string): string {
  const threads = new Map<string, Map<string, number>>();
  for (const file of readdirSync(directory)) {
    // CPU.<date>.<time>.<pid>.<thread>.<sequence>.cpuprofile
    const thread = /^CPU\.\d+\.\d+\.\d+\.(\d+)\.\d+\.cpuprofile$/.exec(file)?.[1];
    if (thread === undefined) continue;
    const spent = threads.get(thread) ?? new Map<string, number>();
    threads.set(thread, spent);
    addSelfTimes(JSON.parse(readFileSync(join(directory, file), 'utf8')) as Profile, spent);
  }
  return [...threads]
    .sort()
    .map(([thread, spent]) => tableOf(thread, spent))
    .join('\n\n');
}

function addSelfTimes({ nodes, samples, timeDeltas }: Profile, spent: Map<string, number>): void {
  const places = new Map(nodes.map(({ id, callFrame }) => [id, placeOf(callFrame)]));
  for (const [index, id] of samples.entries()) {
    const place = places.get(id) ?? '';
    spent.set(place, (spent.get(place) ?? 0) + (timeDeltas[index] ?? 0));
  }
}

function placeOf({ functionName, url, lineNumber }: Profile['nodes'][number]['callFrame']): string {
  const file = url.replace(/^.*\/(?=src\/|node_modules\/)/, '');
  return `${functionName || '(anonymous)'}${file === '' ? '' : ` ${file}:${lineNumber + 1}`}`;
}

function tableOf(thread: string, spent: ReadonlyMap<string, number>): string {
  const busy = [...spent].filter(([place]) => place !== IDLE);
  const total = busy.reduce((sum, [, us]) => sum + us, 0);
  const rows = busy
    .sort(([, a], [, b]) => b - a)
    .slice(0, MOST_ROWS)
    .map(([place, us]) => [place, `${((us / total) * 100).toFixed(1)} %`, (us / 1000).toFixed(0)]);
  return table([`thread ${thread}`, 'self time', 'ms'], rows);
}

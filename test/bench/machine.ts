/** What the bench asks of the machine: cores to pin to, limits, and what a process has used, as /proc tells it. */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  closeSync,
  fdatasyncSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeSync,
} from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';

export interface Cores {
  readonly server: number;
  readonly load: number;
  /** For another server that the one under test leans on: a third core, else the load's. */
  readonly store: number;
  /** The server's and the load's, for a server that uses two. */
  readonly both: string;
}

/** Null where nothing can be pinned: no `taskset`, or one core only. */
export function findCores(): Cores | null {
  if (spawnSync('taskset', ['--version']).error !== undefined) return null;
  const allowed = /Cpus_allowed_list:\s*(\S+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '';
  const cores = allowed.split(',').flatMap((range) => {
    const [first = 0, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
  const [server, load, store = load] = cores;
  return server === undefined || load === undefined || store === undefined
    ? null
    : { server, load, store, both: `${server},${load}` };
}

/** Files that one process may have open: the hard limit, to which Node raises its own. */
export function openFilesLimit(): number {
  const limit = /Max open files\s+\S+\s+(\S+)/.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
  return limit === 'unlimited' ? Number.POSITIVE_INFINITY : Number(limit);
}

export function describeMachine(): string {
  const model = cpus()[0]?.model ?? 'unknown processor';
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`;
  return `${cpus().length} × ${model}, ${memory}, Linux ${release().split('-')[0]}, Node ${process.version}`;
}

/** @param sharesCores whether the server may use the load's core, too */
export function describePinning(cores: Cores | null, sharesCores: boolean): string {
  if (cores === null) return 'nothing pinned';
  return sharesCores ? 'server and load share both cores' : 'the server pinned to one core, the load to another';
}

export interface Usage {
  /** User and system time of all threads. */
  readonly cpuMs: number;
  readonly rssKb: number;
}

const TICK_MS = 1000 / Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));

/** Of a process and its children together. One that is gone counts nothing. */
export function usageOf(pid: number): Usage {
  let cpuMs = 0;
  let rssKb = 0;
  for (const one of [pid, ...childrenOf(pid)]) {
    const fields = statOf(one);
    if (fields === null) continue;
    // proc(5): utime and stime are fields 14 and 15; the first here is field 3.
    cpuMs += (Number(fields[11]) + Number(fields[12])) * TICK_MS;
    rssKb += rssOf(one);
  }
  return { cpuMs, rssKb };
}

function childrenOf(pid: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((other) => statOf(other)?.[1] === String(pid));
}

/** The fields after the command's name, which may hold spaces. */
function statOf(pid: number): string[] | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return null; // it has ended
  }
}

/** The sum of the mappings: the counters of `status` may lag by some pages for each thread. */
function rssOf(pid: number): number {
  for (const [file, line] of [
    ['smaps_rollup', /^Rss:\s+(\d+)/m],
    ['status', /^VmRSS:\s+(\d+)/m],
  ] as const) {
    try {
      return Number(line.exec(readFileSync(`/proc/${pid}/${file}`, 'utf8'))?.[1] ?? 0);
    } catch {} // a kernel without it, or the process has ended
  }
  return 0;
}

const TMPFS_MAGIC = 0x01021994;
const SYNCS = 200;

export function isMemoryBacked(directory: string): boolean {
  return statfsSync(directory).type === TMPFS_MAGIC;
}

/** What this disk takes to sync an append of 4 KiB, in ms: the median. */
export function medianSyncMs(directory: string): number {
  const scratch = mkdtempSync(join(directory, 'sync-'));
  const file = openSync(join(scratch, 'file'), 'w');
  const page = Buffer.alloc(4096, 1);
  const times = Array.from({ length: SYNCS }, () => {
    const startedAt = performance.now();
    writeSync(file, page);
    fdatasyncSync(file);
    return performance.now() - startedAt;
  });
  closeSync(file);
  rmSync(scratch, { recursive: true });
  return times.sort((a, b) => a - b)[SYNCS / 2] as number;
}

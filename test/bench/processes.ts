/** Every process that the bench starts, pinned where that can be, and ended with it, whatever ends it. */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findCores } from './machine.ts';

export const cores = findCores();

/** How long a server may take to end by itself. */
const GRACE_MS = 6_000;
const running = new Set<ChildProcess>();
const directories = new Set<string>();

process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
  for (const directory of directories) rmSync(directory, { recursive: true, force: true });
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(130));

export interface StartOptions extends SpawnOptions {
  readonly on: 'server' | 'load' | 'store' | 'both';
}

export function start(program: string, args: readonly string[], { on, ...options }: StartOptions): ChildProcess {
  const command = cores === null ? [program, ...args] : ['taskset', '-c', String(cores[on]), program, ...args];
  const child = spawn(command[0] as string, command.slice(1), options);
  running.add(child);
  child.once('exit', () => running.delete(child));
  child.once('error', () => running.delete(child));
  return child;
}

/** Resolves once it has ended; one that does not heed the signal is killed. */
export async function end(child: ChildProcess, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  const force = setTimeout(() => child.kill('SIGKILL'), GRACE_MS);
  child.kill(signal);
  await exited;
  clearTimeout(force);
}

/** Removed by `removeDirectory`, at the latest when the bench ends. */
export function makeDirectory(parent = tmpdir()): string {
  const directory = mkdtempSync(join(parent, 'roomcast-bench-'));
  directories.add(directory);
  return directory;
}

export function removeDirectory(directory: string): void {
  rmSync(directory, { recursive: true, force: true });
  directories.delete(directory);
}

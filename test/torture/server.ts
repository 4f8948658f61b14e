/** The server as a process of its own: started, ended, limited and watched by scenarios. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const ROOT = join(import.meta.dirname, '../..');
const MAIN = join(ROOT, 'src/main.ts');
const PRELOAD = join(import.meta.dirname, 'faults.preload.ts');
const KEPT_LINES = 200;

export interface ServerOptions {
  readonly env: Readonly<Record<string, string>>;
  /** Soft limits of the process. */
  readonly limits?: { readonly files?: number; readonly fileKiB?: number };
  /** A file through which faults.preload.ts is told what to do. */
  readonly control?: string;
  /** Put before `node`. */
  readonly wrapper?: readonly string[];
}

export interface Server {
  readonly pid: number;
  readonly port: number;
  readonly url: string;
  readonly process: ChildProcess;
  /** The newest lines of its log and of its error output. */
  readonly lines: string[];
  readonly errors: string[];
  alive(): boolean;
  /** Resolves to the exit code, null when a signal ended it. */
  end(signal: NodeJS.Signals): Promise<number | null>;
  /** Resident memory in MiB. */
  memoryMiB(): number;
}

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

/** Notes a process that must not outlive this one. */
export function adopt(child: ChildProcess): ChildProcess {
  running.add(child);
  child.once('exit', () => running.delete(child));
  return child;
}

export function spawnServer({ env, limits = {}, control, wrapper = [] }: ServerOptions): ChildProcess {
  const args = ['--disable-warning=ExperimentalWarning', ...(control === undefined ? [] : ['--import', PRELOAD]), MAIN];
  const command = [...wrapper, process.execPath, ...args];
  const { files, fileKiB } = limits;
  const limiting = [
    files === undefined ? '' : `ulimit -S -n ${files}; `,
    fileKiB === undefined ? '' : `ulimit -S -f ${fileKiB}; `,
  ].join('');
  const [program = '', ...rest] =
    limiting === '' ? command : ['bash', '-c', `${limiting}exec "$@"`, 'bash', ...command];
  return adopt(
    spawn(program, rest, {
      cwd: ROOT,
      env: {
        PATH: process.env.PATH,
        HOST: '127.0.0.1',
        PORT: '0',
        LOG_LEVEL: 'info',
        ...env,
        ...(control === undefined ? {} : { TORTURE_CONTROL: control }),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    }),
  );
}

/** @throws {Error} with what it printed when it does not start */
export async function startServer(options: ServerOptions): Promise<Server> {
  const child = spawnServer(options);
  const lines: string[] = [];
  const errors: string[] = [];
  const keep = (list: string[]) => (line: string) => {
    list.push(line);
    if (list.length > KEPT_LINES) list.shift();
  };
  createInterface({ input: child.stderr as NodeJS.ReadableStream }).on('line', keep(errors));
  const output = createInterface({ input: child.stdout as NodeJS.ReadableStream });
  const url = await new Promise<string>((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`the server did not start (${code}): ${errors.join(' / ')}`)));
    output.on('line', keep(lines));
    output.on('line', (line) => {
      const listening = /"url":"([^"]+)"/.exec(line)?.[1];
      if (listening !== undefined) resolve(listening);
    });
  });
  const { pid = 0 } = child;
  const exited = once(child, 'exit');
  return {
    pid,
    port: Number(new URL(url).port),
    url,
    process: child,
    lines,
    errors,
    alive: () => child.exitCode === null && child.signalCode === null,
    async end(signal) {
      child.kill(signal);
      return (await exited)[0] as number | null;
    },
    memoryMiB() {
      const kib = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
      return Number(kib ?? 0) / 1024;
    },
  };
}

/** The server as a process of its own, as `npm start` runs it, on a free port. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

export interface ServerProcess {
  readonly url: string;
  readonly process: ChildProcess;
  /** Sends the signal and resolves to the exit code, null when the signal itself ended it. */
  end(signal: NodeJS.Signals): Promise<number | null>;
}

export interface Spawned {
  readonly process: ChildProcess;
  readonly stderr: () => string;
}

/** What Node is given, and where. */
export interface Command {
  readonly args: readonly string[];
  readonly cwd?: string;
}

/** What a program that a test starts gets of this process's environment: nothing that configures it. */
export const BARE_ENVIRONMENT: Readonly<Record<string, string | undefined>> = {
  PATH: process.env.PATH,
  NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
};

const FROM_SOURCES: Command = { args: ['--disable-warning=ExperimentalWarning', 'src/main.ts'] };

/** Starts it with these variables only; `PORT` is any free one unless given. */
export function spawnServer(env: Readonly<Record<string, string>>, { args, cwd }: Command = FROM_SOURCES): Spawned {
  const child = spawn(process.execPath, args, {
    cwd,
    env: { ...BARE_ENVIRONMENT, PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stderr = '';
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  return { process: child, stderr: () => stderr };
}

/** Resolves once it listens. */
export async function startServer(env: Readonly<Record<string, string>>, command?: Command): Promise<ServerProcess> {
  const { process: child, stderr } = spawnServer(env, command);
  for await (const line of createInterface({ input: child.stdout as NodeJS.ReadableStream })) {
    const { url } = JSON.parse(line) as { url?: string };
    if (url === undefined) continue;
    child.stdout?.resume();
    return {
      url,
      process: child,
      async end(signal) {
        if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
        const exited = once(child, 'exit');
        child.kill(signal);
        return (await exited)[0] as number | null;
      },
    };
  }
  throw new Error(`the server did not start: ${stderr()}`);
}

/** The bridge's process: started, killed for real, and started again on the same port with the same log. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';

export interface Server {
  /** 0 until it has started once. */
  readonly port: number;
  readonly isUp: boolean;
  start(): Promise<void>;
  /** SIGKILL: it can finish nothing and say goodbye to nobody. */
  kill(): Promise<void>;
  stop(): Promise<void>;
}

/** @param changed called when the server is up, and when it is gone, also if it ended by itself */
export function createServer(env: Readonly<Record<string, string>>, changed: () => void): Server {
  let child: ChildProcess | null = null;
  let port = 0;
  let isUp = false;

  async function start(): Promise<void> {
    if (child !== null) return;
    const started = fork(new URL('./bridge.ts', import.meta.url), {
      env: { ...process.env, ...env, PORT: String(port) },
      execArgv: ['--disable-warning=ExperimentalWarning'],
    });
    child = started;
    started.once('exit', () => {
      child = null;
      isUp = false;
      changed();
    });
    // It says its port, or ends with a line that says why.
    const told = await Promise.race([once(started, 'message'), once(started, 'exit').then(() => null)]);
    if (told === null) throw new Error('The bridge did not start.');
    port = told[0] as number;
    isUp = true;
    changed();
  }

  async function end(signal: NodeJS.Signals): Promise<void> {
    if (child === null) return;
    const exited = once(child, 'exit');
    child.kill(signal);
    await exited;
  }

  return {
    get port() {
      return port;
    },
    get isUp() {
      return isUp;
    },
    start,
    kill: () => end('SIGKILL'),
    stop: () => end('SIGTERM'),
  };
}

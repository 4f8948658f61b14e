/** A command of the CLI on a real terminal of 80 columns: a pseudo-terminal by `script` of util-linux. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { after } from 'node:test';
import { BARE_ENVIRONMENT } from './server.ts';

/** A reason to skip, for node:test's `skip`; false if there is a `script`. */
export const noTerminal: string | false =
  spawnSync('script', ['--version']).error === undefined ? false : 'script is not on PATH';

export const CTRL_C = '\u0003';
export const CTRL_D = '\u0004';

export interface OnTerminal {
  /** What was written to the terminal, standard error and the echo of the keys included. */
  readonly screen: () => string;
  /** The same without colours and echoed control keys. */
  readonly text: () => string;
  type(keys: string): void;
  readonly ended: Promise<number | null>;
}

const running = new Set<ChildProcess>();
after(() => {
  for (const child of running) child.kill('SIGKILL');
});

/** @param args of Node; default terminal: 80 columns, 16 colours or more */
export function startOnTerminal(args: readonly string[], env: Readonly<Record<string, string>> = {}): OnTerminal {
  const words = [process.execPath, '--disable-warning=ExperimentalWarning', ...args];
  const command = words.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
  const child = spawn('script', ['-qefc', `stty cols 80 rows 24; exec ${command}`, '/dev/null'], {
    env: { ...BARE_ENVIRONMENT, TERM: 'xterm', ...env },
  });
  running.add(child);
  let screen = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    screen += text;
  });
  const ended = once(child, 'close').then(([code]) => {
    running.delete(child);
    return code as number | null;
  });
  return {
    screen: () => screen,
    // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are escape sequences
    text: () => screen.replaceAll(/\r|\^[CD]/g, '').replaceAll(/\u001b\[[\d;]*m/g, ''),
    type: (keys) => void child.stdin.write(keys),
    ended,
  };
}

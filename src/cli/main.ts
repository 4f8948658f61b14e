#!/usr/bin/env node
/**
 * `roomcast`, the command line. It runs a command, and turns each error into one line and an exit code: 0 success,
 * 1 failure, 2 wrong usage (`check` documents its own). It prints no stack trace, token or secret.
 */
import { readFileSync } from 'node:fs';
import { nearest } from '../contract/nearest.ts';
import { UsageError } from './arguments.ts';
import { complain } from './output.ts';

const PARENT_CHECK_MS = 250;

type Run = (argv: readonly string[]) => Promise<number>;

interface Command {
  readonly summary: string;
  /** Imported on use, so that `token` does not wait for the server's modules. */
  load(): Promise<{ readonly help: string; readonly run: Run }>;
}

const COMMANDS: Readonly<Record<string, Command>> = {
  serve: {
    summary: 'run the bridge',
    async load() {
      const { SERVE_HELP, serve } = await import('./serve.ts');
      return { help: SERVE_HELP, run: serve };
    },
  },
  publish: {
    summary: 'publish one event, or a file of events',
    async load() {
      const { PUBLISH_HELP, publish } = await import('./publish.ts');
      return { help: PUBLISH_HELP, run: publish };
    },
  },
  trigger: {
    summary: 'publish realistic samples of an event',
    async load() {
      const { TRIGGER_HELP, trigger } = await import('./trigger.ts');
      return { help: TRIGGER_HELP, run: trigger };
    },
  },
  signal: {
    summary: 'send a signal, such as "somebody is typing"',
    async load() {
      const { SIGNAL_HELP, signal } = await import('./signal.ts');
      return { help: SIGNAL_HELP, run: signal };
    },
  },
  tail: {
    summary: 'print the events of rooms, and resume by cursor',
    async load() {
      const { TAIL_HELP, tail } = await import('./tail.ts');
      return { help: TAIL_HELP, run: tail };
    },
  },
  log: {
    summary: 'read the log of a room, and follow it',
    async load() {
      const { LOG_HELP, log } = await import('./log.ts');
      return { help: LOG_HELP, run: log };
    },
  },
  connections: {
    summary: 'list who is connected, and close connections',
    async load() {
      const { CONNECTIONS_HELP, connections } = await import('./connections.ts');
      return { help: CONNECTIONS_HELP, run: connections };
    },
  },
  refusals: {
    summary: 'list who was refused, and why',
    async load() {
      const { REFUSALS_HELP, refusals } = await import('./refusals.ts');
      return { help: REFUSALS_HELP, run: refusals };
    },
  },
  revoke: {
    summary: 'cut off a user, a token or a tenant',
    async load() {
      const { REVOKE_HELP, revoke } = await import('./revoke.ts');
      return { help: REVOKE_HELP, run: revoke };
    },
  },
  check: {
    summary: 'test which transports work between this machine and a bridge',
    async load() {
      const { CHECK_HELP, check } = await import('./check.ts');
      return { help: CHECK_HELP, run: check };
    },
  },
  token: {
    summary: 'create a token for tests',
    async load() {
      const { TOKEN_HELP, token } = await import('./token.ts');
      return { help: TOKEN_HELP, run: token };
    },
  },
};

const HELP = `roomcast: one event bus with one durable log, over Socket.IO, SSE and polling.

Usage: roomcast COMMAND [options]

${Object.entries(COMMANDS)
  .map(([name, { summary }]) => `  ${name.padEnd(13)}${summary}`)
  .join('\n')}

  roomcast help COMMAND      show examples and options of a command
  roomcast --version         show the version

Environment:
  ROOMCAST_URL      the bridge's address (default http://127.0.0.1:4003)
  ROOMCAST_TOKEN    the bearer token, if the bridge requires one
  NO_COLOR          no colours; FORCE_COLOR: colours in a pipe, too

Exit codes: 0 success, 1 failure, 2 wrong usage; check has its own (roomcast check --help).
`;

async function main(argv: readonly string[]): Promise<number> {
  // `help tail` is `tail --help`.
  const [word, ...rest] = argv[0] === 'help' && argv.length > 1 ? [...argv.slice(1), '--help'] : argv;
  if (word === undefined) throw new UsageError('missing command');
  // The older name of the same command.
  const name = word === 'doctor' ? 'check' : word;
  if (name === '--help' || name === '-h' || name === 'help') return print(HELP);
  if (name === '--version' || name === '-v') return print(`${version()}\n`);
  if (!Object.hasOwn(COMMANDS, name)) {
    const near = nearest(name, Object.keys(COMMANDS));
    throw new UsageError(`unknown command ${JSON.stringify(name)}${near === null ? '' : `; did you mean ${near}?`}`);
  }
  const { node } = process.versions;
  const [major = 0, minor = 0] = node.split('.').map(Number);
  if (major < 22 || (major === 22 && minor < 18)) throw new Error(`Node 22.18 or newer is required; this is ${node}`);
  const { help, run } = await (COMMANDS[name] as Command).load();
  const flags = rest.includes('--') ? rest.slice(0, rest.indexOf('--')) : rest;
  if (flags.includes('--help') || flags.includes('-h')) return print(help);
  return run(rest);
}

function print(text: string): number {
  process.stdout.write(text);
  return 0;
}

/** The path is the same from src/cli and dist/cli. */
function version(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

/**
 * `npx` starts a shell that ends on a signal and does not forward it, so the server would keep running, with its port
 * and its log. Under `npx`, the end of the parent process therefore counts as a SIGTERM.
 */
function endWithParent(): void {
  const parent = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(watch);
    process.kill(process.pid, 'SIGTERM');
  }, PARENT_CHECK_MS);
  watch.unref();
}

// The program that reads the output may stop at any time, as `head` does; with `2>&1` it reads the errors, too.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
}

if (process.env.npm_command === 'exec') endWithParent();

let code: number;
try {
  code = await main(process.argv.slice(2));
} catch (error) {
  const isUsage = error instanceof UsageError;
  const message = error instanceof Error ? error.message : String(error);
  const hint = isUsage ? ` (see roomcast ${error.command === null ? '' : `${error.command} `}--help)` : '';
  complain(`${message}${hint}`, ...(isUsage ? error.details : []));
  code = isUsage ? 2 : 1;
}
// When all output is written.
process.stdout.write('', () => process.exit(code));

/**
 * Who takes part: this bridge, on SQLite and on Redis, and its peers. Each is started as a process of its own, pinned to
 * the server's core, and says on which port it listens.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { freePort } from '../support/ports.ts';
import { type ConnectOptions, type Mode, type PublishOptions, SIGNAL } from './load/protocol.ts';
import { type Usage, usageOf } from './machine.ts';
import { end, type StartOptions, start } from './processes.ts';
import {
  answers,
  centrifugoMissing,
  durableStreamsMissing,
  isInstalled,
  nchanMissing,
  type Programs,
  START_MS,
  startCentrifugo,
  startDurableStreams,
  startNchan,
  withDirectory,
} from './programs.ts';

export interface Server {
  readonly port: number;
  usage(): Usage;
  /** The longest turn of its event loop since the last call, in milliseconds; null: it is not watched. */
  longestTurnMs(): Promise<number | null>;
  stop(): Promise<void>;
}

export interface Contender {
  readonly name: string;
  readonly mode: Mode;
  /** What its listeners ask for; `%r` stands for a room's number. */
  readonly listenPath: string;
  publishPath(tenantId: string): string;
  readonly body: PublishOptions['body'];
  readonly httpVersion?: ConnectOptions['httpVersion'];
  /** Whether it is ours, with metrics and cursors to ask for. */
  readonly isBridge: boolean;
  /** Why it cannot take part here; null when it can. */
  missing(programs: Programs): string | null;
  start(options: ServerOptions): Promise<Server>;
}

export interface ServerOptions {
  /** Where its log goes. */
  readonly directory: string;
  /** The bridge's program, `src/main.ts` of this or another tree. */
  readonly bridge: string;
  /** Where this bridge writes its CPU profile; null: it writes none. */
  readonly profileTo: string | null;
  readonly programs: Programs;
}

/** Where a scenario has one room. */
export const ROOM = 'tenant-0';
const root = fileURLToPath(new URL('../..', import.meta.url));
const WATCH_TURNS = ['--import', fileURLToPath(new URL('turns.preload.ts', import.meta.url))];
const unwatched = async (): Promise<null> => null;
const { PATH } = process.env;

/** Resolves once it prints a line of JSON with its `port` or its `url`. */
async function startNode(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  { on = 'server', stdio = ['ignore', 'pipe', 'pipe'] }: Partial<Pick<StartOptions, 'on' | 'stdio'>> = {},
): Promise<Server> {
  const child = start(process.execPath, ['--disable-warning=ExperimentalWarning', ...args], {
    ...{ on, cwd: root, env: { PATH, ...env }, stdio },
  });
  let complaints = '';
  child.stderr?.on('data', (chunk) => {
    complaints = `${complaints}${chunk}`.slice(-2_000);
  });
  const tooLate = setTimeout(() => child.kill('SIGKILL'), START_MS);
  for await (const line of createInterface({ input: child.stdout as NodeJS.ReadableStream })) {
    const { port, url } = JSON.parse(line) as { port?: number; url?: string };
    if (port === undefined && url === undefined) continue;
    clearTimeout(tooLate);
    child.stdout?.resume();
    return {
      port: port ?? Number(new URL(url as string).port),
      usage: () => usageOf(child.pid as number),
      longestTurnMs: args.includes('--import') ? () => askTurns(child) : unwatched,
      stop: () => end(child),
    };
  }
  clearTimeout(tooLate);
  throw new Error(`${args.at(-1)} did not start: ${complaints.replace(/\s+/g, ' ').slice(0, 300)}`);
}

async function askTurns(child: ChildProcess): Promise<number> {
  child.send('longest turn');
  const [answer] = (await once(child, 'message')) as [{ longestTurnMs: number }];
  return answer.longestTurnMs;
}

// ---- this bridge

interface Special {
  readonly env?: Readonly<Record<string, string>>;
  readonly on?: StartOptions['on'];
  readonly watchTurns?: boolean;
}

async function startBridge(
  storeUrl: string,
  { bridge, profileTo }: ServerOptions,
  { env, on = 'server', watchTurns = false }: Special = {},
): Promise<Server> {
  const profiling = profileTo === null ? [] : ['--cpu-prof', `--cpu-prof-dir=${profileTo}`];
  const args = [...profiling, ...(watchTurns ? WATCH_TURNS : []), bridge];
  const stdio: StartOptions['stdio'] = ['ignore', 'pipe', 'pipe', ...(watchTurns ? (['ipc'] as const) : [])];
  return startNode(args, { PORT: '0', STORE_URL: storeUrl, ...env }, { on, stdio });
}

const startOnSqlite = (options: ServerOptions, special?: Special): Promise<Server> =>
  withDirectory(options, (directory) => startBridge(`sqlite:${join(directory, 'log.db')}`, options, special));

/** On both cores, and without a limit that the load could reach. */
const SIGNALLING: Special = { on: 'both', env: { SIGNALS: SIGNAL, RATE_SIGNALS: '1000000' } };
const startSignalling = (options: ServerOptions): Promise<Server> => startOnSqlite(options, SIGNALLING);

/** Without heartbeats and pings: those of thousands that connected in one second come in one turn. */
const WATCHED: Special = { watchTurns: true, env: { HEARTBEAT_MS: '600000', PING_MS: '600000' } };
const startWatched = (options: ServerOptions): Promise<Server> => startOnSqlite(options, WATCHED);

/** A Redis as durable as the SQLite file: it syncs before it answers. */
function startOnRedis(options: ServerOptions): Promise<Server> {
  return withDirectory(options, async (directory) => {
    const port = await freePort();
    const durable = ['--appendonly', 'yes', '--appendfsync', 'always', '--save', ''];
    const listen = ['--bind', '127.0.0.1', '--port', String(port), '--dir', directory];
    const redis = start('redis-server', [...listen, ...durable], { on: 'store', stdio: 'ignore' });
    await answers(port);
    const server = await startBridge(`redis://127.0.0.1:${port}`, options);
    return {
      ...server,
      async stop() {
        await server.stop();
        await end(redis, 'SIGKILL');
      },
    };
  });
}

function bridge(name: string, mode: Mode, startOn: Contender['start'], missing: Contender['missing']): Contender {
  return {
    ...{ name, mode, missing, body: 'envelope', isBridge: true, start: startOn },
    listenPath:
      mode === 'sse' ? '/sse?tenantId=tenant-%r&legacy=false' : '/socket.io/?EIO=4&transport=websocket&legacy=false',
    publishPath: () => '/events',
  };
}

const present = (): null => null;
const redisMissing = (): string | null => (isInstalled('redis-server') ? null : 'redis-server is not on PATH');

export const ours = {
  sse: bridge('roomcast, SSE', 'sse', startOnSqlite, present),
  websocket: bridge('roomcast, Socket.IO', 'websocket', startOnSqlite, present),
  watchedSse: bridge('roomcast', 'sse', startWatched, present),
  signalling: bridge('roomcast, Socket.IO', 'websocket', startSignalling, present),
  sseOnRedis: bridge('roomcast on Redis, SSE', 'sse', startOnRedis, redisMissing),
} as const;

// ---- peers

function startPeer(file: string, ...args: string[]): Promise<Server> {
  const path = fileURLToPath(new URL(`peers/${file}`, import.meta.url));
  return startNode([path, ...args], {}, { stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
}

function peer(name: string, mode: Mode, file: string, more: Partial<Contender> = {}): Contender {
  return {
    ...{ name, mode, body: 'envelope', isBridge: false, missing: present },
    listenPath: mode === 'sse' ? '/sse?tenantId=tenant-%r' : '/socket.io/?EIO=4&transport=websocket',
    publishPath: () => '/events',
    start: () => startPeer(file),
    ...more,
  };
}

/** Those that take a payload as it is have its room in the query. */
const takesPayload = {
  body: 'payload',
  publishPath: (tenantId: string) => `/events?tenantId=${tenantId}`,
} as const;

export const peers = {
  nchan: {
    ...{ name: 'nginx + nchan', mode: 'sse', listenPath: '/sse?tenantId=tenant-%r', isBridge: false },
    ...{ ...takesPayload, missing: nchanMissing, start: startNchan },
  },
  centrifugo: {
    ...{ name: 'Centrifugo', mode: 'sse', httpVersion: '1.0', body: 'channel', isBridge: false },
    listenPath: `/connection/uni_sse?cf_connect=${encodeURIComponent('{"subs":{"tenant-')}%r${encodeURIComponent('":{}}}')}`,
    publishPath: () => '/api/publish',
    ...{ missing: centrifugoMissing, start: startCentrifugo },
  },
  durableStreams: {
    ...{ name: 'durable-streams', mode: 'sse', body: 'payload', isBridge: false },
    listenPath: '/tenant-%r?offset=now&live=sse',
    publishPath: (tenantId) => `/${tenantId}`,
    ...{ missing: durableStreamsMissing, start: startDurableStreams },
  },
  socketio: peer('plain Socket.IO', 'websocket', 'socketio.ts'),
  betterSse: peer('better-sse', 'sse', 'better-sse.ts'),
  hono: peer('Hono streamSSE', 'sse', 'hono.ts'),
  honoEmpty: peer('empty Hono route', 'sse', 'hono-empty.ts'),
  bare: peer('bare node:net', 'sse', 'bare.ts', takesPayload),
  /** It takes events and has no listeners. */
  httpSqlite: peer('bare node:http + SQLite', 'sse', 'http-sqlite.ts', {
    start: (options) => withDirectory(options, (directory) => startPeer('http-sqlite.ts', directory)),
  }),
} as const satisfies Record<string, Contender>;

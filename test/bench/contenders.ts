/**
 * Who takes part: this bridge, on SQLite and on Redis, and its peers. Each is started as a process of its own, pinned to
 * the server's core, and says on which port it listens.
 */
import { type ChildProcess, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { freePort } from '../support/ports.ts';
import { type Mode, SIGNAL } from './load/protocol.ts';
import { type Usage, usageOf } from './machine.ts';
import { end, makeDirectory, removeDirectory, type StartOptions, start } from './processes.ts';

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
  readonly body: 'envelope' | 'payload';
  /** Whether it is ours, with metrics and cursors to ask for. */
  readonly isBridge: boolean;
  /** Why it cannot take part here; null when it can. */
  missing(): string | null;
  start(options: ServerOptions): Promise<Server>;
}

export interface ServerOptions {
  /** Where its log goes. */
  readonly directory: string;
  /** The bridge's program, `src/main.ts` of this or another tree. */
  readonly bridge: string;
  /** Where this bridge writes its CPU profile; null: it writes none. */
  readonly profileTo: string | null;
}

const START_MS = 15_000;
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

async function startOnSqlite(options: ServerOptions, special?: Special): Promise<Server> {
  const directory = makeDirectory(options.directory);
  const server = await startBridge(`sqlite:${join(directory, 'log.db')}`, options, special);
  return {
    ...server,
    async stop() {
      await server.stop();
      removeDirectory(directory);
    },
  };
}

/** On both cores, and without a limit that the load could reach. */
const SIGNALLING: Special = { on: 'both', env: { SIGNALS: SIGNAL, RATE_SIGNALS: '1000000' } };
const startSignalling = (options: ServerOptions): Promise<Server> => startOnSqlite(options, SIGNALLING);

/** Without heartbeats and pings: those of thousands that connected in one second come in one turn. */
const WATCHED: Special = { watchTurns: true, env: { HEARTBEAT_MS: '600000', PING_MS: '600000' } };
const startWatched = (options: ServerOptions): Promise<Server> => startOnSqlite(options, WATCHED);

/** A Redis as durable as the SQLite file: it syncs before it answers. */
async function startOnRedis(options: ServerOptions): Promise<Server> {
  const directory = makeDirectory(options.directory);
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
      removeDirectory(directory);
    },
  };
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
const redisMissing = (): string | null => (isOnPath('redis-server') ? null : 'redis-server is not on PATH');

export const ours = {
  sse: bridge('roomcast, SSE', 'sse', startOnSqlite, present),
  websocket: bridge('roomcast, Socket.IO', 'websocket', startOnSqlite, present),
  watchedSse: bridge('roomcast', 'sse', startWatched, present),
  signalling: bridge('roomcast, Socket.IO', 'websocket', startSignalling, present),
  sseOnRedis: bridge('roomcast on Redis, SSE', 'sse', startOnRedis, redisMissing),
} as const;

// ---- peers

function peer(name: string, mode: Mode, file: string, more: Partial<Contender> = {}, args: string[] = []): Contender {
  const path = fileURLToPath(new URL(`peers/${file}`, import.meta.url));
  return {
    ...{ name, mode, body: 'envelope', isBridge: false, missing: present },
    listenPath: mode === 'sse' ? '/sse?tenantId=tenant-%r' : '/socket.io/?EIO=4&transport=websocket',
    publishPath: () => '/events',
    start: () => startNode([path, ...args], {}, { stdio: ['ignore', 'pipe', 'pipe', 'ipc'] }),
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
  socketio: peer('plain Socket.IO', 'websocket', 'socketio.ts'),
  betterSse: peer('better-sse', 'sse', 'better-sse.ts'),
  hono: peer('Hono streamSSE', 'sse', 'hono.ts'),
  honoEmpty: peer('empty Hono route', 'sse', 'hono-empty.ts'),
  bare: peer('bare node:net', 'sse', 'bare.ts', takesPayload, ['each']),
  bareTick: peer('bare node:net, coalescing', 'sse', 'bare.ts', takesPayload, ['tick']),
} as const satisfies Record<string, Contender>;

// ---- nginx with the nchan module

/** The module's file; empty when it is compiled in; null when there is none. */
function nchanModule(): string | null {
  const { stderr, error } = spawnSync('nginx', ['-V'], { encoding: 'utf8' });
  if (error !== undefined) return null;
  if (/--add-module=\S*nchan/.test(stderr)) return '';
  const prefix = /--prefix=(\S+)/.exec(stderr)?.[1] ?? '';
  const modules = /--modules-path=(\S+)/.exec(stderr)?.[1] ?? join(prefix, 'modules');
  return [modules, '/usr/lib/nginx/modules'].map((path) => join(path, 'ngx_nchan_module.so')).find(existsSync) ?? null;
}

function nchanMissing(): string | null {
  return nchanModule() === null ? 'nginx has no nchan module (Debian: libnginx-mod-nchan)' : null;
}

async function startNchan({ directory: parent }: ServerOptions): Promise<Server> {
  const directory = makeDirectory(parent);
  const port = await freePort();
  const module = nchanModule() ?? '';
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  writeFileSync(
    join(directory, 'nginx.conf'),
    `${module === '' ? '' : `load_module ${module};`}
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid ${directory}/nginx.pid;
error_log stderr error;
events { worker_connections 20000; }
http {
  access_log off;
  ${temporary.map((name) => `${name}_temp_path ${directory}/${name};`).join('\n  ')}
  client_body_buffer_size 256k;
  keepalive_requests 1000000000;
  keepalive_timeout 75s;
  tcp_nodelay on;
  nchan_shared_memory_size 256M;
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location = /sse { nchan_subscriber eventsource; nchan_subscriber_first_message newest; nchan_channel_id $arg_tenantId; }
    location = /events { nchan_publisher; nchan_channel_id $arg_tenantId; }
  }
}
`,
  );
  const nginx = start('nginx', ['-p', directory, '-c', join(directory, 'nginx.conf')], {
    ...{ on: 'server', stdio: ['ignore', 'ignore', 'pipe'] },
  });
  let complaints = '';
  nginx.stderr?.on('data', (chunk) => {
    complaints = `${complaints}${chunk}`.slice(-2_000);
  });
  await answers(port).catch(() => {
    throw new Error(`nginx did not start: ${complaints}`);
  });
  return {
    port,
    usage: () => usageOf(nginx.pid as number),
    longestTurnMs: unwatched,
    async stop() {
      await end(nginx);
      removeDirectory(directory);
    },
  };
}

// ---- ports

function isOnPath(program: string): boolean {
  return spawnSync(program, ['--version']).error === undefined;
}

async function answers(port: number): Promise<void> {
  const deadline = performance.now() + START_MS;
  for (;;) {
    const connected = await new Promise<boolean>((resolve) => {
      const socket = connect({ host: '127.0.0.1', port });
      socket.on('connect', () => resolve(true)).on('error', () => resolve(false));
      socket.on('connect', () => socket.destroy());
    });
    if (connected) return;
    if (performance.now() > deadline) throw new Error(`nothing listens on port ${port}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

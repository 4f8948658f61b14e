/**
 * Peers that are programs of others: nginx with nchan, Centrifugo and durable-streams. They are found on PATH, or where an
 * option says. All of their settings stand here.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { delimiter, join } from 'node:path';
import { freePort } from '../support/ports.ts';
import { until } from '../support/until.ts';
import { ROOM, type Server, type ServerOptions } from './contenders.ts';
import { usageOf } from './machine.ts';
import { end, makeDirectory, removeDirectory, start } from './processes.ts';

/** Names that are looked up on PATH, or paths. */
export interface Programs {
  readonly centrifugo: string;
  readonly durableStreams: string;
}

/** How long any server may take to listen. */
export const START_MS = 15_000;

export function isInstalled(program: string): boolean {
  if (program.includes('/')) return existsSync(program);
  return (process.env.PATH ?? '').split(delimiter).some((directory) => existsSync(join(directory, program)));
}

/** With a directory of its own, which goes when the server stops. */
export async function withDirectory(
  { directory: parent }: Pick<ServerOptions, 'directory'>,
  startIn: (directory: string) => Promise<Server>,
): Promise<Server> {
  const directory = makeDirectory(parent);
  const server = await startIn(directory);
  return {
    ...server,
    async stop() {
      await server.stop();
      removeDirectory(directory);
    },
  };
}

/** Resolves once it accepts connections. */
function startProgram(
  program: string,
  options: ServerOptions,
  argsFor: (port: number, directory: string) => readonly string[],
  endsBy: NodeJS.Signals = 'SIGTERM',
): Promise<Server> {
  return withDirectory(options, async (directory) => {
    const port = await freePort();
    const child = start(program, argsFor(port, directory), { on: 'server', stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    for (const output of [child.stdout, child.stderr]) {
      output?.on('data', (chunk) => {
        said = `${said}${chunk}`.slice(-2_000);
      });
    }
    await answers(port).catch(() => {
      throw new Error(`${program} did not start: ${said.replace(/\s+/g, ' ').slice(0, 300)}`);
    });
    return {
      port,
      usage: () => usageOf(child.pid as number),
      longestTurnMs: async () => null,
      stop: () => end(child, endsBy),
    };
  });
}

/** Until the port accepts a connection. */
export async function answers(port: number): Promise<void> {
  const connects = (): Promise<boolean> =>
    new Promise((resolve) => {
      const socket = connect({ host: '127.0.0.1', port });
      socket.on('connect', () => resolve(true)).on('error', () => resolve(false));
      socket.on('connect', () => socket.destroy());
    });
  await until(`something listens on port ${port}`, connects, START_MS);
}

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

export function nchanMissing(): string | null {
  return nchanModule() === null ? 'nginx has no nchan module (Debian: libnginx-mod-nchan)' : null;
}

const TEMPORARY = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];

/** Messages in shared memory, one worker. */
export function startNchan(options: ServerOptions): Promise<Server> {
  const module = nchanModule() ?? '';
  return startProgram('nginx', options, (port, directory) => {
    const file = join(directory, 'nginx.conf');
    writeFileSync(
      file,
      `${module === '' ? '' : `load_module ${module};`}
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid ${directory}/nginx.pid;
error_log stderr error;
events { worker_connections 20000; }
http {
  access_log off;
  ${TEMPORARY.map((name) => `${name}_temp_path ${directory}/${name};`).join('\n  ')}
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
    return ['-p', directory, '-c', file];
  });
}

// ---- Centrifugo

export function centrifugoMissing({ centrifugo }: Programs): string | null {
  return isInstalled(centrifugo) ? null : `there is no program ${centrifugo} (see --centrifugo)`;
}

/**
 * One node, in memory, without history, recovery and authentication. The queue of a connection is 256 MiB instead of 1, so
 * that no listener is disconnected while publishers are faster than the fan-out.
 */
const CENTRIFUGO = {
  client: { insecure: true, queue_max_size: 256 * 2 ** 20 },
  http_api: { insecure: true },
  uni_sse: { enabled: true },
  log: { level: 'error' },
  usage_stats: { disabled: true },
};

export function startCentrifugo(options: ServerOptions): Promise<Server> {
  return startProgram(options.programs.centrifugo, options, (port, directory) => {
    const file = join(directory, 'config.json');
    const http_server = { address: '127.0.0.1', port };
    writeFileSync(file, JSON.stringify({ ...CENTRIFUGO, http_server }));
    return ['--config', file];
  });
}

// ---- durable-streams

export function durableStreamsMissing({ durableStreams }: Programs): string | null {
  return isInstalled(durableStreams) ? null : `there is no program ${durableStreams} (see --durable-streams)`;
}

/** As durable as the bridge: an append is answered once its log is synced. One stream of JSON is the room. */
export async function startDurableStreams(options: ServerOptions): Promise<Server> {
  const server = await startProgram(
    options.programs.durableStreams,
    options,
    (port, directory) => [
      ...['--host', '127.0.0.1', '--port', String(port), '--data-dir', directory, '--durability', 'wal'],
    ],
    'SIGKILL', // it would wait for its listeners for seconds
  );
  const created = await fetch(`http://127.0.0.1:${server.port}/${ROOM}`, {
    ...{ method: 'PUT', headers: { 'Content-Type': 'application/json' } },
  });
  if (created.ok) return server;
  await server.stop();
  throw new Error(`durable-streams did not make a stream: ${created.status} ${(await created.text()).slice(0, 200)}`);
}

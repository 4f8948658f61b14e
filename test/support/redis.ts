/**
 * Real Redis servers for tests: on a free port of the loopback address, in a directory of their own, with an
 * append-only file that is synced before every answer. They can be killed, paused and restarted.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClient } from 'redis';
import { freePort } from './ports.ts';
import { until } from './until.ts';

/** A test process that ends early takes its servers with it. */
const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** A reason to skip, for node:test's `skip`; false when the programs are there. */
export function missing(...programs: readonly string[]): string | false {
  const absent = programs.filter((program) => spawnSync(program, ['--version']).error !== undefined);
  return absent.length === 0 ? false : `${absent.join(', ')} is not on PATH`;
}

export interface RedisServer {
  readonly port: number;
  readonly url: string;
  /** One command over a connection of its own. */
  command(...args: readonly string[]): Promise<unknown>;
  pause(): void;
  resume(): void;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** After `kill`: the same port and directory. */
  restart(): Promise<void>;
  /** Ends the process and removes its directory. */
  stop(): Promise<void>;
}

export interface RedisServerOptions {
  /** Default `redis-server`. */
  readonly program?: 'redis-server' | 'redis-sentinel';
  /** Lines of redis.conf in addition to the defaults. */
  readonly config?: readonly string[];
}

export async function startRedis(options: RedisServerOptions = {}): Promise<RedisServer> {
  const { program = 'redis-server', config = [] } = options;
  const directory = await mkdtemp(join(tmpdir(), 'roomcast-redis-'));
  const port = await freePort();
  const file = join(directory, 'redis.conf');
  const base = [`port ${port}`, 'bind 127.0.0.1', `dir ${directory}`, 'save ""', 'loglevel warning'];
  const durable = ['appendonly yes', 'appendfsync always', 'repl-diskless-sync-delay 0'];
  // Sentinels rewrite their file, hence a file and no arguments.
  await writeFile(file, [...base, ...(program === 'redis-server' ? durable : []), ...config, ''].join('\n'));
  let child = run();

  function run(): ChildProcess {
    const started = spawn(program, [file], { stdio: 'ignore' });
    running.add(started);
    started.once('exit', () => running.delete(started));
    return started;
  }

  async function answers(): Promise<boolean> {
    if (child.exitCode !== null) throw new Error(`${program} ended with code ${child.exitCode}`);
    return (await command('PING').catch(() => null)) === 'PONG';
  }

  async function command(...args: readonly string[]): Promise<unknown> {
    const client = createClient({
      socket: { host: '127.0.0.1', port, reconnectStrategy: false },
      maintNotifications: 'disabled',
    });
    client.on('error', () => {}); // told by the rejection
    try {
      await client.connect();
      return await client.sendCommand(args);
    } finally {
      client.destroy();
    }
  }

  async function kill(): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }

  await until(`${program} answers`, answers);
  return {
    port,
    url: `redis://127.0.0.1:${port}`,
    command,
    pause: () => void child.kill('SIGSTOP'),
    resume: () => void child.kill('SIGCONT'),
    kill,
    async restart() {
      child = run();
      await until(`${program} answers again`, answers);
    },
    async stop() {
      await kill();
      // A child that rewrites the log may still write for a moment.
      await rm(directory, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

export interface SentinelSetup {
  readonly url: string;
  readonly servers: readonly RedisServer[];
  /** The server that the Sentinels name. */
  master(): Promise<RedisServer>;
  stop(): Promise<void>;
}

/**
 * In milliseconds. By default a Sentinel asks its servers every 10 s, makes a returned master a replica after 8 s, and
 * does nothing for 30 s once its clock was late by 2 s, as on a busy machine.
 */
const BRISK = [
  ...['info-period', '500', 'ping-period', '200', 'ask-period', '200', 'publish-period', '200'],
  ...['min-link-reconnect-period', '1000', 'tilt-trigger', '20000'],
];

/** One master, one replica, three Sentinels that agree within about a second. */
export async function startSentinels(): Promise<SentinelSetup> {
  const first = await startRedis();
  const second = await startRedis({ config: [`replicaof 127.0.0.1 ${first.port}`] });
  await until('the replica is in step', async () => /master_link_status:up/.test(String(await second.command('INFO'))));
  const config = [
    `sentinel monitor roomcast 127.0.0.1 ${first.port} 2`,
    'sentinel down-after-milliseconds roomcast 1000',
    'sentinel failover-timeout roomcast 2000',
  ];
  const sentinels = await Promise.all([1, 2, 3].map(() => startRedis({ program: 'redis-sentinel', config })));
  for (const sentinel of sentinels) await sentinel.command('SENTINEL', 'DEBUG', ...BRISK);
  const servers = [first, second];
  const about = async (sentinel: RedisServer): Promise<Record<string, string>> =>
    (await sentinel.command('SENTINEL', 'MASTER', 'roomcast')) as Record<string, string>;
  for (const sentinel of sentinels) {
    await until('the Sentinels know each other and the replica', async () => {
      const known = await about(sentinel);
      return known['num-other-sentinels'] === '2' && known['num-slaves'] === '1';
    });
  }
  return {
    url: `redis+sentinel://${sentinels.map(({ port }) => `127.0.0.1:${port}`).join(',')}/roomcast`,
    servers,
    async master() {
      const { port } = await about(sentinels[0] as RedisServer);
      const server = servers.find((candidate) => String(candidate.port) === port);
      if (server === undefined) throw new Error(`no server of ours has port ${port}`);
      return server;
    },
    async stop() {
      for (const server of [...sentinels, ...servers]) await server.stop();
    },
  };
}

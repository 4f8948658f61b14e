/**
 * One supervised connection to Redis, or to the master that the Sentinels name.
 *
 * A publisher must know whether its events may appear later. So a command ends in one of four ways: answered; never sent;
 * refused by Redis before it began; or sent without an answer. A connection that does not answer a command in time is
 * replaced, so that nothing queues behind a Redis that hangs. Reconnecting never stops until `close`.
 */
import { isIP } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { ClientClosedError, ClientOfflineError, createClient, ErrorReply } from 'redis';
import type { Logger } from '../../logger.ts';
import type { Settings } from './log.ts';
import type { Script } from './script.ts';
import type { Address, RedisTarget } from './url.ts';

export type Client = ReturnType<typeof createClient>;

/** The failures of Redis and of the way to it; any other error is a fault of this process. */
export class RedisFailure extends Error {}
/** The command was not sent and never will be. */
export class NotSent extends RedisFailure {}
/** The command was sent and no answer came: it may have run, or may yet run. */
export class NoAnswer extends RedisFailure {}
/** Redis refused the command before it began. It may accept the same command later. */
export class Refused extends RedisFailure {}

/** The errors with which Redis refuses a script before its first line; FORMAT is of readLog() in scripts/prelude/log.lua. */
const REFUSALS =
  /^(FORMAT|OOM|READONLY|MISCONF|NOREPLICAS|LOADING|MASTERDOWN|BUSY|CLUSTERDOWN|MOVED|ASK|TRYAGAIN|NOAUTH|NOPERM|WRONGPASS)\b/;
/** After these errors, another Redis may be the master. */
const NOT_MASTER = /^(READONLY|MASTERDOWN)\b/;

const CONNECT_MS = 3_000;
/** A Sentinel that is down delays each connect by this much. */
const SENTINEL_MS = 2_000;
const BACKOFF_MS = { first: 20, max: 500 };

export interface Connection {
  ready(): boolean;
  /** 0 while connected. */
  downForMs(): number;
  /** Resolves to whether there is a connection, after `ms` at the latest. */
  whenReady(ms: number): Promise<boolean>;
  /** @throws {NotSent | NoAnswer | Refused | ErrorReply} */
  command(args: readonly string[], answerMs: number): Promise<unknown>;
  /** As `command`. Loads the script if Redis does not have it: after a restart, flush or failover. */
  run<Arguments, Reply>(script: Script<Arguments, Reply>, args: Arguments, answerMs: number): Promise<Reply>;
  /** Why the last attempt to connect failed; contains no credentials. */
  lastError(): string;
  /** Null while disconnected. */
  address(): Address | null;
  reconnect(): void;
  /** How long the oldest command has waited for its answer. */
  waitingForMs(): number;
  close(): void;
}

/** What the parts of one store share. */
export interface Context {
  readonly target: RedisTarget;
  readonly settings: Settings;
  readonly logger: Logger;
  readonly writer: Connection;
  readonly reader: Connection;
  /** For the tail's blocking reads. */
  readonly tailer: Connection;
  /** These and any further ones. */
  readonly connections: Set<Connection>;
  /** Aborts when the store is closed. */
  readonly signal: AbortSignal;
}

/** `greet` runs on each new connection before the first command; if it throws, the connection is replaced. */
export function createConnection(
  target: RedisTarget,
  name: 'writer' | 'reader' | 'tail' | 'channel',
  logger: Logger,
  greet: (client: Client) => Promise<void> = async () => {},
): Connection {
  const closing = new AbortController();
  /** Each ends one wait for a connection. */
  const waiters = new Set<AbortController>();
  /** When each unanswered command was sent, oldest first. */
  const sent = new Map<symbol, number>();
  let client: Client | null = null;
  let address: Address | null = null;
  let lastError = 'no answer yet';
  let downSinceMs = performance.now();

  void supervise();

  async function supervise(): Promise<void> {
    let backoffMs = BACKOFF_MS.first;
    while (!closing.signal.aborted) {
      try {
        const connected = await connect(target, name, greet, closing.signal);
        const ended = new Promise<Error>((resolve) => {
          connected.client.once('error', resolve);
          connected.client.once('end', () => resolve(new Error('the connection ended')));
        });
        if (!connected.client.isReady) throw new Error('the connection ended at once');
        ({ client, address } = connected);
        backoffMs = BACKOFF_MS.first;
        for (const waiter of waiters) waiter.abort();
        const cause = await ended;
        client = null;
        downSinceMs = performance.now();
        connected.client.destroy();
        if (!closing.signal.aborted) {
          logger.warn({ connection: name, cause: cause.message }, 'lost the connection to Redis; reconnecting');
        }
      } catch (error) {
        if (closing.signal.aborted) return;
        lastError = error instanceof Error ? error.message : String(error);
        logger.debug({ connection: name, cause: lastError }, 'cannot connect to Redis; trying again');
      }
      // Jitter keeps nodes from reconnecting at the same moment.
      await sleep(backoffMs * (0.5 + Math.random()), undefined, { signal: closing.signal }).catch(() => {});
      backoffMs = Math.min(backoffMs * 2, BACKOFF_MS.max);
    }
  }

  async function command(args: readonly string[], answerMs: number): Promise<unknown> {
    const used = client;
    if (used === null || !used.isReady) throw new NotSent('no connection to Redis');
    const key = Symbol();
    // destroy() rejects the commands without an answer, and supervise() reconnects.
    const deadline = setTimeout(() => used.destroy(), answerMs);
    sent.set(key, performance.now());
    try {
      return await used.sendCommand(args);
    } catch (error) {
      if (error instanceof ErrorReply) {
        if (NOT_MASTER.test(error.message)) used.destroy();
        if (REFUSALS.test(error.message)) throw new Refused(error.message);
        throw error;
      }
      if (error instanceof ClientOfflineError || error instanceof ClientClosedError) throw new NotSent(error.message);
      throw new NoAnswer(error instanceof Error ? error.message : String(error));
    } finally {
      clearTimeout(deadline);
      sent.delete(key);
    }
  }

  async function evaluate({ sha, text }: Script<never, unknown>, argv: readonly string[], answerMs: number) {
    const deadlineMs = performance.now() + answerMs;
    try {
      return await command(['EVALSHA', sha, '1', target.keyPrefix, ...argv], answerMs);
    } catch (error) {
      if (!(error instanceof ErrorReply) || !error.message.startsWith('NOSCRIPT')) throw error;
      return command(['EVAL', text, '1', target.keyPrefix, ...argv], deadlineMs - performance.now());
    }
  }

  return {
    ready: () => client !== null,
    downForMs: () => (client === null ? performance.now() - downSinceMs : 0),
    async whenReady(ms) {
      if (client === null && !closing.signal.aborted) {
        const waiter = new AbortController();
        waiters.add(waiter);
        await sleep(ms, undefined, { signal: waiter.signal }).catch(() => {});
        waiters.delete(waiter);
      }
      return client !== null;
    },
    command,
    run: async (script, args, answerMs) => script.parse(await evaluate(script, script.argv(args), answerMs)),
    lastError: () => lastError,
    address: () => (client === null ? null : address),
    reconnect: () => client?.destroy(),
    waitingForMs() {
      const oldest = sent.values().next().value;
      return oldest === undefined ? 0 : performance.now() - oldest;
    },
    close() {
      closing.abort();
      for (const waiter of waiters) waiter.abort();
      client?.destroy();
    },
  };
}

/** The fields of one section of INFO. */
export async function readInfo(connection: Connection, section: string, answerMs: number) {
  const info = String(await connection.command(['INFO', section], answerMs));
  const fields: Record<string, string> = {};
  for (const [, name, value] of info.matchAll(/^(\w+):(.*?)\r?$/gm)) fields[name as string] = value as string;
  return fields;
}

/** Connects a client to the master. The caller destroys the client. */
async function connect(
  target: RedisTarget,
  name: string,
  greet: (client: Client) => Promise<void>,
  signal: AbortSignal,
) {
  const address = target.masterName === null ? target.nodes[0] : await findMaster(target);
  if (address === undefined || address === null) throw new Error('no Sentinel knows the master');
  const client = newClient(target, address, `roomcast-${name}`);
  try {
    await within(CONNECT_MS, signal, async () => {
      await client.connect();
      // A Sentinel may not know yet that a master was demoted: https://redis.io/docs/latest/develop/reference/sentinel-clients/
      if (target.masterName !== null) {
        const role = await client.sendCommand(['ROLE']);
        if (!Array.isArray(role) || role[0] !== 'master') throw new Error('this Redis is not the master');
      }
      await greet(client);
    });
    return { client, address };
  } catch (error) {
    client.destroy();
    throw error;
  }
}

/** A node loses its connections together and reconnects them together, so they share one question to the Sentinels. */
const lookups = new WeakMap<RedisTarget, Promise<Address | null>>();

export function findMaster(target: RedisTarget): Promise<Address | null> {
  const lookup = lookups.get(target) ?? askSentinels(target).finally(() => lookups.delete(target));
  lookups.set(target, lookup);
  return lookup;
}

/** The Sentinel with the newest configuration decides, so that a stale one does not lead back to an old master. */
async function askSentinels(target: RedisTarget): Promise<Address | null> {
  const answers = await Promise.all(target.nodes.map((node) => askSentinel(target, node).catch(() => null)));
  const epochOf = (answer: (typeof answers)[number]) => Number(answer?.['config-epoch'] ?? 0);
  const [newest] = answers.filter((answer) => answer?.ip !== undefined).sort((a, b) => epochOf(b) - epochOf(a));
  return newest?.ip === undefined ? null : { host: newest.ip, port: Number(newest.port) };
}

async function askSentinel(target: RedisTarget, node: Address): Promise<Record<string, string>> {
  const client = newClient(target, node, null);
  try {
    return await within(SENTINEL_MS, null, async () => {
      await client.connect();
      return fieldsOf(await client.sendCommand(['SENTINEL', 'MASTER', target.masterName ?? '']));
    });
  } finally {
    client.destroy();
  }
}

/** RESP3 has maps, which the client returns as objects; RESP2 has flat lists. */
function fieldsOf(reply: unknown): Record<string, string> {
  if (!Array.isArray(reply)) return reply as Record<string, string>;
  const fields: Record<string, string> = {};
  for (let i = 0; i + 1 < reply.length; i += 2) fields[String(reply[i])] = String(reply[i + 1]);
  return fields;
}

/** `name` appears in CLIENT LIST; null for a client of a Sentinel. */
function newClient(target: RedisTarget, { host, port }: Address, name: string | null): Client {
  const [username, password, database] =
    name === null
      ? [target.sentinelUsername, target.sentinelPassword, 0]
      : [target.username, target.password, target.database];
  const client = createClient({
    socket: {
      host,
      port,
      connectTimeout: CONNECT_MS,
      reconnectStrategy: false,
      ...(target.tls ? { tls: true as const, ...(isIP(host) === 0 ? { servername: host } : {}) } : {}),
    },
    ...(username !== null && { username }),
    ...(password !== null && { password }),
    ...(database !== 0 && { database }),
    ...(name !== null && { name }),
    disableOfflineQueue: true,
    disableClientInfo: true,
    maintNotifications: 'disabled',
    // `command` and `within` have deadlines. The library's is an AbortSignal per command, which aborts even after the answer.
    commandOptions: { timeout: 0 },
  });
  client.on('error', () => {}); // connect() and the commands reject with the same error
  return client as Client;
}

async function within<T>(ms: number, signal: AbortSignal | null, work: () => Promise<T>): Promise<T> {
  const ended = new AbortController();
  const limit = sleep(ms, undefined, { signal: AbortSignal.any(signal ? [signal, ended.signal] : [ended.signal]) });
  const late = limit.then(() => {
    throw new Error(`no answer within ${ms} ms`);
  });
  try {
    return await Promise.race([work(), late]);
  } finally {
    ended.abort();
  }
}

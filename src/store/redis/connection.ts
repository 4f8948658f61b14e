/**
 * Where Redis is and whether it answers: the master among Sentinels, and one supervised connection.
 *
 * A command ends in one of four ways, since a publisher must know which: it is answered; it was never sent; Redis
 * refused it before it began; or it was sent and no answer came. A connection that leaves a command unanswered past its
 * deadline is given up, so that nothing queues behind a Redis that hangs. Redialling never stops until `close`.
 */
import { isIP } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { ClientClosedError, ClientOfflineError, createClient, ErrorReply } from 'redis';
import type { Logger } from '../../logger.ts';
import type { Script } from './scripts/script.ts';
import type { Address, RedisTarget } from './url.ts';

type Client = ReturnType<typeof createClient>;

/** The command was not sent and never will be. */
export class NotSent extends Error {}
/** The command was sent and no answer came: it may have run, or may yet run. */
export class NoAnswer extends Error {}
/** Redis refused the command before it began; the same may be taken later. */
export class Refused extends Error {}

/** Whether this is one of the above, not a fault of ours. */
export const isFault = (error: unknown): error is NotSent | NoAnswer | Refused =>
  error instanceof NotSent || error instanceof NoAnswer || error instanceof Refused;

/** Answers by which Redis refuses a script before its first line: https://redis.io/docs/latest/develop/reference/protocol-spec/ */
const REFUSALS =
  /^(OOM|READONLY|MISCONF|NOREPLICAS|LOADING|MASTERDOWN|BUSY|CLUSTERDOWN|MOVED|ASK|TRYAGAIN|NOAUTH|NOPERM|WRONGPASS)\b/;
/** After these another Redis may be the right one. */
const STRAYED = /^(READONLY|MASTERDOWN)\b/;

const CONNECT_MS = 3_000;
/** What a Sentinel that is away costs each dial; a machine that is busy starting takes a good part of it. */
const SENTINEL_MS = 2_000;
const BACKOFF_MS = { first: 20, most: 500 };

export interface Connection {
  ready(): boolean;
  /** For how long there has been no connection; 0 while there is one. */
  downForMs(): number;
  /** Resolves to whether there is a connection, at the latest after `ms`. */
  whenReady(ms: number): Promise<boolean>;
  /** @throws {NotSent | NoAnswer | Refused | ErrorReply} */
  command(args: readonly string[], answerMs: number): Promise<unknown>;
  /** As `command`; loads the script where it is missing, after a restart, flush or failover. */
  run(script: Script, args: readonly string[], answerMs: number): Promise<unknown>;
  /** Why the last attempt to connect failed; holds no credentials. */
  lastFault(): string;
  /** Where the connection leads; null while there is none. */
  address(): Address | null;
  /** Gives up the connection there is and dials again. */
  drop(): void;
  /** Milliseconds for which the oldest command has waited for its answer. */
  waitingForMs(): number;
  close(): void;
}

export interface ConnectionOptions {
  readonly target: RedisTarget;
  /** Names the connection in Redis's CLIENT LIST. */
  readonly name: string;
  readonly logger: Logger;
}

export function createConnection(options: ConnectionOptions): Connection {
  const { target, name, logger } = options;
  const closing = new AbortController();
  const waiters = new Set<() => void>();
  /** When each command under way was sent, oldest first. */
  const sent = new Map<symbol, number>();
  let client: Client | null = null;
  let address: Address | null = null;
  let lastFault = 'no answer yet';
  let downSinceMs = performance.now();

  void supervise();

  async function supervise(): Promise<void> {
    let backoffMs = BACKOFF_MS.first;
    while (!closing.signal.aborted) {
      try {
        const { client: dialled, address: reached } = await dial(target, name, closing.signal);
        const ended = new Promise<Error>((resolve) => {
          dialled.once('error', resolve);
          dialled.once('end', () => resolve(new Error('the connection was ended')));
        });
        dialled.on('error', () => {}); // only the first error is news
        if (!dialled.isReady) throw new Error('the connection ended at once');
        client = dialled;
        address = reached;
        backoffMs = BACKOFF_MS.first;
        for (const wake of waiters) wake();
        const cause = await ended;
        client = null;
        downSinceMs = performance.now();
        dialled.destroy();
        if (!closing.signal.aborted)
          logger.warn({ connection: name, cause: cause.message }, 'connection to Redis lost');
      } catch (error) {
        if (closing.signal.aborted) return;
        lastFault = error instanceof Error ? error.message : String(error);
        logger.debug({ connection: name, cause: lastFault }, 'Redis cannot be reached');
      }
      // Jitter keeps the nodes of a bridge from dialling in step.
      await sleep(backoffMs * (0.5 + Math.random()), undefined, { signal: closing.signal }).catch(() => {});
      backoffMs = Math.min(backoffMs * 2, BACKOFF_MS.most);
    }
  }

  function drop(dropped: Client | null): void {
    // Rejects what is in flight, and ends the wait of supervise().
    dropped?.destroy();
  }

  async function command(args: readonly string[], answerMs: number): Promise<unknown> {
    const used = client;
    if (used === null || !used.isReady) throw new NotSent('no connection to Redis');
    const ticket = Symbol();
    const deadline = setTimeout(drop, answerMs, used);
    sent.set(ticket, performance.now());
    try {
      return await used.sendCommand(args);
    } catch (error) {
      if (error instanceof ErrorReply) {
        if (STRAYED.test(error.message)) drop(used);
        if (REFUSALS.test(error.message)) throw new Refused(error.message);
        throw error;
      }
      if (error instanceof ClientOfflineError || error instanceof ClientClosedError) throw new NotSent(error.message);
      throw new NoAnswer(error instanceof Error ? error.message : String(error));
    } finally {
      clearTimeout(deadline);
      sent.delete(ticket);
    }
  }

  return {
    ready: () => client !== null,
    downForMs: () => (client === null ? performance.now() - downSinceMs : 0),
    async whenReady(ms) {
      if (client !== null) return true;
      if (closing.signal.aborted) return false;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(done, ms);
        function done(): void {
          clearTimeout(timer);
          waiters.delete(done);
          closing.signal.removeEventListener('abort', done);
          resolve();
        }
        waiters.add(done);
        closing.signal.addEventListener('abort', done);
      });
      return client !== null;
    },
    command,
    async run(script, args, answerMs) {
      const untilMs = performance.now() + answerMs;
      try {
        return await command(['EVALSHA', script.sha, '0', ...args], answerMs);
      } catch (error) {
        if (!(error instanceof ErrorReply) || !error.message.startsWith('NOSCRIPT')) throw error;
        return command(['EVAL', script.text, '0', ...args], untilMs - performance.now());
      }
    },
    lastFault: () => lastFault,
    address: () => (client === null ? null : address),
    drop: () => drop(client),
    waitingForMs() {
      const oldest = sent.values().next().value;
      return oldest === undefined ? 0 : performance.now() - oldest;
    },
    close() {
      closing.abort();
      drop(client);
    },
  };
}

interface Dialled {
  readonly client: Client;
  readonly address: Address;
}

/** A ready client that is connected to a master. The one who asked destroys it. */
async function dial(target: RedisTarget, name: string, signal: AbortSignal): Promise<Dialled> {
  const address = target.masterName === null ? target.nodes[0] : await findMaster(target);
  if (address === undefined || address === null) throw new Error('no Sentinel knows the master');
  const client = newClient(target, address, name, target.username, target.password, target.database);
  try {
    await within(CONNECT_MS, signal, async () => {
      await client.connect();
      // A Sentinel may not know yet that a master was demoted: https://redis.io/docs/latest/develop/reference/sentinel-clients/
      if (target.masterName === null) return;
      const role = (await client.sendCommand(['ROLE'])) as unknown;
      if (!Array.isArray(role) || role[0] !== 'master') throw new Error('not the master');
    });
    return { client, address };
  } catch (error) {
    client.destroy();
    throw error;
  }
}

/** A node's connections are lost together and dial together: those who ask meanwhile share an answer. */
const asking = new WeakMap<RedisTarget, Promise<Address | null>>();

export function findMaster(target: RedisTarget): Promise<Address | null> {
  let found = asking.get(target);
  if (found === undefined) {
    found = askSentinels(target).finally(() => asking.delete(target));
    asking.set(target, found);
  }
  return found;
}

/** The master's address by the Sentinel of the newest configuration, so that a stale one does not lead back. */
async function askSentinels(target: RedisTarget): Promise<Address | null> {
  const answers = await Promise.allSettled(
    target.nodes.map(async (node) => {
      const client = newClient(target, node, 'sentinel', target.sentinelUsername, target.sentinelPassword, 0);
      try {
        return await within(SENTINEL_MS, null, async () => {
          await client.connect();
          return fieldsOf(await client.sendCommand(['SENTINEL', 'MASTER', target.masterName ?? '']));
        });
      } finally {
        client.destroy();
      }
    }),
  );
  let found: Address | null = null;
  let newest = -1;
  for (const answer of answers) {
    if (answer.status === 'rejected') continue;
    const epoch = Number(answer.value.get('config-epoch') ?? 0);
    const host = answer.value.get('ip');
    if (host === undefined || epoch <= newest) continue;
    newest = epoch;
    found = { host, port: Number(answer.value.get('port')) };
  }
  return found;
}

/** A map of RESP3 comes as an object, one of RESP2 as a flat list. */
function fieldsOf(reply: unknown): Map<string, string> {
  if (!Array.isArray(reply)) return new Map(Object.entries(reply as Record<string, string>));
  const fields = new Map<string, string>();
  for (let i = 0; i + 1 < reply.length; i += 2) fields.set(String(reply[i]), String(reply[i + 1]));
  return fields;
}

function newClient(
  target: RedisTarget,
  { host, port }: Address,
  name: string,
  username: string | null,
  password: string | null,
  database: number,
): Client {
  const client = createClient({
    socket: {
      host,
      port,
      connectTimeout: CONNECT_MS,
      reconnectStrategy: false,
      ...(target.tls ? { tls: true as const, ...(isIP(host) === 0 ? { servername: host } : {}) } : {}),
    },
    ...(username === null ? {} : { username }),
    ...(password === null ? {} : { password }),
    ...(database === 0 ? {} : { database }),
    ...(name === 'sentinel' ? {} : { name: `roomcast-${name}` }),
    disableOfflineQueue: true,
    disableClientInfo: true,
    maintNotifications: 'disabled',
  });
  client.on('error', () => {}); // told by the rejection of connect() and of the commands
  return client as Client;
}

async function within<T>(ms: number, signal: AbortSignal | null, work: () => Promise<T>): Promise<T> {
  const ending = new AbortController();
  const limit = new Promise<never>((_, reject) => {
    const timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms);
    const abort = () => reject(new Error('closed'));
    signal?.addEventListener('abort', abort);
    ending.signal.addEventListener('abort', () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    });
  });
  try {
    return await Promise.race([work(), limit]);
  } finally {
    ending.abort();
  }
}

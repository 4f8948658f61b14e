/**
 * The log in Redis (7 or newer) or Valkey, for any number of nodes.
 *
 * A node has three connections, so that neither a long read nor the blocked tail delays an append, and a fourth for
 * what it says to other nodes (channel.ts). Each atomic step is one script (scripts/). Redis may be away, slow or
 * replaced at any time: calls end within their deadlines, and the store recovers by itself.
 */
import type { Cursor } from '../../contract/cursor.ts';
import type { Logger } from '../../logger.ts';
import { planScan } from '../scan.ts';
import type { Store } from '../store.ts';
import { createAppender } from './appender.ts';
import { createCalls, READ_MS, unavailable } from './calls.ts';
import { createChannel } from './channel.ts';
import { type Context, createConnection, RedisFailure, readInfo } from './connection.ts';
import { openLog, watchHealth } from './health.ts';
import { keepContaining, NEWEST, READ, RESOLVE, SCAN, type Settings, STATS } from './log.ts';
import { createRetention } from './retention.ts';
import { createRevocations } from './revocations.ts';
import { createSessions } from './sessions.ts';
import { runTail } from './tail.ts';
import { createTicketState } from './tickets.ts';
import { describeTarget, parseRedisUrl, REDIS_URL_RULE } from './url.ts';

export interface RedisOptions extends Pick<Settings, 'keying'> {
  /** See REDIS_URL_RULE. */
  readonly url: string;
  readonly claimedRoomKinds?: Settings['claimedRoomKinds'];
  readonly logger: Logger;
}

/** A writer that waits longer for an answer is not healthy. */
const SLOW_MS = 2_000;

/** @throws {Error} of one line if Redis cannot be reached, or cannot hold the log of this node */
export async function openRedisStore({ url, keying, claimedRoomKinds = [], logger }: RedisOptions): Promise<Store> {
  const target = parseRedisUrl(url);
  if (target === null) throw new Error(`STORE_URL: not a Redis URL; it must be ${REDIS_URL_RULE}`);

  const writer = createConnection(target, 'writer', logger);
  const reader = createConnection(target, 'reader', logger);
  const tailer = createConnection(target, 'tail', logger);
  const closing = new AbortController();
  const context: Context = {
    target,
    settings: { keying, claimedRoomKinds },
    logger,
    writer,
    reader,
    tailer,
    connections: new Set([writer, reader, tailer]),
    signal: closing.signal,
  };
  const appender = createAppender(context);
  const calls = createCalls(context);
  const { read } = calls;
  const revocations = createRevocations(calls, context);
  let tailing: Promise<void> | null = null;

  async function close(): Promise<void> {
    await appender.close();
    closing.abort();
    for (const connection of context.connections) connection.close();
    await tailing;
  }

  const opened = await openLog(context).catch(async (error) => {
    await close();
    throw error;
  });
  watchHealth(context, appender);

  const fault = (): string | null => {
    if (closing.signal.aborted) return 'The log is closed.';
    if (!writer.ready()) return `Redis at ${describeTarget(target)} cannot be reached: ${writer.lastError()}`;
    return appender.refusal() ?? (writer.waitingForMs() < SLOW_MS ? null : 'Redis does not answer.');
  };

  return {
    ...createTicketState(calls),
    ...createSessions(calls),
    ...createRetention(calls, context, revocations),
    ...revocations.port,
    ...createChannel(context),
    opened: opened.bounds,
    tail(listener) {
      if (tailing !== null) throw new Error('the tail was already started');
      tailing = runTail(context, calls, opened.head, listener);
    },
    append: (request) => appender.append(request),
    bounds: async (caller) => (await read(RESOLVE, '', caller)).bounds,
    async resolve(cursor, caller) {
      const { kind, bounds } = await read(RESOLVE, cursor, caller);
      return kind === 'ok' ? { kind } : { kind, ...bounds };
    },
    read: ({ caller, ...query }) => read(READ, query, caller),
    newest: ({ caller, ...query }) => read(NEWEST, query, caller),
    async scan({ caller, ...query }) {
      const step = await read(SCAN, { query, plan: planScan(query.parts, keying) }, caller);
      if (step.kind === 'ok') return keepContaining(query, step);
      return { kind: step.kind, cursor: query[step.which] as Cursor, ...step.bounds };
    },
    async stats() {
      const stats = await read(STATS, undefined);
      const { used_memory = '0' } = await readInfo(reader, 'memory', READ_MS).catch((error) => {
        throw error instanceof RedisFailure ? unavailable('The log cannot be reached', error) : error;
      });
      return { ...stats, bytes: Number(used_memory) };
    },
    healthy: () => fault() === null,
    fault,
    close,
  };
}

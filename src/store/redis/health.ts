/** Checks at start-up that this Redis can hold the log, and keeps checking that it still accepts writes. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ErrorReply } from 'redis';
import type { Appender } from './appender.ts';
import { READ_MS, WRITE_MS } from './calls.ts';
import { type Context, findMaster, RedisFailure, Refused, readInfo } from './connection.ts';
import { LIVE_MS, mismatch, OPEN } from './log.ts';
import { describeTarget } from './url.ts';

const OPEN_MS = 5_000;
/** When somebody who starts a node wants to know why nothing happens. */
const QUIET_MS = 300;
const PROBE_MS = 1_000;
/** How often a node asks the Sentinels whether its master is still the master. */
const SENTINEL_CHECK_MS = 5_000;

/** @throws {Error} of one line if Redis cannot be reached, or cannot hold the log of this node */
export async function openLog({ target, settings, writer, logger }: Context) {
  const where = `STORE_URL: Redis at ${describeTarget(target)}`;
  const deadlineMs = performance.now() + OPEN_MS;
  const settledMs = performance.now() + LIVE_MS;
  if (!(await writer.whenReady(QUIET_MS))) {
    const until = new Date(Date.now() + deadlineMs - performance.now()).toISOString();
    logger.warn(`waiting until ${until} for Redis at ${describeTarget(target)} (${writer.lastError()})`);
  }
  for (;;) {
    if (!(await writer.whenReady(deadlineMs - performance.now()))) {
      throw new Error(`${where} cannot be reached (${writer.lastError()})`);
    }
    try {
      const { redis_version = '0', maxmemory_policy = 'noeviction' } = await readInfo(writer, 'default', WRITE_MS);
      if (Number.parseInt(redis_version, 10) < 7) {
        throw new Error(`${where} has version ${redis_version}; use 7 or newer`);
      }
      if (maxmemory_policy.startsWith('allkeys')) {
        throw new Error(`${where} may evict records: maxmemory-policy is ${maxmemory_policy}; set it to noeviction`);
      }
      const opened = await writer.run(OPEN, settings, WRITE_MS);
      const fault = mismatch(opened, settings);
      if (fault === null) return opened;
      // What a node announced holds for a while after it ended.
      if (opened.keying !== settings.keying || performance.now() > settledMs) throw new Error(`${where} ${fault}`);
      await sleep(100);
    } catch (error) {
      const [, format, known] = /^FORMAT (\S+) (\S+)/.exec(error instanceof Error ? error.message : '') ?? [];
      if (format !== undefined) {
        const advice = 'start the version that wrote it, or a newer one';
        throw new Error(`${where} holds a log of format ${format}, but this version knows format ${known}; ${advice}`);
      }
      const isLasting = error instanceof ErrorReply || (error instanceof Refused && /^NOPERM\b/.test(error.message));
      if (isLasting) throw new Error(`${where} cannot hold a log: ${error.message}`);
      if (!(error instanceof RedisFailure)) throw error;
      if (performance.now() >= deadlineMs) throw new Error(`${where} does not accept writes: ${error.message}`);
      await sleep(100);
    }
  }
}

/** Runs until the store is closed. */
export function watchHealth(context: Context, appender: Appender): void {
  const { target, settings, writer, reader, connections, signal } = context;
  const probing = setInterval(() => void probe(), PROBE_MS);
  const checking = target.masterName === null ? undefined : setInterval(() => void checkMaster(), SENTINEL_CHECK_MS);
  signal.addEventListener('abort', () => {
    clearInterval(probing);
    clearInterval(checking);
  });

  /** Notices while nobody appends that Redis hangs or refuses writes, and that it accepts them again. */
  async function probe(): Promise<void> {
    // A reader that hangs misses the deadline of this command, and its connection is replaced.
    reader.command(['PING'], READ_MS).catch(() => {});
    if (!writer.ready()) return;
    try {
      const fault = mismatch(await writer.run(OPEN, settings, WRITE_MS), settings);
      if (fault === null) appender.noteAccepted();
      else appender.noteRefused(fault);
    } catch (error) {
      if (error instanceof Refused || error instanceof ErrorReply) appender.noteRefused(error.message);
    }
  }

  /** A master that is cut off from its Sentinels does not know that it was replaced. */
  async function checkMaster(): Promise<void> {
    const master = await findMaster(target).catch(() => null);
    if (master === null) return;
    for (const connection of connections) {
      const address = connection.address();
      if (address !== null && (address.host !== master.host || address.port !== master.port)) connection.reconnect();
    }
  }
}

/**
 * The one tail of a node: hands over what the log took, in order, each record once; or tells that it cannot.
 *
 * Each step asks for what follows the last record handed over, and Redis checks in the same step that this record is
 * still where it was. So it does not matter what happened in between: a lost connection, a restart, a failover, a
 * flush. The blocking read only says that it is worth asking again.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Cursor, type CursorParts, formatCursor } from '../../contract/cursor.ts';
import type { LogRecord } from '../../contract/frames.ts';
import type { Logger } from '../../logger.ts';
import type { LogBounds, TailListener } from '../store.ts';
import { type Connection, isFault } from './connection.ts';
import { TAIL } from './scripts/read.ts';
import { CHANGES_KEY, FEED_KEY } from './scripts/script.ts';

/** Records and payload characters of one step. */
const STEP = { records: 1_000, chars: 2 * 1024 * 1024 };
/** Longest blocking read: also how late a lost log is noticed when nothing is appended. */
const BLOCK_MS = 2_000;
/** A Redis that answers later than this hangs. */
const ANSWER_MS = 3_000;
/** Pause after a refusal, such as LOADING, which may come at once again. */
const REFUSED_MS = 100;

export interface TailOptions {
  readonly connection: Connection;
  readonly from: CursorParts;
  readonly listener: TailListener;
  readonly logger: Logger;
  /** Makes the log when Redis has none, and tells where it ends. */
  readonly reopen: () => Promise<void>;
  readonly boundsOf: (reply: readonly unknown[]) => LogBounds;
  readonly recordsOf: (epoch: string, reply: readonly unknown[], first: number) => LogRecord[];
}

/** What one step of the tail found out; TAIL says in which order it comes. */
interface Step {
  readonly kind: 'ok' | 'expired' | 'unknown';
  readonly bounds: LogBounds;
  readonly records: readonly LogRecord[];
  /** Where the step ended: the last record, a tombstone, or where it began. */
  readonly position: CursorParts;
  readonly floor: Cursor;
  readonly erasures: string;
  readonly changes: string;
}

/** Runs until the connection is closed. What the listener throws is not caught: it is a fault of this process. */
export async function runTail(options: TailOptions, signal: AbortSignal): Promise<void> {
  const { connection, listener, logger } = options;
  let position = options.from;
  let floor: Cursor | null = null;
  let erasures: string | null = null;

  while (!signal.aborted) {
    if (!(await connection.whenReady(BLOCK_MS))) continue;
    let step: Step;
    try {
      step = await take();
    } catch (error) {
      await fault(error);
      continue;
    }

    if (step.kind !== 'ok') {
      logger.warn({ reason: step.kind, after: formatCursor(position) }, 'the tail lost its place in the log');
      position = step.position;
      floor = step.floor;
      erasures = step.erasures;
      listener.gap(step.kind, step.bounds);
      continue;
    }
    position = step.position;
    if (step.records.length > 0) listener.records(step.records);
    if (erasures !== null && step.erasures !== erasures) listener.forgotten(formatCursor(position));
    else if (floor !== null && step.floor !== floor) listener.forgotten(step.floor);
    floor = step.floor;
    erasures = step.erasures;

    if (formatCursor(position) === step.bounds.head) await pause(step.changes);
  }

  async function take(): Promise<Step> {
    const { epoch, seq, nonce } = position;
    const args = [epoch, String(seq), nonce, String(STEP.records), String(STEP.chars)];
    let reply = (await connection.run(TAIL, args, ANSWER_MS)) as unknown[];
    if (reply[0] === 'none') {
      await options.reopen();
      reply = (await connection.run(TAIL, args, ANSWER_MS)) as unknown[];
      if (reply[0] === 'none') throw new Error('Redis was emptied twice in a moment');
    }
    const kind = reply[0] as Step['kind'];
    const bounds = options.boundsOf(reply);
    const head = { epoch: reply[1] as string, seq: Number(reply[2]), nonce: reply[3] as string };
    return {
      kind,
      bounds,
      floor: bounds.floor,
      records: options.recordsOf(head.epoch, reply, 12),
      position: kind === 'ok' ? { epoch, seq: Number(reply[10]), nonce: reply[11] as string } : head,
      erasures: reply[8] as string,
      changes: reply[9] as string,
    };
  }

  /** Until something is appended, trimmed or erased after what this step saw, or BLOCK_MS have passed. */
  async function pause(changes: string): Promise<void> {
    const keys = [FEED_KEY, CHANGES_KEY, `${position.seq}-0`, `${changes}-0`];
    const args = ['XREAD', 'COUNT', '1', 'BLOCK', String(BLOCK_MS), 'STREAMS', ...keys];
    try {
      await connection.command(args, BLOCK_MS + ANSWER_MS);
    } catch (error) {
      await fault(error);
    }
  }

  async function fault(error: unknown): Promise<void> {
    if (signal.aborted) return;
    if (isFault(error)) logger.debug({ cause: error.message }, 'the tail waits for Redis');
    else logger.error({ cause: error }, 'the tail cannot read the log');
    await sleep(REFUSED_MS, undefined, { signal }).catch(() => {});
  }
}

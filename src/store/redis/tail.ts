/**
 * A node's tail: hands over each record of the log once and in order, or reports a gap.
 *
 * Each step asks for the records after the last one handed over, and Redis checks in the same step that this record is
 * still in its place. So it does not matter what happened in between: a lost connection, a restart, a failover, a flush.
 * The blocking read only says when to ask again.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Cursor, type CursorParts, formatCursor } from '../../contract/cursor.ts';
import type { TailListener } from '../store.ts';
import type { Calls } from './calls.ts';
import { type Context, RedisFailure } from './connection.ts';
import { type LogAnswer, OPEN, ofLog, positionArgv } from './log.ts';
import { decodeRecords } from './record.ts';
import { defineScript } from './script.ts';

/** Records and payload characters of one step. */
const STEP = { records: 1_000, chars: 2 * 1024 * 1024 };
/** Longest blocking read. A log that was replaced is noticed this late if nothing is appended. */
const BLOCK_MS = 2_000;
const ANSWER_MS = 3_000;
/** Pause after a failure that may repeat at once, such as LOADING. */
const FAILURE_PAUSE_MS = 100;

type TailFields = [
  ...[erasures: string, changes: string, seq: string, nonce: string, erasure: string, keys: string],
  ...records: string[],
];

const TAIL = defineScript(
  'tail',
  ({ after, known }: { readonly after: CursorParts; readonly known: string }) =>
    positionArgv(after).concat(String(STEP.records), String(STEP.chars), known),
  ofLog((answer: LogAnswer<TailFields>) => {
    const { kind, head, bounds, fields } = answer;
    const [erasures, changes, seq, nonce, erasure, keys, ...values] = fields;
    return {
      kind,
      bounds,
      records: decodeRecords(head.epoch, values),
      /** After the last record or tombstone that was read. If the position was lost, the tail continues at the head. */
      position: kind === 'ok' ? { epoch: head.epoch, seq: Number(seq), nonce } : head,
      /** Counters: of erasures, and of trims and erasures. */
      erasures,
      changes,
      /** The number of the newest erasure, and the keys of those after the known one, as far as they are kept. */
      erasure,
      keys: keys === '' ? [] : keys.split(','),
    };
  }),
);

type TailStep = NonNullable<ReturnType<typeof TAIL.parse>>;

/** Runs until the store is closed. */
export async function runTail(context: Context, { write }: Calls, from: CursorParts, listener: TailListener) {
  const { target, tailer, settings, logger, signal } = context;
  let position = from;
  let floor: Cursor | null = null;
  let erasures: string | null = null;
  /** The newest erasure that the listener knows of; empty before the first step. */
  let known = '';

  while (!signal.aborted) {
    if (!(await tailer.whenReady(BLOCK_MS))) continue;
    let step: TailStep;
    try {
      step = await readStep();
    } catch (error) {
      await recover(error);
      continue;
    }

    const { kind, bounds, records } = step;
    const after = formatCursor(position);
    const erased = erasures !== null && step.erasures !== erasures;
    const trimmed = floor !== null && bounds.floor !== floor;
    // Everything moves on before the listener is called, so that a listener that throws gets nothing twice.
    position = step.position;
    floor = bounds.floor;
    erasures = step.erasures;
    const missed = known === '' ? 0 : Number(step.erasure) - Number(known);
    known = step.erasure;
    // More than are kept, or another log.
    if (missed !== step.keys.length) notify(() => listener.erased(null));
    else for (const key of step.keys) notify(() => listener.erased(key));
    if (kind !== 'ok') {
      logger.warn({ reason: kind, after }, 'the tail lost its position in the log and continues at the head');
      notify(() => listener.gap(kind, bounds));
      continue;
    }
    if (records.length > 0) notify(() => listener.records(records));
    if (erased) notify(() => listener.forgotten(formatCursor(step.position)));
    else if (trimmed) notify(() => listener.forgotten(bounds.floor));

    if (formatCursor(position) === bounds.head) await waitForChange(step.changes);
  }

  /** The law of Log.tail: a listener that throws still gets the next commit. */
  function notify(call: () => void): void {
    try {
      call();
    } catch (error) {
      logger.error({ cause: error }, 'a tail listener threw an error; the tail continues with the next commit');
    }
  }

  async function readStep(): Promise<TailStep> {
    const attempt = () => tailer.run(TAIL, { after: position, known }, ANSWER_MS);
    const step = (await attempt()) ?? (await write(OPEN, settings).then(attempt));
    if (step === null) throw new Error('Redis lost the log again');
    return step;
  }

  /** Until something is appended, trimmed or erased after the last step, or BLOCK_MS have passed. */
  async function waitForChange(changes: string): Promise<void> {
    const { keyPrefix } = target;
    const streams = [`${keyPrefix}feed`, `${keyPrefix}changes`, `${position.seq}-0`, `${changes}-0`];
    const args = ['XREAD', 'COUNT', '1', 'BLOCK', String(BLOCK_MS), 'STREAMS', ...streams];
    await tailer.command(args, BLOCK_MS + ANSWER_MS).catch(recover);
  }

  async function recover(error: unknown): Promise<void> {
    if (signal.aborted) return;
    if (error instanceof RedisFailure) logger.debug({ cause: error.message }, 'the tail waits for Redis');
    else logger.error({ cause: error }, 'the tail cannot read the log; it tries again');
    await sleep(FAILURE_PAUSE_MS, undefined, { signal }).catch(() => {});
  }
}

/**
 * Runs scripts within the 5 s of protocol §10, and again if the connection breaks meanwhile. So running a script twice
 * MUST do no harm; APPEND, which could append twice, has its own way in appender.ts.
 */
import { ErrorReply } from 'redis';
import { BridgeError } from '../../contract/errors.ts';
import { createTurns } from '../turns.ts';
import { type Connection, type Context, NoAnswer, NotSent, RedisFailure } from './connection.ts';
import { OPEN } from './log.ts';
import type { Script } from './script.ts';

/** One attempt, and all attempts of a call. */
export const READ_MS = 2_000;
export const WRITE_MS = 3_000;
const CALL_MS = 4_000;
/** How long a read waits for its turn; it has the rest of the time of a call for its answer. */
const TURN_MS = 3_000;
/** With less time left, a call is not tried again. */
const MIN_ATTEMPT_MS = 500;
/** If Redis has been away for longer, calls fail at once. */
const AWAY_MS = 1_500;

/** Reads of this node that Redis has at a time. Each is bounded, so another caller's read waits for a few at most. */
const MAX_READS = 8;

/** Both throw a BridgeError `unavailable` if Redis does not answer. */
export interface Calls {
  /** Callers take turns (../turns.ts). */
  read<Arguments, Reply>(script: Script<Arguments, Reply | null>, args: Arguments, caller?: string): Promise<Reply>;
  write<Arguments, Reply>(script: Script<Arguments, Reply>, args: Arguments): Promise<Reply>;
}

export const unavailable = (message: string, cause?: unknown): BridgeError =>
  new BridgeError('unavailable', `${message}. Try again later.`, { cause });

export function createCalls({ writer, reader, settings, logger, signal }: Context): Calls {
  const waiting = createTurns<{ late: NodeJS.Timeout | null; start(): void }>();
  let reading = 0;

  /** Resolves when it is the caller's turn. Call `endTurn` after the read. */
  async function takeTurn(caller: string): Promise<void> {
    if (reading < MAX_READS) {
      reading++;
      return;
    }
    if (waiting.isFull(caller)) throw unavailable('Too many requests are waiting for the log');
    await new Promise<void>((start, reject) => {
      const turn = {
        start,
        late: setTimeout(() => {
          turn.late = null;
          reject(unavailable('The log did not respond in time'));
        }, TURN_MS) as NodeJS.Timeout | null,
      };
      waiting.add(caller, turn);
    });
  }

  /** Hands the place on to the next caller that still waits. */
  function endTurn(): void {
    let next = waiting.take();
    while (next?.late === null) next = waiting.take();
    if (next === undefined) {
      reading--;
    } else {
      clearTimeout(next.late as NodeJS.Timeout);
      next.start();
    }
  }

  async function call<A, R>(
    connection: Connection,
    attemptMs: number,
    script: Script<A, R>,
    args: A,
    deadlineMs = performance.now() + CALL_MS,
  ): Promise<R> {
    for (;;) {
      const leftMs = deadlineMs - performance.now();
      try {
        if (signal.aborted) throw new NotSent('the store is closed');
        if (connection.downForMs() > AWAY_MS || !(await connection.whenReady(Math.min(leftMs, AWAY_MS)))) {
          throw new NotSent('no connection to Redis');
        }
        return await connection.run(script, args, Math.min(leftMs, attemptMs));
      } catch (error) {
        // Proxies send error replies of their own. Whether such an error passes is unknown, so it counts as passing.
        if (error instanceof ErrorReply) {
          logger.error({ script: script.name, cause: error.message }, 'Redis returned an error');
        } else if (!(error instanceof RedisFailure)) throw error;
        if (error instanceof NoAnswer && deadlineMs - performance.now() > MIN_ATTEMPT_MS) continue;
        throw unavailable('The log cannot be reached', error);
      }
    }
  }

  const write: Calls['write'] = (script, args) => call(writer, WRITE_MS, script, args);

  return {
    write,
    async read(script, args, caller = '') {
      const deadlineMs = performance.now() + CALL_MS;
      await takeTurn(caller);
      try {
        const attempt = () => call(reader, READ_MS, script, args, deadlineMs);
        // Without a log in Redis, for example after a flush, this node creates one.
        const reply = (await attempt()) ?? (await write(OPEN, settings).then(attempt));
        if (reply === null) throw unavailable('The log was lost');
        return reply;
      } finally {
        endTurn();
      }
    },
  };
}

/**
 * Requests that a dead network connection may swallow: after sleep, those that a browser keeps may be dead, and a request that
 * begins while others wait does not wait behind them. So what has no answer is asked again, beside it.
 */
import type { RoomcastError } from './http.ts';
import { childOf, pause } from './retry.ts';

/** How long a page, or a sign of life, may take once somebody looks. */
export const WAKE_MS = 2_000;

export interface Persistence {
  /** How often the same is asked. */
  readonly tries: number;
  /** After how long without an answer it is asked again. */
  readonly staggerMs: number;
  /** Whether an answer that was cut or refused by the network is only one of the tries, and not the result. */
  readonly outlivesFailure: boolean;
}

const LOOK: Persistence = { tries: 4, staggerMs: 500, outlivesFailure: true };
/** For a plain request while nobody waits: it may go over a connection that died during sleep. */
export const ONCE_MORE: Persistence = { tries: 2, staggerMs: WAKE_MS, outlivesFailure: false };

/** The first answer counts, a refusal too; the other requests are aborted. */
export async function askAgain<Answer>(
  ask: (until: AbortSignal) => Promise<Answer>,
  signal: AbortSignal,
  persistence?: Persistence,
): Promise<Answer> {
  const scope = childOf(signal);
  try {
    return await openAgain(ask, scope.signal, persistence);
  } finally {
    scope.abort();
  }
}

/** The same for an answer whose body goes on: its request lasts until the signal aborts. */
export function openAgain<Answer>(
  ask: (until: AbortSignal) => Promise<Answer>,
  signal: AbortSignal,
  { tries, staggerMs, outlivesFailure }: Persistence = LOOK,
): Promise<Answer> {
  const requests: AbortController[] = [];
  const pausing = childOf(signal);
  let left = tries;
  const asked = new Promise<Answer>((resolve, reject) => {
    const attempt = async (delayMs: number): Promise<void> => {
      // Not even a short pause before the first: the timers of a hidden page are slow.
      if (delayMs > 0) await pause(delayMs, pausing.signal);
      if (pausing.signal.aborted && !signal.aborted) return;
      const request = childOf(signal);
      requests.push(request);
      try {
        resolve(await ask(request.signal));
        for (const other of requests) if (other !== request) other.abort();
      } catch (error) {
        left--;
        const isLast = left === 0 || !outlivesFailure;
        if (!isLast && !signal.aborted && (error as RoomcastError).status === 0) return;
        reject(error);
        for (const other of requests) other.abort();
      }
    };
    for (let index = 0; index < tries; index++) void attempt(index * staggerMs);
  });
  return asked.finally(() => pausing.abort());
}

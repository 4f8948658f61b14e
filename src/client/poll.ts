/**
 * The lowest rung, and what covers every gap between the others: long polls, one after the other.
 *
 * A network that cuts a long poll gets shorter ones, down to plain requests with a pause between them; each that comes
 * through may wait a second longer.
 */

import type { Open, Source } from './connection.ts';
import type { RoomcastError } from './http.ts';
import { backoff, online, pause } from './retry.ts';

/** Seconds; intermediaries cut idle requests at 30 s and more. */
const LONGEST_WAIT = 20;
/** Between plain requests, where no long poll lasts. */
const PLAIN_MS = 1_000;
const MOST_BACKOFF_MS = 10_000;

export const openPoll: Open = ({ session }, events): Source => {
  const over = new AbortController();
  let request = new AbortController();
  let waitSeconds = LONGEST_WAIT;
  let failures = 0;
  /** What there is already is asked for at once, and so is the sign that polling works. */
  let isFirst = true;

  async function run(): Promise<void> {
    while (!over.signal.aborted) {
      await online(over.signal);
      const link = session.link();
      const wait = isFirst ? 0 : waitSeconds;
      const begunMs = performance.now();
      request = new AbortController();
      try {
        const hasMore = await session.page(link, wait, request.signal);
        if (request.signal.aborted) continue;
        failures = 0;
        isFirst = false;
        events.proven();
        if (wait > 0 && waitSeconds < LONGEST_WAIT) waitSeconds++;
        else if (waitSeconds === 0 && !hasMore) {
          await pause(PLAIN_MS * Math.random(), over.signal);
          waitSeconds = 1;
        }
      } catch (error) {
        if (request.signal.aborted) continue;
        failures++;
        const known = error as RoomcastError;
        if (wait > 0 && known.status === 0)
          waitSeconds = Math.min(waitSeconds - 1, Math.floor((performance.now() - begunMs) / 2000));
        isFirst = true;
        events.ended({ error: known });
        await pause(Math.max(known.retryAfterMs, backoff(failures, MOST_BACKOFF_MS)), over.signal);
      }
    }
  }

  let isRunning = false;
  return {
    attach() {
      request.abort();
      if (!isRunning) void run();
      isRunning = true;
    },
    close() {
      over.abort();
      request.abort();
    },
  };
};

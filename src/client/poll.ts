/**
 * Long polls, one after the other: the transport that works on every network, and that fills each gap between the others.
 *
 * On a network that cuts a long poll the next ones are shorter, down to plain requests with a pause between them. Each
 * poll that succeeds lets the next one wait a second longer.
 */
import type { Connection, OpenConnection } from './connection.ts';
import type { RoomcastError } from './http.ts';
import { online, pause, pauseAfter } from './retry.ts';

/** Proxies cut requests that are idle for 30 s and more. */
const MAX_WAIT_SECONDS = 20;
/** The longest pause between plain requests, where no long poll survives. */
const PLAIN_PAUSE_MS = 1_000;
/** A signal that arrives between two polls is lost. So each poll reads the list of signals, at most this often. */
const REFRESH_MS = 2_000;

export const openPoll: OpenConnection = ({ stream, signals }, events): Connection => {
  const aborter = new AbortController();
  const { signal } = aborter;
  let request = new AbortController();
  let waitSeconds = MAX_WAIT_SECONDS;
  let failures = 0;
  /** The first request does not wait: it brings what the log already has, and proves that polling works. */
  let isFirst = true;
  let refreshAtMs = 0;
  let refreshTimer: ReturnType<typeof setTimeout> | undefined;

  function refresh(): void {
    refreshTimer = undefined;
    refreshAtMs = performance.now() + REFRESH_MS;
    void signals.refresh();
  }

  async function run(): Promise<void> {
    while (!signal.aborted) {
      await online(signal);
      const writer = stream.writer();
      const wait = isFirst ? 0 : waitSeconds;
      const startedMs = performance.now();
      request = new AbortController();
      try {
        // The list is read while the poll waits.
        if (wait > 0) refreshTimer ??= setTimeout(refresh, Math.max(0, refreshAtMs - startedMs));
        const hasMore = await stream.readPage(writer, wait, request.signal);
        if (request.signal.aborted) continue;
        failures = 0;
        isFirst = false;
        events.proven();
        if (wait > 0 && waitSeconds < MAX_WAIT_SECONDS) waitSeconds++;
        else if (waitSeconds === 0 && !hasMore) {
          await pause(PLAIN_PAUSE_MS * Math.random(), signal);
          waitSeconds = 1;
        }
      } catch (cause) {
        if (request.signal.aborted) continue;
        failures++;
        const error = cause as RoomcastError;
        if (wait > 0 && error.status === 0) {
          waitSeconds = Math.min(waitSeconds - 1, Math.floor((performance.now() - startedMs) / 2000));
        }
        isFirst = true;
        events.ended({ error });
        await pauseAfter(error, failures, signal);
      }
    }
  }

  let isRunning = false;
  return {
    attach() {
      refreshAtMs = 0;
      request.abort();
      if (!isRunning) void run();
      isRunning = true;
    },
    close() {
      aborter.abort();
      request.abort();
      clearTimeout(refreshTimer);
    },
  };
};

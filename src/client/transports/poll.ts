/**
 * Long polls, one after the other: the transport that works on every network, and that fills each gap between the others.
 *
 * On a network that cuts a long poll the next ones are shorter, down to plain requests with a pause between them. Each
 * poll that succeeds lets the next one wait a second longer.
 */

import { askAgain } from '../ask-again.ts';
import type { RoomcastError } from '../http.ts';
import { childOf, isOnline, online, pause, pauseAfter } from '../retry.ts';
import type { Connection, OpenConnection } from './connection.ts';
import { takeSlot } from './slots.ts';

/** Proxies cut requests that are idle for 30 s and more. */
const MAX_WAIT_SECONDS = 20;
/** The longest pause between plain requests, where no long poll survives. */
const PLAIN_PAUSE_MS = 1_000;
/** After so many failures in a row, the network may be slow: an answer then has this time at least. */
const SLOW_FAILURES = 3;
const SLOW_MS = 8_000;
/** The pause where a poll of another tab waits: half of it to all of it, or longer than the answers take. */
const CROWDED_PAUSE_MS = 2_000;
const CROWDED_PART = 5;
/** A signal that arrives between two polls is lost. So each poll reads the list of signals, at most this often. */
const REFRESH_MS = 2_000;

export const openPoll: OpenConnection = ({ http, stream, signals, patienceMs }, events): Connection => {
  const aborter = new AbortController();
  const { signal } = aborter;
  let request = new AbortController();
  /** Ends the pause between two requests. */
  let nap = new AbortController();
  let waitSeconds = MAX_WAIT_SECONDS;
  let failures = 0;
  /** The first request does not wait: it brings what the log already has, and proves that polling works. */
  let isFirst = true;
  /** Whether it may wait, for as long as it is open. */
  let mayWait = false;
  /** How long the next answer may take because somebody looks; null: nobody does. */
  let probeMs: number | null = null;
  let refreshAtMs = 0;
  let refreshTimer: ReturnType<typeof setTimeout> | undefined;

  function refresh(): void {
    refreshTimer = undefined;
    refreshAtMs = performance.now() + REFRESH_MS;
    if (isOnline()) void signals.refresh();
  }

  async function run(): Promise<void> {
    while (!signal.aborted) {
      if (!isOnline()) {
        events.ended({});
        await online(signal);
      }
      if (!isFirst && !mayWait) mayWait = await takeSlot('poll', http.url, signal);
      const isCrowded = !isFirst && !mayWait;
      const writer = stream.writer();
      const wait = isFirst || isCrowded ? 0 : waitSeconds;
      const startedMs = performance.now();
      const isProbe = probeMs !== null;
      const withinMs = probeMs ?? (failures < SLOW_FAILURES ? patienceMs : Math.max(patienceMs, SLOW_MS));
      probeMs = null;
      request = new AbortController();
      nap = childOf(signal);
      try {
        // The list is read while the poll waits.
        if (wait > 0 || isCrowded) refreshTimer ??= setTimeout(refresh, Math.max(0, refreshAtMs - startedMs));
        const read = (until: AbortSignal) => stream.readPage(writer, wait, until, withinMs);
        const hasMore = await (isProbe ? askAgain(read, request.signal) : read(request.signal));
        // After a reset, it has to begin anew.
        if (request.signal.aborted || !writer.isCurrent) continue;
        failures = 0;
        isFirst = false;
        events.proven();
        if (wait > 0 && waitSeconds < MAX_WAIT_SECONDS) waitSeconds++;
        else if (isCrowded && !hasMore) {
          const pauseMs = Math.max(CROWDED_PAUSE_MS, CROWDED_PART * (performance.now() - startedMs));
          await pause(pauseMs * (0.5 + Math.random() / 2), nap.signal);
        } else if (waitSeconds === 0 && !hasMore) {
          await pause(PLAIN_PAUSE_MS * Math.random(), nap.signal);
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
        await pauseAfter(error, failures, startedMs, nap.signal);
      } finally {
        nap.abort();
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
    probe(withinMs) {
      probeMs = withinMs;
      isFirst = true;
      failures = 0;
      request.abort();
      nap.abort();
    },
    close() {
      aborter.abort();
      request.abort();
      clearTimeout(refreshTimer);
    },
  };
};

/**
 * Picks the transport by what works, never by what a browser claims to support.
 *
 * Until a streaming transport is proven, polling delivers the events, while better transports are tried one at a time,
 * the best first. A transport that fails waits longer each time before it is tried again; one that lasted starts afresh.
 * The transport that worked is remembered, so that the next connection begins there.
 *
 * While nothing gets through at all, failures say nothing about the transports: when a plain request is answered again, all
 * of them are due. Polling is that request; where it is not allowed, one is made now and then for nothing else.
 */

import { WAKE_MS } from '../ask-again.ts';
import type { Status, TransportName } from '../events.ts';
import type { RoomcastError } from '../http.ts';
import { backoff, childOf, online, onNetwork, pause } from '../retry.ts';
import type { Judgement } from '../wake.ts';
import type { Connection, ConnectionEnd, ConnectionEvents } from './connection.ts';

export interface TransportPickerOptions {
  /** The transports that are allowed, best first. Polling counts as the last one. */
  readonly allowed: readonly TransportName[];
  open(transport: TransportName, events: ConnectionEvents): Connection;
  /** Where to begin. */
  readonly remembered: TransportName | null;
  remember(transport: TransportName): void;
  report(status: Omit<Status, 'state'>): void;
  /** A token was refused. Returns whether there can be a new one. */
  renew(): boolean;
  failed(error: RoomcastError): void;
  /** How long a transport may take to prove itself. */
  readonly patienceMs: number;
  readonly signal: AbortSignal;
}

export interface TransportPicker {
  start(): void;
  /** Every connection continues from the stream as it now is. */
  attach(): void;
  /**
   * Somebody looks, or the network is another one: tries at once what waits, and asks the connection whether it lives.
   * The page of `/events` that is read meanwhile says whether the connection brings what it should.
   */
  wake(judged: Promise<Judgement>): void;
  /** Closes every connection until the next `start`. */
  stop(): void;
}

/** The delay before polling starts beside the first attempt. */
const POLL_AT_START_MS = 1_000;
/** The longest delay before polling replaces a connection that ended; random, so that clients do not poll at once. */
const POLL_MS = 200;
/** A connection that lasted this long was a good one. */
const LASTED_MS = 60_000;
const MAX_BACKOFF_MS = 300_000;
/** The longest delay for a transport that worked within `TRUSTED_MS` and was cut, and for all while nothing works. */
const SOON_MS = 20_000;
const TRUSTED_MS = 600_000;
/** For so long after somebody looked, a request may go into a dead network connection. */
const JUST_WOKEN_MS = 5_000;
/** Where polling is not allowed, the longest delay before a plain request asks whether the bridge answers. */
const ASK_MS = 10_000;
/** The delay before a transport is tried again for which the browser had no connection left. */
const CROWDED_MS = 10_000;
/** Transports that are better than the remembered one are tried again within 2^5 s. */
const REMEMBERED_FAILURES = 6;

interface Candidate {
  readonly name: TransportName;
  failures: number;
  dueMs: number;
  /** When it is due while nothing works. */
  soonMs: number;
  /** When it worked last, by `Date.now()`, which runs during sleep. */
  workedAtMs: number;
}

export function createTransportPicker(options: TransportPickerOptions): TransportPicker {
  const { allowed, remembered, signal, patienceMs } = options;
  /** The streaming transports, best first. */
  const candidates: Candidate[] = allowed
    .filter((name) => name !== 'poll')
    .map((name) => ({ name, failures: 0, dueMs: 0, soonMs: 0, workedAtMs: Number.NEGATIVE_INFINITY }));
  /** Also where it is not allowed, while the other tabs have all the streams that a browser can open. */
  let mayPoll = allowed.includes('poll');
  let current: { readonly index: number; readonly connection: Connection; readonly provenAtMs: number } | null = null;
  let trying: { readonly connection: Connection; cancel(): void } | null = null;
  let polling: Connection | null = null;
  let pollingWorks = false;
  /** The bridge did not answer, or nothing is known of it since the last connection ended. */
  let isLost = false;
  /** When somebody looked last, by `Date.now()`. */
  let wokenAtMs = Number.NEGATIVE_INFINITY;
  /** Whether a connection that is found dead, the first since then, is opened again at once. */
  let mayHurry = false;
  let pollTimer: ReturnType<typeof setTimeout> | undefined;
  /** Aborts with each `stop`. */
  let run = new AbortController();
  /** Ends the wait for the next candidate to be due. */
  let nap = new AbortController();
  let attachTimer: ReturnType<typeof setTimeout> | undefined;

  const works = (): boolean => current !== null || pollingWorks;

  function penalise(candidate: Candidate, minDelayMs: number, failures = candidate.failures + 1): void {
    const isTrusted = Date.now() - candidate.workedAtMs < TRUSTED_MS;
    const delayed = (maxMs: number): number => performance.now() + Math.max(minDelayMs, backoff(failures, maxMs));
    candidate.failures = failures;
    candidate.soonMs = delayed(SOON_MS);
    candidate.dueMs = isTrusted ? candidate.soonMs : delayed(MAX_BACKOFF_MS);
  }

  /** Makes all due. An attempt that is under way may wait for an answer that was lost with the network. */
  function forgive(): void {
    for (const candidate of candidates) {
      candidate.dueMs = 0;
      candidate.soonMs = 0;
    }
    if (!works()) trying?.cancel();
    nap.abort();
  }

  /** Tries the candidates that are better than the current transport, each when it is due. */
  async function climb(until: AbortSignal): Promise<void> {
    while (!until.aborted) {
      await online(until);
      const nowMs = performance.now();
      const better = candidates.slice(0, current?.index);
      const dueMsOf = works() ? better.map(({ dueMs }) => dueMs) : better.map(({ soonMs }) => soonMs);
      const index = dueMsOf.findIndex((dueMs) => dueMs <= nowMs);
      if (index !== -1) {
        await attempt(index, until);
        continue;
      }
      const wake = childOf(until);
      nap = wake;
      await pause(Math.min(...dueMsOf) - nowMs, wake.signal);
      wake.abort();
    }
  }

  /** Opens a connection, and resolves when it has proven itself or ended. */
  function attempt(index: number, until: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const candidate = candidates[index] as Candidate;
      const decided = (): void => {
        clearTimeout(timer);
        until.removeEventListener('abort', cancel);
        trying = null;
        resolve();
      };
      const cancel = (): void => {
        connection.close();
        decided();
      };
      const ended = (end: ConnectionEnd): void => {
        if (trying?.connection === connection) {
          cancel();
          judge(candidate, end, null);
        } else lose(connection, end);
      };
      const timer = setTimeout(() => ended({ isSilent: true }), patienceMs);
      until.addEventListener('abort', cancel);
      const connection = options.open(candidate.name, {
        proven() {
          clearTimeout(attachTimer);
          if (trying?.connection !== connection) return report();
          decided();
          current?.connection.close();
          current = { index, connection, provenAtMs: performance.now() };
          mayPoll = allowed.includes('poll');
          stopPolling();
          options.remember(candidate.name);
          report();
        },
        ended,
      });
      trying = { connection, cancel };
      begin(connection);
    });
  }

  /** The connection that brought the events ended, or has to. */
  function lose(connection: Connection, end: ConnectionEnd): void {
    if (current?.connection !== connection) return;
    const { index, provenAtMs } = current;
    const candidate = candidates[index] as Candidate;
    clearTimeout(attachTimer);
    current = null;
    connection.close();
    isLost = !mayPoll;
    startPolling(POLL_MS * Math.random());
    if (!end.isSilent) candidate.workedAtMs = Date.now();
    judge(candidate, end, provenAtMs);
    if (!mayHurry || end.error || Date.now() - wokenAtMs > JUST_WOKEN_MS) return;
    mayHurry = false;
    candidate.dueMs = 0;
    candidate.soonMs = 0;
  }

  function judge(
    candidate: Candidate,
    { error, isSilent = false, isCrowded = false, retryAfterMs = 0 }: ConnectionEnd,
    provenAtMs: number | null,
  ): void {
    if (isCrowded) {
      candidate.dueMs = candidate.soonMs = performance.now() + CROWDED_MS * (0.5 + Math.random() / 2);
      if (!mayPoll) {
        mayPoll = true;
        stopPolling();
        startPolling(0);
      }
      return;
    }
    const hasLasted = provenAtMs !== null && performance.now() - provenAtMs > LASTED_MS;
    const isExpired = provenAtMs !== null && error?.status === 401;
    const minDelayMs = Math.max(retryAfterMs, error?.retryAfterMs ?? 0);
    // A connection that ends with its token was a good one; one that fell silent was not, even if that took long.
    penalise(candidate, minDelayMs, (hasLasted && !isSilent) || isExpired ? 0 : undefined);
    reportUnlessFinal(error);
    nap.abort();
  }

  function reportUnlessFinal(error: RoomcastError | undefined): void {
    const isFinal = error && !(error.status === 401 ? options.renew() : error.passing);
    if (isFinal) options.failed(error);
    else report(error);
  }

  function startPolling(delayMs: number): void {
    // Half of the delay is fixed, so that the bridge is asked at most every few seconds.
    pollTimer = setTimeout(openPolling, mayPoll ? delayMs : ASK_MS * (0.5 + Math.random() / 2));
  }

  function openPolling(): void {
    polling = options.open('poll', {
      proven() {
        if (pollingWorks) return;
        pollingWorks = mayPoll;
        const wasLost = isLost;
        isLost = false;
        if (!mayPoll) {
          stopPolling();
          startPolling(0);
        }
        if (wasLost) forgive();
        if (!mayPoll) return;
        if (candidates.every(({ failures }) => failures > 0)) options.remember('poll');
        report();
      },
      ended({ error }) {
        pollingWorks = false;
        isLost = true;
        reportUnlessFinal(error);
        nap.abort();
      },
    });
    begin(polling);
  }

  function begin(connection: Connection): void {
    connection.attach();
    if (Date.now() - wokenAtMs < JUST_WOKEN_MS) connection.probe(WAKE_MS);
  }

  function stopPolling(): void {
    clearTimeout(pollTimer);
    polling?.close();
    polling = null;
    pollingWorks = false;
  }

  function report(error: RoomcastError | null = null): void {
    const transport = current ? (candidates[current.index] as Candidate).name : pollingWorks ? 'poll' : null;
    options.report({ transport, error: transport === null ? error : null });
  }

  function stop(): void {
    run.abort();
    clearTimeout(attachTimer);
    current?.connection.close();
    current = null;
    stopPolling();
    report();
  }

  const first = remembered === 'poll' ? candidates.length : candidates.findIndex(({ name }) => name === remembered);
  for (const candidate of candidates.slice(0, Math.max(0, first))) penalise(candidate, 0, REMEMBERED_FAILURES);
  onNetwork('online', forgive, signal);
  onNetwork(
    'offline',
    () => {
      if (current !== null) lose(current.connection, {});
      polling?.probe(WAKE_MS);
    },
    signal,
  );
  signal.addEventListener('abort', stop);

  return {
    start() {
      if (signal.aborted) return;
      run = new AbortController();
      startPolling(candidates.some(({ dueMs }) => dueMs <= performance.now()) ? POLL_AT_START_MS : 0);
      if (candidates.length > 0) void climb(run.signal);
    },
    attach() {
      clearTimeout(attachTimer);
      trying?.connection.attach();
      polling?.attach();
      if (current === null) return;
      const { connection } = current;
      connection.attach();
      attachTimer = setTimeout(() => lose(connection, { isSilent: true }), patienceMs);
    },
    wake(judged) {
      wokenAtMs = Date.now();
      mayHurry = true;
      if (!works()) forgive();
      const asked = current?.connection;
      asked?.probe(WAKE_MS);
      polling?.probe(WAKE_MS);
      if (asked === undefined) return;
      void judged.then((judgement) => {
        if (judgement === 'behind') lose(asked, {});
        else if (judgement === 'unknown' && current?.connection === asked) asked.probe(WAKE_MS, true);
      });
    },
    stop,
  };
}

/**
 * Picks the transport by what works, never by what a browser claims to support.
 *
 * Until a streaming transport is proven, polling delivers the events, while better transports are tried one at a time,
 * the best first. A transport that fails waits longer each time before it is tried again; one that lasted starts afresh.
 * While nothing gets through at all, failures say nothing about the transports: when polling works again, all of them
 * are due. The transport that worked is remembered, so that the next connection begins there.
 */
import type { Connection, ConnectionEnd, ConnectionEvents } from './connection.ts';
import type { Status, TransportName } from './events.ts';
import type { RoomcastError } from './http.ts';
import { backoff, childOf, online, onOnline, pause } from './retry.ts';

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
  /** Somebody looks, or the network is another one: tries at once what waits, and asks the connection whether it lives. */
  wake(): void;
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
/** Transports that are better than the remembered one are tried again within 2^5 s. */
const REMEMBERED_FAILURES = 6;

interface Candidate {
  readonly name: TransportName;
  failures: number;
  dueMs: number;
}

export function createTransportPicker(options: TransportPickerOptions): TransportPicker {
  const { allowed, remembered, signal, patienceMs } = options;
  /** The streaming transports, best first. */
  const candidates: Candidate[] = allowed
    .filter((name) => name !== 'poll')
    .map((name) => ({ name, failures: 0, dueMs: 0 }));
  let current: { readonly index: number; readonly connection: Connection } | null = null;
  let trying: Connection | null = null;
  let polling: Connection | null = null;
  let pollingWorks = false;
  let pollTimer: ReturnType<typeof setTimeout> | undefined;
  /** Aborts with each `stop`. */
  let run = new AbortController();
  /** Ends the wait for the next candidate to be due. */
  let nap = new AbortController();
  let attachTimer: ReturnType<typeof setTimeout> | undefined;

  function penalise(candidate: Candidate, minDelayMs: number, failures = candidate.failures + 1): void {
    candidate.failures = failures;
    candidate.dueMs = performance.now() + Math.max(minDelayMs, backoff(failures, MAX_BACKOFF_MS));
  }

  function forgive(): void {
    for (const candidate of candidates) candidate.dueMs = 0;
    nap.abort();
  }

  /** Tries the candidates that are better than the current transport, each when it is due. */
  async function climb(until: AbortSignal): Promise<void> {
    while (!until.aborted) {
      await online(until);
      const nowMs = performance.now();
      const better = candidates.slice(0, current?.index);
      const index = better.findIndex(({ dueMs }) => dueMs <= nowMs);
      if (index !== -1) {
        await attempt(index, until);
        continue;
      }
      const wake = childOf(until);
      nap = wake;
      await pause(Math.min(...better.map(({ dueMs }) => dueMs)) - nowMs, wake.signal);
      wake.abort();
    }
  }

  /** Opens a connection, and resolves when it has proven itself or ended. */
  function attempt(index: number, until: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const candidate = candidates[index] as Candidate;
      let provenAtMs: number | null = null;
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
        if (provenAtMs === null) decided();
        else if (current?.connection === connection) {
          current = null;
          startPolling(POLL_MS * Math.random());
        }
        connection.close();
        judge(candidate, end, provenAtMs);
      };
      const timer = setTimeout(() => ended({ isSilent: true }), patienceMs);
      until.addEventListener('abort', cancel);
      const connection = options.open(candidate.name, {
        proven() {
          clearTimeout(attachTimer);
          if (provenAtMs !== null) return report();
          provenAtMs = performance.now();
          decided();
          current?.connection.close();
          current = { index, connection };
          stopPolling();
          options.remember(candidate.name);
          report();
        },
        ended,
      });
      trying = connection;
      connection.attach();
    });
  }

  function judge(
    candidate: Candidate,
    { error, isSilent = false, retryAfterMs = 0 }: ConnectionEnd,
    provenAtMs: number | null,
  ): void {
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
    if (!allowed.includes('poll')) return;
    pollTimer = setTimeout(() => {
      let hasFailed = false;
      polling = options.open('poll', {
        proven() {
          if (pollingWorks) return;
          pollingWorks = true;
          if (hasFailed) forgive();
          hasFailed = false;
          if (candidates.every(({ failures }) => failures > 0)) options.remember('poll');
          report();
        },
        ended({ error }) {
          pollingWorks = false;
          hasFailed = true;
          reportUnlessFinal(error);
        },
      });
      polling.attach();
    }, delayMs);
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
  }

  const begin = remembered === 'poll' ? candidates.length : candidates.findIndex(({ name }) => name === remembered);
  for (const candidate of candidates.slice(0, Math.max(0, begin))) penalise(candidate, 0, REMEMBERED_FAILURES);
  onOnline(forgive, signal);
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
      trying?.attach();
      polling?.attach();
      if (current === null) return;
      const { index, connection } = current;
      connection.attach();
      attachTimer = setTimeout(() => {
        if (current?.connection !== connection) return;
        current = null;
        connection.close();
        startPolling(0);
        judge(candidates[index] as Candidate, { isSilent: true }, 0);
      }, patienceMs);
    },
    wake: forgive,
    stop,
  };
}

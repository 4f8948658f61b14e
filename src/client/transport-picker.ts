/**
 * Which transport to use, by what really works: never by what a browser claims to support.
 *
 * Polling covers whenever no stream is proven, so that the application hears everything while better rungs are tried,
 * one at a time, the best first. A rung that fails waits longer each time before it is tried again; a rung that lasted
 * starts afresh. While nothing gets through at all, failures say nothing of the rungs: when polling works again, all
 * of them are due. What had to do is remembered, so that the next connection begins there.
 */

import type { End, Source, SourceEvents, Stream } from './connection.ts';
import type { Status, TransportName } from './events.ts';
import type { RoomcastError } from './http.ts';
import { backoff, online, onOnline, pause } from './retry.ts';

export interface LadderOptions {
  /** The streams, best first. */
  readonly streams: readonly Stream[];
  open(stream: Stream, events: SourceEvents): Source;
  /** Polling; null where it may not be used. */
  readonly openCover: ((events: SourceEvents) => Source) | null;
  /** Where to begin. */
  readonly remembered: TransportName | null;
  remember(transport: TransportName): void;
  report(status: Omit<Status, 'state'> & { readonly isLive: boolean }): void;
  /** A token was refused. Whether a new one can be had. */
  renew(): boolean;
  failed(error: RoomcastError): void;
  /** Longest that a rung may take to prove itself. */
  readonly patienceMs: number;
  readonly signal: AbortSignal;
}

export interface Ladder {
  start(): void;
  /** Every source goes on from the session as it now is. */
  attach(): void;
  /** Nothing is open, until `start`. */
  stop(): void;
}

/** Before polling steps in for a stream: at the start, and when one ended (at most, so that many do not come at once). */
const COVER_AT_START_MS = 1_000;
const COVER_MS = 200;
/** A stream that lasted so long was a good one. */
const LASTED_MS = 60_000;
const MOST_BACKOFF_MS = 300_000;
/** The rungs above the remembered one are tried again up to so much later: 2^5 s. */
const REMEMBERED_FAILURES = 6;

interface Rung {
  readonly stream: Stream;
  failures: number;
  notBeforeMs: number;
}

export function createLadder(options: LadderOptions): Ladder {
  const { signal, patienceMs } = options;
  const rungs: Rung[] = options.streams.map((stream) => ({ stream, failures: 0, notBeforeMs: 0 }));
  let current: { readonly index: number; readonly source: Source } | null = null;
  let trying: Source | null = null;
  let cover: Source | null = null;
  let coverWorks = false;
  /** Ends with each `stop`. */
  let run = new AbortController();
  /** Ends the wait for the next rung to be due. */
  let nap = new AbortController();
  let impatient: ReturnType<typeof setTimeout> | undefined;

  const top = (): number => current?.index ?? rungs.length;

  function beginBelow(): void {
    const begin = rungs.findIndex(({ stream }) => stream.name === options.remembered);
    const skipped = options.remembered === 'poll' ? rungs.length : begin;
    for (const rung of rungs.slice(0, Math.max(0, skipped))) penalise(rung, { failures: REMEMBERED_FAILURES });
  }

  function penalise(rung: Rung, { failures = rung.failures + 1, floorMs = 0 }): void {
    rung.failures = failures;
    rung.notBeforeMs = performance.now() + Math.max(floorMs, backoff(failures, MOST_BACKOFF_MS));
  }

  function forgive(): void {
    for (const rung of rungs) rung.notBeforeMs = 0;
    nap.abort();
  }

  async function climb(until: AbortSignal): Promise<void> {
    while (!until.aborted) {
      await online(until);
      const nowMs = performance.now();
      const better = rungs.slice(0, top());
      const index = better.findIndex(({ notBeforeMs }) => notBeforeMs <= nowMs);
      if (index !== -1) {
        await attempt(index, until);
        continue;
      }
      const dueMs = Math.min(...better.map(({ notBeforeMs }) => notBeforeMs));
      nap = new AbortController();
      const wake = nap;
      const stopped = (): void => wake.abort();
      until.addEventListener('abort', stopped);
      // Beyond what a timer takes there is nothing to climb to.
      await pause(Math.min(MOST_BACKOFF_MS, Math.max(0, dueMs - nowMs)), wake.signal);
      until.removeEventListener('abort', stopped);
    }
  }

  /** Opens a rung, and resolves once it has proven itself or failed. */
  function attempt(index: number, until: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const rung = rungs[index] as Rung;
      let provenAtMs: number | null = null;
      const decided = (): void => {
        clearTimeout(patience);
        until.removeEventListener('abort', stopped);
        trying = null;
        resolve();
      };
      const stopped = (): void => {
        source.close();
        decided();
      };
      const ended = (end: End): void => {
        if (provenAtMs === null) decided();
        else if (current?.source === source) {
          current = null;
          startCover(COVER_MS * Math.random());
        }
        source.close();
        judge(rung, end, provenAtMs);
      };
      const patience = setTimeout(() => ended({ isSilent: true }), patienceMs);
      until.addEventListener('abort', stopped);
      const source: Source = options.open(rung.stream, {
        proven() {
          clearTimeout(impatient);
          if (provenAtMs !== null) return report();
          provenAtMs = performance.now();
          decided();
          use(index, source);
        },
        ended,
      });
      trying = source;
      source.attach();
    });
  }

  function use(index: number, source: Source): void {
    const before = current;
    current = { index, source };
    before?.source.close();
    stopCover();
    options.remember((rungs[index] as Rung).stream.name);
    report();
  }

  function judge(rung: Rung, { error, isSilent = false, retryAfterMs = 0 }: End, provenAtMs: number | null): void {
    const lasted = provenAtMs !== null && performance.now() - provenAtMs > LASTED_MS;
    const floorMs = Math.max(retryAfterMs, error?.retryAfterMs ?? 0);
    const isToken = error?.status === 401;
    // A stream that ends with its token was a good one; one that went silent was not, however long it took to tell.
    if ((lasted && !isSilent) || (isToken && provenAtMs !== null)) penalise(rung, { failures: 0, floorMs });
    else penalise(rung, { floorMs });
    if (!refusedForGood(error)) report(error);
    nap.abort();
  }

  function refusedForGood(error: RoomcastError | undefined): boolean {
    if (error === undefined) return false;
    if (error.status === 401 ? options.renew() : error.passing) return false;
    options.failed(error);
    return true;
  }

  function startCover(delayMs: number): void {
    const { openCover } = options;
    if (openCover === null || cover !== null) return;
    const until = new AbortController();
    const source: Source = openCover({
      proven() {
        if (cover !== handle) return;
        const recovered = !coverWorks;
        coverWorks = true;
        if (!recovered) return;
        if (hasFailed) forgive();
        hasFailed = false;
        if (rungs.every(({ failures }) => failures > 0)) options.remember('poll');
        report();
      },
      ended({ error }) {
        if (cover !== handle) return;
        coverWorks = false;
        hasFailed = true;
        if (!refusedForGood(error)) report(error);
      },
    });
    let hasFailed = false;
    const handle: Source = {
      attach: () => {
        if (isStarted) source.attach();
      },
      close() {
        until.abort();
        source.close();
      },
    };
    let isStarted = false;
    cover = handle;
    void pause(delayMs, until.signal).then(() => {
      isStarted = true;
      if (!until.signal.aborted) source.attach();
    });
  }

  function stopCover(): void {
    cover?.close();
    cover = null;
    coverWorks = false;
  }

  function report(error: RoomcastError | null = null): void {
    const transport = current !== null ? (rungs[current.index] as Rung).stream.name : coverWorks ? 'poll' : null;
    options.report({ transport, isLive: transport !== null, error: transport === null ? error : null });
  }

  beginBelow();
  onOnline(forgive, signal);
  signal.addEventListener('abort', stop);

  function stop(): void {
    run.abort();
    clearTimeout(impatient);
    current?.source.close();
    current = null;
    stopCover();
  }

  return {
    start() {
      if (signal.aborted) return;
      run = new AbortController();
      const due = rungs.some(({ notBeforeMs }) => notBeforeMs <= performance.now());
      startCover(due ? COVER_AT_START_MS : 0);
      if (rungs.length > 0) void climb(run.signal);
    },
    attach() {
      clearTimeout(impatient);
      trying?.attach();
      cover?.attach();
      const using = current;
      if (using === null) return;
      using.source.attach();
      impatient = setTimeout(() => {
        if (current !== using) return;
        current = null;
        using.source.close();
        startCover(0);
        judge(rungs[using.index] as Rung, { isSilent: true }, 0);
      }, patienceMs);
    },
    stop,
  };
}

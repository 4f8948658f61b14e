/**
 * The queue of a thread: one group of jobs is under way, the rest wait in memory and go as the next group. That is the
 * group commit (design law 2): while one sync lasts, what arrives gathers for the next.
 *
 * What waits is bounded, and nobody waits long: a job that was not handed over by its deadline is taken out for good
 * (`unavailable`), one that was is told that its outcome is not known, and is still reported once it comes through.
 */
import { BridgeError } from '../../contract/errors.ts';
import type { Failure } from './worker.ts';

export interface JobQueueOptions<Op, Kept> {
  /** Hands a group to the thread, which must answer with `done` or `failed`. */
  send(ops: readonly Op[]): void;
  /** A group has come through, also when its callers were told otherwise; before they are told. */
  committed(group: readonly { readonly kept: Kept; readonly result: unknown }[]): void;
  /** What a job that was under way at its deadline is told. */
  readonly late: 'unavailable' | 'outcome_unknown';
  readonly deadlineMs: number;
}

export interface JobQueue<Op, Kept> {
  /** @param chars about how much memory the job holds */
  submit(op: Op, kept: Kept, chars: number, mode?: JobMode): Promise<unknown>;
  done(results: readonly unknown[]): void;
  failed(failure: Failure): void;
  /** The thread is gone or will never work again: everything is refused from now on. */
  end(failure: Failure): void;
  idle(): boolean;
  /** Whether what is under way has been so past its deadline. */
  hangs(): boolean;
  /** Resolves when nobody waits for an answer any more. Nothing may be submitted from now on. */
  drain(): Promise<void>;
}

/** `alone`: not in one group with other jobs, and without a deadline. */
export type JobMode = 'grouped' | 'alone';

/** Past either of these, a new job is refused at once. */
const MAX_WAITING = { jobs: 20_000, chars: 64 * 1024 * 1024 } as const;
/** A group takes at least one job and stops at either of these, so that a commit stays short. */
const MAX_GROUP = { jobs: 2_000, chars: 4 * 1024 * 1024 } as const;

/** Longest that a group waits for jobs that are likely to come. */
const MAX_GATHER_MS = 2;
/** A group waits at most this part of what committing and handing over the last one took: that is what is saved. */
const GATHER_PART = 0.5;

interface Job<Op, Kept> {
  readonly op: Op;
  readonly kept: Kept;
  readonly chars: number;
  readonly mode: JobMode;
  readonly expiresAtMs: number;
  resolve(result: unknown): void;
  reject(error: BridgeError): void;
}

export function createJobQueue<Op, Kept>(options: JobQueueOptions<Op, Kept>): JobQueue<Op, Kept> {
  const { send, committed, late, deadlineMs } = options;
  const waiting: Job<Op, Kept>[] = [];
  let waitingChars = 0;
  let underWay: readonly Job<Op, Kept>[] | null = null;
  let ended: Failure | null = null;
  let closing = false;
  let drained: (() => void) | null = null;
  /** One timer, for the oldest job: they expire in the order in which they came. */
  let timer: NodeJS.Timeout | null = null;

  /** How many callers go round together: the most jobs seen at once, forgotten one a group. */
  let callers = 0;
  let sentAtMs = 0;
  let groupMs = 0;
  let gatherUntilMs: number | null = null;
  let turn: NodeJS.Immediate | null = null;

  const unavailable = (message: string) => new BridgeError('unavailable', message);

  function submit(op: Op, kept: Kept, chars: number, mode: JobMode = 'grouped'): Promise<unknown> {
    if (ended !== null) return Promise.reject(unavailable(ended.message));
    if (closing) return Promise.reject(unavailable('The log is being closed'));
    if (waiting.length >= MAX_WAITING.jobs || waitingChars + chars > MAX_WAITING.chars) {
      return Promise.reject(unavailable('Too much is waiting for the log'));
    }
    return new Promise((resolve, reject) => {
      const expiresAtMs = mode === 'alone' ? Number.POSITIVE_INFINITY : performance.now() + deadlineMs;
      waiting.push({ op, kept, chars, mode, expiresAtMs, resolve, reject });
      waitingChars += chars;
      callers = Math.max(callers, waiting.length + (underWay?.length ?? 0));
      next();
    });
  }

  function next(): void {
    if (underWay === null && waiting.length > 0 && !isGathering()) {
      underWay = takeGroup();
      gatherUntilMs = null;
      callers = Math.max(underWay.length, callers - 1);
      sentAtMs = performance.now();
      send(underWay.map((job) => job.op));
    }
    timer ??= setTimeout(expire, deadlineMs);
    if (underWay === null && waiting.length === 0) {
      clearTimeout(timer);
      timer = null;
      drained?.();
    }
  }

  /**
   * Whether to wait a moment for more jobs. A group costs a sync, and its hand-over may cost far more (a thousand
   * listeners are written to, once per group), so when several callers go round together, their jobs should share one.
   * A lone caller never waits.
   */
  function isGathering(): boolean {
    if (closing || waiting.length >= callers) return false;
    const nowMs = performance.now();
    gatherUntilMs ??= nowMs + Math.min(MAX_GATHER_MS, groupMs * GATHER_PART);
    if (nowMs >= gatherUntilMs) return false;
    // A turn of the event loop takes in what has come; timers are too coarse for so short a time.
    if (turn === null) {
      turn = setImmediate(() => {
        turn = null;
        next();
      });
    }
    return true;
  }

  function takeGroup(): Job<Op, Kept>[] {
    let jobs = 0;
    let chars = 0;
    for (const job of waiting) {
      if (jobs > 0 && (job.mode === 'alone' || jobs === MAX_GROUP.jobs || chars + job.chars > MAX_GROUP.chars)) break;
      jobs++;
      chars += job.chars;
      if (job.mode === 'alone') break;
    }
    waitingChars -= chars;
    return waiting.splice(0, jobs);
  }

  function expire(): void {
    timer = null;
    const nowMs = performance.now();
    for (const job of underWay ?? []) {
      if (job.expiresAtMs <= nowMs)
        job.reject(new BridgeError(late, 'The log does not answer', { retryAfterSeconds: 5 }));
    }
    const stay = waiting.filter((job) => job.expiresAtMs > nowMs);
    for (const job of waiting) {
      if (job.expiresAtMs <= nowMs) job.reject(unavailable('The log does not answer'));
    }
    waiting.length = 0;
    for (const job of stay) waiting.push(job);
    waitingChars = stay.reduce((sum, job) => sum + job.chars, 0);
    const expiries = [...(underWay ?? []), ...stay].map((job) => job.expiresAtMs).filter((at) => at > nowMs);
    if (expiries.length > 0) timer = setTimeout(expire, Math.max(1, Math.min(...expiries, nowMs + deadlineMs) - nowMs));
    // Who closes waits no longer than who called: the thread may never come back.
    else drained?.();
  }

  function done(results: readonly unknown[]): void {
    const group = underWay ?? [];
    underWay = null;
    committed(group.map((job, index) => ({ kept: job.kept, result: results[index] })));
    groupMs = performance.now() - sentAtMs;
    group.forEach((job, index) => {
      job.resolve(results[index]);
    });
    next();
  }

  function failed(failure: Failure): void {
    const group = underWay ?? [];
    underWay = null;
    const code = failure.outcome === 'unknown' ? late : 'unavailable';
    for (const job of group) job.reject(new BridgeError(code, 'The log failed', { cause: new Error(failure.message) }));
    next();
  }

  function end(failure: Failure): void {
    ended = failure;
    for (const job of waiting.splice(0)) job.reject(unavailable(failure.message));
    waitingChars = 0;
    failed(failure);
  }

  return {
    submit,
    done,
    failed,
    end,
    hangs: () => (underWay ?? []).some((job) => job.expiresAtMs <= performance.now()),
    idle: () => underWay === null && waiting.length === 0,
    drain() {
      closing = true;
      return new Promise((resolve) => {
        drained = resolve;
        next();
      });
    },
  };
}

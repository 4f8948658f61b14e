/**
 * The queue of jobs for a thread. One group of jobs is under way; the others wait in memory and go as the next group.
 * For writes this is the group commit (design law 2): the jobs that arrive during one sync share the next.
 *
 * The queue is bounded in size and time. At its deadline, a job that still waits is removed for good (`unavailable`). A
 * job that is already under way fails with `lateCode`, and its `onDone` still runs once the thread replies.
 */
import { BridgeError } from '../../contract/errors.ts';
import type { Failure, Operation, OperationMap, ReplyTo } from './operations.ts';

export interface JobQueueOptions<Ops extends OperationMap<Ops>> {
  /** Sends a group to the thread. Report its reply with `done` or `failed`. */
  send(group: readonly Operation<Ops>[]): void;
  /** Runs after `onDone` of each job in a group, before any of their promises resolves. */
  onGroupDone?(): void;
  /** The error code of a job that was under way at its deadline. */
  readonly lateCode: 'unavailable' | 'outcome_unknown';
  readonly deadlineMs: number;
}

export interface JobOptions<Reply> {
  /** About how much memory the job holds. Default 256. */
  readonly chars?: number;
  /** Runs when the thread has replied, also if the job was late and its promise has already been rejected. */
  onDone?(reply: Reply, doneAtMs: number): void;
}

/** Past either bound, a new job is rejected at once. */
const MAX_WAITING = { jobs: 20_000, chars: 64 * 1024 * 1024 } as const;
/** A group holds at least one job and ends at either bound, so that a commit stays short. */
const MAX_GROUP = { jobs: 2_000, chars: 4 * 1024 * 1024 } as const;

/** The longest that a group waits for jobs that are likely to come. */
const MAX_GATHER_MS = 2;
/** A group waits at most this share of the time that the last group took, because that is the time it can save. */
const GATHER_SHARE = 0.5;

interface Job<Ops extends OperationMap<Ops>> {
  readonly operation: Operation<Ops>;
  readonly chars: number;
  readonly expiresAtMs: number;
  // A thread replies in the order of the operations, so each job gets the reply type of its own operation.
  onDone(reply: unknown, doneAtMs: number): void;
  resolve(reply: unknown): void;
  reject(error: BridgeError): void;
}

const unavailable = (message: string) => new BridgeError('unavailable', message);
const NO_RESPONSE = 'The log did not respond in time.';

export function createJobQueue<Ops extends OperationMap<Ops>>(options: JobQueueOptions<Ops>) {
  const { send, onGroupDone, lateCode, deadlineMs } = options;
  let waiting: Job<Ops>[] = [];
  let waitingChars = 0;
  let underWay: readonly Job<Ops>[] = [];
  let ended: Failure | null = null;
  let isDraining = false;
  let drained: (() => void) | null = null;
  /** One timer, for the oldest job: jobs expire in the order in which they came. */
  let timer: NodeJS.Timeout | null = null;

  /** How many callers submit in rounds: the most jobs seen at once, reduced by one per group. */
  let callers = 0;
  let sentAtMs = 0;
  let groupMs = 0;
  let gatherUntilMs: number | null = null;
  let isTurnPending = false;

  const isIdle = () => underWay.length === 0 && waiting.length === 0;

  function submit<Kind extends keyof Ops>(
    operation: Operation<Ops, Kind>,
    { chars = 256, onDone = () => {} }: JobOptions<ReplyTo<Ops, Kind>> = {},
  ): Promise<ReplyTo<Ops, Kind>> {
    if (ended !== null) return Promise.reject(unavailable(ended.message));
    if (isDraining) return Promise.reject(unavailable('The log is closing.'));
    if (waiting.length >= MAX_WAITING.jobs || waitingChars + chars > MAX_WAITING.chars) {
      return Promise.reject(unavailable('Too many requests are waiting for the log.'));
    }
    return new Promise((resolve, reject) => {
      const expiresAtMs = performance.now() + deadlineMs;
      waiting.push({ operation, chars, expiresAtMs, onDone, resolve, reject });
      waitingChars += chars;
      callers = Math.max(callers, waiting.length + underWay.length);
      next();
    });
  }

  function next(): void {
    if (underWay.length === 0 && waiting.length > 0 && !isGathering()) {
      underWay = takeGroup();
      gatherUntilMs = null;
      callers = Math.max(underWay.length, callers - 1);
      sentAtMs = performance.now();
      send(underWay.map((job) => job.operation));
    }
    timer ??= setTimeout(expire, deadlineMs);
    if (isIdle()) {
      clearTimeout(timer);
      timer = null;
      drained?.();
    }
  }

  /**
   * Whether to wait a moment for more jobs. A group costs a sync, and handing it over may cost far more (one write to
   * each of a thousand listeners), so callers that submit in rounds should share a group. A lone caller never waits.
   */
  function isGathering(): boolean {
    if (isDraining || waiting.length >= callers) return false;
    const nowMs = performance.now();
    gatherUntilMs ??= nowMs + Math.min(MAX_GATHER_MS, groupMs * GATHER_SHARE);
    if (nowMs >= gatherUntilMs) return false;
    // One turn of the event loop reads what has arrived; timers are too coarse for so short a wait.
    if (!isTurnPending) {
      isTurnPending = true;
      setImmediate(() => {
        isTurnPending = false;
        next();
      });
    }
    return true;
  }

  function takeGroup(): Job<Ops>[] {
    let jobs = 0;
    let chars = 0;
    for (const job of waiting) {
      if (jobs > 0 && (jobs === MAX_GROUP.jobs || chars + job.chars > MAX_GROUP.chars)) break;
      jobs++;
      chars += job.chars;
    }
    waitingChars -= chars;
    return waiting.splice(0, jobs);
  }

  function expire(): void {
    timer = null;
    const nowMs = performance.now();
    const isLate = (job: Job<Ops>) => job.expiresAtMs <= nowMs;
    for (const job of underWay.filter(isLate)) {
      job.reject(new BridgeError(lateCode, NO_RESPONSE, { retryAfterSeconds: 5 }));
    }
    for (const job of waiting.filter(isLate)) job.reject(unavailable(NO_RESPONSE));
    waiting = waiting.filter((job) => !isLate(job));
    waitingChars = waiting.reduce((sum, job) => sum + job.chars, 0);
    const expiries = [...underWay, ...waiting].map((job) => job.expiresAtMs).filter((atMs) => atMs > nowMs);
    if (expiries.length > 0) timer = setTimeout(expire, Math.max(1, Math.min(...expiries, nowMs + deadlineMs) - nowMs));
    // Every caller has its outcome, so `drain` must not wait for a thread that may never reply.
    else drained?.();
  }

  /** `replies` are in the order of the group's operations. */
  function done(replies: readonly ReplyTo<Ops>[]): void {
    const group = underWay;
    underWay = [];
    const doneAtMs = performance.now();
    for (const [index, job] of group.entries()) job.onDone(replies[index], doneAtMs);
    onGroupDone?.();
    groupMs = performance.now() - sentAtMs;
    for (const [index, job] of group.entries()) job.resolve(replies[index]);
    next();
  }

  function failed(failure: Failure): void {
    const group = underWay;
    underWay = [];
    const code = failure.outcome === 'unknown' ? lateCode : 'unavailable';
    const cause = new Error(failure.message);
    for (const job of group) job.reject(new BridgeError(code, 'The log reported an error.', { cause }));
    next();
  }

  /** Rejects all jobs from now on: the thread has ended or can never work again. */
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
    isIdle,
    /** Whether the group under way is past its deadline. */
    isStalled: () => underWay.some((job) => job.expiresAtMs <= performance.now()),
    /** Accepts no more jobs. Resolves when every job has its outcome. */
    drain(): Promise<void> {
      isDraining = true;
      return new Promise((resolve) => {
        drained = resolve;
        next();
      });
    },
  };
}

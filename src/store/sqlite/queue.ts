/**
 * The queue of jobs for a thread. One group of jobs is under way; the others wait in memory and go as the next group.
 * For writes this is the group commit (design law 2): the jobs that arrive during one sync share the next. Of reads, the
 * callers take turns (../turns.ts), and what the thread leaves of a group after its turn waits again.
 *
 * The queue is bounded in size and time. At its deadline, a job that still waits is removed for good (`unavailable`). A
 * job that is already under way fails with `lateCode`, and its `onDone` still runs once the thread replies.
 */
import { BridgeError } from '../../contract/errors.ts';
import { createTurns } from '../turns.ts';
import type { Failure, Operation, OperationMap, ReplyTo } from './operations.ts';

export interface JobQueueOptions<Ops extends OperationMap<Ops>> {
  /** Sends a group to the thread. Report its reply with `done` or `failed`. */
  send(group: readonly Operation<Ops>[]): void;
  /** Runs after `onDone` of each job in a group, before any of their promises resolves. */
  onGroupDone?(): void;
  /** The error code of a job that was under way at its deadline. */
  readonly lateCode: 'unavailable' | 'outcome_unknown';
  readonly deadlineMs: number;
  /** The most jobs of one group. */
  readonly maxGroup: number;
}

export interface JobOptions<Reply> {
  /** Default: the bridge itself. */
  readonly caller?: string;
  /** About how much memory the job holds. Default 256. */
  readonly chars?: number;
  /** Runs when the thread has replied, also if the job was late and its promise has already been rejected. */
  onDone?(reply: Reply, doneAtMs: number): void;
}

/** Past this bound, or the number of jobs in ../turns.ts, a new job is rejected at once. */
const MAX_WAITING_CHARS = 64 * 1024 * 1024;
/** A group holds at least one job and ends at this bound or at `maxGroup`, so that a commit stays short. */
const MAX_GROUP_CHARS = 4 * 1024 * 1024;

/** The longest that a group waits for jobs that are likely to come. */
const MAX_GATHER_MS = 2;
/** A group waits at most this share of the time that the last group took, because that is the time it can save. */
const GATHER_SHARE = 0.5;

interface Job<Ops extends OperationMap<Ops>> {
  readonly caller: string;
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
  const { send, onGroupDone, lateCode, deadlineMs, maxGroup } = options;
  const waiting = createTurns<Job<Ops>>();
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

  const isIdle = () => underWay.length === 0 && waiting.size === 0;

  function submit<Kind extends keyof Ops>(
    operation: Operation<Ops, Kind>,
    { caller = '', chars = 256, onDone = () => {} }: JobOptions<ReplyTo<Ops, Kind>> = {},
  ): Promise<ReplyTo<Ops, Kind>> {
    if (ended !== null) return Promise.reject(unavailable(ended.message));
    if (isDraining) return Promise.reject(unavailable('The log is closing.'));
    if (waiting.isFull(caller) || waitingChars + chars > MAX_WAITING_CHARS) {
      return Promise.reject(unavailable('Too many requests are waiting for the log.'));
    }
    return new Promise((resolve, reject) => {
      const expiresAtMs = performance.now() + deadlineMs;
      waiting.add(caller, { caller, operation, chars, expiresAtMs, onDone, resolve, reject });
      waitingChars += chars;
      callers = Math.max(callers, waiting.size + underWay.length);
      next();
    });
  }

  function next(): void {
    if (underWay.length === 0 && waiting.size > 0 && !isGathering()) {
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
    if (isDraining || waiting.size >= callers) return false;
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
    const group: Job<Ops>[] = [];
    let chars = 0;
    for (let job = waiting.peek(); job !== undefined; job = waiting.peek()) {
      if (group.length > 0 && (group.length === maxGroup || chars + job.chars > MAX_GROUP_CHARS)) break;
      waiting.take();
      group.push(job);
      chars += job.chars;
    }
    waitingChars -= chars;
    return group;
  }

  function expire(): void {
    timer = null;
    const nowMs = performance.now();
    const isLate = (job: Job<Ops>) => job.expiresAtMs <= nowMs;
    for (const job of underWay.filter(isLate)) {
      job.reject(new BridgeError(lateCode, NO_RESPONSE, { retryAfterSeconds: 5 }));
    }
    for (const job of waiting.remove(isLate)) {
      waitingChars -= job.chars;
      job.reject(unavailable(NO_RESPONSE));
    }
    const expiries = [...underWay, ...waiting].map((job) => job.expiresAtMs).filter((atMs) => atMs > nowMs);
    if (expiries.length > 0) {
      const firstMs = expiries.reduce((first, atMs) => Math.min(first, atMs), nowMs + deadlineMs);
      timer = setTimeout(expire, Math.max(1, firstMs - nowMs));
    }
    // Every caller has its outcome, so `drain` must not wait for a thread that may never reply.
    else drained?.();
  }

  /** `replies` are in the order of the group's operations. The operations without one wait again. */
  function done(replies: readonly ReplyTo<Ops>[]): void {
    const group = underWay.slice(0, replies.length);
    const left = underWay.slice(replies.length);
    underWay = [];
    for (const job of left.reverse()) {
      waiting.putBack(job.caller, job);
      waitingChars += job.chars;
    }
    // The thread has more to do already, so nothing is gained by waiting for further jobs.
    if (left.length > 0) gatherUntilMs = 0;
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
    for (const job of waiting.remove(() => true)) job.reject(unavailable(failure.message));
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

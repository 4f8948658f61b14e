/**
 * Which commits are fanned out together.
 *
 * A pass over the listeners costs one write to each of them, almost regardless of how much it brings. So while passes take
 * most of the time, each waits a moment for further commits. A commit that is not close behind a pass never waits.
 */
import type { LogRecord } from '../contract/frames.ts';

/** The longest that a commit waits, in milliseconds, and in times of a pass. */
const MAX_WAIT_MS = 5;
const MAX_WAIT_PASSES = 3;
/** Timers are no finer, and a pass that is as short as that costs little. */
const MIN_WAIT_MS = 1;

export interface Gatherer {
  /** Passes on the records of one commit, now or together with those of the next ones. */
  add(records: readonly LogRecord[]): void;
  /** Passes on what waits. */
  flush(): void;
}

/**
 * @param pass fans records out, synchronously; must not throw
 * @param maxChars payload text of one pass, unless a commit alone has more
 * @param nowMs for tests
 */
export function createGatherer(
  pass: (records: readonly LogRecord[]) => void,
  maxChars: number,
  nowMs: () => number = () => performance.now(),
): Gatherer {
  let waiting: readonly LogRecord[] = [];
  let chars = 0;
  let timer: NodeJS.Timeout | null = null;
  /** The last two passes: a single long one may be an accident. */
  let lastMs = 0;
  let passMs = 0;
  let passedAtMs = Number.NEGATIVE_INFINITY;

  function flush(): void {
    if (timer !== null) clearTimeout(timer);
    timer = null;
    if (waiting.length === 0) return;
    const records = waiting;
    waiting = [];
    chars = 0;
    const startedAtMs = nowMs();
    pass(records);
    passedAtMs = nowMs();
    const tookMs = passedAtMs - startedAtMs;
    passMs = Math.min(tookMs, lastMs);
    lastMs = tookMs;
  }

  return {
    add(records) {
      const waitMs = Math.min(MAX_WAIT_MS, MAX_WAIT_PASSES * passMs);
      const waits = timer !== null || (waitMs >= MIN_WAIT_MS && nowMs() - passedAtMs <= waitMs);
      const added = waits ? charsOf(records) : 0;
      if (chars + added > maxChars) flush();
      waiting = waiting.length === 0 ? records : [...waiting, ...records];
      chars += added;
      if (!waits || added > maxChars) flush();
      else timer ??= setTimeout(flush, waitMs);
    },
    flush,
  };
}

const charsOf = (records: readonly LogRecord[]): number =>
  records.reduce((sum, { payload }) => sum + payload.length, 0);

/**
 * Which commits are fanned out together.
 *
 * A fan-out costs one write to each listener, almost regardless of how much it brings. So while fan-outs take most of the
 * time, each waits a moment for further commits. A commit that is not close behind a fan-out never waits.
 */
import { charsOf, type LogRecord } from '../contract/frames.ts';

/** The longest that a commit waits, in milliseconds, and in times of a fan-out. */
const MAX_WAIT_MS = 5;
const MAX_WAIT_FAN_OUTS = 3;
/** Timers are no finer. */
const MIN_WAIT_MS = 1;

export interface Gatherer {
  /** Fans out the records of one commit, now or together with those of the next ones. */
  add(records: readonly LogRecord[]): void;
  /** Fans out what waits. */
  flush(): void;
}

/**
 * @param fanOut synchronous; must not throw
 * @param maxChars payload text of one fan-out, unless a commit alone has more
 * @param nowMs for tests
 */
export function createGatherer(
  fanOut: (records: readonly LogRecord[]) => void,
  maxChars: number,
  nowMs: () => number = () => performance.now(),
): Gatherer {
  let waiting: readonly LogRecord[] = [];
  let chars = 0;
  let timer: NodeJS.Timeout | null = null;
  let lastMs = 0;
  /** The shorter of the last two fan-outs: a single long one may be an accident. */
  let usualMs = 0;
  let endedAtMs = Number.NEGATIVE_INFINITY;

  function flush(): void {
    if (timer !== null) clearTimeout(timer);
    timer = null;
    if (waiting.length === 0) return;
    const records = waiting;
    waiting = [];
    chars = 0;
    const startedAtMs = nowMs();
    fanOut(records);
    endedAtMs = nowMs();
    const tookMs = endedAtMs - startedAtMs;
    usualMs = Math.min(tookMs, lastMs);
    lastMs = tookMs;
  }

  return {
    add(records) {
      const waitMs = Math.min(MAX_WAIT_MS, MAX_WAIT_FAN_OUTS * usualMs);
      const waits = timer !== null || (waitMs >= MIN_WAIT_MS && nowMs() - endedAtMs <= waitMs);
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

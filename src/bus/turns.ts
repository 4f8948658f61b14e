/**
 * Turns for replays: so many steps in each turn of the event loop, in the order in which they were asked for.
 *
 * A step is up to 256 KB to one connection. When a thousand clients come back together, their steps would otherwise be
 * written in one go, and whoever listens live would wait for all of them.
 */
const STEPS_PER_TURN = 4;

export interface Turns {
  /** Null: now. */
  take(): Promise<void> | null;
}

export function createTurns(): Turns {
  let left = STEPS_PER_TURN;
  let isScheduled = false;
  const waiting: (() => void)[] = [];

  function schedule(): void {
    if (isScheduled) return;
    isScheduled = true;
    setImmediate(begin);
  }

  function begin(): void {
    isScheduled = false;
    const going = waiting.splice(0, STEPS_PER_TURN);
    left = STEPS_PER_TURN - going.length;
    if (going.length > 0) schedule();
    for (const go of going) go();
  }

  return {
    take() {
      schedule();
      if (left === 0) return new Promise((resolve) => waiting.push(resolve));
      left--;
      return null;
    },
  };
}

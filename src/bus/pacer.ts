/**
 * Paces work: so many steps per turn of the event loop, first come first served.
 *
 * When a thousand clients reconnect or send at once, the bridge could serve them in one go, but every live listener would
 * wait for all of it.
 */
export interface Pacer {
  /** Asks for one step. Null: take it now. Otherwise take it once the promise resolves. */
  take(): Promise<void> | null;
}

/** @param stepsPerTurn a number, or what gives it for a turn of this length */
export function createPacer(stepsPerTurn: number | ((turnMs: number) => number)): Pacer {
  const stepsOf = typeof stepsPerTurn === 'number' ? () => stepsPerTurn : stepsPerTurn;
  let left = stepsOf(0);
  let startedAtMs = 0;
  let isScheduled = false;
  const waiting: (() => void)[] = [];

  function schedule(): void {
    if (isScheduled) return;
    isScheduled = true;
    startedAtMs = performance.now();
    setImmediate(startTurn);
  }

  function startTurn(): void {
    isScheduled = false;
    const most = stepsOf(performance.now() - startedAtMs);
    const steps = waiting.splice(0, most);
    left = most - steps.length;
    if (steps.length > 0) schedule();
    for (const step of steps) step();
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

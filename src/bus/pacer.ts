/**
 * Paces work: so many steps per turn of the event loop, first come first served.
 *
 * When a thousand clients reconnect at once, the bridge could admit them and write their replays in one go, but every
 * live listener would wait for all of it.
 */
export interface Pacer {
  /** Asks for one step. Null: take it now. Otherwise take it once the promise resolves. */
  take(): Promise<void> | null;
}

export function createPacer(stepsPerTurn: number): Pacer {
  let left = stepsPerTurn;
  let isScheduled = false;
  const waiting: (() => void)[] = [];

  function schedule(): void {
    if (isScheduled) return;
    isScheduled = true;
    setImmediate(startTurn);
  }

  function startTurn(): void {
    isScheduled = false;
    const steps = waiting.splice(0, stepsPerTurn);
    left = stepsPerTurn - steps.length;
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

/**
 * So many steps in each turn of the event loop, in the order in which they were asked for.
 *
 * When a thousand clients come back together, letting them in and writing what they missed would otherwise be done in
 * one go, and whoever listens live would wait for all of it.
 */
export interface Turns {
  /** Null: now. */
  take(): Promise<void> | null;
}

export function createTurns(stepsPerTurn: number): Turns {
  let left = stepsPerTurn;
  let isScheduled = false;
  const waiting: (() => void)[] = [];

  function schedule(): void {
    if (isScheduled) return;
    isScheduled = true;
    setImmediate(begin);
  }

  function begin(): void {
    isScheduled = false;
    const going = waiting.splice(0, stepsPerTurn);
    left = stepsPerTurn - going.length;
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

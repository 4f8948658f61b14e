/**
 * Websocket messages take turns with all else (design law 14): a flood of them delays no record.
 *
 * The event loop reads every socket that has bytes before it does anything else. When a thousand clients send at once, a
 * record that arrives behind them would wait for all of their messages, about 0.1 s. So each turn of the event loop handles
 * a few; the others wait in order, and their websockets are not read meanwhile.
 */

/** About 1 ms of messages. */
const PER_TURN = 16;

export interface Turns {
  /** Runs the task now, or in a later turn behind those that wait. @returns whether it ran */
  take(task: () => void): boolean;
}

export function createTurns(): Turns {
  let waiting: (() => void)[] = [];
  let left = PER_TURN;
  let isArmed = false;

  function arm(): void {
    if (isArmed) return;
    isArmed = true;
    setImmediate(nextTurn);
  }

  function nextTurn(): void {
    isArmed = false;
    left = PER_TURN;
    if (waiting.length === 0) return;
    const due = waiting.slice(0, PER_TURN);
    waiting = waiting.slice(PER_TURN);
    left -= due.length;
    arm();
    for (const task of due) task();
  }

  return {
    take(task) {
      arm();
      if (left === 0 || waiting.length > 0) {
        waiting.push(task);
        return false;
      }
      left--;
      task();
      return true;
    },
  };
}

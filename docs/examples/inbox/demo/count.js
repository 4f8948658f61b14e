// Counts what this page lost and what it received twice. The demo's publisher numbers every event, 1, 2, 3, …, in its
// payload: a number that is skipped is lost, one that was here before is doubled.

/** Runs that are remembered. */
const MOST_RUNS = 20;

/**
 * @param last `{ run, number }` of the newest event before the first one that should arrive; undefined: not known, and the
 * first one that arrives begins the count
 */
export function createCount(last) {
  // Each start of a publisher is a run of its own, with numbers of its own. Runs may overlap.
  const runs = new Map(); // run → { next, holes }; a hole is [from, to], numbers that were skipped
  let lostBefore = 0; // in runs that are forgotten
  const count = { received: 0, doubled: 0, disordered: 0 };
  const lostIn = ({ holes }) => holes.reduce((sum, [from, to]) => sum + to - from + 1, 0);
  if (last !== undefined) runs.set(last.run, { next: last.number + 1, holes: [] });

  function begin(name, number) {
    const run = { next: number, holes: [] };
    runs.set(name, run);
    if (runs.size > MOST_RUNS) {
      const [oldest] = runs.keys();
      lostBefore += lostIn(runs.get(oldest));
      runs.delete(oldest);
    }
    return run;
  }

  return {
    take({ run: name, number }) {
      count.received += 1;
      const run = runs.get(name) ?? begin(name, number);
      if (number >= run.next) {
        if (number > run.next) run.holes.push([run.next, number - 1]);
        run.next = number + 1;
        return;
      }
      const hole = run.holes.find(([from, to]) => from <= number && number <= to);
      if (hole === undefined) {
        count.doubled += 1;
        return;
      }
      // It was not lost, but it is late.
      count.disordered += 1;
      const [from, to] = hole;
      const parts = [
        [from, number - 1],
        [number + 1, to],
      ];
      run.holes.splice(run.holes.indexOf(hole), 1, ...parts.filter(([first, last]) => first <= last));
    },
    get lost() {
      return [...runs.values()].reduce((sum, run) => sum + lostIn(run), lostBefore);
    },
    get received() {
      return count.received;
    },
    get doubled() {
      return count.doubled;
    },
    get disordered() {
      return count.disordered;
    },
  };
}

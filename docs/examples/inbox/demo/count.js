// Counts what this page lost and what it received twice. The demo's publisher numbers every event, 1, 2, 3, …, in its
// payload: a number that is skipped is lost, one that was here before is doubled.

/**
 * @param last `{ run, number }` of the newest event before the first one that should arrive; undefined: not known, and the
 * first one that arrives begins the count
 */
export function createCount(last) {
  let run = last?.run; // a publisher that starts again begins a new run, at any number
  let next = last === undefined ? undefined : last.number + 1;
  let holes = []; // [from, to]: numbers that were skipped
  let lostBefore = 0; // in earlier runs
  const count = { received: 0, doubled: 0, disordered: 0 };
  const lost = () => holes.reduce((sum, [from, to]) => sum + to - from + 1, 0);

  return {
    take({ run: ofRun, number }) {
      count.received += 1;
      if (ofRun !== run || next === undefined) {
        lostBefore += lost();
        [run, next, holes] = [ofRun, number, []];
      }
      if (number >= next) {
        if (number > next) holes.push([next, number - 1]);
        next = number + 1;
        return;
      }
      const hole = holes.find(([from, to]) => from <= number && number <= to);
      if (hole === undefined) {
        count.doubled += 1;
        return;
      }
      // It was not lost, but it is late.
      count.disordered += 1;
      const [from, to] = hole;
      const left = [[from, number - 1], [number + 1, to]].filter(([first, last]) => first <= last); // biome-ignore format: a pair
      holes.splice(holes.indexOf(hole), 1, ...left);
    },
    get lost() {
      return lostBefore + lost();
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

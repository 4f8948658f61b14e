/**
 * What waits for the engine, in one line per caller. Callers take turns, and each line is first in, first out: a caller
 * that asks for much waits for itself (protocol §16). With one caller this is a plain queue.
 */
export interface Turns<Item> {
  readonly size: number;
  /** Whether no more items, or none of this caller, may wait. */
  isFull(caller: string): boolean;
  add(caller: string, item: Item): void;
  /** Puts an item that `take` returned back, as the first of its line. Of several, the last one first. */
  putBack(caller: string, item: Item): void;
  /** The item that `take` would return. */
  peek(): Item | undefined;
  take(): Item | undefined;
  /** Takes all items out that match. */
  remove(matches: (item: Item) => boolean): Item[];
  [Symbol.iterator](): Iterator<Item>;
}

/** Items of all callers. One caller may take half of the places; the bridge itself, without a name, all. */
const MAX_WAITING = 20_000;

interface Line<Item> {
  items: Item[];
  /** The index of the first item: shifting an array would cost its length. */
  start: number;
}

export function createTurns<Item>(): Turns<Item> {
  /** In the order of their turns. No line is empty. */
  const lines = new Map<string, Line<Item>>();
  let size = 0;

  function* all(): Generator<Item> {
    for (const { items, start } of lines.values()) yield* items.slice(start);
  }

  return {
    get size() {
      return size;
    },
    isFull(caller) {
      const { items, start } = lines.get(caller) ?? { items: [], start: 0 };
      return size >= MAX_WAITING || (caller !== '' && items.length - start >= MAX_WAITING / 2);
    },
    add(caller, item) {
      const line = lines.get(caller);
      if (line === undefined) lines.set(caller, { items: [item], start: 0 });
      else line.items.push(item);
      size++;
    },
    putBack(caller, item) {
      const line = lines.get(caller);
      if (line === undefined) lines.set(caller, { items: [item], start: 0 });
      else if (line.start > 0) line.items[--line.start] = item;
      else line.items.unshift(item);
      size++;
    },
    peek() {
      const [line] = lines.values();
      return line?.items[line.start];
    },
    take() {
      const [first] = lines;
      if (first === undefined) return undefined;
      const [caller, line] = first;
      const item = line.items[line.start++];
      size--;
      lines.delete(caller);
      if (line.start < line.items.length) {
        if (line.start > 64 && line.start * 2 > line.items.length) {
          line.items = line.items.slice(line.start);
          line.start = 0;
        }
        lines.set(caller, line);
      }
      return item;
    },
    remove(matches) {
      const removed: Item[] = [];
      for (const [caller, line] of lines) {
        const left = line.items.slice(line.start).filter((item) => !matches(item) || removed.push(item) === 0);
        if (left.length === 0) lines.delete(caller);
        else lines.set(caller, { items: left, start: 0 });
      }
      size -= removed.length;
      return removed;
    },
    [Symbol.iterator]: all,
  };
}

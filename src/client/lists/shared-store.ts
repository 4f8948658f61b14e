/**
 * A value that changes, in the form that every user interface takes: `subscribe` and `snapshot`. All that ask one client
 * for the same thing share one store. It works while somebody subscribes, and a second longer: a component that is mounted
 * again at once, as React's StrictMode does, or the next screen, finds it at work.
 */
export interface Store<Value> {
  /** Calls `changed` when `snapshot` has changed. Returns a function that ends it. */
  subscribe(changed: () => void): () => void;
  /** The same object until it changes. */
  snapshot(): Value;
}

const GRACE_MS = 1_000;

/** A store at work. */
interface Cell<Value> {
  value: Value;
  readonly listeners: Set<() => void>;
  stop(): void;
  /** While nobody subscribes. */
  graceTimer?: ReturnType<typeof setTimeout>;
}

const cellsOf = new WeakMap<object, Map<string, Cell<unknown>>>();

/** `start` begins the work, and returns a function that ends it. */
export function sharedStore<Value>(
  owner: object,
  key: string,
  initial: Value,
  start: (publish: (value: Value) => void) => () => void,
): Store<Value> {
  const find = () => cellsOf.get(owner)?.get(key) as Cell<Value> | undefined;

  function open(): Cell<Value> {
    const cells = cellsOf.get(owner) ?? new Map<string, Cell<unknown>>();
    const cell: Cell<Value> = { value: initial, listeners: new Set(), stop() {} };
    cellsOf.set(owner, cells.set(key, cell as Cell<unknown>));
    const end = start((value) => {
      cell.value = value;
      for (const changed of [...cell.listeners]) changed();
    });
    cell.stop = () => {
      cells.delete(key);
      end();
    };
    return cell;
  }

  return {
    subscribe(changed) {
      const cell = find() ?? open();
      const listener = (): void => changed(); // one for each subscription, also of the same function
      clearTimeout(cell.graceTimer);
      cell.listeners.add(listener);
      return () => {
        if (!cell.listeners.delete(listener) || cell.listeners.size > 0) return;
        cell.graceTimer = setTimeout(cell.stop, GRACE_MS);
      };
    },
    snapshot: () => find()?.value ?? initial,
  };
}

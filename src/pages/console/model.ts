/**
 * What the console's models share: each announces its changes, and some remember a value in the browser's storage. A
 * model (the statistics, the tail, the comparison) lives outside of the components and may change any number of times a
 * second; a component that uses it renders at most once per interval.
 */
import { useEffect, useState } from 'preact/hooks';

export interface Changes {
  notify(): void;
  /** @returns a function that unsubscribes */
  subscribe(listener: () => void): () => void;
}

export interface Model {
  readonly changes: Changes;
}

/** A model as its own module sees it. */
export type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

/** @param intervalMs changes within this time reach the listeners as one */
export function createChanges(intervalMs = 0): Changes {
  const listeners = new Set<() => void>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  return {
    notify() {
      if (timer !== undefined) return;
      timer = setTimeout(() => {
        timer = undefined;
        for (const listener of [...listeners]) listener();
      }, intervalMs);
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}

/** Renders the component again when one of the models changes. */
export function useModels(...models: readonly Model[]): void {
  const [, setRenders] = useState(0);
  useEffect(() => {
    const unsubscribes = models.map(({ changes }) => changes.subscribe(() => setRenders((renders) => renders + 1)));
    return () => {
      for (const unsubscribe of unsubscribes) unsubscribe();
    };
  }, models);
}

export interface StoredValue {
  get(): string | null;
  set(value: string | null): void;
}

/** Where the browser's privacy settings forbid storage, the value is null and `set` does nothing. */
export function storedValue(storage: 'sessionStorage' | 'localStorage', key: string): StoredValue {
  return {
    get() {
      try {
        return globalThis[storage].getItem(key);
      } catch {
        return null;
      }
    },
    set(value) {
      try {
        if (value === null) globalThis[storage].removeItem(key);
        else globalThis[storage].setItem(key, value);
      } catch {
        // Forbidden; the page works without.
      }
    },
  };
}

/**
 * How what goes on outside of the components (a poll, a stream, four connections) makes them draw again: a model says
 * that it changed, as often as it likes, and is looked at a few times a second.
 */
import { useEffect, useState } from 'preact/hooks';

export interface Changes {
  tell(): void;
  /** Returns what takes the listener off again. */
  on(listener: () => void): () => void;
}

/** @param everyMs changes within so many milliseconds are told of together */
export function createChanges(everyMs = 0): Changes {
  const listeners = new Set<() => void>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  return {
    tell() {
      if (timer !== undefined) return;
      timer = setTimeout(() => {
        timer = undefined;
        for (const listener of [...listeners]) listener();
      }, everyMs);
    },
    on(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}

/** Draws the component again whenever the model has changed. */
export function useChanges(...changes: readonly Changes[]): void {
  const [, again] = useState(0);
  useEffect(() => {
    const offs = changes.map((of) => of.on(() => again((times) => times + 1)));
    return () => {
      for (const off of offs) off();
    };
  }, changes);
}

/** Storage that a browser may refuse to a page, by its privacy settings: then nothing is remembered, and all else works. */
export interface Remembered {
  get(): string | null;
  set(value: string | null): void;
}

export function remembered(kind: 'sessionStorage' | 'localStorage', key: string): Remembered {
  return {
    get() {
      try {
        return globalThis[kind].getItem(key);
      } catch {
        return null; // refused
      }
    },
    set(value) {
      try {
        if (value === null) globalThis[kind].removeItem(key);
        else globalThis[kind].setItem(key, value);
      } catch {
        // Refused: it is good for this page only.
      }
    },
  };
}

/**
 * Which transport had to do at an origin, so that the next connection begins there and does not wait in vain for a
 * better one first. For ten minutes: networks change. In the page's memory, and in `persist` where there is one.
 * A place is an origin and the transports that were allowed there: a connection that may only poll knows nothing of
 * websockets.
 */
import type { TransportName } from './events.ts';

/** The part of the Web Storage API that is used. */
export interface Memory {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
}

const EXPIRES_MS = 600_000;
const inPage = new Map<string, string>();

const keyOf = (place: string): string => `roomcast:transport:${place}`;

/** Storage may be missing, forbidden or full, now or later: then nothing is kept, and all else goes on. */
export function lenient(memory: Memory | undefined): Memory {
  const attempt = <T>(act: () => T): T | null => {
    try {
      return act();
    } catch {
      return null; // what cannot be kept is asked of the log
    }
  };
  return {
    getItem: (key) => attempt(() => memory?.getItem(key) ?? null),
    setItem: (key, value) => void attempt(() => memory?.setItem(key, value)),
  };
}

export function recall(place: string, persist: Memory): TransportName | null {
  const text = inPage.get(place) ?? persist.getItem(keyOf(place));
  const [transport, until] = text?.split(' ') ?? [];
  return Number(until) > Date.now() ? (transport as TransportName) : null;
}

export function remember(place: string, transport: TransportName, persist: Memory): void {
  const text = `${transport} ${Date.now() + EXPIRES_MS}`;
  inPage.set(place, text);
  persist.setItem(keyOf(place), text);
}

/**
 * How this library waits: full jitter, so that clients cut off together do not come back together; not at all while the
 * browser says that it is offline; and never past the end of the connection: every timer and listener ends with its signal.
 */
const BASE_MS = 1_000;
/** How long a server may send its clients away: what is beyond an hour is a mistake, and beyond what a timer takes. */
const MOST_ASKED_MS = 3_600_000;

/** What a server asked for; what is no number says nothing. */
export function asked(milliseconds: number): number {
  return Math.min(MOST_ASKED_MS, Math.max(0, milliseconds)) || 0;
}

/** From nothing up to 1 s after the first failure, 2 s after the second, and so on up to `mostMs`. */
export function backoff(failures: number, mostMs: number): number {
  return Math.random() * Math.min(mostMs, BASE_MS * 2 ** Math.max(0, failures - 1));
}

/** Resolves after the time, or as soon as the signal aborts. */
export function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const over = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', over);
      resolve();
    };
    const timer = setTimeout(over, milliseconds);
    signal.addEventListener('abort', over);
  });
}

/** What a browser's window has and Node has not. */
interface Page {
  readonly navigator?: { readonly onLine?: boolean };
  addEventListener?(event: 'online', listener: () => void): void;
  removeEventListener?(event: 'online', listener: () => void): void;
}

const page = globalThis as unknown as Page;

/** Calls `act` whenever the network is back, until the signal aborts. */
export function onOnline(act: () => void, signal: AbortSignal): void {
  page.addEventListener?.('online', act);
  signal.addEventListener('abort', () => page.removeEventListener?.('online', act));
}

/** Resolves when the browser is online, or the signal aborts. */
export function online(signal: AbortSignal): Promise<void> {
  if (page.navigator?.onLine !== false || signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const over = (): void => {
      page.removeEventListener?.('online', over);
      signal.removeEventListener('abort', over);
      resolve();
    };
    page.addEventListener?.('online', over);
    signal.addEventListener('abort', over);
  });
}

/**
 * How the client and the publisher wait before they try again: with full jitter, so that clients that were cut off
 * together do not return together; no sooner than the server asks; and never while the browser is offline. An attempt that
 * took long counts as a part of the wait. Every timer and listener ends with its signal.
 */
const BASE_MS = 1_000;
const MAX_BACKOFF_MS = 10_000;
/** A server that asks for more than an hour is mistaken. */
const MAX_RETRY_AFTER_MS = 3_600_000;
/** A timer with a longer delay fires at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

/** The delay that a server asks for, from 0 to one hour; 0 if it is not a number. */
export function boundedRetryAfter(milliseconds: number): number {
  return Math.min(MAX_RETRY_AFTER_MS, Math.max(0, milliseconds)) || 0;
}

/** Seconds or a date (RFC 9110 §10.2.3), in milliseconds from now; 0 for anything else. */
export function parseRetryAfter(header: string | null): number {
  const text = header ?? '';
  return boundedRetryAfter(/^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now());
}

/** A random delay: up to `baseMs` after the first failure, twice that after the second, and so on up to `maxMs`. */
export function backoff(failures: number, maxMs = MAX_BACKOFF_MS, baseMs = BASE_MS): number {
  return Math.random() * Math.min(maxMs, baseMs * 2 ** Math.max(0, failures - 1));
}

/** Resolves after the delay, or as soon as the signal aborts. */
export function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, Math.min(MAX_TIMER_MS, milliseconds));
    signal.addEventListener('abort', end);
    if (signal.aborted) end();
  });
}

/**
 * Waits before the next attempt: the backoff, or the server's Retry-After if that is longer. The backoff begins when the
 * attempt began (`performance.now()`), so that one without an answer is repeated about as soon as one that is refused. A part
 * is always left: a crowd whose requests time out together has to disperse.
 */
export function pauseAfter(
  error: { readonly retryAfterMs: number },
  failures: number,
  startedMs: number,
  signal: AbortSignal,
): Promise<void> {
  const tookMs = performance.now() - startedMs;
  const dispersalMs = (Math.random() * Math.min(MAX_BACKOFF_MS, tookMs)) / 4;
  return pause(Math.max(error.retryAfterMs, backoff(failures) - tookMs, dispersalMs), signal);
}

/** Members of a browser's window that Node's global object lacks. */
interface BrowserGlobal {
  readonly navigator?: { readonly onLine?: boolean };
  addEventListener?(event: 'online' | 'offline', listener: () => void, options: { readonly signal: AbortSignal }): void;
}

const browser = globalThis as BrowserGlobal;

/** Calls `act` each time the network goes or returns, until the signal aborts. */
export function onNetwork(change: 'online' | 'offline', act: () => void, signal: AbortSignal): void {
  browser.addEventListener?.(change, act, { signal });
}

export const isOnline = (): boolean => browser.navigator?.onLine !== false;

/** Aborts with its parent, and releases it then. */
export function childOf(parent: AbortSignal): AbortController {
  const child = new AbortController();
  const abort = (): void => child.abort();
  parent.addEventListener('abort', abort);
  // Not by the option `signal`, which React Native ignores.
  child.signal.addEventListener('abort', () => parent.removeEventListener('abort', abort));
  if (parent.aborted) abort();
  return child;
}

/** Resolves when the browser is online, or the signal aborts. */
export async function online(signal: AbortSignal): Promise<void> {
  if (isOnline()) return;
  const waiting = childOf(signal);
  onNetwork('online', () => waiting.abort(), waiting.signal);
  await pause(MAX_TIMER_MS, waiting.signal);
}

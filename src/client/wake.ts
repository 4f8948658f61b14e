/**
 * Somebody looks at the page again, the machine slept, or the network changed: the moments at which a connection may be dead
 * although nothing says so. Timers are no help then: those of a hidden page are slow, and those of a sleeping machine stand
 * still. So one page of `/events` is read at once, while the source of events is asked whether it lives.
 */
import type { RoomcastError } from './http.ts';
import { isOnline, pause } from './retry.ts';
import type { Stream } from './stream.ts';

/** How long a page, or a sign of life, may take once somebody looks. */
export const WAKE_MS = 2_000;
/** How often the page is asked for: the second time on a new request, since an old connection may be dead after sleep. */
const TRIES = 2;
const INTERVAL_MS = 1_000;
const TICK_MS = 1_000;
/** The clock jumped if it is so far ahead of the timer. The timers of a hidden page run once a minute. */
const JUMP_MS = 5_000;
const HIDDEN_JUMP_MS = 90_000;

/** Members of a browser's window that Node's global object lacks. */
interface BrowserWindow {
  readonly document?: BrowserDocument;
  addEventListener?: Listen;
}
interface BrowserDocument {
  readonly visibilityState: string;
  readonly addEventListener: Listen;
}
interface BrowserEvent {
  readonly type: string;
  /** Of `pageshow`: whether the page was in the back/forward cache. */
  readonly persisted?: boolean;
}
type Listen = (name: string, act: (event: BrowserEvent) => void, options: { readonly signal: AbortSignal }) => void;

/**
 * Calls `act` when the page is shown or focused, resumes, or comes online, and when the clock jumps (the machine slept), at
 * most once a second, until the signal aborts. Returns a function that asks for the same. In Node only the clock counts; its
 * timer keeps no process alive.
 */
export function onWake(act: () => void, signal: AbortSignal): () => void {
  const window = globalThis as BrowserWindow;
  const { document } = window;
  let actedAtMs = 0;
  let tickedAtMs = Date.now();
  let later: ReturnType<typeof setTimeout> | undefined;

  /** Of several calls within a second, the first acts at once, and the others together after that second. */
  function wake(): void {
    if (signal.aborted) return;
    const nowMs = Date.now();
    const waitMs = actedAtMs + INTERVAL_MS - nowMs;
    clearTimeout(later);
    // A longer wait means that the clock was set back.
    if (waitMs > 0 && waitMs <= INTERVAL_MS) later = unref(setTimeout(wake, waitMs));
    else {
      actedAtMs = nowMs;
      tickedAtMs = nowMs;
      act();
    }
  }

  function happened({ type, persisted }: BrowserEvent): void {
    if (type === 'pageshow' && !persisted) return;
    if (type === 'visibilitychange' && document?.visibilityState === 'hidden') return;
    // Both come with each look, one after the other.
    const isSameLook = /^(focus|visibilitychange)$/.test(type) && Math.abs(Date.now() - actedAtMs) < INTERVAL_MS;
    if (!isSameLook) wake();
  }

  function tick(): void {
    const sinceMs = Date.now() - tickedAtMs;
    tickedAtMs += sinceMs;
    if (sinceMs > (document?.visibilityState === 'hidden' ? HIDDEN_JUMP_MS : JUMP_MS)) wake();
  }

  if (signal.aborted) return wake;
  const clock = unref(setInterval(tick, TICK_MS));
  signal.addEventListener('abort', () => {
    clearInterval(clock);
    clearTimeout(later);
  });
  for (const name of ['visibilitychange', 'resume']) document?.addEventListener(name, happened, { signal });
  for (const name of ['pageshow', 'focus', 'online']) window.addEventListener?.(name, happened, { signal });
  return wake;
}

/**
 * Reads what was missed, at once, and delivers it. Then resolves to whether the source of events is behind: it did not bring
 * what the page brought, also not within `WAKE_MS` after it. A page that was frozen first receives what was buffered for it.
 */
export async function isBehind(stream: Stream, signal: AbortSignal): Promise<boolean> {
  if (!isOnline()) return false;
  const writer = stream.writer('page');
  for (let tries = 0; tries < TRIES; tries++) {
    try {
      while (await stream.readPage(writer, 0, signal, WAKE_MS));
      break;
    } catch (error) {
      // An answer of any kind is not the fault of an old connection. What it says, the source finds out.
      if ((error as RoomcastError).status !== 0) return false;
    }
  }
  if (writer.newest !== '') await pause(WAKE_MS, signal);
  return writer.isCurrent && stream.reached < writer.newest;
}

/** In Node, a timer would keep the process alive. */
function unref<Timer>(timer: Timer): Timer {
  (timer as { unref?(): void }).unref?.();
  return timer;
}

/**
 * Somebody looks at the page again, the machine slept, or the network changed: the moments at which a connection may be dead
 * although nothing says so. Timers are no help then: those of a hidden page are slow, and those of a sleeping machine stand
 * still. So one page of `/events` is read at once, while the source of events is asked whether it lives.
 */

import { askAgain, WAKE_MS } from './ask-again.ts';
import type { RoomcastError } from './http.ts';
import { pause } from './retry.ts';
import type { Stream } from './stream.ts';

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

/** `behind`: it did not bring what a page of `/events` brought. `unknown`: there was no page. */
export type Judgement = 'level' | 'behind' | 'unknown';

/**
 * Reads what was missed, at once, and delivers it. Resolves to what that says of the source of events, which has `WAKE_MS` to
 * bring the same: a page that was frozen first receives what was buffered for it.
 */
export async function readMissed(stream: Stream, signal: AbortSignal): Promise<Judgement> {
  const writer = stream.writer('page');
  try {
    while (await askAgain((until) => stream.readPage(writer, 0, until, WAKE_MS), signal));
  } catch (error) {
    return signal.aborted || (error as RoomcastError).status !== 0 ? 'level' : 'unknown';
  }
  if (writer.newest !== '') await pause(WAKE_MS, signal);
  return writer.isCurrent && stream.reached < writer.newest && !signal.aborted ? 'behind' : 'level';
}

/** In Node, a timer would keep the process alive. */
function unref<Timer>(timer: Timer): Timer {
  (timer as { unref?(): void }).unref?.();
  return timer;
}

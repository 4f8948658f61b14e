/**
 * A tab among the tabs of its group: which hub it listens to, and when it leads itself.
 *
 * The leader holds a Web Lock. The lock of a tab that was closed or has crashed goes to the next tab at once. A tab that is
 * frozen or busy holds it, and is found by its silence: visible tabs ask the hub, which answers from a message handler,
 * since a browser does not delay those of a hidden tab. A tab that gets no answer takes the lock by force.
 *
 * Each tab holds a lock of its own, too, from which the hub learns that the tab is gone.
 */

import { childOf, pause } from '../retry.ts';
import type { Hub, HubEnd } from './hub.ts';
import { aborted, type LockManager } from './locks.ts';
import { type HubMessage, type HubStatus, isHidden, type News, onPage, type Question } from './messages.ts';

export interface GroupOptions {
  readonly name: string;
  readonly locks: LockManager;
  /** This tab leads from now on. */
  lead(term: number, ended: (end: HubEnd) => void): Hub;
  /** Another hub, or none. */
  hubChanged(): void;
  /** From the current hub. */
  heard(news: News): void;
  /** This browser does not let tabs share. */
  broken(): void;
}

export interface Group {
  /** The name of this tab. */
  readonly member: string;
  /** The hub that it listens to. */
  readonly hub: KnownHub | null;
  ask(question: Question): void;
  /** Somebody looks: finds out at once whether the hub answers, and makes it find out whether the bridge does. */
  wake(): void;
  /** The hub did not bring what the bridge has: this tab leads from now on, unless it does so already. */
  takeOver(): void;
  leave(): void;
}

interface KnownHub {
  readonly id: string;
  status: HubStatus;
  /** When it was last live. */
  liveMs: number;
}

/** A hub that has said nothing for this long is asked, while the tab is visible. */
const QUIET_MS = 500;
/** How long it may take to answer. */
const ANSWER_MS = 700;
/** Then it is asked once more, for a random time, so that tabs do not take the lock from each other. */
const MIN_SECOND_LOOK_MS = 50;
const MAX_SECOND_LOOK_MS = 200;
/** A hub of a hidden tab may be out of order for this long. Its timers are slow. */
const HIDDEN_MS = 2_000;
/** A tab takes the lock by force at most once in this time. */
const REPEAT_MS = 5_000;

export function enterGroup({ name, locks, ...options }: GroupOptions): Group {
  const member = crypto.randomUUID();
  const life = new AbortController();
  const { signal } = life;
  const channel = new BroadcastChannel(name);
  let known: KnownHub | null = null;
  let newestTerm = 0;
  let own: Hub | null = null;
  /** Ends the wait for the lock. */
  let turn = childOf(signal);
  let isTakingOver = false;
  let tookOverMs = Number.NEGATIVE_INFINITY;
  let heardMs = performance.now();
  /** Since when the hub owes an answer. */
  let askedMs: number | null = null;
  let lookAgainMs: number | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;

  function take({ hub: id, term, news }: HubMessage): void {
    if (term > newestTerm) {
      newestTerm = term;
      known = { id, status: { transport: null, failure: null, isHidden: false }, liveMs: performance.now() };
      options.hubChanged();
      hear(news);
    } else if (id === known?.id) hear(news);
  }

  function hear(news: readonly News[]): void {
    heardMs = performance.now();
    askedMs = lookAgainMs = null;
    for (const one of news) {
      if (known === null) return;
      if (one.kind === 'end') {
        known = null;
        askedMs = heardMs;
        options.hubChanged();
        watch();
      } else if (one.kind === 'status') {
        known.status = one;
        if (one.transport !== null) known.liveMs = heardMs;
      }
      options.heard(one);
    }
  }

  function ask(question: Question): void {
    if (!signal.aborted) channel.postMessage(question);
  }

  /** While the tab is visible, and does not lead. */
  function watch(): void {
    clearTimeout(timer);
    if (signal.aborted || own !== null || isHidden()) return;
    const nowMs = performance.now();
    if (askedMs === null && nowMs - heardMs >= QUIET_MS) {
      askedMs = nowMs;
      ask({ kind: 'status' });
    }
    if (lookAgainMs !== null ? nowMs >= lookAgainMs : isHiddenAndDown(nowMs)) {
      askedMs = lookAgainMs = null;
      heardMs = nowMs;
      takeOver();
    } else if (askedMs !== null && lookAgainMs === null && nowMs - askedMs >= ANSWER_MS) {
      ask({ kind: 'status' });
      lookAgainMs = nowMs + MIN_SECOND_LOOK_MS + Math.random() * (MAX_SECOND_LOOK_MS - MIN_SECOND_LOOK_MS);
    }
    const dueMs = lookAgainMs ?? (askedMs === null ? heardMs + QUIET_MS : askedMs + ANSWER_MS);
    timer = setTimeout(watch, Math.max(1, dueMs - nowMs));
  }

  function isHiddenAndDown(nowMs: number): boolean {
    if (known === null) return false;
    const { status, liveMs } = known;
    return status.isHidden && status.transport === null && nowMs - Math.max(liveMs, tookOverMs + REPEAT_MS) > HIDDEN_MS;
  }

  function takeOver(): void {
    if (own !== null || performance.now() < tookOverMs + REPEAT_MS) return;
    tookOverMs = performance.now();
    isTakingOver = true;
    turn.abort();
  }

  async function campaign(): Promise<void> {
    while (!signal.aborted) {
      turn = childOf(signal);
      let restMs = 0;
      const hold = async (): Promise<void> => {
        restMs = await lead();
      };
      try {
        await locks.request(name, isTakingOver ? { steal: true } : { signal: turn.signal }, hold);
      } catch (error) {
        // The wait has ended, or another tab took the lock. Anything else, such as a page that is being left, may last.
        if ((error as Error).name !== 'AbortError') restMs = REPEAT_MS;
      }
      own?.close();
      own = null;
      watch();
      await pause(restMs, signal);
    }
  }

  /** Until the hub ends. Resolves to the time for which this tab should not lead. */
  function lead(): Promise<number> {
    isTakingOver = false;
    return new Promise((resolve) => {
      signal.addEventListener('abort', () => resolve(0));
      const open = (): void => {
        if (signal.aborted) return;
        own = options.lead(Math.max(Date.now(), newestTerm + 1) + Math.random(), (end) => {
          own = null;
          if (end.restMs === null) open();
          else resolve(end.restMs);
        });
      };
      open();
    });
  }

  channel.onmessage = ({ data }: { readonly data: HubMessage | Question }) => {
    if ('hub' in data) take(data);
  };
  onPage(['visibilitychange'], watch, signal);

  const hold = (): Promise<void> => {
    ask({ kind: 'status' });
    askedMs = performance.now();
    watch();
    void campaign();
    return aborted(signal);
  };
  locks.request(`${name}:${member}`, {}, hold).catch(options.broken);

  return {
    member,
    get hub() {
      return known;
    },
    ask,
    wake() {
      // The hub of this tab wakes by itself.
      if (own !== null) return;
      askedMs ??= performance.now();
      ask({ kind: 'wake' });
      watch();
    },
    takeOver,
    leave() {
      if (signal.aborted) return;
      ask({ kind: 'bye', member });
      clearTimeout(timer);
      life.abort();
      own?.close();
      channel.close();
    },
  };
}

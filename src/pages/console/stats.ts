/** Asks `GET /stats` every second, for the figures of now. What was before is in history.ts. */
import type { RoomcastError } from '../../client/http.ts';
import type { Stats } from '../../contract/stats.ts';
import type { Access } from './access.ts';
import { createChanges, type Model, type Mutable } from './model.ts';

/** `refused`: the bridge answers, but this operator may not read statistics. */
export type StatsState = 'loading' | 'live' | 'refused' | 'unreachable';

export interface StatsFeed extends Model {
  readonly state: StatsState;
  readonly error: RoomcastError | null;
  /** The newest answer, however old. */
  readonly stats: Stats | null;
}

const INTERVAL_MS = 1_000;
/** Each failure waits a second longer, up to this. */
const MAX_INTERVAL_MS = 5_000;
/** Permissions seldom change, and a new token asks at once. */
const REFUSED_INTERVAL_MS = 30_000;
const MAX_ROOMS = 50;

export function createStatsFeed(access: Access): StatsFeed {
  const feed: Mutable<StatsFeed> = { changes: createChanges(), state: 'loading', error: null, stats: null };
  /** Counts restarts, so that an answer to an earlier token is ignored. */
  let generation = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;

  async function poll(startedIn: number, failures: number): Promise<void> {
    let waitMs = INTERVAL_MS;
    let nextFailures = 0;
    try {
      const next = await access.request<Stats>('stats', { query: { limit: MAX_ROOMS } });
      if (startedIn !== generation) return;
      feed.stats = next;
      feed.state = 'live';
      feed.error = null;
    } catch (problem) {
      if (startedIn !== generation) return;
      const error = problem as RoomcastError;
      const isRefused = error.status === 401 || error.status === 403;
      feed.error = error;
      feed.state = isRefused ? 'refused' : 'unreachable';
      nextFailures = failures + 1;
      waitMs = isRefused ? REFUSED_INTERVAL_MS : Math.min(MAX_INTERVAL_MS, INTERVAL_MS * nextFailures);
      if (isRefused) feed.stats = null;
    }
    feed.changes.notify();
    timer = setTimeout(() => void poll(startedIn, nextFailures), waitMs);
  }

  function restart(): void {
    clearTimeout(timer);
    void poll(++generation, 0);
  }

  access.changes.subscribe(restart);
  restart();

  return feed;
}

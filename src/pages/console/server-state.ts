/** Whether the server answers, and since when it does not, so that old figures are never mistaken for new ones. */
import { createChanges, type Model, type Mutable } from './model.ts';
import type { StatsFeed } from './stats.ts';

export interface ServerState extends Model {
  readonly isAway: boolean;
  /** When the last answer arrived, on the page's clock; null if none has. */
  readonly answeredAtMs: number | null;
}

/** A refusal is an answer, too. */
export function createServerState(feed: StatsFeed): ServerState {
  const model: Mutable<ServerState> = { changes: createChanges(), isAway: false, answeredAtMs: null };
  feed.changes.subscribe(() => {
    model.isAway = feed.state === 'unreachable';
    if (feed.state === 'live' || feed.state === 'refused') model.answeredAtMs = Date.now();
    model.changes.notify();
  });
  return model;
}

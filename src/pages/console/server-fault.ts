/**
 * The fault of the bridge that explains what every user sees, from its statistics: it comes before any other verdict. The
 * frame of the page says when the server does not answer at all.
 */
import type { Stats } from '../../contract/stats.ts';

export type ServerFault = 'draining' | 'redisAway' | 'logFull' | 'logAway';

interface Figures {
  readonly state: string;
  readonly stats: Stats | null;
}

/** @param isFailing publishes fail @returns null: none is known */
export function serverFault({ state, stats }: Figures, isFailing: boolean): ServerFault | null {
  if (stats === null || state !== 'live') return null;
  if (stats.redis !== null && !stats.redis.reached) return 'redisAway';
  if (stats.node.draining) return 'draining';
  if (!stats.log.healthy || stats.redis?.takesWrites === false || isFailing) return 'logFull';
  return stats.log.reached ? null : 'logAway';
}

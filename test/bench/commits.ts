/** How long the bridge's commits took between two readings of its own histogram. */
import { quantile, since } from '../../src/metrics/quantile.ts';

/** A reading of `roomcast_publish_duration_seconds`: from a checked publish to its durable record. */
export interface Commits {
  readonly count: number;
  readonly seconds: number;
  /** Upper bounds in seconds, rising; +Inf is left out. */
  readonly bounds: readonly number[];
  /** At or below each bound, and in all. */
  readonly counts: readonly number[];
}

const DURATION = 'roomcast_publish_duration_seconds';

export async function readCommits({ port }: { readonly port: number }): Promise<Commits> {
  return parseCommits(await (await fetch(`http://127.0.0.1:${port}/metrics`)).text());
}

/** @param text in Prometheus' format */
export function parseCommits(text: string): Commits {
  const value = (suffix: string): number =>
    Number(new RegExp(`^${DURATION}_${suffix}(?:\\{.*\\})? (\\S+)`, 'm').exec(text)?.[1]);
  const buckets = [...text.matchAll(new RegExp(`^${DURATION}_bucket\\{.*le="([\\d.e-]+)".*\\} (\\S+)`, 'gm'))];
  const count = value('count');
  return {
    count,
    seconds: value('sum'),
    bounds: buckets.map(([, bound]) => Number(bound)),
    counts: [...buckets.map(([, , many]) => Number(many)), count],
  };
}

/**
 * The commit time is the mean, but no more than the bound of the bucket that holds the median: a few slow commits do not
 * stand for all. The p99 is interpolated within its bucket.
 */
export function commitsBetween(before: Commits, after: Commits): { commitMs: number; commitP99Ms: number } {
  const counts = since(before.counts, after.counts);
  const count = after.count - before.count;
  const mean = (after.seconds - before.seconds) / count;
  const medianBound = after.bounds.find((_, index) => (counts[index] as number) >= count / 2) ?? mean;
  const p99 = quantile(after.bounds, counts, 0.99) ?? Number.NaN;
  return { commitMs: Math.min(mean, medianBound) * 1000, commitP99Ms: p99 * 1000 };
}

/**
 * Quantiles of histogram buckets, linear within a bucket like Prometheus' `histogram_quantile`. Used by the bridge's own
 * figures and by the console, which takes the difference of two readings.
 */

/**
 * @param bounds upper bounds of the buckets, rising
 * @param counts how many observations were at or below each bound, and in all
 * @returns null without observations; the last bound if the quantile lies beyond it
 */
export function quantile(bounds: readonly number[], counts: readonly number[], q: number): number | null {
  const all = counts.at(-1) ?? 0;
  if (all <= 0) return null;
  const rank = q * all;
  let below = 0;
  let lower = 0;
  for (const [index, upper] of bounds.entries()) {
    const count = counts[index] as number;
    if (count >= rank) return lower + (upper - lower) * ((rank - below) / (count - below || 1));
    below = count;
    lower = upper;
  }
  return bounds.at(-1) ?? null;
}

/** The observations between two readings of one process; all of them without an earlier reading. */
export function since(earlier: readonly number[] | undefined, later: readonly number[]): number[] {
  return later.map((count, index) => count - (earlier?.[index] ?? 0));
}

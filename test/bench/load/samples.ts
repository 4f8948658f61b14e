/** Latencies in microseconds, all of them, for exact percentiles. */
import type { Latency } from './protocol.ts';

export interface Samples {
  add(us: number): void;
  latency(): Latency;
}

export function createSamples(): Samples {
  let kept = new Float64Array(1 << 16);
  let count = 0;
  return {
    add(us) {
      if (count === kept.length) {
        const larger = new Float64Array(kept.length * 2);
        larger.set(kept);
        kept = larger;
      }
      kept[count++] = us;
    },
    latency() {
      const sorted = kept.slice(0, count).sort();
      const at = (share: number): number => (sorted[Math.min(count - 1, Math.floor(count * share))] ?? 0) / 1000;
      return { p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) };
    },
  };
}

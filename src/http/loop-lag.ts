/** How late the event loop is. A turn that takes long delays every request and every delivery of the node. */
import { monitorEventLoopDelay } from 'node:perf_hooks';

/** Interval of the timer that measures. */
const TIMER_MS = 20;

export interface LoopLag {
  readonly meanSeconds: number;
  readonly p99Seconds: number;
  readonly maxSeconds: number;
}

export interface LoopLagMeter {
  /** The lag since the last call; null if the timer has not run since. */
  take(): LoopLag | null;
  close(): void;
}

export function createLoopLagMeter(): LoopLagMeter {
  const delay = monitorEventLoopDelay({ resolution: TIMER_MS });
  delay.enable();
  /** Node measures nanoseconds between two runs of the timer; the lag is the time beyond the timer's interval. */
  const lagOf = (nanoseconds: number): number => Math.max(0, nanoseconds / 1e6 - TIMER_MS) / 1000;
  return {
    take() {
      if (delay.count === 0) return null;
      const { mean, max } = delay;
      const lag = { meanSeconds: lagOf(mean), p99Seconds: lagOf(delay.percentile(99)), maxSeconds: lagOf(max) };
      delay.reset();
      return lag;
    },
    close: () => void delay.disable(),
  };
}

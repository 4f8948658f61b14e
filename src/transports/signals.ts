/**
 * Signals on their way to connections, the same for all transports: encoded once for all listeners that get the same ones
 * (design law 6), and counted.
 */
import type { TransportName } from '../contract/names.ts';
import type { Signal } from '../contract/signals.ts';
import type { Metrics } from '../metrics/metrics.ts';

/** Encodes the same array once. Each transport has an encoder of its own. */
export function createSignalEncoder<T>(encode: (signals: readonly Signal[]) => T): (signals: readonly Signal[]) => T {
  const encoded = new WeakMap<readonly Signal[], T>();
  return (signals) => {
    const known = encoded.get(signals);
    if (known !== undefined) return known;
    const made = encode(signals);
    encoded.set(signals, made);
    return made;
  };
}

/** Counts deliveries. The metrics are updated once per turn of the event loop. */
export function createSignalCounter(metrics: Metrics, transport: TransportName): (signals: readonly Signal[]) => void {
  const counts = new Map<string, number>();

  function settle(): void {
    for (const [event, count] of counts) metrics.delivered(transport, event, count);
    counts.clear();
  }

  return (signals) => {
    if (counts.size === 0) queueMicrotask(settle);
    for (const { event } of signals) counts.set(event, (counts.get(event) ?? 0) + 1);
  };
}

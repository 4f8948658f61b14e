/**
 * Signals on their way to connections, the same for all transports: each encoded once for all listeners, who get them
 * with others or without (design law 6), and counted.
 */
import type { TransportName } from '../contract/names.ts';
import type { Signal } from '../contract/signals.ts';
import type { Metrics } from '../metrics/metrics.ts';

/**
 * Encodes a signal once, and the same array once. Each transport has an encoder of its own.
 * @param unite makes one encoding of those of several signals. A sender leaves its own out, so that in a busy room
 * most listeners get an array of their own.
 */
export function createSignalEncoder<T extends object>(
  encode: (signal: Signal) => T,
  unite: (encodings: readonly T[]) => T,
): (signals: readonly Signal[]) => T {
  const ofOne = once(encode);
  return once((signals: readonly Signal[]) => {
    const encodings = signals.map(ofOne);
    return encodings.length === 1 ? (encodings[0] as T) : unite(encodings);
  });
}

function once<Of extends object, T extends object>(make: (of: Of) => T): (of: Of) => T {
  const made = new WeakMap<Of, T>();
  return (of) => {
    const known = made.get(of);
    if (known !== undefined) return known;
    const result = make(of);
    made.set(of, result);
    return result;
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

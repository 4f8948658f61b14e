/**
 * Counts deliveries. A batch goes to many connections within one turn of the event loop, so each write only increments
 * the batch's tally, and the metrics are updated once, at the end of the turn.
 */
import { type Batch, encodeBatch } from '../bus/batch.ts';
import type { Mode } from '../bus/subscription.ts';
import { namesSeen, type View } from '../contract/frames.ts';
import type { TransportName } from '../contract/names.ts';
import type { Metrics } from '../metrics/metrics.ts';

interface Tally {
  /** Writes since the last update of the metrics. */
  connections: number;
}

export type DeliveryCounter = (batch: Batch, mode: Mode) => void;

/** For the connections of one transport and view. */
export function createDeliveryCounter(metrics: Metrics, transport: TransportName, view: View): DeliveryCounter {
  const key = `tally:${transport}:${view.key}`;

  function startTally(batch: Batch, mode: Mode): Tally {
    // The lag of the first write counts for all, because all happen in the same turn.
    if (mode === 'live') {
      const nowMs = Date.now();
      for (const { acceptedAtMs } of batch.records) {
        metrics.deliveryLag(transport, Math.max(0, nowMs - acceptedAtMs) / 1000);
      }
    }
    return { connections: 0 };
  }

  function settle(batch: Batch, tally: Tally): void {
    const counts = new Map<string, number>();
    for (const { event } of batch.records) {
      for (const name of namesSeen(event, view)) counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    for (const [name, count] of counts) metrics.delivered(transport, name, count * tally.connections);
    tally.connections = 0;
  }

  return (batch, mode) => {
    const tally = encodeBatch(batch, key, () => startTally(batch, mode));
    if (tally.connections++ === 0) queueMicrotask(() => settle(batch, tally));
    if (mode !== 'live') metrics.replayed(transport, batch.records.length);
  };
}

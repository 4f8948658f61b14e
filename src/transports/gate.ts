/**
 * The gate: admission of every long-lived connection, on every transport (protocol §5, §6, §10). It refuses connections
 * while the node drains or cannot reach the log, counts them against the limits, and spreads a burst of reconnects over
 * several turns of the event loop.
 */
import type { IncomingMessage } from 'node:http';
import { type ConnectionLimits, clientAddress } from '../auth/limits.ts';
import type { Pacer } from '../bus/pacer.ts';
import { BridgeError } from '../contract/errors.ts';
import type { Log } from '../store/store.ts';

export interface Gate {
  readonly draining: boolean;
  /**
   * Counts a connection in. Call the returned function when the connection ends; further calls do nothing.
   * @throws {BridgeError} `too_many_connections`, or `unavailable` while draining or without a reachable log
   */
  admit(request: IncomingMessage): Promise<() => void>;
}

interface GateOptions {
  readonly store: Pick<Log, 'healthy' | 'bounds'>;
  readonly limits: ConnectionLimits;
  readonly pacer: Pacer;
  readonly trustProxy: number;
}

/** The gate, and for its owner the way to close it. */
export function createGate({ store, limits, pacer, trustProxy }: GateOptions): Gate & { startDraining(): void } {
  let draining = false;
  return {
    get draining() {
      return draining;
    },
    startDraining() {
      draining = true;
    },
    async admit(request) {
      const turn = pacer.take();
      if (turn !== null) await turn;
      // A log that refuses writes (the disk is full) may still serve reads; then listeners are admitted.
      if (!draining && !store.healthy()) await store.bounds();
      if (draining) throw new BridgeError('unavailable', 'The server is shutting down.');
      return limits.acquire(clientAddress(request, trustProxy));
    },
  };
}

/**
 * The gate: admission of every long-lived connection, on every transport (protocol §5, §6, §10), and of every answer that
 * waits for its reader (§16). It refuses connections while the node drains or cannot reach the log, counts them against the
 * limits, and spreads a burst of reconnects over several turns of the event loop.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { onExchangeEnd } from '../answers/exchange.ts';
import { type ConnectionLimits, clientAddress } from '../auth/limits.ts';
import type { Pacer } from '../bus/pacer.ts';
import { BridgeError } from '../contract/errors.ts';
import type { Log } from '../store/store.ts';
import type { Readers } from './readers.ts';

export interface Gate {
  readonly draining: boolean;
  /**
   * Counts a connection in. Call the returned function when the connection ends; further calls do nothing.
   * @throws {BridgeError} `too_many_connections`, or `unavailable` while draining or without a reachable log
   */
  admit(request: IncomingMessage): Promise<() => void>;
  /**
   * For an answer that waits for its reader: counts it as a connection until the exchange ends, and cuts it if the client
   * takes nothing for 30 s. A request that was admitted counts already, and further calls do nothing.
   * @throws {BridgeError} `too_many_connections`
   */
  admitAnswer(request: IncomingMessage, response: ServerResponse): void;
}

interface GateOptions {
  readonly store: Pick<Log, 'healthy' | 'bounds'>;
  readonly limits: ConnectionLimits;
  readonly readers: Readers;
  readonly pacer: Pacer;
  readonly trustProxy: number;
}

/** The gate, and for its owner the way to close it. */
export function createGate({
  store,
  limits,
  readers,
  pacer,
  trustProxy,
}: GateOptions): Gate & { startDraining(): void } {
  let draining = false;
  const counted = new WeakSet<IncomingMessage>();

  function count(request: IncomingMessage): () => void {
    const release = limits.acquire(clientAddress(request, trustProxy));
    counted.add(request);
    return release;
  }

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
      return count(request);
    },
    admitAnswer(request, response) {
      if (response.closed) return;
      if (!counted.has(request)) onExchangeEnd(response, count(request));
      readers.watch(request, response);
    },
  };
}

/**
 * Admission of connection checks (docs/check.md). Anyone may run a check, in every AUTH_MODE, so checks get a limit of
 * their own: clients without a token cannot use up the connections of clients with one.
 */
import type { IncomingMessage } from 'node:http';
import { clientAddress, createConnectionLimits } from '../auth/limits.ts';
import type { Config } from '../config.ts';
import type { Gate } from './gate.ts';

/** One check holds up to six connections for half a minute. Together they get at most a quarter of MAX_CONNECTIONS. */
const MAX_CHECKS = 200;
const MIN_CHECKS = 8;
const MAX_CHECKS_PER_ADDRESS = 40;

export interface CheckGate {
  /**
   * Counts a new connection, both as a connection and as a check. The returned function releases both.
   * @throws {BridgeError} `too_many_connections`, `unavailable`
   */
  admit(request: IncomingMessage): Promise<() => void>;
  /** Counts a connection that has passed the gate as a check too. @throws {BridgeError} `too_many_connections` */
  admitOpen(request: IncomingMessage): () => void;
}

export function createCheckGate(config: Pick<Config, 'maxConnections' | 'trustProxy'>, gate: Gate): CheckGate {
  const quarter = Math.ceil((config.maxConnections ?? Number.POSITIVE_INFINITY) / 4);
  const limits = createConnectionLimits({
    maxConnections: Math.min(MAX_CHECKS, Math.max(MIN_CHECKS, quarter)),
    maxConnectionsPerAddress: MAX_CHECKS_PER_ADDRESS,
  });
  const admitOpen = (request: IncomingMessage) => limits.acquire(clientAddress(request, config.trustProxy));
  return {
    admitOpen,
    async admit(request) {
      const releaseCheck = admitOpen(request);
      try {
        const release = await gate.admit(request);
        return () => {
          releaseCheck();
          release();
        };
      } catch (error) {
        releaseCheck();
        throw error;
      }
    },
  };
}

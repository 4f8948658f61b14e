/**
 * The door that every long-lived connection passes: closed while draining and while the log cannot be reached, and
 * counted (protocol §5, §6, §10).
 */
import type { IncomingMessage } from 'node:http';

export interface Gate {
  readonly draining: boolean;
  /**
   * Counts a connection in; the returned function, called once it ends, counts it out (further calls do nothing).
   * @throws {BridgeError} `too_many_connections`, or `unavailable` while draining or out of reach of the log
   */
  admit(request: IncomingMessage): Promise<() => void>;
}

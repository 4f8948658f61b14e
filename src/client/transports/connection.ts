/**
 * What the transport picker knows of a connection: it attaches to the stream's rooms and cursor, proves itself when
 * events arrive through it, and ends once, with a reason. The rest is each transport's own business.
 */

import type { Http, RoomcastError } from '../http.ts';
import type { ActiveSignals } from '../signals/active.ts';
import type { SignalSender } from '../signals/sender.ts';
import type { Stream } from '../stream.ts';

export interface Connection {
  /** Continues from the stream's current rooms and cursor. */
  attach(): void;
  /**
   * Finds out whether it still lives, though nothing arrives. It ends if nothing shows that it does within this time. That is
   * no silence of its own: the machine slept, or the network is another one. If it is doubted, what arrived before is no
   * sign of life.
   */
  probe(patienceMs: number, isDoubted?: boolean): void;
  /** Releases everything. No event follows. */
  close(): void;
}

export interface ConnectionEnd {
  /** It was open, and the server sent nothing for too long. */
  readonly isSilent?: boolean;
  /** It was not opened: the other tabs have all the connections that it may use. */
  readonly isCrowded?: boolean;
  readonly error?: RoomcastError;
  /** How long the server asks you to wait before you reconnect. */
  readonly retryAfterMs?: number;
}

export interface ConnectionEvents {
  /** The rooms' events arrive through it. Called again after each `attach` that succeeds. */
  proven(): void;
  ended(end: ConnectionEnd): void;
}

export interface ConnectionOptions {
  readonly http: Http;
  readonly stream: Stream;
  readonly signals: Pick<ActiveSignals, 'take' | 'refresh'>;
  readonly sender: Pick<SignalSender, 'use'>;
  /** The server's `HEARTBEAT_MS`. A stream without a byte for twice that is silent. */
  readonly heartbeatMs: number;
  /** How long an answer over a websocket may take. */
  readonly patienceMs: number;
  readonly socketPath: string;
  /** Whether the bridge tells of each event that went to other rooms than its payload's ids say (protocol §5, §6). */
  readonly marks: boolean;
}

export type OpenConnection = (options: ConnectionOptions, events: ConnectionEvents) => Connection;

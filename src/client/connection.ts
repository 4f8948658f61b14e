/**
 * What the ladder knows of a transport: it attaches to the session's rooms and cursor, proves itself by bringing
 * something, and ends, once, with a reason. How it does so is each transport's own business.
 */
import type { TransportName } from './events.ts';
import type { Http, RoomcastError } from './http.ts';
import type { Session } from './stream.ts';

export interface Source {
  /** The rooms or the cursor changed: goes on from there. */
  attach(): void;
  /** Lets go of everything; nothing is reported after. */
  close(): void;
}

export interface End {
  /** It was open and said nothing for too long. */
  readonly isSilent?: boolean;
  readonly error?: RoomcastError;
  /** The server asked not to come back sooner. */
  readonly retryAfterMs?: number;
}

export interface SourceEvents {
  /** The rooms are heard over it; called again after each `attach` that succeeds. */
  proven(): void;
  ended(end: End): void;
}

export interface SourceDeps {
  readonly http: Http;
  readonly session: Session;
  /** How often the server says something on a quiet stream (`HEARTBEAT_MS`). Twice that without a byte is silence. */
  readonly heartbeatMs: number;
  /** Longest wait for an answer on a websocket. */
  readonly patienceMs: number;
  readonly socketPath: string;
}

export type Open = (deps: SourceDeps, events: SourceEvents) => Source;

export interface Stream {
  readonly name: TransportName;
  readonly open: Open;
}

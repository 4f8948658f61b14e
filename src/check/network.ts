/** What the check needs of its surroundings: the browser page and the terminal each implement `Network`. */
import type { Socket } from 'socket.io-client';

/** Each transport is tested with this many ticks, this far apart. */
export const TICKS = 5;
export const TICK_MS = 300;

export interface CheckRequest {
  readonly accept: string;
  readonly signal: AbortSignal;
}

export interface CheckResponse {
  readonly status: number;
  readonly wasRedirected: boolean;
  header(name: string): string | null;
  /** As ALPN names it, such as `h2`; null if unknown. */
  readonly protocol: string | null;
  /** The body, chunk by chunk as it arrives. */
  readonly body: AsyncIterable<Uint8Array>;
}

export interface ConnectOptions {
  readonly socketPath: string;
  readonly timeoutMs: number;
  /** For the handshake's query. */
  readonly query: { readonly check: string };
}

export interface Network {
  /** MUST NOT follow redirects. @param path relative to the bridge's base URL @throws {CheckError} */
  request(path: string, request: CheckRequest): Promise<CheckResponse>;
  /** Starts to connect to the namespace `/check`. MUST NOT reconnect. */
  connect(transport: 'websocket' | 'polling', options: ConnectOptions): Socket;
}

export interface CheckContext {
  readonly network: Network;
  /** Names this check in its websocket handshake. */
  readonly id: string;
  /** Longest wait for a connection or an answer. After that, the transport has the fault `timeout` or `silent`. */
  readonly timeoutMs: number;
  /** Ends the check. */
  readonly signal: AbortSignal;
}

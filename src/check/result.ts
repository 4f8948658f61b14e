/**
 * What a connection check measures, as plain data; verdict.ts says what it means. `roomcast check --json` prints it as
 * `measurement`, so the field names are public.
 *
 * Times are milliseconds on the clock of the machine that runs the check, except `sentMs`, which is the server's. The
 * check compares only how far the two clocks advance, so a wrong clock changes nothing.
 */

export type FaultKind =
  /** The device reports that it has no network. */
  | 'offline'
  | 'dns'
  | 'refused'
  | 'tls'
  /** The configured forward proxy failed or refused. */
  | 'proxy'
  /** No connection, or a connection that broke. A browser gives no more detail. */
  | 'unreachable'
  | 'timeout'
  /** A redirect, as a network's sign-in page sends it. */
  | 'redirected'
  /** The answer is not Roomcast's. */
  | 'notOurs'
  /** The server does not answer to the name in its address (421). */
  | 'misdirected'
  /** An error status that Roomcast did not send. */
  | 'blocked'
  /** A proxy answers that it cannot reach the server: 502, 503 or 504. */
  | 'gateway'
  /** The server's limit of connections or checks is reached. */
  | 'busy'
  | 'draining'
  /** The node that answered does not know the Socket.IO session: another one does. */
  | 'otherNode'
  /** The connection opened, but nothing arrived. */
  | 'silent'
  /** The connection ended too early. */
  | 'ended';

export interface Fault {
  readonly kind: FaultKind;
  /** For network engineers: a status or a system error code; may be empty. */
  readonly detail: string;
}

export class CheckError extends Error implements Fault {
  readonly kind: FaultKind;
  readonly detail: string;

  constructor(kind: FaultKind, detail = '', options?: ErrorOptions) {
    super(detail === '' ? kind : `${kind}: ${detail}`, options);
    this.name = 'CheckError';
    this.kind = kind;
    this.detail = detail;
  }
}

/** The fault as plain data. @throws `error` itself if it is not a CheckError */
export function faultOf(error: unknown): Fault {
  if (!(error instanceof CheckError)) throw error;
  return { kind: error.kind, detail: error.detail };
}

/** One `check.tick`: the check's stand-in for an event. */
export interface Tick {
  readonly sentMs: number;
  /** Since the attempt started. */
  readonly arrivedMs: number;
}

export interface TickDelivery {
  /** Until the connection was accepted: the response headers, or the WebSocket handshake. */
  readonly connectMs: number | null;
  readonly ticks: readonly Tick[];
  readonly expected: number;
  /** Why not all ticks arrived. */
  readonly fault: Fault | null;
}

/** What happened to a connection that carried no events. */
export interface QuietPeriod {
  readonly watchedMs: number;
  /** When the connection was cut; null if it stayed open. */
  readonly cutMs: number | null;
  /** The connection stayed open but delivered nothing any more. */
  readonly isDead: boolean;
}

export interface TransportResult {
  readonly frames: TickDelivery | null;
  /** With the heartbeats that the transport always has. */
  readonly quiet: QuietPeriod | null;
  readonly isOver: boolean;
}

/** How the websocket handshake arrived at the server. */
export type Handshake =
  | { readonly kind: 'absent' }
  | {
      readonly kind: 'arrived';
      readonly httpVersion: string;
      readonly hasUpgrade: boolean;
      readonly hasConnection: boolean;
    };

export interface WebsocketResult extends TransportResult {
  /** Asked of the server where WebSocket fails; null if it works or the server did not say. */
  readonly handshake: Handshake | null;
}

export interface SseResult extends TransportResult {
  /** The `Content-Encoding` of the stream. The server sends none. */
  readonly encoding: string | null;
  /** The ticks again, behind padding, if they were buffered without it. */
  readonly padded: TickDelivery | null;
  /** Without heartbeats: shows idle timeouts that heartbeats hide. */
  readonly silent: QuietPeriod | null;
}

/** The server's first answer, and what the request looked like when it arrived there. */
export interface Greeting {
  readonly roundTripMs: number;
  /** The server's clock minus this machine's, plus or minus `skewErrorMs`. */
  readonly skewMs: number;
  readonly skewErrorMs: number;
  /** The heartbeat of `/sse`. */
  readonly heartbeatMs: number;
  /** Engine.IO's `pingInterval`: the heartbeat of both Socket.IO transports. */
  readonly pingMs: number;
  readonly socketPath: string;
  readonly isReady: boolean;
  readonly httpVersion: string;
  /** Names of the headers that proxies added. */
  readonly proxyHeaders: readonly string[];
  /** The response's `Via` header. */
  readonly via: string | null;
  /** The response's `Server` header. Roomcast sends none. */
  readonly server: string | null;
  /** What this client speaks to its peer, as ALPN names it: `http/1.1`, `h2`, `h3`; null if unknown. */
  readonly protocol: string | null;
  /** How many nodes answered. */
  readonly nodes: number;
}

export interface CheckResult {
  readonly greeting: Greeting | null;
  /** Why there is no greeting. */
  readonly fault: Fault | null;
  /** How long quiet connections are watched. */
  readonly quietMs: number;
  readonly websocket: WebsocketResult;
  readonly polling: TransportResult;
  readonly sse: SseResult;
  readonly longpoll: TransportResult;
}

const UNTRIED: TransportResult = { frames: null, quiet: null, isOver: false };

export const EMPTY_RESULT: CheckResult = {
  greeting: null,
  fault: null,
  quietMs: 0,
  websocket: { ...UNTRIED, handshake: null },
  polling: UNTRIED,
  sse: { ...UNTRIED, encoding: null, padded: null, silent: null },
  longpoll: UNTRIED,
};

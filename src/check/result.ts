/**
 * What a connection check notes, as plain data: judge.ts says what it means. Times are milliseconds on the clock of
 * whoever measures, but for `sentMs`, which is the server's; the two are only ever compared by how they advance, so that
 * a wrong clock on either side changes nothing.
 */

export type FaultKind =
  /** The device itself says that it has no network. */
  | 'offline'
  | 'dns'
  | 'refused'
  | 'tls'
  /** The configured forward proxy failed or said no. */
  | 'proxy'
  /** No connection, or one that broke; a browser tells no more. */
  | 'unreachable'
  | 'timeout'
  /** Sent elsewhere, as sign-in pages of networks do. */
  | 'redirected'
  /** An answer came, and not from Roomcast. */
  | 'notOurs'
  /** An error status that Roomcast did not send. */
  | 'blocked'
  /** The server's limit of connections, or of checks. */
  | 'busy'
  | 'draining'
  /** It opened, and nothing came through. */
  | 'silent'
  /** It ended before its time. */
  | 'ended';

export interface FaultFacts {
  readonly kind: FaultKind;
  /** For those who know networks: a status, a system's error code. */
  readonly detail: string;
}

export class Fault extends Error implements FaultFacts {
  readonly kind: FaultKind;
  readonly detail: string;

  constructor(kind: FaultKind, detail = '', options?: ErrorOptions) {
    super(detail === '' ? kind : `${kind}: ${detail}`, options);
    this.name = 'Fault';
    this.kind = kind;
    this.detail = detail;
  }
}

export interface Tick {
  readonly sentMs: number;
  readonly arrivedMs: number;
}

/** How frames came through. */
export interface Passage {
  /** Until the connection was accepted: the head of an answer, a websocket's handshake. */
  readonly connectMs: number | null;
  /** From the start of the attempt. */
  readonly ticks: readonly Tick[];
  readonly expected: number;
  /** What ended it before all came. */
  readonly fault: FaultFacts | null;
}

/** How a connection fared with nothing to say. */
export interface Quiet {
  readonly watchedMs: number;
  /** When it was ended by something; null: it was not. */
  readonly cutMs: number | null;
  /** Not ended, but nothing came through it any more. */
  readonly isDead: boolean;
}

export interface Trial {
  readonly frames: Passage | null;
  /** With the heartbeats that the transport always has. */
  readonly quiet: Quiet | null;
  readonly isOver: boolean;
}

export interface SseTrial extends Trial {
  /** The frames again behind padding, when they were held back without. */
  readonly padded: Passage | null;
  /** Without heartbeats: what lies between ends it when it ends idle connections. */
  readonly silent: Quiet | null;
}

/** What the server and its first answer tell. */
export interface Greeting {
  readonly roundTripMs: number;
  /** The server's clock minus the one here, give or take `skewErrorMs`. */
  readonly skewMs: number;
  readonly skewErrorMs: number;
  readonly heartbeatMs: number;
  readonly socketPath: string;
  readonly isReady: boolean;
  /** Of the request, as it arrived at the server. */
  readonly httpVersion: string;
  /** Headers of proxies on the request, as it arrived at the server: their names. */
  readonly proxyHeaders: readonly string[];
  /** `Via` of the answer. */
  readonly via: string | null;
}

export interface Measurement {
  readonly greeting: Greeting | null;
  /** Why there is no greeting. */
  readonly fault: FaultFacts | null;
  /** How long a connection with nothing to say is watched. */
  readonly quietMs: number;
  readonly websocket: Trial;
  readonly polling: Trial;
  readonly sse: SseTrial;
  readonly longpoll: Trial;
}

const UNTRIED: Trial = { frames: null, quiet: null, isOver: false };

export const NOTHING_YET: Measurement = {
  greeting: null,
  fault: null,
  quietMs: 0,
  websocket: UNTRIED,
  polling: UNTRIED,
  sse: { ...UNTRIED, padded: null, silent: null },
  longpoll: UNTRIED,
};

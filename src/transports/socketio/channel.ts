/**
 * One Engine.IO connection from its handshake to its end, whether or not a client is in a namespace. Here are the limits
 * that hold for it whatever it says (protocol §11, §16): bytes that wait, CONNECT in time, one upgrade, the token's life.
 */
import type { ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Socket as EngineSocket } from 'engine.io';
import { EXPIRED_LINGER_MS, expiryOf, hasExpired, tokenExpired } from '../../auth/expiry.ts';
import { type ConnectionLimits, TokenBucket } from '../../auth/limits.ts';
import { ANONYMOUS, type Principal } from '../../auth/principal.ts';
import {
  claimsOf,
  REVOKED_LINGER_MS,
  type Revoked,
  tokenRevoked,
  type WatchedConnection,
} from '../../auth/revocations.ts';
import type { Pacer } from '../../bus/pacer.ts';
import type { Config } from '../../config.ts';
import { BridgeError } from '../../contract/errors.ts';
import type { Logger } from '../../logger.ts';
import type { Metrics } from '../../metrics/metrics.ts';
import type { Connection } from './connection.ts';
import { takeOverMessages, type WebSocket, websocketOf } from './internals.ts';
import { EngineOutbox, endWithin, terminate } from './outbox.ts';
import { answerPings } from './pongs.ts';

/** A connection that is in no namespace for longer is closed. */
const CONNECT_WITHIN_MS = 20_000;
/** CONNECT packets of one connection: a namespace or two, each refused a few times. Past the limit it is closed. */
const MAX_CONNECTS = 10;
/** Packets and pings that one connection may send in a second: a join and a leave for each of RATE_JOINS, signals, others. */
const maxPacketsPerSecond = ({ rateJoins, rateSignals }: ChannelDeps['config']): number =>
  1_000 + 2 * rateJoins + rateSignals;
const MAX_POLLING_DEBT_S = 1;
const UNREAD = 'a client that does not read its answers was cut';
/** How much of MAX_CONNECTIONS the connections in no namespace may take, and what they may take in any case. */
const SILENT_SHARE = 1 / 4;
const MIN_SILENT = 10;

/** Connections in no namespace at one time; null: no limit. */
export const maxSilent = ({ maxConnections }: Pick<Config, 'maxConnections'>): number | null =>
  maxConnections === null ? null : Math.max(MIN_SILENT, Math.floor(maxConnections * SILENT_SHARE));

/** A handshake that was counted in. */
export interface Admission {
  /** Counts it out. Further calls do nothing. */
  readonly release: () => void;
  /** Counts it out of the connections that are in no namespace. */
  readonly releaseSilent: () => void;
  /** The TCP connection of a websocket; null of a polling session. */
  readonly tcpSocket: Duplex | null;
  /** Whether it became a connection, whose end then releases it. */
  isTaken: boolean;
}

export interface ChannelDeps {
  readonly config: Pick<Config, 'maxBufferBytes' | 'rateJoins' | 'rateSignals'>;
  readonly metrics: Metrics;
  readonly logger: Logger;
  /** Counts the connections that are in no namespace. */
  readonly silentLimits: ConnectionLimits;
  readonly revoked: Revoked;
  /** The events that send signals. */
  readonly signalNames: ReadonlySet<string>;
  /** A flood of signals delays no record (design law 15). */
  readonly signalPacer: Pacer;
}

export class Channel implements WatchedConnection {
  readonly conn: EngineSocket;
  readonly outbox: EngineOutbox;
  /** The client in the main namespace. */
  client: Connection | null = null;
  /** One connection serves one client in the main namespace, also after it has left. */
  isClaimed = false;
  /** The token of a CONNECT packet is being checked. */
  isAuthenticating = false;
  #budget: TokenBucket | null = null;
  #isHeldBack = false;
  /** Signals that wait for their turn. */
  #waiting = 0;
  readonly #deps: ChannelDeps;
  readonly #admission: Admission;
  #releaseSilent: () => void;
  /** The TCP connection that the session is, or was, upgraded to. */
  #upgrade: Duplex | null = null;
  #isProbed = false;
  /** The answer to the latest poll, until it is sent. */
  #poll: ServerResponse | null = null;
  #connects = 0;
  #namespaces = 0;
  #silentSinceMs = performance.now();
  #expiresAtMs = Number.POSITIVE_INFINITY;
  claims = claimsOf(ANONYMOUS);

  constructor(conn: EngineSocket, admission: Admission, deps: ChannelDeps) {
    this.conn = conn;
    this.outbox = new EngineOutbox(conn);
    this.#deps = deps;
    this.#admission = admission;
    this.#releaseSilent = admission.releaseSilent;
    this.#serve();
    conn.on('packet', (packet: { readonly type: string; readonly data?: unknown }) => this.#received(packet));
    conn.on('upgrading', () => this.#probed());
    conn.on('upgrade', () => this.#serve());
    conn.once('close', () => this.#closed());
  }

  #serve(): void {
    const websocket = websocketOf(this.conn);
    if (websocket === null) return;
    answerPings(websocket, () => this.#count());
    if (this.#deps.signalNames.size > 1) {
      takeOverMessages(websocket, (data, deliver) => this.#takeTurn(websocket, data, deliver));
    }
  }

  /** Signals take turns, before they are parsed. All else, such as a pong or a join, does not wait behind them. */
  #takeTurn(websocket: WebSocket, data: Buffer, deliver: () => void): void {
    const turn = this.#deps.signalNames.has(eventOf(data)) ? this.#deps.signalPacer.take() : null;
    if (turn === null) {
      deliver();
      return;
    }
    this.#waiting++;
    // The rest of a flood waits in the client's own TCP connection.
    websocket.pause();
    turn.then(() => {
      this.#waiting--;
      deliver();
      this.#resume(websocket);
    });
  }

  #resume(websocket: WebSocket): void {
    if (websocket.isPaused && this.#waiting === 0 && !this.#isHeldBack) websocket.resume();
  }

  /**
   * Counts a packet or a ping. A client that sends too many is read more slowly: its own requests wait in its TCP
   * connection, and other clients do not wait for them. One that polls cannot be held back, so it is cut.
   */
  #count(): void {
    const nowMs = performance.now();
    this.#budget ??= new TokenBucket(maxPacketsPerSecond(this.#deps.config), nowMs);
    this.#budget.take(1, nowMs);
    if (this.#isHeldBack) return;
    const waitSeconds = this.#budget.waitSeconds(nowMs);
    if (waitSeconds === 0) return;
    const websocket = websocketOf(this.conn);
    if (websocket === null) {
      if (waitSeconds > MAX_POLLING_DEBT_S) this.#cut('a client that sends too many packets was cut');
      return;
    }
    this.#isHeldBack = true;
    websocket.pause();
    this.#resumeLater(websocket);
  }

  /** The rest of what was read before the pause still counts, so that the time may have become longer meanwhile. */
  #resumeLater(websocket: WebSocket): void {
    const waitMs = 1_000 * (this.#budget?.waitSeconds(performance.now()) ?? 0);
    if (waitMs > 0 && this.conn.readyState === 'open') {
      setTimeout(() => this.#resumeLater(websocket), Math.ceil(waitMs)).unref();
      return;
    }
    this.#isHeldBack = false;
    this.#resume(websocket);
  }

  /** Cuts a client that sends and does not read the answers. */
  #received({ type, data }: { readonly type: string; readonly data?: unknown }): void {
    this.#count();
    if (this.client !== null) this.client.cutIfSlow();
    else if (this.outbox.pendingBytes() > this.#deps.config.maxBufferBytes) this.#cut(UNREAD);
    // Socket.IO sets up a socket for each CONNECT before any middleware runs, so a body full of them would take seconds.
    if (type !== 'message' || typeof data !== 'string' || !data.startsWith('0')) return;
    this.#connects++;
    if (this.#connects > MAX_CONNECTS) this.conn.close();
  }

  #cut(why: string): void {
    if (this.conn.readyState !== 'open') return;
    this.#deps.metrics.slowConsumer(this.outbox.transport);
    this.#deps.logger.info({ transport: this.outbox.transport }, why);
    terminate(this.conn);
  }

  /** A client that polls again before it has taken the answer to its last poll would collect them unread. */
  polls(answer: ServerResponse): void {
    const isUnread = this.#poll?.writableEnded && !this.#poll.writableFinished && !this.#poll.destroyed;
    if (isUnread) this.#cut(UNREAD);
    this.#poll = answer;
    answer.once('close', () => {
      if (this.#poll === answer) this.#poll = null;
    });
  }

  /**
   * Call it before a websocket is opened for this session. Engine.IO would open any number, and close those that it does
   * not need with a closing handshake, for which they could keep it waiting.
   * @throws {BridgeError} `invalid_request`
   */
  upgrades(tcpSocket: Duplex): void {
    if (this.#upgrade !== null || websocketOf(this.conn) !== null) {
      throw new BridgeError('invalid_request', 'This session has a websocket already, or is being upgraded to one.');
    }
    this.#upgrade = tcpSocket;
    tcpSocket.once('close', () => {
      if (this.#upgrade === tcpSocket) this.#upgrade = null;
    });
  }

  /** A client probes once. Engine.IO answers each probe, also those of a client that does not read. */
  #probed(): void {
    if (this.#isProbed) this.#upgrade?.destroy();
    this.#isProbed = true;
  }

  /**
   * The client of a CONNECT packet was accepted. Its connection now ends with its token, also if it leaves before.
   * @throws {BridgeError} `token_revoked`, `unavailable`: its token was revoked meanwhile
   */
  accepts(principal: Principal): void {
    this.#expiresAtMs = expiryOf(principal);
    this.claims = claimsOf(principal);
    // After its end, nothing would take it out again.
    if (this.conn.readyState === 'open') this.#deps.revoked.watch(this);
  }

  revoked(): void {
    this.#ends(tokenRevoked(), REVOKED_LINGER_MS);
  }

  #ends(error: BridgeError, lingerMs: number): void {
    this.client?.sendError(error);
    endWithin(this.conn, lingerMs);
  }

  enters(): void {
    this.#namespaces++;
    this.#releaseSilent();
  }

  leaves(): void {
    this.#namespaces--;
    if (this.#namespaces > 0 || this.conn.readyState !== 'open') return;
    this.#silentSinceMs = performance.now();
    try {
      this.#releaseSilent = this.#deps.silentLimits.acquire('');
    } catch {
      // As many as may stay in no namespace do already.
      terminate(this.conn);
    }
  }

  /** Call it about once a second. */
  tick(nowMs: number, wallMs: number): void {
    const isSilent = this.#namespaces === 0 && !this.isAuthenticating;
    if (hasExpired(this.#expiresAtMs, wallMs)) {
      this.#ends(tokenExpired(), EXPIRED_LINGER_MS);
    } else if (isSilent && nowMs - this.#silentSinceMs >= CONNECT_WITHIN_MS) terminate(this.conn);
    else this.client?.tick(nowMs);
  }

  /** A websocket counts until its TCP connection is closed, which a client can hold back after Engine.IO has closed it. */
  #closed(): void {
    this.#deps.revoked.unwatch(this);
    if (websocketOf(this.conn) === null) this.#upgrade?.destroy();
    const tcpSocket = this.#upgrade ?? this.#admission.tcpSocket;
    const release = (): void => {
      this.#releaseSilent();
      this.#admission.release();
    };
    if (tcpSocket === null || tcpSocket.destroyed) release();
    else tcpSocket.once('close', release);
  }
}

/** Of a Socket.IO EVENT in the main namespace (`42`, then an id if it wants an answer); else empty. */
function eventOf(data: Buffer): string {
  return /^42\d*\["([^"\\]*)"/.exec(data.toString('latin1', 0, MAX_HEAD_BYTES))?.[1] ?? '';
}
const MAX_HEAD_BYTES = 160;

/**
 * Engine.IO's pings, by one timer for all connections (Engine.IO protocol, "Heartbeat").
 *
 * Engine.IO has two timers for each connection, and sends each ping through all of its layers: with ten thousand idle
 * connections that is a third of what they cost. A heartbeat takes the place of a connection's own timer, of which
 * Engine.IO asks one thing, to be refreshed by a pong. A connection without such a timer is pinged by Engine.IO itself.
 */
import type { Socket as EngineSocket } from 'engine.io';
import { internalsOf, sendPing, terminate } from './outbox.ts';

export interface HeartbeatTimes {
  /** Most milliseconds from one pong to the next ping, which clients were told in their handshake. */
  readonly pingInterval: number;
  /** Milliseconds that a client has for its pong. */
  readonly pingTimeout: number;
}

/** A ping, and giving up, may each be a tick late: pinged so much sooner, a silent client is kept no longer than told. */
const EARLY_MS = 2_000;

export interface Heartbeats {
  /** For a connection that has just opened. */
  add(connection: EngineSocket): void;
  /** Pings whom it is time to ping, and ends whom it is time to give up. To be called about once a second. */
  tick(nowMs: number): void;
}

class Heartbeat {
  readonly connection: EngineSocket;
  readonly #interval: number;
  /** When to ping; after a ping, when to give up. On the monotonic clock. */
  dueAtMs: number;
  isAwaited = false;

  constructor(connection: EngineSocket, interval: number) {
    this.connection = connection;
    this.#interval = interval;
    this.dueAtMs = performance.now() + interval;
  }

  /** For Engine.IO: a pong has come. */
  refresh(): void {
    this.isAwaited = false;
    this.dueAtMs = performance.now() + this.#interval;
  }
}

export function createHeartbeats({ pingInterval, pingTimeout }: HeartbeatTimes): Heartbeats {
  const heartbeats = new Set<Heartbeat>();
  const interval = Math.max(pingInterval - EARLY_MS, pingInterval / 2);

  return {
    add(connection) {
      const internals = internalsOf(connection);
      const timer = internals.pingIntervalTimer;
      if (typeof timer?.refresh !== 'function') return;
      clearTimeout(timer as NodeJS.Timeout);
      const heartbeat = new Heartbeat(connection, interval);
      internals.pingIntervalTimer = heartbeat;
      heartbeats.add(heartbeat);
    },
    tick(nowMs) {
      for (const heartbeat of heartbeats) {
        const { connection } = heartbeat;
        if (connection.readyState === 'closed') heartbeats.delete(heartbeat);
        else if (nowMs >= heartbeat.dueAtMs) pingOrGiveUp(heartbeat, nowMs);
      }
    },
  };

  function pingOrGiveUp(heartbeat: Heartbeat, nowMs: number): void {
    if (heartbeat.isAwaited) {
      terminate(heartbeat.connection);
      return;
    }
    heartbeat.isAwaited = true;
    heartbeat.dueAtMs = nowMs + pingTimeout;
    sendPing(heartbeat.connection);
  }
}

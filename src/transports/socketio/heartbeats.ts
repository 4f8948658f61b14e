/**
 * Engine.IO's pings, sent by one timer for all connections (Engine.IO protocol, "Heartbeat").
 *
 * Engine.IO keeps two timers per connection and passes each ping through all of its layers, which is a third of the cost
 * of an idle connection. A `Heartbeat` takes the place of the connection's own timer; Engine.IO only calls its
 * `refresh` when a pong arrives.
 */
import type { Socket as EngineSocket } from 'engine.io';
import { replacePingTimer } from './internals.ts';
import { sendPing, terminate } from './outbox.ts';

/** Milliseconds from a pong to the next ping, and from a ping to its pong. The handshake announces both to clients. */
export type HeartbeatTimes = Readonly<Record<'pingInterval' | 'pingTimeout', number>>;

/** Shorter than the ping, so that a lower `PING_MS` finds dead connections sooner, but never less than a slow network needs. */
const PING_TIMEOUT = { share: 0.8, leastMs: 5_000, mostMs: 20_000 };

/** The times for a `PING_MS`. By default 25 s and 20 s, as Engine.IO has them. */
export function heartbeatTimes(pingMs: number): HeartbeatTimes {
  const { share, leastMs, mostMs } = PING_TIMEOUT;
  return { pingInterval: pingMs, pingTimeout: Math.min(mostMs, Math.max(leastMs, Math.round(share * pingMs))) };
}

/** Both a ping and a timeout can be a tick late. Pinging earlier keeps the sum within the announced times, if the ping is 4 s or more. */
const EARLY_MS = 2_000;

class Heartbeat {
  readonly connection: EngineSocket;
  readonly #interval: number;
  /** When the ping is due or, after a ping, when the pong is overdue. On the monotonic clock. */
  dueAtMs: number;
  isPongAwaited = false;

  constructor(connection: EngineSocket, interval: number) {
    this.connection = connection;
    this.#interval = interval;
    this.dueAtMs = performance.now() + interval;
  }

  /** Engine.IO calls this when a pong arrives. */
  refresh(): void {
    this.isPongAwaited = false;
    this.dueAtMs = performance.now() + this.#interval;
  }
}

export function createHeartbeats({ pingInterval, pingTimeout }: HeartbeatTimes) {
  const heartbeats = new Set<Heartbeat>();
  const interval = Math.max(pingInterval - EARLY_MS, pingInterval / 2);

  function pingOrCut(heartbeat: Heartbeat, nowMs: number): void {
    const { connection, isPongAwaited } = heartbeat;
    heartbeat.isPongAwaited = true;
    heartbeat.dueAtMs = nowMs + pingTimeout;
    if (isPongAwaited) terminate(connection);
    else sendPing(connection);
  }

  return {
    /** For a connection that has just opened. */
    add(connection: EngineSocket): void {
      const heartbeat = new Heartbeat(connection, interval);
      if (replacePingTimer(connection, heartbeat)) heartbeats.add(heartbeat);
    },
    /** Sends the pings that are due and cuts connections whose pong is overdue. Call it about once a second. */
    tick(nowMs: number): void {
      for (const heartbeat of heartbeats) {
        if (heartbeat.connection.readyState === 'closed') heartbeats.delete(heartbeat);
        else if (nowMs >= heartbeat.dueAtMs) pingOrCut(heartbeat, nowMs);
      }
    },
  };
}

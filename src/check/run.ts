/**
 * One connection check, from a browser or a terminal: all transports at once, each first for how frames come through
 * it, then for whether it lasts while there is nothing to say. Never more than the six connections that a browser
 * allows itself to one origin over HTTP/1.1.
 */

import type { Socket } from 'socket.io-client';
import type { TransportName } from '../contract/names.ts';
import { greet, pollTicks, quietPoll, quietStream, streamTicks } from './http.ts';
import { Fault, type Measurement, NOTHING_YET, type SseTrial, type Trial } from './result.ts';
import { openSocketProbe } from './socketio.ts';
import { outcomeOf } from './verdict.ts';

export interface Ask {
  readonly accept: string;
  readonly signal: AbortSignal;
}

export interface Answer {
  readonly status: number;
  readonly wasRedirected: boolean;
  header(name: string): string | null;
  /** The body as it comes in. */
  readonly pieces: AsyncIterable<Uint8Array>;
}

/** What differs between a browser and a terminal. */
export interface Network {
  /** @param path relative to the bridge's base @throws {Fault} */
  request(path: string, ask: Ask): Promise<Answer>;
  /** Begins to connect to the namespace `/check`, once. */
  connect(transport: 'websocket' | 'polling', socketPath: string, timeoutMs: number): Socket;
}

export interface MeasureOptions {
  /** How long connections with nothing to say are watched; null: a little longer than between two heartbeats. */
  readonly quietSeconds: number | null;
  /** Longest wait for anything to happen. */
  readonly patienceMs: number;
  readonly signal: AbortSignal;
  readonly progress: (sofar: Measurement) => void;
}

export const PATIENCE_MS = 6_000;
/** What a stream may be asked for (http/probe.ts). */
export const MOST_QUIET_SECONDS = 120;
const MOST_DEFAULT_QUIET_SECONDS = 35;
/** Engine.IO's `pingInterval`: its heartbeat on either transport. */
const PING_MS = 25_000;
/** Past a heartbeat's time, for the heartbeat to come. */
const SLACK_MS = 3_000;

export interface ProbeDeps {
  readonly network: Network;
  readonly patienceMs: number;
  readonly signal: AbortSignal;
}

export async function measure(network: Network, options: MeasureOptions): Promise<Measurement> {
  const { patienceMs, signal, progress } = options;
  const deps: ProbeDeps = { network, patienceMs, signal };
  let sofar: Measurement = NOTHING_YET;
  const note = (news: Partial<Measurement>): void => {
    sofar = { ...sofar, ...news };
    if (!signal.aborted) progress(sofar);
  };

  try {
    const greeting = await greet(deps);
    const heartbeatMs = Math.max(PING_MS, greeting.heartbeatMs) + SLACK_MS;
    const quietSeconds = options.quietSeconds ?? Math.min(MOST_DEFAULT_QUIET_SECONDS, Math.ceil(heartbeatMs / 1000));
    note({ greeting, quietMs: quietSeconds * 1000 });
    await Promise.all([
      trySocket('websocket', greeting.socketPath, quietSeconds),
      trySocket('polling', greeting.socketPath, quietSeconds),
      trySse(quietSeconds),
      tryLongPoll(quietSeconds),
    ]);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    note({ fault: { kind: error.kind, detail: error.detail } });
  }
  return sofar;

  function noteTrial(transport: TransportName, news: Partial<SseTrial>): void {
    note({ [transport]: { ...sofar[transport], ...news } });
  }

  async function trySocket(transport: 'websocket' | 'polling', socketPath: string, quietSeconds: number) {
    const probe = openSocketProbe(deps, transport, socketPath);
    try {
      const frames = await probe.ticks();
      noteTrial(transport, { frames });
      if (lasts(frames) && quietSeconds > 0) noteTrial(transport, { quiet: await probe.quiet(quietSeconds) });
    } finally {
      probe.close();
      noteTrial(transport, { isOver: true });
    }
  }

  async function trySse(quietSeconds: number): Promise<void> {
    const frames = await streamTicks(deps, { padding: 0 });
    noteTrial('sse', { frames });
    const outcome = outcomeOf(frames);
    if (outcome === 'held' || outcome === 'stops' || frames.fault?.kind === 'silent') {
      noteTrial('sse', { padded: await streamTicks(deps, { padding: 8192 }) });
    } else if (lasts(frames) && quietSeconds > 0) {
      const [quiet, silent] = await Promise.all([
        quietStream(deps, quietSeconds, { heartbeats: true }),
        quietStream(deps, quietSeconds, { heartbeats: false }),
      ]);
      noteTrial('sse', { quiet, silent });
    }
    noteTrial('sse', { isOver: true });
  }

  async function tryLongPoll(quietSeconds: number): Promise<void> {
    const frames = await pollTicks(deps);
    noteTrial('longpoll', { frames });
    if (lasts(frames) && quietSeconds > 0) noteTrial('longpoll', { quiet: await quietPoll(deps, quietSeconds) });
    noteTrial('longpoll', { isOver: true });
  }
}

function lasts(frames: NonNullable<Trial['frames']>): boolean {
  const outcome = outcomeOf(frames);
  return outcome === 'passes' || outcome === 'late';
}

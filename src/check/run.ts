/**
 * Runs one connection check, in a browser or a terminal. It tests all transports at once: first whether ticks arrive as
 * they are sent, then whether a quiet connection stays open. It never holds more than six connections, the number that
 * browsers allow to one origin over HTTP/1.1.
 */

import { nanoid } from 'nanoid';
import type { TransportName } from '../contract/names.ts';
import { askHandshake, greet, MAX_WAIT_SECONDS, pollTicks, quietPoll, quietStream, streamTicks } from './http.ts';
import type { CheckContext, Network } from './network.ts';
import {
  type CheckResult,
  EMPTY_RESULT,
  faultOf,
  type Greeting,
  type SseResult,
  type TickDelivery,
  type WebsocketResult,
} from './result.ts';
import { openCheckSocket } from './socketio.ts';
import { isLive, outcomeOf } from './verdict.ts';

export interface CheckOptions {
  /** How long quiet connections are watched, at most `MAX_QUIET_SECONDS`; null: a little longer than a heartbeat and a long poll. */
  readonly quietSeconds: number | null;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly onProgress: (result: CheckResult) => void;
}

export const DEFAULT_TIMEOUT_MS = 6_000;
/** The longest `hold` that `/check/stream` takes. */
export const MAX_QUIET_SECONDS = 120;
const MAX_DEFAULT_QUIET_SECONDS = 65;
/** How late a heartbeat may arrive. */
const SLACK_MS = 3_000;

/** A little longer than the longest quiet of any transport of this server, within reason. */
export function quietSecondsFor({ heartbeatMs, pingMs }: Pick<Greeting, 'heartbeatMs' | 'pingMs'>): number {
  const longestMs = Math.max(MAX_WAIT_SECONDS * 1000, heartbeatMs, pingMs) + SLACK_MS;
  return Math.min(MAX_DEFAULT_QUIET_SECONDS, Math.ceil(longestMs / 1000));
}

export async function runCheck(network: Network, options: CheckOptions): Promise<CheckResult> {
  const { timeoutMs, signal, onProgress } = options;
  const context: CheckContext = { network, id: nanoid(), timeoutMs, signal };
  let result: CheckResult = EMPTY_RESULT;

  function update(changed: Partial<CheckResult>): void {
    result = { ...result, ...changed };
    if (!signal.aborted) onProgress(result);
  }

  function updateTransport(transport: TransportName, changed: Partial<SseResult & WebsocketResult>): void {
    update({ [transport]: { ...result[transport], ...changed } });
  }

  try {
    const greeting = await greet(context);
    const quietSeconds = options.quietSeconds ?? quietSecondsFor(greeting);
    update({ greeting, quietMs: quietSeconds * 1000 });
    await Promise.all([
      checkSocket('websocket', greeting, quietSeconds),
      checkSocket('polling', greeting, quietSeconds),
      checkSse(quietSeconds),
      checkLongPoll(quietSeconds),
    ]);
  } catch (error) {
    update({ fault: faultOf(error) });
  }
  return result;

  async function checkSocket(transport: 'websocket' | 'polling', greeting: Greeting, quietSeconds: number) {
    const socket = openCheckSocket(context, transport, greeting.socketPath);
    try {
      const frames = await socket.ticks();
      updateTransport(transport, { frames });
      if (transport === 'websocket' && !isLive(outcomeOf(frames))) {
        updateTransport(transport, { handshake: await askHandshake(context, greeting.nodes) });
      }
      if (isWatched(frames, quietSeconds)) updateTransport(transport, { quiet: await socket.quiet(quietSeconds) });
    } finally {
      socket.close();
      updateTransport(transport, { isOver: true });
    }
  }

  async function checkSse(quietSeconds: number): Promise<void> {
    const { frames, encoding } = await streamTicks(context, { padding: 0 });
    updateTransport('sse', { frames, encoding });
    const outcome = outcomeOf(frames);
    if (outcome === 'held' || outcome === 'stops' || frames.fault?.kind === 'silent') {
      const padded = await streamTicks(context, { padding: 8192 });
      updateTransport('sse', { padded: padded.frames });
    } else if (isWatched(frames, quietSeconds)) {
      const [quiet, silent] = await Promise.all([
        quietStream(context, quietSeconds, { heartbeats: true }),
        quietStream(context, quietSeconds, { heartbeats: false }),
      ]);
      updateTransport('sse', { quiet, silent });
    }
    updateTransport('sse', { isOver: true });
  }

  async function checkLongPoll(quietSeconds: number): Promise<void> {
    const frames = await pollTicks(context);
    updateTransport('longpoll', { frames });
    if (isWatched(frames, quietSeconds)) {
      updateTransport('longpoll', { quiet: await quietPoll(context, quietSeconds) });
    }
    updateTransport('longpoll', { isOver: true });
  }
}

/** Only a transport that delivers is worth watching. */
function isWatched(frames: TickDelivery, quietSeconds: number): boolean {
  return quietSeconds > 0 && isLive(outcomeOf(frames));
}

/**
 * The HTTP side of the connection check (docs/check.md): `GET /check/stream` and `GET /check/poll` answer as `/sse` and a
 * long poll do, with the same headers, but carry a clock in place of events, so that what an intermediary does to them
 * is what it does to the real ones.
 *
 * Open to anyone, in every AUTH_MODE: nothing of any tenant or of the log is within their reach. They are counted as
 * any connection and within a smaller limit of their own (transports/check-gate.ts), and end by themselves.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { answer, type BridgeContext, type Handler, JSON_TYPE } from '../../answers/answer.ts';
import { hasExchangeEnded, onExchangeEnd } from '../../answers/exchange.ts';
import { STREAM_HEADERS } from '../../answers/headers.ts';
import { flag, integer, parseQuery } from '../../answers/query.ts';
import type { Config } from '../../config.ts';
import type { Metrics } from '../../metrics/metrics.ts';
import type { CheckGate } from '../../transports/check-gate.ts';

/** How long a client may take the rest of a stream that has ended; then its connection is cut. */
const LINGER_MS = 10_000;
const RETRY_MS = 2_000;

export const PROBE_STREAM_QUERY = {
  ticks: integer(1, 20, 5, 'How many ticks are sent.'),
  every: integer(50, 1000, 300, 'Milliseconds between them.'),
  padding: integer(0, 8192, 0, 'Bytes of leading comment, as for `/sse`.'),
  hold: integer(0, 120, 0, 'Seconds that the stream stays open after these ticks; then one more tick ends it.'),
  heartbeats: flag(true, 'Whether heartbeats are sent meanwhile. Without them the stream is silent.'),
} as const;

export const PROBE_POLL_QUERY = {
  wait: integer(0, 25, 0, 'Seconds until the answer.'),
} as const;

/** What proxies add to a request. Those that came are named, never quoted: they may tell of the operator's network. */
const PROXY_HEADERS = ['via', 'forwarded', 'x-forwarded-for', 'x-bluecoat-via'];

export interface ProbeDeps {
  readonly config: Config;
  readonly metrics: Metrics;
  readonly gate: CheckGate;
  readonly ready: () => boolean;
}

export interface Probes {
  readonly stream: Handler;
  readonly poll: Handler;
  /** Ends every stream, and answers every poll. */
  drain(): void;
}

export function createProbes({ config, metrics, gate, ready }: ProbeDeps): Probes {
  const open = new Set<AbortController>();

  /** Counts the probe in for as long as `act` takes; the signal tells it to end: the client has gone, or a drain. */
  async function hold(
    { incoming, outgoing }: BridgeContext['env'],
    transport: 'sse' | 'longpoll',
    act: (signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const release = await gate.admit(incoming);
    const ending = new AbortController();
    const forget = onExchangeEnd(incoming, outgoing, () => ending.abort());
    if (hasExchangeEnded(incoming, outgoing)) ending.abort();
    open.add(ending);
    metrics.connected(transport, 1);
    try {
      await act(ending.signal);
    } catch (error) {
      if (!ending.signal.aborted) throw error;
    } finally {
      forget();
      open.delete(ending);
      metrics.connected(transport, -1);
      release();
    }
  }

  async function stream(context: BridgeContext): Promise<Response> {
    const { incoming, outgoing } = context.env;
    const query = parseQuery(new URL(context.req.url).searchParams, PROBE_STREAM_QUERY);
    if (incoming.method === 'HEAD') {
      outgoing.writeHead(200, STREAM_HEADERS).end();
      return RESPONSE_ALREADY_SENT;
    }
    // The exchange goes on after this handler has answered Hono, as for every stream.
    await new Promise<void>((begun, refused) => {
      hold(context.env, 'sse', async (signal) => {
        outgoing.writeHead(200, STREAM_HEADERS).flushHeaders();
        begun();
        await writeTicks(outgoing, query, config.heartbeatMs, signal);
      })
        .then(() => end(incoming, outgoing))
        .catch(refused);
    });
    return RESPONSE_ALREADY_SENT;
  }

  async function poll(context: BridgeContext): Promise<Response> {
    const { incoming } = context.env;
    const { wait } = parseQuery(new URL(context.req.url).searchParams, PROBE_POLL_QUERY);
    if (wait > 0 && incoming.method !== 'HEAD') {
      await hold(context.env, 'longpoll', (signal) => sleep(wait * 1000, undefined, { signal }));
    }
    const facts = {
      roomcast: 'check',
      timeMs: Date.now(),
      ready: ready(),
      heartbeatMs: config.heartbeatMs,
      socketPath: config.socketPath,
      httpVersion: incoming.httpVersion,
      proxyHeaders: PROXY_HEADERS.filter((name) => incoming.headers[name] !== undefined),
    };
    const headers = { 'Content-Type': JSON_TYPE, 'Cache-Control': 'private, no-cache' };
    return answer(context, 200, headers, JSON.stringify(facts));
  }

  return {
    stream,
    poll,
    drain() {
      for (const ending of open) ending.abort();
    },
  };
}

interface Ticking {
  readonly ticks: number;
  readonly every: number;
  readonly padding: number;
  readonly hold: number;
  readonly heartbeats: boolean;
}

/** @throws when the signal aborts */
async function writeTicks(response: ServerResponse, query: Ticking, heartbeatMs: number, signal: AbortSignal) {
  const begunMs = performance.now();
  const tick = (n: number): string => block('check.tick', { n, atMs: Math.round(performance.now() - begunMs) });
  const padding = query.padding === 0 ? '' : `:${' '.repeat(query.padding)}\n`;
  response.write(`${padding}retry: ${RETRY_MS}\n${tick(0)}`);
  for (let n = 1; n < query.ticks; n++) {
    await sleep(query.every, undefined, { signal });
    response.write(tick(n));
  }
  if (query.hold === 0) return;
  const beating = setInterval(() => {
    // A client that still has bytes waiting needs no sign of life.
    if (query.heartbeats && response.writableLength === 0) response.write(block('check.heartbeat', {}));
  }, heartbeatMs);
  try {
    await sleep(query.hold * 1000, undefined, { signal });
  } finally {
    clearInterval(beating);
  }
  response.write(tick(query.ticks));
}

function block(event: string, data: object): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}

function end(request: IncomingMessage, response: ServerResponse): void {
  response.end();
  // One that waits behind another response cannot be taken yet.
  if (hasExchangeEnded(request, response) || response.socket === null) return;
  const linger = setTimeout(() => request.socket.destroy(), LINGER_MS);
  onExchangeEnd(request, response, () => clearTimeout(linger));
}

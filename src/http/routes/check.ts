/**
 * The HTTP side of the connection check (docs/check.md). `GET /check/stream` and `GET /check/poll` answer like `/sse` and a
 * long poll, with the same headers, but send clock ticks instead of events: an intermediary treats both alike.
 *
 * They need no token in any AUTH_MODE, because they reach no tenant and not the log. They count as connections, have a
 * smaller limit of their own (transports/check-gate.ts), and end by themselves.
 */
import type { ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { nanoid } from 'nanoid';
import { answer, type BridgeContext, type Handler, JSON_TYPE, queryOf } from '../../answers/answer.ts';
import { endExchange, hasExchangeEnded, onExchangeEnd } from '../../answers/exchange.ts';
import { STREAM_HEADERS } from '../../answers/headers.ts';
import { flag, integer, parseQuery, text } from '../../answers/query.ts';
import type { Config } from '../../config.ts';
import type { Metrics } from '../../metrics/metrics.ts';
import type { CheckArrivals } from '../../transports/check-arrivals.ts';
import type { CheckGate } from '../../transports/check-gate.ts';

/** How long a client may take to read the rest of an ended stream. After that, its connection is cut. */
const LINGER_MS = 10_000;
const RETRY_MS = 2_000;

export const CHECK_STREAM_QUERY = {
  ticks: integer(1, 20, 5, 'Number of ticks to send.'),
  every: integer(50, 1000, 300, 'Milliseconds between two ticks.'),
  padding: integer(0, 8192, 0, 'Bytes of leading comment, as in `/sse`.'),
  hold: integer(0, 120, 0, 'Seconds to keep the stream open after these ticks. One more tick then ends it.'),
  heartbeats: flag(true, 'Whether to send heartbeats during `hold`. Without them, the stream is silent.'),
} as const;

export const CHECK_POLL_QUERY = {
  wait: integer(0, 25, 0, 'Seconds to wait before the response.'),
  id: text('The `check` of a websocket handshake: the response then says how that handshake arrived at this node.'),
} as const;

/** Headers that proxies add. The answer names those it got and never quotes them: their values describe internal networks. */
const PROXY_HEADERS = [
  ...['via', 'forwarded', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-server', 'x-real-ip'],
  ...['x-bluecoat-via', 'cf-ray'],
];

export interface CheckDeps {
  readonly config: Config;
  readonly metrics: Metrics;
  readonly gate: CheckGate;
  readonly arrivals: Pick<CheckArrivals, 'find'>;
  readonly ready: () => boolean;
}

export interface CheckRoutes {
  readonly stream: Handler;
  readonly poll: Handler;
  /** Ends all streams and answers all polls. */
  drain(): void;
}

export function createCheckRoutes({ config, metrics, gate, arrivals, ready }: CheckDeps): CheckRoutes {
  /** Tells the nodes behind one address apart, and nothing else. */
  const node = nanoid(8);
  const open = new Set<AbortController>();

  /** Counts the exchange as a connection while `act` runs. The signal aborts when the client disconnects or on a drain. */
  async function runCounted(
    { incoming, outgoing }: BridgeContext['env'],
    transport: 'sse' | 'longpoll',
    act: (signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const release = await gate.admit(incoming);
    const ending = new AbortController();
    const unwatch = onExchangeEnd(outgoing, () => ending.abort());
    if (hasExchangeEnded(incoming, outgoing)) ending.abort();
    open.add(ending);
    metrics.connected(transport, 1);
    try {
      await act(ending.signal);
    } catch (error) {
      if (!ending.signal.aborted) throw error;
    } finally {
      unwatch();
      open.delete(ending);
      metrics.connected(transport, -1);
      release();
    }
  }

  async function stream(context: BridgeContext): Promise<Response> {
    const { incoming, outgoing } = context.env;
    const query = parseQuery(queryOf(context), CHECK_STREAM_QUERY);
    if (incoming.method === 'HEAD') {
      outgoing.writeHead(200, STREAM_HEADERS).end();
      return RESPONSE_ALREADY_SENT;
    }
    // As for every stream, the handler returns to Hono once the head is out, and the exchange goes on.
    await new Promise<void>((resolve, reject) => {
      runCounted(context.env, 'sse', async (signal) => {
        outgoing.writeHead(200, STREAM_HEADERS).flushHeaders();
        resolve();
        await writeTicks(outgoing, query, config.heartbeatMs, signal);
      })
        .then(() => endExchange(incoming, outgoing, LINGER_MS))
        .catch(reject);
    });
    return RESPONSE_ALREADY_SENT;
  }

  async function poll(context: BridgeContext): Promise<Response> {
    const { incoming } = context.env;
    const { wait, id } = parseQuery(queryOf(context), CHECK_POLL_QUERY);
    if (wait > 0 && incoming.method !== 'HEAD') {
      await runCounted(context.env, 'longpoll', (signal) => sleep(wait * 1000, undefined, { signal }));
    }
    const body = {
      roomcast: 'check',
      timeMs: Date.now(),
      ready: ready(),
      heartbeatMs: config.heartbeatMs,
      pingMs: config.pingMs,
      socketPath: config.socketPath,
      httpVersion: incoming.httpVersion,
      proxyHeaders: PROXY_HEADERS.filter((name) => incoming.headers[name] !== undefined),
      node,
      ...(id === null ? {} : { websocket: arrivals.find(id) }),
    };
    const headers = { 'Content-Type': JSON_TYPE, 'Cache-Control': 'private, no-cache' };
    return answer(context, 200, headers, JSON.stringify(body));
  }

  return {
    stream,
    poll,
    drain() {
      for (const ending of open) ending.abort();
    },
  };
}

type TickQuery = ReturnType<typeof parseQuery<typeof CHECK_STREAM_QUERY>>;

/** @throws an `AbortError` if the signal aborts */
async function writeTicks(response: ServerResponse, query: TickQuery, heartbeatMs: number, signal: AbortSignal) {
  const startedMs = performance.now();
  const tick = (n: number): string => block('check.tick', { n, atMs: Math.round(performance.now() - startedMs) });
  const padding = query.padding === 0 ? '' : `:${' '.repeat(query.padding)}\n`;
  response.write(`${padding}retry: ${RETRY_MS}\n${tick(0)}`);
  for (let n = 1; n < query.ticks; n++) {
    await sleep(query.every, undefined, { signal });
    response.write(tick(n));
  }
  if (query.hold === 0) return;
  const heartbeats = setInterval(() => {
    // If bytes are still waiting for the client, they keep the connection alive.
    if (query.heartbeats && response.writableLength === 0) response.write(block('check.heartbeat', {}));
  }, heartbeatMs);
  try {
    await sleep(query.hold * 1000, undefined, { signal });
  } finally {
    clearInterval(heartbeats);
  }
  response.write(tick(query.ticks));
}

function block(event: string, data: object): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}

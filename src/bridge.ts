/**
 * The one place that wires: a store, the bus, three transports and the HTTP routes become a bridge.
 *
 * `createBridge` serves `serve.ts` and other Node programs alike: publish in-process, listen for HTTP when wanted, close
 * when done. Closing drains: nothing new is let in, streams end with a time to come back, what was accepted is written.
 */
import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { getRequestListener } from '@hono/node-server';
import type { BridgeContext } from './answers/answer.ts';
import { setSharedHeaders } from './answers/headers.ts';
import { endWithProblem, problemAnswer, refusalOf } from './answers/problem.ts';
import { createAuth, credentialsOfHandshake, credentialsOfRequest } from './auth/auth.ts';
import { clientAddress, createConnectionLimits } from './auth/limits.ts';
import { createOrigins, pageFacts } from './auth/origins.ts';
import { keyingOf } from './auth/principal.ts';
import { createBus, type Published, type PublishOptions } from './bus/bus.ts';
import { createTurns } from './bus/turns.ts';
import { type Config, configure } from './config.ts';
import { BridgeError } from './contract/errors.ts';
import { createEventCatalog } from './contract/events.ts';
import { MAX_ID_CHARACTERS } from './contract/rooms.ts';
import { createApp } from './http/app.ts';
import { createCheckRoutes } from './http/routes/check.ts';
import { createStats } from './http/routes/stats.ts';
import { createLogger } from './logger.ts';
import { createPrometheus } from './metrics/prometheus.ts';
import { openStore } from './store/open.ts';
import type { Gate } from './transports/gate.ts';
import { createPolling } from './transports/longpoll.ts';
import { createProbeDoor } from './transports/socketio/check.ts';
import { createSocketIo } from './transports/socketio/endpoint.ts';
import { createSse } from './transports/sse/endpoint.ts';
import { isHandedOver } from './transports/sse/wire.ts';

export type { Published } from './bus/bus.ts';
export type { Config } from './config.ts';
export { BridgeError } from './contract/errors.ts';

export interface Listening {
  readonly host: string;
  readonly port: number;
  readonly url: string;
}

export interface Bridge {
  readonly config: Config;
  /**
   * Appends one event; resolves once it is durable and on its way to the listeners.
   * @throws {BridgeError} `unknown_event`, `invalid_payload`, `idempotency_conflict`, `unavailable`, `outcome_unknown`
   */
  publish(event: string, payload: object, options?: Pick<PublishOptions, 'idempotencyKey'>): Promise<Published>;
  /** Serves HTTP and Socket.IO on the configured host and port. */
  listen(): Promise<Listening>;
  /** Drains, within `drainMs`, and lets go of everything, for which a log that hangs may take some seconds more. */
  close(): Promise<void>;
}

/** Longest that a client may take to send a request's head and body. */
const HEADERS_TIMEOUT_MS = 15_000;
const REQUEST_TIMEOUT_MS = 60_000;
/** How late either may be noticed. */
const TIMEOUT_CHECK_MS = 2_000;
/** Bytes of a request's head beside the rooms that it names, and of a room (`,` is `%2C`). Past both: 431. */
const HEAD_BYTES = 16 * 1024;
const ROOM_BYTES = MAX_ID_CHARACTERS + 3;
/** Streams, sockets and long polls that are let in in one turn of the event loop. */
const OPENINGS_PER_TURN = 8;
/** Longer than the idle time after which reverse proxies let go of an upstream connection (60 s). */
const KEEP_ALIVE_MS = 75_000;
/** While draining, connections that have become idle are closed so often. */
const DRAIN_POLL_MS = 25;

/**
 * Opens the log and wires the bridge. What is left out of `options` has its default (protocol §13).
 * @throws {Error} of one line when a setting is wrong or the log cannot be opened
 */
export async function createBridge(options: Partial<Config> = {}): Promise<Bridge> {
  const config = configure(options);
  const logger = createLogger(config.logLevel);
  const store = await openStore(config.storeUrl, keyingOf(config.authMode), logger);
  const catalog = createEventCatalog(config.extraEvents);
  const prometheus = createPrometheus({
    roomLabel: config.metricsRoomLabel,
    maxRooms: config.metricsMaxRooms,
    sampleStore: () => store.stats(),
  });
  const { metrics } = prometheus;
  const hoursToMs = 3_600_000;
  const bus = createBus({
    store,
    catalog,
    keying: keyingOf(config.authMode),
    legacyEvents: config.legacyEvents,
    maxBufferBytes: config.maxBufferBytes,
    retention: {
      retentionMs: config.retentionHours * hoursToMs,
      maxRecords: config.retentionEvents,
      stateMs: config.stateDays * 24 * hoursToMs,
      dedupeMs: config.dedupeHours * hoursToMs,
    },
    metrics,
    logger,
  });

  const auth = createAuth(config, (name) => store.secret(name));
  const origins = createOrigins(config);
  const limits = createConnectionLimits(config);
  const openings = createTurns(OPENINGS_PER_TURN);
  let draining = false;
  const gate: Gate = {
    get draining() {
      return draining;
    },
    async admit(request) {
      const turn = openings.take();
      if (turn !== null) await turn;
      // A log that refuses writes (a full disk) may still be read, and then listeners are welcome.
      if (!draining && !store.healthy()) await store.bounds();
      if (draining) throw new BridgeError('unavailable', 'The server is shutting down.');
      return limits.acquire(clientAddress(request, config.trustProxy));
    },
  };
  const principalOf = (takesPass: boolean) => (context: BridgeContext) =>
    auth.principalOf(
      credentialsOfRequest(
        context.env.incoming.headers,
        new URL(context.req.url).searchParams,
        config.authCookie,
        takesPass,
      ),
    );
  const common = { bus, store, config, metrics, logger, gate };
  const sse = createSse({ ...common, principalOf: principalOf(true) });
  const polling = createPolling({ ...common, principalOf: principalOf(true) });
  const probeDoor = createProbeDoor(config, gate);
  const ready = () => !draining && store.healthy();
  const checkRoutes = createCheckRoutes({ config, metrics, gate: probeDoor, ready });
  const socketio = createSocketIo({
    ...common,
    probeDoor,
    principalOf: (handshake) =>
      auth.principalOf(credentialsOfHandshake(handshake.auth, handshake.headers, handshake.query, config.authCookie)),
    originAllowed: (request) => origins.allows(pageFacts(request.headers)),
  });
  const stats = createStats({
    ...common,
    prometheus,
    draining: () => draining,
    authenticate: principalOf(false),
  });
  const app = createApp({
    config,
    bus,
    store,
    catalog,
    logger,
    prometheus,
    stats: stats.handle,
    authenticate: principalOf(false),
    mintPass: auth.mintPass,
    ready,
    transports: { sse: sse.handle, events: polling.handle },
    check: checkRoutes,
  });

  // Node's own limit is below what MAX_ROOMS rooms take in a query.
  const maxHeadBytes = HEAD_BYTES + config.maxRooms * ROOM_BYTES;
  const server = createServer({
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    maxHeaderSize: maxHeadBytes,
    connectionsCheckingInterval: TIMEOUT_CHECK_MS,
    // An offer of another protocol (`h2c`, as Java's client makes with every request) is ignored: RFC 9110 §7.8.
    shouldUpgradeCallback: ({ headers }) => headers.upgrade?.toLowerCase() === 'websocket',
  });
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  /** Every TCP connection, and how many requests are under way on it. */
  const sockets = new Map<Duplex, number>();
  const busy = (socket: Duplex, change: 1 | -1): void => {
    const count = sockets.get(socket);
    if (count !== undefined) sockets.set(socket, count + change);
  };
  const refused = (error: BridgeError): BridgeError => refusalOf(error, { metrics, logger }, {});
  const handleHttp = getRequestListener(app.fetch, {
    overrideGlobalObjects: false,
    hostname: 'localhost',
    // The app answers all that reaches it. What does not has no URL.
    errorHandler() {
      const { status, headers, body } = problemAnswer(
        refused(malformed('The target of the request, or its Host, is not valid.')),
      );
      return new Response(body, { status, headers });
    },
  });
  server.on('connection', (socket) => {
    sockets.set(socket, 0);
    socket.on('close', () => sockets.delete(socket));
  });
  server.on('request', (request, response) => {
    const { socket } = request;
    busy(socket, 1);
    response.on('close', () => busy(socket, -1));
    setSharedHeaders(request, response, config.corsOrigins);
    if (draining) response.setHeader('connection', 'close');
    if (socketio.owns(request)) socketio.handleRequest(request, response);
    else void handleHttp(request, response);
  });
  server.on('upgrade', (request, socket, head) => {
    if (isHandedOver(request)) return;
    busy(socket, 1);
    if (socketio.owns(request)) socketio.handleUpgrade(request, socket, head);
    else endWithProblem(socket, refused(new BridgeError('not_found', 'There is no websocket at this path.')));
  });
  // As Node would do it by itself, but as a problem, and counted (protocol §10).
  server.on(
    'clientError',
    (error: NodeJS.ErrnoException, socket: Duplex & { readonly _httpMessage?: ServerResponse }) => {
      if (socket.writable && !socket._httpMessage?.headersSent)
        endWithProblem(socket, refused(faultOf(error, maxHeadBytes)));
      else socket.destroy();
    },
  );

  let opening: Promise<unknown> | null = null;
  let closing: Promise<void> | null = null;
  async function close(): Promise<void> {
    draining = true;
    const deadline = Date.now() + config.drainMs;
    await Promise.allSettled([opening]);
    const stopped = server.listening ? stop(server) : Promise.resolve();
    socketio.drain();
    sse.drain();
    polling.drain();
    checkRoutes.drain();
    // Node's closeIdleConnections spares connections that never sent a request, as browsers open them ahead of need.
    const idle = setInterval(() => {
      for (const [socket, requests] of sockets) if (requests === 0) socket.destroy();
    }, DRAIN_POLL_MS);
    const force = setTimeout(
      () => {
        for (const socket of sockets.keys()) socket.destroy();
      },
      Math.max(0, deadline - Date.now() - config.drainMs / 5),
    );
    await stopped;
    clearInterval(idle);
    clearTimeout(force);
    await stats.close();
    await socketio.close();
    await bus.close();
    await store.close();
  }

  return {
    config,
    async publish(event, payload, publishOptions = {}) {
      const [published] = await bus.publish([{ event, payload: asJson(payload) }], publishOptions);
      return published as Published;
    },
    async listen() {
      if (closing !== null) throw new BridgeError('unavailable', 'The bridge is closed.');
      server.listen(config.port, config.host);
      opening = once(server, 'listening');
      await opening;
      const { port } = server.address() as AddressInfo;
      const host = config.host.includes(':') ? `[${config.host}]` : config.host;
      return { host: config.host, port, url: `http://${host}:${port}${config.basePath}` };
    },
    close() {
      closing ??= close();
      return closing;
    },
  };
}

/**
 * What listeners will get, so that this is what is checked: an entity of an ORM is its fields, a Date its instant. What
 * has no JSON is left to the check, which says so.
 */
function asJson(payload: object): unknown {
  try {
    return JSON.parse(JSON.stringify(payload));
  } catch {
    return payload;
  }
}

/** What is wrong with bytes that Node's parser could not make a request of, or that did not come in time. */
function faultOf({ code }: NodeJS.ErrnoException, maxHeadBytes: number): BridgeError {
  if (code === 'HPE_HEADER_OVERFLOW') {
    return new BridgeError(
      'headers_too_large',
      `The request line and the headers may have ${maxHeadBytes} bytes together.`,
    );
  }
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT')
    return new BridgeError('request_timeout', 'The request did not arrive in time.');
  return malformed('It is not HTTP.');
}

const malformed = (message: string): BridgeError => new BridgeError('invalid_request', message);

function stop(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()));
}

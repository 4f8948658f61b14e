/**
 * The HTTP server: limits on what a client may send, the choice between Socket.IO and the app, and a drain that ends by
 * a deadline.
 *
 * It counts the requests under way on each TCP connection, because Node's own `closeIdleConnections` leaves out the
 * connections that never sent a request. Browsers open such connections ahead of need, and a drain would wait for them.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { getRequestListener } from '@hono/node-server';
import { nanoid } from 'nanoid';
import { onExchangeEnd } from '../answers/exchange.ts';
import { requestIdFor, requestIdOf, setRequestId, setSharedHeaders } from '../answers/headers.ts';
import { endWithProblem, type ProblemDeps, problemAnswer, refusalOf } from '../answers/problem.ts';
import type { Config } from '../config.ts';
import { BridgeError } from '../contract/errors.ts';
import { MAX_ID_CHARACTERS } from '../contract/rooms.ts';
import type { Gate } from '../transports/gate.ts';
import type { SocketIoTransport } from '../transports/socketio/endpoint.ts';
import { takeSocket } from '../transports/sse/response-writer.ts';
import type { BridgeApp } from './app.ts';

/** A client that takes longer to send the head, or the whole request, gets a 408. */
const HEADERS_TIMEOUT_MS = 15_000;
const REQUEST_TIMEOUT_MS = 60_000;
/** How often Node checks both. */
const TIMEOUT_CHECK_MS = 2_000;
/** Bytes of a request's head without its rooms, and bytes of one room in it (`,` is `%2C`). A larger head gets a 431. */
const HEAD_BYTES = 16 * 1024;
const ROOM_BYTES = MAX_ID_CHARACTERS + 3;
/** Longer than reverse proxies keep an idle connection to an upstream (60 s), so that the proxy closes it first. */
const KEEP_ALIVE_MS = 75_000;
/** How often a drain closes the connections that have become idle. */
const DRAIN_POLL_MS = 25;

export interface HttpServerOptions extends ProblemDeps {
  readonly config: Pick<Config, 'host' | 'port' | 'maxRooms' | 'corsOrigins'>;
  readonly gate: Gate;
  readonly socketio: Pick<SocketIoTransport, 'owns' | 'handleRequest' | 'handleUpgrade'>;
  readonly app: Pick<BridgeApp, 'fetch'>;
}

export interface HttpServer {
  /** Listens on HOST and PORT. Resolves to the port. @throws {Error} Node's own, with a `code` such as `EADDRINUSE` */
  listen(): Promise<number>;
  /**
   * Accepts nothing more, closes each connection once it is idle, and destroys those that are left after `cutAfterMs`.
   * Resolves when no connection is left.
   */
  drain(cutAfterMs: number): Promise<void>;
}

export function createHttpServer({ config, gate, socketio, app, metrics, logger }: HttpServerOptions): HttpServer {
  // Node's default of 16 KB is less than a query with MAX_ROOMS rooms takes.
  const maxHeadBytes = HEAD_BYTES + config.maxRooms * ROOM_BYTES;
  const server = createServer({
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    maxHeaderSize: maxHeadBytes,
    connectionsCheckingInterval: TIMEOUT_CHECK_MS,
    // RFC 9110 §7.8: a server may ignore an Upgrade. Java's HTTP client offers `h2c` with every request.
    shouldUpgradeCallback: ({ headers }) => headers.upgrade?.toLowerCase() === 'websocket',
  });
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  /** Every TCP connection, with the number of requests under way on it. */
  const connections = new Map<Duplex, number>();
  let opening: Promise<unknown> | null = null;

  function countRequest(socket: Duplex, change: 1 | -1): void {
    const count = connections.get(socket);
    if (count !== undefined) connections.set(socket, count + change);
  }

  const logsRequests = logger.isLevelEnabled('debug');
  /** Without the query, which may hold a token. */
  function logEnd(request: IncomingMessage, response: ServerResponse): void {
    const { method, url } = request;
    const requestId = requestIdOf(response);
    const path = url?.split('?')[0];
    onExchangeEnd(request, response, () => {
      logger.debug({ requestId, method, path, status: response.statusCode }, 'a request ended');
    });
  }

  const refused = (error: BridgeError): BridgeError => refusalOf(error, { metrics, logger }, {});

  const handleHttp = getRequestListener(app.fetch, {
    overrideGlobalObjects: false,
    hostname: 'localhost',
    // The app answers its own errors. Only a request without a valid URL gets here.
    errorHandler(error) {
      throw error;
    },
  });

  function answerInvalidTarget(response: ServerResponse): void {
    const error = invalidRequest('The request target or the Host header is not valid.');
    const { status, headers, body } = problemAnswer(refused(error), requestIdOf(response));
    response.writeHead(status, headers).end(body);
  }

  server.on('connection', (socket) => {
    connections.set(socket, 0);
    socket.on('close', () => connections.delete(socket));
  });
  server.on('request', (request, response) => {
    const { socket } = request;
    countRequest(socket, 1);
    response.on('close', () => countRequest(socket, -1));
    setRequestId(request, response);
    setSharedHeaders(request, response, config.corsOrigins);
    if (logsRequests) logEnd(request, response);
    if (gate.draining) response.setHeader('connection', 'close');
    if (socketio.owns(request)) socketio.handleRequest(request, response);
    else handleHttp(request, response).catch(() => answerInvalidTarget(response));
  });
  server.on('upgrade', (request, socket, head) => {
    if (takeSocket(request)) return;
    countRequest(socket, 1);
    if (socketio.owns(request)) socketio.handleUpgrade(request, socket, head);
    else
      endWithProblem(
        socket,
        refused(new BridgeError('not_found', 'This path accepts no WebSocket connections.')),
        requestIdFor(request),
      );
  });
  // Node's default does the same, but without a problem document and a metric (protocol §10).
  server.on(
    'clientError',
    (error: NodeJS.ErrnoException, socket: Duplex & { readonly _httpMessage?: ServerResponse }) => {
      if (socket.writable && !socket._httpMessage?.headersSent)
        endWithProblem(socket, refused(clientFault(error, maxHeadBytes)), nanoid());
      else socket.destroy();
    },
  );

  return {
    async listen() {
      server.listen(config.port, config.host);
      opening = once(server, 'listening');
      await opening;
      return (server.address() as AddressInfo).port;
    },
    async drain(cutAfterMs) {
      const closeIdle = setInterval(() => {
        for (const [socket, requests] of connections) if (requests === 0) socket.destroy();
      }, DRAIN_POLL_MS);
      const cutRest = setTimeout(() => {
        for (const socket of connections.keys()) socket.destroy();
      }, cutAfterMs);
      await Promise.allSettled([opening]);
      if (server.listening) await new Promise<void>((resolve) => server.close(() => resolve()));
      clearInterval(closeIdle);
      clearTimeout(cutRest);
    },
  };
}

/** Why Node's parser gave up on a request. */
function clientFault({ code }: NodeJS.ErrnoException, maxHeadBytes: number): BridgeError {
  if (code === 'HPE_HEADER_OVERFLOW') {
    return new BridgeError('headers_too_large', `The request line and headers exceed ${maxHeadBytes} bytes.`);
  }
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    return new BridgeError('request_timeout', 'The request did not arrive in time.');
  }
  return invalidRequest('The request is not valid HTTP.');
}

const invalidRequest = (message: string): BridgeError => new BridgeError('invalid_request', message);

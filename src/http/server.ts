/**
 * The HTTP server: limits on what a client may send and on what may wait for it, the choice between Socket.IO and the app,
 * and a drain that ends by a deadline.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { nanoid } from 'nanoid';
import { discardBody } from '../answers/body.ts';
import { onExchangeEnd } from '../answers/exchange.ts';
import { BridgeResponse, requestIdFor, requestIdOf } from '../answers/headers.ts';
import { endWithProblem, type ProblemDeps, problemAnswer, refusalOf } from '../answers/problem.ts';
import { type Requester, requestLine } from '../answers/refusals.ts';
import type { HostRule } from '../auth/hosts.ts';
import type { Origins } from '../auth/origins.ts';
import type { Config } from '../config.ts';
import { BridgeError } from '../contract/errors.ts';
import { MAX_ID_CHARACTERS } from '../contract/rooms.ts';
import { createSparseWarning } from '../logger.ts';
import type { Gate } from '../transports/gate.ts';
import type { Readers } from '../transports/readers.ts';
import type { SocketIoTransport } from '../transports/socketio/endpoint.ts';
import { takeSocket } from '../transports/sse/response-writer.ts';
import type { BridgeApp } from './app.ts';
import { createConnections } from './connections.ts';
import { rawPathOf, requestOf, unifyTarget } from './target.ts';

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
  readonly config: Pick<Config, 'host' | 'port' | 'maxRooms' | 'basePath'>;
  /** Null: every `Host` is allowed. */
  readonly hostRule: HostRule | null;
  /** Null: no page of another origin may read the answers. */
  readonly origins: Pick<Origins, 'listsAny' | 'isListed'> | null;
  readonly gate: Pick<Gate, 'draining' | 'admitAnswer'>;
  readonly readers: Readers;
  /** Null: there is none. */
  readonly socketio: Pick<SocketIoTransport, 'owns' | 'handleRequest' | 'handleUpgrade'> | null;
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

export function createHttpServer(options: HttpServerOptions): HttpServer {
  const { config, hostRule, origins, gate, readers, socketio, app, refusals, logger } = options;
  // Node's default of 16 KB is less than a query with MAX_ROOMS rooms takes.
  const maxHeadBytes = HEAD_BYTES + config.maxRooms * ROOM_BYTES;
  const server = createServer<typeof IncomingMessage, typeof BridgeResponse>({
    ServerResponse: BridgeResponse,
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    maxHeaderSize: maxHeadBytes,
    connectionsCheckingInterval: TIMEOUT_CHECK_MS,
    // RFC 9110 §7.8: a server may ignore an Upgrade. Java's HTTP client offers `h2c` with every request.
    shouldUpgradeCallback: ({ headers }) => headers.upgrade?.toLowerCase() === 'websocket',
  });
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  const connections = createConnections(serve);
  const probes = [`${config.basePath}/healthz`, `${config.basePath}/readyz`];
  let opening: Promise<unknown> | null = null;

  const refused = (error: unknown, request: IncomingMessage): BridgeError =>
    refusedAs(requestLine(request), error, request);
  const refusedAs = (what: string, error: unknown, requester: Requester): BridgeError =>
    refusalOf(error, { refusals, logger }, { transport: 'http', what }, requester);
  const warnOfHost = createSparseWarning(logger);

  /** Why the request is for no address of this bridge; null if it is. Afterwards its target has one form. */
  function misdirection(request: IncomingMessage): BridgeError | null {
    try {
      unifyTarget(request);
    } catch (error) {
      return refused(error, request);
    }
    const refusal = hostRule?.(request.headers.host) ?? null;
    // Orchestrators and load balancers probe by names of their own.
    if (refusal === null || probes.includes(rawPathOf(request))) return null;
    warnOfHost(refusal.message);
    return refused(refusal, request);
  }

  const logsRequests = logger.isLevelEnabled('debug');
  /** Without the query, which may hold a token. */
  function logEnd(request: IncomingMessage, response: ServerResponse): void {
    const { method } = request;
    const requestId = requestIdOf(response);
    const path = rawPathOf(request);
    onExchangeEnd(response, () => {
      logger.debug({ requestId, method, path, status: response.statusCode }, 'a request ended');
    });
  }

  server.on('connection', (socket) => connections.add(socket));
  server.on('request', (request, response) => {
    if (connections.serveInTurn(response)) return;
    refused(invalidRequest('Too many pipelined requests.'), request);
    const { remoteAddress: address } = request.socket;
    logger.info({ address }, 'a connection with too many pipelined requests was cut');
  });

  function serve(response: BridgeResponse): void {
    const request = response.req;
    response.share(origins);
    if (logsRequests) logEnd(request, response);
    if (gate.draining) response.setHeader('connection', 'close');
    response.on('prefinish', onWritten);
    const misdirected = misdirection(request);
    if (misdirected !== null) endResponse(response, misdirected);
    else if (socketio?.owns(request)) socketio.handleRequest(request, response);
    else handleHttp(request, response);
  }

  function handleHttp(request: IncomingMessage, response: ServerResponse): void {
    const fail = (error: unknown): void => endResponse(response, refused(error, request));
    response.on('close', onAnswered);
    try {
      const answered = app.fetch(requestOf(request), { incoming: request, outgoing: response });
      if (answered instanceof Promise) answered.catch(fail);
    } catch (error) {
      fail(error);
    }
  }

  /** The answer is written, whole. */
  function onWritten(this: BridgeResponse): void {
    if (this.req.socket.writableLength > 0) awaitReader(this.req, this);
  }

  function endResponse(response: ServerResponse, error: BridgeError): void {
    const { status, headers, body } = problemAnswer(error, requestIdOf(response));
    response.writeHead(status, { ...headers, 'Content-Length': Buffer.byteLength(body) }).end(body);
  }

  function awaitReader(request: IncomingMessage, response: ServerResponse): void {
    // A connection of Socket.IO counts already, and a probe never does (protocol §16).
    if (socketio?.owns(request) || probes.includes(rawPathOf(request))) {
      readers.watch(request, response);
      return;
    }
    try {
      gate.admitAnswer(request, response);
    } catch (error) {
      refused(error, request);
      logger.info(
        { path: rawPathOf(request) },
        'an answer was cut: it would wait, and no further connection is allowed',
      );
      request.socket.destroy();
    }
  }

  server.on('upgrade', (request, socket, head) => {
    if (takeSocket(request)) return;
    // Node no longer listens for errors here.
    socket.on('error', () => socket.destroy());
    // A protocol cannot follow a response that is still to be sent.
    if (!connections.takeTurn(socket as Socket)) return void socket.destroy();
    const refuse = (error: BridgeError) => endWithProblem(socket, error, requestIdFor(request));
    const misdirected = misdirection(request);
    if (misdirected !== null) refuse(misdirected);
    else if (socketio?.owns(request)) socketio.handleUpgrade(request, socket, head);
    else refuse(refused(new BridgeError('not_found', 'This path accepts no WebSocket connections.'), request));
  });
  // Node's default does the same, but without a problem document and a metric (protocol §10).
  server.on(
    'clientError',
    (error: NodeJS.ErrnoException, socket: Duplex & { readonly _httpMessage?: ServerResponse }) => {
      if (socket.writable && !socket._httpMessage?.headersSent) {
        const requester = { headers: {}, socket: socket as Socket };
        const fault = refusedAs('an unreadable request', clientFault(error, maxHeadBytes), requester);
        endWithProblem(socket, fault, nanoid());
      } else socket.destroy();
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
      const closeIdle = setInterval(() => connections.destroyIdle(), DRAIN_POLL_MS);
      const cutRest = setTimeout(() => connections.destroyAll(), cutAfterMs);
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

/** A client whose body was refused may still be sending it. */
function onAnswered(this: ServerResponse): void {
  discardBody(this.req);
}

const invalidRequest = (message: string): BridgeError => new BridgeError('invalid_request', message);

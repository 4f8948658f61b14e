/**
 * The Socket.IO endpoint (protocol §5): handshakes are admitted and authenticated here, and each client becomes a
 * `Connection`. recovery.ts continues the session of a client that comes back.
 */
import { type IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { Server as EngineServer, type Socket as EngineSocket } from 'engine.io';
import { Server, type Socket } from 'socket.io';
import { hasExchangeEnded, onExchangeEnd } from '../../answers/exchange.ts';
import { requestIdFor, requestIdOf } from '../../answers/headers.ts';
import { endWithProblem, problemAnswer, refusalOf } from '../../answers/problem.ts';
import type { Refusals, Requester } from '../../answers/refusals.ts';
import { requireHearing } from '../../answers/rooms.ts';
import { createConnectionLimits } from '../../auth/limits.ts';
import type { Origins } from '../../auth/origins.ts';
import type { Principal } from '../../auth/principal.ts';
import type { Revoked } from '../../auth/revocations.ts';
import { createPacer } from '../../bus/pacer.ts';
import { signalsPerTurn } from '../../bus/signals.ts';
import { BridgeError } from '../../contract/errors.ts';
import { aliasesOf, NO_ALIASES } from '../../contract/events.ts';
import { createView } from '../../contract/frames.ts';
import type { TransportName } from '../../contract/names.ts';
import { allKinds } from '../../contract/rooms.ts';
import { createSignalCatalog, SIGNAL } from '../../contract/signals.ts';
import type { CheckArrivals } from '../check-arrivals.ts';
import type { CheckGate } from '../check-gate.ts';
import type { Gate } from '../gate.ts';
import { createSignalCounter } from '../signals.ts';
import { type Admission, Channel, type ChannelDeps, maxSilent } from './channel.ts';
import { CHECK_NAMESPACE, openCheckNamespace } from './check.ts';
import { Connection, type ConnectionDeps, type ConnectionOptions, requestsFor } from './connection.ts';
import { createEncoder, type Encoder } from './encoder.ts';
import { createHeartbeats, heartbeatTimes } from './heartbeats.ts';
import {
  EngineRequest,
  forgetHandshake,
  handleUpgrade,
  idOf,
  isHandshakeForgotten,
  QuietAdapter,
  takeOverWebsockets,
} from './internals.ts';
import { end } from './outbox.ts';
import { createRecovery, type RecoveryDeps } from './recovery.ts';
import { createRefusalLog } from './refusals.ts';
import { sealSessions } from './sealed-sessions.ts';

/** Clients send only joins and acknowledgements. The limit also bounds `auth`. */
const MAX_MESSAGE_BYTES = 100_000;
/** The Engine.IO revision that the bridge speaks (query `EIO`). */
const REVISION = '4';
/** What a signal costs, about. */
const SIGNAL_MS = 0.1;
const TICK_MS = 1_000;

export interface SocketIoDeps
  extends RecoveryDeps,
    Omit<ConnectionDeps, 'recovery' | 'requests' | 'signals' | 'countSignals' | 'refusals'> {
  readonly gate: Gate;
  readonly checkGate: CheckGate;
  readonly refusals: Refusals;
  readonly checkArrivals: Pick<CheckArrivals, 'note'>;
  readonly revoked: Revoked;
  /** @throws {BridgeError} */
  readonly principalOf: (handshake: Socket['handshake']) => Principal | Promise<Principal>;
  /** Why the page behind the request may not connect; null if it may. */
  readonly originRefusal: (request: IncomingMessage) => string | null;
  readonly origins: Pick<Origins, 'listsAny' | 'isListed'>;
}

/** What the middleware leaves on a socket for the 'connection' event. */
type SocketData = Pick<ConnectionOptions, 'principal' | 'resumed'>;

interface EngineRefusal {
  readonly req: IncomingMessage;
  readonly message: string;
  readonly context?: { readonly name?: string };
}

export type SocketIoTransport = ReturnType<typeof createSocketIo>;

export function createSocketIo(deps: SocketIoDeps) {
  const { config, metrics, gate, principalOf, originRefusal, origins } = deps;
  const connections = new Map<string, Connection>();
  const recovery = createRecovery(
    { ...deps, store: { bounds: () => deps.store.bounds(), ...sealSessions(deps.store) } },
    connections,
  );
  const connectionDeps: ConnectionDeps = {
    ...{ ...deps, recovery, requests: requestsFor(config.roomKinds) },
    signals: createSignalCatalog(config.signals, allKinds(config.roomKinds)),
    countSignals: {
      websocket: createSignalCounter(metrics, 'websocket'),
      polling: createSignalCounter(metrics, 'polling'),
    },
  };
  /** Every Engine.IO connection by its `sid`, also one without a namespace. */
  const channels = new Map<string, Channel>();
  const silentLimits = createConnectionLimits({ maxConnections: maxSilent(config), maxConnectionsPerAddress: null });
  const channelDeps: ChannelDeps = {
    ...{ ...deps, silentLimits },
    signalNames: new Set([SIGNAL, ...config.signals]),
    signalPacer: createPacer(signalsPerTurn(SIGNAL_MS)),
  };
  const logRefusal = createRefusalLog(deps.logger, config.trustProxy);
  /** By the object that Engine.IO receives as the request. */
  const admissions = new WeakMap<object, Admission>();

  const listedOrigin = (origin: string | undefined, found: (error: null, isListed: boolean) => void): void =>
    found(null, origins.isListed(origin));
  const times = heartbeatTimes(config.pingMs);
  const engine = new EngineServer({
    ...times,
    maxHttpBufferSize: MAX_MESSAGE_BYTES,
    httpCompression: false,
    ...(origins.listsAny ? { cors: { origin: listedOrigin, credentials: true } } : {}),
  });
  const io = new Server({
    adapter: QuietAdapter,
    connectionStateRecovery: { maxDisconnectionDuration: config.recoverySeconds * 1000, skipMiddlewares: false },
    serveClient: false,
  });
  io.bind(engine);
  openCheckNamespace(io, deps.checkGate);
  const encoders = new Map<string, Encoder>();
  /** Clients with the same options share one. */
  function encoderFor(socket: Socket): Encoder {
    const aliases = optionOf(socket, 'legacy', true) ? aliasesOf(config) : NO_ALIASES;
    const view = createView(aliases, null, optionOf(socket, 'audience', false) ? allKinds(config.roomKinds) : null);
    const cursors = optionOf(socket, 'cursor', true);
    const key = `${view.key} ${cursors}`;
    const encoder = encoders.get(key) ?? createEncoder(view, cursors, metrics);
    encoders.set(key, encoder);
    return encoder;
  }

  const channelOf = ({ conn }: Socket): Channel | undefined => channels.get(idOf(conn));
  for (const namespace of [io, io.of(CHECK_NAMESPACE)]) {
    namespace.on('connection', (socket) => {
      const channel = channelOf(socket);
      channel?.enters();
      socket.once('disconnect', () => channel?.leaves());
    });
  }

  io.use(async (socket, next) => {
    const channel = channelOf(socket);
    // A client that left the namespace and comes back needs a new connection, whose handshake can be authenticated
    // again. The same holds for a second CONNECT: one connection serves one client.
    if (channel === undefined || isHandshakeForgotten(socket) || channel.isClaimed) {
      turnAway(socket, next);
      return;
    }
    channel.isClaimed = true;
    channel.isAuthenticating = true;
    try {
      const principal = await principalOf(socket.handshake);
      deps.refusals.identify(socket.conn.request, principal);
      requireHearing(principal);
      socket.data = { principal, resumed: await recovery.recover(socket, principal) } satisfies SocketData;
      channel.accepts(principal);
      next();
    } catch (error) {
      const refusal = refused(error, socket.conn.request);
      channel.isClaimed = false;
      // A temporary fault: the client should retry, but a stock client gives up after a CONNECT_ERROR.
      if (refusal.passing || refusal.code === 'internal') turnAway(socket, next);
      else next(Object.assign(new Error(refusal.message), { data: { code: refusal.code } }));
    } finally {
      channel.isAuthenticating = false;
    }
  });

  io.on('connection', (socket) => {
    const channel = channelOf(socket);
    if (channel === undefined) return;
    const connection = new Connection(socket, connectionDeps, {
      ...(socket.data as SocketData),
      outbox: channel.outbox,
      encoder: encoderFor(socket),
    });
    const { pid } = connection;
    connections.get(pid)?.terminate();
    connections.set(pid, connection);
    channel.client = connection;
    socket.on('disconnect', (reason) => {
      connection.ended(reason);
      channel.client = null;
      // Otherwise the client has a newer connection.
      if (connections.get(pid) !== connection) return;
      connections.delete(pid);
      deps.bus.signals.gone(connection.sid);
    });
    forgetHandshake(socket);
  });

  const heartbeats = createHeartbeats(times);
  engine.on('connection', (connection: EngineSocket) => {
    heartbeats.add(connection);
    const admission = admissions.get(connection.request) as Admission;
    admission.isTaken = true;
    channels.set(idOf(connection), new Channel(connection, admission, channelDeps));
    let transport = connection.transport.name as TransportName;
    metrics.connected(transport, 1);
    connection.on('upgrade', () => {
      metrics.connected(transport, -1);
      transport = connection.transport.name as TransportName;
      metrics.connected(transport, 1);
    });
    connection.once('close', () => {
      channels.delete(idOf(connection));
      metrics.connected(transport, -1);
    });
  });
  // Engine.IO has answered these itself.
  engine.on('connection_error', ({ req, message, context }: EngineRefusal) => {
    const reason = context?.name === undefined ? message : `${message} (${context.name})`;
    refused(new BridgeError('invalid_request', `Engine.IO refused the request: ${reason}.`), req);
  });
  takeOverWebsockets(engine, ({ message }, socket, request) => {
    endWithProblem(
      socket,
      refused(invalidHandshake(`The websocket handshake is not valid: ${message}.`), request),
      requestIdFor(request),
    );
  });

  const ticking = setInterval(() => {
    const nowMs = performance.now();
    const wallMs = Date.now();
    heartbeats.tick(nowMs);
    for (const channel of channels.values()) channel.tick(nowMs, wallMs);
    recovery.touch(connections.values(), nowMs);
  }, TICK_MS);

  /**
   * Admits a handshake, or a request of an open session.
   * @param engineRequest the object that Engine.IO receives as the request
   * @throws {BridgeError} `forbidden`, `invalid_request`, `method_not_allowed`, `too_many_connections`, `unavailable`
   */
  async function admit(
    request: IncomingMessage,
    peer: ServerResponse | Duplex,
    engineRequest: IncomingMessage | EngineRequest,
  ): Promise<void> {
    const refusal = originRefusal(request);
    if (refusal !== null) throw new BridgeError('forbidden', refusal);
    // A preflight. It ends in Engine.IO's CORS.
    if (request.method === 'OPTIONS') return;
    const query = new URL(request.url ?? '/', 'http://localhost').searchParams;
    // As Engine.IO reads them: the last one counts, and an empty `sid` asks for a new session.
    const lastOf = (name: string): string => query.getAll(name).at(-1) ?? '';
    if (lastOf('transport') === 'websocket') deps.checkArrivals.note(lastOf('check'), request);
    requireRevision(lastOf('EIO'));
    const isUpgrade = !(peer instanceof ServerResponse);
    if (isUpgrade && lastOf('transport') !== 'websocket') {
      throw invalidHandshake('A websocket needs transport=websocket in the query.');
    }
    const sid = lastOf('sid');
    if (sid !== '') admitToSession(channels.get(sid), request, peer);
    else {
      const admission = await countIn(request, isUpgrade ? peer : null);
      admissions.set(engineRequest, admission);
      releaseUnlessTaken(admission, request, peer);
    }
  }

  /** Engine.IO refuses an unknown session by itself, before any upgrade. */
  function admitToSession(
    channel: Channel | undefined,
    { method }: IncomingMessage,
    peer: ServerResponse | Duplex,
  ): void {
    if (channel === undefined) return;
    if (!(peer instanceof ServerResponse)) channel.upgrades(peer);
    else if (method === 'GET') channel.polls(peer);
    else if (method !== 'POST') {
      throw new BridgeError('method_not_allowed', `A session takes GET and POST, and no ${method}.`);
    }
  }

  async function countIn(request: IncomingMessage, tcpSocket: Duplex | null): Promise<Admission> {
    const releaseSilent = silentLimits.acquire('');
    try {
      const release = await gate.admit(request);
      return { release, releaseSilent, tcpSocket, isTaken: false };
    } catch (error) {
      releaseSilent();
      throw error;
    }
  }

  /** The error to answer with, counted and logged. */
  function refused(error: unknown, request: Requester): BridgeError {
    const asked = new URL(request.url ?? '/', 'http://localhost').searchParams.get('transport');
    const transport = asked === 'websocket' ? 'websocket' : 'polling';
    const refusal = refusalOf(error, deps, { transport, what: 'connect' }, request, { path: config.socketPath });
    logRefusal(refusal, request);
    return refusal;
  }

  const path = config.socketPath.replace(/\/$/, '');
  return {
    /** Whether the request is for this endpoint. */
    owns(request: IncomingMessage): boolean {
      const [pathname] = (request.url ?? '').split('?');
      return pathname === path || pathname === `${path}/`;
    },
    handleRequest(request: IncomingMessage, response: ServerResponse): void {
      admit(request, response, request).then(
        () => engine.handleRequest(request, response),
        (error: unknown) => {
          const { status, headers, body } = problemAnswer(refused(error, request), requestIdOf(response));
          response
            .writeHead(status, { ...headers, 'Content-Length': Buffer.byteLength(body), Connection: 'close' })
            .end(body);
        },
      );
    },
    handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
      const onError = (): void => void socket.destroy();
      socket.on('error', onError);
      const engineRequest = new EngineRequest(request, socket);
      admit(request, socket, engineRequest).then(
        () => {
          socket.off('error', onError);
          handleUpgrade(engine, engineRequest, socket, head);
        },
        (error: unknown) => endWithProblem(socket, refused(error, request), requestIdFor(request)),
      );
    },
    /** Closes every connection. Stock clients reconnect. */
    drain(): void {
      for (const { conn } of channels.values()) end(conn);
    },
    async close(): Promise<void> {
      clearInterval(ticking);
      engine.close();
      await io.close();
    },
  };
}

const invalidHandshake = (message: string): BridgeError => new BridgeError('invalid_request', message);

/** @throws {BridgeError} `invalid_request` for the revision of another client version; without `EIO` it is 3 or older */
function requireRevision(revision: string): void {
  if (revision === REVISION) return;
  const asked = /^\d{1,3}$/.test(revision) ? `the client asks for revision ${revision}` : 'the query has no EIO=4';
  throw invalidHandshake(
    `The bridge speaks Engine.IO revision 4 only, and ${asked}. socket.io-client 3 and 4 speak it (and clients of other ` +
      'languages for Socket.IO 3 and 4); socket.io-client 2 and older do not.',
  );
}

function releaseUnlessTaken(admission: Admission, request: IncomingMessage, peer: ServerResponse | Duplex): void {
  const release = (): void => {
    if (admission.isTaken) return;
    admission.releaseSilent();
    admission.release();
  };
  // Engine.IO answers a poll before it emits 'connection'.
  const releaseSoon = (): void => void setImmediate(release);
  if (peer instanceof ServerResponse) {
    if (hasExchangeEnded(request, peer)) release();
    else onExchangeEnd(peer, releaseSoon);
  } else if (peer.destroyed) release();
  else peer.on('close', releaseSoon);
}

/** Closes the connection, so that the client reconnects. Without a call of `next`, Socket.IO would keep the socket. */
function turnAway({ conn }: Socket, next: (error: Error) => void): void {
  conn.close();
  next(new Error('The connection was closed.'));
}

/** An option in `auth` or in the query. A value that is neither `true` nor `false` changes nothing. */
function optionOf({ handshake: { auth, query } }: Socket, name: string, fallback: boolean): boolean {
  const value: unknown = (auth as Record<string, unknown>)[name] ?? query[name];
  return value === !fallback || value === String(!fallback) ? !fallback : fallback;
}

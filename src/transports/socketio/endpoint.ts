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
import type { Origins } from '../../auth/origins.ts';
import type { Principal } from '../../auth/principal.ts';
import { BridgeError } from '../../contract/errors.ts';
import { createView } from '../../contract/frames.ts';
import type { TransportName } from '../../contract/names.ts';
import type { CheckGate } from '../check-gate.ts';
import type { Gate } from '../gate.ts';
import { openCheckNamespace } from './check.ts';
import { Connection, type ConnectionDeps, type ConnectionOptions } from './connection.ts';
import { createEncoder } from './encoder.ts';
import { createHeartbeats } from './heartbeats.ts';
import { EngineRequest, forgetHandshake, handleUpgrade, isHandshakeForgotten, QuietAdapter } from './internals.ts';
import { end } from './outbox.ts';
import { createRecovery, type RecoveryDeps } from './recovery.ts';
import { sealSessions } from './sealed-sessions.ts';

/** Clients send only joins and acknowledgements. The limit also bounds `auth`. */
const MAX_MESSAGE_BYTES = 100_000;
/** CONNECT packets of one connection: a namespace or two, each refused a few times. Past the limit it is closed. */
const MAX_CONNECTS = 10;
const TICK_MS = 1_000;
const HEARTBEAT_TIMES = { pingInterval: 25_000, pingTimeout: 20_000 };

export interface SocketIoDeps extends RecoveryDeps, Omit<ConnectionDeps, 'recovery'> {
  readonly gate: Gate;
  readonly checkGate: CheckGate;
  /** @throws {BridgeError} */
  readonly principalOf: (handshake: Socket['handshake']) => Promise<Principal>;
  /** Why the page behind the request may not connect; null if it may. */
  readonly originRefusal: (request: IncomingMessage) => string | null;
  readonly origins: Pick<Origins, 'listsAny' | 'isListed'>;
}

/** What the middleware leaves on a socket for the 'connection' event. */
type SocketData = Pick<ConnectionOptions, 'principal' | 'resumed'>;

/** A handshake that the gate has counted. */
interface Admission {
  readonly release: () => void;
  /** Whether it became a connection, whose end then releases it. */
  isTaken: boolean;
}

export type SocketIoTransport = ReturnType<typeof createSocketIo>;

export function createSocketIo(deps: SocketIoDeps) {
  const { config, metrics, gate, principalOf, originRefusal, origins } = deps;
  const connections = new Map<string, Connection>();
  const recovery = createRecovery(
    { ...deps, store: { bounds: () => deps.store.bounds(), ...sealSessions(deps.store) } },
    connections,
  );
  const connectionDeps: ConnectionDeps = { ...deps, recovery };
  /** Engine.IO connections that have a client in the main namespace, or one that is being authenticated. */
  const claimed = new WeakSet<EngineSocket>();
  /** By the object that Engine.IO receives as the request. */
  const admissions = new WeakMap<object, Admission>();

  const listedOrigin = (origin: string | undefined, found: (error: null, isListed: boolean) => void): void =>
    found(null, origins.isListed(origin));
  const engine = new EngineServer({
    ...HEARTBEAT_TIMES,
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
  const encodersOf = (legacy: boolean) => ({
    true: createEncoder(createView(legacy, null), true, metrics),
    false: createEncoder(createView(legacy, null), false, metrics),
  });
  const encoders = { true: encodersOf(true), false: encodersOf(false) };

  io.use(async (socket, next) => {
    const { conn } = socket;
    // A client that left the namespace and comes back needs a new connection, whose handshake can be authenticated
    // again. The same holds for a second CONNECT: one connection serves one client.
    if (isHandshakeForgotten(socket) || claimed.has(conn)) {
      turnAway(socket, next);
      return;
    }
    claimed.add(conn);
    try {
      const principal = await principalOf(socket.handshake);
      socket.data = { principal, resumed: await recovery.recover(socket, principal) } satisfies SocketData;
      next();
    } catch (error) {
      const refusal = refused(error);
      claimed.delete(conn);
      // A temporary fault: the client should retry, but a stock client gives up after a CONNECT_ERROR.
      if (refusal.passing || refusal.code === 'internal') turnAway(socket, next);
      else next(Object.assign(new Error(refusal.message), { data: { code: refusal.code } }));
    }
  });

  io.on('connection', (socket) => {
    const isLegacy = config.legacyEvents && optionOf(socket, 'legacy');
    const connection = new Connection(socket, connectionDeps, {
      ...(socket.data as SocketData),
      encoder: encoders[`${isLegacy}`][`${optionOf(socket, 'cursor')}`],
    });
    const { pid } = connection;
    connections.get(pid)?.terminate();
    connections.set(pid, connection);
    socket.on('disconnect', (reason) => {
      connection.ended(reason);
      if (connections.get(pid) === connection) connections.delete(pid);
    });
    forgetHandshake(socket);
  });

  const heartbeats = createHeartbeats(HEARTBEAT_TIMES);
  /** Every Engine.IO connection, also one without a namespace, and the number of CONNECT packets that it has sent. */
  const open = new Map<EngineSocket, number>();
  /** Socket.IO sets up a socket for each CONNECT before any middleware runs, so a body full of them would take seconds. */
  function countConnect(this: EngineSocket, { type, data }: { readonly type: string; readonly data?: unknown }): void {
    if (type !== 'message' || typeof data !== 'string' || !data.startsWith('0')) return;
    const count = open.get(this);
    if (count === undefined) return;
    open.set(this, count + 1);
    if (count >= MAX_CONNECTS) this.close();
  }
  engine.on('connection', (connection: EngineSocket) => {
    connection.on('packet', countConnect);
    open.set(connection, 0);
    heartbeats.add(connection);
    const admission = admissions.get(connection.request);
    if (admission !== undefined) admission.isTaken = true;
    let transport = connection.transport.name as TransportName;
    metrics.connected(transport, 1);
    connection.on('upgrade', () => {
      metrics.connected(transport, -1);
      transport = connection.transport.name as TransportName;
      metrics.connected(transport, 1);
    });
    connection.once('close', () => {
      open.delete(connection);
      metrics.connected(transport, -1);
      admission?.release();
    });
  });

  const ticking = setInterval(() => {
    const nowMs = performance.now();
    const wallMs = Date.now();
    heartbeats.tick(nowMs);
    for (const connection of connections.values()) connection.tick(nowMs, wallMs);
    recovery.touch(connections.values(), nowMs);
  }, TICK_MS);

  /**
   * Admits a handshake, or a request of an open session.
   * @param engineRequest the object that Engine.IO receives as the request
   * @throws {BridgeError} `forbidden`, `too_many_connections`, `unavailable`
   */
  async function admit(
    request: IncomingMessage,
    peer: ServerResponse | Duplex,
    engineRequest: IncomingMessage | EngineRequest,
  ): Promise<void> {
    const refusal = originRefusal(request);
    if (refusal !== null) throw new BridgeError('forbidden', refusal);
    // As Engine.IO reads it: the last `sid` counts, and an empty one asks for a new session.
    if (new URL(request.url ?? '/', 'http://localhost').searchParams.getAll('sid').at(-1)) return;
    const admission: Admission = { release: await gate.admit(request), isTaken: false };
    admissions.set(engineRequest, admission);
    releaseUnlessTaken(admission, request, peer);
  }

  const refused = (error: unknown): BridgeError => refusalOf(error, deps, { path: config.socketPath });

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
          const { status, headers, body } = problemAnswer(refused(error), requestIdOf(response));
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
        (error: unknown) => endWithProblem(socket, refused(error), requestIdFor(request)),
      );
    },
    /** Closes every connection. Stock clients reconnect. */
    drain(): void {
      for (const connection of open.keys()) end(connection);
    },
    async close(): Promise<void> {
      clearInterval(ticking);
      engine.close();
      await io.close();
    },
  };
}

function releaseUnlessTaken(admission: Admission, request: IncomingMessage, peer: ServerResponse | Duplex): void {
  const release = (): void => {
    if (!admission.isTaken) admission.release();
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

/** An option in `auth` or in the query. It is on unless it is `false`. */
function optionOf({ handshake: { auth, query } }: Socket, name: string): boolean {
  const value: unknown = (auth as Record<string, unknown>)[name] ?? query[name];
  return value !== false && value !== 'false';
}

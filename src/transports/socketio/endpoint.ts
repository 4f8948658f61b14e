/**
 * The Socket.IO endpoint (protocol §5): handshake, and recovery of stock clients from the log.
 *
 * Socket.IO's connection state recovery asks an adapter for the session and for the missed packets, before any
 * middleware has checked the token. So the adapter knows of none: the middleware looks for the session once it has let
 * the client in, and then the bus authorises each room and replays by the same handover as everywhere else (design law 3).
 */
import { type IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { Server as EngineServer, type Socket as EngineSocket } from 'engine.io';
import { nanoid } from 'nanoid';
import { Server, type Socket } from 'socket.io';
import { Adapter } from 'socket.io-adapter';
import { hasExchangeEnded, onExchangeEnd } from '../../answers/exchange.ts';
import { endWithProblem, problemAnswer, refusalOf } from '../../answers/problem.ts';
import { mayResume, type Principal } from '../../auth/principal.ts';
import type { Cursor } from '../../contract/cursor.ts';
import { BridgeError } from '../../contract/errors.ts';
import { createView } from '../../contract/frames.ts';
import type { TransportName } from '../../contract/names.ts';
import type { Reset, Start } from '../../contract/reset.ts';
import type { CheckGate } from '../check-gate.ts';
import type { Gate } from '../gate.ts';
import { openCheckNamespace } from './check.ts';
import { Connection, type ConnectionDeps, createForm, sessionExpiry } from './connection.ts';
import { createHeartbeats, type HeartbeatTimes } from './heartbeats.ts';
import { end } from './outbox.ts';
import { decodeSession, type SessionData } from './recovery.ts';

/** A client sends joins and acks only; this also bounds its `auth`. */
const MAX_MESSAGE_BYTES = 100_000;
/** CONNECT packets that one connection may send: a namespace or two, each refused a few times. Past it it is closed. */
const MOST_CONNECTS = 10;
const TICK_MS = 1_000;

export interface SocketIoDeps extends ConnectionDeps {
  readonly gate: Gate;
  readonly checkGate: CheckGate;
  /** @throws {BridgeError} */
  readonly principalOf: (handshake: Socket['handshake']) => Promise<Principal>;
  /** Whether a handshake or request with a `sid` may come from its `Origin`. */
  readonly originAllowed: (request: IncomingMessage) => boolean;
}

export interface SocketIoTransport {
  /** Whether the request is for this endpoint. */
  owns(request: IncomingMessage): boolean;
  handleRequest(request: IncomingMessage, response: ServerResponse): void;
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
  /** Closes every transport; stock clients come back by themselves. */
  drain(): void;
  close(): Promise<void>;
}

interface SocketData {
  owner?: string;
  restored?: { readonly session: SessionData; readonly offset: Cursor };
  reset?: Reset;
  principal?: Principal;
}

export function createSocketIo(deps: SocketIoDeps): SocketIoTransport {
  const { bus, store, config, metrics, logger, gate, principalOf, originAllowed } = deps;
  const connections = new Map<string, Connection>();
  /** Connections whose client is being looked at. */
  const arriving = new WeakSet<Socket['conn']>();
  /** By what Engine.IO was given of the request. */
  const admitted = new WeakMap<object, Admission>();

  const engine = new EngineServer({
    maxHttpBufferSize: MAX_MESSAGE_BYTES,
    httpCompression: false,
    cors: config.corsOrigins.length === 0 ? false : { origin: [...config.corsOrigins], credentials: true },
  } as object);
  const io = new Server({
    adapter: QuietAdapter,
    connectionStateRecovery: { maxDisconnectionDuration: config.recoverySeconds * 1000, skipMiddlewares: false },
    serveClient: false,
  });
  io.bind(engine);
  openCheckNamespace(io, deps.checkGate);
  const formsOf = (legacy: boolean) => ({
    true: createForm(createView(legacy, null), true, metrics),
    false: createForm(createView(legacy, null), false, metrics),
  });
  const forms = { true: formsOf(true), false: formsOf(false) };

  io.use(async (socket, next) => {
    const { conn } = socket;
    // It left and comes again on the same connection: with a new one comes the handshake that is to be looked at. Or it
    // comes twice at once: one connection is one listener.
    if (isForgotten(socket) || arriving.has(conn)) {
      turnAway(socket, next);
      return;
    }
    arriving.add(conn);
    const data = socket.data as SocketData;
    try {
      const { pid, offset } = socket.handshake.auth as { readonly pid?: unknown; readonly offset?: unknown };
      data.principal = await principalOf(socket.handshake);
      if (pid !== undefined || offset !== undefined) await recover(socket, data.principal, pid, offset);
      next();
    } catch (error) {
      const known = refused(error);
      arriving.delete(conn);
      // What went wrong on this side may not the next time.
      if (known.passing || known.code === 'internal') turnAway(socket, next);
      else next(Object.assign(new Error(known.message), { data: { code: known.code } }));
    }
  });

  io.on('connection', (socket) => {
    const { owner = nanoid(), restored = null, reset = null, principal } = socket.data as SocketData;
    const isLegacy = config.legacyEvents && flagOf(socket, 'legacy');
    const connection = new Connection(socket, deps, {
      principal: principal as Principal,
      form: forms[`${isLegacy}`][`${flagOf(socket, 'cursor')}`],
      owner,
      restored,
      reset,
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

  /** Puts a client back that brings a session and an offset, or leaves word of what it is to be told. */
  async function recover(socket: Socket, principal: Principal, pid: unknown, offset: unknown): Promise<void> {
    const data = socket.data as SocketData;
    const start = await startOf(offset);
    if (start.kind === 'reset') {
      data.reset = start;
      return;
    }
    const owner = nanoid();
    const stored = typeof pid === 'string' ? await store.claimSession(pid, owner, Date.now()) : null;
    const session = stored === null ? null : decodeSession(stored.data);
    if (session === null || !mayResume(principal, session.holder)) {
      data.reset = await resetTo('expired', start.cursor);
      return;
    }
    // A client may come back while its old connection is still believed in: both would share an id and double events.
    connections.get(pid as string)?.terminate();
    // As Socket.IO's own recovery does it in the socket's constructor; until then it is known by another id.
    (socket.nsp as unknown as { _remove(socket: Socket): void })._remove(socket);
    Object.assign(socket, { id: session.sid, pid, recovered: true });
    Object.assign(data, { owner, restored: { session, offset: start.cursor } } satisfies SocketData);
  }

  async function startOf(offset: unknown): Promise<Start> {
    if (typeof offset !== 'string') return resetTo('expired', null);
    try {
      return await bus.resolve(offset);
    } catch (error) {
      if (error instanceof BridgeError && error.code === 'invalid_cursor') {
        return resetTo('unknown', offset.slice(0, 64));
      }
      throw error;
    }
  }

  async function resetTo(reason: Reset['reason'], after: string | null): Promise<Extract<Start, { kind: 'reset' }>> {
    const { oldest, head: cursor } = await store.bounds();
    return { kind: 'reset', reason, after, oldest, cursor };
  }

  const heartbeats = createHeartbeats(engine.opts as HeartbeatTimes);
  /** Every connection, also one that has not come to Socket.IO, or was refused there, with the CONNECTs that it sent. */
  const open = new Map<EngineSocket, number>();
  /** Each makes Socket.IO set up a socket before anything is asked, so that a body full of them would take seconds. */
  function countConnect(this: EngineSocket, { type, data }: { readonly type: string; readonly data?: unknown }): void {
    if (type !== 'message' || typeof data !== 'string' || !data.startsWith('0')) return;
    const before = open.get(this);
    if (before === undefined) return;
    open.set(this, before + 1);
    if (before >= MOST_CONNECTS) this.close();
  }
  engine.on('connection', (connection: EngineSocket) => {
    connection.on('packet', countConnect);
    open.set(connection, 0);
    heartbeats.add(connection);
    const admission = admitted.get(connection.request);
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
    const due: { readonly pid: string; readonly owner: string }[] = [];
    for (const connection of connections.values()) {
      connection.tick(nowMs, wallMs);
      if (connection.isTouchDue(nowMs)) due.push(connection);
    }
    if (due.length === 0) return;
    const expiresAtMs = sessionExpiry(config);
    const sessions = due.map(({ pid, owner }) => ({ pid, owner, expiresAtMs }));
    store
      .touchSessions(sessions)
      .catch((error: unknown) => logger.warn({ err: error }, 'sessions could not be touched'));
  }, TICK_MS);

  /** Lets a handshake or a request of a session through. `given` is what Engine.IO is given of the request. */
  async function admit(request: IncomingMessage, peer: ServerResponse | Duplex, given: object): Promise<void> {
    if (!originAllowed(request)) throw new BridgeError('forbidden', 'This Origin is not allowed here.');
    // As Engine.IO reads it: the last one counts, and an empty one asks for a new session.
    if (new URL(request.url ?? '/', 'http://localhost').searchParams.getAll('sid').at(-1)) return;
    const admission: Admission = { release: await gate.admit(request), isTaken: false };
    admitted.set(given, admission);
    countOutUnlessTaken(admission, request, peer);
  }

  const refused = (error: unknown): BridgeError => refusalOf(error, deps, { path: config.socketPath });

  const path = config.socketPath.replace(/\/$/, '');
  return {
    owns(request) {
      const [pathname] = (request.url ?? '').split('?');
      return pathname === path || pathname === `${path}/`;
    },
    handleRequest(request, response) {
      admit(request, response, request).then(
        () => engine.handleRequest(request, response),
        (error: unknown) => {
          const { status, headers, body } = problemAnswer(refused(error));
          response
            .writeHead(status, { ...headers, 'Content-Length': Buffer.byteLength(body), Connection: 'close' })
            .end(body);
        },
      );
    },
    handleUpgrade(request, socket, head) {
      const onError = (): void => void socket.destroy();
      socket.on('error', onError);
      const handshake = new Handshake(request, socket);
      admit(request, socket, handshake).then(
        () => {
          socket.off('error', onError);
          engine.handleUpgrade(handshake as never, socket, head);
        },
        (error: unknown) => endWithProblem(socket, refused(error)),
      );
    },
    drain() {
      for (const connection of open.keys()) end(connection);
    },
    async close() {
      clearInterval(ticking);
      engine.close();
      await io.close();
    },
  };
}

/** A handshake that was counted in. */
interface Admission {
  readonly release: () => void;
  /** Whether it came to a connection, which counts itself out. */
  isTaken: boolean;
}

function countOutUnlessTaken(admission: Admission, request: IncomingMessage, peer: ServerResponse | Duplex): void {
  const ended = (): void => {
    if (!admission.isTaken) admission.release();
  };
  // Engine.IO answers a poll before it tells of the connection.
  const over = (): void => void setImmediate(ended);
  if (peer instanceof ServerResponse) {
    if (hasExchangeEnded(request, peer)) ended();
    else onExchangeEnd(request, peer, over);
  } else if (peer.destroyed) ended();
  else peer.on('close', over);
}

/**
 * What Engine.IO is given of an upgrade request. It keeps that for as long as the connection lives, so it can be emptied
 * here: the request itself, with its headers, is a third of what a connection costs.
 */
class Handshake {
  readonly method: string | undefined;
  readonly connection: object;
  readonly socket: object;
  url: string | undefined;
  headers: IncomingMessage['headers'];
  /** Engine.IO's own. */
  _query: object | undefined;

  constructor({ method, url, headers }: IncomingMessage, socket: object) {
    this.method = method;
    this.connection = socket;
    this.socket = socket;
    this.url = url;
    this.headers = headers;
  }

  get isEmpty(): boolean {
    return this.headers === NOTHING;
  }

  empty(): void {
    this.url = '';
    this.headers = NOTHING;
    this._query = NOTHING;
  }
}

const NOTHING = Object.freeze({});

const isForgotten = ({ conn }: Socket): boolean => conn.request instanceof Handshake && conn.request.isEmpty;

/** Nothing asks for a handshake once the connection is open, but for where it came from. */
function forgetHandshake(socket: Socket): void {
  const { conn } = socket as unknown as { readonly conn: { request: IncomingMessage | Handshake } };
  const { request } = conn;
  if (!(request instanceof Handshake)) {
    const { remoteAddress } = request.socket;
    conn.request = new Handshake(request, { remoteAddress });
  }
  (conn.request as Handshake).empty();
  Object.assign(socket, { handshake: NOTHING, data: NOTHING });
}

/** Ends the connection, so that the client comes back. Socket.IO keeps a socket until it hears what became of it. */
function turnAway({ conn }: Socket, next: (error: Error) => void): void {
  conn.close();
  next(new Error('The connection was closed.'));
}

/** Rooms and sessions are the bus's and the log's; Socket.IO keeps neither, and `restoreSession` knows of none. */
class QuietAdapter extends Adapter {
  /** What the bus writes to is in no room of Socket.IO's, not even in the one of its own id. */
  override addAll(id: string, rooms: Set<string>): void {
    if (this.nsp.name !== '/') super.addAll(id, rooms);
  }

  /** Sessions are saved while the connection lives, by the connection itself. */
  override persistSession(): void {}
}

/** An option of `auth` or of the query, on unless it says `false`. */
function flagOf(socket: Socket, name: string): boolean {
  const value: unknown = (socket.handshake.auth as Record<string, unknown>)[name] ?? socket.handshake.query[name];
  return value !== false && value !== 'false';
}

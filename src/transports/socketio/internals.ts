/**
 * The only file that goes behind the types of Engine.IO, Socket.IO and ws. Each entry says what it uses, why, and what
 * happens if a version lacks it.
 *
 * package.json pins engine.io, socket.io and socket.io-adapter by `~`; engine.io pins ws the same way. Every entry has a
 * canary in test/transports/internals.test.ts. (Node's internals are in sse/response-writer.ts.)
 */
import type { IncomingMessage } from 'node:http';
import type { Socket as NetSocket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Server as EngineServer, Socket as EngineSocket } from 'engine.io';
import type { Socket } from 'socket.io';
import { Adapter } from 'socket.io-adapter';

interface EngineInternals {
  readonly readyState: string;
  readonly writeBuffer?: readonly unknown[];
  readonly transport: { readonly name: string; readonly perMessageDeflate?: unknown; readonly socket?: WebSocket };
  pingIntervalTimer?: { refresh?: unknown } | null;
  request: IncomingMessage | EngineRequest;
  sendPacket(type: 'ping'): void;
}

/** A connection of ws. Only `_socket`, the TCP socket below it, is private. */
interface WebSocket {
  readonly readyState: number;
  readonly _socket?: NetSocket | null;
  once(event: 'close', listener: () => void): void;
  terminate(): void;
}
const OPEN = 1;

function internalsOf(connection: EngineSocket): EngineInternals {
  return connection as unknown as EngineInternals;
}

/**
 * Uses `transport.socket`, to write to the websocket and to cut it without a closing handshake.
 * Missing: everything goes through Engine.IO.
 */
export function websocketOf(connection: EngineSocket): WebSocket | null {
  const { name, socket = null } = internalsOf(connection).transport;
  return name === 'websocket' ? socket : null;
}

/**
 * Uses `transport.perMessageDeflate`: ws queues messages while it compresses, and bytes written beside that queue would
 * overtake them.
 * Missing: reads as no compression, which is how the bridge configures Engine.IO.
 */
export function uncompressedWebsocketOf(connection: EngineSocket): WebSocket | null {
  return internalsOf(connection).transport.perMessageDeflate ? null : websocketOf(connection);
}

/**
 * Uses `writeBuffer` and ws's `_socket`, to write prepared bytes straight to TCP while nothing waits in Engine.IO.
 * Missing: null, and the packets go through Engine.IO.
 */
export function idleTcpSocketOf(connection: EngineSocket, websocket: WebSocket | null): NetSocket | null {
  if (websocket === null) return null;
  const { readyState, writeBuffer } = internalsOf(connection);
  const isIdle = readyState === 'open' && writeBuffer?.length === 0 && websocket.readyState === OPEN;
  return isIdle ? (websocket._socket ?? null) : null;
}

/**
 * Uses the transport's 'drain' event, which follows the last byte of a flush, to count bytes that were sent.
 * Missing: every byte counts as waiting, so connections are cut as slow consumers.
 */
export function onTransportDrain({ transport }: EngineSocket, listener: () => void): void {
  transport.on('drain', listener);
}

/**
 * Uses `pingIntervalTimer`, of which Engine.IO calls `refresh` when a pong arrives, to replace two timers per connection.
 * Missing: returns false, and Engine.IO pings by itself.
 */
export function replacePingTimer(connection: EngineSocket, replacement: { refresh(): void }): boolean {
  const internals = internalsOf(connection);
  const timer = internals.pingIntervalTimer;
  if (typeof timer?.refresh !== 'function') return false;
  clearTimeout(timer as NodeJS.Timeout);
  internals.pingIntervalTimer = replacement;
  return true;
}

/**
 * Uses `sendPacket`, the only way to send a ping through Engine.IO.
 * Missing: throws.
 */
export function sendPingPacket(connection: EngineSocket): void {
  internalsOf(connection).sendPacket('ping');
}

const EMPTY = Object.freeze({});

/**
 * What Engine.IO receives in place of an upgrade request. It keeps that for as long as the connection lives, and the
 * request with its headers is a third of what a connection costs; this object can be emptied.
 *
 * Uses: Engine.IO, ws and Socket.IO read only the fields below, and Engine.IO caches the query in `_query`.
 * Missing: a version that reads more refuses the handshake or throws.
 */
export class EngineRequest {
  readonly method: string | undefined;
  readonly connection: object;
  readonly socket: object;
  url: string | undefined;
  headers: IncomingMessage['headers'];
  _query: object | undefined;

  constructor({ method, url, headers }: IncomingMessage, socket: object) {
    this.method = method;
    this.connection = socket;
    this.socket = socket;
    this.url = url;
    this.headers = headers;
  }

  get isEmpty(): boolean {
    return this.headers === EMPTY;
  }

  empty(): void {
    this.url = '';
    this.headers = EMPTY;
    this._query = EMPTY;
  }
}

export function handleUpgrade(engine: EngineServer, request: EngineRequest, socket: Duplex, head: Buffer): void {
  engine.handleUpgrade(request as unknown as IncomingMessage, socket, head);
}

/**
 * Uses `conn.request` and Socket.IO's `handshake` and `data`, all unused once the connection is open, except for the
 * client's address.
 * Missing: the memory is kept.
 */
export function forgetHandshake(socket: Socket): void {
  const internals = internalsOf(socket.conn);
  const { request } = internals;
  const kept =
    request instanceof EngineRequest
      ? request
      : new EngineRequest(request, { remoteAddress: request.socket.remoteAddress });
  kept.empty();
  internals.request = kept;
  Object.assign(socket, { handshake: EMPTY, data: EMPTY });
}

export function isHandshakeForgotten({ conn }: Socket): boolean {
  const { request } = internalsOf(conn);
  return request instanceof EngineRequest && request.isEmpty;
}

/**
 * Uses `pid`, the private session id that Socket.IO gives to each socket and sends to its client.
 * Missing: no session can be found, so no client is recovered.
 */
export function pidOf(socket: Socket): string {
  return (socket as unknown as { readonly pid: string }).pid;
}

/**
 * Gives a new socket the ids of a saved session, as Socket.IO's recovery does in the socket's constructor.
 *
 * Uses `id`, `pid`, `recovered`, and `Namespace._remove`: until now the namespace knows the socket by another id.
 * Missing: throws, and the client comes back.
 */
export function continueSession(socket: Socket, { sid, pid }: { readonly sid: string; readonly pid: string }): void {
  (socket.nsp as unknown as { _remove(socket: Socket): void })._remove(socket);
  Object.assign(socket, { id: sid, pid, recovered: true });
}

/**
 * Keeps neither rooms nor sessions in Socket.IO; the bus has the rooms, and recovery.ts has the sessions.
 *
 * Uses: a socket joins the room of its own id through `addAll`, and its session is saved through `persistSession` and
 * looked up through `restoreSession`, which finds none here.
 * Missing: Socket.IO keeps a room per connection.
 */
export class QuietAdapter extends Adapter {
  override addAll(id: string, rooms: Set<string>): void {
    if (this.nsp.name !== '/') super.addAll(id, rooms);
  }

  override persistSession(): void {}
}

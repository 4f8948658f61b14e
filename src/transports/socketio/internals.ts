/**
 * The only file that goes behind the types of Engine.IO, Socket.IO and ws. Each entry says what it uses, why, and what
 * happens without it. package.json pins engine.io, socket.io and socket.io-adapter by `~`, engine.io pins ws in the same
 * way, and test/transports/internals.test.ts has a canary for each entry. (Node's internals: sse/response-writer.ts.)
 */
import type { EventEmitter } from 'node:events';
import type { IncomingMessage } from 'node:http';
import type { Socket as NetSocket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Server as EngineServer, Socket as EngineSocket } from 'engine.io';
import type { Socket } from 'socket.io';
import { Adapter } from 'socket.io-adapter';

interface EngineInternals {
  readonly writeBuffer?: readonly unknown[];
  readonly transport: { readonly name: string; readonly perMessageDeflate?: unknown; readonly socket?: WebSocket };
  pingIntervalTimer?: { refresh?: unknown } | null;
  request: IncomingMessage | EngineRequest;
  sendPacket(type: 'ping'): void;
}

/** A connection of ws. Only `_socket`, the TCP socket below it, is private. */
export interface WebSocket {
  readonly readyState: number;
  readonly _socket?: NetSocket | null;
  readonly isPaused: boolean;
  once(event: 'close', listener: () => void): void;
  on(event: 'ping', listener: (data: Buffer) => void): void;
  pong(data: Buffer, mask: false, sent: () => void): void;
  pause(): void;
  resume(): void;
  terminate(): void;
}
const OPEN = 1;

function internalsOf(connection: EngineSocket): EngineInternals {
  return connection as unknown as EngineInternals;
}

/** `id`: the `sid` of the connection. Without it, no client can connect. */
export function idOf(connection: EngineSocket): string {
  return (connection as unknown as { readonly id: string }).id;
}

/** `transport.socket`: to write to the websocket, and to cut it at once. Without it, Engine.IO does both. */
export function websocketOf(connection: EngineSocket): WebSocket | null {
  const { name, socket = null } = internalsOf(connection).transport;
  return name === 'websocket' ? socket : null;
}

/** `transport.perMessageDeflate`: bytes must not overtake messages that ws compresses. Without it, ws compresses none. */
export function uncompressedWebsocketOf(connection: EngineSocket): WebSocket | null {
  return internalsOf(connection).transport.perMessageDeflate ? null : websocketOf(connection);
}

/** `writeBuffer`, ws's `_socket`: to write to TCP while nothing waits in Engine.IO. Without them, Engine.IO writes. */
export function idleTcpSocketOf(connection: EngineSocket, websocket: WebSocket | null): NetSocket | null {
  if (websocket === null) return null;
  const isOpen = connection.readyState === 'open' && websocket.readyState === OPEN;
  const isIdle = isOpen && internalsOf(connection).writeBuffer?.length === 0;
  return isIdle ? (websocket._socket ?? null) : null;
}

/** The transport's 'drain': to count the bytes that were sent. Without it, polling clients are cut as slow consumers. */
export function onTransportDrain({ transport }: EngineSocket, listener: () => void): void {
  transport.on('drain', listener);
}

/** `pingIntervalTimer`, refreshed by a pong: to ping with one timer for all. Without it (false), Engine.IO pings. */
export function replacePingTimer(connection: EngineSocket, replacement: { refresh(): void }): boolean {
  const internals = internalsOf(connection);
  const timer = internals.pingIntervalTimer;
  if (typeof timer?.refresh !== 'function') return false;
  clearTimeout(timer as NodeJS.Timeout);
  internals.pingIntervalTimer = replacement;
  return true;
}

/** `sendPacket`: the only way to send a ping through Engine.IO. Without it, pings throw. */
export function sendPingPacket(connection: EngineSocket): void {
  internalsOf(connection).sendPacket('ping');
}

type MessageListener = (this: WebSocket, data: Buffer, isBinary: boolean) => void;

/**
 * `listeners('message')`: Engine.IO's, which parses what a client has sent, is called when `deliver` is. Without it,
 * messages take no turns.
 */
export function takeOverMessages(websocket: WebSocket, received: (data: Buffer, deliver: () => void) => void): void {
  const emitter = websocket as unknown as EventEmitter;
  for (const listener of emitter.listeners('message') as MessageListener[]) {
    emitter.off('message', listener);
    emitter.on('message', (data: Buffer, isBinary: boolean) =>
      received(data, () => listener.call(websocket, data, isBinary)),
    );
  }
}

interface WebSocketServer {
  readonly options: { autoPong: boolean; allowSynchronousEvents: boolean };
  on(event: 'wsClientError', listener: (error: Error, socket: Duplex, request: EngineRequest) => void): void;
}

/**
 * `ws`, the server of websockets: pongs.ts answers pings in its place, and its refusals are answered as all others are.
 * Without it, the bridge does not start.
 * @param refuse answers a handshake that breaks RFC 6455, and ends its connection
 */
export function takeOverWebsockets(
  engine: EngineServer,
  refuse: (error: Error, socket: Duplex, request: EngineRequest) => void,
): void {
  const { ws } = engine as unknown as { readonly ws: WebSocketServer };
  ws.options.autoPong = false;
  // One message in a turn of the event loop: thousands fit into what is read at once, and other clients would wait.
  ws.options.allowSynchronousEvents = false;
  ws.on('wsClientError', refuse);
}

const EMPTY = Object.freeze({});
type Peer = { readonly remoteAddress?: string | undefined };

/**
 * What Engine.IO receives in place of an upgrade request, which it would keep while the connection lives: a third of the
 * memory of a connection. Engine.IO, ws and Socket.IO read only these fields. A version that reads more refuses handshakes.
 */
export class EngineRequest {
  readonly method: string | undefined;
  readonly connection: Peer;
  readonly socket: Peer;
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

/** `conn.request`, `handshake`, `data`: unused once a connection is open, but for the address. Otherwise memory stays. */
export function forgetHandshake(socket: Socket): void {
  const internals = internalsOf(socket.conn);
  const { remoteAddress } = socket.conn.request.socket;
  if (!(internals.request instanceof EngineRequest)) {
    internals.request = new EngineRequest(internals.request, { remoteAddress });
  }
  internals.request.empty();
  Object.assign(socket, { handshake: EMPTY, data: EMPTY });
}

export function isHandshakeForgotten({ conn }: Socket): boolean {
  const { request } = internalsOf(conn);
  return request instanceof EngineRequest && request.isEmpty;
}

/** `pid`: the private session id, which Socket.IO sends to the client. Without it, no client is recovered. */
export function pidOf(socket: Socket): string {
  return (socket as unknown as { readonly pid: string }).pid;
}

/** Of socket.io-parser. */
const ACK_PACKET = 3;
type Packet = { readonly type: number; readonly id?: number; readonly data?: unknown };

/**
 * `packet`, which writes acknowledgements: they leave as events do, past Engine.IO and ws (outbox.ts). Without it, both
 * write them. Only for sockets of the main namespace, whose packets do not name it.
 */
export function takeOverAcks(socket: Socket, send: (text: string) => void): void {
  const internals = socket as unknown as { packet(packet: Packet, options?: object): void };
  const { packet: write } = internals;
  internals.packet = (packet, options) => {
    if (packet.type === ACK_PACKET) send(`${ACK_PACKET}${packet.id}${JSON.stringify(packet.data)}`);
    else write.call(socket, packet, options);
  };
}

/**
 * `id`, `pid`, `recovered`: Socket.IO's own recovery sets them in the socket's constructor. `Namespace._remove`: until now
 * the namespace knows the socket by another id. Without them, recovery fails and the client reconnects.
 */
export function continueSession(socket: Socket, { sid, pid }: { readonly sid: string; readonly pid: string }): void {
  (socket.nsp as unknown as { _remove(socket: Socket): void })._remove(socket);
  Object.assign(socket, { id: sid, pid, recovered: true });
}

/**
 * `addAll`, through which a socket joins the room of its own id, and `persistSession`: the bus has the rooms, recovery.ts
 * the sessions. Without them, Socket.IO keeps a room per connection.
 */
export class QuietAdapter extends Adapter {
  override addAll(id: string, rooms: Set<string>): void {
    if (this.nsp.name !== '/') super.addAll(id, rooms);
  }

  override persistSession(): void {}
}

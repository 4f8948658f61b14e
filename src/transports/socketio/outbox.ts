/**
 * What one Engine.IO connection still has to send, and how prepared packets get onto it.
 *
 * Engine.IO's way to a websocket costs about as much as the kernel's: a packet object, events, a callback for each
 * write. So where nothing waits in Engine.IO, the prepared frames are written to the websocket's own socket, behind all
 * that Engine.IO wrote there before; everything else, and anything unexpected, goes through Engine.IO.
 *
 * Engine.IO's write buffer is unbounded and its send callbacks slip by one when polling is upgraded to websocket while
 * a response is under way. So bytes are counted here: `flush` hands all that was written to the transport, the
 * transport's `drain` says that it has gone out, and an upgrade starts with nothing under way.
 */
import type { Socket as NetSocket } from 'node:net';
import type { Socket as EngineSocket } from 'engine.io';

/** One Socket.IO EVENT packet without Engine.IO's type: `2["name",{…},"cursor"]`. */
export type PacketText = string;

/** The packets of a batch: as texts for any transport, and as one run of websocket frames. */
export interface PreparedPackets {
  readonly texts: readonly PacketText[];
  readonly frames: Buffer;
}

export function preparePackets(texts: readonly PacketText[]): PreparedPackets {
  return { texts, frames: Buffer.concat(texts.map((text) => websocketFrame(`4${text}`))) };
}

export class EngineOutbox {
  readonly #connection: EngineSocket;
  /** Null where frames cannot be written to it: while the transport is polling, and where `ws` compresses. */
  #websocket: WebSocket | null;
  /** Bytes that went through Engine.IO: given to it, by it to the transport, by that to the network. */
  #written = 0;
  #handedOver = 0;
  #gone = 0;
  #waiting: readonly { readonly at: number; readonly flushed: () => void }[] = NOBODY;

  constructor(connection: EngineSocket) {
    this.#connection = connection;
    this.#websocket = plainWebSocketOf(connection);
    const onDrain = (): void => this.#drained();
    // Whoever writes it: Socket.IO's answers count as well.
    connection.on('packetCreate', ({ data }: { readonly data?: string }) => {
      if (data !== undefined) this.#written += Buffer.byteLength(data);
    });
    connection.on('flush', () => {
      this.#handedOver = this.#written;
    });
    connection.transport.on('drain', onDrain);
    connection.on('upgrade', () => {
      this.#websocket = plainWebSocketOf(connection);
      connection.transport.on('drain', onDrain);
      onDrain();
    });
  }

  /** Sends the packets in order. `flushed` is called once they have left this process. */
  send({ texts, frames }: PreparedPackets, flushed?: () => void): void {
    if (texts.length === 0) {
      flushed?.();
      return;
    }
    // Engine.IO takes nothing more; its end is near.
    if (this.#connection.readyState !== 'open') return;
    const bare = bareSocketOf(this.#connection, this.#websocket);
    if (bare !== null) {
      bare.write(frames, flushed === undefined ? undefined : () => flushed());
      return;
    }
    for (const text of texts) this.#connection.write(text, UNCOMPRESSED);
    if (flushed === undefined) return;
    // A poll that was waiting has taken the first already.
    if (this.#gone === this.#written) flushed();
    else this.#waiting = [...this.#waiting, { at: this.#written, flushed }];
  }

  sendText(text: PacketText): void {
    this.#connection.write(text, UNCOMPRESSED);
  }

  get transport(): 'websocket' | 'polling' {
    return this.#websocket !== null || websocketOf(this.#connection) !== null ? 'websocket' : 'polling';
  }

  pendingBytes(): number {
    const socket = this.#websocket?._socket;
    // What Engine.IO has handed over is buffered there as well.
    if (socket) return this.#written - this.#handedOver + socket.writableLength;
    return this.#written - this.#gone;
  }

  #drained(): void {
    this.#gone = this.#handedOver;
    if (this.#waiting.length === 0) return;
    const done = this.#waiting.filter(({ at }) => at <= this.#gone);
    this.#waiting = this.#waiting.filter(({ at }) => at > this.#gone);
    for (const { flushed } of done) flushed();
  }
}

const UNCOMPRESSED = { compress: false };
const NOBODY: readonly never[] = [];

/** What Engine.IO's types leave out and this looks at; a version that lacks any of it is served by Engine.IO alone. */
interface Internals {
  readonly readyState: string;
  readonly writeBuffer?: readonly unknown[];
  readonly transport: { readonly name: string; readonly perMessageDeflate?: unknown; readonly socket?: WebSocket };
  pingIntervalTimer?: { refresh?: unknown } | null;
  sendPacket(type: 'ping'): void;
}

/** A `ws` connection; of its own fields, the socket beneath it. */
interface WebSocket {
  readonly readyState: number;
  readonly _socket?: NetSocket | null;
  once(event: 'close', listener: () => void): void;
  terminate(): void;
}
const OPEN = 1;

/** The one place that goes behind Engine.IO's types. */
export function internalsOf(connection: EngineSocket): Internals {
  return connection as unknown as Internals;
}

function websocketOf(connection: EngineSocket): WebSocket | null {
  const { name, socket = null } = internalsOf(connection).transport;
  return name === 'websocket' ? socket : null;
}

/** One that does not compress, so that `ws` passes on at once what it is given. */
function plainWebSocketOf(connection: EngineSocket): WebSocket | null {
  return internalsOf(connection).transport.perMessageDeflate ? null : websocketOf(connection);
}

/** The socket beneath an open websocket, while nothing waits in Engine.IO. */
function bareSocketOf(connection: EngineSocket, websocket: WebSocket | null): NetSocket | null {
  if (websocket === null) return null;
  const { readyState, writeBuffer } = internalsOf(connection);
  const isFree = readyState === 'open' && writeBuffer?.length === 0 && websocket.readyState === OPEN;
  return isFree ? (websocket._socket ?? null) : null;
}

/** Engine.IO's own packet `2`. */
export function sendPing(connection: EngineSocket): void {
  const bare = bareSocketOf(connection, plainWebSocketOf(connection));
  if (bare !== null) bare.write(PING);
  else internalsOf(connection).sendPacket('ping');
}

/** Ends the connection, a websocket once what was written has gone out. The client comes back by itself. */
export function end(connection: EngineSocket): void {
  const { name, writable } = connection.transport;
  // Between two polls there is no response to close; Engine.IO would wait 30 s for one.
  connection.close(name === 'polling' && !writable);
}

/** Ends the connection once what was written has gone out. A client that has not taken it by then is cut. */
export function endWithin(connection: EngineSocket, lingerMs: number): void {
  if (connection.readyState !== 'open') return;
  const linger = setTimeout(() => terminate(connection), lingerMs);
  // Engine.IO calls a websocket closed before that has taken what was written.
  (websocketOf(connection) ?? connection).once('close', () => clearTimeout(linger));
  connection.close();
}

/** Ends the connection at once, also when the client takes nothing. No Socket.IO disconnect packet: it comes back. */
export function terminate(connection: EngineSocket): void {
  const websocket = websocketOf(connection);
  connection.close(true);
  websocket?.terminate();
}

/** An unmasked text frame of RFC 6455 §5.2. */
function websocketFrame(text: string): Buffer {
  const length = Buffer.byteLength(text);
  const headerBytes = length < 126 ? 2 : length < 65_536 ? 4 : 10;
  const frame = Buffer.allocUnsafe(headerBytes + length);
  frame[0] = 0x81;
  if (headerBytes === 2) {
    frame[1] = length;
  } else if (headerBytes === 4) {
    frame[1] = 126;
    frame.writeUInt16BE(length, 2);
  } else {
    frame[1] = 127;
    frame.writeBigUInt64BE(BigInt(length), 2);
  }
  frame.write(text, headerBytes);
  return frame;
}

const PING = websocketFrame('2');

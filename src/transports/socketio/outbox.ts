/**
 * What one Engine.IO connection still has to send, and how packets reach its socket.
 *
 * Engine.IO spends as much CPU on a websocket message as the kernel does: a packet object, events and a callback for
 * each write. While nothing waits in Engine.IO, all messages of a batch are therefore written to the TCP socket in one
 * call, behind everything that Engine.IO wrote there. Otherwise packets go through Engine.IO.
 *
 * Socket.IO's own shortcut, `wsPreEncodedFrame`, encodes a message once for all connections as well, but still passes
 * each message of each connection through Engine.IO and ws. CPU per connection, 500 websockets, one event | a legacy
 * group of four: 12 | 11 µs as here, 17 | 52 µs with `wsPreEncodedFrame`, 18 | 75 µs without.
 */
import type { Socket as EngineSocket } from 'engine.io';
import { type PacketText, type PreparedPackets, websocketMessage } from './encoder.ts';
import {
  idleTcpSocketOf,
  onTransportDrain,
  sendPingPacket,
  uncompressedWebsocketOf,
  websocketOf,
} from './internals.ts';

const UNCOMPRESSED = { compress: false };
const NONE: readonly never[] = [];

/**
 * Engine.IO's write buffer is unbounded, and its send callbacks slip by one when polling is upgraded to websocket while
 * a response is in flight. So the outbox counts bytes: 'flush' passes all written bytes to the transport, the
 * transport's 'drain' means that they were sent, and an upgrade starts with nothing in flight.
 */
export class EngineOutbox {
  readonly #connection: EngineSocket;
  /** Null if bytes cannot be written beside Engine.IO: while the client polls, and if ws compresses. */
  #websocket: ReturnType<typeof uncompressedWebsocketOf>;
  /** Bytes that went through Engine.IO: written to it, passed on to the transport, sent. */
  #writtenBytes = 0;
  #passedOnBytes = 0;
  #sentBytes = 0;
  #awaitingFlush: readonly { readonly atBytes: number; readonly flushed: () => void }[] = NONE;

  constructor(connection: EngineSocket) {
    this.#connection = connection;
    this.#websocket = uncompressedWebsocketOf(connection);
    const onDrain = (): void => this.#drained();
    // Also counts what Socket.IO writes: acknowledgements and its own packets.
    connection.on('packetCreate', ({ data }: { readonly data?: string }) => {
      if (data !== undefined) this.#writtenBytes += Buffer.byteLength(data);
    });
    connection.on('flush', () => {
      this.#passedOnBytes = this.#writtenBytes;
    });
    onTransportDrain(connection, onDrain);
    connection.on('upgrade', () => {
      this.#websocket = uncompressedWebsocketOf(connection);
      onTransportDrain(connection, onDrain);
      onDrain();
    });
  }

  /** Sends the packets in order. `flushed` is called once they have left this process. */
  send({ texts, websocketBytes }: PreparedPackets, flushed?: () => void): void {
    if (texts.length === 0) {
      flushed?.();
      return;
    }
    // A closing connection accepts nothing more.
    if (this.#connection.readyState !== 'open') return;
    const tcpSocket = idleTcpSocketOf(this.#connection, this.#websocket);
    if (tcpSocket !== null) {
      tcpSocket.write(websocketBytes, flushed === undefined ? undefined : () => flushed());
      return;
    }
    for (const text of texts) this.#connection.write(text, UNCOMPRESSED);
    if (flushed === undefined) return;
    // A waiting poll takes the packets at once.
    if (this.#sentBytes === this.#writtenBytes) flushed();
    else this.#awaitingFlush = [...this.#awaitingFlush, { atBytes: this.#writtenBytes, flushed }];
  }

  sendText(text: PacketText): void {
    if (this.#connection.readyState !== 'open') return;
    const tcpSocket = idleTcpSocketOf(this.#connection, this.#websocket);
    if (tcpSocket !== null) tcpSocket.write(websocketMessage(`4${text}`));
    else this.#connection.write(text, UNCOMPRESSED);
  }

  get transport(): 'websocket' | 'polling' {
    return this.#websocket !== null || websocketOf(this.#connection) !== null ? 'websocket' : 'polling';
  }

  pendingBytes(): number {
    const tcpSocket = this.#websocket?._socket;
    // Bytes that Engine.IO has passed on wait in the TCP socket as well.
    if (tcpSocket) return this.#writtenBytes - this.#passedOnBytes + tcpSocket.writableLength;
    return this.#writtenBytes - this.#sentBytes;
  }

  #drained(): void {
    this.#sentBytes = this.#passedOnBytes;
    if (this.#awaitingFlush.length === 0) return;
    const due = this.#awaitingFlush.filter(({ atBytes }) => atBytes <= this.#sentBytes);
    this.#awaitingFlush = this.#awaitingFlush.filter(({ atBytes }) => atBytes > this.#sentBytes);
    for (const { flushed } of due) flushed();
  }
}

/** Engine.IO's packet type `2`. */
const PING = websocketMessage('2');

export function sendPing(connection: EngineSocket): void {
  const tcpSocket = idleTcpSocketOf(connection, uncompressedWebsocketOf(connection));
  if (tcpSocket !== null) tcpSocket.write(PING);
  else sendPingPacket(connection);
}

/** Closes the connection; a websocket sends first what was written. Stock clients reconnect. */
export function end(connection: EngineSocket): void {
  const { name, writable } = connection.transport;
  // Between two polls there is no response that could end, and Engine.IO would wait 30 s for one.
  connection.close(name === 'polling' && !writable);
}

/** Closes the connection once everything written was sent, or cuts it after `lingerMs`. */
export function endWithin(connection: EngineSocket, lingerMs: number): void {
  if (connection.readyState !== 'open') return;
  const linger = setTimeout(() => terminate(connection), lingerMs);
  // Engine.IO reports a websocket as closed before its last bytes were sent.
  (websocketOf(connection) ?? connection).once('close', () => clearTimeout(linger));
  connection.close();
}

/** Cuts the connection, even if the client reads nothing. Without a DISCONNECT packet, a stock client reconnects. */
export function terminate(connection: EngineSocket): void {
  const websocket = websocketOf(connection);
  connection.close(true);
  websocket?.terminate();
}

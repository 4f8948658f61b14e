/**
 * Writes a stream to its TCP socket, without Node's parser, request and response: they are most of the memory of an idle
 * connection. Node releases them for upgrades, and decides that after the 'request' listeners have run. So a listener
 * marks the request as an upgrade, and the server's 'upgrade' event returns it with a bare socket.
 *
 * This uses two internals of Node, `upgrade` of requests and `parser` of sockets. Without them, and for requests that are
 * pipelined or have a body, the same bytes go through the response. Canaries: test/transports/internals.test.ts.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { endExchange, onExchangeEnd, StallWatch } from '../../answers/exchange.ts';

/** A piece of the stream, plain and as a chunk of the chunked transfer coding (RFC 9112 §7.1). Both share their memory. */
export interface Chunk {
  readonly bytes: Buffer;
  readonly chunked: Buffer;
}

export interface ResponseWriter {
  /** `flushed` is called once the bytes have left this process. */
  write(chunk: Chunk, flushed?: () => void): void;
  /** Bytes written but not yet taken by the network. */
  pendingBytes(): number;
  /** Whether the client has taken nothing for 30 s of what waits for it (protocol §16). Call it about once a second. */
  isStalled(nowMs: number): boolean;
  /** Ends the stream. A client that has not read the rest after `lingerMs` is cut. */
  end(lingerMs: number): void;
  destroy(): void;
}

const CRLF = Buffer.from('\r\n');
const LAST_CHUNK = Buffer.from('0\r\n\r\n');

export function chunkOf(text: string | readonly Buffer[]): Chunk {
  const pieces = typeof text === 'string' ? [Buffer.from(text)] : text;
  const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
  const head = Buffer.from(`${length.toString(16)}\r\n`);
  const chunked = Buffer.concat([head, ...pieces, CRLF]);
  return { bytes: chunked.subarray(head.length, -CRLF.length), chunked };
}

const marked = new WeakSet<IncomingMessage>();

/** Marks a request that is to become a stream. Works only in the turn of its 'request' event. */
export function requestSocket(request: IncomingMessage, response: ServerResponse): void {
  const { headers } = request;
  const hasBody = headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined;
  // Once the parser has gone on, it no longer reads the mark: this request waited behind another one.
  if (request.method !== 'GET' || request.complete || hasBody) return;
  marked.add(request);
  (request as { upgrade?: boolean }).upgrade = true;
  // Without its parser, the connection cannot serve further requests.
  response.setHeader('Connection', 'close');
}

/** For the server's 'upgrade' event. True if the request was marked; its stream is then being answered. */
export function takeSocket(request: IncomingMessage): boolean {
  if (!marked.has(request)) return false;
  const { socket } = request;
  // As in Node's HTTP server: a client that closes its half has gone, and further bytes are dropped.
  socket.on('end', () => socket.destroy());
  socket.on('error', () => socket.destroy());
  socket.resume();
  return true;
}

/**
 * Sends the head of the response. `onEnd` is called when the connection has closed or the response was sent. Keep
 * neither request nor response, so that their memory is released.
 */
export function openWriter(request: IncomingMessage, response: ServerResponse, onEnd: () => void): ResponseWriter {
  response.flushHeaders();
  const { socket } = request;
  // nginx proxies over HTTP/1.0 by default: such a stream is not chunked and ends with the connection.
  const isChunked = request.httpVersionMajor === 1 && request.httpVersionMinor >= 1;
  const isBare = marked.has(request) && (request.socket as { readonly parser?: unknown }).parser === null;
  if (!isBare) {
    onExchangeEnd(response, onEnd);
    return new NodeResponseWriter(request, response, isChunked);
  }
  response.detachSocket(socket);
  socket.on('close', onEnd);
  return new SocketWriter(socket, isChunked);
}

class SocketWriter implements ResponseWriter {
  readonly #socket: Socket;
  readonly #isChunked: boolean;
  readonly #stall: StallWatch;

  constructor(socket: Socket, isChunked: boolean) {
    this.#socket = socket;
    this.#stall = new StallWatch(socket);
    this.#isChunked = isChunked;
  }

  write({ bytes, chunked }: Chunk, flushed?: () => void): void {
    if (this.#socket.destroyed) return;
    this.#socket.write(this.#isChunked ? chunked : bytes, flushed === undefined ? undefined : () => flushed());
  }

  pendingBytes(): number {
    return this.#socket.writableLength;
  }

  isStalled(nowMs: number): boolean {
    return this.#stall.isStalled(nowMs);
  }

  end(lingerMs: number): void {
    const socket = this.#socket;
    if (this.#isChunked && !socket.destroyed) socket.write(LAST_CHUNK);
    socket.destroySoon();
    const linger = setTimeout(() => socket.destroy(), lingerMs);
    socket.on('close', () => clearTimeout(linger));
  }

  destroy(): void {
    this.#socket.destroy();
  }
}

/** The same on a connection that serves further requests. */
class NodeResponseWriter extends SocketWriter {
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;

  constructor(request: IncomingMessage, response: ServerResponse, isChunked: boolean) {
    super(request.socket, isChunked);
    this.#request = request;
    this.#response = response;
  }

  override end(lingerMs: number): void {
    endExchange(this.#request, this.#response, lingerMs);
  }
}

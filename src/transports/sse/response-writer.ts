/**
 * Where the bytes of a stream go: to the bare socket, once Node has let go of parser, request and response, which are
 * most of what an idle connection costs; else through the response.
 *
 * Node lets go of a parser when its request turns out to be an upgrade, which it looks at after the 'request' listeners
 * ran. So a request that is to become a stream is marked as one there, and comes back in 'upgrade' with its socket. A
 * request that cannot be marked, as it waits behind another one on its connection (HTTP pipelining) or has a body, and
 * a Node that does not look at the mark, are served the same bytes through the response.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { hasExchangeEnded, onExchangeEnd } from '../../answers/exchange.ts';

/** A piece of the stream, as it is and as one chunk of RFC 9112 §7.1; both are the same memory. */
export interface Part {
  readonly bytes: Buffer;
  readonly chunk: Buffer;
}

export interface Wire {
  /** `flushed` is called once the bytes have left this process. */
  write(part: Part, flushed?: () => void): void;
  /** Bytes written but not yet taken by the network. */
  pendingBytes(): number;
  /** Ends the stream. A client that has not taken the rest by then is cut. */
  end(lingerMs: number): void;
  destroy(): void;
}

const CRLF = Buffer.from('\r\n');
const LAST_CHUNK = Buffer.from('0\r\n\r\n');

export function partOf(text: string | readonly Buffer[]): Part {
  const pieces = typeof text === 'string' ? [Buffer.from(text)] : text;
  const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
  const head = Buffer.from(`${length.toString(16)}\r\n`);
  const chunk = Buffer.concat([head, ...pieces, CRLF]);
  return { bytes: chunk.subarray(head.length, -CRLF.length), chunk };
}

const marked = new WeakSet<IncomingMessage>();

/** Marks a request that is to become a stream. Only in the same turn as its 'request' event. */
export function askForSocket(request: IncomingMessage, response: ServerResponse): void {
  const { headers } = request;
  const hasBody = headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined;
  if (request.method !== 'GET' || response.socket === null || hasBody) return;
  marked.add(request);
  // Node sets it on requests with an Upgrade header; its types leave it out.
  (request as { upgrade?: boolean }).upgrade = true;
  // Nothing reads further requests from this connection.
  response.setHeader('Connection', 'close');
}

/** For the server's 'upgrade' event: whether the request was marked, and is being answered already. */
export function isHandedOver(request: IncomingMessage): boolean {
  if (!marked.has(request)) return false;
  const { socket } = request;
  // As Node's HTTP server does: a client that ends its half is gone, and what it may still send is dropped.
  socket.on('end', () => socket.destroy());
  socket.on('error', () => socket.destroy());
  socket.resume();
  return true;
}

/**
 * Sends the response's head. `over` is called when the connection is gone or the response was sent. The caller keeps
 * neither request nor response, so that they are let go of.
 */
export function openWire(request: IncomingMessage, response: ServerResponse, over: () => void): Wire {
  response.flushHeaders();
  const { socket } = response;
  const isChunked = request.httpVersionMajor === 1 && request.httpVersionMinor >= 1;
  const isBare = marked.has(request) && (request.socket as { readonly parser?: unknown }).parser === null;
  if (socket === null || !isBare) return new ResponseWire(request, response, isChunked, over);
  response.detachSocket(socket);
  socket.on('close', over);
  return new SocketWire(socket, isChunked);
}

class SocketWire implements Wire {
  readonly #socket: Socket;
  readonly #isChunked: boolean;

  constructor(socket: Socket, isChunked: boolean) {
    this.#socket = socket;
    this.#isChunked = isChunked;
  }

  write({ bytes, chunk }: Part, flushed?: () => void): void {
    if (this.#socket.destroyed) return;
    this.#socket.write(this.#isChunked ? chunk : bytes, flushed === undefined ? undefined : () => flushed());
  }

  pendingBytes(): number {
    return this.#socket.writableLength;
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

class ResponseWire implements Wire {
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #isChunked: boolean;
  /** Null where the response waits behind another one: Node queues what goes through it. */
  readonly #socket: Socket | null;

  constructor(request: IncomingMessage, response: ServerResponse, isChunked: boolean, over: () => void) {
    this.#request = request;
    this.#response = response;
    this.#isChunked = isChunked;
    this.#socket = response.socket;
    onExchangeEnd(request, response, over);
  }

  write({ bytes, chunk }: Part, flushed?: () => void): void {
    const socket = this.#socket;
    if (socket === null) {
      if (!this.#response.destroyed) this.#response.write(bytes, () => flushed?.());
    } else if (!socket.destroyed) {
      socket.write(this.#isChunked ? chunk : bytes, flushed === undefined ? undefined : () => flushed());
    }
  }

  pendingBytes(): number {
    return this.#response.socket?.writableLength ?? this.#response.writableLength;
  }

  end(lingerMs: number): void {
    this.#response.end();
    // Nothing else cuts a client that takes no more. One that waits behind another response cannot take yet.
    if (this.#response.socket === null || hasExchangeEnded(this.#request, this.#response)) return;
    const linger = setTimeout(() => this.destroy(), lingerMs);
    onExchangeEnd(this.#request, this.#response, () => clearTimeout(linger));
  }

  destroy(): void {
    this.#request.socket.destroy();
  }
}

/**
 * Security and CORS headers of every answer, and its request id: routes, transports, Socket.IO and refusals (protocol
 * §10, §11).
 *
 * The server gives them to its response before anything else handles the request, because the transports write their own
 * response heads there.
 */
import { type IncomingMessage, type OutgoingHttpHeader, type OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { nanoid } from 'nanoid';
import type { Origins } from '../auth/origins.ts';

/** A Content-Security-Policy that allows only the sources in `allowed`, and no framing. */
export const contentSecurityPolicy = (...allowed: readonly string[]): string =>
  ["default-src 'none'", ...allowed, "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"].join('; ');

export const SECURITY_HEADERS: readonly (readonly [string, string])[] = [
  ['Content-Security-Policy', contentSecurityPolicy()],
  ['Cross-Origin-Opener-Policy', 'same-origin'],
  ['Cross-Origin-Resource-Policy', 'same-origin'],
  ['Referrer-Policy', 'no-referrer'],
  ['X-Content-Type-Options', 'nosniff'],
  ['X-Frame-Options', 'DENY'],
];

/** The head of a Server-Sent Events stream, here and in the connection check. */
export const STREAM_HEADERS = {
  'Content-Type': 'text/event-stream; charset=utf-8',
  'Cache-Control': 'no-store, no-transform',
  // nginx would buffer the stream.
  'X-Accel-Buffering': 'no',
};

/** Headers that protect documents. A stream is none. */
const OF_DOCUMENTS = ['Content-Security-Policy', 'Cross-Origin-Opener-Policy', 'Referrer-Policy', 'X-Frame-Options'];

/**
 * Keeps the head of a stream short: Firefox's EventSource closes for good when the head of a reconnect is cut, so each
 * byte of it is a chance to lose a listener.
 */
export function dropDocumentHeaders(response: ServerResponse): void {
  for (const name of OF_DOCUMENTS) response.removeHeader(name);
}

export const REQUEST_ID = 'X-Request-Id';
const REQUEST_ID_FORM = /^[\x21-\x7e]{1,128}$/;
const EXPOSED_HEADERS = `Date, ETag, Retry-After, ${REQUEST_ID}`;

/** The request's own id, if it is 1 to 128 visible ASCII characters; else a new one (protocol §10). */
export function requestIdFor({ headers }: Pick<IncomingMessage, 'headers'>): string {
  const own = headers['x-request-id'];
  return typeof own === 'string' && REQUEST_ID_FORM.test(own) ? own : nanoid();
}

/** The id that `share` gave the response. */
export const requestIdOf = (response: ServerResponse): string =>
  response instanceof BridgeResponse ? response.requestId : '';

const SECURITY_LINES = SECURITY_HEADERS.flat();
const SHARED_NAMES: ReadonlySet<string> = new Set(
  [
    ...SECURITY_HEADERS.map(([name]) => name),
    ...[REQUEST_ID, 'Vary', 'Timing-Allow-Origin', 'Access-Control-Expose-Headers'],
    ...['Access-Control-Allow-Origin', 'Access-Control-Allow-Credentials'],
  ].map((name) => name.toLowerCase()),
);

type Head = OutgoingHttpHeaders | OutgoingHttpHeader[];

/**
 * A response with the shared headers. To set ten headers one by one costs Node more than the rest of a small answer. So
 * the shared ones stay aside until the head is written, and are written in one list with those of the answer. Code that
 * sets or asks for a single header before that finds the shared ones set.
 */
export class BridgeResponse extends ServerResponse {
  /** The id of the request and of its answer. */
  requestId = '';
  /** Names and values in turn; null: Node has them. */
  #aside: string[] | null = null;

  /** @param origins null: no page of another origin may read the answer */
  share(origins: Pick<Origins, 'listsAny' | 'isListed'> | null): void {
    this.requestId = requestIdFor(this.req);
    const lines = [...SECURITY_LINES, REQUEST_ID, this.requestId];
    this.#aside = lines;
    if (origins === null || !origins.listsAny) return;
    lines.push('Vary', 'Origin');
    const { origin } = this.req.headers;
    if (origin === undefined || !origins.isListed(origin)) return;
    lines.push('Access-Control-Allow-Origin', origin);
    lines.push('Access-Control-Allow-Credentials', 'true');
    lines.push('Access-Control-Expose-Headers', EXPOSED_HEADERS);
    // Lets the page see in `nextHopProtocol` whether its streams share the six connections of HTTP/1.1 (Resource Timing, §4.4).
    lines.push('Timing-Allow-Origin', origin);
  }

  override writeHead(status: number, reason?: string | Head, headers?: Head): this {
    const lines = this.#aside;
    if (lines !== null) {
      const isPlain = typeof reason === 'object' && !Array.isArray(reason) && headers === undefined;
      if (isPlain && addAll(reason, lines)) {
        this.#aside = null;
        return super.writeHead(status, lines);
      }
      this.#set();
    }
    return typeof reason === 'string' ? super.writeHead(status, reason, headers) : super.writeHead(status, reason);
  }

  #set(): void {
    const lines = this.#aside;
    if (lines === null) return;
    this.#aside = null;
    // Others may have added theirs behind them.
    for (let at = 0; at < lines.length; at += 2) super.setHeader(lines[at] as string, lines[at + 1] as string);
  }

  override setHeader(name: string, value: number | string | readonly string[]): this {
    this.#set();
    return super.setHeader(name, value);
  }

  override appendHeader(name: string, value: string | readonly string[]): this {
    this.#set();
    return super.appendHeader(name, value);
  }

  override removeHeader(name: string): void {
    this.#set();
    super.removeHeader(name);
  }

  override hasHeader(name: string): boolean {
    this.#set();
    return super.hasHeader(name);
  }

  override getHeader(name: string): number | string | string[] | undefined {
    this.#set();
    return super.getHeader(name);
  }

  override getHeaders(): OutgoingHttpHeaders {
    this.#set();
    return super.getHeaders();
  }
}

/** Adds the headers to the lines, unless one must replace a shared one or is no single text. */
function addAll(headers: OutgoingHttpHeaders, lines: string[]): boolean {
  const shared = lines.length;
  for (const name in headers) {
    const value = headers[name];
    if ((typeof value !== 'string' && typeof value !== 'number') || SHARED_NAMES.has(name.toLowerCase())) {
      lines.length = shared;
      return false;
    }
    lines.push(name, String(value));
  }
  return true;
}

/**
 * Security and CORS headers of every answer, and its request id: routes, transports, Socket.IO and refusals (protocol
 * §10, §11).
 *
 * They are set on Node's response before anything else handles the request, because the transports write their own
 * response heads there.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
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

export function setRequestId(request: IncomingMessage, response: ServerResponse): void {
  response.setHeader(REQUEST_ID, requestIdFor(request));
}

/** The id that `setRequestId` gave the response. */
export const requestIdOf = (response: ServerResponse): string => String(response.getHeader(REQUEST_ID));

export function setSharedHeaders(
  { headers: { origin } }: IncomingMessage,
  response: ServerResponse,
  origins: Pick<Origins, 'listsAny' | 'isListed'> | null,
): void {
  for (const [name, value] of SECURITY_HEADERS) response.setHeader(name, value);
  if (origins === null || !origins.listsAny) return;
  response.setHeader('Vary', 'Origin');
  if (origin === undefined || !origins.isListed(origin)) return;
  response.setHeader('Access-Control-Allow-Origin', origin);
  response.setHeader('Access-Control-Allow-Credentials', 'true');
  response.setHeader('Access-Control-Expose-Headers', EXPOSED_HEADERS);
  // Lets the page see in `nextHopProtocol` whether its streams share the six connections of HTTP/1.1 (Resource Timing, §4.4).
  response.setHeader('Timing-Allow-Origin', origin);
}

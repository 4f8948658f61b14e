/**
 * Headers that every answer of this server carries, whoever gives it: a route, Socket.IO, a refusal. For browsers: what a
 * page may do, and which other pages may read the answer (protocol §11).
 *
 * They are set on Node's raw response before anything else sees the request, since the transports write their heads
 * there themselves.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';

/** What a page may load and do, for its own Content-Security-Policy; nobody may frame any. */
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

const EXPOSED_HEADERS = 'ETag, Retry-After';

export function setSharedHeaders(
  { headers: { origin } }: IncomingMessage,
  response: ServerResponse,
  corsOrigins: readonly string[],
): void {
  for (const [name, value] of SECURITY_HEADERS) response.setHeader(name, value);
  if (corsOrigins.length === 0) return;
  response.setHeader('Vary', 'Origin');
  if (origin === undefined || !corsOrigins.includes(origin)) return;
  response.setHeader('Access-Control-Allow-Origin', origin);
  response.setHeader('Access-Control-Allow-Credentials', 'true');
  response.setHeader('Access-Control-Expose-Headers', EXPOSED_HEADERS);
}

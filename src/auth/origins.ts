/**
 * Which web pages may use the bridge with their visitor's credentials (protocol §11): pages of `CORS_ORIGINS` and of the
 * bridge's own origin. Every Engine.IO request is checked, because CORS does not guard a WebSocket handshake, and every
 * request with a cookie (auth.ts). The CORS headers name only the listed origins (answers/headers.ts).
 *
 * A page has the bridge's own origin if `Sec-Fetch-Site` says so. No page can set that header, and browsers send it to
 * https and loopback addresses. Otherwise `Origin` must name the host and port of `Host`. The server cannot see whether
 * TLS ends at a proxy, so it compares the scheme only if `TRUST_PROXY` lets `X-Forwarded-Proto` name it;
 * `X-Forwarded-Host` then replaces `Host`. A request without `Origin` does not come from a page's script: browsers send
 * `Origin` wherever CORS or WebSockets apply.
 */
import type { IncomingHttpHeaders } from 'node:http';

export type HeaderSource = IncomingHttpHeaders | Headers;

/** The headers that describe the page behind a request, as sent; null if absent. */
export interface PageFacts {
  readonly origin: string | null;
  readonly host: string | null;
  readonly fetchSite: string | null;
  readonly forwardedHost: string | null;
  readonly forwardedProto: string | null;
}

export interface Origins {
  /** Whether the page may be served with credentials. True for a request without `Origin`. */
  allows(page: PageFacts): boolean;
  /** The same for a cookie, which browsers also add to images and links of other sites, without an `Origin`. */
  allowsAmbient(page: PageFacts): boolean;
}

export interface OriginConfig {
  readonly corsOrigins: readonly string[];
  /** Trusted proxies in front, which may name the outer host and protocol. Default 0. */
  readonly trustProxy?: number;
}

export function headerValue(headers: HeaderSource, name: string): string | null {
  if (headers instanceof Headers) return headers.get(name);
  const value = headers[name];
  return (Array.isArray(value) ? value.join(', ') : value) ?? null;
}

export function pageFacts(headers: HeaderSource): PageFacts {
  return {
    origin: headerValue(headers, 'origin'),
    host: headerValue(headers, 'host'),
    fetchSite: headerValue(headers, 'sec-fetch-site'),
    forwardedHost: headerValue(headers, 'x-forwarded-host'),
    forwardedProto: headerValue(headers, 'x-forwarded-proto'),
  };
}

export function createOrigins({ corsOrigins, trustProxy = 0 }: OriginConfig): Origins {
  const listed = new Set(corsOrigins.map(normalised));

  function isListed(origin: string): boolean {
    // Any sandboxed frame or file has the opaque origin `null`.
    return origin !== 'null' && listed.has(normalised(origin));
  }

  function isOwn(page: PageFacts): boolean {
    if (page.fetchSite === 'same-origin') return true;
    const host = forwarded(page.forwardedHost, trustProxy) ?? page.host;
    if (page.origin === null || host === null) return false;
    const origin = URL.parse(page.origin);
    if (origin === null || (origin.protocol !== 'http:' && origin.protocol !== 'https:')) return false;
    const protocol = forwarded(page.forwardedProto, trustProxy);
    if (protocol !== null && `${protocol.toLowerCase()}:` !== origin.protocol) return false;
    // Either side may leave out the default port.
    return URL.parse(`${origin.protocol}//${host}/`)?.host === origin.host;
  }

  const allows = (page: PageFacts) => page.origin === null || isListed(page.origin) || isOwn(page);

  return {
    allows,
    allowsAmbient(page) {
      const foreign = page.fetchSite === 'cross-site' || page.fetchSite === 'same-site';
      return allows(page) && !(page.origin === null && foreign);
    },
  };
}

/** Web origins compare in the form that browsers write; origins of other schemes (`capacitor://localhost`) as text. */
function normalised(origin: string): string {
  const parsed = URL.parse(origin)?.origin ?? 'null';
  return parsed === 'null' ? origin.toLowerCase() : parsed;
}

/** The value that the outermost trusted proxy saw or added: the nth from the right. */
function forwarded(header: string | null, hops: number): string | null {
  if (header === null || hops === 0) return null;
  const values = header.split(',').map((value) => value.trim());
  return values[Math.max(0, values.length - hops)] || null;
}

/**
 * Which web pages may use the bridge with their visitor's credentials (protocol §11): those of `CORS_ORIGINS`, and those
 * of the bridge's own origin. Asked for every Engine.IO request, since CORS does not guard a websocket handshake, and, in
 * auth.ts, before a cookie counts. (CORS headers, which name listed origins only, are answers/headers.ts's.)
 *
 * "Own origin" is what the browser calls so in `Sec-Fetch-Site`, a header that no page can set; browsers send it to
 * https and loopback addresses. Else `Origin` must name the host and port of `Host`. Whether TLS ends at a proxy in
 * front cannot be told from `Host`, so the scheme only counts where `TRUST_PROXY` lets `X-Forwarded-Proto` name it; then
 * `X-Forwarded-Host` also stands in for `Host`. A request without `Origin` is no page's script: browsers send it with
 * all that CORS and websockets are about.
 */
import type { IncomingHttpHeaders } from 'node:http';

export type HeaderSource = IncomingHttpHeaders | Headers;

/** What a request says of the page that sent it. Values as sent; null where absent. */
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
  /** The same for a credential that the browser adds by itself: other sites' images and links send no `Origin`. */
  allowsAmbient(page: PageFacts): boolean;
}

export interface OriginConfig {
  readonly corsOrigins: readonly string[];
  /** How many proxies in front may name the outer host and protocol. Default 0: none. */
  readonly trustProxy?: number | null;
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

export function createOrigins({ corsOrigins, trustProxy }: OriginConfig): Origins {
  const hops = trustProxy ?? 0;
  const listed = new Set(corsOrigins.map(normalised));

  function isListed(origin: string): boolean {
    // The opaque origin of sandboxed frames and files is anybody's.
    return origin !== 'null' && listed.has(normalised(origin));
  }

  function isOwn(page: PageFacts): boolean {
    if (page.fetchSite === 'same-origin') return true;
    const host = forwarded(page.forwardedHost, hops) ?? page.host;
    if (page.origin === null || host === null) return false;
    const origin = URL.parse(page.origin);
    if (origin === null || (origin.protocol !== 'http:' && origin.protocol !== 'https:')) return false;
    const protocol = forwarded(page.forwardedProto, hops);
    if (protocol !== null && `${protocol.toLowerCase()}:` !== origin.protocol) return false;
    // The default port may be left out on either side.
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

/** Origins compare as browsers write them; those of other schemes than the web's (`capacitor://localhost`) as text. */
function normalised(origin: string): string {
  const parsed = URL.parse(origin)?.origin ?? 'null';
  return parsed === 'null' ? origin.toLowerCase() : parsed;
}

/** The value that the outermost trusted proxy saw, or added: the nth from the right. */
function forwarded(header: string | null, hops: number): string | null {
  if (header === null || hops === 0) return null;
  const values = header.split(',').map((value) => value.trim());
  return values[Math.max(0, values.length - hops)] || null;
}

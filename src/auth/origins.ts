/**
 * Which web pages may use the bridge with their visitor's rights (protocol §11): pages of the bridge's own origin and of
 * the listed ones, which are `CORS_ORIGINS`. CORS does not guard a WebSocket handshake, so every Engine.IO request is
 * checked; so is every request with a cookie, and with AUTH_MODE=none, where it takes no more than to reach the bridge,
 * every request that publishes, erases, reads or listens (auth.ts). The CORS headers name the listed origins
 * (answers/headers.ts).
 *
 * A page has the bridge's own origin if `Sec-Fetch-Site` says so. No page can set that header, and browsers send it to
 * https and loopback addresses. Without it, `Origin` must name the host and port of `Host`. The server cannot see whether
 * TLS ends at a proxy, so it compares the scheme only if `TRUST_PROXY` lets `X-Forwarded-Proto` name it;
 * `X-Forwarded-Host` then replaces `Host`. A request without `Origin` does not come from a page's script: browsers send
 * `Origin` wherever CORS or WebSockets apply. It may come from an image or a link of another site.
 */
import type { IncomingHttpHeaders } from 'node:http';

/** The headers that describe the page behind a request, as sent; null if absent. */
export interface PageFacts {
  readonly origin: string | null;
  readonly host: string | null;
  readonly fetchSite: string | null;
  readonly forwardedHost: string | null;
  readonly forwardedProto: string | null;
}

export interface Origins {
  /** Whether pages of any other origin are listed. */
  readonly listsAny: boolean;
  /** Whether pages of this origin may use the bridge from elsewhere, with credentials. */
  isListed(origin: string | undefined): boolean;
  /**
   * Why the page may not use the bridge; null if it may. A request without `Origin` may, unless the browser says that it
   * comes from another site.
   */
  refusal(page: PageFacts): string | null;
  /** The same for a cookie, which browsers also add to images and links of sibling domains and other ports. */
  cookieRefusal(page: PageFacts): string | null;
}

export interface OriginConfig {
  readonly corsOrigins: readonly string[];
  /** Trusted proxies in front, which may name the outer host and protocol. Default 0. */
  readonly trustProxy?: number;
  /** Pages of this machine count as listed if no origin is: a front end's development server. Default false. */
  readonly localPages?: boolean;
}

export function headerValue(headers: IncomingHttpHeaders, name: string): string | null {
  const value = headers[name];
  return (Array.isArray(value) ? value.join(', ') : value) ?? null;
}

export function pageFacts(headers: IncomingHttpHeaders): PageFacts {
  return {
    origin: headerValue(headers, 'origin'),
    host: headerValue(headers, 'host'),
    fetchSite: headerValue(headers, 'sec-fetch-site'),
    forwardedHost: headerValue(headers, 'x-forwarded-host'),
    forwardedProto: headerValue(headers, 'x-forwarded-proto'),
  };
}

export function createOrigins({ corsOrigins, trustProxy = 0, localPages = false }: OriginConfig): Origins {
  const listed = new Set(corsOrigins.map(normalised));
  const listsLocal = localPages && listed.size === 0;

  function isListed(origin: string | undefined): boolean {
    // Any sandboxed frame or file has the opaque origin `null`.
    if (origin === undefined || origin === 'null') return false;
    const normal = normalised(origin);
    return listed.has(normal) || (listsLocal && LOCAL_PAGE.test(normal));
  }

  const hostOf = (page: PageFacts) => forwarded(page.forwardedHost, trustProxy) ?? page.host;

  function isOwn(page: PageFacts): boolean {
    if (page.fetchSite === 'same-origin') return true;
    const host = hostOf(page);
    if (page.origin === null || host === null || isElsewhere(page)) return false;
    const origin = URL.parse(page.origin);
    if (origin === null || (origin.protocol !== 'http:' && origin.protocol !== 'https:')) return false;
    const protocol = forwarded(page.forwardedProto, trustProxy);
    if (protocol !== null && `${protocol.toLowerCase()}:` !== origin.protocol) return false;
    // Either side may leave out the default port.
    return URL.parse(`${origin.protocol}//${host}/`)?.host === origin.host;
  }

  function refusal(page: PageFacts, sites: readonly string[]): string | null {
    const { origin, fetchSite } = page;
    if (origin === null) {
      if (fetchSite === null || !sites.includes(fetchSite)) return null;
      return `The request comes from a link or an image of another site (Sec-Fetch-Site: ${fetchSite}). Open the address by itself, or request it from a script of a page whose origin is in CORS_ORIGINS.`;
    }
    if (isListed(origin) || isOwn(page)) return null;
    const host = hostOf(page);
    const compared = host === null ? 'and the request has no Host' : `nor the origin of Host ${excerpt(host)}`;
    return `Origin ${excerpt(origin)} is not allowed: it is not in CORS_ORIGINS, ${compared}. Add it to CORS_ORIGINS if pages of this origin may use the bridge.`;
  }

  return {
    listsAny: listsLocal || listed.size > 0,
    isListed,
    refusal: (page) => refusal(page, ['cross-site']),
    cookieRefusal: (page) => refusal(page, ['cross-site', 'same-site']),
  };
}

/** In the form of `normalised`. */
const LOCAL_PAGE = /^https?:\/\/(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/;

/** The browser says that the page has another origin than the bridge. */
const isElsewhere = ({ fetchSite }: PageFacts): boolean => fetchSite === 'cross-site' || fetchSite === 'same-site';

/** A header's value in a sentence, short and in visible characters. */
export const excerpt = (value: string): string => value.replace(/[^\x21-\x7e]/g, '?').slice(0, 100);

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

/**
 * The one place that turns a request or a Socket.IO handshake into a principal (protocol §11).
 *
 * It looks for credentials in a fixed order and verifies the first one only. A bad credential is refused, never skipped
 * for the next, so that nobody gets other rights than those of the credential that they present:
 *   1. Socket.IO's `auth.token`, which clients renew, then the `Authorization: Bearer` header, which they cannot
 *   2. the pass
 *   3. the query's `access_token`
 *   4. the cookie, last because the browser adds it by itself; only for pages of an allowed origin (origins.ts)
 * With AUTH_MODE=none everyone is let in but pages of foreign origins, which bring in somebody who did not ask for it.
 */
import type { IncomingHttpHeaders } from 'node:http';
import type { ParsedUrlQuery } from 'node:querystring';
import { BridgeError } from '../contract/errors.ts';
import { headerValue, type Origins, type PageFacts, pageFacts } from './origins.ts';
import { createPasses, type Minted } from './pass.ts';
import { ANONYMOUS, type Principal } from './principal.ts';
import { createTokenVerifier, type TokenConfig, type TokenOptions, unauthorized } from './tokens.ts';

export interface AuthConfig extends TokenConfig {
  readonly authMode: 'none' | 'jwt';
  /** The name of the cookie that may hold a token. */
  readonly authCookie: string;
}

export interface AuthOptions extends TokenOptions {
  /** Hears why a page was refused. Default: nobody does. */
  readonly onForeignPage?: (refusal: string) => void;
}

/** The credentials of a request, unverified. Never logged. */
export interface Credentials {
  readonly bearer: string | null;
  readonly pass: string | null;
  readonly accessToken: string | null;
  readonly cookie: string | null;
  /** The request resumes an EventSource's stream: it has a `Last-Event-ID`, in the header or in the query. */
  readonly reconnect: boolean;
  readonly page: PageFacts;
}

export interface Auth {
  /**
   * No promise where the answer is known: publishers send the same token with each request. A refusal is a rejection.
   * @throws {BridgeError} `unauthorized`, `token_expired`, `forbidden` (a foreign page), `unavailable`
   */
  principalOf(credentials: Credentials): Principal | Promise<Principal>;
  /** @throws {BridgeError} `forbidden`, `unavailable` */
  mintPass(principal: Principal): Promise<Minted>;
}

/**
 * @param secretOf the store's `secret`
 * @throws {Error} one line that names the variable, if a key cannot be used
 */
export function createAuth(
  config: AuthConfig,
  origins: Origins,
  secretOf: (name: string) => Promise<string>,
  options: AuthOptions = {},
): Auth {
  const { onForeignPage = () => {} } = options;

  function foreign(refusal: string): Promise<never> {
    onForeignPage(refusal);
    return Promise.reject(new BridgeError('forbidden', refusal));
  }

  const passes = createPasses(secretOf, config, options.now);
  if (config.authMode === 'none') {
    return {
      principalOf({ page }) {
        const refusal = origins.refusal(page);
        return refusal === null ? ANONYMOUS : foreign(refusal);
      },
      mintPass: passes.mint,
    };
  }
  const verifyToken = createTokenVerifier(config, options);
  return {
    principalOf(credentials) {
      const { bearer, pass, accessToken, cookie, reconnect, page } = credentials;
      if (bearer !== null) return verifyToken(bearer);
      if (pass !== null) return passes.verify(pass, reconnect);
      if (accessToken !== null) return verifyToken(accessToken);
      if (cookie === null) return Promise.reject(unauthorized('A token is required.'));
      const refusal = origins.cookieRefusal(page);
      return refusal === null ? verifyToken(cookie) : foreign(refusal);
    },
    mintPass: passes.mint,
  };
}

/** @param routeAcceptsPass true for reading `/sse` and `/events` only (protocol §11) */
export function credentialsOfRequest(
  headers: IncomingHttpHeaders,
  query: URLSearchParams,
  cookieName: string,
  routeAcceptsPass: boolean,
): Credentials {
  return {
    bearer: bearerOf(headers),
    pass: routeAcceptsPass ? text(query.get('pass')) : null,
    accessToken: text(query.get('access_token')),
    cookie: cookieOf(headers, cookieName),
    reconnect: Boolean(headerValue(headers, 'last-event-id') || query.get('lastEventId') || query.get('Last-Event-ID')),
    page: pageFacts(headers),
  };
}

/** @param auth the unchecked `auth` of the client's Socket.IO CONNECT packet */
export function credentialsOfHandshake(
  auth: unknown,
  headers: IncomingHttpHeaders,
  query: URLSearchParams | ParsedUrlQuery,
  cookieName: string,
): Credentials {
  const ofAuth = (name: string) =>
    typeof auth === 'object' && auth !== null && Object.hasOwn(auth, name)
      ? text((auth as Readonly<Record<string, unknown>>)[name])
      : null;
  const ofQuery = (name: string) => {
    const value = query instanceof URLSearchParams ? query.get(name) : query[name];
    return text(Array.isArray(value) ? value[0] : value);
  };
  return {
    bearer: ofAuth('token') ?? bearerOf(headers),
    pass: ofAuth('pass') ?? ofQuery('pass'),
    accessToken: ofQuery('token') ?? ofQuery('access_token'),
    cookie: cookieOf(headers, cookieName),
    reconnect: false,
    page: pageFacts(headers),
  };
}

/** An empty value counts as absent. */
function text(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null;
}

/** RFC 6750 §2.1. Other schemes are for proxies in front of the bridge. */
function bearerOf(headers: IncomingHttpHeaders): string | null {
  const authorization = headerValue(headers, 'authorization');
  const match = authorization === null ? null : /^bearer +(\S.*)$/i.exec(authorization);
  return match === null ? null : (match[1] as string).trim();
}

/** RFC 6265 §5.4: of cookies with the same name, the first has the longest path. */
function cookieOf(headers: IncomingHttpHeaders, name: string): string | null {
  const cookies = headerValue(headers, 'cookie');
  if (cookies === null) return null;
  for (const pair of cookies.split(';')) {
    const equals = pair.indexOf('=');
    if (equals === -1 || pair.slice(0, equals).trim() !== name) continue;
    return text(
      pair
        .slice(equals + 1)
        .trim()
        .replace(/^"(.*)"$/, '$1'),
    );
  }
  return null;
}

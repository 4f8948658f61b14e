/**
 * The pass: a short-lived, listen-only stand-in for a token, for clients that can only send a URL (protocol §11,
 * `POST /pass`). It holds the token's tenants, narrowing, `sub`, `jti` and `iat`, and the scope `subscribe` only. A key of
 * the log signs it, so every node accepts it, also after a restart. Its key, `typ` and `aud` keep passes and tokens apart.
 *
 * Two time limits apply. For 600 s (`expiresInSeconds`), and never beyond the token's `exp`, it opens streams. Until the
 * token's `exp`, at most 24 h, it also serves the reconnects that a stock EventSource makes by itself: it repeats its
 * URL for hours, gives up for good on a 401, and sends a `Last-Event-ID`. Any request can send that header, so a leaked
 * URL lets others listen until then, and never do more.
 */
import { createSecretKey, type KeyObject } from 'node:crypto';
import { errors, type JWTPayload, jwtVerify, SignJWT } from 'jose';
import { BridgeError } from '../contract/errors.ts';
import { idsClaim } from '../contract/rooms.ts';
import { unexpired } from './expiry.ts';
import { identify } from './identity.ts';
import type { Principal, TokenHolder } from './principal.ts';
import { type ClaimsConfig, holderOf, PASS_TYPE, refusalOf, unauthorized } from './tokens.ts';

export interface Minted {
  readonly pass: string;
  readonly expiresInSeconds: number;
}

export interface Passes {
  /** @throws {BridgeError} `forbidden` (a service token, a token without `subscribe`, a pass), `unavailable` */
  mint(principal: Principal): Promise<Minted>;
  /**
   * @param reconnect the request resumes a stream
   * @throws {BridgeError} `unauthorized`, `token_expired`, `unavailable`
   */
  verify(pass: string, reconnect: boolean): Promise<TokenHolder>;
}

const OPENS_FOR_S = 600;
const RECONNECTS_FOR_S = 24 * 3600;
const AUDIENCE = 'roomcast:listen';
/** Room for the claims of the longest token, encoded again, and a few more. */
const MAX_PASS_CHARACTERS = 12_288;
/** A pass that another key signed makes this node read the log's key again, at most once per gap. */
const KEY_GAP_MS = 1_000;

/** @param secretOf the store's `secret` */
export function createPasses(
  secretOf: (name: string) => Promise<string>,
  config: ClaimsConfig,
  now: () => number = Date.now,
  keyGapMs: number = KEY_GAP_MS,
): Passes {
  let key: KeyObject | null = null;
  let readAtMs = Number.NEGATIVE_INFINITY;

  /** The log's key. A log that was flushed and created anew under a running node has a new one. */
  async function readKey(): Promise<KeyObject> {
    readAtMs = performance.now();
    key = createSecretKey(await secretOf('pass'), 'base64url');
    return key;
  }

  async function claimsOf(pass: string): Promise<JWTPayload> {
    const check = async (key: KeyObject) =>
      (
        await jwtVerify(pass, key, {
          algorithms: ['HS256'],
          typ: PASS_TYPE,
          audience: AUDIENCE,
          requiredClaims: ['exp', 'opensUntil'],
          currentDate: new Date(now()),
        })
      ).payload;
    try {
      return await check(key ?? (await readKey()));
    } catch (error) {
      const mayBeAnotherKey = error instanceof errors.JWSSignatureVerificationFailed;
      if (!mayBeAnotherKey || performance.now() - readAtMs < keyGapMs) throw error;
      return check(await readKey());
    }
  }

  return {
    async mint(principal) {
      const nowS = Math.floor(now() / 1000);
      const exp = principal.kind === 'token' ? principal.expiresAtMs : null;
      const endS = Math.min(nowS + RECONNECTS_FOR_S, exp === null ? Number.POSITIVE_INFINITY : Math.floor(exp / 1000));
      const opensUntil = Math.min(nowS + OPENS_FOR_S, endS);
      const claims = { ...claimsToPassOn(principal), opensUntil };
      const pass = await new SignJWT(claims)
        .setProtectedHeader({ alg: 'HS256', typ: PASS_TYPE })
        .setAudience(AUDIENCE)
        .setExpirationTime(endS)
        .sign(await readKey());
      return { pass, expiresInSeconds: Math.max(0, opensUntil - nowS) };
    },

    async verify(pass, reconnect) {
      if (pass.length > MAX_PASS_CHARACTERS) throw unauthorized('The pass is too long.');
      let claims: JWTPayload;
      try {
        claims = await claimsOf(pass);
      } catch (error) {
        throw error instanceof BridgeError ? error : refusalOf(error, config);
      }
      const holder: TokenHolder = { ...holderOf(claims, config), scopes: new Set(['subscribe']), viaPass: true };
      const opens = now() < (claims.opensUntil as number) * 1000;
      if (!opens && !reconnect) {
        throw identify(new BridgeError('token_expired', 'The pass has expired. Get a new one.'), holder);
      }
      return unexpired(holder, now());
    },
  };
}

/** With AUTH_MODE=none nobody needs a pass. The route still mints one, which reaches nothing where tokens are required. */
function claimsToPassOn(principal: Principal): JWTPayload {
  if (principal.kind === 'anonymous') return { tenantId: [] };
  if (principal.viaPass === true) throw new BridgeError('forbidden', 'A pass cannot mint another pass. Send a token.');
  const { tenants, subject, scopes, narrowing, claimed, tokenId, issuedAtS } = principal;
  if (tenants === '*') throw new BridgeError('forbidden', 'A service token cannot listen, so it gets no pass.');
  if (!scopes.has('subscribe')) throw new BridgeError('forbidden', 'The token lacks the scope subscribe.');
  return {
    tenantId: [...tenants],
    ...(subject === null ? {} : { sub: subject }),
    // Revocations find the token by these.
    ...(tokenId === null ? {} : { jti: tokenId }),
    ...(issuedAtS === null ? {} : { iat: issuedAtS }),
    ...Object.fromEntries([...(narrowing ?? []), ...claimed].map(([kind, ids]) => [idsClaim(kind), [...ids]])),
  };
}

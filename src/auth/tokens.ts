/**
 * From a bearer token to the principal that it stands for (protocol §11).
 *
 * Each configured key names the algorithms that it is for, and a token is checked only with keys for the algorithm in
 * its header: an RSA key can never be used as an HMAC secret, and `none` is no algorithm of any key. What is refused is
 * said in a sentence that holds neither the token nor a claim's value, and without jose's error as a cause, since that
 * carries the claims.
 */
import { createSecretKey, type KeyObject } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { type CryptoKey, createRemoteJWKSet, decodeProtectedHeader, errors, type JWTPayload, jwtVerify } from 'jose';
import { BridgeError } from '../contract/errors.ts';
import { isRoomId } from '../contract/rooms.ts';
import { tokenExpired, unexpired } from './expiry.ts';
import type { TokenHolder } from './principal.ts';
import { PUBLIC_KEY_ALGORITHMS, PUBLIC_KEYS_RULE, type PublicKey, parsePublicKeys } from './public-keys.ts';

export interface TokenConfig {
  /** HS256. */
  readonly jwtSecret: string | null;
  /** PEM text: one public key or certificate, or several one after the other (while keys are being rotated). */
  readonly jwtPublicKey: string | null;
  readonly jwksUrl: string | null;
  readonly jwtIssuer: string | null;
  readonly jwtAudience: string | null;
}

export interface TokenOptions {
  /** Milliseconds since 1970. Default `Date.now`. */
  readonly now?: () => number;
  /** Least time between two fetches of the JWKS, in milliseconds. Default 1000. */
  readonly jwksGapMs?: number;
}

/** @throws {BridgeError} `unauthorized`, `token_expired`, `unavailable` (the JWKS cannot be had) */
export type TokenVerifier = (token: string) => Promise<TokenHolder>;

/** A longer token is refused unread. It would hardly pass the limits on headers of proxies and of Node anyway. */
const MAX_TOKEN_CHARACTERS = 8192;
/** How far `nbf` may lie ahead of this clock. `exp` gets no tolerance: the second it names is the token's last. */
const NBF_TOLERANCE_S = 5;
/** Ids in `ticketIds` or `agreementIds`; what a state query takes. */
const MAX_NARROWING_IDS = 1000;
/** Keys of a JWKS are used for so long before they are fetched again. */
const JWKS_MAX_AGE_MS = 600_000;
/** With the wait for JWKS_GAP_MS, within the 5 s of protocol §10. */
const JWKS_TIMEOUT_MS = 3_000;
const JWKS_GAP_MS = 1_000;
/** A token seen again within this time is not verified again: publishers send the same one with each request. */
const REMEMBER_MS = 60_000;
const REMEMBER_TOKENS = 1_000;
/** The largest instant that a Date holds. */
const END_OF_TIME_MS = 8.64e15;

/** `typ` of the stand-in of pass.ts, which no bearer token may carry. */
export const PASS_TYPE = 'roomcast-pass+jwt';

type Key = KeyObject | CryptoKey;

interface KeySource {
  readonly algorithms: readonly string[];
  /** The keys that a token with this key id may be signed with. `again`: not those known, fetch them. */
  keysFor(alg: string, kid: string | undefined, again: boolean): Promise<readonly Key[]>;
  readonly fetched: boolean;
}

/**
 * @throws {Error} one line that names the variable at fault, when there is no key or one cannot be used
 */
export function createTokenVerifier(config: TokenConfig, options: TokenOptions = {}): TokenVerifier {
  const now = options.now ?? Date.now;
  const sources = keySources(config, options.jwksGapMs ?? JWKS_GAP_MS);
  if (sources.length === 0) {
    throw new Error('AUTH_MODE is jwt, but no key is set. Set one of JWT_SECRET, JWT_PUBLIC_KEY, JWKS_URL.');
  }
  const remembered = new Map<string, { readonly holder: TokenHolder; readonly untilMs: number }>();

  return async function verify(token) {
    if (token.length > MAX_TOKEN_CHARACTERS) throw unauthorized('The token is too long.');
    const known = remembered.get(token);
    if (known !== undefined && now() < known.untilMs) return unexpired(known.holder, now());
    remembered.delete(token);
    const holder = unexpired(holderOf(await verifiedClaims(token)), now());
    if (remembered.size >= REMEMBER_TOKENS) remembered.delete(remembered.keys().next().value as string);
    remembered.set(token, { holder, untilMs: now() + REMEMBER_MS });
    return holder;
  };

  async function verifiedClaims(token: string): Promise<JWTPayload> {
    const { alg, kid, typ } = headerOf(token);
    const fitting = sources.filter(({ algorithms }) => alg !== undefined && algorithms.includes(alg));
    if (alg === undefined || fitting.length === 0) {
      throw unauthorized('The token is signed with an algorithm that no configured key is for.');
    }
    if (typ?.toLowerCase().endsWith(PASS_TYPE)) throw unauthorized('A pass is not a bearer token.');
    for (const source of fitting) {
      const claims = await tryKeys(token, alg, await source.keysFor(alg, kid, false));
      if (claims !== null) return claims;
      // A key set that names no key ids may have been rotated without a sign.
      if (!source.fetched || kid !== undefined) continue;
      const claimsOfNewer = await tryKeys(token, alg, await source.keysFor(alg, kid, true));
      if (claimsOfNewer !== null) return claimsOfNewer;
    }
    throw unauthorized('The token is signed with a key that is not known here.');
  }

  /** The claims once a key fits the signature; null when none does. */
  async function tryKeys(token: string, alg: string, keys: readonly Key[]): Promise<JWTPayload | null> {
    for (const key of keys) {
      try {
        const { payload } = await jwtVerify(token, key, {
          algorithms: [alg],
          clockTolerance: NBF_TOLERANCE_S,
          currentDate: new Date(now()),
          ...(config.jwtIssuer === null ? {} : { issuer: config.jwtIssuer }),
          ...(config.jwtAudience === null ? {} : { audience: config.jwtAudience }),
        });
        return payload;
      } catch (error) {
        // Only a key that cannot be used, such as a short one of a JWKS, makes for another kind of error.
        if (!(error instanceof errors.JOSEError)) throw noKeys(error);
        if (!(error instanceof errors.JWSSignatureVerificationFailed)) throw refusalOf(error);
      }
    }
    return null;
  }
}

function keySources({ jwtSecret, jwtPublicKey, jwksUrl }: TokenConfig, jwksGapMs: number): KeySource[] {
  const sources: KeySource[] = [];
  if (jwtSecret !== null) sources.push(fixed({ algorithms: ['HS256'], key: createSecretKey(jwtSecret, 'utf8') }));
  if (jwtPublicKey !== null) sources.push(...publicKeys(jwtPublicKey).map(fixed));
  if (jwksUrl !== null) sources.push(fetchedKeys(jwksUrl, jwksGapMs));
  return sources;
}

function publicKeys(text: string): readonly PublicKey[] {
  const keys = parsePublicKeys(text);
  if (keys === null) throw new Error(`JWT_PUBLIC_KEY must be ${PUBLIC_KEYS_RULE}.`);
  return keys;
}

function fixed({ algorithms, key }: { readonly algorithms: readonly string[]; readonly key: KeyObject }): KeySource {
  return { algorithms, fetched: false, keysFor: async () => [key] };
}

/**
 * The keys of a JWKS: fetched on first use, when they are old, and when a token names a key that is not among them, so
 * that a rotated key is known at once. Requests share a fetch, and fetches keep a distance, so that tokens made up by
 * an attacker cannot turn this server against the issuer's.
 */
function fetchedKeys(url: string, gapMs: number): KeySource {
  const jwks = createRemoteJWKSet(new URL(url), {
    timeoutDuration: JWKS_TIMEOUT_MS,
    cacheMaxAge: JWKS_MAX_AGE_MS,
    // jose would leave a new key unknown for this long after each fetch; `refresh` decides instead.
    cooldownDuration: Number.POSITIVE_INFINITY,
  });
  let fetching: Promise<void> | null = null;
  let fetchedAtMs = Number.NEGATIVE_INFINITY;

  function refresh(): Promise<void> {
    fetching ??= (async () => {
      const waitMs = fetchedAtMs + gapMs - performance.now();
      if (waitMs > 0) await delay(waitMs);
      fetchedAtMs = performance.now();
      await jwks.reload();
    })().finally(() => {
      fetching = null;
    });
    return fetching;
  }

  async function find(alg: string, kid: string | undefined): Promise<Key[]> {
    try {
      return [await jwks({ alg, ...(kid === undefined ? {} : { kid }) })];
    } catch (error) {
      if (error instanceof errors.JWKSNoMatchingKey) return [];
      if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error;
      const keys: Key[] = [];
      for await (const key of error) keys.push(key);
      return keys;
    }
  }

  return {
    algorithms: PUBLIC_KEY_ALGORITHMS,
    fetched: true,
    async keysFor(alg, kid, again) {
      try {
        const asKnown = jwks.fresh && !again;
        if (!asKnown) await refresh();
        const keys = await find(alg, kid);
        if (keys.length > 0 || !asKnown) return keys;
        await refresh();
        return await find(alg, kid);
      } catch (cause) {
        throw noKeys(cause);
      }
    },
  };
}

function headerOf(token: string): { readonly alg?: string; readonly kid?: string; readonly typ?: string } {
  try {
    const { alg, kid, typ } = decodeProtectedHeader(token);
    return {
      ...(typeof alg === 'string' ? { alg } : {}),
      ...(typeof kid === 'string' ? { kid } : {}),
      ...(typeof typ === 'string' ? { typ } : {}),
    };
  } catch {
    throw unauthorized('The token is not a signed JSON Web Token.');
  }
}

/** Sentences that may be sent to the client, and logged. */
export function refusalOf(error: unknown): BridgeError {
  if (error instanceof errors.JWTExpired) return tokenExpired();
  if (error instanceof errors.JWTClaimValidationFailed) {
    const { claim } = error;
    if (claim === 'nbf' && error.reason === 'check_failed') return unauthorized('The token is not valid yet.');
    if (['iss', 'aud', 'exp', 'nbf'].includes(claim)) {
      return unauthorized(`The token's ${claim} claim is not what this server takes.`);
    }
  }
  return unauthorized('The token is not a valid signed JSON Web Token.');
}

export const unauthorized = (message: string): BridgeError => new BridgeError('unauthorized', message);
const noKeys = (cause: unknown): BridgeError =>
  new BridgeError('unavailable', 'The keys that tokens are checked with cannot be had now.', { cause });

/**
 * The principal that verified claims describe. A claim of the wrong type refuses the token rather than being left out:
 * left out, a malformed `ticketIds` would widen what the token reaches. A token without `tenantId` or `scope` is good,
 * and may do nothing.
 */
export function holderOf(claims: JWTPayload): TokenHolder {
  const claim = (name: string): unknown => (Object.hasOwn(claims, name) ? claims[name] : undefined);
  const exp = claim('exp');
  return {
    kind: 'token',
    tenants: tenantsOf(claim('tenantId')),
    subject: subjectOf(claim('sub')),
    scopes: scopesOf(claim('scope')),
    ticketIds: narrowingOf('ticketIds', claim('ticketIds')),
    agreementIds: narrowingOf('agreementIds', claim('agreementIds')),
    expiresAtMs: typeof exp === 'number' ? Math.min(exp * 1000, END_OF_TIME_MS) : null,
  };
}

const isStrings = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((item) => typeof item === 'string');

function tenantsOf(value: unknown): readonly string[] | '*' {
  if (value === undefined) return [];
  if (value === '*') return '*';
  const ids = typeof value === 'string' ? [value] : value;
  // `*` in an array is refused, lest it be taken for a tenant or for all of them.
  if (!isStrings(ids) || !ids.every((id) => isRoomId(id) && id !== '*')) {
    throw unauthorized("The token's tenantId claim must be a tenant id, an array of tenant ids, or *.");
  }
  return [...new Set(ids)];
}

function subjectOf(value: unknown): string | null {
  if (value === undefined) return null;
  if (typeof value !== 'string') throw unauthorized("The token's sub claim must be a string.");
  return value;
}

function scopesOf(value: unknown): ReadonlySet<string> {
  if (value === undefined) return new Set();
  const scopes = typeof value === 'string' ? value.split(' ') : value;
  if (!isStrings(scopes)) throw unauthorized("The token's scope claim must be a string, or an array of strings.");
  return new Set(scopes.filter((scope) => scope !== ''));
}

function narrowingOf(name: string, value: unknown): ReadonlySet<string> | null {
  if (value === undefined) return null;
  if (!isStrings(value) || value.length > MAX_NARROWING_IDS) {
    throw unauthorized(`The token's ${name} claim must be an array of at most ${MAX_NARROWING_IDS} strings.`);
  }
  return new Set(value);
}

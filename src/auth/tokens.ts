/**
 * Verifies a bearer token and derives its principal (protocol §11).
 *
 * Each configured key has its algorithms, and a token is checked only with keys for the algorithm in its header: an RSA
 * key can never serve as an HMAC secret, and no key has the algorithm `none`. A refusal holds neither the token nor the
 * value of a claim, and does not have jose's error as its cause, because that carries the claims.
 */
import { createSecretKey, type KeyObject } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { type CryptoKey, createRemoteJWKSet, decodeProtectedHeader, errors, type JWTPayload, jwtVerify } from 'jose';
import { BridgeError } from '../contract/errors.ts';
import { ALL_TENANTS, idsClaim, type RoomKind, toId } from '../contract/rooms.ts';
import { expiryOf, tokenExpired, unexpired } from './expiry.ts';
import { identify } from './identity.ts';
import type { TokenHolder } from './principal.ts';
import { PUBLIC_KEY_ALGORITHMS, PUBLIC_KEYS_RULE, type PublicKey, parsePublicKeys } from './public-keys.ts';

export interface TokenConfig {
  /** HS256. */
  readonly jwtSecret: string | null;
  /** PEM text of one or more public keys or certificates. */
  readonly jwtPublicKey: string | null;
  readonly jwksUrl: string | null;
  readonly jwtIssuer: string | null;
  readonly jwtAudience: string | null;
  readonly jwtDefaultScope: readonly string[];
  readonly roomKinds: readonly RoomKind[];
  readonly claimedRoomKinds: readonly RoomKind[];
}

export interface TokenOptions {
  /** Milliseconds since 1970. Default `Date.now`. */
  readonly now?: () => number;
  /** Shortest time between two fetches of the JWKS, in milliseconds. Default 1000. */
  readonly jwksGapMs?: number;
}

/**
 * No promise for a token that is remembered. A refusal is a rejection.
 * @throws {BridgeError} `unauthorized`, `token_expired`, `unavailable` (the JWKS cannot be fetched)
 */
export type TokenVerifier = (token: string) => TokenHolder | Promise<TokenHolder>;

/** A longer token is refused unread. It would hardly pass the header limits of proxies and of Node. */
const MAX_TOKEN_CHARACTERS = 8192;
/** How far `nbf` may be ahead of this clock. `exp` has no tolerance (expiry.ts). */
const NBF_TOLERANCE_S = 5;
/** The most ids in one claim: the limit of a state query. */
const MAX_CLAIMED_IDS = 1000;
/** Age at which the keys of a JWKS are fetched again. */
const JWKS_MAX_AGE_MS = 600_000;
/** With JWKS_GAP_MS, within the 5 s of protocol §10. */
const JWKS_TIMEOUT_MS = 3_000;
const JWKS_GAP_MS = 1_000;
/** How long a verification is remembered: publishers send the same token with each request. */
const REMEMBER_MS = 60_000;
const REMEMBER_TOKENS = 1_000;
/** The largest instant of a Date. */
const END_OF_TIME_MS = 8.64e15;

/** The `typ` of a pass (pass.ts). No bearer token may have it. */
export const PASS_TYPE = 'roomcast-pass+jwt';

type Key = KeyObject | CryptoKey;

interface KeySource {
  readonly algorithms: readonly string[];
  /** Candidate keys for a token with this key id. `again`: the known keys did not fit, so fetch them. */
  keysFor(alg: string, kid: string | undefined, again: boolean): Promise<readonly Key[]>;
  readonly fetched: boolean;
}

/**
 * @throws {Error} one line that names the variable, if no key is set or a key cannot be used
 */
export function createTokenVerifier(config: TokenConfig, options: TokenOptions = {}): TokenVerifier {
  const now = options.now ?? Date.now;
  const sources = keySources(config, options.jwksGapMs ?? JWKS_GAP_MS);
  if (sources.length === 0) {
    throw new Error('AUTH_MODE is jwt, but no key is set. Set one of JWT_SECRET, JWT_PUBLIC_KEY, JWKS_URL.');
  }
  const remembered = new Map<string, { readonly holder: TokenHolder; readonly untilMs: number }>();

  return function verify(token) {
    const known = remembered.get(token);
    const nowMs = now();
    const isGood = known !== undefined && nowMs < known.untilMs && nowMs < expiryOf(known.holder);
    return isGood ? known.holder : verifyAnew(token);
  };

  async function verifyAnew(token: string): Promise<TokenHolder> {
    if (token.length > MAX_TOKEN_CHARACTERS) throw unauthorized('The token is too long.');
    const known = remembered.get(token);
    if (known !== undefined && now() < known.untilMs) return unexpired(known.holder, now());
    remembered.delete(token);
    const holder = unexpired(holderOf(await verifiedClaims(token), config), now());
    if (remembered.size >= REMEMBER_TOKENS) remembered.delete(remembered.keys().next().value as string);
    remembered.set(token, { holder, untilMs: now() + REMEMBER_MS });
    return holder;
  }

  async function verifiedClaims(token: string): Promise<JWTPayload> {
    const { alg, kid, typ } = headerOf(token);
    const fitting = sources.filter(({ algorithms }) => alg !== undefined && algorithms.includes(alg));
    if (alg === undefined || fitting.length === 0) {
      throw unauthorized('No configured key is for the algorithm of the token.');
    }
    if (typ?.toLowerCase().endsWith(PASS_TYPE)) throw unauthorized('A pass is not a bearer token.');
    for (const source of fitting) {
      const claims = await tryKeys(token, alg, await source.keysFor(alg, kid, false));
      if (claims !== null) return claims;
      // A key set without key ids may be rotated unnoticed, so a token without one is also tried with new keys.
      if (!source.fetched || kid !== undefined) continue;
      const claimsOfNewer = await tryKeys(token, alg, await source.keysFor(alg, kid, true));
      if (claimsOfNewer !== null) return claimsOfNewer;
    }
    throw unauthorized('The token is signed with an unknown key.');
  }

  /** The claims if one of the keys fits the signature, else null. */
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
        // Any other kind of error means an unusable key, such as a short one in a JWKS.
        if (!(error instanceof errors.JOSEError)) throw noKeys(error);
        if (!(error instanceof errors.JWSSignatureVerificationFailed)) throw refusalOf(error, config);
      }
    }
    return null;
  }
}

function keySources({ jwtSecret, jwtPublicKey, jwksUrl }: TokenConfig, jwksGapMs: number): KeySource[] {
  const sources: KeySource[] = [];
  if (jwtSecret !== null) sources.push(fixed({ algorithms: ['HS256'], key: createSecretKey(jwtSecret, 'utf8') }));
  if (jwtPublicKey !== null) {
    const keys = parsePublicKeys(jwtPublicKey);
    if (keys === null) throw new Error(`JWT_PUBLIC_KEY must be ${PUBLIC_KEYS_RULE}.`);
    sources.push(...keys.map(fixed));
  }
  if (jwksUrl !== null) sources.push(fetchedKeys(jwksUrl, jwksGapMs));
  return sources;
}

function fixed({ algorithms, key }: PublicKey): KeySource {
  return { algorithms, fetched: false, keysFor: async () => [key] };
}

/**
 * The keys of a JWKS: fetched on first use, when they are old, and when a token names an unknown key, so that a rotated
 * key works at once. Requests share a fetch, and a gap separates fetches, so that an attacker's invented tokens cannot
 * make this server flood the issuer's.
 */
function fetchedKeys(url: string, gapMs: number): KeySource {
  const jwks = createRemoteJWKSet(new URL(url), {
    timeoutDuration: JWKS_TIMEOUT_MS,
    cacheMaxAge: JWKS_MAX_AGE_MS,
    // jose would not fetch again for this long after a fetch; `refresh` decides instead.
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

function headerOf(token: string) {
  const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);
  try {
    const { alg, kid, typ } = decodeProtectedHeader(token);
    return { alg: text(alg), kid: text(kid), typ: text(typ) };
  } catch {
    throw unauthorized('The token is not a signed JSON Web Token.');
  }
}

/** A refusal in a sentence that is safe to send and to log, and whose token it was if the signature was good. */
export function refusalOf(error: unknown, config: ClaimsConfig): BridgeError {
  const refusal = sentenceOf(error);
  // jose looks at the claims only once the signature is verified.
  if (!(error instanceof errors.JWTExpired || error instanceof errors.JWTClaimValidationFailed)) return refusal;
  try {
    return identify(refusal, holderOf(error.payload, config));
  } catch {
    return refusal; // malformed claims
  }
}

function sentenceOf(error: unknown): BridgeError {
  if (error instanceof errors.JWTExpired) return tokenExpired();
  if (error instanceof errors.JWTClaimValidationFailed) {
    const { claim } = error;
    if (claim === 'nbf' && error.reason === 'check_failed') return unauthorized('The token is not valid yet.');
    if (['iss', 'aud', 'exp', 'nbf'].includes(claim)) {
      return unauthorized(`The token's ${claim} claim is missing or not accepted by this server.`);
    }
  }
  return unauthorized('The token is not a valid signed JSON Web Token.');
}

export const unauthorized = (message: string): BridgeError => new BridgeError('unauthorized', message);
const noKeys = (cause: unknown): BridgeError =>
  new BridgeError('unavailable', 'The keys that verify tokens cannot be fetched now. Try again later.', { cause });

/** What the operator says about claims. */
export type ClaimsConfig = Pick<TokenConfig, 'jwtDefaultScope' | 'roomKinds' | 'claimedRoomKinds'>;

/**
 * The principal of verified claims. A claim that narrows the token and is malformed names no id: to ignore it would widen
 * what the token reaches. A token without `tenantId` or `scope` is valid and may do nothing.
 */
export function holderOf(
  claims: JWTPayload,
  { jwtDefaultScope, roomKinds, claimedRoomKinds }: ClaimsConfig,
): TokenHolder {
  const claim = (name: string): unknown => (Object.hasOwn(claims, name) ? claims[name] : undefined);
  const idsOf = (kinds: readonly RoomKind[]) =>
    new Map(
      kinds.flatMap((kind) => {
        const value = claim(idsClaim(kind));
        return value === undefined ? [] : [[kind, idsIn(idsClaim(kind), value)] as const];
      }),
    );
  const openKinds = ['ticket', 'agreement', ...roomKinds.filter((kind) => !claimedRoomKinds.includes(kind))];
  const narrowing = idsOf(openKinds);
  const exp = claim('exp');
  const iat = claim('iat');
  return {
    kind: 'token',
    tenants: tenantsOf(claim('tenantId')),
    subject: subjectOf(claim('sub')),
    scopes: scopesOf(claim('scope') ?? (isAccess(claim('type')) ? jwtDefaultScope : [])),
    narrowing: narrowing.size === 0 ? null : narrowing,
    openKinds,
    claimed: idsOf(claimedRoomKinds),
    tokenId: textOf(claim('jti')),
    issuedAtS: typeof iat === 'number' ? Math.floor(iat) : null,
    expiresAtMs: typeof exp === 'number' ? Math.min(exp * 1000, END_OF_TIME_MS) : null,
  };
}

/** A refresh token, for example, never gets the default scope. */
const isAccess = (type: unknown): boolean => type === undefined || type === 'access';

const isStrings = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((item) => typeof item === 'string');

function tenantsOf(value: unknown): readonly string[] | '*' {
  if (value === undefined) return [];
  if (value === ALL_TENANTS) return ALL_TENANTS;
  const ids = (Array.isArray(value) ? value : [value]).map(toId);
  // `*` in an array is refused: it could be read as a tenant, or as all of them.
  if (!isStrings(ids) || ids.includes(ALL_TENANTS)) {
    throw unauthorized("The token's tenantId claim must be a tenant id, an array of tenant ids, or *.");
  }
  return [...new Set(ids)];
}

/** A text claim, or an integer as its decimal text; null if it is neither. */
function textOf(value: unknown): string | null {
  if (typeof value === 'string') return value;
  return typeof value === 'number' ? toId(value) : null;
}

function subjectOf(value: unknown): string | null {
  if (value === undefined) return null;
  const subject = textOf(value);
  if (subject === null) throw unauthorized("The token's sub claim must be a string or an integer.");
  return subject;
}

function scopesOf(value: unknown): ReadonlySet<string> {
  const scopes = typeof value === 'string' ? value.split(' ') : value;
  if (!isStrings(scopes)) throw unauthorized("The token's scope claim must be a string, or an array of strings.");
  return new Set(scopes.filter((scope) => scope !== ''));
}

/** The ids of a claim: one, or an array of them. Anything else names none. */
function idsIn(name: string, value: unknown): ReadonlySet<string> {
  const ids = (Array.isArray(value) ? value : [value]).map(toId);
  if (ids.length > MAX_CLAIMED_IDS) {
    throw unauthorized(`The token's ${name} claim must have at most ${MAX_CLAIMED_IDS} ids.`);
  }
  return new Set(isStrings(ids) ? ids : []);
}

/**
 * Refuses what was revoked (protocol §15): the tokens of requests, the connections that are open, and the passes made from
 * revoked tokens, which carry their `iat` and `jti`.
 *
 * The log keeps the revocations (store/revocations.ts); here is their index on this node. A token is looked up by its
 * claims, so a request costs the same however many revocations there are. A new revocation costs one pass over this node's
 * connections, and revocations that come together share it.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { BridgeError } from '../contract/errors.ts';
import type { Logger } from '../logger.ts';
import { erasedClaim, erasedTenant, isErased, type Revocation, type RevocationListener } from '../store/revocations.ts';
import { identify } from './identity.ts';
import type { Principal, TokenHolder } from './principal.ts';

/** How long a client may read the rest of its events after its token was revoked. Then it is cut. */
export const REVOKED_LINGER_MS = 500;
/** Connections, or revocations, that are looked at in one turn of the event loop: about a millisecond. */
const SLICE = 1_000;

/** The claims of a token by which it may be revoked. */
export type TokenClaims = Pick<TokenHolder, 'tenants' | 'subject' | 'tokenId' | 'issuedAtS'>;

export interface WatchedConnection {
  readonly claims: TokenClaims;
  /** Ends the connection with {@link tokenRevoked}. */
  revoked(): void;
}

export interface Revoked {
  /**
   * The principal without the tenants that were revoked for its token.
   * @throws {BridgeError} `token_revoked`
   */
  current(principal: Principal): Principal;
  /**
   * Calls `revoked` of the connection once its token, or one of the token's tenants, is revoked.
   * @throws {BridgeError} `token_revoked`, or `unavailable` if it lost tenants since `current`
   */
  watch(connection: WatchedConnection): void;
  unwatch(connection: WatchedConnection): void;
}

export const tokenRevoked = (): BridgeError =>
  new BridgeError('token_revoked', 'The token was revoked. Use a newer one.');

/** The claims of somebody without a token: nothing that could be revoked. */
const NO_CLAIMS: TokenClaims = { tenants: [], subject: null, tokenId: null, issuedAtS: null };

/** What `watch` needs of a principal. */
export function claimsOf(principal: Principal): TokenClaims {
  if (principal.kind === 'anonymous') return NO_CLAIMS;
  const { tenants, subject, tokenId, issuedAtS } = principal;
  return { tenants, subject, tokenId, issuedAtS };
}

/** By `tenantId`, then `sub`, then `jti`, each null where a revocation does not name it: up to which second. */
type Index = Map<string | null, Map<string | null, Map<string | null, number>>>;

function add(index: Index, { tenantId, sub, jti, beforeMs }: Revocation): void {
  const bySub = index.get(tenantId) ?? new Map();
  const byJti = bySub.get(sub) ?? new Map();
  byJti.set(jti, Math.max(Math.floor(beforeMs / 1000), byJti.get(jti) ?? Number.NEGATIVE_INFINITY));
  bySub.set(sub, byJti);
  index.set(tenantId, bySub);
}

/** A token without `iat` counts as old. */
const isOld = (untilS: number | undefined, issuedAtS: number | null): boolean =>
  untilS !== undefined && (issuedAtS === null || issuedAtS <= untilS);

function isIn(index: Index, tenantId: string | null, sub: string | null, jti: string | null, issuedAtS: number | null) {
  const bySub = index.get(tenantId);
  if (bySub === undefined) return false;
  const anySub = bySub.get(null);
  const ofSub = sub === null ? undefined : bySub.get(sub);
  return [anySub, ofSub].some(
    (byJti) => isOld(byJti?.get(null), issuedAtS) || (jti !== null && isOld(byJti?.get(jti), issuedAtS)),
  );
}

export function createRevoked(logger: Logger): Revoked & RevocationListener {
  let index: Index = new Map();
  /** Of erased tenants, with digests in place of ids. */
  let erased: Index = new Map();
  const watched = new Set<WatchedConnection>();
  let passing = false;
  let isPassDue = false;

  const isTenantRevoked = (tenantId: string, { subject, tokenId, issuedAtS }: TokenClaims): boolean => {
    if (isIn(index, tenantId, subject, tokenId, issuedAtS)) return true;
    if (erased.size === 0) return false;
    const name = erasedTenant(tenantId);
    if (!erased.has(name)) return false;
    const digest = (value: string | null) => (value === null ? null : erasedClaim(tenantId, value));
    return isIn(erased, name, digest(subject), digest(tokenId), issuedAtS);
  };

  /** The tenants that the token keeps, the same array if it keeps all; null if it is revoked. */
  function tenantsLeft(claims: TokenClaims): TokenClaims['tenants'] | null {
    const { tenants, subject, tokenId, issuedAtS } = claims;
    if (isIn(index, null, subject, tokenId, issuedAtS)) return null;
    // A revocation that names a tenant is about tokens that name it.
    if (tenants === '*' || !tenants.some((tenantId) => isTenantRevoked(tenantId, claims))) return tenants;
    const left = tenants.filter((tenantId) => !isTenantRevoked(tenantId, claims));
    return left.length === 0 ? null : left;
  }

  async function endRevoked(): Promise<void> {
    isPassDue = true;
    if (passing) return;
    passing = true;
    while (isPassDue) {
      isPassDue = false;
      let looked = 0;
      for (const connection of watched) {
        if (++looked % SLICE === 0) await nextTurn();
        if (watched.has(connection) && tenantsLeft(connection.claims) !== connection.claims.tenants) end(connection);
      }
    }
    passing = false;
  }

  /** Design law 12. */
  function end(connection: WatchedConnection): void {
    watched.delete(connection);
    try {
      connection.revoked();
    } catch (error) {
      logger.error({ err: error }, 'a connection whose token was revoked could not be ended');
    }
  }

  return {
    current(principal) {
      if (principal.kind === 'anonymous') return principal;
      const tenants = tenantsLeft(principal);
      if (tenants === null) throw identify(tokenRevoked(), principal);
      return tenants === principal.tenants ? principal : { ...principal, tenants };
    },
    watch(connection) {
      const { claims } = connection;
      if (claims === NO_CLAIMS) return;
      const left = tenantsLeft(claims);
      if (left === null) throw tokenRevoked();
      if (left !== claims.tenants) {
        throw new BridgeError('unavailable', 'The token lost a tenant while it connected. Connect again.');
      }
      watched.add(connection);
    },
    unwatch: (connection) => void watched.delete(connection),
    added(revocations) {
      for (const revocation of revocations) add(isErased(revocation) ? erased : index, revocation);
      void endRevoked();
    },
    async replaced(revocations) {
      const fresh: Index = new Map();
      const freshErased: Index = new Map();
      for (const [at, revocation] of revocations.entries()) {
        if (at % SLICE === SLICE - 1) await nextTurn();
        add(isErased(revocation) ? freshErased : fresh, revocation);
      }
      index = fresh;
      erased = freshErased;
      void endRevoked();
    },
  };
}

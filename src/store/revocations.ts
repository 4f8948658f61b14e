/**
 * Revocations (protocol §15): which tokens the bridge refuses although they are signed and unexpired. They stand in the
 * log beside the records, so every node of a log has them, also after a restart. auth/revocations.ts enforces them.
 *
 * A revocation outlives the erasure of its tenant, because it must still refuse tokens. So an erasure replaces the ids by
 * digests, and a token is then compared by its digests.
 */
import { hash } from 'node:crypto';
import { fieldsError } from '../contract/errors.ts';
import type { Logger } from '../logger.ts';

/** Which tokens: all claims that are not null must match. */
export interface RevokedClaims {
  readonly sub: string | null;
  readonly tenantId: string | null;
  readonly jti: string | null;
}

export interface NewRevocation extends RevokedClaims {
  /** Tokens issued up to this second are refused. Milliseconds since 1970. */
  readonly beforeMs: number;
  readonly createdAtMs: number;
}

export interface Revocation extends NewRevocation {
  /** `{number}-{nonce}`: the numbers rise in the order in which the log got the revocations. */
  readonly id: string;
}

/** How many a log keeps, and how many of them may name one tenant. */
export interface RevocationLimits {
  readonly inAll: number;
  readonly ofTenant: number;
}

/** Revocations of one read, and of one slice of an erasure or a trim. */
export const REVOCATION_SLICE = 1_000;

export interface RevocationsQuery {
  readonly caller?: string;
  /** Only revocations that name one of these; null: all. */
  readonly tenants: readonly string[] | null;
  /** 1 to 1000. */
  readonly limit: number;
  /** The `nextPage` of the page before; null: the first page. */
  readonly page: string | null;
}

export interface RevocationPage {
  /** Newest first. */
  readonly items: readonly Revocation[];
  readonly nextPage: string | null;
}

/** Learns which revocations are in force. If a method throws, it is called again. */
export interface RevocationListener {
  added(revocations: readonly Revocation[]): void;
  /** These, and no others, are in force. */
  replaced(revocations: readonly Revocation[]): Promise<void>;
}

export interface Revocations {
  /**
   * MUST resolve only after the revocation is durable and the listener of this node has it; if the log goes away in
   * between, the listener gets it later, as `followRevocations` says. `full`: there are as many as
   * there may be; nothing was added.
   * @throws {BridgeError} `unavailable`, `outcome_unknown`: it may have been added. A second one does no harm.
   */
  revoke(revocation: NewRevocation, limits: RevocationLimits): Promise<Revocation | 'full'>;
  /** @throws {BridgeError} `invalid_request` for a `page` of another form, `unavailable` */
  revocations(query: RevocationsQuery): Promise<RevocationPage>;
  /** Null if there is none with this id. */
  findRevocation(id: string): Promise<Revocation | null>;
  /** Removes it, as `revoke` adds it. False if there is none with this id. */
  liftRevocation(id: string): Promise<boolean>;
  /**
   * Resolves once the listener has all revocations. From then on it MUST hear of each change by any node within 500 ms
   * while this node reaches the log, and of all that it missed once the log can be reached again, also after a restart,
   * a failover or a flush of the log. Call it once.
   * @throws {BridgeError} `unavailable`
   */
  followRevocations(listener: RevocationListener): Promise<void>;
}

/** Ids have no whitespace, so that no tenant can have this name. */
const ERASED = 'sha256 ';

/** Replaces the id of an erased tenant. */
export const erasedTenant = (tenantId: string): string => `${ERASED}${hash('sha256', tenantId, 'base64url')}`;

/** Replaces the `sub` or `jti` in a revocation of an erased tenant. */
export const erasedClaim = (tenantId: string, value: string): string =>
  `${ERASED}${hash('sha256', `${tenantId}\n${value}`, 'base64url')}`;

export const isErased = ({ tenantId }: RevokedClaims): boolean => tenantId?.startsWith(ERASED) ?? false;

/** The revocation as it stays when its tenant is erased. */
export function withoutIds<T extends RevokedClaims>(revocation: T, tenantId: string): T {
  const erased = (value: string | null) => (value === null ? null : erasedClaim(tenantId, value));
  const { sub, jti } = revocation;
  return { ...revocation, sub: erased(sub), jti: erased(jti), tenantId: erasedTenant(tenantId) };
}

export type RevocationKey = readonly [number: number, nonce: string];

export const formatRevocationId = ([number, nonce]: RevocationKey): string => `${number}-${nonce}`;

/** Null for an id of another form. */
export function parseRevocationId(id: string): RevocationKey | null {
  const [, number, nonce] = /^(\d{1,15})-(\w{1,32})$/.exec(id) ?? [];
  return number === undefined || nonce === undefined ? null : [Number(number), nonce];
}

/** The page of a list goes on with lower numbers than this; null: it is the first. @throws {BridgeError} `invalid_request` */
export function beforeNumber(page: string | null): number | null {
  if (page === null) return null;
  const key = parseRevocationId(page);
  if (key !== null) return key[0];
  const message = 'must be the nextPage of an answer to the same request';
  throw fieldsError('invalid_request', [{ in: 'query', path: 'page', message }]);
}

/** @param found up to one more than the page holds */
export function pageOfRevocations(found: readonly Revocation[], limit: number): RevocationPage {
  const items = found.slice(0, limit);
  return { items, nextPage: found.length > limit ? (items.at(-1) as Revocation).id : null };
}

/** Some revocations after a position, oldest first. */
export interface RevocationStep<Position> {
  readonly revocations: readonly Revocation[];
  readonly position: Position;
  /** It starts again from the first: some were removed or changed since `position`, or the log is another one. */
  readonly isWhole: boolean;
  readonly more: boolean;
}

export interface FollowerOptions<Position> {
  /** Reads a step after a position; null: the first step. */
  readonly readAfter: (position: Position | null) => Promise<RevocationStep<Position>>;
  /** Milliseconds between two reads. */
  readonly intervalMs: number;
  readonly logger: Logger;
}

/** Keeps the listener of this node up to date. A read that fails, or that the listener does not take, is repeated. */
export function createFollower<Position>({ readAfter, intervalMs, logger }: FollowerOptions<Position>) {
  let listener: RevocationListener | null = null;
  let position: Position | null = null;
  let current: Promise<void> | null = null;
  let next: Promise<void> | null = null;
  let timer: NodeJS.Timeout | undefined;
  let isFailing = false;

  async function read(to: RevocationListener): Promise<void> {
    let reached = position;
    let isWhole = false;
    const found: Revocation[] = [];
    for (let more = true; more; ) {
      const step = await readAfter(reached);
      if (step.isWhole) {
        isWhole = true;
        found.length = 0;
      }
      found.push(...step.revocations);
      ({ position: reached, more } = step);
    }
    if (isWhole) await to.replaced(found);
    else if (found.length > 0) to.added(found);
    position = reached;
  }

  function start(): Promise<void> {
    const run = (listener === null ? Promise.resolve() : read(listener)).finally(() => {
      if (current === run) current = null;
    });
    current = run;
    return run;
  }

  /** A read that begins from now on. Calls share it. */
  function readAgain(): Promise<void> {
    if (current === null) return start();
    // A read that is under way may have missed the change.
    const begin = (): Promise<void> => {
      next = null;
      return start();
    };
    next ??= current.then(begin, begin);
    return next;
  }

  /** Says once that reads fail, until one succeeds. */
  async function settle(reading: Promise<void>): Promise<void> {
    try {
      await reading;
      isFailing = false;
    } catch (error) {
      if (!isFailing && timer !== undefined) {
        logger.warn({ err: error }, 'revocations cannot be read; those known so far stay in force');
      }
      isFailing = true;
    }
  }

  async function refreshSoon(): Promise<void> {
    await settle(current ?? start());
    timer?.refresh();
  }

  return {
    /** Resolves once the listener has all changes that were made before this call. A read that fails is repeated later. */
    refresh: (): Promise<void> => settle(readAgain()),
    async follow(to: RevocationListener): Promise<void> {
      listener = to;
      await readAgain();
      timer = setTimeout(refreshSoon, intervalMs);
    },
    stop(): void {
      clearTimeout(timer);
      timer = undefined;
    },
  };
}

/**
 * `/revocations` (protocol §15): refuses tokens from now on, lists what is refused, and lifts it again. Takes the scope
 * `admin`; a token for certain tenants revokes, lists and lifts for these only.
 */
import { z } from 'zod';
import { type Authenticate, answer, answerJson, type Handler, queryOf } from '../../answers/answer.ts';
import { faultsOfMembers, isObject, readJson, wrongShape } from '../../answers/body.ts';
import { requestIdOf } from '../../answers/headers.ts';
import { LIST_PAGE, parseQuery, requireNoQuery } from '../../answers/query.ts';
import { clientAddress } from '../../auth/limits.ts';
import { type Reach, requireOperator } from '../../auth/operators.ts';
import { callerKey, type Principal } from '../../auth/principal.ts';
import type { Revoked } from '../../auth/revocations.ts';
import type { Config } from '../../config.ts';
import { BridgeError, type FieldError, fieldsError, MAX_BODY_FAULTS } from '../../contract/errors.ts';
import { ALL_TENANTS, JSON_ID_RULE, toId } from '../../contract/rooms.ts';
import type { Logger } from '../../logger.ts';
import {
  erasedTenant,
  type NewRevocation,
  type Revocation,
  type RevocationLimits,
  type Revocations,
} from '../../store/revocations.ts';

/** An admin of one tenant leaves room for the others. */
const MAX_REVOCATIONS: RevocationLimits = { inAll: 100_000, ofTenant: 10_000 };
/** The longest `sub` and `jti`, in UTF-16 code units. */
export const MAX_CLAIM_CHARACTERS = 512;
const MAX_AHEAD_MS = 60_000;
/** When room may be free again: revocations leave in steps of hours. */
const RETRY_AFTER_S = 3_600;

const MEMBERS = ['sub', 'tenantId', 'jti', 'before'];
const CLAIM_RULE = `must be a string of 1 to ${MAX_CLAIM_CHARACTERS} characters, or an integer within ±(2^53−1)`;
const BEFORE_RULE =
  'must be an ISO 8601 instant, such as 2024-06-01T12:00:00.000Z, at most 60 s ahead of the clock of the bridge';
const INSTANT = z.iso.datetime({ offset: true });

export const REVOCATIONS_QUERY = {
  ...LIST_PAGE,
} as const;

export interface RevocationDeps {
  readonly config: Pick<Config, 'host' | 'maxBodyBytes' | 'trustProxy'>;
  readonly store: Revocations;
  readonly revoked: Pick<Revoked, 'current'>;
  readonly logger: Logger;
  readonly authenticate: Authenticate;
}

type RevocationRoutes = Readonly<Record<'create' | 'list' | 'lift', Handler>>;

export function createRevocationRoutes(deps: RevocationDeps): RevocationRoutes {
  const { config, store, revoked, logger, authenticate } = deps;

  /** @throws {BridgeError} `forbidden` */
  const tenantsOf = (principal: Principal): Reach => requireOperator(principal, config.host, 'revoke tokens');

  return {
    async create(context) {
      const principal = await authenticate(context);
      requireNoQuery(context);
      tenantsOf(principal);
      const { incoming, outgoing } = context.env;
      const revocation = parseBody(await readJson(incoming, config.maxBodyBytes), Date.now());
      // The body may have taken long.
      const tenants = tenantsOf(revoked.current(principal));
      if (tenants !== null && revocation.tenantId === null) {
        throw forbidden('A token for certain tenants must give the tenantId of one of them.');
      }
      if (!isWithin(tenants, revocation)) throw forbidden('The token may not revoke tokens of this tenant.');
      const added = await store.revoke(revocation, MAX_REVOCATIONS);
      if (added === 'full') throw full();
      logger.info({ requestId: requestIdOf(outgoing), revocation: added.id }, 'revoked tokens');
      return answerJson(context, 201, JSON.stringify(itemOf(added)));
    },

    async list(context) {
      const principal = await authenticate(context);
      const tenants = tenantsOf(principal);
      const query = parseQuery(queryOf(context), REVOCATIONS_QUERY);
      const caller = callerKey(principal, clientAddress(context.env.incoming, config.trustProxy));
      const { items, nextPage } = await store.revocations({
        ...{ ...query, caller },
        tenants: tenants?.flatMap((tenantId) => [tenantId, erasedTenant(tenantId)]) ?? null,
      });
      return answerJson(context, 200, JSON.stringify({ items: items.map(itemOf), nextPage }));
    },

    async lift(context) {
      const tenants = tenantsOf(await authenticate(context));
      requireNoQuery(context);
      const id = context.req.param('id') ?? '';
      const found = await store.findRevocation(id);
      if (found !== null && !isWithin(tenants, found)) throw forbidden('The token may not lift this revocation.');
      if (!(await store.liftRevocation(id))) throw new BridgeError('not_found', 'No revocation has this id.');
      logger.info({ requestId: requestIdOf(context.env.outgoing), revocation: id }, 'lifted a revocation');
      return answer(context, 204, {});
    },
  };
}

const isWithin = (tenants: Reach, { tenantId }: Pick<Revocation, 'tenantId'>): boolean =>
  tenants === null || tenants.some((own) => own === tenantId || erasedTenant(own) === tenantId);

const itemOf = ({ id, sub, tenantId, jti, beforeMs, createdAtMs }: Revocation): object => ({
  ...{ id, sub, tenantId, jti },
  before: new Date(beforeMs).toISOString(),
  createdAt: new Date(createdAtMs).toISOString(),
});

/** @throws {BridgeError} `invalid_body`, with all faults */
function parseBody(body: unknown, nowMs: number): NewRevocation {
  if (!isObject(body)) throw wrongShape('', 'must be a JSON object');
  const errors: FieldError[] = faultsOfMembers(body, MEMBERS, '');
  /** A member that is null counts as absent. */
  function member<T>(name: string, parse: (value: unknown) => T | null, rule: string): T | null {
    const value = (Object.hasOwn(body as object, name) ? (body as Record<string, unknown>)[name] : null) ?? null;
    const parsed = value === null ? null : parse(value);
    if (value !== null && parsed === null) errors.push({ in: 'body', path: `/${name}`, message: rule });
    return parsed;
  }
  const sub = member('sub', toClaim, CLAIM_RULE);
  const tenantId = member('tenantId', toTenant, `must be ${JSON_ID_RULE}, and not ${ALL_TENANTS}`);
  const jti = member('jti', toClaim, CLAIM_RULE);
  const beforeMs = member('before', (value) => toInstant(value, nowMs), BEFORE_RULE) ?? nowMs;
  if (errors.length === 0 && sub === null && tenantId === null && jti === null) {
    errors.push({ in: 'body', path: '', message: 'must have at least one of sub, tenantId and jti' });
  }
  const [first, ...rest] = errors;
  if (first !== undefined) throw fieldsError('invalid_body', [first, ...rest.slice(0, MAX_BODY_FAULTS)]);
  return { sub, tenantId, jti, beforeMs, createdAtMs: nowMs };
}

function toClaim(value: unknown): string | null {
  if (typeof value === 'number') return toId(value);
  const isClaim =
    typeof value === 'string' && value !== '' && value.length <= MAX_CLAIM_CHARACTERS && value.isWellFormed();
  return isClaim ? value : null;
}

function toTenant(value: unknown): string | null {
  const id = toId(value);
  return id === ALL_TENANTS ? null : id;
}

function toInstant(value: unknown, nowMs: number): number | null {
  const atMs = INSTANT.safeParse(value).success ? Date.parse(value as string) : Number.NaN;
  return atMs <= nowMs + MAX_AHEAD_MS ? atMs : null;
}

const forbidden = (message: string): BridgeError => new BridgeError('forbidden', message);

function full(): BridgeError {
  const { inAll, ofTenant } = MAX_REVOCATIONS;
  const message =
    `The log keeps at most ${inAll} revocations, and ${ofTenant} that name one tenant. Lift some of them, revoke by ` +
    'fewer and wider claims, or lower REVOCATION_DAYS.';
  return new BridgeError('rate_limited', message, { retryAfterSeconds: RETRY_AFTER_S });
}

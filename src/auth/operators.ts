/** Who may operate the bridge, and for which tenants (protocol §15). */
import { BridgeError } from '../contract/errors.ts';
import { ALL_TENANTS } from '../contract/rooms.ts';
import { isLoopback } from './hosts.ts';
import { mayAdminister, type Principal, type TokenHolder } from './principal.ts';

/** The tenants whose tokens, connections and records an operator disposes of; null: of all, and of what has no tenant. */
export type Reach = readonly string[] | null;

/** The same, for routes that are open without tokens on any HOST. Empty: the principal administers nothing. */
export function tenantsAdministered(principal: Principal): Reach {
  if (mayAdminister(principal, null)) return null;
  const named = principal.kind === 'token' && principal.tenants !== '*' ? principal.tenants : [];
  return named.filter((tenantId) => mayAdminister(principal, tenantId));
}

/**
 * @param what what the caller asks for, such as `see connections`
 * @throws {BridgeError} `forbidden`
 */
export function requireOperator(principal: Principal, host: string, what: string): Reach {
  if (principal.kind === 'anonymous' && !isLoopback(host)) {
    throw new BridgeError(
      'forbidden',
      `Without tokens (AUTH_MODE=none), you may ${what} only if HOST is a loopback address. Set AUTH_MODE=jwt and use a ` +
        'token with the scope admin, or set HOST=127.0.0.1.',
    );
  }
  const reach = tenantsAdministered(principal);
  if (reach === null || reach.length > 0) return reach;
  throw new BridgeError(
    'forbidden',
    `The token may not ${what}. Use one with the scope admin that names a tenant and that no claim narrows to rooms.`,
  );
}

/** Whether all tenants of a token are within reach. One without tenants is only for operators of all. */
export function isWithinReach(reach: Reach, tenants: TokenHolder['tenants']): boolean {
  if (reach === null) return true;
  return tenants !== '*' && tenants.length > 0 && tenants.every((tenantId) => reach.includes(tenantId));
}

/** The tenants of a token, as operators see them. */
export const tenantIdsOf = ({ tenants }: Pick<TokenHolder, 'tenants'>): readonly string[] =>
  tenants === ALL_TENANTS ? [ALL_TENANTS] : tenants;

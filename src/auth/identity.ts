/**
 * Whose token was refused, as far as its signature is good: operators look for a user's refusals (protocol §15). The
 * error does not hold it, so that no answer and no log line shows it by mistake.
 */
import type { BridgeError } from '../contract/errors.ts';
import type { TokenHolder } from './principal.ts';

export type Identity = Pick<TokenHolder, 'subject' | 'tenants'>;

const identities = new WeakMap<BridgeError, Identity>();

/** The same error, which now has an identity. */
export function identify(error: BridgeError, { subject, tenants }: Identity): BridgeError {
  identities.set(error, { subject, tenants });
  return error;
}

export const identityOf = (error: unknown): Identity | undefined => identities.get(error as BridgeError);

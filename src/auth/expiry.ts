/**
 * Token expiry, for a request and for the connection that it opened (protocol §11). A request with an expired token is
 * refused at once. A connection ends within 5 s of `exp`: a grace, up to one tick, and the time to read the rest.
 */
import { BridgeError } from '../contract/errors.ts';
import { identify } from './identity.ts';
import type { Principal, TokenHolder } from './principal.ts';

const EXPIRY_GRACE_MS = 1_000;
/** How long a client may read the rest of its events after expiry. Then it is cut. */
export const EXPIRED_LINGER_MS = 2_000;

/** The error that every transport sends when a client's token has expired. */
export const tokenExpired = (): BridgeError =>
  new BridgeError('token_expired', 'The token has expired. Use a new one.');

/** When the principal's token expires, in milliseconds since 1970; Infinity: never. */
export function expiryOf(principal: Principal): number {
  return (principal.kind === 'token' ? principal.expiresAtMs : null) ?? Number.POSITIVE_INFINITY;
}

/** Whether a connection must end because its token expired at `expiresAtMs`. */
export function hasExpired(expiresAtMs: number, nowMs: number): boolean {
  return nowMs > expiresAtMs + EXPIRY_GRACE_MS;
}

/** Returns the holder if its token has not expired. There is no grace. @throws {BridgeError} `token_expired` */
export function unexpired(holder: TokenHolder, nowMs: number): TokenHolder {
  if (expiryOf(holder) <= nowMs) throw identify(tokenExpired(), holder);
  return holder;
}

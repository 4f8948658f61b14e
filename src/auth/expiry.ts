/**
 * When a connection ends whose token has expired: protocol §11 gives 5 s past `exp`, which the grace, a tick and the time
 * to take the rest share.
 */
export const EXPIRY_GRACE_MS = 1_000;
/** How long a client may take the rest of what was written; then it is cut. */
export const EXPIRED_LINGER_MS = 2_000;

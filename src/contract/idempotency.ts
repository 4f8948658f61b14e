/** What an `Idempotency-Key` may be (protocol §9): no less than every HTTP client can send. */
export const IDEMPOTENCY_KEY = /^[\x21-\x7e]{1,255}$/;
export const IDEMPOTENCY_KEY_RULE = 'must be 1 to 255 visible ASCII characters';

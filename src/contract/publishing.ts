/** Limits of a publish request (protocol §9), for the server, the publisher and the API's description. */

/** Events in one batch. A larger batch is a 400 (`batch_too_large`). */
export const MAX_BATCH = 1000;
/** Rooms that one event names. */
export const MAX_NAMED_ROOMS = 100;
/** Rooms that the events of one batch name together. More are a 400 (`batch_too_large`). */
export const MAX_BATCH_ROOMS = 10_000;

/** Every HTTP client can send these characters in a header. */
export const IDEMPOTENCY_KEY = /^[\x21-\x7e]{1,255}$/;
export const IDEMPOTENCY_KEY_RULE = 'must be 1 to 255 visible ASCII characters';

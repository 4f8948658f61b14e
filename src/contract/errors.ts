/**
 * Every error that the bridge answers with: one table from code to HTTP status and title (protocol §5, §10).
 *
 * The code is the interface; clients never match messages. Three places translate the table: problem+json
 * (answers/problem.ts), Socket.IO's ack and `bridge.error` (transports/socketio), and `bridge.error` within a stream
 * (transports/sse).
 */
import { printableName } from './printable.ts';

/** `passing`: a transient fault. The same request may succeed later, so a client retries it. */
interface ErrorKind {
  readonly status: number;
  readonly title: string;
  readonly passing: boolean;
}

const lasting = (status: number, title: string): ErrorKind => ({ status, title, passing: false });
const passing = (status: number, title: string): ErrorKind => ({ status, title, passing: true });

export const ERRORS = {
  invalid_request: lasting(400, 'The request is not valid'),
  unknown_parameter: lasting(400, 'The request has an unknown parameter'),
  invalid_json: lasting(400, 'The body is not valid JSON'),
  invalid_cursor: lasting(400, 'The cursor is malformed'),
  invalid_room: lasting(400, 'The room is not valid'),
  too_many_rooms: lasting(400, 'Too many rooms'),
  batch_too_large: lasting(400, 'Too many events in one batch'),
  unauthorized: lasting(401, 'A valid token is required'),
  token_expired: lasting(401, 'The token has expired'),
  token_revoked: lasting(401, 'The token was revoked'),
  forbidden: lasting(403, 'This request is not allowed'),
  not_found: lasting(404, 'Not found'),
  method_not_allowed: lasting(405, 'Method not allowed'),
  request_timeout: passing(408, 'The request took too long to arrive'),
  cursor_expired: lasting(410, 'The cursor is older than the log'),
  cursor_unknown: lasting(410, 'The cursor does not belong to this log'),
  body_too_large: lasting(413, 'The body is too large'),
  unsupported_media_type: lasting(415, 'The content type is not supported'),
  host_not_allowed: lasting(421, 'The Host is not allowed'),
  invalid_body: lasting(422, 'The body does not have the expected shape'),
  unknown_event: lasting(422, 'The event name is unknown'),
  invalid_payload: lasting(422, 'The payload does not match its schema'),
  invalid_signal: lasting(422, 'The signal is not valid'),
  idempotency_conflict: lasting(422, 'The Idempotency-Key was used with a different body'),
  rate_limited: passing(429, 'Too many requests'),
  headers_too_large: lasting(431, 'The request headers are too large'),
  internal: lasting(500, 'Internal server error'),
  unavailable: passing(503, 'The bridge is temporarily unavailable'),
  outcome_unknown: passing(503, 'The outcome of the write is unknown'),
  too_many_connections: passing(503, 'Too many connections'),
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof ERRORS;

export interface FieldError {
  readonly in: 'body' | 'query' | 'header' | 'path';
  /** In the body a JSON Pointer (RFC 6901), empty for the whole body; else the name of the parameter or header. */
  readonly path: string;
  readonly message: string;
}

/** The JSON Pointer of a member (RFC 6901). */
export const pointerOf = (...keys: readonly PropertyKey[]): string =>
  keys.map((key) => `/${String(key).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');

export interface BridgeErrorOptions {
  readonly errors?: readonly FieldError[];
  /** Seconds to wait before a retry. Default: 1 for passing codes, none for the others. */
  readonly retryAfterSeconds?: number;
  /** More members of the problem document, such as `oldest` and `cursor` of a 410. */
  readonly fields?: Readonly<Record<string, unknown>>;
  readonly cause?: unknown;
}

/** An expected error. `message` is written for people and never contains a token or a payload. */
export class BridgeError extends Error {
  readonly code: ErrorCode;
  readonly errors: readonly FieldError[] | undefined;
  readonly retryAfterSeconds: number | undefined;
  readonly fields: Readonly<Record<string, unknown>> | undefined;

  constructor(code: ErrorCode, message: string, options: BridgeErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'BridgeError';
    this.code = code;
    this.errors = options.errors;
    this.retryAfterSeconds = options.retryAfterSeconds ?? (ERRORS[code].passing ? 1 : undefined);
    this.fields = options.fields;
  }

  get status(): number {
    return ERRORS[this.code].status;
  }

  get passing(): boolean {
    return ERRORS[this.code].passing;
  }
}

/** Faults of a body that one answer lists. */
export const MAX_BODY_FAULTS = 100;

/** The error for faults in fields. Its message is that of the first. */
export function fieldsError(code: ErrorCode, errors: readonly [FieldError, ...FieldError[]]): BridgeError {
  const [{ path, message }] = errors;
  const where = path === '' ? 'The body' : printableName(path);
  return new BridgeError(code, `${where} ${message}${message.endsWith('?') ? '' : '.'}`, { errors });
}

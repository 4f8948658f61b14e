/** Why an event was not published, for the publisher and the emitter. */

/**
 * `code` is the bridge's (protocol §10), or `unreachable`, `timeout`, `token`, `queue_full`, `closed`; from an emitter
 * also `legacy_event`, `other_rooms`.
 */
export class PublishError extends Error {
  readonly code: string;
  readonly status: number;
  /** The invalid fields, as JSON Pointers into the event. */
  readonly errors: readonly { readonly path: string; readonly message: string }[];

  constructor(code: string, message: string, options: { status?: number; errors?: unknown; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.name = 'PublishError';
    this.code = code;
    this.status = options.status ?? 0;
    this.errors = Array.isArray(options.errors) ? options.errors : [];
  }
}

/** Where a client resumes: at its own cursor, or, if events after that cursor are lost, with a reset (protocol §8). */
import type { Cursor } from './cursor.ts';

/** The payload of `bridge.reset`, and the additional members of a `410`. */
export interface Reset<AnyCursor extends string = Cursor> {
  /** `expired`: the cursor is older than the log. `unknown`: it does not belong to this log. */
  readonly reason: 'expired' | 'unknown';
  /** The cursor that the client sent; null if it sent a Socket.IO session without one. */
  readonly after: string | null;
  /** The cursor of the oldest record in the log. */
  readonly oldest: AnyCursor;
  /** Events continue after this cursor. */
  readonly cursor: AnyCursor;
}

export type Start = { readonly kind: 'ok'; readonly cursor: Cursor } | ({ readonly kind: 'reset' } & Reset);

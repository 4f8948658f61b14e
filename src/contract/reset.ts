/** Where a client goes on from: its own cursor, or, when events after it are lost, a reset (protocol §8). */
import type { Cursor } from './cursor.ts';

/** The payload of `bridge.reset`, and the extra members of a `410`. */
export interface Reset<AnyCursor extends string = Cursor> {
  /** `expired`: older than what the log keeps. `unknown`: not a cursor of this log. */
  readonly reason: 'expired' | 'unknown';
  /** The cursor that the client presented; null when it presented a session without one. */
  readonly after: string | null;
  /** The oldest record that the log keeps. */
  readonly oldest: AnyCursor;
  /** Events continue after this cursor. */
  readonly cursor: AnyCursor;
}

export type Start = { readonly kind: 'ok'; readonly cursor: Cursor } | ({ readonly kind: 'reset' } & Reset);

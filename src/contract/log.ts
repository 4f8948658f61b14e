/** The answer of `GET /log` (protocol §15). */

/** One record, as the log holds it. */
export interface LogEntry {
  /** Its cursor. */
  readonly id: string;
  /** The canonical or declared event; legacy events are not in the log. */
  readonly event: string;
  /** All of its rooms. */
  readonly rooms: readonly string[];
  /** When the bridge accepted it: an ISO 8601 instant, by the clock of the node that did. */
  readonly at: string;
  readonly payload: Readonly<Record<string, unknown>>;
}

export interface LogAnswer {
  /** In the order of the request. */
  readonly events: readonly LogEntry[];
  /** The cursor up to which (`desc`: down to which) every record was looked at. */
  readonly scannedThrough: string;
  /** There is more of the log to look at: repeat the request with `scannedThrough` as `after` (`desc`: as `before`). */
  readonly more: boolean;
}

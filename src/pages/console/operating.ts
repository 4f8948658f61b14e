/** Answers of routes for operators (protocol §15) beside those of contract/operating.ts, as far as the console shows them. */
import type { Room } from '../../contract/rooms.ts';

/** An event of `GET /log`. */
export interface LogEvent {
  readonly id: string;
  readonly event: string;
  readonly rooms: readonly Room[];
  readonly payload: Readonly<Record<string, unknown>>;
  /** When the log accepted it, ISO 8601. */
  readonly at: string;
}

/** The answer of `GET /log`. */
export interface LogPage {
  readonly events: readonly LogEvent[];
  /** How far this request looked: the place to go on from. */
  readonly scannedThrough: string | null;
  readonly more: boolean;
}

/** An item of `GET /revocations`. */
export interface RevocationItem {
  readonly id: string;
  readonly sub: string | null;
  readonly tenantId: string | null;
  readonly jti: string | null;
  readonly before: string;
  readonly createdAt: string;
}

/** What the routes for operators answer (protocol §15), as far as the console shows it. */

import type { TransportName } from '../../contract/names.ts';
import type { Room } from '../../contract/rooms.ts';

/** An item of `GET /connections`. Instants are ISO 8601. */
export interface ConnectionItem {
  readonly id: string;
  readonly node: string;
  readonly transport: TransportName;
  readonly since: string;
  readonly address: string;
  readonly userAgent: string | null;
  /** Empty without tokens; `*`: all. */
  readonly tenantIds: readonly string[];
  readonly sub: string | null;
  /** As joined. A list has at most 100 of them. */
  readonly rooms: readonly Room[];
  readonly roomCount: number;
  readonly cursor: string | null;
  /** Since the acceptance of the oldest record that is not yet written to it; 0 when up to date. */
  readonly behindMs: number;
  readonly pendingBytes: number;
  readonly lastDeliveryAt: string | null;
  readonly expiresAt: string | null;
}

/** An item of `GET /refusals`. */
export interface RefusalItem {
  readonly at: string;
  readonly node: string;
  readonly address: string;
  readonly transport: TransportName | 'http';
  readonly sub: string | null;
  readonly tenantIds: readonly string[];
  /** `connect`, `join ticket:1`, `GET /sse`, `POST /events`, … */
  readonly what: string;
  readonly code: string;
  readonly message: string;
}

export interface Page<Item> {
  readonly items: readonly Item[];
  readonly nextPage: string | null;
  /** Nodes that did not answer within 2 s. */
  readonly missing: readonly string[];
}

/** An event of `GET /log`. */
export interface LogEvent {
  readonly id: string;
  readonly event: string;
  readonly rooms: readonly Room[];
  readonly payload: Readonly<Record<string, unknown>>;
  readonly at: string;
}

/** The answer of `GET /log`. */
export interface LogPage {
  readonly events: readonly LogEvent[];
  /** How far this request looked. */
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

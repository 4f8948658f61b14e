/** What operators see of a bridge (protocol §15): the routes answer with it, and the console and the command line read it. */
import type { ErrorCode } from './errors.ts';
import { TRANSPORTS } from './names.ts';

/** `http`: a request that is no transport of events, such as a publish. */
export const REFUSAL_TRANSPORTS = [...TRANSPORTS, 'http'] as const;

/** Somebody who is connected now. Instants are ISO 8601. */
export interface ConnectionItem {
  /** Of a Socket.IO connection the `id` that its client sees; of others a random text. In log lines, too. */
  readonly id: string;
  readonly node: string;
  readonly transport: (typeof TRANSPORTS)[number];
  readonly since: string;
  readonly address: string;
  readonly userAgent: string | null;
  /** `["*"]` of a token for all tenants; empty without a token. */
  readonly tenantIds: readonly string[];
  readonly sub: string | null;
  /** In the order of joining; in a list, the first 100. */
  readonly rooms: readonly string[];
  readonly roomCount: number;
  /** Every record of its rooms up to here was written to it. */
  readonly cursor: string;
  /** Since the acceptance of the oldest record that the network has not taken yet; 0: it is up to date. */
  readonly behindMs: number;
  readonly pendingBytes: number;
  readonly lastDeliveryAt: string | null;
  /** When its token expires. */
  readonly expiresAt: string | null;
}

/** A request or a join that a node refused. */
export interface RefusalItem {
  readonly at: string;
  readonly node: string;
  readonly address: string;
  readonly transport: (typeof REFUSAL_TRANSPORTS)[number];
  /** Of a token whose signature is good; else null. */
  readonly sub: string | null;
  readonly tenantIds: readonly string[];
  /** What was refused: `connect`, `join ticket:1`, `GET /sse`. */
  readonly what: string;
  readonly code: ErrorCode;
  readonly message: string;
}

/** A page of either. */
export interface OperatorPage<Item> {
  readonly items: readonly Item[];
  /** The `page` of the next request; null: this page is the last. */
  readonly nextPage: string | null;
  /** Nodes that did not answer in time; they may have more. */
  readonly missing: readonly string[];
}

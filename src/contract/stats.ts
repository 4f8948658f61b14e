/**
 * The answers of `GET /stats` and `GET /stats/history`: the server builds them, the API's description shows them, and the
 * console reads them.
 */
import type { TransportName } from './names.ts';

export type PerTransport<T> = Readonly<Record<TransportName, T>>;

export interface RoomFigures {
  readonly room: string;
  readonly tenantId: string | null;
  readonly listeners: number;
  readonly events: number;
}

export interface LogEdge {
  readonly cursor: string;
  readonly at: string;
}

export interface LagFigures {
  readonly count: number;
  readonly p50Seconds: number | null;
  readonly p99Seconds: number | null;
}

/** What a node announces about itself to the other nodes of its log. */
export interface NodeFacts {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly version: string;
  readonly startedAt: string;
  readonly connections: PerTransport<number>;
}

/** A node that stopped to announce itself without shutting down: it died, or Redis is out of its reach. */
export interface SilentNode extends NodeFacts {
  readonly silentSince: string;
}

/** Instants are ISO 8601. A value is null if it is unknown, or if the caller may not see it. */
export interface Stats {
  readonly at: string;
  readonly node: {
    readonly id: string;
    readonly host: string | null;
    readonly pid: number | null;
    readonly version: string;
    readonly startedAt: string;
    readonly uptimeSeconds: number;
    readonly draining: boolean;
    readonly announcedAt: string | null;
    readonly eventLoopLag: { readonly meanSeconds: number; readonly p99Seconds: number };
    readonly memory: { readonly rssBytes: number; readonly heapUsedBytes: number };
  };
  readonly connections: PerTransport<number>;
  readonly publishes: Readonly<Record<'accepted' | 'duplicate' | 'rejected' | 'failed', number>>;
  readonly deliveries: PerTransport<number>;
  readonly replayed: number;
  readonly resets: number;
  readonly slowConsumers: number;
  readonly refused: number;
  readonly deliveryLag: {
    readonly boundsSeconds: readonly number[];
    readonly counts: PerTransport<readonly number[]>;
    readonly recent: LagFigures & { readonly seconds: number };
  };
  readonly rooms: {
    readonly byListeners: {
      readonly top: readonly RoomFigures[];
      readonly others: { readonly rooms: number; readonly listeners: number };
    };
    readonly byEvents: {
      readonly seconds: number;
      readonly top: readonly RoomFigures[];
      readonly others: { readonly rooms: number; readonly events: number };
    };
  };
  readonly log: {
    readonly engine: 'sqlite' | 'redis';
    readonly healthy: boolean;
    readonly reached: boolean;
    readonly fault: string | null;
    readonly records: number | null;
    readonly bytes: number | null;
    readonly oldest: LogEdge | null;
    readonly newest: LogEdge | null;
  };
  readonly redis: { readonly reached: boolean; readonly takesWrites: boolean; readonly tailLag: LagFigures } | null;
  readonly nodes: readonly NodeFacts[] | null;
  readonly silentNodes: readonly SilentNode[] | null;
}

/** Seconds of one point: 1 for the last 5 minutes, 10 for the last 60. */
export const HISTORY_STEPS = [1, 10] as const;
export type HistoryStep = (typeof HISTORY_STEPS)[number];

/**
 * What one node did in the last minutes: columns with one value per point, oldest first. Counts are of the point's own
 * interval, which ended at `atMs` and took `seconds`. A point is missing where nobody measured: the machine slept, the
 * process was stopped, or the clock was set.
 */
export interface StatsHistory {
  /** ISO 8601. */
  readonly at: string;
  readonly node: { readonly id: string; readonly startedAt: string };
  readonly stepSeconds: HistoryStep;
  readonly points: {
    /** Milliseconds since 1970, rising. */
    readonly atMs: readonly number[];
    /** About `stepSeconds`; more if the event loop was held up. */
    readonly seconds: readonly number[];
    /** Open at the end of the interval. */
    readonly connections: PerTransport<readonly number[]>;
    readonly accepted: readonly number[];
    readonly deliveries: PerTransport<readonly number[]>;
    readonly refused: readonly number[];
    readonly resets: readonly number[];
    readonly slowConsumers: readonly number[];
    /** Null without deliveries. */
    readonly deliveryLag: {
      readonly p50Seconds: PerTransport<readonly (number | null)[]>;
      readonly p99Seconds: PerTransport<readonly (number | null)[]>;
    };
    readonly eventLoopLag: { readonly meanSeconds: readonly number[]; readonly maxSeconds: readonly number[] };
    readonly memory: { readonly rssBytes: readonly number[]; readonly heapUsedBytes: readonly number[] };
    /** Whether the log accepted events for the whole interval, and refused none. */
    readonly logTookWrites: readonly boolean[];
  };
}

/** The answer of `GET /stats`: the server builds it, the API's description shows it, and the console reads it. */
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
    readonly eventLoopLag: { readonly meanSeconds: number; readonly p99Seconds: number };
    readonly memory: { readonly rssBytes: number; readonly heapUsedBytes: number };
  };
  readonly connections: PerTransport<number>;
  readonly publishes: Readonly<Record<'accepted' | 'duplicate' | 'rejected' | 'failed', number>>;
  readonly deliveries: PerTransport<number>;
  readonly replayed: number;
  readonly resets: number;
  readonly slowConsumers: number;
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
    readonly records: number | null;
    readonly bytes: number | null;
    readonly oldest: LogEdge | null;
    readonly newest: LogEdge | null;
  };
  readonly redis: { readonly reached: boolean; readonly takesWrites: boolean; readonly tailLag: LagFigures } | null;
  readonly nodes: readonly NodeFacts[] | null;
}

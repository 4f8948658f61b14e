/** The schemas and examples of `GET /stats` and its history. TypeScript checks them against contract/stats.ts. */
import { TRANSPORTS } from '../../contract/names.ts';
import {
  HISTORY_STEPS,
  type LagFigures,
  type LogEdge,
  type NodeFacts,
  type PerTransport,
  type RoomFigures,
  type SilentNode,
  type Stats,
  type StatsHistory,
} from '../../contract/stats.ts';
import {
  arrayOf,
  boolean,
  CURSOR,
  count,
  cursor,
  describe,
  ISO_INSTANT,
  instant,
  type JsonObject,
  number,
  object,
  ref,
  type SchemasOf,
  string,
} from './parts.ts';

const orNull = (schema: JsonObject, description?: string): JsonObject => {
  const either = { oneOf: [schema, { type: 'null' }] };
  return description === undefined ? either : describe(either, description);
};
const perTransport = (schema: JsonObject, description: string) =>
  describe(object(Object.fromEntries(TRANSPORTS.map((transport) => [transport, schema]))), description);

const lag: SchemasOf<LagFigures> = {
  count,
  p50Seconds: orNull(number, 'The median. Null if `count` is 0.'),
  p99Seconds: orNull(number, 'The 99th percentile. Null if `count` is 0.'),
};
const room = object<RoomFigures>({
  room: describe(string, '`{kind}:{id}`'),
  tenantId: { type: ['string', 'null'], description: 'The tenant of the events. Null with `AUTH_MODE=none`.' },
  listeners: describe(count, 'Live connections of this node in the room.'),
  events: describe(count, 'Events of the room in the last `byEvents.seconds`, from publishers on all nodes.'),
});
const edge = orNull(
  object<LogEdge>({ cursor, at: describe(instant, 'When the log accepted the record.') }),
  'Null if the log is empty or does not answer.',
);
const connections = perTransport(count, 'Open connections of the node.');
const node = {
  id: describe(string, 'Random; a new one at each start.'),
  host: { type: ['string', 'null'] },
  pid: { type: ['integer', 'null'] },
  version: string,
  startedAt: instant,
} as const;

export const statsSchemas: Readonly<Record<string, JsonObject>> = {
  StatsNode: object<NodeFacts>({ ...node, connections }),
  StatsSilentNode: object<SilentNode>({
    ...node,
    connections: describe(connections, 'Its open connections when it was last seen.'),
    silentSince: describe(instant, 'When this node missed it first.'),
  }),
  Stats: object<Stats>({
    at: instant,
    node: describe(
      object<Stats['node']>({
        ...node,
        uptimeSeconds: number,
        draining: describe(boolean, 'Whether the node is shutting down.'),
        announcedAt: orNull(
          instant,
          'When the node last announced itself to the others. It does so every five seconds.',
        ),
        eventLoopLag: describe(
          object<Stats['node']['eventLoopLag']>({ meanSeconds: number, p99Seconds: number }),
          'Over the last five seconds.',
        ),
        memory: object<Stats['node']['memory']>({ rssBytes: count, heapUsedBytes: count }),
      }),
      'The node that answers. `host` and `pid` are null if your token is for certain tenants only.',
    ),
    connections,
    publishes: describe(
      object<Stats['publishes']>({ accepted: count, duplicate: count, rejected: count, failed: count }),
      'Events published to this node since its start, by result.',
    ),
    deliveries: perTransport(count, 'Events written to clients since the start, legacy events included.'),
    replayed: describe(count, 'Records replayed to clients that resumed, since the start.'),
    resets: describe(count, 'Resets sent because a cursor was expired or unknown, since the start.'),
    slowConsumers: describe(count, 'Connections cut because the client read too slowly, since the start.'),
    refused: describe(count, 'Requests, joins and connections refused since the start.'),
    deliveryLag: describe(
      object<Stats['deliveryLag']>({
        boundsSeconds: arrayOf(number),
        counts: perTransport(
          arrayOf(count),
          'Cumulative counts since the start: one for each bound in `boundsSeconds`, then the total.',
        ),
        recent: describe(
          object<Stats['deliveryLag']['recent']>({
            seconds: describe(number, 'The time that these figures cover.'),
            ...lag,
          }),
          'About the last minute, all transports together.',
        ),
      }),
      'The time from the acceptance of a record to its write to a client.',
    ),
    rooms: object<Stats['rooms']>({
      byListeners: object<Stats['rooms']['byListeners']>({
        top: arrayOf(room),
        others: object({ rooms: count, listeners: count }),
      }),
      byEvents: object<Stats['rooms']['byEvents']>({
        seconds: describe(number, 'The time that these figures cover, at most about a minute.'),
        top: arrayOf(room),
        others: object({ rooms: count, events: count }),
      }),
    }),
    log: object<Stats['log']>({
      engine: { enum: ['sqlite', 'redis'] },
      healthy: describe(boolean, 'Whether the log accepts events.'),
      reached: describe(boolean, 'Whether the log answered within a second.'),
      fault: {
        type: ['string', 'null'],
        description:
          'Why the log does not accept events, in the words of SQLite or Redis. Null if it does, or if your token is for ' +
          'certain tenants only.',
      },
      records: orNull(count, 'Records in the log. Null if it did not answer.'),
      bytes: orNull(count, 'SQLite: the size of the file. Redis: the memory that it uses. Null if unknown.'),
      oldest: edge,
      newest: edge,
    }),
    redis: orNull(
      object<NonNullable<Stats['redis']>>({
        reached: describe(boolean, 'Whether Redis answered within a second.'),
        takesWrites: describe(boolean, 'Whether Redis accepts writes.'),
        tailLag: describe(
          object<LagFigures>(lag),
          'The time from the acceptance of a record on any node to its arrival here.',
        ),
      }),
      'Null with SQLite.',
    ),
    nodes: orNull(
      arrayOf(ref('StatsNode')),
      'The nodes of the log that announced themselves in the last 16 s. Null if your token is for certain tenants only.',
    ),
    silentNodes: orNull(
      arrayOf(ref('StatsSilentNode')),
      'Nodes that stopped to announce themselves in the last 60 minutes without a shutdown: they died, or cannot reach ' +
        'Redis. Null if your token is for certain tenants only.',
    ),
  }),
  StatsHistory: object<StatsHistory>({
    at: instant,
    node: describe(
      object<StatsHistory['node']>({ id: node.id, startedAt: node.startedAt }),
      'The node that answers. Its points begin after `startedAt`.',
    ),
    stepSeconds: { enum: HISTORY_STEPS },
    points: describe(
      object<StatsHistory['points']>({
        atMs: describe(arrayOf(count), 'When each interval ended, in milliseconds since 1970; rising.'),
        seconds: describe(
          arrayOf(number),
          'How long each interval took. More than `stepSeconds` if the node was held up.',
        ),
        connections: perTransport(arrayOf(count), 'Open connections at the end of the interval.'),
        accepted: describe(arrayOf(count), 'Events that this node accepted.'),
        deliveries: perTransport(arrayOf(count), 'Events written to clients, legacy events included.'),
        refused: describe(arrayOf(count), 'Requests, joins and connections refused.'),
        resets: describe(arrayOf(count), 'Resets sent because a cursor was expired or unknown.'),
        slowConsumers: describe(arrayOf(count), 'Connections cut because the client read too slowly.'),
        deliveryLag: describe(
          object<StatsHistory['points']['deliveryLag']>({
            p50Seconds: perTransport(arrayOf(orNull(number)), 'The median. Null without live deliveries.'),
            p99Seconds: perTransport(arrayOf(orNull(number)), 'The 99th percentile. Null without live deliveries.'),
          }),
          'The time from the acceptance of a record to its write to a client.',
        ),
        eventLoopLag: object<StatsHistory['points']['eventLoopLag']>({
          meanSeconds: arrayOf(number),
          maxSeconds: arrayOf(number),
        }),
        memory: object<StatsHistory['points']['memory']>({ rssBytes: arrayOf(count), heapUsedBytes: arrayOf(count) }),
        logTookWrites: describe(
          arrayOf(boolean),
          'Whether the log accepted events during the whole interval, and failed none.',
        ),
      }),
      'All columns have one value per point, oldest first.',
    ),
  }),
};

const facts = {
  id: '0b1f6a0e-6f0e-4b0e-9a40-0c8ff2a1f0de',
  host: 'bridge-1',
  pid: 17,
  version: '0.1.0',
  startedAt: ISO_INSTANT,
} as const;
const byTransport = { websocket: 812, polling: 9, sse: 143, longpoll: 2 } satisfies PerTransport<number>;
const busiest = { room: 'tenant:tenant-1', tenantId: 'tenant-1', listeners: 310, events: 42 } satisfies RoomFigures;

export const STATS_EXAMPLE = {
  at: ISO_INSTANT,
  node: {
    ...facts,
    uptimeSeconds: 86400.5,
    draining: false,
    announcedAt: ISO_INSTANT,
    eventLoopLag: { meanSeconds: 0.0102, p99Seconds: 0.0121 },
    memory: { rssBytes: 143_000_000, heapUsedBytes: 48_000_000 },
  },
  connections: byTransport,
  publishes: { accepted: 120_344, duplicate: 17, rejected: 3, failed: 0 },
  deliveries: { websocket: 3_120_400, polling: 12_000, sse: 410_000, longpoll: 900 },
  replayed: 1204,
  resets: 0,
  slowConsumers: 1,
  refused: 4,
  deliveryLag: {
    boundsSeconds: [0.001, 0.01, 0.1, 1],
    counts: {
      websocket: [90, 118, 120, 120, 120],
      polling: [0, 0, 0, 0, 0],
      sse: [88, 117, 120, 120, 120],
      longpoll: [0, 0, 0, 0, 0],
    },
    recent: { seconds: 60.2, count: 240, p50Seconds: 0.0006, p99Seconds: 0.012 },
  },
  rooms: {
    byListeners: { top: [busiest], others: { rooms: 17, listeners: 656 } },
    byEvents: { seconds: 60, top: [busiest], others: { rooms: 40, events: 78 } },
  },
  log: {
    engine: 'redis',
    healthy: true,
    reached: true,
    fault: null,
    records: 1_000_000,
    bytes: 733_000_000,
    oldest: { cursor: CURSOR, at: ISO_INSTANT },
    newest: { cursor: CURSOR, at: ISO_INSTANT },
  },
  redis: { reached: true, takesWrites: true, tailLag: { count: 240, p50Seconds: 0.0008, p99Seconds: 0.004 } },
  nodes: [{ ...facts, connections: byTransport }],
  silentNodes: [],
} satisfies Stats;

const eachTransport = <T>(websocket: T, other: T): PerTransport<T> => ({
  websocket,
  polling: other,
  sse: other,
  longpoll: other,
});

export const STATS_HISTORY_EXAMPLE = {
  at: ISO_INSTANT,
  node: { id: facts.id, startedAt: ISO_INSTANT },
  stepSeconds: 10,
  points: {
    atMs: [Date.parse(ISO_INSTANT) - 10_000, Date.parse(ISO_INSTANT)],
    seconds: [10.001, 10.002],
    connections: eachTransport([811, 812], [9, 9]),
    accepted: [40, 42],
    deliveries: eachTransport([3100, 3240], [0, 12]),
    refused: [0, 4],
    resets: [0, 0],
    slowConsumers: [0, 1],
    deliveryLag: {
      p50Seconds: eachTransport<(number | null)[]>([0.0006, 0.0007], [null, 0.0012]),
      p99Seconds: eachTransport<(number | null)[]>([0.004, 0.012], [null, 0.021]),
    },
    eventLoopLag: { meanSeconds: [0.0004, 0.0005], maxSeconds: [0.003, 0.0081] },
    memory: { rssBytes: [143_000_000, 143_000_000], heapUsedBytes: [48_000_000, 49_000_000] },
    logTookWrites: [true, true],
  },
} satisfies StatsHistory;

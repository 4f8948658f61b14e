/** The schemas of the API's description: payloads from contract/events.ts, and what the routes answer. */
import { z } from 'zod';
import { ERRORS } from '../../contract/errors.ts';
import {
  declaredEventSchema,
  EVENT_NAME,
  MESSAGES_NEW,
  messagesNewSchema,
  TICKETS_UPDATED,
  ticketsUpdatedSchema,
} from '../../contract/events.ts';
import { ID_FIELDS, ID_RULE, ID_SCHEMA } from '../../contract/rooms.ts';
import { MAX_BATCH } from '../routes/publish.ts';
import { arrayOf, cursor, type JsonObject, ref } from './parts.ts';

export function schemas(declared: readonly string[]): Readonly<Record<string, JsonObject>> {
  const eventItem = { type: 'object', required: ['event', 'payload'] } as const;
  const item = (event: JsonObject, payload: JsonObject): JsonObject => ({
    ...eventItem,
    properties: { event, payload },
  });
  const list = (items: JsonObject): JsonObject => ({
    type: 'object',
    required: ['items', 'nextPage', 'cursor'],
    properties: {
      items: arrayOf(items),
      nextPage: { type: ['string', 'null'], description: 'For the query’s `page`; null on the last page.' },
      cursor: {
        ...cursor,
        description: 'The place in the log that the answer reflects; the first page’s on all pages.',
      },
    },
  });
  // Of the alternatives of `PublishOne` exactly one may fit.
  const declaredName: JsonObject =
    declared.length > 0
      ? { enum: declared }
      : {
          type: 'string',
          pattern: EVENT_NAME.source,
          not: { enum: [TICKETS_UPDATED, MESSAGES_NEW] },
          description: 'As declared by EXTRA_EVENTS.',
        };
  return {
    TicketsUpdated: payloadSchema(ticketsUpdatedSchema, 'Payload of `tickets.updated`. Extra keys pass through.'),
    MessagesNew: payloadSchema(
      messagesNewSchema,
      'Payload of `messages.new`. One of `messageId`, `providerMessageId` is required. Extra keys pass through.',
    ),
    DeclaredEvent: payloadSchema(declaredEventSchema, 'Payload of an event that the operator declared (EXTRA_EVENTS).'),
    PublishOne: {
      oneOf: [
        item({ const: TICKETS_UPDATED }, ref('TicketsUpdated')),
        item({ const: MESSAGES_NEW }, ref('MessagesNew')),
        item(declaredName, ref('DeclaredEvent')),
      ],
    },
    PublishBatch: {
      type: 'object',
      required: ['events'],
      properties: { events: { ...arrayOf(ref('PublishOne')), minItems: 1, maxItems: MAX_BATCH } },
    },
    Published: {
      type: 'object',
      required: ['id', 'event', 'rooms', 'duplicate'],
      properties: {
        id: cursor,
        event: { type: 'string' },
        rooms: {
          ...arrayOf({ type: 'string' }),
          description: 'Where the payload of this request belongs; of a duplicate, nobody there gets it again.',
        },
        duplicate: { type: 'boolean', description: 'Whether it was published before, under this id.' },
      },
    },
    PublishedBatch: {
      type: 'object',
      required: ['results'],
      properties: { results: { ...arrayOf(ref('Published')), description: 'In the order of the request.' } },
    },
    Event: {
      type: 'object',
      required: ['id', 'event', 'rooms', 'payload'],
      properties: {
        id: { ...cursor, type: ['string', 'null'], description: 'The cursor; null for a legacy event.' },
        event: { type: 'string' },
        rooms: arrayOf({ type: 'string' }),
        payload: { type: 'object' },
      },
    },
    Events: {
      type: 'object',
      required: ['events', 'cursor', 'hasMore'],
      properties: {
        events: arrayOf(ref('Event')),
        cursor: { ...cursor, description: 'For the next request’s `after`.' },
        hasMore: { type: 'boolean' },
      },
    },
    ...statsSchemas(),
    Tickets: list(ref('TicketsUpdated')),
    Messages: list(ref('MessagesNew')),
    Problem: {
      type: 'object',
      description: 'RFC 9457.',
      required: ['type', 'title', 'status', 'detail', 'code'],
      properties: {
        type: { type: 'string', format: 'uri' },
        title: { type: 'string' },
        status: { type: 'integer' },
        detail: { type: 'string' },
        code: { enum: Object.keys(ERRORS) },
        errors: arrayOf({
          type: 'object',
          required: ['path', 'message'],
          properties: {
            path: { type: 'string', description: 'A JSON Pointer into the body, or the name of a parameter.' },
            message: { type: 'string' },
          },
        }),
      },
    },
    Gone: {
      allOf: [
        ref('Problem'),
        {
          type: 'object',
          required: ['reason', 'after', 'oldest', 'cursor'],
          properties: {
            reason: { enum: ['expired', 'unknown'] },
            after: { ...cursor, type: ['string', 'null'], description: 'The cursor that was sent.' },
            oldest: { ...cursor, description: 'The oldest record kept.' },
            cursor: { ...cursor, description: 'Where to go on, after reading the state routes.' },
          },
        },
      ],
    },
  };
}

function statsSchemas(): Readonly<Record<string, JsonObject>> {
  const object = (properties: JsonObject, description?: string): JsonObject => ({
    type: 'object',
    required: Object.keys(properties),
    properties,
    ...(description === undefined ? {} : { description }),
  });
  const count: JsonObject = { type: 'integer', minimum: 0 };
  const number: JsonObject = { type: 'number', minimum: 0 };
  const instant: JsonObject = { type: 'string', format: 'date-time' };
  const orNull = (schema: JsonObject, description: string): JsonObject => ({
    oneOf: [schema, { type: 'null' }],
    description,
  });
  const perTransport = (of: JsonObject): JsonObject => object({ websocket: of, polling: of, sse: of, longpoll: of });
  const lag = { count, p50Seconds: orNull(number, 'Null: none.'), p99Seconds: orNull(number, 'Null: none.') };
  const room = object({
    room: { type: 'string' },
    tenantId: { type: ['string', 'null'], description: 'Null with AUTH_MODE=none.' },
    listeners: { ...count, description: 'Connections of this node that hear the room live.' },
    events: { ...count, description: 'In the last `byEvents.seconds`, accepted by whichever node.' },
  });
  const edge = orNull(object({ cursor, at: instant }), 'Null while the log keeps no record or does not answer.');
  const node = {
    id: { type: 'string' },
    host: { type: ['string', 'null'] },
    pid: { type: ['integer', 'null'] },
    version: { type: 'string' },
    startedAt: instant,
  } as const;
  return {
    StatsNode: object({ ...node, connections: perTransport(count) }),
    Stats: object({
      at: instant,
      node: object(
        {
          ...node,
          uptimeSeconds: number,
          draining: { type: 'boolean' },
          eventLoopLag: object({ meanSeconds: number, p99Seconds: number }, 'Of the last five seconds.'),
          memory: object({ rssBytes: count, heapUsedBytes: count }),
        },
        'The node that answers. `host` and `pid` are null for an admin of some tenants.',
      ),
      connections: perTransport(count),
      publishes: object({ accepted: count, duplicate: count, rejected: count, failed: count }, 'Since the start.'),
      deliveries: perTransport(count),
      replayed: { ...count, description: 'Records sent again to those who resumed.' },
      resets: { ...count, description: 'Clients told that their cursor leads nowhere.' },
      slowConsumers: { ...count, description: 'Connections cut off for not keeping up.' },
      deliveryLag: object(
        {
          boundsSeconds: arrayOf(number),
          counts: {
            ...perTransport(arrayOf(count)),
            description: 'Since the start: how many were at or below each bound, and in all.',
          },
          recent: object({ seconds: number, ...lag }, 'Of the last minute or so, all transports together.'),
        },
        'From the acceptance of a record to its write.',
      ),
      rooms: object({
        byListeners: object({ top: arrayOf(room), others: object({ rooms: count, listeners: count }) }),
        byEvents: object({
          seconds: { ...number, description: 'How much of the last minute is looked at.' },
          top: arrayOf(room),
          others: object({ rooms: count, events: count }),
        }),
      }),
      log: object({
        engine: { enum: ['sqlite', 'redis'] },
        healthy: { type: 'boolean', description: 'Whether it takes events.' },
        reached: { type: 'boolean', description: 'Whether it answered within a second.' },
        records: orNull(count, 'Null when it did not answer.'),
        bytes: orNull(count, 'SQLite: the file. Redis: all memory that it uses.'),
        oldest: edge,
        newest: edge,
      }),
      redis: orNull(
        object({ reached: { type: 'boolean' }, takesWrites: { type: 'boolean' }, tailLag: object(lag) }),
        'Null with SQLite. `tailLag`: from the acceptance of a record on any node to this one.',
      ),
      nodes: orNull(
        arrayOf(ref('StatsNode')),
        'Those that share the log and were heard of in the last 16 s. Null for an admin of some tenants.',
      ),
    }),
  };
}

export function payloadSchema(schema: z.ZodType, description: string): JsonObject {
  const { $schema: _, ...converted } = z.toJSONSchema(schema, {
    io: 'input',
    override: ({ jsonSchema }) => {
      // The format says it; the pattern is a page long.
      if (jsonSchema.format === 'date-time') delete jsonSchema.pattern;
      if (jsonSchema.example === undefined) return;
      jsonSchema.examples = [jsonSchema.example];
      delete jsonSchema.example;
    },
  });
  const properties = { ...converted.properties } as Record<string, JsonObject>;
  const { minLength, maxLength, pattern } = ID_SCHEMA;
  for (const name of Object.values(ID_FIELDS)) {
    if (properties[name] === undefined) continue;
    // One that may be left out may be empty, too.
    const least = converted.required?.includes(name) ? { minLength } : {};
    properties[name] = { ...properties[name], description: ID_RULE, ...least, maxLength, pattern };
  }
  return { description, ...(converted as JsonObject), properties };
}

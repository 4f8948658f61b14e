/**
 * The API's description (OpenAPI 3.1), made from the schemas that the routes check with: query parameters from the
 * shapes of transports/query.ts, payloads from contract/events.ts. The repository's openapi.yaml is this, with the
 * default configuration; a test fails when they differ, and when the document and the app's routes disagree.
 */
import { z } from 'zod';
import { ERRORS, type ErrorCode } from '../contract/errors.ts';
import {
  declaredEventSchema,
  EVENT_NAME,
  MESSAGES_NEW,
  messagesNewSchema,
  TICKETS_UPDATED,
  ticketsUpdatedSchema,
} from '../contract/events.ts';
import { ID_FIELDS, ID_RULE, ID_SCHEMA } from '../contract/rooms.ts';
import { EVENTS_QUERY } from '../transports/polling.ts';
import { SSE_QUERY } from '../transports/sse.ts';
import { JSON_TYPE } from './answer.ts';
import { ERASE_TICKET_QUERY } from './erase.ts';
import { PROBE_POLL_QUERY, PROBE_STREAM_QUERY } from './probe.ts';
import { PROBLEM_TYPE, problemUrn } from './problem.ts';
import { IDEMPOTENCY_KEY, MAX_BATCH } from './publish.ts';
import { MESSAGES_QUERY, TICKET_QUERY, TICKETS_QUERY } from './state.ts';
import { STATS_QUERY } from './stats.ts';

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
export type JsonObject = { readonly [key: string]: Json };

export interface Parameter {
  readonly name: string;
  readonly in: 'query' | 'header' | 'path';
  readonly required?: boolean;
  readonly description: string;
  readonly schema: JsonObject;
}

export interface Content {
  readonly schema: JsonObject;
  readonly examples?: Readonly<Record<string, { readonly summary?: string; readonly value: Json }>>;
}

export interface ApiResponse {
  readonly description: string;
  readonly headers?: Readonly<Record<string, { readonly description: string; readonly schema: JsonObject }>>;
  readonly content?: Readonly<Record<string, Content>>;
}

export interface Operation {
  readonly operationId: string;
  readonly tags: readonly string[];
  readonly summary: string;
  readonly description?: string;
  readonly security?: readonly JsonObject[];
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly required: true; readonly content: Readonly<Record<string, Content>> };
  readonly responses: Readonly<Record<string, ApiResponse>>;
}

export interface OpenApiDocument {
  readonly openapi: '3.1.0';
  readonly info: {
    readonly title: string;
    readonly version: string;
    readonly description: string;
    readonly license: JsonObject;
  };
  readonly servers: readonly { readonly url: string }[];
  readonly security: readonly JsonObject[];
  readonly tags: readonly { readonly name: string; readonly description: string }[];
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: {
    readonly schemas: Readonly<Record<string, JsonObject>>;
    readonly securitySchemes: Readonly<Record<string, JsonObject>>;
  };
}

export interface DocumentOptions {
  readonly basePath: string;
  /** Every name that may be published, the operator's declared ones included. */
  readonly eventNames: readonly string[];
}

export const API_VERSION = '1.0.0';
const ISO_INSTANT = '2024-06-01T12:00:00.000Z';
export const CURSOR = 'k3v9x2ma-000000000a7-q8zt';

export const TICKET_PAYLOAD = {
  tenantId: 'tenant-1',
  ticketId: 'ticket-123',
  agreementId: 'agreement-9',
  instanceId: 'inst-42',
  messageId: 'msg-1',
  providerMessageId: 'wamid.abc',
  ticketStatus: 'OPEN',
  ticketUpdatedAt: ISO_INSTANT,
  ticket: { id: 'ticket-123', subject: 'Delivery', unread: 3 },
} as const;
const { ticket: _ticket, ...ENVELOPE } = TICKET_PAYLOAD;
export const MESSAGE_PAYLOAD = { ...ENVELOPE, message: { id: 'msg-1', content: 'Good morning' } } as const;
const ROOMS = ['tenant:tenant-1', 'ticket:ticket-123', 'agreement:agreement-9'] as const;
const PUBLISHED = { id: CURSOR, event: TICKETS_UPDATED, rooms: ROOMS, duplicate: false } as const;

const ref = (name: string): JsonObject => ({ $ref: `#/components/schemas/${name}` });
export const cursor: JsonObject = {
  type: 'string',
  minLength: 1,
  maxLength: 64,
  description: 'A place in the log: opaque, compares as a byte string, the same on every transport.',
};
const arrayOf = (items: JsonObject): JsonObject => ({ type: 'array', items });

const PAGE = { 'text/html': { schema: { type: 'string' } } } as const;

export function createDocument({ basePath, eventNames }: DocumentOptions): OpenApiDocument {
  const declared = eventNames.filter((name) => name !== TICKETS_UPDATED && name !== MESSAGES_NEW);
  return {
    openapi: '3.1.0',
    info: {
      title: 'Roomcast',
      version: API_VERSION,
      description:
        'A realtime bridge with one durable log: the same events, the same bytes and the same cursor over Socket.IO, ' +
        'Server-Sent Events and polling. What is heard, over Socket.IO too, is described in asyncapi.yaml.',
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: basePath === '' ? '/' : basePath }],
    // The empty requirement: with AUTH_MODE=none nobody shows a token.
    security: [{}, { bearer: [] }, { cookie: [] }, { accessToken: [] }],
    tags: [
      { name: 'Publish', description: 'Events go in here, and are durable once answered.' },
      { name: 'Listen', description: 'Events come out here, live and from a cursor on.' },
      { name: 'State', description: 'The newest state of tickets, to begin with and to come back to after a gap.' },
      { name: 'Operate', description: 'Metrics, health, and this description.' },
    ],
    paths: {
      '/events': { post: publishOperation(), get: eventsOperation() },
      '/sse': { get: sseOperation() },
      '/tickets': { get: ticketsOperation() },
      '/tickets/{ticketId}': { get: ticketOperation(), delete: eraseTicketOperation() },
      '/tickets/{ticketId}/messages': { get: messagesOperation() },
      '/tenants/{tenantId}': { delete: eraseTenantOperation() },
      '/pass': { post: passOperation() },
      '/stats': { get: statsOperation() },
      '/metrics': {
        get: operate('metrics', 'Metrics for Prometheus', {
          'text/plain': { schema: { type: 'string' } },
          'application/openmetrics-text': { schema: { type: 'string' } },
        }),
      },
      '/healthz': { get: operate('healthz', 'Whether the process lives', statusContent('alive')) },
      '/readyz': {
        get: {
          ...operate('readyz', 'Whether the log takes events', statusContent('ready')),
          responses: { 200: ok('It does.', statusContent('ready')), ...problems(['unavailable']) },
        },
      },
      '/openapi.json': {
        get: operate('openapiJson', 'This description as JSON', { [JSON_TYPE]: { schema: { type: 'object' } } }),
      },
      '/openapi.yaml': {
        get: operate('openapiYaml', 'This description as YAML', { 'application/yaml': { schema: { type: 'string' } } }),
      },
      '/asyncapi.yaml': {
        get: operate('asyncapiYaml', 'What is heard over Socket.IO and SSE, as AsyncAPI 3.0', {
          'application/yaml': { schema: { type: 'string' } },
        }),
      },
      '/docs': {
        get: operate('docs', 'This description as a page', PAGE),
      },
      '/': { get: homeOperation() },
      '/console': { get: operate('console', 'The operators’ page', PAGE) },
      '/check': { get: operate('check', 'Which transport works from this browser', PAGE) },
      '/check/stream': { get: probeStreamOperation() },
      '/check/poll': { get: probePollOperation() },
      '/assets/{file}': { get: assetOperation() },
    },
    components: {
      schemas: schemas(declared),
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' },
        cookie: { type: 'apiKey', in: 'cookie', name: 'access_token', description: 'The name is set by AUTH_COOKIE.' },
        accessToken: { type: 'apiKey', in: 'query', name: 'access_token' },
        pass: { type: 'apiKey', in: 'query', name: 'pass', description: 'A listen-only stand-in for a token.' },
      },
    },
  };
}

function publishOperation(): Operation {
  return {
    operationId: 'publish',
    tags: ['Publish'],
    summary: 'Publish an event, or a batch of events',
    description:
      `One event, or up to ${MAX_BATCH} that are accepted together or not at all. The answer comes once the log holds ` +
      'them durably; only then does any client see them. A repeat is answered with the first one’s id and goes to nobody.',
    parameters: [
      {
        name: 'Idempotency-Key',
        in: 'header',
        description: 'The same key from the same publisher within DEDUPE_HOURS is a repeat. Visible ASCII characters.',
        schema: { type: 'string', minLength: 1, maxLength: 255, pattern: IDEMPOTENCY_KEY.source },
      },
    ],
    requestBody: {
      required: true,
      content: {
        [JSON_TYPE]: {
          schema: { oneOf: [ref('PublishOne'), ref('PublishBatch')] },
          examples: {
            one: { summary: 'One event', value: { event: TICKETS_UPDATED, payload: TICKET_PAYLOAD } },
            batch: {
              summary: 'A batch',
              value: {
                events: [
                  { event: TICKETS_UPDATED, payload: TICKET_PAYLOAD },
                  { event: MESSAGES_NEW, payload: MESSAGE_PAYLOAD },
                ],
              },
            },
          },
        },
      },
    },
    responses: {
      201: ok('The log holds the event, or any event of the batch, durably.', publishedContent(false)),
      200: ok('A repeat: everything was published before.', publishedContent(true)),
      ...problems([
        'invalid_json',
        'invalid_request',
        'batch_too_large',
        'unauthorized',
        'token_expired',
        'forbidden',
        'body_too_large',
        'unsupported_media_type',
        'invalid_body',
        'unknown_event',
        'invalid_payload',
        'idempotency_conflict',
        'rate_limited',
        'unavailable',
        'outcome_unknown',
      ]),
    },
  };
}

function sseOperation(): Operation {
  return {
    operationId: 'stream',
    tags: ['Listen'],
    summary: 'Stream the events of rooms (Server-Sent Events)',
    description:
      'The stream begins with `retry:` and a `bridge.cursor` event. Each event has its name in `event:`, its payload in ' +
      '`data:` and, when canonical, its cursor in `id:`. What was missed since `Last-Event-ID` or `after` comes first. ' +
      'A cursor that leads nowhere is answered with a `bridge.reset` event. A passing fault is told to an EventSource ' +
      'by a `bridge.error` event within a 200.',
    security: [{}, { bearer: [] }, { cookie: [] }, { accessToken: [] }, { pass: [] }],
    parameters: [
      ...parametersOf(SSE_QUERY),
      {
        name: 'Last-Event-ID',
        in: 'header',
        description: 'The cursor to resume from. Goes before `after`.',
        schema: cursor,
      },
    ],
    responses: {
      200: ok(
        'The stream, until one side ends it.',
        {
          'text/event-stream': {
            schema: { type: 'string' },
            examples: {
              stream: {
                value: `retry: 2137\nevent: bridge.cursor\nid: ${CURSOR}\ndata: {}\n\nevent: ticket.updated\ndata: {…}\n\nevent: tickets.updated\nid: ${CURSOR}\ndata: {…}\n\n`,
              },
            },
          },
        },
        { 'X-Accel-Buffering': 'Always `no`: proxies are not to hold the stream back.' },
      ),
      ...problems([
        'invalid_request',
        'invalid_cursor',
        'too_many_rooms',
        'unauthorized',
        'token_expired',
        'forbidden',
        'rate_limited',
        'unavailable',
        'too_many_connections',
      ]),
    },
  };
}

function eventsOperation(): Operation {
  const headers = { ETag: 'For `If-None-Match`.' };
  return {
    operationId: 'poll',
    tags: ['Listen'],
    summary: 'Read the events of rooms after a cursor (polling, long polling)',
    security: [{}, { bearer: [] }, { cookie: [] }, { accessToken: [] }, { pass: [] }],
    parameters: [
      ...parametersOf(EVENTS_QUERY),
      {
        name: 'If-None-Match',
        in: 'header',
        description: 'The `ETag` of the answer before.',
        schema: { type: 'string' },
      },
    ],
    responses: {
      200: ok(
        'Events, oldest first, and the cursor to go on from.',
        {
          [JSON_TYPE]: {
            schema: ref('Events'),
            examples: {
              events: {
                value: {
                  events: [{ id: CURSOR, event: TICKETS_UPDATED, rooms: ROOMS, payload: TICKET_PAYLOAD }],
                  cursor: CURSOR,
                  hasMore: false,
                },
              },
            },
          },
        },
        headers,
      ),
      304: { description: 'Nothing new.', headers: headersOf(headers) },
      ...problems([
        'invalid_request',
        'invalid_cursor',
        'too_many_rooms',
        'unauthorized',
        'token_expired',
        'forbidden',
        'cursor_expired',
        'cursor_unknown',
        'unavailable',
        'too_many_connections',
      ]),
    },
  };
}

const STATE_PROBLEMS = ['invalid_request', 'unauthorized', 'token_expired', 'forbidden', 'unavailable'] as const;

function ticketsOperation(): Operation {
  return {
    operationId: 'listTickets',
    tags: ['State'],
    summary: 'The newest payload of each ticket',
    description:
      'Newest `ticketUpdatedAt` first, equal ones by cursor. Go live from the answer’s `cursor` with no gap.',
    parameters: parametersOf(TICKETS_QUERY),
    responses: {
      200: ok('A page of `tickets.updated` payloads.', {
        [JSON_TYPE]: {
          schema: ref('Tickets'),
          examples: { tickets: { value: { items: [TICKET_PAYLOAD], nextPage: null, cursor: CURSOR } } },
        },
      }),
      ...problems(STATE_PROBLEMS),
    },
  };
}

const TICKET_ID: Parameter = {
  name: 'ticketId',
  in: 'path',
  required: true,
  description: 'The ticket.',
  schema: ID_SCHEMA,
};

function ticketOperation(): Operation {
  return {
    operationId: 'getTicket',
    tags: ['State'],
    summary: 'The newest payload of a ticket',
    parameters: [TICKET_ID, ...parametersOf(TICKET_QUERY)],
    responses: {
      200: ok('The newest `tickets.updated` payload.', {
        [JSON_TYPE]: { schema: ref('TicketsUpdated'), examples: { ticket: { value: TICKET_PAYLOAD } } },
      }),
      ...problems([...STATE_PROBLEMS, 'not_found']),
    },
  };
}

function messagesOperation(): Operation {
  return {
    operationId: 'listMessages',
    tags: ['State'],
    summary: 'The messages of a ticket',
    description: 'Each message once, by cursor.',
    parameters: [TICKET_ID, ...parametersOf(MESSAGES_QUERY)],
    responses: {
      200: ok('A page of `messages.new` payloads.', {
        [JSON_TYPE]: {
          schema: ref('Messages'),
          examples: { messages: { value: { items: [MESSAGE_PAYLOAD], nextPage: null, cursor: CURSOR } } },
        },
      }),
      ...problems([...STATE_PROBLEMS, 'not_found']),
    },
  };
}

function passOperation(): Operation {
  return {
    operationId: 'mintPass',
    tags: ['Listen'],
    summary: 'A pass, for places that only take a URL',
    description:
      'A signed, listen-only stand-in for the caller’s token, for the query of `/sse` and `/events` and Socket.IO’s ' +
      '`auth`, so that no long-lived or publishing token stands in a URL.',
    responses: {
      201: ok('The pass.', {
        [JSON_TYPE]: {
          schema: {
            type: 'object',
            required: ['pass', 'expiresInSeconds'],
            properties: { pass: { type: 'string' }, expiresInSeconds: { type: 'integer', minimum: 0, maximum: 600 } },
          },
          examples: { pass: { value: { pass: 'eyJ0eXAiOiJ…', expiresInSeconds: 600 } } },
        },
      }),
      ...problems(['unauthorized', 'token_expired', 'forbidden', 'unavailable']),
    },
  };
}

const ERASED: Readonly<Record<string, Content>> = {
  [JSON_TYPE]: {
    schema: { type: 'object', required: ['erased'], properties: { erased: { type: 'integer', minimum: 0 } } },
    examples: { erased: { value: { erased: 12 } } },
  },
};
const ERASE_PROBLEMS = ['invalid_request', 'unauthorized', 'token_expired', 'forbidden', 'unavailable'] as const;

function eraseTicketOperation(): Operation {
  return {
    operationId: 'eraseTicket',
    tags: ['Operate'],
    summary: 'Erase a ticket for good',
    description:
      'Its records, state and dedupe keys leave the log and its files. Cursors stay valid, and the replays of others ' +
      'whole. With tokens, for the scope `admin`.',
    parameters: [TICKET_ID, ...parametersOf(ERASE_TICKET_QUERY)],
    responses: { 200: ok('How many records were erased.', ERASED), ...problems(ERASE_PROBLEMS) },
  };
}

function eraseTenantOperation(): Operation {
  return {
    operationId: 'eraseTenant',
    tags: ['Operate'],
    summary: 'Erase a tenant for good',
    description: 'As for a ticket, for all that a tenant has.',
    parameters: [{ ...TICKET_ID, name: 'tenantId', description: 'The tenant.' }],
    responses: { 200: ok('How many records were erased.', ERASED), ...problems(ERASE_PROBLEMS) },
  };
}

const PER_TRANSPORT = { websocket: 812, polling: 9, sse: 143, longpoll: 2 } as const;
const LAG_BOUNDS = [0.001, 0.01, 0.1, 1] as const;
const STATS_EXAMPLE: JsonObject = {
  at: ISO_INSTANT,
  node: {
    id: '0b1f6a0e-6f0e-4b0e-9a40-0c8ff2a1f0de',
    host: 'bridge-1',
    pid: 17,
    version: '0.1.0',
    startedAt: ISO_INSTANT,
    uptimeSeconds: 86400.5,
    draining: false,
    eventLoopLag: { meanSeconds: 0.0102, p99Seconds: 0.0121 },
    memory: { rssBytes: 143_000_000, heapUsedBytes: 48_000_000 },
  },
  connections: PER_TRANSPORT,
  publishes: { accepted: 120_344, duplicate: 17, rejected: 3, failed: 0 },
  deliveries: { websocket: 3_120_400, polling: 12_000, sse: 410_000, longpoll: 900 },
  replayed: 1204,
  resets: 0,
  slowConsumers: 1,
  deliveryLag: {
    boundsSeconds: LAG_BOUNDS,
    counts: {
      websocket: [90, 118, 120, 120, 120],
      polling: [0, 0, 0, 0, 0],
      sse: [88, 117, 120, 120, 120],
      longpoll: [0, 0, 0, 0, 0],
    },
    recent: { seconds: 60.2, count: 240, p50Seconds: 0.0006, p99Seconds: 0.012 },
  },
  rooms: {
    byListeners: {
      top: [{ room: 'tenant:tenant-1', tenantId: 'tenant-1', listeners: 310, events: 42 }],
      others: { rooms: 17, listeners: 656 },
    },
    byEvents: {
      seconds: 60,
      top: [{ room: 'tenant:tenant-1', tenantId: 'tenant-1', listeners: 310, events: 42 }],
      others: { rooms: 40, events: 78 },
    },
  },
  log: {
    engine: 'redis',
    healthy: true,
    reached: true,
    records: 1_000_000,
    bytes: 733_000_000,
    oldest: { cursor: CURSOR, at: ISO_INSTANT },
    newest: { cursor: CURSOR, at: ISO_INSTANT },
  },
  redis: { reached: true, takesWrites: true, tailLag: { count: 240, p50Seconds: 0.0008, p99Seconds: 0.004 } },
  nodes: [
    {
      id: '0b1f6a0e-6f0e-4b0e-9a40-0c8ff2a1f0de',
      host: 'bridge-1',
      pid: 17,
      version: '0.1.0',
      startedAt: ISO_INSTANT,
      connections: PER_TRANSPORT,
    },
  ],
};

function statsOperation(): Operation {
  return {
    operationId: 'stats',
    tags: ['Operate'],
    summary: 'What the bridge does now',
    description:
      'Counts since the start of this node, rooms by audience and by traffic, the log, Redis and the nodes. With ' +
      'tokens, for the scope `admin`: a service token (`tenantId: "*"`) sees all; an admin of some tenants sees the ' +
      'rooms of these, and of the bridge only what names no tenant and no host. No payloads, no client addresses. An ' +
      'answer is up to half a second old.',
    parameters: parametersOf(STATS_QUERY),
    responses: {
      200: ok('The figures.', {
        [JSON_TYPE]: { schema: ref('Stats'), examples: { stats: { value: STATS_EXAMPLE } } },
      }),
      ...problems(['invalid_request', 'unauthorized', 'token_expired', 'forbidden', 'unavailable']),
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

function operate(operationId: string, summary: string, content: Readonly<Record<string, Content>>): Operation {
  return { operationId, tags: ['Operate'], summary, security: [{}], responses: { 200: ok(`${summary}.`, content) } };
}

const PROBE_PROBLEMS = ['invalid_request', 'unavailable', 'too_many_connections'] as const;

function probeStreamOperation(): Operation {
  return {
    operationId: 'probeStream',
    tags: ['Operate'],
    summary: 'Ticks as Server-Sent Events, for the connection check',
    description: 'As `/sse` to whatever lies between, with a clock in place of events. Needs no token.',
    security: [{}],
    parameters: parametersOf(PROBE_STREAM_QUERY),
    responses: {
      200: ok('The ticks: how many came before (`n`), and milliseconds since the first (`atMs`).', {
        'text/event-stream': {
          schema: { type: 'string' },
          examples: { tick: { value: 'retry: 2000\nevent: check.tick\ndata: {"n":0,"atMs":0}\n\n' } },
        },
      }),
      ...problems(PROBE_PROBLEMS),
    },
  };
}

function probePollOperation(): Operation {
  const facts = {
    roomcast: 'check',
    timeMs: 1717243200000,
    ready: true,
    heartbeatMs: 15000,
    socketPath: '/socket.io',
    httpVersion: '1.1',
    proxyHeaders: ['via'],
  };
  return {
    operationId: 'probePoll',
    tags: ['Operate'],
    summary: 'The server’s clock after a wait, for the connection check',
    description:
      'As a long poll to whatever lies between. Also tells what a check needs to know: whether the log takes events, ' +
      'Socket.IO’s path, the interval of heartbeats, the HTTP version that arrived here and which headers of proxies.',
    security: [{}],
    parameters: parametersOf(PROBE_POLL_QUERY),
    responses: {
      200: ok('The facts.', {
        [JSON_TYPE]: {
          schema: { type: 'object', required: Object.keys(facts) },
          examples: { facts: { value: facts } },
        },
      }),
      ...problems(PROBE_PROBLEMS),
    },
  };
}

function homeOperation(): Operation {
  const { responses: _, ...operation } = operate('home', 'To the operators’ page', PAGE);
  return { ...operation, responses: { 302: { description: 'It is at `/console`.' } } };
}

function assetOperation(): Operation {
  const file: Parameter = {
    name: 'file',
    in: 'path',
    required: true,
    description: 'As the pages name it.',
    schema: { type: 'string' },
  };
  const { responses, ...operation } = operate('asset', 'A script or style sheet of the pages', {
    'text/javascript': { schema: { type: 'string' } },
    'text/css': { schema: { type: 'string' } },
  });
  return { ...operation, parameters: [file], responses: { ...responses, ...problems(['not_found']) } };
}

function statusContent(status: string): Readonly<Record<string, Content>> {
  const schema = { type: 'object', required: ['status'], properties: { status: { const: status } } } as const;
  return { [JSON_TYPE]: { schema, examples: { [status]: { value: { status } } } } };
}

function publishedContent(duplicate: boolean): Readonly<Record<string, Content>> {
  const one = { ...PUBLISHED, duplicate };
  return {
    [JSON_TYPE]: {
      schema: { oneOf: [ref('Published'), ref('PublishedBatch')] },
      examples: {
        one: { summary: 'One event', value: one },
        batch: { summary: 'A batch', value: { results: [one] } },
      },
    },
  };
}

function ok(
  description: string,
  content: Readonly<Record<string, Content>>,
  headers: Readonly<Record<string, string>> = {},
): ApiResponse {
  return {
    description,
    headers: headersOf({ 'Cache-Control': 'Whether the answer may be kept.', ...headers }),
    content,
  };
}

function headersOf(descriptions: Readonly<Record<string, string>>) {
  return Object.fromEntries(
    Object.entries(descriptions).map(([name, description]) => [name, { description, schema: { type: 'string' } }]),
  );
}

/** One response per status, with an example for each of its codes. `internal` may come from every route. */
function problems(codes: readonly ErrorCode[]): Readonly<Record<string, ApiResponse>> {
  const byStatus = new Map<number, ErrorCode[]>();
  for (const code of [...codes, 'internal'] as const) {
    const { status } = ERRORS[code];
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  return Object.fromEntries([...byStatus].map(([status, sameStatus]) => [String(status), problemResponse(sameStatus)]));
}

function problemResponse(codes: readonly ErrorCode[]): ApiResponse {
  const headers: Record<string, string> = {};
  if (codes.some((code) => ERRORS[code].passing)) headers['Retry-After'] = 'Seconds after which to try again.';
  if (codes.some((code) => ERRORS[code].status === 401)) headers['WWW-Authenticate'] = 'How to authenticate.';
  return {
    description: codes.map((code) => `${ERRORS[code].title} (\`${code}\`).`).join(' '),
    ...(Object.keys(headers).length === 0 ? {} : { headers: headersOf(headers) }),
    content: {
      [PROBLEM_TYPE]: {
        schema: ref(codes.includes('cursor_expired') ? 'Gone' : 'Problem'),
        examples: Object.fromEntries(codes.map((code) => [code, { value: problemExample(code) }])),
      },
    },
  };
}

function problemExample(code: ErrorCode): JsonObject {
  const { status, title } = ERRORS[code];
  const reason = code === 'cursor_expired' ? 'expired' : code === 'cursor_unknown' ? 'unknown' : null;
  return {
    type: problemUrn(code),
    title,
    status,
    detail: 'What was wrong, in a sentence.',
    code,
    ...(code === 'invalid_payload' ? { errors: [{ path: '/payload/ticketId', message: 'is required' }] } : {}),
    ...(reason === null ? {} : { reason, after: CURSOR, oldest: CURSOR, cursor: CURSOR }),
  };
}

/** A query shape as parameters: what each takes stands in its `meta`. */
export function parametersOf(shape: Readonly<Record<string, z.ZodType>>): Parameter[] {
  return Object.entries(shape).map(([name, parameter]) => {
    const { description = '', schema, required } = parameter.meta() ?? {};
    return {
      name,
      in: 'query',
      ...(required === true ? { required } : {}),
      description,
      schema: withoutOddDefault(schema as JsonObject),
    };
  });
}

/** A default that the parameter itself does not take stands for "left out". */
function withoutOddDefault(schema: JsonObject): JsonObject {
  const { default: fallback, ...rest } = schema;
  const { minimum } = schema;
  return typeof fallback === 'number' && typeof minimum === 'number' && fallback < minimum ? rest : schema;
}

function schemas(declared: readonly string[]): Readonly<Record<string, JsonObject>> {
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
        rooms: arrayOf({ type: 'string' }),
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

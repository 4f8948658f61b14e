/** The operations of the API's description, one function each, in the order of the document's paths (openapi.ts). */
import { JSON_TYPE } from '../../answers/answer.ts';
import { MESSAGES_NEW, TICKETS_UPDATED } from '../../contract/events.ts';
import { IDEMPOTENCY_KEY } from '../../contract/publishing.ts';
import { ID_SCHEMA } from '../../contract/rooms.ts';
import { EVENTS_QUERY } from '../../transports/longpoll.ts';
import { SSE_QUERY } from '../../transports/sse/endpoint.ts';
import { PROBE_POLL_QUERY, PROBE_STREAM_QUERY } from '../routes/check.ts';
import { ERASE_TICKET_QUERY } from '../routes/erase.ts';
import { MAX_BATCH } from '../routes/publish.ts';
import { MESSAGES_QUERY, TICKET_QUERY, TICKETS_QUERY } from '../routes/state.ts';
import { STATS_QUERY } from '../routes/stats.ts';
import {
  type Content,
  CURSOR,
  cursor,
  headersOf,
  ISO_INSTANT,
  type JsonObject,
  MESSAGE_PAYLOAD,
  type Operation,
  ok,
  type Parameter,
  PUBLISHED,
  parametersOf,
  problems,
  ROOMS,
  ref,
  TICKET_PAYLOAD,
} from './parts.ts';

export const PAGE = { 'text/html': { schema: { type: 'string' } } } as const;

export function publishOperation(): Operation {
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

export function sseOperation(): Operation {
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
        'unavailable',
        'too_many_connections',
      ]),
    },
  };
}

export function eventsOperation(): Operation {
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

export function ticketsOperation(): Operation {
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

export function ticketOperation(): Operation {
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

export function messagesOperation(): Operation {
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

export function passOperation(): Operation {
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

export function eraseTicketOperation(): Operation {
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

export function eraseTenantOperation(): Operation {
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

export function statsOperation(): Operation {
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

export function operate(operationId: string, summary: string, content: Readonly<Record<string, Content>>): Operation {
  return { operationId, tags: ['Operate'], summary, security: [{}], responses: { 200: ok(`${summary}.`, content) } };
}

const PROBE_PROBLEMS = ['invalid_request', 'unavailable', 'too_many_connections'] as const;

export function probeStreamOperation(): Operation {
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

export function probePollOperation(): Operation {
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

export function redirectOperation(operationId: string, summary: string, page: string): Operation {
  const { responses: _, ...operation } = operate(operationId, summary, PAGE);
  return { ...operation, responses: { 302: { description: `It is at \`${page}\`.` } } };
}

export function assetOperation(): Operation {
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

export function statusContent(status: string): Readonly<Record<string, Content>> {
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

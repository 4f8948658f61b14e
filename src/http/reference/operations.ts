/** The operations of the OpenAPI document, and the paths that lead to them. */
import { JSON_TYPE } from '../../answers/answer.ts';
import { roomQuery } from '../../answers/rooms.ts';
import { publishedNames } from '../../contract/events.ts';
import { MESSAGES_NEW, MESSAGES_UPDATED, TICKETS_UPDATED } from '../../contract/facts.ts';
import { IDEMPOTENCY_KEY, MAX_BATCH } from '../../contract/publishing.ts';
import { ID_SCHEMA } from '../../contract/rooms.ts';
import { eventsQuery } from '../../transports/longpoll.ts';
import { sseQuery } from '../../transports/sse/endpoint.ts';
import { CHECK_POLL_QUERY, CHECK_STREAM_QUERY } from '../routes/check.ts';
import { connectionsFilter, connectionsQuery } from '../routes/connections.ts';
import { ERASE_TICKET_QUERY } from '../routes/erase.ts';
import { logQuery } from '../routes/log.ts';
import { REFUSALS_QUERY } from '../routes/refusals.ts';
import { REVOCATIONS_QUERY } from '../routes/revocations.ts';
import { MESSAGES_QUERY, TICKET_QUERY, TICKETS_QUERY } from '../routes/state.ts';
import { HISTORY_QUERY, STATS_QUERY } from '../routes/stats.ts';
import { CONNECTION_EXAMPLE, REFUSAL_EXAMPLE } from './operating.ts';
import {
  CHANGE_PAYLOAD,
  type Content,
  CURSOR,
  cursor,
  headersOf,
  ISO_INSTANT,
  json,
  MESSAGE_PAYLOAD,
  type Operation,
  object,
  ok,
  type Parameter,
  type Paths,
  PUBLISHED,
  parametersOf,
  problems,
  ROOMS,
  ref,
  SENDER,
  SIGNAL,
  string,
  TICKET_PAYLOAD,
  text,
} from './parts.ts';
import type { Declared } from './schemas.ts';
import { STATS_EXAMPLE, STATS_HISTORY_EXAMPLE } from './stats.ts';

const PAGE = text('text/html');
/** Without a type: some tools check the text, others each event as an object. */
const STREAM = { description: 'Server-Sent Events (WHATWG HTML §9.2).' } as const;
const YAML = { 'application/yaml': { schema: { type: 'object' } } } as const;

const TOKEN_PROBLEMS = ['unauthorized', 'token_expired', 'token_revoked', 'forbidden', 'unavailable'] as const;
const STATE_PROBLEMS = ['invalid_request', 'unknown_parameter', ...TOKEN_PROBLEMS] as const;
const LISTEN_PROBLEMS = [...STATE_PROBLEMS, 'invalid_cursor', 'too_many_rooms', 'too_many_connections'] as const;
/** The credentials of routes that also take a pass. */
const LISTEN_SECURITY = [{}, { bearer: [] }, { cookie: [] }, { accessToken: [] }, { pass: [] }] as const;

const publish: Operation = {
  operationId: 'publish',
  tags: ['Publish'],
  summary: 'Publish an event or a batch of events',
  description:
    `Send one event, or up to ${MAX_BATCH} that are accepted together or not at all. The response means that the events ` +
    'are durable; only then do clients receive them. An event goes to the rooms that its payload names, or to those in ' +
    '`rooms`: a private note to agents only, an event to one queue. If you publish an event again (the same ' +
    '`Idempotency-Key`, the same `messageId` or `providerMessageId` in a ticket, or the same change of a message), you get ' +
    'the first one’s `id` and `rooms` with `duplicate: true`, and nobody receives it a second time. With tokens, you need ' +
    'the scope `publish`, and the tenants of the token.',
  parameters: [
    {
      name: 'Idempotency-Key',
      in: 'header',
      description:
        'Makes retries safe: a request with the same key from the same publisher, within `DEDUPE_HOURS` (default 24), ' +
        'is a duplicate. 1 to 255 visible ASCII characters.',
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
          audience: {
            summary: 'For some rooms only',
            value: { event: MESSAGES_NEW, payload: MESSAGE_PAYLOAD, rooms: ['user:ana', 'user:bob'] },
          },
          change: { summary: 'A change of a message', value: { event: MESSAGES_UPDATED, payload: CHANGE_PAYLOAD } },
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
    201: ok('The events are durable, and at least one of them is new.', publishedContent(false)),
    200: ok('All events are duplicates: the log already had them.', publishedContent(true)),
    ...problems([
      ...STATE_PROBLEMS,
      'invalid_json',
      'batch_too_large',
      'body_too_large',
      'unsupported_media_type',
      'invalid_body',
      'unknown_event',
      'invalid_payload',
      'idempotency_conflict',
      'rate_limited',
      'outcome_unknown',
    ]),
  },
};

const sendSignal: Operation = {
  operationId: 'signal',
  tags: ['Signals'],
  summary: 'Send a signal, such as "somebody is typing"',
  description:
    'Everybody who listens to the room now gets the signal. It is active for `ttlSeconds`, and is never logged. There is one ' +
    'active signal for each name, room and sender: a new one replaces it, and `ttlSeconds: 0` ends it. With tokens, you need ' +
    'the scope `signal` and must be allowed to hear the room; or the scope `publish`. `RATE_SIGNALS` limits the signals of a ' +
    'caller. Under load the bridge drops signals, not events.',
  requestBody: {
    required: true,
    content: {
      [JSON_TYPE]: {
        schema: ref('NewSignal'),
        examples: {
          begin: { summary: 'Somebody is typing', value: { ...SIGNAL, ttlSeconds: 10, client: 'tab-1' } },
          end: {
            summary: 'No longer',
            value: { event: SIGNAL.event, room: SIGNAL.room, ttlSeconds: 0, client: 'tab-1' },
          },
        },
      },
    },
  },
  responses: {
    202: ok('The signal is on its way.', json(ref('SignalSent'), 'sent', { listeners: 3 })),
    ...problems([
      'unknown_parameter',
      ...TOKEN_PROBLEMS,
      'invalid_json',
      'body_too_large',
      'unsupported_media_type',
      'unknown_event',
      'invalid_signal',
      'rate_limited',
    ]),
  },
};

const activeSignals = ({ roomKinds }: Declared): Operation => ({
  operationId: 'listSignals',
  tags: ['Signals'],
  summary: 'List the active signals of rooms',
  description:
    'Signals that have not ended, on any node. A node that has just started may not know those that were sent before. ' +
    'Name at least one room.',
  security: LISTEN_SECURITY,
  parameters: parametersOf(roomQuery(roomKinds)),
  responses: {
    200: ok(
      'The active signals.',
      json(ref('ActiveSignals'), 'signals', { signals: [{ ...SIGNAL, ...SENDER, expiresAt: ISO_INSTANT }] }),
    ),
    ...problems([...STATE_PROBLEMS, 'too_many_rooms', 'too_many_connections']),
  },
});

const sse = ({ extraEvents, roomKinds, signals }: Declared): Operation => ({
  operationId: 'stream',
  tags: ['Listen'],
  summary: 'Stream the events of rooms (Server-Sent Events)',
  description:
    'The stream starts with `retry:` and a `bridge.cursor` event. Each event then has its name in `event:`, its payload ' +
    'in `data:` and, if it is canonical, its cursor in `id:`. Signals of the rooms come too, without `id:`. When you resume with `Last-Event-ID` or `after`, you ' +
    'first get the events that you missed. If they are no longer in the log, you get a `bridge.reset` event. While the ' +
    'bridge cannot serve you, an EventSource gets status 200 with a `bridge.error` event, because any other status ' +
    'would stop it from reconnecting. Name at least one room.',
  security: LISTEN_SECURITY,
  parameters: [
    ...parametersOf(sseQuery([...publishedNames(extraEvents), ...signals], roomKinds)),
    {
      name: 'Last-Event-ID',
      in: 'header',
      description: 'The cursor to resume from. Takes precedence over `after`.',
      schema: cursor,
    },
  ],
  responses: {
    200: ok(
      'The stream. It stays open until you or the server end it.',
      {
        'text/event-stream': {
          schema: STREAM,
          examples: {
            stream: {
              value: `retry: 2137\nevent: bridge.cursor\nid: ${CURSOR}\ndata: {}\n\nevent: ticket.updated\ndata: {…}\n\nevent: tickets.updated\nid: ${CURSOR}\ndata: {…}\n\n`,
            },
          },
        },
      },
      { 'X-Accel-Buffering': 'Always `no`: tells nginx not to buffer the stream.' },
    ),
    ...problems(LISTEN_PROBLEMS),
  },
});

const NOT_EMPTY = { type: 'string', minLength: 1 } as const;
const ETAG = { ETag: 'Send it as `If-None-Match` with your next request.' };
const IF_NONE_MATCH: Parameter = {
  name: 'If-None-Match',
  in: 'header',
  description: 'The `ETag` of your previous response.',
  schema: string,
};
const NOT_MODIFIED = {
  description: 'Nothing has changed since the response with this `ETag`.',
  headers: headersOf(ETAG),
};
const events = ({ extraEvents, roomKinds, signals }: Declared): Operation => ({
  operationId: 'poll',
  tags: ['Listen'],
  summary: 'Read the events of rooms after a cursor (polling, long polling)',
  description:
    'Read a page, then continue with its `cursor` as `after`. With `wait`, the response comes as soon as there is an event, ' +
    'or when the time is over. With `signals=true`, so does a signal that arrives meanwhile. Name at least one room.',
  security: LISTEN_SECURITY,
  parameters: [...parametersOf(eventsQuery([...publishedNames(extraEvents), ...signals], roomKinds)), IF_NONE_MATCH],
  responses: {
    200: ok(
      'A page of events, oldest first.',
      json(ref('Events'), 'events', {
        events: [{ id: CURSOR, event: TICKETS_UPDATED, rooms: ROOMS, payload: TICKET_PAYLOAD }],
        cursor: CURSOR,
        hasMore: false,
      }),
      ETAG,
    ),
    304: NOT_MODIFIED,
    ...problems([...LISTEN_PROBLEMS, 'cursor_expired', 'cursor_unknown', 'rate_limited']),
  },
});

const tickets: Operation = {
  operationId: 'listTickets',
  tags: ['State'],
  summary: 'List the tickets of a tenant',
  description:
    'Returns the newest `tickets.updated` payload of each ticket, latest `ticketUpdatedAt` first, if you may hear one of ' +
    'the rooms of its record. A page may hold fewer ' +
    'items than `limit`, even none; the list ends where `nextPage` is null. To go live with no gap, listen with the ' +
    'response’s `cursor` as `after`.',
  parameters: parametersOf(TICKETS_QUERY),
  responses: {
    200: ok(
      'A page of `tickets.updated` payloads.',
      json(ref('Tickets'), 'tickets', { items: [TICKET_PAYLOAD], nextPage: null, cursor: CURSOR }),
    ),
    ...problems([...STATE_PROBLEMS, 'rate_limited', 'too_many_connections']),
  },
};

const pathParameter = (name: string, description: string): Parameter => ({
  name,
  in: 'path',
  required: true,
  description,
  schema: ID_SCHEMA,
});
const TICKET_ID = pathParameter('ticketId', 'The ticket.');

const ticket: Operation = {
  operationId: 'getTicket',
  tags: ['State'],
  summary: 'Get a ticket',
  parameters: [TICKET_ID, ...parametersOf(TICKET_QUERY)],
  responses: {
    200: ok(
      'The newest `tickets.updated` payload of the ticket.',
      json(ref('TicketsUpdated'), 'ticket', TICKET_PAYLOAD),
    ),
    ...problems([...STATE_PROBLEMS, 'not_found', 'rate_limited']),
  },
};

const messages: Operation = {
  operationId: 'listMessages',
  tags: ['State'],
  summary: 'List the messages of a ticket',
  description:
    'Returns each message once, as it is now, in the order of the cursors of `messages.new`: the payload of ' +
    '`messages.new`, or of the newest `messages.updated`. A deleted message is not listed. You get the messages of which ' +
    'you may hear a room.',
  parameters: [TICKET_ID, ...parametersOf(MESSAGES_QUERY)],
  responses: {
    200: ok(
      'A page of payloads of `messages.new` and `messages.updated`.',
      json(ref('Messages'), 'messages', { items: [MESSAGE_PAYLOAD], nextPage: null, cursor: CURSOR }),
    ),
    ...problems([...STATE_PROBLEMS, 'not_found', 'rate_limited', 'too_many_connections']),
  },
};

const pass: Operation = {
  operationId: 'mintPass',
  tags: ['Listen'],
  summary: 'Get a pass for a URL',
  description:
    'Returns a signed, short-lived, listen-only stand-in for your token. Use it where you can only set a URL: in the ' +
    'query of `/sse` and `/events`, or in Socket.IO’s `auth`. Your token then never appears in a URL.',
  responses: {
    201: ok(
      'The pass.',
      json(
        object({
          pass: string,
          expiresInSeconds: {
            type: 'integer',
            minimum: 0,
            maximum: 600,
            description: 'Never later than the expiry of your token.',
          },
        }),
        'pass',
        { pass: 'eyJ0eXAiOiJ…', expiresInSeconds: 600 },
      ),
    ),
    ...problems(['unknown_parameter', ...TOKEN_PROBLEMS]),
  },
};

const ERASED = json(object({ erased: { type: 'integer', minimum: 0 } }), 'erased', { erased: 12 });

const eraseTicket: Operation = {
  operationId: 'eraseTicket',
  tags: ['Operate'],
  summary: 'Erase a ticket for good',
  description:
    'Removes the records, state and deduplication keys of the ticket from the log and its files. Cursors stay valid, ' +
    'and everything else replays as before. With tokens, you need the scope `admin`.',
  parameters: [TICKET_ID, ...parametersOf(ERASE_TICKET_QUERY)],
  responses: { 200: ok('The number of records that were erased.', ERASED), ...problems(STATE_PROBLEMS) },
};

const eraseTenant: Operation = {
  operationId: 'eraseTenant',
  tags: ['Operate'],
  summary: 'Erase a tenant for good',
  description:
    'Removes all records, state and deduplication keys of the tenant, as for a ticket. With tokens, you need the scope ' +
    '`admin`.',
  parameters: [pathParameter('tenantId', 'The tenant.')],
  responses: { 200: ok('The number of records that were erased.', ERASED), ...problems(STATE_PROBLEMS) },
};

const stats: Operation = {
  operationId: 'stats',
  tags: ['Operate'],
  summary: 'Get the figures of the bridge',
  description:
    'Returns counts since the start of the node that answers, the busiest rooms, and the state of the log, Redis and ' +
    'the nodes. It contains no payloads and no client addresses. A response can be half a second old. With tokens, you ' +
    'need the scope `admin`: a token for all tenants (`tenantId: "*"`) sees everything; a token for certain tenants ' +
    'sees only their rooms, and no host names.',
  parameters: parametersOf(STATS_QUERY),
  responses: { 200: ok('The figures.', json(ref('Stats'), 'stats', STATS_EXAMPLE)), ...problems(STATE_PROBLEMS) },
};

const statsHistory: Operation = {
  operationId: 'statsHistory',
  tags: ['Operate'],
  summary: 'Get the last 60 minutes of a node',
  description:
    'Returns what the node that answers did, as columns with one value per point: one point a second for the last ' +
    '5 minutes (`step=1`), or one per 10 seconds for the last 60 (`step=10`). To follow it, ask again with `since`. The ' +
    'node keeps the points in memory, so they begin anew with it (`node`). There is no point for a time in which the ' +
    'machine slept, the process was stopped, or the clock was set. The columns hold counts and measurements of the whole ' +
    'node, and no names. With tokens, you need the scope `admin`, as for `GET /stats`.',
  parameters: parametersOf(HISTORY_QUERY),
  responses: {
    200: ok('The points.', json(ref('StatsHistory'), 'history', STATS_HISTORY_EXAMPLE)),
    ...problems(STATE_PROBLEMS),
  },
};

const log = ({ extraEvents, roomKinds }: Declared): Operation => ({
  operationId: 'readLog',
  tags: ['Operate'],
  summary: 'Read the log: records of a room, a tenant, or all',
  description:
    'Returns records as the log holds them, newest first, each once and with all of its rooms. Name tenants or rooms, or ' +
    'none for every record that you may read; all other parameters narrow the selection. A request looks at a part of the ' +
    'log. While `more` is true, repeat it with `scannedThrough` as `before` (with `order=asc` as `after`); a page may hold ' +
    'fewer records than `limit`, even none. To follow the log, use `order=asc` and repeat the request after `more` is ' +
    'false, too. With tokens, you need the scope `admin`: a token for all tenants (`tenantId: "*"`) reads everything, a ' +
    'token for certain tenants every record of these, whatever its rooms. Without tokens, the log is open if `HOST` is a ' +
    'loopback address.',
  parameters: parametersOf(logQuery(extraEvents, roomKinds)),
  responses: {
    200: ok(
      'A page of records, in the order of the request.',
      json(ref('Log'), 'log', {
        events: [{ id: CURSOR, event: TICKETS_UPDATED, rooms: ROOMS, at: ISO_INSTANT, payload: TICKET_PAYLOAD }],
        scannedThrough: CURSOR,
        more: false,
      }),
    ),
    ...problems([...LISTEN_PROBLEMS, 'cursor_expired', 'cursor_unknown', 'rate_limited']),
  },
});

const REVOCATION = {
  id: '17-6f0c1d2e3a4b5c6d',
  sub: 'user-1',
  tenantId: 'tenant-1',
  jti: null,
  before: '2024-06-01T12:00:00.000Z',
  createdAt: '2024-06-01T12:00:00.000Z',
};
const ADMIN_OF_TENANTS =
  'With tokens, you need the scope `admin`. A token for certain tenants reaches the revocations that name one of them.';

const revoke: Operation = {
  operationId: 'revoke',
  tags: ['Operate'],
  summary: 'Revoke tokens',
  description:
    'From now on, every node refuses the tokens that match all members that you give, and were issued up to the second ' +
    '`before`, and the passes made from them: 401 `token_revoked`. Their connections end. A token that names other ' +
    `tenants than \`tenantId\`, too, keeps those. ${ADMIN_OF_TENANTS} It must give a \`tenantId\`.`,
  requestBody: {
    required: true,
    content: json(ref('NewRevocation'), 'user', { sub: 'user-1', tenantId: 'tenant-1' }),
  },
  responses: {
    201: ok(
      'The revocation is durable, and in force on every node within a second.',
      json(ref('Revocation'), 'revocation', REVOCATION),
    ),
    ...problems([
      ...STATE_PROBLEMS,
      'invalid_json',
      'body_too_large',
      'unsupported_media_type',
      'invalid_body',
      'rate_limited',
      'outcome_unknown',
    ]),
  },
};

const revocations: Operation = {
  operationId: 'listRevocations',
  tags: ['Operate'],
  summary: 'List revocations, newest first',
  description: `In place of the ids of a tenant that was erased, it shows digests. ${ADMIN_OF_TENANTS}`,
  parameters: parametersOf(REVOCATIONS_QUERY),
  responses: {
    200: ok('A page of revocations.', json(ref('Revocations'), 'revocations', { items: [REVOCATION], nextPage: null })),
    ...problems(STATE_PROBLEMS),
  },
};

const liftRevocation: Operation = {
  operationId: 'liftRevocation',
  tags: ['Operate'],
  summary: 'Lift a revocation',
  description: `Tokens that no other revocation matches are accepted again. ${ADMIN_OF_TENANTS}`,
  parameters: [{ ...pathParameter('id', 'The id of the revocation.'), schema: NOT_EMPTY }],
  responses: {
    204: { description: 'The revocation is lifted.', headers: headersOf({}) },
    ...problems([...STATE_PROBLEMS, 'not_found', 'outcome_unknown']),
  },
};

const ADMIN_OF_CONNECTIONS =
  'With tokens, you need the scope `admin`. A token for certain tenants reaches connections all of whose tenants it ' +
  'names. Without tokens, the route is open only if `HOST` is a loopback address.';
const CONNECTION_ID = { ...pathParameter('id', 'The id of the connection.'), schema: NOT_EMPTY };

const connections = ({ roomKinds }: Declared): Operation => ({
  operationId: 'listConnections',
  tags: ['Operate'],
  summary: 'List who is connected, to any node, oldest first',
  description: `All filters that you give must match. ${ADMIN_OF_CONNECTIONS}`,
  parameters: parametersOf(connectionsQuery(roomKinds)),
  responses: {
    200: ok(
      'A page of connections.',
      json(ref('Connections'), 'connections', { items: [CONNECTION_EXAMPLE], nextPage: null, missing: [] }),
    ),
    ...problems([...STATE_PROBLEMS, 'too_many_connections']),
  },
});

const connection: Operation = {
  operationId: 'getConnection',
  tags: ['Operate'],
  summary: 'Read one connection, with all its rooms',
  description: ADMIN_OF_CONNECTIONS,
  parameters: [CONNECTION_ID],
  responses: {
    200: ok('The connection.', json(ref('Connection'), 'connection', CONNECTION_EXAMPLE)),
    ...problems([...STATE_PROBLEMS, 'not_found']),
  },
};

const CLOSED = ok('They end now. Stock clients come back by themselves.', json(ref('Closed'), 'closed', { closed: 1 }));

const closeConnections = ({ roomKinds }: Declared): Operation => ({
  operationId: 'closeConnections',
  tags: ['Operate'],
  summary: 'Close the connections that match',
  description:
    'Give at least one filter; all that you give must match. Clients come back by themselves, and resume from their ' +
    `cursor; to keep somebody out, revoke the token. ${ADMIN_OF_CONNECTIONS}`,
  parameters: parametersOf(connectionsFilter(roomKinds)),
  responses: { 200: CLOSED, ...problems(STATE_PROBLEMS) },
});

const closeConnection: Operation = {
  operationId: 'closeConnection',
  tags: ['Operate'],
  summary: 'Close one connection',
  description: `The client comes back by itself, and resumes from its cursor. ${ADMIN_OF_CONNECTIONS}`,
  parameters: [CONNECTION_ID],
  responses: { 200: CLOSED, ...problems([...STATE_PROBLEMS, 'not_found']) },
};

const refusals: Operation = {
  operationId: 'listRefusals',
  tags: ['Operate'],
  summary: 'List what the nodes refused, newest first',
  description:
    'Each node keeps its newest 1,000 refusals in memory. With tokens, you need the scope `admin`. A token for certain ' +
    'tenants sees refusals of tokens all of whose tenants it names. Without tokens, the route is open only if `HOST` is a ' +
    'loopback address.',
  parameters: parametersOf(REFUSALS_QUERY),
  responses: {
    200: ok(
      'A page of refusals.',
      json(ref('Refusals'), 'refusals', { items: [REFUSAL_EXAMPLE], nextPage: null, missing: [] }),
    ),
    ...problems([...STATE_PROBLEMS, 'too_many_connections']),
  },
};

const CHECK_PROBLEMS = ['invalid_request', 'unknown_parameter', 'unavailable', 'too_many_connections'] as const;

const checkStream: Operation = {
  operationId: 'checkStream',
  tags: ['Operate'],
  summary: 'Stream clock ticks for the connection check',
  description: 'To an intermediary, this looks like `/sse`; it sends ticks instead of events. You need no token.',
  security: [{}],
  parameters: parametersOf(CHECK_STREAM_QUERY),
  responses: {
    200: ok('Ticks: `n` counts them from 0, `atMs` is the time since the first one in milliseconds.', {
      'text/event-stream': {
        schema: STREAM,
        examples: { tick: { value: 'retry: 2000\nevent: check.tick\ndata: {"n":0,"atMs":0}\n\n' } },
      },
    }),
    ...problems(CHECK_PROBLEMS),
  },
};

const CHECK_FACTS = {
  roomcast: 'check',
  timeMs: 1717243200000,
  ready: true,
  heartbeatMs: 15000,
  pingMs: 25000,
  socketPath: '/socket.io',
  httpVersion: '1.1',
  proxyHeaders: ['via'],
  node: 'V1StGXR8',
};
const checkPoll: Operation = {
  operationId: 'checkPoll',
  tags: ['Operate'],
  summary: 'Wait, then get the server’s clock, for the connection check',
  description:
    'To an intermediary, this looks like a long poll. The response also has the facts that a check needs: whether the log ' +
    'accepts events, the Socket.IO path, the intervals of heartbeats and of Engine.IO’s pings in milliseconds, the HTTP ' +
    'version of your request as it arrived, the names of the headers that proxies added, and a random name of the node. With `id`, `websocket` says how ' +
    'the websocket handshake with that `check` in its query arrived; it is null if none did. You need no token.',
  security: [{}],
  parameters: parametersOf(CHECK_POLL_QUERY),
  responses: {
    200: ok('The facts.', json({ type: 'object', required: Object.keys(CHECK_FACTS) }, 'facts', CHECK_FACTS)),
    ...problems(CHECK_PROBLEMS),
  },
};

/** An operation of a route that needs no token. */
function open(operationId: string, summary: string, content: Readonly<Record<string, Content>>): Operation {
  return {
    operationId,
    tags: ['Operate'],
    summary,
    security: [{}],
    responses: { 200: ok(`${summary}.`, content), ...problems([]) },
  };
}

/** The same for a file, which has an `ETag`. */
function file(operationId: string, summary: string, content: Readonly<Record<string, Content>>): Operation {
  const operation = open(operationId, summary, content);
  return {
    ...operation,
    parameters: [IF_NONE_MATCH],
    responses: {
      200: ok(`${summary}.`, content, ETAG),
      304: NOT_MODIFIED,
      ...problems(['not_found']),
    },
  };
}

const redirect = (operationId: string, page: string): Operation => ({
  ...open(operationId, `Redirect to ${page}`, {}),
  responses: {
    302: { description: `The page is at \`${page}\`.`, headers: headersOf({ Location: 'The page.' }) },
    ...problems([]),
  },
});

const page = open('metrics', 'Metrics for Prometheus', text('text/plain', 'application/openmetrics-text'));
const metrics: Operation = {
  ...page,
  description:
    'With tokens, you need the operator’s `METRICS_TOKEN`, or a token with the scope `metrics` or `admin` for all tenants ' +
    '(`tenantId: "*"`), because the metrics name rooms of all tenants. Without tokens, you need `METRICS_TOKEN` if it is ' +
    'set. `METRICS_PORT` serves the same page on a port of its own, without a token.',
  security: [{}, { metricsToken: [] }, { bearer: [] }, { cookie: [] }, { accessToken: [] }],
  responses: { ...page.responses, ...problems(TOKEN_PROBLEMS) },
};

const readyz = open('readyz', 'Readiness: the log accepts events', statusContent('ready'));
const asset = file('asset', 'A script or style sheet of a page', text('text/javascript', 'text/css'));

export const pathsOf = (declared: Declared): Paths => ({
  '/events': { post: publish, get: events(declared) },
  '/sse': { get: sse(declared) },
  '/signals': { post: sendSignal, get: activeSignals(declared) },
  '/tickets': { get: tickets },
  '/tickets/{ticketId}': { get: ticket, delete: eraseTicket },
  '/tickets/{ticketId}/messages': { get: messages },
  '/tenants/{tenantId}': { delete: eraseTenant },
  '/pass': { post: pass },
  '/stats': { get: stats },
  '/stats/history': { get: statsHistory },
  '/log': { get: log(declared) },
  '/connections': { get: connections(declared), delete: closeConnections(declared) },
  '/connections/{id}': { get: connection, delete: closeConnection },
  '/refusals': { get: refusals },
  '/revocations': { post: revoke, get: revocations },
  '/revocations/{id}': { delete: liftRevocation },
  '/metrics': { get: metrics },
  '/healthz': { get: open('healthz', 'Liveness: the process runs', statusContent('alive')) },
  '/readyz': { get: { ...readyz, responses: { ...readyz.responses, ...problems(['unavailable']) } } },
  '/openapi.json': {
    get: open('openapiJson', 'This description as JSON', { [JSON_TYPE]: { schema: { type: 'object' } } }),
  },
  '/openapi.yaml': { get: open('openapiYaml', 'This description as YAML', YAML) },
  '/asyncapi.yaml': {
    get: open('asyncapiYaml', 'The messages of Socket.IO and SSE, as AsyncAPI 3.0', YAML),
  },
  '/docs': { get: open('docs', 'This description as a page', PAGE) },
  '/docs/': { get: redirect('docsSlash', '/docs') },
  '/': { get: redirect('home', '/console') },
  '/console': { get: file('console', 'The console for operators', PAGE) },
  '/console/': { get: redirect('consoleSlash', '/console') },
  '/check': { get: file('check', 'The connection check for this browser', PAGE) },
  '/check/': { get: redirect('checkSlash', '/check') },
  '/check/stream': { get: checkStream },
  '/check/poll': { get: checkPoll },
  '/assets/{file}': {
    get: {
      ...asset,
      parameters: [
        { ...pathParameter('file', 'The name of the file, as the page has it.'), schema: NOT_EMPTY },
        IF_NONE_MATCH,
      ],
    },
  },
});

function statusContent(status: string): Readonly<Record<string, Content>> {
  return json(object({ status: { const: status } }), status, { status });
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

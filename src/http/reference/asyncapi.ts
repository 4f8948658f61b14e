/**
 * What is heard, described (AsyncAPI 3.0): Socket.IO's events, joins and acks, and the SSE stream, made from the schemas
 * that the bridge checks with. Publishing, polling and the state routes are requests, and stand in openapi.ts.
 *
 * A message's payload is the JSON that both transports carry. What comes beside it stands in `headers`: for Socket.IO
 * the handler's further arguments (cursor, `{ replay }`), for SSE the fields `event:` and `id:`. The repository's
 * docs/asyncapi.yaml is this, with the default configuration; a test fails when they differ.
 */

import type { Config } from '../../config.ts';
import {
  declaredEventSchema,
  LEGACY_ENTITY,
  LEGACY_NAMES,
  MESSAGES_NEW,
  messagesNewSchema,
  TICKETS_UPDATED,
  ticketsUpdatedSchema,
} from '../../contract/events.ts';
import { BRIDGE_CURSOR, BRIDGE_ERROR, BRIDGE_RESET } from '../../contract/names.ts';
import { ID_FIELDS, ID_RULE, ID_SCHEMA, ROOM_KINDS, type RoomKind } from '../../contract/rooms.ts';
import { SSE_QUERY } from '../../transports/sse/endpoint.ts';
import { API_VERSION } from './openapi.ts';
import { CURSOR, cursor, type JsonObject, MESSAGE_PAYLOAD, parametersOf, TICKET_PAYLOAD } from './parts.ts';
import { payloadSchema } from './schemas.ts';

export interface AsyncApiDocument {
  readonly asyncapi: '3.0.0';
  readonly info: JsonObject;
  readonly defaultContentType: 'application/json';
  readonly servers: Readonly<Record<string, JsonObject>>;
  readonly channels: Readonly<Record<string, JsonObject>>;
  readonly operations: Readonly<Record<string, JsonObject>>;
  readonly components: Readonly<
    Record<'messages' | 'schemas' | 'securitySchemes', Readonly<Record<string, JsonObject>>>
  >;
}

export interface AsyncApiOptions extends Pick<Config, 'basePath' | 'socketPath' | 'legacyEvents' | 'authCookie'> {
  /** Every name that may be published, the operator's declared ones included. */
  readonly eventNames: readonly string[];
}

/** The codes of protocol §5: what a join may be refused with. */
const JOIN_CODES = [
  'invalid_room',
  'forbidden',
  'too_many_rooms',
  'rate_limited',
  'invalid_cursor',
  'token_expired',
  'unavailable',
] as const;

const schemaRef = (name: string): JsonObject => ({ $ref: `#/components/schemas/${name}` });
const messageRef = (name: string): JsonObject => ({ $ref: `#/components/messages/${name}` });
const serverRef = (name: string): JsonObject => ({ $ref: `#/servers/${name}` });
const object = (properties: Readonly<Record<string, JsonObject>>, required: readonly string[]): JsonObject => ({
  type: 'object',
  properties,
  required,
});

/** The document's name for an event: `messages.new` → `messagesNew`. */
const keyOf = (event: string): string => event.replaceAll(/[.:-]+(\w?)/g, (_, letter: string) => letter.toUpperCase());

export function createAsyncApi(options: AsyncApiOptions): AsyncApiDocument {
  const bridge = bridgeMessages();
  const joins = Object.fromEntries(ROOM_KINDS.flatMap((kind) => [joinMessage(kind), leaveMessage(kind)]));
  const heard = eventMessages(options, new Set(['ack', ...Object.keys(bridge), ...Object.keys(joins)]));
  const socketio = { ...heard, ...bridge };
  const inChannel = (messages: object): JsonObject =>
    Object.fromEntries(Object.keys(messages).map((name) => [name, messageRef(name)]));
  const ofChannel = (channel: string, messages: object): JsonObject[] =>
    Object.keys(messages).map((name) => ({ $ref: `#/channels/${channel}/messages/${name}` }));

  return {
    asyncapi: '3.0.0',
    info: {
      title: 'Roomcast',
      version: API_VERSION,
      description:
        'One event bus with one durable log: the same events, the same bytes and the same cursor on Socket.IO and on ' +
        'Server-Sent Events. Publishing, polling and the state routes are described in openapi.yaml.',
      license: { name: 'MIT', url: 'https://opensource.org/license/mit' },
    },
    defaultContentType: 'application/json',
    servers: servers(options),
    channels: {
      socketio: {
        address: options.socketPath,
        title: 'Socket.IO (Engine.IO 4: websocket and polling)',
        description:
          'Handlers get the payload, then the arguments described as headers, in their order. A stock client from 4.6 ' +
          'on is put back in its rooms after a cut and gets all that it missed (`socket.recovered`).',
        servers: [serverRef('socketio')],
        messages: inChannel({ ...socketio, ...joins, ack: true }),
        bindings: { ws: { method: 'GET', query: CONNECT_OPTIONS, bindingVersion: '0.1.0' } },
      },
      sse: {
        address: '/sse',
        title: 'Server-Sent Events',
        description:
          'Begins with `retry:` and a `bridge.cursor`. EventSource comes back by itself with `Last-Event-ID`, and gets ' +
          'first what it missed. Every 15 s without traffic (HEARTBEAT_MS) another `bridge.cursor`.',
        servers: [serverRef('http')],
        messages: inChannel(socketio),
      },
    },
    operations: {
      hear: {
        action: 'send',
        channel: { $ref: '#/channels/socketio' },
        summary: 'The events of the rooms that were joined',
        messages: ofChannel('socketio', socketio),
      },
      ...Object.fromEntries(
        Object.keys(joins).map((name) => [
          name,
          {
            action: 'receive',
            channel: { $ref: '#/channels/socketio' },
            messages: ofChannel('socketio', { [name]: true }),
            // To the callback, if one was given.
            reply: {
              channel: { $ref: '#/channels/socketio' },
              messages: ofChannel('socketio', { ack: true }),
            },
          },
        ]),
      ),
      stream: {
        action: 'send',
        channel: { $ref: '#/channels/sse' },
        summary: 'The events of the rooms that the query names',
        messages: ofChannel('sse', socketio),
        bindings: { http: { method: 'GET', query: querySchema(), bindingVersion: '0.3.0' } },
      },
    },
    components: {
      messages: { ...heard, ...bridge, ...joins, ack: ackMessage() },
      schemas: schemas(options),
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' },
        cookie: { type: 'httpApiKey', in: 'cookie', name: options.authCookie },
        accessToken: { type: 'httpApiKey', in: 'query', name: 'access_token' },
        pass: {
          type: 'httpApiKey',
          in: 'query',
          name: 'pass',
          description: 'A listen-only stand-in for a token, from `POST /pass`.',
        },
      },
    },
  };
}

function servers({ basePath }: AsyncApiOptions): Readonly<Record<string, JsonObject>> {
  const common = {
    host: '{host}',
    variables: { host: { default: 'localhost:4003', description: 'Host and port of the bridge.' } },
    security: ['bearer', 'cookie', 'accessToken', 'pass'].map((name) => ({
      $ref: `#/components/securitySchemes/${name}`,
    })),
  };
  const description = 'With AUTH_MODE=none nobody shows a token.';
  return {
    socketio: { ...common, protocol: 'ws', description: `Socket.IO, whatever the base path. ${description}` },
    http: { ...common, protocol: 'http', ...(basePath === '' ? {} : { pathname: basePath }), description },
  };
}

/** `auth` or query options of Socket.IO's handshake (protocol §5). */
const CONNECT_OPTIONS: JsonObject = object(
  {
    token: { type: 'string', description: 'A bearer token; rather in `auth` than in the query.' },
    pass: { type: 'string', description: 'A pass in its place.' },
    legacy: { type: 'boolean', default: true, description: 'Whether legacy events are sent too.' },
    cursor: {
      type: 'boolean',
      default: true,
      description: 'false: handlers get the payload alone; no cursors, no `bridge.cursor`, no recovery.',
    },
  },
  [],
);

/**
 * Canonical and declared events with their cursor, legacy events without.
 * @param taken names of the document's other messages
 */
function eventMessages(
  { eventNames, legacyEvents }: AsyncApiOptions,
  taken: ReadonlySet<string>,
): Record<string, JsonObject> {
  const messages: Record<string, JsonObject> = {};
  /** Declared names may differ in their punctuation alone. */
  const freeKey = (event: string): string => {
    let key = keyOf(event);
    while (taken.has(key) || Object.hasOwn(messages, key)) key += '_';
    return key;
  };
  for (const event of eventNames) {
    const schema = SCHEMA_OF[event] ?? 'DeclaredEvent';
    const example = EXAMPLE_OF[event];
    const legacy = legacyEvents ? (LEGACY_NAMES[event] ?? []) : [];
    for (const name of legacy) {
      messages[freeKey(name)] = {
        name,
        title: `Legacy, right before ${event}`,
        contentType: 'application/json',
        payload: schemaRef(`Legacy${schema}`),
        ...(example === undefined ? {} : { examples: [{ payload: legacyExample(event, example) }] }),
      };
    }
    messages[freeKey(event)] = {
      name: event,
      title: schema === 'DeclaredEvent' ? 'Declared by the operator (EXTRA_EVENTS)' : 'Canonical',
      contentType: 'application/json',
      headers: schemaRef('Place'),
      payload: schemaRef(schema),
      ...(example === undefined ? {} : { examples: [{ headers: { cursor: CURSOR }, payload: example }] }),
    };
  }
  return messages;
}

const SCHEMA_OF: Readonly<Record<string, string>> = {
  [TICKETS_UPDATED]: 'TicketsUpdated',
  [MESSAGES_NEW]: 'MessagesNew',
};
const EXAMPLE_OF: Readonly<Record<string, JsonObject>> = {
  [TICKETS_UPDATED]: TICKET_PAYLOAD,
  [MESSAGES_NEW]: MESSAGE_PAYLOAD,
};

function legacyExample(event: string, example: JsonObject): JsonObject {
  return { ...(example[LEGACY_ENTITY[event] as string] as JsonObject), ...example };
}

function bridgeMessages(): Record<string, JsonObject> {
  return {
    bridgeCursor: {
      name: BRIDGE_CURSOR,
      title: 'A place to resume from, and the heartbeat of a stream',
      headers: schemaRef('Place'),
      payload: { type: 'object', maxProperties: 0 },
      examples: [{ headers: { cursor: CURSOR }, payload: {} }],
    },
    bridgeReset: {
      name: BRIDGE_RESET,
      title: 'A gap: what came after the cursor cannot be told; read the state routes and go on from `cursor`',
      headers: schemaRef('Place'),
      payload: schemaRef('Reset'),
      examples: [{ payload: { reason: 'expired', after: CURSOR, oldest: CURSOR, cursor: CURSOR } }],
    },
    bridgeError: {
      name: BRIDGE_ERROR,
      title: 'A refusal: of a join without a callback, of a stream, or of a token that expired',
      payload: schemaRef('Refusal'),
      examples: [
        { payload: { code: 'forbidden', message: 'The token may not listen to tenant:t2.', room: 'tenant:t2' } },
      ],
    },
  };
}

function joinMessage(kind: RoomKind): [string, JsonObject] {
  return [
    keyOf(`join-${kind}`),
    {
      name: `join-${kind}`,
      title: `Join ${kind}:{id}; with \`after\`, first what the room got since`,
      headers: schemaRef('JoinOptions'),
      payload: idSchema(kind),
      examples: [{ payload: { [ID_FIELDS[kind]]: `${kind}-1` } }, { headers: { after: CURSOR }, payload: `${kind}-1` }],
    },
  ];
}

function leaveMessage(kind: RoomKind): [string, JsonObject] {
  return [
    keyOf(`leave-${kind}`),
    {
      name: `leave-${kind}`,
      title: `Leave ${kind}:{id}`,
      payload: idSchema(kind),
      examples: [{ payload: `${kind}-1` }],
    },
  ];
}

function idSchema(kind: RoomKind): JsonObject {
  const id = { ...ID_SCHEMA, description: ID_RULE };
  return { oneOf: [id, object({ [ID_FIELDS[kind]]: id }, [ID_FIELDS[kind]])] };
}

function ackMessage(): JsonObject {
  return {
    name: 'ack',
    title: 'The answer to a join or a leave, to its callback',
    payload: schemaRef('Ack'),
    examples: [
      { payload: { ok: true, room: 'tenant:tenant-1', cursor: CURSOR } },
      { payload: { ok: false, code: 'forbidden', error: 'The token may not listen to tenant:t2.', room: 'tenant:t2' } },
    ],
  };
}

function querySchema(): JsonObject {
  const parameters = parametersOf(SSE_QUERY);
  const properties = parameters.map(({ name, description, schema }) => [name, { ...schema, description }] as const);
  return object(Object.fromEntries(properties), []);
}

function schemas({ eventNames, legacyEvents }: AsyncApiOptions): Readonly<Record<string, JsonObject>> {
  const room: JsonObject = { type: 'string', description: '`{kind}:{id}`' };
  const legacyOf = (schema: string, entity: string): JsonObject => ({
    allOf: [schemaRef(schema)],
    description: `The canonical payload, with the fields of \`${entity}\` beside it at the top level; the envelope’s win.`,
  });
  return {
    TicketsUpdated: payloadSchema(ticketsUpdatedSchema, 'Extra keys, at any depth, pass through.'),
    MessagesNew: payloadSchema(
      messagesNewSchema,
      'One of `messageId`, `providerMessageId` is there. Extra keys, at any depth, pass through.',
    ),
    ...(legacyEvents
      ? {
          LegacyTicketsUpdated: legacyOf('TicketsUpdated', 'ticket'),
          LegacyMessagesNew: legacyOf('MessagesNew', 'message'),
        }
      : {}),
    ...(eventNames.some((name) => !Object.hasOwn(SCHEMA_OF, name))
      ? { DeclaredEvent: payloadSchema(declaredEventSchema, 'Each of these ids that is there routes it to a room.') }
      : {}),
    Place: object(
      {
        cursor: { ...cursor, description: 'Socket.IO: the second argument. SSE: `id:`. The same on every transport.' },
        replay: {
          type: 'boolean',
          description: 'Socket.IO, in the third argument: in a replay that a join asked for.',
        },
      },
      [],
    ),
    JoinOptions: object({ after: { ...cursor, description: 'First what the room got after this cursor.' } }, []),
    Ack: {
      oneOf: [
        object({ ok: { const: true }, room, cursor }, ['ok', 'room', 'cursor']),
        object(
          {
            ok: { const: false },
            code: { enum: JOIN_CODES },
            error: { type: 'string', description: 'A sentence.' },
            room,
          },
          ['ok', 'code', 'error'],
        ),
      ],
    },
    Reset: object(
      {
        reason: { enum: ['expired', 'unknown'] },
        after: { ...cursor, type: ['string', 'null'], description: 'The cursor that led nowhere.' },
        oldest: { ...cursor, description: 'The oldest record kept.' },
        cursor: { ...cursor, description: 'From where it goes on.' },
      },
      ['reason', 'after', 'oldest', 'cursor'],
    ),
    Refusal: object({ code: { type: 'string' }, message: { type: 'string' }, room }, ['code', 'message']),
  };
}

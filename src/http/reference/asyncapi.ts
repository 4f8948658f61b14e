/**
 * The AsyncAPI 3.0 document: the events, signals, joins and acks of Socket.IO, and the SSE stream, built from the schemas that the
 * bridge checks with. openapi.ts describes the requests: publishing, polling and the state routes.
 *
 * A message's payload is the JSON that both transports carry; its `headers` are the other arguments of a Socket.IO handler
 * (cursor, `{ replay }`) and the `id:` of an SSE event. docs/asyncapi.yaml is this document with the default settings; a
 * test fails if the two differ.
 */
import type { Config } from '../../config.ts';
import { aliasesOf, LEGACY_ENTITY, publishedNames } from '../../contract/events.ts';
import { MESSAGES_DELETED, MESSAGES_NEW, MESSAGES_UPDATED, TICKETS_UPDATED } from '../../contract/facts.ts';
import { BRIDGE_AUDIENCE, BRIDGE_CURSOR, BRIDGE_ERROR, BRIDGE_RESET } from '../../contract/names.ts';
import { allKinds, ID_SCHEMA, idField, JSON_ID_RULE, type RoomKind } from '../../contract/rooms.ts';
import { SIGNAL } from '../../contract/signals.ts';
import { sseQuery } from '../../transports/sse/endpoint.ts';
import { API_VERSION } from './openapi.ts';
import {
  arrayOf,
  boolean,
  CHANGE_PAYLOAD,
  CURSOR,
  cursor,
  describe,
  type Json,
  type JsonObject,
  MESSAGE_PAYLOAD,
  object,
  parametersOf,
  RESET,
  ref,
  SENDER,
  SIGNAL as SIGNAL_EXAMPLE,
  string,
  TICKET_PAYLOAD,
} from './parts.ts';
import {
  canonicalEvents,
  type Declared,
  newSignal,
  PAYLOAD_SCHEMAS,
  payloadsOf,
  roomPattern,
  signalPayload,
} from './schemas.ts';

export interface AsyncApiDocument {
  readonly asyncapi: '3.0.0';
  readonly info: JsonObject;
  readonly defaultContentType: 'application/json';
  readonly servers: Readonly<Record<string, JsonObject>>;
  readonly channels: Readonly<Record<string, JsonObject>>;
  readonly operations: Readonly<Record<string, JsonObject>>;
  readonly components: {
    readonly messages: Readonly<Record<string, Message>>;
    readonly schemas: Readonly<Record<string, JsonObject>>;
    readonly securitySchemes: Readonly<Record<string, JsonObject>>;
  };
}

export interface Message {
  readonly name: string;
  readonly title: string;
  readonly contentType?: 'application/json';
  readonly headers?: JsonObject;
  readonly payload: JsonObject;
  readonly examples?: readonly { readonly headers?: JsonObject; readonly payload: Json }[];
}

export type AsyncApiOptions = Declared &
  Pick<Config, 'basePath' | 'socketPath' | 'legacyEvents' | 'authCookie' | 'maxRooms'>;

/** The codes of a refused join (protocol §5). */
const JOIN_CODES = [
  'invalid_room',
  'forbidden',
  'too_many_rooms',
  'rate_limited',
  'invalid_cursor',
  'token_expired',
  'unavailable',
] as const;

/** The codes of a refused signal (protocol §14). */
const SIGNAL_CODES = ['unknown_event', 'invalid_signal', 'forbidden', 'rate_limited'] as const;

/** The key of an event in the document: `messages.new` → `messagesNew`. */
const keyOf = (event: string): string => event.replaceAll(/[.:-]+(\w?)/g, (_, letter: string) => letter.toUpperCase());

export function createAsyncApi(options: AsyncApiOptions): AsyncApiDocument {
  const joins = joinMessages(options);
  const taken = new Set([SIGNAL, 'ack', 'signalAck', ...Object.keys(BRIDGE_MESSAGES), ...Object.keys(joins)]);
  const events = eventMessages(options, taken);
  const signals = signalMessages(options, new Set([...taken, ...Object.keys(events)]));
  const received = { ...events, ...signals.received, ...BRIDGE_MESSAGES };
  const sent = { [SIGNAL]: signalMessage(options), ...signals.sent };
  const inChannel = (messages: object): JsonObject =>
    Object.fromEntries(Object.keys(messages).map((name) => [name, { $ref: `#/components/messages/${name}` }]));
  const ofChannel = (channel: string, messages: object): JsonObject[] =>
    Object.keys(messages).map((name) => ({ $ref: `#/channels/${channel}/messages/${name}` }));

  return {
    asyncapi: '3.0.0',
    info: {
      title: 'Roomcast',
      version: API_VERSION,
      description:
        'Roomcast is a realtime bridge with one durable log: clients receive the same events, with the same bytes and ' +
        'the same cursor, over Socket.IO and Server-Sent Events. openapi.yaml describes publishing, polling and the ' +
        'state routes.',
      license: { name: 'MIT', url: 'https://opensource.org/license/mit' },
    },
    defaultContentType: 'application/json',
    servers: servers(options),
    channels: {
      socketio: {
        address: options.socketPath,
        title: 'Socket.IO (Engine.IO 4: websocket and polling)',
        description:
          'Your handler gets the payload, then the arguments that the message lists as headers, in that order. When a ' +
          'stock client (4.6 or newer) reconnects, the bridge restores its rooms and sends the events that it missed; ' +
          '`socket.recovered` is then true.',
        servers: [{ $ref: '#/servers/socketio' }],
        messages: inChannel({ ...received, ...joins, ...sent, ack: true, signalAck: true }),
        bindings: { ws: { method: 'GET', query: CONNECT_OPTIONS, bindingVersion: '0.1.0' } },
      },
      sse: {
        address: '/sse',
        title: 'Server-Sent Events',
        description:
          'The stream starts with `retry:` and a `bridge.cursor` event. EventSource reconnects by itself with ' +
          '`Last-Event-ID`, and first gets the events that it missed. After each 15 s without traffic (`HEARTBEAT_MS`), ' +
          'the server sends another `bridge.cursor`.',
        servers: [{ $ref: '#/servers/http' }],
        messages: inChannel(received),
      },
    },
    operations: {
      receive: {
        action: 'send',
        channel: { $ref: '#/channels/socketio' },
        summary: 'Receive the events of the rooms that you joined',
        messages: ofChannel('socketio', received),
      },
      ...Object.fromEntries(
        Object.keys({ ...joins, ...sent }).map((name) => [
          name,
          {
            action: 'receive',
            channel: { $ref: '#/channels/socketio' },
            messages: ofChannel('socketio', { [name]: true }),
            // Sent only if the client passes a callback.
            reply: {
              channel: { $ref: '#/channels/socketio' },
              messages: ofChannel('socketio', { [name in joins ? 'ack' : 'signalAck']: true }),
            },
          },
        ]),
      ),
      stream: {
        action: 'send',
        channel: { $ref: '#/channels/sse' },
        summary: 'Receive the events of the rooms in the query',
        messages: ofChannel('sse', received),
        bindings: { http: { method: 'GET', query: querySchema(options), bindingVersion: '0.3.0' } },
      },
    },
    components: {
      messages: { ...received, ...joins, ...sent, ack: ACK, signalAck: SIGNAL_ACK },
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
  const description = 'With `AUTH_MODE=none`, you need no token.';
  return {
    socketio: { ...common, protocol: 'ws', description: `Socket.IO; the base path does not apply. ${description}` },
    http: { ...common, protocol: 'http', ...(basePath === '' ? {} : { pathname: basePath }), description },
  };
}

/** Options in the `auth` or the query of Socket.IO's handshake (protocol §5). */
const CONNECT_OPTIONS = object(
  {
    token: describe(string, 'Your bearer token. Prefer `auth` over the query, where it would be part of the URL.'),
    pass: describe(string, 'A pass from `POST /pass`, in place of a token.'),
    legacy: { type: 'boolean', default: true, description: 'Whether to also send legacy events.' },
    cursor: {
      type: 'boolean',
      default: true,
      description: 'With false, handlers get only the payload: no cursors, no `bridge.cursor`, no recovery.',
    },
    audience: {
      type: 'boolean',
      default: false,
      description: "Whether a `bridge.audience` precedes each event whose rooms are not those of its payload's ids.",
    },
  },
  [],
);

/** The names of two declared events may differ only in their punctuation. */
function keyBeside(name: string, taken: ReadonlySet<string>, messages: object): string {
  let key = keyOf(name);
  while (taken.has(key) || Object.hasOwn(messages, key)) key += '_';
  return key;
}

/**
 * Canonical and declared events have a cursor; legacy events have none.
 * @param taken keys of the document's other messages
 */
function eventMessages(options: AsyncApiOptions, taken: ReadonlySet<string>): Record<string, Message> {
  const messages: Record<string, Message> = {};
  const freeKey = (event: string): string => keyBeside(event, taken, messages);
  const canonical = canonicalEvents(options);
  const aliases = aliasesOf(options);
  for (const event of publishedNames(options.extraEvents)) {
    const isCanonical = canonical.includes(event);
    const schema = isCanonical ? PAYLOAD_SCHEMAS[event] : 'DeclaredEvent';
    const example = isCanonical ? (EXAMPLES[event] as JsonObject) : null;
    const entity = example?.[LEGACY_ENTITY[event] ?? ''] as JsonObject | undefined;
    for (const name of aliases[event] ?? []) {
      messages[freeKey(name)] = {
        name,
        title: `Legacy event, sent immediately before ${event}`,
        contentType: 'application/json',
        payload: ref(`Legacy${schema}`),
        examples: [{ payload: { ...entity, ...example } }],
      };
    }
    messages[freeKey(event)] = {
      name: event,
      title: example === null ? 'Event declared by the operator (EXTRA_EVENTS)' : 'Canonical event',
      contentType: 'application/json',
      headers: ref('EventHeaders'),
      payload: ref(schema as string),
      ...(example === null ? {} : { examples: [{ headers: { cursor: CURSOR }, payload: example }] }),
    };
  }
  return messages;
}

const { message: _message, messageStatus: _status, ...DELETION } = CHANGE_PAYLOAD;
const EXAMPLES: Readonly<Record<string, JsonObject>> = {
  [TICKETS_UPDATED]: TICKET_PAYLOAD,
  [MESSAGES_NEW]: MESSAGE_PAYLOAD,
  [MESSAGES_UPDATED]: CHANGE_PAYLOAD,
  [MESSAGES_DELETED]: DELETION,
};

const BRIDGE_MESSAGES: Record<string, Message> = {
  bridgeCursor: {
    name: BRIDGE_CURSOR,
    title: 'The newest cursor to resume from; also the heartbeat of a stream',
    headers: ref('EventHeaders'),
    payload: { type: 'object', maxProperties: 0 },
    examples: [{ headers: { cursor: CURSOR }, payload: {} }],
  },
  bridgeReset: {
    name: BRIDGE_RESET,
    title: 'Events after your cursor are lost: read the state routes, then continue with `cursor`',
    headers: ref('EventHeaders'),
    payload: ref('Reset'),
    examples: [{ payload: { reason: 'expired', after: CURSOR, oldest: CURSOR, cursor: CURSOR } }],
  },
  bridgeAudience: {
    name: BRIDGE_AUDIENCE,
    title: "The next event has other rooms than those of its payload's ids; only for clients that ask with `audience`",
    payload: { type: 'object', maxProperties: 0 },
    examples: [{ payload: {} }],
  },
  bridgeError: {
    name: BRIDGE_ERROR,
    title: 'An error: a refused join without a callback, a refused stream, or an expired token',
    payload: ref('Refusal'),
    examples: [
      {
        payload: {
          code: 'forbidden',
          message: 'The token may not listen to tenant:t2: its claim tenantId names t1.',
          room: 'tenant:t2',
        },
      },
    ],
  },
};

function joinMessages({ roomKinds, maxRooms }: AsyncApiOptions): Record<string, Message> {
  const room = { type: 'string', pattern: roomPattern(roomKinds) };
  const rooms = { oneOf: [room, { ...arrayOf(room), minItems: 1, maxItems: maxRooms }] };
  const examples = [{ payload: 'ticket:ticket-1' }, { payload: ['ticket:ticket-1', 'agreement:agreement-9'] }];
  const messages: Record<string, Message> = {
    join: {
      name: 'join',
      title: 'Join a room by its name, or all rooms of an array, or none; with `after`, first get their events as one',
      headers: ref('JoinOptions'),
      payload: rooms,
      examples,
    },
    leave: { name: 'leave', title: 'Leave a room by its name, or all rooms of an array', payload: rooms, examples },
  };
  for (const kind of allKinds(roomKinds)) {
    messages[keyOf(`join-${kind}`)] = {
      name: `join-${kind}`,
      title: `Join ${kind}:{id}; with \`after\`, first get the events after that cursor`,
      headers: ref('JoinOptions'),
      payload: idSchema(kind),
      examples: [{ payload: { [idField(kind)]: `${kind}-1` } }, { headers: { after: CURSOR }, payload: `${kind}-1` }],
    };
    messages[keyOf(`leave-${kind}`)] = {
      name: `leave-${kind}`,
      title: `Leave ${kind}:{id}`,
      payload: idSchema(kind),
      examples: [{ payload: `${kind}-1` }],
    };
  }
  return messages;
}

function signalMessage(options: AsyncApiOptions): Message {
  const example = { ...SIGNAL_EXAMPLE, event: options.signals[0] ?? SIGNAL_EXAMPLE.event };
  return {
    name: SIGNAL,
    title: 'Send a signal, such as "somebody is typing", to the room; it is not logged',
    payload: newSignal(options),
    examples: [{ payload: example }, { payload: { ...example, ttlSeconds: 0 } }],
  };
}

/** Each signal as clients receive it, and as they may send it under its own name. */
function signalMessages({ signals, roomKinds }: AsyncApiOptions, taken: ReadonlySet<string>) {
  const received: Record<string, Message> = {};
  const sent: Record<string, Message> = {};
  const kinds = allKinds(roomKinds).filter((kind) => kind !== 'tenant');
  for (const name of signals) {
    received[keyBeside(name, taken, received)] = {
      name,
      title: 'Signal: sent to the room now, without a cursor',
      contentType: 'application/json',
      payload: ref('Signal'),
      examples: [{ payload: { ...SIGNAL_EXAMPLE.payload, room: SIGNAL_EXAMPLE.room, ...SENDER, ttlSeconds: 10 } }],
    };
  }
  for (const name of signals) {
    sent[keyBeside(`signal-${name}`, taken, { ...received, ...sent })] = {
      name,
      title: 'Send the signal under its own name: the object is its payload, and an id in it names the room',
      payload: { type: 'object', anyOf: kinds.map((kind) => object({ [idField(kind)]: ID_IN_JSON })) },
      examples: [{ payload: { ticketId: 'ticket-123', name: 'Ana' } }],
    };
  }
  return { received, sent };
}

const ID_IN_JSON: JsonObject = { ...ID_SCHEMA, type: ['string', 'integer'], description: JSON_ID_RULE };

const idSchema = (kind: RoomKind): JsonObject => ({
  oneOf: [ID_IN_JSON, object({ [idField(kind)]: ID_IN_JSON })],
});

const ACK: Message = {
  name: 'ack',
  title: 'The response to a join or leave, passed to your callback',
  payload: ref('Ack'),
  examples: [
    { payload: { ok: true, room: 'tenant:tenant-1', cursor: CURSOR } },
    { payload: { ok: true, rooms: ['ticket:ticket-1', 'agreement:agreement-9'], cursor: CURSOR } },
    {
      payload: {
        ok: false,
        code: 'forbidden',
        error: 'The token may not listen to tenant:t2: its claim tenantId names t1.',
        room: 'tenant:t2',
      },
    },
  ],
};

const SIGNAL_ACK: Message = {
  name: 'signalAck',
  title: 'The response to a signal, passed to your callback',
  payload: ref('SignalAck'),
  examples: [
    { payload: { ok: true } },
    { payload: { ok: false, code: 'rate_limited', error: 'At most 10 signals per second are allowed.' } },
  ],
};

function querySchema({ extraEvents, roomKinds, signals }: AsyncApiOptions): JsonObject {
  const properties = parametersOf(sseQuery([...publishedNames(extraEvents), ...signals], roomKinds)).map(
    ({ name, description, schema }) => [name, describe(schema, description)],
  );
  return object(Object.fromEntries(properties), []);
}

function schemas(options: AsyncApiOptions): Readonly<Record<string, JsonObject>> {
  const room = describe(string, '`{kind}:{id}`');
  const refusal = (codes: readonly string[]): JsonObject =>
    object(
      {
        ok: { const: false },
        code: { enum: codes },
        error: describe(string, 'A sentence that says what is wrong. Your code decides by `code`.'),
        room,
      },
      ['ok', 'code', 'error'],
    );
  const legacy = Object.keys(aliasesOf(options)).map((event) => {
    const description = `The canonical payload with the fields of \`${LEGACY_ENTITY[event]}\` copied to the top level, unless a key exists there already.`;
    return [`Legacy${PAYLOAD_SCHEMAS[event]}`, { allOf: [ref(PAYLOAD_SCHEMAS[event] as string)], description }];
  });
  return {
    ...payloadsOf(options),
    ...Object.fromEntries(legacy),
    EventHeaders: object(
      {
        cursor: describe(cursor, 'Socket.IO: the second argument. SSE: the field `id:`.'),
        replay: describe(
          boolean,
          'Socket.IO: in the third argument; true in a replay that a join with `after` requested.',
        ),
      },
      [],
    ),
    JoinOptions: object(
      { after: describe(cursor, 'Replays the events of the rooms after this cursor, then goes live.') },
      [],
    ),
    Ack: {
      oneOf: [
        object({ ok: { const: true }, room, cursor }),
        object({ ok: { const: true }, rooms: describe(arrayOf(string), 'In the answer to an array.'), cursor }),
        refusal(JOIN_CODES),
      ],
    },
    SignalAck: { oneOf: [object({ ok: { const: true } }), refusal(SIGNAL_CODES)] },
    ...(options.signals.length === 0 ? {} : { Signal: signalPayload }),
    Reset: RESET,
    Refusal: object({ code: string, message: string, room }, ['code', 'message']),
  };
}

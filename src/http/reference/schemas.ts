/** The schemas of both documents: payloads, from contract/events.ts, and the routes' responses. */
import { z } from 'zod';
import type { Config } from '../../config.ts';
import { ERRORS } from '../../contract/errors.ts';
import { payloadSchemas } from '../../contract/events.ts';
import {
  MESSAGE_STATUSES,
  MESSAGES_DELETED,
  MESSAGES_NEW,
  MESSAGES_UPDATED,
  TICKETS_UPDATED,
} from '../../contract/facts.ts';
import { MAX_BATCH, MAX_BATCH_ROOMS, MAX_NAMED_ROOMS } from '../../contract/publishing.ts';
import { allKinds, ID_SCHEMA, idField, JSON_ID_RULE, type RoomKind } from '../../contract/rooms.ts';
import {
  DEFAULT_TTL_SECONDS,
  MAX_CLIENT_CHARACTERS,
  MAX_SIGNAL_BYTES,
  MAX_TTL_SECONDS,
} from '../../contract/signals.ts';
import { MAX_CLAIM_CHARACTERS } from '../routes/revocations.ts';
import { operatingSchemas } from './operating.ts';
import {
  arrayOf,
  boolean,
  cursor,
  cursorOrNull,
  describe,
  instant,
  type JsonObject,
  object,
  RESET,
  ref,
  string,
} from './parts.ts';
import { statsSchemas } from './stats.ts';

/** What an operator declares, and both documents describe. */
export type Declared = Pick<Config, 'extraEvents' | 'roomKinds' | 'signals'>;

/** The server refuses other members. */
const NO_OTHERS = { additionalProperties: false } as const;

const STRING_OR_NULL: JsonObject = { type: ['string', 'null'] };
const CLAIM: JsonObject = { type: ['string', 'integer', 'null'], minLength: 1, maxLength: MAX_CLAIM_CHARACTERS };
const ID_OR_INTEGER: JsonObject = { ...ID_SCHEMA, type: ['string', 'integer', 'null'], description: JSON_ID_RULE };
const BEFORE = describe(
  { type: ['string', 'null'], format: 'date-time' },
  'Tokens issued up to this second are revoked. Default: now; at most 60 s ahead.',
);

const EXTRA_KEYS = 'Other keys, at any depth, reach clients unchanged.';

/** The names of payload schemas by canonical event. An event that the operator declares has `DeclaredEvent`. */
export const PAYLOAD_SCHEMAS: Readonly<Record<string, string>> = {
  [TICKETS_UPDATED]: 'TicketsUpdated',
  [MESSAGES_NEW]: 'MessagesNew',
  [MESSAGES_UPDATED]: 'MessagesUpdated',
  [MESSAGES_DELETED]: 'MessagesDeleted',
};

/** The canonical events of this bridge: `messages.updated` may be a declared one (protocol §3). */
export const canonicalEvents = ({ extraEvents }: Declared): string[] =>
  Object.keys(PAYLOAD_SCHEMAS).filter((event) => !extraEvents.includes(event));

export function payloadsOf(declared: Declared): Readonly<Record<string, JsonObject>> {
  const {
    ticketsUpdated,
    messagesNew,
    messagesUpdated,
    messagesDeleted,
    declared: other,
  } = payloadSchemas(declared.roomKinds);
  const describePayload = (schema: z.ZodType, text: string) => payloadSchema(schema, `${text} ${EXTRA_KEYS}`, declared);
  const namesMessage = {
    anyOf: ['messageId', 'providerMessageId'].map((name) =>
      object({ [name]: { type: ['string', 'integer'], minLength: 1 } }),
    ),
  };
  const rule = '`messageId` or `providerMessageId` is required.';
  const canonical: Readonly<Record<string, JsonObject>> = {
    TicketsUpdated: describePayload(ticketsUpdated, 'The payload of `tickets.updated`.'),
    MessagesNew: { ...describePayload(messagesNew, `The payload of \`messages.new\`. ${rule}`), ...namesMessage },
    MessagesUpdated: {
      ...describePayload(
        messagesUpdated,
        `The payload of \`messages.updated\`: the message as it is now. Of two changes the later \`messageUpdatedAt\` ` +
          `stands, at one instant the higher status: ${MESSAGE_STATUS_ORDER}. ${rule}`,
      ),
      ...namesMessage,
    },
    MessagesDeleted: {
      ...describePayload(messagesDeleted, `The payload of \`messages.deleted\`. ${rule}`),
      ...namesMessage,
    },
  };
  const names = canonicalEvents(declared).map((event) => PAYLOAD_SCHEMAS[event] as string);
  return {
    ...Object.fromEntries(names.map((name) => [name, canonical[name] as JsonObject])),
    ...(declared.extraEvents.length === 0
      ? {}
      : {
          DeclaredEvent: describePayload(
            other,
            'The payload of an event that the operator declares with `EXTRA_EVENTS`. It goes to the room of each of ' +
              'these ids. `tenantId` is required here or beside the payload.',
          ),
        }),
  };
}

const MESSAGE_STATUS_ORDER = `${MESSAGE_STATUSES.join(', ')} (lowest first)`;

export function schemas(declared: Declared): Readonly<Record<string, JsonObject>> {
  const audience = {
    tenantId: {
      type: ['string', 'integer', 'null'],
      ...ID,
      minLength: 1,
      description: `The tenant of the event, where the payload has none, or as a check. ${JSON_ID_RULE}.`,
    },
    rooms: {
      type: ['array', 'null'],
      items: { type: 'string', pattern: roomPattern(declared.roomKinds) },
      minItems: 1,
      maxItems: MAX_NAMED_ROOMS,
      description:
        'The rooms that hear the event, in place of those that its payload names. A `tenant:` room is that of the event’s ' +
        `own tenant. A batch names at most ${MAX_BATCH_ROOMS} rooms.`,
    },
  };
  const item = (event: JsonObject, payload: JsonObject) => ({
    ...object({ event, payload, ...audience }, ['event', 'payload']),
    ...NO_OTHERS,
  });
  const list = (items: JsonObject) =>
    object({
      items: arrayOf(items),
      nextPage: {
        type: ['string', 'null'],
        description: 'The `page` parameter of your next request. Null on the last page.',
      },
      cursor: describe(
        cursor,
        'The position in the log that the response reflects. All pages have the cursor of the first one.',
      ),
    });
  const events = canonicalEvents(declared);
  return {
    ...payloadsOf(declared),
    PublishOne: {
      oneOf: [
        ...events.map((event) => item({ const: event }, ref(PAYLOAD_SCHEMAS[event] as string))),
        ...(declared.extraEvents.length === 0 ? [] : [item({ enum: declared.extraEvents }, ref('DeclaredEvent'))]),
      ],
    },
    PublishBatch: {
      ...object({ events: { ...arrayOf(ref('PublishOne')), minItems: 1, maxItems: MAX_BATCH } }),
      ...NO_OTHERS,
    },
    Published: object({
      id: cursor,
      event: string,
      rooms: describe(
        arrayOf(string),
        'The rooms of the event; of a duplicate those of the first. Their listeners do not get a duplicate again.',
      ),
      duplicate: describe(boolean, 'True if the log already had the event, under this `id`.'),
    }),
    PublishedBatch: object({
      results: describe(arrayOf(ref('Published')), 'One result for each event of the request, in its order.'),
    }),
    Event: object({
      id: describe(cursorOrNull, 'The cursor of the event. Null for a legacy event and a signal.'),
      event: string,
      rooms: describe(arrayOf(string), 'The rooms of the event that you may hear.'),
      payload: { type: 'object' },
    }),
    Events: object({
      events: arrayOf(ref('Event')),
      cursor: describe(cursor, 'The `after` parameter of your next request.'),
      hasMore: describe(boolean, 'True if the log has more events after `cursor` right now.'),
    }),
    NewSignal: newSignal(declared, {
      client: {
        type: ['string', 'null'],
        minLength: 1,
        maxLength: MAX_CLIENT_CHARACTERS,
        description:
          'Tells your tabs apart. If it has only letters, digits, `_` and `-`, it is the end of `sender`, after a dot.',
      },
    }),
    SignalSent: object({
      listeners: {
        type: 'integer',
        minimum: 0,
        description: 'The connections in the room, on the node that answers.',
      },
    }),
    ActiveSignals: object({
      signals: arrayOf(
        object({
          event: string,
          room: string,
          ...SENDER_MEMBERS,
          payload: describe({ type: 'object' }, 'The members that the sender gave.'),
          expiresAt: describe(instant, 'When it ends, by the clock of the server.'),
        }),
      ),
    }),
    ...statsSchemas,
    ...operatingSchemas,
    NewRevocation: {
      ...object({ sub: CLAIM, tenantId: ID_OR_INTEGER, jti: CLAIM, before: BEFORE }, []),
      ...NO_OTHERS,
      // Null counts as absent.
      anyOf: ['sub', 'tenantId', 'jti'].map((name) => object({ [name]: { type: ['string', 'integer'] } })),
    },
    Revocation: object({
      id: string,
      sub: STRING_OR_NULL,
      tenantId: STRING_OR_NULL,
      jti: STRING_OR_NULL,
      before: instant,
      createdAt: instant,
    }),
    Revocations: object({ items: arrayOf(ref('Revocation')), nextPage: STRING_OR_NULL }),
    Tickets: list(ref('TicketsUpdated')),
    Messages: list(
      events.includes(MESSAGES_UPDATED) ? { anyOf: [ref('MessagesNew'), ref('MessagesUpdated')] } : ref('MessagesNew'),
    ),
    Problem: describe(
      object(
        {
          type: { type: 'string', format: 'uri' },
          title: string,
          status: { type: 'integer' },
          detail: string,
          code: { enum: Object.keys(ERRORS) },
          requestId: describe(string, 'The `X-Request-Id` of the response. The server’s log lines have it, too.'),
          errors: arrayOf(
            object({
              in: { enum: ['body', 'query', 'header', 'path'] },
              path: describe(string, 'In a body a JSON Pointer; else the name of the parameter or header.'),
              message: string,
            }),
          ),
        },
        ['type', 'title', 'status', 'detail', 'code', 'requestId'],
      ),
      'An error (RFC 9457). Your code decides by `code`; `detail` is for people.',
    ),
    Gone: { allOf: [ref('Problem'), RESET] },
  };
}

const SENDER_MEMBERS = {
  from: describe(STRING_OR_NULL, 'The `sub` of the sender’s token. Null without tokens.'),
  sender: describe(string, 'An opaque name for the sender’s connection, or for its `sub` and `client`.'),
};

/** What a sender gives (protocol §14). */
export function newSignal(
  { signals, roomKinds }: Declared,
  more: Readonly<Record<string, JsonObject>> = {},
): JsonObject {
  const members = {
    event: signals.length === 0 ? describe(string, 'This bridge declares no signals (`SIGNALS`).') : { enum: signals },
    room: { type: 'string', pattern: roomPattern(roomKinds) },
    payload: describe(
      { type: 'object', default: {} },
      `Its JSON text has at most ${MAX_SIGNAL_BYTES} bytes. The members \`room\`, \`from\`, \`sender\` and \`ttlSeconds\` are dropped.`,
    ),
    ttlSeconds: {
      type: 'integer',
      minimum: 0,
      maximum: MAX_TTL_SECONDS,
      default: DEFAULT_TTL_SECONDS,
      description: 'How long the signal is active. 0 ends it.',
    },
    tenantId: {
      type: ['string', 'integer', 'null'],
      ...ID,
      minLength: 1,
      description: `The tenant. Required if your token names several, or \`"*"\`. ${JSON_ID_RULE}.`,
    },
    ...more,
  };
  return { ...object(members, ['event', 'room']), ...NO_OTHERS };
}

/** What listeners get (protocol §14). */
export const signalPayload: JsonObject = describe(
  object({
    room: describe(string, 'The room to which it was sent: `{kind}:{id}`.'),
    ...SENDER_MEMBERS,
    ttlSeconds: {
      type: 'integer',
      minimum: 0,
      maximum: MAX_TTL_SECONDS,
      description: 'How many seconds it is active from now on. 0: it has ended.',
    },
  }),
  'A signal: the payload that the sender gave, and these members, which only the bridge sets.',
);

const { maxLength, pattern } = ID_SCHEMA;
const ID = { maxLength, pattern } as const;

/** The names of rooms, as a regular expression of JSON Schema. */
export const roomPattern = (declaredKinds: readonly RoomKind[]): string =>
  `^(${allKinds(declaredKinds).join('|')}):${pattern.slice(1, -2)}{1,${maxLength}}$`;

function payloadSchema(schema: z.ZodType, description: string, { roomKinds }: Declared): JsonObject {
  const { $schema: _, ...converted } = z.toJSONSchema(schema, {
    io: 'input',
    override: ({ jsonSchema }) => {
      // The format says the same as the pattern, which is a page long.
      if (jsonSchema.format === 'date-time') delete jsonSchema.pattern;
      if (jsonSchema.example === undefined) return;
      jsonSchema.examples = [jsonSchema.example];
      delete jsonSchema.example;
    },
  });
  const properties = { ...converted.properties } as Record<string, JsonObject>;
  for (const name of allKinds(roomKinds).map(idField)) {
    if (properties[name] === undefined) continue;
    // An optional id may also be empty.
    const least = converted.required?.includes(name) ? { minLength: 1 } : {};
    properties[name] = { ...properties[name], description: JSON_ID_RULE, ...least, ...ID };
  }
  return { description, ...(converted as JsonObject), properties };
}

/** The schemas of the OpenAPI document: payloads, from contract/events.ts, and the routes' responses. */
import { z } from 'zod';
import { ERRORS } from '../../contract/errors.ts';
import { MESSAGES_NEW, payloadSchemas, TICKETS_UPDATED } from '../../contract/events.ts';
import { MAX_BATCH } from '../../contract/publishing.ts';
import { BUILT_IN_KINDS, ID_SCHEMA, idField, JSON_ID_RULE } from '../../contract/rooms.ts';
import { MAX_CLAIM_CHARACTERS } from '../routes/revocations.ts';
import {
  arrayOf,
  boolean,
  cursor,
  cursorOrNull,
  describe,
  type JsonObject,
  object,
  RESET,
  ref,
  string,
} from './parts.ts';
import { statsSchemas } from './stats.ts';

/** The server refuses other members. */
const NO_OTHERS = { additionalProperties: false } as const;

const STRING_OR_NULL: JsonObject = { type: ['string', 'null'] };
const INSTANT: JsonObject = { type: 'string', format: 'date-time' };
const CLAIM: JsonObject = { type: ['string', 'integer', 'null'], minLength: 1, maxLength: MAX_CLAIM_CHARACTERS };
const ID_OR_INTEGER: JsonObject = { ...ID_SCHEMA, type: ['string', 'integer', 'null'], description: JSON_ID_RULE };
const BEFORE = describe(
  { type: ['string', 'null'], format: 'date-time' },
  'Tokens issued up to this second are revoked. Default: now; at most 60 s ahead.',
);

export const EXTRA_KEYS = 'Other keys, at any depth, reach clients unchanged.';

export function schemas(declared: readonly string[]): Readonly<Record<string, JsonObject>> {
  const item = (event: JsonObject, payload: JsonObject) => ({ ...object({ event, payload }), ...NO_OTHERS });
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
  const payloads = payloadSchemas([]);
  return {
    TicketsUpdated: payloadSchema(payloads.ticketsUpdated, `The payload of \`tickets.updated\`. ${EXTRA_KEYS}`),
    MessagesNew: {
      ...payloadSchema(
        payloads.messagesNew,
        `The payload of \`messages.new\`. \`messageId\` or \`providerMessageId\` is required. ${EXTRA_KEYS}`,
      ),
      anyOf: ['messageId', 'providerMessageId'].map((name) => object({ [name]: { type: 'string', minLength: 1 } })),
    },
    ...(declared.length === 0
      ? {}
      : {
          DeclaredEvent: payloadSchema(
            payloads.declared,
            `The payload of an event that the operator declares with \`EXTRA_EVENTS\`. ${EXTRA_KEYS}`,
          ),
        }),
    PublishOne: {
      oneOf: [
        item({ const: TICKETS_UPDATED }, ref('TicketsUpdated')),
        item({ const: MESSAGES_NEW }, ref('MessagesNew')),
        ...(declared.length === 0 ? [] : [item({ enum: declared }, ref('DeclaredEvent'))]),
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
        'The rooms of the event. If `duplicate` is true, their listeners do not get it again.',
      ),
      duplicate: describe(boolean, 'True if the log already had the event, under this `id`.'),
    }),
    PublishedBatch: object({
      results: describe(arrayOf(ref('Published')), 'One result for each event of the request, in its order.'),
    }),
    Event: object({
      id: describe(cursorOrNull, 'The cursor of the event. Null for a legacy event.'),
      event: string,
      rooms: describe(arrayOf(string), 'All rooms of the event.'),
      payload: { type: 'object' },
    }),
    Events: object({
      events: arrayOf(ref('Event')),
      cursor: describe(cursor, 'The `after` parameter of your next request.'),
      hasMore: describe(boolean, 'True if the log has more events after `cursor` right now.'),
    }),
    ...statsSchemas,
    NewRevocation: {
      ...object({ sub: CLAIM, tenantId: ID_OR_INTEGER, jti: CLAIM, before: BEFORE }, []),
      ...NO_OTHERS,
      anyOf: ['sub', 'tenantId', 'jti'].map((name) => ({ required: [name] })),
    },
    Revocation: object({
      id: string,
      sub: STRING_OR_NULL,
      tenantId: STRING_OR_NULL,
      jti: STRING_OR_NULL,
      before: INSTANT,
      createdAt: INSTANT,
    }),
    Revocations: object({ items: arrayOf(ref('Revocation')), nextPage: STRING_OR_NULL }),
    Tickets: list(ref('TicketsUpdated')),
    Messages: list(ref('MessagesNew')),
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

export function payloadSchema(schema: z.ZodType, description: string): JsonObject {
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
  const { minLength, maxLength, pattern } = ID_SCHEMA;
  for (const name of BUILT_IN_KINDS.map(idField)) {
    if (properties[name] === undefined) continue;
    // An optional id may also be empty.
    const least = converted.required?.includes(name) ? { minLength } : {};
    properties[name] = { ...properties[name], description: JSON_ID_RULE, ...least, maxLength, pattern };
  }
  return { description, ...(converted as JsonObject), properties };
}

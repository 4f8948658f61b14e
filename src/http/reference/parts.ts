/**
 * The building blocks of the OpenAPI document: the types of OpenAPI 3.1 that it uses, shared examples, parameters from the
 * query shapes of the routes, and error responses from contract/errors.ts.
 */
import type { z } from 'zod';
import { JSON_TYPE } from '../../answers/answer.ts';
import { REQUEST_ID } from '../../answers/headers.ts';
import { PROBLEM_TYPE, problemUrn } from '../../answers/problem.ts';
import { CURSOR_SCHEMA } from '../../contract/cursor.ts';
import { ERRORS, type ErrorCode } from '../../contract/errors.ts';
import { TICKETS_UPDATED } from '../../contract/facts.ts';
import type { Reset } from '../../contract/reset.ts';
import { JSON_ID_RULE } from '../../contract/rooms.ts';

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

interface Reference {
  readonly $ref: string;
}

export interface ApiResponse {
  readonly description: string;
  readonly headers?: Readonly<
    Record<string, { readonly description: string; readonly schema: JsonObject } | Reference>
  >;
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
  readonly responses: Readonly<Record<string, ApiResponse | Reference>>;
}

/** Path → method → operation. */
export type Paths = Readonly<Record<string, Readonly<Record<string, Operation>>>>;

export const ISO_INSTANT = '2024-06-01T12:00:00.000Z';
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
const { ticketStatus: _status, ticketUpdatedAt: _updatedAt, ...IDS } = ENVELOPE;
/** Of `messages.updated`. */
export const CHANGE_PAYLOAD = {
  ...IDS,
  messageUpdatedAt: ISO_INSTANT,
  messageStatus: 'read',
  message: { id: 'msg-1', content: 'Good morning' },
} as const;
export const SIGNAL = { event: 'tickets.typing', room: 'ticket:ticket-123', payload: { name: 'Ana' } } as const;
export const SENDER = { from: 'user-1', sender: 'Qx7kPd2mTz.tab-1' } as const;
export const ROOMS = ['tenant:tenant-1', 'ticket:ticket-123', 'agreement:agreement-9'] as const;
export const PUBLISHED = { id: CURSOR, event: TICKETS_UPDATED, rooms: ROOMS, duplicate: false } as const;

export const ref = (name: string): JsonObject => ({ $ref: `#/components/schemas/${name}` });
export const cursor: JsonObject = {
  ...CURSOR_SCHEMA,
  description: 'A position in the log. Opaque; cursors of one log sort as byte strings. The same on all transports.',
};
export const string: JsonObject = { type: 'string' };
export const count: JsonObject = { type: 'integer', minimum: 0 };
export const number: JsonObject = { type: 'number', minimum: 0 };
export const instant: JsonObject = { type: 'string', format: 'date-time' };
export const boolean: JsonObject = { type: 'boolean' };
export const describe = (schema: JsonObject, description: string): JsonObject => ({ ...schema, description });
export const arrayOf = (items: JsonObject): JsonObject => ({ type: 'array', items });

/** One schema for each member of `T`. */
export type SchemasOf<T> = { readonly [K in keyof T]-?: JsonObject };

/** All members are required unless `required` is given. */
export const object = <T>(
  properties: SchemasOf<T>,
  required: readonly string[] = Object.keys(properties),
): JsonObject => ({ type: 'object', required, properties });

export const cursorOrNull: JsonObject = { ...cursor, type: ['string', 'null'] };
/** `bridge.reset`, and the additional members of a 410. */
export const RESET = object<Reset>({
  reason: { enum: ['expired', 'unknown'] },
  after: describe(cursorOrNull, 'The cursor that you sent. Null if you sent a Socket.IO session without one.'),
  oldest: describe(cursor, 'The cursor of the oldest record in the log.'),
  cursor: describe(cursor, 'Events continue after this cursor. Read the state routes first.'),
});

/** A JSON body with one example. */
export const json = (schema: JsonObject, name: string, value: Json): Readonly<Record<string, Content>> => ({
  [JSON_TYPE]: { schema, examples: { [name]: { value } } },
});
export const text = (...types: readonly string[]): Readonly<Record<string, Content>> =>
  Object.fromEntries(types.map((type) => [type, { schema: string }]));

export function ok(
  description: string,
  content: Readonly<Record<string, Content>>,
  headers: Readonly<Record<string, string>> = {},
): ApiResponse {
  return {
    description,
    headers: headersOf({ 'Cache-Control': 'Whether caches may store the response.', ...headers }),
    content,
  };
}

/** The headers of a response, and the one that all responses have. */
export function headersOf(descriptions: Readonly<Record<string, string>>): NonNullable<ApiResponse['headers']> {
  const described = Object.entries(descriptions).map(([name, description]) => [name, { description, schema: string }]);
  return { ...Object.fromEntries(described), [REQUEST_ID]: { $ref: '#/components/headers/RequestId' } };
}

/** Every route can answer with these, so the document describes them once. */
const COMMON = ['request_timeout', 'headers_too_large', 'internal'] as const satisfies readonly ErrorCode[];

export const COMMON_RESPONSES: Readonly<Record<string, ApiResponse>> = Object.fromEntries(
  [...COMMON, 'host_not_allowed' as const].map((code) => [code, problemResponse([code])]),
);

const commonProblems: Readonly<Record<string, Reference>> = Object.fromEntries(
  COMMON.map((code) => [ERRORS[code].status, { $ref: `#/components/responses/${code}` }]),
);

/** One response per status, with an example for each of its codes; and what every route can answer with. */
export function problems(codes: readonly ErrorCode[]): Operation['responses'] {
  const byStatus = Map.groupBy(codes, (code) => ERRORS[code].status);
  const own = [...byStatus].map(([status, sameStatus]) => [status, problemResponse(sameStatus)]);
  return { ...Object.fromEntries(own), ...commonProblems };
}

function problemResponse(codes: readonly ErrorCode[]): ApiResponse {
  const headers: Record<string, string> = {};
  if (codes.some((code) => ERRORS[code].passing)) headers['Retry-After'] = 'Seconds to wait before you retry.';
  if (codes.some((code) => ERRORS[code].status === 401))
    headers['WWW-Authenticate'] = 'The authentication scheme: `Bearer`.';
  return {
    description: codes.map((code) => `${ERRORS[code].title} (\`${code}\`).`).join(' '),
    headers: headersOf(headers),
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
    detail: 'A sentence that says what is wrong.',
    code,
    requestId: 'V1StGXR8_Z5jdHi6B-myT',
    ...(code === 'invalid_payload'
      ? { errors: [{ in: 'body', path: '/payload/ticketId', message: `is required and must be ${JSON_ID_RULE}` }] }
      : {}),
    ...(code === 'unknown_parameter'
      ? {
          errors: [
            { in: 'query', path: 'tenantID', message: 'is not a parameter of this route; did you mean tenantId?' },
          ],
        }
      : {}),
    ...(reason === null ? {} : { reason, after: CURSOR, oldest: CURSOR, cursor: CURSOR }),
  };
}

/** The parameters of a query shape, described by the `meta` of each. */
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

/** A default below the minimum means "left out" to the route; the description does not show it. */
function withoutOddDefault(schema: JsonObject): JsonObject {
  const { default: fallback, ...rest } = schema;
  const { minimum } = schema;
  return typeof fallback === 'number' && typeof minimum === 'number' && fallback < minimum ? rest : schema;
}

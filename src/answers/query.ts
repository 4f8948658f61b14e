/**
 * The grammar of query strings: each parameter is declared once, and both the parser and the OpenAPI document read that
 * declaration.
 *
 * A parameter is a zod schema over text; its `meta` describes it. `parseQuery` reports all faults together, as one 400
 * (protocol §6, §7, §10).
 */
import { z } from 'zod';
import { CURSOR_RULE, CURSOR_SCHEMA, isWellFormedCursor } from '../contract/cursor.ts';
import { type FieldError, fieldsError } from '../contract/errors.ts';
import { nearest } from '../contract/nearest.ts';
import { faultOfId, ID_SCHEMA } from '../contract/rooms.ts';
import type { BridgeContext } from './answer.ts';

const MALFORMED_CURSOR = `must be ${CURSOR_RULE}`;

type Shape = Readonly<Record<string, z.ZodType>>;
export type Parsed<S extends Shape> = { [K in keyof S]: z.output<S[K]> };

/** An integer from `min` to `max`, both included. */
export function integer(min: number, max: number, fallback: number, description: string) {
  return z
    .string()
    .regex(/^\d{1,15}$/, `must be a whole number from ${min} to ${max}`)
    .transform(Number)
    .refine((value) => value >= min && value <= max, `must be from ${min} to ${max}`)
    .default(fallback)
    .meta({ description, schema: { type: 'integer', minimum: min, maximum: max, default: fallback } });
}

export function flag(fallback: boolean, description: string) {
  return z
    .enum(['true', 'false'], 'must be true or false')
    .transform((value) => value === 'true')
    .default(fallback)
    .meta({ description, schema: { type: 'boolean', default: fallback } });
}

/** A text that is not empty. */
export function text(description: string, maxLength?: number) {
  const length = maxLength ?? Number.POSITIVE_INFINITY;
  return z
    .string()
    .min(1, 'must not be empty')
    .max(length, `must be at most ${length} characters long`)
    .nullable()
    .default(null)
    .meta({ description, schema: { type: 'string', minLength: 1, ...(maxLength && { maxLength }) } });
}

/** An ISO 8601 instant. @param parse what to make of its text, such as `Date.parse` */
export function instant<T>(description: string, parse: (text: string) => T) {
  return z.iso
    .datetime({
      offset: true,
      error: 'must be an ISO 8601 instant, such as 2024-06-01T12:00:00.000Z; write the + of an offset as %2B',
    })
    .transform((text) => parse(text))
    .nullable()
    .default(null)
    .meta({
      description: `${description} An ISO 8601 instant; write the \`+\` of an offset as \`%2B\`.`,
      schema: { type: 'string', format: 'date-time' },
    });
}

/** Of lists whose items are small: at most 1,000 on a page. */
export const LIST_PAGE = {
  limit: integer(1, 1000, 100, 'Maximum number of items in the response.'),
  page: text('The `nextPage` of the previous response. Leave it out for the first page.'),
} as const;

/** Where to continue: a cursor, `start` or `now`. */
export function cursor(description: string) {
  return z
    .string()
    .refine(isWellFormedCursor, MALFORMED_CURSOR)
    .nullable()
    .default(null)
    .meta({ description, schema: CURSOR_SCHEMA });
}

/** `cursor` under another name. Empty counts as absent. */
export function cursorAlias(description: string) {
  return z
    .string()
    .refine((value) => value === '' || isWellFormedCursor(value), MALFORMED_CURSOR)
    .transform((value) => value || null)
    .nullable()
    .default(null)
    .meta({ description, schema: { ...CURSOR_SCHEMA, minLength: 0 } });
}

export function choice<const T extends readonly [string, ...string[]]>(
  values: T,
  fallback: T[number],
  description: string,
) {
  return z
    .enum(values, `must be one of ${values.join(', ')}`)
    .default(fallback as never)
    .meta({ description, schema: { type: 'string', enum: values, default: fallback } });
}

/** One of some values. Default: null, for any. */
export function oneOf<const T extends readonly [string, ...string[]]>(values: T, description: string) {
  return z
    .enum(values, `must be one of ${values.join(', ')}`)
    .nullable()
    .default(null)
    .meta({ description, schema: { type: 'string', enum: values } });
}

/** The id of a room. Required. */
export function tenant(description: string) {
  return z
    .string('is required')
    .refine((id) => faultOfId('tenant', id) === null, { error: ({ input }) => faultOfId('tenant', input) ?? '' })
    .meta({ description, required: true, schema: ID_SCHEMA });
}

/**
 * A list, repeated or comma-separated: `a=1&a=2`, `a=1,2`.
 * @param items the JSON Schema of one item
 * @param faultOf what is wrong with one item; null if the item is valid
 */
export function list(description: string, items: object, faultOf: (value: string) => string | null) {
  return z
    .array(z.string())
    .transform((values) => [...new Set(values.flatMap((value) => value.split(',')))])
    .superRefine((values, context) => {
      for (const value of values) {
        const fault = faultOf(value);
        if (fault !== null) context.addIssue({ code: 'custom', message: fault });
      }
    })
    .default([])
    .meta({ description, many: true, schema: { type: 'array', items } });
}

/** Known on every route. */
const ACCESS_TOKEN = 'access_token';
/** Names that other services have for a parameter of ours. */
const SYNONYMS: Readonly<Record<string, string>> = {
  cursor: 'after',
  since: 'after',
  lastEventId: 'after',
  'Last-Event-ID': 'after',
};
/** Faults that one answer lists. */
const MAX_FAULTS = 20;

/**
 * Parses the parameters of `shape`. A name that begins with `_` is for the client itself, against caches for example.
 * @param alsoKnown names that the route takes but does not parse here
 * @throws {BridgeError} `unknown_parameter`, `invalid_request` or `invalid_cursor`, with the faults of all parameters
 */
export function parseQuery<S extends Shape>(
  query: URLSearchParams,
  shape: S,
  alsoKnown: readonly string[] = [],
): Parsed<S> {
  const names = Object.keys(shape);
  const errors = unknownParameters(query, names, alsoKnown);
  let code: 'unknown_parameter' | 'invalid_request' | 'invalid_cursor' | null =
    errors.length > 0 ? 'unknown_parameter' : null;
  const parsed: Record<string, unknown> = {};
  for (const [name, schema] of Object.entries(shape)) {
    const values = query.getAll(name);
    const isList = schema.meta()?.many === true;
    if (values.length > 1 && !isList) {
      errors.push({ in: 'query', path: name, message: 'must appear only once' });
      code ??= 'invalid_request';
      continue;
    }
    const result = schema.safeParse(isList && values.length > 0 ? values : values[0]);
    if (result.success) parsed[name] = result.data;
    else {
      for (const { message } of result.error.issues) errors.push({ in: 'query', path: name, message });
      const isCursor = result.error.issues.every(({ message }) => message === MALFORMED_CURSOR);
      code ??= isCursor ? 'invalid_cursor' : 'invalid_request';
    }
  }
  const [first, ...rest] = errors;
  if (first === undefined || code === null) return parsed as Parsed<S>;
  throw fieldsError(code, [first, ...rest.slice(0, MAX_FAULTS)]);
}

/** For a route without parameters of its own. @throws {BridgeError} `unknown_parameter` */
export function requireNoQuery({ env, req }: BridgeContext): void {
  if (env.incoming.url?.includes('?')) parseQuery(new URL(req.url).searchParams, {});
}

function unknownParameters(
  query: URLSearchParams,
  names: readonly string[],
  alsoKnown: readonly string[],
): FieldError[] {
  const known = new Set([...names, ...alsoKnown, ACCESS_TOKEN]);
  const unknown = new Set([...query.keys()].filter((name) => !known.has(name) && !name.startsWith('_')));
  return [...unknown].slice(0, MAX_FAULTS).map((path) => {
    const synonym = Object.hasOwn(SYNONYMS, path) ? SYNONYMS[path] : undefined;
    const near = synonym !== undefined && known.has(synonym) ? synonym : nearest(path, known);
    const hint =
      near !== null ? `did you mean ${near}?` : names.length === 0 ? 'it takes none' : `it takes ${names.join(', ')}`;
    return { in: 'query', path, message: `is not a parameter of this route; ${hint}` };
  });
}

/**
 * Checks the syntax of a cursor in a header (protocol §8).
 * @throws {BridgeError} `invalid_cursor`
 */
export function requireWellFormedCursor(header: string, cursor: string): string {
  if (isWellFormedCursor(cursor)) return cursor;
  throw fieldsError('invalid_cursor', [{ in: 'header', path: header, message: MALFORMED_CURSOR }]);
}

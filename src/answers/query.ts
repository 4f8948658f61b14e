/**
 * The grammar of query strings: each parameter is declared once, and both the parser and the OpenAPI document read that
 * declaration.
 *
 * A parameter is a zod schema over text; its `meta` describes it. `parseQuery` reports all invalid parameters together,
 * as one 400 (protocol §6, §7).
 */
import { z } from 'zod';
import { CURSOR_RULE, isWellFormedCursor } from '../contract/cursor.ts';
import { BridgeError } from '../contract/errors.ts';
import { ID_RULE, ID_SCHEMA, isRoomId } from '../contract/rooms.ts';

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

export function text(description: string) {
  return z
    .string()
    .nullable()
    .default(null)
    .meta({ description, schema: { type: 'string' } });
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

/** The id of a room. Required. */
export function id(description: string) {
  return z
    .string('is required')
    .refine(isRoomId, `must be ${ID_RULE}`)
    .meta({ description, required: true, schema: ID_SCHEMA });
}

/**
 * A list, repeated or comma-separated: `a=1&a=2`, `a=1,2`.
 * @param faultOf what is wrong with one item; null if the item is valid
 */
export function list(description: string, faultOf: (value: string) => string | null = () => null) {
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
    .meta({ description, many: true, schema: { type: 'array', items: { type: 'string' } } });
}

/**
 * Parses the parameters of `shape` and ignores all others.
 * @throws {BridgeError} `invalid_request` with one field error per invalid parameter
 */
export function parseQuery<S extends Shape>(query: URLSearchParams, shape: S): Parsed<S> {
  const errors: { path: string; message: string }[] = [];
  const parsed: Record<string, unknown> = {};
  for (const [name, schema] of Object.entries(shape)) {
    const values = query.getAll(name);
    const isList = schema.meta()?.many === true;
    if (values.length > 1 && !isList) {
      errors.push({ path: name, message: 'must appear only once' });
      continue;
    }
    const result = schema.safeParse(isList && values.length > 0 ? values : values[0]);
    if (result.success) parsed[name] = result.data;
    else errors.push({ path: name, message: result.error.issues[0]?.message ?? 'is not valid' });
  }
  const [first] = errors;
  if (first !== undefined) throw new BridgeError('invalid_request', `${first.path} ${first.message}.`, { errors });
  return parsed as Parsed<S>;
}

/**
 * Checks the syntax of a cursor from the client (protocol §8).
 * @param path the parameter or header that holds it
 * @throws {BridgeError} `invalid_cursor`
 */
export function requireWellFormedCursor(path: string, cursor: string): string {
  if (isWellFormedCursor(cursor)) return cursor;
  const message = `must be ${CURSOR_RULE}`;
  throw new BridgeError('invalid_cursor', `${path} ${message}.`, { errors: [{ path, message }] });
}

/**
 * Query strings, checked: what a parameter takes stands once, for the check and for the OpenAPI document.
 *
 * A parameter is a zod schema over text whose `meta` describes it; `parseQuery` reports every wrong parameter at once
 * as a 400 (protocol §6, §7: a value out of range is a 400).
 */
import { z } from 'zod';
import { audiencesFor, type Principal } from '../auth/principal.ts';
import type { JoinedRoom } from '../bus/subscription.ts';
import { type Cursor, isWellFormedCursor } from '../contract/cursor.ts';
import { BridgeError } from '../contract/errors.ts';
import { LEGACY_NAMES } from '../contract/events.ts';
import { createView, emittedNames, type View } from '../contract/frames.ts';
import { formatRoom, ID_FIELDS, ID_RULE, ID_SCHEMA, isRoomId, ROOM_KINDS, type Room } from '../contract/rooms.ts';

type Shape = Readonly<Record<string, z.ZodType>>;
type Parsed<S extends Shape> = { [K in keyof S]: z.output<S[K]> };

/** An integer in `min`…`max`, inclusive. */
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

/** A required id of a room. */
export function id(description: string) {
  return z
    .string('is required')
    .refine(isRoomId, `must be ${ID_RULE}`)
    .meta({ description, required: true, schema: ID_SCHEMA });
}

/** Repeatable, or comma-separated: `a=1&a=2`, `a=1,2`. */
export function list(description: string, item: (value: string) => string | null = () => null) {
  return z
    .array(z.string())
    .transform((values) => [...new Set(values.flatMap((value) => value.split(',')))])
    .superRefine((values, context) => {
      for (const value of values) {
        const fault = item(value);
        if (fault !== null) context.addIssue({ code: 'custom', message: fault });
      }
    })
    .default([])
    .meta({ description, many: true, schema: { type: 'array', items: { type: 'string' } } });
}

const roomList = (kind: string) =>
  list(`Rooms \`${kind}:{id}\` to hear; repeatable or comma-separated.`, (value) =>
    isRoomId(value) ? null : `must be ${ID_RULE}`,
  );

/** The rooms of `/sse` and `/events`. */
export const ROOM_QUERY = {
  tenantId: roomList('tenant'),
  ticketId: roomList('ticket'),
  agreementId: roomList('agreement'),
  userId: roomList('user'),
} as const;

/**
 * Checks the shape's parameters in the query; parameters beyond it are left alone.
 * @throws {BridgeError} `invalid_request` with one field error per wrong parameter
 */
export function parseQuery<S extends Shape>(query: URLSearchParams, shape: S): Parsed<S> {
  const errors: { path: string; message: string }[] = [];
  const parsed: Record<string, unknown> = {};
  for (const [name, schema] of Object.entries(shape)) {
    const values = query.getAll(name);
    if (values.length > 1 && schema.meta()?.many !== true) {
      errors.push({ path: name, message: 'must be given once' });
      continue;
    }
    const given = schema.meta()?.many === true ? values : values[0];
    const result = schema.safeParse(values.length === 0 ? undefined : given);
    if (result.success) parsed[name] = result.data;
    else errors.push({ path: name, message: result.error.issues[0]?.message ?? 'is not valid' });
  }
  const [first] = errors;
  if (first !== undefined) throw new BridgeError('invalid_request', `${first.path} ${first.message}.`, { errors });
  return parsed as Parsed<S>;
}

/**
 * What a client asked to see of each record. Names that are never emitted keep nothing and are left out of the view, so
 * that there are few views, and each record's few encodings serve all listeners.
 */
export function viewOf(
  query: { readonly events: readonly string[]; readonly legacy: boolean },
  config: { readonly extraEvents: readonly string[]; readonly legacyEvents: boolean },
): View {
  const legacy = query.legacy && config.legacyEvents;
  const asked = query.events.filter((name) => name !== '');
  const emitted = [...Object.keys(LEGACY_NAMES), ...config.extraEvents].flatMap((name) => emittedNames(name, legacy));
  const kept = emitted.filter((name) => asked.includes(name));
  return createView(legacy, asked.length === 0 || kept.length === emitted.length ? null : kept);
}

/**
 * A cursor as a client gave it, in the parameter or header `path`.
 * @throws {BridgeError} `invalid_cursor` when malformed (protocol §8)
 */
export function wellFormedCursor(path: string, cursor: string): string {
  if (isWellFormedCursor(cursor)) return cursor;
  const message = 'must be 1 to 64 characters without whitespace or control characters';
  throw new BridgeError('invalid_cursor', `${path} ${message}.`, { errors: [{ path, message }] });
}

/**
 * The rooms that a query names, as this principal hears them.
 * @throws {BridgeError} `invalid_request` when it names none, `too_many_rooms`, `forbidden`
 */
export function roomsToHear(
  principal: Principal,
  query: Parsed<typeof ROOM_QUERY>,
  maxRooms: number,
): Map<Room, JoinedRoom> {
  const rooms = ROOM_KINDS.flatMap((kind) => query[ID_FIELDS[kind]].map((id) => formatRoom(kind, id)));
  if (rooms.length === 0) {
    const message = 'or one of ticketId, agreementId, userId is required';
    throw new BridgeError('invalid_request', 'At least one of tenantId, ticketId, agreementId, userId is required.', {
      errors: [{ path: 'tenantId', message }],
    });
  }
  if (rooms.length > maxRooms) {
    throw new BridgeError('too_many_rooms', `${rooms.length} rooms were asked for; at most ${maxRooms} are allowed.`);
  }
  return new Map(rooms.map((room) => [room, { audiences: audiencesToHear(principal, room), start: FROM_THE_START }]));
}

/** Less than any cursor. */
const FROM_THE_START = '' as Cursor;

/** @throws {BridgeError} `forbidden` */
export function audiencesToHear(principal: Principal, room: Room): string[] {
  const audiences = audiencesFor(principal, room);
  if (audiences.length === 0) throw new BridgeError('forbidden', `The token may not listen to ${room}.`);
  return audiences;
}

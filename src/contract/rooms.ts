/**
 * Rooms are named audiences: `{kind}:{id}` (protocol §2).
 *
 * Four kinds are built in, and the operator declares more (`ROOM_KINDS`, `CLAIMED_ROOM_KINDS`). The kind ends at the first
 * `:`, so an id may contain `:`. Ids come from outside and end up in room names, metric labels and log lines, hence the
 * restricted character set.
 */
import { quotedName } from './printable.ts';

export const BUILT_IN_KINDS = ['tenant', 'ticket', 'agreement', 'user'] as const;

/** One of `BUILT_IN_KINDS`, or a kind that the operator declares. */
export type RoomKind = string;

/** `tenant:t1`, `ticket:123`, … */
export type Room = `${RoomKind}:${string}`;

/** All kinds of a bridge, in the order of the rooms of a record. */
export const allKinds = (declared: readonly RoomKind[]): readonly RoomKind[] => [...BUILT_IN_KINDS, ...declared];

/** The field that holds the id of a kind in payloads, queries and join arguments. */
export const idField = (kind: RoomKind): string => `${kind}Id`;

/** The kind whose field this is; null if no kind can have it. */
export function kindOfField(field: string): RoomKind | null {
  const kind = field.slice(0, -'Id'.length);
  return field.endsWith('Id') && KIND_NAME.test(kind) ? kind : null;
}

/** The claim of a token that holds ids of a kind (protocol §11). */
export const idsClaim = (kind: RoomKind): string => `${kind}Ids`;

export const KIND_NAME = /^[a-z][a-z0-9]{0,31}$/;
export const isDeclarableKind = (name: string): boolean =>
  KIND_NAME.test(name) && !(BUILT_IN_KINDS as readonly string[]).includes(name);

export const MAX_ID_CHARACTERS = 128;
export const ID_RULE = `1 to ${MAX_ID_CHARACTERS} characters without whitespace, control characters or commas`;
export const JSON_ID_RULE = `${ID_RULE}, or an integer within ±(2^53−1)`;

/** `ID_RULE` as JSON Schema, for the API's descriptions. */
export const ID_SCHEMA = {
  type: 'string',
  minLength: 1,
  maxLength: MAX_ID_CHARACTERS,
  pattern: '^[^\\s,\\u0000-\\u001f\\u007f-\\u009f]*$',
} as const;

/** The name of a room of these kinds, as JSON Schema. */
export const roomSchema = (kinds: readonly RoomKind[]) => ({
  type: 'string',
  pattern: `^(${kinds.join('|')}):[^\\s,\\u0000-\\u001f\\u007f-\\u009f]{1,${MAX_ID_CHARACTERS}}$`,
});

/** With the flag `u`, a surrogate in a class is one without its pair. React Native knows neither `\p{Cc}` nor `isWellFormed`. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern finds control characters
const FORBIDDEN = /[\s,\u0000-\u001f\u007f-\u009f\ud800-\udfff]/u;

/** `ID_RULE`, where a character is a code point, and the text is well-formed Unicode. */
export function isRoomId(id: unknown): id is string {
  if (typeof id !== 'string' || id.length === 0 || id.length > 2 * MAX_ID_CHARACTERS) return false;
  if (id.length > MAX_ID_CHARACTERS && [...id].length > MAX_ID_CHARACTERS) return false;
  return !FORBIDDEN.test(id);
}

/** An id in JSON, as text: an integer means its decimal text. Null if the value is no id. */
export function toId(value: unknown): string | null {
  if (typeof value === 'number') return Number.isSafeInteger(value) ? String(value) : null;
  return isRoomId(value) ? value : null;
}

/** No tenant has this name: in a token, it stands for all of them. */
export const ALL_TENANTS = '*';

export function formatRoom(kind: RoomKind, id: string): Room {
  return `${kind}:${id}`;
}

export function kindOf(room: Room): RoomKind {
  return room.slice(0, room.indexOf(':'));
}

export function idOf(room: Room): string {
  return room.slice(room.indexOf(':') + 1);
}

/** The ids of rooms by the fields that hold them, as queries and `@roomcast/client` take them. */
export function idsByField(rooms: readonly Room[]): Record<string, string[]> {
  const ids: Record<string, string[]> = {};
  for (const room of rooms) {
    const field = idField(kindOf(room));
    ids[field] = [...(ids[field] ?? []), idOf(room)];
  }
  return ids;
}

/** Why an id cannot be that of a room of this kind; null if it can. Completes "tenantId …". */
export function faultOfId(kind: RoomKind, id: unknown): string | null {
  if (!isRoomId(id)) return `must be ${ID_RULE}`;
  return kind === 'tenant' && id === ALL_TENANTS ? `must be one tenant: no tenant is named ${ALL_TENANTS}` : null;
}

/** Why a text cannot be the name of a room of these kinds; null if it can. */
export function faultOfRoom(text: unknown, kinds: readonly RoomKind[]): string | null {
  const kind = typeof text === 'string' ? kindOf(text as Room) : '';
  if (typeof text !== 'string' || !kinds.includes(kind) || !text.includes(':')) {
    const names = kinds.map((name) => `${name}:`).join(', ');
    const got = typeof text === 'string' ? `, but got ${quotedName(text)}` : '';
    return `must be the name of a room, which begins with ${names}${got}`;
  }
  const fault = faultOfId(kind, idOf(text as Room));
  return fault === null ? null : `must be the name of a room, whose id ${fault}`;
}

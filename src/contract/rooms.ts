/**
 * Rooms are named audiences: `{kind}:{id}` (protocol §2).
 *
 * The kind ends at the first `:`, so an id may contain `:`. Ids come from outside and end up in room names, metric
 * labels and log lines, hence the restricted character set.
 */
export const ROOM_KINDS = ['tenant', 'ticket', 'agreement', 'user'] as const;
export type RoomKind = (typeof ROOM_KINDS)[number];

/** The field that holds the id of each kind in payloads, queries and join arguments. */
export const ID_FIELDS = {
  tenant: 'tenantId',
  ticket: 'ticketId',
  agreement: 'agreementId',
  user: 'userId',
} as const satisfies Record<RoomKind, string>;

/** `tenant:t1`, `ticket:123`, … */
export type Room = `${RoomKind}:${string}`;

export const MAX_ID_CHARACTERS = 128;
export const ID_RULE = `1 to ${MAX_ID_CHARACTERS} characters without whitespace, control characters or commas`;

/** `ID_RULE` as JSON Schema, for the API's descriptions. */
export const ID_SCHEMA = {
  type: 'string',
  minLength: 1,
  maxLength: MAX_ID_CHARACTERS,
  pattern: '^[^\\s,\\u0000-\\u001f\\u007f-\\u009f]*$',
} as const;

const FORBIDDEN = /[\s\p{Cc},]/u;

/** `ID_RULE`, where a character is a code point, and the text is well-formed Unicode. */
export function isRoomId(id: unknown): id is string {
  if (typeof id !== 'string' || id.length === 0 || id.length > 2 * MAX_ID_CHARACTERS) return false;
  if (id.length > MAX_ID_CHARACTERS && [...id].length > MAX_ID_CHARACTERS) return false;
  return !FORBIDDEN.test(id) && id.isWellFormed();
}

export function formatRoom(kind: RoomKind, id: string): Room {
  return `${kind}:${id}`;
}

export function kindOf(room: Room): RoomKind {
  return room.slice(0, room.indexOf(':')) as RoomKind;
}

export function idOf(room: Room): string {
  return room.slice(room.indexOf(':') + 1);
}

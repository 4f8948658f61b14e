/**
 * From a client's request to what it receives: the rooms that it names, the audiences that carry them to its principal,
 * and its view of each record. All transports share these rules (protocol §2, §6, §7, §11).
 */
import { audiencesFor, hearingOf, type Principal, whyDeaf } from '../auth/principal.ts';
import type { JoinedRoom } from '../bus/subscription.ts';
import { createHears, parseAudience } from '../contract/audiences.ts';
import type { Cursor } from '../contract/cursor.ts';
import { BridgeError } from '../contract/errors.ts';
import { publishedNames } from '../contract/events.ts';
import { createView, emittedNames, type LogRecord, namesSeen, type View } from '../contract/frames.ts';
import { nearest } from '../contract/nearest.ts';
import { printableName } from '../contract/printable.ts';
import {
  formatRoom,
  ID_FIELDS,
  ID_RULE,
  ID_SCHEMA,
  isRoomId,
  ROOM_KINDS,
  type Room,
  type RoomKind,
} from '../contract/rooms.ts';
import { list, type Parsed } from './query.ts';

const faultOfId = (id: string): string | null => (isRoomId(id) ? null : `must be ${ID_RULE}`);
const roomList = (kind: string) =>
  list(`Rooms \`${kind}:{id}\` to join. Repeatable or comma-separated.`, ID_SCHEMA, faultOfId);

/** The rooms of `/sse` and `/events`. */
export const ROOM_QUERY = {
  tenantId: roomList('tenant'),
  ticketId: roomList('ticket'),
  agreementId: roomList('agreement'),
  userId: roomList('user'),
} as const;

/** The filter `events` of `/sse` and `/events`. It takes the names of legacy events also where these are off. */
export function eventsFilter(published: readonly string[]) {
  const names = published.flatMap((name) => emittedNames(name, true));
  const known = new Set([...names, '']);
  return list('Event names to keep. Default: all.', { enum: names }, (name) => {
    if (known.has(name)) return null;
    const near = nearest(name, names);
    const hint = near === null ? `the events are ${names.join(', ')}` : `did you mean ${near}?`;
    return `has ${printableName(name)}, which is no event of this bridge; ${hint}`;
  });
}

/** The query parameter that holds a pass, on the routes that take one (protocol §11). */
export const PASS = 'pass';

/** Less than any cursor. */
const BEFORE_ALL = '' as Cursor;

/**
 * The rooms of a query, if the principal may join all of them.
 * @throws {BridgeError} `invalid_request` if the query names no room, `too_many_rooms`, `forbidden`
 */
export function roomsToJoin(
  principal: Principal,
  query: Parsed<typeof ROOM_QUERY>,
  maxRooms: number,
): Map<Room, JoinedRoom> {
  const rooms = ROOM_KINDS.flatMap((kind) => query[ID_FIELDS[kind]].map((id) => formatRoom(kind, id)));
  if (rooms.length === 0) {
    const message = 'or one of ticketId, agreementId, userId is required';
    throw new BridgeError('invalid_request', 'At least one of tenantId, ticketId, agreementId, userId is required.', {
      errors: [{ in: 'query', path: 'tenantId', message }],
    });
  }
  if (rooms.length > maxRooms) {
    throw new BridgeError('too_many_rooms', `The query names ${rooms.length} rooms; at most ${maxRooms} are allowed.`);
  }
  const joined = new Map<Room, JoinedRoom>();
  let heard = 0;
  for (const room of rooms) {
    const audiences = audiencesToJoin(principal, room);
    if (!joined.has(room)) heard += audiences.length;
    if (heard > maxRooms) throw tooManyRooms(maxRooms);
    joined.set(room, { audiences, start: BEFORE_ALL });
  }
  return joined;
}

/** A connection holds one entry for each of its rooms and each tenant in which the token hears it. */
export function tooManyRooms(maxRooms: number): BridgeError {
  const message =
    `At most ${maxRooms} rooms are allowed on one connection, and a room counts once for each tenant of the token ` +
    'that may send to it. Leave a room first, or use a token with fewer tenants.';
  return new BridgeError('too_many_rooms', message);
}

/** The room of a Socket.IO join: `arg` is an id, or an object that holds it. @throws {BridgeError} `invalid_room` */
export function parseRoom(kind: RoomKind, arg: unknown): Room {
  const field = ID_FIELDS[kind];
  const id = typeof arg === 'object' && arg !== null && Object.hasOwn(arg, field) ? (arg as never)[field] : arg;
  if (!isRoomId(id)) throw new BridgeError('invalid_room', `${field} must be ${ID_RULE}.`);
  return formatRoom(kind, id);
}

/**
 * The audiences that carry the room's records to this principal.
 * @throws {BridgeError} `forbidden`
 */
export function audiencesToJoin(principal: Principal, room: Room): string[] {
  const audiences = audiencesFor(principal, room);
  if (audiences.length === 0)
    throw new BridgeError('forbidden', whyDeaf(principal) ?? `The token may not listen to ${room}.`);
  return audiences;
}

/** Which of a record's rooms the principal may hear; only these are shown to it (protocol §7). */
export function roomsHeardBy(principal: Principal): (record: LogRecord) => readonly Room[] {
  if (principal.kind === 'anonymous') return ({ rooms }) => rooms;
  const hearings = new Map<string, (room: Room) => boolean>();
  return ({ rooms, audiences }) => {
    const tenantId = parseAudience(audiences[0] ?? '').tenantId ?? '';
    let hears = hearings.get(tenantId);
    if (hears === undefined) {
      hears = createHears(hearingOf(principal, tenantId) ?? { kinds: [], rooms: [] });
      hearings.set(tenantId, hears);
    }
    return rooms.filter(hears);
  };
}

/**
 * The view that the query selects. Names that this view never shows are left out of it: fewer distinct views exist then,
 * so more clients share each encoding of a record.
 */
export function viewOf(
  query: { readonly events: readonly string[]; readonly legacy: boolean },
  config: { readonly extraEvents: readonly string[]; readonly legacyEvents: boolean },
): View {
  const legacy = query.legacy && config.legacyEvents;
  const selected = query.events.filter((name) => name !== '');
  const emitted = publishedNames(config.extraEvents).flatMap((name) => emittedNames(name, legacy));
  const kept = emitted.filter((name) => selected.includes(name));
  return createView(legacy, selected.length === 0 || kept.length === emitted.length ? null : kept);
}

/** The events whose records the view shows; null: all. */
export function eventsSeen(view: View, { extraEvents }: { readonly extraEvents: readonly string[] }): string[] | null {
  if (view.events === null) return null;
  return publishedNames(extraEvents).filter((event) => namesSeen(event, view).length > 0);
}

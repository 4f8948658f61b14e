/**
 * From a client's request to what it receives: the rooms that it names, the audiences that carry them to its principal,
 * and its view of each record. All transports share these rules (protocol §2, §6, §7, §11).
 */
import { audiencesFor, hearingOf, type Principal, whyDeaf, whyUnheard } from '../auth/principal.ts';
import type { JoinedRoom } from '../bus/subscription.ts';
import { createHears, parseAudience } from '../contract/audiences.ts';
import type { Cursor } from '../contract/cursor.ts';
import { BridgeError } from '../contract/errors.ts';
import { aliasesOf, LEGACY_NAMES, NO_ALIASES, publishedNames } from '../contract/events.ts';
import { createView, emittedNames, type LogRecord, namesSeen, type View } from '../contract/frames.ts';
import { nearest } from '../contract/nearest.ts';
import { printableName } from '../contract/printable.ts';
import {
  allKinds,
  faultOfId,
  faultOfRoom,
  formatRoom,
  ID_SCHEMA,
  idField,
  type Room,
  type RoomKind,
  toId,
} from '../contract/rooms.ts';
import { list } from './query.ts';

const roomList = (kind: RoomKind) =>
  list(`Rooms \`${kind}:{id}\` to join. Repeatable or comma-separated.`, ID_SCHEMA, (id) => faultOfId(kind, id));

/** The rooms of `/sse` and `/events`: one parameter for each kind. */
export const roomQuery = (declaredKinds: readonly RoomKind[]) =>
  Object.fromEntries(allKinds(declaredKinds).map((kind) => [idField(kind), roomList(kind)])) as Record<
    'tenantId' | 'ticketId' | 'agreementId' | 'userId',
    ReturnType<typeof roomList>
  >;

/** The filter `events` of `/sse` and `/events`. It takes the names of legacy events also where these are off. */
export function eventsFilter(published: readonly string[]) {
  const names = published.flatMap((name) => emittedNames(name, LEGACY_NAMES));
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
  query: Readonly<Record<string, unknown>>,
  { maxRooms, roomKinds }: { readonly maxRooms: number; readonly roomKinds: readonly RoomKind[] },
): Map<Room, JoinedRoom> {
  const kinds = allKinds(roomKinds);
  const idsOf = (kind: RoomKind) => query[idField(kind)] as readonly string[];
  const rooms = kinds.flatMap((kind) => idsOf(kind).map((id) => formatRoom(kind, id)));
  if (rooms.length === 0) {
    const [first, ...others] = kinds.map(idField) as [string, ...string[]];
    const message = `or one of ${others.join(', ')} is required`;
    throw new BridgeError('invalid_request', `At least one of ${[first, ...others].join(', ')} is required.`, {
      errors: [{ in: 'query', path: first, message }],
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
  const field = idField(kind);
  const given = typeof arg === 'object' && arg !== null && Object.hasOwn(arg, field) ? (arg as never)[field] : arg;
  const id = typeof given === 'number' ? toId(given) : given;
  const fault = faultOfId(kind, id);
  if (fault !== null) throw new BridgeError('invalid_room', `${field} ${fault}.`);
  return formatRoom(kind, id as string);
}

/**
 * The rooms of the generic `join` and `leave` of Socket.IO (protocol §5): `arg` is a room's name, or an array of names, in
 * which repeats count once.
 * @param kinds all kinds of the bridge
 * @throws {BridgeError} `invalid_room`, `too_many_rooms`
 */
export function parseRooms(arg: unknown, kinds: readonly RoomKind[], maxRooms: number): readonly Room[] {
  if (Array.isArray(arg) && arg.length === 0) {
    throw new BridgeError('invalid_room', 'The array of rooms is empty. Name at least one room, such as "ticket:123".');
  }
  const rooms = new Set<Room>();
  for (const [index, room] of (Array.isArray(arg) ? arg : [arg]).entries()) {
    const fault = faultOfRoom(room, kinds);
    if (fault !== null) {
      throw new BridgeError('invalid_room', `${Array.isArray(arg) ? `rooms[${index}]` : 'The room'} ${fault}.`);
    }
    rooms.add(room as Room);
  }
  if (rooms.size > maxRooms) {
    throw new BridgeError('too_many_rooms', `The array names ${rooms.size} rooms; at most ${maxRooms} are allowed.`);
  }
  return [...rooms];
}

/**
 * For connections that join rooms later: without this check they would stay open and receive nothing (protocol §11).
 * @throws {BridgeError} `forbidden` if the principal may listen to nothing
 */
export function requireHearing(principal: Principal): void {
  const reason = whyDeaf(principal);
  if (reason !== null) throw new BridgeError('forbidden', reason);
}

/**
 * The audiences that carry the room's records to this principal.
 * @throws {BridgeError} `forbidden`
 */
export function audiencesToJoin(principal: Principal, room: Room): string[] {
  const audiences = audiencesFor(principal, room);
  if (audiences.length === 0) throw new BridgeError('forbidden', whyUnheard(principal, room));
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
  query: { readonly events: readonly string[]; readonly legacy: boolean; readonly audience?: boolean },
  config: {
    readonly extraEvents: readonly string[];
    readonly legacyEvents: boolean;
    readonly roomKinds: readonly RoomKind[];
  },
): View {
  const aliases = query.legacy ? aliasesOf(config) : NO_ALIASES;
  const selected = query.events.filter((name) => name !== '');
  const emitted = publishedNames(config.extraEvents).flatMap((name) => emittedNames(name, aliases));
  const kept = emitted.filter((name) => selected.includes(name));
  const events = selected.length === 0 || kept.length === emitted.length ? null : kept;
  return createView(aliases, events, query.audience === true ? allKinds(config.roomKinds) : null);
}

/** The events whose records the view shows; null: all. */
export function eventsSeen(view: View, { extraEvents }: { readonly extraEvents: readonly string[] }): string[] | null {
  if (view.events === null) return null;
  return publishedNames(extraEvents).filter((event) => namesSeen(event, view).length > 0);
}

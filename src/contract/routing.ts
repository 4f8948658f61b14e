/**
 * Where the ids of a payload lead (protocol §2): one rule for the server, which marks the records that went elsewhere, and for
 * a client whose connection serves listeners of different rooms.
 */
import { CANONICAL_EVENTS } from './names.ts';
import { idField, idOf, kindOf, type Room, type RoomKind, toId } from './rooms.ts';

type Payload = Readonly<Record<string, unknown>>;

/** Whether an event goes to a room by the ids in its payload. Of canonical events, `userId` is an ordinary extra key. */
export function isRoutedTo(room: Room, event: string, payload: Payload): boolean {
  return idFor(kindOf(room), event, payload) === idOf(room);
}

/** Whether a record went to exactly the rooms to which the ids in its payload lead. */
export function isRoutedByIds(
  { event, rooms, payload }: { readonly event: string; readonly rooms: readonly Room[]; readonly payload: string },
  kinds: readonly RoomKind[],
): boolean {
  const ids = JSON.parse(payload) as Payload;
  const count = kinds.filter((kind) => idFor(kind, event, ids) !== null).length;
  return count === rooms.length && rooms.every((room) => isRoutedTo(room, event, ids));
}

function idFor(kind: RoomKind, event: string, payload: Payload): string | null {
  return kind === 'user' && CANONICAL_EVENTS.includes(event) ? null : toId(payload[idField(kind)]);
}

/**
 * An audience is the key under which the log and the bus find the listeners of a room (design law 9).
 *
 * `Keying` says what the key holds. `room` (AUTH_MODE=none): the room alone, so everyone in a room shares one audience.
 * `tenant` (AUTH_MODE=jwt): the publishing tenant and the room, so two tenants never share an audience, whatever ids a
 * client guesses. A log stores the keying of its index and rebuilds the index when the keying changes.
 */
import { kindOf, type Room, type RoomKind } from './rooms.ts';

export type Keying = 'room' | 'tenant';

/** The rooms of one tenant that a caller may hear: every room of some kinds, and single rooms. */
export interface Hearing {
  /** `all`: the caller may hear every room. Empty: a narrowed token, which hears `rooms` only. */
  readonly kinds: readonly RoomKind[] | 'all';
  readonly rooms: readonly Room[];
}

export const HEARS_ALL: Hearing = { kinds: 'all', rooms: [] };

/** Whether the caller may hear a room. A record may be shown to a caller that may hear one of its rooms (protocol §7). */
export function createHears({ kinds, rooms }: Hearing): (room: Room) => boolean {
  if (kinds === 'all') return () => true;
  const named = new Set(rooms);
  return (room) => kinds.includes(kindOf(room)) || named.has(room);
}

/** Tenant ids and rooms contain no line break (protocol §2), so no two pairs share a key. */
export function audienceOf(keying: Keying, tenantId: string, room: string): string {
  return keying === 'room' ? room : `${tenantId}\n${room}`;
}

/** The audiences of a record. The same array may come back: do not change it. */
export function audiencesOf(keying: Keying, tenantId: string, rooms: readonly string[]): readonly string[] {
  return keying === 'room' ? rooms : rooms.map((room) => audienceOf(keying, tenantId, room));
}

/** The inverse of {@link audienceOf}; `tenantId` is null if the key holds the room alone. */
export function parseAudience(audience: string): { readonly tenantId: string | null; readonly room: string } {
  const end = audience.indexOf('\n');
  return { tenantId: end === -1 ? null : audience.slice(0, end), room: audience.slice(end + 1) };
}

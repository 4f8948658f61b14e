/**
 * What the field of Find means: one text for a user, a room, an address or a connection, and behind it, after a space,
 * the room of which this user misses events (`ana ticket:5`). A name without a kind may mean several things, so all of
 * them are asked.
 */
import { allKinds, faultOfRoom, formatRoom, isRoomId, kindOf, type Room, type RoomKind } from '../../contract/rooms.ts';

/** One meaning of the text, and what it names. */
export interface Reading {
  readonly kind: 'user' | 'tenant' | 'room' | 'address' | 'connection';
  /** A `sub`, a tenant, a room's full name, an address, or the id of a connection. */
  readonly name: string;
}

export interface FindQuery {
  /** The likeliest first; never empty. */
  readonly readings: readonly Reading[];
  /** The room of which events are missed. */
  readonly about: Room | null;
}

/** Other words for the kinds that are no rooms. */
const PREFIXES: Readonly<Record<string, Reading['kind']>> = {
  address: 'address',
  ip: 'address',
  endereço: 'address',
  connection: 'connection',
  conexão: 'connection',
  usuário: 'user',
  sub: 'user',
};

/** Of Socket.IO, and of the other transports. */
const CONNECTION_ID = /^[\w-]{20,21}$/;
const IPV4 = /^\d{1,3}(\.\d{1,3}){3}$/;
const IPV6 = /^(?=.*:.*:)[\da-f:.]+$/i;

/** @param text not a token (claims.ts) @returns null if the text is empty */
export function parseQuery(text: string, declaredKinds: readonly RoomKind[]): FindQuery | null {
  const kinds = allKinds(declaredKinds);
  const words = text
    .trim()
    .replace(/^#/, '')
    .split(/\s+/)
    .filter((word) => word !== '');
  if (words.length === 0) return null;
  for (let index = words.length - 2; index >= 0; index--) {
    // `ticket 5` means `ticket:5`.
    const kind = (words[index] as string).toLowerCase();
    if (kinds.includes(kind)) words.splice(index, 2, formatRoom(kind, words[index + 1] as string));
  }
  const last = words.at(-1) as string;
  const hasSubject = words.length > 1 && isRoom(last, kinds);
  const subject = (hasSubject ? words.slice(0, -1) : words).join(' ');
  return { readings: readingsOf(subject, kinds), about: hasSubject ? (last as Room) : null };
}

/** A room as people type it: `ticket:5` or `ticket 5`. Null if it is no name of a room. */
export function roomFrom(typed: string, declaredKinds: readonly RoomKind[]): Room | null {
  const name = typed.trim().replace(/^([a-z][a-z0-9]*)\s+(?=\S)/, '$1:');
  return faultOfRoom(name, allKinds(declaredKinds)) === null ? (name as Room) : null;
}

const isRoom = (text: string, kinds: readonly RoomKind[]): boolean =>
  text.includes(':') && kinds.includes(kindOf(text as Room)) && isRoomId(text.slice(text.indexOf(':') + 1));

function readingsOf(text: string, kinds: readonly RoomKind[]): readonly Reading[] {
  const colon = text.indexOf(':');
  const prefix = text.slice(0, Math.max(0, colon)).toLowerCase();
  const name = text.slice(colon + 1).trim();
  const special = Object.hasOwn(PREFIXES, prefix) ? PREFIXES[prefix] : undefined;
  if (special !== undefined && name !== '') return [{ kind: special, name }];
  // A user's name may hold what no id holds.
  if (prefix === 'user' && name !== '') return [{ kind: 'user', name }];
  if (kinds.includes(prefix) && isRoomId(name)) {
    if (prefix === 'tenant') return [{ kind: prefix, name }];
    return [{ kind: 'room', name: formatRoom(prefix, name) }];
  }
  if (IPV4.test(text) || IPV6.test(text)) return [{ kind: 'address', name: text }];
  const user: Reading = { kind: 'user', name: text };
  // Only a user's name may hold spaces.
  if (!isRoomId(text)) return [user];
  const rooms = kinds
    .filter((kind) => kind !== 'user' && kind !== 'tenant')
    .map((kind): Reading => ({ kind: 'room', name: formatRoom(kind, text) }));
  const others: Reading[] = [{ kind: 'tenant', name: text }];
  if (CONNECTION_ID.test(text)) others.push({ kind: 'connection', name: text });
  // Tickets are mostly numbers; users seldom are.
  return /^\d+$/.test(text) ? [...rooms, user, ...others] : [user, ...rooms, ...others];
}

/** The text that means this reading and nothing else. */
export function formatReading({ kind, name }: Reading): string {
  return kind === 'room' ? name : `${kind}:${name}`;
}

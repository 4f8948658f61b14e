/**
 * Rooms that are joined while somebody needs them. Several needs of one room join it once, and the last one leaves it. A
 * room that the application joined before stays joined.
 */
import { idsByField, type Room } from '../../contract/rooms.ts';
import type { Live } from '../client.ts';

export interface HeldRoom {
  /** The room is live, or the client is closed. Rejects if the bridge refuses it. */
  readonly joined: Promise<unknown>;
  release(): void;
}

/** What it needs of a client. */
export type RoomClient = Pick<Live, 'join' | 'leave' | 'rooms'>;

interface Holds {
  /** How often each room is needed, and its join. */
  readonly held: Map<Room, { count: number; readonly joined: Promise<unknown> }>;
  /** The rooms that are joined for holds only. One that is being left is one of them until the client has left it. */
  readonly own: Set<Room>;
}

const holdsOf = new WeakMap<object, Holds>();

export function holdRoom(live: RoomClient, room: Room): HeldRoom {
  const { held, own } = holdsOf.get(live) ?? { held: new Map(), own: new Set() };
  holdsOf.set(live, { held, own });
  const hold = held.get(room) ?? { count: 0, joined: join() };
  held.set(room, hold);
  hold.count++;

  function join(): Promise<unknown> {
    if (!live.rooms.includes(room)) own.add(room);
    // Also of a room that is joined already: it resolves when the client has a position.
    const joined = live.join(idsByField([room]));
    joined.catch(() => {}); // the error is for those who wait for `joined`
    return joined;
  }

  async function leave(): Promise<void> {
    held.delete(room);
    if (own.has(room)) await live.leave(idsByField([room]));
    if (!held.has(room)) own.delete(room);
  }

  return {
    joined: hold.joined,
    release() {
      hold.count--;
      if (hold.count === 0) void leave();
    },
  };
}

/**
 * What is kept of a Socket.IO connection so that a stock client is put back (design law 4): whose it is, its rooms, and
 * for each from where it is heard. It is saved while the connection lives, before a join is acknowledged, since a killed process
 * saves nothing. The client's place is not part of it: that is the cursor which the client brings.
 */
import { z } from 'zod';
import type { SessionHolder } from '../../auth/principal.ts';
import type { Cursor } from '../../contract/cursor.ts';
import { isRoomId, ROOM_KINDS, type Room } from '../../contract/rooms.ts';

export interface SessionRoom {
  /** The room is heard after this place. */
  readonly start: Cursor;
  /** How far the stream had come when the join was acknowledged. */
  readonly joinedAt: Cursor;
  /** The join asked for a replay. */
  readonly replayed: boolean;
  /** Restored, and the client has shown no cursor later than `joinedAt`: it may never have seen the acknowledgement. */
  readonly unproven: boolean;
}

export interface SessionData {
  /** Socket.IO's public id of the connection. */
  readonly sid: string;
  readonly holder: SessionHolder | null;
  readonly rooms: ReadonlyMap<Room, SessionRoom>;
}

const isRoom = (text: string): boolean => {
  const [kind, ...id] = text.split(':');
  return ROOM_KINDS.some((known) => known === kind) && isRoomId(id.join(':'));
};

const stored = z.object({
  sid: z.string(),
  holder: z.object({ subject: z.string().nullable(), tenants: z.array(z.string()) }).nullable(),
  rooms: z.array(z.tuple([z.string().refine(isRoom), z.string(), z.string(), z.boolean(), z.boolean()])),
});

export function encodeSession({ sid, holder, rooms }: SessionData): string {
  return JSON.stringify({
    sid,
    holder,
    rooms: [...rooms].map(([room, { start, joinedAt, replayed, unproven }]) => [
      room,
      start,
      joinedAt,
      replayed,
      unproven,
    ]),
  });
}

/** Null when it was saved by another version of the bridge, in another format. */
export function decodeSession(text: string): SessionData | null {
  const parsed = stored.safeParse(JSON.parse(text));
  if (!parsed.success) return null;
  const { sid, holder, rooms } = parsed.data;
  return {
    sid,
    holder,
    rooms: new Map(
      rooms.map(([room, start, joinedAt, replayed, unproven]) => [
        room as Room,
        { start: start as Cursor, joinedAt: joinedAt as Cursor, replayed, unproven },
      ]),
    ),
  };
}

/**
 * The rooms of a session as they stand after its client came back with `offset`. A cursor later than `joinedAt` was
 * written after the acknowledgement, so the client has that too.
 */
export function restoreRooms(rooms: SessionData['rooms'], offset: Cursor): Map<Room, SessionRoom> {
  return new Map(
    [...rooms].map(([room, joined]) => {
      const unproven = joined.unproven || (joined.replayed && offset <= joined.joinedAt);
      return [room, { ...joined, unproven }];
    }),
  );
}

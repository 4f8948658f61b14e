/** Socket.IO sessions in SQLite: each room is a row of its own, so that a join or a leave writes one small row. */
import type { DatabaseSync } from 'node:sqlite';
import type { Session } from '../store.ts';
import type { Handlers, WriteOperations } from './operations.ts';
import { query } from './schema.ts';

type SessionOperations = Pick<
  WriteOperations,
  'saveSession' | 'findSession' | 'claimSession' | 'touchSessions' | 'dropSession'
>;

export function createSessions(db: DatabaseSync): Handlers<SessionOperations> {
  const ownerOf = query<[owner: string]>(db, 'SELECT owner FROM sessions WHERE pid = ?');
  const insert = db.prepare('INSERT INTO sessions VALUES (?, ?, ?, ?, ?)');
  const dropRooms = db.prepare('DELETE FROM session_rooms WHERE pid = ?');
  const putRoom = db.prepare('INSERT OR REPLACE INTO session_rooms VALUES (?, ?, ?)');
  const dropRoom = db.prepare('DELETE FROM session_rooms WHERE pid = ? AND room = ?');
  const dropExcess = db.prepare(`
    DELETE FROM sessions WHERE pid IN (
      SELECT pid FROM sessions WHERE holder = ?1 AND pid <> ?2 ORDER BY expires_at
      LIMIT max(0, (SELECT sessions FROM session_counts WHERE holder = ?1) - ?3)
    )`);
  const find = query<[owner: string, data: string, expiresAtMs: number]>(
    db,
    'SELECT owner, data, expires_at FROM sessions WHERE pid = ? AND expires_at > ?',
  );
  const roomsOf = query<[room: string, data: string]>(db, 'SELECT room, data FROM session_rooms WHERE pid = ?');
  const claim = db.prepare('UPDATE sessions SET owner = ? WHERE pid = ?');
  const touch = db.prepare('UPDATE sessions SET expires_at = ? WHERE pid = ? AND owner = ?');
  const drop = db.prepare('DELETE FROM sessions WHERE pid = ? AND owner = ?');

  function findSession({ pid, nowMs }: { readonly pid: string; readonly nowMs: number }): Session | null {
    const row = find.get(pid, nowMs);
    if (row === undefined) return null;
    const [owner, data, expiresAtMs] = row;
    return { pid, owner, data, rooms: roomsOf.all(pid), expiresAtMs };
  }

  return {
    saveSession({ pid, owner, holder, data, put, remove, isWhole, expiresAtMs }) {
      const [savedOwner] = ownerOf.get(pid) ?? [];
      if (savedOwner === undefined && !isWhole) return 'lost';
      if (savedOwner !== undefined && savedOwner !== owner) return 'foreign';
      if (savedOwner === undefined) {
        insert.run(pid, owner, holder.key, data, expiresAtMs);
        dropExcess.run(holder.key, pid, holder.maxSessions);
      } else if (isWhole) dropRooms.run(pid);
      for (const [room, roomData] of put) putRoom.run(pid, room, roomData);
      for (const room of remove) dropRoom.run(pid, room);
      return 'saved';
    },
    findSession,
    claimSession({ pid, owner, nowMs }) {
      const session = findSession({ pid, nowMs });
      if (session === null) return null;
      claim.run(owner, pid);
      return { ...session, owner };
    },
    touchSessions({ sessions }) {
      for (const [pid, owner, expiresAtMs] of sessions) touch.run(expiresAtMs, pid, owner);
      return null;
    },
    dropSession({ pid, owner }) {
      drop.run(pid, owner);
      return null;
    },
  };
}

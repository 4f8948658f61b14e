/**
 * Sessions that only their client can open. A session names rooms and tenants, and it may outlive an erasure (protocol
 * §15). So the log keeps it under a hash of the private session id, encrypted with a key that is made of that id: the
 * client presents the id when it comes back, and nothing in the log, its backups or its replicas holds it. A room stands
 * under a keyed hash of its name, so that a later change finds it.
 */
import { createCipheriv, createDecipheriv, hash, randomBytes } from 'node:crypto';
import type { SavedRoom, Session, Sessions } from '../../store/store.ts';

const CIPHER = 'aes-256-gcm';
const IV_BYTES = 12;
const TAG_BYTES = 16;

/** The id has 120 random bits (Engine.IO), so that its hashes cannot be searched. */
const nameOf = (pid: string): string => hash('sha256', `name\n${pid}`, 'base64url');
const keyOf = (pid: string): Buffer => hash('sha256', `key\n${pid}`, 'buffer');
const nameOfRoom = (pid: string, room: string): string => hash('sha256', `room\n${pid}\n${room}`, 'base64url');

function seal(key: Buffer, text: string): string {
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv(CIPHER, key, iv);
  const sealed = [cipher.update(text, 'utf8'), cipher.final()];
  return Buffer.concat([iv, cipher.getAuthTag(), ...sealed]).toString('base64');
}

function open(key: Buffer, sealed: string): string {
  const bytes = Buffer.from(sealed, 'base64');
  const decipher = createDecipheriv(CIPHER, key, bytes.subarray(0, IV_BYTES));
  decipher.setAuthTag(bytes.subarray(IV_BYTES, IV_BYTES + TAG_BYTES));
  return decipher.update(bytes.subarray(IV_BYTES + TAG_BYTES), undefined, 'utf8') + decipher.final('utf8');
}

function openSession(pid: string, stored: Session | null): Session | null {
  if (stored === null) return null;
  const key = keyOf(pid);
  const rooms = stored.rooms.map(([, sealed]) => JSON.parse(open(key, sealed)) as SavedRoom);
  return { ...stored, pid, data: open(key, stored.data), rooms };
}

export function sealSessions(store: Sessions): Sessions {
  return {
    saveSession({ pid, data, put, remove, isWhole, ...change }) {
      const key = keyOf(pid);
      return store.saveSession({
        ...change,
        pid: nameOf(pid),
        isWhole,
        // It counts for a new session only, and a join should not pay for it.
        data: isWhole ? seal(key, data) : '',
        put: put.map((saved) => [nameOfRoom(pid, saved[0]), seal(key, JSON.stringify(saved))]),
        remove: remove.map((room) => nameOfRoom(pid, room)),
      });
    },
    findSession: async (pid, nowMs) => openSession(pid, await store.findSession(nameOf(pid), nowMs)),
    claimSession: async (pid, owner, nowMs) => openSession(pid, await store.claimSession(nameOf(pid), owner, nowMs)),
    touchSessions: (sessions) => store.touchSessions(sessions.map((owned) => ({ ...owned, pid: nameOf(owned.pid) }))),
    dropSession: (pid, owner) => store.dropSession(nameOf(pid), owner),
  };
}

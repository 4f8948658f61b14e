/**
 * Sessions that only their client can open. A session names rooms and tenants, and it may outlive an erasure (protocol
 * §15). So the log keeps it under a hash of the private session id, encrypted with a key that is made of that id: the
 * client presents the id when it comes back, and nothing in the log, its backups or its replicas holds it.
 */
import { createCipheriv, createDecipheriv, hash, randomBytes } from 'node:crypto';
import type { Sessions } from '../../store/store.ts';

const CIPHER = 'aes-256-gcm';
const IV_BYTES = 12;
const TAG_BYTES = 16;

/** The id has 120 random bits (Engine.IO), so that its hashes cannot be searched. */
const nameOf = (pid: string): string => hash('sha256', `name\n${pid}`, 'base64url');
const keyOf = (pid: string): Buffer => hash('sha256', `key\n${pid}`, 'buffer');

function seal(pid: string, text: string): string {
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv(CIPHER, keyOf(pid), iv);
  const sealed = [cipher.update(text, 'utf8'), cipher.final()];
  return Buffer.concat([iv, cipher.getAuthTag(), ...sealed]).toString('base64');
}

function open(pid: string, sealed: string): string {
  const bytes = Buffer.from(sealed, 'base64');
  const decipher = createDecipheriv(CIPHER, keyOf(pid), bytes.subarray(0, IV_BYTES));
  decipher.setAuthTag(bytes.subarray(IV_BYTES, IV_BYTES + TAG_BYTES));
  return decipher.update(bytes.subarray(IV_BYTES + TAG_BYTES), undefined, 'utf8') + decipher.final('utf8');
}

export function sealSessions(store: Sessions): Sessions {
  return {
    saveSession: (session) =>
      store.saveSession({ ...session, pid: nameOf(session.pid), data: seal(session.pid, session.data) }),
    async claimSession(pid, owner, nowMs) {
      const stored = await store.claimSession(nameOf(pid), owner, nowMs);
      return stored === null ? null : { ...stored, pid, data: open(pid, stored.data) };
    },
    touchSessions: (sessions) => store.touchSessions(sessions.map((owned) => ({ ...owned, pid: nameOf(owned.pid) }))),
    dropSession: (pid, owner) => store.dropSession(nameOf(pid), owner),
  };
}

/** Sessions, secrets, and the list of live nodes. */
import { randomBytes } from 'node:crypto';
import type { NodeEntry, Nodes, Secrets, Session, Sessions } from '../store.ts';
import type { Calls } from './calls.ts';
import { defineScript } from './script.ts';

/** Sessions that one script touches. */
const SLICE = 256;

type Owned = Pick<Session, 'pid' | 'owner'>;
const ignore = (): void => {};

const SAVE_SESSION = defineScript(
  'save-session',
  ({ pid, owner, data, expiresAtMs }: Session) => [pid, owner, data, String(expiresAtMs)],
  (reply) => reply === 1,
);

const CLAIM_SESSION = defineScript(
  'claim-session',
  ({ pid, owner, nowMs }: Owned & { nowMs: number }) => [pid, owner, String(nowMs)],
  (reply) => {
    const [data, expires] = reply as [data?: string, expires?: string];
    return data === undefined ? null : { data, expiresAtMs: Number(expires) };
  },
);

const TOUCH_SESSIONS = defineScript(
  'touch-sessions',
  (sessions: Parameters<Sessions['touchSessions']>[0]) =>
    sessions.flatMap(({ pid, owner, expiresAtMs }) => [pid, owner, String(expiresAtMs)]),
  ignore,
);

const DROP_SESSION = defineScript('drop-session', ({ pid, owner }: Owned) => [pid, owner], ignore);

const SECRET = defineScript(
  'secret',
  (name: string) => [name, randomBytes(32).toString('base64url')],
  (reply) => reply as string,
);

const ANNOUNCE = defineScript(
  'announce',
  ({ id, facts, ttlMs }: NodeEntry) => [id, facts, String(ttlMs)],
  (reply) => reply as string[],
);

export function createSessions({ write }: Calls): Sessions & Secrets & Nodes {
  return {
    saveSession: (session) => write(SAVE_SESSION, session),
    async claimSession(pid, owner, nowMs) {
      const stored = await write(CLAIM_SESSION, { pid, owner, nowMs });
      return stored === null ? null : { pid, owner, ...stored };
    },
    async touchSessions(sessions) {
      for (let at = 0; at < sessions.length; at += SLICE) await write(TOUCH_SESSIONS, sessions.slice(at, at + SLICE));
    },
    dropSession: (pid, owner) => write(DROP_SESSION, { pid, owner }),
    secret: (name) => write(SECRET, name),
    announce: (node) => write(ANNOUNCE, node),
  };
}

/** Sessions, secrets, and the list of live nodes. */
import { randomBytes } from 'node:crypto';
import type { NodeEntry, Nodes, SaveResult, Secrets, Session, SessionChange, Sessions } from '../store.ts';
import type { Calls } from './calls.ts';
import { defineScript } from './script.ts';

/** Sessions that one script touches. */
const SLICE = 256;

type Owned = Pick<Session, 'pid' | 'owner'>;
const ignore = (): void => {};

/** The prefix of the fields that hold a session's rooms (scripts/prelude/keys.lua). */
const ROOM_FIELD = 'room ';

const SAVE_SESSION = defineScript(
  'save-session',
  ({ pid, owner, holder, data, expiresAtMs, isWhole, put, remove }: SessionChange) => [
    ...[pid, owner, holder.key, String(holder.maxSessions), data, String(expiresAtMs), isWhole ? '1' : '0'],
    ...[String(put.length), ...put.flat(), ...remove],
  ],
  (reply) => reply as SaveResult,
);

type Fields = ReadonlyMap<string, string>;

function fieldsOf(reply: unknown): Fields {
  const flat = reply as string[];
  return new Map(flat.flatMap((field, at) => (at % 2 === 0 ? [[field, flat[at + 1] as string] as const] : [])));
}

const FIND_SESSION = defineScript(
  'find-session',
  ({ pid, nowMs }: { pid: string; nowMs: number }) => [pid, String(nowMs)],
  fieldsOf,
);

const CLAIM_SESSION = defineScript(
  'claim-session',
  ({ pid, owner, nowMs }: Owned & { nowMs: number }) => [pid, owner, String(nowMs)],
  fieldsOf,
);

function sessionOf(pid: string, fields: Fields): Session | null {
  const [owner, data, expires] = ['owner', 'data', 'expires'].map((name) => fields.get(name));
  if (owner === undefined || data === undefined) return null;
  const rooms = [...fields].flatMap(([field, value]) =>
    field.startsWith(ROOM_FIELD) ? [[field.slice(ROOM_FIELD.length), value] as const] : [],
  );
  return { pid, owner, data, rooms, expiresAtMs: Number(expires) };
}

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
    saveSession: (change) => write(SAVE_SESSION, change),
    findSession: async (pid, nowMs) => sessionOf(pid, await write(FIND_SESSION, { pid, nowMs })),
    claimSession: async (pid, owner, nowMs) => sessionOf(pid, await write(CLAIM_SESSION, { pid, owner, nowMs })),
    async touchSessions(sessions) {
      for (let at = 0; at < sessions.length; at += SLICE) await write(TOUCH_SESSIONS, sessions.slice(at, at + SLICE));
    },
    dropSession: (pid, owner) => write(DROP_SESSION, { pid, owner }),
    secret: (name) => write(SECRET, name),
    announce: (node) => write(ANNOUNCE, node),
  };
}

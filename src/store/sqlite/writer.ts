/**
 * Every operation that writes to the log. A thread runs several of them in one transaction (worker.ts).
 *
 * An operation either completes or throws. If one throws, the whole transaction is rolled back.
 */
import { randomBytes } from 'node:crypto';
import type { DatabaseSync } from 'node:sqlite';
import type { Keying } from '../../contract/audiences.ts';
import { createAppender } from './append.ts';
import { type Handlers, handle, type Operation, type ReplyTo, type WriteOperations } from './operations.ts';
import { createRemoval } from './removal.ts';
import { query } from './schema.ts';

/** Call `flush` before COMMIT and `reset` after a rollback. `onRemoval` runs in each transaction that erases something. */
export function createWriter(db: DatabaseSync, keying: Keying, onRemoval: () => void) {
  const appender = createAppender(db, keying);
  const saveSession = db.prepare(`
    INSERT INTO sessions VALUES (?, ?, ?, ?)
    ON CONFLICT (pid) DO UPDATE SET data = excluded.data, expires_at = excluded.expires_at WHERE owner = excluded.owner`);
  const claimSession = query<[data: string, expiresAtMs: number]>(
    db,
    'UPDATE sessions SET owner = ? WHERE pid = ? AND expires_at > ? RETURNING data, expires_at',
  );
  const touchSession = db.prepare('UPDATE sessions SET expires_at = ? WHERE pid = ? AND owner = ?');
  const dropSession = db.prepare('DELETE FROM sessions WHERE pid = ? AND owner = ?');
  const insertMeta = db.prepare('INSERT OR IGNORE INTO meta VALUES (?, ?)');
  const selectMeta = query<[value: string]>(db, 'SELECT value FROM meta WHERE name = ?');
  const replaceMeta = db.prepare('INSERT OR REPLACE INTO meta VALUES (?, ?)');

  const handlers: Handlers<WriteOperations> = {
    append: appender.append,
    ...createRemoval(db, keying, appender, onRemoval),
    saveSession: ({ pid, owner, data, expiresAtMs }) => saveSession.run(pid, owner, data, expiresAtMs).changes !== 0,
    claimSession: ({ pid, owner, nowMs }) => claimSession.get(owner, pid, nowMs) ?? null,
    touchSessions({ sessions }) {
      for (const [pid, owner, expiresAtMs] of sessions) touchSession.run(expiresAtMs, pid, owner);
      return null;
    },
    dropSession({ pid, owner }) {
      dropSession.run(pid, owner);
      return null;
    },
    secret({ name }) {
      insertMeta.run(`secret:${name}`, randomBytes(32).toString('base64url'));
      return (selectMeta.get(`secret:${name}`) as [string])[0];
    },
    probe() {
      replaceMeta.run('probed', String(Date.now()));
      return null;
    },
  };

  return {
    run: (operation: Operation<WriteOperations>): ReplyTo<WriteOperations> => handle(handlers, operation),
    flush: appender.flush,
    reset: appender.reset,
  };
}

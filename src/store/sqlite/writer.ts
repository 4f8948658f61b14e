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
import { createRevocationWriter } from './revocations.ts';
import { query } from './schema.ts';
import { createSessions } from './sessions.ts';

/** Call `flush` before COMMIT and `reset` after a rollback. `onRemoval` runs in each transaction that erases something. */
export function createWriter(db: DatabaseSync, keying: Keying, onRemoval: () => void) {
  const appender = createAppender(db, keying);
  const revocations = createRevocationWriter(db);
  const insertMeta = db.prepare('INSERT OR IGNORE INTO meta VALUES (?, ?)');
  const selectMeta = query<[value: string]>(db, 'SELECT value FROM meta WHERE name = ?');
  const replaceMeta = db.prepare('INSERT OR REPLACE INTO meta VALUES (?, ?)');

  const handlers: Handlers<WriteOperations> = {
    append: appender.append,
    ...createRemoval(db, keying, appender, revocations, onRemoval),
    ...revocations.handlers,
    ...createSessions(db),
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

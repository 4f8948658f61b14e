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
import { declaredEvents, query, setDeclaredEvents } from './schema.ts';
import { createSessions } from './sessions.ts';

export interface WriterOptions {
  readonly keying: Keying;
  /** The declared events, of this process. */
  readonly declared: readonly string[];
  /** Runs in each transaction that erases something. */
  onRemoval(): void;
}

export function createWriter(db: DatabaseSync, { keying, declared, onRemoval }: WriterOptions) {
  /** When the log accepted what is not projected yet. */
  let declaredThen: readonly string[] = declaredEvents(db);
  const appender = createAppender(db, keying, () => declaredThen);
  const { projection } = appender;
  const revocations = createRevocationWriter(db);
  const insertMeta = db.prepare('INSERT OR IGNORE INTO meta VALUES (?, ?)');
  const selectMeta = query<[value: string]>(db, 'SELECT value FROM meta WHERE name = ?');
  const replaceMeta = db.prepare('INSERT OR REPLACE INTO meta VALUES (?, ?)');

  const handlers: Handlers<WriteOperations> = {
    append: appender.append,
    ...createRemoval(db, keying, projection, revocations, project, onRemoval),
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

  const isDeclaredAnew = () => declaredThen.join() !== declared.join();

  function project(): void {
    appender.flush();
    projection.write();
    if (!isDeclaredAnew()) return;
    setDeclaredEvents(db, declared);
    declaredThen = declared;
  }

  return {
    run: (operation: Operation<WriteOperations>): ReplyTo<WriteOperations> => handle(handlers, operation),
    /** Writes what the operations have put off. Call it before COMMIT. */
    flush(): void {
      appender.flush();
      // The head row has changed, and must not say more than the tables.
      if (projection.isRowChanged) projection.write();
    },
    /** Writes the projections. Call it in a transaction. */
    project,
    behind: projection.behind,
    /** Records of this process would be read by the events that another one declared. */
    isDeclaredAnew,
    /** Call it after a rollback. */
    reset(): void {
      declaredThen = declaredEvents(db);
      appender.reset();
    },
  };
}

/**
 * Revocations in SQLite: one row each, numbered in the order in which they came. A text in `meta` changes whenever one is
 * removed or loses its ids, so that a follower knows that it must read all of them again.
 */
import { randomBytes } from 'node:crypto';
import type { DatabaseSync } from 'node:sqlite';
import { formatRevocationId, REVOCATION_SLICE, type Revocation, withoutIds } from '../revocations.ts';
import type { Handlers, ReadOperations, WriteOperations } from './operations.ts';
import { meta, query } from './schema.ts';

type Row = readonly [
  ...[number: number, nonce: string, sub: string | null, tenantId: string | null, jti: string | null],
  ...[beforeMs: number, createdAtMs: number],
];
const ROW = 'number, nonce, sub, tenant, jti, before_at, created_at';

function revocationOf([number, nonce, sub, tenantId, jti, beforeMs, createdAtMs]: Row): Revocation {
  return { id: formatRevocationId([number, nonce]), sub, tenantId, jti, beforeMs, createdAtMs };
}

const CHANGED = 'revocations';

type RevocationReads = Pick<ReadOperations, 'revocations' | 'findRevocation' | 'revocationsAfter'>;

export function createRevocationReads(db: DatabaseSync): Handlers<RevocationReads> {
  const newest = query<Row>(db, `SELECT ${ROW} FROM revocations WHERE number < ? ORDER BY number DESC LIMIT ?`);
  // The `+` keeps SQLite from sorting all rows of the tenants. The table is small (RevocationLimits).
  const newestOfTenants = query<Row>(
    db,
    `SELECT ${ROW} FROM revocations WHERE number < ? AND +tenant IN (SELECT value FROM json_each(?))
     ORDER BY number DESC LIMIT ?`,
  );
  const find = query<Row>(db, `SELECT ${ROW} FROM revocations WHERE number = ? AND nonce = ?`);
  const after = query<Row>(db, `SELECT ${ROW} FROM revocations WHERE number > ? ORDER BY number LIMIT ?`);

  return {
    revocations({ tenants, before, limit }) {
      const from = before ?? Number.MAX_SAFE_INTEGER;
      const rows =
        tenants === null ? newest.all(from, limit) : newestOfTenants.all(from, JSON.stringify(tenants), limit);
      return rows.map(revocationOf);
    },
    findRevocation({ key: [number, nonce] }) {
      const row = find.get(number, nonce);
      return row === undefined ? null : revocationOf(row);
    },
    revocationsAfter({ position }) {
      const changed = meta(db, CHANGED);
      const isWhole = position === null || position.changed !== changed;
      const from = isWhole ? 0 : position.number;
      const rows = after.all(from, REVOCATION_SLICE);
      const number = rows.at(-1)?.[0] ?? from;
      const more = rows.length === REVOCATION_SLICE;
      return { revocations: rows.map(revocationOf), position: { changed, number }, isWhole, more };
    },
  };
}

export type RevocationWriter = ReturnType<typeof createRevocationWriter>;

export function createRevocationWriter(db: DatabaseSync) {
  const countAll = query<[number]>(db, 'SELECT count(*) FROM revocations');
  const countOfTenant = query<[number]>(db, 'SELECT count(*) FROM revocations WHERE tenant = ?');
  const insert = query<[number: number]>(
    db,
    'INSERT INTO revocations (nonce, sub, tenant, jti, before_at, created_at) VALUES (?, ?, ?, ?, ?, ?) RETURNING number',
  );
  const remove = db.prepare('DELETE FROM revocations WHERE number = ? AND nonce = ?');
  const removeOld = db.prepare(
    'DELETE FROM revocations WHERE number IN (SELECT number FROM revocations WHERE created_at < ? LIMIT ?)',
  );
  const ofTenant = query<Row>(db, `SELECT ${ROW} FROM revocations WHERE tenant = ? LIMIT ?`);
  const replaceIds = db.prepare('UPDATE revocations SET sub = ?, tenant = ?, jti = ? WHERE number = ?');
  const noteChange = db.prepare(`INSERT OR REPLACE INTO meta VALUES ('${CHANGED}', ?)`);

  function changed(rows: number | bigint): number {
    if (rows > 0) noteChange.run(randomBytes(8).toString('base64url'));
    return Number(rows);
  }

  const handlers: Handlers<Pick<WriteOperations, 'revoke' | 'liftRevocation'>> = {
    revoke({ nonce, limits, sub, tenantId, jti, beforeMs, createdAtMs }) {
      const [all] = countAll.get() as [number];
      const [own] = tenantId === null ? [0] : (countOfTenant.get(tenantId) as [number]);
      if (all >= limits.inAll || own >= limits.ofTenant) return null;
      return (insert.get(nonce, sub, tenantId, jti, beforeMs, createdAtMs) as [number])[0];
    },
    liftRevocation: ({ key }) => changed(remove.run(...key).changes) > 0,
  };

  return {
    handlers,
    /** Removes at most `slice` that are older, and returns how many. */
    trim: (beforeMs: number, slice: number): number => changed(removeOld.run(beforeMs, slice).changes),
    /** Takes the ids out of at most `slice` revocations of a tenant, and returns of how many. */
    eraseIds(tenantId: string, slice: number): number {
      const rows = ofTenant.all(tenantId, slice);
      for (const row of rows) {
        const { sub, tenantId: name, jti } = withoutIds(revocationOf(row), tenantId);
        replaceIds.run(sub, name, jti, row[0]);
      }
      return changed(rows.length);
    },
  };
}

/** Inserts of many rows. */
import type { DatabaseSync, SQLInputValue } from 'node:sqlite';

/** Rows of one insert. */
const BULK_ROWS = 32;

/**
 * Inserts many rows with one statement, in half the time of one statement each. `OR IGNORE` spares SQLite the statement
 * journal that it keeps to undo a statement that fails halfway. An ignored row is an error all the same, and the
 * transaction is rolled back. With `REPLACE`, a row takes the place of one with the same key.
 */
export function createBulkInsert(
  db: DatabaseSync,
  table: string,
  columns: number,
  or: 'IGNORE' | 'REPLACE' = 'IGNORE',
) {
  const row = `(${Array(columns).fill('?').join(', ')})`;
  const insertOne = db.prepare(`INSERT OR ${or} INTO ${table} VALUES ${row}`);
  const insertMany = db.prepare(`INSERT OR ${or} INTO ${table} VALUES ${Array(BULK_ROWS).fill(row).join(', ')}`);
  const many = BULK_ROWS * columns;
  /** Row after row. */
  let values: SQLInputValue[] = [];

  return {
    add: (...row: SQLInputValue[]) => values.push(...row),
    flush(): void {
      let at = 0;
      let inserted = 0;
      for (; at + many <= values.length; at += many) {
        inserted += Number(insertMany.run(...values.slice(at, at + many)).changes);
      }
      for (; at < values.length; at += columns) {
        inserted += Number(insertOne.run(...values.slice(at, at + columns)).changes);
      }
      const ignored = values.length / columns - inserted;
      values = [];
      if (ignored > 0) throw new Error(`${ignored} rows are already in ${table}`);
    },
    clear(): void {
      values = [];
    },
  };
}

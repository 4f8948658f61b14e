/**
 * The instants of the newest stretches of records, which the table `stretches` does not have yet: it holds whole ones
 * (schema.ts).
 */
import type { DatabaseSync } from 'node:sqlite';
import { query, STRETCH_RECORDS, stretchOf } from './schema.ts';

export type Instants = readonly [earliestMs: number, latestMs: number];

export function createNewStretches(db: DatabaseSync) {
  const selectInstants = query<[earliestMs: number | null, latestMs: number | null]>(
    db,
    'SELECT min(at), max(at) FROM records WHERE seq >= ? AND seq <= ?',
  );
  const instants = new Map<number, Instants>();
  let projectedSeq = 0;
  let isFirstWhole = false;

  function add(stretch: number, earliestMs: number, latestMs: number): void {
    const known = instants.get(stretch);
    if (known !== undefined && known[0] <= earliestMs && latestMs <= known[1]) return;
    const [earliest, latest] = known ?? [earliestMs, latestMs];
    instants.set(stretch, [Math.min(earliest, earliestMs), Math.max(latest, latestMs)]);
  }

  return {
    /** The tables have the records up to this one. */
    restart(seq: number): void {
      instants.clear();
      projectedSeq = seq;
      isFirstWhole = false;
    },
    add: (seq: number, atMs: number): void => add(stretchOf(seq), atMs, atMs),
    /** The first stretch that the table lacks. */
    get first() {
      return stretchOf(projectedSeq + 1);
    },
    /** Of a stretch from `first` on; null: it is empty. */
    of(stretch: number): Instants | null {
      const first = stretchOf(projectedSeq + 1);
      if (stretch === first && !isFirstWhole) {
        // Its first records are in the tables.
        const [earliestMs, latestMs] = selectInstants.get(first * STRETCH_RECORDS, projectedSeq) ?? [null, null];
        if (earliestMs !== null && latestMs !== null) add(first, earliestMs, latestMs);
        isFirstWhole = true;
      }
      return instants.get(stretch) ?? null;
    },
  };
}

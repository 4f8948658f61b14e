/**
 * Merges sorted rows of several sources, index ranges of the file and rows in memory, into one order. It fetches a chunk of
 * each source at a time, so that a merge costs what is taken of it.
 */

/** Rows of one source that a merge fetches at a time: more if it reads few sources. */
const CHUNK = { min: 8, max: 256 } as const;

/** The rows of an index range after a row, in the order of the merge, up to `size`; after null, the first ones. */
export type Source<Row> = (after: Row | null, size: number) => Row[];

/** The part of a source that a merge is reading. */
interface Run<Row> {
  readonly source: Source<Row>;
  chunk: Row[];
  at: number;
}

export type Seq = readonly [seq: number];

/** Sequence numbers in memory, which rise. */
export function sourceOfSeqs(seqs: readonly number[], from: number, isAscending: boolean): Source<Seq> {
  const countUpTo = (seq: number): number => {
    let [low, high] = [0, seqs.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((seqs[middle] as number) <= seq) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  return (after, size) => {
    const start = after?.[0] ?? from;
    if (isAscending) {
      const at = countUpTo(start);
      return seqs.slice(at, at + size).map((seq) => [seq]);
    }
    const end = countUpTo(start - 1);
    return seqs
      .slice(Math.max(0, end - size), end)
      .reverse()
      .map((seq) => [seq]);
  };
}

/** Rows in memory, in the order of the merge. `isAfter`: whether a row comes after another one, or after the start. */
export function sourceOf<Row>(rows: readonly Row[], isAfter: (row: Row, after: Row | null) => boolean): Source<Row> {
  return (after, size) => {
    const first = rows.findIndex((row) => isAfter(row, after));
    return first === -1 ? [] : rows.slice(first, first + size);
  };
}

/** The rows of sorted sources in order. A row of several sources comes once. */
export function* merge<Row>(
  sources: readonly Source<Row>[],
  wanted: number,
  compare: (a: Row, b: Row) => number,
): Generator<Row> {
  const share = sources.length === 1 ? wanted : Math.ceil((2 * wanted) / sources.length);
  const size = Math.min(CHUNK.max, Math.max(CHUNK.min, share));
  const runs: Run<Row>[] = [];
  for (const source of sources) {
    const chunk = source(null, size);
    if (chunk.length > 0) runs.push({ source, chunk, at: 0 });
  }
  const nextOf = (run: Run<Row>) => run.chunk[run.at] as Row;
  let last: Row | null = null;
  while (runs.length > 0) {
    let first = runs[0] as Run<Row>;
    for (let index = 1; index < runs.length; index++) {
      const run = runs[index] as Run<Row>;
      if (compare(nextOf(run), nextOf(first)) < 0) first = run;
    }
    const row = nextOf(first);
    first.at++;
    if (last === null || compare(last, row) !== 0) yield row;
    last = row;
    if (first.at < first.chunk.length) continue;
    first.chunk = first.chunk.length === size ? first.source(row, size) : [];
    first.at = 0;
    if (first.chunk.length === 0) runs.splice(runs.indexOf(first), 1);
  }
}

/**
 * The known name that a misspelt one most likely means, for error messages: a typing error, other case, another separator
 * (`tenant_id`, `messages:new`), or a part of the name (`token` for `access_token`).
 */

/** Longer names are no typing errors, and would cost much to compare. */
const MAX_CHARACTERS = 128;
/** One edit for each three characters of the longer name. */
const CHARACTERS_PER_EDIT = 3;

/** @returns the nearest of the known names, the first of several equally near ones; null if none is near */
export function nearest(name: string, known: Iterable<string>): string | null {
  if (name.length > MAX_CHARACTERS) return null;
  const wanted = fold(name);
  let best: string | null = null;
  let least = Number.POSITIVE_INFINITY;
  for (const candidate of known) {
    const other = fold(candidate);
    const allowed = Math.floor(Math.max(wanted.length, other.length) / CHARACTERS_PER_EDIT);
    const edits = isPart(wanted, other) ? Math.min(allowed, editsBetween(wanted, other)) : editsBetween(wanted, other);
    if (edits > allowed || edits >= least) continue;
    best = candidate;
    least = edits;
  }
  return best;
}

/** Without case and separators. */
const fold = (name: string): string => name.toLowerCase().replace(/[^\p{L}\p{N}]/gu, '');

const isPart = (a: string, b: string): boolean =>
  Math.min(a.length, b.length) >= CHARACTERS_PER_EDIT && (a.includes(b) || b.includes(a));

/** Optimal string alignment: insertions, deletions, substitutions, and transpositions of neighbours. */
function editsBetween(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const same = a[row - 1] === b[column - 1];
      let edits = Math.min(at(last, column) + 1, at(current, column - 1) + 1, at(last, column - 1) + (same ? 0 : 1));
      const isSwap = a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
      if (row > 1 && column > 1 && isSwap) edits = Math.min(edits, at(beforeLast, column - 2) + 1);
      current.push(edits);
    }
    beforeLast = last;
    last = current;
  }
  return at(last, b.length);
}

const at = (row: readonly number[], column: number): number => row[column] as number;

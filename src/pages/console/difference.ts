/** What differs between two payloads, member by member, for people who compare two events. */
import { pointerOf } from '../../contract/errors.ts';

export interface Difference {
  /** A JSON Pointer (RFC 6901); empty: the whole. */
  readonly path: string;
  readonly kind: 'changed' | 'added' | 'removed';
  /** JSON; null where it is not there. */
  readonly before: string | null;
  readonly after: string | null;
}

export interface Comparison {
  /** In the order of the members. */
  readonly differences: readonly Difference[];
  /** Members that are equal. */
  readonly equal: number;
  /** There are more differences than these. */
  readonly isCut: boolean;
}

/** More than anyone reads. */
const MAX_DIFFERENCES = 500;
/** Deeper members are compared as wholes. */
const MAX_DEPTH = 50;

export function compare(before: unknown, after: unknown): Comparison {
  const differences: Difference[] = [];
  let equal = 0;

  function note(keys: readonly PropertyKey[], one: unknown, other: unknown): void {
    const kind = one === undefined ? 'added' : other === undefined ? 'removed' : 'changed';
    differences.push({ path: pointerOf(...keys), kind, before: jsonOf(one), after: jsonOf(other) });
  }

  function walk(keys: readonly PropertyKey[], one: unknown, other: unknown): void {
    if (differences.length > MAX_DIFFERENCES) return;
    if (!isBranch(one) || !isBranch(other) || Array.isArray(one) !== Array.isArray(other) || keys.length >= MAX_DEPTH) {
      if (jsonOf(one) === jsonOf(other)) equal++;
      else note(keys, one, other);
      return;
    }
    const members = new Set([...Object.keys(one), ...Object.keys(other)]);
    if (members.size === 0) equal++;
    for (const key of members) walk([...keys, key], own(one, key), own(other, key));
  }

  walk([], before, after);
  return { differences: differences.slice(0, MAX_DIFFERENCES), equal, isCut: differences.length > MAX_DIFFERENCES };
}

type Branch = Readonly<Record<string, unknown>>;

const isBranch = (value: unknown): value is Branch => typeof value === 'object' && value !== null;

/** A payload may have a member `__proto__`. */
const own = (branch: Branch, key: string): unknown => (Object.hasOwn(branch, key) ? branch[key] : undefined);

const jsonOf = (value: unknown): string | null => (value === undefined ? null : JSON.stringify(value));

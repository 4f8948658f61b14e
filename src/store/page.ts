/**
 * A page of a state list, put together from steps.
 *
 * A step of the engine looks at a bounded number of rows, so that no caller holds the engine for long. A page takes a
 * bounded number of steps, so one request does bounded work: a filter that matches almost nothing ends a page early,
 * even with no item, and the client goes on with `nextPage` (protocol §7).
 */
import type { Cursor } from '../contract/cursor.ts';
import type { StatePage } from './store.ts';

/** The most payload characters that one step loads. */
const STEP_CHARS = 2 * 1024 * 1024;
/** More than a page of the largest `maxChars` needs, if nothing is filtered out. */
const MAX_STEPS = 16;

export interface StepRange {
  /** The `next` of the step before; null for the first. */
  readonly from: string | null;
  /** The most items of this step. */
  readonly want: number;
  /** The step ends with the row that brings the payloads past this many characters. */
  readonly maxChars: number;
}

export interface StateStep {
  /** JSON texts, and the position of each. */
  readonly items: readonly string[];
  readonly positions: readonly string[];
  /** The position of the last row that the step looked at; null if it found that no row follows. */
  readonly next: string | null;
  /** The head of the log that the step reflects. */
  readonly cursor: Cursor;
}

/** The page ends after `limit` items, or with the item that brings it past `maxChars`; `page` is where it starts. */
export async function collectPage(
  { limit, maxChars, page }: { readonly limit: number; readonly maxChars: number; readonly page: string | null },
  readStep: (range: StepRange) => Promise<StateStep>,
): Promise<StatePage> {
  const items: string[] = [];
  let chars = 0;
  let last: string | null = null;
  let from = page;
  let cursor: Cursor | null = null;
  for (let steps = 1; ; steps++) {
    // One more than the page holds tells whether another page follows.
    const step = await readStep({
      from,
      want: limit + 1 - items.length,
      maxChars: Math.min(STEP_CHARS, maxChars - chars),
    });
    // The head of the first step: every change between the steps comes after it in the log.
    cursor ??= step.cursor;
    from = step.next;
    for (const [index, payload] of step.items.entries()) {
      if (items.length === limit || chars > maxChars) return { items, nextPage: last, cursor };
      last = step.positions[index] as string;
      items.push(payload);
      chars += payload.length;
    }
    if (from === null) return { items, nextPage: null, cursor };
    if (chars > maxChars) return { items, nextPage: last, cursor };
    if (steps === MAX_STEPS) return { items, nextPage: from, cursor };
  }
}

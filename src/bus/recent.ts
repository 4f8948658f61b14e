/**
 * The newest records of the log, in memory, by audience.
 *
 * The handover from replay to live ends here, synchronously, at any publish rate; and a storm of reconnects is served
 * without touching the store. It holds nothing that the log does not: records that are trimmed or erased there are
 * forgotten here.
 */
import type { Cursor } from '../contract/cursor.ts';
import type { LogRecord } from '../contract/frames.ts';

/** A power of two. */
const MAX_RECORDS = 16_384;
/** Payload text, in characters. Older records are evicted past either limit. */
const MAX_CHARS = 8 * 1024 * 1024;
/** Steps in memory, shared by clients that reconnect together: more than lie between the first and the last of them. */
const MAX_STEPS = 16;
/** After so many evictions, a share of the audiences is looked through for those that have no record any more. */
const SWEEP_EVICTIONS = 256;
/** Two sweeps of all audiences while every record is replaced. */
const SWEEP_SHARE = SWEEP_EVICTIONS / (MAX_RECORDS / 2);

/** Some records of the log, in cursor order. */
export interface LogPage {
  /** Equal queries get the same array from memory, so that they share its batch (batch.ts). */
  readonly records: readonly LogRecord[];
  /** The end of the page: its last record if there are more, else the newest record of the log. */
  readonly position: Cursor;
  readonly more: boolean;
}

export interface Recent {
  push(records: readonly LogRecord[]): void;
  /** Whether the cursor certainly names a record of the log. False: ask the store. */
  knows(cursor: string): boolean;
  /** Records of any of the audiences after `position`; null if some of them may be in the store only. */
  after(audiences: readonly string[], position: Cursor, limit: number, maxChars: number): LogPage | null;
  /** All records accepted since then are here. Milliseconds since 1970. */
  readonly sinceMs: number;
  audiences(): Iterable<string>;
  /** How many records of the audience were accepted since then. */
  count(audience: string, sinceMs: number): number;
  forget(through: Cursor): void;
  /** Forgets everything; the log continues after `head`. */
  restart(head: Cursor): void;
}

/** Equal queries have equal keys, because no element contains a space (protocol §2). */
export function stepKey(audiences: readonly string[], position: Cursor, limit: number, maxChars: number): string {
  return `${position} ${limit} ${maxChars} ${audiences.join(' ')}`;
}

/** The numbers of an audience's records, ascending. The number of an evicted record stays until `dropOld` removes it. */
interface Numbers {
  list: number[];
  /** Where the list begins: `dropOld` removed the numbers before this index. */
  start: number;
}

export function createRecent(head: Cursor): Recent {
  let floor = head;
  let newest = head;
  let chars = 0;
  /** A ring: records have the numbers from `first` to before `next`, and record n is at `n % MAX_RECORDS`. */
  let ring: (LogRecord | undefined)[] = [];
  let first = 0;
  let next = 0;
  let byAudience = new Map<string, Numbers>();
  let sweep = byAudience.entries();
  let sinceMs = Date.now();
  const steps = new Map<string, LogPage>();

  const numbered = (number: number): LogRecord => ring[number & (MAX_RECORDS - 1)] as LogRecord;

  function add(record: LogRecord): void {
    if (next - first === MAX_RECORDS) evict();
    ring[next & (MAX_RECORDS - 1)] = record;
    chars += record.payload.length;
    newest = record.id;
    for (const audience of record.audiences) {
      const numbers = numbersOf(audience);
      if (numbers === undefined) byAudience.set(audience, { list: [next], start: 0 });
      else numbers.list.push(next);
    }
    next++;
    while (chars > MAX_CHARS && next - first > 1) evict();
  }

  function evict(): void {
    const record = numbered(first);
    ring[first & (MAX_RECORDS - 1)] = undefined;
    first++;
    floor = record.id;
    sinceMs = Math.max(sinceMs, record.acceptedAtMs);
    chars -= record.payload.length;
    if (first % SWEEP_EVICTIONS === 0) sweepSome(byAudience.size * SWEEP_SHARE);
  }

  function sweepSome(count: number): void {
    for (let swept = 0; swept < count; swept++) {
      const { value } = sweep.next();
      if (value === undefined) {
        sweep = byAudience.entries();
        return;
      }
      if (hasOldOnly(value[1])) byAudience.delete(value[0]);
    }
  }

  function sweepAll(): void {
    for (const [audience, numbers] of byAudience) if (hasOldOnly(numbers)) byAudience.delete(audience);
  }

  function hasOldOnly(numbers: Numbers): boolean {
    dropOld(numbers);
    return numbers.start === numbers.list.length;
  }

  /** Removes the numbers of evicted records, in amortised constant time. */
  function dropOld(numbers: Numbers): void {
    const { list } = numbers;
    while (numbers.start < list.length && (list[numbers.start] as number) < first) numbers.start++;
    if (numbers.start <= 64 || numbers.start * 2 <= list.length) return;
    numbers.list = list.slice(numbers.start);
    numbers.start = 0;
  }

  /** Of records that are still here; undefined if the audience is not known. */
  function numbersOf(audience: string): Numbers | undefined {
    const numbers = byAudience.get(audience);
    if (numbers !== undefined) dropOld(numbers);
    return numbers;
  }

  return {
    push(added) {
      for (const record of added) add(record);
    },

    knows(cursor) {
      if (cursor === floor) return true;
      const number = lowest(first, next, (at) => numbered(at).id >= cursor);
      return number < next && numbered(number).id === cursor;
    },

    after(audiences, position, limit, maxChars) {
      if (position < floor) return null;
      const key = stepKey(audiences, position, limit, maxChars);
      const known = steps.get(key);
      // A step with more records after it never changes. The last step ends where the log ended at that time.
      if (known?.more || known?.position === newest) return known;
      const step = take(audiences, position, limit, maxChars);
      if (steps.size === MAX_STEPS) steps.delete(steps.keys().next().value as string);
      steps.set(key, step);
      return step;
    },

    get sinceMs() {
      return sinceMs;
    },
    *audiences() {
      for (const [audience, numbers] of byAudience) if (!hasOldOnly(numbers)) yield audience;
    },
    count(audience, fromMs) {
      const numbers = numbersOf(audience);
      if (numbers === undefined) return 0;
      const { list, start } = numbers;
      // Approximate: the clocks of nodes may differ a little, so the records are not strictly in order of time.
      return list.length - lowest(start, list.length, (at) => numbered(list[at] as number).acceptedAtMs >= fromMs);
    },

    forget(through) {
      steps.clear();
      const before = first;
      while (next > first && numbered(first).id <= through) evict();
      // An erasure should not leave the names of rooms behind.
      if (first > before) sweepAll();
      if (through > floor) {
        floor = through;
        if (through > newest) newest = through;
      }
    },

    restart(at) {
      floor = at;
      newest = at;
      chars = 0;
      ring = [];
      first = 0;
      next = 0;
      byAudience = new Map();
      sweep = byAudience.entries();
      steps.clear();
      sinceMs = Date.now();
    },
  };

  function take(audiences: readonly string[], position: Cursor, limit: number, maxChars: number): LogPage {
    const found = merge(audiences, position, limit + 1);
    let taken = 0;
    let size = 0;
    while (taken < found.length && taken < limit && (taken === 0 || size < maxChars)) {
      size += (found[taken] as LogRecord).payload.length;
      taken++;
    }
    const more = taken < found.length;
    const last = found[taken - 1];
    const end = newest > position ? newest : position;
    return { records: found.slice(0, taken), position: more && last !== undefined ? last.id : end, more };
  }

  function merge(audiences: readonly string[], position: Cursor, max: number): LogRecord[] {
    const lists: LogRecord[][] = [];
    for (const audience of audiences) {
      const numbers = numbersOf(audience);
      if (numbers === undefined) continue;
      const { list, start } = numbers;
      const from = lowest(start, list.length, (at) => numbered(list[at] as number).id > position);
      if (from < list.length) lists.push(list.slice(from, from + max).map(numbered));
    }
    if (lists.length <= 1) return lists[0] ?? [];
    const unique = new Set(lists.flat());
    return [...unique].sort((a, b) => (a.id < b.id ? -1 : 1)).slice(0, max);
  }
}

/** The lowest number from `low` to before `high` of which `matches` is true, as it is for all after it; else `high`. */
function lowest(low: number, high: number, matches: (number: number) => boolean): number {
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (matches(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

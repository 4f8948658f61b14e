/**
 * The newest records of the log, in memory, by audience.
 *
 * The handover from replay to live ends here, synchronously, at any publish rate; and a storm of reconnects is served
 * without touching the store. It holds nothing that the log does not: records that are trimmed or erased there are
 * forgotten here.
 */
import type { Cursor } from '../contract/cursor.ts';
import type { LogRecord } from '../contract/frames.ts';

const MAX_RECORDS = 16_384;
/** Payload text, in characters. Older records are evicted past either limit. */
const MAX_CHARS = 8 * 1024 * 1024;
/** Steps in memory, shared by clients that reconnect together: more than lie between the first and the last of them. */
const MAX_STEPS = 16;

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

export function createRecent(head: Cursor): Recent {
  let floor = head;
  let newest = head;
  let chars = 0;
  let records = new Fifo();
  let byAudience = new Map<string, Fifo>();
  let sinceMs = Date.now();
  const steps = new Map<string, LogPage>();

  function evict(): void {
    const record = records.shift() as LogRecord;
    floor = record.id;
    sinceMs = Math.max(sinceMs, record.acceptedAtMs);
    chars -= record.payload.length;
    for (const audience of record.audiences) {
      const fifo = byAudience.get(audience) as Fifo;
      fifo.shift();
      if (fifo.length === 0) byAudience.delete(audience);
    }
  }

  return {
    push(added) {
      for (const record of added) {
        records.push(record);
        chars += record.payload.length;
        newest = record.id;
        for (const audience of record.audiences) {
          const fifo = byAudience.get(audience) ?? new Fifo();
          if (fifo.length === 0) byAudience.set(audience, fifo);
          fifo.push(record);
        }
      }
      while (records.length > MAX_RECORDS || (chars > MAX_CHARS && records.length > 1)) evict();
    },

    knows: (cursor) => cursor === floor || records.has(cursor),

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
    audiences: () => byAudience.keys(),
    count: (audience, fromMs) => byAudience.get(audience)?.countSince(fromMs) ?? 0,

    forget(through) {
      steps.clear();
      while (records.length > 0 && (records.first as LogRecord).id <= through) evict();
      if (through > floor) {
        floor = through;
        if (through > newest) newest = through;
      }
    },

    restart(at) {
      floor = at;
      newest = at;
      chars = 0;
      records = new Fifo();
      byAudience = new Map();
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
      const slice = byAudience.get(audience)?.after(position, max);
      if (slice !== undefined && slice.length > 0) lists.push(slice);
    }
    if (lists.length <= 1) return lists[0] ?? [];
    const unique = new Set(lists.flat());
    return [...unique].sort((a, b) => (a.id < b.id ? -1 : 1)).slice(0, max);
  }
}

/** First in, first out, with a binary search by id. Shifting is O(1) amortised, unlike an array's. */
class Fifo {
  #items: (LogRecord | undefined)[] = [];
  #start = 0;

  get length(): number {
    return this.#items.length - this.#start;
  }

  get first(): LogRecord | undefined {
    return this.#items[this.#start];
  }

  push(record: LogRecord): void {
    this.#items.push(record);
  }

  shift(): LogRecord | undefined {
    const record = this.#items[this.#start];
    this.#items[this.#start++] = undefined;
    if (this.#start > 64 && this.#start * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#start);
      this.#start = 0;
    }
    return record;
  }

  has(cursor: string): boolean {
    return this.#items[this.#firstWhere((record) => record.id >= cursor)]?.id === cursor;
  }

  after(position: Cursor, max: number): LogRecord[] {
    const from = this.#firstWhere((record) => record.id > position);
    return this.#items.slice(from, from + max) as LogRecord[];
  }

  /** Approximate: the clocks of nodes may differ a little, so the records are not strictly in order of time. */
  countSince(sinceMs: number): number {
    return this.#items.length - this.#firstWhere((record) => record.acceptedAtMs >= sinceMs);
  }

  #firstWhere(matches: (record: LogRecord) => boolean): number {
    let low = this.#start;
    let high = this.#items.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (matches(this.#items[middle] as LogRecord)) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

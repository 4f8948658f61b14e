/**
 * Records that go to a listener together, with what each transport made of them.
 *
 * A batch is shared by all listeners of the same rooms, so that it is encoded once and written once per connection and
 * commit (design law 6). Encodings of single records are kept as well: replays put the same records into other batches.
 * What stays in memory with its record keeps few of them, since clients may think up any number of views.
 */
import { LEGACY_NAMES } from '../contract/events.ts';
import type { LogRecord } from '../contract/frames.ts';

export interface Batch {
  /** At least one, in cursor order. */
  readonly records: readonly LogRecord[];
  /** UTF-8 bytes of the payloads, each counted once. */
  readonly bytes: number;
  /** The most bytes that the group of one record may take on the wire. */
  readonly largestGroupBytes: number;
  readonly encodings: Map<string, unknown>;
}

const MOST_NAMES = 1 + Math.max(...Object.values(LEGACY_NAMES).map((names) => names.length));
/** A legacy payload repeats the entity's fields beneath the envelope, so it is up to twice the canonical one. */
export const GROUP_FACTOR = 2 * MOST_NAMES;

export function createBatch(records: readonly LogRecord[]): Batch {
  let bytes = 0;
  let largest = 0;
  for (const record of records) {
    const size = Buffer.byteLength(record.payload);
    bytes += size;
    if (size > largest) largest = size;
  }
  return { records, bytes, largestGroupBytes: GROUP_FACTOR * largest, encodings: new Map() };
}

/** Encodings that a record, or a batch of a replay, keeps: stock clients and our own ask for no more. */
const MOST_KEPT = 6;
/** The same of a batch, where each comes with a tally (transports/delivery-counter.ts). */
const MOST_KEPT_OF_BATCH = 2 * MOST_KEPT;

const shared = new WeakMap<readonly LogRecord[], Batch>();

/** The batch of these very records: who is handed the same array is handed the same batch, until it keeps too much. */
export function batchOf(records: readonly LogRecord[]): Batch {
  let batch = shared.get(records);
  if (batch === undefined || batch.encodings.size > MOST_KEPT_OF_BATCH) {
    batch = createBatch(records);
    shared.set(records, batch);
  }
  return batch;
}

/** The batch's encoding under `key`, made on first use. */
export function encodeBatch<T>(batch: Batch, key: string, make: (batch: Batch) => T): T {
  let encoding = batch.encodings.get(key) as T | undefined;
  if (encoding === undefined) {
    encoding = make(batch);
    batch.encodings.set(key, encoding);
  }
  return encoding;
}

const recordEncodings = new WeakMap<LogRecord, Map<string, unknown>>();

/** The record's encoding under `key`, made on first use. The newest few are kept as long as the record is in memory. */
export function encodeRecord<T>(record: LogRecord, key: string, make: (record: LogRecord) => T): T {
  let encodings = recordEncodings.get(record);
  if (encodings === undefined) {
    encodings = new Map();
    recordEncodings.set(record, encodings);
  }
  let encoding = encodings.get(key) as T | undefined;
  if (encoding === undefined) {
    encoding = make(record);
    if (encodings.size === MOST_KEPT) encodings.delete(encodings.keys().next().value as string);
    encodings.set(key, encoding);
  }
  return encoding;
}

/** Records of both batches, each once, in cursor order. */
export function uniteBatches(a: Batch, b: Batch): Batch {
  if (includesAll(a, b)) return a;
  if (includesAll(b, a)) return b;
  const byId = new Map([...a.records, ...b.records].map((record) => [record.id, record]));
  return createBatch([...byId.values()].sort((x, y) => (x.id < y.id ? -1 : 1)));
}

function includesAll(whole: Batch, part: Batch): boolean {
  let index = 0;
  for (const record of part.records) {
    while (index < whole.records.length && whole.records[index] !== record) index++;
    if (index === whole.records.length) return false;
  }
  return true;
}

/**
 * Batches: records that go to a subscription together, with the encodings that transports made of them.
 *
 * All listeners of the same rooms share a batch, so it is encoded once per view and written once per connection and
 * fan-out (design law 6). Each record keeps encodings too, because replays put it into other batches. Both keep only a
 * few: clients can invent any number of views.
 */
import { LEGACY_NAMES } from '../contract/events.ts';
import type { LogRecord } from '../contract/frames.ts';

export interface Batch {
  /** At least one, in cursor order. */
  readonly records: readonly LogRecord[];
  /** UTF-8 bytes of the payloads. */
  readonly bytes: number;
  /** The most bytes that one record can take on a transport, with its legacy events. */
  readonly largestGroupBytes: number;
  readonly encodings: Map<string, unknown>;
}

const MAX_NAMES = 1 + Math.max(...Object.values(LEGACY_NAMES).map((names) => names.length));
/** A legacy payload repeats the entity's fields under the envelope, so it is up to twice as long as the canonical one. */
export const GROUP_FACTOR = 2 * MAX_NAMES;

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

/** Encodings that one record keeps. Stock clients and our own need no more. */
const MAX_ENCODINGS = 6;
/** Beside each encoding, a batch holds a tally of its deliveries (transports/delivery-counter.ts). */
const MAX_BATCH_ENCODINGS = 2 * MAX_ENCODINGS;

const shared = new WeakMap<readonly LogRecord[], Batch>();

/** The batch of this array. The same array gives the same batch, until the batch holds too many encodings. */
export function batchOf(records: readonly LogRecord[]): Batch {
  let batch = shared.get(records);
  if (batch === undefined || batch.encodings.size > MAX_BATCH_ENCODINGS) {
    batch = createBatch(records);
    shared.set(records, batch);
  }
  return batch;
}

/** The batch's encoding under `key`, created on first use. */
export function encodeBatch<T>(batch: Batch, key: string, make: (batch: Batch) => T): T {
  let encoding = batch.encodings.get(key) as T | undefined;
  if (encoding === undefined) {
    encoding = make(batch);
    batch.encodings.set(key, encoding);
  }
  return encoding;
}

const recordEncodings = new WeakMap<LogRecord, Map<string, unknown>>();

/** The record's encoding under `key`, created on first use. A record in memory keeps the newest few. */
export function encodeRecord<T>(record: LogRecord, key: string, make: (record: LogRecord) => T): T {
  const encodings = recordEncodings.get(record) ?? new Map<string, unknown>();
  let encoding = encodings.get(key) as T | undefined;
  if (encoding === undefined) {
    encoding = make(record);
    recordEncodings.set(record, encodings);
    if (encodings.size === MAX_ENCODINGS) encodings.delete(encodings.keys().next().value as string);
    encodings.set(key, encoding);
  }
  return encoding;
}

/** The records of both batches, each once, in cursor order. */
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

/** Records and the bridge's own events as Server-Sent Events text (protocol §6; WHATWG HTML §9.2), encoded once per view. */
import { type Batch, encodeBatch, encodeRecord } from '../../bus/batch.ts';
import type { Cursor } from '../../contract/cursor.ts';
import type { BridgeError } from '../../contract/errors.ts';
import { framesOf, type LogRecord, type View } from '../../contract/frames.ts';
import { BRIDGE_CURSOR, BRIDGE_ERROR, BRIDGE_RESET } from '../../contract/names.ts';
import type { Reset } from '../../contract/reset.ts';
import { type Signal, signalPayload } from '../../contract/signals.ts';
import { createSignalEncoder } from '../signals.ts';
import { type Chunk, chunkOf } from './response-writer.ts';

/** Shared by all streams of one view. Null if the view shows nothing of the batch. */
export type Encoder = (batch: Batch) => Chunk | null;

export function createEncoder(view: View): Encoder {
  const key = `sse:${view.key}`;
  const encode = ({ records }: Batch): Chunk | null => {
    const chunks = records.map((record) => encodeOne(record, key, view)).filter((chunk) => chunk !== null);
    const [first = null] = chunks;
    return chunks.length <= 1 ? first : chunkOf(chunks.map(({ bytes }) => bytes));
  };
  return (batch) => encodeBatch(batch, key, encode);
}

function encodeOne(record: LogRecord, key: string, view: View): Chunk | null {
  return encodeRecord(record, key, () => {
    const frames = framesOf(record, view);
    if (frames.length === 0) return null;
    let text = '';
    for (const { event, payload, cursor } of frames) text += block(event, cursor, payload);
    // A view of legacy names alone would never move the client's cursor.
    if (frames.at(-1)?.cursor === null) text += cursorBlock(record.id);
    return chunkOf(text);
  });
}

/** JSON text contains no line break, so it fits on one `data` line. */
function block(event: string, id: string | null, data: string): string {
  return `event: ${event}\n${id === null ? '' : `id: ${id}\n`}data: ${data}\n\n`;
}

/** A signal has no cursor, so its block has no `id`. */
export const encodeSignals = createSignalEncoder(
  (signal: Signal): Chunk => chunkOf(block(signal.event, null, signalPayload(signal))),
  (chunks) => chunkOf(chunks.map(({ bytes }) => bytes)),
);

/** An event with a name and data, because some clients ignore the id of a block without data (protocol §6). */
export function cursorBlock(cursor: Cursor): string {
  return block(BRIDGE_CURSOR, cursor, '{}');
}

export function resetBlock({ reason, after, oldest, cursor }: Reset): string {
  return block(BRIDGE_RESET, cursor, JSON.stringify({ reason, after, oldest, cursor }));
}

export function errorBlock({ code, message }: BridgeError): string {
  return block(BRIDGE_ERROR, null, JSON.stringify({ code, message }));
}

/**
 * A cursor names a place in one log (protocol §1): opaque to clients, comparable as a byte string within its log.
 *
 * Made of the log's epoch (so that a cursor of another log is `unknown`, never matched by chance), the record's
 * sequence number in fixed width (so that strings compare as numbers do), and a nonce drawn for the record (so that a
 * log which lost its tail, by a restored backup or a failover, does not mistake an old cursor for a new record).
 */
declare const brand: unique symbol;
export type Cursor = string & { readonly [brand]: 'Cursor' };

export interface CursorParts {
  /** 8 characters `[0-9a-z]`: the identity of the log. */
  readonly epoch: string;
  /** 0 is the place before the first record. At most 2^53 − 1. */
  readonly seq: number;
  /** 4 characters `[0-9a-z]`; `0000` for seq 0. */
  readonly nonce: string;
}

/** 36^11 > 2^53. */
const SEQ_WIDTH = 11;
const OWN = /^([0-9a-z]{8})-([0-9a-z]{11})-([0-9a-z]{4})$/;
const MAX_LENGTH = 64;
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused (protocol §8)
const MALFORMED = /[\s\u0000-\u001f\u007f-\u009f]/u;

export const GENESIS_NONCE = '0000';

export function formatCursor({ epoch, seq, nonce }: CursorParts): Cursor {
  return `${epoch}-${seq.toString(36).padStart(SEQ_WIDTH, '0')}-${nonce}` as Cursor;
}

/** Takes apart a cursor of this format; null for anything else, which can name no record of any log of ours. */
export function parseCursor(text: string): CursorParts | null {
  const match = OWN.exec(text);
  if (match === null) return null;
  const seq = Number.parseInt(match[2] as string, 36);
  return Number.isSafeInteger(seq) ? { epoch: match[1] as string, seq, nonce: match[3] as string } : null;
}

/** protocol §8: empty, over 64 characters, or with whitespace or control characters is malformed (400). */
export function isWellFormedCursor(text: string): boolean {
  return text.length > 0 && text.length <= MAX_LENGTH && !MALFORMED.test(text);
}

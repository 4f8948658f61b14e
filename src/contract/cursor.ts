/**
 * A cursor is a position in one log (protocol §1). Clients treat it as opaque; cursors of one log sort as byte strings.
 *
 * Three parts: the log's epoch, so a cursor of another log is `unknown` and never matches by chance; the record's
 * sequence number in fixed width, so strings sort like numbers; and a random nonce per record, so a log that lost its
 * tail (a restored backup, a failover) does not confuse an old cursor with a new record.
 */
declare const brand: unique symbol;
export type Cursor = string & { readonly [brand]: 'Cursor' };

export interface CursorParts {
  /** 8 characters `[0-9a-z]`: the identity of the log. */
  readonly epoch: string;
  /** 0 is the position before the first record. At most 2^53 − 1. */
  readonly seq: number;
  /** 4 characters `[0-9a-z]`; `0000` for seq 0. */
  readonly nonce: string;
}

/** 36^11 > 2^53. */
const SEQ_WIDTH = 11;
const FORMAT = /^([0-9a-z]{8})-([0-9a-z]{11})-([0-9a-z]{4})$/;
const MAX_LENGTH = 64;
export const CURSOR_RULE = `1 to ${MAX_LENGTH} characters without whitespace or control characters`;
/** `CURSOR_RULE` as JSON Schema, for the API's descriptions. */
export const CURSOR_SCHEMA = {
  type: 'string',
  minLength: 1,
  maxLength: MAX_LENGTH,
  pattern: '^[^\\s\\u0000-\\u001f\\u007f-\\u009f]*$',
} as const;
// biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern finds control characters
const MALFORMED = /[\s\u0000-\u001f\u007f-\u009f]/u;

export const GENESIS_NONCE = '0000';

export function formatCursor({ epoch, seq, nonce }: CursorParts): Cursor {
  return `${epoch}-${seq.toString(36).padStart(SEQ_WIDTH, '0')}-${nonce}` as Cursor;
}

/** Null if the text does not have this format; then it names no record of any Roomcast log. */
export function parseCursor(text: string): CursorParts | null {
  const match = FORMAT.exec(text);
  if (match === null) return null;
  const seq = Number.parseInt(match[2] as string, 36);
  return Number.isSafeInteger(seq) ? { epoch: match[1] as string, seq, nonce: match[3] as string } : null;
}

/** Whether the text keeps `CURSOR_RULE`. Other text is a malformed cursor (protocol §8). */
export function isWellFormedCursor(text: string): boolean {
  return text.length > 0 && text.length <= MAX_LENGTH && !MALFORMED.test(text);
}

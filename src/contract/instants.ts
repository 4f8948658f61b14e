/** Instants of payloads, compared with the full precision of their text, where `Date` has milliseconds only. */

/** 0001-01-01 is about 62 billion seconds before 1970: the sum is positive for every four-digit year. */
const SECONDS_OFFSET = 70_000_000_000;

/**
 * A key that sorts as a byte string in the order of instants, with the full precision of the text: seconds since 1970
 * (shifted to be positive, 12 digits), a dot, and the fraction without trailing zeros.
 * @throws {RangeError} if the text is not an ISO 8601 instant
 */
export function instantKey(text: string): string {
  const match = /^(.*?)(?:[.,](\d+))?(Z|[+-]\d\d:?\d\d)$/i.exec(text);
  const milliseconds = match === null ? Number.NaN : Date.parse(`${match[1]}${match[3]}`);
  if (Number.isNaN(milliseconds)) throw new RangeError(`not an ISO 8601 instant: ${text}`);
  const seconds = (milliseconds / 1000 + SECONDS_OFFSET).toString().padStart(12, '0');
  return `${seconds}.${(match?.[2] ?? '').replace(/0+$/, '')}`;
}

const [T, DOT, ZERO, Z] = [0x54, 0x2e, 0x30, 0x5a];

/** {@link instantKey} of an instant that passed the checks; several times as fast for the form that JavaScript writes. */
export function quickInstantKey(text: string): string {
  const isOfJavaScript =
    text.length === '2026-01-31T12:00:00.000Z'.length &&
    text.charCodeAt(10) === T &&
    text.charCodeAt(19) === DOT &&
    text.charCodeAt(23) === Z;
  if (!isOfJavaScript) return instantKey(text);
  const seconds = Math.floor(Date.parse(text) / 1000) + SECONDS_OFFSET;
  if (Number.isNaN(seconds)) return instantKey(text);
  let end = 23;
  while (text.charCodeAt(end - 1) === ZERO) end--;
  return `${String(seconds).padStart(12, '0')}.${text.slice(20, end)}`;
}

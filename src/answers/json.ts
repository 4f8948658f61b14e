/**
 * Where a text stops being JSON (RFC 8259), for error messages. The message of `JSON.parse` quotes the text, which may
 * hold secrets, and often has no position.
 */
export interface JsonFault {
  /** From 1; lines end with a line feed. */
  readonly line: number;
  /** From 1, in UTF-16 code units. */
  readonly column: number;
  /** Completes "expected …". */
  readonly expected: string;
}

const WHITESPACE = /[ \t\n\r]*/y;
// biome-ignore lint/suspicious/noControlCharactersInRegex: a string must escape them
const STRING_PART = /[^"\\\u0000-\u001f]+|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})/y;
const SCALAR = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y;

const A_VALUE = 'a value';
const A_KEY = 'a key in double quotes';

/** @param text a text that `JSON.parse` refuses */
export function locateJsonFault(text: string): JsonFault {
  /** The closing brackets of what is open. */
  const open: ('}' | ']')[] = [];
  let at = 0;

  const skip = (pattern: RegExp): boolean => {
    pattern.lastIndex = at;
    if (!pattern.test(text)) return false;
    at = pattern.lastIndex;
    return true;
  };
  const take = (character: string): boolean => {
    skip(WHITESPACE);
    if (text[at] !== character) return false;
    at++;
    return true;
  };
  const fault = (expected: string): JsonFault => {
    const before = text.slice(0, at);
    const line = before.split('\n').length;
    return { line, column: at - before.lastIndexOf('\n'), expected };
  };
  /** What a string lacks; null if it is whole. `at` is behind its opening quote. */
  const faultOfString = (): JsonFault | null => {
    while (skip(STRING_PART));
    if (text[at] === '"') {
      at++;
      return null;
    }
    return fault(text[at] === undefined ? 'the end of a string' : 'an escape sequence');
  };

  for (;;) {
    // A value, in an object after its key.
    if (open.at(-1) === '}') {
      if (!take('"')) return fault(A_KEY);
      const inKey = faultOfString();
      if (inKey !== null) return inKey;
      if (!take(':')) return fault('a colon');
    }
    if (take('{')) {
      open.push('}');
      if (!take('}')) continue;
      open.pop();
    } else if (take('[')) {
      open.push(']');
      if (!take(']')) continue;
      open.pop();
    } else if (take('"')) {
      const inString = faultOfString();
      if (inString !== null) return inString;
    } else if (!skip(SCALAR)) return fault(A_VALUE);
    // What follows a value.
    for (;;) {
      const closing = open.at(-1);
      if (closing === undefined) {
        skip(WHITESPACE);
        return fault('the end of the text');
      }
      if (take(',')) break;
      if (!take(closing)) return fault(`a comma or ${closing}`);
      open.pop();
    }
  }
}

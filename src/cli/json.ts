/** JSON that a person wrote: what is wrong with it, and where, with the place shown. */
import { type JsonFault, locateJsonFault } from '../answers/json.ts';
import { printable } from '../contract/printable.ts';
import { widthOf } from './terminal.ts';

export type Parsed = { readonly value: unknown } | { readonly fault: JsonFault; readonly place: readonly string[] };

/** Characters that are shown before and after the place. */
const AROUND = 36;

export function parseJson(text: string): Parsed {
  try {
    return { value: JSON.parse(text) };
  } catch {
    const fault = locateJsonFault(text);
    return { fault, place: placeOf(text, fault) };
  }
}

/** `not JSON at line 2, column 5: expected a comma or }`; without the line, if the text is one of many lines. */
export function faultText({ line, column, expected }: JsonFault, isOneLine = false): string {
  return `not JSON at ${isOneLine ? '' : `line ${line}, `}column ${column}: expected ${expected}`;
}

/** The line with the fault, and a mark below it. */
function placeOf(text: string, { line, column }: JsonFault): string[] {
  const shown = (text.split('\n', line)[line - 1] ?? '').replace(/\r$/, '');
  const from = Math.max(0, column - 1 - AROUND);
  const before = `${from > 0 ? '…' : ''}${printable(shown.slice(from, column - 1))}`;
  const after = printable(shown.slice(column - 1, column - 1 + AROUND));
  const isCut = shown.length > column - 1 + AROUND;
  return [`  ${before}${after}${isCut ? '…' : ''}`, `  ${' '.repeat(widthOf(before))}^`];
}

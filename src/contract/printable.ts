/**
 * JSON text that is safe to show. Characters that a terminal obeys, or that reorder the text around them (bidirectional
 * marks can disguise a payload), become JSON escapes: the value stays the same and every character is visible.
 */

/** C1 controls, line separators, and bidirectional marks, embeddings and isolates. */
const UNSAFE = /[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

export function printableJson(text: string): string {
  return text.replaceAll(UNSAFE, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/**
 * Text from outside that is safe to show. Characters that a terminal obeys, or that reorder the text around them (bidirectional
 * marks can disguise a payload), become JSON escapes: the value stays the same and every character is visible.
 */

/** C1 controls, line separators, and bidirectional marks, embeddings and isolates. */
const UNSAFE = /[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

const MAX_NAME_CHARACTERS = 64;

/** A name from outside, for an error message: quoted unless it is plain, cut if it is long. */
export function printableName(name: string): string {
  const cut = name.length > MAX_NAME_CHARACTERS ? `${name.slice(0, MAX_NAME_CHARACTERS)}…` : name;
  return /^[\w.:/-]+$/.test(cut) ? cut : printableJson(JSON.stringify(cut));
}

export function printableJson(text: string): string {
  return text.replaceAll(UNSAFE, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

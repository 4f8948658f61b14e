/**
 * JSON text for people's eyes. What a terminal obeys, and what turns the text around it (the marks of direction, with
 * which a payload could show itself as another), is escaped as JSON allows: the same value, told as it stands.
 */

/** C1 controls, line separators, marks, embeddings and isolates of direction. */
const OBEYED = /[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

export function shownJson(text: string): string {
  return text.replaceAll(OBEYED, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/**
 * Text from outside that is safe to show. Characters that a terminal obeys, or that reorder the text around them
 * (bidirectional marks can disguise it), become JSON escapes: every character is visible, and JSON keeps its value.
 */

/** DEL and C1 controls, line separators, and bidirectional marks, embeddings and isolates. JSON text may hold them. */
const UNSAFE = /[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;
/** Of these, JSON text has only line breaks and tabs, between its tokens. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern finds control characters
const C0_CONTROLS = /[\u0000-\u001f]/g;

const escaped = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;

const PLAIN_NAME = /^[\w.:/-]{1,64}$/;
const MAX_NAME_CHARACTERS = 64;

/** A name from outside, for an error message: as JSON, cut if it is long. */
export function quotedName(name: string): string {
  const cut = name.length > MAX_NAME_CHARACTERS ? `${name.slice(0, MAX_NAME_CHARACTERS)}…` : name;
  return printableJson(JSON.stringify(cut));
}

/** The same, without quotes if it is plain. */
export const printableName = (name: string): string => (PLAIN_NAME.test(name) ? name : quotedName(name));

export function printableJson(text: string): string {
  return text.replaceAll(UNSAFE, escaped);
}

/** A JSON Web Token (RFC 7519): its header is JSON, as base64url. */
const TOKEN = /\beyJ[\w-]*\.[\w-]*\.[\w-]*/g;

/** A text from outside, without tokens that stand in it by mistake. */
export const withoutTokens = (text: string): string => text.replaceAll(TOKEN, '(a token)');

/** For one line of text. */
export function printable(text: string): string {
  return printableJson(text).replaceAll(C0_CONTROLS, escaped);
}

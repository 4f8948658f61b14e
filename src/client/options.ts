/**
 * Checks what the application passes. A mistake throws a TypeError that names the option and the right form: a misspelt
 * option, or a room without an id, must not be ignored in silence.
 */
import { isWellFormedCursor } from '../contract/cursor.ts';
import { ID_RULE, idField, isRoomId, KIND_NAME, kindOfField } from '../contract/rooms.ts';

/** What is valid, and the end of the sentence "NAME must be …". It quotes no value: one may be a token. */
export type Rule = readonly [isValid: (value: unknown) => boolean, form: string];

export const atLeast = (min: number): Rule => [
  (value) => typeof value === 'number' && value >= min,
  `a number of at least ${min}`,
];

export const URL_RULE: Rule = [
  isBridgeUrl,
  "an http or https URL such as 'https://bridge.example' without login or query",
];

export const TOKEN_RULE: Rule = [
  (value) => isFunction(value) || isToken(value),
  'printable ASCII, or a function that returns it',
];

export const ID_OPTION_RULE: Rule = [(id) => isId(id), `an id: ${ID_RULE}`];

export const AFTER_RULE: Rule = [
  (value) => value === null || (typeof value === 'string' && isWellFormedCursor(value)),
  "a cursor, 'start' or 'now'",
];

const FIELDS = 'tenantId, ticketId, agreementId, userId, or that of a declared kind, such as queueId';

export const ROOMS_RULE: Rule = [
  (rooms) => isObject(rooms) && !Array.isArray(rooms),
  `an object such as { tenantId: 'tenant-1' }. Its fields: ${FIELDS}`,
];

/** An undefined id is a mistake too: its room would be missing. */
const IDS_RULE: Rule = [(ids) => [ids].flat().every(isId), `an id or a list of ids. An id: ${ID_RULE}`];

/** @throws {TypeError} */
export function check(name: string, value: unknown, [isValid, form]: Rule): void {
  if (!isValid(value)) throw new TypeError(`${name} must be ${form}.`);
}

/** The library cannot know the declared kinds: the bridge refuses one that is not. @throws {TypeError} */
export function checkRooms(rooms: object): void {
  check('rooms', rooms, ROOMS_RULE);
  for (const [field, ids] of Object.entries(rooms)) {
    const meant = fold(field).replace(/ids?$/, '');
    const form = KIND_NAME.test(meant) ? idField(meant) : FIELDS;
    check(`The field "${field}" of rooms`, field, [() => kindOfField(field) !== null, form]);
    check(`rooms.${field}`, ids, IDS_RULE);
  }
}

/** Without case and separators. */
export const fold = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]/g, '');

/** Only `url` is required. @throws {TypeError} */
export function checkOptions(options: object, rules: Readonly<Record<string, Rule>>): void {
  const names = Object.keys(rules).join(', ');
  check('options', options, [isObject, `an object with ${names}`]);
  for (const name of Object.keys(options)) {
    check(`The option "${name}"`, name, [() => Object.hasOwn(rules, name), `one of ${names}`]);
  }
  for (const [name, rule] of Object.entries(rules)) {
    const value = (options as Readonly<Record<string, unknown>>)[name];
    if (value !== undefined || name === 'url') check(name, value, rule);
  }
}

function isObject(value: unknown): value is object {
  return Object(value) === value;
}

export const isFunction = (value: unknown): boolean => typeof value === 'function';

function isId(id: unknown): boolean {
  return Number.isSafeInteger(id) || isRoomId(id);
}

/** Whether `fetch` can send it in a header. Its own error would look as if the bridge were unreachable. */
function isToken(value: unknown): boolean {
  return typeof value === 'string' && /^[ -~]+$/.test(value);
}

/** In a browser, a path is resolved against the page's address. */
function isBridgeUrl(value: unknown): boolean {
  const { location } = globalThis as { readonly location?: { readonly href: string } };
  try {
    new URL(String(value), location?.href); // React Native has no `URL.canParse`
    return /^(https?:\/)?\/[^?#@]*$/i.test(String(value));
  } catch {
    return false;
  }
}

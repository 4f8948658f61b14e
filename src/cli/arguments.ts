/**
 * The arguments of the commands: flags, parsed by node:util's parseArgs, and values that several commands share. A wrong
 * argument is a `UsageError` of one line, which never quotes a token or a secret.
 */
import { type ParseArgsOptionsConfig, parseArgs } from 'node:util';
import { nearest } from '../contract/nearest.ts';
import { ID_RULE, isRoomId, KIND_NAME, type Room } from '../contract/rooms.ts';

/** Wrong usage: main.ts adds a hint to the help, and exits with 2. */
export class UsageError extends Error {
  /** The command whose help applies; null for the program's. */
  readonly command: string | null;
  /** Further lines, such as the place of a fault. */
  readonly details: readonly string[];

  constructor(message: string, command: string | null = null, details: readonly string[] = []) {
    super(message);
    this.name = 'UsageError';
    this.command = command;
    this.details = details;
  }
}

const DEFAULT_URL = 'http://127.0.0.1:4003';

/** Flags of every command that talks to a bridge. */
export const BRIDGE_FLAGS = {
  url: { type: 'string' },
  token: { type: 'string' },
} as const;

export const BRIDGE_HELP = `  --url URL        the bridge's address with its base path (default: ROOMCAST_URL, else ${DEFAULT_URL})
  --token TOKEN    the bearer token (default: ROOMCAST_TOKEN, which other users of this machine cannot see)`;

/** @throws {UsageError} for an unknown flag, a missing value or an unexpected argument */
export function parseFlags<T extends ParseArgsOptionsConfig>(
  command: string,
  argv: readonly string[],
  options: T,
  maxPositionals = 0,
) {
  try {
    const parsed = parseArgs({ args: [...argv], options, strict: true, allowPositionals: true });
    const extra = parsed.positionals[maxPositionals];
    if (extra !== undefined) throw new UsageError(`unexpected argument ${JSON.stringify(extra)}`);
    return parsed;
  } catch (error) {
    // Node explains at length; its first sentence says what is wrong.
    const [sentence = ''] = (error as Error).message.split(/[.\n]/);
    const [, unknown = ''] = /^Unknown option '--?([^']+)'/.exec(sentence) ?? [];
    const near = nearest(unknown, Object.keys(options));
    throw new UsageError(near === null ? sentence : `${sentence}; did you mean --${near}?`, command);
  }
}

/** Ids that the bridge makes are of 20 or 21 characters, and some begin with a dash. They are no flags. */
export function withIds(argv: readonly string[]): readonly string[] {
  const isId = (text: string): boolean => /^-[\w-]{19,20}$/.test(text);
  return argv.some(isId) ? [...argv.filter((text) => !isId(text)), '--', ...argv.filter(isId)] : argv;
}

/** The values of a flag that may be repeated or hold several, comma-separated: ids cannot contain a comma. */
export function listOf(values: readonly string[] | undefined): readonly string[] {
  return (values ?? []).flatMap((text) => text.split(',')).filter((item) => item !== '');
}

/** Whether a kind is declared, the bridge says. @throws {UsageError} if a text cannot be the name of a room */
export function roomsIn(command: string, texts: readonly string[] | undefined): readonly Room[] {
  return listOf(texts).map((text) => {
    const [, kind = '', id = ''] = /^([^:]*):(.*)$/.exec(text) ?? [];
    if (KIND_NAME.test(kind) && isRoomId(id)) return text as Room;
    throw new UsageError(`a room has a kind and an id, such as ticket:123, but got ${JSON.stringify(text)}`, command);
  });
}

/** @throws {UsageError} if a text cannot be an id */
export function idsIn(command: string, flag: string, texts: readonly string[] | undefined): readonly string[] {
  const ids = listOf(texts);
  const wrong = ids.find((id) => !isRoomId(id));
  if (wrong === undefined) return ids;
  throw new UsageError(`--${flag} ${JSON.stringify(wrong)} is no id: an id is ${ID_RULE}`, command);
}

/** @throws {UsageError} if a name is not allowed */
export function checkNames(command: string, flag: string, names: readonly string[], allowed: readonly string[]): void {
  const unknown = names.find((name) => !allowed.includes(name));
  if (unknown === undefined) return;
  throw new UsageError(`unknown --${flag} ${JSON.stringify(unknown)}: use ${allowed.join(', ')}`, command);
}

/** Refuses a URL with credentials without quoting it: `fetch` would refuse it too, and quote it. */
export function bridgeUrl(command: string, value: string | undefined): string {
  const text = value ?? (process.env.ROOMCAST_URL || DEFAULT_URL);
  const url = URL.parse(text);
  if (url === null || !['http:', 'https:'].includes(url.protocol) || url.username !== '' || url.password !== '') {
    throw new UsageError('--url must start with http:// or https:// and hold no user name or password', command);
  }
  return text;
}

export function bearerToken(command: string, value: string | undefined): string | undefined {
  const token = (value ?? process.env.ROOMCAST_TOKEN ?? '').trim();
  if (token === '') return undefined;
  if (!/^[\x21-\x7e]+$/.test(token)) {
    throw new UsageError('--token must hold visible ASCII characters only', command);
  }
  return token;
}

const UNIT_SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 };
const MAX_SECONDS = 3_650 * 86_400;

/** `30s`, `15m`, `1h`, `7d`; at most ten years. */
export function secondsOf(command: string, flag: string, text: string): number {
  const [, digits, unit] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  const seconds = Number(digits) * (UNIT_SECONDS[unit ?? ''] ?? Number.NaN);
  if (seconds > 0 && seconds <= MAX_SECONDS) return seconds;
  throw new UsageError(`--${flag} must be a time such as 30s, 15m, 1h or 7d, not ${JSON.stringify(text)}`, command);
}

const INSTANT_RULE = 'an instant such as 2024-06-01T12:00:00Z, or a time before now such as 10m, 2h or 7d';

/** The instant of `2024-06-01T12:00:00Z`, `2024-06-01` (local), or `10m` (before now), in ISO 8601. */
export function instantOf(command: string, flag: string, text: string): string {
  if (/^\d{1,9}[smhd]$/.test(text)) {
    return new Date(Date.now() - secondsOf(command, flag, text) * 1000).toISOString();
  }
  // By itself, JavaScript takes a date for one in UTC.
  const date = new Date(/^\d{4}-\d\d-\d\d$/.test(text) ? `${text}T00:00` : text);
  if (/^\d{4}-\d\d-\d\d/.test(text) && !Number.isNaN(date.getTime())) return date.toISOString();
  throw new UsageError(`--${flag} must be ${INSTANT_RULE}, not ${JSON.stringify(text)}`, command);
}

/** @throws {UsageError} unless the text is a whole number from 1 to `max` */
export function countOf(command: string, flag: string, text: string, max = 9_999_999_999): number {
  const count = /^[1-9]\d{0,9}$/.test(text) ? Number(text) : Number.NaN;
  if (count <= max) return count;
  const most = max === 9_999_999_999 ? 'of at least 1' : `from 1 to ${max}`;
  throw new UsageError(`--${flag} must be a whole number ${most}, not ${JSON.stringify(text)}`, command);
}

/**
 * The arguments of the commands: flags, parsed by node:util's parseArgs, and values that several commands share. A wrong
 * argument is a `UsageError` of one line, which never quotes a token or a secret.
 */
import { type ParseArgsOptionsConfig, parseArgs } from 'node:util';
import { ID_RULE, isRoomId, KIND_NAME, type Room } from '../contract/rooms.ts';

/** Wrong usage: main.ts adds a hint to the help, and exits with 2. */
export class UsageError extends Error {
  /** The command whose help applies; null for the program's. */
  readonly command: string | null;

  constructor(message: string, command: string | null = null) {
    super(message);
    this.name = 'UsageError';
    this.command = command;
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
    throw new UsageError(sentence, command);
  }
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

/** The system's code, such as ECONNREFUSED, which `fetch` nests in the cause of its own error. */
export function causeOf(error: Error): string {
  for (let cause = error.cause; cause instanceof Error; cause = cause.cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (typeof code === 'string') return ` (${code})`;
  }
  return '';
}

/**
 * What the commands take: flags by node:util's parseArgs, and the values that several of them share. What a user got
 * wrong is a `UsageError` of one line that never quotes a token or a secret.
 */
import { type ParseArgsOptionsConfig, parseArgs } from 'node:util';

/** Used wrongly: main.ts adds where the help is, and exits with 2. */
export class UsageError extends Error {
  /** Whose help says more; null: the program's. */
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

export const BRIDGE_HELP = `  --url URL        where the bridge is, with its base path (default: ROOMCAST_URL, else ${DEFAULT_URL})
  --token TOKEN    the bearer token (default: ROOMCAST_TOKEN, which other users of the machine do not see)`;

/** Strict: an unknown flag, a missing value or one argument too many is refused. */
export function parseFlags<T extends ParseArgsOptionsConfig>(
  command: string,
  argv: readonly string[],
  options: T,
  maxPositionals = 0,
) {
  const parsed = attempt(command, () => {
    return parseArgs({ args: [...argv], options, strict: true, allowPositionals: true });
  });
  const extra = parsed.positionals[maxPositionals];
  if (extra !== undefined) throw new UsageError(`one argument too many: ${JSON.stringify(extra)}`, command);
  return parsed;
}

function attempt<T>(command: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    // Node explains at length; its first sentence says what is wrong.
    const [sentence = ''] = (error as Error).message.split(/[.\n]/);
    throw new UsageError(sentence, command);
  }
}

/** Ids hold no commas, so a flag may be repeated or hold several. */
export function listOf(given: readonly string[] | undefined): readonly string[] {
  return (given ?? []).flatMap((text) => text.split(',')).filter((item) => item !== '');
}

/** Where the bridge is. Credentials in the URL are refused, unread: `fetch` refuses them too, and quotes them. */
export function bridgeUrl(command: string, given: string | undefined): string {
  const text = given ?? (process.env.ROOMCAST_URL || DEFAULT_URL);
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !['http:', 'https:'].includes(url.protocol) || url.username !== '' || url.password !== '') {
    throw new UsageError('--url takes http://… or https://… without a user name or password', command);
  }
  return text;
}

export function bearerToken(command: string, given: string | undefined): string | undefined {
  const token = (given ?? process.env.ROOMCAST_TOKEN ?? '').trim();
  if (token === '') return undefined;
  if (!/^[\x21-\x7e]+$/.test(token)) throw new UsageError('--token got what no token looks like', command);
  return token;
}

const UNIT_SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 };
const MOST_SECONDS = 3_650 * 86_400;

/** `30s`, `15m`, `1h`, `7d`; at most ten years. */
export function secondsOf(command: string, flag: string, text: string): number {
  const [, digits, unit] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  const seconds = Number(digits) * (UNIT_SECONDS[unit ?? ''] ?? Number.NaN);
  if (seconds > 0 && seconds <= MOST_SECONDS) return seconds;
  throw new UsageError(`--${flag} got ${JSON.stringify(text)}: it takes a time such as 30s, 15m, 1h or 7d`, command);
}

/** Why a request failed at all, such as ECONNREFUSED: `fetch` keeps it beneath its own error. */
export function causeOf(error: Error): string {
  for (let cause = error.cause; cause instanceof Error; cause = cause.cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (typeof code === 'string') return ` (${code})`;
  }
  return '';
}

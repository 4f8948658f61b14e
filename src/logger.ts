/**
 * The program's own messages: never a payload or a token, at any level (docs/security.md). They are JSON lines by pino for
 * programs, or the same lines made readable for a person at a terminal (`LOG_FORMAT`).
 */
import { styleText } from 'node:util';
import { type LevelWithSilent, type Logger as PinoLogger, pino } from 'pino';
import { printable, printableJson, withoutTokens } from './contract/printable.ts';

export type Logger = PinoLogger;

/** The shortest time between two lines of one kind of warning that anybody can cause from outside. */
const WARNING_GAP_MS = 1_000;

/** @param format null: readable if standard output is a terminal, else JSON */
export function createLogger(level: LevelWithSilent, format: 'pretty' | 'json' | null = null): Logger {
  const options = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    // Origins, paths, room names and the like come from outside, and somebody reads the log in a terminal.
    hooks: { streamWrite: (line: string) => withoutTokens(printableJson(line)) },
  };
  if (!isPretty(format)) return pino(options);
  const output = pino.destination(1);
  return pino(options, { write: (line) => output.write(readableLine(line)) });
}

export function isPretty(format: 'pretty' | 'json' | null): boolean {
  return format === null ? process.stdout.isTTY === true : format === 'pretty';
}

type Style = Parameters<typeof styleText>[0];

/** By the hundreds of pino's levels, in five columns. */
const LEVELS: Readonly<Record<number, readonly [name: string, style: Style]>> = {
  10: ['TRACE', 'dim'],
  20: ['DEBUG', 'dim'],
  30: ['INFO ', 'cyan'],
  40: ['WARN ', 'yellow'],
  50: ['ERROR', 'red'],
  60: ['FATAL', 'red'],
};

/** `14:05:09 INFO  message  key=value`, in local time; the stack of an error in lines of its own. */
function readableLine(json: string): string {
  const { level, time, msg, err, ...members } = JSON.parse(json) as Readonly<Record<string, unknown>>;
  const [name, style] = LEVELS[Number(level)] ?? ['     ', 'reset'];
  const at = new Date(String(time)).toTimeString().slice(0, 8);
  const { message, stack } = Object(err) as { readonly message?: unknown; readonly stack?: unknown };
  const text = [msg, message].filter((part) => typeof part === 'string' && part !== '').join(': ');
  const pairs = Object.entries(members).map(([key, value]) => `  ${printable(key)}=${readableValue(value)}`);
  const head = `${paint('dim', at)} ${paint(style, name)} ${printable(text)}${paint('dim', pairs.join(''))}\n`;
  // The lines before the frames are the message again.
  const frames = typeof stack === 'string' ? stack.split('\n').filter((line) => line.startsWith('    at ')) : [];
  return head + frames.map((frame) => `${paint('dim', printable(frame))}\n`).join('');
}

/** Text without blanks or quotes stands as it is. */
function readableValue(value: unknown): string {
  return printable(typeof value === 'string' && /^[^\s"=]+$/.test(value) ? value : (JSON.stringify(value) ?? ''));
}

/** In colours if standard output is a terminal that has them; NO_COLOR and FORCE_COLOR decide otherwise. */
function paint(style: Style, text: string): string {
  return text === '' ? '' : styleText(style, text, { stream: process.stdout });
}

/** Warns at most once a second; each line has the number of warnings that were left out before it. */
export function createSparseWarning(logger: Logger): (message: string) => void {
  let loggedMs = Number.NEGATIVE_INFINITY;
  let leftOut = 0;
  return (message) => {
    const nowMs = performance.now();
    if (nowMs - loggedMs < WARNING_GAP_MS) {
      leftOut++;
      return;
    }
    logger.warn(leftOut === 0 ? {} : { leftOut }, message);
    loggedMs = nowMs;
    leftOut = 0;
  };
}

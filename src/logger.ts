/** The program's own messages, as JSON lines by pino: never a payload or a token, at any level (docs/security.md). */
import { type LevelWithSilent, type Logger as PinoLogger, pino } from 'pino';
import { printableJson, withoutTokens } from './contract/printable.ts';

export type Logger = PinoLogger;

/** The shortest time between two lines of one kind of warning that anybody can cause from outside. */
const WARNING_GAP_MS = 1_000;

export function createLogger(level: LevelWithSilent): Logger {
  return pino({
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    // Origins, paths, room names and the like come from outside, and somebody reads the log in a terminal.
    hooks: { streamWrite: (line) => withoutTokens(printableJson(line)) },
  });
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

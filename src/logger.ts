/** The program's own messages, as JSON lines by pino: never a payload or a token, at any level (docs/security.md). */
import { type LevelWithSilent, type Logger as PinoLogger, pino } from 'pino';
import { printableJson } from './contract/printable.ts';

export type Logger = PinoLogger;

export function createLogger(level: LevelWithSilent): Logger {
  return pino({
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    // Origins, room names and the like come from outside, and somebody reads the log in a terminal.
    hooks: { streamWrite: printableJson },
  });
}

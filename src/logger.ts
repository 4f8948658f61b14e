/** The program's own messages, as JSON lines by pino: never a payload or a token, at any level (docs/security.md). */
import { type LevelWithSilent, type Logger as PinoLogger, pino } from 'pino';

export type Logger = PinoLogger;

export function createLogger(level: LevelWithSilent): Logger {
  return pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime });
}

/** How far a running check has come, as a person watches it. */
import { TRANSPORTS } from '../contract/names.ts';
import type { CheckResult } from './result.ts';
import { fill, type Language, TEXTS } from './texts.ts';

export interface Progress {
  /** 0…1; never decreases. */
  readonly share: number;
  phase(language: Language): string;
  /** Separate from the phase, because screen readers announce the phase only. Empty while unknown. */
  timeLeft(language: Language): string;
}

/** The ticks take about this long on a good network; where they take longer, the bar waits at `TICKS_SHARE`. */
const TICKS_MS = 3_000;
const TICKS_SHARE = 0.1;

/** @returns a function from the result so far, and the time, to the progress */
export function createProgress(): (result: CheckResult, nowMs: number) => Progress {
  let startedMs: number | null = null;
  let watchingMs: number | null = null;
  let share = 0;
  return (result, nowMs) => {
    startedMs ??= nowMs;
    const { greeting, quietMs } = result;
    const isTesting = TRANSPORTS.some((transport) => result[transport].frames === null);
    if (!isTesting) watchingMs ??= nowMs;
    const watchedMs = watchingMs === null ? 0 : nowMs - watchingMs;
    const reached =
      watchingMs === null
        ? Math.min(1, (nowMs - startedMs) / TICKS_MS) * TICKS_SHARE
        : TICKS_SHARE + (1 - TICKS_SHARE) * Math.min(1, watchedMs / Math.max(1, quietMs));
    share = Math.max(share, reached);
    return {
      share,
      phase(language) {
        const { contacting, testing, watching } = TEXTS[language];
        return greeting === null ? contacting : isTesting ? testing : watching;
      },
      timeLeft(language) {
        const seconds = Math.max(0, Math.ceil((quietMs - watchedMs) / 1000));
        return isTesting ? '' : fill(TEXTS[language].timeLeft, { seconds }, language);
      },
    };
  };
}

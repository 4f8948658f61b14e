/** How far a check has come, for a line that a person watches. */
import { TRANSPORTS } from '../contract/names.ts';
import type { Measurement } from './result.ts';
import { fill, type Language, TEXTS } from './texts.ts';

export interface Progress {
  /** 0…1; it never goes back. */
  readonly share: number;
  phase(language: Language): string;
  /** Apart from the phase, which is read out when it changes. Empty while it is not known. */
  left(language: Language): string;
}

/** What comes before watching takes about so long on a good network; the bar waits where it takes longer. */
const FRAMES_MS = 3_000;
const FRAMES_SHARE = 0.1;

/** @returns a function that is told the measurement as it stands, and the time */
export function createProgress(): (measurement: Measurement, nowMs: number) => Progress {
  let begunMs: number | null = null;
  let watchingMs: number | null = null;
  let share = 0;
  return (measurement, nowMs) => {
    begunMs ??= nowMs;
    const { greeting, quietMs } = measurement;
    const isTrying = TRANSPORTS.some((transport) => measurement[transport].frames === null);
    if (!isTrying) watchingMs ??= nowMs;
    const watchedMs = watchingMs === null ? 0 : nowMs - watchingMs;
    const reached =
      watchingMs === null
        ? Math.min(1, (nowMs - begunMs) / FRAMES_MS) * FRAMES_SHARE
        : FRAMES_SHARE + (1 - FRAMES_SHARE) * Math.min(1, watchedMs / Math.max(1, quietMs));
    share = Math.max(share, reached);
    return {
      share,
      phase(language) {
        const { asking, frames, watching } = TEXTS[language];
        return greeting === null ? asking : isTrying ? frames : watching;
      },
      left(language) {
        const seconds = Math.max(0, Math.ceil((quietMs - watchedMs) / 1000));
        return isTrying ? '' : fill(TEXTS[language].left, { seconds }, language);
      },
    };
  };
}

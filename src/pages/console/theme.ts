/** Light, dark, or as the system has it; the choice is this browser's. */
import { type Changes, createChanges } from './model.ts';
import { remembered } from './remembering.ts';

export const THEMES = ['system', 'light', 'dark'] as const;
export type Theme = (typeof THEMES)[number];

const KEY = 'roomcast:theme';

export interface ThemeChoice {
  /** Told when colours may be others than before. */
  readonly changes: Changes;
  readonly theme: Theme;
  choose(theme: Theme): void;
}

export function createThemeChoice(): ThemeChoice {
  const changes = createChanges();
  const stored = remembered('localStorage', KEY);
  let theme = THEMES.find((known) => known === stored.get()) ?? 'system';
  const show = (): void => {
    if (theme === 'system') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    changes.tell();
  };
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => changes.tell());
  show();
  return {
    changes,
    get theme() {
      return theme;
    },
    choose(next) {
      theme = next;
      stored.set(next === 'system' ? null : next);
      show();
    },
  };
}

/** The theme: light, dark, or the system's. The browser remembers the choice. */
import { createChanges, type Model, storedValue } from './model.ts';

export const THEMES = ['system', 'light', 'dark'] as const;
export type Theme = (typeof THEMES)[number];

/** Announces a change whenever the colours may have changed. */
export interface ThemeChoice extends Model {
  readonly theme: Theme;
  choose(theme: Theme): void;
}

export function createThemeChoice(): ThemeChoice {
  const changes = createChanges();
  const stored = storedValue('localStorage', 'roomcast:theme');
  let theme = THEMES.find((name) => name === stored.get()) ?? 'system';
  const apply = (): void => {
    if (theme === 'system') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    changes.notify();
  };
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => changes.notify());
  apply();
  return {
    changes,
    get theme() {
      return theme;
    },
    choose(next) {
      theme = next;
      stored.set(next === 'system' ? null : next);
      apply();
    },
  };
}

/**
 * The language of the pages, and the texts of each view in it. `?lang=pt` in the address comes first, then the language
 * that the reader chose before in this browser, then the browser's own languages.
 */
import { LANGUAGES, type Language, languageOf } from '../check/texts.ts';
import { createChanges, type Model, storedValue } from './console/model.ts';

export type { Language };

/** Each language in itself. */
export const LANGUAGE_NAMES: Readonly<Record<Language, string>> = { en: 'English', pt: 'Português' };

/** The value of `lang` in HTML, and what `Intl` takes. */
export const LANGUAGE_TAGS: Readonly<Record<Language, string>> = { en: 'en', pt: 'pt-BR' };

/** The language of the page. Announces a change; `useModels(language)` renders the component again. */
export interface LanguageChoice extends Model {
  readonly current: Language;
  /** Changes the language, and remembers it in the browser's local storage. */
  choose(language: Language): void;
}

export const language: LanguageChoice = createLanguageChoice();

function createLanguageChoice(): LanguageChoice {
  const changes = createChanges();
  const stored = storedValue('localStorage', 'roomcast:language');
  const asked = new URLSearchParams(location.search).get('lang');
  let current = languageOf([asked ?? '', stored.get() ?? '', ...navigator.languages]);
  const apply = (): void => {
    document.documentElement.lang = LANGUAGE_TAGS[current];
  };
  apply();
  return {
    changes,
    get current() {
      return current;
    },
    choose(chosen) {
      current = LANGUAGES.find((known) => known === chosen) ?? current;
      stored.set(current);
      apply();
      changes.notify();
    },
  };
}

/** Texts by name, in groups if that helps. A text is a string, or a function from values to what a component shows. */
export interface Texts {
  readonly [name: string]: string | ((...values: never[]) => unknown) | Texts;
}

/** The same names with other strings; functions take the same values. */
export type Same<T> = {
  readonly [Name in keyof T]: T[Name] extends string ? string : T[Name] extends Texts ? Same<T[Name]> : T[Name];
};

/**
 * The texts of one view in both languages. `en` gives the shape, and the compiler holds `pt` to it:
 *
 *     const texts = defineTexts({ rooms: (count: number) => `${count} rooms` }, { rooms: (count) => `${count} salas` });
 *     const t = texts(); // in a component, at each render
 *
 * @returns a function that gives the texts in the language of the page
 */
export function defineTexts<T extends Texts>(en: T, pt: NoInfer<Same<T>>): () => Same<T> {
  return () => (language.current === 'pt' ? pt : (en as Same<T>));
}

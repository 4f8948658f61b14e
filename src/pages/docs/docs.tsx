/**
 * What scripts add to `/docs` (http/reference/docs-page.ts): a search, the reader's place in the contents, samples, and
 * requests to this server. The page stays readable without them.
 */
import { Fragment, render } from 'preact';
import { createPortal } from 'preact/compat';
import { useEffect, useState } from 'preact/hooks';
import { LANGUAGES } from '../../check/texts.ts';
import { createAccess } from '../console/access.ts';
import { Button, Dialog, Field, Select } from '../console/elements.tsx';
import { useModels } from '../console/model.ts';
import { createThemeChoice } from '../console/theme.ts';
import { LANGUAGE_NAMES, LANGUAGE_TAGS, language } from '../language.ts';
import { type Route, routesOf } from './request.ts';
import { docsTexts } from './texts.ts';
import { Try } from './try.tsx';

const elementOf = (id: string): HTMLElement => document.getElementById(id) as HTMLElement;

const access = createAccess();
// The theme that the reader chose in the console.
createThemeChoice();
const contents = elementOf('contents');

function Tools() {
  useModels(access, language);
  const t = docsTexts();
  const [isAsking, setAsking] = useState(false);
  const [isMenuOpen, setMenuOpen] = useState(false);
  const [typed, setTyped] = useState('');
  useEffect(() => {
    contents.dataset.open = String(isMenuOpen);
  }, [isMenuOpen]);
  useEffect(() => {
    // A choice in the contents closes them, where they cover the page.
    const close = (event: Event): void => {
      if ((event.target as Element).closest('a') !== null) setMenuOpen(false);
    };
    contents.addEventListener('click', close);
    return () => contents.removeEventListener('click', close);
  }, []);
  const hasToken = access.token !== null;
  return (
    <>
      <span class="menu">
        <Button isPressed={isMenuOpen} onClick={() => setMenuOpen(!isMenuOpen)}>
          {t.contents}
        </Button>
      </span>
      <Button onClick={() => setAsking(true)}>{hasToken ? t.hasToken : t.addToken}</Button>
      <Select
        label={t.language}
        isLabelHidden
        value={language.current}
        onChoose={language.choose}
        options={LANGUAGES.map((value) => ({ value, name: LANGUAGE_NAMES[value] }))}
      />
      {isAsking && (
        <Dialog
          title={t.tokenTitle}
          action={typed.trim() === '' && hasToken ? t.forgetToken : t.useToken}
          onClose={() => setAsking(false)}
          onConfirm={() => {
            if (typed.trim() === '' && !hasToken) return;
            access.setToken(typed.trim() === '' ? null : typed);
            setTyped('');
            setAsking(false);
          }}
        >
          <p>{t.tokenNote}</p>
          <Field label={t.token} type="password" value={typed} onInput={setTyped} />
        </Dialog>
      )}
    </>
  );
}

/** Each link of an operation, and all the words of the operation. */
const links = [...contents.querySelectorAll<HTMLAnchorElement>('li li a')].map((link) => ({
  item: link.parentElement as HTMLElement,
  words: `${link.textContent} ${targetOf(link)?.closest('article')?.textContent}`.toLowerCase(),
}));

function targetOf(link: HTMLAnchorElement): HTMLElement | null {
  return document.getElementById(decodeURIComponent(link.hash.slice(1)));
}

function Search() {
  useModels(language);
  const t = docsTexts();
  const [typed, setTyped] = useState('');
  const [count, setCount] = useState<number | null>(null);
  useEffect(() => {
    const words = typed
      .toLowerCase()
      .split(/\s+/)
      .filter((word) => word !== '');
    let found = 0;
    for (const { item, words: own } of links) {
      item.hidden = !words.every((word) => own.includes(word));
      if (!item.hidden) found++;
    }
    for (const tag of contents.querySelectorAll<HTMLElement>(':scope > ul > li')) {
      tag.hidden = words.length > 0 && tag.querySelector('li:not([hidden])') === null;
    }
    setCount(words.length === 0 ? null : found);
  }, [typed]);
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      const isTyping = (event.target as Element).closest('input, textarea, select, dialog') !== null;
      if (event.key !== '/' || event.ctrlKey || event.metaKey || event.altKey || isTyping) return;
      event.preventDefault();
      contents.querySelector('input')?.focus();
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  }, []);
  return (
    <form
      lang={LANGUAGE_TAGS[language.current]}
      onSubmit={(event) => {
        event.preventDefault();
        contents.querySelector<HTMLAnchorElement>('li li:not([hidden]) a')?.click();
      }}
    >
      <Field label={t.search} isLabelHidden placeholder={`${t.search}  /`} value={typed} onInput={setTyped} />
      <p class="note" role="status">
        {count === null ? '' : count === 0 ? t.nothingFound : t.found(count)}
      </p>
    </form>
  );
}

/** Marks the link of the part that is at the top of the window. */
function followReader(): void {
  const marks = [...contents.querySelectorAll('a')].flatMap((link) => {
    const target = targetOf(link);
    return target === null ? [] : [{ link, target }];
  });
  let current: HTMLAnchorElement | undefined;
  const mark = (): void => {
    const passed = marks.findLast(({ target }) => target.getBoundingClientRect().top < innerHeight / 4);
    if (passed?.link === current) return;
    current?.removeAttribute('aria-current');
    current = passed?.link;
    current?.setAttribute('aria-current', 'true');
    // Scrolls the contents alone: scrollIntoView would end a scroll of the page.
    const box = current?.getBoundingClientRect();
    if (box !== undefined && (box.top < 80 || box.bottom > innerHeight - 20))
      contents.scrollTop += box.top - innerHeight / 2;
  };
  let isDue = false;
  addEventListener(
    'scroll',
    () => {
      if (isDue) return;
      isDue = true;
      requestAnimationFrame(() => {
        isDue = false;
        mark();
      });
    },
    { passive: true },
  );
  mark();
}

interface Place {
  readonly route: Route;
  readonly element: Element;
}

/** One tree for all places of the page, so that the ids in them differ. */
function Additions() {
  const [places, setPlaces] = useState<readonly Place[]>([]);
  useEffect(() => {
    const leaving = new AbortController();
    void placeForms((more) => setPlaces((known) => [...known, ...more]), leaving.signal);
    return () => leaving.abort();
  }, []);
  return (
    <>
      {createPortal(<Tools />, elementOf('tools'))}
      {createPortal(<Search />, elementOf('search'))}
      {places.map(({ route, element }) => (
        <Fragment key={route.operation.operationId}>
          {createPortal(<Try route={route} access={access} />, element)}
        </Fragment>
      ))}
    </>
  );
}

/** A form is built when its operation comes near: all of them at once would hold up the page. */
async function placeForms(add: (places: readonly Place[]) => void, signal: AbortSignal): Promise<void> {
  const description = await fetch('openapi.json', { signal });
  const routes = new Map(routesOf(await description.json()).map((route) => [route.operation.operationId, route]));
  const observer = new IntersectionObserver(
    (entries) => {
      const near = entries.filter(({ isIntersecting }) => isIntersecting).map(({ target }) => target as HTMLElement);
      for (const element of near) observer.unobserve(element);
      add(
        near.flatMap((element) => {
          const route = routes.get(element.dataset.operation ?? '');
          return route === undefined ? [] : [{ route, element }];
        }),
      );
    },
    { rootMargin: '100%' },
  );
  for (const place of document.querySelectorAll('.try')) observer.observe(place);
  signal.addEventListener('abort', () => observer.disconnect());
}

document.documentElement.classList.add('scripted');
render(<Additions />, document.createElement('div'));
followReader();

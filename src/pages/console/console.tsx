/**
 * `/console`: why a user sees nothing, and what the bridge does right now, for the people who support and run it. It is a
 * client of the bridge like any other: it reads the bridge's routes, receives events through `@roomcast/client`, and loads
 * nothing from any other origin.
 */
import { render } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { LANGUAGES } from '../../check/texts.ts';
import { LANGUAGE_NAMES, language } from '../language.ts';
import { createAccess } from './access.ts';
import { Compare } from './compare.tsx';
import { createComparison } from './comparison.ts';
import { Notice, Select, State, useNow } from './elements.tsx';
import { Find } from './find.tsx';
import { createFinder } from './finder.ts';
import { dateAndTime, relativeTime, TRANSPORT_LABELS } from './format.ts';
import { Icon } from './icons.tsx';
import { Live } from './live.tsx';
import { createLiveTail, isRefused } from './live-tail.ts';
import { Log } from './log.tsx';
import { createLogReader } from './log-reader.ts';
import { useModels } from './model.ts';
import { Overview } from './overview.tsx';
import { Publish } from './publish.tsx';
import { goTo, route, VIEWS } from './route.ts';
import { createServerState } from './server-state.ts';
import { createStatsFeed } from './stats.ts';
import { CANONICAL, readEventNames } from './test-events.ts';
import { frameTexts } from './texts/frame.ts';
import { createThemeChoice, THEMES } from './theme.ts';
import { TokenPanel } from './token.tsx';

const theme = createThemeChoice();
const access = createAccess();
const feed = createStatsFeed(access);
const server = createServerState(feed);
const tail = createLiveTail(access);
const comparison = createComparison(access);
const finder = createFinder(access);
const logReader = createLogReader(access);

function Console() {
  useModels(access, language, route, server);
  const [eventNames, setEventNames] = useState<readonly string[]>(CANONICAL);
  const heading = useRef<HTMLHeadingElement>(null);
  const t = frameTexts();
  const { view } = route.current;

  const shown = useRef(view);
  useEffect(() => {
    if (shown.current !== view) ((startsInSearch ? searchField() : null) ?? heading.current)?.focus();
    shown.current = view;
    startsInSearch = false;
  }, [view]);
  useEffect(() => {
    document.title = `${t.views[view]} · Roomcast`;
  }, [view, t]);
  useEffect(() => {
    // Should this fail, the names that every bridge accepts remain.
    readEventNames(access).then(setEventNames, () => {});
  }, []);
  useEffect(focusSearchOnSlash, []);

  return (
    <>
      {/* No link: the address names a view. */}
      <button type="button" class="skip" onClick={() => heading.current?.focus()}>
        {t.skip}
      </button>
      <Header />
      <nav aria-label={t.navigation}>
        {VIEWS.map((name) => (
          <a key={name} href={`#${name}`} aria-current={view === name ? 'page' : undefined}>
            <Icon of={name} />
            {t.views[name]}
          </a>
        ))}
      </nav>
      <main data-view={view} data-away={server.isAway}>
        <h2 ref={heading} tabIndex={-1}>
          {t.views[view]}
        </h2>
        {server.isAway && <Away />}
        <TokenPanel access={access} feed={feed} />
        {view === 'find' && <Find access={access} feed={feed} finder={finder} />}
        {view === 'log' && <Log access={access} feed={feed} reader={logReader} eventNames={eventNames} />}
        {view === 'overview' && <Overview access={access} feed={feed} theme={theme} />}
        {view === 'live' && <Live tail={tail} feed={feed} eventNames={eventNames} />}
        {view === 'publish' && <Publish access={access} feed={feed} tail={tail} eventNames={eventNames} />}
        {view === 'compare' && <Compare access={access} comparison={comparison} eventNames={eventNames} />}
        <footer class="note">
          <p>
            <a href="check">{t.check}</a> {t.checkNote}
          </p>
          <p>
            <a href="docs">{t.reference}</a>
          </p>
        </footer>
      </main>
    </>
  );
}

const searchField = (): HTMLElement | null => document.querySelector('[data-shortcut="/"]');
/** Whether the next view starts in its search. */
let startsInSearch = false;

/** The key `/` brings the focus to the field that has it as its shortcut, or to Find, which has such a field. */
function focusSearchOnSlash(): () => void {
  const onKey = (event: KeyboardEvent): void => {
    const { key, ctrlKey, metaKey, altKey, target } = event;
    const isTyping = (target as Element).closest('input, textarea, select, dialog, [contenteditable]') !== null;
    if (key !== '/' || ctrlKey || metaKey || altKey || isTyping) return;
    event.preventDefault();
    const search = searchField();
    search?.focus();
    startsInSearch = search === null;
    if (startsInSearch) goTo('find');
  };
  addEventListener('keydown', onKey);
  return () => removeEventListener('keydown', onKey);
}

/** On every view; screen readers announce changes of the two states. */
function Header() {
  useModels(feed, tail, theme);
  const t = frameTexts();
  return (
    <header>
      <h1>
        <a href="#find">Roomcast</a>
      </h1>
      <p class="statuses" role="status" data-server={feed.state}>
        <ServerStatus />
        <TailStatus />
      </p>
      <div class="settings">
        <Select
          label={t.language}
          isLabelHidden
          value={language.current}
          onChoose={language.choose}
          options={LANGUAGES.map((value) => ({ value, name: LANGUAGE_NAMES[value] }))}
        />
        <Select
          label={t.theme}
          isLabelHidden
          value={theme.theme}
          onChoose={theme.choose}
          options={THEMES.map((value) => ({ value, name: t.themes[value] }))}
        />
      </div>
    </header>
  );
}

function ServerStatus() {
  const { state, stats } = feed;
  const t = frameTexts().server;
  if (state === 'loading') return <State tone="neutral">{t.loading}</State>;
  if (state === 'unreachable') return <State tone="bad">{t.unreachable}</State>;
  if (state === 'refused') return <State tone="neutral">{t.noAccess}</State>;
  if (stats?.node.draining) return <State tone="bad">{t.draining}</State>;
  if (stats?.log.healthy === false) return <State tone="bad">{t.logFailed}</State>;
  return <State tone="good">{t.up}</State>;
}

/** Only while rooms are tailed: on another view it says that the tail goes on. */
function TailStatus() {
  const { rooms, status } = tail;
  const { state, transport } = status;
  const t = frameTexts().tail;
  if (rooms.length === 0) return null;
  if (rooms.every(isRefused)) return <State tone="bad">{t.refused}</State>;
  if (state !== 'live') return <State tone={state === 'connecting' ? 'neutral' : 'bad'}>{t[state]}</State>;
  return (
    <State tone="good">
      {t.live(transport === null ? '' : TRANSPORT_LABELS[transport === 'poll' ? 'longpoll' : transport])}
    </State>
  );
}

/** While the server is away, everything below is grey: it is old. */
function Away() {
  const nowMs = useNow(1_000);
  const { answeredAtMs } = server;
  const t = frameTexts();
  const since =
    answeredAtMs === null
      ? t.neverAnswered
      : t.away(relativeTime(answeredAtMs, nowMs), dateAndTime(answeredAtMs, nowMs));
  return (
    <Notice tone="bad" title={t.server.unreachable} isAnnounced={false}>
      <p>
        {since} {answeredAtMs !== null && t.awayNote}
      </p>
    </Notice>
  );
}

render(<Console />, document.getElementById('page') as HTMLElement);

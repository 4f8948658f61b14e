/**
 * `/console`: what the bridge does right now, for the people who run it. It is a client of the bridge like any other:
 * statistics from `GET /stats`, events through `roomcast/client`, and nothing from any other origin.
 */
import { render } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Room } from '../../contract/rooms.ts';
import { createAccess } from './access.ts';
import { createComparison } from './comparison.ts';
import { State } from './elements.tsx';
import { TRANSPORT_LABELS } from './format.ts';
import { createLiveTail, isRefused, type TailEvent } from './live-tail.ts';
import { useModels } from './model.ts';
import { Overview } from './overview.tsx';
import { Parity } from './parity.tsx';
import { Publish } from './publish.tsx';
import { createStatsFeed } from './stats.ts';
import { Tail, TailList, TailRooms } from './tail.tsx';
import { CANONICAL, readEventNames } from './test-events.ts';
import { createThemeChoice, THEMES, type Theme } from './theme.ts';
import { TokenPanel } from './token.tsx';

const VIEWS = { overview: 'Overview', tail: 'Tail', publish: 'Publish', parity: 'Parity' } as const;
type View = keyof typeof VIEWS;

const theme = createThemeChoice();
const access = createAccess();
const feed = createStatsFeed(access);
const tail = createLiveTail(access);
const comparison = createComparison(access);

const viewOf = (hash: string): View => (Object.keys(VIEWS) as View[]).find((name) => hash === `#${name}`) ?? 'overview';

function Console() {
  useModels(access);
  const [view, setView] = useState(viewOf(location.hash));
  const [eventNames, setEventNames] = useState<readonly string[]>(CANONICAL);
  const heading = useRef<HTMLHeadingElement>(null);

  useEffect(() => {
    const follow = (): void => {
      setView(viewOf(location.hash));
      heading.current?.focus();
    };
    addEventListener('hashchange', follow);
    return () => removeEventListener('hashchange', follow);
  }, []);
  useEffect(() => {
    // Should this fail, the names that every bridge accepts remain.
    readEventNames(access).then(setEventNames, () => {});
  }, []);

  return (
    <>
      <Header />
      <nav aria-label="Views">
        {Object.entries(VIEWS).map(([name, label]) => (
          <a key={name} href={`#${name}`} aria-current={view === name ? 'page' : undefined}>
            {label}
          </a>
        ))}
      </nav>
      <main>
        <h2 ref={heading} tabIndex={-1} class="hidden">
          {VIEWS[view]}
        </h2>
        <TokenPanel access={access} feed={feed} />
        {view === 'overview' && <Overview feed={feed} theme={theme} openTail={openTail} />}
        {view === 'tail' && <Tail tail={tail} feed={feed} eventNames={eventNames} />}
        {view === 'publish' && <PublishView eventNames={eventNames} />}
        {view === 'parity' && <Parity access={access} comparison={comparison} eventNames={eventNames} />}
      </main>
      <footer class="note">
        A customer gets no updates? Open the <a href="check">connection check</a> on their device. For developers: the
        API <a href="docs">reference</a>.
      </footer>
    </>
  );
}

/** On every view; screen readers announce changes of the two states. */
function Header() {
  useModels(feed, tail, theme);
  return (
    <header>
      <h1>
        Roomcast <span class="note">console</span>
      </h1>
      <p class="statuses" role="status">
        <ServerState />
        <TailState />
      </p>
      <label class="theme">
        <span class="hidden">Theme</span>
        <select value={theme.theme} onChange={(event) => theme.choose(event.currentTarget.value as Theme)}>
          {THEMES.map((name) => (
            <option key={name} value={name}>
              {name === 'system' ? 'System theme' : name === 'light' ? 'Light' : 'Dark'}
            </option>
          ))}
        </select>
      </label>
    </header>
  );
}

function ServerState() {
  const { state, stats } = feed;
  if (state === 'loading') return <State isGood={null}>Contacting the server</State>;
  if (state === 'unreachable') return <State isGood={false}>Server does not answer, retrying</State>;
  if (state === 'refused') return <State isGood={null}>Server up, no access to statistics</State>;
  if (stats?.node.draining) return <State isGood={false}>Server is shutting down</State>;
  if (stats?.log.healthy === false) return <State isGood={false}>Server up, but its log accepts no events</State>;
  return <State isGood>Server up</State>;
}

function TailState() {
  const { rooms, status } = tail;
  const { state, transport } = status;
  if (rooms.length === 0) return <State isGood={null}>Tail: no rooms</State>;
  if (rooms.every(isRefused)) return <State isGood={false}>Tail: refused</State>;
  if (state !== 'live') return <State isGood={state === 'connecting' ? null : false}>Tail: {state}</State>;
  const label = transport === null ? '' : ` over ${TRANSPORT_LABELS[transport === 'poll' ? 'longpoll' : transport]}`;
  return <State isGood>Tail: live{label}</State>;
}

function PublishView({ eventNames }: { readonly eventNames: readonly string[] }) {
  const [selected, setSelected] = useState<TailEvent | null>(null);
  return (
    <div class="columns even">
      <Publish access={access} tail={tail} eventNames={eventNames} />
      <div class="stack">
        <TailRooms tail={tail} feed={feed} />
        <TailList tail={tail} eventNames={eventNames} selected={selected} select={setSelected} />
      </div>
    </div>
  );
}

function openTail(room: Room): void {
  tail.add(room);
  location.hash = '#tail';
}

render(<Console />, document.getElementById('page') as HTMLElement);

/**
 * `/console`: what the bridge does now, for those who run it. A client of the bridge like any other: figures from
 * `GET /stats`, events through `roomcast/client`, and nothing from anywhere else.
 */
import { render } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { createAccess } from './access.ts';
import { createProof } from './comparison.ts';
import { Header } from './header.tsx';
import { createTailing, type Heard } from './live-tail.ts';
import { useChanges } from './model.ts';
import { Overview } from './overview.tsx';
import { Parity } from './parity.tsx';
import { Publish } from './publish.tsx';
import { createFigures } from './stats.ts';
import { Tail, TailList, TailRooms } from './tail.tsx';
import { MESSAGES_NEW, readEventNames, TICKETS_UPDATED } from './test-events.ts';
import { createThemeChoice } from './theme.ts';
import { TokenPanel } from './token.tsx';

const VIEWS = { overview: 'Overview', tail: 'Tail', publish: 'Publish', parity: 'Parity' } as const;
type View = keyof typeof VIEWS;

const theme = createThemeChoice();
const access = createAccess();
const figures = createFigures(access);
const tailing = createTailing(access);
const proof = createProof(access);

const viewOf = (hash: string): View => (Object.keys(VIEWS) as View[]).find((name) => hash === `#${name}`) ?? 'overview';

function Console() {
  useChanges(access.changes);
  const [view, setView] = useState(viewOf(location.hash));
  const [eventNames, setEventNames] = useState<readonly string[]>([TICKETS_UPDATED, MESSAGES_NEW]);
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
    // Without it the two names that every bridge takes will do.
    readEventNames(access.http).then(setEventNames, () => {});
  }, []);

  return (
    <>
      <Header figures={figures} tailing={tailing} access={access} theme={theme} />
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
        <TokenPanel access={access} figures={figures} />
        {view === 'overview' && <Overview access={access} figures={figures} theme={theme} tail={tail} />}
        {view === 'tail' && <Tail tailing={tailing} figures={figures} eventNames={eventNames} />}
        {view === 'publish' && <PublishView eventNames={eventNames} />}
        {view === 'parity' && <Parity access={access} proof={proof} eventNames={eventNames} />}
      </main>
      <footer class="note">
        A customer sees nothing? The <a href="check">connection check</a>, opened on their device, tells why. The API:{' '}
        <a href="docs">reference</a>.
      </footer>
    </>
  );
}

function PublishView({ eventNames }: { readonly eventNames: readonly string[] }) {
  const [chosen, setChosen] = useState<Heard | null>(null);
  return (
    <div class="columns even">
      <Publish access={access} tailing={tailing} eventNames={eventNames} />
      <div class="stack">
        <TailRooms tailing={tailing} figures={figures} />
        <TailList tailing={tailing} eventNames={eventNames} chosen={chosen} choose={setChosen} />
      </div>
    </div>
  );
}

function tail(room: string): void {
  tailing.add(room as never);
  location.hash = '#tail';
}

render(<Console />, document.getElementById('page') as HTMLElement);

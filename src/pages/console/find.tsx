/**
 * Find: why does this user see nothing? One field for what the operator knows of a person, the people that it means with a
 * verdict each, and all about the chosen one. The address of the page holds the search, and never a token.
 */
import { useEffect, useRef, useState } from 'preact/hooks';
import { nearest } from '../../contract/nearest.ts';
import { language } from '../language.ts';
import { type Access, NEEDS_TOKENS, ROOM_KINDS } from './access.ts';
import { type Claims, holdsToken, readClaims } from './claims.ts';
import { Badge, Button, Card, EmptyState, Fault, Notice, rowAfter, SearchField, Time } from './elements.tsx';
import { formatReading, parseQuery } from './find-query.ts';
import { type Assessed, type Finder, MAX_SHOWN, type Meaning, PAGE } from './finder.ts';
import { count } from './format.ts';
import { useModels } from './model.ts';
import { TokenCard } from './pasted-token.tsx';
import { nameOf, PersonView, TONES } from './person.tsx';
import { goTo, hrefOf, replaceParameters, route } from './route.ts';
import { type ServerFault, serverFault } from './server-fault.ts';
import type { StatsFeed } from './stats.ts';
import { findTexts, verdictText } from './texts/find.ts';

interface FindProps {
  readonly access: Access;
  readonly feed: StatsFeed;
  readonly finder: Finder;
}

/** What was pasted, as far as it could be read. Its text is gone. */
type Pasted = { readonly claims: Claims | null } | null;

export function Find({ access, feed, finder }: FindProps) {
  useModels(route, language, finder, feed, access);
  const t = findTexts();
  const [text, setText] = useState('');
  const [pasted, setPasted] = useState<Pasted>(null);
  const { q = '' } = route.current.parameters;

  useEffect(() => finder.watch(), []);
  useEffect(() => {
    // A link might bring a token along: it must not stay in the address.
    if (holdsToken(q)) {
      replaceParameters({});
      return;
    }
    setText(q);
    finder.search(parseQuery(q, ROOM_KINDS));
  }, [q]);

  function search(): void {
    const next = text.trim();
    if (holdsToken(next)) {
      readToken();
      return;
    }
    setPasted(null);
    if (next === q) finder.refresh();
    else goTo('find', { q: next });
  }

  function readToken(): void {
    const claims = readClaims(text, ROOM_KINDS);
    setPasted({ claims });
    // The person stays; the token leaves the page.
    const about = finder.query?.about ?? '';
    setText(q);
    if (claims !== null && claims.subject !== null) goTo('find', { q: `user:${claims.subject} ${about}`.trim() });
  }

  const fault = serverFault(feed, usePublishFailures(feed));
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: it passes the key on to the list
    <div class="find" onKeyDown={toResults}>
      <SearchField
        label={t.label}
        placeholder={t.placeholder}
        action={t.action}
        hint={t.hint}
        value={text}
        onInput={setText}
        onSearch={search}
        hasShortcut
      />
      {fault !== null && <BridgeFault fault={fault} reason={feed.stats?.log.fault ?? null} />}
      {pasted !== null && <TokenCard claims={pasted.claims} about={finder.dossier?.evidence.about ?? finder.about} />}
      <Found access={access} feed={feed} finder={finder} />
    </div>
  );
}

/** From the field, the arrow down leads to the results. */
function toResults(pressed: KeyboardEvent): void {
  const isField = (pressed.target as Element).matches('input[type=search]');
  const results = document.getElementById('find-people');
  if (pressed.key !== 'ArrowDown' || !isField || results === null) return;
  pressed.preventDefault();
  results.focus();
}

/** For so long after the last one, publishes count as failing. */
const FAILING_MS = 60_000;

/** A disk that is almost full takes small writes and no large ones: then the log seems well, but publishes fail. */
function usePublishFailures({ stats }: StatsFeed): boolean {
  const seen = useRef({ node: '', failed: 0, lastAtMs: Number.NEGATIVE_INFINITY });
  if (stats !== null) {
    const { node, failed, lastAtMs } = seen.current;
    const isMore = node === stats.node.id && stats.publishes.failed > failed;
    const nextAtMs = isMore ? Date.now() : lastAtMs;
    seen.current = { node: stats.node.id, failed: stats.publishes.failed, lastAtMs: nextAtMs };
  }
  return Date.now() - seen.current.lastAtMs < FAILING_MS;
}

interface BridgeFaultProps {
  readonly fault: ServerFault;
  /** The engine's own words. */
  readonly reason: string | null;
}

function BridgeFault({ fault, reason }: BridgeFaultProps) {
  const { faults } = findTexts();
  return (
    <Notice tone={fault === 'draining' ? 'warn' : 'bad'} title={faults[fault]}>
      <p>{faults[`${fault}Text`]}</p>
      {reason !== null && (
        <p lang="en">
          <code>{reason}</code>
        </p>
      )}
    </Notice>
  );
}

function Found({ access, feed, finder }: FindProps) {
  const t = findTexts();
  const { state, error, people, missing, dossier, strangers, reading } = finder;
  if (state === 'idle') return <Start />;
  if (state === 'searching') return <p class="note">{t.searching}</p>;
  if (state === 'failed' && error !== null) {
    const words =
      error.status === 401 ? t.unauthorized : error.status === 403 ? (NEEDS_TOKENS ? t.forbidden : t.openMode) : '';
    return (
      <Notice tone="bad" title={error.status === 403 ? t.forbiddenTitle : t.failed('')}>
        {words !== '' && <p>{words}</p>}
        <Fault error={error} />
      </Notice>
    );
  }
  const tenants = access.claims?.tenants ?? [];
  const nodeName = nodeNames(feed);
  return (
    <>
      <Meanings finder={finder} />
      {error !== null && feed.state !== 'unreachable' && <Notice tone="warn">{t.stale}</Notice>}
      {missing.length > 0 && <Notice tone="warn">{t.missing(missing.map(nodeName).join(', '))}</Notice>}
      {reading?.kind === 'room' && <RoomCard feed={feed} finder={finder} />}
      <div class={people.length > 1 ? 'find-columns' : ''}>
        {people.length > 1 && <People finder={finder} />}
        {people.length === 0 && reading?.kind !== 'room' && <EmptyState title={t.nobody} />}
        {dossier !== null && (
          <PersonView key={dossier.person.key} access={access} finder={finder} dossier={dossier} nodeName={nodeName} />
        )}
      </div>
      {strangers.length > 0 && <Strangers finder={finder} />}
      {tenants.length > 0 && !tenants.includes('*') && <p class="note">{t.reach(tenants.join(', '))}</p>}
    </>
  );
}

/** The host and process of a node, where the statistics name them. */
function nodeNames({ stats }: StatsFeed): (id: string) => string {
  const nodes = stats === null ? [] : [stats.node, ...(stats.nodes ?? [])];
  return (id) => {
    const node = nodes.find((one) => one.id === id && one.host !== null);
    return node === undefined ? id : `${node.host} ${node.pid}`;
  };
}

function Start() {
  const t = findTexts();
  return (
    <EmptyState title={t.startTitle}>
      <p>{t.start}</p>
      <p>
        {t.examples}{' '}
        {['user:ana', 'ticket:5', 'ana ticket:5', '10.0.0.7', 'tenant:acme'].map((example) => (
          <a key={example} class="find-example" href={hrefOf('find', { q: example })}>
            {example}
          </a>
        ))}
      </p>
    </EmptyState>
  );
}

/** What else the text may mean. */
function Meanings({ finder }: { readonly finder: Finder }) {
  const t = findTexts();
  const chosen = finder.reading === null ? '' : formatReading(finder.reading);
  const isFound = finder.people.some(({ connections }) => connections.length > 0);
  const isWorth = ({ reading, count: connections }: Meaning): boolean =>
    formatReading(reading) === chosen ||
    connections !== 0 ||
    (!isFound && (reading.kind === 'user' || reading.name.startsWith('ticket:')));
  const meanings = finder.meanings.length > 1 ? finder.meanings.filter(isWorth) : [];
  const secondsAgo = Math.round((Date.now() - finder.askedAtMs) / 1000);
  return (
    <div class="find-meanings">
      {meanings.length > 1 && (
        <fieldset>
          <legend class="hidden">{t.meant}</legend>
          {meanings.map(({ reading, count: connections }) => (
            <Button
              key={formatReading(reading)}
              isPressed={formatReading(reading) === chosen}
              onClick={() => finder.choose(reading)}
            >
              {t.kinds[reading.kind]} <bdi>{reading.name}</bdi>
              {connections !== null && connections > 0 && (
                <Badge>{`${count(connections)}${connections >= PAGE ? '+' : ''}`}</Badge>
              )}
            </Button>
          ))}
        </fieldset>
      )}
      <p class="note">{t.updated(secondsAgo)}</p>
    </div>
  );
}

function RoomCard({ feed, finder }: Pick<FindProps, 'feed' | 'finder'>) {
  const t = findTexts();
  const { about, hasMore, people, reading } = finder;
  const room = reading?.name ?? '';
  const listeners = people.reduce((sum, { connections }) => sum + connections.length, 0);
  const isQuiet = about?.isSearched === true && about.last === null;
  const { byListeners, byEvents } = feed.stats?.rooms ?? {};
  const known = [...(byListeners?.top ?? []), ...(byEvents?.top ?? [])].map((one) => one.room);
  const near = isQuiet ? nearest(room, new Set(known.filter((one) => one !== room))) : null;
  return (
    <Card title={t.roomTitle(room)} actions={<a href={hrefOf('log', { room })}>{t.openLog(room)}</a>}>
      <p>
        {t.roomHeard(listeners, hasMore)} {isQuiet && t.roomQuiet}
        {about?.last && t.roomLast(about.last.event, about.last.at)}
      </p>
      {near !== null && (
        <p>
          {t.didYouMean}{' '}
          <a href={hrefOf('find', { q: near })}>
            <bdi>{near}</bdi>
          </a>
          ?
        </p>
      )}
    </Card>
  );
}

/** The people, one line each, as one tab stop; the arrow keys move within it. */
function People({ finder }: { readonly finder: Finder }) {
  const t = findTexts();
  const list = useRef<HTMLDivElement>(null);
  const { people, dossier } = finder;
  const selected = dossier?.person.key ?? null;
  const index = people.findIndex(({ key }) => key === selected);

  useEffect(() => {
    list.current?.querySelector('[aria-selected=true]')?.scrollIntoView({ block: 'nearest' });
  }, [selected]);

  function move(pressed: KeyboardEvent): void {
    const last = people.length - 1;
    const target = rowAfter(pressed.key, index, last);
    if (target === undefined) return;
    pressed.preventDefault();
    finder.select((people[target] as Assessed).key);
  }

  return (
    <Card title={t.people(people.length)}>
      <div
        ref={list}
        id="find-people"
        class="find-people"
        role="listbox"
        tabIndex={0}
        aria-label={t.people(people.length)}
        aria-activedescendant={index === -1 ? undefined : `person-${index}`}
        onKeyDown={move}
      >
        {people.map((person, position) => {
          const isSelected = person.key === selected;
          const shown = isSelected && dossier !== null ? dossier.diagnosis : person.diagnosis;
          return (
            // biome-ignore lint/a11y/useKeyWithClickEvents: the list handles keys
            <div
              key={person.key}
              id={`person-${position}`}
              class="find-person"
              role="option"
              tabIndex={-1}
              aria-selected={isSelected}
              onClick={() => finder.select(person.key)}
            >
              <span class={`state ${TONES[shown.level]}`}>
                <strong>
                  <bdi>{nameOf(person)}</bdi>
                </strong>
              </span>
              <span class="note">{verdictText(shown.verdict)}</span>
            </div>
          );
        })}
      </div>
      {finder.hasMore &&
        (people.length < MAX_SHOWN ? (
          <Button onClick={() => finder.showMore()}>{t.more}</Button>
        ) : (
          <p class="note">{t.first(MAX_SHOWN)}</p>
        ))}
    </Card>
  );
}

function Strangers({ finder }: { readonly finder: Finder }) {
  const t = findTexts();
  return (
    <Card title={t.strangers} note={t.strangersNote}>
      <ul class="find-refusals">
        {finder.strangers.map(({ at, address, what, message }, index) => (
          <li key={`${at}\n${address}\n${index}`}>
            <Time at={at} />
            <code>{what}</code>
            <span>{message}</span>
            <a href={hrefOf('find', { q: `address:${address}` })}>
              <bdi>{address}</bdi>
            </a>
          </li>
        ))}
      </ul>
    </Card>
  );
}

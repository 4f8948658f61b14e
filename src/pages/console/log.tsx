/**
 * Log: what the bridge accepted, as the durable log holds it. Pick a room and a time, scroll both ways, open an event,
 * compare two, send one again, or follow the end of the log. The address of the page holds what is shown.
 */
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { parseCursor } from '../../contract/cursor.ts';
import type { LogEntry } from '../../contract/log.ts';
import { language } from '../language.ts';
import { type Access, NEEDS_TOKENS, ROOM_KINDS } from './access.ts';
import { curlOf } from './curl.ts';
import { tenantOf } from './diagnosis.ts';
import { Button, Card, CopyButton, EmptyState, Fault, Field, Notice, rowAfter, Select, State } from './elements.tsx';
import { roomFrom } from './find-query.ts';
import { dateAndTime } from './format.ts';
import { LogEvent } from './log-event.tsx';
import type { LogQuery, LogReader } from './log-reader.ts';
import { useModels } from './model.ts';
import { goTo, hrefOf, type Parameters, route } from './route.ts';
import type { StatsFeed } from './stats.ts';
import { logTexts } from './texts/log.ts';

interface LogProps {
  readonly access: Access;
  readonly feed: StatsFeed;
  readonly reader: LogReader;
  readonly eventNames: readonly string[];
}

export function Log({ access, feed, reader, eventNames }: LogProps) {
  useModels(route, language, reader, access);
  const [selected, setSelected] = useState<LogEntry | null>(null);
  /** The event that the selected one is compared with. */
  const [pinned, setPinned] = useState<LogEntry | null>(null);
  const { parameters } = route.current;
  const asked = JSON.stringify(queryOf(parameters));

  useEffect(() => {
    setSelected(null);
    setPinned(null);
    reader.show(JSON.parse(asked) as LogQuery);
  }, [asked]);
  useEffect(() => () => reader.close(), []);

  return (
    <>
      <Filters key={asked} parameters={parameters} eventNames={eventNames} feed={feed} />
      <Refusal reader={reader} />
      <div class="log-columns">
        <Events access={access} feed={feed} reader={reader} selected={selected} pinned={pinned} select={setSelected} />
        {selected !== null && <LogEvent access={access} entry={selected} pinned={pinned} pin={setPinned} />}
      </div>
    </>
  );
}

/** From the address, which anybody may have written. */
function queryOf({ room = '', tenant = '', event = '', text = '', at = '' }: Parameters): LogQuery {
  const atMs = Date.parse(at);
  return {
    room: room || null,
    tenantId: tenant || null,
    event: event || null,
    contains: text || null,
    at: Number.isNaN(atMs) ? null : new Date(atMs).toISOString(),
  };
}

interface FiltersProps extends Pick<LogProps, 'eventNames' | 'feed'> {
  readonly parameters: Parameters;
}

function Filters({ parameters, eventNames, feed }: FiltersProps) {
  const t = logTexts();
  const [room, setRoom] = useState(parameters.room ?? '');
  const [tenant, setTenant] = useState(parameters.tenant ?? '');
  const [event, setEvent] = useState(parameters.event ?? '');
  const [text, setText] = useState(parameters.text ?? '');
  const [at, setAt] = useState(localOf(parameters.at ?? ''));
  const [fault, setFault] = useState('');
  const known = [...new Set((feed.stats?.rooms.byEvents.top ?? []).map((one) => one.room))];
  const isFiltered = Object.values(parameters).some((value) => value !== '');

  function submit(submitted: Event): void {
    submitted.preventDefault();
    const name = roomFrom(room, ROOM_KINDS) ?? undefined;
    const found = name === undefined && room.trim() !== '' ? t.badRoom : '';
    setFault(found);
    if (found !== '') return;
    const instant = at === '' ? '' : new Date(at).toISOString();
    goTo('log', { room: name, tenant: tenant.trim(), event, text, at: instant });
  }

  return (
    <Card title={t.filters} actions={isFiltered && <a href={hrefOf('log')}>{t.reset}</a>}>
      <form class="log-filters" onSubmit={submit} noValidate>
        <Field label={t.room} value={room} onInput={setRoom} hint={t.roomHint} fault={fault} options={known} />
        <Field label={t.tenant} value={tenant} onInput={setTenant} isOptional />
        <Select
          label={t.event}
          value={event}
          onChoose={setEvent}
          options={[{ value: '', name: t.allEvents }, ...withCurrent(eventNames, event)]}
        />
        <Field label={t.contains} value={text} onInput={setText} isOptional />
        <Field label={t.at} type="datetime-local" value={at} onInput={setAt} isOptional />
        <Button type="submit" kind="primary">
          {t.show}
        </Button>
      </form>
    </Card>
  );
}

/** The address may name an event that this bridge does not know; the server then says so. */
const withCurrent = (names: readonly string[], current: string): readonly string[] =>
  current === '' || names.includes(current) ? names : [...names, current];

/** An instant for a field of the type datetime-local: without a zone, on the reader's clock. */
function localOf(instant: string): string {
  const atMs = Date.parse(instant);
  if (Number.isNaN(atMs)) return '';
  const offsetMs = new Date(atMs).getTimezoneOffset() * 60_000;
  return new Date(atMs - offsetMs).toISOString().slice(0, 19);
}

function Refusal({ reader: { error } }: Pick<LogProps, 'reader'>) {
  const t = logTexts();
  if (error === null) return null;
  const { status } = error;
  const [title, words] =
    status === 401
      ? [t.unauthorizedTitle, t.unauthorized]
      : status === 403
        ? [t.forbiddenTitle, NEEDS_TOKENS ? t.forbidden : t.openMode]
        : [t.failed, status === 410 ? t.cursorGone : ''];
  return (
    <Notice tone="bad" title={title}>
      {words !== '' && <p>{words}</p>}
      <Fault error={error} />
    </Notice>
  );
}

interface EventsProps extends Omit<LogProps, 'eventNames'> {
  readonly selected: LogEntry | null;
  readonly pinned: LogEntry | null;
  readonly select: (entry: LogEntry) => void;
}

/** So near to an end of the list, more is loaded, in pixels. */
const NEAR_END = 200;

/** The list is one tab stop; the arrow keys move within it. */
function Events({ access, feed, reader, selected, pinned, select }: EventsProps) {
  const t = logTexts();
  const list = useRef<HTMLDivElement>(null);
  const { events, older, newer, isFollowing, missed } = reader;
  const index = selected === null ? -1 : events.findIndex(({ id }) => id === selected.id);

  // What is added above must not move the rows that are being read.
  const height = useRef(0);
  const newest = useRef<string | undefined>(undefined);
  useLayoutEffect(() => {
    const box = list.current as HTMLDivElement;
    if (newest.current !== events[0]?.id && box.scrollTop > 0 && events.some(({ id }) => id === newest.current)) {
      box.scrollTop += box.scrollHeight - height.current;
    }
    newest.current = events[0]?.id;
    height.current = box.scrollHeight;
  }, [events]);
  useEffect(() => {
    list.current?.querySelector('[aria-selected=true]')?.scrollIntoView({ block: 'nearest' });
  }, [selected]);

  function scrolled(): void {
    const { scrollTop, scrollHeight, clientHeight } = list.current as HTMLDivElement;
    if (scrollHeight - scrollTop - clientHeight < NEAR_END && events.length > 0) reader.load('older');
    else if (scrollTop === 0 && !isFollowing) reader.load('newer');
  }

  function move(pressed: KeyboardEvent): void {
    const last = events.length - 1;
    const target = rowAfter(pressed.key, index, last);
    if (target === undefined || last < 0) return;
    pressed.preventDefault();
    select(events[target] as LogEntry);
    if (target === last) reader.load('older');
  }

  const room = reader.query?.room ?? '';
  return (
    <Card
      title={t.title}
      class="log-list"
      actions={
        <>
          <State tone={isFollowing ? 'good' : 'neutral'}>
            {isFollowing ? (newer.hasMore ? t.catchingUp : t.following) : t.shown(events.length)}
          </State>
          <Button isPressed={isFollowing} onClick={() => reader.follow(!isFollowing)}>
            {isFollowing ? t.stopLive : t.live}
          </Button>
        </>
      }
    >
      {missed !== null && (
        <Notice tone="warn" title={t.missed}>
          <p>
            {t.missedNote} <code>{missed.code}</code>
          </p>
        </Notice>
      )}
      {newer.hasMore && !isFollowing && (
        <Button isDisabled={newer.isBusy} onClick={() => reader.load('newer')}>
          {t.newer}
        </Button>
      )}
      <div
        ref={list}
        class="log-events"
        role="listbox"
        tabIndex={0}
        aria-label={t.list}
        aria-activedescendant={index === -1 ? undefined : optionId(events[index] as LogEntry)}
        onKeyDown={move}
        onScroll={scrolled}
      >
        {events.map((entry) => (
          <Row
            key={entry.id}
            entry={entry}
            isSelected={entry.id === selected?.id}
            isPinned={entry.id === pinned?.id}
            select={select}
          />
        ))}
      </div>
      <OldEnd feed={feed} reader={reader} />
      <div class="actions">
        {room !== '' && <a href={hrefOf('find', { q: room })}>{t.findRoom(room)}</a>}
        <CopyButton label={t.copyCurlQuery} text={() => curlOf(access, { path: 'log', query: reader.parameters() })} />
      </div>
      {older.isBusy && events.length > 0 && <p class="note">{t.loading}</p>}
    </Card>
  );
}

/** What is at the end of the list: more, a search that goes on, or the beginning of the log. */
function OldEnd({ feed, reader }: Pick<LogProps, 'feed' | 'reader'>) {
  const t = logTexts();
  const { events, older, searched, query, error } = reader;
  if (error !== null && events.length === 0) return null;
  if (older.isBusy && events.length === 0) {
    return (
      <p class="bar" role="status">
        <span class="note">{searched === null ? t.loading : t.searching(searched)}</span>
        {searched !== null && <Button onClick={() => reader.stop()}>{t.stop}</Button>}
      </p>
    );
  }
  if (older.hasMore) {
    const isSearch = events.length === 0;
    return (
      <p class="bar">
        {isSearch && <span class="note">{t.searchPaused}</span>}
        <Button isDisabled={older.isBusy} onClick={() => reader.load('older')}>
          {isSearch ? t.searchOn : t.older}
        </Button>
      </p>
    );
  }
  const isFiltered = query !== null && Object.values(query).some((value) => value !== null);
  if (events.length === 0 && isFiltered) {
    return (
      <EmptyState title={t.nothing}>
        <p>{t.nothingNote}</p>
      </EmptyState>
    );
  }
  if (events.length === 0) {
    return (
      <EmptyState title={t.empty}>
        <p>
          <a href={hrefOf('publish')}>{t.emptyNote}</a>
        </p>
      </EmptyState>
    );
  }
  const oldest = feed.stats?.log.oldest ?? null;
  const isTrimmed = oldest !== null && parseCursor(oldest.cursor)?.seq !== 1;
  return (
    <p class="note">
      {t.begins(oldest === null ? '' : t.since(dateAndTime(Date.parse(oldest.at))))} {isTrimmed && t.beginsNote}
    </p>
  );
}

const optionId = ({ id }: LogEntry): string => `log-${id}`;

interface RowProps {
  readonly entry: LogEntry;
  readonly isSelected: boolean;
  readonly isPinned: boolean;
  readonly select: (entry: LogEntry) => void;
}

function Row({ entry, isSelected, isPinned, select }: RowProps) {
  const { event, rooms, at } = entry;
  const tenant = tenantOf(entry);
  // The tenant stands beside it, and most events have it.
  const shown =
    rooms.find((room) => room.startsWith('ticket:')) ?? rooms.find((room) => room !== `tenant:${tenant}`) ?? rooms[0];
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the list handles keys
    <div
      id={optionId(entry)}
      class={`log-row ${isPinned ? 'pinned' : ''}`}
      role="option"
      tabIndex={-1}
      aria-selected={isSelected}
      onClick={() => select(entry)}
    >
      <time dateTime={at} title={at}>
        {dateAndTime(Date.parse(at))}
      </time>
      <span class="log-what">{event}</span>
      <span class="log-where">
        <bdi>{shown}</bdi>
        {rooms.length > 1 && <span class="note">+{rooms.length - 1}</span>}
        {tenant !== null && <bdi class="note">{tenant}</bdi>}
      </span>
    </div>
  );
}

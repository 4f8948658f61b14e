/** The view Live: the rooms that the page listens to, their events, and one event in full. */
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { printableJson } from '../../contract/printable.ts';
import { allKinds, faultOfRoom, formatRoom, isRoomId, type Room, type RoomKind } from '../../contract/rooms.ts';
import { ROOM_KINDS } from './access.ts';
import {
  Button,
  Card,
  CopyButton,
  DataTable,
  EmptyState,
  Fact,
  Fault,
  Json,
  Notice,
  RoomFields,
  rowAfter,
  Scroll,
  Select,
} from './elements.tsx';
import { bytes, TRANSPORT_LABELS, timeOfDay } from './format.ts';
import { isRefused, type LiveTail, MAX_EVENTS, MAX_ROOMS, type TailEvent, type TailRoom } from './live-tail.ts';
import { useModels } from './model.ts';
import { replaceParameters, route } from './route.ts';
import type { StatsFeed } from './stats.ts';
import { elementTexts } from './texts/elements.ts';
import { liveTexts } from './texts/live.ts';

interface LiveProps {
  readonly tail: LiveTail;
  readonly feed: StatsFeed;
  readonly eventNames: readonly string[];
}

/** `#live?room=ticket:1,user:ana` listens to these rooms, too; the address always holds all of them, for a link to share. */
export function Live({ tail, feed, eventNames }: LiveProps) {
  useModels(tail);
  const [selected, setSelected] = useState<TailEvent | null>(null);
  const [wrongRoom, setWrongRoom] = useState<string | null>(null);
  const asked = route.current.parameters.room ?? '';
  const listed = tail.rooms.map(({ room }) => room).join(',');
  const t = liveTexts();

  useEffect(() => {
    const names = asked.split(',').filter((name) => name !== '');
    const wrong = names.find((name) => faultOfRoom(name, allKinds(ROOM_KINDS)) !== null) ?? null;
    setWrongRoom(wrong);
    for (const name of names) if (faultOfRoom(name, allKinds(ROOM_KINDS)) === null) tail.add(name as Room);
  }, [asked]);
  const known = useRef(listed);
  useEffect(() => {
    if (known.current !== listed || asked === '') replaceParameters({ room: listed });
    known.current = listed;
  }, [listed]);

  return (
    <>
      {wrongRoom !== null && <Notice tone="warn">{t.badRoom(wrongRoom)}</Notice>}
      <LiveRooms tail={tail} feed={feed} />
      {tail.rooms.length === 0 && tail.events.length === 0 ? (
        <Card title={t.events}>
          <EmptyState title={t.noRooms}>{t.noRoomsNote}</EmptyState>
        </Card>
      ) : (
        <>
          <Signals tail={tail} />
          <div class="columns tailing">
            <LiveEvents tail={tail} eventNames={eventNames} selected={selected} select={setSelected} />
            {selected !== null && <EventViewer event={selected} close={() => setSelected(null)} />}
          </div>
        </>
      )}
    </>
  );
}

function LiveRooms({ tail, feed }: Pick<LiveProps, 'tail' | 'feed'>) {
  useModels(tail);
  const [kind, setKind] = useState<RoomKind>('tenant');
  const [id, setId] = useState('');
  const [fault, setFault] = useState('');
  const t = liveTexts();
  const suggestions = [...new Set((feed.stats?.rooms.byEvents.top ?? []).map(({ room }) => room))]
    .filter((room) => room.startsWith(`${kind}:`))
    .map((room) => room.slice(kind.length + 1));

  function add(event: Event): void {
    event.preventDefault();
    const found = !isRoomId(id) ? t.badId : tail.rooms.length >= MAX_ROOMS ? t.tooMany(MAX_ROOMS) : '';
    setFault(found);
    if (found !== '') return;
    tail.add(formatRoom(kind, id));
    setId('');
  }

  return (
    <Card title={t.rooms} note={t.note}>
      <form class="inline" onSubmit={add} noValidate>
        <RoomFields
          kind={kind}
          id={id}
          fault={fault}
          options={suggestions}
          setKind={setKind}
          setId={(typed) => {
            setId(typed);
            setFault('');
          }}
        />
        <Button kind="primary" type="submit">
          {t.listen}
        </Button>
      </form>
      {tail.rooms.length > 0 && (
        <ul class="chips" aria-label={t.rooms}>
          {tail.rooms.map((entry) => (
            <RoomChip key={entry.room} entry={entry} tail={tail} />
          ))}
        </ul>
      )}
      <TailFault tail={tail} />
    </Card>
  );
}

function RoomChip({ entry: { room, error }, tail }: { readonly entry: TailRoom; readonly tail: LiveTail }) {
  return (
    <li class={error === null ? 'chip' : 'chip bad'}>
      <bdi title={room}>{room}</bdi>
      {error !== null && <Fault error={error} />}
      <Button kind="quiet" label={liveTexts().stop(room)} onClick={() => tail.remove(room)}>
        ×
      </Button>
    </li>
  );
}

/** What a refused room has to do with the token, if its code says so; a closed connection, and why. */
function TailFault({ tail }: { readonly tail: LiveTail }) {
  const { state, error } = tail.status;
  const t = liveTexts();
  const isDenied = tail.rooms.some((entry) => isRefused(entry) && [401, 403].includes(entry.error?.status ?? 0));
  if (isDenied) return <p class="fault">{t.needsScope}</p>;
  if (state !== 'closed' || error === null) return null;
  return (
    <Notice tone="bad" title={t.closed}>
      <Fault error={error} />
    </Notice>
  );
}

const MAX_SIGNALS = 50;

/** What is true right now, such as "somebody is typing". Events are what happened. */
function Signals({ tail }: { readonly tail: LiveTail }) {
  const { signals } = tail;
  const t = liveTexts();
  if (signals.length === 0) return null;
  return (
    <Card title={t.signals}>
      <Scroll label={t.signals}>
        <DataTable
          label={t.signals}
          rows={signals.slice(0, MAX_SIGNALS)}
          keyOf={({ event, room, sender }) => `${event}\n${room}\n${sender}`}
          columns={[
            { title: t.signal, value: ({ event }) => event },
            { title: t.room, value: ({ room }) => <bdi>{room}</bdi> },
            { title: t.from, value: ({ from, sender }) => <bdi title={sender}>{from ?? sender}</bdi> },
            {
              title: t.payload,
              value: ({ payload }) => <code dir="ltr">{printableJson(JSON.stringify(payload))}</code>,
            },
          ]}
        />
      </Scroll>
      {signals.length > MAX_SIGNALS && <p class="note">{t.andMore(signals.length - MAX_SIGNALS)}</p>}
    </Card>
  );
}

/** Until the first row can be measured. */
const ROW_PIXELS = 32;
const ROWS_RENDERED = 60;
const ROWS_AROUND = 15;

interface LiveEventsProps {
  readonly tail: LiveTail;
  readonly eventNames: readonly string[];
  readonly selected: TailEvent | null;
  readonly select: (event: TailEvent | null) => void;
}

export function LiveEvents({ tail, eventNames, selected, select }: LiveEventsProps) {
  useModels(tail);
  const list = useRef<HTMLDivElement>(null);
  const [scrollTop, setScrollTop] = useState(0);
  const t = liveTexts();
  const { events, isPaused, arrivedWhilePaused, filter } = tail;
  // Renders only the visible rows and some around them: at 1000 events a second the whole list is too slow.
  const rowHeight = list.current?.querySelector('.event')?.getBoundingClientRect().height ?? ROW_PIXELS;
  const first = Math.max(0, Math.min(Math.floor(scrollTop / rowHeight) - ROWS_AROUND, events.length - 1));
  const rendered = events.slice(first, first + ROWS_RENDERED);
  const selectedIndex = selected === null ? -1 : events.findIndex(({ cursor }) => cursor === selected.cursor);

  // While the list is scrolled down, new events must not move the rows; at the top, they come into view.
  const newest = useRef(events[0]?.cursor);
  useLayoutEffect(() => {
    const box = list.current as HTMLDivElement;
    const added = events.findIndex(({ cursor }) => cursor === newest.current);
    newest.current = events[0]?.cursor;
    if (added > 0 && box.scrollTop > 0) box.scrollTop += added * rowHeight;
  }, [events]);

  function move(pressed: KeyboardEvent): void {
    const last = events.length - 1;
    const target = rowAfter(pressed.key, selectedIndex, last);
    if (target === undefined || last < 0) return;
    pressed.preventDefault();
    select(events[target] ?? null);
    const box = list.current as HTMLDivElement;
    const minScrollTop = (target + 1) * rowHeight - box.clientHeight;
    box.scrollTop = Math.min(target * rowHeight, Math.max(minScrollTop, box.scrollTop));
  }

  function click({ target }: MouseEvent): void {
    const row = (target as Element).closest('[role=option]');
    const clicked = events.find((event) => optionId(event) === row?.id);
    if (clicked === undefined) return;
    select(clicked);
    // A row is removed when it scrolls out of view, and would take the focus with it.
    list.current?.focus({ preventScroll: true });
  }

  return (
    <Card
      title={t.events}
      class="live"
      actions={
        <>
          <Select
            label={t.filter}
            isLabelHidden
            value={filter ?? ''}
            onChoose={(event) => tail.setFilter(event || null)}
            options={[{ value: '', name: t.allEvents }, ...eventNames.map((name) => ({ value: name, name }))]}
          />
          <Button kind={isPaused ? 'primary' : 'plain'} onClick={() => tail.pause(!isPaused)}>
            {isPaused ? t.go : t.pause}
          </Button>
          <Button onClick={() => tail.clear()}>{t.clear}</Button>
        </>
      }
      note={
        <>
          {events.length === MAX_EVENTS ? t.newest(MAX_EVENTS) : t.shown(events.length)}
          {isPaused && ` ${t.paused(arrivedWhilePaused)}`}
        </>
      }
    >
      <div class="framed">
        <div
          ref={list}
          class="events"
          role="listbox"
          tabIndex={0}
          aria-label={t.list}
          aria-activedescendant={selectedIndex === -1 ? undefined : optionId(events[selectedIndex] as TailEvent)}
          onKeyDown={move}
          onClick={click}
          onScroll={(event) => setScrollTop(event.currentTarget.scrollTop)}
        >
          <div
            role="presentation"
            style={{
              paddingTop: `${first * rowHeight}px`,
              paddingBottom: `${Math.max(0, events.length - first - rendered.length) * rowHeight}px`,
            }}
          >
            {rendered.map((event, index) => (
              <EventRow
                key={event.cursor}
                tailEvent={event}
                isSelected={event.cursor === selected?.cursor}
                position={first + index + 1}
                size={events.length}
              />
            ))}
          </div>
        </div>
        {events.length === 0 && <EmptyState title={t.noEvents}>{t.noEventsNote}</EmptyState>}
      </div>
    </Card>
  );
}

const optionId = ({ cursor }: TailEvent): string => `event-${cursor}`;

interface EventRowProps {
  readonly tailEvent: TailEvent;
  readonly isSelected: boolean;
  readonly position: number;
  readonly size: number;
}

function EventRow({ tailEvent, isSelected, position, size }: EventRowProps) {
  const { event, ids, atMs, cursor } = tailEvent;
  return (
    <div
      id={optionId(tailEvent)}
      class="event"
      role="option"
      tabIndex={-1}
      aria-selected={isSelected}
      aria-posinset={position}
      aria-setsize={size}
    >
      <span class="when">{atMs === null ? liveTexts().earlier : timeOfDay(atMs)}</span>
      <span class="what">{event}</span>
      <span class="where">
        {(['ticket', 'tenant'] as const).map((kind) => (
          <bdi key={kind} title={ids[kind] && `${kind}:${ids[kind]}`}>
            {ids[kind]}
          </bdi>
        ))}
      </span>
      <code class="cursor">{cursor}</code>
    </div>
  );
}

/** The names of `@roomcast/client` and those of the bridge. */
const transportLabel = (name: string): string =>
  TRANSPORT_LABELS[(name === 'poll' ? 'longpoll' : name) as keyof typeof TRANSPORT_LABELS] ?? name;

export function EventViewer({ event, close }: { readonly event: TailEvent; readonly close: () => void }) {
  const t = liveTexts();
  return (
    <Card
      title={t.payload}
      class="viewer"
      actions={
        <Button kind="quiet" label={elementTexts().close} onClick={close}>
          ×
        </Button>
      }
    >
      <dl class="facts">
        <Fact name={t.event}>{event.event}</Fact>
        <Fact name={t.cursor}>
          <code>{event.cursor}</code>
        </Fact>
        <Fact name={t.received}>
          {event.atMs === null ? t.fromLog : t.over(timeOfDay(event.atMs), transportLabel(event.transport))}
        </Fact>
        <Fact name={t.size}>{t.ofJson(bytes(new Blob([event.text]).size))}</Fact>
      </dl>
      <Json text={event.text} actions={<CopyButton text={event.cursor} label={t.copyCursor} />} />
    </Card>
  );
}

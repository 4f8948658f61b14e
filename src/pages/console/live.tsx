/** The live tail: its rooms, its events, and one event in full. The list is one tab stop; arrow keys move within it. */
import { useLayoutEffect, useRef, useState } from 'preact/hooks';
import { printableJson } from '../../contract/printable.ts';
import { formatRoom, ID_RULE, isRoomId, type RoomKind } from '../../contract/rooms.ts';
import { Card, Fact, Json, RoomFields, Scroll } from './elements.tsx';
import { bytes, count, timeOfDay } from './format.ts';
import { isRefused, type LiveTail, MAX_EVENTS, MAX_ROOMS, type TailEvent, type TailRoom } from './live-tail.ts';
import { useModels } from './model.ts';
import type { StatsFeed } from './stats.ts';

interface TailProps {
  readonly tail: LiveTail;
  readonly feed: StatsFeed;
  readonly eventNames: readonly string[];
}

export function Tail({ tail, feed, eventNames }: TailProps) {
  const [selected, setSelected] = useState<TailEvent | null>(null);
  return (
    <>
      <TailRooms tail={tail} feed={feed} />
      <Signals tail={tail} />
      <div class="columns tailing">
        <TailList tail={tail} eventNames={eventNames} selected={selected} select={setSelected} />
        {selected !== null && <PayloadViewer event={selected} />}
      </div>
    </>
  );
}

export function TailRooms({ tail, feed }: Pick<TailProps, 'tail' | 'feed'>) {
  useModels(tail);
  const [kind, setKind] = useState<RoomKind>('tenant');
  const [id, setId] = useState('');
  const [fault, setFault] = useState('');
  const suggestions = [...new Set((feed.stats?.rooms.byEvents.top ?? []).map(({ room }) => room))]
    .filter((room) => room.startsWith(`${kind}:`))
    .map((room) => room.slice(kind.length + 1));

  function add(event: Event): void {
    event.preventDefault();
    const isFull = tail.rooms.length >= MAX_ROOMS;
    const found = !isRoomId(id) ? `An id is ${ID_RULE}.` : isFull ? `You can tail at most ${MAX_ROOMS} rooms.` : '';
    setFault(found);
    if (found !== '') return;
    tail.add(formatRoom(kind, id));
    setId('');
  }

  return (
    <section class="card" aria-labelledby="tailed">
      <h3 id="tailed">Rooms tailed</h3>
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
        <button type="submit" class="primary">
          Tail this room
        </button>
      </form>
      {tail.rooms.length === 0 ? (
        <p class="note">No rooms yet. Enter a room here, or choose one in the overview.</p>
      ) : (
        <ul class="chips" aria-label="Rooms tailed">
          {tail.rooms.map((entry) => (
            <RoomChip key={entry.room} entry={entry} tail={tail} />
          ))}
        </ul>
      )}
      <TailFault tail={tail} />
    </section>
  );
}

function RoomChip({ entry: { room, error }, tail }: { readonly entry: TailRoom; readonly tail: LiveTail }) {
  return (
    <li class={error === null ? 'chip' : 'chip bad'}>
      <bdi title={room}>{room}</bdi>
      {error !== null && (
        <span>
          {error.message} <code>{error.code}</code>
        </span>
      )}
      <button type="button" aria-label={`Stop tailing ${room}`} onClick={() => tail.remove(room)}>
        ×
      </button>
    </li>
  );
}

function TailFault({ tail }: { readonly tail: LiveTail }) {
  const { state, error } = tail.status;
  if (tail.rooms.some(isRefused)) {
    return (
      <p class="fault">
        Listening needs a token with the scope <code>subscribe</code> for the room’s tenant. A service token (
        <code>tenantId: "*"</code>) cannot listen.
      </p>
    );
  }
  if (state === 'closed' && error !== null) return <p class="fault">The tail is closed. {error.message}</p>;
  return null;
}

const MAX_SIGNALS = 50;

/** What is true right now, such as "somebody is typing". Events are what happened. */
function Signals({ tail }: { readonly tail: LiveTail }) {
  useModels(tail);
  const { signals } = tail;
  if (signals.length === 0) return null;
  return (
    <section class="card" aria-labelledby="signals">
      <h3 id="signals">Active signals</h3>
      <Scroll label="Active signals">
        <table>
          <thead>
            <tr>
              <th scope="col">Signal</th>
              <th scope="col">Room</th>
              <th scope="col">From</th>
              <th scope="col">Payload</th>
            </tr>
          </thead>
          <tbody>
            {signals.slice(0, MAX_SIGNALS).map(({ event, room, from, sender, payload }) => (
              <tr key={`${event}\n${room}\n${sender}`}>
                <th scope="row">{event}</th>
                <td class="name">
                  <bdi>{room}</bdi>
                </td>
                <td class="name">
                  <bdi title={sender}>{from ?? sender}</bdi>
                </td>
                <td>
                  <code dir="ltr">{printableJson(JSON.stringify(payload))}</code>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
      {signals.length > MAX_SIGNALS && <p class="note">and {count(signals.length - MAX_SIGNALS)} more</p>}
    </section>
  );
}

/** Until the first row can be measured. */
const ROW_PIXELS = 28;
const ROWS_RENDERED = 60;
const ROWS_AROUND = 15;

interface TailListProps {
  readonly tail: LiveTail;
  readonly eventNames: readonly string[];
  readonly selected: TailEvent | null;
  readonly select: (event: TailEvent | null) => void;
}

export function TailList({ tail, eventNames, selected, select }: TailListProps) {
  useModels(tail);
  const list = useRef<HTMLDivElement>(null);
  const [scrollTop, setScrollTop] = useState(0);
  const { rooms, events, isPaused, arrivedWhilePaused, filter } = tail;
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
    const targets: Readonly<Record<string, number>> = {
      ArrowDown: Math.min(last, selectedIndex + 1),
      ArrowUp: Math.max(0, selectedIndex - 1),
      PageDown: Math.min(last, selectedIndex + 10),
      PageUp: Math.max(0, selectedIndex - 10),
      Home: 0,
      End: last,
    };
    const target = targets[pressed.key];
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
    <section class="card" aria-labelledby="events">
      <div class="bar">
        <h3 id="events">Events</h3>
        <label>
          <span class="hidden">Filter by event</span>
          <select value={filter ?? ''} onChange={(picked) => tail.setFilter(picked.currentTarget.value || null)}>
            <option value="">All events</option>
            {eventNames.map((name) => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <button type="button" class={isPaused ? 'primary' : ''} onClick={() => tail.pause(!isPaused)}>
          {isPaused ? 'Continue' : 'Pause'}
        </button>
        <button type="button" onClick={() => tail.clear()}>
          Clear
        </button>
      </div>
      <p class="note">
        {events.length === MAX_EVENTS ? `The newest ${count(MAX_EVENTS)}` : count(events.length)} shown, newest first.
        {isPaused && ` Paused: ${count(arrivedWhilePaused)} new.`}
      </p>
      <div class="framed">
        <div
          ref={list}
          class="events"
          role="listbox"
          tabIndex={0}
          aria-label="Events, newest first"
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
        {events.length === 0 && (
          <p class="empty">{rooms.length === 0 ? 'Tail a room to see its events here.' : 'No events yet.'}</p>
        )}
      </div>
    </section>
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
      <span class="when">{atMs === null ? 'history' : timeOfDay(atMs)}</span>
      <span class="what">{event}</span>
      <span class="where">
        {(['tenant', 'ticket'] as const).map((kind) => (
          <bdi key={kind} title={ids[kind] && `${kind}:${ids[kind]}`}>
            {ids[kind]}
          </bdi>
        ))}
      </span>
      <code class="cursor">{cursor}</code>
    </div>
  );
}

function PayloadViewer({ event }: { readonly event: TailEvent }) {
  return (
    <Card title="Payload" class="viewer">
      <dl class="facts">
        <Fact name="Event">{event.event}</Fact>
        <Fact name="Cursor">
          <code>{event.cursor}</code>
        </Fact>
        <Fact name="Received">
          {event.atMs === null ? 'from the log, as history' : `${timeOfDay(event.atMs)}, over ${event.transport}`}
        </Fact>
        <Fact name="Size">{bytes(new Blob([event.text]).size)} of JSON</Fact>
      </dl>
      <Json text={event.text} />
    </Card>
  );
}

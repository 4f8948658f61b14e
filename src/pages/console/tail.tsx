/** The live tail: which rooms, what came, one event at a time. The list is one stop for the keyboard; arrows move in it. */
import { useLayoutEffect, useRef, useState } from 'preact/hooks';
import { formatRoom, ID_RULE, isRoomId, ROOM_KINDS, type RoomKind } from '../../contract/rooms.ts';
import { count, timeOfDay } from './format.ts';
import { type Heard, isRefused, MOST_ROOMS, MOST_SHOWN, type Tailed, type Tailing } from './live-tail.ts';
import { useChanges } from './model.ts';
import { PayloadViewer } from './payload.tsx';
import type { Figures } from './stats.ts';

interface TailProps {
  readonly tailing: Tailing;
  readonly figures: Figures;
  readonly eventNames: readonly string[];
}

export function Tail({ tailing, figures, eventNames }: TailProps) {
  const [chosen, setChosen] = useState<Heard | null>(null);
  return (
    <>
      <TailRooms tailing={tailing} figures={figures} />
      <div class="columns tailing">
        <TailList tailing={tailing} eventNames={eventNames} chosen={chosen} choose={setChosen} />
        <PayloadViewer heard={chosen} />
      </div>
    </>
  );
}

export function TailRooms({ tailing, figures }: Pick<TailProps, 'tailing' | 'figures'>) {
  useChanges(tailing.changes);
  const [kind, setKind] = useState<RoomKind>('tenant');
  const [id, setId] = useState('');
  const [fault, setFault] = useState('');
  const known = [...new Set((figures.stats?.rooms.byEvents.top ?? []).map(({ room }) => room))]
    .filter((room) => room.startsWith(`${kind}:`))
    .map((room) => room.slice(kind.length + 1));

  function add(event: Event): void {
    event.preventDefault();
    const isFull = tailing.rooms.length >= MOST_ROOMS;
    const refusal = !isRoomId(id)
      ? `An id is ${ID_RULE}.`
      : isFull
        ? `At most ${MOST_ROOMS} rooms are tailed at once.`
        : '';
    setFault(refusal);
    if (refusal !== '') return;
    tailing.add(formatRoom(kind, id));
    setId('');
  }

  return (
    <section class="panel" aria-labelledby="tailed">
      <h3 id="tailed">Rooms tailed</h3>
      <form class="inline" onSubmit={add} noValidate>
        <label>
          Kind
          <select value={kind} onChange={(event) => setKind(event.currentTarget.value as RoomKind)}>
            {ROOM_KINDS.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
        <label class="grow">
          Id
          <input
            value={id}
            list="known-rooms"
            autocomplete="off"
            spellcheck={false}
            aria-invalid={fault !== ''}
            aria-describedby="room-fault"
            onInput={(event) => {
              setId(event.currentTarget.value);
              setFault('');
            }}
          />
        </label>
        <datalist id="known-rooms">
          {known.map((room) => (
            <option key={room} value={room} />
          ))}
        </datalist>
        <button type="submit" class="primary">
          Tail this room
        </button>
      </form>
      <p id="room-fault" class="fault" role="alert">
        {fault}
      </p>
      {tailing.rooms.length === 0 ? (
        <p class="note">None yet. Name one here, or choose one in the overview.</p>
      ) : (
        <ul class="chips" aria-label="Rooms tailed">
          {tailing.rooms.map((tailed) => (
            <RoomChip key={tailed.room} tailed={tailed} tailing={tailing} />
          ))}
        </ul>
      )}
      <TailFault tailing={tailing} />
    </section>
  );
}

function RoomChip({ tailed: { room, error }, tailing }: { readonly tailed: Tailed; readonly tailing: Tailing }) {
  return (
    <li class={error === null ? 'chip' : 'chip bad'}>
      <bdi title={room}>{room}</bdi>
      {error !== null && (
        <span>
          {error.message} <code>{error.code}</code>
        </span>
      )}
      <button type="button" aria-label={`Stop tailing ${room}`} onClick={() => tailing.remove(room)}>
        ×
      </button>
    </li>
  );
}

function TailFault({ tailing }: { readonly tailing: Tailing }) {
  const { state, error } = tailing.status;
  if (tailing.rooms.some(isRefused)) {
    return (
      <p class="fault">
        Listening needs a token with the scope <code>subscribe</code> and the room’s tenant. A service token (
        <code>tenantId: "*"</code>) listens to nothing.
      </p>
    );
  }
  if (state === 'closed' && error !== null) return <p class="fault">The tail was closed: {error.message}</p>;
  return null;
}

/** Until a row is there to be measured. */
const ROW_PIXELS = 28;
const ROWS_DRAWN = 60;
const ROWS_AROUND = 15;

interface TailListProps {
  readonly tailing: Tailing;
  readonly eventNames: readonly string[];
  readonly chosen: Heard | null;
  readonly choose: (heard: Heard | null) => void;
}

export function TailList({ tailing, eventNames, chosen, choose }: TailListProps) {
  useChanges(tailing.changes);
  const list = useRef<HTMLDivElement>(null);
  const [scrolled, setScrolled] = useState(0);
  const { rooms, shown, isPaused, held, event } = tailing;
  // Only what can be seen is drawn, and a little around it: at 1000 events a second the whole list would be too much.
  const rowHeight = list.current?.querySelector('.event')?.getBoundingClientRect().height ?? ROW_PIXELS;
  const first = Math.max(0, Math.min(Math.floor(scrolled / rowHeight) - ROWS_AROUND, shown.length - 1));
  const drawn = shown.slice(first, first + ROWS_DRAWN);
  const at = chosen === null ? -1 : shown.findIndex(({ cursor }) => cursor === chosen.cursor);

  // Whoever has scrolled down keeps the rows that are read where they are; at the top the newest comes into view.
  const newest = useRef(shown[0]?.cursor);
  useLayoutEffect(() => {
    const box = list.current as HTMLDivElement;
    const added = shown.findIndex(({ cursor }) => cursor === newest.current);
    newest.current = shown[0]?.cursor;
    if (added > 0 && box.scrollTop > 0) box.scrollTop += added * rowHeight;
  }, [shown]);

  function move(pressed: KeyboardEvent): void {
    const last = shown.length - 1;
    const steps: Readonly<Record<string, number>> = {
      ArrowDown: Math.min(last, at + 1),
      ArrowUp: Math.max(0, at - 1),
      PageDown: Math.min(last, at + 10),
      PageUp: Math.max(0, at - 10),
      Home: 0,
      End: last,
    };
    const next = steps[pressed.key];
    if (next === undefined || last < 0) return;
    pressed.preventDefault();
    choose(shown[next] ?? null);
    bringIntoView(next);
  }

  function bringIntoView(index: number): void {
    const box = list.current as HTMLDivElement;
    const least = (index + 1) * rowHeight - box.clientHeight;
    box.scrollTop = Math.min(index * rowHeight, Math.max(least, box.scrollTop));
  }

  function pick(event: MouseEvent): void {
    const row = (event.target as Element).closest('[role=option]');
    const picked = shown.find((heard) => optionId(heard) === row?.id);
    if (picked === undefined) return;
    choose(picked);
    // A row goes when it is scrolled out of view, and would take the focus with it.
    list.current?.focus({ preventScroll: true });
  }

  return (
    <section class="panel" aria-labelledby="events">
      <div class="bar">
        <h3 id="events">Events</h3>
        <label>
          <span class="hidden">Event to show</span>
          <select value={event ?? ''} onChange={(picked) => tailing.keepOnly(picked.currentTarget.value || null)}>
            <option value="">All events</option>
            {eventNames.map((name) => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <button type="button" class={isPaused ? 'primary' : ''} onClick={() => tailing.pause(!isPaused)}>
          {isPaused ? 'Go on' : 'Pause'}
        </button>
        <button type="button" onClick={() => tailing.clear()}>
          Clear
        </button>
      </div>
      <p class="note">
        {shown.length === MOST_SHOWN ? `The newest ${count(MOST_SHOWN)}` : `${count(shown.length)} shown`}, newest
        first.
        {isPaused && ` Paused: ${count(held)} came since.`}
      </p>
      <div class="framed">
        <div
          ref={list}
          class="events"
          role="listbox"
          tabIndex={0}
          aria-label="Events, newest first"
          aria-activedescendant={at === -1 ? undefined : optionId(shown[at] as Heard)}
          onKeyDown={move}
          onClick={pick}
          onScroll={(event) => setScrolled(event.currentTarget.scrollTop)}
        >
          <div
            role="presentation"
            style={{
              paddingTop: `${first * rowHeight}px`,
              paddingBottom: `${Math.max(0, shown.length - first - drawn.length) * rowHeight}px`,
            }}
          >
            {drawn.map((heard, index) => (
              <EventRow
                key={heard.cursor}
                heard={heard}
                isChosen={heard.cursor === chosen?.cursor}
                place={first + index + 1}
                of={shown.length}
              />
            ))}
          </div>
        </div>
        {shown.length === 0 && (
          <p class="empty">{rooms.length === 0 ? 'Tail a room to see its events here.' : 'Nothing yet.'}</p>
        )}
      </div>
    </section>
  );
}

const optionId = ({ cursor }: Heard): string => `event-${cursor}`;

interface EventRowProps {
  readonly heard: Heard;
  readonly isChosen: boolean;
  readonly place: number;
  readonly of: number;
}

function EventRow({ heard, isChosen, place, of }: EventRowProps) {
  const { event, ids, atMs, cursor } = heard;
  return (
    <div
      id={optionId(heard)}
      class="event"
      role="option"
      tabIndex={-1}
      aria-selected={isChosen}
      aria-posinset={place}
      aria-setsize={of}
    >
      <span class="when">{atMs === null ? 'before' : timeOfDay(atMs)}</span>
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

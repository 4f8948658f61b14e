/** The rooms with listeners or traffic: the busiest, or all whose name contains a text. */
import { useEffect, useState } from 'preact/hooks';
import type { RoomFigures, Stats } from '../../contract/stats.ts';
import type { Access } from './access.ts';
import { Card, type Column, DataTable, EmptyState, Field, Scroll } from './elements.tsx';
import { count, duration } from './format.ts';
import { hrefOf, replaceParameters, route } from './route.ts';
import { overviewTexts } from './texts/overview.ts';

interface RoomsProps {
  readonly access: Access;
  /** Those of `GET /stats` without a search. */
  readonly rooms: Stats['rooms'];
}

type Order = 'listeners' | 'events';

const SEARCH_MS = 2_000;
/** After the last key. */
const TYPING_MS = 200;
const MAX_FOUND = 50;
/** A room's name, as `GET /stats` takes it. */
const MAX_SEARCH = 161;

export function Rooms({ access, rooms }: RoomsProps) {
  const t = overviewTexts().rooms;
  const text = (route.current.parameters.rooms ?? '').slice(0, MAX_SEARCH);
  const found = useSearch(access, text);
  const [order, setOrder] = useState<Order>('events');
  const shown = text === '' ? rooms : found;
  const span = duration(rooms.byEvents.seconds + 0.5);
  const list = shown === null ? [] : inOrder(shown, order);
  const others = shown === null ? 0 : Math.max(shown.byListeners.others.rooms, shown.byEvents.others.rooms);
  const sort = (by: Order) => ({ sorted: order === by ? 'descending' : null, onSort: () => setOrder(by) }) as const;
  const columns: Column<RoomFigures>[] = [
    { title: t.room, value: ({ room }) => <bdi>{room}</bdi> },
    { title: t.tenant, value: ({ tenantId }) => <bdi>{tenantId}</bdi> },
    { title: t.listeners, isNumber: true, value: ({ listeners }) => count(listeners), sort: sort('listeners') },
    { title: t.events(span), isNumber: true, value: ({ events }) => count(events), sort: sort('events') },
    {
      title: '',
      value: ({ room, tenantId }) => (
        <span class="room-links">
          <a href={hrefOf('live', { room })} aria-label={t.openLive(room)}>
            {t.live}
          </a>
          <a href={logOf(room, tenantId)} aria-label={t.openLog(room)}>
            {t.log}
          </a>
        </span>
      ),
    },
  ];
  return (
    <Card title={t.title} class="rooms">
      <Field
        label={t.search}
        isLabelHidden
        placeholder={t.search}
        value={text}
        onInput={(rooms) => replaceParameters({ ...route.current.parameters, rooms })}
      />
      {list.length === 0 ? (
        shown !== null && <NoRooms text={text} />
      ) : (
        <Scroll label={t.title} class="tall">
          <DataTable
            label={t.title}
            columns={list.some(({ tenantId }) => tenantId !== null) ? columns : columns.filter((_, at) => at !== 1)}
            rows={list}
            keyOf={({ room, tenantId }) => `${tenantId}\n${room}`}
          />
        </Scroll>
      )}
      <p class="note" role="status">
        {text !== '' && shown !== null && list.length > 0 && t.found(count(list.length + others))}
        {others > 0 && ` ${(text === '' ? t.more : t.moreFound)(count(others))}`}
      </p>
    </Card>
  );
}

function NoRooms({ text }: { readonly text: string }) {
  const t = overviewTexts().rooms;
  if (text === '') return <EmptyState title={t.none}>{t.noneNote}</EmptyState>;
  return (
    <EmptyState title={t.notFound(text)}>
      <p>{t.notFoundNote}</p>
      {text.includes(':') && <a href={hrefOf('log', { room: text })}>{t.inLog(text)}</a>}
    </EmptyState>
  );
}

const logOf = (room: string, tenantId: string | null): string => hrefOf('log', { room, tenant: tenantId ?? undefined });

/** Of both lists: a room may have listeners and no events. */
function inOrder({ byListeners, byEvents }: Stats['rooms'], order: Order): RoomFigures[] {
  const byName = new Map([...byListeners.top, ...byEvents.top].map((of) => [`${of.tenantId}\n${of.room}`, of]));
  return [...byName.values()].sort((a, b) => b[order] - a[order] || (a.room < b.room ? -1 : 1));
}

/** Null while the first answer is on its way. */
function useSearch(access: Access, text: string): Stats['rooms'] | null {
  const [found, setFound] = useState<{ readonly text: string; readonly rooms: Stats['rooms'] } | null>(null);
  useEffect(() => {
    if (text === '') return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isOver = false;
    async function ask(): Promise<void> {
      // The frame says when the server is away, and the next request follows by itself.
      const answer = await access
        .request<Stats>('stats', { query: { rooms: text, limit: MAX_FOUND } })
        .catch(() => null);
      if (isOver) return;
      if (answer !== null) setFound({ text, rooms: answer.rooms });
      timer = setTimeout(() => void ask(), SEARCH_MS);
    }
    timer = setTimeout(() => void ask(), TYPING_MS);
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [access, text]);
  return found?.text === text ? found.rooms : null;
}

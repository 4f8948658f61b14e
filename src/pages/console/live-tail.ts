/**
 * The live tail: the events of some rooms, received through `@roomcast/client` as any application receives them.
 *
 * A room starts with its newest events from the log and continues from their cursor without a gap. The tail keeps a
 * bounded number and size of events, each as JSON text, which is parsed only when the operator opens the event.
 */
import { connect, type Live, type RoomcastError, type RoomIds, type Status } from '../../client/client.ts';
import { BUILT_IN_KINDS, idField, idOf, kindOf, type Room, type RoomKind, toId } from '../../contract/rooms.ts';
import { type Access, BASE, SOCKET_PATH } from './access.ts';
import { createChanges, type Model } from './model.ts';

export interface TailEvent {
  readonly cursor: string;
  readonly event: string;
  /** JSON. */
  readonly text: string;
  readonly ids: Readonly<Partial<Record<RoomKind, string>>>;
  /** When it arrived; null for history from the log. */
  readonly atMs: number | null;
  readonly transport: string;
}

export interface TailRoom {
  readonly room: Room;
  /** Why the room is not live. */
  error: RoomcastError | null;
}

/** The bridge refused the room for good. */
export const isRefused = ({ error }: TailRoom): boolean => error !== null && !error.passing;

export interface LiveTail extends Model {
  readonly rooms: readonly TailRoom[];
  readonly status: Status;
  /** Newest first. Does not change while paused. */
  readonly events: readonly TailEvent[];
  /** Those that are active now in the rooms. */
  readonly signals: readonly TailSignal[];
  /** How many events arrived since the pause. */
  readonly arrivedWhilePaused: number;
  readonly isPaused: boolean;
  /** The only event name that is kept; null: all. */
  readonly filter: string | null;
  add(room: Room): void;
  remove(room: Room): void;
  pause(isPaused: boolean): void;
  setFilter(event: string | null): void;
  clear(): void;
  isListening(room: Room): boolean;
}

export const MAX_EVENTS = 500;
/** Limit for the JSON text of all kept events. Past it, the oldest are dropped. */
const MAX_CHARACTERS = 16 * 1024 * 1024;
export const MAX_ROOMS = 20;
const HISTORY_EVENTS = 50;
const RENDER_MS = 100;
const RETRY_MS = 2_000;
const NOT_CONNECTED: Status = { state: 'connecting', transport: null, error: null };

type Payload = Readonly<Record<string, unknown>>;
type TailConnection = Live<Record<string, unknown>, string>;
export type TailSignal = ReturnType<TailConnection['signals']>[number];

interface HistoryPage {
  readonly events: readonly { readonly id: string; readonly event: string; readonly payload: Payload }[];
  readonly cursor: string;
}

const idsOf = (room: Room): RoomIds<string> => ({ [idField(kindOf(room))]: idOf(room) });

export function createLiveTail(access: Access): LiveTail {
  const changes = createChanges(RENDER_MS);
  const rooms = new Map<Room, TailRoom>();
  let live: TailConnection | null = null;
  /** Oldest first. */
  let kept: TailEvent[] = [];
  let keptCharacters = 0;
  /** What the paused list shows. */
  let paused: readonly TailEvent[] | null = null;
  let arrivedWhilePaused = 0;
  let filter: string | null = null;
  /** The newest first; built when it is read. */
  let events: readonly TailEvent[] | null = null;

  function open(): TailConnection {
    const { token } = access;
    const opened = connect<Record<string, unknown>, string>({
      url: BASE,
      socketPath: SOCKET_PATH,
      ...(token === null ? {} : { token }),
    });
    opened.on('status', () => changes.notify());
    opened.on('signals', () => changes.notify());
    void receive(opened);
    return opened;
  }

  async function receive(from: TailConnection): Promise<void> {
    try {
      for await (const { event, cursor, transport, payload } of from) {
        if (from !== live) return;
        keep(tailEvent(event, cursor, payload as Payload, transport, Date.now()));
      }
    } catch {
      changes.notify(); // The status holds the reason.
    }
  }

  function tailEvent(
    event: string,
    cursor: string,
    payload: Payload,
    transport: string,
    atMs: number | null,
  ): TailEvent {
    const ids: Partial<Record<RoomKind, string>> = {};
    for (const kind of BUILT_IN_KINDS) {
      const id = toId(payload[idField(kind)]);
      if (id !== null) ids[kind] = id;
    }
    return { cursor, event, text: JSON.stringify(payload), ids, atMs, transport };
  }

  function keep(added: TailEvent): void {
    if (filter !== null && added.event !== filter) return;
    kept.push(added);
    keptCharacters += added.text.length;
    if (paused !== null) arrivedWhilePaused++;
    // Trimming at twice the limit makes it cheap per event.
    if (kept.length > 2 * MAX_EVENTS || keptCharacters > MAX_CHARACTERS) trim();
    changed();
  }

  function trim(): void {
    kept = kept.slice(-MAX_EVENTS);
    keptCharacters = kept.reduce((sum, { text }) => sum + text.length, 0);
    let first = 0;
    for (const { text } of kept.slice(0, -1)) {
      if (keptCharacters <= MAX_CHARACTERS) break;
      keptCharacters -= text.length;
      first++;
    }
    kept = kept.slice(first);
  }

  function changed(): void {
    events = null;
    changes.notify();
  }

  const newestFirst = (): readonly TailEvent[] => kept.slice(-MAX_EVENTS).reverse();

  async function start(entry: TailRoom): Promise<void> {
    live ??= open();
    const joining = live;
    const { room } = entry;
    const isCurrent = (): boolean => joining === live && rooms.get(room) === entry;
    try {
      const query = { [idField(kindOf(room))]: idOf(room), limit: HISTORY_EVENTS };
      const page = await access.request<HistoryPage>('events', { query });
      if (!isCurrent()) return;
      addHistory(page.events.map(({ id, event, payload }) => tailEvent(event, id, payload, 'history', null)));
      await joining.join(idsOf(room), { after: page.cursor });
      if (joining === live && !rooms.has(room)) await joining.leave(idsOf(room));
    } catch (error) {
      if (!isCurrent()) return;
      entry.error = error as RoomcastError;
      if (entry.error.passing) setTimeout(() => isCurrent() && void start(entry), RETRY_MS);
    }
    changes.notify();
  }

  /** Merges history into the kept events: in the order of the log, each event once. */
  function addHistory(history: readonly TailEvent[]): void {
    const cursors = new Set(kept.map(({ cursor }) => cursor));
    const added = history.filter(({ cursor, event }) => !cursors.has(cursor) && (filter === null || event === filter));
    kept = [...added, ...kept].sort((a, b) => (a.cursor < b.cursor ? -1 : 1));
    trim();
    events = null;
  }

  function stop(): void {
    live?.close();
    live = null;
  }

  /** Joins all rooms over a new connection. */
  function restart(): void {
    stop();
    for (const room of [...rooms.keys()]) startRoom(room);
    changes.notify();
  }

  function startRoom(room: Room): void {
    const entry: TailRoom = { room, error: null };
    rooms.set(room, entry);
    void start(entry);
  }

  access.changes.subscribe(restart);

  return {
    changes,
    get rooms() {
      return [...rooms.values()];
    },
    get status() {
      return live?.status ?? NOT_CONNECTED;
    },
    get events() {
      events ??= newestFirst();
      return paused ?? events;
    },
    get signals() {
      return live?.signals() ?? [];
    },
    get arrivedWhilePaused() {
      return arrivedWhilePaused;
    },
    get isPaused() {
      return paused !== null;
    },
    get filter() {
      return filter;
    },
    add(room) {
      const entry = rooms.get(room);
      if (entry === undefined ? rooms.size >= MAX_ROOMS : entry.error === null) return;
      // A connection that is closed for good, as with an expired token, joins no more rooms.
      if (live?.status.state === 'closed') {
        rooms.set(room, { room, error: null });
        return restart();
      }
      startRoom(room);
      changes.notify();
    },
    remove(room) {
      const entry = rooms.get(room);
      if (entry === undefined) return;
      rooms.delete(room);
      if (rooms.size === 0) stop();
      else if (entry.error === null) void live?.leave(idsOf(room));
      changes.notify();
    },
    pause(isPaused) {
      paused = isPaused ? (paused ?? newestFirst()) : null;
      arrivedWhilePaused = 0;
      changed();
    },
    setFilter(event) {
      filter = event;
      if (event !== null) kept = kept.filter((one) => one.event === event);
      trim();
      changed();
    },
    clear() {
      kept = [];
      keptCharacters = 0;
      arrivedWhilePaused = 0;
      if (paused !== null) paused = [];
      changed();
    },
    isListening: (room) => rooms.get(room)?.error === null,
  };
}

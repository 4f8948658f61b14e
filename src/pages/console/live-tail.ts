/**
 * The live tail: the events of some rooms through `roomcast/client`, newest kept, as any customer would hear them.
 *
 * A room begins with its newest events and goes on from their cursor, with no gap. What is kept is bounded by number and
 * by size; an event is its JSON text, made into something to look at only when somebody does.
 */
import { connect, type Live, type RoomcastError, type RoomIds, type Status } from '../../client/client.ts';
import type { Room, RoomKind } from '../../contract/rooms.ts';
import { ID_FIELDS, idOf, kindOf } from '../../contract/rooms.ts';
import { type Access, BASE, PATIENCE_MS, SOCKET_PATH } from './access.ts';
import { type Changes, createChanges } from './model.ts';

export interface Heard {
  readonly cursor: string;
  readonly event: string;
  /** JSON. */
  readonly text: string;
  readonly ids: Readonly<Partial<Record<RoomKind, string>>>;
  /** Null for what was there before the room was tailed. */
  readonly atMs: number | null;
  readonly transport: string;
}

export interface Tailed {
  readonly room: Room;
  /** Why it is not heard. */
  error: RoomcastError | null;
}

/** Refused, and not for now only. */
export const isRefused = ({ error }: Tailed): boolean => error !== null && !error.passing;

export interface Tailing {
  readonly changes: Changes;
  readonly rooms: readonly Tailed[];
  readonly status: Status;
  /** Newest first; stands still while paused. */
  readonly shown: readonly Heard[];
  /** How many came while it stands still. */
  readonly held: number;
  readonly isPaused: boolean;
  /** Null: all events. */
  readonly event: string | null;
  add(room: Room): void;
  remove(room: Room): void;
  pause(isPaused: boolean): void;
  keepOnly(event: string | null): void;
  clear(): void;
  hears(room: string): boolean;
}

export const MOST_SHOWN = 500;
/** Characters of payload that are kept, of all events together. */
const MOST_CHARS = 16 * 1024 * 1024;
export const MOST_ROOMS = 20;
const FIRST = 50;
const DRAW_MS = 100;
const IDLE: Status = { state: 'connecting', transport: null, error: null };

export function createTailing(access: Access): Tailing {
  const changes = createChanges(DRAW_MS);
  const rooms = new Map<Room, Tailed>();
  let live: Live | null = null;
  let kept: Heard[] = [];
  let keptChars = 0;
  let still: readonly Heard[] | null = null;
  let held = 0;
  let event: string | null = null;
  /** The newest first, made when it is looked at. */
  let shown: readonly Heard[] | null = null;

  function open(): Live {
    const opened = connect({
      url: BASE,
      socketPath: SOCKET_PATH,
      ...(access.token === null ? {} : { token: access.token }),
    });
    opened.on('status', () => changes.tell());
    void read(opened);
    return opened;
  }

  async function read(from: Live): Promise<void> {
    try {
      for await (const { event, cursor, transport, payload } of from) {
        if (from !== live) return;
        take([heard(event, cursor, payload as never, transport, Date.now())]);
      }
    } catch {
      changes.tell(); // the status says why it closed
    }
  }

  function heard(
    name: string,
    cursor: string,
    payload: Readonly<Record<string, unknown>>,
    transport: string,
    atMs: number | null,
  ): Heard {
    const ids: Partial<Record<RoomKind, string>> = {};
    for (const [kind, field] of Object.entries(ID_FIELDS)) {
      const id = payload[field];
      if (typeof id === 'string' && id !== '') ids[kind as RoomKind] = id;
    }
    return { cursor, event: name, text: JSON.stringify(payload), ids, atMs, transport };
  }

  function take(added: readonly Heard[]): void {
    for (const one of added) {
      if (event !== null && one.event !== event) continue;
      kept.push(one);
      keptChars += one.text.length;
      if (still !== null) held++;
    }
    // Twice as many may lie there for a while, so that letting go costs little per event.
    if (kept.length > 2 * MOST_SHOWN || keptChars > MOST_CHARS) letGo();
    shown = null;
    changes.tell();
  }

  function letGo(): void {
    kept = kept.slice(-MOST_SHOWN);
    keptChars = kept.reduce((sum, { text }) => sum + text.length, 0);
    let from = 0;
    for (; keptChars > MOST_CHARS && from < kept.length - 1; from++) keptChars -= (kept[from] as Heard).text.length;
    kept = kept.slice(from);
  }

  async function start(tailed: Tailed): Promise<void> {
    live ??= open();
    const mine = live;
    const { room } = tailed;
    const ids = { [ID_FIELDS[kindOf(room)]]: idOf(room) } as RoomIds;
    const isMine = (): boolean => mine === live && rooms.get(room) === tailed;
    try {
      const page = (await access.http.json('events', {
        query: { ...(ids as Record<string, string>), limit: FIRST },
        signal: new AbortController().signal,
        timeoutMs: PATIENCE_MS,
      })) as { readonly events: readonly { id: string; event: string; payload: never }[]; readonly cursor: string };
      if (!isMine()) return;
      before(page.events.map(({ id, event, payload }) => heard(event, id, payload, 'history', null)));
      await mine.join(ids, { after: page.cursor });
      if (!isMine() && !rooms.has(room) && mine === live) await mine.leave(ids);
    } catch (error) {
      if (!isMine()) return;
      tailed.error = error as RoomcastError;
      if (tailed.error.passing) setTimeout(() => isMine() && void start(tailed), 2_000);
    }
    changes.tell();
  }

  /** What came before, among what is there, in the order of the log and once. */
  function before(history: readonly Heard[]): void {
    const known = new Set(kept.map(({ cursor }) => cursor));
    const news = history.filter((one) => !known.has(one.cursor) && (event === null || one.event === event));
    kept = [...news, ...kept].sort((a, b) => (a.cursor < b.cursor ? -1 : 1));
    letGo();
    shown = null;
  }

  function stop(): void {
    const old = live;
    live = null;
    old?.close();
  }

  /** All rooms, over a new connection. */
  function restart(): void {
    stop();
    for (const room of [...rooms.keys()]) {
      const tailed: Tailed = { room, error: null };
      rooms.set(room, tailed);
      void start(tailed);
    }
    changes.tell();
  }

  access.changes.on(restart);

  return {
    changes,
    get rooms() {
      return [...rooms.values()];
    },
    get status() {
      return live?.status ?? IDLE;
    },
    get shown() {
      if (still !== null) return still;
      shown ??= kept.slice(-MOST_SHOWN).reverse();
      return shown;
    },
    get held() {
      return held;
    },
    get isPaused() {
      return still !== null;
    },
    get event() {
      return event;
    },
    add(room) {
      if (rooms.has(room) && rooms.get(room)?.error === null) return;
      if (!rooms.has(room) && rooms.size >= MOST_ROOMS) return;
      const tailed: Tailed = { room, error: null };
      rooms.set(room, tailed);
      // Closed for good, as by a token that has expired.
      if (live?.status.state === 'closed') return restart();
      void start(tailed);
      changes.tell();
    },
    remove(room) {
      const tailed = rooms.get(room);
      if (tailed === undefined) return;
      rooms.delete(room);
      if (rooms.size === 0) stop();
      else if (tailed.error === null) void live?.leave({ [ID_FIELDS[kindOf(room)]]: idOf(room) } as RoomIds);
      changes.tell();
    },
    pause(isPaused) {
      still = isPaused ? (still ?? kept.slice(-MOST_SHOWN).reverse()) : null;
      held = 0;
      shown = null;
      changes.tell();
    },
    keepOnly(name) {
      event = name;
      if (name !== null) kept = kept.filter((one) => one.event === name);
      letGo();
      shown = null;
      changes.tell();
    },
    clear() {
      kept = [];
      keptChars = 0;
      held = 0;
      if (still !== null) still = [];
      shown = null;
      changes.tell();
    },
    hears: (room) => rooms.get(room as Room)?.error === null,
  };
}

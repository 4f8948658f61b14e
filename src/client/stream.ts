/**
 * The one stream of events behind all transports: its rooms, its cursor, and the messages that were already delivered.
 *
 * Everything rests on one rule: a connection, or a page of `/events`, brings every record of the rooms after a cursor that
 * is not beyond this one, in order. So a record at or before the cursor is a repeat, and the first record after it is the
 * next one. Connections may overlap, which is how one takes over from another with no gap and no duplicate.
 *
 * The rule does not hold for records in flight when the rooms change or a reset arrives. Each such change starts a new
 * generation, and writers of an older one have no effect. The connections then attach again, with the cursor and the
 * rooms as they are.
 */
import type { Reset } from '../contract/reset.ts';
import { formatRoom, idsByField, kindOfField, type Room, type RoomKind } from '../contract/rooms.ts';
import { askAgain, ONCE_MORE } from './ask-again.ts';
import type { Meta, RoomIds, State, Reset as StreamReset, TransportName } from './events.ts';
import { type Http, RoomcastError, requireList } from './http.ts';
import { check, checkRooms } from './options.ts';
import type { OwnState } from './own-state.ts';
import { pause } from './retry.ts';

export type Payload = Record<string, unknown>;

export interface StreamEvent {
  readonly event: string;
  readonly payload: Payload;
  readonly cursor: string;
  /** The rooms that it went to; null: others than its payload's ids say. Absent: those of the ids, as far as is known. */
  readonly rooms?: readonly Room[] | null | undefined;
}

/** How a connection writes into the stream, for one generation. */
export interface StreamWriter {
  /** False after the rooms changed or a reset arrived: the writer then has no effect. */
  readonly isCurrent: boolean;
  readonly rooms: readonly Room[];
  readonly cursor: string | null;
  /** The newest record that it was the first to bring; `''` if there is none. */
  readonly newest: string;
  write(event: StreamEvent, transport: TransportName): void;
  /** There is no other event up to this cursor. */
  advance(cursor: string): void;
  reset(reset: Reset<string>): void;
}

export interface StreamOptions {
  readonly http: Http;
  readonly rooms: RoomIds<string>;
  /** A cursor, `start`, or null for now. */
  readonly after: string | null;
  /** Reads the state routes after a reset; null leaves it to the application. */
  readonly readState: ReadState | null;
  /** Null if the application has no function that reads its own state. */
  readonly ownState: Pick<OwnState, 'due' | 'lose' | 'read'> | null;
  readonly signal: AbortSignal;
  /** `before` is the cursor that is complete without this event. */
  deliver(payload: Payload, meta: Meta, before: string | null, rooms: StreamEvent['rooms']): void;
  /** A poll brought a signal. */
  takeSignal(event: string, payload: Payload): void;
  reset(reset: StreamReset): void;
  /** The cursor moved; everything up to it was delivered. */
  cursorMoved(): void;
  /** The rooms changed or a reset arrived: every connection attaches again. */
  reattach(): void;
  /** The bridge refused for good; no connection can continue. */
  failed(error: RoomcastError): void;
}

/** Null if no tenant room is joined. @throws {RoomcastError} */
export type ReadState = (rooms: readonly Room[]) => Promise<{ readonly state: State; readonly cursor: string } | null>;

export interface Stream {
  readonly cursor: string | null;
  readonly rooms: ReadonlyMap<Room, string>;
  /** How far the connections came: the newest cursor that one of them brought, perhaps as a repeat. */
  readonly reached: string;
  /** For a connection, or for a page that is read beside the connections. */
  writer(of?: 'connection' | 'page'): StreamWriter;
  /** Reads from the cursor to the end of the log, and at least to `upTo`. False if the writer is no longer current. */
  catchUp(writer: StreamWriter, upTo: string | null, signal: AbortSignal): Promise<boolean>;
  /**
   * Reads one page, and waits up to `waitSeconds` for its first event. Returns whether there is more.
   * @throws {RoomcastError} `timeout` if the answer takes `patienceMs` longer than that (default 10 s), …
   */
  readPage(writer: StreamWriter, waitSeconds: number, signal: AbortSignal, patienceMs?: number): Promise<boolean>;
  /** Asks for the end of the log, unless there is a cursor to continue from. @throws {RoomcastError} */
  takePosition(): Promise<void>;
  join(join: Join): Promise<string>;
  leave(room: Room): void;
  /** Ignores everything that arrives until the connections attach again. */
  freeze(): void;
}

/** A join in progress. It outlives a failed attempt. */
export interface Join {
  readonly rooms: readonly Room[];
  readonly after: string | null;
  /** How far the history of the rooms was delivered. `''` is before any cursor. */
  position: string | null;
}

const MAX_PAGE_RECORDS = 1000;
/** The time-out of one plain request. The bridge answers within 5 s even if its log hangs. */
const TIMEOUT_MS = 10_000;
/** After a page that arrives this soon, the next one may be longer. */
const QUICK_MS = 2_000;
/** The pause between requests to a node whose tail is behind another's. */
const LAG_MS = 100;
/** Message ids that are remembered, beside those of the last state. */
const MAX_IDS = 2_000;
/** Sorts after any cursor. */
const AFTER_ALL = '~';

interface PageRecord {
  readonly id: string;
  readonly event: string;
  readonly rooms: readonly Room[];
  readonly payload: Payload;
}

interface EventsPage {
  readonly events: readonly PageRecord[];
  readonly cursor: string;
  readonly hasMore: boolean;
}

/** @throws {TypeError} fields or ids of another form */
export function roomsOf(ids: RoomIds<string>): Room[] {
  checkRooms(ids);
  const rooms = Object.entries(ids).flatMap(([field, values]) =>
    [values ?? []].flat().map((id) => formatRoom(kindOfField(field) as RoomKind, String(id))),
  );
  return [...new Set(rooms)];
}

/** A room's name, or an object with one id. @throws {TypeError} anything else */
export function roomOf(room: string | RoomIds<string>): Room {
  const names = typeof room === 'string' ? [room] : roomsOf(room);
  const [name] = names;
  const isRoom = (): boolean => names.length === 1 && /^[a-z][a-z\d]*:./.test(name as Room);
  check('room', room, [isRoom, "one room, such as 'ticket:1' or { ticketId: '1' }"]);
  return name as Room;
}

export function createStream(options: StreamOptions): Stream {
  const { http, signal } = options;
  /** Each room, and the cursor after which its events were delivered. `''` is before any cursor. */
  const rooms = new Map<Room, string>(roomsOf(options.rooms).map((room) => [room, positionOf(options.after) ?? '']));
  let delivered = createMessageIds();
  let cursor = positionOf(options.after);
  let reached = '';
  let generation = 0;
  /** Records in a page: fewer where a network is slow, or cuts long answers. */
  let limit = MAX_PAGE_RECORDS;
  /** While it reads the state, no page is requested that would be answered with the same reset. */
  let resetting: Promise<void> | null = null;

  function writer(of = 'connection'): StreamWriter {
    const isCurrent = watchGeneration();
    const writerRooms = [...rooms.keys()];
    const reach = (to: string): void => {
      if (of === 'connection' && to > reached) reached = to;
    };
    let newest = '';
    return {
      get isCurrent() {
        return isCurrent();
      },
      get cursor() {
        return cursor;
      },
      get newest() {
        return newest;
      },
      rooms: writerRooms,
      write(event, transport) {
        if (!isCurrent()) return;
        reach(event.cursor);
        if (cursor !== null && event.cursor <= cursor) return;
        newest = event.cursor;
        const before = cursor;
        cursor = event.cursor;
        deliver(event, transport, before, false);
        if (cursor === event.cursor) options.cursorMoved();
      },
      advance(to) {
        if (!isCurrent()) return;
        reach(to);
        if (cursor !== null && to <= cursor) return;
        // Without `after`, the rooms start at the first cursor that is known.
        if (cursor === null) for (const room of writerRooms) rooms.set(room, to);
        cursor = to;
        options.cursorMoved();
      },
      reset(reset) {
        if (!isCurrent()) return;
        const current = continueAfter(reset).finally(() => {
          if (resetting === current) resetting = null;
        });
        resetting = current;
      },
    };
  }

  /** Returns a function that says whether the current generation is still the same. */
  function watchGeneration(): () => boolean {
    const own = generation;
    return () => own === generation && !signal.aborted;
  }

  function deliver(
    { event, payload, cursor: at, rooms: eventRooms }: StreamEvent,
    transport: TransportName,
    before: string | null,
    replay: boolean,
  ): void {
    // A room that is left and joined again replays messages that were delivered before.
    if (event === 'messages.new' && !delivered.add(payload) && !replay) return;
    options.deliver(payload, { event, cursor: at, transport, replay }, before, eventRooms);
  }

  async function continueAfter(reset: Reset<string>): Promise<void> {
    generation++;
    reached = '';
    if (options.ownState !== null) {
      continueFrom(reset.cursor);
      return options.ownState.lose(reset);
    }
    const isCurrent = watchGeneration();
    let state: State | null = null;
    let from = reset.cursor;
    if (options.readState !== null) {
      try {
        const read = await options.readState([...rooms.keys()]);
        if (read !== null) ({ state, cursor: from } = read);
      } catch (cause) {
        const error = cause as RoomcastError;
        if (!error.passing) return options.failed(error);
        // The cursor is still lost: the next connection gets the same reset, and the state is read then.
        await pause(Math.max(error.retryAfterMs, 1000 * Math.random()), signal);
        return options.reattach();
      }
      if (!isCurrent()) return;
    }
    continueFrom(from);
    const messages = Object.values(state?.messages ?? {}).flat();
    delivered.limit = MAX_IDS + 2 * messages.length;
    for (const message of messages) delivered.add(message);
    options.reset({ ...reset, cursor: from, room: null, state });
    options.cursorMoved();
    change();
  }

  function continueFrom(from: string): void {
    cursor = from;
    for (const room of rooms.keys()) rooms.set(room, from);
  }

  async function takePosition(): Promise<void> {
    while (cursor === null && rooms.size > 0) {
      const to = writer();
      to.advance((await fetchPage(to.rooms, null, 0, signal)).cursor);
    }
  }

  async function fetchPage(
    pageRooms: readonly Room[],
    after: string | null,
    waitSeconds: number,
    until: AbortSignal,
    patienceMs?: number,
  ): Promise<EventsPage> {
    const startedMs = performance.now();
    const query = {
      ...idsByField(pageRooms),
      after: after === null ? 'now' : after || 'start',
      limit,
      ...(waitSeconds > 0 ? { wait: waitSeconds, signals: 'true' } : {}),
    };
    const timeoutMs = (patienceMs ?? TIMEOUT_MS) + waitSeconds * 1000;
    const ask = (signalOf: AbortSignal) => http.json('events', { query, listens: true, signal: signalOf, timeoutMs });
    try {
      // With a limit of its own, the caller asks again by itself.
      const isPlain = waitSeconds === 0 && patienceMs === undefined;
      const answer = await (isPlain ? askAgain(ask, until, ONCE_MORE) : ask(until));
      if (performance.now() - startedMs < QUICK_MS) limit = Math.min(MAX_PAGE_RECORDS, Math.ceil(1.25 * limit));
      const page = requireList<EventsPage>('events', answer);
      const isRecord = ({ id }: { readonly id: string | null }): boolean => id !== null;
      for (const entry of page.events) if (!isRecord(entry)) options.takeSignal(entry.event, entry.payload);
      return { ...page, events: page.events.filter(isRecord) };
    } catch (error) {
      if ((error as RoomcastError).status === 0 && !until.aborted) limit = Math.ceil(limit / 4);
      throw error;
    }
  }

  async function readPage(
    to: StreamWriter,
    waitSeconds: number,
    until: AbortSignal,
    patienceMs?: number,
  ): Promise<boolean> {
    await resetting;
    if (!to.isCurrent) return false;
    try {
      const page = await fetchPage(to.rooms, cursor, waitSeconds, until, patienceMs);
      for (const { id, ...record } of page.events) to.write({ ...record, cursor: id }, 'poll');
      to.advance(page.cursor);
      return page.hasMore;
    } catch (error) {
      to.reset(resetOf(error));
      return false;
    }
  }

  async function catchUp(to: StreamWriter, upTo: string | null, until: AbortSignal): Promise<boolean> {
    while (to.isCurrent && !until.aborted) {
      if (await readPage(to, 0, until)) continue;
      if (upTo === null || (cursor !== null && cursor >= upTo)) return to.isCurrent;
      await pause(LAG_MS, until);
    }
    return false;
  }

  /** The state is read after a reset: no event is delivered. */
  const isLost = (): boolean => typeof options.ownState?.due === 'object' && options.ownState.due !== null;

  /** Delivers one page of the rooms' history, up to the cursor: the connections bring what follows. */
  async function replay(join: Join): Promise<boolean> {
    if (isLost()) throw interrupted();
    try {
      const page = await fetchPage(join.rooms, join.position, 0, signal);
      const end = cursor ?? '';
      for (const { id, event, payload, rooms: eventRooms } of page.events) {
        if (id > end) break;
        const wasDelivered = eventRooms.some((room) => (rooms.get(room) ?? AFTER_ALL) < id);
        if (!wasDelivered) deliver({ event, payload, cursor: id }, 'poll', cursor, true);
        join.position = id;
      }
      const reached = page.cursor < end ? page.cursor : end;
      if (join.position === null || join.position < reached) join.position = reached;
      return page.hasMore && page.cursor < end;
    } catch (error) {
      const reset = resetOf(error);
      await options.ownState?.read(reset.reason, join.rooms);
      join.position = reset.cursor;
      for (const room of join.rooms) options.reset({ ...reset, room, state: null });
      return true;
    }
  }

  async function join(joining: Join): Promise<string> {
    const { after } = joining;
    const isFirst = rooms.size === 0;
    if (isFirst || joining.position === null) {
      const now = (await fetchPage(joining.rooms, null, 0, signal)).cursor;
      // The stream starts here. If it had a cursor to continue from, the events since then are the rooms' history.
      if (isFirst) {
        joining.position ??= cursor;
        cursor = now;
      }
      joining.position ??= now;
    }
    const from = joining.position;
    // The history, while the stream continues. The first request also shows whether the rooms may be joined.
    while (await replay(joining));
    // The connections pause from here: at full speed the replay would never reach a moving cursor.
    generation++;
    const isCurrent = watchGeneration();
    try {
      const paused = writer();
      if (isFirst && joining.position > (cursor ?? '')) cursor = joining.position;
      while (isCurrent() && joining.position > (cursor ?? '')) await readPage(paused, 0, signal);
      while (isCurrent() && joining.position < (cursor ?? '')) await replay(joining);
      if (!isCurrent()) throw interrupted();
      for (const room of joining.rooms) rooms.set(room, positionOf(after) ?? from);
      return cursor ?? '';
    } finally {
      if (isCurrent()) change();
    }
  }

  function change(): void {
    generation++;
    options.reattach();
  }

  return {
    get cursor() {
      return cursor;
    },
    rooms,
    get reached() {
      return reached;
    },
    writer,
    catchUp,
    readPage,
    takePosition,
    join,
    leave(room) {
      if (!rooms.delete(room)) return;
      if (rooms.size === 0) {
        cursor = null;
        delivered = createMessageIds();
      }
      change();
    },
    freeze() {
      generation++;
    },
  };
}

/** Until the limit is kept. The oldest come first. */
export function dropOldest<Key>(from: Set<Key> | Map<Key, unknown>, limit: number): void {
  for (const oldest of from.keys()) {
    if (from.size <= limit) break;
    from.delete(oldest);
  }
}

/** Null is now. */
export function positionOf(after: string | null): string | null {
  if (after === 'now') return null;
  return after === 'start' ? '' : after;
}

/** The reset in the bridge's 410 (protocol §8). @throws the error if it is another one */
function resetOf(error: unknown): Reset<string> {
  if (error instanceof RoomcastError && error.status === 410 && isReset(error.problem)) return error.problem;
  throw error;
}

const interrupted = (): RoomcastError => new RoomcastError('unreachable', 'The stream was reset during the join.');

function isReset(problem: object): problem is Reset<string> {
  return typeof (problem as Reset<string>).cursor === 'string';
}

/** The ids that name the message of a payload, each with its field (protocol §3). */
export function messageIdsOf({ messageId, providerMessageId }: Payload): [field: string, id: unknown][] {
  return Object.entries({ messageId, providerMessageId }).filter(
    ([, id]) => id !== undefined && id !== null && id !== '',
  );
}

/**
 * The ids of the newest messages that were delivered: the same ids by which the log deduplicates (protocol §9). They belong
 * to a ticket: two tickets may have messages with the same id.
 */
function createMessageIds() {
  const seen = new Set<string>();
  return {
    limit: MAX_IDS,
    /** Returns whether the message is new. */
    add(payload: Payload): boolean {
      const { tenantId, ticketId } = payload;
      const keys = messageIdsOf(payload).map((id) => [tenantId, ticketId, ...id].join());
      if (keys.some((key) => seen.has(key))) return false;
      for (const key of keys) seen.add(key);
      dropOldest(seen, this.limit);
      return true;
    },
  };
}

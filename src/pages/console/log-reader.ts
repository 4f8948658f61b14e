/**
 * The log as the view Log reads it: a stretch of it that grows in both directions, newest first, and can follow the log's
 * end. A filter may match little, so one request may look at much and find nothing; the reader then goes on by itself for
 * a while. The stretch is bounded: what is added at one end is dropped at the other, and can be read again.
 */
import { RoomcastError } from '../../client/http.ts';
import { parseCursor } from '../../contract/cursor.ts';
import type { LogAnswer, LogEntry } from '../../contract/log.ts';
import type { Access } from './access.ts';
import { createChanges, type Model, type Mutable } from './model.ts';

/** Which records to show. Null: all. */
export interface LogQuery {
  readonly room: string | null;
  readonly tenantId: string | null;
  readonly event: string | null;
  readonly contains: string | null;
  /** Around this instant, ISO 8601; null: from the newest on. */
  readonly at: string | null;
}

export type Direction = 'older' | 'newer';

/** One end of the stretch. */
export interface End {
  /** Where to go on; null: at the end of the log itself. */
  readonly cursor: string | null;
  /** There may be more. */
  readonly hasMore: boolean;
  readonly isBusy: boolean;
}

export interface LogReader extends Model {
  readonly query: LogQuery | null;
  /** Newest first. */
  readonly events: readonly LogEntry[];
  readonly older: End;
  readonly newer: End;
  readonly isFollowing: boolean;
  /** What the follower could not show: the log trimmed it first, or the log was replaced. */
  readonly missed: RoomcastError | null;
  readonly error: RoomcastError | null;
  /** How many records the running search has looked past, as far as the cursors say. */
  readonly searched: number | null;
  show(query: LogQuery): void;
  load(direction: Direction): void;
  /** Ends a search that finds nothing. */
  stop(): void;
  follow(isOn: boolean): void;
  /** The parameters of `GET /log` for what is shown. */
  parameters(): Record<string, string>;
  /** Ends when the view closes. */
  close(): void;
}

const PAGE = 100;
/** Of one end; a stretch around an instant has two. */
const AROUND = 50;
const MAX_SHOWN = 1_000;
/** Requests that find nothing, until the reader asks its operator. */
const MAX_ROUNDS = 40;
const FOLLOW_MS = 1_000;

const FRESH: End = { cursor: null, hasMore: true, isBusy: false };

export function createLogReader(access: Access): LogReader {
  const reader: Mutable<LogReader> = {
    changes: createChanges(),
    query: null,
    events: [],
    older: FRESH,
    newer: { ...FRESH, hasMore: false },
    isFollowing: false,
    missed: null,
    error: null,
    searched: null,
    show(query) {
      reader.query = query;
      reader.missed = null;
      reader.isFollowing = false;
      void begin();
    },
    load: (direction) => void load(direction),
    stop() {
      generation++;
      reader.older = { ...reader.older, isBusy: false };
      reader.newer = { ...reader.newer, isBusy: false };
      reader.changes.notify();
    },
    follow(isOn) {
      reader.isFollowing = isOn;
      reader.missed = null;
      clearTimeout(timer);
      if (isOn) void tick();
      reader.changes.notify();
    },
    parameters: () => (reader.query === null ? {} : filtersOf(reader.query)),
    close() {
      generation++;
      reader.query = null;
      reader.isFollowing = false;
      clearTimeout(timer);
    },
  };

  /** Counts what was shown or stopped, so that an answer to something earlier is ignored. */
  let generation = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const ask = (query: Readonly<Record<string, string | number | undefined>>): Promise<LogAnswer> =>
    access.request<LogAnswer>('log', { query });

  async function begin(): Promise<void> {
    const started = ++generation;
    clearTimeout(timer);
    const { at } = reader.query as LogQuery;
    Object.assign(reader, {
      events: [],
      error: null,
      older: { ...FRESH, isBusy: true },
      newer: { ...FRESH, hasMore: at !== null },
    });
    reader.changes.notify();
    try {
      if (at === null) {
        // The follower goes on from here, also if no event matches the filter.
        const { events, scannedThrough } = await ask({ limit: 1 });
        if (started !== generation) return;
        reader.newer = { ...reader.newer, cursor: events[0]?.id ?? scannedThrough };
      } else await load('newer', started);
    } catch (error) {
      return fail(error, started);
    }
    if (started !== generation) return;
    reader.older = FRESH;
    await load('older', started);
  }

  function fail(error: unknown, started: number): void {
    if (started !== generation) return;
    reader.error = error as RoomcastError;
    reader.older = { ...reader.older, isBusy: false };
    reader.newer = { ...reader.newer, isBusy: false };
    reader.changes.notify();
  }

  async function load(direction: Direction, started = generation): Promise<void> {
    const end = reader[direction];
    if (reader.query === null || !end.hasMore || end.isBusy) return;
    reader[direction] = { ...end, isBusy: true };
    reader.error = null;
    reader.changes.notify();
    try {
      for (let rounds = 0; rounds < MAX_ROUNDS; rounds++) {
        const found = await step(direction, started);
        if (found === null || found > 0 || !reader[direction].hasMore) break;
      }
      if (started !== generation) return;
      reader[direction] = { ...reader[direction], isBusy: false };
      reader.searched = null;
      reader.changes.notify();
    } catch (error) {
      fail(error, started);
    }
  }

  /** One request. @returns how many events it found; null if nobody wants them any more */
  async function step(direction: Direction, started: number): Promise<number | null> {
    const query = reader.query as LogQuery;
    const { cursor } = reader[direction];
    const isOlder = direction === 'older';
    const edge =
      cursor !== null
        ? { [isOlder ? 'before' : 'after']: cursor }
        : query.at === null
          ? {}
          : { [isOlder ? 'until' : 'since']: query.at };
    const limit = query.at !== null && reader.events.length < AROUND ? AROUND : PAGE;
    const { events, scannedThrough, more } = await ask({
      ...filtersOf(query),
      ...edge,
      limit,
      order: isOlder ? 'desc' : 'asc',
    });
    if (started !== generation) return null;
    reader[direction] = { ...reader[direction], cursor: scannedThrough, hasMore: more };
    const looked = distance(scannedThrough, reader.events[0]?.id ?? reader.newer.cursor ?? scannedThrough);
    reader.searched = events.length === 0 ? looked : null;
    const known = new Set(reader.events.map(({ id }) => id));
    const fresh = events.filter(({ id }) => !known.has(id));
    if (isOlder) addOlder(fresh);
    else addNewer(fresh);
    reader.changes.notify();
    return fresh.length;
  }

  function addOlder(found: readonly LogEntry[]): void {
    const all = [...reader.events, ...found];
    reader.events = all.slice(-MAX_SHOWN);
    if (all.length <= MAX_SHOWN) {
      const [newest] = reader.events;
      if (newest !== undefined && (reader.newer.cursor ?? '') < newest.id)
        reader.newer = { ...reader.newer, cursor: newest.id };
      return;
    }
    reader.newer = { ...reader.newer, cursor: reader.events[0]?.id ?? null, hasMore: true };
    reader.isFollowing = false;
  }

  function addNewer(found: readonly LogEntry[]): void {
    const all = [...found.toReversed(), ...reader.events];
    reader.events = all.slice(0, MAX_SHOWN);
    if (all.length > MAX_SHOWN)
      reader.older = { cursor: reader.events.at(-1)?.id ?? null, hasMore: true, isBusy: false };
  }

  async function tick(): Promise<void> {
    const started = generation;
    try {
      if (!document.hidden && !reader.newer.isBusy) {
        for (let rounds = 0; rounds < MAX_ROUNDS; rounds++) {
          if ((await step('newer', started)) === null) return;
          if (!reader.newer.hasMore || !reader.isFollowing) break;
        }
        reader.error = null;
      }
    } catch (error) {
      if (started !== generation || !reader.isFollowing) return;
      const problem = error as RoomcastError;
      if (problem instanceof RoomcastError && problem.status === 410) {
        await begin();
        reader.missed = problem;
        reader.isFollowing = true;
      } else reader.error = problem;
      reader.changes.notify();
    }
    if (reader.isFollowing) timer = setTimeout(() => void tick(), FOLLOW_MS);
  }

  access.changes.subscribe(() => {
    if (reader.query !== null) void begin();
  });
  return reader;
}

function filtersOf({ room, tenantId, event, contains }: LogQuery): Record<string, string> {
  const given = Object.entries({ room, tenantId, event, contains });
  return Object.fromEntries(given.filter((entry): entry is [string, string] => entry[1] !== null));
}

/** Records between two cursors of one log. */
function distance(one: string, other: string): number {
  const [a, b] = [parseCursor(one), parseCursor(other)];
  return a === null || b === null ? 0 : Math.abs(a.seq - b.seq);
}

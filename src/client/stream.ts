/**
 * What makes it exactly once: the rooms, one cursor, and what was heard already.
 *
 * The rule that all else rests on: a source (a transport, a page of `/events`) brings every record of the rooms after a
 * place that is not beyond `cursor`, in order; so a record at or before `cursor` is a repeat, and the next one after it
 * is the next one. Sources may overlap, which is how one takes over from another without gap or double.
 *
 * When the rooms change, or after a reset, the rule would not hold for what is still under way: each such change begins
 * a new generation, and a link of an older one is dead. Sources `attach` again, from the cursor, with the rooms as they are.
 */
import type { Room, RoomKind } from '../contract/rooms.ts';
import type { Meta, Reset, RoomIds, State, TransportName } from './events.ts';
import { type Http, holding, type Query, RoomcastError } from './http.ts';
import { pause } from './retry.ts';
import { readState } from './state.ts';

export interface Frame {
  readonly event: string;
  readonly payload: Payload;
  readonly cursor: string;
}

export type Payload = Record<string, unknown>;

/** A source's way in, good for one generation. */
export interface Link {
  /** False once the rooms changed or a reset came: what arrives here now is ignored. */
  readonly isCurrent: boolean;
  readonly rooms: readonly Room[];
  readonly cursor: string | null;
  frame(frame: Frame, transport: TransportName): void;
  /** Nothing else came up to here. */
  moved(cursor: string): void;
  reset(gap: Gap): void;
}

export type Gap = Pick<Reset, 'reason' | 'after' | 'oldest' | 'cursor'>;

export interface SessionOptions {
  readonly http: Http;
  readonly rooms: RoomIds;
  /** A cursor, `start`, or null for now. */
  readonly after: string | null;
  readonly refetch: boolean;
  readonly signal: AbortSignal;
  /** `before` is the place that is complete without it. */
  deliver(frame: Frame, meta: Meta, before: string | null): void;
  reset(reset: Reset): void;
  /** The cursor moved: what was delivered up to it is delivered. */
  kept(cursor: string): void;
  /** The rooms changed, or a reset came: every source attaches again. */
  attach(): void;
  /** No source can go on: the bridge said no for good. */
  failed(error: RoomcastError): void;
}

export interface Session {
  readonly cursor: string | null;
  readonly rooms: ReadonlyMap<Room, string>;
  link(): Link;
  /** What came after the cursor, up to the end of the log and at least to `upTo`. False when the link died meanwhile. */
  catchUp(link: Link, upTo: string | null, signal: AbortSignal): Promise<boolean>;
  /** One page, after up to `waitSeconds` when there is nothing yet. Whether there is more. */
  page(link: Link, waitSeconds: number, signal: AbortSignal): Promise<boolean>;
  join(joining: Joining): Promise<string>;
  leave(room: Room): void;
  /** From here on whatever still arrives is ignored, until the sources attach again. */
  freeze(): void;
}

/** A join under way: how far the room's history was delivered. It outlives a failed attempt. */
export interface Joining {
  readonly room: Room;
  readonly after: string | null;
  at: string | null;
}

const PAGE = 1000;
/** For one plain request. The bridge answers within 5 s also when its log hangs. */
const TIMEOUT_MS = 10_000;
/** A page that is there so soon might have been longer. */
const QUICK_MS = 2_000;
/** Between requests to a node whose tail is behind another's. */
const LAG_MS = 100;
/** Ids of messages that are remembered, beside those of the state that was read last. */
const MOST_IDS = 2_000;

const FIELDS: Readonly<Record<RoomKind, string>> = {
  tenant: 'tenantId',
  ticket: 'ticketId',
  agreement: 'agreementId',
  user: 'userId',
};

/** After any cursor. */
const NEVER = '~';

interface Page {
  readonly events: readonly (Omit<Frame, 'cursor'> & { readonly id: string; readonly rooms: readonly Room[] })[];
  readonly cursor: string;
  readonly hasMore: boolean;
}

export function roomsOf(ids: RoomIds): Room[] {
  return (Object.entries(FIELDS) as [RoomKind, keyof RoomIds][]).flatMap(([kind, field]) =>
    [ids[field] ?? []].flat().map((id): Room => `${kind}:${id}`),
  );
}

/** @throws {RoomcastError} `invalid_room`: a comma would make two rooms of one */
export function queryOf(rooms: readonly Room[]): Query {
  const query: Record<string, string[]> = {};
  for (const room of rooms) {
    if (room.includes(','))
      throw new RoomcastError('invalid_room', `No id may hold a comma: ${room}`, { passing: false });
    const kind = room.slice(0, room.indexOf(':')) as RoomKind;
    query[FIELDS[kind]] ??= [];
    query[FIELDS[kind]]?.push(room.slice(kind.length + 1));
  }
  return query;
}

export function createSession(options: SessionOptions): Session {
  const { http, signal } = options;
  /** Each room with the place after which it is heard. `''` is before any cursor. */
  const rooms = new Map<Room, string>(roomsOf(options.rooms).map((room) => [room, placeOf(options.after) ?? '']));
  let messages = createMessageMemory();
  let cursor = placeOf(options.after);
  let generation = 0;
  /** Records in a page: fewer where a network is too slow for more, or cuts what takes long. */
  let limit = PAGE;
  /** While the state is read: nobody need be told of the same gap meanwhile. */
  let resetting: Promise<void> | null = null;

  function link(): Link {
    const mine = generation;
    const heard = [...rooms.keys()];
    const isCurrent = (): boolean => mine === generation && !signal.aborted;
    return {
      get isCurrent() {
        return isCurrent();
      },
      get cursor() {
        return cursor;
      },
      rooms: heard,
      frame(frame, transport) {
        if (!isCurrent() || (cursor !== null && frame.cursor <= cursor)) return;
        const before = cursor;
        cursor = frame.cursor;
        deliver(frame, transport, before, false);
        if (cursor === frame.cursor) options.kept(cursor);
      },
      moved(to) {
        if (!isCurrent() || (cursor !== null && to <= cursor)) return;
        // Without `after` the rooms are heard from the first place that is known.
        if (cursor === null) for (const room of heard) rooms.set(room, to);
        cursor = to;
        options.kept(to);
      },
      reset(gap) {
        if (!isCurrent()) return;
        const current = goOnAfter(gap).finally(() => {
          if (resetting === current) resetting = null;
        });
        resetting = current;
      },
    };
  }

  function deliver(frame: Frame, transport: TransportName, before: string | null, replay: boolean): void {
    // A room that was left and is joined again replays what it brought before.
    if (frame.event === 'messages.new' && !messages.isNew(frame.payload) && !replay) return;
    options.deliver(frame, { event: frame.event, cursor: frame.cursor, transport, replay }, before);
  }

  async function goOnAfter(gap: Gap): Promise<void> {
    const mine = ++generation;
    let state: State | null = null;
    let from = gap.cursor;
    if (options.refetch) {
      try {
        const read = await readState(http, [...rooms.keys()], signal);
        if (read !== null) ({ state, cursor: from } = read);
      } catch (error) {
        const known = error as RoomcastError;
        if (!known.passing) return options.failed(known);
        // The place is still gone: whoever attaches next is told again, and the state is read then.
        await pause(Math.max(known.retryAfterMs, 1000 * Math.random()), signal);
        return options.attach();
      }
      if (mine !== generation || signal.aborted) return;
    }
    cursor = from;
    for (const room of rooms.keys()) rooms.set(room, from);
    const known = Object.values(state?.messages ?? {}).flat();
    messages.hold(MOST_IDS + 2 * known.length);
    for (const message of known) messages.isNew(message);
    options.reset({ ...gap, cursor: from, room: null, state });
    options.kept(from);
    change();
  }

  async function read(
    from: readonly Room[],
    after: string | null,
    waitSeconds: number,
    until: AbortSignal,
  ): Promise<Page> {
    const begunMs = performance.now();
    const query = {
      ...queryOf(from),
      after: after === null ? 'now' : after === '' ? 'start' : after,
      limit,
      ...(waitSeconds > 0 ? { wait: waitSeconds } : {}),
    };
    const timeoutMs = TIMEOUT_MS + waitSeconds * 1000;
    try {
      const answer = await http.json('events', { query, listens: true, signal: until, timeoutMs });
      if (performance.now() - begunMs < QUICK_MS) limit = Math.min(PAGE, Math.ceil(1.25 * limit));
      return holding('events', answer);
    } catch (error) {
      if ((error as RoomcastError).status === 0 && !until.aborted) limit = Math.ceil(limit / 4);
      throw error;
    }
  }

  async function page(source: Link, waitSeconds: number, until: AbortSignal): Promise<boolean> {
    await resetting;
    if (!source.isCurrent) return false;
    try {
      const { events, cursor: end, hasMore } = await read(source.rooms, cursor, waitSeconds, until);
      for (const { id, event, payload } of events) source.frame({ event, payload, cursor: id }, 'poll');
      source.moved(end);
      return hasMore;
    } catch (error) {
      const gap = gapOf(error);
      if (gap === null) throw error;
      source.reset(gap);
      return false;
    }
  }

  async function catchUp(source: Link, upTo: string | null, until: AbortSignal): Promise<boolean> {
    while (source.isCurrent && !until.aborted) {
      if (await page(source, 0, until)) continue;
      if (upTo === null || (cursor !== null && cursor >= upTo)) return source.isCurrent;
      await pause(LAG_MS, until);
    }
    return false;
  }

  /** One page of a room's history, no further than the cursor: what comes later, the sources bring. */
  async function replay(joining: Joining): Promise<boolean> {
    try {
      const { events, cursor: end, hasMore } = await read([joining.room], joining.at, 0, signal);
      const until = cursor ?? '';
      for (const { id, event, payload, rooms: audience } of events) {
        if (id > until) break;
        const isHeard = audience.some((room) => (rooms.get(room) ?? NEVER) < id);
        if (!isHeard) deliver({ event, payload, cursor: id }, 'poll', cursor, true);
        joining.at = id;
      }
      const reached = [end, until].sort()[0] as string;
      if (joining.at === null || joining.at < reached) joining.at = reached;
      return hasMore && end < until;
    } catch (error) {
      const gap = gapOf(error);
      if (gap === null) throw error;
      joining.at = gap.cursor;
      options.reset({ ...gap, room: joining.room, state: null });
      return true;
    }
  }

  async function join(joining: Joining): Promise<string> {
    const { room, after } = joining;
    const isFirst = rooms.size === 0;
    if (isFirst || joining.at === null) {
      const now = (await read([room], null, 0, signal)).cursor;
      // The connection begins here; where it was told to go on from a place, that is the room's history.
      if (isFirst) {
        joining.at ??= cursor;
        cursor = now;
      }
      joining.at ??= now;
    }
    const from = joining.at;
    // The history, while the rest goes on. The first request also tells whether the room may be heard at all.
    while (await replay(joining));
    // The sources stand still from here: else, at full speed, the end of the history would never be reached.
    const frozen = ++generation;
    const isFrozen = (): boolean => frozen === generation && !signal.aborted;
    try {
      const still = link();
      if (isFirst && joining.at > (cursor ?? '')) cursor = joining.at;
      while (isFrozen() && joining.at > (cursor ?? '')) await page(still, 0, signal);
      while (isFrozen() && joining.at < (cursor ?? '')) await replay(joining);
      if (!isFrozen()) throw new RoomcastError('unreachable', 'The stream was reset while the room was joined.');
      rooms.set(room, placeOf(after) ?? from);
      return cursor ?? '';
    } finally {
      if (isFrozen()) change();
    }
  }

  /** What is under way was for other rooms. */
  function change(): void {
    generation++;
    options.attach();
  }

  return {
    get cursor() {
      return cursor;
    },
    rooms,
    link,
    catchUp,
    page,
    join,
    leave(room) {
      if (!rooms.delete(room)) return;
      if (rooms.size === 0) {
        cursor = null;
        messages = createMessageMemory();
      }
      change();
    },
    freeze() {
      generation++;
    },
  };
}

export function placeOf(after: string | null): string | null {
  return after === 'start' ? '' : after;
}

/** The bridge's 410 says where to go on (protocol §8). */
function gapOf(error: unknown): Gap | null {
  if (!(error instanceof RoomcastError) || error.status !== 410) return null;
  return typeof error.problem.cursor === 'string' ? (error.problem as unknown as Gap) : null;
}

/** Whether a message is heard for the first time, by the ids that the log itself dedupes by (protocol §9). */
function createMessageMemory() {
  const seen = new Set<string>();
  let most = MOST_IDS;
  return {
    isNew({ tenantId, ticketId, messageId, providerMessageId }: Payload): boolean {
      const keys: string[] = [];
      if (messageId) keys.push(JSON.stringify([tenantId, messageId]));
      if (providerMessageId) keys.push(JSON.stringify([tenantId, ticketId, providerMessageId]));
      if (keys.some((key) => seen.has(key))) return false;
      for (const key of keys) seen.add(key);
      for (const oldest of seen) {
        if (seen.size <= most) break;
        seen.delete(oldest);
      }
      return true;
    },
    /** How many ids are remembered from here on. */
    hold(ids: number): void {
      most = ids;
    },
  };
}

/**
 * `roomcast/client`: one call, and the application hears every event of its rooms once and in order, over whatever the
 * network lets through; or it is told that something is gone (`reset`).
 *
 *   const live = connect({ url, rooms: { tenantId: 'tenant-1' }, token: () => fetchToken() });
 *   live.on('messages.new', (payload, { cursor }) => append(payload.message));
 *
 * For browsers and Node 20 or newer. `socket.io-client`, when it is installed, is loaded when a websocket is tried.
 */
import type { Room } from '../contract/rooms.ts';
import type { SourceDeps } from './connection.ts';
import type { LiveEvent, Meta, Reset, RoomcastEvents, RoomIds, Status, TransportName } from './events.ts';
import { createHttp, RoomcastError, type Token } from './http.ts';
import { LEGACY, legacyPayload } from './legacy.ts';
import { lenient, type Memory, recall, remember } from './persist.ts';
import { openPoll } from './poll.ts';
import { backoff, online, pause } from './retry.ts';
import { openSse } from './sse.ts';
import { createSession, type Frame, type Joining, placeOf, roomsOf } from './stream.ts';
import { createLadder } from './transport-picker.ts';
import { openWebsocket } from './websocket.ts';

export type * from './events.ts';
export { RoomcastError, type Token } from './http.ts';
export type { Memory } from './persist.ts';

export interface ConnectOptions {
  /** Where the bridge is, with its base path when it has one. */
  readonly url: string;
  readonly rooms?: RoomIds;
  /** Left out: the browser's cookies, or none. A function is called again whenever a token is refused or expires. */
  readonly token?: Token;
  /** Which may be used, best first. Default `['websocket', 'sse', 'poll']`. */
  readonly transports?: readonly TransportName[];
  /** A cursor to go on from, or `start` (the oldest kept). Default: now, or where `persist` says. */
  readonly after?: string;
  /** Keeps the cursor, and what works on this network, over page loads: `sessionStorage`, or what is like it. */
  readonly persist?: Memory;
  /** After a reset, reads the state routes: `reset.state`. Needs a tenant's room. Default false. */
  readonly refetch?: boolean;
  /** Closes when it aborts. */
  readonly signal?: AbortSignal;
  /** The server's `SOCKET_PATH`. Default `/socket.io`. */
  readonly socketPath?: string;
  /** The server's `HEARTBEAT_MS`. A stream that says nothing for twice that is given up. Default 15000. */
  readonly heartbeatMs?: number;
  /** Longest that a transport may take to bring something before the next is tried. Default 6000. */
  readonly patienceMs?: number;
}

export interface JoinOptions {
  /** A cursor, or `start`: first what the room got since. Default: from now. */
  readonly after?: string;
}

export type Handler<Events, Name extends keyof Events> = (payload: Events[Name], meta: Meta) => void;

export interface Live<Events = RoomcastEvents> extends AsyncIterable<LiveEvent<Events>> {
  /** Returns what takes the handler off again. What a handler throws is reported as uncaught; the others still hear. */
  on(name: 'reset', handler: (reset: Reset) => void): () => void;
  on(name: 'status', handler: (status: Status) => void): () => void;
  on<Name extends keyof Events & string>(name: Name, handler: Handler<Events, Name>): () => void;
  /**
   * Hears further rooms. Resolves to the cursor from which they are live, once their history was delivered.
   * @throws {RoomcastError} `forbidden`, `invalid_room`, …; what may pass is tried again until `close`
   */
  join(rooms: RoomIds, options?: JoinOptions): Promise<string>;
  leave(rooms: RoomIds): Promise<void>;
  /** Everything up to here was delivered; null until the first answer. */
  readonly cursor: string | null;
  readonly status: Status;
  /** For good. No timer, request or listener is left. */
  close(): void;
}

const STREAMS = { websocket: openWebsocket, sse: openSse } as const;
const PATIENCE_MS = 6_000;
const HEARTBEAT_MS = 15_000;
const MOST_BACKOFF_MS = 10_000;
/** Records that may wait for a slow `for await`. Past it the transport is closed, and opened again once none waits. */
const MOST_WAITING = 1_000;

type AnyHandler = (first: never, meta: Meta) => void;

/** A `for await`. */
interface Reader<Events> {
  /** What its body has in hand stands first, until that is done with it. */
  readonly waiting: Waiting<Events>[];
  inHand: 0 | 1;
  wake(): void;
}

interface Waiting<Events> {
  readonly event: LiveEvent<Events>;
  /** The place before it; `''` is before any cursor. */
  readonly before: string;
}

/** Declared events are typed by naming them: `connect<RoomcastEvents & { 'leads.updated': Lead }>(…)`. */
export function connect<Events = RoomcastEvents>(options: ConnectOptions): Live<Events> {
  const { url, rooms: ids = {}, transports = ['websocket', 'sse', 'poll'], patienceMs = PATIENCE_MS } = options;
  const isKnown = (name: string): boolean => name === 'poll' || Object.hasOwn(STREAMS, name);
  if (transports.length === 0 || !transports.every(isKnown)) throw new TypeError(`No such transports: [${transports}]`);
  const persist = lenient(options.persist);
  const over = new AbortController();
  const { signal } = over;
  const http = createHttp(url, options.token);
  const handlers = new Map<string, Set<AnyHandler>>();
  const place = `${http.url.origin}:${transports}`;
  const key = `roomcast:cursor:${http.url}:${roomsOf(ids).sort().join()}`;
  let status: Status = { state: 'connecting', transport: null, error: null };
  let isBegun = false;
  let beginning: Promise<void> | null = null;
  /** Joins and leaves happen one after the other. */
  let turn: Promise<unknown> = Promise.resolve();

  const readers = new Set<Reader<Events>>();
  let isFull = false;

  const session = createSession({
    http,
    rooms: ids,
    after: options.after ?? persist.getItem(key),
    refetch: options.refetch ?? false,
    signal,
    deliver,
    reset: (reset) => call('reset', reset as never),
    kept: keep,
    attach,
    failed: end,
  });
  const deps: SourceDeps = {
    http,
    session,
    heartbeatMs: options.heartbeatMs ?? HEARTBEAT_MS,
    patienceMs,
    socketPath: options.socketPath ?? '/socket.io',
  };
  const ladder = createLadder({
    streams: transports.flatMap((name) => (name === 'poll' ? [] : [{ name, open: STREAMS[name] }])),
    open: (stream, events) => stream.open(deps, events),
    openCover: transports.includes('poll') ? (events) => openPoll(deps, events) : null,
    remembered: recall(place, persist),
    remember: (transport) => remember(place, transport, persist),
    report({ isLive, transport, error }) {
      if (isLive) tell({ state: 'live', transport, error });
      else tell({ state: status.state === 'connecting' ? 'connecting' : 'reconnecting', transport, error });
    },
    renew: http.refused,
    failed: end,
    patienceMs,
    signal,
  });

  function deliver(frame: Frame, meta: Meta, before: string | null): void {
    const { event, payload } = frame;
    const legacy = LEGACY[event];
    if (legacy?.names.some((name) => handlers.has(name))) {
      const merged = legacyPayload(legacy, payload);
      for (const name of legacy.names) call(name, merged as never, { ...meta, event: name });
    }
    call(event, payload as never, meta);
    for (const reader of readers) {
      reader.waiting.push({ event: { ...meta, payload } as never, before: before ?? '' });
      reader.wake();
      if (reader.waiting.length < MOST_WAITING || isFull) continue;
      isFull = true;
      session.freeze();
      ladder.stop();
    }
  }

  function call(name: string, first: never, meta?: Meta): void {
    for (const handler of [...(handlers.get(name) ?? [])]) {
      try {
        handler(first, meta as Meta);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }

  function keep(): void {
    const cursor = reached(true);
    if (cursor) persist.setItem(key, cursor);
  }

  function tell(next: Status): void {
    const { state, transport, error } = status;
    if (signal.aborted && next.state !== 'closed') return;
    if (next.state === state && next.transport === transport && next.error === error) return;
    status = next;
    call('status', status as never);
  }

  function attach(): void {
    if (session.rooms.size === 0) {
      isBegun = false;
      ladder.stop();
    } else if (!isBegun) beginning ??= begin();
    else if (!isFull) ladder.attach();
  }

  /** What was missed, or the place to begin from, comes by a plain request; then the ladder. */
  async function begin(): Promise<void> {
    for (let failures = 1; !signal.aborted && !isFull && session.rooms.size > 0; failures++) {
      await online(signal);
      const { cursor } = session;
      try {
        if (!(await session.catchUp(session.link(), null, signal))) continue;
        isBegun = true;
        ladder.start();
        break;
      } catch (error) {
        const known = error as RoomcastError;
        if (!known.passing) return end(known);
        tell({ ...status, error: known });
        if (session.cursor !== cursor) failures = 1;
        await pause(Math.max(known.retryAfterMs, backoff(failures, MOST_BACKOFF_MS)), signal);
      }
    }
    beginning = null;
  }

  function inTurn<T>(act: () => Promise<T>): Promise<T> {
    const mine = turn.then(act);
    turn = mine.catch(() => {}); // whoever asked has it
    return mine;
  }

  async function join(joining: Joining): Promise<string> {
    for (let failures = 1; ; failures++) {
      await beginning;
      await online(signal);
      if (session.rooms.has(joining.room)) return session.cursor ?? '';
      if (signal.aborted) throw new RoomcastError('closed', 'The connection was closed.', { passing: false });
      try {
        return await session.join(joining);
      } catch (error) {
        const known = error as RoomcastError;
        if (!known.passing) throw known;
        await pause(Math.max(known.retryAfterMs, backoff(failures, MOST_BACKOFF_MS)), signal);
      }
    }
  }

  function end(error: RoomcastError | null): void {
    if (signal.aborted) return;
    options.signal?.removeEventListener('abort', close);
    over.abort();
    tell({ state: 'closed', transport: null, error });
    for (const reader of readers) reader.wake();
  }

  function close(): void {
    end(null);
  }

  async function* read(): AsyncGenerator<LiveEvent<Events>, void, undefined> {
    const waiting: Waiting<Events>[] = [];
    const reader: Reader<Events> = { waiting, inHand: 0, wake() {} };
    readers.add(reader);
    try {
      for (;;) {
        const [next] = waiting;
        if (next !== undefined) {
          reader.inHand = 1;
          yield next.event;
          reader.inHand = 0;
          waiting.shift();
          keep();
          continue;
        }
        if (signal.aborted) {
          if (status.error !== null) throw status.error;
          return;
        }
        flow();
        await new Promise<void>((resolve) => {
          reader.wake = resolve;
        });
      }
    } finally {
      readers.delete(reader);
      flow();
    }
  }

  /** Up to where every loop was given all; `isKept`: and is done with it. */
  function reached(isKept: boolean): string | null {
    let place = session.cursor ?? '';
    for (const { waiting, inHand } of readers) {
      const next = waiting[isKept ? 0 : inHand];
      if (next && next.before < place) place = next.before;
    }
    return place || null;
  }

  function flow(): void {
    if (!isFull || [...readers].some(({ waiting, inHand }) => waiting.length > inHand)) return;
    isFull = false;
    if (isBegun) ladder.start();
    else attach();
  }

  const live: Live<Events> = {
    on(name: string, handler: AnyHandler) {
      const those = handlers.get(name) ?? new Set();
      handlers.set(name, those.add(handler));
      return () => {
        those.delete(handler);
        if (those.size === 0 && handlers.get(name) === those) handlers.delete(name);
      };
    },
    async join(more, { after } = {}) {
      let cursor = session.cursor ?? '';
      for (const room of roomsOf(more)) {
        const joining: Joining = { room, at: placeOf(after ?? null), after: after ?? null };
        cursor = await inTurn(() => join(joining));
      }
      return cursor;
    },
    leave: (fewer) =>
      inTurn(async () => {
        for (const room of roomsOf(fewer)) session.leave(room as Room);
      }),
    get cursor() {
      return reached(false);
    },
    get status() {
      return status;
    },
    close,
    [Symbol.asyncIterator]: read,
  } as Live<Events>;

  options.signal?.addEventListener('abort', close);
  if (options.signal?.aborted) close();
  else attach();
  return live;
}

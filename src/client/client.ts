/**
 * `@roomcast/client`: one call, and your application receives every event of its rooms once and in order, over any
 * transport that the network lets through. If events are lost, you get a `reset`.
 *
 *   const live = connect({ url, rooms: { tenantId: 'tenant-1' }, token: () => fetchToken() });
 *   live.on('messages.new', (payload, { cursor }) => append(payload.message));
 *
 * Signals (protocol §14) come and go beside the events: `live.signal`, `live.keep`, `live.signals`.
 *
 * For browsers and Node 20 or newer. `socket.io-client`, if it is installed, is loaded when a websocket is tried.
 */
import { type Core, createCore, type OwnConnections } from './core.ts';
import type {
  ActiveSignal,
  Id,
  IfSignal,
  LiveEvent,
  MessagesNew,
  MessagesQuery,
  MessagesUpdated,
  Meta,
  OneRoom,
  ReadOwnState,
  Reset,
  RoomcastEvents,
  RoomIds,
  RoomName,
  SignalMeta,
  SignalName,
  SignalPayload,
  StateList,
  Status,
  TicketsQuery,
  TicketsUpdated,
  TransportName,
} from './events.ts';
import { bridgeUrl, type RoomcastError, type Token } from './http.ts';
import { LEGACY, legacyPayload } from './legacy.ts';
import { checkEventName } from './names.ts';
import {
  AFTER_RULE,
  atLeast,
  check,
  checkOptions,
  ID_OPTION_RULE,
  isFunction,
  ROOMS_RULE,
  type Rule,
  TOKEN_RULE,
  URL_RULE,
} from './options.ts';
import { type Memory, tolerant } from './persist.ts';
import type { SignalBody } from './signals/sender.ts';
import { readMessages, readTickets } from './state.ts';
import { type Payload, roomOf, roomsOf } from './stream.ts';
import type { HubCore } from './tabs/hub.ts';

import type { TransportPicker } from './transports/picker.ts';

export type * from './events.ts';
export { RoomcastError, type Token } from './http.ts';
export type { Memory } from './persist.ts';

export interface ConnectOptions<Kind extends string = never> {
  /** The bridge's address, with its base path if it has one. */
  readonly url: string;
  readonly rooms?: RoomIds<Kind>;
  /** Default: the browser's cookies, or none. A function is called again when its token is refused or expires. */
  readonly token?: Token;
  /** The transports that are allowed, best first. Default `['websocket', 'sse', 'poll']`. */
  readonly transports?: readonly TransportName[];
  /** A cursor to continue from, `start` (the oldest record) or `now`. Default, and null: the persisted cursor, or now. */
  readonly after?: string | null;
  /**
   * The events and signals that your operator declares (EXTRA_EVENTS, SIGNALS). If you list them, every other unknown name
   * is refused.
   */
  readonly extraEvents?: readonly string[];
  /** Keeps the cursor and the transport that worked, across page loads: `sessionStorage`, or an object like it. */
  readonly persist?: Memory | null;
  /**
   * For applications whose own API is the state: reads it and draws it. Called before the client goes live, unless `after`
   * says that you have a state, and after each reset. The position is taken first, and events after it follow when
   * your function has resolved, so nothing lies in between. One that rejects is called again.
   */
  readonly state?: ReadOwnState;
  /** Whether to read the state routes after a reset, for `reset.state`. Needs a tenant room. Default false. */
  readonly refetch?: boolean;
  /** Closes the client when it aborts. */
  readonly signal?: AbortSignal;
  /**
   * Whether the tabs of this browser share one connection. A string also names who is signed in: required if you use cookies
   * and another user may sign in, since tabs of two users must not share. Where tabs cannot share (no Web Locks or
   * BroadcastChannel), each has its own connection. Default false.
   */
  readonly share?: boolean | string;
  /** The server's `SOCKET_PATH`. Default `/socket.io`. */
  readonly socketPath?: string;
  /** The server's `HEARTBEAT_MS`. A stream that is silent for twice that is replaced. Default 15000. */
  readonly heartbeatMs?: number;
  /** How long a transport may take to deliver something before the next one is tried. Default 6000. */
  readonly patienceMs?: number;
}

export interface JoinOptions {
  /** A cursor, or `start`: the room's events since then come first. Default, and null: from now. */
  readonly after?: string | null;
}

export interface SignalOptions {
  /** When it ends if it is not sent again: 1 to 120. Default 10. `signal` takes 0, which ends it now. */
  readonly ttlSeconds?: number;
  /** Required if your token names several tenants, or `*`. */
  readonly tenantId?: Id;
}

export interface KeepOptions extends SignalOptions {
  /** The bridge refused the signal for good, so it is no longer kept. Default: `console.error`. */
  readonly onError?: (error: RoomcastError) => void;
}

export type Handler<Events, Name extends keyof Events> = (
  payload: Events[Name],
  meta: IfSignal<Events[Name], SignalMeta, Meta>,
) => void;

export interface Live<Events = RoomcastEvents, Kind extends string = never> extends AsyncIterable<LiveEvent<Events>> {
  /**
   * Returns a function that removes the handler. A handler that throws causes an uncaught error; the others still run.
   * @throws {TypeError} a name that cannot occur, or is a misspelt one
   */
  on(name: 'reset', handler: (reset: Reset) => void): () => void;
  on(name: 'status', handler: (status: Status) => void): () => void;
  /** Called when `signals(room)` has changed, also because a signal expired. Not called for a renewal. */
  on(name: 'signals', handler: (room: RoomName<Kind>) => void): () => void;
  on<Name extends keyof Events & string>(name: Name, handler: Handler<Events, Name>): () => void;
  /**
   * Joins more rooms, all or none. Their history is one: each event once, in the order of the log. Resolves after it was
   * delivered, to the cursor after which the rooms are live.
   * @throws {RoomcastError} `forbidden`, …; an error that may pass is retried until `close`
   * @throws {TypeError} rooms or options of the wrong form
   */
  join(rooms: RoomIds<Kind>, options?: JoinOptions): Promise<string>;
  leave(rooms: RoomIds<Kind>): Promise<void>;
  /**
   * Sends a signal to everyone else in the room. The same one is sent at most every 2 s, so you may call this on each
   * keystroke. Resolves when the bridge has it, or a later signal of this event and room has replaced it.
   * @throws {RoomcastError} `forbidden`, `invalid_signal`, `unknown_event`, `rate_limited`, `closed`, `unreachable`, …
   * @throws {TypeError} arguments of the wrong form (the promise rejects)
   */
  signal<Name extends SignalName<Events>>(
    event: Name,
    room: OneRoom<Kind>,
    payload?: SignalPayload<Events, Name>,
    options?: SignalOptions,
  ): Promise<void>;
  /**
   * Keeps a signal active, on any connection, until you call the returned function, leave the room or close the client.
   * While the page is hidden, the signal is ended.
   * @throws {TypeError} arguments of the wrong form
   */
  keep<Name extends SignalName<Events>>(
    event: Name,
    room: OneRoom<Kind>,
    payload?: SignalPayload<Events, Name>,
    options?: KeepOptions,
  ): () => void;
  /** The signals of others that are active now, in one of your rooms or in all. @throws {TypeError} no room */
  signals(room?: OneRoom<Kind>): ActiveSignal<Events>[];
  /**
   * The newest payload of each ticket, and of each message of a ticket, without those that were deleted (protocol §7). A
   * room that is live before you read continues the state with no gap.
   * @throws {RoomcastError} `forbidden`, `not_found`, `unreachable`, …
   */
  readTickets(query: TicketsQuery): Promise<StateList<TicketsUpdated>>;
  readMessages(ticketId: Id, query: MessagesQuery): Promise<StateList<MessagesNew | MessagesUpdated>>;
  /** The names of the joined rooms, such as `ticket:1`. */
  readonly rooms: readonly string[];
  /** Every event up to here was delivered. Null until the first answer. */
  readonly cursor: string | null;
  readonly status: Status;
  /**
   * Finds out at once whether something was missed, and whether the connection still works. In a browser the library does
   * this by itself; elsewhere call it when your application returns to the foreground.
   */
  wake(): void;
  /** Closes the client for good, and releases every timer, request and listener. */
  close(): void;
}

/** Best first. */
const TRANSPORT_NAMES: readonly TransportName[] = ['websocket', 'sse', 'poll'];
const hasMethod = (value: unknown, name: string): boolean =>
  isFunction((value as Record<string, unknown> | null)?.[name]);

const HANDLER_RULE: Rule = [isFunction, 'a function'];

const RULES: Readonly<Record<keyof ConnectOptions, Rule>> = {
  url: URL_RULE,
  token: TOKEN_RULE,
  rooms: ROOMS_RULE,
  transports: [
    (value) => Array.isArray(value) && value.length > 0 && value.every((name) => TRANSPORT_NAMES.includes(name)),
    'a list of at least one of websocket, sse, poll',
  ],
  after: AFTER_RULE,
  extraEvents: [Array.isArray, 'a list of names'],
  persist: [(value) => value === null || hasMethod(value, 'setItem'), 'sessionStorage, or an object like it'],
  state: HANDLER_RULE,
  refetch: [(value) => typeof value === 'boolean', 'true or false'],
  signal: [(value) => hasMethod(value, 'addEventListener'), 'an AbortSignal'],
  share: [(value) => /^(boolean|string)$/.test(typeof value), 'true, false, or a name for who is signed in'],
  socketPath: [(value) => /^\//.test(String(value)), 'a path such as /socket.io'],
  heartbeatMs: /* @__PURE__ */ atLeast(1),
  patienceMs: /* @__PURE__ */ atLeast(1),
};
const JOIN_RULES = { after: AFTER_RULE };
const SIGNAL_RULES = { ttlSeconds: /* @__PURE__ */ atLeast(0), tenantId: ID_OPTION_RULE };
const KEEP_RULES = { ttlSeconds: /* @__PURE__ */ atLeast(1), tenantId: ID_OPTION_RULE, onError: HANDLER_RULE };

const PATIENCE_MS = 6_000;
const HEARTBEAT_MS = 15_000;
/** Events that may wait for a slow `for await`. Then the transport is closed, and opened again when none waits. */
const MAX_QUEUE = 1_000;

type AnyHandler = (first: never, meta: never) => void;

/** One `for await` loop. */
interface EventIterator<Events> {
  /** The event that the loop's body is working on stays first until the body is done. */
  readonly queue: QueuedEvent<Events>[];
  inBody: 0 | 1;
  wake(): void;
}

interface QueuedEvent<Events> {
  readonly event: LiveEvent<Events>;
  /** The cursor before it; `''` is before any cursor. */
  readonly before: string;
}

/**
 * To type what your operator declares, name the events, then the room kinds:
 * `connect<RoomcastEvents & { 'leads.updated': Lead }, 'queue' | 'team'>(…)`.
 * @throws {TypeError} an option that is unknown or has the wrong form; `status` reports every other error
 */
export function connect<Events = RoomcastEvents, Kind extends string = never>(
  options: ConnectOptions<Kind>,
): Live<Events, Kind> {
  checkOptions(options, RULES);
  check('refetch', options.refetch, [(refetch) => !refetch || !options.state, 'false where state is given']);
  const { url, token, rooms = {}, transports = TRANSPORT_NAMES, after = null, state = null, share = false } = options;
  const memory = tolerant(options.persist);
  const cursorKey = `roomcast:cursor:${bridgeUrl(url)}:${roomsOf(rooms).sort().join()}`;
  const handlers = new Map<string, Set<AnyHandler>>();
  const iterators = new Set<EventIterator<Events>>();
  let isFull = false;

  const bridge = {
    url,
    transports,
    socketPath: options.socketPath ?? '/socket.io',
    heartbeatMs: options.heartbeatMs ?? HEARTBEAT_MS,
    patienceMs: options.patienceMs ?? PATIENCE_MS,
    memory,
  };
  const core = createCore({
    ...bridge,
    token,
    rooms,
    // Where the application reads its state anew, older events are part of it.
    after: after ?? (state === null ? memory.getItem(cursorKey) : null),
    refetch: options.refetch ?? false,
    state,
    hasState: after !== null,
    marks: false,
    share: share === false ? null : joinTabs,
    deliver,
    heard: (event, payload, meta) => emit(event, payload, meta),
    signalsChanged: (room) => emit('signals', room),
    reset: (reset) => emit('reset', reset),
    cursorMoved: saveCursor,
    statusChanged: (status) => emit('status', status),
    closed() {
      options.signal?.removeEventListener('abort', core.close);
      for (const { wake } of iterators) wake();
    },
  });
  const { http, stream, sender, signals, signal } = core;

  function deliver(payload: Payload, meta: Meta, before: string | null): void {
    // A declared event has no aliases, also if it has the name of a canonical one (protocol §3).
    const legacy = options.extraEvents?.includes(meta.event) ? undefined : LEGACY[meta.event];
    if (legacy?.names.some((name) => handlers.has(name))) {
      const merged = legacyPayload(legacy, payload);
      for (const event of legacy.names) emit(event, merged, { ...meta, event });
    }
    emit(meta.event, payload, meta);
    for (const { queue, wake } of iterators) {
      queue.push({ event: { ...meta, payload } as never, before: before ?? '' });
      wake();
      if (queue.length < MAX_QUEUE || isFull) continue;
      isFull = true;
      core.pause();
    }
  }

  async function joinTabs(own: OwnConnections): Promise<TransportPicker | null> {
    const { joinGroup } = await import('./tabs/share.ts');
    const key = [bridgeUrl(url), bridge.socketPath, transports, share];
    const hubOptions = { ...bridge, rooms: {}, after: null, refetch: false, state: null, hasState: false };
    const openHubCore = (hub: HubCore): Core => createCore({ ...hubOptions, marks: true, share: null, ...hub });
    return joinGroup({ ...own, key, token, openHubCore });
  }

  function emit(name: string, first: unknown, meta?: Meta | SignalMeta): void {
    for (const handler of [...(handlers.get(name) ?? [])]) {
      try {
        handler(first as never, meta as never);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }

  function signalBody(
    event: string,
    room: OneRoom<Kind>,
    payload: object | undefined,
    given: SignalOptions,
  ): SignalBody {
    const { ttlSeconds, tenantId } = given;
    checkEventName(event, options.extraEvents);
    // A copy: the application may change its object while the signal waits or is kept.
    return JSON.parse(JSON.stringify({ event, room: roomOf(room), payload, ttlSeconds, tenantId }));
  }

  async function* iterate(): AsyncGenerator<LiveEvent<Events>, void, undefined> {
    const queue: QueuedEvent<Events>[] = [];
    const iterator: EventIterator<Events> = { queue, inBody: 0, wake() {} };
    iterators.add(iterator);
    try {
      for (;;) {
        const [next] = queue;
        if (next !== undefined) {
          iterator.inBody = 1;
          yield next.event;
          iterator.inBody = 0;
          queue.shift();
          saveCursor();
          continue;
        }
        if (signal.aborted) {
          if (core.status.error !== null) throw core.status.error;
          return;
        }
        resumeIfDrained();
        await new Promise<void>((resolve) => {
          iterator.wake = resolve;
        });
      }
    } finally {
      iterators.delete(iterator);
      resumeIfDrained();
    }
  }

  /** Every loop received all events up to here; with `isDone`, its body also finished them. */
  function deliveredCursor(isDone: boolean): string | null {
    let cursor = stream.cursor ?? '';
    for (const { queue, inBody } of iterators) {
      const next = queue[isDone ? 0 : inBody];
      if (next && next.before < cursor) cursor = next.before;
    }
    return cursor || null;
  }

  function saveCursor(): void {
    const cursor = deliveredCursor(true);
    if (cursor) memory.setItem(cursorKey, cursor);
  }

  function resumeIfDrained(): void {
    if (!isFull || [...iterators].some(({ queue, inBody }) => queue.length > inBody)) return;
    isFull = false;
    core.resume();
  }

  const live: Live<Events, Kind> = {
    on(name: string, handler: AnyHandler) {
      checkEventName(name, options.extraEvents);
      check('handler', handler, HANDLER_RULE);
      const registered = handlers.get(name) ?? new Set();
      handlers.set(name, registered.add(handler));
      return () => {
        registered.delete(handler);
        if (registered.size === 0 && handlers.get(name) === registered) handlers.delete(name);
      };
    },
    async join(joinIds, joinOptions = {}) {
      checkOptions(joinOptions, JOIN_RULES);
      const { after = null } = joinOptions;
      return core.join(roomsOf(joinIds), after);
    },
    async leave(leaveIds) {
      await core.leave(roomsOf(leaveIds));
    },
    async signal(event: string, room: OneRoom<Kind>, payload?: object, signalOptions: SignalOptions = {}) {
      checkOptions(signalOptions, SIGNAL_RULES);
      await sender.signal(signalBody(event, room, payload, signalOptions));
    },
    keep(event: string, room: OneRoom<Kind>, payload?: object, keepOptions: KeepOptions = {}) {
      checkOptions(keepOptions, KEEP_RULES);
      const body = signalBody(event, room, payload, keepOptions);
      const report = ({ code, message }: RoomcastError): void =>
        console.error(`roomcast: "${event}" is not kept in ${body.room}: ${code}: ${message}`);
      return sender.keep(body, keepOptions.onError ?? report);
    },
    signals: (room?: OneRoom<Kind>) => signals.list(room === undefined ? room : roomOf(room)) as never[],
    readTickets: (query: TicketsQuery) => readTickets(http, query, signal),
    readMessages: (ticketId: Id, query: MessagesQuery) => readMessages(http, ticketId, query, signal),
    get rooms() {
      return [...stream.rooms.keys()];
    },
    get cursor() {
      return deliveredCursor(false);
    },
    get status() {
      return core.status;
    },
    wake: core.wake,
    close: core.close,
    [Symbol.asyncIterator]: iterate,
  } as Live<Events, Kind>;

  options.signal?.addEventListener('abort', core.close);
  if (options.signal?.aborted) core.close();
  else core.begin();
  return live;
}

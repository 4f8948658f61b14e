/**
 * `roomcast/client`: one call, and your application receives every event of its rooms once and in order, over any
 * transport that the network lets through. If events are lost, you get a `reset`.
 *
 *   const live = connect({ url, rooms: { tenantId: 'tenant-1' }, token: () => fetchToken() });
 *   live.on('messages.new', (payload, { cursor }) => append(payload.message));
 *
 * Signals (protocol §14) come and go beside the events: `live.signal`, `live.keep`, `live.signals`.
 *
 * For browsers and Node 20 or newer. `socket.io-client`, if it is installed, is loaded when a websocket is tried.
 */
import { createActiveSignals, type ReceivedSignal } from './active-signals.ts';
import type { ConnectionOptions } from './connection.ts';
import type {
  ActiveSignal,
  Id,
  IfSignal,
  LiveEvent,
  Meta,
  OneRoom,
  Reset,
  RoomcastEvents,
  RoomIds,
  RoomName,
  SignalMeta,
  SignalName,
  SignalPayload,
  Status,
  TransportName,
} from './events.ts';
import { closedError, createHttp, type RoomcastError, type Token } from './http.ts';
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
import { type Memory, recallTransport, rememberTransport, tolerant } from './persist.ts';
import { openPoll } from './poll.ts';
import { online, pauseAfter } from './retry.ts';
import { createSignalSender, type SignalBody } from './signal-sender.ts';
import { openSse } from './sse.ts';
import { createStream, type Join, type Payload, positionOf, roomOf, roomsOf } from './stream.ts';
import { createTransportPicker } from './transport-picker.ts';
import { openWebsocket } from './websocket.ts';

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
  /** Whether to read the state routes after a reset, for `reset.state`. Needs a tenant room. Default false. */
  readonly refetch?: boolean;
  /** Closes the client when it aborts. */
  readonly signal?: AbortSignal;
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
  /** Every event up to here was delivered. Null until the first answer. */
  readonly cursor: string | null;
  readonly status: Status;
  /** Closes the client for good, and releases every timer, request and listener. */
  close(): void;
}

const TRANSPORTS = { websocket: openWebsocket, sse: openSse, poll: openPoll } as const;
/** Best first. */
const TRANSPORT_NAMES: readonly TransportName[] = ['websocket', 'sse', 'poll'];
const hasMethod = (value: unknown, name: string): boolean =>
  isFunction((value as Record<string, unknown> | null)?.[name]);

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
  refetch: [(value) => typeof value === 'boolean', 'true or false'],
  signal: [(value) => hasMethod(value, 'addEventListener'), 'an AbortSignal'],
  socketPath: [(value) => /^\//.test(String(value)), 'a path such as /socket.io'],
  heartbeatMs: /* @__PURE__ */ atLeast(1),
  patienceMs: /* @__PURE__ */ atLeast(1),
};
const JOIN_RULES = { after: AFTER_RULE };
const HANDLER_RULE: Rule = [isFunction, 'a function'];
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
  const { url, rooms: ids = {}, transports = TRANSPORT_NAMES, patienceMs = PATIENCE_MS } = options;
  const memory = tolerant(options.persist);
  const aborter = new AbortController();
  const { signal } = aborter;
  const http = createHttp(url, options.token);
  const handlers = new Map<string, Set<AnyHandler>>();
  const transportKey = `roomcast:transport:${http.url.origin}:${transports}`;
  const cursorKey = `roomcast:cursor:${http.url}:${roomsOf(ids).sort().join()}`;
  let status: Status = { state: 'connecting', transport: null, error: null };
  let hasStarted = false;
  let starting: Promise<void> | null = null;
  /** Joins and leaves run one after the other. */
  let lastChange: Promise<unknown> = Promise.resolve();
  const iterators = new Set<EventIterator<Events>>();
  let isFull = false;

  const stream = createStream({
    http,
    rooms: ids,
    after: options.after ?? memory.getItem(cursorKey),
    refetch: options.refetch ?? false,
    signal,
    deliver,
    takeSignal: (event, payload) => signals.take(event, payload as ReceivedSignal, 'poll'),
    reset: (reset) => emit('reset', reset),
    cursorMoved: saveCursor,
    reattach,
    failed: end,
  });
  const sender = createSignalSender(http, signal);
  const signals = createActiveSignals({
    http,
    rooms: stream.rooms,
    signal,
    isOwn: sender.isOwn,
    heard: (event, payload, transport) => emit(event, payload, { event, cursor: null, transport, replay: false }),
    changed: (room) => emit('signals', room),
  });
  const connection: ConnectionOptions = {
    http,
    stream,
    signals,
    sender,
    heartbeatMs: options.heartbeatMs ?? HEARTBEAT_MS,
    patienceMs,
    socketPath: options.socketPath ?? '/socket.io',
  };
  const picker = createTransportPicker({
    allowed: transports,
    open: (name, events) => TRANSPORTS[name](connection, events),
    remembered: recallTransport(transportKey, memory),
    remember: (transport) => rememberTransport(transportKey, transport, memory),
    report(next) {
      const waiting = status.state === 'connecting' ? 'connecting' : 'reconnecting';
      setStatus({ state: next.transport === null ? waiting : 'live', ...next });
    },
    renew: http.refused,
    failed: end,
    patienceMs,
    signal,
  });

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
      stream.freeze();
      picker.stop();
    }
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

  function setStatus(next: Status): void {
    const { state, transport, error } = status;
    if (signal.aborted && next.state !== 'closed') return;
    if (next.state === state && next.transport === transport && next.error === error) return;
    status = next;
    emit('status', status);
    if (next.transport === null) return;
    sender.renew();
    // The new connection brings what is active, but not what ended meanwhile.
    if (signals.list().length > 0) void signals.refresh();
  }

  function reattach(): void {
    if (stream.rooms.size === 0) {
      hasStarted = false;
      picker.stop();
    } else if (!hasStarted) starting ??= start();
    else if (!isFull) picker.attach();
  }

  /** A plain request brings the missed events, or the cursor to start from. Then the picker takes over. */
  async function start(): Promise<void> {
    for (let failures = 1; !signal.aborted && !isFull && stream.rooms.size > 0; failures++) {
      await online(signal);
      const { cursor } = stream;
      try {
        if (!(await stream.catchUp(stream.writer(), null, signal))) continue;
        hasStarted = true;
        picker.start();
        break;
      } catch (cause) {
        const error = cause as RoomcastError;
        if (!error.passing) return end(error);
        setStatus({ ...status, error });
        if (stream.cursor !== cursor) failures = 1;
        await pauseAfter(error, failures, signal);
      }
    }
    starting = null;
  }

  function afterLastChange<T>(change: () => Promise<T>): Promise<T> {
    const changed = lastChange.then(change);
    lastChange = changed.catch(() => {}); // the caller gets the error
    return changed;
  }

  async function join(joining: Join): Promise<string> {
    for (let failures = 1; ; failures++) {
      await starting;
      await online(signal);
      if (joining.rooms.length === 0) return stream.cursor ?? '';
      if (signal.aborted) throw closedError();
      try {
        return await stream.join(joining);
      } catch (cause) {
        const error = cause as RoomcastError;
        if (!error.passing) throw error;
        await pauseAfter(error, failures, signal);
      }
    }
  }

  function end(error: RoomcastError | null): void {
    if (signal.aborted) return;
    options.signal?.removeEventListener('abort', close);
    aborter.abort();
    setStatus({ state: 'closed', transport: null, error });
    for (const { wake } of iterators) wake();
  }

  function close(): void {
    sender.stop();
    end(null);
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
          if (status.error !== null) throw status.error;
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
    if (hasStarted) picker.start();
    else reattach();
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
      const wanted = roomsOf(joinIds);
      return afterLastChange(() => {
        const rooms = wanted.filter((room) => !stream.rooms.has(room));
        return join({ rooms, after, position: positionOf(after) });
      });
    },
    async leave(leaveIds) {
      const leaving = roomsOf(leaveIds);
      for (const room of leaving) sender.stop(room);
      await afterLastChange(async () => {
        leaving.forEach(stream.leave);
        leaving.forEach(signals.forget);
      });
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
    get cursor() {
      return deliveredCursor(false);
    },
    get status() {
      return status;
    },
    close,
    [Symbol.asyncIterator]: iterate,
  } as Live<Events, Kind>;

  options.signal?.addEventListener('abort', close);
  if (options.signal?.aborted) close();
  else reattach();
  return live;
}

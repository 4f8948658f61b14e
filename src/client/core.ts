/**
 * The machine beneath `connect`: one stream of events with its rooms and cursor, a source that brings the events, the
 * signals, and the status. It knows no handlers; `client.ts` gives the events to the application.
 *
 * At the start a plain request brings the missed events, or the cursor to start from. Then the source takes over: the
 * transport picker, or with `share` the tab's membership in a group of tabs.
 */

import type { Room } from '../contract/rooms.ts';
import { WAKE_MS } from './ask-again.ts';
import type { Meta, ReadOwnState, Reset, RoomIds, SignalMeta, Status, TransportName } from './events.ts';
import { closedError, createHttp, type Http, type RoomcastError, type Token } from './http.ts';
import { createOwnState, type OwnState } from './own-state.ts';
import { type Memory, recallTransport, rememberTransport } from './persist.ts';
import { backoff, childOf, isOnline, online, pause, pauseAfter } from './retry.ts';
import { type ActiveSignals, createActiveSignals, type ReceivedSignal } from './signals/active.ts';
import { createSignalSender, type SignalSender } from './signals/sender.ts';
import { readState } from './state.ts';
import { createStream, type Join, type Payload, positionOf, type Stream, type StreamEvent } from './stream.ts';
import type { ConnectionOptions } from './transports/connection.ts';
import { createTransportPicker, type TransportPicker } from './transports/picker.ts';
import { openPoll } from './transports/poll.ts';
import { withinSlots } from './transports/slots.ts';
import { openSse } from './transports/sse.ts';
import { openWebsocket } from './transports/websocket.ts';
import { onWake, readMissed } from './wake.ts';

export interface CoreOptions {
  readonly url: string;
  readonly token: Token | undefined;
  readonly rooms: RoomIds<string>;
  readonly transports: readonly TransportName[];
  /** A cursor, `start`, or null for now. */
  readonly after: string | null;
  /** Whether the state routes are read after a reset. */
  readonly refetch: boolean;
  /** The application's own way to read its state; null if it has none. */
  readonly state: ReadOwnState | null;
  /** Whether the application has its state already, as of `after`. */
  readonly hasState: boolean;
  readonly socketPath: string;
  readonly heartbeatMs: number;
  readonly patienceMs: number;
  /** Whether the rooms of each event are known as far as the bridge tells them. */
  readonly marks: boolean;
  /** Puts another source before the tab's own connections. Null, also as its result, leaves it at these. */
  readonly share: ((own: OwnConnections) => Promise<TransportPicker | null>) | null;
  /** Keeps the transport that worked. */
  readonly memory: Memory;
  /** `before` is the cursor that is complete without this event. */
  deliver(payload: Payload, meta: Meta, before: string | null, rooms: StreamEvent['rooms']): void;
  heard(event: string, payload: Payload, meta: SignalMeta): void;
  /** The active signals of the room changed. */
  signalsChanged(room: string): void;
  reset(reset: Reset): void;
  cursorMoved(): void;
  statusChanged(status: Status): void;
  /** It ended for good, by `close` or because the bridge refused. */
  closed(): void;
}

/** What a source that shares connections needs of a core. */
export interface OwnConnections {
  readonly http: Http;
  readonly stream: Stream;
  readonly signals: ActiveSignals;
  /** The connections of this tab alone. */
  openPicker(report: (status: Omit<Status, 'state'>) => void): TransportPicker;
  report(status: Omit<Status, 'state'>): void;
  remember(transport: TransportName): void;
  failed(error: RoomcastError): void;
  readonly signal: AbortSignal;
}

export interface Core {
  readonly http: Http;
  readonly stream: Stream;
  readonly sender: SignalSender;
  readonly signals: ActiveSignals;
  readonly status: Status;
  readonly signal: AbortSignal;
  /** Begins, unless there are no rooms: then the first join begins. */
  begin(): void;
  /** All rooms or none. Resolves after their history was delivered, to the cursor after which they are live. */
  join(rooms: readonly Room[], after: string | null): Promise<string>;
  leave(rooms: readonly Room[]): Promise<void>;
  /** Closes every connection, and ignores what still arrives, until `resume`. */
  pause(): void;
  resume(): void;
  /** Somebody looks at the page, or the network is another one: finds out now whether something was missed. */
  wake(): void;
  close(): void;
}

const TRANSPORTS = { websocket: openWebsocket, sse: withinSlots(openSse), poll: openPoll } as const;

export function createCore(options: CoreOptions): Core {
  const { url, transports, patienceMs } = options;
  const aborter = new AbortController();
  const { signal } = aborter;
  const http = createHttp(url, options.token);
  const transportKey = `roomcast:transport:${http.url.origin}:${transports}`;
  let status: Status = { state: 'connecting', transport: null, error: null };
  let hasStarted = false;
  let starting: Promise<void> | null = null;
  /** Joins and leaves run one after the other. */
  let lastChange: Promise<unknown> = Promise.resolve();
  let isPaused = false;
  /** Ends every wait before a next attempt. */
  let nap = childOf(signal);
  /** Ends what the last wake asked. */
  let look = childOf(signal);
  /** Ends the requests of the start, and when they began (`Date.now()`). */
  let attempt = childOf(signal);
  let attemptedAtMs = 0;

  const ownState = options.state && createOwnState(options.state, signal, startOver);
  if (options.hasState) ownState?.settle();

  const stream = createStream({
    http,
    rooms: options.rooms,
    after: options.after,
    readState: options.refetch ? (rooms) => readState(http, rooms, signal) : null,
    ownState,
    signal,
    deliver: options.deliver,
    takeSignal: (event, payload) => signals.take(event, payload as ReceivedSignal, 'poll'),
    reset: options.reset,
    cursorMoved: options.cursorMoved,
    reattach,
    failed: end,
  });
  const sender = createSignalSender(http, signal);
  const signals = createActiveSignals({
    http,
    rooms: stream.rooms,
    signal,
    isOwn: sender.isOwn,
    heard: (event, payload, transport) =>
      options.heard(event, payload, { event, cursor: null, transport, replay: false }),
    changed: options.signalsChanged,
  });
  const connection: ConnectionOptions = {
    http,
    stream,
    signals,
    sender,
    heartbeatMs: options.heartbeatMs,
    patienceMs,
    socketPath: options.socketPath,
    marks: options.marks,
  };
  const remember = (transport: TransportName): void => rememberTransport(transportKey, transport, options.memory);
  const openPicker: OwnConnections['openPicker'] = (reportStatus) =>
    createTransportPicker({
      allowed: transports,
      open: (name, events) => TRANSPORTS[name](connection, events),
      remembered: recallTransport(transportKey, options.memory),
      remember,
      report: reportStatus,
      renew: http.refused,
      failed: end,
      patienceMs,
      signal,
    });
  /** What brings the events. */
  let source = openPicker(report);

  let loading: Promise<void> | null = null;

  /** Without the code that shares, which is loaded when it is needed, the tab has its own connections. */
  async function load(): Promise<void> {
    const own = { http, stream, signals, openPicker, report, remember, failed: end, signal };
    source = (await options.share?.(own).catch(() => null)) ?? source;
  }

  const waiting = (): Status['state'] => (status.state === 'connecting' ? 'connecting' : 'reconnecting');

  function report(next: Omit<Status, 'state'>): void {
    setStatus({ state: next.transport === null ? waiting() : 'live', ...next });
  }

  function setStatus(next: Status): void {
    const { state, transport, error } = status;
    if (signal.aborted && next.state !== 'closed') return;
    if (next.state === state && next.transport === transport && next.error === error) return;
    status = next;
    options.statusChanged(status);
    if (next.transport === null) return;
    sender.renew();
    // The new connection brings what is active, but not what ended meanwhile.
    if (signals.list().length > 0) void signals.refresh();
  }

  function reattach(): void {
    if (stream.rooms.size === 0) {
      hasStarted = false;
      setStatus({ state: 'connecting', transport: null, error: null });
      source.stop();
      ownState?.forget();
    } else if (!hasStarted) starting ??= start();
    else if (!isPaused) source.attach();
  }

  /** No connection is open while the application reads its state: the log keeps what is published meanwhile. */
  function startOver(): void {
    hasStarted = false;
    source.stop();
    setStatus({ state: waiting(), transport: null, error: null });
    reattach();
  }

  async function readOwnState({ due, read, settle }: OwnState): Promise<void> {
    await stream.takePosition();
    const reset = due === 'start' ? null : due;
    await read(reset?.reason ?? 'start', [...stream.rooms.keys()]);
    if (stream.rooms.size === 0) return;
    settle();
    if (reset !== null) options.reset({ ...reset, room: null, state: null });
  }

  async function start(): Promise<void> {
    for (let failures = 1; !signal.aborted && !isPaused && stream.rooms.size > 0; failures++) {
      await online(signal);
      const { cursor } = stream;
      const startedMs = performance.now();
      attempt = childOf(signal);
      attemptedAtMs = Date.now();
      try {
        loading ??= load();
        if (ownState?.due) await readOwnState(ownState);
        if (isPaused || stream.rooms.size === 0) break;
        // A reset, or other rooms.
        if (!(await stream.catchUp(stream.writer(), null, attempt.signal))) {
          if (failures > 1) await pause(backoff(failures), nap.signal);
          continue;
        }
        await loading;
        if (isPaused || stream.rooms.size === 0) break;
        hasStarted = true;
        source.start();
        break;
      } catch (cause) {
        if (attempt.signal.aborted) continue;
        const error = cause as RoomcastError;
        if (!error.passing) return end(error);
        setStatus({ ...status, error });
        if (stream.cursor !== cursor) failures = 1;
        await pauseAfter(error, failures, startedMs, nap.signal);
      } finally {
        attempt.abort();
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
      const startedMs = performance.now();
      if (joining.rooms.length === 0) return stream.cursor ?? '';
      if (signal.aborted) throw closedError();
      try {
        return await stream.join(joining);
      } catch (cause) {
        const error = cause as RoomcastError;
        if (!error.passing) throw error;
        await pauseAfter(error, failures, startedMs, nap.signal);
      }
    }
  }

  const wake = onWake(() => {
    nap.abort();
    look.abort();
    nap = childOf(signal);
    look = childOf(signal);
    // What was asked before a sleep may never be answered.
    if (!hasStarted && Date.now() - attemptedAtMs > WAKE_MS) attempt.abort();
    if (hasStarted && !isPaused && isOnline()) source.wake(readMissed(stream, look.signal));
  }, signal);

  function end(error: RoomcastError | null): void {
    if (signal.aborted) return;
    aborter.abort();
    setStatus({ state: 'closed', transport: null, error });
    options.closed();
  }

  return {
    http,
    stream,
    sender,
    signals,
    get status() {
      return status;
    },
    signal,
    begin: reattach,
    join: (wanted, after) =>
      afterLastChange(() => {
        if (stream.rooms.size === 0 && after !== null) ownState?.settle();
        const rooms = wanted.filter((room) => !stream.rooms.has(room));
        return join({ rooms, after, position: positionOf(after) });
      }),
    async leave(rooms) {
      for (const room of rooms) sender.stop(room);
      await afterLastChange(async () => {
        rooms.forEach(stream.leave);
        rooms.forEach(signals.forget);
      });
    },
    pause() {
      isPaused = true;
      stream.freeze();
      source.stop();
    },
    resume() {
      isPaused = false;
      if (hasStarted) source.start();
      else reattach();
    },
    wake,
    close() {
      sender.stop();
      end(null);
    },
  };
}

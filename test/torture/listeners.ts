/**
 * Listeners that write down what they live through: stock `socket.io-client` on either transport, a stock EventSource,
 * and a long-polling loop, each doing what docs/listening.md tells its users to do and no more. They come back by
 * themselves; what they saw is for the checker.
 */
import { EventSource } from 'eventsource';
import { io } from 'socket.io-client';
import type { Entry, ListenerHistory } from './checker.ts';
import { type HeardSignal, SIGNALS } from './signals.ts';
import { JOIN_OF, legacyNames } from './words.ts';

export type Transport = 'websocket' | 'polling' | 'sse' | 'longpoll';
export const TRANSPORTS: readonly Transport[] = ['websocket', 'polling', 'sse', 'longpoll'];

export interface ListenOptions {
  readonly name: string;
  readonly url: string;
  /** `tenant:a`, `ticket:b`, … */
  readonly rooms: readonly string[];
  /** A place to begin from; left out: where the server says that it stands. */
  readonly after?: string;
  readonly legacy?: boolean;
  readonly token?: string;
  readonly tenants?: readonly string[];
  readonly mayReset?: boolean;
  /** Socket.IO: joins without a place, and listens from where the ack says. */
  readonly plainJoin?: boolean;
  /** Seconds, for SSE. */
  readonly life?: number;
  /** Bytes of leading comment, for SSE. */
  readonly padding?: number;
}

export interface Listener {
  readonly transport: Transport;
  readonly history: ListenerHistory;
  readonly entries: Entry[];
  /** When each canonical event came, by cursor: milliseconds of `performance.now`. */
  readonly cameAt: Map<string, number>;
  readonly signals: HeardSignal[];
  /** Times that a connection was made, and times that Socket.IO put the client back by itself. */
  readonly counts: { connects: number; recovered: number; errors: number };
  /** Set when the client gave up for good, which no fault of the server's may make it do. */
  gaveUp: string | null;
  /** Whether it hears all of its rooms. */
  ready(): boolean;
  close(): void;
}

interface Recorder {
  readonly listener: Listener;
  readonly places: Map<string, string | null>;
  event(id: string | null, event: string, payload: string, stream: string): void;
  /** @param more arguments after the payload */
  signal(event: string, payload: HeardSignal['payload'], more?: number): void;
  /** @param room whose join was told; left out: all that is heard */
  reset(reset: { reason: string; after: string | null; cursor: string }, room?: string): void;
  note(text: string): void;
}

const CANONICAL = ['tickets.updated', 'messages.new', 'messages.updated', 'messages.deleted', 'leads.updated'];
const RETRY_MS = 30;
const RETRY_MAX_MS = 250;
const POLL_SECONDS = 20;

function record(transport: Transport, options: ListenOptions, ready: () => boolean, close: () => void): Recorder {
  const { name, rooms, tenants = null, legacy = false, mayReset = false } = options;
  const entries: Entry[] = [];
  const places = new Map<string, string | null>(rooms.map((room) => [room, options.after ?? null]));
  const cameAt = new Map<string, number>();
  const signals: HeardSignal[] = [];
  const counts = { connects: 0, recovered: 0, errors: 0 };
  const listener: Listener = {
    transport,
    entries,
    cameAt,
    signals,
    counts,
    gaveUp: null,
    ready,
    close,
    get history() {
      return {
        name: `${name} (${transport})`,
        rooms: [...places].map(([room, after]) => ({ room, after })),
        tenants: tenants === null ? null : [...tenants],
        legacy,
        mayReset,
        entries,
      };
    },
  };
  return {
    listener,
    places,
    event(id, event, payload, stream) {
      if (id !== null) cameAt.set(id, performance.now());
      entries.push({ kind: 'event', id, event, payload, stream });
    },
    signal: (event, payload, more = 0) => void signals.push({ event, payload, atMs: performance.now(), more }),
    reset: ({ reason, after, cursor }, room) =>
      void entries.push({ kind: 'reset', reason, after, cursor, ...(room === undefined ? {} : { room }) }),
    note: (text) => void entries.push({ kind: 'note', text }),
  };
}

export function listen(transport: Transport, options: ListenOptions): Listener {
  if (transport === 'sse') return listenSse(options);
  if (transport === 'longpoll') return listenLongPoll(options);
  return listenSocket(transport, options);
}

/**
 * Joins its rooms with a cursor wherever it has one. What came before a join was acknowledged may come again when the
 * client has to repeat that join (protocol §5: a join counts once its ack is sent), and is then counted once.
 */
function listenSocket(transport: 'websocket' | 'polling', options: ListenOptions): Listener {
  const { url, rooms, token, legacy = false } = options;
  const socket = io(url, {
    transports: [transport],
    forceNew: true,
    reconnectionDelay: RETRY_MS,
    reconnectionDelayMax: RETRY_MAX_MS,
    timeout: 5_000,
    auth: { legacy, ...(token === undefined ? {} : { token }) },
  });
  const joined = new Set<string>();
  let everJoined = false;
  /** Where rooms that a lost session held go on, until their join is acknowledged: the main stream runs ahead of them. */
  const resumeFrom = new Map<string, string>();
  /** Seen while a join had no answer yet: on this connection, and on those before it. */
  const unproven = new Set<string>();
  const unprovenBefore = new Set<string>();
  /** The newest place of the main stream. */
  let main: string | null = options.after ?? null;
  let replays = 0;
  /** The join that has no answer yet. */
  let joining: { readonly room: string; readonly after: string | null } | null = null;
  let begun = false;
  const allJoined = (): boolean => joined.size === rooms.length;
  const recorder = record(transport, options, allJoined, () => void socket.disconnect());
  const { listener, places } = recorder;

  const hear = (event: string) => (payload: object, id?: string, flags?: { replay: boolean }) => {
    if (id === undefined) {
      recorder.event(null, event, JSON.stringify(payload), 'live');
      return;
    }
    const isReplay = flags?.replay === true;
    if (!allJoined()) {
      if (unprovenBefore.has(id)) {
        dropGroup(listener.entries);
        return;
      }
      unproven.add(id);
    }
    recorder.event(id, event, JSON.stringify(payload), isReplay ? `replay ${replays}` : 'live');
    if (!isReplay && (main === null || id > main)) main = id;
  };
  for (const event of [...CANONICAL, ...legacyNames()]) socket.on(event, hear(event));
  for (const event of SIGNALS) {
    socket.on(event, (payload: HeardSignal['payload'], ...more: unknown[]) =>
      recorder.signal(event, payload, more.length),
    );
  }
  socket.on('bridge.cursor', (_: object, id: string) => {
    begun = true;
    const isFirst = main === null;
    if (everJoined || isFirst) main = id;
    if (!isFirst) return;
    if (options.plainJoin !== true) for (const room of rooms) places.set(room, id);
    void joinAll();
  });
  socket.on('bridge.reset', (reset: { reason: string; after: string | null; cursor: string }) => {
    // In a handshake it says that the session was not restored; what the log still has, the joins will tell.
    if (!begun) {
      recorder.note(`not restored: ${reset.reason}, after ${reset.after}`);
      return;
    }
    if (joining !== null && reset.after === joining.after) {
      recorder.reset(reset, joining.room);
      return;
    }
    recorder.reset(reset);
    main = reset.cursor;
  });
  socket.on('bridge.error', ({ code }: { code: string }) => recorder.note(`bridge.error ${code}`));

  async function joinAll(): Promise<void> {
    const { id } = socket;
    for (const room of rooms) {
      if (joined.has(room)) continue;
      const after = resumeFrom.get(room) ?? places.get(room) ?? null;
      const kind = room.slice(0, room.indexOf(':'));
      replays++;
      joining = { room, after };
      const answer = (await socket
        .emitWithAck(JOIN_OF[kind] ?? '', room.slice(kind.length + 1), after === null ? {} : { after })
        .catch(() => null)) as { ok: boolean; cursor: string; code?: string } | null;
      if (answer === null || socket.id !== id) return;
      joining = null;
      if (!answer.ok) {
        recorder.note(`the join of ${room} was refused: ${answer.code}`);
        // It does not count, nor does what may have come with it.
        for (const seen of unproven) unprovenBefore.add(seen);
        unproven.clear();
        // As after any passing refusal: again a little later.
        setTimeout(() => void (socket.id === id && joinAll()), RETRY_MAX_MS);
        return;
      }
      joined.add(room);
      everJoined = true;
      resumeFrom.delete(room);
      recorder.note(`joined ${room} after ${after ?? answer.cursor}`);
      if (after !== null) continue;
      // Without a place it has a claim to what comes after the ack's cursor, and to nothing before.
      places.set(room, answer.cursor);
      const kept = listener.entries.filter((entry) => entry.kind !== 'event' || (entry.id ?? '') > answer.cursor);
      if (unprovenBefore.size > 0) listener.entries.splice(0, listener.entries.length, ...kept);
    }
    unproven.clear();
    unprovenBefore.clear();
  }

  socket.on('connect', () => {
    begun = false;
    joining = null;
    listener.counts.connects++;
    if (socket.recovered) listener.counts.recovered++;
    recorder.note(`connected, ${socket.recovered ? 'recovered' : 'not recovered'}`);
    for (const id of unproven) unprovenBefore.add(id);
    unproven.clear();
    if (!socket.recovered && joined.size > 0) {
      if (main !== null) for (const room of joined) resumeFrom.set(room, main);
      joined.clear();
      // The log may be gone; where it is not, a session whose joins were acknowledged must be found again.
      if (options.mayReset !== true) {
        recorder.reset({ reason: 'the session was not restored', after: main, cursor: main ?? '' });
      }
    }
    // The first time it waits for the server's first cursor.
    if (!allJoined() && main !== null) void joinAll();
  });
  socket.on('disconnect', (reason) => {
    recorder.note(`disconnected: ${reason}`);
    if (reason === 'io server disconnect') listener.gaveUp = 'told to stay away (io server disconnect)';
  });
  socket.on('connect_error', (error: Error & { data?: { code?: string } }) => {
    listener.counts.errors++;
    if (error.data?.code !== undefined) listener.gaveUp = `connect_error ${error.data.code}`;
  });
  return listener;
}

/** Takes back the legacy entries that came right before an event which is not counted. */
function dropGroup(entries: Entry[]): void {
  for (let last = entries.at(-1); last?.kind === 'event' && last.id === null; last = entries.at(-1)) entries.pop();
}

function listenSse(options: ListenOptions): Listener {
  const { url, rooms, token, after, legacy = false, life, padding } = options;
  const query = roomQuery(rooms, { legacy, after, access_token: token, life, padding });
  let heard = false;
  const source = new EventSource(`${url}/sse?${query}`);
  const recorder = record(
    'sse',
    options,
    () => heard,
    () => source.close(),
  );
  const { listener, places } = recorder;
  for (const event of [...CANONICAL, ...legacyNames()]) {
    const isCanonical = CANONICAL.includes(event);
    source.addEventListener(event, ({ data, lastEventId }) =>
      recorder.event(isCanonical ? lastEventId : null, event, data as string, 'live'),
    );
  }
  for (const event of SIGNALS) {
    source.addEventListener(event, ({ data }) => recorder.signal(event, JSON.parse(data as string)));
  }
  source.addEventListener('bridge.cursor', ({ lastEventId }) => {
    heard = true;
    for (const [room, place] of places) if (place === null) places.set(room, lastEventId);
  });
  source.addEventListener('bridge.reset', ({ data }) => recorder.reset(JSON.parse(data as string)));
  source.addEventListener('bridge.error', ({ data }) => recorder.note(`bridge.error ${data}`));
  source.addEventListener('open', () => {
    listener.counts.connects++;
    recorder.note('opened');
  });
  source.addEventListener('error', (error) => {
    listener.counts.errors++;
    recorder.note(`error ${error.code ?? ''} ${error.message ?? ''}`);
    if (source.readyState === source.CLOSED) listener.gaveUp = `EventSource gave up: ${error.code ?? error.message}`;
  });
  return listener;
}

function listenLongPoll(options: ListenOptions): Listener {
  const { url, rooms, token, legacy = false } = options;
  const closing = new AbortController();
  let cursor = options.after ?? null;
  const recorder = record(
    'longpoll',
    options,
    () => cursor !== null,
    () => closing.abort(),
  );
  const { listener, places } = recorder;
  interface Answer {
    readonly events?: readonly { id: string | null; event: string; payload: object }[];
    readonly cursor: string;
    readonly reason: string;
    readonly after: string;
  }
  const poll = async (): Promise<void> => {
    const query = roomQuery(rooms, {
      legacy,
      after: cursor ?? 'now',
      wait: cursor === null ? 0 : POLL_SECONDS,
      limit: 200,
      signals: true,
    });
    const response = await fetch(`${url}/events?${query}`, {
      signal: AbortSignal.any([closing.signal, AbortSignal.timeout(2 * POLL_SECONDS * 1000)]),
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    });
    listener.counts.connects++;
    if (response.status === 410) {
      const reset = (await response.json()) as Answer;
      recorder.reset(reset);
      cursor = reset.cursor;
      return;
    }
    if (response.status !== 200) {
      recorder.note(`${response.status} ${(await response.text()).slice(0, 200)}`);
      if (response.status !== 503 && response.status !== 429 && response.status !== 502 && response.status !== 504) {
        listener.gaveUp = `polling got ${response.status}`;
      }
      throw new Error('refused');
    }
    const body = (await response.json()) as Answer;
    for (const { id, event, payload } of body.events ?? []) {
      if (SIGNALS.includes(event)) recorder.signal(event, payload as HeardSignal['payload']);
      else recorder.event(id, event, JSON.stringify(payload), 'live');
    }
    if (cursor === null) for (const room of rooms) places.set(room, body.cursor);
    cursor = body.cursor;
  };
  void (async () => {
    while (!closing.signal.aborted) {
      try {
        await poll();
      } catch {
        listener.counts.errors++;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  })();
  return listener;
}

export function roomQuery(rooms: readonly string[], options: Record<string, unknown> = {}): URLSearchParams {
  const query = new URLSearchParams();
  for (const room of rooms) {
    const kind = room.slice(0, room.indexOf(':'));
    query.append(`${kind}Id`, room.slice(kind.length + 1));
  }
  for (const [name, value] of Object.entries(options)) if (value !== undefined) query.set(name, String(value));
  return query;
}

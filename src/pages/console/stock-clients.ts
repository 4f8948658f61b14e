/**
 * One room on one transport, with the stock client of each: `socket.io-client` over WebSocket and over polling,
 * `EventSource`, and `fetch` for the long poll. A client starts after a cursor and reports what arrives. `cut` ends the
 * connection underneath it; the client then reconnects and resumes by its own means.
 */
import { io } from 'socket.io-client';
import { BRIDGE_CURSOR, BRIDGE_RESET, type TransportName } from '../../contract/names.ts';
import { idField, idOf, kindOf, type Room } from '../../contract/rooms.ts';
import { type Access, BASE, SOCKET_PATH } from './access.ts';

/** `cut`: by the button. `down`: for another reason. */
export type ClientState = 'connecting' | 'open' | 'cut' | 'down';

/** How a client continued after it was away. */
export type ResumeKind = 'recovered' | 'rejoined' | 'lastId' | 'cursor';

export interface ClientEvents {
  /** `text` is the payload's JSON text, byte for byte. */
  onEvent(event: string, cursor: string, text: string): void;
  /** Null at the first connection. */
  onOpen(how: ResumeKind | null): void;
  onCut(): void;
  /** The words of the client or of the bridge, if it has any. */
  onDown(reason?: string): void;
  /** The log no longer holds the events that the client missed. */
  onReset(): void;
}

export interface StockClient {
  cut(): void;
  close(): void;
}

export interface ClientOptions {
  readonly room: Room;
  /** The cursor after which the client starts. */
  readonly after: string;
  /** `EventSource` receives only the event names that it has listeners for. */
  readonly eventNames: readonly string[];
  /** A pass for URLs and handshakes; null if the bridge needs none. */
  readonly pass: () => Promise<string | null>;
}

/** How long a client stays away after a cut. */
export const CUT_MS = 3_000;
const RETRY_MS = 1_000;
const MAX_BACKOFF_MS = 30_000;
const WAIT_SECONDS = 20;
/** The first character of an Engine.IO message that holds a Socket.IO EVENT packet. */
const EVENT_PACKET = '2';

export function openStockClient(transport: TransportName, options: ClientOptions, events: ClientEvents): StockClient {
  if (transport === 'sse') return openEventSource(options, events);
  if (transport === 'longpoll') return openLongPoll(options, events);
  return openSocket(transport, options, events);
}

function openSocket(transport: 'websocket' | 'polling', options: ClientOptions, events: ClientEvents): StockClient {
  const { room, pass } = options;
  let { after } = options;
  let hasJoined = false;
  /** Messages that Engine.IO has received and Socket.IO has not handed out yet: it does so later, in the same order. */
  let messages: string[] = [];
  const socket = io(new URL(BASE).origin, {
    path: SOCKET_PATH,
    transports: [transport],
    forceNew: true,
    reconnectionDelay: RETRY_MS,
    reconnectionDelayMax: 2 * RETRY_MS,
    withCredentials: true,
    auth: (send) => {
      pass().then(
        (text) => send({ legacy: false, ...(text === null ? {} : { pass: text }) }),
        () => send({ legacy: false }),
      );
    },
  });
  const manager = socket.io;

  manager.on('open', () => {
    messages = [];
    manager.engine.on('packet', ({ type, data }: { type: string; data?: unknown }) => {
      if (type === 'message' && typeof data === 'string' && data.startsWith(EVENT_PACKET)) messages.push(data);
    });
  });
  socket.on('connect', () => {
    manager.reconnectionDelay(RETRY_MS);
    if (socket.recovered && hasJoined) {
      events.onOpen('recovered');
      return;
    }
    const how = hasJoined ? 'rejoined' : null;
    socket.emit(`join-${kindOf(room)}`, idOf(room), { after }, ({ ok, error }: { ok: boolean; error?: string }) => {
      hasJoined = ok;
      if (ok) events.onOpen(how);
      else events.onDown(error);
    });
  });
  socket.on('disconnect', () => events.onDown());
  socket.on('connect_error', (error) => {
    events.onDown(error.message);
    // After a refusal a stock client stays down; the next attempt may have a better pass.
    if (!socket.active) setTimeout(() => socket.connect(), 2 * RETRY_MS);
  });
  socket.on(BRIDGE_RESET, () => events.onReset());
  socket.onAny((event: string, payload: unknown, cursor: unknown, meta: unknown) => {
    const message = messages.shift() ?? '';
    if (event.startsWith('bridge.') || typeof cursor !== 'string') return;
    if (cursor > after) after = cursor;
    const text = message.slice(EVENT_PACKET.length);
    const parsed = meta === undefined ? [event, payload, cursor] : [event, payload, cursor, meta];
    // If JSON.stringify reproduces the message, it also reproduces the payload's own bytes.
    events.onEvent(event, cursor, JSON.stringify(parsed) === text ? JSON.stringify(payload) : text);
  });

  return {
    cut() {
      manager.reconnectionDelay(CUT_MS);
      manager.reconnectionDelayMax(CUT_MS);
      manager.randomizationFactor(0);
      manager.engine.close();
      events.onCut();
    },
    close() {
      socket.disconnect();
    },
  };
}

function urlOf(path: string, room: Room, pass: string | null, more: Readonly<Record<string, string>>): URL {
  const query = { [idField(kindOf(room))]: idOf(room), legacy: 'false', ...more, ...(pass !== null && { pass }) };
  return new URL(`${path}?${new URLSearchParams(query)}`, BASE);
}

function openEventSource(options: ClientOptions, events: ClientEvents): StockClient {
  let { after } = options;
  let source: EventSource | null = null;
  let isClosed = false;
  let wasOpen = false;
  let failures = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;

  async function open(): Promise<void> {
    const pass = await options.pass().catch(() => null);
    if (isClosed) return;
    const opened = new EventSource(urlOf('sse', options.room, pass, { after }));
    source = opened;
    const onMessage = ({ type, lastEventId, data }: MessageEvent<string>): void => {
      if (lastEventId !== '') after = lastEventId;
      if (type === BRIDGE_RESET) events.onReset();
      else if (!type.startsWith('bridge.')) events.onEvent(type, lastEventId, data);
    };
    for (const name of [...options.eventNames, BRIDGE_CURSOR, BRIDGE_RESET]) opened.addEventListener(name, onMessage);
    opened.onopen = () => {
      failures = 0;
      events.onOpen(wasOpen ? 'lastId' : null);
      wasOpen = true;
    };
    opened.onerror = () => {
      events.onDown();
      // Closed for good: refused, as with an expired pass, or cut in the head of an answer. A new one gets a new pass.
      if (opened.readyState !== EventSource.CLOSED) return;
      reopen(Math.min(MAX_BACKOFF_MS, RETRY_MS * 2 ** failures++) * Math.random());
    };
  }

  function reopen(afterMs: number): void {
    clearTimeout(timer);
    source?.close();
    timer = setTimeout(() => void open(), afterMs);
  }

  void open();
  return {
    cut() {
      reopen(CUT_MS);
      events.onCut();
    },
    close() {
      isClosed = true;
      clearTimeout(timer);
      source?.close();
    },
  };
}

function openLongPoll(options: ClientOptions, events: ClientEvents): StockClient {
  let { after } = options;
  let request = new AbortController();
  let isClosed = false;
  let isCut = false;
  let wasOpen = false;
  let wake: () => void = () => {};

  const pause = (milliseconds: number): Promise<void> =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });

  async function poll(wait: number): Promise<void> {
    const url = urlOf('events', options.room, await options.pass(), { after, wait: String(wait) });
    const response = await fetch(url, { signal: request.signal, cache: 'no-store' });
    const body = await response.text();
    const page = JSON.parse(body) as {
      readonly events: readonly { id: string; event: string; payload: unknown }[];
      readonly cursor: string;
    };
    if (response.status === 410) events.onReset();
    else if (!response.ok) throw new Error(`The answer was ${response.status}.`);
    else {
      const isExact = JSON.stringify(page) === body;
      for (const { id, event, payload } of page.events) {
        events.onEvent(event, id, isExact ? JSON.stringify(payload) : body);
      }
    }
    after = page.cursor;
  }

  async function run(): Promise<void> {
    let isOpen = false;
    while (!isClosed) {
      try {
        // The first request does not wait, so it shows at once that polling works.
        await poll(isOpen ? WAIT_SECONDS : 0);
        if (!isOpen) events.onOpen(wasOpen ? 'cursor' : null);
        isOpen = true;
        wasOpen = true;
      } catch (error) {
        if (isClosed) return;
        isOpen = false;
        if (!isCut) events.onDown((error as Error).message);
        await pause(isCut ? CUT_MS : RETRY_MS);
        isCut = false;
        request = new AbortController();
      }
    }
  }

  void run();
  return {
    cut() {
      isCut = true;
      events.onCut();
      request.abort();
    },
    close() {
      isClosed = true;
      request.abort();
      wake();
    },
  };
}

/** @returns a function for a pass, renewed when 80% of its life is over; null without a token */
export function createPasses(access: Access): () => Promise<string | null> {
  let current: { readonly pass: string; readonly untilMs: number } | null = null;
  return async () => {
    if (access.token === null) return null;
    if (current === null || Date.now() > current.untilMs) {
      const answer = await access.request<{ pass: string; expiresInSeconds: number }>('pass', { method: 'POST' });
      current = { pass: answer.pass, untilMs: Date.now() + answer.expiresInSeconds * 800 };
    }
    return current.pass;
  };
}

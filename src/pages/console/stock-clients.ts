/**
 * One room on four transports, each as raw as a browser has it: stock `socket.io-client` over a websocket and over
 * polling, `EventSource`, and a long poll by `fetch`. A lane starts after a given cursor, tells what arrives, and can be
 * cut underneath: the transport ends, the session does not, and it comes back as such a client does.
 */

import { io, type Socket } from 'socket.io-client';
import type { Http } from '../../client/http.ts';
import { BRIDGE_CURSOR, BRIDGE_RESET } from '../../contract/names.ts';
import { ID_FIELDS, idOf, kindOf, type Room } from '../../contract/rooms.ts';
import { BASE, PATIENCE_MS, SOCKET_PATH } from './access.ts';

export const LANES = ['websocket', 'polling', 'sse', 'longpoll'] as const;
export type LaneName = (typeof LANES)[number];

/** `cut`: by the button. `down`: by something else. */
export type LaneState = 'connecting' | 'open' | 'cut' | 'down';

export interface LaneEvents {
  /** `text` is the payload's JSON text as it came. */
  arrived(event: string, cursor: string, text: string): void;
  /** How it came to be open, in words, when it had been open before. */
  state(state: LaneState, how?: string): void;
  /** What was missed is gone: the log keeps it no longer. */
  reset(): void;
}

export interface Lane {
  cut(): void;
  close(): void;
}

export interface LaneOptions {
  readonly room: Room;
  /** Hears what comes after it. */
  readonly after: string;
  /** Names of the events that `EventSource` is to hear: it takes none that it was not told of. */
  readonly eventNames: readonly string[];
  /** A pass for URLs and handshakes; null where none is needed. */
  readonly pass: () => Promise<string | null>;
}

/** How long a lane that was cut stays away. */
export const CUT_MS = 3_000;
const RETRY_MS = 1_000;
const WAIT_SECONDS = 20;
/** How the text of a Socket.IO EVENT packet begins. */
const EVENT = '2';

export function openLane(name: LaneName, options: LaneOptions, events: LaneEvents): Lane {
  if (name === 'sse') return openEventSource(options, events);
  if (name === 'longpoll') return openLongPoll(options, events);
  return openSocket(name, options, events);
}

/** A frame that is what JSON.stringify gives of it holds its payload's very bytes. */
function textWithin(frame: string, parsed: unknown, payload: unknown): string {
  return JSON.stringify(parsed) === frame ? JSON.stringify(payload) : frame;
}

function openSocket(name: 'websocket' | 'polling', options: LaneOptions, events: LaneEvents): Lane {
  const { room, pass } = options;
  let after = options.after;
  let hasJoined = false;
  /** What came in of events, not handed on yet: Socket.IO does that a moment later, in the same order. */
  let frames: string[] = [];
  const socket: Socket = io(new URL(BASE).origin, {
    path: SOCKET_PATH,
    transports: [name],
    forceNew: true,
    reconnectionDelay: RETRY_MS,
    reconnectionDelayMax: 2 * RETRY_MS,
    withCredentials: true,
    auth: (tell) => {
      pass().then(
        (text) => tell({ legacy: false, ...(text === null ? {} : { pass: text }) }),
        () => tell({ legacy: false }),
      );
    },
  });
  const manager = socket.io;

  manager.on('open', () => {
    frames = [];
    manager.engine.on('packet', ({ type, data }: { type: string; data?: unknown }) => {
      if (type === 'message' && typeof data === 'string' && data.startsWith(EVENT)) frames.push(data);
    });
  });
  socket.on('connect', () => {
    manager.reconnectionDelay(RETRY_MS);
    if (socket.recovered && hasJoined) {
      events.state('open', 'recovered by Socket.IO');
      return;
    }
    const how = hasJoined ? 'joined again with its cursor' : undefined;
    socket.emit(`join-${kindOf(room)}`, idOf(room), { after }, ({ ok, error }: { ok: boolean; error?: string }) => {
      hasJoined = ok;
      if (ok) events.state('open', how);
      else events.state('down', error);
    });
  });
  socket.on('disconnect', () => events.state('down'));
  socket.on('connect_error', (error) => {
    events.state('down', error.message);
    // A refusal by the server is for good with a stock client; the next pass may be better.
    if (!socket.active) setTimeout(() => socket.connect(), 2 * RETRY_MS);
  });
  socket.on(BRIDGE_RESET, () => events.reset());
  socket.onAny((event: string, payload: unknown, cursor: unknown, meta: unknown) => {
    const frame = frames.shift() ?? '';
    if (event.startsWith('bridge.') || typeof cursor !== 'string') return;
    if (cursor > after) after = cursor;
    const parsed = meta === undefined ? [event, payload, cursor] : [event, payload, cursor, meta];
    events.arrived(event, cursor, textWithin(frame.slice(EVENT.length), parsed, payload));
  });

  return {
    cut() {
      manager.reconnectionDelay(CUT_MS);
      manager.reconnectionDelayMax(CUT_MS);
      manager.randomizationFactor(0);
      manager.engine.close();
      events.state('cut');
    },
    close() {
      socket.disconnect();
    },
  };
}

function queryOf(room: Room, more: Readonly<Record<string, string>>): URLSearchParams {
  return new URLSearchParams({ [ID_FIELDS[kindOf(room)]]: idOf(room), legacy: 'false', ...more });
}

function openEventSource({ room, after: first, eventNames, pass }: LaneOptions, events: LaneEvents): Lane {
  let after = first;
  let source: EventSource | null = null;
  let isClosed = false;
  let wasOpen = false;
  let timer: ReturnType<typeof setTimeout> | undefined;

  async function open(): Promise<void> {
    const text = await pass().catch(() => null);
    if (isClosed) return;
    const opened = new EventSource(
      new URL(`sse?${queryOf(room, { after, ...(text === null ? {} : { pass: text }) })}`, BASE),
    );
    source = opened;
    const heard = (message: MessageEvent<string>): void => {
      if (message.lastEventId !== '') after = message.lastEventId;
      if (message.type === BRIDGE_RESET) events.reset();
      else if (!message.type.startsWith('bridge.')) events.arrived(message.type, message.lastEventId, message.data);
    };
    for (const name of [...eventNames, BRIDGE_CURSOR, BRIDGE_RESET]) opened.addEventListener(name, heard);
    opened.onopen = () => {
      events.state('open', wasOpen ? 'reopened after its last id' : undefined);
      wasOpen = true;
    };
    opened.onerror = () => {
      events.state('down');
      // Refused for good, as with a pass that has expired: a new one with a new pass.
      if (opened.readyState === EventSource.CLOSED) later(RETRY_MS);
    };
  }

  function later(afterMs: number): void {
    clearTimeout(timer);
    source?.close();
    timer = setTimeout(() => void open(), afterMs);
  }

  void open();
  return {
    cut() {
      later(CUT_MS);
      events.state('cut');
    },
    close() {
      isClosed = true;
      clearTimeout(timer);
      source?.close();
    },
  };
}

function openLongPoll({ room, after: first, pass }: LaneOptions, events: LaneEvents): Lane {
  let after = first;
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
    const text = await pass();
    const query = queryOf(room, { after, wait: String(wait), ...(text === null ? {} : { pass: text }) });
    const response = await fetch(new URL(`events?${query}`, BASE), { signal: request.signal, cache: 'no-store' });
    const body = await response.text();
    const page = JSON.parse(body) as {
      readonly events: readonly { id: string; event: string; payload: unknown }[];
      readonly cursor: string;
    };
    if (response.status === 410) events.reset();
    else if (!response.ok) throw new Error(`The answer was ${response.status}.`);
    else {
      const isExact = JSON.stringify(page) === body;
      for (const { id, event, payload } of page.events) {
        events.arrived(event, id, isExact ? JSON.stringify(payload) : body);
      }
    }
    after = page.cursor;
  }

  async function run(): Promise<void> {
    let isOpen = false;
    while (!isClosed) {
      try {
        // The first request answers at once, and so tells that polling works.
        await poll(isOpen ? WAIT_SECONDS : 0);
        if (!isOpen) events.state('open', wasOpen ? 'polled after its cursor' : undefined);
        isOpen = true;
        wasOpen = true;
      } catch (error) {
        if (isClosed) return;
        isOpen = false;
        if (!isCut) events.state('down', (error as Error).message);
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
      events.state('cut');
      request.abort();
    },
    close() {
      isClosed = true;
      request.abort();
      wake();
    },
  };
}

/** For a pass where there is a token. */
export function createPasses(http: Http, hasToken: boolean): () => Promise<string | null> {
  let held: { readonly pass: string; readonly untilMs: number } | null = null;
  return async () => {
    if (!hasToken) return null;
    if (held === null || Date.now() > held.untilMs) {
      const asked = { method: 'POST', signal: new AbortController().signal, timeoutMs: PATIENCE_MS } as const;
      const minted = (await http.json('pass', asked)) as { pass: string; expiresInSeconds: number };
      held = { pass: minted.pass, untilMs: Date.now() + minted.expiresInSeconds * 800 };
    }
    return held.pass;
  };
}

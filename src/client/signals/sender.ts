/**
 * Sends signals (protocol §14): over the websocket while one is live, else with requests. For the bridge these are two
 * senders, so a signal that moves to the websocket is ended where it was.
 *
 * The signals of one event and room leave one after the other, so that none overtakes its end. While one is on its way, the
 * newest of the others waits, and those before it are dropped.
 */
import type { Room } from '../../contract/rooms.ts';
import type { Id } from '../events.ts';
import { closedError, type Http, type RoomcastError, refusalOf } from '../http.ts';
import { backoff, childOf, MAX_TIMER_MS, online, pause } from '../retry.ts';
import { dropOldest, type Payload } from '../stream.ts';

/** As it goes over the wire. */
export interface SignalBody {
  readonly event: string;
  readonly room: Room;
  readonly payload?: Payload;
  readonly ttlSeconds?: number;
  readonly tenantId?: Id;
}

export interface SignalSocket {
  /** The bridge's name for this connection as a sender; undefined once it is closed. */
  readonly sender: string | undefined;
  /** Rejects if there is no answer. */
  send(body: SignalBody): Promise<{ readonly ok: boolean; readonly code: string; readonly error: string }>;
}

export interface SignalSender {
  /** Sends the signal, unless the same one was sent a moment ago. @throws {RoomcastError} */
  signal(body: SignalBody): Promise<void>;
  /** Sends it, and again before it ends, until the returned function is called. Only a lasting error fails it. */
  keep(body: SignalBody, failed: (error: RoomcastError) => void): () => void;
  /** Whether this client is the sender, perhaps over an earlier connection. */
  isOwn(sender: string): boolean;
  /** Signals go over this websocket while it is open. */
  use(socket: SignalSocket): void;
  /** Sends what is kept again: over a new connection it has a new sender, and the bridge ends the old one's signals. */
  renew(): void;
  /** Ends what is kept in this room, or in all. Over a websocket it is written before this returns. */
  stop(room?: Room): void;
}

interface Sent {
  readonly text: string;
  readonly atMs: number;
  /** Whether it is active because of a request. */
  isPosted: boolean;
  isDone: boolean;
  done: Promise<void>;
}

interface Kept {
  readonly body: SignalBody;
  /** Ends the pause before it is sent again. */
  nap: AbortController;
}

const TIMEOUT_MS = 10_000;
const DEFAULT_TTL_SECONDS = 10;
/** `signal` repeats a signal after this time at the earliest, or after half of its life. */
const REPEAT_MS = 2_000;
/** How many own signals, and own senders, are remembered. */
const MAX_SENT = 1_000;
const MAX_SENDERS = 100;

/** Members of a browser's window that Node's global object lacks. */
interface BrowserWindow {
  readonly document?: { readonly visibilityState: string };
  addEventListener?(name: string, act: (event: { readonly type: string }) => void, options: object): void;
}

export function createSignalSender(http: Http, signal: AbortSignal): SignalSender {
  const window = globalThis as BrowserWindow;
  /** The name of this client as a sender of requests. The bridge's own name for it ends with it. */
  const client = `c${Math.random().toString(36).slice(2)}`;
  const senders = new Set<string>();
  /** The newest of each event and room. */
  const sent = new Map<string, Sent>();
  const keeps = new Set<Kept>();
  let socket: SignalSocket | null = null;
  let isHidden = window.document?.visibilityState === 'hidden';

  function send(body: SignalBody): Promise<void> {
    const key = keyOf(body);
    const last = sent.get(key);
    const next: Sent = {
      text: JSON.stringify(body),
      atMs: performance.now(),
      isPosted: false,
      isDone: false,
      done: Promise.resolve(),
    };
    sent.delete(key); // so that it becomes the newest
    sent.set(key, next);
    dropOldest(sent, MAX_SENT);
    const start = async (): Promise<void> => {
      next.isPosted = last?.isPosted ?? false;
      try {
        if (sent.get(key) === next) await transmit(body, next);
      } catch (error) {
        throw signal.aborted ? closedError() : error;
      }
    };
    next.done = (last?.isDone === false ? last.done.then(start, start) : start()).finally(() => {
      next.isDone = true;
    });
    return next.done;
  }

  async function transmit(body: SignalBody, state: Sent): Promise<void> {
    if (socket?.sender) {
      senders.add(socket.sender);
      dropOldest(senders, MAX_SENDERS);
      const ack = await socket.send(body).catch(() => null);
      if (ack?.ok === false) throw refusalOf(ack.code, ack.error);
      if (ack !== null) {
        if (state.isPosted) post(endOf(body)).catch(() => {}); // it ends by itself, later
        state.isPosted = false;
        return;
      }
    }
    state.isPosted = body.ttlSeconds !== 0;
    await post(body);
  }

  async function post(body: SignalBody): Promise<void> {
    if (signal.aborted) throw closedError();
    await http.json('signals', {
      method: 'POST',
      body: JSON.stringify({ ...body, client }),
      headers: { 'content-type': 'application/json' },
      // The end is sent although the client or the page is being closed.
      keepalive: true,
      signal: body.ttlSeconds === 0 ? new AbortController().signal : signal,
      timeoutMs: TIMEOUT_MS,
    });
  }

  async function run(kept: Kept, failed: (error: RoomcastError) => void): Promise<void> {
    const lifeMs = 1000 * (kept.body.ttlSeconds ?? DEFAULT_TTL_SECONDS);
    for (let failures = 0; ; ) {
      await online(signal);
      if (!keeps.has(kept)) return;
      kept.nap = childOf(signal);
      // About half of its life: one renewal may be lost.
      let delayMs = isHidden ? MAX_TIMER_MS : lifeMs * (0.4 + 0.2 * Math.random());
      try {
        if (!isHidden) await send(kept.body);
        failures = 0;
      } catch (cause) {
        const error = cause as RoomcastError;
        if (!error.passing) {
          if (keeps.delete(kept)) failed(error);
          return;
        }
        delayMs = Math.max(error.retryAfterMs, backoff(++failures));
      }
      await pause(delayMs, kept.nap.signal);
    }
  }

  function stop(kept: Kept): void {
    if (!keeps.delete(kept)) return;
    kept.nap.abort();
    const others = [...keeps].filter(({ body }) => keyOf(body) === keyOf(kept.body));
    if (others.length === 0) end(kept.body);
    for (const { nap } of others) nap.abort();
  }

  function end(body: SignalBody): void {
    if (sent.has(keyOf(body))) send(endOf(body)).catch(() => {}); // it ends by itself, later
  }

  function visibilityChanged({ type }: { readonly type: string }): void {
    const wasHidden = isHidden;
    isHidden = type === 'pagehide' || window.document?.visibilityState === 'hidden';
    if (isHidden === wasHidden) return;
    for (const { body, nap } of keeps) {
      if (isHidden) end(body);
      nap.abort();
    }
  }

  signal.addEventListener('abort', () => keeps.clear());
  for (const name of ['visibilitychange', 'pagehide', 'pageshow']) {
    window.addEventListener?.(name, visibilityChanged, { signal });
  }

  return {
    async signal(body) {
      const last = sent.get(keyOf(body));
      const { ttlSeconds = DEFAULT_TTL_SECONDS } = body;
      const repeatMs = Math.min(REPEAT_MS, 500 * ttlSeconds || REPEAT_MS);
      const isRepeat =
        last?.text === JSON.stringify(body) && performance.now() - last.atMs < repeatMs && !signal.aborted;
      await (isRepeat ? last.done : send(body));
    },
    keep(body, failed) {
      const kept = { body, nap: new AbortController() };
      keeps.add(kept);
      void run(kept, failed);
      return () => stop(kept);
    },
    isOwn: (sender) => senders.has(sender) || sender.endsWith(`.${client}`),
    use(opened) {
      socket = opened;
    },
    renew() {
      for (const { nap } of keeps) nap.abort();
    },
    stop(room) {
      for (const kept of [...keeps]) if (room === undefined || kept.body.room === room) stop(kept);
    },
  };
}

const keyOf = ({ event, room, tenantId }: SignalBody): string => [event, room, tenantId].join('\n');
const endOf = (body: SignalBody): SignalBody => ({ ...body, ttlSeconds: 0 });

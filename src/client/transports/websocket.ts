/**
 * Socket.IO over a websocket. Each connection is a new one: the transport picker decides when to reconnect.
 *
 * Rooms are joined in one message, without history. The events that arrive are buffered while pages of `/events` bring
 * everything up to the cursor of the join; then the buffer continues from there. One room is joined again at intervals: the
 * answer shows that the server is alive, and moves the cursor of a quiet stream.
 */

import type { Socket } from 'socket.io-client';
import { BRIDGE_AUDIENCE, BRIDGE_CURSOR, BRIDGE_ERROR, BRIDGE_RESET } from '../../contract/names.ts';
import type { Reset } from '../../contract/reset.ts';
import type { Room } from '../../contract/rooms.ts';
import { RoomcastError, refusalOf } from '../http.ts';
import { pause } from '../retry.ts';
import type { ReceivedSignal } from '../signals/active.ts';
import type { SignalBody, SignalSocket } from '../signals/sender.ts';
import type { Payload, StreamEvent } from '../stream.ts';
import type { ConnectionEnd, OpenConnection } from './connection.ts';

/** The delay before the client repeats joins that the server refused with `rate_limited`. */
const RATE_LIMITED_MS = 1_000;

interface Ack {
  readonly ok: boolean;
  readonly cursor: string;
  readonly code: string;
  readonly error: string;
}

interface Problem {
  readonly code: string;
  readonly message: string;
}

interface ConnectError extends Error {
  readonly data?: Partial<Problem>;
  /** In Node, its message has the status of an answer that is no websocket. A browser hides it. */
  readonly description?: { readonly message?: string };
}

export const openWebsocket: OpenConnection = (options, events) => {
  const { http, stream, signals, sender, heartbeatMs, patienceMs, socketPath, marks } = options;
  const aborter = new AbortController();
  const { signal } = aborter;
  const joined = new Set<Room>();
  /** The newest cursor after which exactly the joined rooms are live here. */
  let liveAfter = '';
  /** Events that arrived before they could be written; null while none need to wait. */
  let buffer: StreamEvent[] | null = [];
  let writer = stream.writer();
  let socket: Socket | null = null;
  let lastAttach: Promise<void> = Promise.resolve();
  /** Whether the next event went to other rooms than its payload's ids say. */
  let isMarked = false;
  let heartbeat: ReturnType<typeof setInterval> | undefined;
  const signalSocket: SignalSocket = {
    get sender() {
      return signal.aborted ? undefined : socket?.id;
    },
    send: (body) => send('signal', body),
  };

  function end(reason: ConnectionEnd): void {
    if (signal.aborted) return;
    close();
    events.ended(reason);
  }

  function close(): void {
    aborter.abort();
    clearInterval(heartbeat);
    socket?.disconnect();
  }

  async function open(): Promise<void> {
    try {
      const token = await http.bearer(signal);
      const { io } = await import('socket.io-client');
      if (signal.aborted) return;
      socket = io(http.url.origin, {
        path: socketPath,
        transports: ['websocket'],
        forceNew: true,
        reconnection: false,
        timeout: patienceMs,
        withCredentials: true,
        auth: { legacy: false, ...(marks && { audience: true }), ...(token !== null && { token }) },
      });
    } catch (cause) {
      const isOwn = cause instanceof RoomcastError;
      end({ error: isOwn ? cause : new RoomcastError('unreachable', 'socket.io-client is not installed.', { cause }) });
      return;
    }
    socket.on('connect', attach);
    socket.on('disconnect', () => end({}));
    socket.on('connect_error', ({ message, data, description }: ConnectError) => {
      const text = `No websocket at ${http.url.origin}${socketPath}: ${description?.message ?? message}.`;
      end({ error: data?.code ? refusalOf(data.code, message) : refusalOf('unreachable', text) });
    });
    socket.on(BRIDGE_ERROR, ({ code, message }: Problem) => {
      const error = refusalOf(code, message);
      if (error.status === 401) end({ error });
    });
    socket.on(BRIDGE_RESET, (reset: Reset<string>) => {
      // Cursors of a lost log may sort after those of the new one.
      liveAfter = reset.cursor;
      writer.reset(reset);
    });
    socket.on(BRIDGE_CURSOR, (_: unknown, cursor: string) => {
      if (buffer === null) writer.advance(cursor);
    });
    socket.onAny((event: string, payload: Payload, cursor?: string) => {
      if (event === BRIDGE_AUDIENCE) isMarked = true;
      if (event.startsWith('bridge.')) return;
      if (typeof cursor !== 'string') return signals.take(event, payload as ReceivedSignal, 'websocket');
      const received = { event, payload, cursor, rooms: isMarked ? null : undefined };
      isMarked = false;
      if (buffer !== null) buffer.push(received);
      // The rooms are about to change: what arrives until `attach` must not be lost.
      else if (!writer.isCurrent) buffer = [received];
      else writer.write(received, 'websocket');
    });
    heartbeat = setInterval(() => void checkAlive(patienceMs, { isSilent: true }), heartbeatMs);
  }

  function attach(): void {
    lastAttach = lastAttach.then(takeUp);
  }

  async function takeUp(): Promise<void> {
    if (socket?.connected !== true) return;
    writer = stream.writer();
    buffer ??= [];
    try {
      const wanted = new Set(writer.rooms);
      await leave([...joined].filter((room) => !wanted.has(room)));
      await join([...wanted].filter((room) => !joined.has(room)));
      if (!(await stream.catchUp(writer, liveAfter, signal))) return;
      const buffered = buffer;
      buffer = null;
      for (const event of buffered) writer.write(event, 'websocket');
      // A slow `for await` may have closed the connection in the middle of them.
      if (!writer.isCurrent) return;
      sender.use(signalSocket);
      events.proven();
    } catch (error) {
      end(error instanceof RoomcastError ? { error } : { isSilent: true });
    }
  }

  async function join(rooms: readonly Room[]): Promise<void> {
    if (rooms.length === 0 || signal.aborted) return;
    const { ok, code, error } = await send('join', rooms);
    if (code === 'rate_limited') {
      await pause(RATE_LIMITED_MS, signal);
      return join(rooms);
    }
    if (!ok) throw refusalOf(code, error);
    for (const room of rooms) joined.add(room);
  }

  async function leave(rooms: readonly Room[]): Promise<void> {
    for (const room of rooms) joined.delete(room);
    if (rooms.length > 0) await send('leave', rooms);
  }

  async function send(
    verb: 'join' | 'leave' | 'signal',
    what: readonly Room[] | SignalBody,
    withinMs = patienceMs,
  ): Promise<Ack> {
    const ack: Ack = await (socket as Socket).timeout(withinMs).emitWithAck(verb, what);
    if (ack.cursor > liveAfter) liveAfter = ack.cursor;
    return ack;
  }

  async function checkAlive(withinMs: number, otherwise: ConnectionEnd): Promise<void> {
    const [room] = joined;
    if (room === undefined || buffer !== null) return;
    try {
      const { ok, cursor } = await send('join', [room], withinMs);
      if (ok && buffer === null) writer.advance(cursor);
    } catch {
      end(otherwise);
    }
  }

  void open();
  return { attach, probe: (withinMs) => void checkAlive(withinMs, {}), close };
};

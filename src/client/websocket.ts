/**
 * The top rung: Socket.IO over a websocket, each connection a fresh one (the ladder decides about coming back).
 *
 * Rooms are joined without a history, and what arrives is held while a page of `/events` brings everything up to the
 * newest join's place; then what was held goes on from there, so that several rooms come in the log's one order.
 * A joined room is joined again at intervals: its answer is a sign of life, and tells the cursor on a quiet stream.
 */

import type { Socket } from 'socket.io-client';
import { BRIDGE_CURSOR, BRIDGE_ERROR, BRIDGE_RESET } from '../contract/names.ts';
import type { Room } from '../contract/rooms.ts';
import type { End, Open, Source } from './connection.ts';
import { RoomcastError } from './http.ts';
import { pause } from './retry.ts';
import type { Frame, Gap, Link, Payload } from './stream.ts';

/** Joins that came too soon after many others. */
const RATE_LIMITED_MS = 1_000;

interface Answer {
  readonly ok: boolean;
  readonly cursor: string;
  readonly code: string;
  readonly error: string;
}

export const openWebsocket: Open = ({ http, session, heartbeatMs, patienceMs, socketPath }, events): Source => {
  const over = new AbortController();
  const joined = new Set<Room>();
  /** The newest place from which these rooms, and no others, are heard here. */
  let heardFrom = '';
  /** What arrived while it could not go on yet. */
  let held: Frame[] | null = [];
  let link: Link = session.link();
  let socket: Socket | null = null;
  let turn: Promise<void> = Promise.resolve();
  let expired: RoomcastError | undefined;
  let watch: ReturnType<typeof setInterval> | undefined;

  function end(reason: End): void {
    if (over.signal.aborted) return;
    close();
    events.ended(reason);
  }

  function close(): void {
    over.abort();
    clearInterval(watch);
    socket?.disconnect();
  }

  async function start(): Promise<void> {
    try {
      const token = await http.bearer(over.signal);
      const { io } = await import('socket.io-client');
      if (over.signal.aborted) return;
      socket = io(http.url.origin, {
        path: socketPath,
        transports: ['websocket'],
        forceNew: true,
        reconnection: false,
        timeout: patienceMs,
        withCredentials: true,
        auth: { legacy: false, ...(token === null ? {} : { token }) },
      });
    } catch (cause) {
      const isOurs = cause instanceof RoomcastError;
      end({ error: isOurs ? cause : new RoomcastError('unreachable', 'socket.io-client is not there.', { cause }) });
      return;
    }
    socket.on('connect', attach);
    socket.on('disconnect', () => end(expired === undefined ? {} : { error: expired }));
    socket.on('connect_error', (error: Error & { readonly data?: { readonly code?: string } }) => {
      const code = error.data?.code;
      end({ error: new RoomcastError(code ?? 'unreachable', error.message, { status: code === undefined ? 0 : 401 }) });
    });
    socket.on(BRIDGE_ERROR, ({ code, message }: { readonly code: string; readonly message: string }) => {
      if (code === 'token_expired') expired = new RoomcastError(code, message, { status: 401 });
    });
    socket.on(BRIDGE_RESET, (gap: Gap) => link.reset(gap));
    socket.on(BRIDGE_CURSOR, (_: unknown, cursor: string) => {
      if (held === null) link.moved(cursor);
    });
    socket.onAny((event: string, payload: Payload, cursor?: string) => {
      if (event.startsWith('bridge.') || typeof cursor !== 'string') return;
      const frame = { event, payload, cursor };
      if (held !== null) held.push(frame);
      // The rooms are about to change: what the others bring meanwhile must not be lost.
      else if (!link.isCurrent) held = [frame];
      else link.frame(frame, 'websocket');
    });
    watch = setInterval(() => void prove(), heartbeatMs);
  }

  function attach(): void {
    turn = turn.then(takeUp);
  }

  async function takeUp(): Promise<void> {
    if (socket?.connected !== true) return;
    link = session.link();
    held ??= [];
    try {
      const wanted = new Set(link.rooms);
      await Promise.all([...joined].filter((room) => !wanted.has(room)).map(leave));
      await join([...wanted].filter((room) => !joined.has(room)));
      if (!(await session.catchUp(link, heardFrom, over.signal))) return;
      const frames = held;
      held = null;
      for (const frame of frames) link.frame(frame, 'websocket');
      // A slow `for await` may have had it closed in the middle of them.
      if (link.isCurrent) events.proven();
    } catch (error) {
      end(error instanceof RoomcastError ? { error } : { isSilent: true });
    }
  }

  async function join(rooms: readonly Room[]): Promise<void> {
    const early: Room[] = [];
    const joinOne = async (room: Room): Promise<void> => {
      const answer = await ask('join', room);
      if (answer.code === 'rate_limited') early.push(room);
      else if (!answer.ok) throw new RoomcastError(answer.code, answer.error);
      else {
        joined.add(room);
        heard(answer);
      }
    };
    await Promise.all(rooms.map(joinOne));
    if (early.length === 0) return;
    await pause(RATE_LIMITED_MS, over.signal);
    if (!over.signal.aborted) await join(early);
  }

  async function leave(room: Room): Promise<void> {
    joined.delete(room);
    heard(await ask('leave', room));
  }

  function heard({ cursor }: Answer): void {
    if (cursor > heardFrom) heardFrom = cursor;
  }

  function ask(verb: 'join' | 'leave', room: Room): Promise<Answer> {
    const colon = room.indexOf(':');
    const event = `${verb}-${room.slice(0, colon)}`;
    return (socket as Socket).timeout(patienceMs).emitWithAck(event, room.slice(colon + 1));
  }

  async function prove(): Promise<void> {
    const [room] = joined;
    if (room === undefined || held !== null) return;
    try {
      const { ok, cursor } = await ask('join', room);
      if (ok && held === null) link.moved(cursor);
    } catch {
      end({ isSilent: true });
    }
  }

  void start();
  return { attach, close };
};

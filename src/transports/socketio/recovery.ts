/**
 * Recovery of stock Socket.IO clients (protocol §5, design law 4), from top to bottom: what a session holds, how a live
 * connection saves it, how a client comes back and claims it, and which rooms it gets back.
 *
 * Socket.IO's own recovery asks an adapter for the session before any middleware has checked the token. Here the
 * middleware asks for it after authentication, each room is authorised again, and the bus replays what the client
 * missed, through the same handover as on every transport (design law 3).
 */
import { nanoid } from 'nanoid';
import type { Socket } from 'socket.io';
import { z } from 'zod';
import { audiencesToJoin } from '../../answers/rooms.ts';
import { clientAddress } from '../../auth/limits.ts';
import { callerKey, mayResume, type Principal, sessionHolder } from '../../auth/principal.ts';
import type { Bus } from '../../bus/bus.ts';
import type { JoinedRoom } from '../../bus/subscription.ts';
import type { Config } from '../../config.ts';
import type { Cursor } from '../../contract/cursor.ts';
import { BridgeError } from '../../contract/errors.ts';
import type { Reset, Start } from '../../contract/reset.ts';
import { isRoomId, ROOM_KINDS, type Room } from '../../contract/rooms.ts';
import type { Logger } from '../../logger.ts';
import type { Log, Sessions } from '../../store/store.ts';
import { continueSession } from './internals.ts';

// 1. What a session holds: its owner and its rooms. The client's position is not in it: the client brings that itself,
// as the cursor of the last event that it received.

export interface SessionRoom {
  /** The client receives the room's records after this cursor. */
  readonly start: Cursor;
  /** The position of the stream when the join was acknowledged. */
  readonly joinedAt: Cursor;
  /** The join asked for a replay (`after`). */
  readonly replayed: boolean;
  /**
   * The acknowledgement of a replaying join may never have arrived. The client then joins again after its recovery, and
   * that join must replay again. An offset after `joinedAt` proves that the acknowledgement arrived.
   */
  readonly unproven: boolean;
}

const isRoom = (text: string): boolean =>
  ROOM_KINDS.some((kind) => text.startsWith(`${kind}:`) && isRoomId(text.slice(kind.length + 1)));
const ROOM = z
  .string()
  .refine(isRoom)
  .transform((text) => text as Room);
const CURSOR = z.string().transform((text) => text as Cursor);
const SESSION = z.object({
  /** Socket.IO's public id of the connection, which survives a recovery. */
  sid: z.string(),
  holder: z.object({ subject: z.string().nullable(), tenants: z.array(z.string()) }).nullable(),
  /** The fields of each `SessionRoom`, in order. */
  rooms: z.array(z.tuple([ROOM, CURSOR, CURSOR, z.boolean(), z.boolean()])),
});

function encodeSession({ sid, principal, rooms: joined }: RecoverableConnection): string {
  const rooms = [...joined].map(([room, at]) => [room, at.start, at.joinedAt, at.replayed, at.unproven]);
  return JSON.stringify({ sid, holder: sessionHolder(principal), rooms });
}

/** A connection, as far as its session is concerned. */
export interface RecoverableConnection {
  /** Socket.IO's private session id, which the client presents when it comes back. */
  readonly pid: string;
  /** New for each connection. Only the owner of a session may write it. */
  readonly owner: string;
  readonly sid: string;
  readonly principal: Principal;
  readonly rooms: ReadonlyMap<Room, SessionRoom>;
  /** False for a client that gets no cursors: it has no offset to come back with, so its session is not saved. */
  readonly isRecoverable: boolean;
  readonly closed: boolean;
  /** When the session was last saved or touched, on the monotonic clock. */
  touchedAtMs: number;
  terminate(): void;
}

/** How a client continues its session. */
export interface Recovered {
  readonly kind: 'recovered';
  readonly owner: string;
  /** The bus replays what the client's rooms got after this cursor. */
  readonly offset: Cursor;
  readonly rooms: ReadonlyMap<Room, SessionRoom>;
  /** The same rooms, for the bus. */
  readonly joined: ReadonlyMap<Room, JoinedRoom>;
  /** Rooms that the client may no longer join. */
  readonly refused: ReadonlyMap<Room, unknown>;
}

interface PendingSave {
  readonly current: Promise<boolean>;
  next: Promise<boolean> | null;
}

export type ResetStart = Extract<Start, { kind: 'reset' }>;

export interface RecoveryDeps {
  readonly bus: Bus;
  readonly store: Pick<Log, 'bounds'> & Sessions;
  readonly config: Config;
  readonly logger: Logger;
}

export type Recovery = ReturnType<typeof createRecovery>;

/** @param connections the open connections of this node by `pid` */
export function createRecovery(
  { bus, store, config, logger }: RecoveryDeps,
  connections: ReadonlyMap<string, RecoverableConnection>,
) {
  const recoveryMs = config.recoverySeconds * 1000;

  // 2. While the connection lives, its session is saved before a join or leave is acknowledged, because a killed process
  // saves nothing, and its expiry is postponed. One save of a connection runs at a time; all that wait for it become
  // one save, which sees their changes.

  const saves = new Map<RecoverableConnection, PendingSave>();

  /** Resolves to whether this connection still owns the session. */
  function write(connection: RecoverableConnection): Promise<boolean> {
    const pending = saves.get(connection);
    if (pending === undefined) return writeNow(connection);
    pending.next ??= pending.current.catch(() => {}).then(() => writeNow(connection));
    return pending.next;
  }

  function writeNow(connection: RecoverableConnection): Promise<boolean> {
    saves.delete(connection);
    // `close` has saved the end, and a client that left for good has no session.
    if (connection.closed) return Promise.resolve(true);
    connection.touchedAtMs = performance.now();
    const { pid, owner } = connection;
    const session = { pid, owner, data: encodeSession(connection), expiresAtMs: liveExpiry() };
    const current = store.saveSession(session).finally(() => {
      if (pending.next === null) saves.delete(connection);
    });
    const pending: PendingSave = { current, next: null };
    saves.set(connection, pending);
    return current;
  }

  /** @throws {BridgeError} `unavailable`: the client has a newer connection, and this one is cut */
  async function save(connection: RecoverableConnection): Promise<void> {
    if (!connection.isRecoverable || (await write(connection)) || connection.closed) return;
    connection.terminate();
    throw new BridgeError('unavailable', 'A newer connection of this client has replaced this one.');
  }

  function saveSoon(connection: RecoverableConnection): void {
    if (!connection.isRecoverable) return;
    write(connection).catch((error: unknown) => logger.warn({ err: error }, 'failed to save a session'));
  }

  /** A live connection touches its session at most this often. */
  const touchIntervalMs = Math.min(600_000, Math.max(250, recoveryMs / 4));
  /** A live connection may miss two touches. */
  const liveExpiry = (): number => Date.now() + recoveryMs + 2 * touchIntervalMs;

  /** Postpones the expiry of the sessions of live connections. Call it about once a second. */
  function touch(connections: Iterable<RecoverableConnection>, nowMs: number): void {
    const due: RecoverableConnection[] = [];
    for (const connection of connections) {
      if (connection.closed || !connection.isRecoverable || nowMs - connection.touchedAtMs < touchIntervalMs) continue;
      connection.touchedAtMs = nowMs;
      due.push(connection);
    }
    if (due.length === 0) return;
    const expiresAtMs = liveExpiry();
    store
      .touchSessions(due.map(({ pid, owner }) => ({ pid, owner, expiresAtMs })))
      .catch((error: unknown) =>
        logger.warn({ err: error }, 'failed to extend sessions; the bridge tries again before they expire'),
      );
  }

  /** Call it when the connection has closed, with Socket.IO's reason. */
  function close({ pid, owner }: RecoverableConnection, reason: string): void {
    // A client that disconnects by itself starts anew; any other may come back within RECOVERY_SECONDS.
    const saved =
      reason === 'client namespace disconnect'
        ? store.dropSession(pid, owner)
        : store.touchSessions([{ pid, owner, expiresAtMs: Date.now() + recoveryMs }]);
    saved.catch((error: unknown) => logger.debug({ err: error }, 'failed to save the end of a session'));
  }

  // 3. A client that comes back presents the `pid` of its session and, as `offset`, the last cursor that it received.

  /** Call it in the middleware, once the client is authenticated. Null if the client presents no session. */
  async function recover(socket: Socket, principal: Principal): Promise<Recovered | ResetStart | null> {
    const { pid, offset } = socket.handshake.auth as { readonly pid?: unknown; readonly offset?: unknown };
    if (pid === undefined && offset === undefined) return null;
    const start = await startOf(offset, callerKey(principal, clientAddress(socket.request, config.trustProxy)));
    if (start.kind === 'reset') return start;
    const owner = nanoid();
    const stored = typeof pid === 'string' ? await store.claimSession(pid, owner, Date.now()) : null;
    if (stored === null) return resetOf('expired', start.cursor);
    const { data: session } = SESSION.safeParse(JSON.parse(stored.data));
    // Another version of the bridge may have saved it in another format.
    if (session === undefined || !mayResume(principal, session.holder)) return resetOf('expired', start.cursor);
    // The old connection may still seem open. Two connections would share an id, and the client would get events twice.
    connections.get(stored.pid)?.terminate();
    continueSession(socket, { sid: session.sid, pid: stored.pid });
    return { kind: 'recovered', owner, offset: start.cursor, ...restoreRooms(session, start.cursor, principal) };
  }

  // 4. Its rooms are authorised again, for its current token.

  function restoreRooms(session: z.output<typeof SESSION>, offset: Cursor, principal: Principal) {
    const rooms = new Map<Room, SessionRoom>();
    const joined = new Map<Room, JoinedRoom>();
    const refused = new Map<Room, unknown>();
    for (const [room, start, joinedAt, replayed, wasUnproven] of session.rooms) {
      try {
        const audiences = audiencesToJoin(principal, room);
        const unproven = wasUnproven || (replayed && offset <= joinedAt);
        rooms.set(room, { start, joinedAt, replayed, unproven });
        // An unproven join's own replay, the first or the repeated one, brings the records up to `joinedAt`.
        joined.set(room, { audiences, start: unproven && start < joinedAt ? joinedAt : start });
      } catch (error) {
        refused.set(room, error);
      }
    }
    return { rooms, joined, refused };
  }

  // 5. A client that cannot be recovered gets `bridge.reset`, is in no room, and continues from the head.

  async function startOf(offset: unknown, caller: string): Promise<Start> {
    if (typeof offset !== 'string') return resetOf('expired', null);
    try {
      return await bus.resolve(offset, caller);
    } catch (error) {
      if (!(error instanceof BridgeError) || error.code !== 'invalid_cursor') throw error;
      return resetOf('unknown', offset.slice(0, 64));
    }
  }

  async function resetOf(reason: Reset['reason'], after: string | null): Promise<ResetStart> {
    const { oldest, head: cursor } = await store.bounds();
    return { kind: 'reset', reason, after, oldest, cursor };
  }

  return { save, saveSoon, touch, close, recover };
}

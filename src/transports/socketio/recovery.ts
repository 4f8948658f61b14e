/**
 * Recovery of stock Socket.IO clients (protocol §5, design law 4), from top to bottom: what a session holds, how a live
 * connection saves it, how a client comes back and claims it, and which rooms it gets back.
 *
 * Socket.IO's own recovery asks an adapter for the session before any middleware has checked the token. Here the
 * middleware asks for it after authentication, each room is authorised again, and the bus replays what the client
 * missed, through the same handover as on every transport (design law 3).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { nanoid } from 'nanoid';
import type { Socket } from 'socket.io';
import { z } from 'zod';
import { audiencesToJoin, tooManyRooms } from '../../answers/rooms.ts';
import { clientAddress, TokenBucket } from '../../auth/limits.ts';
import { callerKey, mayResume, type Principal, sessionHolder, sessionLimit } from '../../auth/principal.ts';
import type { Bus } from '../../bus/bus.ts';
import type { JoinedRoom } from '../../bus/subscription.ts';
import type { Config } from '../../config.ts';
import type { Cursor } from '../../contract/cursor.ts';
import { BridgeError } from '../../contract/errors.ts';
import type { Reset, Start } from '../../contract/reset.ts';
import type { Room } from '../../contract/rooms.ts';
import type { Logger } from '../../logger.ts';
import type { Log, Session, Sessions } from '../../store/store.ts';
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

/** The bridge saved it itself; its kind may have gone from the settings since. */
const ROOM = z
  .string()
  .regex(/^[a-z][a-z0-9]*:./)
  .transform((text) => text as Room);
const CURSOR = z.string().transform((text) => text as Cursor);
const DATA = z.object({
  /** Socket.IO's public id of the connection, which survives a recovery. */
  sid: z.string(),
  holder: z.object({ subject: z.string().nullable(), tenants: z.array(z.string()), narrowed: z.boolean() }).nullable(),
});
/** A room, and the fields of its `SessionRoom` in order. */
const ROOMS = z.array(z.tuple([ROOM, z.tuple([CURSOR, CURSOR, z.boolean(), z.boolean()])]));

interface ParsedSession extends z.output<typeof DATA> {
  readonly rooms: z.output<typeof ROOMS>;
}

/** Null if another version of the bridge has saved it in another format. */
function parseSession({ data, rooms }: Session): ParsedSession | null {
  const parsed = DATA.safeParse(JSON.parse(data));
  const parsedRooms = ROOMS.safeParse(rooms.map(([room, joined]) => [room, JSON.parse(joined)]));
  return parsed.success && parsedRooms.success ? { ...parsed.data, rooms: parsedRooms.data } : null;
}

const encodeRoom = ({ start, joinedAt, replayed, unproven }: SessionRoom): string =>
  JSON.stringify([start, joinedAt, replayed, unproven]);

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
  readonly saving: SavingState;
  terminate(): void;
}

/** What the store knows of a connection's session. */
export interface SavingState {
  /** `unknown` while a save is under way, and after one whose outcome is unknown. */
  saved: 'no' | 'yes' | 'unknown';
  /** Rooms that were joined, left or changed since the last save. */
  readonly changed: Set<Room>;
  /** SAVES_PER_SECOND at once, and as many in each second after. */
  budget: TokenBucket | null;
  /** When the session was last saved or touched, on the monotonic clock. */
  touchedAtMs: number;
}

/**
 * Saves of one connection. Further joins and leaves wait and share the next save, so that a client that joins and leaves
 * all the time costs no more.
 */
const SAVES_PER_SECOND = 50;
/** Socket.IO's own are 20 characters long. */
const MAX_PID_CHARACTERS = 64;

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
  /** Audiences of the rooms, for MAX_ROOMS. */
  readonly heard: number;
  /** Rooms that differ from the saved session. */
  readonly changed: ReadonlySet<Room>;
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
  // saves nothing, and its expiry is postponed. A save writes what has changed; without rooms there is no session. One
  // save of a connection runs at a time; all that wait for it become one save, which sees their changes.

  const saves = new Map<RecoverableConnection, PendingSave>();

  /** Resolves to whether this connection still owns the session. */
  function write(connection: RecoverableConnection): Promise<boolean> {
    const pending = saves.get(connection);
    if (pending === undefined) return start(connection);
    pending.next ??= pending.current.catch(() => {}).then(() => start(connection));
    return pending.next;
  }

  function start(connection: RecoverableConnection): Promise<boolean> {
    const current = writeNow(connection).finally(() => {
      if (pending.next === null) saves.delete(connection);
    });
    const pending: PendingSave = { current, next: null };
    saves.set(connection, pending);
    return current;
  }

  async function writeNow(connection: RecoverableConnection): Promise<boolean> {
    const { saving, pid, owner, rooms } = connection;
    saving.budget ??= new TokenBucket(SAVES_PER_SECOND, performance.now());
    const waitSeconds = saving.budget.waitSeconds(performance.now());
    if (waitSeconds > 0) await sleep(waitSeconds * 1000, null, { ref: false });
    // `close` has saved the end, and a client that left for good has no session.
    if (connection.closed || (saving.saved === 'yes' && saving.changed.size === 0)) return true;
    if (rooms.size === 0 && saving.saved === 'no') {
      saving.changed.clear();
      return true;
    }
    saving.budget.take(1, performance.now());
    const isWhole = saving.saved !== 'yes';
    const changed = isWhole ? [...rooms.keys()] : [...saving.changed];
    saving.changed.clear();
    saving.touchedAtMs = performance.now();
    saving.saved = 'unknown';
    if (rooms.size === 0) {
      await store.dropSession(pid, owner);
      saving.saved = 'no';
      return true;
    }
    const result = await store.saveSession({
      ...{ pid, owner, isWhole, expiresAtMs: liveExpiry(), holder: sessionLimit(connection.principal) },
      data: JSON.stringify({ sid: connection.sid, holder: sessionHolder(connection.principal) }),
      put: changed.flatMap((room) => {
        const joined = rooms.get(room);
        return joined === undefined ? [] : [[room, encodeRoom(joined)] as const];
      }),
      remove: changed.filter((room) => !rooms.has(room)),
    });
    // The log was replaced, or the holder has too many sessions.
    if (result === 'lost') return writeNow(connection);
    if (result === 'saved') saving.saved = 'yes';
    return result === 'saved';
  }

  /** @throws {BridgeError} `unavailable`: the client has a newer connection, and this one is cut */
  async function save(connection: RecoverableConnection, rooms: Iterable<Room>): Promise<void> {
    if (!connection.isRecoverable) return;
    for (const room of rooms) connection.saving.changed.add(room);
    if ((await write(connection)) || connection.closed) return;
    connection.terminate();
    throw new BridgeError('unavailable', 'A newer connection of this client has replaced this one.');
  }

  /** Saves rooms that changed by themselves. */
  function saveSoon(connection: RecoverableConnection, rooms: Iterable<Room>): void {
    if (!connection.isRecoverable) return;
    for (const room of rooms) connection.saving.changed.add(room);
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
      const { closed, saving } = connection;
      if (closed || saving.saved === 'no' || nowMs - saving.touchedAtMs < touchIntervalMs) continue;
      saving.touchedAtMs = nowMs;
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
  function close({ pid, owner, saving }: RecoverableConnection, reason: string): void {
    if (saving.saved === 'no') return;
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
    if (typeof pid !== 'string' || pid.length > MAX_PID_CHARACTERS) return resetOf('expired', start.cursor);
    const nowMs = Date.now();
    // Who may not have the session must not take it either: its owner would be cut at the next join.
    const found = await store.findSession(pid, nowMs);
    const isHolder = found !== null && isHeldBy(principal, parseSession(found));
    const stored = isHolder ? await store.claimSession(pid, owner, nowMs) : null;
    const session = stored && parseSession(stored);
    if (stored === null || session === null) return resetOf('expired', start.cursor);
    // The old connection may still seem open. Two connections would share an id, and the client would get events twice.
    connections.get(stored.pid)?.terminate();
    continueSession(socket, { sid: session.sid, pid: stored.pid });
    return { kind: 'recovered', owner, offset: start.cursor, ...restoreRooms(session, start.cursor, principal) };
  }

  function isHeldBy(principal: Principal, session: ParsedSession | null): boolean {
    if (session === null || session.rooms.length === 0) return false;
    const rooms = session.rooms.map(([room]) => room);
    return mayResume(principal, session.holder, rooms);
  }

  // 4. Its rooms are authorised again, for its current token.

  function restoreRooms(session: ParsedSession, offset: Cursor, principal: Principal) {
    const rooms = new Map<Room, SessionRoom>();
    const joined = new Map<Room, JoinedRoom>();
    const refused = new Map<Room, unknown>();
    const changed = new Set<Room>();
    let heard = 0;
    for (const [room, [start, joinedAt, replayed, wasUnproven]] of session.rooms) {
      try {
        const audiences = audiencesToJoin(principal, room);
        if (heard + audiences.length > config.maxRooms) throw tooManyRooms(config.maxRooms);
        heard += audiences.length;
        const unproven = wasUnproven || (replayed && offset <= joinedAt);
        rooms.set(room, { start, joinedAt, replayed, unproven });
        if (unproven !== wasUnproven) changed.add(room);
        // An unproven join's own replay, the first or the repeated one, brings the records up to `joinedAt`.
        joined.set(room, { audiences, start: unproven && start < joinedAt ? joinedAt : start });
      } catch (error) {
        refused.set(room, error);
        changed.add(room);
      }
    }
    return { rooms, joined, refused, changed, heard };
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

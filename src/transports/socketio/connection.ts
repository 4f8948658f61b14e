/**
 * One Socket.IO connection: the room-join protocol, and what the bus writes to it (protocol §5).
 *
 * Everything that is emitted ends in a cursor or in an object: a stock client takes any trailing string as the offset
 * from which it wants to be recovered.
 */

import type { Socket } from 'socket.io';
import { audiencesToJoin } from '../../answers/rooms.ts';
import { EXPIRED_LINGER_MS, EXPIRY_GRACE_MS } from '../../auth/expiry.ts';
import { type Principal, sessionHolder } from '../../auth/principal.ts';
import { type Batch, encodeBatch, encodeRecord } from '../../bus/batch.ts';
import type { Bus } from '../../bus/bus.ts';
import type { JoinedRoom, Mode, Sink, Subscription } from '../../bus/subscription.ts';
import type { Config } from '../../config.ts';
import type { Cursor } from '../../contract/cursor.ts';
import { BridgeError } from '../../contract/errors.ts';
import { framesOf, type View } from '../../contract/frames.ts';
import { BRIDGE_CURSOR, BRIDGE_ERROR, BRIDGE_RESET } from '../../contract/names.ts';
import type { Reset } from '../../contract/reset.ts';
import {
  formatRoom,
  ID_FIELDS,
  ID_RULE,
  isRoomId,
  ROOM_KINDS,
  type Room,
  type RoomKind,
} from '../../contract/rooms.ts';
import type { Logger } from '../../logger.ts';
import type { Metrics } from '../../metrics/metrics.ts';
import type { Log, Sessions } from '../../store/store.ts';
import { createDeliveryCounter, type DeliveryCounter } from '../delivery-counter.ts';
import { EngineOutbox, endWithin, type PacketText, type PreparedPackets, preparePackets, terminate } from './outbox.ts';
import { encodeSession, restoreRooms, type SessionData, type SessionRoom } from './recovery.ts';

/** protocol §5: `bridge.cursor` again, at most once per 30 s, when the log has moved on with nothing for this client. */
const CURSOR_INTERVAL_MS = 30_000;

export interface ConnectionDeps {
  readonly bus: Bus;
  readonly store: Log & Sessions;
  readonly config: Config;
  readonly metrics: Metrics;
  readonly logger: Logger;
}

export interface ConnectionOptions {
  readonly principal: Principal;
  readonly form: Form;
  /** The only connection that may write the session. */
  readonly owner: string;
  readonly restored: { readonly session: SessionData; readonly offset: Cursor } | null;
  /** What the client is to be told before its first cursor. */
  readonly reset: Reset | null;
}

type Ack = (answer: object) => void;

/** There may be tens of thousands, so a connection is one object, and what it seldom needs is made when it does. */
export class Connection implements Sink {
  /** Socket.IO's private session id. */
  readonly pid: string;
  readonly owner: string;
  readonly #socket: Socket;
  readonly #deps: ConnectionDeps;
  readonly #principal: Principal;
  readonly #form: Form;
  readonly #outbox: EngineOutbox;
  readonly #subscription: Subscription;
  readonly #rooms = new Map<Room, SessionRoom>();
  /** Joins and leaves of one room happen one after the other. */
  #turns: Map<Room, Promise<void>> | null = null;
  /** Rooms whose join is under way: they take up a place. */
  #joining: Set<Room> | null = null;
  /** Joins that may come now: RATE_JOINS at once, and as many in each second after. */
  #joinsLeft: number;
  #joinsFilledAtMs = performance.now();
  /** The save under way, and the one that those share who ask meanwhile. */
  #saving: Promise<boolean> | null = null;
  #savingNext: Promise<boolean> | null = null;
  #told: Cursor;
  #toldAtMs = performance.now();
  #touchedAtMs = performance.now();
  #closed = false;

  constructor(socket: Socket, deps: ConnectionDeps, options: ConnectionOptions) {
    const { bus, config } = deps;
    const { principal, form, owner, restored, reset } = options;
    // Recovery gives one to every socket; Socket.IO's types leave it out.
    this.pid = (socket as unknown as { readonly pid: string }).pid;
    this.owner = owner;
    this.#socket = socket;
    this.#deps = deps;
    this.#principal = principal;
    this.#form = form;
    this.#outbox = new EngineOutbox(socket.conn);
    this.#joinsLeft = config.rateJoins;
    this.#told = restored?.offset ?? bus.head;

    // Nothing was heard yet, so the place to resume from is where this node's tail stands.
    if (reset !== null) this.reset({ ...reset, cursor: bus.head }, 'main');
    else this.#tellCursor(this.#told);

    const rooms = restored === null ? new Map() : this.#restoredRooms(restored);
    this.#subscription = bus.subscribe({ rooms, after: restored?.offset ?? null }, this);
    this.#saveSoon();
    // One listener for all: each would cost a function per connection.
    socket.onAny((event: string, ...args: unknown[]) => this.#request(event, args));
  }

  #emit(event: string, payload: object): void {
    this.#outbox.sendText(`2${JSON.stringify([event, payload])}`);
  }

  #tellCursor(cursor: Cursor): void {
    this.#told = cursor;
    this.#toldAtMs = performance.now();
    if (this.#form.cursors) this.#outbox.sendText(`2["${BRIDGE_CURSOR}",{},${JSON.stringify(cursor)}]`);
  }

  write(batch: Batch, mode: Mode, flushed?: () => void): void {
    if (this.#closed) return;
    const { packets, replayPackets, key, replayKey, countDelivery } = this.#form;
    const prepared =
      mode === 'replay' ? encodeBatch(batch, replayKey, replayPackets) : encodeBatch(batch, key, packets);
    this.#outbox.send(prepared, flushed);
    if (mode !== 'replay') {
      this.#told = (batch.records[batch.records.length - 1] as { readonly id: Cursor }).id;
      this.#toldAtMs = performance.now();
    }
    countDelivery[this.#outbox.transport](batch, mode);
  }

  pendingBytes(): number {
    return this.#outbox.pendingBytes();
  }

  reset({ reason, after, oldest, cursor }: Reset, stream: 'main' | 'replay'): void {
    this.#deps.metrics.reset(this.#outbox.transport, reason);
    this.#emit(BRIDGE_RESET, { reason, after, oldest, cursor });
    if (stream === 'main') {
      this.#tellCursor(cursor);
      this.#goOnFrom(cursor);
    }
  }

  /** Places of a log that was lost cannot be compared with those of the next one, which has no session of this client. */
  #goOnFrom(cursor: Cursor): void {
    if (this.#rooms.size === 0) return;
    for (const [room, joined] of this.#rooms) this.#rooms.set(room, { ...joined, start: cursor, joinedAt: cursor });
    this.#saveSoon();
  }

  cut(): void {
    const { metrics, logger } = this.#deps;
    metrics.slowConsumer(this.#outbox.transport);
    logger.info({ transport: this.#outbox.transport }, 'a slow client was cut off; it resumes by cursor');
    this.terminate();
  }

  /** To be called when Socket.IO says that the connection is gone. */
  ended(reason: string): void {
    const { store, config, logger } = this.#deps;
    const { pid, owner } = this;
    this.#closed = true;
    this.#subscription.close();
    const ending =
      reason === 'client namespace disconnect'
        ? store.dropSession(pid, owner)
        : store.touchSessions([{ pid, owner, expiresAtMs: Date.now() + config.recoverySeconds * 1000 }]);
    ending.catch((error: unknown) => logger.debug({ err: error }, 'the end of a session could not be saved'));
  }

  /** Looks after cursors and expiry; called about once a second. */
  tick(nowMs: number, wallMs: number): void {
    if (this.#closed) return;
    if (this.#principal.kind === 'token' && wallMs > (this.#principal.expiresAtMs ?? Infinity) + EXPIRY_GRACE_MS) {
      const message = 'The token has expired; come back with a new one.';
      this.#emit(BRIDGE_ERROR, { code: 'token_expired', message });
      endWithin(this.#socket.conn, EXPIRED_LINGER_MS);
    } else if (nowMs - this.#toldAtMs >= CURSOR_INTERVAL_MS && this.#subscription.cursor !== this.#told) {
      this.#tellCursor(this.#subscription.cursor);
    }
  }

  /** Whether the session is to be kept from running out; it is taken to be seen to. */
  isTouchDue(nowMs: number): boolean {
    if (this.#closed || !this.#form.cursors || nowMs - this.#touchedAtMs < touchIntervalMs(this.#deps.config))
      return false;
    this.#touchedAtMs = nowMs;
    return true;
  }

  /** Ends the transport at once. */
  terminate(): void {
    terminate(this.#socket.conn);
  }

  /** The session's rooms as far as the principal may still join them: rooms are authorised again on resume. */
  #restoredRooms({ session, offset }: NonNullable<ConnectionOptions['restored']>): Map<Room, JoinedRoom> {
    const heard = new Map<Room, JoinedRoom>();
    for (const [room, joined] of restoreRooms(session.rooms, offset)) {
      try {
        const audiences = audiencesToJoin(this.#principal, room);
        this.#rooms.set(room, joined);
        // What an unproven room got with its join came in a replay, or its join asks for it again: both reach to `joinedAt`.
        const start = joined.unproven && joined.start < joined.joinedAt ? joined.joinedAt : joined.start;
        heard.set(room, { audiences, start });
      } catch (error) {
        this.#answer(error, room, null);
      }
    }
    return heard;
  }

  #request(event: string, args: unknown[]): void {
    const kind = REQUESTS.get(event);
    // One that asks on and on and takes no answer is slow as well.
    if (kind === undefined || this.#closed || this.#subscription.cutIfSlow()) return;
    const isJoin = event.startsWith('join-');
    const { config } = this.#deps;
    const ack = typeof args.at(-1) === 'function' ? (args.pop() as Ack) : null;
    let room: Room | undefined;
    try {
      const chosen = parseRoom(kind, args[0]);
      room = chosen;
      if (isJoin && !this.#mayJoinNow()) {
        throw new BridgeError('rate_limited', `At most ${config.rateJoins} joins a second are allowed.`);
      }
      this.#turns ??= new Map();
      const turn = (this.#turns.get(chosen) ?? Promise.resolve())
        .then(() => (isJoin ? this.#join(chosen, args[1]) : this.#leave(chosen)))
        .then(
          ({ cursor }) => ack?.({ ok: true, room: chosen, cursor }),
          (error: unknown) => this.#answer(error, chosen, ack),
        )
        .then(() => {
          if (this.#turns?.get(chosen) !== turn) return;
          this.#turns.delete(chosen);
          if (this.#turns.size === 0) this.#turns = null;
        });
      this.#turns.set(chosen, turn);
    } catch (error) {
      this.#answer(error, room, ack);
    }
  }

  #mayJoinNow(): boolean {
    const { rateJoins } = this.#deps.config;
    const nowMs = performance.now();
    this.#joinsLeft = Math.min(rateJoins, this.#joinsLeft + ((nowMs - this.#joinsFilledAtMs) / 1000) * rateJoins);
    this.#joinsFilledAtMs = nowMs;
    if (this.#joinsLeft < 1) return false;
    this.#joinsLeft -= 1;
    return true;
  }

  /** @throws {BridgeError} `too_many_rooms` */
  #takePlace(room: Room): void {
    const { maxRooms } = this.#deps.config;
    if (this.#rooms.size + (this.#joining?.size ?? 0) >= maxRooms) {
      throw new BridgeError('too_many_rooms', `At most ${maxRooms} rooms are allowed.`);
    }
    this.#joining ??= new Set();
    this.#joining.add(room);
  }

  #answer(error: unknown, room: Room | undefined, ack: Ack | null): void {
    const { metrics, logger } = this.#deps;
    const known = error instanceof BridgeError ? error : null;
    if (known === null) logger.error({ err: error }, 'a join failed');
    const code = known?.code ?? 'unavailable';
    const message = known?.message ?? 'The bridge could not do this now.';
    metrics.refused(code);
    const named = room === undefined ? {} : { room };
    if (ack !== null) ack({ ok: false, code, error: message, ...named });
    else if (!this.#closed) this.#emit(BRIDGE_ERROR, { code, message, ...named });
  }

  async #join(room: Room, joinOptions: unknown): Promise<{ readonly cursor: Cursor }> {
    const after = parseAfter(joinOptions);
    const audiences = audiencesToJoin(this.#principal, room);
    const known = this.#rooms.get(room);
    if (known !== undefined && !(known.unproven && after !== null)) return { cursor: this.#subscription.cursor };
    if (known === undefined) this.#takePlace(room);
    let joinedAt: Cursor;
    try {
      const { start, cursor } = await this.#subscription.join(room, audiences, after);
      joinedAt = cursor;
      this.#rooms.set(room, { start, joinedAt, replayed: after !== null, unproven: false });
    } finally {
      this.#joining?.delete(room);
      if (this.#joining?.size === 0) this.#joining = null;
    }
    try {
      await this.#keep();
    } catch (error) {
      this.#rooms.delete(room);
      this.#subscription.leave(room);
      throw error;
    }
    return { cursor: joinedAt };
  }

  async #leave(room: Room): Promise<{ readonly cursor: Cursor }> {
    if (this.#rooms.delete(room)) {
      this.#subscription.leave(room);
      await this.#keep();
    }
    return { cursor: this.#subscription.cursor };
  }

  #saveSoon(): void {
    if (!this.#form.cursors) return;
    this.#save().catch((error: unknown) => this.#deps.logger.warn({ err: error }, 'a session could not be saved'));
  }

  /** A join or leave counts once it would survive this process. */
  async #keep(): Promise<void> {
    if (!this.#form.cursors) return;
    const isOurs = await this.#save();
    if (!isOurs && !this.#closed) {
      // The client has come back on another connection, which owns the session now.
      this.terminate();
      throw new BridgeError('unavailable', 'This connection was replaced by a newer one.');
    }
  }

  /**
   * Saves the session, after the save under way if there is one; those who ask meanwhile share that, which sees their
   * change. Whether the session is still this connection's.
   */
  #save(): Promise<boolean> {
    const before = this.#saving;
    if (before === null) return this.#saveNow();
    this.#savingNext ??= before
      .catch(() => {})
      .then(() => {
        this.#savingNext = null;
        return this.#saveNow();
      });
    return this.#savingNext;
  }

  #saveNow(): Promise<boolean> {
    // The end was saved as well, and a client that left for good has no session.
    if (this.#closed) return Promise.resolve(true);
    const { store, config } = this.#deps;
    const { pid, owner } = this;
    this.#touchedAtMs = performance.now();
    const holder = sessionHolder(this.#principal);
    const data = encodeSession({ sid: this.#socket.id, holder, rooms: this.#rooms });
    const current = store.saveSession({ pid, owner, data, expiresAtMs: sessionExpiry(config) }).finally(() => {
      if (this.#saving === current) this.#saving = null;
    });
    this.#saving = current;
    return current;
  }
}

/** What all connections of one view share. */
export interface Form {
  /** Whether the client takes cursors; without them there is no recovery. */
  readonly cursors: boolean;
  readonly key: string;
  readonly replayKey: string;
  readonly packets: (batch: Batch) => PreparedPackets;
  readonly replayPackets: (batch: Batch) => PreparedPackets;
  readonly countDelivery: Readonly<Record<'websocket' | 'polling', DeliveryCounter>>;
}

export function createForm(view: View, cursors: boolean, metrics: Metrics): Form {
  const key = `io:${view.key}:${cursors}`;
  const replayKey = `${key}:replay`;
  return {
    cursors,
    key,
    replayKey,
    packets: (batch) => preparePackets(encode(batch, key, view, cursors, 'live')),
    replayPackets: (batch) => preparePackets(encode(batch, replayKey, view, cursors, 'replay')),
    countDelivery: {
      websocket: createDeliveryCounter(metrics, 'websocket', view),
      polling: createDeliveryCounter(metrics, 'polling', view),
    },
  };
}

const REQUESTS: ReadonlyMap<string, RoomKind> = new Map(
  ROOM_KINDS.flatMap((kind) => [
    [`join-${kind}`, kind],
    [`leave-${kind}`, kind],
  ]),
);

/** While a connection lives its session is touched at this interval, at most. */
function touchIntervalMs(config: Config): number {
  return Math.min(600_000, Math.max(250, config.recoverySeconds * 250));
}

/** Two missed touches do not cost a living client its session. */
export function sessionExpiry(config: Config): number {
  return Date.now() + config.recoverySeconds * 1000 + 2 * touchIntervalMs(config);
}

function encode(batch: Batch, key: string, view: View, cursors: boolean, mode: Mode): PacketText[] {
  const isReplay = mode === 'replay';
  return batch.records.flatMap((record) =>
    encodeRecord(record, key, () =>
      framesOf(record, view).map(({ event, payload, cursor }): PacketText => {
        const trailing = cursor === null || !cursors ? '' : `,"${cursor}"${isReplay ? ',{"replay":true}' : ''}`;
        return `2[${JSON.stringify(event)},${payload}${trailing}]`;
      }),
    ),
  );
}

/** An id, or an object that holds it. @throws {BridgeError} `invalid_room` */
function parseRoom(kind: RoomKind, arg: unknown): Room {
  const field = ID_FIELDS[kind];
  const id = typeof arg === 'object' && arg !== null && Object.hasOwn(arg, field) ? (arg as never)[field] : arg;
  if (!isRoomId(id)) throw new BridgeError('invalid_room', `${field} must be ${ID_RULE}.`);
  return formatRoom(kind, id);
}

/** @throws {BridgeError} `invalid_cursor` */
function parseAfter(options: unknown): string | null {
  if (options === undefined || options === null) return null;
  const after = typeof options === 'object' ? (options as { readonly after?: unknown }).after : options;
  if (typeof options === 'object' && (after === undefined || after === null)) return null;
  if (typeof options !== 'object' || typeof after !== 'string') {
    throw new BridgeError('invalid_cursor', 'The options must be an object such as { after: cursor }.');
  }
  return after;
}

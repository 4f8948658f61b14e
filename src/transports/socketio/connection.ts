/**
 * One Socket.IO connection: the join protocol, and what the bus writes to the client (protocol §5). recovery.ts saves its
 * session, and encoder.ts encodes its events.
 */
import { nanoid } from 'nanoid';
import type { Socket } from 'socket.io';
import { audiencesToJoin, parseRoom } from '../../answers/rooms.ts';
import { EXPIRED_LINGER_MS, expiryOf, hasExpired, tokenExpired } from '../../auth/expiry.ts';
import { clientAddress, TokenBucket } from '../../auth/limits.ts';
import { callerKey, type Principal } from '../../auth/principal.ts';
import { type Batch, encodeBatch } from '../../bus/batch.ts';
import type { Mode, Sink, Subscription } from '../../bus/subscription.ts';
import type { Cursor } from '../../contract/cursor.ts';
import { BridgeError } from '../../contract/errors.ts';
import { BRIDGE_CURSOR, BRIDGE_ERROR, BRIDGE_RESET } from '../../contract/names.ts';
import type { Reset } from '../../contract/reset.ts';
import { ROOM_KINDS, type Room, type RoomKind } from '../../contract/rooms.ts';
import type { Metrics } from '../../metrics/metrics.ts';
import type { Encoder } from './encoder.ts';
import { pidOf } from './internals.ts';
import { EngineOutbox, endWithin, terminate } from './outbox.ts';
import type { RecoverableConnection, Recovered, Recovery, RecoveryDeps, ResetStart, SessionRoom } from './recovery.ts';

/** `bridge.cursor` is repeated at most this often, if the head has moved on without events for this client (protocol §5). */
const CURSOR_INTERVAL_MS = 30_000;

export interface ConnectionDeps extends Omit<RecoveryDeps, 'store'> {
  readonly metrics: Metrics;
  readonly recovery: Recovery;
}

export interface ConnectionOptions {
  readonly principal: Principal;
  readonly encoder: Encoder;
  /** How the client continues, if it presented a session. */
  readonly resumed: Recovered | ResetStart | null;
}

type Ack = (answer: object) => void;

/** A node can hold tens of thousands of connections, so each is one object that creates rarely used state on demand. */
export class Connection implements Sink, RecoverableConnection {
  readonly pid: string;
  readonly owner: string;
  readonly principal: Principal;
  readonly rooms: Map<Room, SessionRoom>;
  touchedAtMs = performance.now();
  closed = false;
  readonly #socket: Socket;
  readonly #deps: ConnectionDeps;
  readonly #encoder: Encoder;
  readonly #outbox: EngineOutbox;
  readonly #subscription: Subscription;
  /** The last pending join or leave of each room: those of one room run one after the other. */
  #roomQueues: Map<Room, Promise<void>> | null = null;
  /** Rooms whose join is in progress. They count towards MAX_ROOMS. */
  #joining: Set<Room> | null = null;
  /** RATE_JOINS at once, and as many in each second after. */
  #joinBucket: TokenBucket | null = null;
  #sentCursor: Cursor;
  #sentCursorAtMs = performance.now();

  constructor(socket: Socket, deps: ConnectionDeps, { principal, encoder, resumed }: ConnectionOptions) {
    const { bus, config, recovery } = deps;
    const recovered = resumed?.kind === 'recovered' ? resumed : null;
    this.pid = pidOf(socket);
    this.owner = recovered?.owner ?? nanoid();
    this.principal = principal;
    this.rooms = new Map(recovered?.rooms);
    this.#socket = socket;
    this.#deps = deps;
    this.#encoder = encoder;
    this.#outbox = new EngineOutbox(socket.conn);
    this.#sentCursor = recovered?.offset ?? bus.head;

    // The client has received nothing yet, so it continues from this node's head.
    if (resumed?.kind === 'reset') this.reset({ ...resumed, cursor: bus.head }, 'main');
    else this.#sendCursor(this.#sentCursor);
    for (const [room, error] of recovered?.refused ?? []) this.#refuse(error, room, null);

    const rooms = recovered?.joined ?? new Map();
    const caller = callerKey(principal, clientAddress(socket.request, config.trustProxy));
    this.#subscription = bus.subscribe({ rooms, after: recovered?.offset ?? null, caller }, this);
    recovery.saveSoon(this);
    // One listener for all events: a listener each would cost one function per event and connection.
    socket.onAny((event: string, ...args: unknown[]) => this.#request(event, args));
  }

  get sid(): string {
    return this.#socket.id;
  }

  get isRecoverable(): boolean {
    return this.#encoder.cursors;
  }

  #emit(event: string, payload: object): void {
    this.#outbox.sendText(`2${JSON.stringify([event, payload])}`);
  }

  #sendCursor(cursor: Cursor): void {
    this.#sentCursor = cursor;
    this.#sentCursorAtMs = performance.now();
    if (this.#encoder.cursors) this.#outbox.sendText(`2["${BRIDGE_CURSOR}",{},${JSON.stringify(cursor)}]`);
  }

  write(batch: Batch, mode: Mode, flushed?: () => void): void {
    if (this.closed) return;
    const { encode, encodeReplay, key, replayKey, countDelivery } = this.#encoder;
    const packets = mode === 'replay' ? encodeBatch(batch, replayKey, encodeReplay) : encodeBatch(batch, key, encode);
    this.#outbox.send(packets, flushed);
    if (mode !== 'replay') {
      this.#sentCursor = (batch.records[batch.records.length - 1] as { readonly id: Cursor }).id;
      this.#sentCursorAtMs = performance.now();
    }
    countDelivery[this.#outbox.transport](batch, mode);
  }

  pendingBytes(): number {
    return this.#outbox.pendingBytes();
  }

  reset({ reason, after, oldest, cursor }: Reset, stream: 'main' | 'replay'): void {
    this.#deps.metrics.reset(this.#outbox.transport, reason);
    this.#emit(BRIDGE_RESET, { reason, after, oldest, cursor });
    if (stream === 'replay') return;
    this.#sendCursor(cursor);
    if (this.rooms.size === 0) return;
    // Cursors of a lost log cannot be compared with cursors of the new one, so the rooms start again here.
    for (const [room, joined] of this.rooms) this.rooms.set(room, { ...joined, start: cursor, joinedAt: cursor });
    this.#deps.recovery.saveSoon(this);
  }

  cut(): void {
    const { metrics, logger } = this.#deps;
    metrics.slowConsumer(this.#outbox.transport);
    logger.info({ transport: this.#outbox.transport }, 'slow consumer cut; it can resume from its cursor');
    this.terminate();
  }

  /** Call it when Socket.IO reports that the connection has closed. */
  ended(reason: string): void {
    this.closed = true;
    this.#subscription.close();
    this.#deps.recovery.close(this, reason);
  }

  /** Sends cursors that are due and ends the connection if its token has expired. Call it about once a second. */
  tick(nowMs: number, wallMs: number): void {
    if (this.closed) return;
    if (hasExpired(expiryOf(this.principal), wallMs)) {
      const { code, message } = tokenExpired();
      this.#emit(BRIDGE_ERROR, { code, message });
      endWithin(this.#socket.conn, EXPIRED_LINGER_MS);
    } else if (nowMs - this.#sentCursorAtMs >= CURSOR_INTERVAL_MS && this.#subscription.cursor !== this.#sentCursor) {
      this.#sendCursor(this.#subscription.cursor);
    }
  }

  terminate(): void {
    terminate(this.#socket.conn);
  }

  #request(event: string, args: unknown[]): void {
    const kind = REQUESTS.get(event);
    // A client that sends requests and never reads the answers is a slow consumer too.
    if (kind === undefined || this.closed || this.#subscription.cutIfSlow()) return;
    const isJoin = event.startsWith('join-');
    const { config } = this.#deps;
    const ack = typeof args.at(-1) === 'function' ? (args.pop() as Ack) : null;
    let room: Room | undefined;
    try {
      const parsed = parseRoom(kind, args[0]);
      room = parsed;
      if (isJoin && !this.#mayJoinNow()) {
        throw new BridgeError('rate_limited', `At most ${config.rateJoins} joins per second are allowed.`);
      }
      this.#roomQueues ??= new Map();
      const done = (this.#roomQueues.get(parsed) ?? Promise.resolve())
        .then(() => (isJoin ? this.#join(parsed, args[1]) : this.#leave(parsed)))
        .then(
          (cursor) => ack?.({ ok: true, room: parsed, cursor }),
          (error: unknown) => this.#refuse(error, parsed, ack),
        )
        .then(() => {
          if (this.#roomQueues?.get(parsed) !== done) return;
          this.#roomQueues.delete(parsed);
          if (this.#roomQueues.size === 0) this.#roomQueues = null;
        });
      this.#roomQueues.set(parsed, done);
    } catch (error) {
      this.#refuse(error, room, ack);
    }
  }

  #mayJoinNow(): boolean {
    const nowMs = performance.now();
    this.#joinBucket ??= new TokenBucket(this.#deps.config.rateJoins, nowMs);
    if (this.#joinBucket.waitSeconds(nowMs) > 0) return false;
    this.#joinBucket.take(1, nowMs);
    return true;
  }

  #refuse(error: unknown, room: Room | undefined, ack: Ack | null): void {
    const { metrics, logger } = this.#deps;
    const isExpected = error instanceof BridgeError;
    if (!isExpected) logger.error({ err: error, room }, 'a join or leave failed');
    const code = isExpected ? error.code : 'unavailable';
    const message = isExpected ? error.message : 'The bridge could not complete the request. Try again later.';
    metrics.refused(code);
    // JSON leaves out a `room` of undefined.
    if (ack !== null) ack({ ok: false, code, error: message, room });
    else if (!this.closed) this.#emit(BRIDGE_ERROR, { code, message, room });
  }

  /** Resolves to the cursor of the acknowledgement. */
  async #join(room: Room, options: unknown): Promise<Cursor> {
    const after = parseAfter(options);
    const audiences = audiencesToJoin(this.principal, room);
    const existing = this.rooms.get(room);
    // Joining again does nothing, except for a replay that the client may have missed (recovery.ts, `unproven`).
    if (existing !== undefined && !(existing.unproven && after !== null)) return this.#subscription.cursor;
    if (existing === undefined) this.#reserveRoom(room);
    let joinedAt: Cursor;
    try {
      const { start, cursor } = await this.#subscription.join(room, audiences, after);
      joinedAt = cursor;
      this.rooms.set(room, { start, joinedAt, replayed: after !== null, unproven: false });
    } finally {
      this.#joining?.delete(room);
      if (this.#joining?.size === 0) this.#joining = null;
    }
    try {
      await this.#deps.recovery.save(this);
    } catch (error) {
      this.rooms.delete(room);
      this.#subscription.leave(room);
      throw error;
    }
    return joinedAt;
  }

  /** @throws {BridgeError} `too_many_rooms` */
  #reserveRoom(room: Room): void {
    const { maxRooms } = this.#deps.config;
    if (this.rooms.size + (this.#joining?.size ?? 0) >= maxRooms) {
      throw new BridgeError('too_many_rooms', `At most ${maxRooms} rooms are allowed. Leave one first.`);
    }
    this.#joining ??= new Set();
    this.#joining.add(room);
  }

  async #leave(room: Room): Promise<Cursor> {
    if (this.rooms.delete(room)) {
      this.#subscription.leave(room);
      await this.#deps.recovery.save(this);
    }
    return this.#subscription.cursor;
  }
}

const REQUESTS: ReadonlyMap<string, RoomKind> = new Map(
  ROOM_KINDS.flatMap((kind) => [
    [`join-${kind}`, kind],
    [`leave-${kind}`, kind],
  ]),
);

/** @throws {BridgeError} `invalid_cursor` */
function parseAfter(options: unknown): string | null {
  const isObject = typeof options === 'object' && options !== null;
  const after = isObject ? (options as { readonly after?: unknown }).after : options;
  if (after === undefined || after === null) return null;
  if (!isObject || typeof after !== 'string') {
    throw new BridgeError('invalid_cursor', 'The options must be an object such as { after: cursor }.');
  }
  return after;
}

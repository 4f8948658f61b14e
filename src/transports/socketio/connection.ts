/**
 * One Socket.IO connection: the join protocol, and what the bus writes to the client (protocol §5). recovery.ts saves its
 * session, and encoder.ts encodes its events.
 */
import { nanoid } from 'nanoid';
import type { Socket } from 'socket.io';
import { audiencesToJoin, parseRoom, tooManyRooms } from '../../answers/rooms.ts';
import { clientAddress, TokenBucket } from '../../auth/limits.ts';
import { callerKey, type Principal } from '../../auth/principal.ts';
import { type Batch, encodeBatch } from '../../bus/batch.ts';
import type { Mode, Sink, Subscription } from '../../bus/subscription.ts';
import type { Cursor } from '../../contract/cursor.ts';
import { BridgeError } from '../../contract/errors.ts';
import { BRIDGE_CURSOR, BRIDGE_ERROR, BRIDGE_RESET } from '../../contract/names.ts';
import type { Reset } from '../../contract/reset.ts';
import { BUILT_IN_KINDS, type Room, type RoomKind } from '../../contract/rooms.ts';
import type { Metrics } from '../../metrics/metrics.ts';
import type { Encoder } from './encoder.ts';
import { pidOf } from './internals.ts';
import { type EngineOutbox, terminate } from './outbox.ts';
import type {
  RecoverableConnection,
  Recovered,
  Recovery,
  RecoveryDeps,
  ResetStart,
  SavingState,
  SessionRoom,
} from './recovery.ts';
import { unknownEvent } from './unknown-event.ts';

/** `bridge.cursor` is repeated at most this often, if the head has moved on without events for this client (protocol §5). */
const CURSOR_INTERVAL_MS = 30_000;

/** An unknown event without a callback is answered by `bridge.error` at most this often (protocol §5). */
const UNKNOWN_INTERVAL_MS = 1_000;
/** Joins and leaves of one connection that may wait for the log, beside one for each of MAX_ROOMS. */
const MAX_PENDING = 500;

export interface ConnectionDeps extends Omit<RecoveryDeps, 'store'> {
  readonly metrics: Metrics;
  readonly recovery: Recovery;
}

export interface ConnectionOptions {
  readonly principal: Principal;
  readonly encoder: Encoder;
  readonly outbox: EngineOutbox;
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
  readonly saving: SavingState;
  closed = false;
  readonly #socket: Socket;
  readonly #deps: ConnectionDeps;
  readonly #encoder: Encoder;
  readonly #outbox: EngineOutbox;
  readonly #subscription: Subscription;
  /** The last pending join or leave of each room: those of one room run one after the other. */
  #roomQueues: Map<Room, Promise<void>> | null = null;
  /** Joins and leaves that are not answered yet. */
  #pending = 0;
  #toldUnknownAtMs = Number.NEGATIVE_INFINITY;
  /** Audiences of the rooms that are joined or being joined, for MAX_ROOMS. */
  #heard: number;
  /** RATE_JOINS at once, and as many in each second after. */
  #joinBucket: TokenBucket | null = null;
  #sentCursor: Cursor;
  #sentCursorAtMs = performance.now();

  constructor(socket: Socket, deps: ConnectionDeps, { principal, encoder, outbox, resumed }: ConnectionOptions) {
    const { bus, config, recovery } = deps;
    const recovered = resumed?.kind === 'recovered' ? resumed : null;
    this.pid = pidOf(socket);
    this.owner = recovered?.owner ?? nanoid();
    this.principal = principal;
    this.rooms = new Map(recovered?.rooms);
    this.#heard = recovered?.heard ?? 0;
    this.saving = {
      saved: recovered === null ? 'no' : 'yes',
      changed: new Set(),
      budget: null,
      touchedAtMs: performance.now(),
    };
    this.#socket = socket;
    this.#deps = deps;
    this.#encoder = encoder;
    this.#outbox = outbox;
    this.#sentCursor = recovered?.offset ?? bus.head;

    // The client has received nothing yet, so it continues from this node's head.
    if (resumed?.kind === 'reset') this.reset({ ...resumed, cursor: bus.head }, 'main');
    else this.#sendCursor(this.#sentCursor);
    for (const [room, error] of recovered?.refused ?? []) this.#refuse(error, room, null);

    const rooms = recovered?.joined ?? new Map();
    const caller = callerKey(principal, clientAddress(socket.request, config.trustProxy));
    this.#subscription = bus.subscribe({ rooms, after: recovered?.offset ?? null, caller }, this);
    if (recovered !== null && recovered.changed.size > 0) recovery.saveSoon(this, recovered.changed);
    // One listener for all events: a listener each would cost one function per event and connection.
    socket.onAny((event: unknown, ...args: unknown[]) => this.#request(event, args));
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
    this.#deps.recovery.saveSoon(this, this.rooms.keys());
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

  /** Sends cursors that are due. Call it about once a second. */
  tick(nowMs: number): void {
    if (this.closed) return;
    if (nowMs - this.#sentCursorAtMs >= CURSOR_INTERVAL_MS && this.#subscription.cursor !== this.#sentCursor) {
      this.#sendCursor(this.#subscription.cursor);
    }
  }

  /** Sends why the connection ends. */
  sendError({ code, message }: BridgeError): void {
    if (!this.closed) this.#emit(BRIDGE_ERROR, { code, message });
  }

  cutIfSlow(): boolean {
    return this.#subscription.cutIfSlow();
  }

  terminate(): void {
    terminate(this.#socket.conn);
  }

  #request(event: unknown, args: unknown[]): void {
    if (this.closed) return;
    const ack = typeof args.at(-1) === 'function' ? (args.pop() as Ack) : null;
    const kind = REQUESTS.get(String(event));
    if (kind === undefined) this.#answerUnknown(String(event), ack);
    else this.#joinOrLeave(kind, String(event).startsWith('join-'), args, ack);
  }

  /** A client that gets no acknowledgement may hold back its next requests. */
  #answerUnknown(event: string, ack: Ack | null): void {
    const nowMs = performance.now();
    if (ack === null && nowMs - this.#toldUnknownAtMs < UNKNOWN_INTERVAL_MS) return;
    if (ack === null) this.#toldUnknownAtMs = nowMs;
    this.#refuse(unknownEvent(event, REQUESTS.keys()), undefined, ack);
  }

  #joinOrLeave(kind: RoomKind, isJoin: boolean, args: readonly unknown[], ack: Ack | null): void {
    const { config } = this.#deps;
    let room: Room | undefined;
    try {
      const parsed = parseRoom(kind, args[0]);
      room = parsed;
      if (this.#pending >= MAX_PENDING + config.maxRooms) {
        throw new BridgeError('rate_limited', 'Too many joins and leaves are pending. Wait for their answers.');
      }
      if (isJoin && !this.#mayJoinNow()) {
        throw new BridgeError('rate_limited', `At most ${config.rateJoins} joins per second are allowed.`);
      }
      this.#pending++;
      this.#roomQueues ??= new Map();
      const done = (this.#roomQueues.get(parsed) ?? Promise.resolve())
        .then(() => (isJoin ? this.#join(parsed, args[1]) : this.#leave(parsed)))
        .then(
          (cursor) => ack?.({ ok: true, room: parsed, cursor }),
          (error: unknown) => this.#refuse(error, parsed, ack),
        )
        .then(() => {
          this.#pending--;
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
    const added = existing === undefined ? audiences.length : 0;
    const { maxRooms } = this.#deps.config;
    if (this.#heard + added > maxRooms) throw tooManyRooms(maxRooms);
    this.#heard += added;
    let joinedAt: Cursor;
    try {
      const { start, cursor } = await this.#subscription.join(room, audiences, after);
      joinedAt = cursor;
      this.rooms.set(room, { start, joinedAt, replayed: after !== null, unproven: false });
    } catch (error) {
      this.#heard -= added;
      throw error;
    }
    try {
      await this.#deps.recovery.save(this, room);
    } catch (error) {
      this.#forget(room, audiences.length);
      throw error;
    }
    return joinedAt;
  }

  async #leave(room: Room): Promise<Cursor> {
    if (this.rooms.has(room)) {
      this.#forget(room, audiencesToJoin(this.principal, room).length);
      await this.#deps.recovery.save(this, room);
    }
    return this.#subscription.cursor;
  }

  #forget(room: Room, audiences: number): void {
    this.rooms.delete(room);
    this.#subscription.leave(room);
    this.#heard -= audiences;
  }
}

const REQUESTS: ReadonlyMap<string, RoomKind> = new Map(
  BUILT_IN_KINDS.flatMap((kind) => [
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

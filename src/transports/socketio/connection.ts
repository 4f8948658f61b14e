/**
 * One Socket.IO connection: the join protocol, and what the bus writes to the client (protocol §5). recovery.ts saves its
 * session, and encoder.ts encodes its events.
 */
import { nanoid } from 'nanoid';
import type { Socket } from 'socket.io';
import type { Refusals } from '../../answers/refusals.ts';
import { audiencesToJoin, parseRoom, parseRooms, tooManyRooms } from '../../answers/rooms.ts';
import { signalOf } from '../../answers/signals.ts';
import { expiryOf } from '../../auth/expiry.ts';
import { TokenBucket } from '../../auth/limits.ts';
import { callerKey, type Principal, type TokenHolder } from '../../auth/principal.ts';
import { claimsOf } from '../../auth/revocations.ts';
import { type Batch, encodeBatch } from '../../bus/batch.ts';
import type { AudiencesByRoom, Mode, Sink, Subscription } from '../../bus/subscription.ts';
import type { Cursor } from '../../contract/cursor.ts';
import { BridgeError } from '../../contract/errors.ts';
import { BRIDGE_CURSOR, BRIDGE_ERROR, BRIDGE_RESET } from '../../contract/names.ts';
import { printableName } from '../../contract/printable.ts';
import type { Reset } from '../../contract/reset.ts';
import { allKinds, type Room, type RoomKind } from '../../contract/rooms.ts';
import { SIGNAL, type Signal, type SignalCatalog } from '../../contract/signals.ts';
import type { Metrics } from '../../metrics/metrics.ts';
import { type Connected, type ConnectedClient, type Origin, originOf } from '../connected.ts';
import { type Encoder, encodeSignals } from './encoder.ts';
import { pidOf, takeOverAcks } from './internals.ts';
import { type EngineOutbox, endWithin, terminate } from './outbox.ts';
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
/** Joins and leaves of one connection that may wait for the log, beside one for each of MAX_ROOMS. Each room counts. */
const MAX_PENDING = 500;

/** How long a client may read the rest of its events after an operator closed its connection. */
const DISCONNECT_LINGER_MS = 2_000;

/** An event that clients emit: it joins or leaves a room of this kind, or, without a kind, rooms by their names. */
interface RoomRequest {
  readonly isJoin: boolean;
  readonly kind: RoomKind | null;
}

/** The events that clients emit, by name. @param declaredKinds those of the operator */
export function requestsFor(declaredKinds: readonly RoomKind[]): ReadonlyMap<string, RoomRequest> {
  const ofKind = (kind: RoomKind): [string, RoomRequest][] => [
    [`join-${kind}`, { isJoin: true, kind }],
    [`leave-${kind}`, { isJoin: false, kind }],
  ];
  return new Map([
    ...allKinds(declaredKinds).flatMap(ofKind),
    ['join', { isJoin: true, kind: null }],
    ['leave', { isJoin: false, kind: null }],
  ]);
}

export interface ConnectionDeps extends Omit<RecoveryDeps, 'store'> {
  readonly requests: ReadonlyMap<string, RoomRequest>;
  readonly signals: SignalCatalog;
  readonly countSignals: Readonly<Record<'websocket' | 'polling', (signals: readonly Signal[]) => void>>;
  readonly metrics: Metrics;
  readonly recovery: Recovery;
  readonly connected: Connected;
  readonly refusals: Pick<Refusals, 'addTo'>;
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
export class Connection implements Sink, RecoverableConnection, ConnectedClient {
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
  readonly subscription: Subscription;
  readonly origin: Origin;
  deliveredAtMs: number | null = null;
  /** The last pending join or leave of each room: those of one room run one after the other. */
  #roomQueues: Map<Room, Promise<void>> | null = null;
  /** Rooms of joins and leaves that are not answered yet. */
  #pending = 0;
  #toldUnknownAtMs = Number.NEGATIVE_INFINITY;
  /** Audiences of the rooms that are joined or being joined, for MAX_ROOMS. */
  #heard: number;
  /** RATE_JOINS at once, and as many in each second after. */
  #joinBucket: TokenBucket | null = null;
  #signalBucket: TokenBucket | null = null;
  #sentCursor: Cursor;
  #sentCursorAtMs = performance.now();

  constructor(socket: Socket, deps: ConnectionDeps, { principal, encoder, outbox, resumed }: ConnectionOptions) {
    const { bus, config, recovery } = deps;
    const recovered = resumed?.kind === 'recovered' ? resumed : null;
    this.pid = pidOf(socket);
    this.owner = recovered?.owner ?? nanoid();
    this.principal = principal;
    this.origin = originOf(socket.request, config.trustProxy);
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
    for (const [room, error] of recovered?.refused ?? []) this.#refuse(error, `join ${room}`, room, null);

    const rooms = recovered?.joined ?? new Map();
    const caller = callerKey(principal, this.origin.address);
    const { names } = deps.signals;
    const signals = names.size === 0 ? null : { names, sender: this.sid, active: true };
    if (recovered !== null) bus.signals.back(this.sid);
    this.subscription = bus.subscribe({ rooms, after: recovered?.offset ?? null, caller, signals }, this);
    if (recovered !== null && recovered.changed.size > 0) recovery.saveSoon(this, recovered.changed);
    // One listener for all events: a listener each would cost one function per event and connection.
    socket.onAny((event: unknown, ...args: unknown[]) => this.#request(event, args));
    takeOverAcks(socket, (text) => outbox.sendText(text));
    deps.connected.add(this);
  }

  get sid(): string {
    return this.#socket.id;
  }

  get id(): string {
    return this.sid;
  }

  get transport(): 'websocket' | 'polling' {
    return this.#outbox.transport;
  }

  get claims(): Pick<TokenHolder, 'subject' | 'tenants'> {
    return this.principal.kind === 'token' ? this.principal : claimsOf(this.principal);
  }

  get expiresAtMs(): number {
    return expiryOf(this.principal);
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
    this.deliveredAtMs = performance.now();
    if (mode !== 'replay') {
      this.#sentCursor = (batch.records[batch.records.length - 1] as { readonly id: Cursor }).id;
      this.#sentCursorAtMs = this.deliveredAtMs;
    }
    countDelivery[this.#outbox.transport](batch, mode);
  }

  signals(signals: readonly Signal[]): void {
    if (this.closed) return;
    this.#outbox.send(encodeSignals(signals));
    this.#deps.countSignals[this.#outbox.transport](signals);
  }

  signalsDropped(count: number): void {
    this.#deps.metrics.signalsDropped(this.#outbox.transport, count);
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
    logger.info(
      { connection: this.id, transport: this.#outbox.transport },
      'slow consumer cut; it can resume from its cursor',
    );
    this.terminate();
  }

  /** Call it when Socket.IO reports that the connection has closed. */
  ended(reason: string): void {
    this.closed = true;
    this.#deps.connected.remove(this, reason);
    this.subscription.close();
    this.#deps.recovery.close(this, reason);
  }

  /** Sends cursors that are due. Call it about once a second. */
  tick(nowMs: number): void {
    if (this.closed) return;
    if (nowMs - this.#sentCursorAtMs >= CURSOR_INTERVAL_MS && this.subscription.cursor !== this.#sentCursor) {
      this.#sendCursor(this.subscription.cursor);
    }
  }

  /** Sends why the connection ends. */
  sendError({ code, message }: BridgeError): void {
    if (!this.closed) this.#emit(BRIDGE_ERROR, { code, message });
  }

  cutIfSlow(): boolean {
    return this.subscription.cutIfSlow();
  }

  disconnect(): void {
    endWithin(this.#socket.conn, DISCONNECT_LINGER_MS);
  }

  terminate(): void {
    terminate(this.#socket.conn);
  }

  #request(event: unknown, args: unknown[]): void {
    if (this.closed) return;
    const ack = typeof args.at(-1) === 'function' ? (args.pop() as Ack) : null;
    const name = String(event);
    const { requests, signals } = this.#deps;
    const request = requests.get(name);
    if (request !== undefined) this.#joinOrLeave(request, args, ack);
    else if (name === SIGNAL || signals.names.has(name)) this.#signal(name, args[0], ack);
    else this.#answerUnknown(name, ack);
  }

  /** A client that gets no acknowledgement may hold back its next requests. */
  #answerUnknown(event: string, ack: Ack | null): void {
    const nowMs = performance.now();
    if (ack === null && nowMs - this.#toldUnknownAtMs < UNKNOWN_INTERVAL_MS) return;
    if (ack === null) this.#toldUnknownAtMs = nowMs;
    const { requests, signals } = this.#deps;
    const error = unknownEvent(event, [...requests.keys(), SIGNAL, ...signals.names]);
    this.#refuse(error, printableName(event), undefined, ack);
  }

  /** Under its own name, a signal is its payload alone (protocol §14). */
  #signal(name: string, arg: unknown, ack: Ack | null): void {
    const { signals, bus } = this.#deps;
    let room: Room | undefined;
    try {
      this.#countSignal();
      const request = name === SIGNAL ? signals.check(arg) : signals.checkPayload(name, arg);
      room = request.room;
      bus.signals.send(
        signalOf(this.principal, request, () => this.sid),
        true,
      );
      ack?.({ ok: true });
    } catch (error) {
      this.#refuse(error, name === SIGNAL ? SIGNAL : `${SIGNAL} ${name}`, room, ack);
    }
  }

  #countSignal(): void {
    const { rateSignals } = this.#deps.config;
    const nowMs = performance.now();
    this.#signalBucket ??= new TokenBucket(rateSignals, nowMs);
    if (this.#signalBucket.waitSeconds(nowMs) > 0) {
      throw new BridgeError('rate_limited', `At most ${rateSignals} signals per second are allowed.`);
    }
    this.#signalBucket.take(1, nowMs);
  }

  #joinOrLeave({ isJoin, kind }: RoomRequest, [arg, options]: readonly unknown[], ack: Ack | null): void {
    const { config } = this.#deps;
    const isArray = kind === null && Array.isArray(arg);
    /** The one room at fault, for a refusal. */
    let room: Room | undefined;
    const verb = isJoin ? 'join' : 'leave';
    const what = (named: unknown): string => (typeof named === 'string' ? `${verb} ${named}` : verb);
    try {
      const rooms =
        kind === null ? parseRooms(arg, allKinds(config.roomKinds), config.maxRooms) : [parseRoom(kind, arg)];
      const single = isArray ? undefined : rooms[0];
      room = single;
      if (this.#pending + rooms.length > MAX_PENDING + config.maxRooms) {
        throw new BridgeError('rate_limited', 'Too many joins and leaves are pending. Wait for their answers.');
      }
      if (isJoin) this.#countJoins(rooms.length);
      const audiences = new Map<Room, readonly string[]>();
      for (room of isJoin ? rooms : []) audiences.set(room, audiencesToJoin(this.principal, room));
      /** Those of the rooms that are new. */
      const entered: string[] = [];
      this.#inTurn(rooms, () => (isJoin ? this.#join(audiences, options, entered) : this.#leave(rooms))).then(
        (cursor) => {
          ack?.({ ok: true, ...(isArray ? { rooms } : { room: single }), cursor });
          this.#deps.connected.log(this, { rooms }, isJoin ? 'joined' : 'left');
          if (entered.length > 0) this.subscription.sendActiveSignals(entered);
        },
        (error: unknown) => this.#refuse(error, what(single), single, ack),
      );
    } catch (error) {
      this.#refuse(error, what(room ?? arg), room, ack);
    }
  }

  /** Runs the task when all earlier tasks of its rooms have ended. */
  #inTurn(rooms: readonly Room[], task: () => Promise<Cursor>): Promise<Cursor> {
    this.#roomQueues ??= new Map();
    const queues = this.#roomQueues;
    this.#pending += rooms.length;
    const result = Promise.all(rooms.map((room) => queues.get(room))).then(task);
    const settle = (): void => {
      this.#pending -= rooms.length;
      for (const room of rooms) if (queues.get(room) === settled) queues.delete(room);
      if (queues.size === 0 && this.#roomQueues === queues) this.#roomQueues = null;
    };
    const settled = result.then(settle, settle);
    for (const room of rooms) queues.set(room, settled);
    return result;
  }

  /** Any number of rooms is accepted while one join is left; later joins wait the longer. */
  #countJoins(rooms: number): void {
    const { rateJoins } = this.#deps.config;
    const nowMs = performance.now();
    this.#joinBucket ??= new TokenBucket(rateJoins, nowMs);
    if (this.#joinBucket.waitSeconds(nowMs) > 0) {
      throw new BridgeError('rate_limited', `At most ${rateJoins} joins per second are allowed.`);
    }
    this.#joinBucket.take(rooms, nowMs);
  }

  #refuse(error: unknown, what: string, room: Room | undefined, ack: Ack | null): void {
    const { refusals, logger } = this.#deps;
    const isExpected = error instanceof BridgeError;
    if (!isExpected) logger.error({ err: error, room }, 'a join or leave failed');
    const refusal = isExpected
      ? error
      : new BridgeError('unavailable', 'The bridge could not complete the request. Try again later.');
    const { code, message } = refusal;
    refusals.addTo(refusal, {
      transport: this.transport,
      what,
      address: this.origin.address,
      identity: this.principal.kind === 'token' ? this.principal : null,
      connection: this.id,
    });
    // JSON leaves out a `room` of undefined.
    if (ack !== null) ack({ ok: false, code, error: message, room });
    else if (!this.closed) this.#emit(BRIDGE_ERROR, { code, message, room });
  }

  /**
   * Joins all rooms or none. Resolves to the cursor of the acknowledgement.
   * @param entered gets the audiences of the rooms that were not joined before
   */
  async #join(rooms: AudiencesByRoom, options: unknown, entered: string[]): Promise<Cursor> {
    const after = parseAfter(options);
    // Joining again does nothing, except for a replay that the client may have missed (recovery.ts, `unproven`).
    const toJoin = new Map(
      [...rooms].filter(([room]) => {
        const existing = this.rooms.get(room);
        return existing === undefined || (existing.unproven && after !== null);
      }),
    );
    if (toJoin.size === 0) return this.subscription.cursor;
    const { maxRooms } = this.#deps.config;
    let added = 0;
    for (const [room, audiences] of toJoin) if (!this.rooms.has(room)) added += audiences.length;
    if (this.#heard + added > maxRooms) throw tooManyRooms(maxRooms);
    this.#heard += added;
    let joinedAt: Cursor;
    try {
      const { start, cursor } = await this.subscription.join(toJoin, after);
      joinedAt = cursor;
      for (const room of toJoin.keys()) {
        this.rooms.set(room, { start, joinedAt, replayed: after !== null, unproven: false });
      }
    } catch (error) {
      this.#heard -= added;
      throw error;
    }
    try {
      await this.#deps.recovery.save(this, toJoin.keys());
    } catch (error) {
      for (const [room, audiences] of toJoin) this.#forget(room, audiences.length);
      throw error;
    }
    entered.push(...[...toJoin.values()].flat());
    return joinedAt;
  }

  async #leave(rooms: readonly Room[]): Promise<Cursor> {
    const joined = rooms.filter((room) => this.rooms.has(room));
    for (const room of joined) this.#forget(room, audiencesToJoin(this.principal, room).length);
    if (joined.length > 0) await this.#deps.recovery.save(this, joined);
    return this.subscription.cursor;
  }

  #forget(room: Room, audiences: number): void {
    this.rooms.delete(room);
    this.subscription.leave(room);
    this.#heard -= audiences;
  }
}

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

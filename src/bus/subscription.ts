/**
 * One connection's subscription: its rooms, its cursor, and the only handover from replay to live (design laws 3 and 7).
 *
 * The main stream is `live` (the bus delivers each commit) or catching up (it reads the log after its position, at the
 * client's pace). It goes live in one synchronous step: it writes what `recent` holds after its position and attaches
 * its audiences before the next commit can arrive. A join with a cursor replays its rooms beside the main stream in the
 * same way, then enters them.
 *
 * Design law 12: an error while one subscription is served (in its sink, its encoding, its catch-up) ends only that
 * subscription. It is logged, the connection is cut, and the client resumes by its cursor. No other subscription misses
 * a record, and nothing is thrown into the tail or left as an unhandled rejection.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cursor } from '../contract/cursor.ts';
import { BridgeError } from '../contract/errors.ts';
import type { LogRecord } from '../contract/frames.ts';
import type { Reset, Start } from '../contract/reset.ts';
import type { Room } from '../contract/rooms.ts';
import { type ActiveSignal, type Signal, withTimeLeft } from '../contract/signals.ts';
import type { Logger } from '../logger.ts';
import type { LogBounds } from '../store/store.ts';
import { Backlog } from './backlog.ts';
import { type Batch, batchOf, GROUP_FACTOR } from './batch.ts';
import type { Pacer } from './pacer.ts';
import type { LogPage, Recent } from './recent.ts';

/** Why records are written: `live` commits, `resumed` (missed while away), or `replay` (a join with `after`). */
export type Mode = 'live' | 'resumed' | 'replay';

/**
 * The connection, as the bus sees it. A call that throws is a fault of this connection alone: the bus logs it, calls
 * `cut` and closes the subscription, even if `cut` throws as well. The bus makes no call once the subscription is closed.
 */
export interface Sink {
  /** Writes the batch. Calls `flushed` once the bytes have left this process. */
  write(batch: Batch, mode: Mode, flushed?: () => void): void;
  /** Bytes that are written but not yet taken by the network. */
  pendingBytes(): number;
  /**
   * Events are lost. `main`: the stream continues after `cursor`, which may be sent to the client as its position.
   * `replay`: the replay of one join; `cursor` says nothing about the other rooms.
   */
  reset(reset: Reset, stream: 'main' | 'replay'): void;
  /** Writes signals (protocol §14). Called only for subscribers with `signals`. */
  signals(signals: readonly Signal[]): void;
  /** So many signals were not written, because the client has unread bytes. */
  signalsDropped(count: number): void;
  /** Ends the connection at once: the client is too slow, or the connection failed. */
  cut(): void;
}

export interface JoinedRoom {
  /** The audiences that carry the room's records to this subscriber. */
  readonly audiences: readonly string[];
  /** The subscriber receives the room's records after this position. */
  readonly start: Cursor;
}

export interface Subscriber {
  readonly rooms: ReadonlyMap<Room, JoinedRoom>;
  /** A resolved cursor to catch up from; null: live from now. */
  readonly after: Cursor | null;
  /** For whom it reads the log (auth/principal.ts, `callerKey`). Default: the bridge itself. */
  readonly caller?: string;
  /** The signals that it gets. Default: none. */
  readonly signals?: SignalInterest | null;
}

export interface SignalInterest {
  readonly names: ReadonlySet<string>;
  /** The name under which the subscriber itself sends; it does not get its own signals. */
  readonly sender: string | null;
  /** Whether it gets the active signals of its rooms when it goes live. */
  readonly active: boolean;
}

/** The audiences that carry the records of each room to the subscriber. */
export type AudiencesByRoom = ReadonlyMap<Room, readonly string[]>;

interface Joined {
  /** The position after which the rooms' records are received. */
  readonly start: Cursor;
  /** The position up to which the rooms were replayed. */
  readonly cursor: Cursor;
}

/** What a subscription needs from the bus. */
export interface BusPort {
  readonly recent: Recent;
  readonly pacer: Pacer;
  head(): Cursor;
  read(
    ...step: [audiences: readonly string[], after: Cursor, limit: number, maxChars: number, caller: string]
  ): Promise<LogPage | Reset>;
  /** Resolves when this node's tail has reached the cursor, or the bus closes. */
  reached(cursor: Cursor): Promise<void>;
  attach(audience: string, subscription: Subscription): void;
  detach(audience: string, subscription: Subscription): void;
  remove(subscription: Subscription): void;
  resolve(after: string, caller: string): Promise<Start>;
  activeSignals(audiences: Iterable<string>): ActiveSignal[];
  readonly maxBufferBytes: number;
  /** Most payload bytes in one write: their encoding fits the buffer. */
  readonly stepBytes: number;
  readonly logger: Logger;
}

/** The most records, and payload bytes, of one catch-up step. The client must take a step before it gets the next. */
const STEP_RECORDS = 512;
const STEP_BYTES = 256 * 1024;
/** The encoding of a legacy group is up to `GROUP_FACTOR` times its payload. */
export const stepBytesFor = (maxBufferBytes: number): number =>
  Math.min(STEP_BYTES, Math.ceil(maxBufferBytes / GROUP_FACTOR));
/** Time to take one step, plus time for its size at the lowest rate. A client that needs longer is cut. */
const STALL_MS = 30_000;
const MIN_BYTES_PER_MS = 4;
/** A client with more unread bytes gets no signals, and it gets no more active signals at once. */
const MAX_SIGNAL_BYTES_PENDING = 64 * 1024;
const SIGNAL_SHARE = 1 / 4;
/** Pause between attempts to read a log that does not answer. */
const RETRY_MS = 500;

/** A node may have tens of thousands, so each is one object that creates rarely used state on demand. */
export class Subscription {
  readonly #bus: BusPort;
  readonly #sink: Sink;
  readonly #caller: string;
  readonly #signals: SignalInterest | null;
  readonly #rooms: Map<Room, JoinedRoom>;
  readonly #startOf = new Map<string, Cursor>();
  #position: Cursor;
  #live = false;
  #closed = false;
  /** Bytes that may wait beyond the limit before the client is a slow consumer (protocol, Slow consumers). */
  #toleratedBytes = 0;
  /** When the record was accepted that the client waits, or waited, for: see {@link behindMs}. */
  #awaitedAtMs: number;
  #backlog: Backlog | null = null;
  /** Joins replay one after the other: each leaves out the records that earlier ones have brought (protocol §2, §5). */
  #replaying: Promise<void> | null = null;
  /** Each reset raises it, so that reads under way notice that their position is void. */
  #generation = 0;
  /** Resolved when the main stream goes live, or the subscription is closed. */
  #goingLive: PromiseWithResolvers<void> | null = null;
  #closing: PromiseWithResolvers<void> | null = null;

  constructor(bus: BusPort, { rooms, after, caller = '', signals = null }: Subscriber, sink: Sink) {
    this.#bus = bus;
    this.#sink = sink;
    this.#caller = caller;
    this.#signals = signals;
    this.#rooms = new Map(rooms);
    this.#position = after ?? bus.head();
    // Until the log is read, nobody knows which record comes next.
    this.#awaitedAtMs = Date.now();
    for (const { audiences, start } of rooms.values()) {
      for (const audience of audiences) this.#startOf.set(audience, start);
    }
    if (after === null) this.#goLive();
    else this.#startCatchUp();
  }

  /** Every record of the rooms up to here is written: the newest cursor that a client may get. Fixed once closed. */
  get cursor(): Cursor {
    return this.#live ? this.#bus.head() : this.#position;
  }

  /** For the bus: the next commit. Never throws. */
  deliver(batch: Batch): void {
    if (this.#closed) return;
    try {
      const pending = this.#sink.pendingBytes();
      if (this.#cutIfSlow(pending)) return;
      const [{ acceptedAtMs }] = batch.records as readonly [LogRecord];
      // One commit larger than a step is read from the log instead, in steps, so that a burst alone cuts nobody.
      if (batch.records.length > 1 && batch.bytes > this.#bus.stepBytes) {
        this.#stopLive(this.#bus.head());
        if (pending === 0) this.#awaitedAtMs = acceptedAtMs;
        this.#startCatchUp();
        return;
      }
      this.#tolerate(batch.largestGroupBytes);
      this.#sink.write(batch, 'live');
      this.#noteWritten(pending, acceptedAtMs);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** For the bus: the tail lost its position. Never throws. */
  gap(reason: 'expired' | 'unknown', bounds: LogBounds): void {
    if (this.#closed) return;
    const after = this.#position;
    this.#generation++;
    try {
      this.#continueFrom({ reason, after, oldest: bounds.oldest, cursor: bounds.head });
    } catch (error) {
      this.#fail(error);
    }
  }

  hears({ event, sender }: Signal): boolean {
    return this.#signals?.names.has(event) === true && this.#signals.sender !== sender;
  }

  /** For the bus: signals of one room. Never throws. */
  signal(signals: readonly Signal[]): void {
    const [first] = signals;
    // The client may have left the room since they were sent.
    if (first === undefined || !this.#startOf.has(first.audience)) return;
    this.#writeSignals(filterShared(signals, (signal) => this.hears(signal)));
  }

  /** Sends the active signals of these audiences, as many as fit at once. Never throws. */
  sendActiveSignals(audiences: Iterable<string>): void {
    if (this.#signals === null) return;
    const nowMs = performance.now();
    let bytesLeft = MAX_SIGNAL_BYTES_PENDING;
    const heard = this.#bus.activeSignals(audiences).flatMap((active) => {
      const signal = withTimeLeft(active, active.expiresAtMs - nowMs);
      if (signal === null || !this.hears(signal) || bytesLeft < 0) return [];
      bytesLeft -= signal.payload.length;
      return [signal];
    });
    this.#writeSignals(heard);
  }

  /** Drops them if the client has unread bytes (design law 15). */
  #writeSignals(signals: readonly Signal[]): void {
    if (this.#closed || signals.length === 0) return;
    try {
      const limit = Math.min(MAX_SIGNAL_BYTES_PENDING, this.#bus.maxBufferBytes * SIGNAL_SHARE);
      if (this.#sink.pendingBytes() > limit) this.#sink.signalsDropped(signals.length);
      else this.#sink.signals(signals);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Cuts a slow consumer. Transports call it when they write something other than records. */
  cutIfSlow(): boolean {
    return this.#cutIfSlow(this.#sink.pendingBytes());
  }

  #cutIfSlow(pending: number): boolean {
    if (pending === 0) this.#toleratedBytes = 0;
    if (pending <= this.#bus.maxBufferBytes + this.#toleratedBytes) return false;
    this.cut();
    return true;
  }

  /** Cuts the connection and closes the subscription. Never throws. */
  cut(): void {
    if (this.#closed) return;
    try {
      this.#sink.cut();
    } catch (error) {
      this.#bus.logger.error({ err: error }, 'a connection could not be cut; it receives nothing more');
    }
    this.close();
  }

  /** Design law 12. */
  #fail(error: unknown): void {
    this.#bus.logger.error({ err: error }, 'a connection failed and was cut; its client resumes by cursor');
    this.cut();
  }

  #goLive(): void {
    this.#live = true;
    for (const audience of this.#startOf.keys()) this.#bus.attach(audience, this);
    this.#goingLive?.resolve();
    this.#goingLive = null;
    if (this.#signals?.active) this.sendActiveSignals(this.#startOf.keys());
  }

  #stopLive(position: Cursor): void {
    this.#live = false;
    this.#position = position;
    for (const audience of this.#startOf.keys()) this.#bus.detach(audience, this);
  }

  #untilClosed(): Promise<void> {
    if (this.#closed) return Promise.resolve();
    this.#closing ??= Promise.withResolvers();
    return this.#closing.promise;
  }

  #startCatchUp(): void {
    this.#catchUp().catch((error: unknown) => this.#fail(error));
  }

  /** The main stream reads the log after its position until it is live. */
  async #catchUp(): Promise<void> {
    while (!this.#closed) {
      // The tail has not reached the position yet (another node's record), so it would deliver that record again.
      if (this.#position > this.#bus.head()) {
        await this.#bus.reached(this.#position);
        continue;
      }
      const turn = this.#bus.pacer.take();
      if (turn !== null) await turn;
      if (this.#closed) return;
      const generation = this.#generation;
      const audiences = [...this.#startOf.keys()];
      const inMemory = this.#bus.recent.after(audiences, this.#position, STEP_RECORDS, this.#bus.stepBytes);
      const step = inMemory ?? (await this.#tryRead(audiences, this.#position));
      if (this.#closed) return;
      if (step === null || generation !== this.#generation) continue;
      if ('reason' in step) {
        this.#continueFrom(step);
        continue;
      }
      const records = filterShared(step.records, (record) => this.#receives(record));
      this.#position = step.position;
      if (inMemory !== null && !inMemory.more) {
        if (records.length > 0) this.#write(records, 'resumed');
        if (!this.#closed) this.#goLive();
        return;
      }
      if (records.length > 0) await this.#writeAndWait(records, 'resumed');
    }
  }

  #continueFrom(reset: Reset): void {
    this.#position = reset.cursor;
    for (const [room, joined] of this.#rooms) this.#rooms.set(room, { ...joined, start: reset.cursor });
    for (const audience of this.#startOf.keys()) this.#startOf.set(audience, reset.cursor);
    this.#sink.reset(reset, 'main');
  }

  /**
   * Joins rooms together. With `after`, replays the records of all of them after that cursor first, as one: in order, and
   * each record once.
   * @param rooms their audiences
   * @throws {BridgeError} `invalid_cursor`, `unavailable`
   */
  async join(rooms: AudiencesByRoom, after: string | null): Promise<Joined> {
    const start = after === null ? null : await this.#bus.resolve(after, this.#caller);
    // If the connection has ended meanwhile, nothing would leave a room that is entered now.
    if (this.#closed) throw connectionEnded();
    if (start === null) return this.#enter(rooms, this.#bus.head());
    const replay = (this.#replaying ?? Promise.resolve())
      .then(() => this.#replay(rooms, start))
      .catch((error: unknown) => {
        // The caller handles the log's refusals. Any other error is a fault of this connection.
        if (error instanceof BridgeError) throw error;
        this.#fail(error);
        throw connectionEnded();
      });
    const settle = (): void => {
      if (this.#replaying === settled) this.#replaying = null;
    };
    const settled = replay.then(settle, settle);
    this.#replaying = settled;
    return replay;
  }

  #enter(rooms: AudiencesByRoom, start: Cursor): Joined {
    for (const [room, audiences] of rooms) {
      this.#rooms.set(room, { audiences, start });
      for (const audience of audiences) {
        this.#startOf.set(audience, start);
        if (this.#live) this.#bus.attach(audience, this);
      }
    }
    return { start, cursor: this.cursor };
  }

  /**
   * Writes the records of the rooms after `start` that no joined room brings, up to the position of the live main stream,
   * and enters the rooms in the same synchronous step.
   */
  async #replay(rooms: AudiencesByRoom, start: Start): Promise<Joined> {
    const audiences = [...rooms.values()].flat();
    let position = start.cursor;
    let roomStart = start.cursor;
    const generation = this.#generation;
    if (start.kind === 'reset' && !this.#closed) this.#sink.reset(start, 'replay');
    while (!this.#closed) {
      // A reset of the main stream made this position void: the rooms continue where the main stream does.
      if (generation !== this.#generation) return this.#enter(rooms, this.cursor);
      if (position > this.#bus.head()) {
        await this.#bus.reached(position);
        continue;
      }
      if (!this.#live) {
        this.#goingLive ??= Promise.withResolvers();
        await this.#goingLive.promise;
        continue;
      }
      const turn = this.#bus.pacer.take();
      if (turn !== null) await turn;
      if (this.#closed || !this.#live || generation !== this.#generation) continue;
      const inMemory = this.#bus.recent.after(audiences, position, STEP_RECORDS, this.#bus.stepBytes);
      const { stepBytes } = this.#bus;
      const step = inMemory ?? (await this.#bus.read(audiences, position, STEP_RECORDS, stepBytes, this.#caller));
      if (this.#closed || generation !== this.#generation) continue;
      if ('reason' in step) {
        this.#sink.reset(step, 'replay');
        position = step.cursor;
        roomStart = step.cursor;
        continue;
      }
      const records = filterShared(step.records, (record) => !this.#receives(record));
      position = step.position;
      if (inMemory !== null && !inMemory.more) {
        if (records.length > 0) this.#write(records, 'replay');
        return this.#enter(rooms, roomStart);
      }
      if (records.length > 0) await this.#writeAndWait(records, 'replay');
    }
    throw connectionEnded();
  }

  /** Whether a joined room brings the record to this connection. */
  #receives(record: LogRecord): boolean {
    return record.audiences.some((audience) => {
      const start = this.#startOf.get(audience);
      return start !== undefined && start < record.id;
    });
  }

  /** Since the acceptance of the oldest record that was not written to the client, or waits for it; 0: none does. */
  behindMs(): number {
    const pending = this.#sink.pendingBytes();
    if (this.#live && pending === 0) return 0;
    const waitsForLog = pending === 0 || this.#backlog === null;
    const oldestAtMs = waitsForLog ? this.#awaitedAtMs : (this.#backlog as Backlog).oldestAtMs(pending);
    return Math.max(0, Date.now() - oldestAtMs);
  }

  #noteWritten(pendingBefore: number, acceptedAtMs: number): void {
    if (pendingBefore === 0) {
      this.#awaitedAtMs = acceptedAtMs;
      this.#backlog = null;
      return;
    }
    this.#backlog ??= new Backlog(pendingBefore, this.#awaitedAtMs);
    this.#backlog.add(pendingBefore, this.#sink.pendingBytes(), acceptedAtMs);
  }

  get rooms(): Iterable<Room> {
    return this.#rooms.keys();
  }

  get roomCount(): number {
    return this.#rooms.size;
  }

  hasRoom(room: Room): boolean {
    return this.#rooms.has(room);
  }

  #tolerate(bytes: number): void {
    this.#toleratedBytes = Math.max(this.#toleratedBytes, bytes);
  }

  #write(records: readonly LogRecord[], mode: Mode, flushed?: () => void): void {
    const batch = batchOf(records);
    const pending = this.#sink.pendingBytes();
    if (pending === 0) this.#toleratedBytes = 0;
    // The events of one record alone never make a client slow (protocol, Slow consumers).
    this.#tolerate(batch.largestGroupBytes);
    this.#sink.write(batch, mode, flushed);
    this.#noteWritten(pending, (records[0] as LogRecord).acceptedAtMs);
    // The bytes of a replay that still wait when the stream goes live do not either, up to one buffer.
    if (!this.#closed) this.#tolerate(Math.min(this.#sink.pendingBytes(), this.#bus.maxBufferBytes));
  }

  /** Writes, and waits until the client has taken the bytes. A client that is far too slow is cut. */
  async #writeAndWait(records: readonly LogRecord[], mode: Mode): Promise<void> {
    const flushed = Promise.withResolvers<void>();
    this.#write(records, mode, flushed.resolve);
    if (this.#closed) return;
    const stalled = setTimeout(() => this.cut(), STALL_MS + this.#sink.pendingBytes() / MIN_BYTES_PER_MS);
    await Promise.race([flushed.promise, this.#untilClosed()]);
    clearTimeout(stalled);
  }

  /** Null, after a pause, if the log did not answer. The catch-up retries for as long as the client stays. */
  async #tryRead(audiences: readonly string[], after: Cursor): Promise<LogPage | Reset | null> {
    try {
      return await this.#bus.read(audiences, after, STEP_RECORDS, this.#bus.stepBytes, this.#caller);
    } catch (error) {
      this.#bus.logger.warn({ err: error }, 'the log does not answer; a connection that catches up waits for it');
      await Promise.race([sleep(RETRY_MS, null, { ref: false }), this.#untilClosed()]);
      return null;
    }
  }

  leave(room: Room): void {
    const joined = this.#rooms.get(room);
    if (joined === undefined) return;
    this.#rooms.delete(room);
    for (const audience of joined.audiences) {
      this.#startOf.delete(audience);
      this.#bus.detach(audience, this);
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    // From here on nothing is written, so the cursor stays where it is while the head moves on.
    this.#stopLive(this.cursor);
    this.#bus.remove(this);
    this.#closing?.resolve();
    this.#goingLive?.resolve();
  }
}

/** The items to keep; the same array if that is all of them, so that their encoding stays shared. */
function filterShared<T>(items: readonly T[], keep: (item: T) => boolean): readonly T[] {
  return items.every(keep) ? items : items.filter(keep);
}

function connectionEnded(): BridgeError {
  return new BridgeError('unavailable', 'The connection ended.');
}

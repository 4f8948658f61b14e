/**
 * One connection's ear on the bus, and the handover from replay to live, written once (design laws 3 and 7).
 *
 * A subscription has rooms and a main stream that is either `live` (the bus hands it each commit) or catching up (it
 * reads the log after `position`, at the client's pace). It turns live in one synchronous step: what `recent` still
 * holds after its position is written and the audiences are attached before anything else can be published. A join with
 * a cursor replays one room in the same way, beside the main stream, and ends by joining that.
 *
 * A reader whose buffer is over the budget when more comes is cut; it resumes by cursor. One commit larger than what
 * is written at once sends the subscription back to catching up instead, so that a burst alone cuts nobody.
 */
import type { Cursor } from '../contract/cursor.ts';
import { BridgeError } from '../contract/errors.ts';
import type { LogRecord } from '../contract/frames.ts';
import type { Reset, Start } from '../contract/reset.ts';
import type { Room } from '../contract/rooms.ts';
import type { Logger } from '../logger.ts';
import type { LogBounds, ReadResult } from '../store/store.ts';
import { type Batch, batchOf, GROUP_FACTOR } from './batch.ts';
import type { Pacer } from './pacer.ts';
import type { Recent } from './recent.ts';

/** How records were come by: `live`, `resumed` (missed while away), `replay` (asked for by a join with `after`). */
export type Mode = 'live' | 'resumed' | 'replay';

/** The connection, as the bus sees it. Calls never throw; after `close` none is made. */
export interface Sink {
  /** Writes the batch. `flushed` is called once the bytes have left this process. */
  write(batch: Batch, mode: Mode, flushed?: () => void): void;
  /** Bytes written but not yet taken by the network. */
  pendingBytes(): number;
  /**
   * What lay after a place is gone. `main`: the stream goes on from `cursor`, which may be told to the client as its
   * place. `replay`: one join's; `cursor` says nothing of the other rooms.
   */
  reset(reset: Reset, stream: 'main' | 'replay'): void;
  /** The client is too slow: end its connection. */
  cut(): void;
}

export interface JoinedRoom {
  /** The audiences in which the subscriber hears the room. */
  readonly audiences: readonly string[];
  /** The room is heard after this place. */
  readonly start: Cursor;
}

export interface Subscriber {
  readonly rooms: ReadonlyMap<Room, JoinedRoom>;
  /** A resolved cursor to catch up from; null: live from now. */
  readonly after: Cursor | null;
}

export interface Subscription {
  /** Every record of the rooms up to here was written: the newest cursor that may be told to the client. */
  readonly cursor: Cursor;
  /**
   * Joins a room; with `after`, first replays what it got since. Resolves to the place from which the room is heard
   * (`start`) and the place up to which it was replayed (`cursor`).
   * @throws {BridgeError} `invalid_cursor`, `unavailable`
   */
  join(room: Room, audiences: readonly string[], after: string | null): Promise<{ start: Cursor; cursor: Cursor }>;
  leave(room: Room): void;
  /** Cuts the client off if more waits for it than may; for a transport that writes it more than records. */
  cutIfSlow(): boolean;
  /** For the bus: the next commit. */
  deliver(batch: Batch): void;
  /** For the bus: the tail lost its place. */
  gap(reason: 'expired' | 'unknown', bounds: LogBounds): void;
  close(): void;
}

/** What a subscription needs of the bus. */
export interface BusSide {
  readonly recent: Recent;
  readonly pacer: Pacer;
  head(): Cursor;
  read(audiences: readonly string[], after: Cursor, limit: number, maxChars: number): Promise<ReadResult>;
  /** Resolves when this node's tail has come to the cursor, or the bus closes. */
  reached(cursor: Cursor): Promise<void>;
  attach(audience: string, subscription: Subscription): void;
  detach(audience: string, subscription: Subscription): void;
  forget(subscription: Subscription): void;
  resolve(after: string): Promise<Start>;
  readonly maxBufferBytes: number;
  /** Most payload bytes that are written at once: what they take on the wire fits the budget. */
  readonly stepBytes: number;
  readonly logger: Logger;
}

/** Most records, and payload bytes, that a catching-up client is given before it must have taken them. */
const STEP_RECORDS = 512;
const STEP_BYTES = 256 * 1024;
/** A legacy group on the wire is up to `GROUP_FACTOR` times its payload. */
export const stepBytesFor = (maxBufferBytes: number): number =>
  Math.min(STEP_BYTES, Math.ceil(maxBufferBytes / GROUP_FACTOR));
/** A catching-up client has so long to take a step, and longer where the step is large: it is cut below this rate. */
const STALL_MS = 30_000;
const LEAST_BYTES_PER_MS = 4;
/** Between attempts to read a log that does not answer. */
const RETRY_MS = 500;

const NOBODY: (() => void)[] = [];

/** There may be tens of thousands, so a subscription is one object, and what it seldom needs is made when it does. */
export class BusSubscription implements Subscription {
  readonly #bus: BusSide;
  readonly #sink: Sink;
  readonly #rooms: Map<Room, JoinedRoom>;
  readonly #startOf = new Map<string, Cursor>();
  #position: Cursor;
  #live = false;
  #closed = false;
  #exemptBytes = 0;
  /** Joins replay one after the other, so that each leaves out what the ones before it have brought (protocol §2). */
  #replaying: Promise<void> | null = null;
  /** Raised by a reset, so that replays under way know that their place is gone. */
  #generation = 0;
  /** Who waits for the main stream to be live, and who waits for anything that the end makes void. */
  #wakeLive: (() => void)[] = NOBODY;
  #closing: PromiseWithResolvers<void> | null = null;

  constructor(bus: BusSide, { rooms, after }: Subscriber, sink: Sink) {
    this.#bus = bus;
    this.#sink = sink;
    this.#rooms = new Map(rooms);
    this.#position = after ?? bus.head();
    for (const { audiences, start } of rooms.values()) {
      for (const audience of audiences) this.#startOf.set(audience, start);
    }
    if (after === null) this.#goLive();
    else void this.#catchUp();
  }

  get cursor(): Cursor {
    return this.#live ? this.#bus.head() : this.#position;
  }

  gap(reason: 'expired' | 'unknown', bounds: LogBounds): void {
    if (this.#closed) return;
    const after = this.#position;
    this.#generation++;
    this.#goOnFrom({ reason, after, oldest: bounds.oldest, cursor: bounds.head });
  }

  #goLive(): void {
    this.#live = true;
    for (const audience of this.#startOf.keys()) this.#bus.attach(audience, this);
    const waiting = this.#wakeLive;
    this.#wakeLive = NOBODY;
    for (const wake of waiting) wake();
  }

  #stopLive(at: Cursor): void {
    this.#live = false;
    this.#position = at;
    for (const audience of this.#startOf.keys()) this.#bus.detach(audience, this);
  }

  #untilLive(): Promise<void> {
    if (this.#live || this.#closed) return Promise.resolve();
    return new Promise((resolve) => {
      this.#wakeLive = [...this.#wakeLive, resolve];
    });
  }

  deliver(batch: Batch): void {
    if (this.#closed || this.cutIfSlow()) return;
    if (batch.records.length > 1 && batch.bytes > this.#bus.stepBytes) {
      this.#stopLive(this.#bus.head());
      void this.#catchUp();
      return;
    }
    // The group of one record is never by itself a reason to cut a client off (protocol §4).
    this.#exemptBytes = Math.max(this.#exemptBytes, batch.largestGroupBytes);
    this.#sink.write(batch, 'live');
  }

  cutIfSlow(): boolean {
    const pending = this.#sink.pendingBytes();
    if (pending === 0) this.#exemptBytes = 0;
    if (pending <= this.#bus.maxBufferBytes + this.#exemptBytes) return false;
    this.#sink.cut();
    return true;
  }

  /** The main stream reads the log from `position` until it is live. */
  async #catchUp(): Promise<void> {
    while (!this.#closed) {
      // A place that this node's tail has not come to yet (another node's record) would be fanned out a second time.
      if (this.#position > this.#bus.head()) {
        await this.#bus.reached(this.#position);
        continue;
      }
      const turn = this.#bus.pacer.take();
      if (turn !== null) await turn;
      if (this.#closed) return;
      const begun = this.#generation;
      const audiences = [...this.#startOf.keys()];
      const near = this.#bus.recent.after(audiences, this.#position, STEP_RECORDS, this.#bus.stepBytes);
      const step = near ?? (await this.#readStore(audiences, this.#position));
      if (this.#closed) return;
      if (step === null || begun !== this.#generation) continue;
      if ('reason' in step) {
        this.#goOnFrom(step);
        continue;
      }
      const records = only(step.records, (record) => this.#isHeard(record));
      this.#position = step.position;
      if (near !== null && !near.more) {
        if (records.length > 0) this.#write(records, 'resumed');
        this.#goLive();
        return;
      }
      if (records.length > 0) await this.#paced(records, 'resumed');
    }
  }

  #goOnFrom(reset: Reset): void {
    this.#position = reset.cursor;
    for (const [room, joined] of this.#rooms) this.#rooms.set(room, { ...joined, start: reset.cursor });
    for (const audience of this.#startOf.keys()) this.#startOf.set(audience, reset.cursor);
    this.#sink.reset(reset, 'main');
  }

  async join(
    room: Room,
    audiences: readonly string[],
    after: string | null,
  ): Promise<{ start: Cursor; cursor: Cursor }> {
    const from = after === null ? null : await this.#bus.resolve(after);
    // Its connection may have ended while it waited its turn: what entered now would never leave.
    if (this.#closed) throw hasEnded();
    if (from === null) return this.#enter(room, audiences, this.#bus.head());
    const begin = () => {
      if (from.kind === 'reset' && !this.#closed) this.#sink.reset(from, 'replay');
      return this.#replay(room, audiences, from.cursor);
    };
    const replay = this.#replaying === null ? begin() : this.#replaying.then(begin);
    const ended = (): void => {
      if (this.#replaying === over) this.#replaying = null;
    };
    const over = replay.then(ended, ended);
    this.#replaying = over;
    return replay;
  }

  #enter(room: Room, audiences: readonly string[], start: Cursor): { start: Cursor; cursor: Cursor } {
    this.#rooms.set(room, { audiences, start });
    for (const audience of audiences) {
      this.#startOf.set(audience, start);
      if (this.#live) this.#bus.attach(audience, this);
    }
    return { start, cursor: this.cursor };
  }

  /**
   * Writes what the audiences got after `start` and no joined room brings, up to where the main stream is live, and
   * enters the room in the same synchronous step.
   */
  async #replay(room: Room, audiences: readonly string[], start: Cursor): Promise<{ start: Cursor; cursor: Cursor }> {
    let at = start;
    let heardFrom = start;
    const begun = this.#generation;
    while (!this.#closed) {
      // A reset told the client meanwhile that its place is gone: the room is heard from where the stream goes on.
      if (begun !== this.#generation) return this.#enter(room, audiences, this.cursor);
      if (at > this.#bus.head()) {
        await this.#bus.reached(at);
        continue;
      }
      if (!this.#live) {
        await this.#untilLive();
        continue;
      }
      const turn = this.#bus.pacer.take();
      if (turn !== null) await turn;
      if (this.#closed || !this.#live || begun !== this.#generation) continue;
      const near = this.#bus.recent.after(audiences, at, STEP_RECORDS, this.#bus.stepBytes);
      const step = near ?? (await this.#readOnce(audiences, at));
      if (this.#closed || begun !== this.#generation) continue;
      if ('reason' in step) {
        this.#sink.reset(step, 'replay');
        at = step.cursor;
        heardFrom = at;
        continue;
      }
      const records = only(step.records, (record) => !this.#isHeard(record));
      at = step.position;
      if (near !== null && !near.more) {
        if (records.length > 0) this.#write(records, 'replay');
        return this.#enter(room, audiences, heardFrom);
      }
      if (records.length > 0) await this.#paced(records, 'replay');
    }
    throw hasEnded();
  }

  /** Whether a joined room brings the record to this connection. */
  #isHeard(record: LogRecord): boolean {
    return record.audiences.some((audience) => {
      const start = this.#startOf.get(audience);
      return start !== undefined && start < record.id;
    });
  }

  #write(records: readonly LogRecord[], mode: Mode, flushed?: () => void): void {
    const batch = batchOf(records);
    if (this.#sink.pendingBytes() === 0) this.#exemptBytes = 0;
    this.#exemptBytes = Math.max(this.#exemptBytes, batch.largestGroupBytes);
    this.#sink.write(batch, mode, flushed);
    // What a replay has left waiting is not held against the client when it turns live (protocol §4), up to one budget.
    this.#exemptBytes = Math.max(this.#exemptBytes, Math.min(this.#sink.pendingBytes(), this.#bus.maxBufferBytes));
  }

  /** Writes and waits until the client has taken it; one that is far too slow is cut. */
  async #paced(records: readonly LogRecord[], mode: Mode): Promise<void> {
    let stalled: NodeJS.Timeout | undefined;
    const flushed = new Promise<void>((resolve) => this.#write(records, mode, resolve));
    const stall = new Promise<void>((resolve) => {
      stalled = setTimeout(
        () => {
          if (!this.#closed) this.#sink.cut();
          resolve();
        },
        STALL_MS + this.#sink.pendingBytes() / LEAST_BYTES_PER_MS,
      );
    });
    await Promise.race([flushed, stall, this.#aborted()]);
    clearTimeout(stalled);
  }

  /** Resolves when the subscription is closed. */
  #aborted(): Promise<void> {
    this.#closing ??= Promise.withResolvers();
    return this.#closing.promise;
  }

  async #readOnce(audiences: readonly string[], after: Cursor) {
    const page = await this.#bus.read(audiences, after, STEP_RECORDS, this.#bus.stepBytes);
    if (page.kind === 'ok') return page;
    return { reason: page.kind, after, oldest: page.oldest, cursor: page.head } satisfies Reset;
  }

  /** A log that does not answer is asked again for as long as the client stays: it is owed its records. */
  async #readStore(audiences: readonly string[], after: Cursor) {
    try {
      return await this.#readOnce(audiences, after);
    } catch (error) {
      this.#bus.logger.warn({ err: error }, 'a catching-up connection waits for the log');
      let timer: NodeJS.Timeout | undefined;
      const pause = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, RETRY_MS);
      });
      await Promise.race([pause, this.#aborted()]);
      clearTimeout(timer);
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
    for (const audience of this.#startOf.keys()) this.#bus.detach(audience, this);
    this.#bus.forget(this);
    this.#closing?.resolve();
    for (const wake of this.#wakeLive) wake();
    this.#wakeLive = NOBODY;
  }
}

/** The records that pass; the same array when all do, so that it stays shared. */
function only(records: readonly LogRecord[], passes: (record: LogRecord) => boolean): readonly LogRecord[] {
  return records.every(passes) ? records : records.filter(passes);
}

function hasEnded(): BridgeError {
  return new BridgeError('unavailable', 'The connection ended.');
}

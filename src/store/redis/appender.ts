/**
 * Appends that wait together go to Redis as one script: one round trip, and one sync of the append-only file, for many.
 *
 * What waits is bounded in events, bytes and time. A request that was never sent ends as `unavailable`; one that was
 * sent and got no answer as `outcome_unknown` (protocol §10). Whatever hangs, both come within WAIT_MS + ANSWER_MS.
 */
import { type Cursor, formatCursor } from '../../contract/cursor.ts';
import { BridgeError } from '../../contract/errors.ts';
import type { Logger } from '../../logger.ts';
import type { AppendEvent, AppendRequest, AppendResult } from '../store.ts';
import { type Connection, NotSent, Refused } from './connection.ts';
import { APPEND } from './scripts/append.ts';

/** A request may wait so long to be sent. */
const WAIT_MS = 1_500;
/** A script unanswered for so long is given up, and its connection with it. */
const ANSWER_MS = 3_000;
const SWEEP_MS = 250;
/** One script holds up other clients of Redis for a few milliseconds at most. A single request may exceed it. */
const GROUP = { events: 256, characters: 512 * 1024 };
/** Scripts on their way at once: while one is at work in Redis, the next is ready. */
const GROUPS_UNDER_WAY = 2;
/** All that waits or is under way. Past either, appends are `unavailable` at once. */
const MOST = { events: 20_000, characters: 64 * 1024 * 1024 };

export interface Appender {
  append(request: AppendRequest): Promise<AppendResult>;
  /** Milliseconds since 1970 of the newest refusal by Redis; null after a success. */
  refused(): boolean;
  /** What an attempt to write by other means found out. */
  tell(outcome: 'taken' | 'refused'): void;
  /** Refuses new requests; resolves once those there have ended. */
  close(): Promise<void>;
}

export interface AppenderOptions {
  readonly connection: Connection;
  readonly keying: string;
  readonly newEpoch: () => string;
  readonly newNonce: () => string;
  readonly encode: (event: AppendEvent, nonce: string, request: AppendRequest) => string;
  readonly logger: Logger;
}

interface Waiting {
  readonly request: AppendRequest;
  /** Nonce and record of each event. */
  readonly encoded: readonly string[];
  readonly events: number;
  readonly characters: number;
  readonly sinceMs: number;
  readonly resolve: (result: AppendResult) => void;
  readonly reject: (error: unknown) => void;
}

export function createAppender(options: AppenderOptions): Appender {
  const { connection, keying, newEpoch, logger } = options;
  let waiting: Waiting[] = [];
  let groups = 0;
  let events = 0;
  let characters = 0;
  let flushing = false;
  let isRefused = false;
  let closed: (() => void) | null = null;

  const sweeping = setInterval(sweep, SWEEP_MS);

  function sweep(): void {
    const due = performance.now() - WAIT_MS;
    const late = waiting.filter((request) => request.sinceMs <= due);
    if (late.length > 0) {
      waiting = waiting.filter((request) => request.sinceMs > due);
      for (const request of late) end(request, unavailable('The log does not answer'));
    }
    flush();
  }

  function flushSoon(): void {
    if (flushing) return;
    flushing = true;
    // After the I/O of this turn, so that what arrives together travels together.
    setImmediate(() => {
      flushing = false;
      flush();
    });
  }

  function flush(): void {
    while (waiting.length > 0 && groups < GROUPS_UNDER_WAY && connection.ready()) {
      let count = 0;
      const size = { events: 0, characters: 0 };
      for (const request of waiting) {
        size.events += request.events;
        size.characters += request.characters;
        if (count > 0 && (size.events > GROUP.events || size.characters > GROUP.characters)) break;
        count++;
      }
      void send(waiting.splice(0, count));
    }
  }

  async function send(group: readonly Waiting[]): Promise<void> {
    groups++;
    try {
      const args = [newEpoch(), keying, ...planOf(group)];
      const reply = (await connection.run(APPEND, args, ANSWER_MS)) as readonly string[];
      if (reply[0] === 'keying') throw new Refused(`the log is keyed by ${reply[1]}, this node by ${keying}`);
      tell('taken');
      const epoch = reply[1] as string;
      group.forEach((request, index) => {
        end(request, resultOf(epoch, reply[index + 2] as string));
      });
    } catch (error) {
      const failure = failureOf(error);
      for (const request of group) end(request, failure);
    } finally {
      groups--;
      flush();
    }
  }

  function failureOf(error: unknown): BridgeError {
    if (error instanceof Refused) {
      if (!isRefused) logger.error({ cause: error.message }, 'Redis does not take events');
      tell('refused');
      return unavailable('The log takes no events now', error);
    }
    if (error instanceof NotSent) return unavailable('The log cannot be reached', error);
    return new BridgeError('outcome_unknown', 'The log did not answer; repeat with the same Idempotency-Key', {
      cause: error,
    });
  }

  function tell(outcome: 'taken' | 'refused'): void {
    if (isRefused && outcome === 'taken') logger.info({}, 'Redis takes events again');
    isRefused = outcome === 'refused';
  }

  function end(request: Waiting, outcome: AppendResult | BridgeError): void {
    events -= request.events;
    characters -= request.characters;
    if (outcome instanceof BridgeError) request.reject(outcome);
    else request.resolve(outcome);
    if (events === 0) closed?.();
  }

  return {
    append(request) {
      if (closed !== null) return Promise.reject(unavailable('The log is being closed'));
      // Nobody should wait for a Redis that has been away for longer than anybody waits.
      if (connection.downForMs() > WAIT_MS) return Promise.reject(unavailable('The log cannot be reached'));
      if (events >= MOST.events || characters >= MOST.characters) {
        return Promise.reject(unavailable('Too many events wait for the log'));
      }
      const encoded: string[] = [];
      let size = 0;
      for (const event of request.events) {
        const nonce = options.newNonce();
        const record = options.encode(event, nonce, request);
        encoded.push(nonce, record);
        size += record.length;
      }
      return new Promise((resolve, reject) => {
        events += request.events.length;
        characters += size;
        const sinceMs = performance.now();
        waiting.push({ request, encoded, events: request.events.length, characters: size, sinceMs, resolve, reject });
        flushSoon();
      });
    },
    refused: () => isRefused,
    tell,
    async close() {
      await new Promise<void>((resolve) => {
        closed = resolve;
        if (events === 0) resolve();
      });
      clearInterval(sweeping);
    },
  };
}

/** A name that events point to. Its number, in the order of the list, is known once the list is complete. */
interface Place {
  number: string;
}

/** Names by tenant, each once. */
function createNames() {
  const byTenant = new Map<string, Map<string, Place>>();
  return {
    place(tenantId: string, name: string): Place {
      const names = byTenant.get(tenantId) ?? new Map<string, Place>();
      const place = names.get(name) ?? { number: '' };
      byTenant.set(tenantId, names.set(name, place));
      return place;
    },
    /** Numbers the places. The number of tenants; each: tenant, number of names, the names. */
    list(): string[] {
      const args = [String(byTenant.size)];
      let number = 0;
      for (const [tenantId, names] of byTenant) {
        args.push(tenantId, String(names.size));
        for (const [name, place] of names) {
          place.number = String(++number);
          args.push(name);
        }
      }
      return args;
    },
  };
}

/**
 * The arguments of APPEND. What several events of a group name, such as a room, is named once, and the events point to
 * it: grouping is cheap here and dear in Lua, where it would hold up all of Redis.
 */
function planOf(group: readonly Waiting[]): string[] {
  const dedupe = createNames();
  const tickets = createNames();
  const rooms = createNames();
  const tail: (string | Place)[] = [String(group.length)];
  for (const { request, encoded } of group) {
    const { idempotency, acceptedAtMs, events } = request;
    const moment = String(acceptedAtMs).padStart(16, '0');
    tail.push(idempotency?.key ?? '', idempotency?.fingerprint ?? '', moment, String(events.length));
    const size = tail.push('') - 1;
    events.forEach((event, index) => {
      const { tenantId, ticket, message, audiences } = event;
      tail.push(encoded[2 * index] as string, encoded[2 * index + 1] as string, ticket ? 't' : message ? 'm' : '');
      tail.push(String(audiences.length));
      for (const audience of audiences) tail.push(rooms.place('', audience));
      if (ticket) {
        tail.push(tickets.place(tenantId, ticket.ticketId));
        tail.push(ticket.agreementId ?? '', ticket.status, ticket.updatedAt);
      } else if (message) {
        const { ticketId, messageId, providerMessageId } = message;
        tail.push(tickets.place(tenantId, ticketId));
        tail.push(messageId ? dedupe.place(tenantId, `m,${idText(messageId)}`) : '0');
        tail.push(providerMessageId ? dedupe.place(tenantId, `p,${ticketId},${idText(providerMessageId)}`) : '0');
      }
    });
    tail[size] = String(tail.length - size - 1);
  }
  const args = [...dedupe.list(), ...tickets.list(), ...rooms.list()];
  for (const arg of tail) args.push(typeof arg === 'string' ? arg : arg.number);
  return args;
}

/** Lone surrogates have no UTF-8: two ids that differ in them only must not become one. */
export function idText(id: string): string {
  return id.isWellFormed() ? id : JSON.stringify(id);
}

/** `conflict`, or lines: `repeat` or a mark per event (`+` new, `=` repeat), then `{seq} {nonce}` of each. */
function resultOf(epoch: string, text: string): AppendResult {
  if (text === 'conflict') return { kind: 'conflict' };
  const [marks, ...places] = text.split('\n') as [string, ...string[]];
  const events = places.map((place, index) => ({
    id: cursorAt(epoch, place),
    duplicate: marks === 'repeat' || marks[index] === '=',
  }));
  return { kind: 'appended', events, durableAtMs: performance.now() };
}

function cursorAt(epoch: string, place: string): Cursor {
  const space = place.indexOf(' ');
  return formatCursor({ epoch, seq: Number(place.slice(0, space)), nonce: place.slice(space + 1) });
}

function unavailable(message: string, cause?: unknown): BridgeError {
  return new BridgeError('unavailable', message, { cause });
}

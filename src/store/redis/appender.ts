/**
 * Appends requests in groups: each group is one script, one round trip, and one sync of the append-only file.
 *
 * The queue is bounded in events, characters and time. A request that was never sent fails with `unavailable`. A request
 * that was sent but not answered fails with `outcome_unknown` (protocol §10), at the latest after WAIT_MS + ANSWER_MS.
 */
import { hash } from 'node:crypto';
import { formatCursor } from '../../contract/cursor.ts';
import { BridgeError } from '../../contract/errors.ts';
import { formatRoom, type Room } from '../../contract/rooms.ts';
import type { AppendEvent, AppendedEvent, AppendRequest, AppendResult } from '../store.ts';
import { unavailable } from './calls.ts';
import { type Context, NotSent, Refused } from './connection.ts';
import { openArgv } from './log.ts';
import { encodeRecord, idText, kindOf, listsOf, randomText } from './record.ts';
import { defineScript } from './script.ts';

/** How long a request may wait to be sent. */
const WAIT_MS = 1_500;
/** If a script gets no answer for this long, its connection is replaced. */
const ANSWER_MS = 3_000;
const SWEEP_MS = 250;
/** A script of this size blocks Redis for a few milliseconds. A single request may exceed it. */
const MAX_GROUP = { events: 256, characters: 512 * 1024 };
/** While Redis runs one script, the next is on its way. */
const MAX_GROUPS_SENT = 2;
/** Requests that wait or were sent. Past either bound, appends fail at once with `unavailable`. */
const MAX_PENDING = { events: 20_000, characters: 64 * 1024 * 1024 };

export interface Appender {
  append(request: AppendRequest): Promise<AppendResult>;
  /** Whether Redis refused the latest write. */
  /** Why Redis refuses events, in its own words; null if it accepts them. */
  refusal(): string | null;
  /** For writes outside of `append`, such as the test writes of health.ts. */
  noteAccepted(): void;
  noteRefused(cause: string): void;
  /** Refuses new requests; resolves when all earlier requests have ended. */
  close(): Promise<void>;
}

interface PendingRequest {
  readonly request: AppendRequest;
  /** One per event. */
  readonly nonces: readonly string[];
  readonly records: readonly ReturnType<typeof encodeRecord>[];
  readonly characters: number;
  readonly sinceMs: number;
  readonly resolve: (result: AppendResult) => void;
  readonly reject: (error: unknown) => void;
}

const APPEND = defineScript('append', buildArguments, (reply) => {
  const [kind, value, ...answers] = reply as [kind: 'ok' | 'keying', value: string, ...answers: string[]];
  if (kind === 'keying') throw new Refused(`the log is keyed by ${value}; use the same AUTH_MODE on all nodes`);
  return answers.map((answer) => (appended: AppendRequest) => parseResult(value, answer, appended));
});

export function createAppender({ writer, settings, logger }: Context): Appender {
  const waiting: PendingRequest[] = [];
  let groupsSent = 0;
  let events = 0;
  let characters = 0;
  let flushing = false;
  let refusal: string | null = null;
  let onIdle: (() => void) | null = null;

  const sweeping = setInterval(sweep, SWEEP_MS);

  function sweep(): void {
    const due = performance.now() - WAIT_MS;
    // Oldest first.
    const firstInTime = waiting.findIndex(({ sinceMs }) => sinceMs > due);
    const late = waiting.splice(0, firstInTime === -1 ? waiting.length : firstInTime);
    for (const pending of late) end(pending, unavailable('The log did not answer in time'));
    flush();
  }

  function scheduleFlush(): void {
    if (flushing) return;
    flushing = true;
    // After the I/O of this event-loop turn, so that requests that arrive together are sent together.
    setImmediate(() => {
      flushing = false;
      flush();
    });
  }

  function flush(): void {
    while (waiting.length > 0 && groupsSent < MAX_GROUPS_SENT && writer.ready()) {
      let count = 0;
      const size = { events: 0, characters: 0 };
      for (const pending of waiting) {
        size.events += pending.request.events.length;
        size.characters += pending.characters;
        if (count > 0 && (size.events > MAX_GROUP.events || size.characters > MAX_GROUP.characters)) break;
        count++;
      }
      void send(waiting.splice(0, count));
    }
  }

  async function send(requests: readonly PendingRequest[]): Promise<void> {
    groupsSent++;
    try {
      const results = await writer.run(APPEND, { keying: settings.keying, requests }, ANSWER_MS);
      noteAccepted();
      requests.forEach((pending, index) => {
        end(pending, (results[index] as (request: AppendRequest) => AppendResult)(pending.request));
      });
    } catch (error) {
      const failure = failureOf(error);
      for (const pending of requests) end(pending, failure);
    } finally {
      groupsSent--;
      flush();
    }
  }

  function failureOf(error: unknown): BridgeError {
    if (error instanceof NotSent) return unavailable('The log cannot be reached', error);
    if (error instanceof Refused) {
      noteRefused(error.message);
      return unavailable('The log does not accept events at the moment', error);
    }
    const message = 'The log did not answer. Repeat the request with the same Idempotency-Key.';
    return new BridgeError('outcome_unknown', message, { cause: error });
  }

  function noteAccepted(): void {
    if (refusal !== null) logger.info({}, 'Redis accepts events again');
    refusal = null;
  }

  function noteRefused(cause: string): void {
    if (refusal === null) {
      logger.error({ cause }, 'Redis refuses events; publishers get 503 until it accepts them again');
    }
    refusal = cause;
  }

  function end(pending: PendingRequest, outcome: AppendResult | BridgeError): void {
    events -= pending.request.events.length;
    characters -= pending.characters;
    if (outcome instanceof BridgeError) pending.reject(outcome);
    else pending.resolve(outcome);
    if (events === 0) onIdle?.();
  }

  return {
    append(asked) {
      if (onIdle !== null) return Promise.reject(unavailable('The log is closing'));
      // A request cannot succeed if Redis has been away for longer than the request may wait.
      if (writer.downForMs() > WAIT_MS) return Promise.reject(unavailable('The log cannot be reached'));
      if (events >= MAX_PENDING.events || characters >= MAX_PENDING.characters) {
        return Promise.reject(unavailable('Too many events are waiting for the log'));
      }
      const request = { ...asked, idempotency: hashKey(asked.idempotency) };
      const nonces = request.events.map(() => randomText(4));
      const records = request.events.map((event, index) => encodeRecord(event, nonces[index] as string, request));
      const size = records.flat().reduce((sum, part) => sum + part.length, 0);
      return new Promise((resolve, reject) => {
        events += records.length;
        characters += size;
        const sinceMs = performance.now();
        waiting.push({ request, nonces, records, characters: size, sinceMs, resolve, reject });
        scheduleFlush();
      });
    },
    refusal: () => refusal,
    noteAccepted,
    noteRefused,
    async close() {
      await new Promise<void>((resolve) => {
        onIdle = resolve;
        if (events === 0) resolve();
      });
      clearInterval(sweeping);
    },
  };
}

/** An entry may outlive an erasure, and the key names its publisher's tenants. */
function hashKey(idempotency: AppendRequest['idempotency']): AppendRequest['idempotency'] {
  return idempotency && { ...idempotency, key: hash('sha256', idempotency.key, 'base64url') };
}

/** A reference to a name. Its number, in the order of the list of names, is known once the list is complete. */
interface NameReference {
  number: string;
}

/** Names by tenant, each once. */
function createNames() {
  const byTenant = new Map<string, Map<string, NameReference>>();
  return {
    refer(tenantId: string, name: string): NameReference {
      const names = byTenant.get(tenantId) ?? new Map<string, NameReference>();
      const reference = names.get(name) ?? { number: '' };
      byTenant.set(tenantId, names.set(name, reference));
      return reference;
    },
    /** Numbers the references. Returns the number of tenants; per tenant its id, the number of names, the names. */
    list(): string[] {
      const args = [String(byTenant.size)];
      let number = 0;
      for (const [tenantId, names] of byTenant) {
        args.push(tenantId, String(names.size));
        for (const [name, reference] of names) {
          reference.number = String(++number);
          args.push(name);
        }
      }
      return args;
    },
  };
}

/** scripts/append.lua documents the order. Each name appears once: grouping is cheap here but holds up Redis there. */
function buildArguments(group: { readonly keying: string; readonly requests: readonly PendingRequest[] }): string[] {
  const dedupe = createNames();
  const tickets = createNames();
  const rooms = createNames();
  const requestArgs: (string | NameReference)[] = [String(group.requests.length)];
  for (const { request, nonces, records } of group.requests) {
    const { idempotency, acceptedAtMs, events } = request;
    const moment = String(acceptedAtMs).padStart(16, '0');
    requestArgs.push(idempotency?.key ?? '', idempotency?.fingerprint ?? '', moment, String(events.length));
    const sizeIndex = requestArgs.push('') - 1;
    events.forEach((event, index) => {
      const { tenantId, ticketId, ticket, message } = event;
      const [head, audience, rest] = records[index] as ReturnType<typeof encodeRecord>;
      const kind = kindOf(event);
      const lists = listsOf(event);
      requestArgs.push(nonces[index] as string, kind === 'c' ? head : head + audience + rest, kind);
      requestArgs.push(String(lists.length));
      for (const list of lists) requestArgs.push(rooms.refer('', list));
      if (ticket) {
        requestArgs.push(tickets.refer(tenantId, ticketId ?? ''));
        requestArgs.push(ticket.agreementId ?? '', otherRooms(event), ticket.status, ticket.updatedAt);
      } else if (message) {
        const { messageId, providerMessageId, change, updatedAtMs, statusRank } = message;
        requestArgs.push(tickets.refer(tenantId, ticketId ?? ''));
        requestArgs.push(messageId ? dedupe.refer(tenantId, `i,${ticketId},${idText(messageId)}`) : '0');
        requestArgs.push(
          providerMessageId ? dedupe.refer(tenantId, `p,${ticketId},${idText(providerMessageId)}`) : '0',
        );
        if (change === 'new') return;
        requestArgs.push(event.roomsAreNamed ? '1' : '', change === 'deleted' ? 'd' : 'u');
        requestArgs.push(String(updatedAtMs), String(statusRank), digestOf(event), audience, rest);
      }
    });
    requestArgs[sizeIndex] = String(requestArgs.length - sizeIndex - 1);
  }
  const args = [...openArgv(group.keying), ...dedupe.list(), ...tickets.list(), ...rooms.list()];
  for (const arg of requestArgs) args.push(typeof arg === 'string' ? arg : arg.number);
  return args;
}

/** The rooms of a ticket, each after a space; '' if they are just those of its ids (scripts/prelude/keys.lua). */
function otherRooms({ tenantId, ticketId, ticket, rooms }: AppendEvent): string {
  const own = [formatRoom('tenant', tenantId), formatRoom('ticket', ticketId ?? '')];
  if (ticket?.agreementId) own.push(formatRoom('agreement', ticket.agreementId));
  const isOwn = rooms.length === own.length && own.every((room) => rooms.includes(room));
  return isOwn ? '' : rooms.map((room) => ` ${room}`).join('');
}

/** What makes a change of a message a repeat, but for its rooms. A hash, because it may outlive an erasure. */
const digestOf = ({ tenantId, event, payload }: AppendEvent): string =>
  hash('sha256', `${tenantId}\n${event}\n${payload}`, 'base64url');

function parseResult(epoch: string, answer: string, { events: appended }: AppendRequest): AppendResult {
  if (answer === 'conflict') return { kind: 'conflict' };
  const [marks, ...ids] = answer.split('\n') as [string, ...string[]];
  const events = ids.map((text, index): AppendedEvent => {
    const [seq = '', nonce = ''] = text.split(' ', 2);
    const id = formatCursor({ epoch, seq: Number(seq), nonce });
    const rooms = text.slice(seq.length + nonce.length + 2);
    const own = (appended[index] as AppendEvent).rooms;
    return {
      id,
      duplicate: marks === 'repeat' || marks[index] === '=',
      rooms: rooms === '' ? own : (JSON.parse(rooms) as Room[]),
    };
  });
  return { kind: 'appended', events, durableAtMs: performance.now() };
}

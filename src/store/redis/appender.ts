/**
 * Appends requests in groups: each group is one script, one round trip, and one sync of the append-only file.
 *
 * The queue is bounded in events, characters and time. A request that was never sent fails with `unavailable`; one that
 * was sent and got no answer fails with `outcome_unknown` (protocol §10), at the latest after WAIT_MS + ANSWER_MS.
 */
import { BridgeError } from '../../contract/errors.ts';
import type { AppendRequest, AppendResult } from '../store.ts';
import { APPEND, type EncodedRequest } from './append.ts';
import { type Context, NotSent, Refused } from './connection.ts';
import { keyingMismatch } from './log.ts';
import { encodeRecord, randomText } from './record.ts';

/** How long a request may wait to be sent. */
const WAIT_MS = 1_500;
/** A script that gets no answer for so long is given up, and its connection is replaced. */
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
  isRefused(): boolean;
  /** For writes by other means than `append`. */
  noteAccepted(): void;
  noteRefused(cause: string): void;
  /** Refuses new requests; resolves when all earlier requests have ended. */
  close(): Promise<void>;
}

interface PendingRequest extends EncodedRequest {
  readonly events: number;
  readonly characters: number;
  readonly sinceMs: number;
  readonly resolve: (result: AppendResult) => void;
  readonly reject: (error: unknown) => void;
}

export function createAppender({ writer, keying, logger }: Context): Appender {
  let waiting: PendingRequest[] = [];
  let groupsSent = 0;
  let events = 0;
  let characters = 0;
  let flushScheduled = false;
  let isRefused = false;
  let onIdle: (() => void) | null = null;

  const sweeping = setInterval(sweep, SWEEP_MS);

  function sweep(): void {
    const due = performance.now() - WAIT_MS;
    const late = waiting.filter((request) => request.sinceMs <= due);
    if (late.length > 0) {
      waiting = waiting.filter((request) => request.sinceMs > due);
      for (const request of late) end(request, unavailable('The log did not answer in time'));
    }
    flush();
  }

  function scheduleFlush(): void {
    if (flushScheduled) return;
    flushScheduled = true;
    // After the I/O of this event-loop turn, so that requests that arrive together are sent together.
    setImmediate(() => {
      flushScheduled = false;
      flush();
    });
  }

  function flush(): void {
    while (waiting.length > 0 && groupsSent < MAX_GROUPS_SENT && writer.ready()) {
      let count = 0;
      const size = { events: 0, characters: 0 };
      for (const request of waiting) {
        size.events += request.events;
        size.characters += request.characters;
        if (count > 0 && (size.events > MAX_GROUP.events || size.characters > MAX_GROUP.characters)) break;
        count++;
      }
      void send(waiting.splice(0, count));
    }
  }

  async function send(requests: readonly PendingRequest[]): Promise<void> {
    groupsSent++;
    try {
      const reply = await writer.run(APPEND, { keying, requests }, ANSWER_MS);
      if (reply.kind === 'keying') throw new Refused(`Redis ${keyingMismatch(reply.keying, keying)}`);
      noteAccepted();
      requests.forEach((request, index) => {
        end(request, reply.results[index] as AppendResult);
      });
    } catch (error) {
      const failure = failureOf(error);
      for (const request of requests) end(request, failure);
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
    if (isRefused) logger.info({}, 'Redis accepts events again');
    isRefused = false;
  }

  function noteRefused(cause: string): void {
    if (!isRefused) logger.error({ cause }, 'Redis refuses events; publishers get 503 until it accepts them again');
    isRefused = true;
  }

  function end(request: PendingRequest, outcome: AppendResult | BridgeError): void {
    events -= request.events;
    characters -= request.characters;
    if (outcome instanceof BridgeError) request.reject(outcome);
    else request.resolve(outcome);
    if (events === 0) onIdle?.();
  }

  return {
    append(request) {
      if (onIdle !== null) return Promise.reject(unavailable('The log is closing'));
      // A request cannot succeed if Redis has been away for longer than the request may wait.
      if (writer.downForMs() > WAIT_MS) return Promise.reject(unavailable('The log cannot be reached'));
      if (events >= MAX_PENDING.events || characters >= MAX_PENDING.characters) {
        return Promise.reject(unavailable('Too many events are waiting for the log'));
      }
      const encoded: string[] = [];
      let size = 0;
      for (const event of request.events) {
        const nonce = randomText(4);
        const record = encodeRecord(event, nonce, request);
        encoded.push(nonce, record);
        size += record.length;
      }
      return new Promise((resolve, reject) => {
        events += request.events.length;
        characters += size;
        const sinceMs = performance.now();
        waiting.push({ request, encoded, events: request.events.length, characters: size, sinceMs, resolve, reject });
        scheduleFlush();
      });
    },
    isRefused: () => isRefused,
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

function unavailable(message: string, cause?: unknown): BridgeError {
  return new BridgeError('unavailable', `${message}. Nothing was accepted; try again.`, { cause });
}

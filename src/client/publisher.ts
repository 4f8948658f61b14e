/**
 * `@roomcast/client/publisher`: publish from another program over HTTP. Each event reaches the log once and in order, or its
 * `publish` rejects.
 *
 *   const publisher = createPublisher({ url, token });
 *   await publisher.publish('messages.new', payload);
 *
 * One request is in flight at a time; the events that you publish meanwhile share the next one. Every request carries an
 * Idempotency-Key, so a repeat never writes an event twice. The queue is bounded. For Node 20 or newer, and for any
 * other runtime with `fetch`.
 */
import { IDEMPOTENCY_KEY, IDEMPOTENCY_KEY_RULE, MAX_BATCH } from '../contract/publishing.ts';
import { createHttp, type RoomcastError, requireList, type Token } from './http.ts';
import { atLeast, checkOptions, type Rule, TOKEN_RULE, URL_RULE } from './options.ts';
import { sendPendingEmits } from './pending-emits.ts';
import { PublishError } from './publish-error.ts';
import { backoff, MAX_TIMER_MS, pause } from './retry.ts';

export {
  createEmitter,
  type Emission,
  type EmitOptions,
  type EmitTarget,
  type Emitter,
  type EmitterOptions,
} from './emitter.ts';
export { PublishError } from './publish-error.ts';

export interface PublisherOptions {
  /** The bridge's address, with its base path if it has one. */
  readonly url: string;
  /** A token with the scope `publish`. A function is called again when its token is refused. */
  readonly token?: Token;
  /** Events that may wait. When it is full, `publish` rejects with `queue_full`. Default 10000. */
  readonly maxQueue?: number;
  /** Events in one request, 1 to 1000. Default 500. */
  readonly maxBatch?: number;
  /** Characters of JSON in one request of several events; the server accepts `MAX_BODY_BYTES`. Default 250000. */
  readonly maxBatchChars?: number;
  /** How long a request is retried before its events fail. Default 60000. */
  readonly retryMs?: number;
  /** For one attempt, and for the token function. The server answers within 5 s even if its log hangs. Default 10000. */
  readonly timeoutMs?: number;
}

export interface PublishOptions {
  /** Who hears the event, in place of the rooms that its payload gives: 1 to 100 names, such as `user:ana` (protocol §9). */
  readonly rooms?: readonly string[] | null;
  /** The tenant of a payload without `tenantId`; with one, a check: the bridge refuses the event if they differ. */
  readonly tenantId?: string | number | null;
  /**
   * For repeats of your own, such as a job that runs again: 1 to 255 visible ASCII characters. The event gets a request
   * to itself.
   */
  readonly idempotencyKey?: string;
}

export interface SignalOptions {
  /** When it ends if it is not sent again: 1 to 120 seconds, default 10; 0 ends it now. */
  readonly ttlSeconds?: number;
  /** Required if your token names several tenants, or `*`. */
  readonly tenantId?: string | number | null;
}

export interface Published {
  /** The record's cursor. */
  readonly id: string;
  readonly event: string;
  readonly rooms: readonly string[];
  /** Whether the log already had the record. */
  readonly duplicate: boolean;
}

export interface Publisher {
  /**
   * Resolves when the log holds the event durably. The payload is serialised at once; you may change it afterwards.
   * @throws {PublishError} `invalid_payload`, `forbidden`, …: refused. `queue_full`, `closed`: never sent. `unavailable`:
   * the retries ended. `unreachable`, `timeout`, `outcome_unknown`, …: the retries ended, and the log may hold the event
   */
  publish(event: string, payload: object, options?: PublishOptions): Promise<Published>;
  /**
   * Sends a signal to a room (protocol §14), such as "the customer is typing". It does not wait behind events, and it is not
   * repeated: what comes late is wrong. Resolves to the number of its listeners on the node that answers.
   * @throws {PublishError} `unknown_event`, `invalid_signal`, `forbidden`, `rate_limited`, `closed`, `unreachable`, …
   */
  signal(
    event: string,
    room: string,
    payload?: object,
    options?: SignalOptions,
  ): Promise<{ readonly listeners: number }>;
  /** Resolves when every event that was published before is in the log or has failed. */
  flush(): Promise<void>;
  /** Accepts no more events and sends the queue. Events that are left after `withinMs` (default 5000) fail. */
  close(withinMs?: number): Promise<void>;
  /** Events that are neither in the log nor failed. */
  readonly pending: number;
}

const DEFAULT_QUEUE = 10_000;
const DEFAULT_BATCH = 500;
const DEFAULT_BATCH_CHARS = 250_000;
const RETRY_MS = 60_000;
const TIMEOUT_MS = 10_000;
const CLOSE_MS = 5_000;
const MAX_BACKOFF_MS = 10_000;
const BACKOFF_BASE_MS = 200;

const RULES: Readonly<Record<keyof PublisherOptions, Rule>> = {
  url: URL_RULE,
  token: TOKEN_RULE,
  maxQueue: /* @__PURE__ */ atLeast(1),
  maxBatch: [
    (value) => Number.isInteger(value) && Number(value) >= 1 && Number(value) <= MAX_BATCH,
    `a whole number from 1 to ${MAX_BATCH}`,
  ],
  maxBatchChars: /* @__PURE__ */ atLeast(1),
  retryMs: /* @__PURE__ */ atLeast(0),
  timeoutMs: /* @__PURE__ */ atLeast(1),
};
const ANY: Rule = [() => true, ''];
/** An invalid value is a `PublishError`, because these come from data. */
const PUBLISH_RULES: Readonly<Record<keyof PublishOptions, Rule>> = { rooms: ANY, tenantId: ANY, idempotencyKey: ANY };
const SIGNAL_RULES: Readonly<Record<keyof SignalOptions, Rule>> = { ttlSeconds: ANY, tenantId: ANY };

interface Item {
  /** `{"event":…,"payload":…,"tenantId":…,"rooms":…}`, the last two if given. */
  readonly text: string;
  readonly key: string | null;
  resolve(published: Published): void;
  reject(error: PublishError): void;
}

/** The result of one attempt. `retry`: the same request may succeed later. */
type Outcome =
  | { readonly kind: 'done'; readonly results: readonly Published[] }
  | { readonly kind: 'refused' | 'retry'; readonly error: PublishError; readonly retryAfterMs: number };

/** @throws {TypeError} an option that is unknown or has the wrong form */
export function createPublisher(options: PublisherOptions): Publisher {
  checkOptions(options, RULES);
  const { url, token, retryMs = RETRY_MS, timeoutMs = TIMEOUT_MS } = options;
  const { maxQueue = DEFAULT_QUEUE, maxBatch = DEFAULT_BATCH, maxBatchChars = DEFAULT_BATCH_CHARS } = options;
  const http = createHttp(url, token, { maxTokenMs: timeoutMs, init: {} });
  const aborter = new AbortController();
  const { signal } = aborter;
  const queue: Item[] = [];
  let inFlight = 0;
  let isClosed = false;
  let isSending = false;
  /** Resolves when the newest event is in the log or has failed. Events go out in order, so all others are done too. */
  let newest: Promise<void> = Promise.resolve();

  /** @throws {PublishError} `closed`, `queue_full`, `invalid_request`; a TypeError if the payload is not JSON */
  function serialise(event: string, payload: object, { idempotencyKey: key, rooms, tenantId }: PublishOptions) {
    if (isClosed) throw closed();
    // `fetch` cannot send some of these keys, and its error would look as if the bridge were unreachable.
    if (key !== undefined && !IDEMPOTENCY_KEY.test(key)) {
      throw new PublishError('invalid_request', `idempotencyKey ${IDEMPOTENCY_KEY_RULE}.`);
    }
    if (queue.length >= maxQueue) {
      throw new PublishError(
        'queue_full',
        `The queue is full: ${queue.length} events wait, and maxQueue is ${maxQueue}.`,
      );
    }
    return JSON.stringify({ event, payload, tenantId, rooms });
  }

  async function sendAll(): Promise<void> {
    isSending = true;
    // Events that are published in the same turn share a request.
    await null;
    while (queue.length > 0) {
      const items = nextBatch();
      inFlight = items.length;
      await send(items);
      inFlight = 0;
    }
    isSending = false;
  }

  function nextBatch(): Item[] {
    let chars = 0;
    let count = 0;
    for (const { text, key } of queue) {
      chars += text.length;
      if (count > 0 && (key !== null || count === maxBatch || chars > maxBatchChars)) break;
      count++;
      if (key !== null) break;
    }
    return queue.splice(0, count);
  }

  /** A batch is all or nothing: one that is refused is sent in halves, so that only the invalid events fail. */
  async function send(items: readonly Item[]): Promise<void> {
    const outcome = await sendWithRetries(items);
    if (outcome.kind === 'done') {
      for (const [index, item] of items.entries()) item.resolve(outcome.results[index] as Published);
    } else if (outcome.kind === 'refused' && items.length > 1 && outcome.error.status !== 401) {
      const middle = Math.ceil(items.length / 2);
      await send(items.slice(0, middle));
      await send(items.slice(middle));
    } else {
      for (const item of items) item.reject(outcome.error);
    }
  }

  /** Sends the same bytes under the same key until there is an answer or the time is up. */
  async function sendWithRetries(items: readonly Item[]): Promise<Outcome> {
    const [first] = items as readonly [Item];
    const body = items.length === 1 ? first.text : `{"events":[${items.map(({ text }) => text).join()}]}`;
    const key = first.key ?? crypto.randomUUID();
    const deadlineMs = performance.now() + retryMs;
    let mayBeWritten = false;
    for (let failures = 1; ; failures++) {
      if (signal.aborted) return givenUp(mayBeWritten ? unknown() : closed());
      const outcome = await attempt(body, key, items.length);
      if (outcome.kind === 'done') return outcome;
      const { error, retryAfterMs } = outcome;
      mayBeWritten ||= hasUnknownOutcome(error);
      const last = mayBeWritten && !hasUnknownOutcome(error) ? givenUp(unknown(error)) : outcome;
      // The bridge checks the token before the key, so a refused token says nothing about an earlier attempt.
      if (outcome.kind === 'refused') return [401, 403].includes(error.status) ? last : outcome;
      const waitMs = Math.max(retryAfterMs, backoff(failures, MAX_BACKOFF_MS, BACKOFF_BASE_MS));
      const leftMs = deadlineMs - performance.now();
      // Wait even if no attempt follows: the next batch must not come sooner than the server asked.
      await pause(Math.min(waitMs, Math.max(0, leftMs)), signal);
      if (waitMs > leftMs) return last;
    }
  }

  async function attempt(body: string, key: string, count: number): Promise<Outcome> {
    const headers = { 'content-type': 'application/json', 'idempotency-key': key };
    try {
      const answer = await http.json('events', { method: 'POST', body, headers, signal, timeoutMs });
      return { kind: 'done', results: resultsOf(answer, count) };
    } catch (thrown) {
      const { status, passing, retryAfterMs } = thrown as RoomcastError;
      const error = publishErrorOf(thrown as RoomcastError);
      // A proxy that finds a batch too large will not change its mind, but may let the halves through.
      return { kind: passing && status !== 413 ? 'retry' : 'refused', error, retryAfterMs };
    }
  }

  const publisher: Publisher = {
    publish(event, payload, publishOptions = {}) {
      const { idempotencyKey: key = null } = publishOptions;
      let text: string;
      try {
        checkOptions(publishOptions, PUBLISH_RULES);
        text = serialise(event, payload, publishOptions);
      } catch (error) {
        return Promise.reject(error);
      }
      const published = new Promise<Published>((resolve, reject) => {
        queue.push({ text, key, resolve, reject });
      });
      newest = published.then(
        () => {},
        () => {}, // the caller of `publish` gets it
      );
      if (!isSending) void sendAll();
      return published;
    },
    async signal(event, room, payload = {}, signalOptions = {}) {
      checkOptions(signalOptions, SIGNAL_RULES);
      if (isClosed) throw closed();
      try {
        const answer = await http.json('signals', {
          method: 'POST',
          body: JSON.stringify({ ...signalOptions, event, room, payload }),
          headers: { 'content-type': 'application/json' },
          ...{ signal, timeoutMs },
        });
        return answer as { listeners: number };
      } catch (error) {
        throw publishErrorOf(error as RoomcastError);
      }
    },
    flush() {
      sendPendingEmits(publisher);
      return newest;
    },
    async close(withinMs = CLOSE_MS) {
      sendPendingEmits(publisher);
      isClosed = true;
      const timer = setTimeout(() => aborter.abort(), Math.min(MAX_TIMER_MS, withinMs));
      await newest;
      clearTimeout(timer);
    },
    get pending() {
      return queue.length + inFlight;
    },
  };
  return publisher;
}

const publishErrorOf = ({ code, message, status, problem, cause }: RoomcastError): PublishError =>
  new PublishError(code, message, { status, errors: problem.errors, cause });
const closed = (): PublishError => new PublishError('closed', 'The publisher is closed.');
const unknown = (cause?: PublishError): PublishError =>
  new PublishError(
    'outcome_unknown',
    'The retries ended after an attempt without an answer: the log may hold the event.',
    {
      cause,
    },
  );
const givenUp = (error: PublishError): Outcome => ({ kind: 'retry', error, retryAfterMs: 0 });

/** Whether the log may hold what was sent: the bridge itself did not say that it does not. */
function hasUnknownOutcome({ code }: PublishError): boolean {
  return /^(unreachable|timeout|outcome_unknown|internal|http_.*)$/.test(code);
}

/** @throws {RoomcastError} `unreachable`: something between answered in the bridge's place */
function resultsOf(answer: unknown, count: number): readonly Published[] {
  const { results } = requireList<{ readonly results: readonly Published[] }>(
    'results',
    count === 1 ? { results: [answer] } : answer,
  );
  if (results.length === count && results.every((result) => typeof result?.id === 'string')) return results;
  return requireList('results', null);
}

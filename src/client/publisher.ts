/**
 * `roomcast/publisher`: publish from another program over HTTP. Each event reaches the log once and in order, or the
 * caller is told that it did not.
 *
 *   const publisher = createPublisher({ url, token });
 *   await publisher.publish('messages.new', payload);
 *
 * One request is under way at a time; what is published meanwhile waits, and goes together in the next. Every request
 * has an Idempotency-Key, so that repeating one whose outcome is not known never doubles. The queue is bounded.
 * For Node 20 or newer, whose `fetch` keeps connections alive, and for whatever else has `fetch`.
 */
import { IDEMPOTENCY_KEY, IDEMPOTENCY_KEY_RULE } from '../contract/publishing.ts';

export interface PublisherOptions {
  /** Where the bridge is, with its base path when it has one. */
  readonly url: string;
  /** With the scope `publish`. A function is called again when a token is refused. */
  readonly token?: string | (() => string | Promise<string>);
  /** Events that may wait. Past it `publish` rejects with `queue_full`. Default 10000. */
  readonly maxQueue?: number;
  /** Events in one request, 1 to 1000. Default 500. */
  readonly maxBatch?: number;
  /** Characters of JSON in one request of several; the server takes `MAX_BODY_BYTES`. Default 250000. */
  readonly maxBatchChars?: number;
  /** How long a request is repeated before its events are given up. Default 60000. */
  readonly retryMs?: number;
  /** For one attempt, and for the function that gives its token. The server answers within 5 s also when its log hangs. Default 10000. */
  readonly timeoutMs?: number;
}

export interface PublishOptions {
  /**
   * For repeats of the caller's own, such as a job that runs again: 1 to 255 visible ASCII characters. The event then goes
   * in a request of its own.
   */
  readonly idempotencyKey?: string;
}

export interface Published {
  /** The record's cursor. */
  readonly id: string;
  readonly event: string;
  readonly rooms: readonly string[];
  /** The log had it already. */
  readonly duplicate: boolean;
}

export interface Publisher {
  /**
   * Resolves once the log holds the event durably. The payload is taken as it is now.
   * @throws {PublishError} `invalid_payload`, `forbidden`, …: refused; `queue_full`, `closed`: never sent; and when it
   * was given up, why the last attempt failed: `unavailable`; or `unreachable`, `timeout`, `outcome_unknown`, …, after
   * which it may yet appear
   */
  publish(event: string, payload: object, options?: PublishOptions): Promise<Published>;
  /** Resolves once all that was published before is in the log, or has failed. */
  flush(): Promise<void>;
  /** Takes no more, and sends what waits; what is not through within `withinMs` (default 5000) fails. */
  close(withinMs?: number): Promise<void>;
  /** Events that are not through yet. */
  readonly pending: number;
}

/** `code` is the bridge's (protocol §10), or `unreachable`, `timeout`, `token`, `queue_full`, `closed`. */
export class PublishError extends Error {
  readonly code: string;
  readonly status: number;
  /** The fields at fault, as JSON Pointers into the event. */
  readonly errors: readonly { readonly path: string; readonly message: string }[];

  constructor(code: string, message: string, options: { status?: number; errors?: unknown; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.name = 'PublishError';
    this.code = code;
    this.status = options.status ?? 0;
    this.errors = Array.isArray(options.errors) ? options.errors : [];
  }
}

const MOST_QUEUE = 10_000;
const MOST_BATCH = 500;
const MOST_BATCH_CHARS = 250_000;
const RETRY_MS = 60_000;
const TIMEOUT_MS = 10_000;
const CLOSE_MS = 5_000;
/** Full jitter: from nothing up to 0.2 s after the first failure, 0.4 s after the second, and so on up to 10 s. */
const BACKOFF_MS = 200;
const MOST_BACKOFF_MS = 10_000;
/** What a timer takes; beyond it fires at once. */
const LONGEST_MS = 2 ** 31 - 1;

interface Item {
  /** `{"event":…,"payload":…}` */
  readonly text: string;
  readonly key: string | null;
  resolve(published: Published): void;
  reject(error: PublishError): void;
}

interface Problem {
  readonly code?: unknown;
  readonly detail?: unknown;
  readonly errors?: unknown;
}

/** What one attempt came to. `again`: the same request may succeed later. */
type Outcome =
  | { readonly kind: 'done'; readonly results: readonly Published[] }
  | { readonly kind: 'refused'; readonly error: PublishError }
  | { readonly kind: 'again'; readonly error: PublishError; readonly retryAfterMs: number };

function after(milliseconds: number, act: () => void): ReturnType<typeof setTimeout> {
  return setTimeout(act, Math.min(LONGEST_MS, milliseconds));
}

export function createPublisher(options: PublisherOptions): Publisher {
  const { token, maxQueue = MOST_QUEUE, maxBatch = MOST_BATCH, maxBatchChars = MOST_BATCH_CHARS } = options;
  const { retryMs = RETRY_MS, timeoutMs = TIMEOUT_MS } = options;
  const target = new URL('events', options.url.endsWith('/') ? options.url : `${options.url}/`);
  const over = new AbortController();
  const queue: Item[] = [];
  let underWay = 0;
  let isClosed = false;
  let isSending = false;
  /** Resolves when the event published last is through, or has failed. */
  let newest: Promise<void> = Promise.resolve();
  let held: Promise<string> | null = null;

  /** @throws {PublishError} `closed`, `queue_full`, `invalid_request`; a TypeError for what is no JSON */
  function admit(event: string, payload: object, key: string | null): string {
    if (isClosed) throw closed();
    // Some that the bridge refuses `fetch` cannot send, which looks as if the bridge were away.
    if (key !== null && !IDEMPOTENCY_KEY.test(key)) {
      throw new PublishError('invalid_request', `idempotencyKey ${IDEMPOTENCY_KEY_RULE}.`);
    }
    if (queue.length >= maxQueue) {
      throw new PublishError('queue_full', `${queue.length} events wait already; at most ${maxQueue} may.`);
    }
    return JSON.stringify({ event, payload });
  }

  async function sendAll(): Promise<void> {
    isSending = true;
    // What is published in the same turn goes together.
    await null;
    while (queue.length > 0) {
      const items = nextBatch();
      underWay = items.length;
      await send(items);
      underWay = 0;
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

  /** A batch is all or nothing, so one that is refused goes in halves: only the events at fault fail. */
  async function send(items: readonly Item[]): Promise<void> {
    const outcome = await repeat(items);
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

  /** The same bytes under the same key, until there is an answer or the time is up. */
  async function repeat(items: readonly Item[]): Promise<Outcome> {
    const [first] = items as readonly [Item];
    const body = items.length === 1 ? first.text : `{"events":[${items.map(({ text }) => text).join()}]}`;
    const key = first.key ?? crypto.randomUUID();
    const deadlineMs = performance.now() + retryMs;
    let mayBeThere = false;
    for (let failures = 0; ; failures++) {
      if (over.signal.aborted) return given(mayBeThere ? unknown() : closed());
      const outcome = await attempt(body, key, items.length);
      if (outcome.kind === 'done') return outcome;
      const { error } = outcome;
      mayBeThere ||= isOpen(error);
      const last = mayBeThere && !isOpen(error) ? given(unknown(error)) : outcome;
      // Who is asking is looked at first, so that such a refusal says nothing of an earlier attempt.
      if (outcome.kind === 'refused') return [401, 403].includes(error.status) ? last : outcome;
      const backoffMs = Math.random() * Math.min(MOST_BACKOFF_MS, BACKOFF_MS * 2 ** failures);
      const waitMs = Math.max(outcome.retryAfterMs, backoffMs);
      const leftMs = deadlineMs - performance.now();
      // Also when it is in vain: what waits behind must not come sooner than the server asked for.
      await pause(Math.min(waitMs, leftMs));
      if (waitMs > leftMs) return last;
    }
  }

  async function attempt(body: string, key: string, count: number): Promise<Outcome> {
    const again = (code: string, message: string, cause?: unknown): Outcome => ({
      kind: 'again',
      error: new PublishError(code, message, { cause }),
      retryAfterMs: 0,
    });
    const aborter = new AbortController();
    const abort = (): void => aborter.abort();
    const timer = after(timeoutMs, abort);
    over.signal.addEventListener('abort', abort);
    let bearer: string | null | undefined;
    try {
      bearer = await bearerToken(aborter.signal);
      const response = await fetch(target, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          'idempotency-key': key,
          ...(bearer === null ? {} : { authorization: `Bearer ${bearer}` }),
        },
        body,
        signal: aborter.signal,
      });
      if (!response.ok) return await outcomeOf(response);
      const answer: unknown = await response.json();
      const results = (count === 1 ? [answer] : (answer as { results: unknown }).results) as readonly Published[];
      const isWhole = results.length === count && results.every(({ id }) => typeof id === 'string');
      return isWhole ? { kind: 'done', results } : again('unreachable', 'The answer is not the bridge’s.');
    } catch (cause) {
      if (bearer === undefined) {
        held = null;
        return again('token', 'The function that gives the token failed.', cause);
      }
      if (aborter.signal.aborted) return again('timeout', `No answer within ${timeoutMs} ms.`, cause);
      return again('unreachable', 'The bridge cannot be reached.', cause);
    } finally {
      clearTimeout(timer);
      over.signal.removeEventListener('abort', abort);
    }
  }

  async function outcomeOf(response: Response): Promise<Outcome> {
    const { status, headers } = response;
    const isProblem = headers.get('content-type')?.includes('problem+json') === true;
    const { code, detail, errors } = (isProblem ? await response.json() : {}) as Problem;
    if (!isProblem) await response.body?.cancel();
    const error = new PublishError(
      typeof code === 'string' ? code : `http_${status}`,
      typeof detail === 'string' ? detail : `The answer was ${status}.`,
      { status, errors },
    );
    if (status === 401) held = null;
    // Only the bridge itself, in a problem, says no for good; the rest may pass, but not what is too large on the way.
    const mayPass =
      (!isProblem && status !== 413) ||
      status >= 500 ||
      status === 429 ||
      (status === 401 && typeof token === 'function');
    const asked = headers.get('retry-after') ?? '';
    const retryAfterMs = 1000 * Number(asked) || Date.parse(asked) - Date.now() || 0;
    return mayPass ? { kind: 'again', error, retryAfterMs } : { kind: 'refused', error };
  }

  async function bearerToken(signal: AbortSignal): Promise<string | null> {
    if (token === undefined || typeof token === 'string') return token ?? null;
    held ??= Promise.resolve().then(token);
    const late = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(new Error(`No token within ${timeoutMs} ms.`)));
    });
    return Promise.race([held, late]);
  }

  function pause(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        over.signal.removeEventListener('abort', done);
        resolve();
      };
      const timer = after(milliseconds, done);
      over.signal.addEventListener('abort', done);
    });
  }

  const closed = (): PublishError => new PublishError('closed', 'The publisher was closed.');
  const unknown = (cause?: PublishError): PublishError =>
    new PublishError('outcome_unknown', 'It was given up after an attempt that had no answer; it may yet appear.', {
      cause,
    });
  const given = (error: PublishError): Outcome => ({ kind: 'again', error, retryAfterMs: 0 });
  /** Whether what was sent may have been written: the bridge itself did not say that it was not. */
  const isOpen = ({ code }: PublishError): boolean =>
    /^(unreachable|timeout|outcome_unknown|internal|http_.*)$/.test(code);

  /** Events go out in order, so once the newest is through all are. */
  const flush = (): Promise<void> => newest;

  return {
    publish(event, payload, { idempotencyKey: key = null } = {}) {
      let text: string;
      try {
        text = admit(event, payload, key);
      } catch (error) {
        return Promise.reject(error);
      }
      const published = new Promise<Published>((resolve, reject) => {
        queue.push({ text, key, resolve, reject });
      });
      newest = published.then(
        () => {},
        () => {}, // whoever published it is told
      );
      if (!isSending) void sendAll();
      return published;
    },
    flush,
    async close(withinMs = CLOSE_MS) {
      isClosed = true;
      const timer = after(withinMs, () => over.abort());
      await flush();
      clearTimeout(timer);
    },
    get pending() {
      return queue.length + underWay;
    },
  };
}

/**
 * Requests to the bridge, for the client and the publisher: the bearer token, time-outs, and what a refusal means.
 *
 * Tokens travel in a header only. Listening routes take a short-lived pass instead (protocol §11), so that no token is
 * part of a URL and a browser needs no preflight for each poll. A 401 discards both. Only the bridge itself, by the code
 * in a problem document, refuses for good: a bare 403 or 404 comes from a proxy, and may pass.
 */
import { check, TOKEN_RULE } from './options.ts';
import { childOf, MAX_TIMER_MS, parseRetryAfter } from './retry.ts';

/** A string, or a function that is called again each time its token is refused. */
export type Token = string | (() => string | Promise<string>);

/** Why something failed. `code` is the bridge's (protocol §10), or `unreachable`, `timeout`, `token`, `closed`. */
export class RoomcastError extends Error {
  readonly code: string;
  readonly status: number;
  /** Whether the same request may succeed later. */
  readonly passing: boolean;
  /** How long the server asks you to wait before you try again. */
  readonly retryAfterMs: number;
  /** The members of the bridge's problem document. */
  readonly problem: Readonly<Record<string, unknown>>;

  constructor(
    code: string,
    message: string,
    options: { status?: number; passing?: boolean; retryAfterMs?: number; problem?: object; cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
    this.name = 'RoomcastError';
    this.code = code;
    this.status = options.status ?? 0;
    this.passing = options.passing ?? true;
    this.retryAfterMs = options.retryAfterMs ?? 0;
    this.problem = { ...options.problem };
  }
}

export type Query = Readonly<Record<string, string | number | readonly string[] | undefined>>;

export interface StreamRequest {
  readonly method?: 'GET' | 'POST' | 'DELETE';
  readonly query?: Query;
  readonly body?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Whether the route listens, and so takes a pass. */
  readonly listens?: boolean;
  /** Whether the request outlives the page. */
  readonly keepalive?: boolean;
  readonly signal: AbortSignal;
}

export interface JsonRequest extends StreamRequest {
  /** For the whole answer. A later answer is a `timeout`. */
  readonly timeoutMs: number;
}

export interface Http {
  readonly url: URL;
  /** Null after a `DELETE` that answers 204. @throws {RoomcastError} */
  json(path: string, request: JsonRequest): Promise<unknown>;
  /** Resolves when the headers arrive; the body continues until the signal aborts. @throws {RoomcastError} */
  open(path: string, request: StreamRequest): Promise<Response>;
  /** The current token, or null. @throws {RoomcastError} `token`: the function failed, or the signal aborted first */
  bearer(signal: AbortSignal): Promise<string | null>;
  /** Discards the token and the pass after a refusal. Returns whether there can be a new token. */
  refused(): boolean;
  /** How far the clock here is ahead of the bridge's; 0 while that is unknown. */
  readonly clockAheadMs: number;
}

export interface HttpOptions {
  /** A token function that takes longer is called again. Default one minute: it may have to ask a person. */
  readonly maxTokenMs?: number;
  /** For each `fetch`. Default: send cookies, and cache nothing. */
  readonly init?: RequestInit;
}

const MAX_TOKEN_MS = 60_000;
/** The part of its life after which a pass is renewed. */
const PASS_LIFE = 0.8;

/** In a browser, a path is resolved against the page's address. */
export function bridgeUrl(base: string): URL {
  const { location } = globalThis as { readonly location?: { readonly href: string } };
  return new URL(base.endsWith('/') ? base : `${base}/`, location?.href);
}

export function createHttp(
  base: string,
  token: Token | undefined,
  { maxTokenMs = MAX_TOKEN_MS, init = { credentials: 'include', cache: 'no-store' } }: HttpOptions = {},
): Http {
  const url = bridgeUrl(base);
  let newestToken: Promise<string> | null = null;
  let tokenDeadlineMs = Number.POSITIVE_INFINITY;
  let pass: { readonly text: string; readonly renewAtMs: number } | null = null;
  let clockAheadMs = 0;

  async function bearer(signal: AbortSignal): Promise<string | null> {
    if (typeof token !== 'function') return token ?? null;
    if (performance.now() > tokenDeadlineMs) newestToken = null;
    if (newestToken === null) {
      tokenDeadlineMs = performance.now() + maxTokenMs;
      newestToken = Promise.resolve().then(token);
    }
    const aborted = new Promise<never>((_, reject) => {
      const abort = (): void => reject(signal.reason);
      signal.addEventListener('abort', abort);
      if (signal.aborted) abort();
    });
    try {
      const text = await Promise.race([aborted, newestToken]);
      check('token', text, TOKEN_RULE);
      tokenDeadlineMs = Number.POSITIVE_INFINITY;
      return text;
    } catch (cause) {
      if (!signal.aborted) newestToken = null;
      throw new RoomcastError('token', 'The token function failed, or gave no token in time.', { cause });
    }
  }

  function refused(): boolean {
    newestToken = pass = null;
    return typeof token === 'function';
  }

  async function passFor(signal: AbortSignal): Promise<string | undefined> {
    if (token === undefined) return undefined;
    if (pass === null || Date.now() > pass.renewAtMs) {
      const requestedAtMs = Date.now();
      const answer = await (await send('pass', { method: 'POST', signal })).json();
      const minted = answer as { readonly pass: string; readonly expiresInSeconds: number };
      pass = { text: minted.pass, renewAtMs: requestedAtMs + minted.expiresInSeconds * 1000 * PASS_LIFE };
    }
    return pass.text;
  }

  async function send(path: string, request: StreamRequest) {
    const { method = 'GET', query, body, headers, listens, keepalive = false, signal } = request;
    const target = new URL(path, url);
    for (const [name, value] of Object.entries({ ...query, pass: listens ? await passFor(signal) : undefined })) {
      for (const one of [value].flat()) if (one !== undefined) target.searchParams.append(name, String(one));
    }
    const text = listens ? null : await bearer(signal);
    const response = await fetch(target, {
      ...init,
      method,
      headers: { ...headers, ...(text === null ? {} : { authorization: `Bearer ${text}` }) },
      keepalive,
      signal,
      ...(body === undefined ? {} : { body }),
    });
    const type = headers?.accept ?? 'application/json';
    const isEmpty = method === 'DELETE' && response.status === 204;
    const isOurs = response.ok && (isEmpty || response.headers.get('content-type')?.startsWith(type));
    if (!isOurs) throw await errorOf(response);
    // The header has whole seconds, rounded down.
    clockAheadMs = Date.now() - 500 - Date.parse(response.headers.get('date') ?? '') || 0;
    return response;
  }

  async function open(path: string, request: StreamRequest): Promise<Response> {
    for (let isRetry = false; ; isRetry = true) {
      try {
        return await send(path, request);
      } catch (cause) {
        if (!(cause instanceof RoomcastError)) {
          throw new RoomcastError('unreachable', 'The bridge cannot be reached.', { cause });
        }
        const { code, message, status } = cause;
        if (status !== 401) throw cause;
        // A function may give a better token later; a string never will.
        if (isRetry) throw typeof token === 'function' ? new RoomcastError(code, message, { status }) : cause;
        // A pass may have been refused while the token is good.
        if (!refused() && !request.listens) throw cause;
      }
    }
  }

  return {
    url,
    bearer,
    refused,
    open,
    get clockAheadMs() {
      return clockAheadMs;
    },
    async json(path, { signal, timeoutMs, ...request }) {
      const aborter = childOf(signal);
      let isLate = false;
      const timer = setTimeout(
        () => {
          isLate = true;
          aborter.abort();
        },
        Math.min(MAX_TIMER_MS, timeoutMs),
      );
      try {
        const answer = await open(path, { ...request, signal: aborter.signal });
        return request.method === 'DELETE' && answer.status === 204 ? null : await answer.json();
      } catch (cause) {
        const isOwn = cause instanceof RoomcastError;
        if (isLate && !(isOwn && cause.code === 'token')) {
          throw new RoomcastError('timeout', `No answer within ${timeoutMs} ms.`, { cause });
        }
        // An answer that was cut in the middle is not JSON.
        throw isOwn ? cause : new RoomcastError('unreachable', 'The answer was cut off.', { cause });
      } finally {
        clearTimeout(timer);
        aborter.abort();
      }
    },
  };
}

export const closedError = (): RoomcastError =>
  new RoomcastError('closed', 'The client is closed.', { passing: false });

const LASTING = /^(forbidden|invalid_room|too_many_rooms|invalid_signal|unknown_event)$/;

/** A refusal in band, by Socket.IO or in a stream, where only the code says whether it lasts (protocol §5, §6). */
export function refusalOf(code: string, message: string): RoomcastError {
  const status = /^(unauthorized|token_)/.test(code) ? 401 : 0;
  return new RoomcastError(code, message, { status, passing: !LASTING.test(code) });
}

/** The answer, if it holds this list: a proxy may answer 200 too. @throws {RoomcastError} */
export function requireList<Answer>(list: 'events' | 'items' | 'results' | 'signals', answer: unknown): Answer {
  if (Array.isArray((answer as Record<string, unknown> | null)?.[list])) return answer as Answer;
  throw new RoomcastError('unreachable', 'This is not the bridge: other JSON.');
}

async function errorOf(response: Response): Promise<RoomcastError> {
  const { status, headers, ok, url } = response;
  const type = headers.get('content-type')?.split(';')[0] ?? 'no type';
  const isProblem = type.includes('problem+json');
  const problem = (isProblem ? await response.json() : {}) as Readonly<Record<string, unknown>>;
  if (!isProblem) await response.body?.cancel();
  const { code, detail } = problem;
  const retryAfterMs = parseRetryAfter(headers.get('retry-after'));
  if (typeof code === 'string') {
    const passing = status === 429 || status >= 500;
    return new RoomcastError(code, String(detail ?? code), { status, passing, retryAfterMs, problem });
  }
  // After redirects, the address is that of another page, often a login. Its query may hold a pass.
  const text = `This is not the bridge: ${type} at ${url.split('?')[0]}.`;
  return new RoomcastError(ok ? 'unreachable' : `http_${status}`, text, { status: ok ? 0 : status, retryAfterMs });
}

/**
 * Requests to the bridge: who is asking, how long it may take, and what a refusal means.
 *
 * A token goes out in a header only. The routes that listen are given a pass in its place (protocol §11), so that no
 * long-lived token stands in a URL and a browser needs no preflight for each poll. A 401 drops both, and a token that
 * is a function is asked for anew. Only the bridge itself, by the code of a problem, can say no for good: a bare 403
 * or 404 comes from something in between, and may pass.
 */
import { asked } from './retry.ts';

/** A string, or a function that is called for a new one whenever the old one is refused. */
export type Token = string | (() => string | Promise<string>);

/** Why something failed. `code` is the bridge's (protocol §10), or `unreachable`, `timeout`, `token`, `closed`. */
export class RoomcastError extends Error {
  readonly code: string;
  readonly status: number;
  /** Whether the same may succeed later. */
  readonly passing: boolean;
  /** The server asked not to come back sooner. */
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

export interface Ask {
  readonly method?: 'GET' | 'POST';
  readonly query?: Query;
  readonly body?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Whether the route listens and so takes a pass. */
  readonly listens?: boolean;
  readonly signal: AbortSignal;
  /** For the whole answer. Past it: `timeout`. */
  readonly timeoutMs: number;
}

export interface Http {
  readonly url: URL;
  /** @throws {RoomcastError} */
  json(path: string, ask: Ask): Promise<unknown>;
  /** The head of the answer; its body goes on until the signal aborts. @throws {RoomcastError} */
  open(path: string, ask: Omit<Ask, 'timeoutMs'>): Promise<Response>;
  /** The token as it stands, or null. @throws {RoomcastError} when the function that gives it fails, or not before the signal aborts */
  bearer(signal: AbortSignal): Promise<string | null>;
  /** The token or pass was refused: the next request asks for new ones. True when that can help. */
  refused(): boolean;
}

/** How long the function may take, which may have to ask a person. Past it, it hangs, and is called anew. */
const TOKEN_MS = 60_000;
/** A pass is renewed when so much of its life is over. */
const PASS_LIFE = 0.8;

export function createHttp(base: string, token: Token | undefined): Http {
  const { location } = globalThis as { readonly location?: { readonly href: string } };
  const url = new URL(base, location?.href);
  if (!url.pathname.endsWith('/')) url.pathname += '/';
  let held: Promise<string> | null = null;
  /** When one that is being asked for is no longer waited for. */
  let hangsAtMs = Number.POSITIVE_INFINITY;
  let pass: { readonly text: string; readonly untilMs: number } | null = null;

  async function bearer(signal: AbortSignal): Promise<string | null> {
    if (token === undefined || typeof token === 'string') return token ?? null;
    if (performance.now() > hangsAtMs) held = null;
    if (held === null) {
      hangsAtMs = performance.now() + TOKEN_MS;
      held = Promise.resolve().then(token);
    }
    const aborted = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason));
    });
    try {
      signal.throwIfAborted();
      const text = await Promise.race([held, aborted]);
      hangsAtMs = Number.POSITIVE_INFINITY;
      return text;
    } catch (cause) {
      if (!signal.aborted) held = null;
      throw new RoomcastError('token', 'The function that gives the token failed, or gave none in time.', { cause });
    }
  }

  function refused(): boolean {
    held = null;
    pass = null;
    return typeof token === 'function';
  }

  async function passFor(signal: AbortSignal): Promise<string | undefined> {
    if (token === undefined) return undefined;
    if (pass === null || Date.now() > pass.untilMs) {
      const askedAtMs = Date.now();
      const answer = await (await send('pass', { method: 'POST', signal })).json();
      const minted = answer as { readonly pass: string; readonly expiresInSeconds: number };
      pass = { text: minted.pass, untilMs: askedAtMs + minted.expiresInSeconds * 1000 * PASS_LIFE };
    }
    return pass.text;
  }

  async function send(path: string, ask: Omit<Ask, 'timeoutMs'>): Promise<Response> {
    const target = new URL(path, url);
    const headers: Record<string, string> = { ...ask.headers };
    for (const [name, value] of Object.entries(ask.query ?? {})) {
      for (const one of [value].flat()) if (one !== undefined) target.searchParams.append(name, String(one));
    }
    if (ask.listens) {
      const text = await passFor(ask.signal);
      if (text !== undefined) target.searchParams.set('pass', text);
    } else {
      const text = await bearer(ask.signal);
      if (text !== null) headers.authorization = `Bearer ${text}`;
    }
    const { method = 'GET', body, signal } = ask;
    const response = await fetch(target, {
      method,
      headers,
      signal,
      credentials: 'include',
      cache: 'no-store',
      ...(body === undefined ? {} : { body }),
    });
    if (!response.ok) throw await errorOf(response);
    return response;
  }

  async function open(path: string, ask: Omit<Ask, 'timeoutMs'>): Promise<Response> {
    try {
      try {
        return await send(path, ask);
      } catch (error) {
        if (!(error instanceof RoomcastError) || error.status !== 401) throw error;
        const canRenew = refused();
        // A pass may have been refused while the token is good.
        if (!canRenew && !ask.listens) throw error;
        try {
          return await send(path, ask);
        } catch (again) {
          const { code, message, status } = again as RoomcastError;
          // The function may give a better one later; a string never will.
          throw status === 401 && canRenew ? new RoomcastError(code, message, { status }) : again;
        }
      }
    } catch (error) {
      throw error instanceof RoomcastError
        ? error
        : new RoomcastError('unreachable', 'The bridge cannot be reached.', { cause: error });
    }
  }

  return {
    url,
    bearer,
    refused,
    open,
    async json(path, ask) {
      const aborter = new AbortController();
      const abort = (): void => aborter.abort();
      if (ask.signal.aborted) abort();
      ask.signal.addEventListener('abort', abort);
      let late = false;
      const timer = setTimeout(() => {
        late = true;
        abort();
      }, ask.timeoutMs);
      try {
        return await (await open(path, { ...ask, signal: aborter.signal })).json();
      } catch (error) {
        if (late && (error as RoomcastError).code !== 'token') {
          throw new RoomcastError('timeout', `No answer within ${ask.timeoutMs} ms.`, { cause: error });
        }
        // An answer cut in the middle is no JSON.
        if (!(error instanceof RoomcastError)) {
          throw new RoomcastError('unreachable', 'The answer was cut off.', { cause: error });
        }
        throw error;
      } finally {
        clearTimeout(timer);
        ask.signal.removeEventListener('abort', abort);
      }
    },
  };
}

/** An answer with this list. Something in between may say 200 too. @throws {RoomcastError} */
export function holding<Answer>(list: 'events' | 'items', answer: unknown): Answer {
  if (Array.isArray((answer as Record<string, unknown> | null)?.[list])) return answer as Answer;
  throw new RoomcastError('unreachable', 'The answer is not the bridge’s.');
}

async function errorOf(response: Response): Promise<RoomcastError> {
  const { status } = response;
  const isProblem = response.headers.get('content-type')?.includes('problem+json') === true;
  const problem = (isProblem ? await response.json() : {}) as Readonly<Record<string, unknown>>;
  if (!isProblem) await response.body?.cancel();
  const { code, detail } = problem;
  const known = typeof code === 'string';
  return new RoomcastError(known ? code : `http_${status}`, known ? String(detail) : `The answer was ${status}.`, {
    status,
    problem,
    passing: !known || status === 429 || status >= 500,
    retryAfterMs: retryAfterMs(response.headers.get('retry-after')),
  });
}

/** Seconds, or a date (RFC 9110 §10.2.3). What is neither says nothing. */
function retryAfterMs(text: string | null): number {
  if (text === null) return 0;
  return asked(/^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now());
}

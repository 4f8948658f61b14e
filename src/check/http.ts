/**
 * The HTTP side of the check: `GET /check/poll` and `GET /check/stream` (http/routes/check.ts on the server). Only
 * `greet` throws; the other functions return the fault as part of their result.
 */
import { type CheckContext, type CheckResponse, TICK_MS, TICKS } from './network.ts';
import {
  CheckError,
  type Fault,
  faultOf,
  type Greeting,
  type Handshake,
  type QuietPeriod,
  type Tick,
  type TickDelivery,
} from './result.ts';

/** How many seconds each poll of `pollTicks` asks the server to wait. */
const POLL_WAITS = [0, 1, 1];
/** The longest `wait` that `/check/poll` takes. */
export const MAX_WAIT_SECONDS = 25;
/** That of servers that do not tell it. */
const DEFAULT_PING_MS = 25_000;
/** The quickest greeting measures the clocks best; the first one may include the time to connect. */
const GREETINGS = 3;

/** @throws {CheckError} if the server does not answer, or the answer is not Roomcast's */
export async function greet(context: CheckContext): Promise<Greeting> {
  const nodes = new Set<unknown>();
  let best = await greetOnce(context, nodes);
  for (let n = 1; n < GREETINGS; n++) {
    const greeting = await greetOnce(context, nodes);
    if (greeting.roundTripMs < best.roundTripMs) best = greeting;
  }
  return { ...best, nodes: nodes.size };
}

/** @param nodes takes the node that answers */
async function greetOnce(context: CheckContext, nodes: Set<unknown>): Promise<Omit<Greeting, 'nodes'>> {
  const startedAtMs = Date.now();
  const { facts, elapsedMs, response } = await poll(context, 0);
  const { timeMs, heartbeatMs, pingMs = DEFAULT_PING_MS, socketPath, ready, httpVersion, proxyHeaders } = facts;
  const isOurs =
    Number.isSafeInteger(timeMs) &&
    Number.isSafeInteger(heartbeatMs) &&
    Number.isSafeInteger(pingMs) &&
    typeof socketPath === 'string' &&
    Array.isArray(proxyHeaders) &&
    // These texts reach a terminal and the report, so they must hold no control characters.
    [socketPath, httpVersion, ...proxyHeaders].every((text) => /^[\w./~-]{1,200}$/.test(String(text)));
  if (!isOurs) throw new CheckError('notOurs', describe(response));
  nodes.add(facts.node);
  return {
    roundTripMs: Math.round(elapsedMs),
    skewMs: Math.round(Number(timeMs) - (startedAtMs + elapsedMs / 2)),
    skewErrorMs: Math.ceil(elapsedMs / 2),
    heartbeatMs: Number(heartbeatMs),
    pingMs: Number(pingMs),
    socketPath,
    isReady: ready === true,
    httpVersion: String(httpVersion),
    proxyHeaders: proxyHeaders.map(String),
    via: response.header('via'),
    server: response.header('server'),
    protocol: response.protocol,
  };
}

/**
 * Asks how this check's websocket handshake arrived. Behind one address there may be several nodes, and one alone knows,
 * so an answer of none counts only where one node has answered so far.
 */
export async function askHandshake(context: CheckContext, nodes: number): Promise<Handshake | null> {
  try {
    for (let asked = 0; asked < nodes * 2; asked++) {
      const { websocket } = (await poll(context, 0, `&id=${context.id}`)).facts;
      const { httpVersion, hasUpgrade, hasConnection } = Object(websocket) as Record<string, unknown>;
      if (typeof httpVersion === 'string' && /^[\d.]{1,9}$/.test(httpVersion)) {
        return {
          kind: 'arrived',
          httpVersion,
          hasUpgrade: hasUpgrade === true,
          hasConnection: hasConnection === true,
        };
      }
      if (websocket === undefined) return null;
    }
  } catch (error) {
    faultOf(error);
    return null;
  }
  return nodes === 1 ? { kind: 'absent' } : null;
}

export async function pollTicks(context: CheckContext): Promise<TickDelivery> {
  const ticks: Tick[] = [];
  let fault: Fault | null = null;
  for (const wait of POLL_WAITS) {
    try {
      const { elapsedMs } = await poll(context, wait);
      ticks.push({ sentMs: wait * 1000, arrivedMs: Math.round(elapsedMs) });
    } catch (error) {
      fault = faultOf(error);
      break;
    }
  }
  return { connectMs: ticks[0]?.arrivedMs ?? null, ticks, expected: POLL_WAITS.length, fault };
}

/** Watches one long poll, for `seconds` or as long as the server allows. */
export async function quietPoll(context: CheckContext, seconds: number): Promise<QuietPeriod> {
  const wait = Math.min(MAX_WAIT_SECONDS, seconds);
  const startedMs = performance.now();
  try {
    await poll(context, wait);
    return { watchedMs: wait * 1000, cutMs: null, isDead: false };
  } catch (error) {
    const isDead = faultOf(error).kind === 'timeout';
    return { watchedMs: wait * 1000, cutMs: isDead ? null : Math.round(performance.now() - startedMs), isDead };
  }
}

export async function streamTicks(
  context: CheckContext,
  { padding }: { readonly padding: number },
): Promise<{ readonly frames: TickDelivery; readonly encoding: string | null }> {
  const startedMs = performance.now();
  const elapsedMs = (): number => Math.round(performance.now() - startedMs);
  const ticks: Tick[] = [];
  let connectMs: number | null = null;
  let encoding: string | null = null;
  let fault: Fault | null = null;
  try {
    const query = `ticks=${TICKS}&every=${TICK_MS}&padding=${padding}`;
    await readStream(context, query, TICKS * TICK_MS + context.timeoutMs, {
      onOpen: (response) => {
        connectMs = elapsedMs();
        encoding = response.header('content-encoding');
      },
      onTick: (sentMs) => ticks.push({ sentMs, arrivedMs: elapsedMs() }) === TICKS,
    });
    if (ticks.length < TICKS) fault = { kind: 'ended', detail: '' };
  } catch (error) {
    fault = faultOf(error);
    // The connection was accepted, so the delay is in the response.
    if (fault.kind === 'timeout' && connectMs !== null) fault = { kind: 'silent', detail: '' };
  }
  return { frames: { connectMs, ticks, expected: TICKS, fault }, encoding };
}

/** Watches a stream that sends two ticks, with only heartbeats or nothing at all between them. */
export async function quietStream(
  context: CheckContext,
  seconds: number,
  { heartbeats }: { readonly heartbeats: boolean },
): Promise<QuietPeriod> {
  const watchedMs = seconds * 1000;
  let sinceMs = performance.now();
  let ticks = 0;
  let isDead = false;
  try {
    await readStream(context, `ticks=1&hold=${seconds}&heartbeats=${heartbeats}`, watchedMs + context.timeoutMs, {
      onOpen() {},
      onTick() {
        ticks++;
        if (ticks === 1) sinceMs = performance.now();
        return ticks === 2;
      },
    });
  } catch (error) {
    isDead = faultOf(error).kind === 'timeout';
  }
  const cutMs = ticks === 2 || isDead ? null : Math.round(performance.now() - sinceMs);
  return { watchedMs, cutMs, isDead };
}

interface StreamHandler {
  onOpen(response: CheckResponse): void;
  /** @returns true to stop reading */
  onTick(sentMs: number): boolean;
}

/** Resolves when `onTick` returns true or the stream ends. @throws {CheckError} */
function readStream(context: CheckContext, query: string, timeoutMs: number, handler: StreamHandler): Promise<void> {
  return withTimeout(context, timeoutMs, async (signal) => {
    const response = await context.network.request(`check/stream?${query}`, { accept: 'text/event-stream', signal });
    await expectSuccess(response, 'text/event-stream');
    handler.onOpen(response);
    const decoder = new TextDecoder();
    let text = '';
    for await (const chunk of response.body) {
      text += decoder.decode(chunk, { stream: true });
      const blocks = text.split(/\r?\n\r?\n/);
      text = blocks.pop() ?? '';
      for (const block of blocks) {
        const data = /^event: ?check\.tick\r?\ndata: ?(.*)$/m.exec(block)?.[1];
        if (data !== undefined && handler.onTick(Number(parseObject(data).atMs))) return;
      }
    }
  });
}

interface PollAnswer {
  readonly facts: Readonly<Record<string, unknown>>;
  readonly response: CheckResponse;
  readonly elapsedMs: number;
}

/** @throws {CheckError} */
function poll(context: CheckContext, wait: number, query = ''): Promise<PollAnswer> {
  const startedMs = performance.now();
  return withTimeout(context, wait * 1000 + context.timeoutMs, async (signal) => {
    const response = await context.network.request(`check/poll?wait=${wait}${query}`, {
      accept: 'application/json',
      signal,
    });
    await expectSuccess(response, 'application/json');
    const facts = parseObject(await textOf(response));
    if (facts.roomcast !== 'check') throw new CheckError('notOurs', describe(response));
    return { facts, response, elapsedMs: performance.now() - startedMs };
  });
}

/** Runs `action` until it ends, the time is up or the check is aborted. @throws {CheckError} */
async function withTimeout<T>(
  context: CheckContext,
  timeoutMs: number,
  action: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const ending = new AbortController();
  const abort = (): void => ending.abort();
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    abort();
  }, timeoutMs);
  if (context.signal.aborted) abort();
  context.signal.addEventListener('abort', abort);
  try {
    return await action(ending.signal);
  } catch (error) {
    if (isLate) throw new CheckError('timeout', `${timeoutMs / 1000} s`, { cause: error });
    // Anything else broke off in the middle of the response.
    throw error instanceof CheckError ? error : new CheckError('ended', '', { cause: error });
  } finally {
    clearTimeout(timer);
    context.signal.removeEventListener('abort', abort);
    // A body that was not read to its end would keep its connection.
    abort();
  }
}

/** @throws {CheckError} unless the response is the bridge's 200 of this type */
async function expectSuccess(response: CheckResponse, type: string): Promise<void> {
  const { status } = response;
  const contentType = response.header('content-type') ?? '';
  if (response.wasRedirected) {
    // Only the origin: the queries of sign-in pages hold personal data. A browser hides the location.
    const target = /^https?:\/\/[\w.:[\]-]+/.exec(response.header('location') ?? '')?.[0];
    throw new CheckError('redirected', target === undefined ? '' : `${status} ${target}`);
  }
  if (contentType.startsWith('application/problem+json')) {
    const { code } = parseObject(await textOf(response));
    if (code === 'too_many_connections') throw new CheckError('busy');
    if (code === 'unavailable') throw new CheckError('draining');
    if (code === 'host_not_allowed') throw new CheckError('misdirected');
  }
  if (status >= 502 && status <= 504) throw new CheckError('gateway', String(status));
  if (status >= 400) throw new CheckError(status === 404 ? 'notOurs' : 'blocked', describe(response));
  if (status !== 200 || !contentType.startsWith(type)) throw new CheckError('notOurs', describe(response));
}

function describe(response: CheckResponse): string {
  return `${response.status} ${response.header('content-type') ?? ''}`.trim();
}

/** Other servers may send anything; a longer body is not ours. */
const MAX_BODY_CHARACTERS = 10_000;

async function textOf(response: CheckResponse): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  for await (const chunk of response.body) {
    text += decoder.decode(chunk, { stream: true });
    if (text.length > MAX_BODY_CHARACTERS) throw new CheckError('notOurs', describe(response));
  }
  return text;
}

/** @throws {CheckError} */
function parseObject(text: string): Readonly<Record<string, unknown>> {
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed === 'object' && parsed !== null) return parsed as Record<string, unknown>;
  } catch {
    // Reported below, like JSON that is no object.
  }
  throw new CheckError('notOurs', 'not JSON');
}

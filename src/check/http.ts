/**
 * The probes over plain HTTP (http/probe.ts on the server): the greeting, ticks by a stream and by polls, and both with
 * nothing to say. Only `greet` throws; the others note what went wrong.
 */

import { Fault, type FaultFacts, type Greeting, type Passage, type Quiet, type Tick } from './result.ts';
import type { Answer, ProbeDeps } from './run.ts';

const TICKS = 5;
const TICK_MS = 300;
/** Seconds that the polls of `pollTicks` wait for their answers. */
const POLL_WAITS = [0, 1, 1];
/** Longest that `/check/poll` waits. */
const MOST_WAIT_SECONDS = 25;
/** The quickest of them says most about clocks: the first may also have to open a connection. */
const GREETINGS = 3;

/** @throws {Fault} when there is nobody, or somebody else */
export async function greet(deps: ProbeDeps): Promise<Greeting> {
  let best: Greeting | null = null;
  for (let n = 0; n < GREETINGS; n++) {
    const greeting = await greetOnce(deps);
    if (best === null || greeting.roundTripMs < best.roundTripMs) best = greeting;
  }
  return best as Greeting;
}

async function greetOnce(deps: ProbeDeps): Promise<Greeting> {
  const begunAtMs = Date.now();
  const { facts, elapsedMs, answer } = await poll(deps, 0);
  const { timeMs, heartbeatMs, socketPath, ready, httpVersion, proxyHeaders } = facts;
  const isOurs =
    Number.isSafeInteger(timeMs) &&
    Number.isSafeInteger(heartbeatMs) &&
    typeof socketPath === 'string' &&
    Array.isArray(proxyHeaders) &&
    // They go to a terminal and into a report.
    [socketPath, httpVersion, ...proxyHeaders].every((text) => /^[\w./~-]{1,200}$/.test(String(text)));
  if (!isOurs) throw new Fault('notOurs', describe(answer));
  return {
    roundTripMs: Math.round(elapsedMs),
    skewMs: Math.round(Number(timeMs) - (begunAtMs + elapsedMs / 2)),
    skewErrorMs: Math.ceil(elapsedMs / 2),
    heartbeatMs: Number(heartbeatMs),
    socketPath,
    isReady: ready === true,
    httpVersion: String(httpVersion),
    proxyHeaders: proxyHeaders.map(String),
    via: answer.header('via'),
  };
}

export async function pollTicks(deps: ProbeDeps): Promise<Passage> {
  const ticks: Tick[] = [];
  let fault: FaultFacts | null = null;
  let connectMs: number | null = null;
  for (const wait of POLL_WAITS) {
    try {
      const { elapsedMs } = await poll(deps, wait);
      connectMs ??= elapsedMs;
      ticks.push({ sentMs: wait * 1000, arrivedMs: Math.round(elapsedMs) });
    } catch (error) {
      fault = factsOf(error);
      break;
    }
  }
  return { connectMs: connectMs === null ? null : Math.round(connectMs), ticks, expected: POLL_WAITS.length, fault };
}

/** One long poll, as long as the server allows. */
export async function quietPoll(deps: ProbeDeps, seconds: number): Promise<Quiet> {
  const wait = Math.min(MOST_WAIT_SECONDS, seconds);
  const begunMs = performance.now();
  try {
    await poll(deps, wait);
    return { watchedMs: wait * 1000, cutMs: null, isDead: false };
  } catch (error) {
    const isDead = factsOf(error).kind === 'timeout';
    return { watchedMs: wait * 1000, cutMs: isDead ? null : Math.round(performance.now() - begunMs), isDead };
  }
}

export async function streamTicks(deps: ProbeDeps, { padding }: { readonly padding: number }): Promise<Passage> {
  const begunMs = performance.now();
  const elapsedMs = (): number => Math.round(performance.now() - begunMs);
  const ticks: Tick[] = [];
  let connectMs: number | null = null;
  let fault: FaultFacts | null = null;
  try {
    const query = `ticks=${TICKS}&every=${TICK_MS}&padding=${padding}`;
    await readStream(deps, query, TICKS * TICK_MS + deps.patienceMs, {
      opened: () => {
        connectMs = elapsedMs();
      },
      ticked: (sentMs) => ticks.push({ sentMs, arrivedMs: elapsedMs() }) === TICKS,
    });
    if (ticks.length < TICKS) fault = { kind: 'ended', detail: '' };
  } catch (error) {
    fault = factsOf(error);
    // It was accepted, so it is not the way there that takes long.
    if (fault.kind === 'timeout' && connectMs !== null) fault = { kind: 'silent', detail: '' };
  }
  return { connectMs, ticks, expected: TICKS, fault };
}

/** A stream of two ticks with nothing but heartbeats, or nothing at all, between them. */
export async function quietStream(
  deps: ProbeDeps,
  seconds: number,
  { heartbeats }: { readonly heartbeats: boolean },
): Promise<Quiet> {
  const watchedMs = seconds * 1000;
  let sinceMs = performance.now();
  let ticks = 0;
  let isDead = false;
  try {
    await readStream(deps, `ticks=1&hold=${seconds}&heartbeats=${heartbeats}`, watchedMs + deps.patienceMs, {
      opened() {},
      ticked() {
        ticks++;
        if (ticks === 1) sinceMs = performance.now();
        return ticks === 2;
      },
    });
  } catch (error) {
    isDead = factsOf(error).kind === 'timeout';
  }
  const cutMs = ticks === 2 || isDead ? null : Math.round(performance.now() - sinceMs);
  return { watchedMs, cutMs, isDead };
}

interface Reader {
  opened(): void;
  /** @returns whether that was all */
  ticked(sentMs: number): boolean;
}

/** Resolves when `ticked` has all, or the stream has ended. @throws {Fault} */
function readStream(deps: ProbeDeps, query: string, timeoutMs: number, reader: Reader): Promise<void> {
  return within(deps, timeoutMs, async (signal) => {
    const answer = await deps.network.request(`check/stream?${query}`, { accept: 'text/event-stream', signal });
    await demand(answer, 'text/event-stream');
    reader.opened();
    const decoder = new TextDecoder();
    let text = '';
    for await (const piece of answer.pieces) {
      text += decoder.decode(piece, { stream: true });
      const blocks = text.split(/\r?\n\r?\n/);
      text = blocks.pop() ?? '';
      for (const block of blocks) {
        const data = /^event: ?check\.tick\r?\ndata: ?(.*)$/m.exec(block)?.[1];
        if (data === undefined) continue;
        const { atMs } = parseObject(data);
        if (reader.ticked(Number(atMs))) return;
      }
    }
  });
}

interface Polled {
  readonly facts: Readonly<Record<string, unknown>>;
  readonly answer: Answer;
  readonly elapsedMs: number;
}

/** @throws {Fault} */
function poll(deps: ProbeDeps, wait: number): Promise<Polled> {
  const begunMs = performance.now();
  return within(deps, wait * 1000 + deps.patienceMs, async (signal) => {
    const answer = await deps.network.request(`check/poll?wait=${wait}`, { accept: 'application/json', signal });
    await demand(answer, 'application/json');
    const facts = parseObject(await textOf(answer));
    if (facts.roomcast !== 'check') throw new Fault('notOurs', describe(answer));
    return { facts, answer, elapsedMs: performance.now() - begunMs };
  });
}

/** Runs `act` until it ends, the time is up or the check is abandoned. @throws {Fault} */
async function within<T>(deps: ProbeDeps, timeoutMs: number, act: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const over = new AbortController();
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    over.abort();
  }, timeoutMs);
  const abandon = (): void => over.abort();
  if (deps.signal.aborted) abandon();
  deps.signal.addEventListener('abort', abandon);
  try {
    return await act(over.signal);
  } catch (error) {
    if (isLate) throw new Fault('timeout', `${timeoutMs / 1000} s`, { cause: error });
    // What breaks off in the middle of an answer.
    throw error instanceof Fault ? error : new Fault('ended', '', { cause: error });
  } finally {
    clearTimeout(timer);
    deps.signal.removeEventListener('abort', abandon);
    // A body that was not read to its end would keep its connection.
    over.abort();
  }
}

/** @throws {Fault} when the answer is not the bridge's 200 of this type */
async function demand(answer: Answer, type: string): Promise<void> {
  const { status } = answer;
  const given = answer.header('content-type') ?? '';
  if (answer.wasRedirected) {
    // Where to, but not the rest of it: sign-in pages are given much in their query. A browser tells nothing.
    const to = /^https?:\/\/[\w.:[\]-]+/.exec(answer.header('location') ?? '')?.[0];
    throw new Fault('redirected', to === undefined ? '' : `${status} ${to}`);
  }
  if (given.startsWith('application/problem+json')) {
    const { code } = parseObject(await textOf(answer));
    if (code === 'too_many_connections') throw new Fault('busy');
    if (code === 'unavailable') throw new Fault('draining');
  }
  if (status >= 400) throw new Fault(status === 404 ? 'notOurs' : 'blocked', describe(answer));
  if (status !== 200 || !given.startsWith(type)) throw new Fault('notOurs', describe(answer));
}

function describe(answer: Answer): string {
  return `${answer.status} ${answer.header('content-type') ?? ''}`.trim();
}

/** Answers of others may be large. */
const MOST_CHARACTERS = 10_000;

async function textOf(answer: Answer): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  for await (const piece of answer.pieces) {
    text += decoder.decode(piece, { stream: true });
    if (text.length > MOST_CHARACTERS) throw new Fault('notOurs', describe(answer));
  }
  return text;
}

/** @throws {Fault} */
function parseObject(text: string): Readonly<Record<string, unknown>> {
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed === 'object' && parsed !== null) return parsed as Record<string, unknown>;
  } catch {
    // Said below.
  }
  throw new Fault('notOurs', 'not JSON');
}

function factsOf(error: unknown): FaultFacts {
  if (!(error instanceof Fault)) throw error;
  return { kind: error.kind, detail: error.detail };
}

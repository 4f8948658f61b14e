/**
 * What a check's result means: pure, and the same for the page and the terminal. It yields codes; texts.ts has the words.
 *
 * The verdict names the transport that `@roomcast/client` would use here: the first of WebSocket, SSE and polling that
 * really delivers.
 */
import type { TransportName as ClientTransport } from '../client/events.ts';
import type { TransportName } from '../contract/names.ts';
import { type Cause, type CauseCode, causesOf } from './causes.ts';
import type { CheckResult, Fault, FaultKind, QuietPeriod, TickDelivery, TransportResult } from './result.ts';

/**
 * `late`: one by one, but some with a delay. `held`: buffered, all at once. `stops`: some arrived, then no more.
 * `fails`: none arrived.
 */
export type Outcome = 'passes' | 'late' | 'held' | 'stops' | 'fails';
export type Level = 'good' | 'fair' | 'bad';

export type VerdictCode =
  | 'good'
  | 'notReady'
  | 'websocketBlocked'
  | 'websocketSilent'
  | 'onlyPoll'
  | 'onlyShort'
  | 'fallbackFails'
  | 'cut'
  | 'late'
  | 'clock'
  | 'nothing'
  | FaultKind;

export type AdviceCode =
  | 'allowWebsocket'
  | 'letStreams'
  | 'letPolls'
  | 'raiseIdle'
  | 'setClock'
  | 'signIn'
  | 'fixAddress'
  | 'allowHost'
  | 'fixTls'
  | 'fixProxy'
  | 'goOnline'
  | 'askServer'
  | 'askOperator'
  | 'startServer'
  | 'wait';

export type NoteCode = 'silentCut' | 'padding' | 'via' | 'proxyHeaders' | 'oldHttp' | 'http2' | 'clock';

export type Values = Readonly<Record<string, string | number>>;

/** A code, and the values that its text mentions. */
export interface Message<Code> {
  readonly code: Code;
  readonly values: Values;
}

export interface TransportVerdict {
  readonly transport: TransportName;
  readonly outcome: Outcome;
  readonly level: Level;
  readonly connectMs: number | null;
  readonly firstMs: number | null;
  /** How much longer the slowest tick took than the quickest. */
  readonly heldMs: number | null;
  readonly fault: Fault | null;
  readonly quiet: QuietPeriod | null;
}

export interface Verdict extends Message<VerdictCode> {
  readonly level: Level;
  /** What an application would use here; null: nothing works. */
  readonly transport: ClientTransport | null;
  /** Why, where the check knows it. */
  readonly causes: readonly Cause[];
  readonly advice: readonly Message<AdviceCode>[];
  readonly notes: readonly Message<NoteCode>[];
  readonly transports: readonly TransportVerdict[];
}

/** A delay that people notice, and more than a busy machine causes by itself. */
const LATE_MS = 1_000;
/** Ticks that arrive within this share of the time in which they were sent were buffered on the way. */
const BUFFERED_SHARE = 0.25;
/** A larger clock difference makes tokens look expired, or not valid yet. */
const MAX_SKEW_MS = 60_000;

const ADVICE_OF_FAULT: Readonly<Record<FaultKind, AdviceCode>> = {
  offline: 'goOnline',
  dns: 'fixAddress',
  refused: 'askServer',
  tls: 'fixTls',
  proxy: 'fixProxy',
  unreachable: 'askServer',
  timeout: 'askServer',
  redirected: 'signIn',
  notOurs: 'fixAddress',
  misdirected: 'allowHost',
  blocked: 'askServer',
  gateway: 'startServer',
  busy: 'wait',
  draining: 'wait',
  otherNode: 'askServer',
  silent: 'askServer',
  ended: 'askServer',
};

export function outcomeOf(delivery: TickDelivery): Outcome {
  const { ticks, expected } = delivery;
  const [first, last] = [ticks[0], ticks.at(-1)];
  if (first === undefined || last === undefined) return 'fails';
  // Each poll is timed on its own, with its wait as `sentMs`, so the same comparison serves streams and polls.
  const sentOverMs = last.sentMs - first.sentMs;
  if (sentOverMs > 0 && last.arrivedMs - first.arrivedMs < sentOverMs * BUFFERED_SHARE) return 'held';
  if (ticks.length < expected) return 'stops';
  return (extraDelayMs(delivery) ?? 0) > LATE_MS ? 'late' : 'passes';
}

/** Whether updates arrive as they are sent. */
export function isLive(outcome: Outcome): boolean {
  return outcome === 'passes' || outcome === 'late';
}

function extraDelayMs({ ticks }: TickDelivery): number | null {
  if (ticks.length === 0) return null;
  const delays = ticks.map(({ sentMs, arrivedMs }) => arrivedMs - sentMs);
  return Math.max(...delays) - Math.min(...delays);
}

export function verdictOf(result: CheckResult, origin: string): Verdict {
  const websocket = transportVerdict('websocket', result.websocket);
  const polling = transportVerdict('polling', result.polling);
  const sse = transportVerdict('sse', result.sse);
  const longpoll = transportVerdict('longpoll', result.longpoll);
  const transports = [websocket, polling, sse, longpoll];
  const { greeting, fault } = result;
  if (greeting === null) {
    const code = fault?.kind ?? 'unreachable';
    const advice = [{ code: ADVICE_OF_FAULT[code], values: { origin } }];
    const values = { detail: fault?.detail ?? '', origin };
    return { level: 'bad', transport: null, code, values, causes: [], advice, notes: [], transports };
  }

  const transport = isLive(websocket.outcome)
    ? 'websocket'
    : isLive(sse.outcome)
      ? 'sse'
      : longpoll.outcome !== 'fails'
        ? 'poll'
        : null;
  const cutMs = shortestCut(transports.map(({ quiet }) => quiet));
  const skewMs = Math.max(0, Math.abs(greeting.skewMs) - greeting.skewErrorMs);
  const isSkewed = skewMs > MAX_SKEW_MS;
  const minutes = Math.round(skewMs / 60_000);
  const busy = transports.find(({ fault }) => fault?.kind === 'busy' || fault?.kind === 'draining')?.fault?.kind;

  const causes =
    busy === undefined
      ? causesOf(result, greeting, {
          websocket: !isLive(websocket.outcome),
          sse: !isLive(sse.outcome),
          polling: !isLive(polling.outcome),
          cutMs,
        })
      : [];
  /** What a cause explains needs no further advice. */
  const isExplained = (...codes: readonly CauseCode[]): boolean => causes.some(({ code }) => codes.includes(code));

  const advice: Message<AdviceCode>[] = [];
  const advise = (code: AdviceCode, values: Values = {}): void => {
    advice.push({ code, values: { origin, ...values } });
  };
  if (busy !== undefined) advise('wait');
  else {
    if (websocket.fault?.kind === 'proxy') advise('fixProxy');
    else if (!isLive(websocket.outcome) && !isExplained('upgradeDropped')) {
      advise('allowWebsocket', { path: greeting.socketPath });
    }
    if (!isLive(sse.outcome) && !isExplained('buffered', 'compressed')) advise('letStreams');
    if (!isLive(longpoll.outcome) || (!isLive(polling.outcome) && !isExplained('notSticky'))) advise('letPolls');
    if (cutMs !== null && !isExplained('idle')) advise('raiseIdle', { seconds: secondsOf(cutMs) });
  }
  if (isSkewed) advise('setClock');
  if (!greeting.isReady) advise('askOperator');

  const notes: Message<NoteCode>[] = [];
  const note = (code: NoteCode, values: Values = {}): void => {
    notes.push({ code, values });
  };
  const { silent, padded } = result.sse;
  if (silent !== null && isCut(silent) && !isCut(result.sse.quiet)) {
    note('silentCut', {
      seconds: secondsOf(silent.cutMs ?? silent.watchedMs),
      heartbeat: secondsOf(greeting.heartbeatMs),
    });
  }
  if (padded !== null && outcomeOf(padded) === 'passes') note('padding');
  if (greeting.via !== null) note('via', { via: greeting.via });
  if (greeting.proxyHeaders.length > 0) note('proxyHeaders', { headers: greeting.proxyHeaders.join(', ') });
  if (greeting.httpVersion === '1.0' && !isExplained('upgradeDropped')) note('oldHttp');
  const { protocol } = greeting;
  if (isExplained('upgradeStopped') && (protocol === 'h2' || protocol === 'h3')) note('http2', { protocol, origin });
  if (isSkewed) note('clock', { minutes });

  const verdict = (code: VerdictCode, values: Values = {}): Verdict => {
    const level = transport === null ? 'bad' : code === 'good' ? 'good' : 'fair';
    return { level, transport, code, values, causes, advice, notes, transports };
  };
  if (busy !== undefined) return verdict(busy, { detail: '', origin });
  if (transport === null) return verdict('nothing');
  if (!greeting.isReady) return verdict('notReady');
  if (transport === 'poll') return verdict(longpoll.outcome === 'stops' ? 'onlyShort' : 'onlyPoll');
  // A WebSocket that was accepted got through, but its data did not.
  if (transport === 'sse') return verdict(websocket.connectMs === null ? 'websocketBlocked' : 'websocketSilent');
  const failing = transports.filter(({ outcome }) => !isLive(outcome));
  if (failing.length > 0) {
    return verdict('fallbackFails', { transports: failing.map(({ transport }) => transport).join(' ') });
  }
  if (cutMs !== null) return verdict('cut', { seconds: secondsOf(cutMs) });
  if (transports.some(({ outcome }) => outcome === 'late')) {
    return verdict('late', { seconds: secondsOf(Math.max(...transports.map(({ heldMs }) => heldMs ?? 0))) });
  }
  return isSkewed ? verdict('clock', { minutes }) : verdict('good');
}

function transportVerdict(transport: TransportName, { frames, quiet }: TransportResult): TransportVerdict {
  const measured = frames === null ? 'fails' : outcomeOf(frames);
  // Polls are separate requests: none is held for another, so a delay is all that it can be.
  const isPoll = transport === 'longpoll';
  const outcome = isPoll && measured === 'held' ? 'late' : measured;
  // Short polls still bring every update.
  const isUsable = isLive(outcome) || (isPoll && outcome === 'stops');
  return {
    transport,
    outcome,
    level: outcome === 'passes' && !isCut(quiet) ? 'good' : isUsable ? 'fair' : 'bad',
    connectMs: frames?.connectMs ?? null,
    firstMs: frames?.ticks[0]?.arrivedMs ?? null,
    heldMs: frames === null ? null : extraDelayMs(frames),
    fault: frames?.fault ?? null,
    quiet,
  };
}

export function isCut(quiet: QuietPeriod | null): boolean {
  return quiet !== null && (quiet.cutMs !== null || quiet.isDead);
}

function shortestCut(all: readonly (QuietPeriod | null)[]): number | null {
  const cuts = all.flatMap((quiet) => (quiet !== null && isCut(quiet) ? [quiet.cutMs ?? quiet.watchedMs] : []));
  return cuts.length === 0 ? null : Math.min(...cuts);
}

/** Rounded to a tenth. */
export function secondsOf(milliseconds: number): number {
  return Math.round(milliseconds / 100) / 10;
}

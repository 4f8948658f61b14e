/**
 * What a measurement means: pure, the same for the page and for `roomcast doctor`. Codes only; texts.ts has the words.
 *
 * The transport named is the one that `roomcast/client` would use here, by the ladder's rule: the first of websocket,
 * SSE and polling on which something really arrives.
 */
import { TRANSPORTS, type TransportName } from '../contract/names.ts';
import type { FaultKind, Measurement, Passage, Quiet, Trial } from './result.ts';

/**
 * `late`: one by one, but some held back for long. `held`: all at once. `stops`: some came, then no more. `fails`: none.
 */
export type Outcome = 'passes' | 'late' | 'held' | 'stops' | 'fails';
export type Level = 'good' | 'fair' | 'bad';
/** As `roomcast/client` names them. */
export type Rung = 'websocket' | 'sse' | 'poll';

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
  | 'fixTls'
  | 'fixProxy'
  | 'goOnline'
  | 'askServer'
  | 'askOperator'
  | 'wait';

export type NoteCode = 'silentCut' | 'padding' | 'via' | 'proxyHeaders' | 'oldHttp' | 'clock';

/** A code and what its words need. */
export interface Said<Code> {
  readonly code: Code;
  readonly values: Readonly<Record<string, string | number>>;
}

export interface TransportJudgement {
  readonly transport: TransportName;
  readonly outcome: Outcome;
  readonly level: Level;
  readonly connectMs: number | null;
  readonly firstMs: number | null;
  /** Longest that a frame came later than the quickest. */
  readonly heldMs: number | null;
  readonly fault: Passage['fault'];
  readonly quiet: Quiet | null;
}

export interface Judgement {
  readonly level: Level;
  /** The transport that an application would have here; null: none. */
  readonly rung: Rung | null;
  readonly verdict: Said<VerdictCode>;
  /** For the people who run the network. */
  readonly advice: readonly Said<AdviceCode>[];
  readonly notes: readonly Said<NoteCode>[];
  readonly transports: readonly TransportJudgement[];
}

/** What a person notices. Also more than a busy machine makes of a free way. */
const LATE_MS = 1_000;
/** Frames that were sent over a second and arrive within so small a part of it were let go together. */
const BUNCHED = 0.25;
/** Past it, tokens seem expired or not yet good to one side. */
const MOST_SKEW_MS = 60_000;

function heldMsOf({ ticks }: Passage): number | null {
  if (ticks.length === 0) return null;
  const delays = ticks.map(({ sentMs, arrivedMs }) => arrivedMs - sentMs);
  return Math.max(...delays) - Math.min(...delays);
}

export function outcomeOf(passage: Passage): Outcome {
  const { ticks, expected } = passage;
  const [first, last] = [ticks[0], ticks.at(-1)];
  if (first === undefined || last === undefined) return 'fails';
  const sentOverMs = last.sentMs - first.sentMs;
  // A poll's ticks are each sent and timed for themselves; a stream's first and last arrive as far apart as they were sent.
  if (sentOverMs > 0 && last.arrivedMs - first.arrivedMs < sentOverMs * BUNCHED) return 'held';
  if (ticks.length < expected) return 'stops';
  return (heldMsOf(passage) ?? 0) > LATE_MS ? 'late' : 'passes';
}

export function judge(measurement: Measurement, origin: string): Judgement {
  const transports = TRANSPORTS.map((transport) => judgeTransport(transport, measurement[transport]));
  const { greeting, fault } = measurement;
  if (greeting === null) {
    const kind = fault?.kind ?? 'unreachable';
    const advice = [{ code: ADVICE_OF_FAULT[kind], values: { origin } }];
    const verdict = { code: kind, values: { detail: fault?.detail ?? '', origin } };
    return { level: 'bad', rung: null, verdict, advice, notes: [], transports };
  }

  const [websocket, polling, sse, longpoll] = transports as [
    TransportJudgement,
    TransportJudgement,
    TransportJudgement,
    TransportJudgement,
  ];
  const rung = isLive(websocket) ? 'websocket' : isLive(sse) ? 'sse' : longpoll.outcome !== 'fails' ? 'poll' : null;
  const cutMs = shortestCut(transports.map(({ quiet }) => quiet));
  const skewMs = Math.max(0, Math.abs(greeting.skewMs) - greeting.skewErrorMs);
  const isSkewed = skewMs > MOST_SKEW_MS;
  const minutes = Math.round(skewMs / 60_000);
  const { heartbeatMs } = greeting;

  const advice: Said<AdviceCode>[] = [];
  const advise = (code: AdviceCode, values: Said<AdviceCode>['values'] = {}): void => {
    advice.push({ code, values: { origin, ...values } });
  };
  const busy = transports.find(({ fault }) => fault?.kind === 'busy' || fault?.kind === 'draining');
  if (busy !== undefined) advise('wait');
  else {
    if (!isLive(websocket)) advise('allowWebsocket', { path: greeting.socketPath });
    if (!isLive(sse)) advise('letStreams');
    if (!isLive(polling) || longpoll.outcome !== 'passes') advise('letPolls');
    if (cutMs !== null) advise('raiseIdle', { seconds: secondsOf(cutMs) });
  }
  if (isSkewed) advise('setClock');
  if (!greeting.isReady) advise('askOperator');

  const notes: Said<NoteCode>[] = [];
  const { silent, padded } = measurement.sse;
  if (silent !== null && isCut(silent) && !isCut(measurement.sse.quiet)) {
    const values = { seconds: secondsOf(silent.cutMs ?? silent.watchedMs), heartbeat: secondsOf(heartbeatMs) };
    notes.push({ code: 'silentCut', values });
  }
  if (padded !== null && outcomeOf(padded) === 'passes') notes.push({ code: 'padding', values: {} });
  if (greeting.via !== null) notes.push({ code: 'via', values: { via: greeting.via } });
  if (greeting.proxyHeaders.length > 0) {
    notes.push({ code: 'proxyHeaders', values: { headers: greeting.proxyHeaders.join(', ') } });
  }
  if (greeting.httpVersion === '1.0') notes.push({ code: 'oldHttp', values: {} });
  if (isSkewed) notes.push({ code: 'clock', values: { minutes } });

  function verdict(): Said<VerdictCode> {
    if (busy?.fault != null) return { code: busy.fault.kind, values: { detail: '', origin } };
    if (rung === null) return { code: 'nothing', values: {} };
    if (!greeting?.isReady) return { code: 'notReady', values: {} };
    if (rung === 'poll') return { code: longpoll.outcome === 'stops' ? 'onlyShort' : 'onlyPoll', values: {} };
    if (rung === 'sse') return { code: isAccepted(websocket) ? 'websocketSilent' : 'websocketBlocked', values: {} };
    const failing = transports.filter((one) => !isLive(one)).map(({ transport }) => transport);
    if (failing.length > 0) return { code: 'fallbackFails', values: { transports: failing.join(' ') } };
    if (cutMs !== null) return { code: 'cut', values: { seconds: secondsOf(cutMs) } };
    const heldMs = Math.max(...transports.map((one) => one.heldMs ?? 0));
    if (transports.some(({ outcome }) => outcome === 'late'))
      return { code: 'late', values: { seconds: secondsOf(heldMs) } };
    if (isSkewed) return { code: 'clock', values: { minutes } };
    return { code: 'good', values: {} };
  }

  const said = verdict();
  const level = rung === null ? 'bad' : said.code === 'good' ? 'good' : 'fair';
  return { level, rung, verdict: said, advice, notes, transports };
}

function judgeTransport(transport: TransportName, { frames, quiet }: Trial): TransportJudgement {
  const outcome = frames === null ? 'fails' : outcomeOf(frames);
  const isFine = outcome === 'passes' && !isCut(quiet);
  return {
    transport,
    outcome,
    level: isFine ? 'good' : outcome === 'passes' || outcome === 'late' ? 'fair' : 'bad',
    connectMs: frames?.connectMs ?? null,
    firstMs: frames?.ticks[0]?.arrivedMs ?? null,
    heldMs: frames === null ? null : heldMsOf(frames),
    fault: frames?.fault ?? null,
    quiet,
  };
}

function isLive({ outcome }: TransportJudgement): boolean {
  return outcome === 'passes' || outcome === 'late';
}

/** The connection was let through, and what it carries was not. */
function isAccepted({ connectMs }: TransportJudgement): boolean {
  return connectMs !== null;
}

function isCut(quiet: Quiet | null): boolean {
  return quiet !== null && (quiet.cutMs !== null || quiet.isDead);
}

function shortestCut(all: readonly (Quiet | null)[]): number | null {
  const cuts = all.flatMap((quiet) => (quiet !== null && isCut(quiet) ? [quiet.cutMs ?? quiet.watchedMs] : []));
  return cuts.length === 0 ? null : Math.min(...cuts);
}

/** To a tenth. */
export function secondsOf(milliseconds: number): number {
  return Math.round(milliseconds / 100) / 10;
}

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
  blocked: 'askServer',
  busy: 'wait',
  draining: 'wait',
  silent: 'askServer',
  ended: 'askServer',
};

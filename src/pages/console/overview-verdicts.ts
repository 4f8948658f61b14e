/** What the Overview says first, from the figures of now and of the last 60 minutes: a state, a sentence, a remark. */
import { TRANSPORTS } from '../../contract/names.ts';
import type { Stats } from '../../contract/stats.ts';
import type { Tone } from './elements.tsx';
import { count, dateAndTime, duration, milliseconds, TRANSPORT_LABELS } from './format.ts';
import type { Sample } from './history.ts';
import { overviewTexts } from './texts/overview.ts';

export interface Verdict {
  readonly tone: Tone;
  readonly says: string;
  readonly remark: string;
}

const MINUTE_MS = 60_000;
/** A 99th percentile above this is noticed by people. */
const LATE_SECONDS = 1;
/** So many refusals in a minute, and three times as many as before, are a rise. */
const RISE = 5;
/** So many connections fewer, and less than half of before, are a fall. */
const FALL = 5;

const within = (samples: readonly Sample[], fromMs: number, toMs = 0): Sample[] => {
  const nowMs = Date.now();
  return samples.filter(({ atMs }) => atMs > nowMs - fromMs && atMs <= nowMs - toMs);
};
const sumOf = (samples: readonly Sample[], of: (sample: Sample) => number | null): number =>
  samples.reduce((sum, sample) => sum + (of(sample) ?? 0), 0);
export const sumOfTransports = (counts: Readonly<Record<string, number | null>>): number =>
  TRANSPORTS.reduce((sum, name) => sum + (counts[name] ?? 0), 0);
const beginOf = ({ atMs, seconds }: Sample): number => atMs - seconds * 1_000;

/** The times in which the log took no writes, as `[from, to]`. */
export function outages(samples: readonly Sample[]): [number, number][] {
  const found: [number, number][] = [];
  for (const sample of samples) {
    if (sample.logTookWrites !== false) continue;
    const last = found.at(-1);
    if (last !== undefined && beginOf(sample) - last[1] < 2_000) last[1] = sample.atMs;
    else found.push([beginOf(sample), sample.atMs]);
  }
  return found;
}

/** @param failedAtMs when this page first saw that the log fails; the history may know an earlier instant */
export function logVerdict({ log, node }: Stats, samples: readonly Sample[], failedAtMs: number | null): Verdict {
  const t = overviewTexts().log;
  const found = outages(samples);
  const last = found.at(-1);
  if (!log.healthy || !log.reached) {
    const begin = last !== undefined && last[1] > Date.now() - 30_000 ? last[0] : (failedAtMs ?? Date.now());
    const says = log.healthy ? t.noAnswer : t.noWrites;
    return { tone: 'bad', says: `${says} ${t.since(dateAndTime(begin))}`, remark: adviceOf(log.fault) };
  }
  if (node.draining) return { tone: 'warn', says: t.draining, remark: t.writes };
  const begin = samples[0] === undefined ? Date.now() : beginOf(samples[0]);
  if (last === undefined) {
    const isWhole = begin < Date.now() - 59 * MINUTE_MS;
    return { tone: 'good', says: t.writes, remark: isWhole ? t.steady : t.steadySince(dateAndTime(begin)) };
  }
  const downMs = found.reduce((sum, [from, to]) => sum + to - from, 0);
  const remark = t.interrupted(duration(downMs / 1_000), dateAndTime(last[1]));
  return { tone: last[1] > Date.now() - MINUTE_MS ? 'warn' : 'good', says: t.writes, remark };
}

/** What to do about it. The fault itself is in the words of SQLite or Redis. */
export function adviceOf(fault: string | null): string {
  const t = overviewTexts().log;
  if (fault === null) return t.other;
  if (/disk is full|no space/i.test(fault)) return t.full;
  if (/I\/O error|unable to open|readonly database|disk does not answer/i.test(fault)) return t.disk;
  if (/OOM|maxmemory/.test(fault)) return t.redisFull;
  if (/READONLY|replica/i.test(fault)) return t.readOnly;
  if (/^Redis .*(cannot be reached|does not answer)/.test(fault)) return t.redisAway;
  return t.other;
}

export function deliveryVerdict({ deliveryLag }: Stats, samples: readonly Sample[]): Verdict {
  const t = overviewTexts().fanout;
  const minute = within(samples, MINUTE_MS);
  const worst = TRANSPORTS.map((name) => ({
    name,
    seconds: Math.max(0, ...minute.map(({ p99 }) => p99[name] ?? 0)),
  })).sort((a, b) => b.seconds - a.seconds)[0];
  const cuts = sumOf(within(samples, 15 * MINUTE_MS), ({ slowConsumers }) => slowConsumers);
  const { p99Seconds } = deliveryLag.recent;
  const lag = p99Seconds === null ? t.noDeliveries : t.lag(milliseconds(p99Seconds));
  const remark = cuts === 0 ? lag : `${lag} · ${t.cut(count(cuts))}`;
  if (worst !== undefined && worst.seconds >= LATE_SECONDS) {
    return { tone: 'bad', says: `${t.slow(TRANSPORT_LABELS[worst.name])}: ${milliseconds(worst.seconds)}`, remark };
  }
  if (p99Seconds === null) return { tone: 'neutral', says: t.idle, remark };
  return { tone: cuts === 0 ? 'good' : 'warn', says: t.upToDate, remark };
}

export function connectedVerdict({ connections }: Stats, samples: readonly Sample[]): Verdict {
  const t = overviewTexts().connected;
  const now = sumOfTransports(connections);
  const totalAt = (agoMs: number): number | null => {
    const then = within(samples, agoMs + 15_000, agoMs).at(-1);
    return then === undefined || then.seconds === 0 ? null : sumOfTransports(then.connections);
  };
  const recent = totalAt(5 * MINUTE_MS);
  const says = count(now);
  if (recent !== null && recent - now >= FALL && now < recent / 2) {
    return { tone: 'warn', says, remark: t.fallen(count(recent)) };
  }
  const before = totalAt(15 * MINUTE_MS);
  return { tone: 'neutral', says, remark: now === 0 ? t.nobody : before === null ? '' : t.before(count(before)) };
}

export function refusalVerdict(samples: readonly Sample[]): Verdict {
  const t = overviewTexts().refusals;
  const minute = sumOf(within(samples, MINUTE_MS), ({ refused }) => refused);
  const earlier = within(samples, 15 * MINUTE_MS, MINUTE_MS);
  const before = sumOf(earlier, ({ refused }) => refused);
  if (minute + before === 0) return { tone: 'good', says: t.none, remark: t.noneNote };
  const perMinute = before / Math.max(1, sumOf(earlier, ({ seconds }) => seconds) / 60);
  const says = t.inMinute(count(minute));
  if (minute >= RISE && minute > 3 * perMinute) {
    const remark = perMinute < 0.5 ? t.risingFromNone : t.rising(count(perMinute));
    return { tone: 'bad', says, remark };
  }
  return { tone: 'neutral', says, remark: t.few(count(minute + before)) };
}

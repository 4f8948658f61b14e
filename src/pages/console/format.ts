/** Numbers and times as people read them: short, with their unit, in the language of the page. */
import type { TransportName } from '../../contract/names.ts';
import { LANGUAGE_TAGS, type Language, language } from '../language.ts';

/** In place of an unknown value. */
export const NOTHING = '–';

/** Names of the transports, the same in every language. */
export const TRANSPORT_LABELS: Readonly<Record<TransportName, string>> = {
  websocket: 'WebSocket',
  polling: 'Socket.IO polling',
  sse: 'SSE',
  longpoll: 'Long poll',
};

function formatsOf(tag: string) {
  const number = (maximumFractionDigits: number) => new Intl.NumberFormat(tag, { maximumFractionDigits });
  // 24 hours in English, too: it is what logs have.
  const time = { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' } as const;
  return {
    whole: number(0),
    tenth: number(1),
    hundredth: number(2),
    clock: new Intl.DateTimeFormat(tag, time),
    day: new Intl.DateTimeFormat(tag, { day: '2-digit', month: 'short', ...time }),
    relative: new Intl.RelativeTimeFormat(tag, { numeric: 'auto', style: 'narrow' }),
  };
}

const FORMATS: Readonly<Record<Language, ReturnType<typeof formatsOf>>> = {
  en: formatsOf(LANGUAGE_TAGS.en),
  pt: formatsOf(LANGUAGE_TAGS.pt),
};
const formats = () => FORMATS[language.current];

/** `12,345` */
export const count = (value: number): string => formats().whole.format(value);

/** About three digits, so that an axis shows 0.25 and not 0.3. */
function short(value: number): string {
  const { whole, tenth, hundredth } = formats();
  return (value < 2 ? hundredth : value < 100 ? tenth : whole).format(value);
}

/** `12.5/s`; null is unknown. */
export const rate = (perSecond: number | null): string => (perSecond === null ? NOTHING : `${short(perSecond)}/s`);

/** Seconds, as `12.5 ms`, or `1.25 s` from 1 s. */
export function milliseconds(seconds: number | null): string {
  if (seconds === null) return NOTHING;
  const ms = seconds * 1000;
  if (ms >= 1_000) return `${short(seconds)} s`;
  return `${short(ms)} ms`;
}

/** `1.2 MB`, in units of 1000. */
export function bytes(value: number | null): string {
  if (value === null) return NOTHING;
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let size = value;
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit++;
  }
  const { whole, tenth } = formats();
  return `${(unit === 0 ? whole : tenth).format(size)} ${units[unit]}`;
}

/** Whole seconds, minutes, hours or days. */
export function duration(seconds: number): string {
  if (seconds < 60) return `${Math.max(0, Math.floor(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} ${language.current === 'pt' ? 'dias' : 'days'}`;
}

/** `5 min ago`, `in 3 days`, `now`. */
export function relativeTime(atMs: number, nowMs: number): string {
  const seconds = Math.trunc((atMs - nowMs) / 1000);
  const size = Math.abs(seconds);
  const { relative } = formats();
  if (size < 60) return relative.format(seconds, 'second');
  if (size < 3600) return relative.format(Math.trunc(seconds / 60), 'minute');
  if (size < 48 * 3600) return relative.format(Math.trunc(seconds / 3600), 'hour');
  return relative.format(Math.trunc(seconds / 86_400), 'day');
}

/** `14:03:59`, on the reader's clock. */
export const timeOfDay = (atMs: number): string => formats().clock.format(atMs);

/** `14:03:59` today, else with the day: `27 Nov, 14:03:59`. */
export function dateAndTime(atMs: number, nowMs: number = Date.now()): string {
  const isToday = new Date(atMs).toDateString() === new Date(nowMs).toDateString();
  return (isToday ? formats().clock : formats().day).format(atMs);
}

/** Numbers as people read them: short, and with their unit. */
import type { TransportName } from '../../contract/names.ts';

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const hundredth = new Intl.NumberFormat('en', { maximumFractionDigits: 2 });
const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });

/** In place of an unknown value. */
export const NOTHING = '–';

export const TRANSPORT_LABELS: Readonly<Record<TransportName, string>> = {
  websocket: 'WebSocket',
  polling: 'Socket.IO polling',
  sse: 'SSE',
  longpoll: 'Long poll',
};

export const count = (value: number): string => whole.format(value);

/** About three digits, so that an axis shows 0.25 and not 0.3. */
const short = (value: number): string => (value < 2 ? hundredth : value < 100 ? tenth : whole).format(value);

export const rate = (perSecond: number | null): string => (perSecond === null ? NOTHING : `${short(perSecond)}/s`);

export function milliseconds(seconds: number | null): string {
  if (seconds === null) return NOTHING;
  const ms = seconds * 1000;
  if (ms >= 10_000) return `${tenth.format(seconds)} s`;
  return `${short(ms)} ms`;
}

export function bytes(value: number | null): string {
  if (value === null) return NOTHING;
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let size = value;
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit++;
  }
  return `${unit === 0 ? whole.format(size) : tenth.format(size)} ${units[unit]}`;
}

export function duration(seconds: number): string {
  if (seconds < 60) return `${Math.max(0, Math.floor(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} days`;
}

export const timeOfDay = (atMs: number): string => clock.format(atMs);

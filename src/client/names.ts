/**
 * The names that `on` takes. The library cannot know which events an operator declares. So without `extraEvents` it refuses
 * only what no operator can declare, and what is one typing error away from a name that the library knows.
 */
import { LEGACY } from './legacy.ts';
import { fold } from './options.ts';

// A function, so that a bundle without `connect` leaves it out.
const knownNames = (): string[] => [
  ...Object.entries(LEGACY).flatMap(([name, { names }]) => [name, ...names]),
  'messages.deleted',
  'reset',
  'status',
  'signals',
];

/** No operator can declare these: another shape, the bridge's own names, and those of Socket.IO and EventSource. */
const IMPOSSIBLE = /^(?![a-z])|[^\w.:-]|^bridge\.|^(connect|disconnect|error|open|message)$/i;

/** @throws {TypeError} */
export function checkEventName(name: string, extraEvents: readonly string[] | undefined): void {
  const known = knownNames();
  if ([...known, ...(extraEvents ?? [])].includes(name)) return;
  const text = String(name);
  const meant = known.find((other) => isOneEditApart(fold(text), fold(other)));
  if (extraEvents === undefined && meant === undefined && text === name && !IMPOSSIBLE.test(text)) return;
  throw new TypeError(`No event is named "${text}". Use ${meant ?? known.join(', ')}, or list it in extraEvents.`);
}

/** Whether one character is missing, extra or wrong. */
const isOneEditApart = (name: string, known: string): boolean =>
  [...known].some((_, at) => new RegExp(`^${known.slice(0, at)}.{0,2}${known.slice(at + 1)}$`).test(name));

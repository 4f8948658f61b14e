/**
 * Turns a record into the frames that a consumer sees (protocol §4): legacy aliases with their merged payload, then the
 * canonical event, filtered by the consumer's view, and marked where the view asks for it. Every transport encodes exactly
 * these frames.
 */
import type { Cursor } from './cursor.ts';
import { type Aliases, LEGACY_ENTITY } from './events.ts';
import { BRIDGE_AUDIENCE } from './names.ts';
import type { Room, RoomKind } from './rooms.ts';
import { isRoutedByIds } from './routing.ts';

/** One event in the log. */
export interface LogRecord {
  readonly id: Cursor;
  readonly event: string;
  readonly rooms: readonly Room[];
  /** The keys under which the bus finds the listeners (contract/audiences.ts). */
  readonly audiences: readonly string[];
  /** JSON text, the same bytes for every consumer. */
  readonly payload: string;
  /** When the log accepted the record, in milliseconds since 1970. For metrics only. */
  readonly acceptedAtMs: number;
}

/** The length of the payloads together: a bound for memory, and for the size of an answer. */
export const charsOf = (items: readonly Pick<LogRecord, 'payload'>[]): number =>
  items.reduce((sum, { payload }) => sum + payload.length, 0);

/** One event as a transport sends it. A legacy event and a mark have no cursor. */
export interface Frame {
  readonly event: string;
  readonly payload: string;
  readonly cursor: Cursor | null;
}

/** What a consumer chose to see of each record. */
export interface View {
  /** The legacy names that the consumer gets; none if it passes `legacy=false`. */
  readonly aliases: Aliases;
  /** The event names to send; null sends all. */
  readonly events: ReadonlySet<string> | null;
  /** The room kinds of the bridge, if a `bridge.audience` marks the records that are not routed by their ids; else null. */
  readonly markedFor: readonly RoomKind[] | null;
  /** Views with equal keys show the same frames, so their consumers share one encoding. */
  readonly key: string;
}

export function createView(
  aliases: Aliases,
  events: Iterable<string> | null,
  markedFor: readonly RoomKind[] | null = null,
): View {
  const names = events === null ? null : new Set(events);
  const filter = names === null ? '' : `:${[...names].sort().join(',')}`;
  const group = Object.keys(aliases).length === 0 ? 'canonical' : 'legacy';
  return { aliases, events: names, markedFor, key: `${group}${markedFor === null ? '' : '+audience'}${filter}` };
}

/** The names that a consumer sees of a record, marks aside, in the order in which they are sent. */
export function namesSeen(event: string, view: View): readonly string[] {
  const { events } = view;
  const names = emittedNames(event, view.aliases);
  return events === null ? names : names.filter((name) => events.has(name));
}

/** The frames of a record in the order in which they are sent: a mark, legacy aliases, then the canonical event. */
export function framesOf(record: LogRecord, view: View): Frame[] {
  const names = namesSeen(record.event, view);
  const [first] = names;
  const legacy = first === undefined || first === record.event ? '' : legacyPayload(record.event, record.payload);
  const frames = names.map(
    (event): Frame =>
      event === record.event
        ? { event, payload: record.payload, cursor: record.id }
        : { event, payload: legacy, cursor: null },
  );
  if (view.markedFor === null || frames.length === 0 || isRoutedByIds(record, view.markedFor)) return frames;
  return [MARK, ...frames];
}

/** It names no rooms: the consumer may hear only one of them. */
const MARK: Frame = { event: BRIDGE_AUDIENCE, payload: '{}', cursor: null };

/** The names under which an accepted event goes out; `ws_emit_total` counts each, listeners or not (protocol §12). */
export function emittedNames(event: string, aliases: Aliases): readonly string[] {
  return [...(aliases[event] ?? []), event];
}

/** The fields of the entity merged into the envelope; the envelope wins where both have a key. */
function legacyPayload(event: string, payload: string): string {
  const envelope = JSON.parse(payload) as Record<string, unknown>;
  const entity = envelope[LEGACY_ENTITY[event] as string] as Record<string, unknown>;
  // Spread defines own properties, so a key named `__proto__` stays a key.
  return JSON.stringify({ ...entity, ...envelope });
}

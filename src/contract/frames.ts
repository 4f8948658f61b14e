/**
 * From a record of the log to what a listener sees (protocol §4): the legacy group, its merged payload, and the
 * listener's own filter. Every transport encodes what stands here and nothing else.
 */
import type { Cursor } from './cursor.ts';
import { LEGACY_ENTITY, LEGACY_NAMES } from './events.ts';
import type { Room } from './rooms.ts';

/** An event as it stands in the log. */
export interface LogRecord {
  readonly id: Cursor;
  readonly event: string;
  readonly rooms: readonly Room[];
  /** Keys under which the bus finds listeners; in `jwt` mode they hold the tenant (design law 9). */
  readonly audiences: readonly string[];
  /** JSON text, the same bytes for every listener. */
  readonly payload: string;
  /** When the record was accepted, milliseconds since 1970. For metrics only. */
  readonly acceptedAtMs: number;
}

/** One event of a record's group, as handlers get it. A legacy event has no cursor. */
export interface Frame {
  readonly event: string;
  readonly payload: string;
  readonly cursor: Cursor | null;
}

/** What a listener asked to see of each record. */
export interface View {
  readonly legacy: boolean;
  /** Event names to keep; null keeps all. */
  readonly events: ReadonlySet<string> | null;
  /** Equal for views that show the same frames, so that encodings can be shared between listeners. */
  readonly key: string;
}

export function createView(legacy: boolean, events: Iterable<string> | null): View {
  const names = events === null ? null : new Set(events);
  const filter = names === null ? '' : `:${[...names].sort().join(',')}`;
  return { legacy, events: names, key: `${legacy ? 'legacy' : 'canonical'}${filter}` };
}

/** The names that a listener sees of a record, in the order in which they are sent. */
export function namesSeen(event: string, view: View): readonly string[] {
  const { events } = view;
  const names = emittedNames(event, view.legacy);
  return events === null ? names : names.filter((name) => events.has(name));
}

/** The group of a record in the order in which it is sent: legacy aliases, then the canonical event. */
export function framesOf(record: LogRecord, view: View): Frame[] {
  const names = namesSeen(record.event, view);
  const [first] = names;
  const legacy = first === undefined || first === record.event ? '' : legacyPayload(record.event, record.payload);
  return names.map((event) =>
    event === record.event
      ? { event, payload: record.payload, cursor: record.id }
      : { event, payload: legacy, cursor: null },
  );
}

/** The names under which one accepted publish is emitted, whoever listens (protocol §12). */
export function emittedNames(event: string, legacy: boolean): readonly string[] {
  return legacy ? [...(LEGACY_NAMES[event] ?? []), event] : [event];
}

/** The entity's fields merged in beneath the envelope, which wins where a key clashes. */
function legacyPayload(event: string, payload: string): string {
  const envelope = JSON.parse(payload) as Record<string, unknown>;
  const entity = envelope[LEGACY_ENTITY[event] as string] as Record<string, unknown>;
  // Spread defines own properties: a key named __proto__ stays a key.
  return JSON.stringify({ ...entity, ...envelope });
}

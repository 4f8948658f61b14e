/**
 * The port by which operators look at the log (protocol §15): any records, by tenant or room, by instant, by event or by a
 * text in the payload, forwards or backwards.
 *
 * A filter may match nothing in a million records. So a scan works in steps: each looks at a bounded number of rows, says
 * how far it came, and leaves it to the caller to go on.
 */
import { audienceOf, type Keying } from '../contract/audiences.ts';
import type { Cursor } from '../contract/cursor.ts';
import type { LogRecord } from '../contract/frames.ts';
import { formatRoom, type Room } from '../contract/rooms.ts';
import type { LogBounds } from './store.ts';

/** Rows that one step looks at: a few milliseconds of the engine. */
export const SCAN_ROWS = 500;
/** With more index ranges to merge, a scan looks at every record instead. */
const MAX_LISTS = 500;

/** Records of some tenants, by their room. */
export interface LogPart {
  /** Null: of every tenant. */
  readonly tenants: readonly string[] | null;
  /** Only records that went to this room; null: whatever their rooms are. */
  readonly room: Room | null;
}

export interface ScanQuery {
  readonly caller?: string;
  /** At least one. Returns the records of any of them, each once. */
  readonly parts: readonly LogPart[];
  /** Only records of these events; null: of all. */
  readonly events: readonly string[] | null;
  /** Only records whose payload contains this text ({@link createContains}); null: all. */
  readonly contains: string | null;
  /** When the log accepted the record, both ends included; milliseconds since 1970, or null. */
  readonly sinceMs: number | null;
  readonly untilMs: number | null;
  /** Cursors, both exclusive; null: from the oldest record, to the newest. */
  readonly after: Cursor | null;
  readonly before: Cursor | null;
  /** `asc`: oldest first. `desc`: newest first. */
  readonly order: 'asc' | 'desc';
  /** The maximum number of records, 1 to 1000. */
  readonly limit: number;
  /** Ends with the record that brings the payloads that were looked at past this many characters. */
  readonly maxChars: number;
}

export type ScanResult =
  | {
      readonly kind: 'ok';
      /** In the `order` of the query. */
      readonly records: readonly LogRecord[];
      /**
       * How far the scan came: every record of the range up to this one (`desc`: down to this one) was looked at. At the
       * end of an `asc` scan without `before`, it is the head.
       */
      readonly position: Cursor;
      /** The range does not end at `position`. What follows may hold no match. */
      readonly more: boolean;
    }
  /** `cursor` is the one of the two that is expired or unknown. */
  | ({ readonly kind: 'expired' | 'unknown'; readonly cursor: Cursor } & LogBounds);

export interface LogScan {
  /**
   * One step through the log in its order. Returns the records of the query that it finds, and never one that was trimmed
   * or erased. MUST look at no more than `SCAN_ROWS` rows, and MUST come further with each call, even if nothing matches.
   * MUST read by tenant and room through the indexes where they have the answer. Instants are those of the clocks of the
   * nodes, which may step back: a scan MAY skip a stretch of the log only if it knows the instants of all of it.
   */
  scan(query: ScanQuery): Promise<ScanResult>;
}

/** Index ranges: of audiences, and of tenants their records that did not go to the room of the tenant. */
export interface ScanLists {
  readonly audiences: readonly string[];
  readonly tenants: readonly string[];
}

export interface ScanPlan {
  /** Where the records of the parts are; null: only the log as a whole has them all. */
  readonly lists: ScanLists | null;
  /** The parts, if other records are there too; else empty. */
  readonly filter: readonly LogPart[];
}

export function planScan(parts: readonly LogPart[], keying: Keying): ScanPlan {
  if (parts.some(({ tenants, room }) => tenants === null && room === null)) return { lists: null, filter: [] };
  const audiences = new Set<string>();
  const strays = new Set<string>();
  for (const { tenants, room } of parts) {
    if (room !== null && keying === 'room') audiences.add(audienceOf(keying, '', room));
    else if (tenants === null) return { lists: null, filter: parts };
    else {
      for (const tenant of tenants) {
        audiences.add(audienceOf(keying, tenant, room ?? formatRoom('tenant', tenant)));
        if (room === null) strays.add(tenant);
      }
    }
    if (audiences.size + strays.size > MAX_LISTS) return { lists: null, filter: parts };
  }
  const isExact = keying === 'tenant' || parts.every(({ tenants, room }) => tenants === null || room === null);
  return { lists: { audiences: [...audiences], tenants: [...strays] }, filter: isExact ? [] : parts };
}

/**
 * Whether a payload, which is JSON text, contains a text: as it stands in the JSON, or inside one of its strings. Upper and
 * lower case are the same; accents count. Linear in the payload, whatever the text: it may run on the event loop.
 */
export function createContains(text: string | null): (payload: string) => boolean {
  if (text === null) return () => true;
  const lower = text.toLowerCase();
  const inString = JSON.stringify(lower).slice(1, -1);
  return (payload) => {
    const searched = payload.toLowerCase();
    return searched.includes(lower) || (inString !== lower && searched.includes(inString));
  };
}

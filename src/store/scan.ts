/** What the engines share for the scan of the log (`LogScan` in store.ts): where its records are, and which contain a text. */
import { audienceOf, type Keying } from '../contract/audiences.ts';
import { formatRoom } from '../contract/rooms.ts';
import type { LogPart } from './store.ts';

/** Rows that one step looks at, at most: a few milliseconds of the engine. */
export const SCAN_ROWS = 500;
/** With more index ranges to merge, a scan looks at every record instead. */
const MAX_LISTS = 500;

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
 * Whether the JSON text of a payload contains a text, as it stands there or inside a string. Upper and lower case are the
 * same; accents count. Linear in the payload, whatever the text: it may run on the event loop.
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

/** The scripts that open and read the log, and the values with which every answer about the log starts. */

import type { Keying } from '../../contract/audiences.ts';
import { type CursorParts, formatCursor, parseCursor } from '../../contract/cursor.ts';
import type { LogRecord } from '../../contract/frames.ts';
import type { RoomKind } from '../../contract/rooms.ts';
import { createContains, SCAN_ROWS, type ScanPlan } from '../scan.ts';
import type {
  LogBounds,
  NewestQuery,
  NewestResult,
  ReadQuery,
  ReadResult,
  ScanQuery,
  ScanResult,
  StoreStats,
} from '../store.ts';
import { decodeRecords, ownList, randomText } from './record.ts';
import { defineScript } from './script.ts';

/** An answer about the log; `fields` are the values that a script adds. */
export interface LogAnswer<Fields extends readonly unknown[]> {
  readonly kind: 'ok' | 'expired' | 'unknown';
  readonly head: CursorParts;
  readonly bounds: LogBounds;
  readonly fields: Fields;
}

/** The order is that of logAnswer() in scripts/prelude/log.lua. */
function parseLogAnswer<Fields extends readonly unknown[]>(reply: unknown): LogAnswer<Fields> {
  type Values = [LogAnswer<Fields>['kind'], string, string, string, string, string, string, string, ...Fields];
  const [kind, epoch, seq, nonce, floorSeq, floorNonce, oldestSeq, oldestNonce, ...fields] = reply as Values;
  const head = { epoch, seq: Number(seq), nonce };
  const bounds = {
    floor: formatCursor({ epoch, seq: Number(floorSeq), nonce: floorNonce }),
    oldest: formatCursor({ epoch, seq: Number(oldestSeq), nonce: oldestNonce }),
    head: formatCursor(head),
  };
  return { kind, head, bounds, fields };
}

/** Scripts reply 'none' if Redis holds no log, for example after a flush. Then the parsed reply is null. */
export function ofLog<Fields extends readonly unknown[], Reply>(parse: (answer: LogAnswer<Fields>) => Reply) {
  return (reply: unknown): Reply | null =>
    (reply as readonly unknown[])[0] === 'none' ? null : parse(parseLogAnswer<Fields>(reply));
}

export const positionArgv = ({ epoch, seq, nonce }: CursorParts) => [epoch, String(seq), nonce];

/** A malformed cursor becomes a position of no log: no epoch is empty. */
const cursorArgv = (cursor: string) => positionArgv(parseCursor(cursor) ?? { epoch: '', seq: 0, nonce: '' });

/** What all nodes of a log must agree on. */
export interface Settings {
  readonly keying: Keying;
  readonly claimedRoomKinds: readonly RoomKind[];
}

/** The epoch is for a new log, if Redis holds none. */
export const openArgv = (keying: string) => [randomText(8), keying];

/** How long the settings of a node hold after it announced them. It does so every second. */
export const LIVE_MS = 2_500;

const claimsOf = ({ claimedRoomKinds }: Settings): string => claimedRoomKinds.toSorted().join(',');

/** Nodes that key audiences in different ways cannot share a log. */
const keyingMismatch = (keyingOfLog: string, keying: string): string =>
  `holds a log keyed by ${keyingOfLog}, but this node keys by ${keying}; use the same AUTH_MODE on all nodes`;

export const OPEN = defineScript(
  'open',
  (settings: Settings) => [...openArgv(settings.keying), claimsOf(settings), String(LIVE_MS)],
  (reply) => {
    const { head, bounds, fields } = parseLogAnswer<[keying: Keying, claims: string]>(reply);
    return { head, bounds, keying: fields[0], claims: fields[1] };
  },
);

/** Why a node with these settings cannot share the log; null if it can. */
export function mismatch(log: { readonly keying: Keying; readonly claims: string }, settings: Settings): string | null {
  if (log.keying !== settings.keying) return keyingMismatch(log.keying, settings.keying);
  const claims = claimsOf(settings);
  if (log.claims === claims) return null;
  const [theirs, ours] = [log.claims, claims].map((kinds) => (kinds === '' ? 'none' : kinds));
  return `has live nodes with CLAIMED_ROOM_KINDS ${theirs}, but this node has ${ours}; use the same on all nodes, or stop them all to change it`;
}

export const RESOLVE = defineScript(
  'resolve',
  cursorArgv,
  ofLog(({ kind, bounds }: LogAnswer<[]>) => ({ kind, bounds })),
);

const eventsArgv = (events: readonly string[] | null) => (events === null ? '' : `,${events.join(',')},`);

export const READ = defineScript(
  'read',
  ({ audiences, events = null, after, limit, maxChars }: ReadQuery) =>
    cursorArgv(after).concat(String(limit), String(maxChars), eventsArgv(events), ...new Set(audiences)),
  ofLog(({ kind, head, bounds, fields }: LogAnswer<[last: string, ...records: string[]]>): ReadResult => {
    if (kind !== 'ok') return { kind, ...bounds };
    const [last, ...values] = fields;
    const records = decodeRecords(head.epoch, values);
    const [seq = '', nonce = ''] = last.split(' ');
    const more = last !== '';
    return { kind, records, more, position: more ? formatCursor({ ...head, seq: Number(seq), nonce }) : bounds.head };
  }),
);

export const NEWEST = defineScript(
  'newest',
  ({ audiences, events = null, before = null, limit, maxChars }: NewestQuery) => {
    const beforeSeq = before === null ? '' : String(parseCursor(before)?.seq ?? 0);
    return [String(limit), String(maxChars), eventsArgv(events), beforeSeq, ...new Set(audiences)];
  },
  ofLog(({ head, bounds, fields }: LogAnswer<string[]>): NewestResult => {
    return { records: decodeRecords(head.epoch, fields).reverse(), head: bounds.head };
  }),
);

export interface ScanArguments {
  readonly query: ScanQuery;
  readonly plan: ScanPlan;
}

export const SCAN = defineScript(
  'scan',
  ({
    query: { events, contains, sinceMs, untilMs, after, before, order, limit, maxChars },
    plan: { lists, filter },
  }: ScanArguments) => [
    order,
    ...[after, before].flatMap((cursor) => (cursor === null ? ['', '', '', ''] : ['1', ...cursorArgv(cursor)])),
    ...[sinceMs, untilMs].map((atMs) => (atMs === null ? '' : String(atMs))),
    eventsArgv(events),
    String(SCAN_ROWS),
    // The text is looked for on this side: Redis serves everyone else meanwhile.
    String(contains === null ? limit : SCAN_ROWS),
    String(maxChars),
    JSON.stringify(filter.map(({ tenants, room }) => ({ tenants: tenants ?? false, room: room ?? false }))),
    lists === null ? 'all' : 'lists',
    ...(lists?.audiences ?? []),
    ...(lists?.tenants ?? []).map((tenantId) => ownList(tenantId, null)),
  ],
  ofLog(
    ({
      kind,
      head,
      bounds,
      fields,
    }: LogAnswer<[which: 'after' | 'before', position: string, more: string, ...string[]]>) => {
      const [which, position, more, ...values] = fields;
      if (kind !== 'ok') return { kind, which, bounds };
      const [seq = '', nonce = ''] = position.split(' ');
      return {
        kind,
        records: decodeRecords(head.epoch, values),
        position: formatCursor({ ...head, seq: Number(seq), nonce }),
        more: more === '1',
      };
    },
  ),
);

/** Keeps the records of a step that contain the text, up to the limit. */
export function keepContaining({ contains, limit }: ScanQuery, step: Extract<ScanResult, { kind: 'ok' }>): ScanResult {
  if (contains === null) return step;
  const isWanted = createContains(contains);
  const records: LogRecord[] = [];
  for (const record of step.records) {
    if (isWanted(record.payload)) records.push(record);
    if (records.length === limit && record !== step.records.at(-1))
      return { ...step, records, position: record.id, more: true };
  }
  return { ...step, records };
}

export const STATS = defineScript(
  'stats',
  () => [],
  (reply): Omit<StoreStats, 'bytes'> => {
    const [records, oldest = null, newest = null] = reply as [records: number, oldest?: string, newest?: string];
    const toMs = (time: string | null) => (time === null ? null : Number(time));
    return { records, oldestAcceptedAtMs: toMs(oldest), newestAcceptedAtMs: toMs(newest) };
  },
);

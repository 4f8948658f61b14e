/**
 * Why a person sees nothing: pure, from what the bridge answers about them (protocol §15). It yields codes and values;
 * texts/find.ts has the words.
 *
 * A verdict is the one sentence that explains most. Hints are facts beside it, and `next` says what to do.
 */

import type { LogEntry } from '../../contract/log.ts';
import type { TransportName } from '../../contract/names.ts';
import { nearest } from '../../contract/nearest.ts';
import type { ConnectionItem, RefusalItem } from '../../contract/operating.ts';
import { ALL_TENANTS, formatRoom, type Room } from '../../contract/rooms.ts';
import { type Claims, isForAllTenants } from './claims.ts';
import type { RevocationItem } from './operating.ts';

export type Level = 'good' | 'fair' | 'bad';

/** The newest event of a room in the log: of the person's own tenants, if the room has events of theirs. */
export interface RoomTraffic {
  readonly room: Room;
  /** Null: the log has none, or it was not searched whole. */
  readonly last: LogEntry | null;
  readonly isSearched: boolean;
  /** A newer event, of another tenant that has a room of this name. */
  readonly elsewhere: LogEntry | null;
}

/** All that is known of one person. */
export interface Evidence {
  readonly nowMs: number;
  readonly connections: readonly ConnectionItem[];
  /** Newest first. */
  readonly refusals: readonly RefusalItem[];
  /** Of the rooms that the person has joined, as far as the log was asked. */
  readonly traffic: readonly RoomTraffic[];
  /** The room of which the person misses events. */
  readonly about: RoomTraffic | null;
  /** A revocation of this person's tokens. */
  readonly revocation: RevocationItem | null;
  /** Nodes that did not answer. */
  readonly missing: readonly string[];
}

export type Verdict =
  | { readonly code: 'upToDate'; readonly transports: readonly TransportName[]; readonly rooms: number }
  | {
      readonly code: 'hears';
      readonly room: Room;
      readonly last: LogEntry;
      readonly transports: readonly TransportName[];
    }
  | { readonly code: 'noEvents'; readonly room: Room }
  | { readonly code: 'quietRooms'; readonly rooms: readonly Room[] }
  | { readonly code: 'pollOnly' | 'pollingOnly' }
  | { readonly code: 'behind'; readonly behindMs: number; readonly pendingBytes: number }
  | { readonly code: 'noRooms'; readonly transports: readonly TransportName[] }
  | {
      readonly code: 'joinRefused';
      readonly room: string;
      readonly refusal: RefusalItem;
      readonly meant: string | null;
    }
  | { readonly code: 'notInRoom'; readonly room: Room; readonly instead: string | null; readonly last: LogEntry | null }
  | { readonly code: 'otherTenant'; readonly own: readonly string[]; readonly tenantId: string; readonly room: Room }
  | { readonly code: 'refused'; readonly times: number; readonly withinMs: number; readonly refusal: RefusalItem }
  | { readonly code: 'refusedEarlier'; readonly refusal: RefusalItem }
  | { readonly code: 'revoked'; readonly revocation: RevocationItem }
  | { readonly code: 'gone'; readonly lastSeenAt: string }
  | { readonly code: 'absentOrMissing'; readonly nodes: readonly string[] }
  | { readonly code: 'absent' };
export type VerdictCode = Verdict['code'];

export type Hint =
  | { readonly code: 'sseHeld' }
  | { readonly code: 'ownTenantToo'; readonly last: LogEntry; readonly room: Room }
  | { readonly code: 'lastWent'; readonly last: LogEntry; readonly room: Room }
  | { readonly code: 'alsoRefused'; readonly times: number; readonly refusal: RefusalItem }
  | {
      readonly code: 'alsoJoinRefused';
      readonly room: string;
      readonly refusal: RefusalItem;
      readonly meant: string | null;
    }
  | { readonly code: 'publishRefused'; readonly refusal: RefusalItem }
  | { readonly code: 'quietRoom'; readonly room: Room }
  | { readonly code: 'expiresSoon'; readonly inMs: number }
  | { readonly code: 'revoked'; readonly revocation: RevocationItem };

/** What to do. */
export type NextCode =
  | 'sendCheck'
  | 'askRoom'
  | 'newToken'
  | 'signInAgain'
  | 'checkKey'
  | 'checkClaims'
  | 'fixRoomName'
  | 'joinRoom'
  | 'checkTenant'
  | 'askPublisher'
  | 'lookInApp'
  | 'waitForSlow'
  | 'raiseLimit'
  | 'checkHost'
  | 'readMessage'
  | 'askAddress'
  | 'pasteToken'
  | 'checkNodes';

export interface Diagnosis {
  readonly level: Level;
  readonly verdict: Verdict;
  readonly hints: readonly Hint[];
  readonly next: readonly NextCode[];
}

/** An older refusal explains little of what happens now. */
export const RECENT_MS = 10 * 60_000;
const LAST_MINUTE_MS = 60_000;
/** Less is the way of the network. */
const BEHIND_MS = 5_000;
/** Socket.IO begins with polling and needs a moment to change to a WebSocket. */
const UPGRADE_MS = 15_000;
const EXPIRES_SOON_MS = 120_000;

const atMs = ({ at }: { readonly at: string }): number => Date.parse(at);

/** The room of a refused join; null for another refusal. */
export const refusedRoom = ({ what }: RefusalItem): string | null => (what.startsWith('join ') ? what.slice(5) : null);

const LISTENING = /^(?:connect|(?:GET|HEAD) \/(?:sse|events)|GET \/tickets)\b/;
const isWayIn = ({ what }: RefusalItem): boolean => LISTENING.test(what);

export function diagnose(evidence: Evidence): Diagnosis {
  const { connections, nowMs, revocation } = evidence;
  const found = connections.length === 0 ? ofAbsent(evidence) : ofConnected(evidence);
  const hints = [...found.hints];
  const { code } = found.verdict;
  if (connections.length > 0) {
    const expiry = Math.min(
      ...connections.map(({ expiresAt }) => (expiresAt === null ? Infinity : Date.parse(expiresAt))),
    );
    if (expiry - nowMs < EXPIRES_SOON_MS) hints.push({ code: 'expiresSoon', inMs: Math.max(0, expiry - nowMs) });
  }
  if (revocation !== null && code !== 'revoked') hints.push({ code: 'revoked', revocation });
  return { ...found, hints };
}

function ofAbsent({ refusals, missing, revocation, nowMs }: Evidence): Diagnosis {
  const newest = refusals.find(isWayIn);
  if (newest !== undefined) {
    const recent = refusals.filter((refusal) => isWayIn(refusal) && nowMs - atMs(refusal) <= RECENT_MS);
    const inMinute = recent.filter((refusal) => nowMs - atMs(refusal) <= LAST_MINUTE_MS);
    const next = nextAfter(newest);
    if (recent.length === 0) return bad({ code: 'refusedEarlier', refusal: newest }, [...next, 'lookInApp']);
    const [times, withinMs] = inMinute.length > 0 ? [inMinute.length, LAST_MINUTE_MS] : [recent.length, RECENT_MS];
    return bad({ code: 'refused', times, withinMs, refusal: newest }, next);
  }
  if (revocation !== null) return bad({ code: 'revoked', revocation }, ['signInAgain']);
  if (missing.length > 0) return fair({ code: 'absentOrMissing', nodes: missing }, ['checkNodes', 'askAddress']);
  const [last] = refusals;
  if (last !== undefined)
    return bad({ code: 'gone', lastSeenAt: last.at }, [...nextAfter(last), 'lookInApp', 'sendCheck']);
  return bad({ code: 'absent' }, ['lookInApp', 'askAddress', 'pasteToken', 'sendCheck']);
}

function ofConnected(evidence: Evidence): Diagnosis {
  const { connections, refusals, traffic, about, nowMs } = evidence;
  const heard = new Set<string>(connections.flatMap(({ rooms }) => rooms));
  const sees = connections.every(({ rooms, roomCount }) => rooms.length === roomCount);
  const transports = [...new Set(connections.map(({ transport }) => transport))];
  const joins = joinsRefused(evidence, heard);
  const hints: Hint[] = joins.map(({ room, refusal }) => joinHint(room, refusal, heard));
  const others = refusals.filter((refusal) => isWayIn(refusal) && nowMs - atMs(refusal) <= RECENT_MS);
  if (others[0] !== undefined) hints.push({ code: 'alsoRefused', times: others.length, refusal: others[0] });
  const publish = refusals.find(({ what }) => what.startsWith('POST '));
  if (publish !== undefined && nowMs - atMs(publish) <= RECENT_MS)
    hints.push({ code: 'publishRefused', refusal: publish });

  if (about !== null) {
    const found = ofRoom(evidence, about, heard, sees, transports);
    if (found !== null)
      return { ...found, hints: [...found.hints, ...hints.filter((hint) => !repeats(hint, found.verdict))] };
  }
  const [join] = joins;
  if (join !== undefined) {
    const { room, refusal } = join;
    const { meant } = joinHint(room, refusal, heard);
    const next: NextCode[] = refusal.code === 'invalid_room' ? ['fixRoomName'] : nextAfter(refusal);
    return { level: 'bad', verdict: { code: 'joinRefused', room, refusal, meant }, hints: hints.slice(1), next };
  }
  if (heard.size === 0) return { ...bad({ code: 'noRooms', transports }, ['joinRoom']), hints };
  const slow = connections.filter(({ behindMs }) => behindMs > BEHIND_MS);
  if (slow.length > 0 && slow.length === connections.length) {
    const behindMs = Math.min(...slow.map((one) => one.behindMs));
    const pendingBytes = Math.max(...slow.map((one) => one.pendingBytes));
    return { ...bad({ code: 'behind', behindMs, pendingBytes }, ['waitForSlow', 'sendCheck']), hints };
  }
  const isQuiet = ({ room, last, isSearched }: RoomTraffic): boolean => isSearched && last === null && heard.has(room);
  const quiet = traffic.filter(isQuiet).map(({ room }) => room);
  if (quiet.length > 0 && quiet.length === heard.size) {
    return { ...fair({ code: 'quietRooms', rooms: quiet }, ['fixRoomName', 'askPublisher']), hints };
  }
  for (const room of quiet) hints.push({ code: 'quietRoom', room });
  const blocked = blockedTransport(connections, nowMs);
  if (blocked !== null) return { ...fair({ code: blocked }, ['sendCheck', 'askRoom']), hints };
  if (transports.every((transport) => transport === 'sse')) hints.unshift({ code: 'sseHeld' });
  const next: NextCode[] = about === null ? ['askRoom', 'sendCheck'] : ['sendCheck'];
  return { level: 'good', verdict: { code: 'upToDate', transports, rooms: heard.size }, hints, next };
}

/** Whether these connections hear a room, and whether it has anything to hear. Null: nothing stands against it. */
function ofRoom(
  { connections, refusals, nowMs }: Evidence,
  { room, last, isSearched, elsewhere }: RoomTraffic,
  heard: ReadonlySet<string>,
  sees: boolean,
  transports: readonly TransportName[],
): Diagnosis | null {
  const carriers: readonly string[] = last === null ? [room] : last.rooms;
  const isHeard = carriers.some((carrier) => heard.has(carrier));
  const newest = elsewhere ?? last;
  const tenantId = newest === null ? null : tenantOf(newest);
  const own = [...new Set(connections.flatMap(({ tenantIds }) => tenantIds))];
  const isOutside = tenantId !== null && own.length > 0 && !own.includes(ALL_TENANTS) && !own.includes(tenantId);
  if (isOutside) {
    const found = bad({ code: 'otherTenant', own, tenantId, room }, ['checkTenant', 'pasteToken']);
    const hasOwn = elsewhere !== null && last !== null && isHeard;
    return hasOwn ? { ...found, level: 'fair', hints: [{ code: 'ownTenantToo', last, room }] } : found;
  }
  if (!isHeard && !heard.has(room)) {
    const tries = refusals.filter((refusal) => refusedRoom(refusal) !== null);
    const refusal = tries.find((one) => refusedRoom(one) === room);
    if (refusal !== undefined) {
      return bad({ code: 'joinRefused', room, refusal, meant: null }, nextAfter(refusal));
    }
    // A list leaves out rooms past its hundredth.
    if (!sees) return null;
    const recent = tries.filter((one) => nowMs - atMs(one) <= RECENT_MS).map((one) => refusedRoom(one) as string);
    const instead = nearest(room, [...recent, ...heard]);
    return bad(
      { code: 'notInRoom', room, instead, last },
      instead === null ? ['joinRoom'] : ['fixRoomName', 'joinRoom'],
    );
  }
  if (last === null) return isSearched ? fair({ code: 'noEvents', room }, ['askPublisher', 'fixRoomName']) : null;
  if (!isHeard) {
    const hints: Hint[] = [{ code: 'lastWent', last, room }];
    return { ...bad({ code: 'notInRoom', room, instead: null, last }, ['askPublisher', 'joinRoom']), hints };
  }
  const slow = connections.filter(({ behindMs }) => behindMs > BEHIND_MS);
  if (slow.length === connections.length || blockedTransport(connections, nowMs) !== null) return null;
  const hints: Hint[] = transports.every((transport) => transport === 'sse') ? [{ code: 'sseHeld' }] : [];
  return { level: 'good', verdict: { code: 'hears', room, last, transports }, hints, next: ['sendCheck', 'lookInApp'] };
}

interface RefusedJoin {
  readonly room: string;
  readonly refusal: RefusalItem;
}

/** The newest refusal of each room that these connections wanted and do not have. */
function joinsRefused({ refusals, nowMs }: Evidence, heard: ReadonlySet<string>): readonly RefusedJoin[] {
  const newest = new Map<string, RefusalItem>();
  for (const refusal of refusals) {
    const room = refusedRoom(refusal);
    if (room === null || heard.has(room) || newest.has(room)) continue;
    if (nowMs - atMs(refusal) <= RECENT_MS) newest.set(room, refusal);
  }
  return [...newest].map(([room, refusal]) => ({ room, refusal }));
}

function joinHint(room: string, refusal: RefusalItem, heard: ReadonlySet<string>) {
  const meant = refusal.code === 'invalid_room' ? nearest(room, heard) : null;
  return { code: 'alsoJoinRefused', room, refusal, meant } as const;
}

const repeats = (hint: Hint, verdict: Verdict): boolean =>
  hint.code === 'alsoJoinRefused' && verdict.code === 'joinRefused' && hint.room === verdict.room;

/** Set if the network of the person lets none of the better transports pass. */
function blockedTransport(connections: readonly ConnectionItem[], nowMs: number): 'pollOnly' | 'pollingOnly' | null {
  if (connections.every(({ transport }) => transport === 'longpoll')) return 'pollOnly';
  const isStuck = ({ transport, since }: ConnectionItem): boolean =>
    transport === 'longpoll' || (transport === 'polling' && nowMs - Date.parse(since) > UPGRADE_MS);
  return connections.every(isStuck) ? 'pollingOnly' : null;
}

/** The tenant of an event; null if its payload names none. */
export function tenantOf({ payload, rooms }: Pick<LogEntry, 'payload' | 'rooms'>): string | null {
  const { tenantId } = payload;
  if (typeof tenantId === 'string' || typeof tenantId === 'number') return String(tenantId);
  return rooms.find((room) => room.startsWith('tenant:'))?.slice('tenant:'.length) ?? null;
}

const NEXT: Readonly<Record<string, readonly NextCode[]>> = {
  token_expired: ['newToken', 'pasteToken'],
  token_revoked: ['signInAgain'],
  unauthorized: ['checkKey', 'pasteToken'],
  forbidden: ['checkClaims', 'pasteToken'],
  invalid_room: ['fixRoomName'],
  invalid_request: ['fixRoomName', 'readMessage'],
  unknown_parameter: ['fixRoomName', 'readMessage'],
  rate_limited: ['raiseLimit'],
  too_many_connections: ['raiseLimit'],
  too_many_rooms: ['raiseLimit'],
  host_not_allowed: ['checkHost'],
  unavailable: ['readMessage'],
};

const nextAfter = ({ code }: RefusalItem): NextCode[] => [
  ...(Object.hasOwn(NEXT, code) ? (NEXT[code] ?? []) : ['readMessage' as const]),
];

const bad = (verdict: Verdict, next: readonly NextCode[]): Diagnosis => ({ level: 'bad', verdict, hints: [], next });
const fair = (verdict: Verdict, next: readonly NextCode[]): Diagnosis => ({ ...bad(verdict, next), level: 'fair' });

// Of a token that was pasted.

export type TokenFinding =
  | { readonly code: 'expired' | 'notYet'; readonly atMs: number }
  | { readonly code: 'forAllTenants' | 'noTenant' | 'noSubscribe' | 'noScope' }
  | { readonly code: 'narrowed'; readonly claims: readonly string[]; readonly rooms: readonly Room[] }
  | { readonly code: 'cannotHear'; readonly room: Room }
  | { readonly code: 'otherTenant'; readonly tenantId: string; readonly room: Room }
  | { readonly code: 'fine' };

/** The kinds whose claims always narrow. A claim of a declared kind may open rooms instead (`CLAIMED_ROOM_KINDS`). */
const NARROWING_KINDS: readonly string[] = ['ticket', 'agreement'];

/** What the claims of a token keep it from hearing, the worst first. */
export function judgeClaims(
  claims: Claims,
  nowMs: number,
  about: RoomTraffic | null,
): readonly [TokenFinding, ...TokenFinding[]] {
  const { expiresAtMs, validFromMs, scopes, tenants, subject, named } = claims;
  const found: TokenFinding[] = [];
  if (expiresAtMs !== null && expiresAtMs <= nowMs) found.push({ code: 'expired', atMs: expiresAtMs });
  if (validFromMs !== null && validFromMs > nowMs) found.push({ code: 'notYet', atMs: validFromMs });
  if (isForAllTenants(claims)) found.push({ code: 'forAllTenants' });
  else if (tenants.length === 0) found.push({ code: 'noTenant' });
  if (scopes === null) found.push({ code: 'noScope' });
  else if (!scopes.includes('subscribe')) found.push({ code: 'noSubscribe' });
  const narrowing = named.filter(({ kind }) => NARROWING_KINDS.includes(kind));
  const own: Room[] = subject === null ? [] : [formatRoom('user', subject)];
  const rooms = [...named.flatMap((one) => one.rooms), ...own];
  if (narrowing.length > 0) found.push({ code: 'narrowed', claims: narrowing.map(({ claim }) => claim), rooms });
  if (about !== null) {
    const { room, last } = about;
    const tenantId = last === null ? null : tenantOf(last);
    if (tenantId !== null && tenants.length > 0 && !tenants.includes(ALL_TENANTS) && !tenants.includes(tenantId)) {
      found.unshift({ code: 'otherTenant', tenantId, room });
    } else if (narrowing.length > 0 && !rooms.includes(room)) found.unshift({ code: 'cannotHear', room });
  }
  const [first = { code: 'fine' }, ...others] = found;
  return [first, ...others];
}

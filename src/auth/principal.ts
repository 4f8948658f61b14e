/**
 * The principal: who a request acts for, and what it may do (protocol §11, design law 9).
 *
 * auth.ts derives it from a request or handshake; every transport and route asks the functions here. In `jwt` mode an
 * audience key holds the tenant (contract/audiences.ts), so a token of one tenant never reaches an audience of another,
 * even by guessing ids.
 */
import { createHash } from 'node:crypto';
import { audienceOf, HEARS_ALL, type Hearing, type Keying } from '../contract/audiences.ts';
import { formatRoom, idOf, idsClaim, kindOf, type Room, type RoomKind } from '../contract/rooms.ts';
import { networkOf } from './limits.ts';

/** `AUTH_MODE=none`: everyone may do everything. */
export interface Anonymous {
  readonly kind: 'anonymous';
}

export interface TokenHolder {
  readonly kind: 'token';
  /** `*`: a service token, which may publish for all tenants and cannot listen. */
  readonly tenants: readonly string[] | '*';
  /** The `sub` claim: the user whose `user:` room may be joined. */
  readonly subject: string | null;
  readonly scopes: ReadonlySet<string>;
  /** The ids of each kind to which claims narrow the token (`ticketIds`, …). Null: the token is not narrowed. */
  readonly narrowing: ReadonlyMap<RoomKind, ReadonlySet<string>> | null;
  /** The kinds of which a token that is not narrowed may hear every room: `ticket`, `agreement` and those of ROOM_KINDS. */
  readonly openKinds: readonly RoomKind[];
  /** The ids of each kind of CLAIMED_ROOM_KINDS that the token claims. Nobody else hears these rooms. */
  readonly claimed: ReadonlyMap<RoomKind, ReadonlySet<string>>;
  /** The `jti` claim. */
  readonly tokenId: string | null;
  /** The `iat` claim, in whole seconds since 1970. */
  readonly issuedAtS: number | null;
  /** Milliseconds since 1970; null when the token has no `exp`. */
  readonly expiresAtMs: number | null;
  /** The credential was a pass (pass.ts), which cannot mint another pass. */
  readonly viaPass?: boolean;
}

export type Principal = Anonymous | TokenHolder;

export const ANONYMOUS: Principal = { kind: 'anonymous' };

export const keyingOf = (mode: 'none' | 'jwt'): Keying => (mode === 'none' ? 'room' : 'tenant');

/** False for a service token (`*`) and for a token without the scope `subscribe`. */
const mayListen = (holder: TokenHolder): holder is TokenHolder & { readonly tenants: readonly string[] } =>
  holder.tenants !== '*' && holder.scopes.has('subscribe');

/** Why the principal may listen to nothing; null if there may be rooms for it. */
export function whyDeaf(principal: Principal): string | null {
  if (principal.kind === 'anonymous') return null;
  if (!principal.scopes.has('subscribe')) return 'The token lacks the scope subscribe.';
  if (principal.tenants === '*') return 'A token for all tenants listens to none. Use one that names its tenants.';
  if (principal.tenants.length === 0) return 'The token names no tenant: it lacks the claim tenantId.';
  if (!isNarrowed(principal) || roomsNamedBy(principal).length > 0) return null;
  const claims = [...(principal.narrowing?.keys() ?? [])].map(idsClaim).join(', ');
  return `The token may hear no room: its claim ${claims} names none, and it has no sub.`;
}

const isNarrowed = ({ narrowing }: TokenHolder): boolean => narrowing !== null;

/** The rooms that claims of the token name. */
function roomsNamedBy({ subject, narrowing, claimed }: TokenHolder): Room[] {
  const rooms: Room[] = subject === null ? [] : [formatRoom('user', subject)];
  for (const [kind, ids] of [...(narrowing ?? []), ...claimed]) {
    for (const id of ids) rooms.push(formatRoom(kind, id));
  }
  return rooms;
}

/**
 * The audiences that carry a room's records to this principal; empty if it may not join. The result depends on the
 * token alone, never on whether the room exists, so that a refusal reveals nothing.
 */
export function audiencesFor(principal: Principal, room: Room): string[] {
  if (principal.kind === 'anonymous') return [audienceOf('room', '', room)];
  if (!mayListen(principal)) return [];
  if (!mayHear(principal, room)) return [];
  const tenants = kindOf(room) === 'tenant' ? [idOf(room)] : principal.tenants;
  return tenants.map((tenantId) => audienceOf('tenant', tenantId, room));
}

function mayHear(holder: TokenHolder, room: Room): boolean {
  const [kind, id] = [kindOf(room), idOf(room)];
  if (kind === 'user') return holder.subject === id;
  if (holder.claimed.get(kind)?.has(id)) return true;
  if (holder.narrowing !== null) return holder.narrowing.get(kind)?.has(id) ?? false;
  return kind === 'tenant' ? holder.tenants.includes(id) : holder.openKinds.includes(kind);
}

/** Tenants that a sentence names. */
const MAX_NAMED = 3;

/** Why the principal may not join the room, for whom {@link audiencesFor} is empty. */
export function whyUnheard(principal: Principal, room: Room): string {
  const sentence = `The token may not listen to ${room}`;
  const deaf = whyDeaf(principal);
  if (deaf !== null || principal.kind === 'anonymous') return deaf ?? `${sentence}.`;
  const { tenants, narrowing, claimed } = principal;
  const kind = kindOf(room);
  if (kind === 'user') return `${sentence}: only the user with this sub may.`;
  if (claimed.has(kind)) return `${sentence}: its claim ${idsClaim(kind)} does not name it.`;
  if (kind === 'tenant' && !tenants.includes(idOf(room))) {
    const more = tenants.length > MAX_NAMED ? ', …' : '';
    return `${sentence}: its claim tenantId names ${[...tenants].slice(0, MAX_NAMED).join(', ')}${more}.`;
  }
  if (narrowing === null) return `${sentence}: it lacks the claim ${idsClaim(kind)}.`;
  return `${sentence}: its claim ${[...narrowing.keys()].map(idsClaim).join(', ')} limits it to other rooms.`;
}

export function mayPublish(principal: Principal, tenantId: string): boolean {
  if (principal.kind === 'anonymous') return true;
  return principal.scopes.has('publish') && (principal.tenants === '*' || principal.tenants.includes(tenantId));
}

/** Why the principal may signal in no room (protocol §14); null if there may be rooms for it. */
export function whyMute(principal: Principal): string | null {
  if (principal.kind === 'anonymous') return null;
  const { scopes, tenants } = principal;
  if (!scopes.has('signal') && !scopes.has('publish')) {
    return 'The token may not signal. Use one with the scope signal, or publish.';
  }
  return tenants.length === 0 ? 'The token names no tenant: it lacks the claim tenantId.' : null;
}

/** Why the principal may not signal in this room of this tenant (protocol §14); null if it may. */
export function whyNoSignal(principal: Principal, tenantId: string, room: Room): string | null {
  if (principal.kind === 'anonymous' || mayPublish(principal, tenantId)) return null;
  if (!principal.scopes.has('signal')) return 'The token may not publish for this tenant, so it may not signal there.';
  if (audiencesFor(principal, room).includes(audienceOf('tenant', tenantId, room))) return null;
  return whyDeaf(principal) ?? `The token may not listen to ${room} of its tenant, so it may not signal there.`;
}

/** The rooms of one tenant that {@link audiencesFor} opens, as data. Null: the principal hears nothing of this tenant. */
export function hearingOf(principal: Principal, tenantId: string): Hearing | null {
  if (principal.kind === 'anonymous') return HEARS_ALL;
  if (!mayListen(principal) || !principal.tenants.includes(tenantId)) return null;
  const named = roomsNamedBy(principal);
  return isNarrowed(principal)
    ? { kinds: [], rooms: named }
    : { kinds: principal.openKinds, rooms: [formatRoom('tenant', tenantId), ...named] };
}

/**
 * Whether the principal may erase and see operator views: the scope `admin`, for the token's tenants. A `tenantId` of
 * null is the whole bridge, for service tokens only. A narrowed token, which covers no whole tenant, never may.
 */
export function mayAdminister(principal: Principal, tenantId: string | null): boolean {
  if (principal.kind === 'anonymous') return true;
  if (!principal.scopes.has('admin') || isNarrowed(principal)) return false;
  return principal.tenants === '*' || (tenantId !== null && principal.tenants.includes(tenantId));
}

/** Whether the principal may read figures that name rooms of all tenants: a service's token that is made for it. */
export function mayReadMetrics(principal: Principal): boolean {
  if (mayAdminister(principal, null)) return true;
  return (
    principal.kind === 'token' && principal.scopes.has('metrics') && principal.tenants === '*' && !isNarrowed(principal)
  );
}

/** Identifies a publisher for idempotency keys and rate limits. */
export function publisherKey(principal: Principal): string {
  if (principal.kind === 'anonymous') return 'anonymous';
  const tenants = principal.tenants === '*' ? '*' : [...principal.tenants].sort().join(',');
  return `${principal.subject ?? ''}\n${tenants}`;
}

/**
 * Identifies a caller, for `RATE_READS` and for a fair share of the log's reader: a token's `sub` and tenants, or without
 * tokens the client address.
 */
export function callerKey(principal: Principal, address: string): string {
  return principal.kind === 'anonymous' ? networkOf(address) : publisherKey(principal);
}

/** The owner of a Socket.IO session, saved with it; null if anyone may resume it. */
export interface SessionHolder {
  readonly subject: string | null;
  /** At most `MAX_HOLDER_TENANTS`. */
  readonly tenants: readonly string[];
  readonly narrowed: boolean;
}

/** Tenants that are saved with a session. It is written often, and few tokens name more. */
const MAX_HOLDER_TENANTS = 32;

export function sessionHolder(principal: Principal): SessionHolder | null {
  if (principal.kind === 'anonymous') return null;
  const { subject, tenants } = principal;
  return {
    subject,
    tenants: tenants === '*' ? [] : tenants.slice(0, MAX_HOLDER_TENANTS),
    narrowed: isNarrowed(principal),
  };
}

/**
 * Whether this principal may resume a session with these rooms.
 *
 * The user must be the same, and the token must name one of the session's tenants. A narrowed token must also reach one of
 * the rooms. Without a user, the token must reach every room, and a narrowed token cannot resume the session of a token
 * that is not narrowed. To anyone else the session does not exist, so a stolen session id reveals no room and cuts no
 * connection.
 */
export function mayResume(principal: Principal, holder: SessionHolder | null, rooms: readonly Room[]): boolean {
  const own = sessionHolder(principal);
  if (own === null || holder === null) return own === holder;
  if (own.subject !== holder.subject) return false;
  if (!own.tenants.some((tenantId) => holder.tenants.includes(tenantId))) return false;
  const isWithinReach = (room: Room): boolean => audiencesFor(principal, room).length > 0;
  if (own.subject === null) return own.narrowed === holder.narrowed && rooms.every(isWithinReach);
  return !own.narrowed || rooms.some(isWithinReach);
}

/** Sessions that one `sub` may have, and all clients together that have none, by tenants. */
const MAX_SESSIONS = { ofUser: 1_000, ofOthers: 100_000 } as const;

/** Who shares a limit on saved sessions, and the limit. */
export function sessionLimit(principal: Principal): { readonly key: string; readonly maxSessions: number } {
  const isUser = principal.kind === 'token' && principal.subject !== null;
  // A hash, because a token may name many tenants, and the key must not outlive the erasure of an id.
  const key = createHash('sha256').update(publisherKey(principal)).digest('base64url');
  return { key, maxSessions: isUser ? MAX_SESSIONS.ofUser : MAX_SESSIONS.ofOthers };
}

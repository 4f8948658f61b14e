/**
 * The principal: who a request acts for, and what it may do (protocol §11, design law 9).
 *
 * auth.ts derives it from a request or handshake; every transport and route asks the functions here. In `jwt` mode an
 * audience key holds the tenant (contract/audiences.ts), so a token of one tenant never reaches an audience of another,
 * even by guessing ids.
 */
import { createHash } from 'node:crypto';
import { audienceOf, type Keying } from '../contract/audiences.ts';
import { idOf, kindOf, type Room } from '../contract/rooms.ts';

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
  /** If either is not null, the token reaches these tickets and agreements only. */
  readonly ticketIds: ReadonlySet<string> | null;
  readonly agreementIds: ReadonlySet<string> | null;
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

export const isNarrowed = ({ ticketIds, agreementIds }: TokenHolder | StateScope): boolean =>
  ticketIds !== null || agreementIds !== null;

/**
 * The audiences that carry a room's records to this principal; empty if it may not join. The result depends on the
 * token alone, never on whether the room exists, so that a refusal reveals nothing.
 */
export function audiencesFor(principal: Principal, room: Room): string[] {
  if (principal.kind === 'anonymous') return [audienceOf('room', '', room)];
  if (!mayListen(principal)) return [];
  const id = idOf(room);
  const allowed = {
    tenant: () => !isNarrowed(principal) && principal.tenants.includes(id),
    ticket: () => !isNarrowed(principal) || (principal.ticketIds?.has(id) ?? false),
    agreement: () => !isNarrowed(principal) || (principal.agreementIds?.has(id) ?? false),
    // A user's room carries events of any ticket, so a narrowed token may not join it.
    user: () => !isNarrowed(principal) && principal.subject === id,
  }[kindOf(room)]();
  if (!allowed) return [];
  const tenants = kindOf(room) === 'tenant' ? [id] : principal.tenants;
  return tenants.map((tenantId) => audienceOf('tenant', tenantId, room));
}

export function mayPublish(principal: Principal, tenantId: string): boolean {
  if (principal.kind === 'anonymous') return true;
  return principal.scopes.has('publish') && (principal.tenants === '*' || principal.tenants.includes(tenantId));
}

/**
 * The part of a tenant's state that a principal may read. Both null: all tickets. Otherwise the tickets in `ticketIds`
 * and those whose agreement is in `agreementIds`.
 */
export interface StateScope {
  readonly ticketIds: readonly string[] | null;
  readonly agreementIds: readonly string[] | null;
}

/** Null: the principal may read nothing of this tenant. */
export function stateScope(principal: Principal, tenantId: string): StateScope | null {
  if (principal.kind === 'anonymous') return { ticketIds: null, agreementIds: null };
  if (!mayListen(principal) || !principal.tenants.includes(tenantId)) return null;
  return {
    ticketIds: principal.ticketIds === null ? null : [...principal.ticketIds],
    agreementIds: principal.agreementIds === null ? null : [...principal.agreementIds],
  };
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
 * Whether this principal may resume a session with these rooms: the same user, still of one of its tenants, and if the
 * token is narrowed, it must reach one of the rooms. Tokens that name no user are told apart by what they may hear: each
 * room must be within reach, and a narrowed token resumes no session of a full one. For anyone else the session does
 * not exist, so that a stolen session id reveals no room and cuts no connection.
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

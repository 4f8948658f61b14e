/**
 * Who is asking, and what they may do (protocol §11, design law 9).
 *
 * A principal is made in one place (auth.ts) from a request or handshake; every transport and route asks the same
 * functions here. In `jwt` mode the audience key of a room holds the tenant, so that a token of one tenant cannot be in
 * an audience of another, whatever ids are guessed.
 */
import { audienceOf, type Keying } from '../contract/audiences.ts';
import { idOf, kindOf, type Room } from '../contract/rooms.ts';

/** `AUTH_MODE=none`: everyone may do everything. */
export interface Anonymous {
  readonly kind: 'anonymous';
}

export interface TokenHolder {
  readonly kind: 'token';
  /** `*`: a service that may publish for all tenants, and listens to none. */
  readonly tenants: readonly string[] | '*';
  /** The `sub` claim: the user whose `user:` room may be joined. */
  readonly subject: string | null;
  readonly scopes: ReadonlySet<string>;
  /** When either is not null, the token reaches these tickets and agreements only. */
  readonly ticketIds: ReadonlySet<string> | null;
  readonly agreementIds: ReadonlySet<string> | null;
  /** Milliseconds since 1970; null when the token has no `exp`. */
  readonly expiresAtMs: number | null;
  /** Came in with a pass (pass.ts), which stands in for a token but mints no further pass. */
  readonly viaPass?: boolean;
}

export type Principal = Anonymous | TokenHolder;

export const ANONYMOUS: Principal = { kind: 'anonymous' };

export const keyingOf = (mode: 'none' | 'jwt'): Keying => (mode === 'none' ? 'room' : 'tenant');

/** A service token (`*`) listens to nothing, and a token without the scope `subscribe` may not listen. */
const mayListen = (holder: TokenHolder): holder is TokenHolder & { readonly tenants: readonly string[] } =>
  holder.tenants !== '*' && holder.scopes.has('subscribe');

const isNarrowed = (holder: TokenHolder): boolean => holder.ticketIds !== null || holder.agreementIds !== null;

/**
 * The audiences in which this principal hears a room; empty when it may not join. The answer depends on the token
 * alone, never on whether the room exists, so that a refusal tells nothing.
 */
export function audiencesFor(principal: Principal, room: Room): string[] {
  if (principal.kind === 'anonymous') return [audienceOf('room', '', room)];
  if (!mayListen(principal)) return [];
  const id = idOf(room);
  const allowed = {
    tenant: () => !isNarrowed(principal) && principal.tenants.includes(id),
    ticket: () => !isNarrowed(principal) || (principal.ticketIds?.has(id) ?? false),
    agreement: () => !isNarrowed(principal) || (principal.agreementIds?.has(id) ?? false),
    // A user's room carries events of any ticket, so a narrowed token, which gets "those rooms only", has none.
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
 * What of a tenant's state a principal may read (null: nothing). Both null: all of it. Else the state of these rooms: a
 * ticket that is named in `ticketIds`, or whose agreement is named in `agreementIds`.
 */
export interface StateScope {
  readonly ticketIds: readonly string[] | null;
  readonly agreementIds: readonly string[] | null;
}

export function stateScope(principal: Principal, tenantId: string): StateScope | null {
  if (principal.kind === 'anonymous') return { ticketIds: null, agreementIds: null };
  if (!mayListen(principal) || !principal.tenants.includes(tenantId)) return null;
  return {
    ticketIds: principal.ticketIds === null ? null : [...principal.ticketIds],
    agreementIds: principal.agreementIds === null ? null : [...principal.agreementIds],
  };
}

/**
 * `admin` in scope: erasure and operator views, for the tenants that the token names. A tenant of null is the whole
 * bridge, for a service token only. A narrowed token administers nothing: it is not for the whole of any tenant.
 */
export function mayAdminister(principal: Principal, tenantId: string | null): boolean {
  if (principal.kind === 'anonymous') return true;
  if (!principal.scopes.has('admin') || isNarrowed(principal)) return false;
  return principal.tenants === '*' || (tenantId !== null && principal.tenants.includes(tenantId));
}

/** Names a publisher for idempotency keys and rate limits. */
export function publisherKey(principal: Principal): string {
  if (principal.kind === 'anonymous') return 'anonymous';
  const tenants = principal.tenants === '*' ? '*' : [...principal.tenants].sort().join(',');
  return `${principal.subject ?? ''}\n${tenants}`;
}

/** What is kept with a Socket.IO session of whose it is; null for anyone's. */
export interface SessionHolder {
  readonly subject: string | null;
  readonly tenants: readonly string[];
}

export function sessionHolder(principal: Principal): SessionHolder | null {
  if (principal.kind === 'anonymous') return null;
  const { subject, tenants } = principal;
  return { subject, tenants: tenants === '*' ? [] : tenants };
}

/**
 * Whether a session goes on under this principal: the same user, still of one of its tenants. To anyone else it is no
 * session, so that a stolen one tells not even the names of its rooms, and is not emptied of those that the thief may
 * not join.
 */
export function mayResume(principal: Principal, holder: SessionHolder | null): boolean {
  const own = sessionHolder(principal);
  if (own === null || holder === null) return own === holder;
  return own.subject === holder.subject && own.tenants.some((tenantId) => holder.tenants.includes(tenantId));
}

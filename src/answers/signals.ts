/**
 * From a sender's request to a signal: who may signal in which room (protocol §14). `POST /signals` and Socket.IO share
 * these rules.
 */
import { type Principal, whyMute, whyNoSignal } from '../auth/principal.ts';
import { audienceOf } from '../contract/audiences.ts';
import { BridgeError } from '../contract/errors.ts';
import { idOf, kindOf } from '../contract/rooms.ts';
import { invalidSignal, type Signal, type SignalRequest } from '../contract/signals.ts';

/**
 * @param senderIn the sender's name for the listeners of a tenant; the tenant is empty without tokens
 * @throws {BridgeError} `forbidden`, `invalid_signal` if the tenant is missing or is not the room's
 */
export function signalOf(principal: Principal, request: SignalRequest, senderIn: (tenantId: string) => string): Signal {
  const { event, room, payload, ttlSeconds } = request;
  const signal = { event, room, payload, ttlSeconds };
  if (principal.kind === 'anonymous') {
    return { ...signal, audience: audienceOf('room', '', room), from: null, sender: senderIn('') };
  }
  const unable = whyMute(principal);
  if (unable !== null) throw new BridgeError('forbidden', unable);
  const tenantId = tenantOf(principal, request);
  const refusal = whyNoSignal(principal, tenantId, room);
  if (refusal !== null) throw new BridgeError('forbidden', refusal);
  if (kindOf(room) === 'tenant' && idOf(room) !== tenantId) {
    throw invalidSignal('/room', `must be of the signal's tenant, which is ${tenantId}`);
  }
  const audience = audienceOf('tenant', tenantId, room);
  return { ...signal, audience, from: principal.subject, sender: senderIn(tenantId) };
}

/** The tenant that the sender named, or the only one of its token. */
function tenantOf({ tenants }: Extract<Principal, { kind: 'token' }>, { tenantId }: SignalRequest): string {
  if (tenantId !== null) return tenantId;
  const [only, ...others] = tenants === '*' ? [] : tenants;
  if (only !== undefined && others.length === 0) return only;
  throw invalidSignal('/tenantId', 'is required, because the token does not name exactly one tenant');
}

/** The names of signals that a client gets, which its filter `events` names; all without a filter. */
export function signalNamesSeen(events: readonly string[], declared: readonly string[]): ReadonlySet<string> {
  const selected = events.filter((name) => name !== '');
  return new Set(selected.length === 0 ? declared : declared.filter((name) => selected.includes(name)));
}

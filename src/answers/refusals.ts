/**
 * The requests and joins that this node refused (protocol §15): counted, in a `debug` line, and the newest kept for
 * operators. Whose they were is known as far as a token had a good signature.
 */
import type { IncomingMessage } from 'node:http';
import { type Identity, identityOf } from '../auth/identity.ts';
import { clientAddress } from '../auth/limits.ts';
import { isWithinReach, type Reach, tenantIdsOf } from '../auth/operators.ts';
import type { Principal } from '../auth/principal.ts';
import type { BridgeError } from '../contract/errors.ts';
import type { RefusalItem } from '../contract/operating.ts';
import type { Logger } from '../logger.ts';
import type { Metrics } from '../metrics/metrics.ts';

const MAX_KEPT = 1_000;
const MAX_CHARACTERS = 500;

export type Requester = Parameters<typeof clientAddress>[0];

/** What was refused, and to whom. */
export interface Refused {
  readonly transport: RefusalItem['transport'];
  readonly what: string;
  readonly address: string;
  readonly identity: Identity | null;
  /** The id of the connection on which it was asked. */
  readonly connection?: string;
}

interface Kept extends Refused {
  readonly number: number;
  readonly atMs: number;
  readonly code: BridgeError['code'];
  readonly message: string;
}

export interface RefusalFilter {
  readonly sub: string | null;
  readonly address: string | null;
}

/** An item without the name of its node, and its place among those of all nodes: when, then its number. */
export type ListedRefusal = readonly [place: readonly [atMs: number, number: number], item: Omit<RefusalItem, 'node'>];

export interface Refusals {
  /** Who sent this request, for refusals from now on. */
  identify(request: object, principal: Principal): void;
  /** @param requester has the headers and the address of the request */
  add(error: BridgeError, what: Pick<Refused, 'transport' | 'what'>, requester: Requester): void;
  /** On a connection that is open. */
  addTo(error: BridgeError, refused: Refused): void;
  /** Those that match, newest first, from the one behind `after` on, at most `limit`. */
  list(
    filter: RefusalFilter & { readonly reach: Reach },
    after: ListedRefusal[0] | null,
    limit: number,
  ): ListedRefusal[];
}

interface RefusalDeps {
  readonly metrics: Metrics;
  readonly logger: Logger;
  readonly trustProxy: number;
}

export function createRefusals({ metrics, logger, trustProxy }: RefusalDeps): Refusals {
  const kept: Kept[] = [];
  const identities = new WeakMap<object, Identity>();
  let number = 0;
  let atMs = 0;

  function addTo({ code, message }: BridgeError, refused: Refused): void {
    metrics.refused(code);
    const { transport, address, identity, connection } = refused;
    const what = short(refused.what);
    // An order that a clock which steps back does not change.
    atMs = Math.max(atMs, Date.now());
    // A ring: the oldest gives its place to the newest.
    kept[number % MAX_KEPT] = { ...refused, what, number, atMs, code, message: short(message) };
    number++;
    const who = { sub: identity?.subject ?? null, tenantIds: identity === null ? [] : tenantIdsOf(identity) };
    logger.debug({ connection, transport, address, ...who, what, code }, 'refused');
  }

  return {
    identify(request, principal) {
      if (principal.kind === 'token') identities.set(request, principal);
    },
    add(error, { transport, what }, requester) {
      const identity = identityOf(error) ?? identities.get(requester) ?? null;
      addTo(error, { transport, what, address: clientAddress(requester, trustProxy), identity });
    },
    addTo,
    list({ sub, address, reach }, after, limit) {
      const found: ListedRefusal[] = [];
      for (let at = number - 1; at >= Math.max(0, number - MAX_KEPT) && found.length < limit; at--) {
        const refusal = kept[at % MAX_KEPT] as Kept;
        const { identity } = refusal;
        if (after !== null && !isBehind(refusal, after)) continue;
        if (sub !== null && identity?.subject !== sub) continue;
        if (address !== null && refusal.address !== address) continue;
        if (!isWithinReach(reach, identity?.tenants ?? [])) continue;
        found.push([[refusal.atMs, refusal.number], itemOf(refusal)]);
      }
      return found;
    },
  };
}

type RequestTarget = Partial<Pick<IncomingMessage, 'method' | 'url'>>;

/** `GET /sse`: the method and the path, without the query, which may hold a token. */
export const requestLine = ({ method = '', url = '' }: RequestTarget): string => `${method} ${url.split('?')[0]}`;

const isBehind = ({ atMs, number }: Kept, after: ListedRefusal[0]): boolean =>
  atMs === after[0] ? number < after[1] : atMs < after[0];

const short = (text: string): string => (text.length > MAX_CHARACTERS ? `${text.slice(0, MAX_CHARACTERS)}…` : text);

const itemOf = ({ atMs, address, transport, identity, what, code, message }: Kept): ListedRefusal[1] => ({
  at: new Date(atMs).toISOString(),
  ...{ address, transport },
  sub: identity?.subject ?? null,
  tenantIds: identity === null ? [] : tenantIdsOf(identity),
  ...{ what, code, message },
});

/**
 * The requests and joins that this node refused (protocol §15): counted, in a `debug` line, and the newest kept for
 * operators. Whose they were is known as far as a token had a good signature.
 */
import type { IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Identity, identityOf } from '../auth/identity.ts';
import { clientAddress } from '../auth/limits.ts';
import { isWithinReach, type Reach, tenantIdsOf } from '../auth/operators.ts';
import type { Principal } from '../auth/principal.ts';
import type { BridgeError } from '../contract/errors.ts';
import type { RefusalItem } from '../contract/operating.ts';
import { withoutTokens } from '../contract/printable.ts';
import type { Logger } from '../logger.ts';
import type { Metrics } from '../metrics/metrics.ts';

const MAX_KEPT = 1_000;
const MAX_CHARACTERS = 500;
/** The longest wait for identities that are being read. */
const READING_MS = 200;
/** Refusals of the token itself, whose identity is known if its signature is good. */
const OF_TOKENS: readonly string[] = ['unauthorized', 'token_expired', 'token_revoked'];

/** A request, as far as it could be read. */
export type Requester = Parameters<typeof clientAddress>[0] & { readonly url?: string | undefined };

/** What was refused, and to whom. */
export interface Refused {
  readonly transport: RefusalItem['transport'];
  readonly what: string;
  readonly address: string;
  readonly identity: Identity | null;
  /** The id of the connection on which it was asked. */
  readonly connection?: string;
}

interface Kept extends Omit<Refused, 'identity'> {
  readonly number: number;
  readonly atMs: number;
  readonly code: BridgeError['code'];
  readonly message: string;
  identity: Identity | null;
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
  ): Promise<ListedRefusal[]>;
}

interface RefusalDeps {
  readonly metrics: Metrics;
  readonly logger: Logger;
  readonly trustProxy: number;
  /** Whose token a request has that was refused before its token was read. */
  readonly readIdentity: (requester: Requester) => Promise<Identity | null>;
}

export function createRefusals({ metrics, logger, trustProxy, readIdentity }: RefusalDeps): Refusals {
  const kept: Kept[] = [];
  const identities = new WeakMap<object, Identity>();
  /** Identities that are being read. */
  const reading = new Set<Promise<void>>();
  let number = 0;
  let atMs = 0;

  function keep({ code, message }: BridgeError, refused: Refused): Kept {
    metrics.refused(code);
    // An order that a clock which steps back does not change.
    atMs = Math.max(atMs, Date.now());
    const refusal: Kept = { ...refused, what: short(refused.what), number, atMs, code, message: short(message) };
    // A ring: the oldest gives its place to the newest.
    kept[number % MAX_KEPT] = refusal;
    number++;
    return refusal;
  }

  async function readLate(refusal: Kept, requester: Requester): Promise<void> {
    refusal.identity = await readIdentity(requester);
    log(refusal);
  }

  function log({ transport, address, identity, connection, what, code }: Kept): void {
    const who = { sub: identity?.subject ?? null, tenantIds: identity === null ? [] : tenantIdsOf(identity) };
    logger.debug({ connection, transport, address, ...who, what, code }, 'refused');
  }

  return {
    identify(request, principal) {
      if (principal.kind === 'token') identities.set(request, principal);
    },
    add(error, { transport, what }, requester) {
      const identity = identityOf(error) ?? identities.get(requester) ?? null;
      const refusal = keep(error, { transport, what, address: clientAddress(requester, trustProxy), identity });
      if (identity !== null || OF_TOKENS.includes(error.code)) return log(refusal);
      const read = readLate(refusal, requester).finally(() => reading.delete(read));
      reading.add(read);
    },
    addTo: (error, refused) => log(keep(error, refused)),
    async list({ sub, address, reach }, after, limit) {
      // Those refused before this question. None takes longer than an answer of the keys' server.
      if (reading.size > 0) await Promise.race([Promise.all(reading), sleep(READING_MS, undefined, { ref: false })]);
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

function short(text: string): string {
  const safe = withoutTokens(text);
  return safe.length > MAX_CHARACTERS ? `${safe.slice(0, MAX_CHARACTERS)}…` : safe;
}

const itemOf = ({ atMs, address, transport, identity, what, code, message }: Kept): ListedRefusal[1] => ({
  at: new Date(atMs).toISOString(),
  ...{ address, transport },
  sub: identity?.subject ?? null,
  tenantIds: identity === null ? [] : tenantIdsOf(identity),
  ...{ what, code, message },
});

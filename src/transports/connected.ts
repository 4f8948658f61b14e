/**
 * Who is connected to this node, on every transport (protocol §15). It lists and ends connections for operators, and its
 * `debug` lines follow each connection by its id.
 *
 * A node can have tens of thousands, so a pass over them takes turns with everything else, and passes do not run side by
 * side.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { clientAddress } from '../auth/limits.ts';
import { isWithinReach, type Reach, tenantIdsOf } from '../auth/operators.ts';
import type { TokenHolder } from '../auth/principal.ts';
import type { Subscription } from '../bus/subscription.ts';
import type { TransportName } from '../contract/names.ts';
import type { ConnectionItem } from '../contract/operating.ts';
import { withoutTokens } from '../contract/printable.ts';
import type { Room } from '../contract/rooms.ts';
import type { Logger } from '../logger.ts';

/** Connections that are looked at in one turn of the event loop: less than a millisecond. */
const SLICE = 250;
/** Connections that are closed in one turn: a close ends a stream or a websocket, and what hangs on it. */
const CLOSES_PER_TURN = 20;
/** Rooms that are described in one turn. */
const ROOMS_PER_TURN = 500;
/** Rooms of one item in a list, those that were joined first. */
const MAX_ROOMS_LISTED = 100;
const MAX_USER_AGENT_CHARACTERS = 256;

/** Where a connection came from. Made when it opens, since a websocket's request is forgotten. */
export interface Origin {
  readonly address: string;
  readonly userAgent: string | null;
}

export interface ConnectedClient {
  readonly id: string;
  readonly transport: TransportName;
  readonly origin: Origin;
  readonly claims: Pick<TokenHolder, 'subject' | 'tenants'>;
  /** Milliseconds since 1970; Infinity: never. */
  readonly expiresAtMs: number;
  readonly subscription: Pick<Subscription, 'cursor' | 'behindMs' | 'rooms' | 'roomCount' | 'hasRoom'>;
  /** On the monotonic clock; null: nothing was delivered yet. */
  readonly deliveredAtMs: number | null;
  pendingBytes(): number;
  /** Ends the connection so that stock clients come back. */
  disconnect(): void;
}

/** All that are given must match. */
export interface ConnectionFilter {
  readonly id?: string | null;
  readonly tenantId?: string | null;
  readonly sub?: string | null;
  readonly room?: Room | null;
  readonly address?: string | null;
  readonly transport?: TransportName | null;
}

export interface ConnectionQuery extends ConnectionFilter {
  readonly reach: Reach;
}

/** An item without the name of its node, and its place among those of all nodes: since when, then its number. */
export type Listed = readonly [place: readonly [sinceMs: number, number: number], item: Omit<ConnectionItem, 'node'>];

export interface Connected {
  add(client: ConnectedClient): void;
  /** @param why the reason, for the log line */
  remove(client: ConnectedClient, why: string): void;
  /** A `debug` line about the connection. */
  log(client: ConnectedClient, fields: object, message: string): void;
  /** Connections that match, oldest first, from the one behind `after` on. At most `limit`, and all rooms of a single one. */
  list(query: ConnectionQuery, after: Listed[0] | null, limit: number): AsyncIterable<Listed>;
  /** Ends those that match. Resolves to their number. */
  disconnect(query: ConnectionQuery): Promise<number>;
}

/** @param request of the connection, while it has its headers */
export function originOf(request: Parameters<typeof clientAddress>[0], trustProxy: number): Origin {
  const userAgent = request.headers['user-agent'];
  return {
    address: clientAddress(request, trustProxy),
    userAgent: userAgent === undefined ? null : withoutTokens(userAgent).slice(0, MAX_USER_AGENT_CHARACTERS),
  };
}

export function createConnected(logger: Logger): Connected {
  const places = new Map<ConnectedClient, Listed[0]>();
  let sinceMs = 0;
  let number = 0;
  let passing = Promise.resolve();

  const isLogged = logger.isLevelEnabled('debug');
  function log(client: ConnectedClient, fields: object, message: string): void {
    if (!isLogged) return;
    const { id, transport, origin, claims } = client;
    const { address } = origin;
    const who = { sub: claims.subject, tenantIds: tenantIdsOf(claims) };
    logger.debug({ connection: id, transport, address, ...who, ...fields }, message);
  }

  /** Calls `visit` for each that matches, until it returns false; for `most` of them in one turn. */
  async function pass(
    query: ConnectionQuery,
    visit: (client: ConnectedClient, place: Listed[0]) => boolean,
    most = SLICE,
  ): Promise<void> {
    const before = passing;
    const turn = Promise.withResolvers<void>();
    passing = turn.promise;
    await before;
    try {
      let looked = 0;
      let visited = 0;
      for (const [client, place] of places) {
        if (++looked > SLICE || visited === most) {
          looked = 1;
          visited = 0;
          await nextTurn();
        }
        // It may have ended in between.
        if (!places.has(client) || !matches(client, query)) continue;
        visited++;
        if (!visit(client, place)) return;
      }
    } finally {
      turn.resolve();
    }
  }

  return {
    add(client) {
      // An order that a clock which steps back does not change.
      sinceMs = Math.max(sinceMs, Date.now());
      places.set(client, [sinceMs, ++number]);
      if (!isLogged) return;
      const rooms = firstOf(client.subscription.rooms, MAX_ROOMS_LISTED);
      log(client, { rooms, userAgent: client.origin.userAgent }, 'connected');
    },

    remove(client, why) {
      const place = places.get(client);
      if (place === undefined) return;
      places.delete(client);
      const seconds = Math.max(0, Math.round((Date.now() - place[0]) / 1000));
      log(client, { why, seconds, cursor: client.subscription.cursor }, 'disconnected');
    },

    log,

    async *list(query, after, limit) {
      const found: (readonly [ConnectedClient, Listed[0]])[] = [];
      await pass(query, (client, place) => {
        if (after === null || isBehind(place, after)) found.push([client, place]);
        return found.length < limit;
      });
      const maxRooms = (query.id ?? null) === null ? MAX_ROOMS_LISTED : Number.POSITIVE_INFINITY;
      let rooms = 0;
      for (const [client, place] of found) {
        rooms += 10 + Math.min(client.subscription.roomCount, maxRooms);
        if (rooms > ROOMS_PER_TURN) {
          rooms = 0;
          await nextTurn();
        }
        yield [place, itemOf(client, place[0], maxRooms)];
      }
    },

    async disconnect(query) {
      let closed = 0;
      await pass(
        query,
        (client) => {
          closed++;
          try {
            client.disconnect();
          } catch (error) {
            logger.error({ err: error, connection: client.id }, 'a connection could not be closed for an operator');
          }
          return true;
        },
        CLOSES_PER_TURN,
      );
      return closed;
    },
  };
}

function firstOf<T>(items: Iterable<T>, count: number): T[] {
  const first: T[] = [];
  for (const item of items) {
    if (first.length === count) break;
    first.push(item);
  }
  return first;
}

const isBehind = ([sinceMs, number]: Listed[0], after: Listed[0]): boolean =>
  sinceMs === after[0] ? number > after[1] : sinceMs > after[0];

function matches({ id, transport, origin, claims, subscription }: ConnectedClient, query: ConnectionQuery): boolean {
  const { tenantId = null, room = null } = query;
  const isAs = <T>(wanted: T | null | undefined, value: T): boolean => (wanted ?? null) === null || wanted === value;
  return (
    isAs(query.id, id) &&
    isAs(query.sub, claims.subject) &&
    isAs(query.address, origin.address) &&
    isAs(query.transport, transport) &&
    (tenantId === null || tenantIdsOf(claims).includes(tenantId)) &&
    (room === null || subscription.hasRoom(room)) &&
    isWithinReach(query.reach, claims.tenants)
  );
}

function itemOf(client: ConnectedClient, sinceMs: number, maxRooms: number): Listed[1] {
  const { id, transport, origin, claims, expiresAtMs, subscription, deliveredAtMs } = client;
  const delivered = deliveredAtMs === null ? null : Date.now() - (performance.now() - deliveredAtMs);
  return {
    ...{ id, transport },
    since: new Date(sinceMs).toISOString(),
    ...origin,
    tenantIds: tenantIdsOf(claims),
    sub: claims.subject,
    rooms: firstOf(subscription.rooms, maxRooms),
    roomCount: subscription.roomCount,
    cursor: subscription.cursor,
    behindMs: subscription.behindMs(),
    pendingBytes: client.pendingBytes(),
    lastDeliveryAt: delivered === null ? null : new Date(delivered).toISOString(),
    expiresAt: Number.isFinite(expiresAtMs) ? new Date(expiresAtMs).toISOString() : null,
  };
}

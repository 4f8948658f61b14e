/**
 * `/connections` (protocol §15): who is connected to any node, and the end of such connections. Takes the scope `admin`; a
 * token for certain tenants sees and closes only connections all of whose tenants it names.
 */
import { z } from 'zod';
import { type Authenticate, answerJson, type BridgeContext, type Handler, queryOf } from '../../answers/answer.ts';
import { requestIdOf } from '../../answers/headers.ts';
import { LIST_PAGE, oneOf, parseQuery, requireNoQuery, text } from '../../answers/query.ts';
import { requireOperator } from '../../auth/operators.ts';
import type { Config } from '../../config.ts';
import { BridgeError } from '../../contract/errors.ts';
import { TRANSPORTS } from '../../contract/names.ts';
import {
  ALL_TENANTS,
  allKinds,
  faultOfId,
  faultOfRoom,
  ID_SCHEMA,
  type Room,
  type RoomKind,
  roomSchema,
} from '../../contract/rooms.ts';
import type { Logger } from '../../logger.ts';
import type { Connected, ConnectionQuery } from '../../transports/connected.ts';
import type { Gate } from '../../transports/gate.ts';
import type { AllNodes, Answerer } from '../all-nodes.ts';
import { answerPage, entryOf, type Order, ownPlace, type Place, parsePage, textsOf } from '../node-pages.ts';

/** The oldest first, so that connections that begin meanwhile come on later pages. */
const ORDER: Order = 'asc';

const tenantFilter = z
  .string()
  .refine((id) => id === ALL_TENANTS || faultOfId('tenant', id) === null, {
    error: ({ input }) => faultOfId('tenant', input) ?? '',
  })
  .nullable()
  .default(null)
  .meta({ description: 'Only those whose token names this tenant; `*`: is for all tenants.', schema: ID_SCHEMA });

const roomFilter = (kinds: readonly RoomKind[]) =>
  z
    .string()
    .refine((room) => faultOfRoom(room, kinds) === null, { error: ({ input }) => faultOfRoom(input, kinds) ?? '' })
    .transform((room) => room as Room)
    .nullable()
    .default(null)
    .meta({ description: 'Only those in this room, by its name, such as `ticket:1`.', schema: roomSchema(kinds) });

/** @param roomKinds those that the operator declares */
export const connectionsFilter = (roomKinds: readonly RoomKind[] = []) => ({
  tenantId: tenantFilter,
  sub: text('Only those whose token has this `sub`.'),
  room: roomFilter(allKinds(roomKinds)),
  address: text('Only those from this client address, as the items have it.'),
  transport: oneOf(TRANSPORTS, 'Only those on this transport.'),
});

export const connectionsQuery = (roomKinds: readonly RoomKind[] = []) => ({
  ...connectionsFilter(roomKinds),
  ...LIST_PAGE,
});

interface ListQuestion {
  readonly query: ConnectionQuery;
  readonly after: Place | null;
  readonly limit: number;
}

/** What a node answers to the questions of these routes. */
export function connectionAnswerers(connected: Connected, node: string): Readonly<Record<string, Answerer>> {
  return {
    async connections({ query, after, limit }: ListQuestion) {
      return textsOf(node, connected.list(query, ownPlace(after, node, ORDER), limit));
    },
    disconnect: async (query: ConnectionQuery) => [String(await connected.disconnect(query))],
  };
}

export interface ConnectionDeps {
  readonly config: Pick<Config, 'host' | 'roomKinds'>;
  readonly allNodes: AllNodes;
  readonly gate: Pick<Gate, 'admitAnswer'>;
  readonly logger: Logger;
  readonly authenticate: Authenticate;
}

type ConnectionRoutes = Readonly<Record<'list' | 'get' | 'closeAll' | 'close', Handler>>;

export function createConnectionRoutes(deps: ConnectionDeps): ConnectionRoutes {
  const { config, allNodes, gate, logger, authenticate } = deps;
  const filterShape = connectionsFilter(config.roomKinds);
  const listShape = connectionsQuery(config.roomKinds);
  const operatorOf = async (context: BridgeContext, what: string) =>
    requireOperator(await authenticate(context), config.host, what);

  const ask = (question: ListQuestion) => allNodes.ask('connections', question);

  async function disconnect(context: BridgeContext, query: ConnectionQuery) {
    const { texts, missing } = await allNodes.ask('disconnect', query);
    const closed = texts.reduce((sum, count) => sum + Number(count), 0);
    if (closed > 0) logger.info({ requestId: requestIdOf(context.env.outgoing), closed }, 'closed connections');
    return { closed, missing };
  }

  const answerClosed = (
    context: BridgeContext,
    { closed, missing }: Awaited<ReturnType<typeof disconnect>>,
  ): Response => answerJson(context, 200, JSON.stringify({ closed, ...(missing.length === 0 ? {} : { missing }) }));

  return {
    async list(context) {
      const reach = await operatorOf(context, 'see connections');
      const { limit, page, ...filter } = parseQuery(queryOf(context), listShape);
      const answers = await ask({ query: { ...filter, reach }, after: parsePage(page), limit: limit + 1 });
      return answerPage(context, gate, answers, { limit, order: ORDER });
    },

    async get(context) {
      const reach = await operatorOf(context, 'see connections');
      requireNoQuery(context);
      const { texts, missing } = await ask({ query: { id: idOf(context), reach }, after: null, limit: 1 });
      const [found] = texts;
      if (found === undefined) throw unknown(missing);
      return answerJson(context, 200, entryOf(found).json);
    },

    async closeAll(context) {
      const reach = await operatorOf(context, 'close connections');
      const filter = parseQuery(queryOf(context), filterShape);
      if (Object.values(filter).every((value) => value === null)) {
        const names = Object.keys(filterShape).join(', ');
        throw new BridgeError('invalid_request', `Say whose connections to close, by at least one of ${names}.`);
      }
      return answerClosed(context, await disconnect(context, { ...filter, reach }));
    },

    async close(context) {
      const reach = await operatorOf(context, 'close connections');
      requireNoQuery(context);
      const answer = await disconnect(context, { id: idOf(context), reach });
      if (answer.closed === 0) throw unknown(answer.missing);
      return answerClosed(context, { closed: answer.closed, missing: [] });
    },
  };
}

const idOf = (context: BridgeContext): string => context.req.param('id') ?? '';

function unknown(missing: readonly string[]): BridgeError {
  if (missing.length === 0) return new BridgeError('not_found', 'No connection that you may see has this id.');
  const nodes = missing.join(', ');
  return new BridgeError(
    'unavailable',
    `No node that answered has this connection, and these did not answer: ${nodes}.`,
  );
}

/** `GET /refusals` (protocol §15): the newest requests and joins that the nodes refused. Takes the scope `admin`. */
import { type Authenticate, type Handler, queryOf } from '../../answers/answer.ts';
import { LIST_PAGE, parseQuery, text } from '../../answers/query.ts';
import type { RefusalFilter, Refusals } from '../../answers/refusals.ts';
import { type Reach, requireOperator } from '../../auth/operators.ts';
import type { Config } from '../../config.ts';
import type { Gate } from '../../transports/gate.ts';
import type { AllNodes, Answerer } from '../all-nodes.ts';
import { answerPage, type Order, ownPlace, type Place, parsePage, textsOf } from '../node-pages.ts';

const ORDER: Order = 'desc';

export const REFUSALS_QUERY = {
  sub: text('Only those of tokens with this `sub`.'),
  address: text('Only those from this client address, as the items have it.'),
  ...LIST_PAGE,
} as const;

interface ListQuestion {
  readonly filter: RefusalFilter & { readonly reach: Reach };
  readonly after: Place | null;
  readonly limit: number;
}

/** What a node answers to the question of this route. */
export function refusalAnswerers(refusals: Pick<Refusals, 'list'>, node: string): Readonly<Record<string, Answerer>> {
  return {
    refusals: async ({ filter, after, limit }: ListQuestion) =>
      textsOf(node, await refusals.list(filter, ownPlace(after, node, ORDER), limit)),
  };
}

export interface RefusalDeps {
  readonly config: Pick<Config, 'host'>;
  readonly allNodes: AllNodes;
  readonly gate: Pick<Gate, 'admitAnswer'>;
  readonly authenticate: Authenticate;
}

export function createRefusalsRoute({ config, allNodes, gate, authenticate }: RefusalDeps): Handler {
  return async (context) => {
    const reach = requireOperator(await authenticate(context), config.host, 'see refusals');
    const { limit, page, ...filter } = parseQuery(queryOf(context), REFUSALS_QUERY);
    const question = { filter: { ...filter, reach }, after: parsePage(page), limit: limit + 1 } satisfies ListQuestion;
    return answerPage(context, gate, await allNodes.ask('refusals', question), { limit, order: ORDER });
  };
}

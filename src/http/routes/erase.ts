/**
 * Erasure, for privacy law: removes the records, state and deduplication keys of a ticket or a tenant from the log and
 * its files for good. Cursors stay valid, and other tickets and tenants replay as before. Takes the scope `admin`.
 */
import { type Authenticate, answerJson, type BridgeContext, type Handler, queryOf } from '../../answers/answer.ts';
import { requestIdOf } from '../../answers/headers.ts';
import { parseQuery, requireNoQuery, tenant } from '../../answers/query.ts';
import { mayAdminister, type Principal } from '../../auth/principal.ts';
import { BridgeError, fieldsError } from '../../contract/errors.ts';
import { ID_RULE, isRoomId } from '../../contract/rooms.ts';
import type { Logger } from '../../logger.ts';
import type { Erasure } from '../../store/store.ts';

export const ERASE_TICKET_QUERY = { tenantId: tenant('The tenant of the ticket.') } as const;

export interface EraseDeps {
  readonly store: Erasure;
  readonly logger: Logger;
  readonly authenticate: Authenticate;
}

type EraseRoutes = Readonly<Record<'ticket' | 'tenant', Handler>>;

export function createEraseRoutes({ store, logger, authenticate }: EraseDeps): EraseRoutes {
  async function erase(
    context: BridgeContext,
    principal: Principal,
    tenantId: string,
    ticketId: string | null,
  ): Promise<Response> {
    if (!mayAdminister(principal, tenantId)) {
      throw new BridgeError(
        'forbidden',
        'The token may not erase data of this tenant. Use one for this tenant with the scope admin and no ticketIds or agreementIds.',
      );
    }
    const erased = await store.erase({ tenantId, ticketId });
    logger.info(
      { requestId: requestIdOf(context.env.outgoing), erased, scope: ticketId === null ? 'tenant' : 'ticket' },
      'erased records',
    );
    return answerJson(context, 200, JSON.stringify({ erased }));
  }

  return {
    async ticket(context) {
      const principal = await authenticate(context);
      const { tenantId } = parseQuery(queryOf(context), ERASE_TICKET_QUERY);
      return erase(context, principal, tenantId, pathId(context, 'ticketId'));
    },
    async tenant(context) {
      const principal = await authenticate(context);
      requireNoQuery(context);
      return erase(context, principal, pathId(context, 'tenantId'), null);
    },
  };
}

function pathId(context: BridgeContext, name: string): string {
  const value = context.req.param(name);
  if (isRoomId(value)) return value;
  throw fieldsError('invalid_request', [{ in: 'path', path: name, message: `must be ${ID_RULE}` }]);
}

/**
 * Erasure, as privacy law asks for it: a ticket's or a tenant's records, state and dedupe keys leave the log and its
 * files for good. Cursors stay valid, and others' replays whole. For principals with the scope `admin`.
 */
import { answer, type BridgeContext, type Handler, JSON_TYPE } from '../../answers/answer.ts';
import { id, parseQuery } from '../../answers/query.ts';
import { mayAdminister, type Principal } from '../../auth/principal.ts';
import { BridgeError } from '../../contract/errors.ts';
import { ID_RULE, isRoomId } from '../../contract/rooms.ts';
import type { Logger } from '../../logger.ts';
import type { Erasure } from '../../store/store.ts';

export const ERASE_TICKET_QUERY = { tenantId: id('The tenant.') } as const;

export interface EraseDeps {
  readonly store: Erasure;
  readonly logger: Logger;
  readonly authenticate: (context: BridgeContext) => Promise<Principal>;
}

export interface EraseRoutes {
  readonly ticket: Handler;
  readonly tenant: Handler;
}

export function createEraseRoutes({ store, logger, authenticate }: EraseDeps): EraseRoutes {
  async function erase(context: BridgeContext, tenantId: string, ticketId: string | null): Promise<Response> {
    if (!mayAdminister(await authenticate(context), tenantId)) {
      throw new BridgeError('forbidden', 'The token may not administer this tenant.');
    }
    const erased = await store.erase({ tenantId, ticketId });
    logger.info({ erased, whole: ticketId === null ? 'tenant' : 'ticket' }, 'records were erased');
    const headers = { 'Content-Type': JSON_TYPE, 'Cache-Control': 'no-store' };
    return answer(context, 200, headers, JSON.stringify({ erased }));
  }

  return {
    ticket(context) {
      const { tenantId } = parseQuery(new URL(context.req.url).searchParams, ERASE_TICKET_QUERY);
      return erase(context, tenantId, pathId(context, 'ticketId'));
    },
    tenant: (context) => erase(context, pathId(context, 'tenantId'), null),
  };
}

function pathId(context: BridgeContext, name: string): string {
  const value = context.req.param(name);
  if (!isRoomId(value)) {
    const errors = [{ path: name, message: `must be ${ID_RULE}` }];
    throw new BridgeError('invalid_request', `${name} must be ${ID_RULE}.`, { errors });
  }
  return value;
}

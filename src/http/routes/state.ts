/**
 * The state routes (protocol §7): the newest payload of each ticket, and the messages of a ticket. A client reads them at
 * its start and after a reset, and goes live from the answer's `cursor` with no gap.
 *
 * An item is shown only to a caller that may hear a room of the record that it shows, item by item.
 *
 * The store keeps items as JSON text, and the answer contains that text unchanged: the same bytes as on every transport.
 */
import { z } from 'zod';
import {
  type Authenticate,
  answerJson,
  answerStream,
  type BridgeContext,
  type Handler,
  isSentWhole,
  queryOf,
  UNCACHED_JSON,
} from '../../answers/answer.ts';
import { choice, instant, integer, parseQuery, tenant, text } from '../../answers/query.ts';
import { clientAddress } from '../../auth/limits.ts';
import { callerKey, hearingOf, type Principal, whyDeaf } from '../../auth/principal.ts';
import type { Revoked } from '../../auth/revocations.ts';
import type { Config } from '../../config.ts';
import { createHears, type Hearing } from '../../contract/audiences.ts';
import { BridgeError } from '../../contract/errors.ts';
import { instantKey } from '../../contract/instants.ts';
import { formatRoom, ID_RULE, ID_SCHEMA, isRoomId } from '../../contract/rooms.ts';
import type { Secrets, StatePage, TicketState } from '../../store/store.ts';
import type { Gate } from '../../transports/gate.ts';
import { createPageTokens } from './page-token.ts';

const MAX_LIMIT = 1000;
const DEFAULT_LIMIT = 100;
/** A large page is read in steps, as its client takes it. A step ends with the item that brings it past this many characters. */
const STEP_CHARS = 1024 * 1024;
/** A page of more steps ends early. */
const MAX_STEPS = 16;

const tenantId = tenant('The tenant.');
const limit = integer(
  1,
  MAX_LIMIT,
  DEFAULT_LIMIT,
  'Maximum number of items in the response. A page of large items has fewer.',
);
const page = text('The `nextPage` of the previous response. Leave it out for the first page.');

const updatedAfter = instant('Only tickets with a later `ticketUpdatedAt`.', instantKey);

const agreementId = z
  .string()
  .refine(isRoomId, `must be ${ID_RULE}`)
  .nullable()
  .default(null)
  .meta({ description: 'Only tickets of this agreement.', schema: ID_SCHEMA });

const status = z
  .string()
  .min(1, 'must be a non-empty string')
  .nullable()
  .default(null)
  .meta({
    description: 'Only tickets with this `ticketStatus` in their newest payload.',
    schema: { type: 'string', minLength: 1, example: 'OPEN' },
  });

export const TICKETS_QUERY = { tenantId, agreementId, status, updatedAfter, limit, page } as const;

export const TICKET_QUERY = { tenantId } as const;

export const MESSAGES_QUERY = {
  tenantId,
  limit,
  page,
  order: choice(['asc', 'desc'], 'asc', 'Order by cursor: `asc` lists the oldest message first, `desc` the newest.'),
} as const;

export interface StateDeps {
  readonly config: Pick<Config, 'maxBufferBytes' | 'trustProxy'>;
  readonly gate: Pick<Gate, 'admitAnswer'>;
  readonly store: TicketState & Secrets;
  readonly revoked: Pick<Revoked, 'current'>;
  readonly authenticate: Authenticate;
  /** @throws {BridgeError} `rate_limited` */
  readonly countRead: (caller: string) => void;
}

interface PageRequest {
  readonly principal: Principal;
  readonly tenantId: string;
  readonly page: string | null;
  readonly limit: number;
}

type StateRoutes = Readonly<Record<'tickets' | 'ticket' | 'messages', Handler>>;

export function createStateRoutes({ config, gate, store, revoked, authenticate, countRead }: StateDeps): StateRoutes {
  const maxChars = Math.min(STEP_CHARS, config.maxBufferBytes);
  const tokens = createPageTokens(store);

  /** @throws {BridgeError} as `authenticate` and `countRead` do */
  async function admit(context: BridgeContext): Promise<{ readonly principal: Principal; readonly caller: string }> {
    const principal = await authenticate(context);
    const caller = callerKey(principal, clientAddress(context.env.incoming, config.trustProxy));
    countRead(caller);
    return { principal, caller };
  }

  return {
    async tickets(context) {
      const { principal, caller } = await admit(context);
      const query = parseQuery(queryOf(context), TICKETS_QUERY);
      const hearing = hearingIn(principal, query.tenantId);
      return answerPages(context, { ...query, principal }, (page, limit) =>
        store.tickets({ ...query, caller, hearing, maxChars, page, limit }),
      );
    },

    async ticket(context) {
      const { principal, caller } = await admit(context);
      const { tenantId } = parseQuery(queryOf(context), TICKET_QUERY);
      const hearing = hearingIn(principal, tenantId);
      const { payload } = await store.ticket({ tenantId, ticketId: ticketIdOf(context), caller, hearing });
      if (payload === null) throw notFound();
      return answerJson(context, 200, payload);
    },

    async messages(context) {
      const { principal, caller } = await admit(context);
      const query = parseQuery(queryOf(context), MESSAGES_QUERY);
      const hearing = hearingIn(principal, query.tenantId);
      const where = { tenantId: query.tenantId, ticketId: ticketIdOf(context), caller, hearing };
      return answerPages(context, { ...query, principal }, async (page, limit) => {
        const found = await store.messages({ ...query, ...where, maxChars, page, limit });
        // Nothing that the caller may read, and no right to the ticket as such: it does not seem to exist.
        const isUnseen = found.items.length === 0 && page === null && found.nextPage === null;
        if (isUnseen && !createHears(hearing)(formatRoom('ticket', where.ticketId))) {
          if ((await store.ticket(where)).payload === null) throw notFound();
        }
        return found;
      });
    },
  };

  /**
   * All pages answer with the cursor of the first one, which `nextPage` carries. While a client pages, a change may fall
   * on a page that it has read already; it gets that change when it goes live, whichever page's cursor it uses.
   */
  async function answerPages(
    context: BridgeContext,
    { principal, tenantId, page, limit }: PageRequest,
    read: (page: string | null, limit: number) => Promise<StatePage>,
  ): Promise<Response> {
    // Neither part has a line feed, so two lists never share a name.
    const list = `${context.req.param('ticketId') ?? ''}\n${tenantId}`;
    const [firstCursor, position] = page === null ? [null, null] : await tokens.open(list, page);
    // Each step takes the place of the one before it, so that one is in memory.
    let step = await read(position, limit);
    const cursor = firstCursor ?? step.cursor;
    const tail = async (next: string | null): Promise<string> => {
      const nextPage = next === null ? null : await tokens.seal(list, cursor, next);
      return `],"nextPage":${JSON.stringify(nextPage)},"cursor":${JSON.stringify(cursor)}}`;
    };
    const chars = charsOf(step);
    if (isSentWhole(chars) && chars <= maxChars) {
      return answerJson(context, 200, `{"items":[${step.items.join(',')}${await tail(step.nextPage)}`);
    }
    async function* texts(): AsyncGenerator<string> {
      let left = limit;
      let before = '{"items":[';
      for (let steps = 1; ; steps++) {
        for (const item of step.items) {
          yield `${before}${item}`;
          before = ',';
        }
        left -= step.items.length;
        // A step that did not end because of its size ends the page.
        if (step.nextPage === null || left === 0 || steps === MAX_STEPS || charsOf(step) <= maxChars) break;
        revoked.current(principal);
        step = await read(step.nextPage, left);
      }
      yield await tail(step.nextPage);
    }
    return answerStream(context, gate, UNCACHED_JSON, texts());
  }
}

function ticketIdOf(context: BridgeContext): string {
  const ticketId = context.req.param('ticketId');
  // An invalid id cannot belong to a ticket.
  if (!isRoomId(ticketId)) throw notFound();
  return ticketId;
}

/** The same answer for a missing ticket and for one that the token may not read, so it reveals nothing. */
const notFound = (): BridgeError =>
  new BridgeError('not_found', 'No ticket of this tenant has this id, or the token may not read it.');

/** @throws {BridgeError} `forbidden` */
function hearingIn(principal: Principal, tenantId: string): Hearing {
  const hearing = hearingOf(principal, tenantId);
  if (hearing === null) {
    throw new BridgeError(
      'forbidden',
      whyDeaf(principal) ?? 'The token may not read this tenant. Use one for this tenant with the scope subscribe.',
    );
  }
  return hearing;
}

const charsOf = ({ items }: StatePage): number => items.reduce((sum, item) => sum + item.length, 0);

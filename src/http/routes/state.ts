/**
 * The state routes (protocol §7): the newest payload of each ticket, and its messages, as the log's projection has
 * them. A client reads them first, and after a reset, and goes live from the answer's `cursor` with no gap.
 *
 * Items are the JSON texts that the store keeps and go into the answer as they are: the same bytes as on every transport.
 */
import { z } from 'zod';
import { answer, type BridgeContext, type Handler, JSON_TYPE } from '../../answers/answer.ts';
import { choice, id, integer, parseQuery, text } from '../../answers/query.ts';
import { type Principal, type StateScope, stateScope } from '../../auth/principal.ts';
import { type Cursor, parseCursor } from '../../contract/cursor.ts';
import { BridgeError } from '../../contract/errors.ts';
import { instantKey } from '../../contract/events.ts';
import { ID_RULE, ID_SCHEMA, isRoomId } from '../../contract/rooms.ts';
import { invalidPage, type StatePage, type TicketResult, type TicketState } from '../../store/store.ts';

const MAX_LIMIT = 1000;
const DEFAULT_LIMIT = 100;
/** Most payload text of one page, in characters, but for the item that goes past it. */
const PAGE_CHARS = 16 * 1024 * 1024;

const tenantId = id('The tenant.');
const limit = integer(1, MAX_LIMIT, DEFAULT_LIMIT, 'Most items to answer with; a page of large ones holds fewer.');
const page = text('The `nextPage` of the answer before.');

const updatedAfter = z.iso
  .datetime({
    offset: true,
    error:
      'must be an ISO 8601 instant, such as 2024-06-01T12:00:00.000Z; the + of an offset is written %2B in a query',
  })
  .transform(instantKey)
  .nullable()
  .default(null)
  .meta({
    description: 'Only tickets whose `ticketUpdatedAt` is later. The `+` of an offset is written `%2B`.',
    schema: { type: 'string', format: 'date-time' },
  });

const agreementId = z
  .string()
  .refine(isRoomId, `must be ${ID_RULE}`)
  .nullable()
  .default(null)
  .meta({ description: 'Only tickets of this agreement.', schema: ID_SCHEMA });

/** No ticket's status is empty (protocol §3). */
const status = z
  .string()
  .min(1, 'must not be empty')
  .nullable()
  .default(null)
  .meta({
    description: 'Only tickets whose newest `ticketStatus` is this.',
    schema: { type: 'string', minLength: 1, example: 'OPEN' },
  });

export const TICKETS_QUERY = {
  tenantId,
  agreementId,
  status,
  updatedAfter,
  limit,
  page,
} as const;

export const TICKET_QUERY = { tenantId } as const;

export const MESSAGES_QUERY = {
  tenantId,
  limit,
  page,
  order: choice(['asc', 'desc'], 'asc', 'By cursor: `asc` is oldest first.'),
} as const;

export interface StateDeps {
  readonly store: TicketState;
  readonly authenticate: (context: BridgeContext) => Promise<Principal>;
}

export interface StateRoutes {
  readonly tickets: Handler;
  readonly ticket: Handler;
  readonly messages: Handler;
}

export function createStateRoutes({ store, authenticate }: StateDeps): StateRoutes {
  return {
    async tickets(context) {
      const principal = await authenticate(context);
      const query = parseQuery(queryOf(context), TICKETS_QUERY);
      const scope = scopeOf(principal, query.tenantId);
      return answerPages(context, query.page, (page) =>
        store.tickets({ ...query, ...scope, maxChars: PAGE_CHARS, page }),
      );
    },

    async ticket(context) {
      const principal = await authenticate(context);
      const { tenantId } = parseQuery(queryOf(context), TICKET_QUERY);
      const scope = scopeOf(principal, tenantId);
      const ticketId = ticketIdOf(context);
      const ticket = await store.ticket(tenantId, ticketId);
      if (ticket.payload === null || !reaches(scope, ticketId, ticket)) throw notFound();
      return answerJson(context, ticket.payload);
    },

    async messages(context) {
      const principal = await authenticate(context);
      const query = parseQuery(queryOf(context), MESSAGES_QUERY);
      const scope = scopeOf(principal, query.tenantId);
      const ticketId = ticketIdOf(context);
      if (isNarrowed(scope) && !reaches(scope, ticketId, await store.ticket(query.tenantId, ticketId)))
        throw notFound();
      return answerPages(context, query.page, (page) =>
        store.messages({ ...query, ticketId, maxChars: PAGE_CHARS, page }),
      );
    },
  };
}

const queryOf = (context: BridgeContext): URLSearchParams => new URL(context.req.url).searchParams;

function ticketIdOf(context: BridgeContext): string {
  const ticketId = context.req.param('ticketId');
  // What is no id names no ticket.
  if (!isRoomId(ticketId)) throw notFound();
  return ticketId;
}

/** One answer for what is not there and for what the token may not see. */
const notFound = (): BridgeError => new BridgeError('not_found', 'There is no such ticket.');

function scopeOf(principal: Principal, tenantId: string): StateScope {
  const scope = stateScope(principal, tenantId);
  if (scope === null) throw new BridgeError('forbidden', 'The token may not read the state of this tenant.');
  return scope;
}

const isNarrowed = ({ ticketIds, agreementIds }: StateScope): boolean => ticketIds !== null || agreementIds !== null;

/** A narrowed token reaches a ticket by its id, or by the agreement that its newest payload names. */
function reaches(scope: StateScope, ticketId: string, { payload }: TicketResult): boolean {
  if (!isNarrowed(scope) || scope.ticketIds?.includes(ticketId)) return true;
  if (scope.agreementIds === null || payload === null) return false;
  const { agreementId } = JSON.parse(payload) as { readonly agreementId?: unknown };
  return typeof agreementId === 'string' && scope.agreementIds.includes(agreementId);
}

/**
 * A later page answers with the first one's cursor, which `nextPage` carries along: what changed while a client paged may
 * belong on a page that it has read, and must come once it goes live, from whichever page's cursor.
 */
async function answerPages(
  context: BridgeContext,
  page: string | null,
  read: (page: string | null) => Promise<StatePage>,
): Promise<Response> {
  const [first, place] = page === null ? [null, null] : placeOf(page);
  const answered = await read(place);
  const cursor = first ?? answered.cursor;
  const nextPage = answered.nextPage === null ? null : `${cursor}.${answered.nextPage}`;
  const tail = `"nextPage":${JSON.stringify(nextPage)},"cursor":${JSON.stringify(cursor)}`;
  return answerJson(context, `{"items":[${answered.items.join(',')}],${tail}}`);
}

/** The first page's cursor, and the store's own name of the page. */
function placeOf(page: string): [Cursor, string] {
  const dot = page.indexOf('.');
  const first = page.slice(0, dot);
  if (dot === -1 || parseCursor(first) === null) throw invalidPage();
  return [first as Cursor, page.slice(dot + 1)];
}

function answerJson(context: BridgeContext, body: string): Response {
  return answer(context, 200, { 'Content-Type': JSON_TYPE, 'Cache-Control': 'no-store' }, body);
}

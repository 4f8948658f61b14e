/** The tickets of a list: the newest payload of each, by the rules of protocol §7. */
import { instantKey } from '../../contract/instants.ts';
import type { TicketsUpdated } from '../events.ts';
import type { Items } from './live-list.ts';

export interface TicketFilter {
  readonly agreementId: string | undefined;
  readonly status: string | undefined;
  /** An `instantKey`. Exclusive. */
  readonly updatedAfter: string;
}

interface Ticket {
  readonly payload: TicketsUpdated;
  readonly updatedAt: string;
  /** Where in the log it was published, or the position of the state that has it. */
  readonly cursor: string;
  /** Its place in the pages of the state: of two that are equal, the page's first one comes first. */
  readonly place: number;
}

export function createTicketItems(filter: TicketFilter): Items<TicketsUpdated> {
  /** Those that the filter leaves out, too: an older payload must not bring them back. */
  const tickets = new Map<string, Ticket>();
  let places = 0;

  function put(payload: TicketsUpdated, cursor: string): void {
    const id = String(payload.ticketId);
    const next = { payload, updatedAt: instantKey(payload.ticketUpdatedAt), cursor, place: places++ };
    const known = tickets.get(id);
    if (known === undefined || isNewer(next, known)) tickets.set(id, next);
  }

  const isShown = ({ payload, updatedAt }: Ticket): boolean =>
    updatedAt > filter.updatedAfter &&
    (filter.status === undefined || payload.ticketStatus === filter.status) &&
    (filter.agreementId === undefined || String(payload.agreementId) === filter.agreementId);

  return {
    load(page, cursor, isFirst) {
      // Of what events up to here told, the state has the newest: here, on a later page, or it is hidden.
      if (isFirst) for (const [id, ticket] of tickets) if (ticket.cursor <= cursor) tickets.delete(id);
      for (const payload of page) put(payload, cursor);
      return false;
    },
    take(_event, payload, cursor) {
      put(payload as TicketsUpdated, cursor);
      return false;
    },
    list: () =>
      [...tickets.values()]
        .filter(isShown)
        .sort((a, b) => (isNewer(a, b) ? -1 : isNewer(b, a) ? 1 : a.place - b.place))
        .map(({ payload }) => payload),
  };
}

const isNewer = (a: Ticket, b: Ticket): boolean =>
  a.updatedAt === b.updatedAt ? a.cursor > b.cursor : a.updatedAt > b.updatedAt;

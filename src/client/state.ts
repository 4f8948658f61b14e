/**
 * The state routes (protocol §7), and what they say of all joined rooms, with the cursor from which the events continue.
 *
 * Each answer has its own cursor. The earliest one counts, so that no event is lost between the state and the events
 * that follow. The stream knows the messages of the state by their ids, and does not deliver them again.
 */
import type { Room } from '../contract/rooms.ts';
import type {
  Id,
  MessagesNew,
  MessagesQuery,
  MessagesUpdated,
  State,
  StateList,
  TicketsQuery,
  TicketsUpdated,
} from './events.ts';
import { type Http, type Query, RoomcastError, requireList } from './http.ts';

/** Items of each list, read in pages that a slow network can carry within the time-out. */
const MAX_ITEMS = 1000;
const PAGE_ITEMS = 200;
const TIMEOUT_MS = 30_000;

type PageOf = Pick<TicketsQuery, 'limit' | 'page'>;

export function readTickets(http: Http, query: TicketsQuery, signal: AbortSignal): Promise<StateList<TicketsUpdated>> {
  return readList(http, 'tickets', { ...query }, signal);
}

export function readMessages(
  http: Http,
  ticketId: Id,
  query: MessagesQuery,
  signal: AbortSignal,
): Promise<StateList<MessagesNew | MessagesUpdated>> {
  return readList(http, `tickets/${encodeURIComponent(ticketId)}/messages`, { ...query }, signal);
}

async function readList<Item>(http: Http, path: string, query: Query, signal: AbortSignal): Promise<StateList<Item>> {
  return requireList('items', await http.json(path, { query, signal, timeoutMs: TIMEOUT_MS }));
}

/** Null if no tenant room is joined, which the state routes require. @throws {RoomcastError} */
export async function readState(
  http: Http,
  rooms: readonly Room[],
  signal: AbortSignal,
): Promise<{ readonly state: State; readonly cursor: string } | null> {
  const idsOf = (prefix: string): string[] =>
    rooms.filter((room) => room.startsWith(prefix)).map((room) => room.slice(prefix.length));
  const ticketIds = idsOf('ticket:');
  const tickets: TicketsUpdated[] = [];
  const messages: Record<string, (MessagesNew | MessagesUpdated)[]> = {};
  let cursor: string | null = null;

  async function get<Item>(read: (page: PageOf) => Promise<StateList<Item>>): Promise<readonly Item[]> {
    const items: Item[] = [];
    let page: string | undefined;
    do {
      const answer = await read({ limit: PAGE_ITEMS, page });
      if (cursor === null || answer.cursor < cursor) cursor = answer.cursor;
      items.push(...answer.items);
      page = answer.nextPage ?? undefined;
    } while (page !== undefined && items.length < MAX_ITEMS);
    return items;
  }

  for (const tenantId of idsOf('tenant:')) {
    tickets.push(...(await get((page) => readTickets(http, { ...page, tenantId }, signal))));
    for (const ticketId of ticketIds) {
      try {
        const newest = await get((query) =>
          readMessages(http, ticketId, { ...query, tenantId, order: 'desc' }, signal),
        );
        messages[ticketId] = [...(messages[ticketId] ?? []), ...[...newest].reverse()];
      } catch (error) {
        // The ticket belongs to another tenant, or the token does not reach it.
        if (!(error instanceof RoomcastError) || error.code !== 'not_found') throw error;
      }
    }
  }
  return cursor === null ? null : { state: { tickets, messages }, cursor };
}

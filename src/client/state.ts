/**
 * The state of the rooms that are heard, from the state routes (protocol §7), and the place from which it goes on.
 *
 * Several answers reflect several places: the earliest counts, so that nothing lies between the state and the events
 * that follow. A message that is in the state already is known by its ids and not heard again.
 */
import type { Room } from '../contract/rooms.ts';
import type { MessagesNew, State, TicketsUpdated } from './events.ts';
import { type Http, holding, RoomcastError } from './http.ts';

/** Of each list, in pages that a slow network has within the time. */
const NEWEST = 1000;
const PAGE = 200;
const TIMEOUT_MS = 30_000;

interface Answer<Item> {
  readonly items: readonly Item[];
  readonly nextPage: string | null;
  readonly cursor: string;
}

/** Null when no tenant's room is heard: the state routes ask for one. @throws {RoomcastError} */
export async function readState(
  http: Http,
  rooms: readonly Room[],
  signal: AbortSignal,
): Promise<{ readonly state: State; readonly cursor: string } | null> {
  const idsOf = (kind: string): string[] =>
    rooms.filter((room) => room.startsWith(kind)).map((room) => room.slice(kind.length));
  const ticketIds = idsOf('ticket:');
  const tickets: TicketsUpdated[] = [];
  const messages: Record<string, MessagesNew[]> = {};
  let cursor: string | null = null;

  async function get<Item>(path: string, query: Record<string, string>): Promise<readonly Item[]> {
    const items: Item[] = [];
    let page: string | undefined;
    do {
      const ask = { query: { ...query, limit: PAGE, page }, signal, timeoutMs: TIMEOUT_MS };
      const answer = holding<Answer<Item>>('items', await http.json(path, ask));
      if (cursor === null || answer.cursor < cursor) cursor = answer.cursor;
      items.push(...answer.items);
      page = answer.nextPage ?? undefined;
    } while (page !== undefined && items.length < NEWEST);
    return items;
  }

  for (const tenantId of idsOf('tenant:')) {
    tickets.push(...(await get<TicketsUpdated>('tickets', { tenantId })));
    for (const ticketId of ticketIds) {
      const path = `tickets/${encodeURIComponent(ticketId)}/messages`;
      try {
        const newest = await get<MessagesNew>(path, { tenantId, order: 'desc' });
        messages[ticketId] = [...(messages[ticketId] ?? []), ...newest.toReversed()];
      } catch (error) {
        // Another tenant's ticket, or one that this token does not reach.
        if (!(error instanceof RoomcastError) || error.code !== 'not_found') throw error;
      }
    }
  }
  return cursor === null ? null : { state: { tickets, messages }, cursor };
}

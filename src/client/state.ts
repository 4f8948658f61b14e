/**
 * The state of the joined rooms, from the state routes (protocol §7), and the cursor from which the events continue.
 *
 * Each answer has its own cursor. The earliest one counts, so that no event is lost between the state and the events
 * that follow. The stream knows the messages of the state by their ids, and does not deliver them again.
 */
import type { Room } from '../contract/rooms.ts';
import type { MessagesNew, MessagesUpdated, State, TicketsUpdated } from './events.ts';
import { type Http, RoomcastError, requireList } from './http.ts';

/** Items of each list, read in pages that a slow network can carry within the time-out. */
const MAX_ITEMS = 1000;
const PAGE_ITEMS = 200;
const TIMEOUT_MS = 30_000;

interface Answer<Item> {
  readonly items: readonly Item[];
  readonly nextPage: string | null;
  readonly cursor: string;
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

  async function get<Item>(path: string, query: Record<string, string>): Promise<readonly Item[]> {
    const items: Item[] = [];
    let page: string | undefined;
    do {
      const request = { query: { ...query, limit: PAGE_ITEMS, page }, signal, timeoutMs: TIMEOUT_MS };
      const answer = requireList<Answer<Item>>('items', await http.json(path, request));
      if (cursor === null || answer.cursor < cursor) cursor = answer.cursor;
      items.push(...answer.items);
      page = answer.nextPage ?? undefined;
    } while (page !== undefined && items.length < MAX_ITEMS);
    return items;
  }

  for (const tenantId of idsOf('tenant:')) {
    tickets.push(...(await get<TicketsUpdated>('tickets', { tenantId })));
    for (const ticketId of ticketIds) {
      const path = `tickets/${encodeURIComponent(ticketId)}/messages`;
      try {
        const newest = await get<MessagesNew | MessagesUpdated>(path, { tenantId, order: 'desc' });
        messages[ticketId] = [...(messages[ticketId] ?? []), ...[...newest].reverse()];
      } catch (error) {
        // The ticket belongs to another tenant, or the token does not reach it.
        if (!(error instanceof RoomcastError) || error.code !== 'not_found') throw error;
      }
    }
  }
  return cursor === null ? null : { state: { tickets, messages }, cursor };
}

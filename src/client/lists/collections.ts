/**
 * What a user interface shows of a bridge, as stores that any framework can subscribe to: the tickets of a tenant, the
 * messages of a ticket, the signals of a room. Each is the state plus what is live, with no gap. React and Vue have
 * adapters of their own.
 *
 *   const tickets = ticketsOf(live, { tenantId: 'tenant-1' });
 *   const off = tickets.subscribe(() => draw(tickets.snapshot().items));
 *
 * A store joins the room that it needs, unless it is joined, and leaves it a second after its last subscription.
 */

import { instantKey } from '../../contract/instants.ts';
import type {
  ActiveSignal,
  Id,
  MessagesNew,
  MessagesUpdated,
  OneRoom,
  RoomcastEvents,
  TicketsUpdated,
} from '../events.ts';
import { RoomcastError } from '../http.ts';
import { roomOf } from '../stream.ts';
import { holdRoom } from './held-rooms.ts';
import { type ListClient, type LiveList, liveList } from './live-list.ts';
import { createMessageItems } from './message-items.ts';
import { type Store, sharedStore } from './shared-store.ts';
import { createTicketItems } from './ticket-items.ts';

export type { ListClient, LiveList } from './live-list.ts';
export type { Store } from './shared-store.ts';

export type TicketList = LiveList<TicketsUpdated>;
export type MessageList = LiveList<MessagesNew | MessagesUpdated>;

export interface TicketListQuery {
  readonly tenantId: Id;
  readonly agreementId?: Id | undefined;
  /** The `ticketStatus`. A ticket that gets another one leaves the list. */
  readonly status?: string | undefined;
  /** An ISO 8601 instant: only tickets with a later `ticketUpdatedAt`. */
  readonly updatedAfter?: string | undefined;
  /** Items of a page: 1 to 1000. Default 100. */
  readonly limit?: number | undefined;
}

export interface MessageListOptions {
  /** Default: that of the tenant's room that the client has joined. Required if it has joined none, or several. */
  readonly tenantId?: Id | undefined;
  /** Items of a page: 1 to 1000. Default 100. */
  readonly limit?: number | undefined;
}

const LIMIT = 100;

/** The newest first. With `agreementId`, the room is the agreement's. @throws {TypeError} no id */
export function ticketsOf(live: ListClient, query: TicketListQuery): Store<TicketList> {
  const { tenantId, agreementId, status, updatedAfter, limit = LIMIT } = query;
  const tenant = String(tenantId);
  const agreement = agreementId === undefined ? undefined : String(agreementId);
  const filter = { tenantId, agreementId, status, updatedAfter };
  return liveList(live, `tickets ${JSON.stringify([tenant, agreement, status, updatedAfter, limit])}`, {
    room: roomOf(agreementId === undefined ? { tenantId } : { agreementId }),
    events: ['tickets.updated'],
    isMine: (payload) => String(payload.tenantId) === tenant,
    read: (page) => live.readTickets({ ...filter, ...page }),
    createItems: () =>
      createTicketItems({
        agreementId: agreement,
        status,
        updatedAfter: updatedAfter === undefined ? '' : instantKey(updatedAfter),
      }),
    limit,
  });
}

/** The oldest first; pages lead from the newest to the oldest. @throws {TypeError} no id */
export function messagesOf(live: ListClient, ticketId: Id, options: MessageListOptions = {}): Store<MessageList> {
  const { limit = LIMIT } = options;
  const ticket = String(ticketId);
  const given = options.tenantId === undefined ? null : String(options.tenantId);
  let known = given;

  /** Null until the client has joined the tenant's room. */
  function tenantOf(): string | null {
    if (known !== null) return known;
    const tenants = live.rooms.filter((room) => room.startsWith('tenant:'));
    if (tenants.length === 1) known = (tenants[0] as string).slice('tenant:'.length);
    return known;
  }

  return liveList(live, `messages ${JSON.stringify([ticket, given, limit])}`, {
    room: roomOf({ ticketId }),
    events: ['messages.new', 'messages.updated', 'messages.deleted'],
    isMine: (payload) =>
      String(payload.ticketId) === ticket && String(payload.tenantId) === (tenantOf() ?? String(payload.tenantId)),
    async read(page) {
      const tenantId = tenantOf();
      if (tenantId !== null) return live.readMessages(ticketId, { tenantId, order: 'desc', ...page });
      const text = 'Pass tenantId: the client has joined no room of a tenant, or several.';
      throw new RoomcastError('no_tenant', text, { passing: false });
    },
    createItems: createMessageItems,
    limit,
  });
}

/** What is active now. @throws {TypeError} no room */
export function signalsOf<Events = RoomcastEvents, Kind extends string = never>(
  live: SignalClient<Events, Kind>,
  of: OneRoom<Kind>,
): Store<readonly ActiveSignal<Events>[]> {
  const room = roomOf(of);
  return sharedStore<readonly ActiveSignal<Events>[]>(live, `signals ${room}`, NO_SIGNALS, (publish) => {
    const show = (): void => publish(live.signals(of));
    const off = live.on('signals', (changed) => {
      if (changed === room) show();
    });
    const { joined, release } = holdRoom(live, room);
    joined.catch((error: RoomcastError) => {
      if (error.code !== 'closed') console.error(`roomcast: no signals of ${room}: ${error.code}: ${error.message}`);
    });
    show();
    return () => {
      off();
      release();
    };
  });
}

export const NO_SIGNALS: readonly never[] = [];

/** What the store of signals needs of a client. */
export interface SignalClient<Events, Kind extends string> extends Pick<ListClient, 'join' | 'leave' | 'rooms' | 'on'> {
  signals(room: OneRoom<Kind>): readonly ActiveSignal<Events>[];
}

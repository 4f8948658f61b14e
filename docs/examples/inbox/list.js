// The list of conversations: the newest first, with the number of unread messages.
import { avatar, clock, element, make } from './elements.js';
import { t } from './texts.js';

export function createList(payloads) {
  const tickets = new Map(); // ticketId → the newest tickets.updated payload
  const unread = new Map(); // ticketId → how many messages
  const items = new Map(); // ticketId → its entry
  let opened = null;
  for (const payload of payloads) tickets.set(payload.ticketId, payload);
  const newest = () => [...tickets.values()].sort((a, b) => (a.ticketUpdatedAt < b.ticketUpdatedAt ? 1 : -1));

  function render() {
    const focused = document.activeElement;
    const payloads = newest();
    for (const [index, payload] of payloads.entries()) {
      const item = items.get(payload.ticketId) ?? createItem(payload.ticketId);
      fill(item.firstChild, payload);
      const there = element('tickets').children[index];
      if (there !== item) element('tickets').insertBefore(item, there ?? null);
    }
    while (element('tickets').children.length > payloads.length) element('tickets').lastChild.remove();
    if (document.activeElement !== focused) focused.focus({ preventScroll: true }); // its item has moved
  }

  function createItem(ticketId) {
    const link = make('a', { href: `#${encodeURIComponent(ticketId)}` });
    link.dataset.ticket = ticketId;
    const item = make('li', {}, link);
    items.set(ticketId, item);
    return item;
  }

  function fill(link, { ticketId, ticketStatus, ticketUpdatedAt, ticket }) {
    link.ariaCurrent = String(ticketId === opened);
    const name = ticket.contact.name;
    const state = ticketStatus === 'OPEN' ? [] : [make('span', { className: 'state' }, t.statuses[ticketStatus])];
    const count = unread.get(ticketId);
    const badge = count ? [make('b', { className: 'unread', ariaLabel: t.unread(count), role: 'img' }, count)] : [];
    link.replaceChildren(
      avatar(name),
      make('span', { className: 'name', dir: 'auto' }, name),
      clock(ticket.lastMessageAt ?? ticketUpdatedAt),
      make('span', { className: 'preview', lang: 'pt-BR' }, ticket.lastMessagePreview ?? ''),
      make('span', { className: 'marks' }, ...state, ...badge),
    );
  }

  return {
    /** An older change that arrives late changes nothing (protocol §7). */
    take(payload) {
      const current = tickets.get(payload.ticketId);
      if (current === undefined || current.ticketUpdatedAt <= payload.ticketUpdatedAt)
        tickets.set(payload.ticketId, payload);
      render();
    },
    /** A new message of a customer is unread, unless its conversation is open. */
    count({ ticketId, message }) {
      if (ticketId === opened || message.direction !== 'INBOUND') return;
      unread.set(ticketId, (unread.get(ticketId) ?? 0) + 1);
    },
    replace(payloads) {
      tickets.clear();
      for (const payload of payloads) tickets.set(payload.ticketId, payload);
      render();
    },
    /** Returns the ticket, or undefined if there is none. */
    open(ticketId) {
      opened = ticketId;
      unread.delete(ticketId);
      render();
      return tickets.get(ticketId);
    },
    first: () => newest()[0]?.ticketId,
    focus(ticketId) {
      items.get(ticketId)?.firstChild.focus();
    },
  };
}

// Who is online, who has this ticket open, who is typing. All of it is signals: they end by themselves when a page is gone.
import { avatar, element, say } from './elements.js';
import { listOf, t } from './texts.js';

/** @param me what others see of this agent */
export function createPresence(live, tenantId, me) {
  let room = null; // of the ticket on screen
  let stopViewing = () => {};
  let stopTyping = null;
  live.keep('agents.online', `tenant:${tenantId}`, me);

  const signals = (room, event) => (room === null ? [] : live.signals(room).filter((signal) => signal.event === event));
  // An agent with the ticket open in two places is one name.
  const names = (signals) => [...new Set(signals.map(({ payload }) => String(payload.name ?? t.somebody)))].sort();
  const isCustomer = ({ payload }) => payload.by === 'customer';

  return {
    /** Sends for the ticket on screen only. Null: none is. */
    show(ticketId) {
      this.reply(false);
      stopViewing();
      room = ticketId === null ? null : `ticket:${ticketId}`;
      stopViewing = room === null ? () => {} : live.keep('tickets.viewing', room, me);
    },
    /** While there is a draft, others see that somebody is replying. */
    reply(hasDraft) {
      if (hasDraft === (stopTyping !== null)) return;
      stopTyping?.();
      stopTyping = hasDraft ? live.keep('tickets.typing', room, me) : null;
    },
    online: () => names(signals(`tenant:${tenantId}`, 'agents.online')),
    viewing: () => names(signals(room, 'tickets.viewing')),
    customers: () => names(signals(room, 'tickets.typing').filter(isCustomer)),
    replying: () => names(signals(room, 'tickets.typing').filter((signal) => !isCustomer(signal))),
  };
}

/** Call it whenever something begins or ends: `live.on('signals', …)`. */
export function showPresence(presence) {
  const [online, viewing, customers, replying] = ['online', 'viewing', 'customers', 'replying'].map((who) =>
    presence[who](),
  );
  say('online', online.length === 0 ? t.nobodyOnline : t.online(listOf(online)));
  if (element('faces').textContent !== online.map((name) => name[0]).join(''))
    element('faces').replaceChildren(...online.slice(0, 5).map(avatar));
  say('viewing', viewing.length === 0 ? '' : t.viewing(listOf(viewing)));
  say('typing', customers.length === 0 ? '' : t.typing(listOf(customers)));
  say('notice', replying.length === 0 ? '' : t.replying(listOf(replying), replying.length));
}

// The conversation on screen: its messages, their ticks, and the answer that you write.
import { avatar, clock, element, make, say } from './elements.js';
import { t } from './texts.js';

export function createConversation({ live, presence, read, me }) {
  let open = null; // the ticket on screen
  let messages = new Map(); // of that ticket: messageId → the newest payload, or null if it was deleted
  const drafts = new Map(); // ticketId → the answer that is not sent yet
  const unconfirmed = new Map(); // messageId → an answer that was sent, and is not an event yet

  // Ticks never go back: of two payloads of a message the later change counts, then the higher status (protocol §7).
  const STATUSES = ['failed', 'queued', 'sent', 'delivered', 'read', 'played'];
  const instantOf = ({ messageUpdatedAt = 0 }) => new Date(messageUpdatedAt).getTime();
  const rankOf = ({ messageStatus }) => STATUSES.indexOf(messageStatus);

  function keep(payload) {
    const known = messages.get(payload.messageId);
    if (known === null) return;
    if (known && (instantOf(payload) - instantOf(known) || rankOf(payload) - rankOf(known)) < 0) return;
    messages.set(payload.messageId, payload);
    draw(payload.messageId);
  }

  function append(messageId) {
    if (element(`message-${messageId}`) !== null) return;
    element('messages').append(make('li', { id: `message-${messageId}` }));
    draw(messageId);
  }

  function draw(messageId) {
    const item = element(`message-${messageId}`);
    if (item === null) return; // a change of a message that is not here yet
    const payload = messages.get(messageId);
    item.className = payload === null ? 'deleted' : '';
    if (payload === null) {
      item.replaceChildren(t.deleted);
      return;
    }
    const { message, messageStatus = '' } = payload;
    const isOurs = message.direction === 'OUTBOUND';
    item.dataset.from = isOurs ? 'us' : 'customer';
    item.dataset.status = messageStatus;
    const author = isOurs ? [make('b', {}, message.author === me ? t.you : message.author)] : [];
    const tick = isOurs && messageStatus ? [make('i', { role: 'img', ariaLabel: t.ticks[messageStatus] })] : [];
    const text = make('p', { dir: 'auto' }, message.content);
    item.replaceChildren(...author, text, make('small', {}, clock(message.createdAt), ...tick));
  }

  function showTicket({ ticketStatus, ticket }) {
    say('contact', ticket.contact.name);
    element('face').replaceChildren(avatar(ticket.contact.name));
    say('subject', ticketStatus === 'OPEN' ? ticket.subject : `${ticket.subject} · ${t.statuses[ticketStatus]}`);
  }

  async function showMessages() {
    const ticketId = open;
    messages = new Map();
    element('messages').replaceChildren();
    const { items } = await read(`tickets/${encodeURIComponent(ticketId)}/messages?limit=1000&`);
    if (open !== ticketId) return;
    // Messages and changes may have arrived during the request: the newest payload of each stays.
    const arrived = [...element('messages').children].map(({ id }) => id.slice('message-'.length));
    element('messages').replaceChildren();
    for (const payload of unconfirmed.values()) if (payload.ticketId === ticketId) keep(payload);
    items.forEach(keep);
    const ids = [...items.map(({ messageId }) => messageId), ...arrived, ...messages.keys()];
    for (const id of new Set(ids)) append(id);
  }

  function keepDraft() {
    const { value } = element('draft');
    drafts.set(open, value);
    presence.reply(value.trim() !== '');
  }
  element('draft').oninput = keepDraft;
  element('draft').onkeydown = (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    element('reply').requestSubmit();
  };

  /** The answer is on screen at once, with a clock. The API server publishes it, and the event brings the ticks. */
  element('reply').onsubmit = async (event) => {
    event.preventDefault();
    const [ticketId, content] = [open, element('draft').value.trim()];
    if (content === '') return;
    element('draft').value = '';
    keepDraft();
    say('fault', '');
    const messageId = crypto.randomUUID();
    const message = { direction: 'OUTBOUND', content, author: me, createdAt: new Date().toISOString() };
    const payload = { ticketId, messageId, messageStatus: 'queued', message };
    unconfirmed.set(messageId, payload);
    keep(payload);
    append(messageId);
    element('history').scrollTop = 0; // its end
    const body = JSON.stringify({ ticketId, messageId, content, author: me });
    const answer = await fetch('/replies', { method: 'POST', body }).catch(() => null);
    if (answer?.ok) return;
    unconfirmed.delete(messageId);
    drafts.set(ticketId, drafts.get(ticketId) || content);
    if (ticketId !== open) return;
    messages.delete(messageId);
    element(`message-${messageId}`)?.remove();
    say('fault', t.notSent);
    element('draft').value = drafts.get(ticketId);
    keepDraft();
  };

  return {
    get ticketId() {
      return open;
    },
    /** Undefined: no conversation, which on a phone shows the list. */
    open(ticket) {
      const ticketId = ticket?.ticketId ?? null;
      if (ticketId === open) return;
      // The tenant's room already has the ticket's events. Signals go to one room only, here the ticket's.
      if (open !== null) live.leave({ ticketId: open });
      if (ticketId !== null) live.join({ ticketId });
      open = ticketId;
      presence.show(ticketId);
      element('none').hidden = open !== null;
      element('conversation').hidden = open === null;
      if (open === null) return;
      showTicket(ticket);
      say('fault', '');
      element('draft').value = drafts.get(open) ?? '';
      keepDraft();
      showMessages();
    },
    takeTicket(payload) {
      if (payload.ticketId === open) showTicket(payload);
    },
    /** A message that is new or has changed. */
    take(payload, { event }) {
      if (event === 'messages.new') unconfirmed.delete(payload.messageId);
      if (payload.ticketId !== open) return;
      keep(payload);
      if (event === 'messages.new') append(payload.messageId);
    },
    remove({ ticketId, messageId }) {
      if (ticketId !== open) return;
      messages.set(messageId, null);
      draw(messageId);
    },
    reload() {
      if (open !== null) showMessages();
    },
  };
}

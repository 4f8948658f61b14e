// An inbox on roomcast/client: read the state, continue from its cursor, and update one entry per event.
import { connect } from 'roomcast/client';
import './page.css';
import { createPresence } from './presence.js';

const url = document.location.hash.slice(1) || '__BRIDGE__';
const tenantId = 'demo';
const tickets = new Map(); // ticketId → the newest tickets.updated payload
let open = null; // the ticket on screen
let messages = new Map(); // of that ticket: messageId → the newest payload, or null if it was deleted
const items = new Map(); // ticketId → its entry in the list
const drafts = new Map(); // ticketId → the reply that is not sent yet

const read = async (path) => (await fetch(`${url}/${path}tenantId=${tenantId}`)).json();
const element = (id) => document.getElementById(id);
const say = (id, text) => {
  if (element(id).textContent !== text) element(id).textContent = text; // a screen reader reads each change
};

const first = await read('tickets?limit=200&');
for (const payload of first.items) tickets.set(payload.ticketId, payload);

// Each tab is an agent of its own, and keeps its name, unless it is a copy of a tab that is open.
const AGENTS = ['Beatriz', 'Camila', 'Gustavo', 'Juliana', 'Larissa', 'Mateus', 'Rafael', 'Renata', 'Thiago'];
const online = (await read('signals?')).signals.map(({ payload }) => payload.name);
const names = AGENTS.sort(() => Math.random() - 0.5);
const kept = sessionStorage.getItem('agent');
if (kept !== null) names.unshift(kept);
const me = names.find((name) => !online.includes(name)) ?? names[0];
sessionStorage.setItem('agent', me);
say('me', me);

const live = connect({ url, rooms: { tenantId }, after: first.cursor, refetch: true });

const STATES = { connecting: 'conectando…', live: 'ao vivo', reconnecting: 'reconectando…', closed: 'desconectado' };
live.on('status', ({ state, transport }) => {
  element('status').dataset.state = state;
  say('status', transport === null ? STATES[state] : `${STATES[state]} por ${transport}`);
});
live.on('tickets.updated', (payload) => {
  const current = tickets.get(payload.ticketId);
  if (current === undefined || current.ticketUpdatedAt <= payload.ticketUpdatedAt)
    tickets.set(payload.ticketId, payload);
  renderTickets();
});
live.on('messages.new', (payload) => {
  if (payload.ticketId !== open) return;
  keep(payload);
  append(payload.messageId);
});
live.on('messages.updated', (payload) => {
  if (payload.ticketId === open) keep(payload);
});
live.on('messages.deleted', ({ ticketId, messageId }) => {
  if (ticketId !== open) return;
  messages.set(messageId, null);
  draw(messageId);
});
live.on('reset', ({ state }) => {
  tickets.clear();
  for (const payload of state?.tickets ?? []) tickets.set(payload.ticketId, payload);
  renderTickets();
  if (open !== null) showMessages();
});

const presence = createPresence(live, tenantId, { name: me });
live.on('signals', renderPresence);

function renderPresence() {
  const list = (names) => new Intl.ListFormat('pt-BR').format(names);
  const online = presence.online();
  say('online', online.length === 0 ? ' · ninguém mais online' : ` · online: ${list(online)}`);
  const viewing = presence.viewing();
  say('viewing', viewing.length === 0 ? '' : `Também neste atendimento: ${list(viewing)}`);
  const customers = presence.customers();
  say('typing', customers.length === 0 ? '' : `${list(customers)} está digitando…`);
  const agents = presence.replying();
  const are = agents.length === 1 ? 'já está' : 'já estão';
  say('notice', agents.length === 0 ? '' : `${list(agents)} ${are} respondendo. Que tal combinar antes de enviar?`);
}

/** Null closes the ticket, which on a phone shows the list. */
function openTicket(ticketId) {
  if (ticketId === open) return;
  // The tenant's room already has the ticket's events. Signals go to one room only, here the ticket's.
  if (open !== null) live.leave({ ticketId: open });
  if (ticketId !== null) live.join({ ticketId });
  open = ticketId;
  presence.show(ticketId);
  renderTickets();
  renderPresence();
  element('none').hidden = open !== null;
  element('conversation').hidden = open === null;
  if (open === null) return;
  say('contact', tickets.get(open).ticket.contact);
  say('fault', '');
  element('contact').focus();
  element('draft').value = drafts.get(open) ?? '';
  keepDraft();
  showMessages();
}

element('back').onclick = () => {
  const ticketId = open;
  openTicket(null);
  items.get(ticketId).firstChild.focus();
};

async function showMessages() {
  const ticketId = open;
  messages = new Map();
  element('messages').replaceChildren();
  const { items } = await read(`tickets/${encodeURIComponent(ticketId)}/messages?limit=1000&`);
  if (open !== ticketId) return;
  // Messages and changes may have arrived during the request: the newest payload of each stays.
  const arrived = [...element('messages').children].map(({ id }) => id.slice('message-'.length));
  element('messages').replaceChildren();
  items.forEach(keep);
  for (const id of new Set([...items.map(({ messageId }) => messageId), ...arrived])) append(id);
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

element('reply').onsubmit = async (event) => {
  event.preventDefault();
  const draft = element('draft');
  const [ticketId, content] = [open, draft.value.trim()];
  if (content === '' || draft.readOnly) return;
  draft.readOnly = true;
  const body = JSON.stringify({ ticketId, content, author: me });
  const answer = await fetch('/replies', { method: 'POST', body }).catch(() => null);
  draft.readOnly = false;
  if (answer?.ok) drafts.delete(ticketId);
  if (ticketId !== open) return;
  say('fault', answer?.ok ? '' : 'Não foi possível enviar. Tente de novo.');
  draft.value = drafts.get(ticketId) ?? '';
  keepDraft();
  element('history').scrollTop = 0; // its end
};

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
  const item = document.createElement('li');
  item.id = `message-${messageId}`;
  element('messages').append(item);
  draw(messageId);
}

function draw(messageId) {
  const item = element(`message-${messageId}`);
  if (item === null) return; // a change of a message that is not here yet
  const payload = messages.get(messageId);
  item.classList.toggle('deleted', payload === null);
  item.textContent = payload === null ? 'Mensagem apagada.' : payload.message.content;
  if (payload?.message.direction === 'outbound') {
    item.dataset.from = 'us';
    item.prepend(small(payload.message.author));
  }
  item.dataset.status = payload?.messageStatus ?? '';
}

const STATUS_NAMES = { OPEN: 'aberto', PENDING: 'pendente', CLOSED: 'encerrado' };

function renderTickets() {
  const newest = [...tickets.values()].sort((a, b) => (a.ticketUpdatedAt < b.ticketUpdatedAt ? 1 : -1));
  const focused = document.activeElement;
  for (const [index, { ticketId, ticketStatus, ticket }] of newest.entries()) {
    const item = items.get(ticketId) ?? createItem(ticketId);
    const [button] = item.children;
    button.ariaCurrent = String(ticketId === open);
    button.replaceChildren(
      ticket.contact,
      small(STATUS_NAMES[ticketStatus] ?? ticketStatus),
      small(ticket.lastMessage),
    );
    const there = element('tickets').children[index];
    if (there !== item) element('tickets').insertBefore(item, there ?? null);
  }
  while (element('tickets').children.length > newest.length) element('tickets').lastChild.remove();
  if (document.activeElement !== focused) focused.focus({ preventScroll: true }); // its item has moved
}

function createItem(ticketId) {
  const item = document.createElement('li');
  const button = document.createElement('button');
  button.dataset.ticket = ticketId;
  button.onclick = () => openTicket(ticketId);
  item.append(button);
  items.set(ticketId, item);
  return item;
}

function small(text) {
  const small = document.createElement('small');
  small.textContent = text;
  return small;
}

renderTickets();
renderPresence();

// An inbox on roomcast/client: read the state, continue from its cursor, and update one entry per event.
import { connect } from 'roomcast/client';

const url = document.location.hash.slice(1) || '__BRIDGE__';
const tenantId = 'demo';
const tickets = new Map(); // ticketId → the newest tickets.updated payload
let open = null; // the ticket whose messages are shown
let messages = new Map(); // of that ticket: messageId → the newest payload, or null if it was deleted

const read = async (path) => (await fetch(`${url}/${path}tenantId=${tenantId}`)).json();
const element = (id) => document.getElementById(id);

const first = await read('tickets?limit=200&');
for (const payload of first.items) tickets.set(payload.ticketId, payload);
renderTickets();

const live = connect({ url, rooms: { tenantId }, after: first.cursor, refetch: true });

live.on('status', ({ state, transport }) => {
  element('status').dataset.state = state;
  element('status').textContent = transport === null ? state : `${state} over ${transport}`;
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
  if (open !== null) show(open);
});

async function show(ticketId) {
  open = ticketId;
  messages = new Map();
  renderTickets();
  element('messages').replaceChildren();
  const { items } = await read(`tickets/${encodeURIComponent(ticketId)}/messages?limit=1000&`);
  if (open !== ticketId) return;
  // Messages and changes may have arrived during the request: the newest payload of each stays.
  const arrived = [...element('messages').children].map(({ id }) => id.slice('message-'.length));
  element('messages').replaceChildren();
  items.forEach(keep);
  for (const id of new Set([...items.map(({ messageId }) => messageId), ...arrived])) append(id);
}

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
  item.scrollIntoView({ block: 'end' });
}

function draw(messageId) {
  const item = element(`message-${messageId}`);
  if (item === null) return; // a change of a message that is not here yet
  const payload = messages.get(messageId);
  item.classList.toggle('deleted', payload === null);
  item.textContent = payload === null ? 'This message was deleted.' : payload.message.content;
  if (payload) item.dataset.from = payload.message.direction === 'outbound' ? 'us' : 'them';
  item.dataset.status = payload?.messageStatus ?? '';
}

function renderTickets() {
  const newest = [...tickets.values()].sort((a, b) => (a.ticketUpdatedAt < b.ticketUpdatedAt ? 1 : -1));
  element('tickets').replaceChildren(
    ...newest.map(({ ticketId, ticketStatus, ticket }) => {
      const item = document.createElement('li');
      const button = document.createElement('button');
      button.dataset.ticket = ticketId;
      const last = document.createElement('small');
      button.textContent = `${ticket.contact} · ${ticketStatus.toLowerCase()}`;
      button.ariaCurrent = String(ticketId === open);
      button.onclick = () => show(ticketId);
      last.textContent = ticket.lastMessage;
      button.append(last);
      item.append(button);
      return item;
    }),
  );
}

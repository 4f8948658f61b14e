// An inbox on roomcast/client: read the state, continue from its cursor, and update one entry per event.
import { connect } from 'roomcast/client';

const url = document.location.hash.slice(1) || '__BRIDGE__';
const tenantId = 'demo';
const tickets = new Map(); // ticketId → the newest tickets.updated payload
let open = null; // the ticket whose messages are shown

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
  if (payload.ticketId === open) appendMessage(payload);
});
live.on('reset', ({ state }) => {
  tickets.clear();
  for (const payload of state?.tickets ?? []) tickets.set(payload.ticketId, payload);
  renderTickets();
  if (open !== null) show(open);
});

async function show(ticketId) {
  open = ticketId;
  renderTickets();
  element('messages').replaceChildren();
  const { items } = await read(`tickets/${encodeURIComponent(ticketId)}/messages?limit=1000&`);
  if (open !== ticketId) return;
  // Messages may have arrived during the request: append those that the answer lacks.
  const arrived = [...element('messages').children];
  element('messages').replaceChildren();
  for (const payload of items) appendMessage(payload);
  for (const item of arrived) if (!document.getElementById(item.id)) element('messages').append(item);
}

function appendMessage({ messageId, message }) {
  const item = document.createElement('li');
  item.id = `message-${messageId}`;
  item.dataset.from = message.direction === 'outbound' ? 'us' : 'them';
  item.textContent = message.content;
  element('messages').append(item);
  item.scrollIntoView({ block: 'end' });
}

function renderTickets() {
  const newest = [...tickets.values()].sort((a, b) => (a.ticketUpdatedAt < b.ticketUpdatedAt ? 1 : -1));
  element('tickets').replaceChildren(
    ...newest.map(({ ticketId, ticketStatus, ticket }) => {
      const item = document.createElement('li');
      const button = document.createElement('button');
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

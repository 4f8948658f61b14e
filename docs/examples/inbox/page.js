// An inbox on @roomcast/client: read the state, continue from its cursor, and change one entry per event.
// Copy this file and those beside it; demo/ holds what is there for the show only.
import { connect } from '@roomcast/client';
import './page.css';
import { createConversation } from './conversation.js';
import { startPanel } from './demo/panel.js'; // for the show
import { element, say } from './elements.js';
import { createList } from './list.js';
import { createPresence, showPresence } from './presence.js';
import { showTexts, t } from './texts.js';

const url = BRIDGE_URL; // your bridge's address, such as 'https://bridge.example'
const tenantId = 'demo';
showTexts();
say('status', t.states.connecting);
const panel = startPanel();

/** Reads a state route. If the bridge is away when the page opens, it asks again until there is an answer. */
async function read(path) {
  for (;;) {
    const response = await fetch(`${url}/${path}tenantId=${tenantId}`).catch(() => null);
    if (response?.ok) return response.json();
    if (response && response.status < 500) throw new Error(await response.text());
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

// First where the log ends, then the state, which is as new as that or newer. What happens in between arrives once more as
// an event, and changes nothing. Without the panel, the state's own cursor does: `after: (await read('tickets?')).cursor`.
const newest = await read('events?limit=1&');
const { items } = await read('tickets?limit=200&');

// Each tab is an agent of its own, and keeps its name, unless it is a copy of a tab that is open.
const AGENTS = ['Beatriz', 'Camila', 'Gustavo', 'Juliana', 'Larissa', 'Mateus', 'Rafael', 'Renata', 'Thiago'];
const online = (await read('signals?')).signals.map(({ payload }) => payload.name);
const names = AGENTS.sort(() => Math.random() - 0.5);
const kept = sessionStorage.getItem('agent');
if (kept !== null) names.unshift(kept);
const me = names.find((name) => !online.includes(name)) ?? names[0];
sessionStorage.setItem('agent', me);
say('me', me);

const live = connect({ url, rooms: { tenantId }, after: newest.cursor, refetch: true });
const presence = createPresence(live, tenantId, { name: me });
const list = createList(items);
const conversation = createConversation({ live, presence, read, me });
panel.follow(live, newest.events[0]?.payload.demo);

live.on('status', ({ state, transport }) => {
  element('status').dataset.state = state;
  say('status', transport === null ? t.states[state] : t.transports[transport]);
});
live.on('tickets.updated', (payload) => {
  list.take(payload);
  conversation.takeTicket(payload);
});
live.on('messages.new', (payload, meta) => {
  list.count(payload);
  conversation.take(payload, meta);
});
live.on('messages.updated', conversation.take);
live.on('messages.deleted', conversation.remove);
live.on('reset', ({ state }) => {
  list.replace(state?.tickets ?? []);
  conversation.reload();
});
live.on('signals', () => showPresence(presence));

// The address says which conversation is open, so that the browser's Back and a link to it work: `#ticket-1`.
function openFromAddress() {
  const ticketId = decodeURIComponent(location.hash.slice(1));
  const ticket = list.open(ticketId);
  conversation.open(ticket);
  showPresence(presence);
  // Another window begins with the same conversation, and as another agent.
  element('another').href = location.href;
}
if (!location.hash && list.first() !== undefined) history.replaceState(null, '', `#${list.first()}`);
addEventListener('hashchange', () => {
  const closed = conversation.ticketId;
  openFromAddress();
  if (conversation.ticketId !== null) element('contact').focus();
  else list.focus(closed);
});
// The entry of the conversation that is open changes no address: it leads there all the same.
element('tickets').addEventListener('click', (event) => {
  if (event.target.closest('a')?.hash === location.hash) element('contact').focus();
});
openFromAddress();

/** The page of test/client/react.test.ts: an inbox in StrictMode, which notes what its parts hear and show. */
import { createElement as h, StrictMode, useEffect } from 'react';
import { flushSync } from 'react-dom';
import { createRoot } from 'react-dom/client';
import { connect } from '../../src/client/client.ts';
import { LiveProvider, useLive, useMessages, useSignals, useStatus, useTickets } from '../../src/client/react.ts';

/** Of each event: the tenant on the page, that of the event, and its cursor. */
window.heard = [];
window.mounts = 0;
/** The newest value of each hook. */
const shown = {};

function Inbox({ tenantId, open }) {
  shown.live = useLive('messages.new', (payload, { cursor }) => {
    window.heard.push([tenantId, payload.tenantId, cursor]);
  });
  shown.status = useStatus();
  shown.tickets = useTickets({ tenantId, limit: 50 });
  return open.map((ticketId, index) => h(Conversation, { key: `${index} ${tenantId}`, ticketId, index }));
}

function Conversation({ ticketId, index }) {
  shown[`messages${index}`] = useMessages(ticketId, { limit: 50 });
  shown[`signals${index}`] = useSignals(ticketId && { ticketId });
  useEffect(() => {
    window.mounts++;
  }, []);
  return null;
}

const root = createRoot(document.body.appendChild(document.createElement('div')));

/** Draws the page at once: the provider's options, the tenant, and the tickets that are open. */
window.draw = ({ options, tenantId, open = [], isOwn = false }) => {
  if (isOwn) window.own ??= connect(options);
  const provided = isOwn ? { live: window.own } : { options: { ...options, state: undefined } };
  flushSync(() => root.render(h(StrictMode, null, h(LiveProvider, provided, h(Inbox, { tenantId, open })))));
};
window.clear = () => flushSync(() => root.render(null));
window.drawApp = (tenantId) => root.render(h(window.App, { tenantId }));
window.see = (name) => shown[name];

export const adapter = 'react';

/** The page of test/client/vue.test.ts: an inbox, which notes what its parts hear and show. */
import { createApp, defineComponent, h, shallowReactive, toRef, unref } from 'vue';
import { connect } from '../../src/client/client.ts';
import { LiveProvider, useLive, useMessages, useSignals, useStatus, useTickets } from '../../src/client/vue.ts';

/** Of each event: the tenant on the page, that of the event, and its cursor. */
window.heard = [];
/** The refs of each composable. */
const shown = {};

const Inbox = defineComponent({
  setup() {
    const tenantId = toRef(page, 'tenantId');
    shown.live = useLive('messages.new', (payload, { cursor }) => {
      window.heard.push([tenantId.value, payload.tenantId, cursor]);
    });
    shown.status = useStatus();
    shown.tickets = useTickets(() => ({ tenantId: tenantId.value, limit: 50 }));
    return () => page.open.map((ticketId, index) => h(Conversation, { key: index, ticketId, index }));
  },
});

const Conversation = defineComponent({
  props: ['ticketId', 'index'],
  setup(props) {
    shown[`messages${props.index}`] = useMessages(() => props.ticketId, { limit: 50 });
    shown[`signals${props.index}`] = useSignals(() => props.ticketId && { ticketId: props.ticketId });
    return () => null;
  },
});

let page;
let app;

/** Draws the page: the provider's options, the tenant, and the tickets that are open. */
window.draw = ({ options, tenantId, open = [], isOwn = false }) => {
  if (isOwn) window.own ??= connect(options);
  const provided = isOwn ? { live: window.own } : { options: { ...options, state: undefined } };
  if (app !== undefined) {
    Object.assign(page, { tenantId, open, provided });
    return;
  }
  page = shallowReactive({ tenantId, open, provided });
  app = createApp(() => h(LiveProvider, page.provided, () => h(Inbox)));
  app.mount(document.body.appendChild(document.createElement('div')));
};
window.clear = () => {
  app.unmount();
  app = undefined;
};
window.see = (name) => {
  const value = unref(shown[name]);
  if (value?.loadMore === undefined) return value;
  return Object.fromEntries(Object.entries(value).map(([part, of]) => [part, unref(of)]));
};

export const adapter = 'vue';

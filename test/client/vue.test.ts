/** The adapter for Vue: in Chromium, rendered by a server, and its types. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSSRApp, defineComponent, h, ref } from 'vue';
import { renderToString } from 'vue/server-renderer';
import { connect, type RoomcastEvents, type Signal } from '../../src/client/client.ts';
import {
  LiveProvider,
  provideLive,
  typed,
  useLive,
  useMessages,
  useSignals,
  useStatus,
  useTickets,
} from '../../src/client/vue.ts';
import { describeAdapter } from './adapter.conformance.ts';

describeAdapter('Vue', 'vue-page.js');

const options = { url: 'http://127.0.0.1:1', rooms: { tenantId: 'tenant-1' } };

const Inbox = defineComponent({
  setup() {
    const live = useLive('messages.new', () => assert.fail('a server hears nothing'));
    const status = useStatus();
    const tickets = useTickets({ tenantId: 'tenant-1' });
    const messages = useMessages(ref('1'));
    const none = useMessages(() => null);
    const signals = useSignals('ticket:1');
    const shown = () => [live.value, status.value.state, tickets.items.value, tickets.isLoading.value];
    return () => JSON.stringify([...shown(), messages.items.value, none.isLoading.value, signals.value]);
  },
});

test('on a server: connecting, with empty lists, and nothing is opened', async (context) => {
  const asked = context.mock.method(globalThis, 'fetch', () => assert.fail('a request'));
  const warned = context.mock.method(console, 'warn', () => {});
  const Page = defineComponent({
    setup() {
      provideLive(() => options);
      return () => h(Inbox);
    },
  });
  for (const app of [createSSRApp(() => h(LiveProvider, { options }, () => h(Inbox))), createSSRApp(Page)]) {
    const html = await renderToString(app);
    const text = html.replaceAll(/<!--.*?-->/g, '').replaceAll('&quot;', '"');
    assert.equal(text, JSON.stringify([null, 'connecting', [], true, [], false, []]));
  }
  assert.equal(asked.mock.callCount(), 0);
  assert.equal(warned.mock.callCount(), 0);
});

test('without a provider, a composable says so', async (context) => {
  context.mock.method(console, 'warn', () => {});
  await assert.rejects(
    renderToString(createSSRApp(Inbox)),
    /^TypeError: No component above this one called provideLive/,
  );
});

// Never called: it is enough that it compiles.
export function types(): void {
  type Events = RoomcastEvents & { 'leads.updated': { leadId: string }; 'tickets.typing': Signal<{ name: string }> };
  const ours = typed<Events, 'queue'>();
  useLive('messages.new', ({ messageId }, { cursor }) => [messageId, cursor satisfies string]);
  useLive('reset', ({ reason }) => reason satisfies 'expired' | 'unknown');
  // @ts-expect-error: not declared
  useLive('leads.updated', () => {});
  // @ts-expect-error: a typing error
  useLive('message.new', () => {});
  // @ts-expect-error: no such kind
  useSignals({ queueId: '1' });
  // @ts-expect-error: no tenant
  useTickets(() => ({ status: 'OPEN' }));
  ours.useLive('leads.updated', ({ leadId }) => leadId satisfies string);
  ours.useLive('tickets.typing', ({ name }, { cursor }) => [name satisfies string, cursor satisfies null]);
  // @ts-expect-error: not declared
  ours.useLive('leads.deleted', () => {});
  for (const { payload } of ours.useSignals({ queueId: '1' }).value) payload.name satisfies string;
  ours.provideLive({ url: '', rooms: { queueId: '1' } });
  ours.provideLive(connect<Events, 'queue'>({ url: '' }));
  // @ts-expect-error: an option that is none
  provideLive({ uri: '' });
}

/** The adapter for React: in Chromium with React 19 and 18, rendered by a server, and its types. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { createElement as h } from 'react';
import { renderToString } from 'react-dom/server';
import { connect, type RoomcastEvents, type Signal } from '../../src/client/client.ts';
import {
  LiveProvider,
  typed,
  useLive,
  useMessages,
  useSignals,
  useStatus,
  useTickets,
} from '../../src/client/react.ts';
import { describeAdapter } from './adapter.conformance.ts';

const example = /```jsx\n([\s\S]*?)```/.exec(readFileSync('docs/react-and-vue.md', 'utf8'))?.[1] ?? '';

describeAdapter('React 19', 'react-page.js', {
  alias: { '@roomcast/client/react': './src/client/react.ts' },
  example: example.replace("'https://bridge.example'", 'window.bridgeUrl'),
});
describeAdapter('React 18', 'react-page.js', { alias: { react: 'react-18', 'react-dom': 'react-dom-18' } });

const options = { url: 'http://127.0.0.1:1', rooms: { tenantId: 'tenant-1' } };

function Inbox() {
  const live = useLive('messages.new', () => assert.fail('a server hears nothing'));
  const { items, isLoading } = useTickets({ tenantId: 'tenant-1' });
  const messages = useMessages('1');
  const none = useMessages(null);
  const signals = useSignals('ticket:1');
  const shown = [live, useStatus().state, items, isLoading, messages.items, none.isLoading, signals];
  return h('p', null, JSON.stringify(shown));
}

test('on a server: connecting, with empty lists, and nothing is opened', (context) => {
  const asked = context.mock.method(globalThis, 'fetch', () => assert.fail('a request'));
  const warned = context.mock.method(console, 'error', () => {});
  const html = renderToString(h(LiveProvider, { options }, h(Inbox)));
  assert.equal(
    html,
    `<p>${JSON.stringify([null, 'connecting', [], true, [], false, []]).replaceAll('"', '&quot;')}</p>`,
  );
  assert.equal(asked.mock.callCount(), 0);
  assert.equal(warned.mock.callCount(), 0);
});

test('without a provider, a hook says so', () => {
  assert.throws(() => renderToString(h(Inbox)), /^TypeError: There is no LiveProvider above this component/);
});

// Never called: it is enough that it compiles.
export function types(): void {
  type Events = RoomcastEvents & { 'leads.updated': { leadId: string }; 'tickets.typing': Signal<{ name: string }> };
  const ours = typed<Events, 'queue'>();
  useLive('messages.new', ({ messageId }, { cursor }) => [messageId, cursor satisfies string]);
  useLive('reset', ({ reason }) => reason satisfies 'expired' | 'unknown');
  useLive('status', ({ state }) => state satisfies string);
  // @ts-expect-error: not declared
  useLive('leads.updated', () => {});
  // @ts-expect-error: a typing error
  useLive('message.new', () => {});
  // @ts-expect-error: no such kind
  useSignals({ queueId: '1' });
  // @ts-expect-error: no tenant
  useTickets({ status: 'OPEN' });
  ours.useLive('leads.updated', ({ leadId }) => leadId satisfies string);
  ours.useLive('tickets.typing', ({ name }, { cursor }) => [name satisfies string, cursor satisfies null]);
  ours.useLive('signals', (room) => room satisfies `queue:${string}` | `${string}:${string}`);
  // @ts-expect-error: not declared
  ours.useLive('leads.deleted', () => {});
  for (const { event, payload } of ours.useSignals({ queueId: '1' })) {
    event satisfies 'tickets.typing';
    payload.name satisfies string;
  }
  const live = ours.useLive();
  live?.join({ queueId: '1' }).then((cursor) => cursor satisfies string);
  h(ours.LiveProvider, { options: { url: '', rooms: { queueId: '1' } } });
  h(ours.LiveProvider, { live: connect<Events, 'queue'>({ url: '' }) });
  // @ts-expect-error: an option that is none
  h(LiveProvider, { options: { uri: '' } });
  const { items } = useMessages('1', { tenantId: 't' });
  items[0]?.messageUpdatedAt satisfies unknown;
}

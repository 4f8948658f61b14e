/** The client library behind real reverse proxies: it finds the transport that passes, and its events equal the log. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { connect } from '../../src/client/client.ts';
import type { TransportName } from '../../src/client/events.ts';
import { messageNew, startBridge, type TestBridge } from '../support/bridge.ts';
import { type ProxyName, programOf, programPath, startProxy } from '../support/proxies.ts';
import { until } from '../support/until.ts';

let bridge: TestBridge;
before(async () => {
  bridge = await startBridge({ heartbeatMs: 500, retryMs: 20 });
});
after(() => bridge.close());

const CASES: readonly (readonly [ProxyName, TransportName])[] = [
  // By default nginx drops the upgrade. The answer's X-Accel-Buffering turns its buffering off.
  ['nginx', 'sse'],
  ['nginx, buffering', 'poll'],
  ['haproxy', 'sse'],
];

for (const [name, lands] of CASES) {
  const skip = programPath(programOf(name)) === null ? `${programOf(name)} is not installed` : false;
  test(`behind ${name}`, { skip }, async () => {
    const proxy = await startProxy(name, bridge.url);
    const tenantId = `behind-${name.replace(/\W+/g, '-')}`;
    const live = connect({ url: proxy.url, rooms: { tenantId }, heartbeatMs: 500, patienceMs: 1000 });
    const heard: string[] = [];
    const by = new Set<string>();
    live.on('messages.new', (_payload, { cursor, transport }) => {
      heard.push(cursor);
      by.add(transport);
    });
    try {
      await until(`live over ${lands}`, () => live.status.transport === lands);
      const published: string[] = [];
      while (!by.has(lands) || published.length < 300) {
        published.push((await bridge.publish('messages.new', messageNew({ tenantId, agreementId: null }))).id);
        await new Promise((resolve) => setImmediate(resolve));
      }
      await until('all heard', () => heard.length >= published.length);
      assert.deepEqual(heard, published);
    } finally {
      live.close();
      await proxy.close();
    }
  });
}

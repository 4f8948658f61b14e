/** What the torture suite found, each as the smallest case that shows it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ids } from '../delivery/conformance.ts';
import { messageNew, startBridge } from '../support/bridge.ts';
import { connectSocket } from '../support/clients.ts';
import { startCutProxy } from '../support/cut-proxy.ts';
import { until } from '../support/until.ts';

test('a client cut off after an acknowledged replay, before anything live, does not get the replay again', async () => {
  const bridge = await startBridge();
  const proxy = await startCutProxy(bridge.url);
  const tenantId = 'replayed';
  const publish = async (): Promise<string> => (await bridge.publish('messages.new', messageNew({ tenantId }))).id;
  const first = await publish();
  const client = await connectSocket('websocket')(proxy.url, {}, { legacy: false });
  try {
    // The place that the client would be recovered from lies before these.
    const missed = [await publish(), await publish()];
    assert.equal((await client.join('tenantId', tenantId, first)).ok, true);
    await until('the replay was heard', () => ids(client).length === 2);
    proxy.cut();
    await until('it is back', () => client.recoveries.length === 2);
    assert.equal(client.recoveries[1], true);
    const live = await publish();
    await until('the live event was heard', () => ids(client).includes(live));
    assert.deepEqual(ids(client), [...missed, live]);
  } finally {
    client.close();
    await proxy.close();
    await bridge.close();
  }
});

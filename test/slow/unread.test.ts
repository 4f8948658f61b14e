/** A client that takes nothing for 30 s of what waits for it is cut, on every kind of answer (protocol §16). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageNew, metric, startBridge } from '../support/bridge.ts';
import { get, openRaw } from '../support/raw.ts';
import { until } from '../support/until.ts';

const SLOW = (transport: string): string => `roomcast_slow_consumers_total{transport="${transport}"}`;
const OPEN = 'roomcast_connections{transport="sse"}';

test('a client that takes nothing is cut after 30 s; one that takes a little now and then is not', {
  timeout: 120_000,
}, async (context) => {
  const bridge = await startBridge({ maxBufferBytes: 20_000_000, heartbeatMs: 1_000 });
  context.after(() => bridge.close());
  const publish = async (count: number): Promise<void> => {
    for (let n = 0; n < count; n++) {
      await bridge.publish('messages.new', messageNew({ tenantId: 't', message: { text: 'x'.repeat(500_000) } }));
    }
  };
  await publish(20);
  const page = '/events?tenantId=t&limit=1000';
  const [plain, stream, slow] = [openRaw(bridge.url), openRaw(bridge.url), openRaw(bridge.url)];
  stream.send(get('/sse?tenantId=t&legacy=false'));
  await until('open', async () => (await metric(bridge, OPEN)) === 1);
  for (const raw of [plain, stream, slow]) raw.pause();
  plain.send(get(page));
  slow.send(get(page));
  // Less than MAX_BUFFER_BYTES, and more than the kernel takes.
  await publish(20);
  const begunAt = performance.now();
  // The server's kernel tells of free space once a third of its send buffer is free, 1.3 MB here.
  const trickle = setInterval(async () => {
    const goal = slow.bytes().length + 2_000_000;
    slow.resume();
    await until('a little was taken', () => slow.bytes().length >= goal || slow.closed);
    slow.pause();
  }, 10_000);
  context.after(() => clearInterval(trickle));
  await sleep(25_000);
  assert.deepEqual([await metric(bridge, SLOW('http')), await metric(bridge, SLOW('sse'))], [0, 0]);
  await until(
    'cut',
    async () => (await metric(bridge, SLOW('http'))) === 1 && (await metric(bridge, SLOW('sse'))) === 1,
    20_000,
  );
  assert.ok(performance.now() - begunAt < 40_000);
  assert.equal(await metric(bridge, OPEN), 0);
  clearInterval(trickle);
  slow.resume();
  await until('all there', () => slow.responses()[0]?.ended ?? false, 20_000);
});

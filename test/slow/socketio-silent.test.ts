/** A Socket.IO connection that is in no namespace is closed after 20 s (protocol §5.5). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startBridge } from '../support/bridge.ts';
import { openRawWebSocket } from '../support/raw-websocket.ts';
import { until } from '../support/until.ts';

test('a connection that sent no CONNECT, was refused or has left is closed; one in a namespace stays', async (t) => {
  const bridge = await startBridge({ drainMs: 100 });
  t.after(() => bridge.close());
  const [silent, refused, left, stays] = await Promise.all(
    Array.from({ length: 4 }, () => openRawWebSocket(bridge.url)),
  );
  const raws = [silent, refused, left, stays].filter((raw) => raw !== undefined);
  t.after(() => {
    for (const raw of raws) raw.destroy();
  });
  const startedMs = performance.now();
  refused?.send('40/nowhere,');
  left?.send('40');
  await until('it is in', () => left?.text().includes('40{"sid"') === true);
  left?.send('41');
  stays?.send('40');
  await until('three are closed', () => [silent, refused, left].every((raw) => raw?.closed), 30_000);
  assert.ok(performance.now() - startedMs > 19_000, 'not before');
  assert.equal(stays?.closed, false);
});

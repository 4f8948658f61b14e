/** protocol §15: what was erased is gone from every place that the bridge writes, and its clients go on. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { io, type Socket } from 'socket.io-client';
import { startBridge } from './support/bridge.ts';
import { missing, startRedis } from './support/redis.ts';
import { until } from './support/until.ts';

const ticket = (ticketId: string, n: number) => ({
  event: 'tickets.updated',
  payload: {
    tenantId: 'gone-t',
    ticketId,
    ticketStatus: 'OPEN',
    ticketUpdatedAt: '2026-01-01T00:00:00Z',
    ticket: { n },
  },
});

async function post(url: string, body: unknown): Promise<void> {
  const headers = { 'content-type': 'application/json', 'idempotency-key': `gone-${JSON.stringify(body)}` };
  const { status } = await fetch(`${url}/events`, { method: 'POST', headers, body: JSON.stringify(body) });
  assert.equal(status, 201);
}

/** A client in rooms of what is erased is recovered as before, and nothing that it left behind names them. */
async function survivesErasure(t: TestContext, urls: readonly [string, string], contents: () => Promise<string>) {
  const [url, other] = urls;
  await Promise.all(urls.map((at, n) => post(at, ticket('gone-k', n))));
  const socket: Socket = io(url, { transports: ['websocket'], reconnectionDelay: 50 });
  t.after(() => socket.close());
  const heard: unknown[] = [];
  socket.on('tickets.updated', ({ ticket: { n } }) => heard.push(n));
  assert.equal((await socket.emitWithAck('join-ticket', 'gone-k')).ok, true);
  assert.equal((await socket.emitWithAck('join-tenant', 'gone-t')).ok, true);
  assert.equal((await socket.emitWithAck('join-ticket', 'gone-left')).ok, true);
  assert.equal((await socket.emitWithAck('leave-ticket', 'gone-left')).ok, true);
  assert.equal((await socket.emitWithAck('leave-tenant', 'gone-t')).ok, true);
  assert.equal((await socket.emitWithAck('join-tenant', 'gone-t')).ok, true);
  assert.equal((await socket.emitWithAck('join-agreement', 'gone-a')).ok, true);
  await post(url, ticket('gone-k', 2));
  await until('the client hears', () => heard.length === 1);
  await fetch(`${url}/tenants/gone-t`, { method: 'DELETE' });
  assert.doesNotMatch(await contents(), /gone-/);
  for (const at of [url, other]) {
    await until('no label names it', async () => {
      const text = await (await fetch(`${at}/metrics`)).text();
      return !text.includes('gone-') && text.includes('ws_emit_total{event="tickets.updated",room="ticket:*"}');
    });
  }
  const reconnected = new Promise<void>((resolve) => socket.once('connect', resolve));
  socket.io.engine.close();
  await reconnected;
  assert.equal(socket.recovered, true);
  await post(other, ticket('gone-k', 3));
  await until('the client hears again', () => heard.length === 2);
  await post(other, ticket('gone-left', 4));
  await post(other, ticket('gone-k', 5));
  await until('the client hears of its tenant', () => heard.length === 4);
  assert.deepEqual(heard, [2, 3, 4, 5]);
  assert.equal((await socket.emitWithAck('leave-tenant', 'gone-t')).ok, true);
  socket.io.engine.close();
  await until('the client is back', () => socket.connected);
  await post(url, ticket('gone-left', 6));
  await post(url, ticket('gone-k', 7));
  await until('the client hears of its ticket', () => heard.length === 5);
  assert.deepEqual(heard, [2, 3, 4, 5, 7], 'and of nothing that it left');
}

test('on SQLite', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'roomcast-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const bridge = await startBridge({ storeUrl: `sqlite:${join(folder, 'log.db')}` });
  t.after(() => bridge.close());
  const { url } = bridge;
  const contents = async () => readdirSync(folder).map((name) => readFileSync(join(folder, name), 'latin1'));
  await survivesErasure(t, [url, url], async () => (await contents()).join());
});

test('on Redis, with two nodes', { skip: missing('redis-server') }, async (t) => {
  const redis = await startRedis();
  t.after(() => redis.stop());
  const [one, two] = await Promise.all([1, 2].map(() => startBridge({ storeUrl: redis.url })));
  t.after(() => Promise.all([one?.close(), two?.close()]));
  await survivesErasure(t, [one?.url ?? '', two?.url ?? ''], async () => {
    const keys = (await redis.command('KEYS', '*')) as string[];
    const dumps = await Promise.all(keys.map((key) => redis.command('DUMP', key)));
    return [...keys, ...dumps].join();
  });
});

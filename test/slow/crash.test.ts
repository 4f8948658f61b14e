/**
 * The server as a process: killed, drained, and started with a wrong configuration. Every acknowledged event is in the
 * log once, and stock clients reconnect by themselves and miss no event.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, describe, test } from 'node:test';
import { ids } from '../delivery/conformance.ts';
import { messageNew } from '../support/bridge.ts';
import { connectLongPoll, connectSocket, connectSse } from '../support/clients.ts';
import { startCutProxy } from '../support/cut-proxy.ts';
import { spawnServer, startServer } from '../support/server.ts';
import { until } from '../support/until.ts';

const directory = mkdtempSync(join(tmpdir(), 'roomcast-crash-'));
after(() => rmSync(directory, { recursive: true }));
let files = 0;

async function post(url: string, payload: object): Promise<string | null> {
  try {
    const response = await fetch(`${url}/events`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ event: 'messages.new', payload }),
    });
    return response.status === 201 ? ((await response.json()) as { id: string }).id : null;
  } catch {
    return null;
  }
}

for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
  test(`after ${signal}, the restarted server has every acknowledged event, and its clients resume`, async () => {
    const env = { STORE_URL: `sqlite:${join(directory, `${++files}.db`)}`, RETRY_MS: '50' };
    let server = await startServer(env);
    const proxy = await startCutProxy(server.url);
    const tenantId = 'crash';
    const sockets = [
      await connectSocket('websocket')(proxy.url, { tenantId: [tenantId] }, { legacy: false }),
      await connectSocket('polling')(proxy.url, { tenantId: [tenantId] }, { legacy: false }),
    ];
    const clients = [
      ...sockets,
      await connectSse(proxy.url, { tenantId: [tenantId] }, { legacy: false }),
      await connectLongPoll(proxy.url, { tenantId: [tenantId] }, { legacy: false }),
    ];
    const acknowledged = new Set<string>();
    let stop = false;
    const publishers = Array.from({ length: 4 }, async () => {
      while (!stop) {
        const id = await post(proxy.url, messageNew({ tenantId }));
        if (id === null) await new Promise((resolve) => setImmediate(resolve));
        else acknowledged.add(id);
      }
    });
    try {
      for (let round = 0; round < 3; round++) {
        const before = acknowledged.size;
        await until('50 more events are acknowledged', () => acknowledged.size >= before + 50);
        // The server may run for less time than a stock client waits before it reconnects.
        await until('all clients have reconnected', () => sockets.every(({ recoveries }) => recoveries.length > round));
        await server.end(signal);
        server = await startServer(env);
        proxy.retarget(server.url);
      }
      const before = acknowledged.size;
      await until('50 more events are acknowledged', () => acknowledged.size >= before + 50);
      stop = true;
      await Promise.all(publishers);
      const log: string[] = [];
      for (let after = 'start'; ; ) {
        const response = await fetch(`${server.url}/events?tenantId=${tenantId}&after=${after}&limit=1000`);
        const page = (await response.json()) as { events: { id: string }[]; cursor: string; hasMore: boolean };
        log.push(...page.events.map(({ id }) => id));
        after = page.cursor;
        if (!page.hasMore) break;
      }
      assert.equal(new Set(log).size, log.length, 'no event is in the log twice');
      assert.deepEqual(
        [...acknowledged].filter((id) => !log.includes(id)),
        [],
        'every acknowledged event is in the log',
      );
      for (const [index, client] of clients.entries()) {
        await until(`client ${index} has received the whole log`, () => ids(client).length >= log.length);
        assert.deepEqual(ids(client), log);
        assert.deepEqual(client.resets, []);
      }
      for (const { recoveries } of sockets) assert.deepEqual(recoveries, [false, true, true, true]);
    } finally {
      stop = true;
      for (const client of clients) client.close();
      await server.end('SIGKILL');
      await proxy.close();
    }
  });
}

describe('start and stop', () => {
  test('SIGTERM drains and exits 0, also when sent to npm', async () => {
    const server = await startServer({ STORE_URL: `sqlite:${join(directory, `${++files}.db`)}` });
    const client = await connectSse(server.url, { tenantId: ['t'] });
    assert.equal(await server.end('SIGTERM'), 0);
    client.close();

    const child = spawn('npm', ['start', '--silent'], {
      env: { ...process.env, PORT: '0', STORE_URL: `sqlite:${join(directory, `${++files}.db`)}` },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const lines = createInterface({ input: child.stdout });
    const seen: string[] = [];
    lines.on('line', (line) => seen.push(line));
    await until('it listens', () => seen.some((line) => line.includes('"url"')));
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    await exited;
    await until('npm has stopped its server', () => seen.some((line) => line.includes('"stopped"')));
  });

  test('SIGTERM during the start exits 0, here while Redis accepts the connection and never replies', async (t) => {
    const silent = createServer();
    const port = await new Promise<number>((resolve) => {
      silent.listen(0, '127.0.0.1', () => resolve((silent.address() as AddressInfo).port));
    });
    const connecting = once(silent, 'connection');
    const { process: child } = spawnServer({ STORE_URL: `redis://127.0.0.1:${port}` });
    const [connection] = (await connecting) as [Socket];
    t.after(() => {
      connection.destroy();
      silent.close();
    });
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    assert.deepEqual(await exited, [0, null]);
  });

  test('a second server on the same file or port refuses to start, in one line', async (t) => {
    const env = { STORE_URL: `sqlite:${join(directory, `${++files}.db`)}` };
    const first = await startServer(env);
    t.after(() => first.end('SIGTERM'));
    const second = spawnServer(env);
    const [code] = await once(second.process, 'exit');
    assert.notEqual(code, 0);
    assert.match(second.stderr(), /^roomcast: STORE_URL.*another server.*\n$/);
    const { port } = new URL(first.url);
    const third = spawnServer({ STORE_URL: 'sqlite::memory:', PORT: port });
    await once(third.process, 'exit');
    const message = `Port ${port} is already in use. Try PORT=${Number(port) + 1}.`;
    assert.equal(third.stderr(), `roomcast: ${message}\n`);
  });

  test('an invalid value stops the start with one line that names the variable', async () => {
    const server = spawnServer({ PORT: 'http' });
    const [code] = await once(server.process, 'exit');
    assert.notEqual(code, 0);
    assert.match(server.stderr(), /^roomcast: PORT.*http.*\n$/);
  });
});

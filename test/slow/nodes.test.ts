/**
 * Many nodes on one Redis behind a real haproxy. The test stops and starts nodes, kills, pauses and restarts Redis, while
 * publishers post to all nodes and clients listen on all transports. Every client must receive every acknowledged event
 * once and in cursor order.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ids } from '../delivery/conformance.ts';
import { messageNew } from '../support/bridge.ts';
import { type Client, connectLongPoll, connectSocket, connectSse } from '../support/clients.ts';
import { freePort } from '../support/ports.ts';
import { missing, startRedis } from '../support/redis.ts';
import { type ServerProcess, startServer } from '../support/server.ts';
import { until } from '../support/until.ts';

const absent = missing('redis-server', 'haproxy');
const NODES = 3;
const TENANT = 'nodes';

/** As in docs/deploy: one node for all requests of an Engine.IO polling session, any node for other requests. */
async function startHaproxy(ports: readonly number[]): Promise<{ url: string; stop(): Promise<void> }> {
  const directory = await mkdtemp(join(tmpdir(), 'roomcast-haproxy-'));
  const port = await freePort();
  const backend = `option httpchk GET /readyz
${ports.map((node, index) => `  server n${index} 127.0.0.1:${node} check inter 100 fall 1 rise 1`).join('\n')}`;
  const file = join(directory, 'haproxy.cfg');
  const config = `defaults
  mode http
  timeout connect 1s
  timeout client 50s
  timeout server 50s
  timeout tunnel 1h
  option http-no-delay
  option redispatch
frontend all
  bind 127.0.0.1:${port}
  use_backend sticky if { path_beg /socket.io } { url_param(transport) polling }
  default_backend any
backend any
  balance leastconn
  ${backend}
backend sticky
  balance source
  ${backend}
`;
  await writeFile(file, config);
  const child = spawn('haproxy', ['-f', file, '-db'], { stdio: 'ignore' });
  return {
    url: `http://127.0.0.1:${port}`,
    async stop() {
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
      await rm(directory, { recursive: true });
    },
  };
}

/** Waits until GET /readyz has this status. */
async function untilReadiness(url: string, status: number): Promise<void> {
  await until(`${url}/readyz is ${status}`, async () => {
    const response = await fetch(`${url}/readyz`).catch(() => null);
    await response?.body?.cancel();
    return response?.status === status;
  });
}

test('three nodes behind haproxy, with nodes and Redis failing in turn', { skip: absent }, async () => {
  const redis = await startRedis();
  const ports = await Promise.all(Array.from({ length: NODES }, freePort));
  const start = (index: number): Promise<ServerProcess> =>
    startServer({ PORT: String(ports[index]), STORE_URL: redis.url, RETRY_MS: '50', LOG_LEVEL: 'info' });
  const nodes = await Promise.all(ports.map((_, index) => start(index)));
  const haproxy = await startHaproxy(ports);
  const clients: Client[] = [];
  const acknowledged = new Set<string>();
  let stop = false;
  let publishing: Promise<void>[] = [];
  try {
    await untilReadiness(haproxy.url, 200);
    for (let round = 0; round < 4; round++) {
      for (const connect of [connectSocket('websocket'), connectSocket('polling'), connectSse, connectLongPoll]) {
        clients.push(await connect(haproxy.url, { tenantId: [TENANT] }, { legacy: false }));
      }
    }
    publishing = ports.map(async (port) => {
      while (!stop) {
        const body = JSON.stringify({ event: 'messages.new', payload: messageNew({ tenantId: TENANT }) });
        // Repeated under its key until there is an answer. Whatever the first attempt did, the event must appear once.
        const headers = { 'content-type': 'application/json', 'idempotency-key': `k${Math.random()}` };
        for (let answered = false; !answered && !stop; ) {
          const posted = fetch(`http://127.0.0.1:${port}/events`, { method: 'POST', headers, body });
          const response = await posted.catch(() => null);
          if (response?.ok) {
            acknowledged.add(((await response.json()) as { id: string }).id);
            answered = true;
          } else {
            await response?.body?.cancel();
            await new Promise((resolve) => setTimeout(resolve, 10));
          }
        }
      }
    });
    const more = async (count: number): Promise<void> => {
      const before = acknowledged.size;
      await until('more events are acknowledged', () => acknowledged.size >= before + count, 40_000);
    };
    await more(50);
    for (let index = 0; index < NODES; index++) {
      await (nodes[index] as ServerProcess).end(index % 2 === 0 ? 'SIGKILL' : 'SIGTERM');
      await more(20);
      nodes[index] = await start(index);
      await more(20);
    }
    await redis.kill();
    await untilReadiness(`http://127.0.0.1:${ports[0]}`, 503);
    await redis.restart();
    await more(50);
    redis.pause();
    await untilReadiness(`http://127.0.0.1:${ports[1]}`, 503);
    redis.resume();
    await more(50);
    await redis.command('CLIENT', 'KILL', 'TYPE', 'normal');
    await more(50);
    stop = true;
    await Promise.all(publishing);

    const log: string[] = [];
    for (let after = 'start'; ; ) {
      const response = await fetch(`http://127.0.0.1:${ports[2]}/events?tenantId=${TENANT}&after=${after}&limit=1000`);
      const page = (await response.json()) as { events: { id: string }[]; cursor: string; hasMore: boolean };
      log.push(...page.events.map(({ id }) => id));
      after = page.cursor;
      if (!page.hasMore) break;
    }
    const lost = [...acknowledged].filter((id) => !log.includes(id));
    assert.deepEqual(lost, []);
    for (const [index, client] of clients.entries()) {
      await until(`client ${index} has the log`, () => ids(client).length >= log.length, 40_000);
      assert.deepEqual(ids(client), log, `client ${index}`);
      assert.deepEqual(client.resets, []);
    }
  } finally {
    stop = true;
    for (const client of clients) client.close();
    await Promise.all(nodes.map((node) => node.end('SIGKILL')));
    await Promise.all(publishing);
    await haproxy.stop();
    await redis.stop();
  }
});

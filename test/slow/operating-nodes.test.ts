/**
 * protocol §15 over nodes that fail: a node that hangs is named in `missing`, and the others answer; it is back once it goes
 * on. And over many connections: one request is worked off in many turns.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { type Connection, call, connections, hold, refusals, untilListed } from '../operating/support.ts';
import { startBridge } from '../support/bridge.ts';
import { missing, type RedisServer, startRedis } from '../support/redis.ts';
import { type ServerProcess, startServer } from '../support/server.ts';
import { until } from '../support/until.ts';

/** Asks the node itself, past the others. */
const idOf = async (node: ServerProcess): Promise<string> => (await call(node, 'GET /stats')).body.node.id;

describe('an operator of nodes that fail', { skip: missing('redis-server') }, () => {
  let redis: RedisServer;
  let a: ServerProcess;
  let b: ServerProcess;
  before(async () => {
    redis = await startRedis();
    const env = { STORE_URL: redis.url, LOG_LEVEL: 'info', RETRY_MS: '50' };
    a = await startServer(env);
    b = await startServer(env);
    await until('the nodes know each other', async () => (await call(a, 'GET /stats')).body.nodes?.length === 2);
  });
  after(async () => {
    for (const node of [a, b]) {
      node.process.kill('SIGCONT');
      await node.end('SIGKILL');
    }
    await redis.stop();
  });
  const at = (node: ServerProcess) => node as never;

  it('gets what the others have while one hangs, and its name', async (t) => {
    await hold(t, 'sse', at(a), ['ticket:1'], { userAgent: 'at a' });
    await hold(t, 'sse', at(b), ['ticket:1'], { userAgent: 'at b' });
    await hold(t, 'websocket', at(b), ['ticket:1'], { userAgent: 'at b' });
    assert.equal((await call(b, 'GET /sse')).status, 400);
    await untilListed(at(a), 3);
    const hung = await idOf(b);
    const lost = (await connections(at(a))).find(({ node }) => node === hung) as Connection;
    b.process.kill('SIGSTOP');
    for (const [path, count] of [
      ['/connections', 1],
      ['/connections?room=ticket:1', 1],
      ['/refusals', 0],
    ] as const) {
      const { status, body, text } = await call(a, `GET ${path}`);
      assert.equal(status, 200, text);
      assert.deepEqual([body.items.length, body.missing, body.nextPage], [count, [hung], null], path);
    }
    const single = await call(a, `GET /connections/${lost.id}`);
    assert.ok([404, 503].includes(single.status), String(single.status));
    const { status, body } = await call(a, 'DELETE /connections?room=ticket:1');
    assert.equal(status, 200);
    assert.equal(body.closed, 1);
    b.process.kill('SIGCONT');
    await until('the node is back', async () => (await call(a, 'GET /connections')).body.missing.length === 0);
    await until('its connections are listed', async () =>
      (await connections(at(a))).some(({ userAgent }) => userAgent === 'at b'),
    );
    assert.equal((await refusals(at(a))).length >= 1, true);
    assert.deepEqual((await call(a, 'DELETE /connections?transport=websocket')).body.closed <= 1, true);
  });

  it('is answered while Redis is away: with its own connections, or with 503', async (t) => {
    await hold(t, 'sse', at(a), ['ticket:2'], { userAgent: 'stays' });
    redis.pause();
    try {
      for (const path of ['/connections?room=ticket:2', '/refusals', '/log?ticketId=2']) {
        const { status, body, text } = await call(a, `GET ${path}`);
        assert.ok(status === 503 || (status === 200 && Array.isArray(body.items)), `${path}: ${status} ${text}`);
        if (path.startsWith('/connections')) assert.equal(status, 200, 'this node knows its own');
      }
    } finally {
      redis.resume();
    }
    await until('all is well', async () => {
      const { status, body } = await call(a, 'GET /connections?room=ticket:2');
      return status === 200 && body.missing.length === 0 && body.items.length === 1;
    });
  });

  it('hears no more of a node that was killed', async () => {
    await b.end('SIGKILL');
    const { status, body } = await call(a, 'GET /connections');
    assert.equal(status, 200);
    assert.ok(body.items.every(({ node }: Connection) => node !== undefined));
    await until('it is forgotten', async () => (await call(a, 'GET /connections')).body.missing.length === 0, 30_000);
  });
});

/** Holds streams until it is killed. */
const HOLDER = `
const [port, count] = process.argv.slice(-2).map(Number);
const net = require('node:net');
let ready = 0;
const open = (n) => {
  if (n >= count) return;
  const socket = net.connect(port, '127.0.0.1', () => {
    socket.write('GET /sse?tenantId=t' + (n % 100) + ' HTTP/1.1\\r\\nHost: localhost\\r\\nUser-Agent: holder ' + n + '\\r\\n\\r\\n');
  });
  socket.once('data', () => {
    if (++ready === count) process.stdout.write('ready');
    open(n + 50);
  });
  socket.resume();
  socket.on('error', () => {});
};
for (let n = 0; n < 50; n++) open(n);
`;

describe('an operator of many connections', () => {
  it('lists, filters and closes them in many turns', async (t) => {
    const COUNT = 3_000;
    /** At most so many are looked at in one turn. */
    const MOST = 300;
    const bridge = await startBridge();
    t.after(() => bridge.close());
    /** Turns of the event loop that one request takes. */
    const turnsOf = async (route: string) => {
      let turns = 0;
      let isOver = false;
      const turn = (): void => {
        turns++;
        if (!isOver) setImmediate(turn);
      };
      setImmediate(turn);
      const answer = await call(bridge, route);
      isOver = true;
      assert.equal(answer.status, 200, answer.text);
      return { turns, body: answer.body };
    };
    await turnsOf('GET /connections?room=tenant:none');
    const few = await turnsOf('GET /connections?room=tenant:none');
    const holder = spawn(process.execPath, ['-e', HOLDER, '--', new URL(bridge.url).port, String(COUNT)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    t.after(() => holder.kill('SIGKILL'));
    await once(holder.stdout as NodeJS.ReadableStream, 'data');
    const none = await turnsOf('GET /connections?room=tenant:none');
    assert.deepEqual(none.body.items, []);
    assert.ok(few.turns < COUNT / MOST, `${few.turns} turns for none`);
    assert.ok(none.turns >= COUNT / MOST, `${none.turns} turns for ${COUNT}`);
    const all = await connections(bridge, { limit: 1000 });
    assert.equal(all.length, COUNT);
    assert.equal(new Set(all.map(({ userAgent }) => userAgent)).size, COUNT);
    assert.equal((await connections(bridge, { room: 'tenant:t7' })).length, COUNT / 100);
    const some = await turnsOf('DELETE /connections?room=tenant:t7');
    assert.deepEqual(some.body, { closed: COUNT / 100 });
    const closed = await turnsOf('DELETE /connections?transport=sse');
    assert.ok(closed.turns >= COUNT / MOST, `${closed.turns} turns`);
    await untilListed(bridge, 0);
  });
});

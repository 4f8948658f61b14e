/** Engine.IO's pings by one timer, on a real Engine.IO server with short times. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { Server as EngineServer, type Socket as EngineSocket } from 'engine.io';
import { io } from 'socket.io-client';
import { createHeartbeats, heartbeatTimes } from '../../src/transports/socketio/heartbeats.ts';
import { startBridge } from '../support/bridge.ts';
import { until } from '../support/until.ts';
import { openWebSocket } from '../support/wires.ts';

test('the time-out of a ping follows PING_MS within limits', () => {
  for (const [pingInterval, pingTimeout] of [
    [25_000, 20_000],
    [1_000, 5_000],
    [10_000, 8_000],
    [60_000, 20_000],
  ] as const) {
    assert.deepEqual(heartbeatTimes(pingInterval), { pingInterval, pingTimeout });
  }
});

test('a bridge announces its PING_MS and pings by it', async (context) => {
  const bridge = await startBridge({ pingMs: 1_000 });
  context.after(() => bridge.close());
  const wire = await openWebSocket(bridge.url);
  context.after(() => wire.close());
  await until('pinged twice', () => wire.frames.filter((frame) => frame === '2').length === 2, 15_000);
  const { pingInterval, pingTimeout } = JSON.parse((wire.frames[0] as string).slice(1)) as Record<string, number>;
  assert.deepEqual([pingInterval, pingTimeout], [1_000, 5_000]);
});

const TIMES = { pingInterval: 60, pingTimeout: 120 };

async function startEngine(context: TestContext) {
  const engine = new EngineServer(TIMES);
  const http = createServer((request, response) => engine.handleRequest(request as never, response));
  http.on('upgrade', (request, socket, head) => engine.handleUpgrade(request as never, socket, head));
  const heartbeats = createHeartbeats(TIMES);
  const connections: EngineSocket[] = [];
  let pongs = 0;
  engine.on('connection', (connection: EngineSocket) => {
    heartbeats.add(connection);
    connections.push(connection);
    connection.on('heartbeat', () => pongs++);
  });
  const ticking = setInterval(() => heartbeats.tick(performance.now()), 10);
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  context.after(() => {
    clearInterval(ticking);
    engine.close();
    http.close();
    http.closeAllConnections();
  });
  return {
    url: `127.0.0.1:${(http.address() as AddressInfo).port}`,
    connections,
    pongs: () => pongs,
  };
}

const timerOf = (connection: EngineSocket | undefined): object | undefined =>
  (connection as unknown as { pingIntervalTimer?: object })?.pingIntervalTimer;

for (const transport of ['websocket', 'polling']) {
  test(`a stock client over ${transport} is pinged and stays connected`, async (context) => {
    const engine = await startEngine(context);
    const client = io(`http://${engine.url}`, { path: '/', transports: [transport], reconnection: false });
    context.after(() => client.close());
    await until('ten pongs', () => engine.pongs() >= 10);
    const [connection] = engine.connections;
    assert.equal(connection?.readyState, 'open');
    assert.equal(timerOf(connection)?.constructor.name, 'Heartbeat', 'Engine.IO has no timer of its own');
    client.io.engine.close();
    await until('closed', () => connection?.readyState === 'closed');
  });
}

test('a client that does not answer is pinged once, then cut', async (context) => {
  const engine = await startEngine(context);
  const socket = new WebSocket(`ws://${engine.url}/?EIO=4&transport=websocket`);
  const seen: string[] = [];
  socket.addEventListener('message', ({ data }) => seen.push(String(data)));
  await until('it is cut', () => socket.readyState === WebSocket.CLOSED);
  assert.deepEqual(
    seen.map((packet) => packet[0]),
    ['0', '2'],
  );
  assert.equal(engine.connections[0]?.readyState, 'closed');
});

test('an Engine.IO without `pingIntervalTimer` keeps its own pings', () => {
  const heartbeats = createHeartbeats(TIMES);
  const connection = { readyState: 'open', pingIntervalTimer: 7 };
  heartbeats.add(connection as never);
  heartbeats.tick(performance.now() + 1_000);
  assert.equal(connection.pingIntervalTimer, 7);
});

test('with ticks a second apart a silent client is cut within the announced times', async (context) => {
  const { connections, url } = await startEngine(context);
  const socket = new WebSocket(`ws://${url}/?EIO=4&transport=websocket`);
  context.after(() => socket.close());
  await until('it is open', () => connections.length === 1);
  const heartbeats = createHeartbeats({ pingInterval: 25_000, pingTimeout: 20_000 });
  const openedMs = performance.now();
  heartbeats.add(connections[0] as EngineSocket);
  const isOpenAfter = (seconds: number): boolean => {
    heartbeats.tick(openedMs + seconds * 1_000);
    return connections[0]?.readyState === 'open';
  };
  let second = 0;
  while (isOpenAfter(second + 0.9)) second++;
  assert.ok(second > 40 && second < 45, `${second}`);
});

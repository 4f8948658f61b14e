/**
 * Canaries: one for each internal of Engine.IO, Socket.IO, ws and Node that the transports use (socketio/internals.ts,
 * sse/response-writer.ts). A failure says what a new version lacks, and what the bridge then does.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import {
  type AddressInfo,
  createServer as createNetServer,
  type Socket as NetSocket,
  connect as netConnect,
} from 'node:net';
import { type TestContext, test } from 'node:test';
import { Server as EngineServer, type ServerOptions } from 'engine.io';
import { Server, type Socket } from 'socket.io';
import { Adapter } from 'socket.io-adapter';
import { io } from 'socket.io-client';
import { takenBytes } from '../../src/answers/exchange.ts';
import {
  continueSession,
  EngineRequest,
  forgetHandshake,
  handleUpgrade,
  idOf,
  pidOf,
  replacePingTimer,
  sendPingPacket,
  takeOverAcks,
  takeOverMessages,
  takeOverWebsockets,
  type WebSocket,
  websocketOf,
} from '../../src/transports/socketio/internals.ts';
import { requestSocket, takeSocket } from '../../src/transports/sse/response-writer.ts';
import { get, openRaw } from '../support/raw.ts';
import { frame, openRawWebSocket, PING, TEXT } from '../support/raw-websocket.ts';
import { until } from '../support/until.ts';

/** A field of an object, whatever its type says. */
const field = (object: unknown, name: string): unknown => (object as Record<string, unknown> | undefined)?.[name];

interface Setup {
  readonly transport?: 'websocket' | 'polling';
  readonly engineOptions?: ServerOptions;
  readonly adapter?: typeof Adapter;
  readonly middleware?: (socket: Socket) => void;
}

/** A stock client on a Socket.IO server that is wired as the bridge's. */
async function connect(context: TestContext, setup: Setup = {}) {
  const { transport = 'websocket', engineOptions, adapter, middleware } = setup;
  const engine = new EngineServer(engineOptions);
  const server = new Server({ connectionStateRecovery: {}, ...(adapter && { adapter }) });
  server.bind(engine);
  server.use((socket, next) => {
    middleware?.(socket);
    next();
  });
  const http = createServer((request, response) => engine.handleRequest(request, response));
  http.on('upgrade', (request, socket, head) =>
    handleUpgrade(engine, new EngineRequest(request, socket), socket, head),
  );
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
  const auth = { pid: 'unknown', offset: 'unknown' };
  const client = io(url, { transports: [transport], reconnection: false, path: '/', auth });
  context.after(async () => {
    client.disconnect();
    await server.close();
    http.close();
    http.closeAllConnections();
  });
  const connected = new Promise<void>((resolve) => client.on('connect', resolve));
  const socket = await new Promise<Socket>((resolve) => server.on('connection', resolve));
  await connected;
  return { client, socket, conn: socket.conn, engine, url };
}

/** Resolves as the promise does, or fails with the message. */
async function within<T>(message: string, promise: Promise<T>): Promise<T> {
  const timeout = once(AbortSignal.timeout(2_000), 'abort').then(() => assert.fail(message));
  return Promise.race([promise, timeout]);
}

test('the packages are pinned to minor versions', () => {
  const { dependencies } = JSON.parse(readFileSync('package.json', 'utf8'));
  const engine = JSON.parse(readFileSync('node_modules/engine.io/package.json', 'utf8'));
  const ranges = ['engine.io', 'socket.io', 'socket.io-adapter'].map((name) => dependencies[name]);
  for (const range of [...ranges, engine.dependencies.ws]) assert.match(range, /^~/);
});

test('engine.io: transport.socket', async (context) => {
  const { conn } = await connect(context);
  const terminate = field(field(conn.transport, 'socket'), 'terminate');
  assert.equal(
    typeof terminate,
    'function',
    'No websocket in `transport.socket`: nothing is written beside Engine.IO.',
  );
});

test('engine.io: transport.perMessageDeflate', async (context) => {
  const { conn } = await connect(context, { engineOptions: { perMessageDeflate: true } });
  assert.ok(
    field(conn.transport, 'perMessageDeflate'),
    'No `perMessageDeflate`: bytes could overtake compressed messages.',
  );
});

test('engine.io: writeBuffer', async (context) => {
  const { conn } = await connect(context, { transport: 'polling' });
  for (let index = 0; index < 2; index++) conn.write('2["canary"]');
  const waiting = Number(field(field(conn, 'writeBuffer'), 'length'));
  assert.ok(waiting > 0, 'Packets no longer wait in `writeBuffer`: nothing may be written beside Engine.IO.');
});

test('engine.io: id', async (context) => {
  const { client, conn } = await connect(context);
  assert.equal(idOf(conn), client.io.engine.id, 'No `sid` in `id`: the connection of a request is not found.');
});

test('engine.io, ws: the options of `ws`, pause, resume and wsClientError', async (context) => {
  const refused: string[] = [];
  const { engine, url } = await connect(context);
  takeOverWebsockets(engine, ({ message }, socket) => {
    refused.push(message);
    socket.destroy();
  });
  const connected = once(engine, 'connection');
  const raw = await openRawWebSocket(url);
  context.after(() => raw.destroy());
  const [conn] = (await connected) as [Socket['conn']];
  const websocket = websocketOf(conn) as WebSocket;
  const pinged = new Promise<string>((resolve) => websocket.on('ping', (data) => resolve(data.toString())));
  const order: string[] = [];
  conn.on('packet', () => {
    order.push('packet');
    setImmediate(() => order.push('turn'));
  });
  websocket.pause();
  await raw.write(Buffer.concat([frame(PING, 'canary'), ...['40', '3', '3'].map((text) => frame(TEXT, text))]));
  websocket.resume();
  assert.equal(await within('`ping` is not emitted, or nothing is read after `resume`.', pinged), 'canary');
  await until('the packets are read', () => order.filter((entry) => entry === 'packet').length === 3);
  assert.equal(order[1], 'turn', 'Packets come in one turn of the event loop: a flood makes other clients wait.');
  await until('CONNECT is answered', () => raw.text().includes('40{'));
  assert.ok(!raw.text().includes('canary'), 'ws answers pings by itself, without bound.');
  await openRawWebSocket(url, 'EIO=4&transport=websocket', 'Sec-WebSocket-Key: !');
  assert.equal(refused.length, 1, 'No `wsClientError`: what ws refuses is not counted.');
});

test('ws: _socket', async (context) => {
  const { client, conn } = await connect(context);
  const tcpSocket = field(field(conn.transport, 'socket'), '_socket') as NetSocket;
  assert.equal(typeof tcpSocket?.write, 'function', 'No TCP socket in `_socket`: every packet goes through Engine.IO.');
  const received = new Promise<number>((resolve) => client.on('canary', resolve));
  tcpSocket.write(Buffer.from('\x81\x0e42["canary",1]', 'latin1'));
  assert.equal(await within('A message that is written to `_socket` no longer arrives.', received), 1);
});

for (const transport of ['websocket', 'polling'] as const) {
  test(`engine.io: 'packetCreate', 'flush', and 'drain' of the transport (${transport})`, async (context) => {
    const { conn } = await connect(context, { transport });
    const seen: string[] = [];
    conn.on('packetCreate', ({ data }: { data: string }) => seen.push(data));
    conn.on('flush', () => seen.push('flush'));
    const drained = once(conn.transport, 'drain').then(() => seen.push('drain'));
    conn.write('2["canary"]');
    await within('No `drain` of the transport: polling clients are cut as slow consumers.', drained);
    assert.deepEqual(seen, ['2["canary"]', 'flush', 'drain'], 'The events changed: waiting bytes are miscounted.');
  });
}

test('engine.io: pingIntervalTimer and sendPacket', async (context) => {
  const { conn } = await connect(context);
  let isReplaced = false;
  const refreshed = new Promise<void>((refresh) => {
    isReplaced = replacePingTimer(conn, { refresh });
  });
  assert.ok(isReplaced, 'No timer in `pingIntervalTimer`: Engine.IO pings each connection with timers of its own.');
  assert.equal(typeof field(conn, 'sendPacket'), 'function', 'No `sendPacket`: pings throw.');
  sendPingPacket(conn);
  await within('A pong no longer calls `pingIntervalTimer.refresh`: healthy clients are cut.', refreshed);
});

test('engine.io, ws, socket.io: a reduced request that is emptied once the connection is open', async (context) => {
  const { client, socket, conn } = await connect(context);
  const { request } = conn as { request: unknown };
  assert.ok(
    request instanceof EngineRequest,
    'Engine.IO no longer keeps its request: that of a connection stays in memory.',
  );
  assert.equal(field(request._query, 'EIO'), '4', 'No query in `request._query`: it stays in memory elsewhere.');
  forgetHandshake(socket);
  socket.on('canary', (ack: (answer: string) => void) => ack('alive'));
  const message = 'The handshake is read after the connection has opened: it can no longer be forgotten.';
  assert.equal(await within(message, client.emitWithAck('canary')), 'alive');
});

test('ws: the listeners of message, and isPaused', async (context) => {
  const { client, socket, conn } = await connect(context);
  const websocket = websocketOf(conn);
  assert.ok(websocket);
  const waiting: (() => void)[] = [];
  takeOverMessages(websocket, (_data, deliver) => waiting.push(deliver));
  let isAnswered = false;
  socket.on('canary', (ack: () => void) => ack());
  client.emit('canary', () => {
    isAnswered = true;
  });
  await until('the message waits', () => waiting.length > 0);
  assert.equal(isAnswered, false, 'Engine.IO still has the messages of a websocket: they take no turns.');
  for (const deliver of waiting) deliver();
  await until('the message is answered', () => isAnswered);
  websocket.pause();
  assert.equal(websocket.isPaused, true, 'No `isPaused`: a websocket would not be read again.');
});

test('socket.io: packet', async (context) => {
  const { client, socket, conn } = await connect(context);
  const written: string[] = [];
  takeOverAcks(socket, (text) => {
    written.push(text);
    conn.write(text);
  });
  socket.on('canary', (ack: (answer: object) => void) => ack({ ok: true }));
  const answers = [client.emitWithAck('canary'), client.emitWithAck('canary')];
  const hint = 'Acknowledgements do not pass through `packet`: Engine.IO and ws write them.';
  assert.deepEqual(await within(hint, Promise.all(answers)), [{ ok: true }, { ok: true }]);
  assert.deepEqual(written, ['30[{"ok":true}]', '31[{"ok":true}]'], hint);
});

test('socket.io: pid', async (context) => {
  const { client, socket } = await connect(context);
  assert.ok(
    pidOf(socket) && pidOf(socket) === field(client, '_pid'),
    'No `pid` that the client gets: it is not recovered.',
  );
});

test('socket.io: id, pid, recovered and Namespace._remove', async (context) => {
  const { client, socket } = await connect(context, {
    middleware: (arriving) => continueSession(arriving, { sid: 'saved-sid', pid: 'saved-pid' }),
  });
  const ids = [client.id, field(client, '_pid'), [...socket.nsp.sockets.keys()]];
  const message = 'The client does not get ids that a middleware sets: a recovered client is a new one.';
  assert.deepEqual(ids, ['saved-sid', 'saved-pid', ['saved-sid']], message);
  const waiting = field(socket.nsp, '_preConnectSockets') as Map<string, Socket>;
  assert.equal(
    waiting.size,
    0,
    '`Namespace._remove` does not remove a socket under its former id: it stays in memory.',
  );
});

test('socket.io-adapter: addAll, persistSession, restoreSession', async (context) => {
  const calls: string[] = [];
  class Recording extends Adapter {
    override addAll = (): void => void calls.push('addAll');
    override persistSession = (): void => void calls.push('persistSession');
  }
  const { socket } = await connect(context, { adapter: Recording });
  assert.equal(
    socket.recovered,
    false,
    'The base adapter restores sessions: clients are recovered before authentication.',
  );
  const disconnected = new Promise<void>((resolve) => socket.on('disconnect', () => resolve()));
  socket.conn.close();
  await disconnected;
  assert.deepEqual(
    calls,
    ['addAll', 'persistSession'],
    'Rooms or sessions pass the adapter by: Socket.IO keeps its own.',
  );
});

test('node: request.upgrade and socket.parser', async (context) => {
  const server = createServer((request, response) => requestSocket(request, response));
  const upgraded = new Promise<IncomingMessage>((resolve) => server.on('upgrade', resolve));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const raw = openRaw(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  context.after(() => {
    raw.destroy();
    server.close();
  });
  raw.send(get('/'));
  const request = await within('`request.upgrade` is not read: streams go through Node’s response.', upgraded);
  assert.ok(takeSocket(request));
  assert.equal(
    field(request.socket, 'parser'),
    null,
    '`socket.parser` is not null: streams go through Node’s response.',
  );
});

test('node: writeQueueSize', async (context) => {
  const server = createNetServer();
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const client = netConnect((server.address() as AddressInfo).port, '127.0.0.1');
  const [socket] = (await once(server, 'connection')) as [NetSocket];
  context.after(() => {
    client.destroy();
    socket.destroy();
    server.close();
  });
  client.pause();
  // One write, of which the kernel takes a part.
  socket.write(Buffer.alloc(50_000_000));
  const before = takenBytes(socket);
  let read = 0;
  client.on('data', (chunk) => {
    read += chunk.length;
    if (read > 20_000_000) client.pause();
  });
  client.resume();
  await within(
    'No `writeQueueSize`: a client that takes a large answer slowly is cut.',
    until('some of it was taken', () => takenBytes(socket) > before),
  );
  assert.ok(socket.writableLength > 0);
});

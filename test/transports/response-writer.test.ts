/**
 * Both ways to write a stream: to the bare socket, and through Node's response. A request with a Content-Length, even 0,
 * keeps its response, so one server shows both.
 */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { chunkOf, openWriter, requestSocket, takeSocket } from '../../src/transports/sse/response-writer.ts';
import { messageNew, metric, startBridge, type TestBridge } from '../support/bridge.ts';
import { get, openRaw, type RawConnection } from '../support/raw.ts';
import { until } from '../support/until.ts';

const WAYS = { 'on the bare socket': [], 'through the response': ['Content-Length: 0'] } as const;

test('Node releases parser, request and response, and later bytes go to the socket alone', async () => {
  let state: { parser: unknown; message: unknown; isChunked: boolean } | undefined;
  const ended: string[] = [];
  const server = createServer((request, response) => {
    requestSocket(request, response);
    setImmediate(() => {
      const writer = openWriter(request, response, () => ended.push('ended'));
      const { parser, _httpMessage } = request.socket as unknown as { parser: unknown; _httpMessage: unknown };
      writer.write(chunkOf('hello'));
      state = { parser, message: _httpMessage, isChunked: response.chunkedEncoding };
      request.socket.on('data', () => writer.end(1_000));
    });
  });
  server.on('upgrade', (request) => assert.ok(takeSocket(request)));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const raw = openRaw(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  raw.send(get('/'));
  await until('the first bytes', () => raw.responses()[0]?.body === 'hello');
  assert.deepEqual(state, { parser: null, message: null, isChunked: true });
  raw.send('anything');
  await until('the end', () => raw.closed && ended.length === 1);
  assert.ok(raw.responses()[0]?.ended);
  await new Promise((resolve) => server.close(resolve));
});

describe('a stream', () => {
  let bridge: TestBridge;
  const opened: RawConnection[] = [];
  before(async () => {
    bridge = await startBridge({ heartbeatMs: 200 });
  });
  after(async () => {
    for (const raw of opened) raw.destroy();
    await bridge.close();
  });

  async function open(headers: readonly string[], query: string): Promise<RawConnection> {
    const raw = openRaw(bridge.url);
    opened.push(raw);
    raw.send(get(`/sse?${query}`, ...headers));
    await until('begun', () => raw.responses()[0]?.body.includes('bridge.cursor') ?? false);
    return raw;
  }

  test('is the same either way, but for the promise to keep the connection', async () => {
    const streams = await Promise.all(
      Object.values(WAYS).map((headers) => open(headers, 'tenantId=same&padding=10&after=start')),
    );
    const ids: string[] = [];
    for (let n = 0; n < 20; n++) {
      ids.push((await bridge.publish('messages.new', messageNew({ tenantId: 'same', agreementId: null }))).id);
    }
    const last = `id: ${ids.at(-1)}\n`;
    await until('heard', () => streams.every((raw) => raw.responses()[0]?.body.includes(last)));
    const [bare, kept] = streams.map((raw) => {
      const { status, headers, body } = raw.responses()[0] as ReturnType<RawConnection['responses']>[0];
      const { date: _, connection, 'keep-alive': __, 'x-request-id': ___, ...rest } = headers;
      const blocks = body.slice(0, body.indexOf(last)).replace(/retry: \d+/, 'retry: n');
      // Heartbeats come when they come.
      const events = blocks.replaceAll(/event: bridge\.cursor\nid: \S+\ndata: \{\}\n\n/g, '');
      return { connection, said: { status, headers: rest, events } };
    });
    assert.deepEqual(bare?.said, kept?.said);
    assert.deepEqual([bare?.connection, kept?.connection], ['close', 'keep-alive']);
  });

  for (const [way, headers] of Object.entries(WAYS)) {
    test(`${way} is counted out once its client is gone`, async () => {
      const connections = (): Promise<number> => metric(bridge, 'roomcast_connections{transport="sse"}');
      for (const raw of opened.splice(0)) raw.destroy();
      await until('nobody there', async () => (await connections()) === 0);
      const raw = await open(headers, 'tenantId=gone');
      assert.equal(await connections(), 1);
      raw.destroy();
      await until('counted out', async () => (await connections()) === 0);
    });

    test(`${way} ends whole when the server drains`, async () => {
      const other = await startBridge({});
      const raw = openRaw(other.url);
      opened.push(raw);
      raw.send(get('/sse?tenantId=drain', ...headers));
      await until('begun', () => raw.responses()[0]?.body.includes('bridge.cursor') ?? false);
      await other.close();
      await until('closed', () => raw.closed);
      const [response] = raw.responses();
      assert.ok(response?.ended, 'the last chunk came');
      assert.equal(response.body.match(/retry: /g)?.length, 2);
    });
  }
});

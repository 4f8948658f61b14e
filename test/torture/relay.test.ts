/** The torture suite's relay does what scenarios take it to do: a cut after k bytes brings exactly k. */
import assert from 'node:assert/strict';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { until } from '../support/until.ts';
import { type Relay, startRelay } from './relay.ts';

describe('the relay', () => {
  const server = createServer((socket) => {
    socket.on('error', () => {}); // cut on purpose
    socket.on('data', (chunk) => socket.write(chunk));
  });
  const opened: { close(): unknown }[] = [];
  before(() => new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve)));
  after(async () => {
    for (const each of opened) await each.close();
    server.close();
  });

  async function open(): Promise<{
    relay: Relay;
    dial: () => Promise<{ socket: Socket; got: () => number; over: () => boolean }>;
  }> {
    const relay = await startRelay({ host: '127.0.0.1', port: (server.address() as AddressInfo).port });
    opened.push(relay);
    const dial = async () => {
      const socket = connect(relay.port, '127.0.0.1');
      let bytes = 0;
      let ended = false;
      socket.on('data', (chunk) => {
        bytes += chunk.length;
      });
      socket.on('error', () => {}); // the close follows
      socket.on('close', () => {
        ended = true;
      });
      await new Promise((resolve) => socket.once('connect', resolve));
      return { socket, got: () => bytes, over: () => ended };
    };
    return { relay, dial };
  }

  test('brings exactly k bytes and then ends the connection', async () => {
    for (const budget of [0, 1, 17, 999]) {
      const { relay, dial } = await open();
      const { socket, got, over } = await dial();
      socket.write('x');
      await until('the echo came', () => got() === 1);
      relay.cutAfter(budget);
      socket.write('y'.repeat(1_000));
      await until('it was cut', over);
      assert.equal(got(), 1 + budget);
      relay.cutNextAfter(5);
      const next = await dial();
      next.socket.write('z'.repeat(100));
      await until('the next one was cut', next.over);
      assert.equal(next.got(), 5);
    }
  });

  test('takes nothing while it is stopped or frozen, and everything after that', async () => {
    for (const trouble of ['stopReading', 'freeze'] as const) {
      const { relay, dial } = await open();
      const { socket, got } = await dial();
      socket.write('x');
      await until('the echo came', () => got() === 1);
      relay[trouble]();
      socket.write('y'.repeat(100));
      await new Promise((resolve) => setTimeout(resolve, 100));
      assert.equal(got(), 1);
      relay.restore();
      await until('the rest came', () => got() === 101);
      socket.destroy();
    }
  });

  test('lets a few bytes a second through when throttled', async () => {
    const { relay, dial } = await open();
    const { socket, got } = await dial();
    socket.write('x');
    await until('the echo came', () => got() === 1);
    relay.throttle(50);
    socket.write('y'.repeat(1_000));
    await new Promise((resolve) => setTimeout(resolve, 500));
    assert.ok(got() > 1 && got() < 200, `got ${got()}`);
    socket.destroy();
  });

  test('refuses while it is told to', async () => {
    const { relay, dial } = await open();
    const first = await dial();
    relay.refuse();
    await until('it was cut', first.over);
    relay.restore();
    const second = await dial();
    second.socket.write('x');
    await until('the echo came', () => second.got() === 1);
    second.socket.destroy();
  });
});

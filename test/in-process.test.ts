/** The bridge inside another Node program: what is promised beyond what HTTP shows. */
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type Bridge, BridgeError, type Config, createBridge, type Published } from '../src/bridge.ts';
import { type PublishAnswer, startBridge, ticketUpdated } from './support/bridge.ts';

const directory = mkdtempSync(join(tmpdir(), 'roomcast-in-process-'));
after(() => rmSync(directory, { recursive: true, force: true }));

const open = (name = ':memory:'): Promise<Bridge> =>
  createBridge({
    port: 0,
    logLevel: 'silent',
    storeUrl: `sqlite:${name === ':memory:' ? name : join(directory, name)}`,
  });

const unavailable = { name: 'BridgeError', code: 'unavailable' };

test('several bridges live side by side, and each file has one', async () => {
  const [one, two] = await Promise.all([open('one.db'), open('two.db')]);
  await assert.rejects(open('one.db'), /another server has it open/);
  const urls = (await Promise.all([one.listen(), two.listen()])).map(({ url }) => url);
  await one.publish('tickets.updated', ticketUpdated());
  const heard = await Promise.all(
    urls.map(async (url) => (await (await fetch(`${url}/events?tenantId=tenant-1`)).json()) as { events: unknown[] }),
  );
  assert.deepEqual(
    heard.map(({ events }) => events.length),
    [1, 0],
  );
  await Promise.all([one.close(), two.close()]);
  await (await open('one.db')).close();
});

test('once closed it takes nothing and listens to nobody; closing again is the same', async () => {
  const bridge = await open();
  const { url } = await bridge.listen();
  const pending = bridge.publish('tickets.updated', ticketUpdated());
  assert.equal(bridge.close(), bridge.close());
  await assert.rejects(bridge.listen(), unavailable);
  await bridge.close();
  assert.equal((await pending).duplicate, false);
  await assert.rejects(bridge.publish('tickets.updated', ticketUpdated()), unavailable);
  await assert.rejects(bridge.listen(), unavailable);
  await assert.rejects(fetch(`${url}/healthz`));
});

test('closed while it begins to listen, it does not listen', async () => {
  const bridge = await createBridge({ host: 'localhost', port: 0, logLevel: 'silent', storeUrl: 'sqlite::memory:' });
  const listening = bridge.listen();
  await bridge.close();
  await assert.rejects(fetch(`${(await listening).url}/healthz`));
});

test('a port that is taken is told, and may be tried again', async () => {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  const { port } = other.address() as { port: number };
  const bridge = await createBridge({ port, logLevel: 'silent', storeUrl: 'sqlite::memory:' });
  await assert.rejects(bridge.listen(), { code: 'EADDRINUSE' });
  await new Promise((resolve) => other.close(resolve));
  assert.equal((await bridge.listen()).port, port);
  await assert.rejects(bridge.listen(), { code: 'ERR_SERVER_ALREADY_LISTEN' });
  assert.equal((await fetch(`http://127.0.0.1:${port}/healthz`)).status, 200);
  await bridge.close();
});

test('a setting that is refused leaves no log open', async () => {
  const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 1024 });
  const jwtPublicKey = publicKey.export({ type: 'spki', format: 'pem' }).toString();
  const storeUrl = `sqlite:${join(directory, 'refused.db')}`;
  await assert.rejects(
    createBridge({ storeUrl, authMode: 'jwt', jwtPublicKey }),
    /^ConfigError: JWT_PUBLIC_KEY must be /,
  );
  await (await open('refused.db')).close();
});

test('a program can tell refusals from faults of its own, and name what it handles', async () => {
  const options: Partial<Config> = { port: 0, logLevel: 'silent', storeUrl: 'sqlite::memory:' };
  const bridge = await createBridge(options);
  const publish = (event: string): Promise<Published> => bridge.publish(event, ticketUpdated());
  assert.equal((await publish('tickets.updated')).duplicate, false);
  const refusal: unknown = await publish('tickets.opened').catch((error: unknown) => error);
  assert.ok(refusal instanceof BridgeError);
  assert.equal(refusal.code, 'unknown_event');
  assert.equal(refusal.errors?.[0]?.path, '/event');
  await bridge.close();
});

test('a payload is what its JSON is', async (t) => {
  const bridge = await startBridge();
  t.after(() => bridge.close());
  class Ticket {
    readonly id = 'ticket-123';
    readonly openedAt = new Date(0);
    #secret = 'kept';
    get length(): number {
      return this.#secret.length;
    }
  }
  const at = new Date('2024-06-01T12:00:00Z');
  await bridge.publish(
    'tickets.updated',
    ticketUpdated({ ticket: new Ticket(), ticketUpdatedAt: at, note: undefined }),
  );
  const page = await fetch(`${bridge.url}/events?tenantId=tenant-1`);
  const { events } = (await page.json()) as { events: (PublishAnswer & { payload: object })[] };
  assert.deepEqual(
    events[0]?.payload,
    ticketUpdated({
      ticket: { id: 'ticket-123', openedAt: '1970-01-01T00:00:00.000Z' },
      ticketUpdatedAt: '2024-06-01T12:00:00.000Z',
    }),
  );

  const elsewhere = { ...ticketUpdated(), toJSON: () => ticketUpdated({ tenantId: 'tenant-2' }) };
  assert.deepEqual((await bridge.publish('tickets.updated', elsewhere)).rooms[0], 'tenant:tenant-2');
  const cycle: Record<string, unknown> = ticketUpdated();
  cycle.ticket = { cycle };
  const wrong = [cycle, ticketUpdated({ ticket: { big: 1n } }), { ...ticketUpdated(), toJSON: () => [1] }];
  for (const payload of wrong) {
    await assert.rejects(bridge.publish('tickets.updated', payload), { name: 'BridgeError', code: 'invalid_payload' });
  }
});

test('a program signals in any room, and says so clearly when it cannot', async (context) => {
  const bridge = await startBridge({ signals: ['tickets.typing'], authMode: 'jwt', jwtSecret: 's'.repeat(32) });
  context.after(bridge.close);
  const options = { tenantId: 'tenant-1', ttlSeconds: 120 };
  assert.deepEqual(await bridge.signal('tickets.typing', 'ticket:1', { at: new Date(0) }, options), { listeners: 0 });
  const refused = (code: string, path: string) => (error: BridgeError) =>
    error.code === code && error.errors?.[0]?.path === path;
  await assert.rejects(bridge.signal('tickets.typing', 'ticket:1'), refused('invalid_signal', '/tenantId'));
  await assert.rejects(bridge.signal('tickets.typing', 'tenant:2', {}, options), refused('invalid_signal', '/room'));
  await assert.rejects(bridge.signal('tickets.gone', 'ticket:1', {}, options), refused('unknown_event', '/event'));
  await bridge.close();
  await assert.rejects(bridge.signal('tickets.typing', 'ticket:1', {}, options), unavailable);
});

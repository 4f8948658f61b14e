/** The client library as a good citizen: it leaves nothing behind, honours Retry-After, and repeats no message. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, test } from 'node:test';
import {
  connect,
  type MessagesDeleted,
  type MessagesNew,
  type MessagesUpdated,
  type RoomcastEvents,
  type TicketsUpdated,
} from '../../src/client/client.ts';
import { LEGACY } from '../../src/client/legacy.ts';
import { LEGACY_ENTITY, LEGACY_NAMES, type payloadSchemas } from '../../src/contract/events.ts';
import { messageNew, startBridge } from '../support/bridge.ts';
import { until } from '../support/until.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Runs the script in a new process until it exits by itself. */
async function run(script: string): Promise<{ code: number | null; output: string }> {
  const child = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', '--input-type=module', '--eval', script],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  closing.push(() => child.kill('SIGKILL'));
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      output += chunk;
    });
  }
  const [code] = await once(child, 'exit');
  return { code, output };
}

const client = new URL('../../src/client/client.ts', import.meta.url).href;

describe('after close nothing keeps the process alive', () => {
  for (const transport of ['websocket', 'sse', 'poll']) {
    test(`over ${transport}`, async () => {
      const bridge = await startBridge();
      closing.push(bridge.close);
      const { code, output } = await run(`
        const { connect } = await import(${JSON.stringify(client)});
        const live = connect({ url: ${JSON.stringify(bridge.url)}, rooms: { tenantId: 't' }, transports: ['${transport}', 'poll'] });
        live.on('status', ({ transport }) => {
          if (transport !== '${transport}') return;
          live.join({ ticketId: 'x' }).catch(() => {});
          live.close();
          process.on('exit', () => console.log('exits by itself'));
        });
      `);
      assert.equal(code, 0, output);
      assert.match(output, /exits by itself/);
    });
  }

  test('during the pause before a retry', async () => {
    const { code, output } = await run(`
      const { connect } = await import(${JSON.stringify(client)});
      const live = connect({ url: 'http://127.0.0.1:1', rooms: { tenantId: 't' } });
      live.on('status', ({ error }) => {
        if (error === null) return;
        live.close();
        process.on('exit', () => console.log(error.code));
      });
    `);
    assert.equal(code, 0, output);
    assert.match(output, /unreachable/);
  });

  test('a handler that throws causes an uncaught error, and the other handlers run', async () => {
    const bridge = await startBridge();
    closing.push(bridge.close);
    await bridge.publish('messages.new', messageNew({ tenantId: 't' }));
    const { output } = await run(`
      process.on('uncaughtException', (error) => console.log('uncaught:', error.message));
      const { connect } = await import(${JSON.stringify(client)});
      const live = connect({ url: ${JSON.stringify(bridge.url)}, rooms: { tenantId: 't' }, after: 'start' });
      live.on('messages.new', () => { throw new Error('a fault of the page'); });
      live.on('messages.new', () => { console.log('heard'); live.close(); });
    `);
    assert.match(output, /heard/);
    assert.match(output, /uncaught: a fault of the page/);
  });
});

test('Retry-After is honoured', async () => {
  const at: number[] = [];
  const url = await serve((_request, response) => {
    at.push(performance.now());
    const body = JSON.stringify({ code: 'unavailable', detail: 'Later.' });
    response.writeHead(503, { 'content-type': 'application/problem+json', 'retry-after': '1' }).end(body);
  });
  const live = connect({ url, rooms: { tenantId: 't' } });
  closing.push(live.close);
  await until('asked three times', () => at.length >= 3);
  for (const [index, time] of at.slice(1).entries()) assert.ok(time - (at[index] as number) >= 990);
});

for (const retryAfter of ['99999999999', 'Fri, 31 Dec 2199 23:59:59 GMT']) {
  test(`a server that says "Retry-After: ${retryAfter}" gets no request for an hour`, async () => {
    const warnings: Error[] = [];
    const warned = (warning: Error): void => void warnings.push(warning);
    process.on('warning', warned);
    closing.push(() => process.off('warning', warned));
    const url = await serve((_request, response) => {
      const body = '{"code":"unavailable","detail":"Later."}';
      response.writeHead(503, { 'content-type': 'application/problem+json', 'retry-after': retryAfter }).end(body);
    });
    const live = connect({ url, rooms: { tenantId: 't' } });
    closing.push(live.close);
    await until('refused', () => live.status.error !== null);
    assert.equal(live.status.error?.retryAfterMs, 3_600_000);
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(warnings, [], 'every delay fits a timer');
  });
}

test('a refusal by a proxy is never final', async () => {
  const answers = [
    [403, 'text/html', '<h1>Log in to this wifi</h1>'],
    [200, 'text/html', '<h1>Welcome</h1>'],
    [404, 'text/plain', ''],
    [410, 'text/html', '<h1>Gone</h1>'],
    [410, 'application/problem+json', '{"title":"Gone"}'],
    [200, 'application/json', '{"status":"blocked"}'],
    [200, 'application/json', 'null'],
  ] as const;
  const asked = new Set<string | null>();
  const url = await serve((request, response) => {
    const which = new URL(request.url ?? '', 'http://localhost').searchParams.get('tenantId');
    const strange = asked.has(which) ? undefined : answers[Number(which)];
    asked.add(which);
    const [status, type, body] = strange ?? [200, 'application/json', '{"events":[],"cursor":"c1","hasMore":false}'];
    response.writeHead(status, { 'content-type': type }).end(body);
  });
  const resets: unknown[] = [];
  const all = answers.map((_, which) => {
    const live = connect({ url, rooms: { tenantId: String(which) }, transports: ['poll'] });
    closing.push(live.close);
    live.on('reset', (reset) => resets.push(reset));
    return live;
  });
  await until('all live', () => all.every(({ status }) => status.state === 'live'));
  assert.deepEqual(
    all.map(({ cursor }) => cursor),
    answers.map(() => 'c1'),
  );
  assert.deepEqual(resets, []);
});

test('a refusal without a detail has a message', async () => {
  const url = await serve((_request, response) => {
    response.writeHead(422, { 'content-type': 'application/problem+json' }).end('{"code":"invalid_room"}');
  });
  const live = connect({ url, rooms: { tenantId: 't' } });
  await until('closed', () => live.status.state === 'closed');
  assert.equal(live.status.error?.message, 'invalid_room');
});

test('the client works with storage that is forbidden or full', async () => {
  const bridge = await startBridge();
  closing.push(bridge.close);
  const fail = (): never => {
    throw new DOMException('The quota has been exceeded.', 'QuotaExceededError');
  };
  for (const transport of ['websocket', 'sse', 'poll'] as const) {
    const live = connect({
      url: bridge.url,
      rooms: { tenantId: 't' },
      transports: [transport, 'poll'],
      persist: { getItem: fail, setItem: fail },
    });
    closing.push(live.close);
    const heard: string[] = [];
    live.on('messages.new', (_payload, { cursor }) => heard.push(cursor));
    await until(`live over ${transport}`, () => live.status.transport === transport);
    const { id } = await bridge.publish('messages.new', messageNew({ tenantId: 't' }));
    await until('heard', () => heard.length > 0);
    assert.deepEqual(heard, [id]);
  }
});

test('a token function that hangs does not delay close', async () => {
  const live = connect({ url: 'http://127.0.0.1:1', rooms: { tenantId: 't' }, token: () => new Promise(() => {}) });
  const joining = live.join({ ticketId: 'x' });
  await new Promise((resolve) => setImmediate(resolve));
  live.close();
  await assert.rejects(joining, { code: 'closed' });
});

test('a message of a ticket that the log holds twice is delivered once, by either of its ids; a change always is', async () => {
  const message = messageNew({ agreementId: null, messageId: 'm', providerMessageId: 7 });
  const change = { ...message, messageUpdatedAt: '2024-06-01T12:00:01Z' };
  const records = [
    { event: 'messages.updated', payload: change },
    { event: 'messages.new', payload: message },
    { event: 'messages.new', payload: { ...message, providerMessageId: null } },
    { event: 'messages.new', payload: { ...message, messageId: '', providerMessageId: '7' } },
    // Another ticket or tenant, and a messageId that is another message's providerMessageId.
    { event: 'messages.new', payload: { ...message, ticketId: 'another' } },
    { event: 'messages.new', payload: { ...message, tenantId: 'another', providerMessageId: null } },
    { event: 'messages.new', payload: { ...message, messageId: '7', providerMessageId: 'm' } },
    { event: 'messages.updated', payload: change },
    { event: 'messages.updated', payload: change },
    { event: 'messages.deleted', payload: change },
  ];
  const events = records.map((record, index) => ({ id: `c${index}`, ...record, rooms: ['tenant:t'] }));
  const url = await serve((request, response) => {
    const isNew = request.url?.includes('after=start');
    const body = JSON.stringify({ events: isNew ? events : [], cursor: 'c9', hasMore: false });
    response.writeHead(200, { 'content-type': 'application/json' }).end(body);
  });
  const live = connect({ url, rooms: { tenantId: 't' }, transports: ['poll'], after: 'start' });
  closing.push(live.close);
  const heard: string[] = [];
  for (const name of ['messages.new', 'messages.updated', 'messages.deleted'] as const) {
    live.on(name, (_payload, { cursor }) => heard.push(cursor));
  }
  await until('live', () => live.status.state === 'live');
  assert.deepEqual(heard, ['c0', 'c1', 'c4', 'c5', 'c6', 'c7', 'c8', 'c9']);
});

test('message:updated comes before messages.updated, with the merged payload; a declared event has no alias', async () => {
  const payload = { tenantId: 't', ticketId: '1', messageId: 'm', message: { content: 'edited', ticketId: 'x' } };
  const url = await serve((request, response) => {
    const isNew = request.url?.includes('after=start');
    const events = [{ id: 'c1', event: 'messages.updated', payload, rooms: ['tenant:t'] }];
    const body = JSON.stringify({ events: isNew ? events : [], cursor: 'c1', hasMore: false });
    response.writeHead(200, { 'content-type': 'application/json' }).end(body);
  });
  const heard = async (options: object): Promise<unknown[]> => {
    const live = connect({ url, rooms: { tenantId: 't' }, transports: ['poll'], after: 'start', ...options });
    closing.push(live.close);
    const seen: unknown[] = [];
    live.on('messages.updated', (given, { event }) => seen.push([event, given]));
    live.on('message:updated', (given, { event }) => seen.push([event, given]));
    await until('live', () => live.status.state === 'live');
    return seen;
  };
  const merged = { content: 'edited', ...payload };
  assert.deepEqual(await heard({}), [
    ['message:updated', merged],
    ['messages.updated', payload],
  ]);
  assert.deepEqual(await heard({ extraEvents: ['messages.updated'] }), [['messages.updated', payload]]);
});

test('declared events and room kinds are typed as they are declared', () => {
  type Events = RoomcastEvents & { 'leads.updated': { readonly score: number } };
  const live = connect<Events, 'queue' | 'team'>({
    url: 'http://127.0.0.1:1',
    rooms: { queueId: ['a', 7], teamId: 'b' },
  });
  closing.push(live.close);
  live.on('leads.updated', ({ score }) => score.toFixed());
  live.on('messages.updated', ({ messageStatus }) => messageStatus?.length);
  void live.leave({ queueId: 'a', ticketId: 1 });
  // @ts-expect-error: not declared
  connect({ url: 'http://127.0.0.1:1', rooms: { queueId: 'a' } }).close();
  // @ts-expect-error: a typing error
  assert.throws(() => connect<Events, 'queue'>({ url: 'http://127.0.0.1:1', rooms: { queueid: 'a' } }), TypeError);
  // @ts-expect-error: not declared
  live.on('leads.new', () => {});
});

test('the legacy names and the types equal those of the contract', () => {
  const names = Object.fromEntries(Object.entries(LEGACY).map(([event, legacy]) => [event, legacy.names]));
  const entities = Object.fromEntries(Object.entries(LEGACY).map(([event, legacy]) => [event, legacy.entity]));
  assert.deepEqual(names, LEGACY_NAMES);
  assert.deepEqual(entities, LEGACY_ENTITY);
  // The compiler checks that the schemas' payloads and the handlers' payloads are assignable to each other.
  type Schemas = ReturnType<typeof payloadSchemas>;
  type Taken = [
    Schemas['ticketsUpdated']['_output'],
    Schemas['messagesNew']['_output'],
    Schemas['messagesUpdated']['_output'],
    Schemas['messagesDeleted']['_output'],
  ];
  type Given = [TicketsUpdated, MessagesNew, MessagesUpdated, MessagesDeleted];
  const given = (taken: Taken): Given => taken;
  const taken = (payloads: Given): Taken => payloads;
  assert.equal(typeof given, typeof taken);
});

/** docs/asyncapi.yaml matches the schemas, is valid AsyncAPI 3.0, and describes what clients really receive. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { Ajv } from 'ajv';
import { EventSource } from 'eventsource';
import { io } from 'socket.io-client';
import { parse } from 'yaml';
import { configure } from '../../src/config.ts';
import { type AsyncApiDocument, createAsyncApi, type Message } from '../../src/http/reference/asyncapi.ts';
import { toYaml } from '../../src/http/reference/routes.ts';
import { messageNew, startBridge, ticketUpdated } from '../support/bridge.ts';
import { until } from '../support/until.ts';

/** Declared events and signals that resemble each other and other names. */
const SIGNALS = ['tickets.typing', 'tickets:typing', 'join.ticket', 'signal-tickets.typing', 'signal.ack'];
const EXTRA_EVENTS = ['messages.updated', 'leads.updated', 'leads:updated', 'bridge_cursor', 'join.tenant'];

const documentOf = (extraEvents: readonly string[] = [], options = {}): AsyncApiDocument =>
  createAsyncApi(configure({ ...options, extraEvents }));

const messagesOf = (document: AsyncApiDocument): readonly Message[] => Object.values(document.components.messages);

/** Checks values against schemas that refer to other schemas of the document. */
function checkerOf(document: AsyncApiDocument): (schema: object, value: unknown) => string | null {
  const ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true });
  return (schema, value) => {
    const { components } = document;
    return ajv.validate({ ...schema, components }, value) ? null : ajv.errorsText();
  };
}

test('docs/asyncapi.yaml matches the schemas; `npm run openapi` writes it', async () => {
  const file = await readFile(new URL('../../docs/asyncapi.yaml', import.meta.url), 'utf8');
  assert.equal(file, toYaml(documentOf()));
  assert.deepEqual(parse(file), documentOf());
});

for (const [name, document] of Object.entries({
  'the default document': documentOf(),
  'one with declared events, signals and kinds, a base path and no legacy events': documentOf(EXTRA_EVENTS, {
    signals: SIGNALS,
    roomKinds: ['queue'],
    basePath: '/rt',
    socketPath: '/live',
    legacyEvents: false,
  }),
})) {
  test(`${name} is valid AsyncAPI 3.0, by its official schema`, () => {
    const official = createRequire(import.meta.url)('@asyncapi/specs/schemas/3.0.0.json') as object;
    // The official schema contains the meta-schema, which Ajv would otherwise have twice.
    const ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true, meta: false, validateSchema: false });
    const validate = ajv.compile(official);
    assert.ok(validate(document), ajv.errorsText(validate.errors));
    assert.ok(!validate({ ...document, channels: { socketio: { adress: '/socket.io' } } }), 'and it can be invalid');
  });

  test(`${name}: every reference resolves`, () => {
    for (const [, pointer = ''] of JSON.stringify(document).matchAll(/"\$ref":"#\/([^"]+)"/g)) {
      const target = pointer
        .split('/')
        .reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], document);
      assert.ok(target, pointer);
    }
  });

  test(`${name}: every example matches its schema`, () => {
    const check = checkerOf(document);
    for (const { name: event, headers, payload, examples = [] } of messagesOf(document)) {
      for (const example of examples) {
        assert.equal(check(payload, example.payload), null, event);
        if (example.headers !== undefined) assert.equal(check(headers as object, example.headers), null, event);
      }
    }
  });
}

test('events and signals whose names differ only in punctuation, or resemble other names, are all described', () => {
  const names = messagesOf(documentOf(EXTRA_EVENTS, { signals: SIGNALS })).map(({ name }) => name);
  for (const signal of SIGNALS)
    assert.equal(names.filter((name) => name === signal).length, 2, `${signal}, in and out`);
  for (const event of [...EXTRA_EVENTS, 'bridge.cursor', 'join-tenant', 'join', 'ack']) {
    assert.ok(names.includes(event), event);
  }
  assert.ok(!names.includes('message:updated'), 'a declared event has no alias');
});

test('every event, signal, join and ack of a client is described', async () => {
  const extraEvents = ['leads.updated'];
  const signals = ['tickets.typing'];
  const bridge = await startBridge({ extraEvents, signals, roomKinds: ['queue'], basePath: '/rt' });
  const socket = io(new URL(bridge.url).origin, { transports: ['websocket'], auth: { audience: true } });
  const stream = `${bridge.url}/sse?tenantId=tenant-1&audience=true`;
  const document = parse(await (await fetch(`${bridge.url}/asyncapi.yaml`)).text()) as AsyncApiDocument;
  const check = checkerOf(document);
  const sent = Object.entries(document.components.messages).filter(([key]) => key.startsWith('signal'));
  const ofSent = new Map(sent);
  const described = new Map(
    messagesOf(document)
      .filter((message) => !sent.some(([, other]) => other === message))
      .map((message) => [message.name, message]),
  );
  const sources: EventSource[] = [];
  const received: string[] = [];
  const faults: string[] = [];
  const receive = (event: string, payload: unknown, cursor: unknown): void => {
    received.push(event);
    const message = described.get(event);
    if (message === undefined) faults.push(`${event} is not described`);
    else {
      const fault = check(message.payload, payload);
      if (fault !== null) faults.push(`${event}: ${fault}`);
      if ((cursor !== undefined) !== (message.headers !== undefined)) faults.push(`${event}: cursor ${cursor}`);
    }
  };
  try {
    socket.onAny((event: string, payload: unknown, cursor: unknown) => {
      // A reset has its cursor in the payload; only SSE also sends it as `id:`.
      receive(event, payload, event === 'bridge.reset' ? '' : cursor);
    });
    const ackSchema = described.get('ack')?.payload as object;
    for (const [event, ...rest] of [
      ['join-tenant', { tenantId: 'tenant-1' }, { after: 'gone' }],
      ['join-ticket', 'ticket-123'],
      ['join-user', 'no one'],
      ['leave-ticket', 'ticket-123'],
      ['join-queue', 7],
      ['join', 'queue:7', { after: 'gone' }],
      ['join', ['queue:8', 'ticket:9'], {}],
      ['join', ['queue:8', 'team:9'], {}],
      ['join', 'queue:'],
      ['join', []],
      ['leave', ['queue:8', 'ticket:9']],
    ] as const) {
      const ack: { readonly ok: boolean } = await socket.emitWithAck(event, ...rest);
      assert.equal(check(ackSchema, ack), null, `${event} ${JSON.stringify(ack)}`);
      assert.equal(check(described.get(event)?.payload as object, rest[0]) === null, ack.ok, event);
    }
    const signalAck = ofSent.get('signalAck')?.payload as object;
    for (const [key, event, payload] of [
      ['signal', 'signal', { event: 'tickets.typing', room: 'tenant:tenant-1', payload: { name: 'Ana' } }],
      ['signal', 'signal', { event: 'tickets.typing', room: 'queue:7', ttlSeconds: 0, tenantId: 't' }],
      ['signal', 'signal', { event: 'tickets.typed', room: 'queue:7' }],
      ['signal', 'signal', { event: 'tickets.typing', room: 'team:7' }],
      ['signal', 'signal', { event: 'tickets.typing', room: 'queue:7', client: 'a' }],
      ['signal', 'signal', { event: 'tickets.typing', room: 'queue:7', ttlSeconds: 121 }],
      ['signalTicketsTyping', 'tickets.typing', { queueId: 7 }],
      ['signalTicketsTyping', 'tickets.typing', { tenantId: 't' }],
    ] as const) {
      const ack: { readonly ok: boolean } = await socket.emitWithAck(event, payload);
      assert.equal(check(signalAck, ack), null, `${event} ${JSON.stringify(ack)}`);
      assert.equal(check(ofSent.get(key)?.payload as object, payload) === null, ack.ok, JSON.stringify(payload));
    }
    socket.emit('join-user', 'no one');
    for (const query of ['', '&after=gone']) {
      const source = new EventSource(`${stream}${query}`);
      sources.push(source);
      for (const event of described.keys()) {
        source.addEventListener(event, ({ data, lastEventId }) => {
          // EventSource keeps the last id for blocks without one.
          const hasCursor = described.get(event)?.headers !== undefined;
          receive(event, JSON.parse(data), hasCursor ? lastEventId : undefined);
        });
      }
      await until('the stream is open', () => source.readyState === source.OPEN);
    }
    const signal = { event: 'tickets.typing', room: 'tenant:tenant-1', payload: { name: 'Ana' } };
    const headers = { 'content-type': 'application/json' };
    await fetch(`${bridge.url}/signals`, { method: 'POST', headers, body: JSON.stringify(signal) });
    await until(
      'all clients received the signal',
      () => received.filter((event) => event === signal.event).length >= 3,
    );
    await bridge.publish('tickets.updated', ticketUpdated());
    await bridge.publish('messages.new', messageNew());
    const change = { ...messageNew(), messageUpdatedAt: '2024-06-01T12:00:01.000Z' };
    await bridge.publish('messages.updated', { ...change, messageStatus: 'read' });
    await bridge.publish('messages.deleted', change);
    const named = { rooms: ['tenant:tenant-1', 'user:ana'] };
    await bridge.publish('leads.updated', { tenantId: 'tenant-1', score: 7 }, named);
    await until(
      'all clients received all events',
      () => received.filter((event) => event === 'leads.updated').length === 3,
    );
    assert.deepEqual(faults, []);
    assert.deepEqual(
      [...new Set(received)].sort(),
      [...described.keys()].filter((name) => !/^(join|leave|ack)/.test(name)).sort(),
      'everything that is described was received',
    );
  } finally {
    socket.close();
    for (const source of sources) source.close();
    await bridge.close();
  }
});

/** What the client library and the publisher refuse where it is written, and what they say of another program at the bridge's address. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import { type AddressInfo, connect as connectTcp } from 'node:net';
import { afterEach, test } from 'node:test';
import { type ConnectOptions, connect, type RoomIds, type TransportName } from '../../src/client/client.ts';
import { createPublisher, type PublisherOptions } from '../../src/client/publisher.ts';
import { isDeclarableEvent } from '../../src/contract/events.ts';
import { messageNew, startBridge } from '../support/bridge.ts';
import { until } from '../support/until.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const url = 'http://127.0.0.1:1';
/** As JavaScript passes it, without the compiler. */
const untyped = <T>(value: unknown): T => value as T;

const REFUSED: readonly (readonly [option: string, value: unknown, says: RegExp])[] = [
  ['url', 'localhost:4003', /^url must be an http or https URL such as 'https:\/\/bridge\.example'/],
  ['url', '127.0.0.1:4003', /^url must be/],
  ['url', 'ws://bridge.example', /^url must be/],
  ['url', 'https://bridge.example?x=1', /^url must be/],
  ['url', 'https://name:secret@bridge.example', /^url must be (?!.*secret)/],
  ['url', undefined, /^url must be/],
  ['rooms', 'tenant-1', /^rooms must be an object such as { tenantId: 'tenant-1' }\. Its fields: tenantId, ticketId,/],
  ['rooms', ['tenant:t'], /^rooms must be an object/],
  ['rooms', null, /^rooms must be an object/],
  ['rooms', { tenant: 't' }, /^The field "tenant" of rooms must be tenantId\.$/],
  ['rooms', { tenantId: 't', ticketid: '1' }, /^The field "ticketid" of rooms must be ticketId\.$/],
  ['rooms', { tenant_id: 't' }, /^The field "tenant_id" of rooms must be tenantId\.$/],
  ['rooms', { tenantIds: ['t'] }, /^The field "tenantIds" of rooms must be tenantId\.$/],
  ['rooms', { TicketID: '1' }, /^The field "TicketID" of rooms must be ticketId\.$/],
  ['rooms', { queue: 'a' }, /^The field "queue" of rooms must be queueId\.$/],
  ['rooms', { queueID: 'a' }, /^The field "queueID" of rooms must be queueId\.$/],
  ['rooms', { Id: 'a' }, /^The field "Id" of rooms must be tenantId, .* declared kind, such as queueId\.$/],
  ['rooms', { '2ndId': 'a' }, /^The field "2ndId" of rooms must be tenantId,/],
  ['rooms', { [`${'a'.repeat(33)}Id`]: 'a' }, /^The field "a+Id" of rooms must be tenantId,/],
  ['rooms', { tenantId: null }, /^rooms\.tenantId must be an id or a list of ids\. An id: 1 to 128 .*commas\.$/],
  ['rooms', { queueId: undefined }, /^rooms\.queueId must be an id/],
  ['rooms', { tenantId: 't', ticketId: ['1', null] }, /^rooms\.ticketId must be/],
  ['rooms', { tenantId: '' }, /^rooms\.tenantId must be/],
  ['rooms', { queueId: 'a,b' }, /^rooms\.queueId must be/],
  ['transports', [], /^transports must be a list of at least one of websocket, sse, poll\.$/],
  ['transports', ['websocket', 'polling'], /^transports must be/],
  ['transports', 'sse', /^transports must be/],
  ['token', null, /^token must be printable ASCII, or a function that returns it\.$/],
  ['token', 'secret\n', /^token must be (?!.*secret)/],
  ['token', '', /^token must be/],
  ['after', '', /^after must be a cursor, 'start' or 'now'\.$/],
  ['after', 7, /^after must be/],
  ['extraEvents', 'leads.updated', /^extraEvents must be a list of names\.$/],
  ['persist', true, /^persist must be sessionStorage/],
  ['refetch', 1, /^refetch must be true or false\.$/],
  ['signal', new AbortController(), /^signal must be an AbortSignal\.$/],
  ['socketPath', 'socket.io', /^socketPath must be a path such as \/socket\.io\.$/],
  ['heartbeatMs', '15000', /^heartbeatMs must be a number of at least 1\.$/],
  ['patienceMs', Number.NaN, /^patienceMs must be/],
  ['room', { tenantId: 't' }, /^The option "room" must be one of url, token, rooms, /],
  ['constructor', 1, /^The option "constructor" must be/],
];

for (const [option, value, message] of REFUSED) {
  test(`connect refuses ${option}: ${JSON.stringify(value)}`, () => {
    const options = untyped<ConnectOptions>({ url, [option]: value });
    assert.throws(() => connect(options), { name: 'TypeError', message });
  });
}

test('connect without options, and a publisher of the same form', async () => {
  assert.throws(() => connect(untyped<ConnectOptions>(undefined)), { name: 'TypeError', message: /^options must be/ });
  for (const [options, message] of [
    [undefined, /^options must be an object with url, token, maxQueue/],
    [{ url: 'localhost:4003' }, /^url must be/],
    [{ url, token: null }, /^token must be/],
    [{ url, maxBatch: 1001 }, /^maxBatch must be a whole number from 1 to 1000\.$/],
    [{ url, maxBatch: 1.5 }, /^maxBatch must be/],
    [{ url, maxQueue: '5' }, /^maxQueue must be/],
    [{ url, retryMs: -1 }, /^retryMs must be/],
    [{ url, timeoutMs: 0 }, /^timeoutMs must be/],
    [{ url, maxbatch: 5 }, /^The option "maxbatch" must be one of/],
  ] as const) {
    assert.throws(() => createPublisher(untyped<PublisherOptions>(options)), { name: 'TypeError', message });
  }
  const options = untyped<object>({ idempotencykey: 'k' });
  await assert.rejects(createPublisher({ url }).publish('leads.updated', {}, options), {
    name: 'TypeError',
    message: 'The option "idempotencykey" must be one of rooms, tenantId, idempotencyKey.',
  });
});

test('join and leave refuse what names no room, and unknown options', async () => {
  const live = connect({ url });
  closing.push(live.close);
  for (const rooms of ['tenant-1', { tenant: 't' }, { tenantId: null }, { ticketId: 'c,d' }, undefined]) {
    const expected = {
      name: 'TypeError',
      message: /^(rooms must be|The field "tenant" of rooms|rooms\.t\w+Id must be)/,
    };
    await assert.rejects(live.join(untyped<RoomIds>(rooms)), expected);
    await assert.rejects(live.leave(untyped<RoomIds>(rooms)), expected);
  }
  await assert.rejects(live.join({ tenantId: 't' }, untyped<object>({ afer: 'start' })), {
    name: 'TypeError',
    message: 'The option "afer" must be one of after.',
  });
  await assert.rejects(live.join({ tenantId: 't' }, { after: '' }), { name: 'TypeError', message: /^after must be/ });
});

test('on refuses names that cannot occur, and typing errors, but no name that an operator may declare', () => {
  const live = connect<Record<string, unknown>>({ url });
  closing.push(live.close);
  const on = (name: unknown): unknown => live.on(name as string, () => {});
  for (const [name, says] of [
    ['messages.neww', /^No event is named "messages\.neww"\. Use messages\.new, or list it in extraEvents\.$/],
    ['message.new', /Use messages\.new,/],
    ['messages:new', /Use messages\.new,/],
    ['Messages.New', /Use messages\.new,/],
    ['mesages.new', /Use messages\.new,/],
    ['ticket.update', /Use ticket\.updated,/],
    ['tickets_updated', /Use tickets\.updated,/],
    ['message.created', /Use message:created,/],
    ['message.updated', /Use messages\.updated,/],
    ['messages:deleted', /Use messages\.deleted,/],
    ['resets', /Use reset,/],
    ['statuss', /Use status,/],
    ['bridge.reset', /Use tickets\.updated, .*messages\.new, .*reset, status,/],
    ['error', /Use tickets\.updated,/],
    ['connect', /Use tickets\.updated,/],
    ['two words', /Use tickets\.updated,/],
    ['', /Use tickets\.updated,/],
    [undefined, /Use tickets\.updated,/],
    [Symbol('messages.new'), /Use/],
  ] as const) {
    assert.throws(() => on(name), { name: 'TypeError', message: says }, String(name));
  }
  for (const name of [
    'leads.updated',
    'tickets.new',
    'tickets.closed',
    'message.sent',
    'messages.updated',
    'messages.deleted',
    'contacts:merged_2',
  ]) {
    assert.ok(isDeclarableEvent(name), name);
    on(name);
  }
  assert.throws(() => live.on('messages.new', untyped(undefined)), { message: 'handler must be a function.' });

  const strict = connect<Record<string, unknown>>({ url, extraEvents: ['leads.updated', 'messages.news'] });
  closing.push(strict.close);
  for (const name of ['leads.updated', 'messages.news', 'messages.new', 'reset']) strict.on(name, () => {});
  assert.throws(() => strict.on('leads.update', () => {}), { name: 'TypeError', message: /"leads\.update"/ });
});

test('whole numbers are ids, a path is a URL in a page, and `now` has priority over the persisted cursor', async () => {
  const bridge = await startBridge();
  closing.push(bridge.close);
  await bridge.publish('messages.new', messageNew({ tenantId: '7' }));
  const persist = { getItem: () => 'start', setItem() {} };
  const live = connect({ url: bridge.url, rooms: { tenantId: [7] }, after: 'now', persist });
  closing.push(live.close);
  const heard: string[] = [];
  live.on('messages.new', (_payload, { cursor }) => heard.push(cursor));
  await until('live', () => live.status.state === 'live');
  const { id } = await bridge.publish('messages.new', messageNew({ tenantId: '7' }));
  await until('heard', () => heard.length > 0);
  assert.deepEqual(heard, [id]);

  Object.assign(globalThis, { location: { href: `${bridge.url}/page/` } });
  try {
    const inPage = connect({ url: '/', rooms: { tenantId: '7' } });
    closing.push(inPage.close);
    await until('live', () => inPage.status.state === 'live');
  } finally {
    Reflect.deleteProperty(globalThis, 'location');
  }
});

async function serve(handle: RequestListener): Promise<string> {
  const server = createServer(handle).listen(0, '127.0.0.1');
  await once(server, 'listening');
  closing.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const asHtml: RequestListener = (_request, response) => {
  response.setHeader('content-type', 'text/html; charset=utf-8').end('<!doctype html><title>An app</title>');
};

test('an HTML page at the address is said to be one, on every transport and by the publisher', async () => {
  const page = await serve(asHtml);
  for (const transport of ['websocket', 'sse', 'poll'] as const) {
    const live = connect({ url: `${page}/bridge`, rooms: { tenantId: 't' }, transports: [transport] });
    closing.push(live.close);
    await until('an error', () => live.status.error !== null);
    assert.equal(live.status.error?.message, `This is not the bridge: text/html at ${page}/bridge/events.`);
    assert.equal(live.status.state, 'connecting');
  }
  const publisher = createPublisher({ url: page, retryMs: 0 });
  await assert.rejects(publisher.publish('messages.new', messageNew()), {
    code: 'unreachable',
    message: `This is not the bridge: text/html at ${page}/events.`,
  });
});

test('a login page after a redirect, and a page with status 404, are named without their query', async () => {
  const login = await serve(asHtml);
  const redirecting = await serve((_request, response) => {
    response.writeHead(302, { location: `${login}/login?secret=1` }).end();
  });
  const missing = await serve((_request, response) => {
    response.writeHead(404, { 'content-type': 'text/html' }).end();
  });
  for (const [base, code, at] of [
    [redirecting, 'unreachable', `${login}/login`],
    [missing, 'http_404', `${missing}/events`],
  ] as const) {
    const live = connect({ url: base, rooms: { tenantId: 't' } });
    closing.push(live.close);
    await until('an error', () => live.status.error !== null);
    assert.equal(live.status.error?.code, code);
    assert.equal(live.status.error?.message, `This is not the bridge: text/html at ${at}.`);
  }
});

test('a page in place of one route alone is named, on SSE and on Socket.IO', async () => {
  const bridge = await startBridge();
  closing.push(bridge.close);
  const { port, hostname } = new URL(bridge.url);
  /** Only polls reach the bridge. */
  const mixed = await serve((request, response) => {
    if (!request.url?.startsWith('/events')) return asHtml(request, response);
    const upstream = connectTcp(Number(port), hostname);
    upstream.end(`GET ${request.url} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
    const chunks: Buffer[] = [];
    upstream.on('data', (chunk) => chunks.push(chunk));
    upstream.on('end', () => {
      const text = Buffer.concat(chunks).toString();
      response
        .setHeader('content-type', 'application/json')
        .end(text.slice(text.indexOf('{'), text.lastIndexOf('}') + 1));
    });
  });
  const cases: readonly (readonly [TransportName, string])[] = [
    ['sse', `This is not the bridge: text/html at ${mixed}/sse.`],
    ['websocket', `No websocket at ${mixed}/socket.io: Unexpected server response: 200.`],
  ];
  for (const [transport, message] of cases) {
    const live = connect({ url: mixed, rooms: { tenantId: 't' }, transports: [transport] });
    closing.push(live.close);
    await until('an error', () => live.status.error !== null);
    assert.equal(live.status.error?.message, message);
  }
});

test('a token function that gives no token is named, and called again', async () => {
  const bridge = await startBridge();
  closing.push(bridge.close);
  let calls = 0;
  const token = (): string => (calls++ === 0 ? untyped<string>(undefined) : 'a.b.c');
  const live = connect({ url: bridge.url, rooms: { tenantId: 't' }, token, transports: ['poll'] });
  closing.push(live.close);
  const messages: string[] = [];
  live.on('status', ({ error }) => messages.push(String((error?.cause as Error | undefined)?.message)));
  await until('a second call', () => calls > 1);
  assert.equal(messages[0], 'token must be printable ASCII, or a function that returns it.');
});

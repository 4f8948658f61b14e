/** `@roomcast/client/publisher`: each event reaches the log once and in order, or its `publish` rejects. */
import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, afterEach, before, describe, test } from 'node:test';
import { SignJWT } from 'jose';
import { createPublisher, type PublishError } from '../../src/client/publisher.ts';
import { parseRetryAfter } from '../../src/client/retry.ts';
import { messageNew, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { startCutProxy } from '../support/cut-proxy.ts';
import { until } from '../support/until.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

let tenants = 0;
const freshTenant = (): string => `publisher-${++tenants}`;

const codeOf = (error: unknown): string => (error as PublishError).code;

describe('publishing over HTTP', () => {
  let bridge: TestBridge;
  before(async () => {
    bridge = await startBridge({ extraEvents: ['leads.updated'], signals: ['tickets.typing'] });
  });
  after(() => bridge.close());

  async function log(tenantId: string): Promise<{ id: string; payload: { messageId: string } }[]> {
    const response = await fetch(`${bridge.url}/events?tenantId=${tenantId}&after=start&limit=1000`);
    return ((await response.json()) as { events: { id: string; payload: { messageId: string } }[] }).events;
  }

  /** A relay that counts requests, and cuts the answers to the first ones after the server has written. */
  async function losing(answers: number) {
    const keys: string[] = [];
    const server = createServer(async (request: IncomingMessage, response: ServerResponse) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      keys.push(String(request.headers['idempotency-key']));
      const answer = await fetch(`${bridge.url}${request.url}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'idempotency-key': keys.at(-1) as string },
        body: Buffer.concat(chunks),
      });
      const body = await answer.text();
      if (keys.length <= answers) request.socket.destroy();
      else response.writeHead(answer.status, { 'content-type': answer.headers.get('content-type') ?? '' }).end(body);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    closing.push(() => {
      server.closeAllConnections();
      server.close();
    });
    return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, keys };
  }

  test('a signal goes to the listeners of its room at once, and its refusal says what is wrong', async () => {
    const publisher = createPublisher({ url: bridge.url });
    const ticketId = freshTenant();
    const stream = await fetch(`${bridge.url}/sse?ticketId=${ticketId}`);
    closing.push(() => stream.body?.cancel());
    const room = `ticket:${ticketId}`;
    const sent = publisher.signal('tickets.typing', room, { customer: true }, { ttlSeconds: 6 });
    assert.deepEqual(await sent, { listeners: 1 });
    const answer = await fetch(`${bridge.url}/signals?ticketId=${ticketId}`);
    const { signals } = (await answer.json()) as { signals: { payload: object }[] };
    assert.deepEqual(signals[0]?.payload, { customer: true });
    await assert.rejects(publisher.signal('tickets.gone', room), { name: 'PublishError', code: 'unknown_event' });
    const late = publisher.signal('tickets.typing', room, {}, { ttlSeconds: 121 });
    await assert.rejects(late, (error: PublishError) => error.errors[0]?.path === '/ttlSeconds');
    await publisher.close();
    await assert.rejects(publisher.signal('tickets.typing', room), { code: 'closed' });
  });

  test('the answer is the record; waiting events share a request, in order', async () => {
    const tenantId = freshTenant();
    const relay = await losing(0);
    const publisher = createPublisher({ url: relay.url });
    const payloads = Array.from({ length: 1200 }, () => messageNew({ tenantId, agreementId: null }));
    const published = await Promise.all(payloads.map((payload) => publisher.publish('messages.new', payload)));
    assert.equal(published[0]?.event, 'messages.new');
    assert.deepEqual(published[0]?.rooms, [`tenant:${tenantId}`, 'ticket:ticket-123']);
    const ids = published.map(({ id }) => id);
    assert.deepEqual(ids, [...ids].sort());
    assert.ok(relay.keys.length <= 4, `${relay.keys.length} requests`);
    const records = await log(tenantId);
    assert.deepEqual(
      records.map(({ payload }) => payload.messageId),
      payloads.slice(0, 1000).map(({ messageId }) => messageId),
    );
    assert.equal(publisher.pending, 0);
  });

  test('rooms and tenantId, each event its own, also in a batch', async () => {
    const tenantId = freshTenant();
    const relay = await losing(0);
    const publisher = createPublisher({ url: relay.url });
    const results = await Promise.allSettled([
      publisher.publish('leads.updated', { n: 1 }, { tenantId, rooms: [`tenant:${tenantId}`, 'user:ana'] }),
      publisher.publish('messages.new', messageNew({ tenantId }), { rooms: ['ticket:9'] }),
      publisher.publish('leads.updated', { tenantId, ticketId: 3 }, { rooms: null, tenantId: null }),
      publisher.publish('leads.updated', { tenantId }, { rooms: Array.from({ length: 101 }, (_, n) => `user:${n}`) }),
      publisher.publish('leads.updated', { tenantId }, { tenantId: 'another' }),
    ]);
    const answers = results.map((result) =>
      result.status === 'fulfilled' ? result.value.rooms : codeOf(result.reason),
    );
    assert.deepEqual(answers, [
      [`tenant:${tenantId}`, 'user:ana'],
      ['ticket:9'],
      [`tenant:${tenantId}`, 'ticket:3'],
      'invalid_body',
      'invalid_body',
    ]);
    assert.deepEqual((await log(tenantId)).length, 2);
  });

  test('a retry never writes an event twice', async () => {
    const tenantId = freshTenant();
    const relay = await losing(2);
    const publisher = createPublisher({ url: relay.url });
    // The payload has no ids by which the log could deduplicate.
    const { duplicate } = await publisher.publish('tickets.updated', ticketUpdated({ tenantId }));
    assert.equal(duplicate, true, 'the first attempt wrote it');
    assert.equal(new Set(relay.keys).size, 1);
    assert.equal(relay.keys.length, 3);
    assert.equal((await log(tenantId)).length, 1);
  });

  test('every event is in the log once and in order, although every connection is cut again and again', async () => {
    const tenantId = freshTenant();
    const proxy = await startCutProxy(bridge.url);
    closing.push(proxy.close);
    const publisher = createPublisher({ url: proxy.url, maxBatch: 5 });
    closing.push(() => publisher.close(0));
    let pauseMs = 25;
    let cutting = setTimeout(cut, pauseMs);
    closing.push(() => clearTimeout(cutting));
    function cut(): void {
      proxy.cut();
      // Longer each time, so that a batch gets through on a busy machine, too.
      pauseMs *= 1.05;
      cutting = setTimeout(cut, pauseMs);
    }
    const sent: string[] = [];
    const publishing: Promise<unknown>[] = [];
    for (let count = 0; count < 200; count++) {
      const payload = ticketUpdated({ tenantId, agreementId: null, messageId: `m${count}` });
      sent.push(payload.messageId);
      publishing.push(publisher.publish('tickets.updated', payload));
    }
    await until('some through', () => publisher.pending < 150);
    clearTimeout(cutting);
    await Promise.all(publishing);
    const records = await log(tenantId);
    assert.deepEqual(
      records.map(({ payload }) => payload.messageId),
      sent,
    );
  });

  test('in a batch only the invalid events fail, with their invalid fields', async () => {
    const tenantId = freshTenant();
    const publisher = createPublisher({ url: bridge.url });
    const results = await Promise.allSettled([
      publisher.publish('messages.new', messageNew({ tenantId })),
      publisher.publish('messages.new', { tenantId }),
      publisher.publish('messages.new', messageNew({ tenantId })),
      publisher.publish('no.such.event', { tenantId }),
      publisher.publish('leads.updated', { tenantId }),
    ]);
    assert.deepEqual(
      results.map((result) => (result.status === 'rejected' ? codeOf(result.reason) : 'ok')),
      ['ok', 'invalid_payload', 'ok', 'unknown_event', 'ok'],
    );
    const [, refused] = results;
    assert.ok(refused?.status === 'rejected');
    assert.ok((refused.reason as PublishError).errors.some(({ path }) => path === '/payload/ticketId'));
    assert.equal((await log(tenantId)).length, 3);
  });

  test('an event with an invalid key fails alone, and delays no other', async () => {
    const tenantId = freshTenant();
    const publisher = createPublisher({ url: bridge.url });
    const send = (idempotencyKey?: string) =>
      publisher.publish(
        'messages.new',
        messageNew({ tenantId }),
        idempotencyKey === undefined ? {} : { idempotencyKey },
      );
    for (const key of ['', 'pedido-✓', 'a b', 'a\nb', 'x'.repeat(256)]) {
      await assert.rejects(send(key), { name: 'PublishError', code: 'invalid_request' });
    }
    await Promise.all([send(), send('x'.repeat(255))]);
    assert.equal((await log(tenantId)).length, 2);
  });

  test('a repeat under the caller’s own key is one record', async () => {
    const tenantId = freshTenant();
    const publisher = createPublisher({ url: bridge.url });
    const payload = ticketUpdated({ tenantId });
    const idempotencyKey = `job-${tenantId}`;
    const [first, second] = await Promise.all([
      publisher.publish('tickets.updated', payload, { idempotencyKey }),
      publisher.publish('tickets.updated', payload, { idempotencyKey }),
    ]);
    assert.deepEqual([first.duplicate, second.duplicate], [false, true]);
    assert.equal(first.id, second.id);
  });

  test('the payload is serialised at once', async () => {
    const tenantId = freshTenant();
    const publisher = createPublisher({ url: bridge.url });
    const payload = ticketUpdated({ tenantId, messageId: 'before' });
    const publishing = publisher.publish('tickets.updated', payload);
    payload.messageId = 'after';
    await publishing;
    assert.equal((await log(tenantId))[0]?.payload.messageId, 'before');
    const circular: Record<string, unknown> = {};
    circular.self = circular;
    await assert.rejects(publisher.publish('tickets.updated', circular), TypeError);
    await publisher.flush();
  });
});

test('a full queue rejects at once, and retries end with retryMs', async () => {
  const publisher = createPublisher({ url: 'http://127.0.0.1:1', maxQueue: 3, retryMs: 200 });
  const results = Array.from({ length: 6 }, () => publisher.publish('messages.new', messageNew()));
  const settled = await Promise.allSettled(results);
  const codes = settled.map((result) => (result.status === 'rejected' ? codeOf(result.reason) : 'ok'));
  assert.deepEqual(codes, ['unreachable', 'unreachable', 'unreachable', 'queue_full', 'queue_full', 'queue_full']);
});

test('flush waits for the events that were published before; close waits for all, within its time', async () => {
  const bridge = await startBridge();
  closing.push(bridge.close);
  const proxy = await startCutProxy(bridge.url);
  closing.push(proxy.close);
  const publisher = createPublisher({ url: proxy.url });
  let through = 0;
  const publish = () => publisher.publish('messages.new', messageNew()).then(() => through++);
  publish();
  publish();
  await publisher.flush();
  assert.equal(through, 2);
  publish();
  await publisher.close();
  assert.equal(through, 3);
  await assert.rejects(publisher.publish('messages.new', messageNew()), { code: 'closed' });

  proxy.refuse();
  const hopeless = createPublisher({ url: proxy.url, maxBatch: 1 });
  closing.push(() => hopeless.close(0));
  const codes = Promise.all([1, 2].map(() => hopeless.publish('messages.new', messageNew()).then(() => 'ok', codeOf)));
  await hopeless.close(50);
  assert.deepEqual(await codes, ['outcome_unknown', 'closed']);
});

test('a token function is called again after a refusal; a string that is refused rejects', async () => {
  const secret = 'a secret that is long enough for HS256';
  const bridge = await startBridge({ authMode: 'jwt', jwtSecret: secret });
  closing.push(bridge.close);
  const tokenFor = (scope: string): Promise<string> =>
    new SignJWT({ tenantId: 'tenant-1', scope })
      .setProtectedHeader({ alg: 'HS256' })
      .setExpirationTime('1 minute')
      .sign(new TextEncoder().encode(secret));
  let calls = 0;
  const publisher = createPublisher({
    url: bridge.url,
    token: () => (++calls === 1 ? 'stale' : tokenFor('publish')),
  });
  await Promise.all([1, 2, 3].map(() => publisher.publish('messages.new', messageNew())));
  assert.equal(calls, 2);
  const bad = createPublisher({ url: bridge.url, token: 'stale' });
  await assert.rejects(bad.publish('messages.new', messageNew()), { code: 'unauthorized' });
  const listener = createPublisher({ url: bridge.url, token: await tokenFor('subscribe') });
  await assert.rejects(listener.publish('messages.new', messageNew()), { code: 'forbidden' });
});

test('a token function that hangs delays events by one attempt, and does not delay close', async () => {
  const bridge = await startBridge();
  closing.push(bridge.close);
  const never = new Promise<string>(() => {});
  let calls = 0;
  const once = createPublisher({ url: bridge.url, timeoutMs: 50, token: () => (++calls === 1 ? never : 'token') });
  await once.publish('messages.new', messageNew());
  assert.equal(calls, 2);
  const hung = createPublisher({ url: bridge.url, token: () => never });
  const publishing = hung.publish('messages.new', messageNew()).then(() => 'ok', codeOf);
  await hung.close(10);
  assert.equal(await publishing, 'closed', 'it was never sent');
});

type Answer = readonly [status: number, headers: Record<string, string>, body: string];

/** A server that gives these answers in turn, and then repeats the last one. */
async function answering(...answers: readonly Answer[]) {
  let asked = 0;
  const server = createServer((_request, response) => {
    const [status, headers, body] = answers[Math.min(asked++, answers.length - 1)] as Answer;
    response.writeHead(status, headers).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked: () => asked };
}

test('an event that may be written is never reported as refused', async () => {
  const problem = { 'content-type': 'application/problem+json' };
  const lost = [200, { 'content-type': 'application/json' }, 'cut'] as const;
  const later = [503, problem, '{"code":"unavailable","detail":"Later."}'] as const;
  const expired = [401, problem, '{"code":"token_expired","detail":"It has expired."}'] as const;
  const invalid = [422, problem, '{"code":"invalid_payload","detail":"No."}'] as const;
  const gateway = [502, { 'content-type': 'text/html' }, '<h1>Bad gateway</h1>'] as const;
  const codesAfter = async (...answers: readonly Answer[]) => {
    const { url } = await answering(...answers);
    const publisher = createPublisher({ url, token: 'a string', retryMs: 2_000 });
    const [settled] = await Promise.allSettled([publisher.publish('messages.new', messageNew())]);
    const error = (settled as PromiseRejectedResult).reason;
    return [codeOf(error), error.cause && codeOf(error.cause)];
  };
  assert.deepEqual(
    await Promise.all([
      codesAfter(lost, later),
      codesAfter(gateway, later),
      codesAfter(lost, expired),
      codesAfter(later),
      codesAfter(expired),
      codesAfter(lost, invalid),
    ]),
    [
      ['outcome_unknown', 'unavailable'],
      ['outcome_unknown', 'unavailable'],
      ['outcome_unknown', 'token_expired'],
      ['unavailable', undefined],
      ['token_expired', undefined],
      ['invalid_payload', undefined],
    ],
  );
});

test('an answer that is not from the bridge is ignored, and the events are sent again', async () => {
  const json = { 'content-type': 'application/json' };
  const whole = JSON.stringify({ results: [1, 2].map((n) => ({ id: `c${n}`, event: 'messages.new' })) });
  const strange = ['null', '{}', '{"results":[{"id":"c1"}]}', '{"results":[{},{}]}', '<h1>Welcome</h1>'];
  const { url, asked } = await answering(...strange.map((body) => [200, json, body] as const), [201, json, whole]);
  const publisher = createPublisher({ url });
  const published = await Promise.all([1, 2].map(() => publisher.publish('messages.new', messageNew())));
  assert.deepEqual(
    published.map(({ id }) => id),
    ['c1', 'c2'],
  );
  assert.equal(asked(), strange.length + 1);
});

test('a problem document without a code is not from the bridge, and the events are sent again', async () => {
  const foreign = [403, { 'content-type': 'application/problem+json' }, '{"title":"Forbidden"}'] as const;
  const { url, asked } = await answering(foreign, [201, { 'content-type': 'application/json' }, '{"id":"c1"}']);
  assert.equal((await createPublisher({ url }).publish('messages.new', messageNew())).id, 'c1');
  assert.equal(asked(), 2);
});

test('a 413 from a proxy is final, for each event by itself', async () => {
  const { url, asked } = await answering([413, { 'content-type': 'text/html' }, '<h1>Too large</h1>']);
  const publisher = createPublisher({ url });
  const results = await Promise.allSettled([1, 2].map(() => publisher.publish('messages.new', messageNew())));
  assert.deepEqual(
    results.map((result) => (result.status === 'rejected' ? codeOf(result.reason) : 'ok')),
    ['http_413', 'http_413'],
  );
  assert.equal(asked(), 3, 'together, and each by itself');
});

test('a Retry-After beyond retryMs ends the retries, and every delay fits a timer', async () => {
  const warnings: Error[] = [];
  const warned = (warning: Error): void => void warnings.push(warning);
  process.on('warning', warned);
  closing.push(() => process.off('warning', warned));
  for (const retryAfter of ['99999999999', 'Fri, 31 Dec 2199 23:59:59 GMT']) {
    const body = '{"code":"rate_limited","detail":"Later."}';
    const headers = { 'content-type': 'application/problem+json', 'retry-after': retryAfter };
    const { url, asked } = await answering([429, headers, body]);
    const publisher = createPublisher({ url, retryMs: 100, timeoutMs: Number.POSITIVE_INFINITY });
    await assert.rejects(publisher.publish('messages.new', messageNew()), { code: 'rate_limited' });
    await publisher.close(Number.POSITIVE_INFINITY);
    assert.equal(asked(), 1);
  }
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(warnings, []);
});

test('Retry-After is seconds or a date, up to an hour; anything else is ignored', async () => {
  for (const [header, expectedMs] of [
    ['120', 120_000],
    ['99999999999', 3_600_000],
    ['Fri, 31 Dec 2199 23:59:59 GMT', 3_600_000],
    ['Fri, 31 Dec 1999 23:59:59 GMT', 0],
    ['-5', 0],
    ['0x10', 0],
    ['soon', 0],
    [null, 0],
  ] as const) {
    assert.equal(parseRetryAfter(header), expectedMs, String(header));
  }
  const headers = { 'content-type': 'application/problem+json', 'retry-after': '0x10' };
  const { url, asked } = await answering(
    [503, headers, '{"code":"unavailable"}'],
    [201, { 'content-type': 'application/json' }, '{"id":"c1"}'],
  );
  // Sixteen seconds would be longer than retryMs.
  assert.equal((await createPublisher({ url, retryMs: 2_000 }).publish('messages.new', messageNew())).id, 'c1');
  assert.equal(asked(), 2);
});

test('Retry-After is honoured', async () => {
  const at: number[] = [];
  const server = createServer((_request, response) => {
    at.push(performance.now());
    if (at.length === 1) {
      const body = '{"code":"unavailable","detail":"Later."}';
      response.writeHead(503, { 'content-type': 'application/problem+json', 'retry-after': '1' }).end(body);
    } else {
      response.writeHead(201, { 'content-type': 'application/json' }).end('{"id":"c1","duplicate":false}');
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const publisher = createPublisher({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
  assert.equal((await publisher.publish('messages.new', messageNew())).id, 'c1');
  assert.ok((at[1] as number) - (at[0] as number) >= 990);
});

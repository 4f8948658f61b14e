/** protocol §15, `GET /log`: what an operator reads, in requests of bounded work, on both stores. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import type { LogAnswer, LogEntry } from '../../src/contract/log.ts';
import { messageNew, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { missing, type RedisServer, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';

interface Answer extends LogAnswer {
  readonly code: string;
  readonly detail: string;
  readonly errors: readonly { readonly path: string; readonly message: string }[];
  readonly reason: string;
}

for (const store of ['sqlite', 'redis'] as const) {
  const skip = store === 'redis' && missing('redis-server');

  describe(`GET /log on ${store}`, { skip }, () => {
    let redis: RedisServer | null = null;
    let bridge: TestBridge;

    before(async () => {
      redis = store === 'redis' ? await startRedis() : null;
      const storeUrl = redis?.url ?? 'sqlite::memory:';
      bridge = await startBridge({ storeUrl, extraEvents: ['leads.updated'], roomKinds: ['queue'] });
    });
    after(async () => {
      await bridge.close();
      await redis?.stop();
    });

    async function get(query: Record<string, string>): Promise<Answer & { readonly status: number }> {
      const response = await fetch(`${bridge.url}/log?${new URLSearchParams(query)}`);
      return { ...((await response.json()) as Answer), status: response.status };
    }
    async function publish(event: string, payload: object, rooms?: readonly string[]): Promise<string> {
      const { status, body } = await bridge.post({ event, payload, ...(rooms === undefined ? {} : { rooms }) });
      assert.equal(status, 201);
      return body.id;
    }
    const idsOf = ({ events }: LogAnswer): string[] => events.map(({ id }) => id);

    test('each record comes once, with all of its rooms and the same bytes, and no legacy event', async () => {
      const payload = { ...messageNew({ tenantId: 'whole' }), text: 'a/b \\ "c" \u2028 <b>' };
      const startedAt = Date.now();
      const id = await publish('messages.new', payload);
      const response = await fetch(`${bridge.url}/log?tenantId=whole`);
      assert.equal(response.headers.get('cache-control'), 'no-store');
      const text = await response.text();
      assert.ok(text.includes(`"payload":${JSON.stringify(payload)}`), 'the same text');
      const { events, more } = JSON.parse(text) as LogAnswer;
      const { at, ...entry } = events[0] as LogEntry;
      const rooms = ['tenant:whole', 'ticket:ticket-123', 'agreement:agreement-9'];
      assert.deepEqual([events.length, more, entry], [1, false, { id, event: 'messages.new', rooms, payload }]);
      assert.ok(Date.parse(at) >= startedAt && Date.parse(at) <= Date.now(), at);
    });

    test('a tenant means all of its records, a room those that went to it, and room narrows a tenant', async () => {
      const of = (tenantId: string) => ({ tenantId, ticketId: `of-rooms` });
      const a = await publish('leads.updated', of('r1'));
      const note = await publish('leads.updated', of('r1'), ['user:ana', 'queue:q']);
      const b = await publish('leads.updated', of('r2'));
      const found = async (query: Record<string, string>) => idsOf(await get({ ...query, order: 'asc' }));
      assert.deepEqual(await found({ tenantId: 'r1' }), [a, note], 'also the note');
      assert.deepEqual(await found({ tenantId: 'r1,r2' }), [a, note, b]);
      assert.deepEqual(await found({ ticketId: 'of-rooms' }), [a, b], 'of both tenants');
      assert.deepEqual(await found({ queueId: 'q' }), [note]);
      assert.deepEqual(await found({ tenantId: 'r2', userId: 'ana' }), [note, b], 'united');
      assert.deepEqual(await found({ room: 'tenant:r1' }), [a], 'what went to the room');
      assert.deepEqual(await found({ tenantId: 'r2', room: 'ticket:of-rooms' }), [b]);
      assert.deepEqual(await found({ tenantId: 'r1', room: 'ticket:of-rooms,user:ana' }), [a, note]);
    });

    test('text is found in strings and in the JSON, whatever its case', async () => {
      const payload = { tenantId: 'text', said: 'Olá, "MUNDO" \\o/', status: 'OPEN', html: '<b>x</b>' };
      await publish('leads.updated', payload);
      const isFound = async (contains: string) => (await get({ tenantId: 'text', contains })).events.length === 1;
      for (const text of ['olá, "mundo"', '\\o/', '"status":"open"', '<B>', 'TENANTID'])
        assert.ok(await isFound(text), text);
      for (const text of ['ola', 'mundo x', '"status": "open"', '.*', '%']) assert.ok(!(await isFound(text)), text);
    });

    test('a bad value names its parameter', async () => {
      const cases: [Record<string, string>, code: string, path: string, says: RegExp][] = [
        [{ event: 'message:created' }, 'invalid_request', 'event', /legacy name; the log holds messages\.new/],
        [{ event: 'lead.updated' }, 'invalid_request', 'event', /did you mean leads\.updated/],
        [{ room: 'tikcet:1' }, 'invalid_request', 'room', /name of a room/],
        [{ contains: 'x'.repeat(201) }, 'invalid_request', 'contains', /200 characters/],
        [{ since: '2024-06-01' }, 'invalid_request', 'since', /ISO 8601/],
        [{ before: 'a b' }, 'invalid_cursor', 'before', /whitespace/],
        [{ contain: 'x' }, 'unknown_parameter', 'contain', /did you mean contains/],
        [{ order: 'new' }, 'invalid_request', 'order', /asc, desc/],
      ];
      for (const [query, code, path, says] of cases) {
        const { status, errors, ...answer } = await get(query);
        assert.deepEqual([status, answer.code, errors[0]?.path], [400, code, path]);
        assert.match(errors[0]?.message ?? '', says);
      }
    });

    test('a cursor of another log is a 410 that says how to go on', async () => {
      for (const name of ['after', 'before'] as const) {
        const { status, code, reason, detail, ...rest } = await get({ [name]: 'start' });
        assert.deepEqual([status, code, reason], [410, 'cursor_unknown', 'unknown']);
        assert.match(detail, new RegExp(`cursor in ${name}. Leave ${name} out`));
        const { after, before } = rest as unknown as Record<'after' | 'before', string | null>;
        assert.deepEqual([after, before], name === 'after' ? ['start', null] : [null, 'start']);
      }
    });

    test('one request looks at a bounded number of records, comes further, and finds the last of them', async () => {
      const total = 20_000;
      const needle = await publish('leads.updated', { tenantId: 'deep', needle: true });
      const positions = new Map<string, number>();
      for (let n = 0; n < total; n += 1000) {
        const events = Array.from({ length: 1000 }, () => ({ event: 'leads.updated', payload: { tenantId: 'deep' } }));
        const { status, body } = await bridge.post({ events });
        assert.equal(status, 201);
        for (const [index, { id }] of body.results.entries()) positions.set(id, n + index);
      }
      let from = total;
      let query: Record<string, string> = { contains: 'needle', limit: '1' };
      for (let requests = 1; ; requests++) {
        const page = await get(query);
        if (page.events.length > 0) {
          assert.deepEqual(idsOf(page), [needle]);
          assert.ok(requests >= 3, `${requests} requests`);
          break;
        }
        const reached = positions.get(page.scannedThrough) as number;
        assert.ok(page.more && reached < from && from - reached <= 8_000, `from ${from} to ${reached}`);
        from = reached;
        query = { ...query, before: page.scannedThrough };
      }
    });

    test('a page of large records ends early and is sent as its client takes it', async () => {
      for (let n = 0; n < 12; n++) await publish('leads.updated', { tenantId: 'large', n, text: 'x'.repeat(900_000) });
      const numbers: unknown[] = [];
      let query: Record<string, string> = { tenantId: 'large', order: 'asc' };
      for (let pages = 0; ; pages++) {
        const { events, scannedThrough, more } = await get(query);
        numbers.push(...events.map(({ payload }) => payload.n));
        if (!more) break;
        assert.ok(pages < 12);
        query = { ...query, after: scannedThrough };
      }
      assert.deepEqual(
        numbers,
        Array.from({ length: 12 }, (_, n) => n),
      );
      // A client that takes nothing holds up no other.
      const { hostname, port } = new URL(bridge.url);
      const socket = connect(Number(port), hostname);
      await once(socket, 'connect');
      socket.pause().write('GET /log?tenantId=large HTTP/1.1\r\nHost: localhost\r\n\r\n');
      await until('others are served', async () => (await get({ tenantId: 'whole' })).events.length === 1);
      socket.destroy();
    });

    test('HEAD answers without a body', async () => {
      const response = await fetch(`${bridge.url}/log`, { method: 'HEAD' });
      assert.deepEqual([response.status, await response.text()], [200, '']);
    });
  });
}

test('requests count for RATE_READS, and without tokens the log is closed on other addresses', async (t) => {
  const limited = await startBridge({ rateReads: 1 });
  const outside = await startBridge({ host: '0.0.0.0', authMode: 'none' });
  t.after(() => Promise.all([limited.close(), outside.close()]));
  await limited.publish('tickets.updated', ticketUpdated());
  const statuses = await Promise.all([1, 2, 3].map(async () => (await fetch(`${limited.url}/log`)).status));
  assert.deepEqual(statuses.sort(), [200, 429, 429]);
  const refused = await fetch(`${outside.url.replace('0.0.0.0', '127.0.0.1')}/log`);
  assert.equal(refused.status, 403);
  assert.match(((await refused.json()) as Answer).detail, /AUTH_MODE=jwt/);
});

test('what was trimmed while a client paged is a gap, and is said', async (t) => {
  const bridge = await startBridge({ retentionEvents: 5, storeUrl: 'sqlite::memory:' });
  t.after(() => bridge.close());
  const first = await bridge.publish('tickets.updated', ticketUpdated());
  for (let n = 0; n < 20; n++)
    await bridge.publish('tickets.updated', ticketUpdated({ ticketUpdatedAt: `2024-06-01T12:00:${10 + n}.000Z` }));
  const url = `${bridge.url}/log?order=asc&after=${first.id}`;
  await until('the log is trimmed', async () => (await fetch(url)).status === 410);
  const { code } = (await (await fetch(url)).json()) as Answer;
  assert.equal(code, 'cursor_expired');
  const { events } = (await (await fetch(`${bridge.url}/log`)).json()) as LogAnswer;
  assert.equal(events.length, 5);
});

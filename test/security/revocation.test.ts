/**
 * protocol §15: a revoked token is refused on every route, transport and node, and its connections end; whatever is not
 * revoked goes on. Whole servers over real sockets, one on SQLite and two on a real Redis, where the token is revoked on
 * one node and in use on the other.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { EventSource } from 'eventsource';
import { type JWTPayload, SignJWT } from 'jose';
import { io, type Socket } from 'socket.io-client';
import { connect as connectLibrary } from '../../src/client/client.ts';
import type { Config } from '../../src/config.ts';
import { metric, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { openRaw } from '../support/raw.ts';
import { missing, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';

const SECRET = 'a secret of thirty-two bytes or more';
const JWT = { authMode: 'jwt', jwtSecret: SECRET } as const;
const nowS = () => Math.floor(Date.now() / 1000);

/** A token of a minute ago. */
const sign = (claims: JWTPayload): Promise<string> =>
  new SignJWT({ tenantId: 't1', sub: 'u1', scope: 'subscribe publish', iat: nowS() - 60, ...claims })
    .setProtectedHeader({ alg: 'HS256' })
    .sign(Buffer.from(SECRET));
const admin = () => sign({ tenantId: '*', sub: 'root', scope: 'admin' });

interface Answer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: the bodies of many routes
  readonly body: any;
}

async function call(
  { url }: TestBridge,
  route: string,
  token: string | null = null,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const [method = '', path = ''] = route.split(' ');
  const response = await fetch(url + path, {
    method,
    headers: {
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  const text = await response.text();
  return { status: response.status, body: text === '' ? null : JSON.parse(text) };
}

async function revoke(bridge: TestBridge, body: object, token?: string): Promise<Answer['body']> {
  const answer = await call(bridge, 'POST /revocations', token ?? (await admin()), body);
  assert.equal(answer.status, 201, JSON.stringify(answer.body));
  return answer.body;
}

/** What a stock client sees of its connection. */
function openSocket(t: TestContext, { url }: TestBridge, transport: string, auth: object) {
  const socket = io(url, { transports: [transport], forceNew: true, reconnectionDelay: 20, auth });
  t.after(() => void socket.disconnect());
  const seen = { socket, errors: [] as string[], refusals: [] as string[], connects: 0, disconnects: 0, events: 0 };
  socket.on('bridge.error', ({ code }: { code: string }) => seen.errors.push(code));
  socket.on('connect_error', (error: Error & { data?: { code: string } }) =>
    seen.refusals.push(error.data?.code ?? error.message),
  );
  socket.on('connect', () => seen.connects++);
  socket.on('disconnect', () => seen.disconnects++);
  socket.on('tickets.updated', () => seen.events++);
  return seen;
}

async function joined(socket: Socket, event: string, id: string): Promise<void> {
  const ack = await socket.emitWithAck(event, id);
  assert.equal(ack.ok, true, JSON.stringify(ack));
}

/** A stream as text, until it ends. */
async function openStream(t: TestContext, { url }: TestBridge, query: string, token?: string) {
  const aborter = new AbortController();
  t.after(() => aborter.abort());
  const response = await fetch(`${url}/sse?${query}`, {
    headers: { accept: 'text/event-stream', ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) },
    signal: aborter.signal,
  });
  assert.equal(response.status, 200, query);
  const stream = { text: '', ended: false };
  (async () => {
    const decoder = new TextDecoder();
    for await (const chunk of response.body ?? []) stream.text += decoder.decode(chunk, { stream: true });
    stream.ended = true;
  })().catch(() => {});
  await until('the stream begins', () => stream.text.includes('bridge.cursor'));
  return stream;
}

const REVOKED = /event: bridge\.error\ndata: \{"code":"token_revoked","message":"[^"]+"\}\n\n$/;

/** Requests of all kinds with a token; each resolves to its status and code. */
async function tryRoutes(bridge: TestBridge, token: string): Promise<Set<string>> {
  const routes: (readonly [string, unknown?])[] = [
    ['GET /sse?tenantId=t1'],
    ['GET /events?tenantId=t1'],
    ['GET /events?tenantId=t1&after=now&wait=1'],
    ['GET /tickets?tenantId=t1'],
    ['GET /tickets/ticket-123?tenantId=t1'],
    ['GET /tickets/ticket-123/messages?tenantId=t1'],
    ['POST /events', { event: 'tickets.updated', payload: ticketUpdated({ tenantId: 't1' }) }],
    ['POST /pass'],
    ['DELETE /tickets/none?tenantId=t1'],
    ['DELETE /tenants/none'],
    ['GET /stats'],
    ['GET /metrics'],
    ['POST /revocations', { sub: 'x' }],
    ['GET /revocations'],
    ['DELETE /revocations/x'],
  ];
  const answers = await Promise.all(routes.map(([route, body]) => call(bridge, route, token, body)));
  return new Set(answers.map(({ status, body }) => `${status} ${body?.code}`));
}

interface Deployment {
  /** The node on which tokens are revoked. */
  readonly a: TestBridge;
  /** The node on which they are used. */
  readonly b: TestBridge;
}

type Start = (t: TestContext, config?: Partial<Config>) => Promise<Deployment>;

const onSqlite: Start = async (t, config) => {
  const bridge = await startBridge({ ...JWT, ...config });
  t.after(() => bridge.close());
  return { a: bridge, b: bridge };
};

const onRedis: Start = async (t, config) => {
  const redis = await startRedis();
  const bridges: TestBridge[] = [];
  t.after(async () => {
    for (const bridge of bridges) await bridge.close();
    await redis.stop();
  });
  for (let n = 0; n < 2; n++) bridges.push(await startBridge({ ...JWT, storeUrl: redis.url, ...config }));
  const [a, b] = bridges as [TestBridge, TestBridge];
  return { a, b };
};

for (const [name, start, absent] of [
  ['one node on SQLite', onSqlite, false],
  ['two nodes on Redis', onRedis, missing('redis-server')],
] as const) {
  describe(`revocation: ${name}`, { skip: absent }, () => {
    it('ends every connection of the token, and refuses it everywhere', async (t) => {
      const { a, b } = await start(t);
      const token = await sign({ jti: 'j1' });
      const other = await sign({ sub: 'u2' });
      const { pass } = (await call(b, 'POST /pass', token)).body;
      const transports = ['websocket', 'polling'].flatMap((transport) =>
        [{ token }, { pass }].map((auth) => openSocket(t, b, transport, auth)),
      );
      const stays = openSocket(t, b, 'websocket', { token: other });
      await until('all are connected', () => [...transports, stays].every(({ connects }) => connects === 1));
      for (const { socket } of [...transports, stays]) await joined(socket, 'join-tenant', 't1');
      const source = new EventSource(`${b.url}/sse?tenantId=t1&pass=${pass}`);
      t.after(() => source.close());
      let sourceError = '';
      source.addEventListener('bridge.error', ({ data }) => {
        sourceError = JSON.parse(data).code;
      });
      await until('the EventSource is open', () => source.readyState === EventSource.OPEN);
      const streams = [await openStream(t, b, 'tenantId=t1', token), await openStream(t, b, `userId=u1&pass=${pass}`)];
      const otherStream = await openStream(t, b, 'tenantId=t1', other);
      const library = connectLibrary({ url: b.url, rooms: { tenantId: 't1' }, token });
      t.after(() => library.close());
      await until('the library is live', () => library.status.state === 'live');
      const polls = [
        call(b, 'GET /events?tenantId=t1&after=now', token).then(({ body }) =>
          call(b, `GET /events?tenantId=t1&wait=25&after=${body.cursor}`, token),
        ),
        call(b, `GET /events?tenantId=t1&after=now&pass=${pass}`).then(({ body }) =>
          call(b, `GET /events?tenantId=t1&wait=25&after=${body.cursor}&pass=${pass}`),
        ),
      ];
      await until('the polls wait', async () => (await metric(b, 'roomcast_connections{transport="longpoll"}')) === 2);

      await revoke(a, { sub: 'u1', tenantId: 't1' });

      for (const poll of polls) {
        const { status, body } = await poll;
        assert.deepEqual([status, body.code], [401, 'token_revoked']);
      }
      for (const stream of streams) {
        await until('the stream ends', () => stream.ended);
        assert.match(stream.text, REVOKED);
      }
      await until('the EventSource closes for good', () => source.readyState === EventSource.CLOSED);
      assert.equal(sourceError, 'token_revoked');
      for (const { socket, errors, refusals } of transports) {
        await until('the stock client is refused', () => refusals.length > 0);
        assert.deepEqual([errors, refusals], [['token_revoked'], ['token_revoked']]);
        assert.equal(socket.connected, false);
      }
      await until('the library has given up', () => library.status.state === 'closed');
      assert.equal(library.status.error?.code, 'token_revoked');
      assert.deepEqual(await tryRoutes(b, token), new Set(['401 token_revoked']));
      assert.deepEqual(await tryRoutes(a, token), new Set(['401 token_revoked']));
      const withPass = await call(b, `GET /events?tenantId=t1&pass=${pass}`, null, undefined, { 'last-event-id': 'x' });
      assert.deepEqual([withPass.status, withPass.body.code], [401, 'token_revoked']);
      assert.ok((await metric(b, 'roomcast_refused_total{code="token_revoked"}')) >= 10);

      // Everybody else goes on, and so does the user with a newer token.
      await b.publish('tickets.updated', ticketUpdated({ tenantId: 't1' }));
      await until('the other socket hears', () => stays.events === 1);
      await until('the other stream hears', () => otherStream.text.includes('tickets.updated'));
      assert.equal(stays.disconnects, 0);
      assert.equal(
        transports.reduce((sum, { events }) => sum + events, 0),
        0,
      );
      const newer = await sign({ iat: nowS() + 2 });
      assert.equal((await call(b, 'GET /events?tenantId=t1', newer)).status, 200);
      const { pass: newPass } = (await call(b, 'POST /pass', newer)).body;
      assert.equal((await call(b, `GET /events?tenantId=t1&pass=${newPass}`)).status, 200);
    });

    it('leaves a token its other tenants', async (t) => {
      const { a, b } = await start(t);
      const token = await sign({ tenantId: ['t1', 't2'], scope: 'subscribe publish admin' });
      const { pass } = (await call(b, 'POST /pass', token)).body;
      const { socket, ...seen } = openSocket(t, b, 'websocket', { token });
      const counts = openSocket(t, b, 'websocket', { token });
      await until('connected', () => socket.connected && counts.connects === 1);
      await joined(socket, 'join-ticket', 'ticket-123');
      await joined(socket, 'join-tenant', 't2');
      const stream = await openStream(t, b, 'tenantId=t2', token);
      const now = (await call(b, 'GET /events?tenantId=t2&after=now', token)).body.cursor;
      const polls = ['t1', 't2'].map((tenantId) =>
        call(b, `GET /events?tenantId=${tenantId}&wait=25&after=${now}`, token),
      );
      await until('the polls wait', async () => (await metric(b, 'roomcast_connections{transport="longpoll"}')) === 2);

      await revoke(a, { tenantId: 't1' });

      const [ofLost, ofKept] = (await Promise.all(polls)) as [Answer, Answer];
      assert.deepEqual([ofLost.status, ofLost.body.code], [403, 'forbidden']);
      assert.deepEqual([ofKept.status, ofKept.body.events], [200, []]);
      await until('the stream ends', () => stream.ended);
      await until('the clients come back', () => socket.connected && counts.connects === 2);
      assert.deepEqual([seen.refusals, counts.refusals], [[], []]);
      assert.deepEqual(counts.errors, ['token_revoked']);
      await until('recovered', () => socket.recovered);

      // Its ticket room is heard in the tenant that is left only.
      let heard = 0;
      socket.on('tickets.updated', ({ tenantId }: { tenantId: string }) => {
        assert.equal(tenantId, 't2');
        heard++;
      });
      await b.publish('tickets.updated', ticketUpdated({ tenantId: 't1' }));
      await b.publish('tickets.updated', ticketUpdated({ tenantId: 't2' }));
      await until('it hears the other tenant', () => heard === 1);
      assert.equal((await socket.emitWithAck('join-tenant', 't1')).code, 'forbidden');
      const event = (tenantId: string) => ({ event: 'tickets.updated', payload: ticketUpdated({ tenantId }) });
      for (const [route, body] of [
        ['GET /sse?tenantId=t1'],
        ['GET /events?tenantId=t1'],
        ['GET /tickets?tenantId=t1'],
        ['POST /events', event('t1')],
        ['POST /events', { events: [event('t2'), event('t1')] }],
        ['DELETE /tickets/x?tenantId=t1'],
        ['POST /revocations', { tenantId: 't1' }],
        [`GET /events?tenantId=t1&pass=${pass}`],
      ] as const) {
        const usesPass = route.includes('pass=');
        const { status, body: problem } = await call(b, route, usesPass ? null : token, body);
        assert.deepEqual([status, problem.code], [403, 'forbidden'], route);
      }
      assert.equal((await call(b, 'POST /events', token, event('t2'))).status, 201);
      assert.equal((await call(b, `GET /events?tenantId=t2&pass=${pass}`)).status, 200);
      await revoke(a, { tenantId: 't2' });
      await until('it has no tenant left', async () => (await call(b, 'GET /stats', token)).status === 401);
      await until('it cannot come back', () => counts.refusals.includes('token_revoked'));
    });

    it('matches all that a revocation gives, and nothing else', async (t) => {
      const { a, b } = await start(t);
      const iat = nowS() - 60;
      const tokens = {
        u1j1: await sign({ jti: 'j1', iat }),
        u1j2: await sign({ jti: 'j2', iat }),
        u2j1: await sign({ sub: 'u2', jti: 'j1', iat }),
        number: await sign({ sub: 7 as never, jti: 8 as never, iat }),
        bare: await sign({ sub: undefined, iat: undefined } as never),
        otherTenant: await sign({ tenantId: 't9' }),
        service: await sign({ tenantId: '*', sub: 'svc', jti: 'js', scope: 'metrics' }),
      };
      const isRefused = async (token: string, route = 'GET /revocations') => {
        const { status } = await call(b, route, token);
        assert.ok(status === 401 || status === 403 || status === 200, String(status));
        return status === 401;
      };
      const refused = async () => {
        const names: string[] = [];
        for (const [key, token] of Object.entries(tokens)) if (await isRefused(token)) names.push(key);
        return names.join();
      };
      const whileRevoked = async (body: object, expected: string) => {
        const { id } = await revoke(a, body);
        await until(`${JSON.stringify(body)} refuses ${expected}`, async () => (await refused()) === expected);
        assert.equal((await call(a, `DELETE /revocations/${id}`, await admin())).status, 204);
        await until('nothing is refused', async () => (await refused()) === '');
      };
      await whileRevoked({ sub: 'u1' }, 'u1j1,u1j2,otherTenant');
      await whileRevoked({ jti: 'j1' }, 'u1j1,u2j1');
      await whileRevoked({ sub: 'u1', jti: 'j1' }, 'u1j1');
      await whileRevoked({ sub: 'u1', tenantId: 't1', jti: 'j2' }, 'u1j2');
      await whileRevoked({ tenantId: 't9' }, 'otherTenant');
      await whileRevoked({ tenantId: 't1' }, 'u1j1,u1j2,u2j1,number,bare');
      await whileRevoked({ sub: 7, jti: '8' }, 'number');
      await whileRevoked({ sub: 'svc' }, 'service');
      await whileRevoked({ jti: 'js' }, 'service');
      // Up to that second; a token without iat is older than any.
      await whileRevoked({ tenantId: 't1', before: new Date((iat - 1) * 1000 + 999).toISOString() }, 'bare');
      await whileRevoked({ sub: 'u1', tenantId: 't1', before: new Date(iat * 1000).toISOString() }, 'u1j1,u1j2');
      tokens.u1j1 = await sign({ iat: nowS() + 30 });
      await whileRevoked({ sub: 'u1', tenantId: 't1' }, 'u1j2');
      const ahead = new Date(Date.now() + 55_000).toISOString();
      await whileRevoked({ sub: 'u1', tenantId: 't1', before: ahead }, 'u1j1,u1j2');
      // A revocation that names a tenant never reaches a token for all.
      await revoke(a, { tenantId: 't1', sub: 'svc' });
      await revoke(a, { tenantId: 't5', sub: 'u1' });
      await revoke(a, { sub: 'nobody' });
      await until('the last one is known', async () => isRefused(await sign({ sub: 'nobody' })));
      assert.equal(await refused(), '');
    });
  });
}

describe('the routes of revocations', () => {
  it('answer, list and lift as the protocol says', async (t) => {
    const { a } = await onSqlite(t);
    const token = await admin();
    const body = { sub: 'u1', tenantId: 5, jti: 'j', before: '2026-01-02T03:04:05.678+01:00' };
    const first = await revoke(a, body);
    const { id, createdAt, ...rest } = first;
    assert.deepEqual(rest, { sub: 'u1', tenantId: '5', jti: 'j', before: '2026-01-02T02:04:05.678Z' });
    assert.ok(Math.abs(Date.parse(createdAt) - Date.now()) < 60_000);
    const second = await revoke(a, { sub: 'ü', jti: null });
    assert.deepEqual([second.tenantId, second.jti], [null, null]);
    assert.equal(second.before, second.createdAt);
    assert.deepEqual((await call(a, 'GET /revocations', token)).body, { items: [second, first], nextPage: null });
    const page = (await call(a, 'GET /revocations?limit=1', token)).body;
    assert.deepEqual(page.items, [second]);
    const last = (await call(a, `GET /revocations?limit=1&page=${page.nextPage}`, token)).body;
    assert.deepEqual(last, { items: [first], nextPage: null });

    assert.equal((await call(a, `DELETE /revocations/${id}?tenantId=5`, token)).body.code, 'unknown_parameter');
    assert.deepEqual(await call(a, `DELETE /revocations/${id}`, token), { status: 204, body: null });
    for (const gone of [id, 'x', '%00', '1-1', `${second.id}0`]) {
      const { status, body: problem } = await call(a, `DELETE /revocations/${gone}`, token);
      assert.deepEqual([status, problem.code], [404, 'not_found'], gone);
    }
    assert.deepEqual((await call(a, 'GET /revocations', token)).body.items, [second]);
    for (const [query, code] of [
      ['limit=0', 'invalid_request'],
      ['limit=1001', 'invalid_request'],
      ['page=', 'invalid_request'],
      ['page=x', 'invalid_request'],
      ['tenantID=t', 'unknown_parameter'],
    ]) {
      const { status, body: problem } = await call(a, `GET /revocations?${query}`, token);
      assert.deepEqual([status, problem.code], [400, code], query);
    }
    assert.equal((await call(a, 'POST /revocations?x=1', token, { sub: 'u' })).body.code, 'unknown_parameter');
    assert.equal((await call(a, 'PUT /revocations', token, {})).status, 405);
  });

  const ahead = (ms: number) => new Date(Date.now() + ms).toISOString();
  const bad: (readonly [unknown, readonly string[], RegExp])[] = [
    [{}, [''], /at least one of sub, tenantId and jti/],
    [{ sub: null, before: '2026-01-01T00:00:00Z' }, [''], /at least one/],
    [[], [''], /must be a JSON object/],
    ['null', [''], /must be a JSON object/],
    [{ sub: '' }, ['/sub'], /1 to 512 characters/],
    [{ sub: 'x'.repeat(513) }, ['/sub'], /1 to 512 characters/],
    [{ sub: 1.5 }, ['/sub'], /integer/],
    [{ sub: {}, jti: [], tenantId: true }, ['/sub', '/tenantId', '/jti'], /string/],
    [{ sub: '\ud800' }, ['/sub'], /string/],
    [{ jti: 2 ** 53 }, ['/jti'], /integer/],
    [{ tenantId: '*' }, ['/tenantId'], /not \*/],
    [{ tenantId: 'a b' }, ['/tenantId'], /whitespace/],
    [{ sub: 'u', before: 'yesterday' }, ['/before'], /ISO 8601/],
    [{ sub: 'u', before: 1_767_225_600 }, ['/before'], /ISO 8601/],
    [{ sub: 'u', before: '2026-02-30T00:00:00Z' }, ['/before'], /ISO 8601/],
    [{ sub: 'u', before: ahead(120_000) }, ['/before'], /60 s ahead/],
    [{ subject: 'u' }, ['/subject'], /must be absent/],
    [{ tenantID: 't' }, ['/tenantID'], /did you mean tenantId/],
    [{ sub: 'u', '__proto__ ': 1, tenantId: '' }, ['/__proto__ ', '/tenantId'], /must be absent/],
  ];
  it('refuse a body that breaks the protocol, and name every fault', async (t) => {
    const { a } = await onSqlite(t);
    const token = await admin();
    for (const [body, paths, message] of bad) {
      const { status, body: problem } = await call(a, 'POST /revocations', token, body);
      assert.deepEqual([status, problem.code], [422, 'invalid_body'], JSON.stringify(body));
      assert.deepEqual(
        problem.errors.map(({ in: place, path }: { in: string; path: string }) => [place, path]),
        paths.map((path) => ['body', path]),
        JSON.stringify(body),
      );
      assert.match(problem.errors[0].message, message);
    }
    assert.equal((await call(a, 'POST /revocations', token, '{')).body.code, 'invalid_json');
    assert.equal((await call(a, 'POST /revocations', token, 'x'.repeat(2 ** 20 + 1))).status, 413);
    const typed = { 'content-type': 'text/plain' };
    assert.equal((await call(a, 'POST /revocations', token, '{}', typed)).status, 415);
    assert.deepEqual((await call(a, 'GET /revocations', token)).body.items, []);
    for (const body of [{ sub: 'u', before: ahead(50_000) }, { jti: 'x'.repeat(512) }, { sub: 'a b\n\u0000' }]) {
      await revoke(a, body);
    }
    assert.equal((await call(a, 'GET /revocations', token)).body.items.length, 3);
  });

  it('let an admin of a tenant revoke, list and lift for that tenant only', async (t) => {
    const { a } = await onSqlite(t);
    const own = await sign({ tenantId: ['t1', 't2'], sub: 'boss', scope: 'admin' });
    const mine = await revoke(a, { tenantId: 't1', sub: 'u1' }, own);
    const foreign = await revoke(a, { tenantId: 't3', sub: 'u1' });
    const global = await revoke(a, { sub: 'u9' });
    const refusals: (readonly [string, string, unknown?])[] = [
      [own, 'POST /revocations', { sub: 'u1' }],
      [own, 'POST /revocations', { jti: 'j' }],
      [own, 'POST /revocations', { tenantId: 't3', sub: 'u1' }],
      [own, `DELETE /revocations/${foreign.id}`],
      [own, `DELETE /revocations/${global.id}`],
    ];
    const noAdmins = [
      await sign({ sub: 'u5', scope: 'subscribe publish metrics' }),
      await sign({ sub: 'u5', scope: 'admin', tenantId: [] }),
      await sign({ sub: 'u5', scope: 'admin', ticketIds: ['1'] }),
    ];
    for (const token of noAdmins) {
      refusals.push([token, 'POST /revocations', { tenantId: 't1' }], [token, 'GET /revocations']);
      refusals.push([token, `DELETE /revocations/${mine.id}`], [token, 'DELETE /revocations/x']);
    }
    for (const [token, route, body] of refusals) {
      const { status, body: problem } = await call(a, route, token, body);
      assert.deepEqual([status, problem.code], [403, 'forbidden'], `${route} ${JSON.stringify(body)}`);
    }
    assert.deepEqual((await call(a, 'GET /revocations', own)).body.items, [mine]);
    assert.equal((await call(a, 'GET /revocations', await admin())).body.items.length, 3);
    assert.equal((await call(a, 'DELETE /revocations/x', own)).status, 404);
    assert.equal((await call(a, `DELETE /revocations/${mine.id}`, own)).status, 204);
    assert.equal((await call(a, 'GET /revocations')).status, 401);
    const { pass } = (await call(a, 'POST /pass', await sign({}))).body;
    assert.equal((await call(a, `GET /revocations?pass=${pass}`)).status, 401);
  });

  it('are open without tokens on a loopback address only, and never to foreign pages', async (t) => {
    const open = await startBridge();
    t.after(() => open.close());
    const { id } = (await call(open, 'POST /revocations', null, { sub: 'u1' })).body;
    assert.equal((await call(open, 'GET /revocations')).body.items[0].id, id);
    const foreign = { origin: 'https://evil.example' };
    for (const [route, body] of [
      ['POST /revocations', { sub: 'u' }],
      ['GET /revocations', undefined],
      [`DELETE /revocations/${id}`, undefined],
    ] as const) {
      assert.equal((await call(open, route, null, body, foreign)).status, 403, route);
    }
    assert.equal((await call(open, 'GET /events?tenantId=t1')).status, 200, 'nobody has a token');
    assert.equal((await call(open, `DELETE /revocations/${id}`)).status, 204);

    const wide = await startBridge({ host: '0.0.0.0', authMode: 'none' });
    t.after(() => wide.close());
    for (const [route, body] of [
      ['POST /revocations', { sub: 'u' }],
      ['GET /revocations', undefined],
      ['DELETE /revocations/1-1', undefined],
    ] as const) {
      const { status, body: problem } = await call(wide, route, null, body);
      assert.deepEqual([status, problem.code], [403, 'forbidden'], route);
    }
  });
});

describe('a revocation', () => {
  it('outlives a restart, an erasure of its tenant without its ids, and ends after REVOCATION_DAYS', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'roomcast-revocation-'));
    t.after(() => rmSync(folder, { recursive: true }));
    const config = { ...JWT, storeUrl: `sqlite:${join(folder, 'log.db')}` };
    const token = await sign({ tenantId: 'tenant-erased', sub: 'user-erased' });
    const statusOf = async (bridge: TestBridge) =>
      (await call(bridge, 'GET /events?tenantId=tenant-erased', token)).status;
    const first = await startBridge(config);
    assert.equal(await statusOf(first), 200);
    const { id } = await revoke(first, { tenantId: 'tenant-erased', sub: 'user-erased' });
    assert.equal(await statusOf(first), 401);
    await first.close();

    const second = await startBridge(config);
    assert.equal(await statusOf(second), 401);
    assert.equal((await call(second, 'DELETE /tenants/tenant-erased', await admin())).status, 200);
    await until('the node has the digests', async () => {
      const { items } = (await call(second, 'GET /revocations', await admin())).body;
      return items[0].sub !== 'user-erased';
    });
    assert.equal(await statusOf(second), 401);
    for (const file of readdirSync(folder)) {
      const bytes = readFileSync(join(folder, file), 'latin1');
      assert.doesNotMatch(bytes, /user-erased|tenant-erased/, file);
    }
    await second.close();

    const third = await startBridge(config);
    assert.equal(await statusOf(third), 401);
    assert.equal((await call(third, 'GET /events?tenantId=t1', await sign({ sub: 'user-erased' }))).status, 200);
    const owner = await sign({ tenantId: 'tenant-erased', sub: 'boss', scope: 'admin' });
    const { items } = (await call(third, 'GET /revocations', owner)).body;
    assert.deepEqual([items.length, items[0].id], [1, id]);
    assert.match(items[0].tenantId, /^sha256 /);
    await third.close();

    const fourth = await startBridge({ ...config, revocationDays: 0.000_01 });
    t.after(() => fourth.close());
    await until('it is gone', async () => (await statusOf(fourth)) === 200);
    assert.equal((await call(fourth, 'GET /revocations', await admin())).body.items.length, 0);
  });

  it('stops a publish whose body was held back', async (t) => {
    const { a } = await onSqlite(t);
    const token = await sign({});
    const body = JSON.stringify({ event: 'tickets.updated', payload: ticketUpdated({ tenantId: 't1' }) });
    const head = [
      'POST /events HTTP/1.1',
      'Host: localhost',
      `Authorization: Bearer ${token}`,
      'Content-Type: application/json',
      `Content-Length: ${Buffer.byteLength(body)}`,
    ];
    const raw = openRaw(a.url);
    t.after(() => raw.destroy());
    raw.send(`${head.join('\r\n')}\r\n\r\n${body.slice(0, 10)}`);
    // The same token is let in, so the held request was, too.
    assert.equal((await call(a, 'GET /events?tenantId=t1', token)).status, 200);
    await revoke(a, { sub: 'u1' });
    raw.send(body.slice(10));
    await until('it is answered', () => raw.responses().length === 1);
    assert.equal(raw.responses()[0]?.status, 401);
    assert.equal((await call(a, 'GET /events?tenantId=t1', await sign({ sub: 'u2' }))).body.events.length, 0);
  });

  it('refuses the recovery of a session, also on the way to a server that comes back', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'roomcast-revocation-'));
    t.after(() => rmSync(folder, { recursive: true }));
    const config = { ...JWT, storeUrl: `sqlite:${join(folder, 'log.db')}` };
    const first = await startBridge(config);
    const token = await sign({});
    const seen = openSocket(t, first, 'websocket', { token });
    await until('connected', () => seen.connects === 1);
    await joined(seen.socket, 'join-tenant', 't1');
    // It must not come back before the revocation.
    seen.socket.io.reconnection(false);
    seen.socket.io.engine.close();
    await revoke(first, { sub: 'u1' });
    seen.socket.connect();
    await until('refused', () => seen.refusals.length > 0);
    assert.equal(seen.refusals[0], 'token_revoked');
    await first.close();
    const second = await startBridge({ ...config, port: Number(new URL(first.url).port) });
    t.after(() => second.close());
    seen.socket.connect();
    await until('refused again', () => seen.refusals.length > 1);
    assert.deepEqual(new Set(seen.refusals), new Set(['token_revoked']));
    assert.equal(seen.connects, 1);
  });
});

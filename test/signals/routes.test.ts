/** protocol §10, §11, §13 and §14: `/signals` as an HTTP route: methods, bodies, parameters, origins, tokens, base path, draining. */
import assert from 'node:assert/strict';
import { request as httpRequest } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { SignJWT } from 'jose';
import { startBridge, type TestBridge } from '../support/bridge.ts';
import { openRaw } from '../support/raw.ts';
import { until } from '../support/until.ts';
import { active, bearer, freshRoom, type Json, post, request, SETTINGS, sseEar, TYPING } from './support.ts';

const SECRET = 'a secret of thirty-two bytes or more';
const LISTED = 'https://app.example';
const sign = (claims: Json): Promise<string> =>
  new SignJWT({ tenantId: 't1', sub: 'u1', scope: 'subscribe signal', ...claims })
    .setProtectedHeader({ alg: 'HS256' })
    .sign(Buffer.from(SECRET));
const GOOD = { event: TYPING, room: 'ticket:1' };

/** fetch sends no headers of its own choice for these. */
function raw(
  url: string,
  route: string,
  headers: Record<string, string>,
  body = '',
): Promise<{ status: number; text: string }> {
  const [method = '', path = ''] = route.split(' ');
  return new Promise((resolve, reject) => {
    const sent = httpRequest(url + path, { method, headers }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk) => {
        text += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

describe('in none mode', () => {
  let bridge: TestBridge;
  before(async () => {
    bridge = await startBridge({ ...SETTINGS, corsOrigins: [LISTED], maxBodyBytes: 20_000, maxRooms: 5 });
  });
  after(() => bridge.close());

  test('every answer has a request id, and no cache keeps it', async () => {
    for (const answer of [
      await post(bridge, GOOD),
      await post(bridge, {}),
      await request(bridge, 'GET /signals?ticketId=1'),
      await request(bridge, 'GET /signals'),
    ]) {
      assert.ok((answer.headers.get('x-request-id') ?? '').length > 0);
      assert.match(answer.headers.get('cache-control') ?? '', /no-store|no-cache/);
      assert.match(
        answer.headers.get('content-type') ?? '',
        answer.status < 400 ? /^application\/json/ : /^application\/problem\+json/,
      );
    }
  });

  test('HEAD answers as GET without a body, and ends', async () => {
    const connection = openRaw(bridge.url);
    connection.send('HEAD /signals?ticketId=1 HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await until('it is answered', () => connection.responses(true).length === 1);
    assert.equal(connection.responses(true)[0]?.status, 200);
    connection.send('HEAD /signals HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
    await until('it ends', () => connection.closed);
    assert.equal(connection.responses(true)[1]?.status, 400);
    assert.equal(connection.responses(true)[1]?.body, '');
    connection.destroy();
  });

  test('OPTIONS and other methods name the methods', async () => {
    for (const method of ['PUT', 'DELETE', 'PATCH']) {
      const { status, headers, body } = await request(bridge, `${method} /signals`);
      assert.equal(status, 405);
      assert.equal(body.code, 'method_not_allowed');
      assert.deepEqual((headers.get('allow') ?? '').split(', ').sort(), ['GET', 'HEAD', 'OPTIONS', 'POST']);
    }
    const preflight = await request(bridge, 'OPTIONS /signals', undefined, {
      origin: LISTED,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'content-type, authorization',
    });
    assert.equal(preflight.status, 204);
    assert.equal(preflight.headers.get('access-control-allow-origin'), LISTED);
    assert.equal(preflight.headers.get('access-control-allow-credentials'), 'true');
    assert.match(preflight.headers.get('access-control-allow-methods') ?? '', /GET.*POST|POST.*GET/);
    assert.match(preflight.headers.get('access-control-allow-headers') ?? '', /content-type/i);
    const foreign = await request(bridge, 'OPTIONS /signals', undefined, {
      origin: 'https://evil.example',
      'access-control-request-method': 'POST',
    });
    assert.equal(foreign.headers.get('access-control-allow-origin'), null);
  });

  test('a page of CORS_ORIGINS may signal and list, and reads the answer', async () => {
    for (const answer of [
      await request(bridge, 'POST /signals', GOOD, { origin: LISTED }),
      await request(bridge, 'GET /signals?ticketId=1', undefined, { origin: LISTED }),
      await request(bridge, 'POST /signals', {}, { origin: LISTED }),
    ]) {
      assert.ok([200, 202, 422].includes(answer.status));
      assert.equal(answer.headers.get('access-control-allow-origin'), LISTED);
    }
  });

  test('a cross-site page may neither signal nor list', async () => {
    const room = freshRoom();
    const foreign: Record<string, string>[] = [
      { origin: 'https://evil.example' },
      { origin: 'null' },
      { origin: 'https://app.example.evil.example' },
      { 'sec-fetch-site': 'cross-site' },
      { 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' },
      { origin: 'http://app.example' },
    ];
    for (const headers of foreign) {
      const json = { 'content-type': 'application/json', ...headers };
      const sent = await raw(bridge.url, 'POST /signals', json, JSON.stringify({ event: TYPING, room }));
      assert.equal(sent.status, 403, JSON.stringify(headers));
      // Without a preflight a page may send text only.
      const simple = { 'content-type': 'text/plain', ...headers };
      assert.equal(
        (await raw(bridge.url, 'POST /signals', simple, JSON.stringify({ event: TYPING, room }))).status,
        403,
      );
      const listed = await raw(bridge.url, `GET /signals?ticketId=1`, headers);
      assert.equal(listed.status, 403, JSON.stringify(headers));
      assert.equal((await raw(bridge.url, 'GET /events?ticketId=1&signals=true&wait=1', headers)).status, 403);
    }
    assert.deepEqual(await active(bridge, [room]), []);
  });

  test('a Host that is not allowed gets 421', async () => {
    const headers = { host: 'evil.example', 'content-type': 'application/json' };
    assert.equal((await raw(bridge.url, 'POST /signals', headers, JSON.stringify(GOOD))).status, 421);
    assert.equal((await raw(bridge.url, 'GET /signals?ticketId=1', headers)).status, 421);
  });

  test('bodies: type, size, syntax', async () => {
    const send = (body: string, type: string | null) =>
      raw(bridge.url, 'POST /signals', type === null ? {} : { 'content-type': type }, body);
    const good = JSON.stringify(GOOD);
    for (const type of ['application/json', 'application/json; charset=utf-8', 'APPLICATION/JSON']) {
      assert.equal((await send(good, type)).status, 202, type);
    }
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', null])
      assert.equal((await send(good, type)).status, 415, String(type));
    assert.equal(
      (await send(JSON.stringify({ ...GOOD, payload: { text: 'x'.repeat(30_000) } }), 'application/json')).status,
      413,
    );
    assert.equal(
      (await send(`${good.slice(0, -1)},"payload":{"text":"${' '.repeat(10_000)}"}}`, 'application/json')).status,
      422,
    );
    assert.equal((await send(`${good}${' '.repeat(10_000)}`, 'application/json')).status, 202);
    for (const body of ['', '{', '{"event"', 'nonsense', '{"event":"\u0000"}'])
      assert.equal((await send(body, 'application/json')).status, 400, body);
    const bytes = Buffer.concat([
      Buffer.from(`${good.slice(0, -1)},"payload":{"text":"`),
      Buffer.from([0xff, 0xfe]),
      Buffer.from('"}}'),
    ]);
    const response = await fetch(`${bridge.url}/signals`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: bytes,
    });
    assert.ok([202, 400].includes(response.status), await response.text());
  });

  test('parameters: what the routes do not know is a 400 that names the nearest', async () => {
    const rows: [string, RegExp][] = [
      ['POST /signals?room=ticket:1', /room/],
      ['POST /signals?ticketId=1', /ticketId/],
      ['GET /signals?ticketId=1&ticketid=2', /ticketId/],
      ['GET /signals?ticketId=1&wait=5', /wait/],
      ['GET /signals?ticketId=1&after=now', /after/],
      ['GET /signals?ticketId=1&signals=true', /signals/],
      ['GET /sse?ticketId=1&signals=true', /signals/],
      ['GET /events?ticketId=1&signal=true', /signals/],
      ['GET /tickets?tenantId=t&signals=true', /signals/],
    ];
    for (const [route, names] of rows) {
      const { status, body } = await request(bridge, route, route.startsWith('POST') ? GOOD : undefined);
      assert.equal(status, 400, route);
      assert.equal(body.code, 'unknown_parameter', route);
      assert.match(JSON.stringify(body), names);
    }
    assert.equal((await request(bridge, 'POST /signals?_=1', GOOD)).status, 202);
    assert.equal((await request(bridge, 'GET /signals?_=1&ticketId=1')).status, 200);
    for (const value of ['1', 'yes', '', 'TRUE']) {
      assert.equal((await request(bridge, `GET /events?ticketId=1&signals=${value}`)).status, 400, value);
    }
    assert.equal((await request(bridge, 'GET /events?ticketId=1&signals=true&signals=true')).status, 400);
    for (const query of ['', 'ticketId=', 'ticketId=a%20b', 'tenantId=*', 'ticketId=1,2,3,4,5,6', '_=1']) {
      const { status, body } = await request(bridge, `GET /signals?${query}`);
      assert.equal(status, 400, `${query} ${JSON.stringify(body)}`);
    }
    assert.equal((await request(bridge, 'GET /signals?ticketId=1,2&queueId=3&teamId=4&userId=5')).status, 200);
  });
});

test('under BASE_PATH', async () => {
  const bridge = await startBridge({ ...SETTINGS, basePath: '/live' });
  const [under, above] = [bridge, { url: new URL(bridge.url).origin }];
  assert.equal(under.url, `${above.url}/live`);
  const ear = await sseEar(under.url, ['ticket:1']);
  assert.equal((await post(under, GOOD)).status, 202);
  await until('it is heard', () => ear.signals().length === 1);
  assert.equal((await active(under, ['ticket:1'])).length, 1);
  assert.equal((await post(above, GOOD)).status, 404);
  assert.equal((await request(above, 'GET /signals?ticketId=1')).status, 404);
  ear.close();
  await bridge.close();
});

test('a bridge that drains ends a waiting poll with signals=true, and its streams', async () => {
  const bridge = await startBridge(SETTINGS);
  const { body } = await request(bridge, 'GET /events?ticketId=1&after=now');
  const waiting = request(bridge, `GET /events?ticketId=1&after=${body.cursor}&wait=25&signals=true`);
  const ear = await sseEar(bridge.url, ['ticket:1']);
  await until('it waits', async () =>
    (await (await fetch(`${bridge.url}/metrics`)).text()).includes('roomcast_connections{transport="longpoll"} 1'),
  );
  await post(bridge, { ...GOOD, event: 'tickets.viewing', room: 'ticket:2', ttlSeconds: 120 });
  await bridge.close();
  assert.deepEqual((await waiting).body.events, []);
  await until('the stream ends', () => ear.ended());
});

describe('in jwt mode', () => {
  let bridge: TestBridge;
  before(async () => {
    bridge = await startBridge({ ...SETTINGS, authMode: 'jwt', jwtSecret: SECRET, corsOrigins: [LISTED] });
  });
  after(() => bridge.close());

  test('without a token, or with a bad or expired one: 401', async () => {
    const expired = await sign({ exp: Math.floor(Date.now() / 1000) - 60 });
    for (const token of [undefined, 'x', `${await sign({})}x`, expired]) {
      for (const answer of [
        await post(bridge, GOOD, token),
        await request(bridge, 'GET /signals?ticketId=1', undefined, bearer(token)),
      ]) {
        assert.equal(answer.status, 401, String(token));
      }
    }
    // Who asks is asked first, before the body or the room is looked at.
    assert.equal((await post(bridge, 'nonsense')).status, 401);
    assert.equal((await post(bridge, { event: 'nothing' })).status, 401);
  });

  test('every way to show a token', async () => {
    const token = await sign({});
    assert.equal((await request(bridge, 'POST /signals', GOOD, bearer(token))).status, 202);
    assert.equal((await request(bridge, `POST /signals?access_token=${token}`, GOOD)).status, 202);
    assert.equal(
      (await request(bridge, 'POST /signals', GOOD, { cookie: `access_token=${token}`, origin: LISTED })).status,
      202,
    );
    assert.equal((await request(bridge, `GET /signals?ticketId=1&access_token=${token}`)).status, 200);
    // A cookie that another site's page makes the browser send does not count.
    const foreign = await request(bridge, 'POST /signals', GOOD, {
      cookie: `access_token=${token}`,
      origin: 'https://evil.example',
    });
    assert.ok([401, 403].includes(foreign.status), String(foreign.status));
  });

  test('a pass lists and listens, and never sends', async () => {
    const token = await sign({ scope: 'subscribe signal publish' });
    const minted = await request(bridge, 'POST /pass', undefined, bearer(token));
    assert.equal(minted.status, 201);
    const { pass } = minted.body as { pass: string };
    await post(bridge, { ...GOOD, payload: { n: 1 } }, token);
    assert.deepEqual(
      (await active(bridge, ['ticket:1'], { pass })).map(({ payload }) => payload.n),
      [1],
    );
    const byQuery = await request(bridge, `POST /signals?pass=${pass}`, GOOD);
    assert.ok([400, 401, 403].includes(byQuery.status), String(byQuery.status));
    for (const headers of [bearer(pass), { cookie: `access_token=${pass}`, origin: LISTED }]) {
      const answer = await request(bridge, 'POST /signals', GOOD, headers);
      assert.ok([401, 403].includes(answer.status), String(answer.status));
    }
    assert.ok([401, 403].includes((await request(bridge, `POST /signals?access_token=${pass}`, GOOD)).status));
  });

  test('a missing scope is named', async () => {
    const { status, body } = await post(bridge, GOOD, await sign({ scope: 'subscribe' }));
    assert.deepEqual({ status, code: body.code }, { status: 403, code: 'forbidden' });
    assert.match(body.detail, /signal/);
    const listing = await request(
      bridge,
      'GET /signals?ticketId=1',
      undefined,
      bearer(await sign({ scope: 'signal' })),
    );
    assert.equal(listing.status, 403);
    assert.match(listing.body.detail, /subscribe/);
  });

  test('from is the sub, and a sender says nothing of it', async () => {
    const room = freshRoom();
    const [one, two, nobody] = [await sign({ sub: 'ana' }), await sign({ sub: 'bob' }), await sign({ sub: undefined })];
    for (const token of [one, two, nobody]) {
      assert.equal((await post(bridge, { event: TYPING, room, client: 'same' }, token)).status, 202);
    }
    const signals = await active(bridge, [room], { access_token: one });
    assert.deepEqual(signals.map(({ from }) => String(from)).sort(), ['ana', 'bob', 'null']);
    assert.equal(new Set(signals.map(({ sender }) => sender)).size, 3);
    for (const { sender } of signals) {
      assert.doesNotMatch(sender, /ana|bob|t1/);
      assert.match(sender, /\.same$/);
    }
  });
});

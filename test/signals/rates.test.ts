/** protocol §13 and §14: RATE_SIGNALS, of each connection and of each caller of POST /signals. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SignJWT } from 'jose';
import { metric, startBridge } from '../support/bridge.ts';
import { until } from '../support/until.ts';
import { ids, type Json, post, SETTINGS, settle, socketEar, TYPING } from './support.ts';

const SECRET = 'a secret of thirty-two bytes or more';
const sign = (claims: Json): Promise<string> =>
  new SignJWT({ tenantId: 't1', sub: 'u1', scope: 'subscribe signal', ...claims })
    .setProtectedHeader({ alg: 'HS256' })
    .sign(Buffer.from(SECRET));

/** So slow that no machine refills a bucket during a test: one a second. */
const SLOW = { ...SETTINGS, rateSignals: 1 } as const;

test('a connection: past RATE_SIGNALS in a second the ack is rate_limited, in both forms, and nobody else pays', async () => {
  const bridge = await startBridge({ ...SETTINGS, rateSignals: 5 });
  const room = 'ticket:1';
  const [noisy, other, ear] = [
    await socketEar(bridge.url, []),
    await socketEar(bridge.url, []),
    await socketEar(bridge.url, [room]),
  ];
  const acks: Json[] = await Promise.all(
    Array.from({ length: 40 }, (_, n) =>
      n % 2 === 0
        ? noisy.socket.emitWithAck('signal', { event: TYPING, room, payload: { n } })
        : noisy.socket.emitWithAck(TYPING, { ticketId: '1', n }),
    ),
  );
  const accepted = acks.flatMap(({ ok }, n) => (ok === true ? [n] : []));
  // Forty at once take well under the seven seconds in which all of them would be let through.
  assert.ok(accepted.length >= 5 && accepted.length < 40, String(accepted.length));
  assert.deepEqual(accepted.slice(0, 5), [0, 1, 2, 3, 4]);
  for (const { ok, code, error } of acks) {
    if (ok === true) continue;
    assert.equal(code, 'rate_limited');
    assert.match(String(error), /\d/);
  }
  assert.deepEqual(await other.socket.emitWithAck('signal', { event: TYPING, room, payload: { n: 'other' } }), {
    ok: true,
  });
  assert.equal((await noisy.socket.emitWithAck('join', 'ticket:2')).ok, true, 'joins have a limit of their own');
  await until('what was accepted is heard', () => ear.signals().length === accepted.length + 1);
  assert.deepEqual(ids(ear.signals()), [...accepted, 'other']);
  assert.ok((await metric(bridge, 'roomcast_refused_total{code="rate_limited"}')) >= 40 - accepted.length);
  for (const each of [noisy, other, ear]) each.close();
  await bridge.close();
});

test('without a callback the refusal is a bridge.error, and a flood of them does not fill the connection', async () => {
  const bridge = await startBridge(SLOW);
  const noisy = await socketEar(bridge.url, []);
  for (let n = 0; n < 200; n++) noisy.socket.emit('signal', { event: TYPING, room: 'ticket:1' });
  await until('it is told', () => noisy.heard.some(({ event }) => event === 'bridge.error'));
  const { payload } = noisy.heard.find(({ event }) => event === 'bridge.error') as { payload: Json };
  assert.equal(payload.code, 'rate_limited');
  assert.equal((await noisy.socket.emitWithAck('join', 'ticket:2')).ok, true);
  assert.equal(noisy.socket.connected, true);
  noisy.close();
  await bridge.close();
});

test('a new connection has a new allowance, and what is refused for its form still counts', async () => {
  const bridge = await startBridge(SLOW);
  const first = await socketEar(bridge.url, []);
  const codes: unknown[] = [];
  for (let n = 0; n < 5; n++)
    codes.push((await first.socket.emitWithAck('signal', { event: TYPING, room: 'bad' })).code);
  assert.equal(codes[0], 'invalid_signal');
  const second = await socketEar(bridge.url, []);
  assert.equal((await second.socket.emitWithAck('signal', { event: TYPING, room: 'ticket:1' })).ok, true);
  first.close();
  second.close();
  await bridge.close();
});

test('POST: a caller is a sub with its tenants, whatever the client; 429 with Retry-After', async () => {
  const bridge = await startBridge({ ...SLOW, authMode: 'jwt', jwtSecret: SECRET });
  const [ana, again, bob, elsewhere] = [
    await sign({ sub: 'ana' }),
    await sign({ sub: 'ana', jti: 'another token' }),
    await sign({ sub: 'bob' }),
    await sign({ sub: 'ana', tenantId: 't2' }),
  ];
  const body = { event: TYPING, room: 'ticket:1' };
  const statuses = async (token: string, more: Json = {}) => (await post(bridge, { ...body, ...more }, token)).status;
  assert.equal(await statuses(ana, { client: 'one' }), 202);
  const refused = await post(bridge, { ...body, client: 'two' }, again);
  assert.equal(refused.status, 429);
  assert.equal(refused.body.code, 'rate_limited');
  assert.match(refused.headers.get('retry-after') ?? '', /^[1-9]\d*$/);
  assert.equal(await statuses(bob), 202);
  assert.equal(await statuses(elsewhere), 202);
  // A connection of the same sub has its own.
  const socket = await socketEar(bridge.url, ['ticket:1'], { auth: { token: ana } });
  assert.equal((await socket.socket.emitWithAck('signal', body)).ok, true);
  socket.close();
  await bridge.close();
});

test('POST in none mode: a caller is its address', async () => {
  const bridge = await startBridge({ ...SLOW, trustProxy: 1 });
  const from = async (address: string) => {
    const response = await fetch(`${bridge.url}/signals`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-forwarded-for': address },
      body: JSON.stringify({ event: TYPING, room: 'ticket:1' }),
    });
    await response.text();
    return response.status;
  };
  assert.equal(await from('203.0.113.1'), 202);
  assert.equal(await from('203.0.113.1'), 429);
  assert.equal(await from('203.0.113.2'), 202);
  await bridge.close();
});

test('bodies that are held back do not pass the limit together', async () => {
  const bridge = await startBridge({ ...SLOW, authMode: 'jwt', jwtSecret: SECRET });
  const token = await sign({});
  const answers = await Promise.all(
    Array.from({ length: 20 }, () =>
      post(bridge, { event: TYPING, room: 'ticket:1' }, token).then(({ status }) => status),
    ),
  );
  assert.ok(answers.filter((status) => status === 202).length <= 2, answers.join());
  assert.ok(answers.includes(202) && answers.includes(429), answers.join());
  await bridge.close();
});

test('a listener of a room that is flooded up to the rate gets all of it when it reads', async () => {
  const bridge = await startBridge(SETTINGS);
  const ear = await socketEar(bridge.url, ['ticket:1']);
  const sender = await socketEar(bridge.url, []);
  for (let n = 0; n < 300; n++) sender.socket.emit('signal', { event: TYPING, room: 'ticket:1', payload: { n } });
  await until('the last is heard', () => ear.signals().at(-1)?.payload.n === 299);
  assert.deepEqual(
    ids(ear.signals()),
    Array.from({ length: 300 }, (_, n) => n),
  );
  await settle(bridge, [ear], 'ticket:1');
  ear.close();
  sender.close();
  await bridge.close();
});

/** protocol §11, `POST /pass`: what a pass is good for, for how long, and what it can never do. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { decodeJwt, type JWTPayload, SignJWT } from 'jose';
import { type AuthConfig, createAuth, credentialsOfHandshake, credentialsOfRequest } from '../../src/auth/auth.ts';
import { createOrigins } from '../../src/auth/origins.ts';
import { createPasses } from '../../src/auth/pass.ts';
import { ANONYMOUS, audiencesFor, mayAdminister, mayPublish, type TokenHolder } from '../../src/auth/principal.ts';
import { BridgeError } from '../../src/contract/errors.ts';

const T0 = Date.UTC(2030, 0, 1);
const SECRET = 'a secret of thirty-two bytes or more';
const HOUR_S = 3600;
const NO_KINDS = { jwtDefaultScope: [], roomKinds: [], claimedRoomKinds: [] };

function holder(overrides: Partial<TokenHolder> = {}): TokenHolder {
  return {
    kind: 'token',
    tenants: ['t1', 't2'],
    subject: 'u1',
    scopes: new Set(['subscribe', 'publish', 'admin']),
    narrowing: new Map([
      ['ticket', new Set(['1'])],
      ['agreement', new Set<string>()],
    ]),
    openKinds: ['ticket', 'agreement'],
    claimed: new Map(),
    tokenId: null,
    issuedAtS: null,
    expiresAtMs: T0 + 8 * HOUR_S * 1000,
    ...overrides,
  };
}

/** The log's secrets, and a clock. */
function world() {
  const secrets = new Map<string, string>();
  const self = {
    nowMs: T0,
    secrets,
    async secretOf(name: string) {
      if (!secrets.has(name)) secrets.set(name, randomBytes(32).toString('base64url'));
      return secrets.get(name) as string;
    },
    passes: () =>
      createPasses(
        (name) => self.secretOf(name),
        NO_KINDS,
        () => self.nowMs,
        0,
      ),
  };
  return self;
}

function refusedAs(code: string) {
  return (error: unknown) => error instanceof BridgeError && error.code === code;
}

test('a pass holds what its token may hear and nothing more, on every node and over restarts', async () => {
  const one = world();
  const { pass, expiresInSeconds } = await one.passes().mint(holder());
  assert.equal(expiresInSeconds, 600);
  const expected: TokenHolder = { ...holder(), scopes: new Set(['subscribe']), viaPass: true };
  assert.deepEqual(await one.passes().verify(pass, false), expected);

  const principal = await one.passes().verify(pass, false);
  assert.deepEqual(audiencesFor(principal, 'ticket:1'), ['t1\nticket:1', 't2\nticket:1']);
  assert.deepEqual(audiencesFor(principal, 'tenant:t1'), []);
  assert.equal(mayPublish(principal, 't1'), false);
  assert.equal(mayAdminister(principal, 't1'), false);
  await assert.rejects(one.passes().mint(principal), refusedAs('forbidden'));
});

test('who gets no pass', async () => {
  const passes = world().passes();
  for (const principal of [
    holder({ tenants: '*' }),
    holder({ scopes: new Set(['publish', 'admin']) }),
    holder({ scopes: new Set() }),
    holder({ viaPass: true }),
  ]) {
    await assert.rejects(passes.mint(principal), refusedAs('forbidden'));
  }
});

test('a pass opens streams for 600 s, serves reconnects until the token ends, and at most a day', async () => {
  const cases: readonly { expiresAtMs: number | null; opensS: number; endsS: number }[] = [
    { expiresAtMs: T0 + 8 * HOUR_S * 1000, opensS: 600, endsS: 8 * HOUR_S },
    { expiresAtMs: T0 + 60_000, opensS: 60, endsS: 60 },
    { expiresAtMs: T0 + 60_900, opensS: 60, endsS: 60 },
    { expiresAtMs: null, opensS: 600, endsS: 24 * HOUR_S },
    { expiresAtMs: T0 + 48 * HOUR_S * 1000, opensS: 600, endsS: 24 * HOUR_S },
  ];
  for (const { expiresAtMs, opensS, endsS } of cases) {
    const one = world();
    const passes = one.passes();
    const { pass, expiresInSeconds } = await passes.mint(holder({ expiresAtMs }));
    assert.equal(expiresInSeconds, opensS);
    one.nowMs = T0 + opensS * 1000 - 1;
    assert.equal((await passes.verify(pass, false)).expiresAtMs, T0 + endsS * 1000);
    one.nowMs = T0 + opensS * 1000;
    await assert.rejects(passes.verify(pass, false), refusedAs('token_expired'));
    one.nowMs = T0 + endsS * 1000 - 1;
    await passes.verify(pass, true);
    one.nowMs = T0 + endsS * 1000;
    await assert.rejects(passes.verify(pass, true), refusedAs('token_expired'));
  }
});

test('a pass of another log, a changed one, and anything else are refused', async () => {
  const one = world();
  const passes = one.passes();
  const { pass } = await passes.mint(holder());
  const { pass: foreign } = await world().passes().mint(holder());
  const [header, , signature] = pass.split('.');
  const claims = Buffer.from(JSON.stringify({ ...decodeJwt(pass), tenantId: ['t9'] })).toString('base64url');
  const key = Buffer.from(await one.secretOf('pass'), 'base64url');
  const signed = (payload: JWTPayload, typ: string, alg = 'HS256') =>
    new SignJWT(payload).setProtectedHeader({ alg, typ }).sign(key);
  const good = decodeJwt(pass);
  await passes.verify(await signed(good, 'roomcast-pass+jwt'), false);
  const { exp: _, ...endless } = good;
  const { opensUntil: __, ...ageless } = good;
  for (const text of [
    '',
    'garbage',
    'a.b.c',
    'x'.repeat(1_000_000),
    foreign,
    `${header}.${claims}.${signature}`,
    `${Buffer.from('{"alg":"none","typ":"roomcast-pass+jwt"}').toString('base64url')}.${pass.split('.')[1]}.`,
    await signed(good, 'JWT'),
    await signed(good, 'roomcast-pass+jwt', 'HS512'),
    await signed({ ...good, aud: 'other' }, 'roomcast-pass+jwt'),
    await signed(endless, 'roomcast-pass+jwt'),
    await signed(ageless, 'roomcast-pass+jwt'),
  ]) {
    await assert.rejects(passes.verify(text, true), refusedAs('unauthorized'));
  }
});

test('a node follows when the log was flushed and has another key', async () => {
  const one = world();
  const [a, b] = [one.passes(), one.passes()];
  const { pass: old } = await a.mint(holder());
  await b.verify(old, false);
  one.secrets.clear();
  const { pass } = await a.mint(holder());
  await b.verify(pass, false);
  await assert.rejects(b.verify(old, false), refusedAs('unauthorized'));
});

test('a log that does not answer is a passing fault', async () => {
  const down = async () => {
    throw new BridgeError('unavailable', 'The log is away.');
  };
  const { pass } = await world().passes().mint(holder());
  await assert.rejects(createPasses(down, NO_KINDS).verify(pass, false), refusedAs('unavailable'));
  await assert.rejects(createPasses(down, NO_KINDS).mint(holder()), refusedAs('unavailable'));
});

const config: AuthConfig = {
  authMode: 'jwt',
  jwtSecret: SECRET,
  jwtPublicKey: null,
  jwksUrl: null,
  jwtIssuer: null,
  jwtAudience: null,
  ...NO_KINDS,
  authCookie: 'access_token',
};
const origins = createOrigins({ corsOrigins: ['https://app.example'] });

const token = (claims: JWTPayload) =>
  new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).sign(Buffer.from(SECRET));
const request = (headers: Record<string, string>, query = '', acceptsPass = true) =>
  credentialsOfRequest(headers, new URLSearchParams(query), 'access_token', acceptsPass);

test('a pass is no bearer token and a bearer token no pass, also with the same key', async () => {
  const secretOf = async () => Buffer.from(SECRET).toString('base64url');
  const auth = createAuth(config, origins, secretOf);
  const bearer = await token({ tenantId: 't1', scope: 'subscribe publish' });
  const { pass } = await auth.mintPass(await auth.principalOf(request({ authorization: `Bearer ${bearer}` })));
  assert.equal((await auth.principalOf(request({}, `pass=${pass}`))).kind, 'token');
  for (const credentials of [
    request({ authorization: `Bearer ${pass}` }),
    request({ cookie: `access_token=${pass}` }),
    request({}, `access_token=${pass}`),
    request({}, `pass=${bearer}`),
    request({}, `pass=${pass}`, false),
  ]) {
    await assert.rejects(async () => auth.principalOf(credentials), refusedAs('unauthorized'));
  }
});

test('a reconnect has a Last-Event-ID, in the header or, from a polyfill, in the query', () => {
  assert.ok(request({ 'last-event-id': 'x' }).reconnect);
  assert.ok(request({}, 'lastEventId=x').reconnect);
  assert.ok(request({}, 'Last-Event-ID=x').reconnect);
  assert.ok(!request({ 'last-event-id': '' }, 'lastEventId=&Last-Event-ID=&after=x').reconnect);
});

test('credentials are taken in one order, and a bad one is not passed over', async () => {
  const auth = createAuth(config, origins, world().secretOf);
  const of = async (tenantId: string) => token({ tenantId, scope: 'subscribe' });
  const passOf = async (tenantId: string) =>
    (await auth.mintPass(await auth.principalOf(request({ authorization: `Bearer ${await of(tenantId)}` })))).pass;
  const tenantOf = async (credentials: Parameters<typeof auth.principalOf>[0]) => {
    const principal = await auth.principalOf(credentials);
    return principal.kind === 'token' ? principal.tenants[0] : null;
  };
  const cookie = `theme=dark; access_token=${await of('cookie')}; x=y`;
  const authorization = `bearer  ${await of('header')}`;
  const query = `pass=${await passOf('pass')}&access_token=${await of('query')}`;

  assert.equal(await tenantOf(request({ authorization, cookie }, query)), 'header');
  assert.equal(await tenantOf(request({ cookie }, query)), 'pass');
  assert.equal(await tenantOf(request({ cookie }, query, false)), 'query');
  assert.equal(await tenantOf(request({ cookie })), 'cookie');
  assert.equal(await tenantOf(request({ cookie, authorization: 'Basic dTpw' }, 'access_token=&pass=')), 'cookie');
  assert.equal(await tenantOf(request({ cookie: `access_token="${await of('quoted')}"` })), 'quoted');

  const socket = (auth: unknown, headers = {}, query = {}) =>
    credentialsOfHandshake(auth, headers, query, 'access_token');
  assert.equal(await tenantOf(socket({ token: await of('auth') }, { authorization, cookie })), 'auth');
  assert.equal(await tenantOf(socket({}, { authorization, cookie })), 'header');
  assert.equal(await tenantOf(socket({ pass: await passOf('pass') }, { cookie })), 'pass');
  assert.equal(await tenantOf(socket(null, { cookie }, { token: await of('query') })), 'query');
  assert.equal(await tenantOf(socket(null, { cookie }, { access_token: await of('query') })), 'query');
  assert.equal(await tenantOf(socket('token', { cookie }, { token: '' })), 'cookie');

  for (const credentials of [
    request({ authorization: 'Bearer bad', cookie }, query),
    request({ cookie }, 'pass=bad'),
    request({ cookie }, 'access_token=bad'),
    socket({ token: 'bad' }, { cookie }),
    request({}),
    socket(Object.create({ token: await of('t1') })),
    socket({ token: 7 }),
    socket(undefined),
  ]) {
    await assert.rejects(async () => auth.principalOf(credentials), refusedAs('unauthorized'));
  }
});

test('a cookie counts for pages of allowed origins only', async () => {
  const auth = createAuth(config, origins, world().secretOf);
  const cookie = `access_token=${await token({ tenantId: 't1', scope: 'subscribe' })}`;
  const host = 'rooms.example';
  for (const page of [
    {},
    { origin: 'https://app.example' },
    { origin: 'https://rooms.example' },
    { origin: 'https://rooms.example', 'sec-fetch-site': 'same-origin' },
    { 'sec-fetch-site': 'none' },
  ]) {
    await auth.principalOf(request({ cookie, host, ...page }));
  }
  for (const page of [
    { origin: 'https://evil.example' },
    { origin: 'null' },
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site' },
  ]) {
    await assert.rejects(async () => auth.principalOf(request({ cookie, host, ...page })), refusedAs('forbidden'));
    const authorization = `Bearer ${await token({ tenantId: 't1' })}`;
    await auth.principalOf(request({ cookie, host, authorization, ...page }));
  }
});

test('without tokens everyone is let in, and the pass that is given works here and nowhere else', async () => {
  const one = world();
  const auth = createAuth({ ...config, authMode: 'none', jwtSecret: null }, origins, one.secretOf);
  assert.equal(await auth.principalOf(request({ authorization: 'Bearer whatever' })), ANONYMOUS);
  const { pass, expiresInSeconds } = await auth.mintPass(ANONYMOUS);
  assert.equal(expiresInSeconds, 600);
  assert.equal(await auth.principalOf(request({}, `pass=${pass}`)), ANONYMOUS);
  const principal = await createAuth(config, origins, one.secretOf).principalOf(request({}, `pass=${pass}`));
  for (const room of ['tenant:t1', 'ticket:1', 'user:u1'] as const) assert.deepEqual(audiencesFor(principal, room), []);
});

test('a pass carries what revocations find its token by, and stays within its limit', async () => {
  const passes = world().passes();
  const longest = holder({ tokenId: 'j'.repeat(6_000), issuedAtS: T0 / 1000 - 5 });
  for (const principal of [longest, holder({ tokenId: 'é"\n', issuedAtS: 0 }), holder()]) {
    const { pass } = await passes.mint(principal);
    const { tokenId, issuedAtS } = await passes.verify(pass, false);
    assert.deepEqual([tokenId, issuedAtS], [principal.tokenId, principal.issuedAtS]);
  }
});

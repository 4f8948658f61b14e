/** protocol §11: which bearer tokens are good, and what they stand for. */
import assert from 'node:assert/strict';
import { createHmac, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { exportJWK, type JWTPayload, SignJWT } from 'jose';
import { createTokenVerifier, type TokenConfig, type TokenOptions } from '../../src/auth/tokens.ts';
import { BridgeError } from '../../src/contract/errors.ts';

const SECRET = 'a secret of thirty-two bytes or more';
const T0 = Date.UTC(2030, 0, 1);
const NOW_S = T0 / 1000;
const CLAIMS = { tenantId: 't1', sub: 'u1', scope: 'subscribe publish' };

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const otherRsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const ed = generateKeyPairSync('ed25519');
const pem = ({ publicKey }: { publicKey: KeyObject }) => publicKey.export({ type: 'spki', format: 'pem' }).toString();

const NO_KINDS = { jwtDefaultScope: [], roomKinds: [], claimedRoomKinds: [] };

function verifier(config: Partial<TokenConfig>, options: TokenOptions = {}) {
  const none = { ...NO_KINDS, jwtSecret: null, jwtPublicKey: null, jwksUrl: null, jwtIssuer: null, jwtAudience: null };
  const verify = createTokenVerifier({ ...none, ...config }, { now: () => T0, ...options });
  return async (token: string) => verify(token);
}

function sign(claims: JWTPayload, key: KeyObject | string = SECRET, header: Record<string, string> = {}) {
  const alg = typeof key === 'string' ? 'HS256' : 'RS256';
  return new SignJWT(claims)
    .setProtectedHeader({ alg, ...header })
    .sign(typeof key === 'string' ? Buffer.from(key) : key);
}

/** A token that jose would not make. */
function raw(header: object | string, claims: object | string, secret: string | Buffer | null = SECRET): string {
  const part = (value: object | string) =>
    Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
  const input = `${part(header)}.${part(claims)}`;
  return `${input}.${secret === null ? '' : createHmac('sha256', secret).update(input).digest('base64url')}`;
}

function refusedAs(code: string) {
  return (error: unknown) => {
    assert.ok(error instanceof BridgeError, String(error));
    assert.equal(error.code, code, error.message);
    if (error.status === 401) assert.equal(error.cause, undefined, 'jose errors carry the claims');
    return true;
  };
}

async function refused(verify: (token: string) => Promise<unknown>, token: string, code = 'unauthorized') {
  await assert.rejects(verify(token), refusedAs(code));
}

test('a token of each kind of key stands for what its claims say', async () => {
  const signed: readonly (readonly [Partial<TokenConfig>, string])[] = [
    [{ jwtSecret: SECRET }, await sign(CLAIMS)],
    ...(await Promise.all(
      ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'].map(
        async (alg) => [{ jwtPublicKey: pem(rsa) }, await sign(CLAIMS, rsa.privateKey, { alg })] as const,
      ),
    )),
    [{ jwtPublicKey: pem(ec) }, await sign(CLAIMS, ec.privateKey, { alg: 'ES256' })],
    [{ jwtPublicKey: pem(ed) }, await sign(CLAIMS, ed.privateKey, { alg: 'EdDSA' })],
    // As environment files hold it, and with two keys while they are rotated.
    [{ jwtPublicKey: pem(rsa).replaceAll('\n', '\\n') }, await sign(CLAIMS, rsa.privateKey)],
    [{ jwtPublicKey: pem(otherRsa) + pem(rsa) }, await sign(CLAIMS, rsa.privateKey)],
    [{ jwtSecret: SECRET, jwtPublicKey: pem(rsa) }, await sign(CLAIMS, rsa.privateKey)],
  ];
  for (const [config, token] of signed) {
    assert.deepEqual(await verifier(config)(token), {
      kind: 'token',
      tenants: ['t1'],
      subject: 'u1',
      scopes: new Set(['subscribe', 'publish']),
      narrowing: null,
      openKinds: ['ticket', 'agreement'],
      claimed: new Map(),
      tokenId: null,
      issuedAtS: null,
      expiresAtMs: null,
    });
  }
});

test('no token is good without a signature of a key that its algorithm is for', async () => {
  const hmac = verifier({ jwtSecret: SECRET });
  const asymmetric = verifier({ jwtPublicKey: pem(rsa) });
  const both = verifier({ jwtSecret: SECRET, jwtPublicKey: pem(rsa) });
  const good = await sign(CLAIMS);
  const goodRsa = await sign(CLAIMS, rsa.privateKey);
  await hmac(good);
  const [header = '', body = '', signature = ''] = good.split('.');
  const der = rsa.publicKey.export({ type: 'spki', format: 'der' });
  const attacks: Record<string, string> = {
    'alg none, no signature': raw({ alg: 'none' }, CLAIMS, null),
    'alg NoNe': raw({ alg: 'NoNe' }, CLAIMS, null),
    'alg none over a good signature': `${Buffer.from('{"alg":"none"}').toString('base64url')}.${body}.${signature}`,
    'no alg': raw({}, CLAIMS),
    'alg of another type': raw({ alg: ['HS256'] }, CLAIMS),
    'HS256 with the PEM of the RSA key': raw({ alg: 'HS256' }, CLAIMS, pem(rsa)),
    'HS256 with the DER of the RSA key': raw({ alg: 'HS256' }, CLAIMS, der),
    'HS384 by the secret': await sign(CLAIMS, SECRET, { alg: 'HS384' }),
    'another secret': await sign(CLAIMS, `${SECRET}!`),
    'another RSA key': await sign(CLAIMS, otherRsa.privateKey),
    'an embedded key': await new SignJWT(CLAIMS)
      .setProtectedHeader({ alg: 'RS256', jwk: await exportJWK(otherRsa.publicKey) })
      .sign(otherRsa.privateKey),
    'an unknown critical header': raw({ alg: 'HS256', crit: ['x'], x: 1 }, CLAIMS),
    'changed claims': `${header}.${Buffer.from(JSON.stringify({ ...CLAIMS, tenantId: 't2' })).toString('base64url')}.${signature}`,
    'a cut signature': good.slice(0, -4),
    'no signature': `${header}.${body}.`,
    'claims that are no object': raw({ alg: 'HS256' }, '[]'),
    'claims that are no JSON': raw({ alg: 'HS256' }, '{'),
    'an encrypted token': 'eyJhbGciOiJkaXIifQ..a.b.c',
    'the typ of a pass': raw({ alg: 'HS256', typ: 'roomcast-pass+jwt' }, CLAIMS),
    'the long typ of a pass': raw({ alg: 'HS256', typ: 'application/ROOMCAST-pass+jwt' }, CLAIMS),
    empty: '',
    garbage: 'garbage',
    dots: '..',
    'not ASCII': 'é.é.é',
  };
  for (const [name, token] of Object.entries(attacks)) {
    for (const verify of [hmac, asymmetric, both]) {
      await assert.rejects(verify(token), refusedAs('unauthorized'), name);
    }
  }
  await refused(asymmetric, good);
  await refused(hmac, goodRsa);
});

test('a token of more than 8 KB is refused, and one just below it is not', async () => {
  const verify = verifier({ jwtSecret: SECRET });
  const base = (await sign({ ...CLAIMS, pad: '' })).length;
  const room = Math.floor(((8192 - base) * 3) / 4) - 4;
  await verify(await sign({ ...CLAIMS, pad: 'x'.repeat(room) }));
  await refused(verify, await sign({ ...CLAIMS, pad: 'x'.repeat(room + 16) }));
  await refused(verify, 'x'.repeat(10_000_000));
});

test('exp, nbf, iss and aud are checked', async () => {
  const verify = verifier({ jwtSecret: SECRET });
  const strict = verifier({ jwtSecret: SECRET, jwtIssuer: 'https://issuer', jwtAudience: 'roomcast' });
  const at = (claims: JWTPayload) => sign({ ...CLAIMS, ...claims });
  const claims = { iss: 'https://issuer', aud: 'roomcast' };

  assert.equal((await verify(await at({ exp: NOW_S + 60 }))).expiresAtMs, T0 + 60_000);
  assert.equal((await verify(await at({ exp: NOW_S + 0.5 }))).expiresAtMs, T0 + 500);
  for (const exp of [NOW_S, NOW_S - 1, NOW_S - 3600, 0, -1]) await refused(verify, await at({ exp }), 'token_expired');
  await verify(await at({ nbf: NOW_S + 5 }));
  await refused(verify, await at({ nbf: NOW_S + 6 }));
  for (const name of ['exp', 'nbf']) {
    for (const value of ['2030', null, [NOW_S + 60], true, {}]) await refused(verify, await at({ [name]: value }));
  }
  assert.ok(Number.isFinite((await verify(raw({ alg: 'HS256' }, `{"exp":1e999,"tenantId":"t1"}`))).expiresAtMs));

  await strict(await at(claims));
  await strict(await at({ ...claims, aud: ['other', 'roomcast'] }));
  const wrong: JWTPayload[] = [
    {},
    { ...claims, iss: 'https://issuer/' },
    { ...claims, aud: 'other' },
    { ...claims, aud: [] },
    { iss: claims.iss },
    { aud: claims.aud },
  ];
  for (const each of wrong) await refused(strict, await at(each));
});

test('a token that was good is refused from its exp on', async () => {
  let nowMs = T0;
  const verify = verifier({ jwtSecret: SECRET }, { now: () => nowMs });
  const token = await sign({ ...CLAIMS, exp: NOW_S + 30 });
  await verify(token);
  nowMs = T0 + 29_999;
  await verify(token);
  nowMs = T0 + 30_000;
  await refused(verify, token, 'token_expired');
  nowMs = T0 + 300_000;
  await refused(verify, token, 'token_expired');
});

test('a claim of the wrong type refuses the token, in a sentence without its value', async () => {
  const verify = verifier({ jwtSecret: SECRET });
  const wrong: Record<string, readonly unknown[]> = {
    tenantId: [
      1.5,
      null,
      true,
      {},
      '',
      'needle 1',
      'needle,2',
      'n'.repeat(129),
      ['t1', null],
      ['t1', ''],
      ['*'],
      ['t1', '*'],
      [['t1']],
    ],
    sub: [1.5, null, {}, ['needle']],
    scope: [7, {}, [7], ['subscribe', 7], [['subscribe']]],
  };
  for (const [name, values] of Object.entries(wrong)) {
    for (const value of values) {
      const token = await sign({ ...CLAIMS, [name]: value });
      await assert.rejects(verify(token), (error) => {
        refusedAs('unauthorized')(error);
        const { message } = error as Error;
        assert.match(message, new RegExp(`token's ${name} claim must be`));
        assert.doesNotMatch(message, /needle|nnn/);
        assert.ok(!message.includes(token));
        return true;
      });
    }
  }
});

test('claims are read as the contract says', async () => {
  const verify = verifier({ jwtSecret: SECRET });
  const of = async (claims: JWTPayload) => verify(await sign(claims));
  assert.deepEqual((await of({ tenantId: ['a', 'b', 'a'] })).tenants, ['a', 'b']);
  assert.deepEqual((await of({ tenantId: [] })).tenants, []);
  assert.deepEqual((await of({ tenantId: '*' })).tenants, '*');
  assert.deepEqual((await of({})).tenants, []);
  assert.deepEqual((await of({})).scopes, new Set());
  assert.deepEqual((await of({})).subject, null);
  assert.deepEqual((await of({ scope: '  subscribe   admin ' })).scopes, new Set(['subscribe', 'admin']));
  assert.deepEqual((await of({ scope: ['publish'] })).scopes, new Set(['publish']));
  assert.deepEqual((await of({ scope: '' })).scopes, new Set());
  assert.deepEqual((await of({ ticketIds: ['1', 2] })).narrowing, new Map([['ticket', new Set(['1', '2'])]]));
  assert.deepEqual((await of({ agreementIds: [] })).narrowing, new Map([['agreement', new Set()]]));
});

test('a claim that narrows and is malformed names no id, and too many ids refuse the token', async () => {
  const verify = verifier({ jwtSecret: SECRET, roomKinds: ['queue', 'team'], claimedRoomKinds: ['team'] });
  const of = async (claims: JWTPayload) => verify(await sign({ ...CLAIMS, ...claims }));
  for (const value of [null, '', 'a b', 1.5, true, {}, [null], ['1', null], [['1']], ['1', 'a b'], []]) {
    for (const claim of ['ticketIds', 'agreementIds', 'queueIds']) {
      const { narrowing } = await of({ [claim]: value });
      assert.deepEqual(narrowing, new Map([[claim.slice(0, -3), new Set()]]), JSON.stringify([claim, value]));
    }
    const { narrowing, claimed } = await of({ teamIds: value });
    assert.deepEqual([narrowing, claimed], [null, new Map([['team', new Set()]])], JSON.stringify(value));
  }
  const { narrowing, claimed, openKinds } = await of({
    queueIds: 7,
    teamIds: ['x', 8],
    userIds: ['u'],
    tenantIds: ['t'],
  });
  assert.deepEqual(narrowing, new Map([['queue', new Set(['7'])]]));
  assert.deepEqual(claimed, new Map([['team', new Set(['x', '8'])]]));
  assert.deepEqual(openKinds, ['ticket', 'agreement', 'queue']);
  const many = Array.from({ length: 1001 }, (_, index) => String(index % 10));
  for (const claim of ['ticketIds', 'queueIds', 'teamIds']) {
    await assert.rejects(of({ [claim]: many }), /claim must have at most 1000 ids/);
  }
});

test('claims that would pollute a prototype give nothing', async () => {
  const verify = verifier({ jwtSecret: SECRET });
  const gain = '{"tenantId":"*","scope":"admin publish subscribe","sub":"root"}';
  for (const claims of [
    `{"__proto__":${gain}}`,
    `{"constructor":{"prototype":${gain}}}`,
    `{"tenantId":["__proto__","constructor"],"__proto__":${gain}}`,
  ]) {
    const holder = await verify(raw({ alg: 'HS256' }, claims));
    assert.deepEqual(holder.scopes, new Set());
    assert.equal(holder.subject, null);
    assert.notEqual(holder.tenants, '*');
  }
  assert.equal(({} as Record<string, unknown>).tenantId, undefined);
  await refused(verify, raw(`{"__proto__":{"alg":"HS256"}}`, CLAIMS));
});

test('a key that cannot be used stops the start with one line', () => {
  const small = generateKeyPairSync('rsa', { modulusLength: 1024 });
  const bad: Partial<TokenConfig>[] = [
    {},
    { jwtPublicKey: 'no PEM' },
    { jwtPublicKey: '-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----' },
    { jwtPublicKey: rsa.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() },
    { jwtPublicKey: pem(small) },
    { jwtPublicKey: pem(generateKeyPairSync('x25519')) },
    { jwtPublicKey: pem(generateKeyPairSync('ec', { namedCurve: 'secp256k1' })) },
  ];
  for (const config of bad) assert.throws(() => verifier(config), /^Error: [^\n]*(JWT_PUBLIC_KEY|JWT_SECRET)[^\n]*$/);
});

interface Issuer {
  readonly url: string;
  readonly fetches: () => number;
  answer: (response: ServerResponse) => void;
}

/** A JWKS server whose answer can be changed, and a verifier that may fetch as often as it likes. */
async function issuer(t: TestContext): Promise<Issuer> {
  let fetches = 0;
  const server = createServer((_request, response) => {
    fetches++;
    self.answer(response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`;
  const self: Issuer = { url, fetches: () => fetches, answer: keys() };
  return self;
}

function keys(...jwks: object[]) {
  return (response: ServerResponse) => {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ keys: jwks }));
  };
}

const jwk = async (pair: { publicKey: KeyObject }, kid?: string) => ({
  ...(await exportJWK(pair.publicKey)),
  ...(kid === undefined ? {} : { kid }),
});

const soon = { jwksGapMs: 0 };

test('a JWKS: its keys are fetched once, and a rotated one is known at its first use', async (t) => {
  const server = await issuer(t);
  server.answer = keys(await jwk(rsa, 'one'), await jwk(ec, 'ec'), await jwk(ed, 'ed'));
  const verify = verifier({ jwksUrl: server.url }, soon);
  const one = await sign(CLAIMS, rsa.privateKey, { kid: 'one' });
  const two = await sign(CLAIMS, otherRsa.privateKey, { kid: 'two' });
  await Promise.all([one, one, one].map(verify));
  await verify(await sign(CLAIMS, rsa.privateKey, { kid: 'one', alg: 'PS256' }));
  await verify(await sign(CLAIMS, ec.privateKey, { kid: 'ec', alg: 'ES256' }));
  await verify(await sign(CLAIMS, ed.privateKey, { kid: 'ed', alg: 'EdDSA' }));
  assert.equal(server.fetches(), 1);

  await refused(verify, two);
  assert.equal(server.fetches(), 2, 'an unknown key id is looked for before it is refused');
  server.answer = keys(await jwk(otherRsa, 'two'));
  await verify(two);
  assert.equal(server.fetches(), 3);
  await refused(verifier({ jwksUrl: server.url }, soon), one);
});

test('a JWKS: keys without ids are tried, and their rotation is noticed', async (t) => {
  const server = await issuer(t);
  server.answer = keys(await jwk(otherRsa), await jwk(rsa));
  const verify = verifier({ jwksUrl: server.url }, soon);
  await verify(await sign(CLAIMS, rsa.privateKey));
  await verify(await sign(CLAIMS, otherRsa.privateKey));
  const newer = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const token = await sign(CLAIMS, newer.privateKey);
  await refused(verify, token);
  server.answer = keys(await jwk(newer));
  await verify(token);
});

test('a JWKS: symmetric, private, encryption keys and confusion are refused', async (t) => {
  const server = await issuer(t);
  const k = Buffer.from(SECRET).toString('base64url');
  server.answer = keys(
    { kty: 'oct', k, kid: 'oct' },
    { ...(await jwk(rsa, 'enc')), use: 'enc' },
    await jwk(rsa, 'one'),
  );
  const verify = verifier({ jwksUrl: server.url }, soon);
  await refused(verify, await sign(CLAIMS, SECRET, { kid: 'oct' }));
  await refused(verify, await sign(CLAIMS, rsa.privateKey, { kid: 'enc' }));
  await refused(verify, raw({ alg: 'HS256', kid: 'one' }, CLAIMS, pem(rsa)));
  await refused(verify, raw({ alg: 'none', kid: 'one' }, CLAIMS, null));
  await refused(verify, await sign(CLAIMS, otherRsa.privateKey, { kid: 'one' }));
  await verify(await sign(CLAIMS, rsa.privateKey, { kid: 'one' }));
});

test('a JWKS that cannot be had is a passing fault, and over once it is back', async (t) => {
  const server = await issuer(t);
  const good = keys(await jwk(rsa, 'one'));
  const verify = verifier({ jwksUrl: server.url }, soon);
  const token = await sign(CLAIMS, rsa.privateKey, { kid: 'one' });
  const faults: ((response: ServerResponse) => void)[] = [
    (response) => response.writeHead(500).end(),
    (response) => response.writeHead(302, { location: '/jwks' }).end(),
    (response) => response.end('no JSON'),
    (response) => response.end('{"keys":7}'),
    (response) => response.destroy(),
    keys({ kty: 'RSA', n: '!', e: 'AQAB', kid: 'one' }),
  ];
  for (const fault of faults) {
    server.answer = fault;
    await refused(verifier({ jwksUrl: server.url }, soon), token, 'unavailable');
  }
  server.answer = faults[0] as (response: ServerResponse) => void;
  await refused(verify, token, 'unavailable');
  server.answer = good;
  await verify(token);
  await refused(verifier({ jwksUrl: 'http://127.0.0.1:9/jwks' }, soon), token, 'unavailable');

  // Known keys go on being good while the issuer is away; only those who show an unknown one have to wait.
  server.answer = faults[0] as (response: ServerResponse) => void;
  await verify(await sign({ ...CLAIMS, jti: '2' }, rsa.privateKey, { kid: 'one' }));
  await refused(verify, await sign(CLAIMS, otherRsa.privateKey, { kid: 'two' }), 'unavailable');
});

test('made-up key ids share fetches: the issuer is not flooded', async (t) => {
  const server = await issuer(t);
  server.answer = keys(await jwk(rsa, 'one'));
  const verify = verifier({ jwksUrl: server.url }, { jwksGapMs: 1 });
  await verify(await sign(CLAIMS, rsa.privateKey, { kid: 'one' }));
  const tokens = await Promise.all(
    Array.from({ length: 50 }, (_, index) => sign(CLAIMS, rsa.privateKey, { kid: `made-up-${index}` })),
  );
  await Promise.all(tokens.map((token) => refused(verify, token)));
  assert.equal(server.fetches(), 2);
});

/** What the console reads from what people type and paste: searches, tokens, programs; and how it compares payloads. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SignJWT } from 'jose';
import { agentInWords } from '../../src/pages/console/agent.ts';
import { holdsToken, readClaims } from '../../src/pages/console/claims.ts';
import { compare } from '../../src/pages/console/difference.ts';
import { formatReading, parseQuery, roomFrom } from '../../src/pages/console/find-query.ts';

const KINDS = ['queue'];

for (const [text, readings, about] of [
  ['user:ana', ['user:ana'], null],
  ['sub:auth0|12:3', ['user:auth0|12:3'], null],
  ['ticket:5', ['ticket:5'], null],
  ['ticket 5', ['ticket:5'], null],
  ['Ticket 5', ['ticket:5'], null],
  ['queue:sales', ['queue:sales'], null],
  ['tenant:acme', ['tenant:acme'], null],
  ['10.0.0.7', ['address:10.0.0.7'], null],
  ['2001:db8::7', ['address:2001:db8::7'], null],
  ['::1', ['address:::1'], null],
  ['ip:10.0.0.7', ['address:10.0.0.7'], null],
  ['ana', ['user:ana', 'ticket:ana', 'agreement:ana', 'queue:ana', 'tenant:ana'], null],
  ['5', ['ticket:5', 'agreement:5', 'queue:5', 'user:5', 'tenant:5'], null],
  ['#5', ['ticket:5', 'agreement:5', 'queue:5', 'user:5', 'tenant:5'], null],
  ['user:ana ticket:5', ['user:ana'], 'ticket:5'],
  ['user:ana ticket 5', ['user:ana'], 'ticket:5'],
  ['user:Ana Souza ticket:5', ['user:Ana Souza'], 'ticket:5'],
  ['Ana Souza', ['user:Ana Souza'], null],
  [
    'tickett:5',
    ['user:tickett:5', 'ticket:tickett:5', 'agreement:tickett:5', 'queue:tickett:5', 'tenant:tickett:5'],
    null,
  ],
  ['connection:tbze3FFjVurt1r6CAAAA', ['connection:tbze3FFjVurt1r6CAAAA'], null],
] as const) {
  test(`the search ${JSON.stringify(text)}`, () => {
    const query = parseQuery(`  ${text} `, KINDS);
    assert.deepEqual(query?.readings.map(formatReading), readings);
    assert.equal(query?.about, about);
    for (const reading of query?.readings ?? []) {
      const again = parseQuery(formatReading(reading), KINDS);
      assert.deepEqual(again?.readings, [reading], 'its own text means it alone');
    }
  });
}

test('a name that may be the id of a connection is looked up as one, too', () => {
  assert.ok(parseQuery('tbze3FFjVurt1r6CAAAA', KINDS)?.readings.some(({ kind }) => kind === 'connection'));
  assert.equal(parseQuery(' ', KINDS), null);
});

test('rooms as people type them', () => {
  assert.equal(roomFrom(' ticket 5', KINDS), 'ticket:5');
  assert.equal(roomFrom('ticket:5', KINDS), 'ticket:5');
  for (const wrong of ['', '5', 'tickett:5', 'ticket:', 'ticket:a b', 'tenant:*'])
    assert.equal(roomFrom(wrong, KINDS), null);
});

test('tokens as people copy them', async () => {
  const token = await new SignJWT({
    sub: 'ána',
    tenantId: ['acme', 7],
    scope: 'subscribe  publish',
    ticketIds: [1, '2'],
    queueIds: null,
  })
    .setProtectedHeader({ alg: 'HS256' })
    .setExpirationTime(2_000_000_000)
    .sign(new TextEncoder().encode('a secret of at least thirty-two bytes'));
  const expected = {
    subject: 'ána',
    tenants: ['acme', '7'],
    scopes: ['subscribe', 'publish'],
    named: [
      { claim: 'ticketIds', kind: 'ticket', rooms: ['ticket:1', 'ticket:2'] },
      { claim: 'queueIds', kind: 'queue', rooms: [] },
    ],
    expiresAtMs: 2_000_000_000_000,
    validFromMs: null,
  };
  const half = token.length / 2;
  for (const text of [
    token,
    `Bearer ${token}`,
    `authorization: Bearer ${token}\n`,
    `https://bridge.example/sse?ticketId=1&access_token=${token}&legacy=false`,
    `${token.slice(0, half)}\n  ${token.slice(half)}`,
    `"${token}"`,
  ]) {
    assert.ok(holdsToken(text), text);
    assert.deepEqual(readClaims(text, KINDS), expected, text);
  }
  assert.deepEqual(readClaims('{"tenantId":"acme"}', KINDS)?.tenants, ['acme']);
  for (const bad of [
    'eyJhbGciOiJIUzI1NiJ9.not-json.x',
    '{"a":',
    '[1]',
    '"x"',
    `eyJ${'a'.repeat(20_000)}.b.c`,
    'eyJ.eyJ.',
  ]) {
    assert.equal(readClaims(bad, KINDS), null, bad.slice(0, 40));
  }
  for (const plain of ['ana', 'ticket:5', 'eyJoana', '10.0.0.1']) assert.equal(holdsToken(plain), false, plain);
});

for (const [agent, words] of [
  [
    'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36',
    'Chrome 128, Windows',
  ],
  [
    'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36 Edg/128.0.0.0',
    'Edge 128, Windows',
  ],
  [
    'Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1',
    'Safari 17, iPhone',
  ],
  ['Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0', 'Firefox 130, Linux'],
  ['node', 'Node.js'],
  ['curl/8.5.0', 'curl'],
  ['Something/1.0', 'Something/1.0'],
  [null, null],
  ['', null],
] as const) {
  test(`the program ${JSON.stringify(agent?.slice(-30) ?? null)} in words`, () =>
    assert.equal(agentInWords(agent), words));
}

test('the difference of two payloads, member by member', () => {
  const found = compare(
    { a: 1, b: { c: [1, 2], 'd/e': 'x' }, gone: null, same: {} },
    { a: 2, b: { c: [1, 3, 4], 'd/e': 'x' }, new: [], same: {} },
  );
  assert.deepEqual(found.differences, [
    { path: '/a', kind: 'changed', before: '1', after: '2' },
    { path: '/b/c/1', kind: 'changed', before: '2', after: '3' },
    { path: '/b/c/2', kind: 'added', before: null, after: '4' },
    { path: '/gone', kind: 'removed', before: 'null', after: null },
    { path: '/new', kind: 'added', before: null, after: '[]' },
  ]);
  assert.equal(found.equal, 3);
  assert.deepEqual(compare({ a: {} }, { a: [] }).differences.length, 1);
  assert.deepEqual(compare(JSON.parse('{"__proto__":1}'), {}).differences, [
    { path: '/__proto__', kind: 'removed', before: '1', after: null },
  ]);
  const many = compare({}, Object.fromEntries(Array.from({ length: 10_000 }, (_, key) => [`k${key}`, key])));
  assert.deepEqual([many.differences.length, many.isCut], [500, true]);
});

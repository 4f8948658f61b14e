/** protocol §11, browsers: which pages may come in with credentials. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createOrigins, pageFacts } from '../../src/auth/origins.ts';

const LISTED = 'https://app.example';

function allowed(headers: Record<string, string>, trustProxy = 0): boolean {
  return (
    createOrigins({ corsOrigins: [LISTED, 'capacitor://localhost'], trustProxy }).refusal(pageFacts(headers)) === null
  );
}

test('listed origins and none are let in, however their names are written', () => {
  const host = 'rooms.example';
  for (const origin of [LISTED, 'https://app.example:443', 'HTTPS://APP.example', 'capacitor://localhost']) {
    assert.ok(allowed({ origin, host }), origin);
  }
  assert.ok(allowed({ host }), 'not a page');
  for (const origin of [
    'null',
    '',
    'http://app.example',
    'https://app.example:8443',
    'https://app.example.evil.example',
    'https://evil-app.example',
    'https://sub.app.example',
    'https://app.example@evil.example',
    'https://evil.example/https://app.example',
    'capacitor://localhost.evil',
    'evil',
    'file://',
    '*',
  ]) {
    assert.ok(!allowed({ origin, host }), origin);
  }
  const lax = createOrigins({ corsOrigins: ['null'] });
  assert.ok(lax.refusal(pageFacts({ origin: 'null', host })) !== null, 'the origin of every sandboxed frame');
});

test('a page of the own origin is let in', () => {
  const cases: readonly [string, string, boolean][] = [
    ['http://rooms.example', 'rooms.example', true],
    ['http://rooms.example:4003', 'rooms.example:4003', true],
    ['http://[::1]:4003', '[::1]:4003', true],
    // TLS ends at a proxy in front.
    ['https://rooms.example', 'rooms.example', true],
    ['https://rooms.example', 'rooms.example:443', true],
    ['http://rooms.example', 'rooms.example:4003', false],
    ['http://rooms.example:4004', 'rooms.example:4003', false],
    ['http://localhost:4003', '127.0.0.1:4003', false],
    ['http://evil.example', 'rooms.example', false],
    ['http://evil.example', 'not a host', false],
    ['ftp://rooms.example', 'rooms.example', false],
  ];
  for (const [origin, host, expected] of cases) assert.equal(allowed({ origin, host }), expected, `${origin} ${host}`);
  assert.ok(!allowed({ origin: 'http://rooms.example' }), 'no Host');
});

test("the browser's own word for it counts, whatever a proxy did to Host", () => {
  const page = { origin: 'https://rooms.example', host: '127.0.0.1:4003' };
  assert.ok(allowed({ ...page, 'sec-fetch-site': 'same-origin' }));
  for (const site of ['same-site', 'cross-site', 'none', '']) assert.ok(!allowed({ ...page, 'sec-fetch-site': site }));
});

test('a proxy names the outer host and protocol only where it is trusted', () => {
  const page = {
    origin: 'https://rooms.example',
    host: '127.0.0.1:4003',
    'x-forwarded-host': 'rooms.example',
    'x-forwarded-proto': 'https',
  };
  assert.ok(!allowed(page, 0));
  assert.ok(allowed(page, 1));
  assert.ok(!allowed({ ...page, 'x-forwarded-proto': 'http' }, 1), 'the scheme is part of an origin');
  // What a client sent along stands further left than what the trusted proxy added.
  assert.ok(!allowed({ ...page, 'x-forwarded-host': 'rooms.example, other.example' }, 1));
  assert.ok(allowed({ ...page, 'x-forwarded-host': 'rooms.example, inner' }, 2));
  assert.ok(allowed({ ...page, host: 'rooms.example', 'x-forwarded-host': '' }, 1));
});

test('a request that a foreign page makes without Origin brings no cookie in', () => {
  const origins = createOrigins({ corsOrigins: [LISTED] });
  for (const site of ['cross-site', 'same-site']) {
    assert.match(origins.cookieRefusal(pageFacts({ host: 'h', 'sec-fetch-site': site })) ?? '', new RegExp(site));
    assert.equal(origins.cookieRefusal(pageFacts({ host: 'h', 'sec-fetch-site': site, origin: LISTED })), null);
  }
  assert.equal(origins.cookieRefusal(pageFacts({ host: 'h' })), null);
  assert.equal(origins.cookieRefusal(pageFacts({ 'sec-fetch-site': 'none' })), null);
});

/** protocol §10, §13: connections per node and address, buckets, and whose address it is. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clientAddress, createConnectionLimits, createRateLimit } from '../../src/auth/limits.ts';
import { BridgeError } from '../../src/contract/errors.ts';

function isFull(error: unknown): boolean {
  return error instanceof BridgeError && error.code === 'too_many_connections' && (error.retryAfterSeconds ?? 0) > 0;
}

test('connections are counted per node and per address, and out again once', () => {
  const limits = createConnectionLimits({ maxConnections: 3, maxConnectionsPerAddress: 2 });
  const first = limits.acquire('192.0.2.1');
  limits.acquire('192.0.2.1');
  assert.throws(() => limits.acquire('192.0.2.1'), isFull);
  const other = limits.acquire('192.0.2.2');
  assert.throws(() => limits.acquire('192.0.2.3'), isFull);
  assert.equal(limits.count, 3);
  first();
  first();
  assert.equal(limits.count, 2);
  limits.acquire('192.0.2.1');
  assert.throws(() => limits.acquire('192.0.2.1'), isFull);
  other();
  assert.equal(limits.count, 2);
});

test('what is refused is not counted, and without limits nothing is refused', () => {
  const limits = createConnectionLimits({ maxConnections: null, maxConnectionsPerAddress: 1 });
  const release = limits.acquire('192.0.2.1');
  for (let index = 0; index < 10; index++) assert.throws(() => limits.acquire('192.0.2.1'), isFull);
  release();
  limits.acquire('192.0.2.1');
  const open = createConnectionLimits({ maxConnections: null, maxConnectionsPerAddress: null });
  for (let index = 0; index < 10_000; index++) open.acquire('192.0.2.1');
  assert.equal(open.count, 10_000);
});

test('an IPv6 client is its network of 64 bits, in every spelling', () => {
  const same = ['2001:db8:0:1::1', '2001:0db8:0000:0001:ffff::2', '2001:DB8:0:1:0:0:192.0.2.1', '2001:db8:0:1:2:3:4:5'];
  for (const address of same) {
    const limits = createConnectionLimits({ maxConnections: null, maxConnectionsPerAddress: 1 });
    limits.acquire('2001:db8:0:1::');
    assert.throws(() => limits.acquire(address), isFull, address);
    limits.acquire('2001:db8:0:2::1');
    limits.acquire('::1');
    limits.acquire('2001:db8::1');
  }
});

test('a bucket gives its rate, at once or spread, and refills', () => {
  let nowMs = 0;
  const limit = createRateLimit(10, () => nowMs);
  const taken = (key: string) => {
    let count = 0;
    while (limit.waitSeconds(key) === 0) {
      limit.take(key);
      count++;
    }
    return count;
  };
  assert.equal(taken('a'), 10);
  assert.ok(Math.abs(limit.waitSeconds('a') - 0.1) < 1e-6);
  assert.equal(taken('b'), 10, 'each key has its own');
  nowMs = 100;
  assert.equal(taken('a'), 1);
  nowMs = 1_000_000;
  assert.equal(taken('a'), 10, 'no more than a second is saved up');
  let total = 0;
  for (let step = 0; step < 1000; step++) {
    nowMs += 1;
    total += taken('a');
  }
  assert.equal(total, 10);
});

test('a batch larger than the rate passes, and what follows pays for it', () => {
  let nowMs = 0;
  const limit = createRateLimit(10, () => nowMs);
  assert.equal(limit.waitSeconds('a'), 0);
  limit.take('a', 1000);
  assert.ok(limit.waitSeconds('a') > 98);
  nowMs = 99_000;
  assert.ok(limit.waitSeconds('a') > 0);
  nowMs = 99_101;
  assert.equal(limit.waitSeconds('a'), 0);
});

test('buckets that are full again are forgotten, debts are not', () => {
  let nowMs = 0;
  const limit = createRateLimit(1, () => nowMs);
  limit.take('debtor', 1_000_000);
  for (let index = 0; index < 100_000; index++) {
    nowMs += 10;
    limit.take(`key-${index}`);
  }
  assert.ok(limit.size < 3000, `${limit.size} buckets`);
  assert.ok(limit.waitSeconds('debtor') > 0);
});

test('a rate below one a second still gives one', () => {
  let nowMs = 0;
  const limit = createRateLimit(0.5, () => nowMs);
  assert.equal(limit.waitSeconds('a'), 0);
  limit.take('a');
  assert.equal(limit.waitSeconds('a'), 2);
  nowMs = 2000;
  assert.equal(limit.waitSeconds('a'), 0);
});

test("the client's address is the peer's, or what the outermost trusted proxy saw", () => {
  const cases: readonly [string | undefined, string | undefined, number, string][] = [
    ['192.0.2.1', undefined, 0, '192.0.2.1'],
    ['192.0.2.1', '198.51.100.1', 0, '192.0.2.1'],
    ['192.0.2.1', undefined, 1, '192.0.2.1'],
    ['192.0.2.1', '198.51.100.1', 1, '198.51.100.1'],
    ['192.0.2.1', '203.0.113.9, 198.51.100.1', 1, '198.51.100.1'],
    ['192.0.2.1', '203.0.113.9,198.51.100.2 , 198.51.100.1', 2, '198.51.100.2'],
    ['192.0.2.1', '198.51.100.1', 5, '198.51.100.1'],
    ['::ffff:192.0.2.1', undefined, 0, '192.0.2.1'],
    ['127.0.0.1', '[2001:db8::1]:4711', 1, '2001:db8::1'],
    ['127.0.0.1', '198.51.100.1:4711', 1, '198.51.100.1'],
    ['127.0.0.1', '::ffff:198.51.100.1', 1, '198.51.100.1'],
    ['127.0.0.1', 'unknown', 1, '127.0.0.1'],
    ['127.0.0.1', 'made-up, 198.51.100.1', 2, '198.51.100.1'],
    ['127.0.0.1', '', 1, '127.0.0.1'],
    ['127.0.0.1', ', ,', 3, '127.0.0.1'],
    [undefined, undefined, 0, 'unknown'],
  ];
  for (const [remoteAddress, forwarded, trustProxy, expected] of cases) {
    const headers = forwarded === undefined ? {} : { 'x-forwarded-for': forwarded };
    assert.equal(clientAddress({ headers, socket: { remoteAddress } }, trustProxy), expected, `${forwarded}`);
  }
});

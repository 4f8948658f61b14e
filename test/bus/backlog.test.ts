/** How far a slow client is behind (protocol §15): the acceptance of the oldest record that still waits for it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Backlog } from '../../src/bus/backlog.ts';

test('the oldest record that waits counts, until all of its bytes are gone', () => {
  const backlog = new Backlog(100, 1_000);
  backlog.add(100, 150, 2_000);
  backlog.add(150, 250, 3_000);
  assert.equal(backlog.oldestAtMs(250), 1_000);
  assert.equal(backlog.oldestAtMs(151), 1_000);
  assert.equal(backlog.oldestAtMs(150), 2_000);
  assert.equal(backlog.oldestAtMs(101), 2_000);
  assert.equal(backlog.oldestAtMs(100), 3_000);
  assert.equal(backlog.oldestAtMs(1), 3_000);
});

test('bytes that leave between two records count as well', () => {
  const backlog = new Backlog(100, 1_000);
  backlog.add(40, 90, 2_000);
  assert.equal(backlog.oldestAtMs(90), 1_000);
  backlog.add(50, 60, 3_000);
  assert.equal(backlog.oldestAtMs(60), 2_000);
  assert.equal(backlog.oldestAtMs(10), 3_000);
});

test('a client that is slow for hours is placed roughly, and never too late', () => {
  const backlog = new Backlog(10, 0);
  // Each record adds ten bytes, and the client takes ten: a hundred wait at any time.
  let pending = 10;
  for (let n = 1; n <= 10_000; n++) {
    if (pending > 100) pending -= 10;
    backlog.add(pending, pending + 10, n * 100);
    pending += 10;
    const exact = Math.max(0, n - pending / 10 + 1) * 100;
    const told = backlog.oldestAtMs(pending);
    assert.equal(told, exact);
  }
  // Nothing is taken any more: marks are joined, and the oldest stays.
  const oldest = backlog.oldestAtMs(pending);
  for (let n = 10_001; n <= 20_000; n++) {
    backlog.add(pending, pending + 10, n * 100);
    pending += 10;
  }
  assert.equal(backlog.oldestAtMs(pending), oldest);
  const half = backlog.oldestAtMs(pending / 2);
  assert.ok(half > 1_440_000 && half <= 1_500_000, `${half}`);
});

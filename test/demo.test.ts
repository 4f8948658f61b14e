/** The counters of the demo's panel count: what they say of a stream that was lost, doubled or mixed up on purpose. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

const load = (file: string) => import(new URL(`../docs/examples/inbox/demo/${file}`, import.meta.url).href);
const { createCount } = await load('count.js');
const { createGaps } = await load('gaps.js');

function countOf(numbers: readonly number[], last?: number) {
  const count = createCount(last === undefined ? undefined : { run: 'a', number: last });
  for (const number of numbers) count.take({ run: 'a', number });
  const { lost, doubled, disordered, received } = count;
  return { lost, doubled, disordered, received };
}

for (const [what, numbers, expected] of [
  ['each once', [8, 9, 10], { lost: 0, doubled: 0, disordered: 0, received: 3 }],
  ['the first is missing', [9, 10], { lost: 1, doubled: 0, disordered: 0, received: 2 }],
  ['some are missing', [8, 11, 15], { lost: 5, doubled: 0, disordered: 0, received: 3 }],
  ['one comes twice', [8, 9, 9, 10], { lost: 0, doubled: 1, disordered: 0, received: 4 }],
  ['a run of them comes twice', [8, 9, 10, 8, 9, 10], { lost: 0, doubled: 3, disordered: 0, received: 6 }],
  ['one from before the page', [7, 8], { lost: 0, doubled: 1, disordered: 0, received: 2 }],
  ['one is late', [8, 10, 9, 11], { lost: 0, doubled: 0, disordered: 1, received: 4 }],
  ['one of a hole is late, and comes twice', [8, 12, 10, 10], { lost: 2, doubled: 1, disordered: 1, received: 4 }],
  ['a huge hole', [8, 2 ** 50], { lost: 2 ** 50 - 9, doubled: 0, disordered: 0, received: 2 }],
] as const) {
  test(`counting after event 7: ${what}`, () => assert.deepEqual(countOf(numbers, 7), expected));
}

test('without a number to begin with, the first one begins the count', () => {
  assert.deepEqual(countOf([5, 6, 8]), { lost: 1, doubled: 0, disordered: 0, received: 3 });
});

test('each start of a publisher counts by itself, also when two overlap; what was lost stays lost', () => {
  const count = createCount({ run: 'a', number: 0 });
  const events = 'a3 b1 b2 a4 b2 b4 a5'.split(' ').map((text) => ({ run: text[0], number: Number(text[1]) }));
  for (const event of events) count.take(event);
  assert.deepEqual([count.lost, count.doubled], [3, 1]);
  for (let index = 0; index < 30; index++) count.take({ run: `c${index}`, number: 1 });
  assert.equal(count.lost, 3);
});

test('a gap lasts until a transport works; the events of its time that arrive later are replayed ones', () => {
  const gaps = createGaps();
  gaps.take(50);
  assert.equal(gaps.last, null);
  assert.equal(gaps.status('websocket', 90), null);
  assert.equal(gaps.status(null, 100).fromMs, 100);
  gaps.take(99); // published right before, not received
  assert.equal(gaps.status(null, 150), null);
  assert.equal(gaps.status('poll', 300).untilMs, 300);
  gaps.take(200);
  gaps.take(299);
  gaps.take(301);
  assert.equal(gaps.status('websocket', 400), null, 'another transport is no gap');
  gaps.take(401);
  assert.deepEqual(gaps.last, { fromMs: 100, untilMs: 300, replayed: 3 });
  gaps.status(null, 500);
  assert.deepEqual(gaps.last, { fromMs: 500, untilMs: null, replayed: 0 });
});

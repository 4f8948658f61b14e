/** protocol §7, §16: a page is put together from steps, and one request does bounded work. Callers take turns. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Cursor } from '../../src/contract/cursor.ts';
import { collectPage } from '../../src/store/page.ts';
import { createTurns } from '../../src/store/turns.ts';

const HEAD = 'head' as Cursor;

/** A list of `rows`, of which a step looks at `rowsOfStep`; only those in `kept` are items. */
function listOf(rows: number, rowsOfStep: number, kept: (row: number) => boolean) {
  let steps = 0;
  const page = (limit: number, from: string | null, maxChars = 1e9) =>
    collectPage({ limit, maxChars, page: from }, async ({ from: start, want }) => {
      steps++;
      const positions: string[] = [];
      let row = start === null ? 0 : Number(start) + 1;
      for (let looked = 0; row < rows && looked < rowsOfStep && positions.length < want; looked++, row++) {
        if (kept(row)) positions.push(String(row));
      }
      const next = row < rows ? String(row - 1) : null;
      return { items: positions.map((position) => `item ${position}`), positions, next, cursor: HEAD };
    });
  return { page, stepsTaken: () => steps };
}

test('pages cover every item once, whatever the steps', async () => {
  for (const rowsOfStep of [1, 3, 7, 100]) {
    for (const limit of [1, 2, 5, 50]) {
      const { page } = listOf(40, rowsOfStep, (row) => row % 3 === 0);
      const items: string[] = [];
      let next: string | null = null;
      do {
        const found: Awaited<ReturnType<typeof page>> = await page(limit, next);
        assert.ok(found.items.length <= limit);
        items.push(...found.items);
        next = found.nextPage;
      } while (next !== null);
      assert.deepEqual(
        items,
        Array.from({ length: 14 }, (_, index) => `item ${index * 3}`),
      );
    }
  }
});

test('a page that is full says whether another item follows, not whether another row does', async () => {
  const { page } = listOf(40, 100, (row) => row < 5);
  assert.equal((await page(5, null)).nextPage, null);
  assert.equal((await page(4, null)).nextPage, '3');
});

test('a filter that matches nothing ends a page after a bounded number of steps', async () => {
  const { page, stepsTaken } = listOf(1_000, 10, (row) => row === 999);
  const first = await page(100, null);
  assert.deepEqual(first.items, []);
  assert.equal(stepsTaken(), 16);
  assert.equal(first.nextPage, '159');
});

test('a page ends with the item that passes maxChars', async () => {
  const { page } = listOf(40, 100, () => true);
  const found = await page(40, null, 10);
  assert.deepEqual(found.items, ['item 0', 'item 1']);
  assert.equal(found.nextPage, '1');
});

test('callers take turns, and each line is first in, first out', () => {
  const turns = createTurns<string>();
  for (const item of ['a1', 'a2', 'a3', 'a4']) turns.add('a', item);
  assert.equal(turns.take(), 'a1');
  for (const item of ['b1', 'b2', 'c1']) turns.add(item[0] as string, item);
  const taken = [turns.take(), turns.take(), turns.take(), turns.take()];
  assert.deepEqual(taken, ['a2', 'b1', 'c1', 'a3']);
  // What was taken for nothing goes back to the start of its line.
  turns.putBack('a', 'a3');
  turns.putBack('d', 'd1');
  assert.equal(turns.size, 4);
  assert.deepEqual([...turns].sort(), ['a3', 'a4', 'b2', 'd1']);
  assert.deepEqual(
    turns.remove((item) => item === 'a4'),
    ['a4'],
  );
  assert.deepEqual([turns.take(), turns.take(), turns.take(), turns.take()].sort(), ['a3', 'b2', 'd1', undefined]);
  assert.equal(turns.size, 0);
});

test('one caller takes at most half of the places', () => {
  const turns = createTurns<number>();
  for (let n = 0; n < 10_000; n++) turns.add('a', n);
  assert.ok(turns.isFull('a'));
  assert.ok(!turns.isFull('b'));
  for (let n = 0; n < 10_000; n++) turns.add('', n);
  assert.ok(turns.isFull('b') && turns.isFull(''));
  for (let n = 0; n < 10_000; n++) assert.equal(turns.take(), n >> 1);
});

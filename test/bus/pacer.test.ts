/** The pacer: steps run in order, and a few in each turn of the event loop. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createPacer } from '../../src/bus/pacer.ts';

const PER_TURN = 16;

test('steps that ask together run in order, over many turns of the event loop', async () => {
  const pacer = createPacer(PER_TURN);
  const ran: number[] = [];
  const ask = (step: number): boolean => {
    const turn = pacer.take();
    if (turn === null) ran.push(step);
    else void turn.then(() => ran.push(step));
    return turn === null;
  };
  for (let step = 0; step < 1_000; step++) assert.equal(ask(step), step < PER_TURN);
  for (let last = 1_000; ran.length < last; ) {
    const before = ran.length;
    await nextTurn();
    assert.ok(ran.length - before <= PER_TURN, `${ran.length - before} steps in one turn`);
    // It asks while others wait, so it comes last.
    if (last === 1_000) assert.equal(ask(last++), false);
  }
  assert.deepEqual(
    ran,
    Array.from({ length: 1_001 }, (_, step) => step),
  );
  await nextTurn();
  await nextTurn();
  assert.ok(ask(1_001), 'with nothing waiting, a step runs at once');
});

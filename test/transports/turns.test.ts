/** Websocket messages take turns with all else: in order, and a few in each turn of the event loop. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createTurns } from '../../src/transports/socketio/turns.ts';
import { until } from '../support/until.ts';

test('a flood of messages is handled in order, over many turns of the event loop', async () => {
  const turns = createTurns();
  const handled: number[] = [];
  const ranNow: boolean[] = [];
  for (let number = 0; number < 1_000; number++) ranNow.push(turns.take(() => handled.push(number)));
  const first = handled.length;
  assert.ok(first > 0 && first < 100, `${first} of 1,000 messages were handled at once`);
  assert.deepEqual(ranNow.indexOf(false), first);

  let mostInTurn = 0;
  let isAdded = false;
  await until('all messages are handled', async () => {
    for (let before = handled.length; before < 1_001; before = handled.length) {
      // It comes last, although it arrives in a turn that still has room for it.
      if (!isAdded) isAdded = !turns.take(() => handled.push(1_000));
      await nextTurn();
      mostInTurn = Math.max(mostInTurn, handled.length - before);
    }
    return true;
  });
  assert.ok(mostInTurn <= first, `${mostInTurn} messages in one turn`);
  assert.deepEqual(
    handled,
    Array.from({ length: 1_001 }, (_, number) => number),
  );
  await nextTurn();
  assert.ok(
    turns.take(() => {}),
    'with nothing waiting, a message is handled at once',
  );
});

/** Signals that wait to be written (design law 15): in a crowd, the newest of each sender stands for those before it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Sink } from '../../src/bus/subscription.ts';
import type { Signal } from '../../src/contract/signals.ts';
import { until } from '../support/until.ts';
import { openBus, ROOM, rooms } from './support.ts';

const signal = (sender: string, number: number): Signal => ({
  ...{ event: 'tickets.typing', room: ROOM, audience: ROOM, from: null, sender },
  ...{ payload: JSON.stringify({ number }), ttlSeconds: 10 },
});

for (const { times, heard } of [
  { times: 100, heard: Array.from({ length: 100 }, (_, number) => number) },
  { times: 3_000, heard: [2_999] },
]) {
  test(`a sender's ${times} signals in one turn of the event loop`, async (context) => {
    let dropped = 0;
    const bus = await openBus(context, {
      metrics: {
        signalsDropped(_transport, count) {
          dropped += count;
        },
      },
    });
    const ofBusy: number[] = [];
    const all: Signal[] = [];
    const sink: Sink = {
      write: () => assert.fail('there are no records'),
      signals(signals) {
        all.push(...signals);
        for (const { sender, payload } of signals) if (sender === 'busy') ofBusy.push(JSON.parse(payload).number);
      },
      signalsDropped: () => assert.fail('the listener has read all'),
      pendingBytes: () => 0,
      reset: () => assert.fail('nothing was lost'),
      cut: () => assert.fail('the listener is not slow'),
    };
    const signals = { names: new Set(['tickets.typing']), sender: null, active: false };
    bus.subscribe({ rooms, after: null, signals }, sink);
    bus.signals.send(signal('calm', 0), false);
    for (let number = 0; number < times; number++) bus.signals.send(signal('busy', number), false);
    await until('each signal is written or dropped', () => all.length + dropped === times + 1);
    assert.deepEqual(ofBusy, heard);
    assert.equal(all.filter(({ sender }) => sender === 'calm').length, 1);
    assert.equal(bus.signals.active([ROOM]).length, 2);
  });
}

/** The judge of signals objects to each thing that it is there for. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkSignals, type HeardSignal, type SignalListener } from './signals.ts';

const sent = { tenant: 'a', target: 'ticket:1', n: 1, lifeSeconds: 10 };
const heard = (payload: Partial<HeardSignal['payload']> = {}, more: Partial<HeardSignal> = {}): HeardSignal => ({
  ...{ event: 'tickets.typing', atMs: 1_010, more: 0 },
  payload: { ...sent, room: 'ticket:1', sender: 's', ttlSeconds: 10, ...payload },
  ...more,
});
const listener = (...signals: HeardSignal[]): SignalListener => ({
  ...{ name: 'l', rooms: ['ticket:1', 'ticket:2'], tenants: ['a'], isDelayed: false },
  signals,
});
const laws = (...listeners: SignalListener[]): string[] =>
  checkSignals(
    listeners,
    new Map([
      [1, 1_000],
      [2, 1_000],
    ]),
    100,
  ).map(({ law }) => law);

test('what is as it should be', () => {
  assert.deepEqual(laws(listener()), []);
  assert.deepEqual(laws(listener(heard(), heard({ n: 2 }), heard({ n: 2, ttlSeconds: 0 }))), []);
  assert.deepEqual(laws(listener(heard({ ttlSeconds: 6 }, { atMs: 5_500 }))), []);
  assert.deepEqual(
    laws(listener(heard({ n: 2 }), heard({ sender: 't' }), heard({ room: 'ticket:2', target: 'ticket:2' }))),
    [],
  );
  assert.deepEqual(laws({ ...listener(heard({ tenant: 'b' })), tenants: null }), []);
});

test('a signal of another room or tenant', () => {
  assert.deepEqual(laws(listener(heard({ room: 'ticket:3', target: 'ticket:3' }))), ['foreign']);
  assert.deepEqual(laws(listener(heard({ room: 'ticket:2' }))), ['foreign']);
  assert.deepEqual(laws(listener(heard({ tenant: 'b' }))), ['foreign']);
});

test('an older one after a newer one', () => {
  assert.deepEqual(laws(listener(heard({ n: 2 }), heard({ n: 1 }))), ['order']);
});

test('one that outlives its time, unless the network held it back', () => {
  assert.deepEqual(laws(listener(heard({}, { atMs: 2_200 }))), ['outlives']);
  assert.deepEqual(laws(listener(heard({}, { atMs: 2_050 }))), []);
  assert.deepEqual(laws(listener(heard({ ttlSeconds: 0 }, { atMs: 60_000 }))), []);
  assert.deepEqual(laws({ ...listener(heard({}, { atMs: 60_000 })), isDelayed: true }), []);
  assert.deepEqual(laws(listener(heard({ n: 3 }, { atMs: 60_000 }))), [], 'accepted nobody knows when');
});

test('a trailing argument', () => {
  assert.deepEqual(laws(listener(heard({}, { more: 1 }))), ['altered']);
});

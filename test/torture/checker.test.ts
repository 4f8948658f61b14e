/** The checker of the torture suite objects to every way of breaking the promise, and to nothing else. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  check,
  type Entry,
  type History,
  type Law,
  type ListenerHistory,
  type LogEntry,
  type Publication,
} from './checker.ts';

const idOf = (number: number): string => `log-${String(number).padStart(4, '0')}`;

function entry(number: number, overrides: Record<string, unknown> = {}): LogEntry {
  const payload = { key: `k${number}`, tenantId: 'a', ticketId: 't1', message: { n: number }, ...overrides };
  return { id: idOf(number), event: 'messages.new', payload: JSON.stringify(payload) };
}

const log = [1, 2, 3, 4, 5, 6].map((number) => entry(number, number === 4 ? { tenantId: 'b' } : {}));
const at = (number: number): LogEntry => log[number - 1] as LogEntry;

function saw(...numbers: number[]): Entry[] {
  return numbers.map((number) => ({ kind: 'event', ...at(number), stream: 'live' }));
}

function listener(entries: readonly Entry[], overrides: Partial<ListenerHistory> = {}): ListenerHistory {
  return {
    name: 'l',
    rooms: [{ room: 'tenant:a', after: idOf(0) }],
    tenants: ['a'],
    legacy: false,
    mayReset: false,
    entries,
    ...overrides,
  };
}

function publication({ id, event, payload }: LogEntry, overrides: Partial<Publication> = {}): Publication {
  const key = (JSON.parse(payload) as { key: string }).key;
  return { key, event, payload, outcome: 'acknowledged', ids: [id], ...overrides };
}

function laws(history: Partial<History>): Law[] {
  const whole = { log, publications: log.map((record) => publication(record)), listeners: [], ...history };
  return [...new Set(check(whole).map(({ law }) => law))];
}

const hears = (entries: readonly Entry[], overrides: Partial<ListenerHistory> = {}, history: Partial<History> = {}) =>
  laws({ ...history, listeners: [listener(entries, overrides)] });

const reset = (cursor: number, room?: string): Entry => ({
  ...{ kind: 'reset', reason: 'expired', after: idOf(1), cursor: idOf(cursor) },
  ...(room === undefined ? {} : { room }),
});

describe('the checker is content', () => {
  test('with everything of its rooms once, in order', () => {
    assert.deepEqual(hears(saw(1, 2, 3, 5, 6)), []);
  });

  test('with a listener that begins later, and with notes in between', () => {
    const entries: Entry[] = [...saw(3), { kind: 'note', text: 'cut' }, ...saw(5, 6)];
    assert.deepEqual(hears(entries, { rooms: [{ room: 'tenant:a', after: idOf(2) }] }), []);
  });

  test('with a listener in several rooms of one event', () => {
    const rooms = [
      { room: 'tenant:a', after: idOf(0) },
      { room: 'ticket:t1', after: idOf(3) },
    ];
    assert.deepEqual(hears(saw(1, 2, 3, 5, 6), { rooms }), []);
    assert.deepEqual(hears(saw(1, 2, 3, 4, 5, 6), { rooms, tenants: null }), []);
  });

  test('with a replay beside the live stream, each in order', () => {
    const replay = saw(1, 2, 3).map((seen) => ({ ...seen, stream: 'replay 1' }) as Entry);
    assert.deepEqual(hears([...saw(5), ...replay, ...saw(6)]), []);
  });

  test('with a gap that a reset told of', () => {
    assert.deepEqual(hears([...saw(1), reset(5), ...saw(6)], { mayReset: true }), []);
  });

  test('with resets of one room and then of another, and what came by the first in between', () => {
    const rooms = ['ticket:t1', 'ticket:t2'].map((room) => ({ room, after: idOf(1) }));
    const records = [entry(3, { ticketId: 't2' }), entry(4), entry(5, { ticketId: 't2' })];
    const [inGap, between, last] = records.map((record): Entry => ({ kind: 'event', ...record, stream: 'live' }));
    const told = { mayReset: true, rooms };
    const history = { log: records, publications: [] };
    const entries = [reset(2, 'ticket:t1'), between, reset(4, 'ticket:t2'), last] as Entry[];
    assert.deepEqual(hears(entries, told, history), []);
    assert.deepEqual(hears([entries[0], inGap, ...entries.slice(1)] as Entry[], told, history), []);
    // One that the other room's reset does not cover.
    assert.deepEqual(hears(entries.toSpliced(1, 1), told, history), ['gap']);
  });

  test('with publishes whose outcome is not known, in the log or not', () => {
    const [first, ...rest] = log.map((record) => publication(record));
    const maybe = { ...(first as Publication), outcome: 'unknown' as const, ids: [] };
    const never = { ...maybe, key: 'k99' };
    assert.deepEqual(laws({ publications: [maybe, never, ...rest] }), []);
  });

  test('with what was trimmed, and with a log that the scenario destroyed', () => {
    const publications = [...log, entry(0)].map((record) => publication(record));
    assert.deepEqual(laws({ publications, trimmedBefore: idOf(0) }), []);
    const lost = { id: 'old-0001', event: 'messages.new', payload: at(1).payload.replace('k1', 'k0') };
    const logOf = (cursor: string): string => cursor.slice(0, 3);
    const withLost = [...log.map((record) => publication(record)), publication(lost)];
    assert.deepEqual(laws({ publications: withLost, logOf, lostLogs: new Set(['old']) }), []);
    assert.deepEqual(laws({ publications: withLost, logOf }), ['lost']);
  });
});

describe('the checker objects', () => {
  test('to a gap: in the middle, at the end, of everything', () => {
    assert.deepEqual(hears(saw(1, 3, 5, 6)), ['gap']);
    assert.deepEqual(hears(saw(1, 2, 3, 5)), ['gap']);
    assert.deepEqual(hears([]), ['gap']);
  });

  test('to a double', () => {
    assert.ok(hears(saw(1, 2, 2, 3, 5, 6)).includes('double'));
    const again = saw(2).map((seen) => ({ ...seen, stream: 'replay 1' }) as Entry);
    assert.deepEqual(hears([...saw(1, 2, 3), ...again, ...saw(5, 6)]), ['double']);
  });

  test('to a swap', () => {
    assert.deepEqual(hears(saw(1, 3, 2, 5, 6)), ['order']);
  });

  test("to a foreign tenant's event, by whichever room it came", () => {
    assert.deepEqual(hears(saw(1, 2, 3, 4, 5, 6)), ['foreign']);
    const rooms = [{ room: 'ticket:t1', after: idOf(0) }];
    assert.deepEqual(hears(saw(1, 2, 3, 4, 5, 6), { rooms }), ['foreign']);
    assert.deepEqual(hears(saw(1, 2, 3, 5, 6), { rooms, tenants: null }), ['gap']);
  });

  test('to an event that the log does not hold', () => {
    const stranger: Entry = { kind: 'event', ...entry(9), stream: 'live' };
    assert.deepEqual(hears([...saw(1, 2, 3, 5, 6), stranger]), ['stranger']);
  });

  test('to other bytes, at a listener or in the log', () => {
    const [first, ...rest] = saw(1, 2, 3, 5, 6);
    assert.deepEqual(hears([{ ...first, payload: '{"tenantId":"a"}' } as Entry, ...rest]), ['altered']);
    const sent = { ...publication(at(1)), payload: '{"key":"k1"}' };
    assert.deepEqual(laws({ publications: [sent] }), ['altered']);
  });

  test('to what lies before the place that it listens from', () => {
    assert.deepEqual(hears(saw(1, 2, 3, 5, 6), { rooms: [{ room: 'tenant:a', after: idOf(2) }] }), ['early']);
  });

  test('to a reset without a cause, and to a gap that no reset covers', () => {
    assert.deepEqual(hears([...saw(1), reset(5), ...saw(6)]), ['reset']);
    assert.deepEqual(hears([...saw(1, 3), reset(5), ...saw(6)], { mayReset: true }), ['gap']);
    assert.deepEqual(hears([...saw(1), reset(3), ...saw(6)], { mayReset: true }), ['gap']);
  });

  test('to a legacy listener without the whole group right before an event', () => {
    const group = ['ticket.message', 'ticket.message.created', 'message:created'];
    const aliases: Entry[] = group.map((event) => ({ kind: 'event', id: null, event, payload: '{}', stream: 'live' }));
    const one = { log: [at(1)], publications: [] };
    assert.deepEqual(hears([...aliases, ...saw(1)], { legacy: true }, one), []);
    const note: Entry = { kind: 'note', text: 'joined' };
    assert.deepEqual(
      hears([...aliases.slice(0, 2), note, ...aliases.slice(2), note, ...saw(1)], { legacy: true }, one),
      [],
    );
    assert.deepEqual(hears([...aliases.slice(1), ...saw(1)], { legacy: true }, one), ['legacy']);
    assert.deepEqual(hears([...saw(1), ...aliases], { legacy: true }, one), ['legacy']);
  });

  test('to an acknowledged event that the log lost', () => {
    assert.deepEqual(laws({ log: log.slice(0, 5) }), ['lost']);
  });

  test('to a refused event that stands in the log', () => {
    const [first, ...rest] = log.map((record) => publication(record));
    assert.deepEqual(laws({ publications: [{ ...(first as Publication), outcome: 'refused', ids: [] }, ...rest] }), [
      'refused',
    ]);
  });

  test('to a log that holds one thing twice, and to two ids for one publish', () => {
    assert.deepEqual(laws({ log: [...log, { ...at(1), id: idOf(7) }] }), ['twice']);
    assert.ok(laws({ log: [...log, at(6)] }).includes('twice'));
    const [first, ...rest] = log.map((record) => publication(record));
    assert.deepEqual(laws({ publications: [{ ...(first as Publication), ids: [idOf(1), idOf(2)] }, ...rest] }), [
      'twice',
      'altered',
    ]);
  });

  test('to half a batch', () => {
    const publications = log.map((record) => publication(record, { batch: 'b', outcome: 'unknown', ids: [] }));
    assert.deepEqual(laws({ publications }), []);
    assert.deepEqual(laws({ publications, log: [] }), []);
    assert.deepEqual(laws({ publications, log: log.slice(1) }), ['half']);
  });

  test('to a log out of order', () => {
    assert.deepEqual(laws({ log: [at(2), at(1), ...log.slice(2)] }), ['log order']);
  });
});

test('any one change to a right history is objected to', () => {
  const whole = saw(1, 2, 3, 5, 6);
  const index = fc.nat({ max: whole.length - 1 });
  fc.assert(
    fc.property(index, index, fc.constantFrom('drop', 'repeat', 'swap', 'alter'), (a, b, change) => {
      const entries = [...whole];
      const chosen = entries[a] as Entry & { kind: 'event' };
      if (change === 'drop') entries.splice(a, 1);
      if (change === 'repeat') entries.splice(b, 0, chosen);
      if (change === 'alter') entries[a] = { ...chosen, payload: chosen.payload.replace('"n"', '"m"') };
      if (change === 'swap') {
        fc.pre(a !== b);
        entries[a] = entries[b] as Entry;
        entries[b] = chosen;
      }
      assert.notDeepEqual(hears(entries), []);
    }),
  );
});

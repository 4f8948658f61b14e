import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRecent } from '../../src/bus/recent.ts';
import type { Cursor } from '../../src/contract/cursor.ts';
import type { LogRecord } from '../../src/contract/frames.ts';
import type { Room } from '../../src/contract/rooms.ts';
import { createRandom } from '../support/random.ts';

const cursorOf = (n: number): Cursor => `c${String(n).padStart(9, '0')}` as Cursor;
const START = 1_000_000;

function recordOf(n: number, rooms: readonly Room[], chars: number): LogRecord {
  const payload = 'x'.repeat(chars);
  return { id: cursorOf(n), event: 'e', rooms, audiences: rooms, payload, acceptedAtMs: START + n };
}

/** What `recent` must hold, in one list. */
function createModel() {
  let kept: LogRecord[] = [];
  let chars = 0;
  let floor = cursorOf(0);
  return {
    push(record: LogRecord): void {
      kept.push(record);
      chars += record.payload.length;
      while (kept.length > 16_384 || (chars > 8 * 1024 * 1024 && kept.length > 1)) {
        const gone = kept.shift() as LogRecord;
        chars -= gone.payload.length;
        floor = gone.id;
      }
    },
    forget(through: Cursor): void {
      kept = kept.filter(({ id }) => id > through);
      chars = kept.reduce((sum, { payload }) => sum + payload.length, 0);
      if (through > floor) floor = through;
    },
    of: (audiences: readonly string[]) =>
      kept.filter((record) => record.rooms.some((room) => audiences.includes(room))),
    get all(): readonly LogRecord[] {
      return kept;
    },
    get floor(): Cursor {
      return floor;
    },
  };
}

for (const [name, chars, count] of [
  ['by count', 4, 40_000],
  ['by the length of the payloads', 20_000, 2_000],
] as const) {
  test(`holds the newest records of each audience, bounded ${name}`, () => {
    const random = createRandom(7);
    const rooms: Room[] = Array.from({ length: 60 }, (_, n) => `ticket:${n}` as Room);
    const recent = createRecent(cursorOf(0));
    const model = createModel();
    let n = 0;
    const draw = (): LogRecord => {
      n++;
      // Rooms come and go, so that some have old records only.
      const room = rooms[(random.whole(0, 9) + Math.floor(n / (count / 50))) % rooms.length] as Room;
      return recordOf(n, ['tenant:t' as Room, room], random.whole(0, 2 * chars));
    };
    const check = (): void => {
      const { all, floor } = model;
      assert.ok(recent.knows(floor) && !recent.knows(cursorOf(n + 1)));
      for (const record of [all[0], all.at(-1), all[all.length >> 1]]) {
        if (record !== undefined) assert.ok(recent.knows(record.id));
      }
      const live = new Set(all.flatMap((record) => record.rooms));
      assert.deepEqual(new Set(recent.audiences()), live);
      for (const audiences of [['tenant:t'], [rooms[n % 60] as Room], rooms.slice(n % 50, (n % 50) + 5)]) {
        const expected = model.of(audiences);
        const page = recent.after(audiences, floor, 50, 1e9);
        assert.deepEqual(page?.records, expected.slice(0, 50));
        const middle = expected[expected.length >> 1]?.id ?? floor;
        const rest = recent.after(audiences, middle, 1e6, 1e12);
        assert.deepEqual(
          rest?.records,
          expected.filter(({ id }) => id > middle),
        );
        const since = START + n - Math.floor(all.length / 3);
        for (const audience of audiences) {
          const newer = model.of([audience]).filter(({ acceptedAtMs }) => acceptedAtMs >= since);
          assert.equal(recent.count(audience, since), newer.length);
        }
      }
      assert.equal(recent.after(['tenant:t'], cursorOf(0), 1, 1) === null, floor > cursorOf(0));
    };
    for (let round = 0; n < count; round++) {
      const batch = Array.from({ length: random.whole(1, 40) }, draw);
      recent.push(batch);
      for (const record of batch) model.push(record);
      if (round % 40 === 0) check();
      if (round % 500 === 499) {
        const through = model.all[random.whole(0, model.all.length - 1)]?.id as Cursor;
        recent.forget(through);
        model.forget(through);
        check();
      }
    }
    check();
    recent.forget(cursorOf(n));
    assert.deepEqual([...recent.audiences()], []);
    recent.restart(cursorOf(n + 5));
    assert.ok(recent.knows(cursorOf(n + 5)));
    recent.push([recordOf(n + 6, ['tenant:t' as Room], 1)]);
    assert.equal(recent.after(['tenant:t'], cursorOf(n + 5), 10, 10)?.records.length, 1);
  });
}

/**
 * The records that the tables do not show yet (projection.ts), as the reader sees them: a read never waits for the writer,
 * and never shows that a projection is behind.
 *
 * They are the records past the head row: a few thousand at most. They are entered here in memory, each once, and
 * forgotten when the head row has moved.
 */
import type { DatabaseSync } from 'node:sqlite';
import { audienceOf, type Keying } from '../../contract/audiences.ts';
import { CANONICAL_EVENTS } from '../../contract/names.ts';
import type { Position } from './operations.ts';
import { type Columns, declaredEvents, type LogState, prepareLogState, query, splitRooms } from './schema.ts';
import { createState, LOGGED_ROW, type LoggedRow, type State } from './state.ts';
import { createNewStretches } from './stretches.ts';

type IndexedRow = readonly [seq: number, nonce: string, atMs: number, tenant: string, rooms: string];

export interface Tail {
  /** The log with the tail. Call it first in the transaction of each read. */
  refresh(): LogState;
  readonly stretches: Pick<ReturnType<typeof createNewStretches>, 'first' | 'of'>;
  /** Rising. */
  seqsOfAudience(audience: string): readonly number[];
  /** All records of the tenant, rising. */
  seqsOfTenant(tenant: string): readonly number[];
  /** The tickets and messages that the tail changes; null: it is empty. */
  state(): State | null;
}

const NONE: readonly number[] = [];
/** Only these change tickets and messages. */
const WITH_FACTS = CANONICAL_EVENTS.map((name) => `'${name}'`).join();

export function createTail(db: DatabaseSync, keying: Keying): Tail {
  const select = <Row extends Columns>(text: string) => query<Row>(db, text);
  const readLog = prepareLogState(db);
  const indexedAfter = select<IndexedRow>(
    'SELECT seq, nonce, at, tenant, rooms FROM records WHERE seq > ? ORDER BY seq',
  );
  const recordsAfter = select<LoggedRow>(
    `SELECT ${LOGGED_ROW} FROM records WHERE seq > ? AND event IN (${WITH_FACTS}) ORDER BY seq`,
  );
  const selectRooms = select<[rooms: string]>('SELECT rooms FROM records WHERE seq = ?');
  const state = createState(db, (seq) => selectRooms.get(seq)?.[0] ?? null);
  const stretches = createNewStretches(db);
  const byAudience = new Map<string, number[]>();
  const byTenant = new Map<string, number[]>();
  let projectedSeq = -1;
  /** The newest record that is entered in the index, and the newest that is entered in the state. */
  let head: Position = [0, ''];
  let stateSeq = 0;
  let count = 0;

  function add(lists: Map<string, number[]>, key: string, seq: number): void {
    const list = lists.get(key);
    if (list === undefined) lists.set(key, [seq]);
    else list.push(seq);
  }

  return {
    refresh() {
      const log = readLog();
      if (log.head[0] !== projectedSeq) {
        byAudience.clear();
        byTenant.clear();
        state.reset();
        [projectedSeq] = log.head;
        stretches.restart(projectedSeq);
        stateSeq = projectedSeq;
        head = log.head;
        count = 0;
      }
      for (const [seq, nonce, atMs, tenant, rooms] of indexedAfter.iterate(head[0])) {
        for (const room of splitRooms(rooms)) add(byAudience, audienceOf(keying, tenant, room), seq);
        add(byTenant, tenant, seq);
        stretches.add(seq, atMs);
        head = [seq, nonce];
        count++;
      }
      return { ...log, head, kept: log.kept + count };
    },
    stretches,
    seqsOfAudience: (audience) => byAudience.get(audience) ?? NONE,
    seqsOfTenant: (tenant) => byTenant.get(tenant) ?? NONE,
    state() {
      if (head[0] === projectedSeq) return null;
      if (stateSeq < head[0]) {
        const declared = declaredEvents(db);
        for (const row of recordsAfter.iterate(stateSeq)) {
          state.enterLogged(row, declared);
          [stateSeq] = row;
        }
        [stateSeq] = head;
      }
      return state;
    },
  };
}

/**
 * The records that the tables do not show yet (projection.ts), as the reader sees them: a read never waits for the writer,
 * and never shows that a projection is behind.
 *
 * They are the records past the head row: a few thousand at most. They are entered here in memory, each once, and
 * forgotten when the head row has moved.
 */
import type { DatabaseSync } from 'node:sqlite';
import { audienceOf, type Keying } from '../../contract/audiences.ts';
import type { Position } from './operations.ts';
import {
  type Columns,
  declaredEvents,
  type LogState,
  prepareLogState,
  query,
  STRETCH_RECORDS,
  splitRooms,
  stretchOf,
} from './schema.ts';
import { createState, LOGGED_ROW, type LoggedRow, type State } from './state.ts';

type IndexedRow = readonly [seq: number, nonce: string, atMs: number, tenant: string, rooms: string];
type Instants = readonly [earliestMs: number, latestMs: number];

export interface Tail {
  /** The log with the tail. Call it first in the transaction of each read. */
  refresh(): LogState;
  /** The first stretch whose instants no table has. */
  readonly firstStretch: number;
  /** The earliest and the latest instant of a stretch from `firstStretch` on; null: it is empty. */
  instantsOf(stretch: number): Instants | null;
  /** Rising. */
  seqsOfAudience(audience: string): readonly number[];
  /** All records of the tenant, rising. */
  seqsOfTenant(tenant: string): readonly number[];
  /** The tickets and messages that the tail changes; null: it is empty. */
  state(): State | null;
}

const NONE: readonly number[] = [];

export function createTail(db: DatabaseSync, keying: Keying): Tail {
  const select = <Row extends Columns>(text: string) => query<Row>(db, text);
  const readLog = prepareLogState(db);
  const indexedAfter = select<IndexedRow>(
    'SELECT seq, nonce, at, tenant, rooms FROM records WHERE seq > ? ORDER BY seq',
  );
  const selectInstants = select<[earliestMs: number | null, latestMs: number | null]>(
    'SELECT min(at), max(at) FROM records WHERE seq >= ? AND seq <= ?',
  );
  const recordsAfter = select<LoggedRow>(`SELECT ${LOGGED_ROW} FROM records WHERE seq > ? ORDER BY seq`);
  const selectRooms = select<[rooms: string]>('SELECT rooms FROM records WHERE seq = ?');
  const state = createState(db, (seq) => selectRooms.get(seq)?.[0] ?? null);
  const byAudience = new Map<string, number[]>();
  const byTenant = new Map<string, number[]>();
  const instants = new Map<number, Instants>();
  let isFirstComplete = false;
  let projectedSeq = -1;
  /** The newest record that is entered in the index, and the newest that is entered in the state. */
  let head: Position = [0, ''];
  let stateSeq = 0;
  let count = 0;

  function addInstants(stretch: number, earliestMs: number, latestMs: number): void {
    const [earliest, latest] = instants.get(stretch) ?? [earliestMs, latestMs];
    instants.set(stretch, [Math.min(earliest, earliestMs), Math.max(latest, latestMs)]);
  }

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
        instants.clear();
        isFirstComplete = false;
        state.reset();
        [projectedSeq] = log.head;
        stateSeq = projectedSeq;
        head = log.head;
        count = 0;
      }
      for (const [seq, nonce, atMs, tenant, rooms] of indexedAfter.iterate(head[0])) {
        for (const room of splitRooms(rooms)) add(byAudience, audienceOf(keying, tenant, room), seq);
        add(byTenant, tenant, seq);
        addInstants(stretchOf(seq), atMs, atMs);
        head = [seq, nonce];
        count++;
      }
      return { ...log, head, kept: log.kept + count };
    },
    get firstStretch() {
      return stretchOf(projectedSeq + 1);
    },
    instantsOf(stretch) {
      const first = stretchOf(projectedSeq + 1);
      if (stretch === first && !isFirstComplete) {
        // The tables show a part of it.
        const [earliestMs, latestMs] = selectInstants.get(first * STRETCH_RECORDS, projectedSeq) ?? [null, null];
        if (earliestMs !== null && latestMs !== null) addInstants(first, earliestMs, latestMs);
        isFirstComplete = true;
      }
      return instants.get(stretch) ?? null;
    },
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
      }
      return state;
    },
  };
}

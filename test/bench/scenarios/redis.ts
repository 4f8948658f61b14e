/** h: a and c with Redis in place of SQLite. */
import { ours } from '../contenders.ts';
import { atLeast, atMost, type Scenario } from '../figures.ts';
import { shapesOf } from './fan-out.ts';
import { entrant, FAN_OUT_COLUMNS, fanOut, PACE_PER_SECOND, PACED_COLUMNS, paced, type Size } from './measures.ts';

export function redis(size: Size): Scenario {
  const shapes = shapesOf(size);
  const listeners = size.connections(size.quick ? 200 : 1000);
  const pace = `${listeners} listeners, ${PACE_PER_SECOND} events/s`;
  const both = [ours.sseOnRedis, ours.sse];
  const [onRedis, onSqlite] = [ours.sseOnRedis.name, ours.sse.name];
  return {
    name: 'h',
    title: 'Redis in place of SQLite',
    runs: 2,
    isCompared: false,
    cases: [
      ...shapes.map(({ name, listeners, events }) => ({
        name,
        columns: FAN_OUT_COLUMNS,
        entrants: both.map((one) => entrant(one, fanOut(one, listeners, events))),
      })),
      {
        name: pace,
        columns: PACED_COLUMNS,
        entrants: both.map((one) => entrant(one, paced(one, listeners, size.quick ? 5 : 15))),
      },
    ],
    targets: ({ ratio }) => [
      ...shapes.map(({ name }) =>
        atLeast(`${name}: rate to SQLite's`, ratio(name, onRedis, onSqlite, 'perSecond'), 0.8),
      ),
      atMost(`${pace}: p50 to SQLite's`, ratio(pace, onRedis, onSqlite, 'p50Ms'), 1.25),
      atMost(`${pace}: p99 to SQLite's`, ratio(pace, onRedis, onSqlite, 'p99Ms'), 1.25),
    ],
  };
}

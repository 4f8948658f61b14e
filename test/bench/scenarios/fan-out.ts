/** a and b: how many deliveries a second one core makes, over SSE and over Socket.IO's websocket transport. */
import { ours, peers } from '../contenders.ts';
import { atLeast, atMost, reported, type Scenario } from '../figures.ts';
import { entrant, FAN_OUT_COLUMNS, fanOut, PACE_PER_SECOND, PACED_COLUMNS, paced, type Size } from './measures.ts';

export interface Shape {
  readonly name: string;
  readonly listeners: number;
  readonly events: number;
}

export function shapesOf({ quick, connections }: Size): Shape[] {
  const shapes = quick
    ? [
        [200, 500],
        [50, 2000],
        [1000, 100],
      ]
    : [
        [1000, 500],
        [100, 5000],
        [5000, 100],
      ];
  return shapes.map(([listeners = 0, events = 0]) => {
    const fitting = connections(listeners);
    return { name: `${fitting} listeners × ${events} events`, listeners: fitting, events };
  });
}

export function sseFanOut(size: Size): Scenario {
  const shapes = shapesOf(size);
  const listeners = size.connections(size.quick ? 200 : 1000);
  const alone = `${listeners} listeners, ${PACE_PER_SECOND} events/s`;
  const seconds = size.quick ? 5 : 15;
  const all = [ours.sse, peers.nchan, peers.betterSse, peers.hono, peers.bare, peers.bareTick];
  return {
    name: 'a',
    title: 'SSE fan-out',
    cases: [
      ...shapes.map((shape) => ({
        name: shape.name,
        columns: FAN_OUT_COLUMNS,
        entrants: all.map((one) => entrant(one, fanOut(one, shape.listeners, shape.events))),
      })),
      {
        name: alone,
        columns: PACED_COLUMNS.filter(({ key }) => ['cpuUs', 'missing'].includes(key)),
        entrants: [ours.sse, peers.nchan, peers.bare].map((one) => entrant(one, paced(one, listeners, seconds))),
      },
    ],
    targets: ({ ratio }) => [
      ...shapes.flatMap(({ name }) => [
        atLeast(`${name}: rate to nchan's`, ratio(name, ours.sse.name, peers.nchan.name, 'perSecond'), 2),
        reported(
          `${name}: rate to the coalescing bare server's`,
          ratio(name, ours.sse.name, peers.bareTick.name, 'perSecond'),
          'aim at 0.85 ×',
        ),
      ]),
      atMost(
        `${alone}: CPU per delivery to the bare server's`,
        ratio(alone, ours.sse.name, peers.bare.name, 'cpuUs'),
        1.15,
      ),
    ],
  };
}

export function socketIoFanOut(size: Size): Scenario {
  const shapes = shapesOf(size);
  return {
    name: 'b',
    title: 'Socket.IO fan-out, websocket',
    cases: shapes.map((shape) => ({
      name: shape.name,
      columns: FAN_OUT_COLUMNS,
      entrants: [ours.websocket, peers.socketio, ours.sse].map((one) =>
        entrant(one, fanOut(one, shape.listeners, shape.events)),
      ),
    })),
    targets: ({ ratio }) =>
      shapes.flatMap(({ name }) => [
        atLeast(
          `${name}: rate to plain Socket.IO's`,
          ratio(name, ours.websocket.name, peers.socketio.name, 'perSecond'),
          3,
        ),
        atLeast(`${name}: rate to our SSE's`, ratio(name, ours.websocket.name, ours.sse.name, 'perSecond'), 0.7),
      ]),
  };
}

/** a and b: how many deliveries a second one core makes, over SSE and over Socket.IO's websocket transport. */
import { type Contender, ours, peers } from '../contenders.ts';
import { atLeast, once, reported, type Scenario } from '../figures.ts';
import { entrant, FAN_OUT_COLUMNS, fanOut, type Size } from './measures.ts';

export interface Shape {
  readonly name: string;
  readonly listeners: number;
  readonly events: number;
  readonly wanted: Wanted;
}

/** Of the rate over SSE, to the peers'. */
interface Wanted {
  readonly toNchan: number;
  /** Not everywhere in reach. */
  readonly aim?: number;
  readonly toCentrifugo?: number;
}

/** Listeners and events, in full and where the bench is to be quick. */
const SHAPES: readonly (Wanted & { readonly full: [number, number]; readonly quick: [number, number] })[] = [
  { full: [1000, 500], quick: [200, 500], toNchan: 2, toCentrifugo: 2.5 },
  { full: [100, 5000], quick: [50, 2000], toNchan: 1, aim: 1.2 },
  { full: [5000, 100], quick: [1000, 100], toNchan: 3 },
];

export function shapesOf({ quick, connections }: Size): Shape[] {
  return SHAPES.map((shape) => {
    const [wished, events] = quick ? shape.quick : shape.full;
    const listeners = connections(wished);
    return { name: `${listeners} listeners × ${events} events`, listeners, events, wanted: shape };
  });
}

export function sseFanOut(size: Size): Scenario {
  const shapes = shapesOf(size);
  const all = [ours.sse, peers.nchan, peers.centrifugo, peers.durableStreams, peers.bare];
  const slow = [peers.betterSse, peers.hono];
  return {
    name: 'a',
    title: 'SSE fan-out',
    runs: 3,
    isCompared: true,
    cases: shapes.map((shape) => ({
      name: shape.name,
      columns: FAN_OUT_COLUMNS,
      entrants: [...all, ...slow].map((one) => {
        const measured = entrant(one, fanOut(one, shape.listeners, shape.events));
        return slow.includes(one) ? once(measured) : measured;
      }),
    })),
    targets: ({ ratio }) =>
      shapes.flatMap(({ name, wanted: { toNchan, aim, toCentrifugo } }) => {
        const to = (peer: Contender) => ratio(name, ours.sse.name, peer.name, 'perSecond');
        const [nchans, centrifugos] = [`${name}: rate to nchan's`, `${name}: rate to Centrifugo's`];
        return [
          atLeast(nchans, to(peers.nchan), toNchan),
          ...(aim === undefined ? [] : [reported(nchans, to(peers.nchan), `aim at ${aim} ×`)]),
          ...(toCentrifugo === undefined ? [] : [atLeast(centrifugos, to(peers.centrifugo), toCentrifugo)]),
        ];
      }),
  };
}

export function socketIoFanOut(size: Size): Scenario {
  const shapes = shapesOf(size);
  return {
    name: 'b',
    title: 'Socket.IO fan-out, websocket',
    runs: 3,
    isCompared: false,
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

/**
 * A process of listeners, on raw sockets: many SSE streams, or Socket.IO clients over websocket, that count what is
 * delivered. A delivery is a stamp (`"sentAt":` and 16 digits) found in the bytes; nothing is parsed. One buffer serves
 * all reads, so that the load costs less than what it measures.
 */
import { connect as connectTo, type Socket } from 'node:net';
import { nowUs } from './clock.ts';
import {
  type Connected,
  type ConnectOptions,
  type Counted,
  type CountOptions,
  nameOf,
  reportProgress,
  SIGNAL,
  SIGNAL_SHIFT_US,
  type SignalOptions,
  STAMP,
  STAMP_DIGITS,
  serve,
  type Tickets,
} from './protocol.ts';
import { createSamples } from './samples.ts';

const READ_BYTES = 256 * 1024;
/** Connects under way at once. */
const PARALLEL = 128;
const PROGRESS_MS = 250;
const STAMP_BYTES = STAMP.length + STAMP_DIGITS;

interface Listener {
  readonly socket: Socket;
  readonly room: number;
  readonly ticket: string | null;
  /** What came before it was ready. */
  greeting: string;
  /** How far the websocket handshake is. */
  step: number;
  ready: boolean;
  /** The last bytes read, which may hold the beginning of a stamp. */
  readonly tail: Buffer;
  tailLength: number;
}

const mark = Buffer.from(STAMP);
const readInto = Buffer.allocUnsafeSlow(READ_BYTES);
const seam = Buffer.alloc(2 * STAMP_BYTES);
let closed = 0;
let counting = startCount(Number.POSITIVE_INFINITY, () => {});

function startCount(expected: number, reached: () => void) {
  return {
    ...{ expected, reached, deliveries: 0, firstUs: 0, lastUs: 0, samples: createSamples(), closedBefore: closed },
    ...{ signals: 0, signalSamples: createSamples() },
  };
}

// ---- counting

function scan(listener: Listener, chunk: Buffer): void {
  const readAtUs = nowUs();
  const { tail, tailLength } = listener;
  let from = 0;
  if (tailLength > 0) {
    // A stamp began in the last read. It ends within the first bytes of this one, unless they are too few.
    tail.copy(seam, 0, 0, tailLength);
    const end = tailLength + chunk.copy(seam, tailLength, 0, STAMP_BYTES - 1);
    const together = seam.subarray(0, end);
    const at = together.indexOf(mark);
    if (at !== -1 && at < tailLength && at + STAMP_BYTES <= end) {
      count(together, at, readAtUs);
      from = at + STAMP_BYTES - tailLength;
    } else if (chunk.length < STAMP_BYTES - 1) {
      keepTail(listener, together, 0);
      return;
    }
  }
  for (;;) {
    const at = chunk.indexOf(mark, from);
    if (at === -1 || at + STAMP_BYTES > chunk.length) break;
    count(chunk, at, readAtUs);
    from = at + STAMP_BYTES;
  }
  keepTail(listener, chunk, from);
}

/** Keeps the end of the bytes from where a stamp may begin that is not whole. */
function keepTail(listener: Listener, bytes: Buffer, from: number): void {
  let start = Math.max(from, bytes.length - STAMP_BYTES + 1);
  while (start < bytes.length && !(bytes[start] === mark[0] && (bytes[start + 1] ?? mark[1]) === mark[1])) start++;
  listener.tailLength = start === bytes.length ? 0 : bytes.copy(listener.tail, 0, start);
}

function count(bytes: Buffer, at: number, readAtUs: number): void {
  let sentAtUs = 0;
  for (let i = at + STAMP.length; i < at + STAMP_BYTES; i++) sentAtUs = sentAtUs * 10 + (bytes[i] as number) - 48;
  if (sentAtUs > 2 * SIGNAL_SHIFT_US) {
    counting.signals++;
    counting.signalSamples.add(readAtUs - sentAtUs + SIGNAL_SHIFT_US);
    return;
  }
  if (counting.deliveries++ === 0) counting.firstUs = readAtUs;
  counting.lastUs = readAtUs;
  counting.samples.add(readAtUs - sentAtUs);
  if (counting.deliveries === counting.expected) counting.reached();
}

// ---- Engine.IO 4 and Socket.IO over websocket (RFC 6455), just enough to join a room and stay

/** A text frame; clients must mask, and a mask of zeros leaves the text as it is. */
function frameOf(text: string): Buffer {
  const { length } = text;
  if (length > 0xffff) throw new Error('only short frames are sent');
  const head = length < 126 ? [0x80 | length] : [0x80 | 126, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([0x81, ...head, 0, 0, 0, 0]), Buffer.from(text)]);
}

/** A text frame of the one letter `2`. No payload here holds such bytes: they are ASCII, and messages begin with `4`. */
const PING = Buffer.from([0x81, 0x01, 0x32]);
const PONG = frameOf('3');
const HANDSHAKE = [
  { awaits: '\r\n\r\n', answers: null },
  { awaits: '0{', answers: '40' },
  { awaits: '40{', answers: null },
];
/** The acknowledgement asked for by all that a listener emits. */
const ACK = '0';
const JOINED = `43${ACK}[{"ok":true`;

function joinOf({ room, ticket }: Listener): string {
  const tenantId = `tenant-${room}`;
  const join = ticket === null ? ['join-tenant', tenantId] : ['join', [`tenant:${tenantId}`, `ticket:${ticket}`]];
  return `42${ACK}${JSON.stringify(join)}`;
}

function shakeHands(listener: Listener): void {
  for (let step = HANDSHAKE[listener.step]; step !== undefined; step = HANDSHAKE[++listener.step]) {
    const at = listener.greeting.indexOf(step.awaits);
    if (at === -1) return;
    listener.greeting = listener.greeting.slice(at + step.awaits.length);
    if (step.answers !== null) listener.socket.write(frameOf(step.answers));
    if (listener.step + 1 === HANDSHAKE.length) listener.socket.write(frameOf(joinOf(listener)));
  }
  listener.ready = listener.greeting.includes(JOINED);
}

// ---- connecting

function requestOf({ mode, httpVersion = '1.1' }: ConnectOptions, path: string): string {
  const headers =
    mode === 'sse'
      ? ['Accept: text/event-stream', 'Cache-Control: no-cache']
      : [
          'Connection: Upgrade',
          'Upgrade: websocket',
          'Sec-WebSocket-Version: 13',
          'Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==',
        ];
  return `GET ${path} HTTP/${httpVersion}\r\nHost: 127.0.0.1\r\n${headers.join('\r\n')}\r\n\r\n`;
}

function greet(listener: Listener, { mode, httpVersion = '1.1' }: ConnectOptions, chunk: Buffer): void {
  listener.greeting += chunk.toString('latin1');
  const status = `HTTP/${httpVersion} ${mode === 'sse' ? 200 : 101}`;
  if (listener.step === 0 && listener.greeting.length >= status.length && !listener.greeting.startsWith(status)) {
    throw new Error(listener.greeting.slice(0, 300));
  }
  if (mode === 'websocket') shakeHands(listener);
  else listener.ready = listener.greeting.includes('\r\n\r\n');
}

/** @param order the connection's, among those of its room */
function ticketOf({ name, sizes }: Tickets, room: number, order: number): string {
  const all = sizes.reduce((sum, size) => sum + size, 0);
  let rest = order % all;
  return nameOf(
    name,
    room,
    sizes.findIndex((size) => {
      rest -= size;
      return rest < 0;
    }),
  );
}

/** Resolves once it is ready. */
function open(options: ConnectOptions, index: number): Promise<void> {
  const { mode, port, path, rooms, tickets } = options;
  const room = index % rooms;
  const ticket = tickets === undefined ? null : ticketOf(tickets, room, Math.floor(index / rooms));
  return new Promise((resolve, reject) => {
    const socket = connectTo({
      host: '127.0.0.1',
      port,
      noDelay: true,
      onread: {
        buffer: readInto,
        callback(bytes) {
          const chunk = readInto.subarray(0, bytes);
          if (!listener.ready) {
            try {
              greet(listener, options, chunk);
            } catch (error) {
              reject(error);
              socket.destroy();
            }
            if (!listener.ready) return true;
            listener.greeting = '';
            listeners.push(listener);
            resolve();
          }
          scan(listener, chunk);
          if (mode === 'websocket' && chunk.includes(PING)) socket.write(PONG);
          return true;
        },
      },
    });
    const listener: Listener = {
      ...{ socket, room, ticket, greeting: '', step: 0, ready: false },
      ...{ tail: Buffer.alloc(STAMP_BYTES), tailLength: 0 },
    };
    socket.on('connect', () => socket.write(requestOf(options, nameOf(path, room))));
    socket.on('error', reject);
    socket.on('close', () => {
      if (listener.ready) closed++;
      else reject(new Error('closed before it was ready'));
    });
  });
}

async function connect(options: ConnectOptions): Promise<Connected> {
  const { connections, timeoutMs } = options;
  const startedAt = performance.now();
  const outcome = { ready: 0, failed: 0, reason: null as string | null };
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < connections && performance.now() - startedAt < timeoutMs) {
      const index = next++;
      try {
        await open(options, index);
        outcome.ready++;
      } catch (error) {
        outcome.failed++;
        outcome.reason ??= error instanceof Error ? error.message : String(error);
      }
    }
  };
  const lanes = Promise.all(Array.from({ length: Math.min(PARALLEL, connections) }, lane));
  const outOfTime = new Promise((resolve) => setTimeout(resolve, timeoutMs).unref());
  await Promise.race([lanes, outOfTime]);
  return { ...outcome, seconds: (performance.now() - startedAt) / 1000 };
}

let stopCounting = (): void => {};

async function countDeliveries({ deliveries, timeoutMs }: CountOptions): Promise<Counted> {
  const cpuBefore = process.cpuUsage();
  const startedAt = performance.now();
  const progress = setInterval(() => reportProgress(counting.deliveries), PROGRESS_MS);
  await new Promise<void>((resolve) => {
    const timeout = setTimeout(resolve, timeoutMs);
    stopCounting = () => {
      clearTimeout(timeout);
      resolve();
    };
    counting = startCount(deliveries, stopCounting);
  });
  clearInterval(progress);
  const { user, system } = process.cpuUsage(cpuBefore);
  return {
    deliveries: counting.deliveries,
    closed: closed - counting.closedBefore,
    seconds: (counting.lastUs - counting.firstUs) / 1e6,
    latency: counting.samples.latency(),
    signals: { deliveries: counting.signals, latency: counting.signalSamples.latency() },
    load: (user + system) / 1000 / (performance.now() - startedAt),
  };
}

// ---- signalling

/** What is due is looked for so often. */
const PACE_MS = 1;
const listeners: Listener[] = [];
let pace: NodeJS.Timeout | undefined;

/** The frames are made once; only their stamps change. */
function keepSignalling(options: SignalOptions | null): void {
  clearInterval(pace);
  if (options === null) return;
  const { perSecond, acks } = options;
  const frames = listeners.map(({ ticket }) => {
    const signal = `{"event":"${SIGNAL}","room":"ticket:${ticket}","payload":{${STAMP}${'0'.repeat(STAMP_DIGITS)}}}`;
    return frameOf(`42${acks ? ACK : ''}["signal",${signal}]`);
  });
  const stampsAt = frames.map((frame) => frame.indexOf(STAMP) + STAMP.length);
  const startedAt = performance.now();
  let sent = 0;
  pace = setInterval(() => {
    const due = ((performance.now() - startedAt) / 1000) * perSecond;
    for (; sent < due; sent++) {
      const turn = sent % frames.length;
      const frame = frames[turn] as Buffer;
      frame.write(String(nowUs() + SIGNAL_SHIFT_US), stampsAt[turn] as number, 'latin1');
      listeners[turn]?.socket.write(frame);
    }
  }, PACE_MS);
}

serve(async (request) => {
  if (request.kind === 'connect') return connect(request.options);
  if (request.kind === 'count') return countDeliveries(request.options);
  if (request.kind === 'stop') stopCounting();
  if (request.kind === 'signal') keepSignalling(request.options);
  return null;
});

/**
 * Texts between the nodes of one log, over Redis pub/sub: best effort, beside the log, and on a connection of their own,
 * which is made for the first listener.
 *
 * A text can be late: Redis or a node hangs, and what waits in a socket arrives when it wakes. So each text has the time
 * of its `broadcast` by the clock of Redis, which all nodes know from its answers (the clocks of nodes may differ).
 */
import { setImmediate as immediate, setTimeout as sleep } from 'node:timers/promises';
import { ErrorReply } from 'redis';
import type { NodeChannel } from '../store.ts';
import { type Client, type Connection, type Context, createConnection, Refused } from './connection.ts';
import { randomText } from './record.ts';
import { defineScript } from './script.ts';

/** Texts that wait to be sent. Past it, `broadcast` drops the text. */
const MAX_WAITING_BYTES = 1024 * 1024;
/** What the bookkeeping of a text counts for, so that short texts are bounded, too. */
const TEXT_BYTES = 64;
/** From one message to the next, so that a node sends at most 200 a second, whatever the number of texts. */
const GATHER_MS = 5;
/** Between two looks at the clock of Redis, which also tell that the connection lives. */
const BEAT_MS = 1_000;
/** A connection without an answer for this long is replaced. */
const ANSWER_MS = 2_000;
/** Nodes whose last number is known. A node that restarts counts as another. */
const MAX_SENDERS = 1_000;

/** The name of the node, the number of the message, and JSON: each text after the instant of its `broadcast`. */
const MESSAGE = /^([0-9a-z]{8}) (\d{1,15})\n(.*)$/s;

/** Another program can write to the channel, too. */
function parseEntries(list: string): (number | string)[] {
  try {
    const entries: unknown = JSON.parse(list);
    return Array.isArray(entries) ? entries : [];
  } catch {
    return [];
  }
}

/** Milliseconds since 1970. */
const parseTime = (reply: unknown): number => {
  const [seconds, microseconds] = reply as [string, string];
  return Number(seconds) * 1_000 + Number(microseconds) / 1_000;
};

const BEAT = defineScript('beat', () => [], parseTime);

export function createChannel({ target, connections, logger, signal }: Context): NodeChannel {
  // Channels do not belong to a database, as keys do.
  const name = `${target.keyPrefix}channel:${target.database}`;
  const self = randomText(8);
  let connection: Connection | null = null;
  let listener: (text: string, ageMs: number) => void = () => {};
  let isRefused = false;
  /** How far the clock of Redis is ahead of this process's monotonic clock. */
  let aheadMs = 0;
  /** In the order of `broadcast`, each text after the instant of its call. */
  let waiting: (number | string)[] = [];
  let waitingBytes = 0;
  let isSending = false;
  let sent = 0;
  /** The number of the newest message of each node. */
  const received = new Map<string, number>();

  /** The answer was made between these instants. That bounds the difference of the clocks, and so do earlier answers. */
  async function readClock(read: () => Promise<number>, isFirst = false): Promise<void> {
    const askedMs = performance.now();
    const redisMs = await read();
    const atLeast = redisMs - performance.now();
    const atMost = redisMs - askedMs;
    aheadMs = isFirst ? (atLeast + atMost) / 2 : Math.min(Math.max(aheadMs, atLeast), atMost);
  }

  async function greet(client: Client): Promise<void> {
    try {
      // The clock first, because it may be that of another Redis than before.
      await readClock(async () => parseTime(await client.sendCommand(['TIME'])), true);
      await client.subscribe(name, receive);
    } catch (error) {
      if (error instanceof ErrorReply) noteRefused(error.message);
      throw error;
    }
  }

  function noteRefused(cause: string): void {
    if (!isRefused) logger.error({ cause }, 'Redis refuses pub/sub; nodes do not share signals until it allows it');
    isRefused = true;
  }

  async function beat({ ready, run }: Connection): Promise<void> {
    if (!ready()) return;
    // A fault ends the connection or passes.
    await readClock(() => run(BEAT, undefined, ANSWER_MS)).catch(() => {});
  }

  async function send(through: Connection): Promise<void> {
    isSending = true;
    // After the I/O of this event-loop turn, so that texts that arrive together are sent together.
    await immediate();
    while (waiting.length > 0) {
      await Promise.all([publish(through), sleep(GATHER_MS)]);
    }
    isSending = false;
  }

  /** Never again if it fails: Redis may have it already, or will have it later. */
  async function publish({ command }: Connection): Promise<void> {
    const entries = waiting.map((entry) => (typeof entry === 'number' ? entry + aheadMs : entry));
    waiting = [];
    waitingBytes = 0;
    try {
      await command(['PUBLISH', name, `${self} ${++sent}\n${JSON.stringify(entries)}`], ANSWER_MS);
      if (isRefused) logger.info({}, 'Redis allows pub/sub again');
      isRefused = false;
    } catch (error) {
      if (error instanceof Refused || error instanceof ErrorReply) noteRefused(error.message);
      waiting = [];
      waitingBytes = 0;
    }
  }

  function receive(message: string): void {
    if (signal.aborted || message.startsWith(self)) return;
    const [, sender = '', digits = '', list = '[]'] = MESSAGE.exec(message) ?? [];
    // A message on a connection that was given up can arrive after later ones.
    const number = Number(digits);
    if (number <= (received.get(sender) ?? 0)) return;
    received.delete(sender);
    received.set(sender, number);
    const [oldest = ''] = received.keys();
    if (received.size > MAX_SENDERS) received.delete(oldest);
    const nowMs = performance.now() + aheadMs;
    const entries = parseEntries(list);
    for (let i = 0; i < entries.length; i += 2) {
      try {
        listener(entries[i + 1] as string, Math.max(0, nowMs - (entries[i] as number)));
      } catch (error) {
        logger.error({ err: error }, 'the listener of the channel threw an error; it still gets the next text');
      }
    }
  }

  return {
    broadcast(text) {
      const bytes = Buffer.byteLength(text) + TEXT_BYTES;
      if (!connection?.ready() || waitingBytes + bytes > MAX_WAITING_BYTES) return false;
      waiting.push(performance.now(), text);
      waitingBytes += bytes;
      if (!isSending) void send(connection);
      return true;
    },
    onBroadcast(to) {
      if (signal.aborted) return;
      listener = to;
      const opened = createConnection(target, 'channel', logger, greet);
      connections.add(opened);
      connection = opened;
      const beating = setInterval(() => void beat(opened), BEAT_MS);
      signal.addEventListener('abort', () => clearInterval(beating));
    },
  };
}

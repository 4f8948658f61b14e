/**
 * `GET /sse`: the events of some rooms as Server-Sent Events (protocol §6; WHATWG HTML, section 9.2).
 *
 * A stream is written to the bare socket (response-writer.ts): web streams cost several times the CPU and hide write failures. Each
 * batch is encoded once per view, as one prepared chunk of the chunked transfer coding (RFC 9112 §7.1). A request over
 * HTTP/1.0, as nginx's defaults make them, gets the same bytes unchunked, ended by the close.
 */

import type { IncomingMessage } from 'node:http';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { answer, type BridgeContext } from '../../answers/answer.ts';
import { hasExchangeEnded } from '../../answers/exchange.ts';
import { STREAM_HEADERS } from '../../answers/headers.ts';
import { flag, integer, list, parseQuery, requireWellFormedCursor, text } from '../../answers/query.ts';
import { ROOM_QUERY, roomsToJoin, viewOf } from '../../answers/rooms.ts';
import { EXPIRED_LINGER_MS, EXPIRY_GRACE_MS } from '../../auth/expiry.ts';
import type { Principal } from '../../auth/principal.ts';
import { type Batch, encodeBatch, encodeRecord } from '../../bus/batch.ts';
import type { Bus } from '../../bus/bus.ts';
import type { JoinedRoom, Mode, Sink, Subscription } from '../../bus/subscription.ts';
import type { Config } from '../../config.ts';
import type { Cursor } from '../../contract/cursor.ts';
import { BridgeError } from '../../contract/errors.ts';
import { framesOf, type LogRecord, type View } from '../../contract/frames.ts';
import { BRIDGE_CURSOR, BRIDGE_ERROR, BRIDGE_RESET } from '../../contract/names.ts';
import type { Reset, Start } from '../../contract/reset.ts';
import type { Room } from '../../contract/rooms.ts';
import type { Logger } from '../../logger.ts';
import type { Metrics } from '../../metrics/metrics.ts';
import { createDeliveryCounter, type DeliveryCounter } from '../delivery-counter.ts';
import type { Gate } from '../gate.ts';
import { askForSocket, openWire, type Part, partOf, type Wire } from './response-writer.ts';

const MAX_PADDING_BYTES = 8192;
const MAX_LIFE_SECONDS = 3600;
/** How long a client may take the rest of a stream that has ended; then the connection is cut. */
const LINGER_MS = 30_000;
/** Forms that are kept to be shared: clients may think up any number of views. */
const MOST_FORMS = 100;
/** Streams are looked after together, so often: heartbeats, lives, expiries. */
const LONGEST_TICK_MS = 1_000;

export const SSE_QUERY = {
  ...ROOM_QUERY,
  events: list('Names of the events to keep; all when left out.'),
  legacy: flag(true, 'Whether the legacy aliases are sent before each canonical event.'),
  after: text('A cursor to resume from; the header `Last-Event-ID` goes before it.'),
  padding: integer(
    0,
    MAX_PADDING_BYTES,
    0,
    'Bytes of leading comment, for intermediaries that hold back the first bytes.',
  ),
  life: integer(1, MAX_LIFE_SECONDS, 0, 'Seconds after which the server ends the stream cleanly. Left out: no end.'),
} as const;

export interface SseDeps {
  readonly bus: Bus;
  readonly config: Config;
  readonly metrics: Metrics;
  readonly logger: Logger;
  readonly gate: Gate;
  readonly principalOf: (context: BridgeContext) => Promise<Principal>;
}

export interface SseTransport {
  handle(context: BridgeContext): Promise<Response>;
  /** Ends every stream, telling each client when to come back. */
  drain(): void;
}

/** What all streams of one view share. */
interface Form {
  readonly key: string;
  readonly encode: (batch: Batch) => Part | null;
  readonly countDelivery: DeliveryCounter;
}

export function createSse({ bus, config, metrics, logger, gate, principalOf }: SseDeps): SseTransport {
  const streams = new Set<Stream>();
  const forms = new Map<string, Form>();
  let ticking: NodeJS.Timeout | null = null;

  async function handle(context: BridgeContext): Promise<Response> {
    const { incoming, outgoing } = context.env;
    try {
      const query = parseQuery(new URL(context.req.url).searchParams, SSE_QUERY);
      // The connection of a stream with an end serves on after it.
      if (query.life === 0) askForSocket(incoming, outgoing);
      const principal = await principalOf(context);
      const rooms = roomsToJoin(principal, query, config.maxRooms);
      const after = resumesFrom(incoming, query.after);
      const release = await gate.admit(incoming);
      try {
        const start: Start = after === null ? { kind: 'ok', cursor: bus.head } : await bus.resolve(after);
        if (gate.draining) throw new BridgeError('unavailable', 'The server is shutting down.');
        if (incoming.method === 'HEAD' || hasExchangeEnded(incoming, outgoing)) {
          release();
          outgoing.writeHead(200, STREAM_HEADERS).end();
          return RESPONSE_ALREADY_SENT;
        }
        outgoing.writeHead(200, STREAM_HEADERS);
        const stream = new Stream(
          formOf(viewOf(query, config)),
          performance.now() + (query.life === 0 ? Number.POSITIVE_INFINITY : query.life * 1000),
          (principal.kind === 'token' ? principal.expiresAtMs : null) ?? Number.POSITIVE_INFINITY,
        );
        stream.wire = openWire(incoming, outgoing, () => {
          release();
          stream.close();
        });
        open(stream, { rooms, start, resumes: after !== null, padding: query.padding });
        return RESPONSE_ALREADY_SENT;
      } catch (error) {
        release();
        throw error;
      }
    } catch (error) {
      return inBand(context, error);
    }
  }

  /**
   * EventSource gives up for good on any status but 200, so a fault that will pass is told within the stream; the
   * client comes back after `retry`. Requests that do not ask for an event stream by name get the status.
   */
  function inBand(context: BridgeContext, error: unknown): Response {
    const passing = error instanceof BridgeError && error.passing;
    if (!passing || context.req.method === 'HEAD' || !acceptsEventStream(context.req.header('accept'))) throw error;
    metrics.refused(error.code);
    // Those refused together are not to come back together, nor before there is hope.
    const leastMs = (error.retryAfterSeconds ?? 0) * 1000;
    const retryMs = leastMs + jitter(Math.max(config.retryMs, leastMs / 2));
    const body = `retry: ${retryMs}\n${block(BRIDGE_ERROR, null, JSON.stringify({ code: error.code, message: error.message }))}`;
    return answer(context, 200, STREAM_HEADERS, body);
  }

  function formOf(view: View): Form {
    const known = forms.get(view.key);
    if (known !== undefined) return known;
    const key = `sse:${view.key}`;
    const form: Form = {
      key,
      encode: (batch) => encode(batch, key, view),
      countDelivery: createDeliveryCounter(metrics, 'sse', view),
    };
    if (forms.size === MOST_FORMS) forms.clear();
    forms.set(view.key, form);
    return form;
  }

  interface Opening {
    readonly rooms: ReadonlyMap<Room, JoinedRoom>;
    readonly start: Start;
    readonly resumes: boolean;
    readonly padding: number;
  }

  function open(stream: Stream, { rooms, start, resumes, padding }: Opening): void {
    const opened = [
      padding === 0 ? '' : `:${' '.repeat(padding)}\n`,
      `retry: ${jitter(config.retryMs)}\n`,
      start.kind === 'reset' ? resetBlock(start) : '',
      cursorBlock(start.cursor),
    ];
    if (start.kind === 'reset') metrics.reset('sse', start.reason);
    stream.wire.write(partOf(opened.join('')));
    streams.add(stream);
    metrics.connected('sse', 1);
    startTicking();
    stream.subscription = bus.subscribe({ rooms, after: resumes ? start.cursor : null }, stream);
  }

  /** One connection. There may be tens of thousands, so it is one object, and all of them share their functions. */
  class Stream implements Sink {
    wire!: Wire;
    subscription!: Subscription;
    /** When something was last written, on the monotonic clock. */
    lastWriteMs = performance.now();
    readonly endsAtMs: number;
    readonly expiresAtMs: number;
    readonly #form: Form;

    constructor(form: Form, endsAtMs: number, expiresAtMs: number) {
      this.#form = form;
      this.endsAtMs = endsAtMs;
      this.expiresAtMs = expiresAtMs;
    }

    write(batch: Batch, mode: Mode, flushed?: () => void): void {
      const { key, encode, countDelivery } = this.#form;
      const part = encodeBatch(batch, key, encode);
      if (part === null) {
        flushed?.();
        return;
      }
      this.wire.write(part, flushed);
      this.lastWriteMs = performance.now();
      countDelivery(batch, mode);
    }

    pendingBytes(): number {
      return this.wire.pendingBytes();
    }

    reset(reset: Reset): void {
      metrics.reset('sse', reset.reason);
      this.wire.write(partOf(resetBlock(reset)));
    }

    cut(): void {
      this.close();
      metrics.slowConsumer('sse');
      logger.info({ transport: 'sse' }, 'a slow client was cut off; it resumes by cursor');
      this.wire.destroy();
    }

    end(farewell: string, lingerMs = LINGER_MS): void {
      this.close();
      if (farewell !== '') this.wire.write(partOf(farewell));
      this.wire.end(lingerMs);
    }

    /** Nothing more is heard. */
    close(): void {
      if (!streams.delete(this)) return;
      this.subscription.close();
      metrics.connected('sse', -1);
      if (streams.size === 0) stopTicking();
    }
  }

  function startTicking(): void {
    if (ticking !== null) return;
    ticking = setInterval(tick, Math.min(LONGEST_TICK_MS, Math.ceil(config.heartbeatMs / 8)));
  }

  function stopTicking(): void {
    if (ticking !== null) clearInterval(ticking);
    ticking = null;
  }

  function tick(): void {
    const nowMs = performance.now();
    const wallMs = Date.now();
    // Nearly all stand at the same place.
    const heartbeats = new Map<Cursor, Part>();
    for (const stream of streams) {
      if (wallMs > stream.expiresAtMs + EXPIRY_GRACE_MS) {
        const error = { code: 'token_expired', message: 'The token has expired; come back with a new one.' };
        const farewell = `${cursorBlock(stream.subscription.cursor)}${block(BRIDGE_ERROR, null, JSON.stringify(error))}`;
        stream.end(farewell, EXPIRED_LINGER_MS);
      } else if (nowMs >= stream.endsAtMs) {
        stream.end(cursorBlock(stream.subscription.cursor));
      } else if (nowMs - stream.lastWriteMs >= config.heartbeatMs) {
        const { cursor } = stream.subscription;
        const part = heartbeats.get(cursor) ?? partOf(cursorBlock(cursor));
        heartbeats.set(cursor, part);
        stream.lastWriteMs = nowMs;
        // A client that still has bytes waiting needs no sign of life.
        if (stream.pendingBytes() === 0) stream.wire.write(part);
      }
    }
  }

  return {
    handle,
    drain() {
      for (const stream of streams) {
        stream.end(`retry: ${jitter(config.retryMs)}\n${cursorBlock(stream.subscription.cursor)}`);
      }
      stopTicking();
    },
  };
}

/** The header goes before the query: EventSource keeps the query that it began with. It sends the header as UTF-8. */
function resumesFrom({ headers }: IncomingMessage, after: string | null): string | null {
  const header = headers['last-event-id'];
  if (typeof header === 'string')
    return requireWellFormedCursor('Last-Event-ID', Buffer.from(header, 'latin1').toString());
  return after === null ? null : requireWellFormedCursor('after', after);
}

function acceptsEventStream(accept: string | undefined): boolean {
  return (accept ?? '').split(',').some((type) => type.split(';')[0]?.trim().toLowerCase() === 'text/event-stream');
}

/** Half to one and a half of the base, so that clients cut off together do not come back together. */
function jitter(baseMs: number): number {
  return Math.round(baseMs * (0.5 + Math.random()));
}

function block(event: string, id: string | null, data: string): string {
  return `event: ${event}\n${id === null ? '' : `id: ${id}\n`}data: ${data}\n\n`;
}

/** A named event with data: some clients ignore the id of a block without (protocol §6). */
function cursorBlock(cursor: Cursor): string {
  return block(BRIDGE_CURSOR, cursor, '{}');
}

function resetBlock({ reason, after, oldest, cursor }: Reset): string {
  return block(BRIDGE_RESET, cursor, JSON.stringify({ reason, after, oldest, cursor }));
}

/** Null when the view shows nothing of the batch. */
function encode(batch: Batch, key: string, view: View): Part | null {
  const parts = batch.records.map((record) => encodeOne(record, key, view)).filter((part) => part !== null);
  const [only] = parts;
  return parts.length <= 1 ? (only ?? null) : partOf(parts.map(({ bytes }) => bytes));
}

/** JSON text holds no raw line break, so a payload is one data line. */
function encodeOne(record: LogRecord, key: string, view: View): Part | null {
  return encodeRecord(record, key, () => {
    const frames = framesOf(record, view);
    if (frames.length === 0) return null;
    let text = '';
    for (const { event, payload, cursor } of frames) text += block(event, cursor, payload);
    // Where only legacy names are kept, the record's cursor follows them.
    if (frames.at(-1)?.cursor === null) text += cursorBlock(record.id);
    return partOf(text);
  });
}

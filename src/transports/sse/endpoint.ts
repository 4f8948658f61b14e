/**
 * `GET /sse`: the events of some rooms as Server-Sent Events (protocol §6; WHATWG HTML §9.2).
 *
 * Streams are written without web streams (response-writer.ts), which cost several times the CPU and hide write
 * failures. One timer serves all streams: heartbeats, lifetimes and token expiry.
 */
import type { IncomingMessage } from 'node:http';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { nanoid } from 'nanoid';
import { acceptsByName } from '../../answers/accept.ts';
import { type Authenticate, answer, type BridgeContext, queryOf } from '../../answers/answer.ts';
import { hasExchangeEnded } from '../../answers/exchange.ts';
import { dropDocumentHeaders, requestIdOf, STREAM_HEADERS } from '../../answers/headers.ts';
import {
  cursor,
  cursorAlias,
  flag,
  integer,
  type Parsed,
  parseQuery,
  requireWellFormedCursor,
} from '../../answers/query.ts';
import { type Refusals, requestLine } from '../../answers/refusals.ts';
import { eventsFilter, PASS, roomQuery, roomsToJoin, viewOf } from '../../answers/rooms.ts';
import { signalNamesSeen } from '../../answers/signals.ts';
import { EXPIRED_LINGER_MS, expiryOf, hasExpired, tokenExpired } from '../../auth/expiry.ts';
import { clientAddress } from '../../auth/limits.ts';
import { callerKey } from '../../auth/principal.ts';
import {
  claimsOf,
  REVOKED_LINGER_MS,
  type Revoked,
  type TokenClaims,
  tokenRevoked,
  type WatchedConnection,
} from '../../auth/revocations.ts';
import type { Batch } from '../../bus/batch.ts';
import type { Bus } from '../../bus/bus.ts';
import type { Mode, SignalInterest, Sink, Subscription } from '../../bus/subscription.ts';
import type { Config } from '../../config.ts';
import type { Cursor } from '../../contract/cursor.ts';
import { BridgeError } from '../../contract/errors.ts';
import { publishedNames } from '../../contract/events.ts';
import type { View } from '../../contract/frames.ts';
import type { Reset, Start } from '../../contract/reset.ts';
import type { RoomKind } from '../../contract/rooms.ts';
import type { Signal } from '../../contract/signals.ts';
import type { Logger } from '../../logger.ts';
import type { Metrics } from '../../metrics/metrics.ts';
import { type Connected, type ConnectedClient, type Origin, originOf } from '../connected.ts';
import { createDeliveryCounter, type DeliveryCounter } from '../delivery-counter.ts';
import type { Gate } from '../gate.ts';
import { createSignalCounter } from '../signals.ts';
import { createEncoder, cursorBlock, type Encoder, encodeSignals, errorBlock, resetBlock } from './encoding.ts';
import { type Chunk, chunkOf, openWriter, type ResponseWriter, requestSocket } from './response-writer.ts';

const MAX_PADDING_BYTES = 8192;
const MAX_LIFE_SECONDS = 3600;
/** How long a client may take to read the rest of an ended stream. After that, its connection is cut. */
const LINGER_MS = 30_000;
/** Views whose encoders are kept and shared. Clients can invent any number of views. */
const MAX_VIEWS = 100;
const MAX_TICK_MS = 1_000;
/** Streams that one turn of the event loop looks at, and sends their heartbeats: a few milliseconds if all are due. */
const PER_TURN = 200;

/** Polyfills of EventSource that cannot set headers resume by one of these. */
const LAST_EVENT_ID = 'As the header `Last-Event-ID`, for polyfills that cannot set headers. Empty counts as absent.';

/**
 * @param published the names of the events that can be published, and of signals
 * @param roomKinds those that the operator declares
 */
export const sseQuery = (published: readonly string[], roomKinds: readonly RoomKind[] = []) => ({
  ...roomQuery(roomKinds),
  events: eventsFilter(published),
  legacy: flag(true, 'Whether the legacy aliases precede each canonical event.'),
  audience: flag(
    false,
    "Whether a `bridge.audience` precedes each event whose rooms are not those of its payload's ids.",
  ),
  after: cursor('Where to resume: a cursor, `start` or `now`. `Last-Event-ID` takes precedence.'),
  lastEventId: cursorAlias(LAST_EVENT_ID),
  'Last-Event-ID': cursorAlias(LAST_EVENT_ID),
  padding: integer(0, MAX_PADDING_BYTES, 0, 'Bytes of leading comment, for intermediaries that buffer.'),
  life: integer(1, MAX_LIFE_SECONDS, 0, 'Seconds after which the server ends the stream. Default: no end.'),
});

/** Polyfills add `t` and `r` against caches. */
const ALSO_KNOWN = [PASS, 't', 'r'];

export interface SseDeps {
  readonly bus: Bus;
  readonly config: Config;
  readonly metrics: Metrics;
  readonly logger: Logger;
  readonly gate: Gate;
  readonly principalOf: Authenticate;
  readonly revoked: Revoked;
  readonly refusals: Refusals;
  readonly connected: Connected;
}

/** What all streams of one view share. */
interface SharedView {
  readonly encode: Encoder;
  readonly countDelivery: DeliveryCounter;
  readonly signals: SignalInterest;
}

interface StreamOptions extends Pick<ConnectedClient, 'origin' | 'expiresAtMs'> {
  readonly shared: SharedView;
  readonly requestId: string;
  /** On the monotonic clock; Infinity: never. */
  readonly endsAtMs: number;
  readonly claims: TokenClaims;
}

export function createSse(deps: SseDeps) {
  const { bus, config, metrics, logger, gate, principalOf, revoked, refusals, connected } = deps;
  const streams = new Set<Stream>();
  const shape = sseQuery([...publishedNames(config.extraEvents), ...config.signals], config.roomKinds);
  const sharedViews = new Map<string, SharedView>();
  const countSignals = createSignalCounter(metrics, 'sse');
  let ticking: NodeJS.Timeout | undefined;

  async function handle(context: BridgeContext): Promise<Response> {
    const { incoming, outgoing } = context.env;
    try {
      const query = parseQuery(queryOf(context), shape, ALSO_KNOWN);
      // After a stream with an end, its connection serves further requests.
      if (query.life === 0) requestSocket(incoming, outgoing);
      const principal = await principalOf(context);
      const rooms = roomsToJoin(principal, query, config);
      const after = resumeCursor(incoming, query);
      const release = await gate.admit(incoming);
      try {
        const caller = callerKey(principal, clientAddress(incoming, config.trustProxy));
        const start: Start = after === null ? { kind: 'ok', cursor: bus.head } : await bus.resolve(after, caller);
        if (gate.draining) throw new BridgeError('unavailable', 'The server is shutting down.');
        const shared = sharedViewOf(viewOf(query, config), signalNamesSeen(query.events, config.signals));
        const stream = new Stream({
          shared,
          requestId: requestIdOf(outgoing),
          origin: originOf(incoming, config.trustProxy),
          endsAtMs: performance.now() + (query.life === 0 ? Number.POSITIVE_INFINITY : query.life * 1000),
          expiresAtMs: expiryOf(principal),
          claims: claimsOf(principal),
        });
        revoked.watch(stream);
        dropDocumentHeaders(outgoing);
        outgoing.writeHead(200, STREAM_HEADERS);
        if (incoming.method === 'HEAD' || hasExchangeEnded(incoming, outgoing)) {
          revoked.unwatch(stream);
          release();
          outgoing.end();
          return RESPONSE_ALREADY_SENT;
        }
        stream.writer = openWriter(incoming, outgoing, () => {
          release();
          stream.close('the client closed it');
        });
        stream.open(start, query.padding);
        stream.subscription = bus.subscribe(
          { rooms, after: after === null ? null : start.cursor, caller, signals: shared.signals },
          stream,
        );
        stream.opened();
        return RESPONSE_ALREADY_SENT;
      } catch (error) {
        release();
        throw error;
      }
    } catch (error) {
      return answerInStream(context, error);
    }
  }

  /**
   * EventSource gives up for good on any status but 200, so a temporary fault is sent as an event of a stream, and the
   * client reconnects after `retry`. Requests that do not accept event streams explicitly get the status.
   */
  function answerInStream(context: BridgeContext, error: unknown): Response {
    const isTemporary = error instanceof BridgeError && error.passing;
    if (
      !isTemporary ||
      context.req.method === 'HEAD' ||
      !acceptsByName(context.env.incoming.headers.accept, 'text/event-stream')
    )
      throw error;
    refusals.add(error, { transport: 'sse', what: requestLine(context.env.incoming) }, context.env.incoming);
    // At least Retry-After, and random, so that clients refused together do not return together.
    const leastMs = (error.retryAfterSeconds ?? 0) * 1000;
    const retryMs = leastMs + jitter(Math.max(config.retryMs, leastMs / 2));
    return answer(context, 200, STREAM_HEADERS, `retry: ${retryMs}\n${errorBlock(error)}`);
  }

  function sharedViewOf(view: View, signals: ReadonlySet<string>): SharedView {
    const key = `${view.key} ${[...signals]}`;
    const existing = sharedViews.get(key);
    if (existing !== undefined) return existing;
    const shared: SharedView = {
      encode: createEncoder(view),
      countDelivery: createDeliveryCounter(metrics, 'sse', view),
      signals: { names: signals, sender: null, active: true },
    };
    if (sharedViews.size === MAX_VIEWS) sharedViews.clear();
    sharedViews.set(key, shared);
    return shared;
  }

  /** A node can hold tens of thousands of streams, so each is one object, and all share their functions. */
  class Stream implements Sink, WatchedConnection, ConnectedClient {
    readonly id = nanoid();
    readonly transport = 'sse';
    writer!: ResponseWriter;
    subscription!: Subscription;
    /** On the monotonic clock. */
    lastWriteMs = performance.now();
    deliveredAtMs: number | null = null;
    readonly origin: Origin;
    readonly requestId: string;
    readonly endsAtMs: number;
    readonly expiresAtMs: number;
    readonly claims: TokenClaims;
    readonly #shared: SharedView;

    constructor({ shared, requestId, origin, endsAtMs, expiresAtMs, claims }: StreamOptions) {
      this.#shared = shared;
      this.requestId = requestId;
      this.origin = origin;
      this.endsAtMs = endsAtMs;
      this.expiresAtMs = expiresAtMs;
      this.claims = claims;
    }

    open(start: Start, paddingBytes: number): void {
      const padding = paddingBytes === 0 ? '' : `:${' '.repeat(paddingBytes)}\n`;
      const reset = start.kind === 'reset' ? resetBlock(start) : '';
      if (start.kind === 'reset') metrics.reset('sse', start.reason);
      this.writer.write(chunkOf(`${padding}${retryBlock()}${reset}${cursorBlock(start.cursor)}`));
      streams.add(this);
      metrics.connected('sse', 1);
      ticking ??= setInterval(() => void tick(), Math.min(MAX_TICK_MS, Math.ceil(config.heartbeatMs / 8)));
    }

    /** It has its subscription. */
    opened(): void {
      if (streams.has(this)) connected.add(this);
    }

    write(batch: Batch, mode: Mode, flushed?: () => void): void {
      const { encode, countDelivery } = this.#shared;
      const chunk = encode(batch);
      if (chunk === null) {
        flushed?.();
        return;
      }
      this.writer.write(chunk, flushed);
      this.lastWriteMs = performance.now();
      this.deliveredAtMs = this.lastWriteMs;
      countDelivery(batch, mode);
    }

    signals(signals: readonly Signal[]): void {
      this.writer.write(encodeSignals(signals));
      countSignals(signals);
    }

    signalsDropped(count: number): void {
      metrics.signalsDropped('sse', count);
    }

    pendingBytes(): number {
      return this.writer.pendingBytes();
    }

    reset(reset: Reset): void {
      metrics.reset('sse', reset.reason);
      this.writer.write(chunkOf(resetBlock(reset)));
    }

    cut(): void {
      this.close('it was too slow');
      metrics.slowConsumer('sse');
      const { id, requestId } = this;
      logger.info({ connection: id, requestId, transport: 'sse' }, 'slow consumer cut; it can resume from its cursor');
      this.writer.destroy();
    }

    revoked(): void {
      this.end('its token was revoked', { after: errorBlock(tokenRevoked()), lingerMs: REVOKED_LINGER_MS });
    }

    disconnect(): void {
      this.end('an operator closed it', { before: retryBlock() });
    }

    /** Ends the stream with its cursor, between `before` and `after`. */
    end(why: string, { before = '', after = '', lingerMs = LINGER_MS } = {}): void {
      this.close(why);
      this.writer.write(chunkOf(`${before}${cursorBlock(this.subscription.cursor)}${after}`));
      this.writer.end(lingerMs);
    }

    close(why: string): void {
      if (!streams.delete(this)) return;
      connected.remove(this, why);
      revoked.unwatch(this);
      this.subscription.close();
      metrics.connected('sse', -1);
      if (streams.size > 0) return;
      clearInterval(ticking);
      ticking = undefined;
    }
  }

  const retryBlock = (): string => `retry: ${jitter(config.retryMs)}\n`;

  let isTicking = false;
  async function tick(): Promise<void> {
    if (isTicking) return;
    isTicking = true;
    const nowMs = performance.now();
    const wallMs = Date.now();
    // Nearly all streams are at the same cursor.
    const heartbeats = new Map<Cursor, Chunk>();
    let looked = 0;
    for (const stream of streams) {
      if (++looked % PER_TURN === 0) {
        await nextTurn();
        if (!streams.has(stream)) continue;
      }
      if (hasExpired(stream.expiresAtMs, wallMs)) {
        stream.end('its token has expired', { after: errorBlock(tokenExpired()), lingerMs: EXPIRED_LINGER_MS });
      } else if (nowMs >= stream.endsAtMs) {
        stream.end('its `life` is over');
      } else if (stream.writer.isStalled(nowMs)) {
        stream.cut();
      } else if (nowMs - stream.lastWriteMs >= config.heartbeatMs) {
        const { cursor } = stream.subscription;
        const heartbeat = heartbeats.get(cursor) ?? chunkOf(cursorBlock(cursor));
        heartbeats.set(cursor, heartbeat);
        stream.lastWriteMs = nowMs;
        // A client with unread bytes needs no heartbeat.
        if (stream.pendingBytes() === 0) stream.writer.write(heartbeat);
      }
    }
    isTicking = false;
  }

  return {
    handle,
    /** Ends every stream, with a time to reconnect. */
    drain(): void {
      for (const stream of streams) stream.end('the server is shutting down', { before: retryBlock() });
    },
  };
}

/**
 * The header wins: EventSource keeps the query of its first request. It sends the header as UTF-8. A polyfill keeps the
 * `after` of its first request, too.
 */
function resumeCursor({ headers }: IncomingMessage, query: Parsed<ReturnType<typeof sseQuery>>): string | null {
  const header = headers['last-event-id'];
  if (typeof header === 'string') {
    return requireWellFormedCursor('Last-Event-ID', Buffer.from(header, 'latin1').toString());
  }
  return query.lastEventId ?? query['Last-Event-ID'] ?? query.after;
}

/** From half to one and a half of the base, so that clients cut together do not reconnect together. */
function jitter(baseMs: number): number {
  return Math.round(baseMs * (0.5 + Math.random()));
}

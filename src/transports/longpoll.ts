/**
 * `GET /events` (protocol §7): a page of records after a cursor or, if it is empty, a long poll that answers with the
 * next record. The wait continues from the page through a subscription, as streams do (design law 3).
 */
import { createHash } from 'node:crypto';
import { nanoid } from 'nanoid';
import {
  type Authenticate,
  answer,
  answerStream,
  type BridgeContext,
  isSentWhole,
  JSON_TYPE,
  queryOf,
} from '../answers/answer.ts';
import { hasExchangeEnded, onExchangeEnd } from '../answers/exchange.ts';
import { cursor, flag, integer, parseQuery } from '../answers/query.ts';
import { eventsFilter, eventsSeen, PASS, roomQuery, roomsHeardBy, roomsToJoin, viewOf } from '../answers/rooms.ts';
import { signalNamesSeen } from '../answers/signals.ts';
import { expiryOf } from '../auth/expiry.ts';
import { clientAddress } from '../auth/limits.ts';
import { callerKey } from '../auth/principal.ts';
import { claimsOf, type Revoked, type TokenClaims, type WatchedConnection } from '../auth/revocations.ts';
import { createBatch } from '../bus/batch.ts';
import type { Bus, LogPage, PageQuery } from '../bus/bus.ts';
import type { JoinedRoom, Mode, Subscription } from '../bus/subscription.ts';
import type { Config } from '../config.ts';
import type { Cursor } from '../contract/cursor.ts';
import { BridgeError } from '../contract/errors.ts';
import { publishedNames } from '../contract/events.ts';
import { charsOf, type Frame, framesOf, type LogRecord, namesSeen, type View } from '../contract/frames.ts';
import type { Reset } from '../contract/reset.ts';
import type { Room, RoomKind } from '../contract/rooms.ts';
import { type Signal, signalPayload } from '../contract/signals.ts';
import type { Metrics } from '../metrics/metrics.ts';
import { type Connected, type ConnectedClient, originOf } from './connected.ts';
import { createDeliveryCounter } from './delivery-counter.ts';
import type { Gate } from './gate.ts';
import { createSignalCounter } from './signals.ts';

const MAX_LIMIT = 1000;
const DEFAULT_LIMIT = 100;
/** Intermediaries cut idle requests after 30 s or more. */
const MAX_WAIT_SECONDS = 25;
/** A page ends past either: records read, if its filter drops most, and characters of payloads. The cursor moves on. */
const MAX_SCANNED = 10_000;
const MAX_CHARS = 10 * 1024 * 1024;
/** Payload text that one read of the log returns, in characters: so little that other callers' reads come in between. */
const STEP_CHARS = 256 * 1024;

/**
 * @param published the names of the events that can be published, and of signals
 * @param roomKinds those that the operator declares
 */
export const eventsQuery = (published: readonly string[], roomKinds: readonly RoomKind[] = []) => ({
  ...roomQuery(roomKinds),
  events: eventsFilter(published),
  legacy: flag(false, 'Whether the legacy aliases precede each canonical event.'),
  after: cursor(
    'Events after this cursor; `start`: from the oldest; `now`: only the cursor. Default: the newest events.',
  ),
  limit: integer(1, MAX_LIMIT, DEFAULT_LIMIT, 'Maximum number of records.'),
  wait: integer(0, MAX_WAIT_SECONDS, 0, 'Seconds to wait for a record if there is none (long poll).'),
  signals: flag(false, 'Whether signals that arrive during `wait` are returned, too.'),
});

export interface PollingDeps {
  readonly bus: Bus;
  readonly config: Config;
  readonly metrics: Metrics;
  readonly gate: Gate;
  readonly principalOf: Authenticate;
  readonly revoked: Revoked;
  readonly connected: Connected;
  /** @throws {BridgeError} `rate_limited` */
  readonly countRead: (caller: string) => void;
}

interface EventsPage extends Omit<LogPage, 'records'> {
  /** The records of the page, oldest first. */
  readonly ids: readonly Cursor[];
  /** The first of them. A large page holds no more: the others are read again when the client takes them. */
  readonly first: LogRecord[];
  /** `live` if the records arrived while the client waited. Only then does their age measure the bridge's delay. */
  readonly mode: Mode;
  /** Those that arrived while the client waited. */
  readonly signals: readonly Signal[];
}

interface EventsRequest {
  readonly caller: string;
  readonly claims: TokenClaims;
  readonly expiresAtMs: number;
  /** @throws {BridgeError} `token_revoked`, or `forbidden` if the token lost a tenant that a room needs */
  readonly requireToken: () => void;
  /** Before the answer is found to be large. @throws {BridgeError} `too_many_connections` */
  readonly admitLarge: () => void;
  readonly rooms: ReadonlyMap<Room, JoinedRoom>;
  readonly audiences: readonly string[];
  readonly view: View;
  /** The events whose records the view shows; null: all. */
  readonly events: readonly string[] | null;
  /** The names of signals that end the wait. */
  readonly signals: ReadonlySet<string>;
  readonly limit: number;
  readonly roomsHeard: (record: LogRecord) => readonly Room[];
}

export function createPolling(deps: PollingDeps) {
  const { bus, config, metrics, gate, principalOf, revoked, connected, countRead } = deps;
  const waiting = new Set<() => void>();
  const countSignals = createSignalCounter(metrics, 'longpoll');
  const shape = eventsQuery([...publishedNames(config.extraEvents), ...config.signals], config.roomKinds);

  async function handle(context: BridgeContext): Promise<Response> {
    const query = parseQuery(queryOf(context), shape, [PASS]);
    const principal = await principalOf(context);
    const caller = callerKey(principal, clientAddress(context.env.incoming, config.trustProxy));
    if (query.wait === 0) countRead(caller);
    const rooms = roomsToJoin(principal, query, config);
    const { incoming, outgoing } = context.env;
    const view = viewOf(query, config);
    const request: EventsRequest = {
      caller,
      claims: claimsOf(principal),
      expiresAtMs: expiryOf(principal),
      requireToken() {
        const current = revoked.current(principal);
        if (current !== principal) roomsToJoin(current, query, config);
      },
      admitLarge: () => gate.admitAnswer(incoming, outgoing),
      rooms,
      audiences: [...rooms.values()].flatMap((joined) => joined.audiences),
      view,
      events: eventsSeen(view, config),
      signals: query.signals ? signalNamesSeen(query.events, config.signals) : new Set(),
      limit: query.limit,
      roomsHeard: roomsHeardBy(principal),
    };
    const { after } = query;
    if (after === 'now') {
      const empty = pageOf([], { position: bus.head, more: false, mode: 'resumed', signals: [] });
      // The client asks for the cursor itself, so the ETag depends on it.
      return answerPage(context, request, empty, etagOf(empty, request.view, bus.head));
    }

    let page = await firstPage(request, after);
    const ifNoneMatch = context.env.incoming.headers['if-none-match'];
    const isNew = page.ids.length > 0 && !matches(ifNoneMatch, etagOf(page, request.view));
    if (query.wait > 0 && context.req.method !== 'HEAD' && !isNew) {
      // The wait ends when the token expires, and the next request gets a 401 (protocol §11).
      const waitMs = Math.max(0, Math.min(query.wait * 1000, expiryOf(principal) - Date.now()));
      const arrived = await longPoll(context, request, page.position, waitMs);
      // A client that has the page already gets it again, together with the new records, because its cursor is before both.
      if (page.ids.length === 0) page = arrived;
      else if (arrived.ids.length > 0) page = await firstPage(request, after);
      page = { ...page, signals: arrived.signals };
    }
    request.requireToken();
    return answerPage(context, request, page, etagOf(page, request.view));
  }

  async function firstPage(request: EventsRequest, after: string | null): Promise<EventsPage> {
    if (after === null) return newestPage(request);
    const start = await bus.resolve(after, request.caller);
    if (start.kind === 'reset') throw gone(start);
    return pageAfter(request, start.cursor);
  }

  async function newestPage(request: EventsRequest): Promise<EventsPage> {
    const { limit } = request;
    let first: LogRecord[] = [];
    const ids: Cursor[] = [];
    let step = await bus.newest(stepOf(request, limit));
    const { position } = step;
    for (let chars = 0; ; ) {
      ids.unshift(...idsOf(step.records));
      chars += charsOf(step.records);
      if (!isLarge(request, chars)) first.unshift(...step.records);
      else if (step.records.length > 0) first = [...step.records];
      if (!step.more || chars >= MAX_CHARS) break;
      step = await bus.newest(stepOf(request, limit - ids.length), ids[0]);
    }
    return { ids, first, position, more: false, mode: 'resumed', signals: [] };
  }

  async function pageAfter(request: EventsRequest, after: Cursor): Promise<EventsPage> {
    const { view, limit } = request;
    const ids: Cursor[] = [];
    const first: LogRecord[] = [];
    let position = after;
    const pageTo = (end: Cursor, more: boolean): EventsPage => ({
      ...{ ids, first, position: end, more },
      ...{ mode: 'resumed', signals: [] },
    });
    let chars = 0;
    for (let scanned = 0, scannedChars = 0; scanned < MAX_SCANNED && scannedChars < MAX_CHARS; ) {
      const page = await bus.read(stepOf(request, limit - ids.length), position);
      if ('reason' in page) {
        if (ids.length === 0) throw gone(page);
        // The records read so far are complete. The next request gets the 410.
        return pageTo(position, true);
      }
      const isHeld = !isLarge(request, chars);
      for (const [index, record] of page.records.entries()) {
        if (!isSeen(record, view)) continue;
        ids.push(record.id);
        chars += record.payload.length;
        if (isHeld) first.push(record);
        if (ids.length === limit) {
          const more = page.more || index < page.records.length - 1;
          return pageTo(more ? record.id : page.position, more);
        }
      }
      position = page.position;
      if (!page.more) return pageTo(position, false);
      const stepChars = charsOf(page.records);
      // With a filter, a step that its size did not end has looked at as many records as a step may.
      scanned += request.events === null || stepChars > STEP_CHARS ? page.records.length : MAX_LIMIT;
      scannedChars += stepChars;
    }
    return pageTo(position, true);
  }

  /** Whether a page with this much text is read again when its client takes it. Then it counts from now on. */
  function isLarge({ admitLarge }: EventsRequest, chars: number): boolean {
    if (chars <= config.maxBufferBytes) return false;
    admitLarge();
    return true;
  }

  /** Waits for the first commit with a record that this client sees. Resolves to an empty page when the time is up. */
  async function longPoll(
    context: BridgeContext,
    request: EventsRequest,
    after: Cursor,
    waitMs: number,
  ): Promise<EventsPage> {
    const { caller, claims, expiresAtMs, rooms, view, limit } = request;
    const { incoming, outgoing } = context.env;
    const signals = { names: request.signals, sender: null, active: false };
    const release = await gate.admit(incoming);
    // Not when the wait is over: the answer may have to wait for its reader.
    if (outgoing.closed) release();
    else onExchangeEnd(outgoing, release);
    return new Promise<EventsPage>((resolve, reject) => {
      const connection: WatchedConnection = {
        claims,
        revoked() {
          try {
            request.requireToken();
            answerEmpty();
          } catch (error) {
            settle(() => reject(error));
          }
        },
      };
      revoked.watch(connection);
      metrics.connected('longpoll', 1);
      let subscription: Subscription | null = null;
      let client: ConnectedClient | null = null;
      let settled = false;
      /** Between `after` and here, no record is for this client. */
      let position = after;
      const settle = (finish: () => void): void => {
        if (settled) return;
        settled = true;
        clearTimeout(timer);
        waiting.delete(answerEmpty);
        removeListener();
        revoked.unwatch(connection);
        subscription?.close();
        if (client !== null) connected.remove(client, 'it was answered');
        metrics.connected('longpoll', -1);
        finish();
      };
      const answerWithSignals = (signals: readonly Signal[]): void =>
        settle(() => {
          const reached = subscription?.cursor ?? position;
          // The time can run out while the subscription still reads the log.
          resolve(pageOf([], { position: reached, more: reached < bus.head, mode: 'live', signals }));
        });
      const answerEmpty = (): void => answerWithSignals([]);
      const timer = setTimeout(answerEmpty, waitMs);
      const removeListener = onExchangeEnd(outgoing, answerEmpty);
      waiting.add(answerEmpty);
      if (hasExchangeEnded(incoming, outgoing) || gate.draining) answerEmpty();
      subscription = bus.subscribe(
        { rooms, after, caller, signals },
        {
          write(batch, mode, flushed) {
            const seen = batch.records.filter((record) => isSeen(record, view));
            const last = batch.records.at(-1) as LogRecord;
            if (seen.length === 0) {
              position = last.id;
              return flushed?.();
            }
            // A replay does not know how many records follow; a page does.
            if (mode !== 'live') return settle(() => resolve(pageAfter(request, position)));
            const more = seen.length > limit;
            const records = seen.slice(0, limit);
            const { id: reached } = (more ? records.at(-1) : last) as LogRecord;
            settle(() => resolve(pageOf(records, { position: reached, more, mode, signals: [] })));
          },
          signals: answerWithSignals,
          signalsDropped() {},
          pendingBytes: () => 0,
          reset: (reset) => settle(() => reject(gone(reset))),
          cut: answerEmpty,
        },
      );
      if (settled) {
        subscription.close();
        return;
      }
      client = {
        ...{ id: nanoid(), transport: 'longpoll', origin: originOf(incoming, config.trustProxy) },
        ...{ claims, expiresAtMs, subscription, deliveredAtMs: null },
        pendingBytes: () => 0,
        disconnect: answerEmpty,
      };
      connected.add(client);
    });
  }

  async function answerPage(
    context: BridgeContext,
    request: EventsRequest,
    page: EventsPage,
    etag: string,
  ): Promise<Response> {
    const { view, roomsHeard } = request;
    const hasSignals = page.signals.length > 0;
    // Signals happen once, so no cache may answer with them.
    const headers = hasSignals ? { 'Cache-Control': 'no-store' } : { ETag: etag, 'Cache-Control': 'private, no-cache' };
    if (!hasSignals && matches(context.env.incoming.headers['if-none-match'], etag))
      return answer(context, 304, headers);
    const isHead = context.req.method === 'HEAD';
    const countDelivery = createDeliveryCounter(metrics, 'longpoll', view);
    const itemsOf = (records: readonly LogRecord[]): string[] => {
      if (records.length > 0 && !isHead) countDelivery(createBatch(records), page.mode);
      return records.flatMap((record) => framesOf(record, view).map((frame) => itemOf(roomsHeard(record), frame)));
    };
    if (hasSignals) countSignals(page.signals);
    const signals = page.signals.map(signalItemOf);
    const tail = `],"cursor":${JSON.stringify(page.position)},"hasMore":${page.more}}`;
    const typed = { ...headers, 'Content-Type': JSON_TYPE };
    if (page.first.length === page.ids.length && isSentWhole(charsOf(page.first))) {
      return answer(context, 200, typed, `{"events":[${[...itemsOf(page.first), ...signals].join(',')}${tail}`);
    }
    async function* texts(): AsyncGenerator<string> {
      let before = '{"events":[';
      for await (const record of recordsOf(request, page)) {
        for (const item of itemsOf([record])) {
          yield `${before}${item}`;
          before = ',';
        }
      }
      for (const item of signals) {
        yield `${before}${item}`;
        before = ',';
      }
      yield tail;
    }
    return answerStream(context, gate, typed, texts());
  }

  /** The records of the page, in steps that are read as the client takes them. */
  async function* recordsOf(request: EventsRequest, { ids, first }: EventsPage): AsyncGenerator<LogRecord> {
    const last = ids.at(-1) as Cursor;
    let position = (first.at(-1) as LogRecord).id;
    // What was sent may be forgotten.
    yield* first.splice(0);
    while (position < last) {
      const page = await bus.read(stepOf(request, MAX_LIMIT), position);
      request.requireToken();
      // Trimmed meanwhile. The client's next request gets the 410.
      if ('reason' in page) throw gone(page);
      for (const record of page.records) if (record.id <= last && isSeen(record, request.view)) yield record;
      position = page.position;
    }
  }

  /** In place of `bridge.reset`: a 410 with the same fields (protocol §8). */
  function gone({ reason, after, oldest, cursor }: Reset): BridgeError {
    metrics.reset('longpoll', reason);
    const message =
      reason === 'expired'
        ? 'Events after this cursor were trimmed from the log. Read the state routes, then continue from `cursor`.'
        : 'This log has no record with this cursor. Read the state routes, then continue from `cursor`.';
    return new BridgeError(reason === 'expired' ? 'cursor_expired' : 'cursor_unknown', message, {
      fields: { reason, after, oldest, cursor },
    });
  }

  return {
    handle,
    /** Answers every waiting request, with an empty page. */
    drain(): void {
      for (const answerEmpty of [...waiting]) answerEmpty();
    },
  };
}

function isSeen(record: LogRecord, view: View): boolean {
  return namesSeen(record.event, view).length > 0;
}

const stepOf = ({ caller, audiences, events }: EventsRequest, limit: number): PageQuery => ({
  ...{ caller, audiences, events, limit },
  maxChars: STEP_CHARS,
});

const idsOf = (records: readonly LogRecord[]): Cursor[] => records.map(({ id }) => id);

const pageOf = (records: LogRecord[], rest: Omit<EventsPage, 'ids' | 'first'>): EventsPage => ({
  ...rest,
  ids: idsOf(records),
  first: records,
});

/** The payload is inserted as text, so its bytes are the same on every transport. */
function itemOf(rooms: readonly Room[], { event, payload, cursor }: Frame): string {
  return `{"id":${JSON.stringify(cursor)},"event":${JSON.stringify(event)},"rooms":${JSON.stringify(rooms)},"payload":${payload}}`;
}

function signalItemOf(signal: Signal): string {
  return itemOf([signal.room], { event: signal.event, payload: signalPayload(signal), cursor: null });
}

/** Weak: two answers with the same events are equivalent, although their cursors may differ. */
function etagOf({ ids, more }: EventsPage, { key }: View, cursor = ''): string {
  const hash = createHash('sha256').update(`${key}\n${more}\n${cursor}`);
  for (const id of ids) hash.update(`\n${id}`);
  return `W/"${hash.digest('base64url').slice(0, 27)}"`;
}

/** RFC 9110 §13.1.2, weak comparison. */
function matches(ifNoneMatch: string | undefined, etag: string): boolean {
  if (ifNoneMatch === undefined) return false;
  const opaque = (tag: string): string => tag.trim().replace(/^W\//, '');
  return ifNoneMatch.trim() === '*' || ifNoneMatch.split(',').some((tag) => opaque(tag) === opaque(etag));
}

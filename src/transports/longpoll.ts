/**
 * `GET /events` (protocol §7): a page of records after a cursor or, if it is empty, a long poll that answers with the
 * next record. The wait continues from the page through a subscription, as streams do (design law 3).
 */
import { createHash } from 'node:crypto';
import { answer, type BridgeContext, JSON_TYPE, queryOf } from '../answers/answer.ts';
import { hasExchangeEnded, onExchangeEnd } from '../answers/exchange.ts';
import { flag, integer, list, parseQuery, requireWellFormedCursor, text } from '../answers/query.ts';
import { eventsSeen, ROOM_QUERY, roomsHeardBy, roomsToJoin, viewOf } from '../answers/rooms.ts';
import { expiryOf } from '../auth/expiry.ts';
import { clientAddress } from '../auth/limits.ts';
import { callerKey, type Principal } from '../auth/principal.ts';
import { createBatch } from '../bus/batch.ts';
import type { Bus, LogPage } from '../bus/bus.ts';
import type { JoinedRoom, Mode, Subscription } from '../bus/subscription.ts';
import type { Config } from '../config.ts';
import type { Cursor } from '../contract/cursor.ts';
import { BridgeError } from '../contract/errors.ts';
import { type Frame, framesOf, type LogRecord, namesSeen, type View } from '../contract/frames.ts';
import type { Reset } from '../contract/reset.ts';
import type { Room } from '../contract/rooms.ts';
import type { Metrics } from '../metrics/metrics.ts';
import { createDeliveryCounter } from './delivery-counter.ts';
import type { Gate } from './gate.ts';

const MAX_LIMIT = 1000;
const DEFAULT_LIMIT = 100;
/** Intermediaries cut idle requests after 30 s or more. */
const MAX_WAIT_SECONDS = 25;
/** Log pages that one request may read if its filter drops most records. The cursor moves on all the same. */
const MAX_PAGES = 10;

export const EVENTS_QUERY = {
  ...ROOM_QUERY,
  events: list('Event names to keep. Default: all.'),
  legacy: flag(false, 'Whether the legacy aliases precede each canonical event.'),
  after: text(
    'Events after this cursor; `start`: from the oldest; `now`: only the cursor. Default: the newest events.',
  ),
  limit: integer(1, MAX_LIMIT, DEFAULT_LIMIT, 'Maximum number of records.'),
  wait: integer(0, MAX_WAIT_SECONDS, 0, 'Seconds to wait for a record if there is none (long poll).'),
} as const;

export interface PollingDeps {
  readonly bus: Bus;
  readonly config: Config;
  readonly metrics: Metrics;
  readonly gate: Gate;
  readonly principalOf: (context: BridgeContext) => Promise<Principal>;
  /** @throws {BridgeError} `rate_limited` */
  readonly countRead: (caller: string) => void;
}

interface EventsPage extends LogPage {
  /** `live` if the records arrived while the client waited. Only then does their age measure the bridge's delay. */
  readonly mode: Mode;
}

interface EventsRequest {
  readonly caller: string;
  readonly rooms: ReadonlyMap<Room, JoinedRoom>;
  readonly audiences: readonly string[];
  readonly view: View;
  /** The events whose records the view shows; null: all. */
  readonly events: readonly string[] | null;
  readonly limit: number;
  readonly roomsHeard: (record: LogRecord) => readonly Room[];
}

export function createPolling({ bus, config, metrics, gate, principalOf, countRead }: PollingDeps) {
  const waiting = new Set<() => void>();

  async function handle(context: BridgeContext): Promise<Response> {
    const query = parseQuery(queryOf(context), EVENTS_QUERY);
    const principal = await principalOf(context);
    const caller = callerKey(principal, clientAddress(context.env.incoming, config.trustProxy));
    if (query.wait === 0) countRead(caller);
    const rooms = roomsToJoin(principal, query, config.maxRooms);
    const view = viewOf(query, config);
    const request: EventsRequest = {
      caller,
      rooms,
      audiences: [...rooms.values()].flatMap((joined) => joined.audiences),
      view,
      events: eventsSeen(view, config),
      limit: query.limit,
      roomsHeard: roomsHeardBy(principal),
    };
    const after = query.after === null ? null : requireWellFormedCursor('after', query.after);
    if (after === 'now') {
      const empty: EventsPage = { records: [], position: bus.head, more: false, mode: 'resumed' };
      // The client asks for the cursor itself, so the ETag depends on it.
      return answerPage(context, request, empty, etagOf(empty, request.view, bus.head));
    }

    let page = await firstPage(request, after);
    const ifNoneMatch = context.req.header('if-none-match');
    const isNew = page.records.length > 0 && !matches(ifNoneMatch, etagOf(page, request.view));
    if (query.wait > 0 && context.req.method !== 'HEAD' && !isNew) {
      // The wait ends when the token expires, and the next request gets a 401 (protocol §11).
      const waitMs = Math.max(0, Math.min(query.wait * 1000, expiryOf(principal) - Date.now()));
      const arrived = await longPoll(context, request, page.position, waitMs);
      // A client that has the page already gets it again, together with the new records, because its cursor is before both.
      if (page.records.length === 0) page = arrived;
      else if (arrived.records.length > 0) page = await firstPage(request, after);
    }
    return answerPage(context, request, page, etagOf(page, request.view));
  }

  async function firstPage(request: EventsRequest, after: string | null): Promise<EventsPage> {
    if (after === null) return newestPage(request);
    const start = await bus.resolve(after, request.caller);
    if (start.kind === 'reset') throw gone(start);
    return pageAfter(request, start.cursor);
  }

  async function newestPage({ caller, audiences, events, limit }: EventsRequest): Promise<EventsPage> {
    return { ...(await bus.newest({ caller, audiences, events, limit })), mode: 'resumed' };
  }

  async function pageAfter(
    { caller, audiences, view, events, limit }: EventsRequest,
    after: Cursor,
  ): Promise<EventsPage> {
    const records: LogRecord[] = [];
    let position = after;
    for (let pages = 0; pages < MAX_PAGES; pages++) {
      const page = await bus.read({ caller, audiences, events, limit: limit - records.length }, position);
      if ('reason' in page) {
        if (records.length === 0) throw gone(page);
        // The records read so far are complete. The next request gets the 410.
        return { records, position, more: true, mode: 'resumed' };
      }
      for (const [index, record] of page.records.entries()) {
        if (!isSeen(record, view)) continue;
        records.push(record);
        if (records.length === limit) {
          const more = page.more || index < page.records.length - 1;
          return { records, position: more ? record.id : page.position, more, mode: 'resumed' };
        }
      }
      position = page.position;
      if (!page.more) return { records, position, more: false, mode: 'resumed' };
    }
    return { records, position, more: true, mode: 'resumed' };
  }

  /** Waits for the first commit with a record that this client sees. Resolves to an empty page when the time is up. */
  async function longPoll(
    context: BridgeContext,
    request: EventsRequest,
    after: Cursor,
    waitMs: number,
  ): Promise<EventsPage> {
    const { caller, rooms, view, limit } = request;
    const { incoming, outgoing } = context.env;
    const release = await gate.admit(incoming);
    metrics.connected('longpoll', 1);
    return new Promise<EventsPage>((resolve, reject) => {
      let subscription: Subscription | null = null;
      let settled = false;
      /** Between `after` and here, no record is for this client. */
      let position = after;
      const settle = (finish: () => void): void => {
        if (settled) return;
        settled = true;
        clearTimeout(timer);
        waiting.delete(answerEmpty);
        removeListener();
        subscription?.close();
        metrics.connected('longpoll', -1);
        release();
        finish();
      };
      const answerEmpty = (): void =>
        settle(() => {
          const reached = subscription?.cursor ?? position;
          // The time can run out while the subscription still reads the log.
          resolve({ records: [], position: reached, more: reached < bus.head, mode: 'live' });
        });
      const timer = setTimeout(answerEmpty, waitMs);
      const removeListener = onExchangeEnd(incoming, outgoing, answerEmpty);
      waiting.add(answerEmpty);
      if (hasExchangeEnded(incoming, outgoing) || gate.draining) answerEmpty();
      subscription = bus.subscribe(
        { rooms, after, caller },
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
            settle(() => resolve({ records, position: ((more ? records.at(-1) : last) as LogRecord).id, more, mode }));
          },
          pendingBytes: () => 0,
          reset: (reset) => settle(() => reject(gone(reset))),
          cut: answerEmpty,
        },
      );
      if (settled) subscription.close();
    });
  }

  function answerPage(
    context: BridgeContext,
    { view, roomsHeard }: EventsRequest,
    page: EventsPage,
    etag: string,
  ): Response {
    const headers = { ETag: etag, 'Cache-Control': 'private, no-cache' };
    if (matches(context.req.header('if-none-match'), etag)) return answer(context, 304, headers);
    if (page.records.length > 0 && context.req.method !== 'HEAD') {
      createDeliveryCounter(metrics, 'longpoll', view)(createBatch(page.records), page.mode);
    }
    const items = page.records.flatMap((record) =>
      framesOf(record, view).map((frame) => itemOf(roomsHeard(record), frame)),
    );
    const body = `{"events":[${items.join(',')}],"cursor":${JSON.stringify(page.position)},"hasMore":${page.more}}`;
    return answer(context, 200, { ...headers, 'Content-Type': JSON_TYPE }, body);
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

/** The payload is inserted as text, so its bytes are the same on every transport. */
function itemOf(rooms: readonly Room[], { event, payload, cursor }: Frame): string {
  return `{"id":${JSON.stringify(cursor)},"event":${JSON.stringify(event)},"rooms":${JSON.stringify(rooms)},"payload":${payload}}`;
}

/** Weak: two answers with the same events are equivalent, although their cursors may differ. */
function etagOf({ records, more }: LogPage, { key }: View, cursor = ''): string {
  const hash = createHash('sha256').update(`${key}\n${more}\n${cursor}`);
  for (const { id } of records) hash.update(`\n${id}`);
  return `W/"${hash.digest('base64url').slice(0, 27)}"`;
}

/** RFC 9110 §13.1.2, weak comparison. */
function matches(ifNoneMatch: string | undefined, etag: string): boolean {
  if (ifNoneMatch === undefined) return false;
  const opaque = (tag: string): string => tag.trim().replace(/^W\//, '');
  return ifNoneMatch.trim() === '*' || ifNoneMatch.split(',').some((tag) => opaque(tag) === opaque(etag));
}

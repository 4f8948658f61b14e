/**
 * `GET /events`: the last resort (protocol §7). A page of records after a cursor, or a long poll that answers as soon
 * as one record is there. The wait hands over from the page to the live bus by the same subscription as a stream.
 */
import { createHash } from 'node:crypto';
import { answer, type BridgeContext, JSON_TYPE } from '../answers/answer.ts';
import { hasExchangeEnded, onExchangeEnd } from '../answers/exchange.ts';
import { flag, integer, list, parseQuery, requireWellFormedCursor, text } from '../answers/query.ts';
import { ROOM_QUERY, roomsToJoin, viewOf } from '../answers/rooms.ts';
import type { Principal } from '../auth/principal.ts';
import { createBatch } from '../bus/batch.ts';
import type { Bus, ReadPage } from '../bus/bus.ts';
import type { JoinedRoom, Mode, Subscription } from '../bus/subscription.ts';
import type { Config } from '../config.ts';
import type { Cursor } from '../contract/cursor.ts';
import { BridgeError } from '../contract/errors.ts';
import { framesOf, type LogRecord, namesSeen, type View } from '../contract/frames.ts';
import type { Reset } from '../contract/reset.ts';
import type { Room } from '../contract/rooms.ts';
import type { Metrics } from '../metrics/metrics.ts';
import { createDeliveryCounter } from './delivery-counter.ts';
import type { Gate } from './gate.ts';

const MAX_LIMIT = 1000;
const DEFAULT_LIMIT = 100;
/** Intermediaries cut idle requests at 30 s and more. */
const MAX_WAIT_SECONDS = 25;
/** A filter that keeps almost nothing may make one request read this many pages; the cursor moves on all the same. */
const MOST_PAGES = 10;

export const EVENTS_QUERY = {
  ...ROOM_QUERY,
  events: list('Names of the events to keep; all when left out.'),
  legacy: flag(false, 'Whether the legacy aliases stand before each canonical event.'),
  after: text(
    'A cursor: what came after it. `start`: from the oldest kept. `now`: nothing but the cursor. Left out: the newest.',
  ),
  limit: integer(1, MAX_LIMIT, DEFAULT_LIMIT, 'Most records to answer with.'),
  wait: integer(0, MAX_WAIT_SECONDS, 0, 'Seconds to wait for a record when there is none (long poll).'),
} as const;

export interface PollingDeps {
  readonly bus: Bus;
  readonly config: Config;
  readonly metrics: Metrics;
  readonly gate: Gate;
  readonly principalOf: (context: BridgeContext) => Promise<Principal>;
}

export interface PollingTransport {
  handle(context: BridgeContext): Promise<Response>;
  /** Answers every waiting request with what there is. */
  drain(): void;
}

interface Answer extends ReadPage {
  /** `live` when the records came while the client waited: only then is their age the bridge's doing. */
  readonly mode: Mode;
}

interface Listening {
  readonly rooms: ReadonlyMap<Room, JoinedRoom>;
  readonly audiences: readonly string[];
  readonly view: View;
  readonly limit: number;
}

export function createPolling({ bus, config, metrics, gate, principalOf }: PollingDeps): PollingTransport {
  const waiting = new Set<() => void>();

  async function handle(context: BridgeContext): Promise<Response> {
    const query = parseQuery(new URL(context.req.url).searchParams, EVENTS_QUERY);
    const principal = await principalOf(context);
    const rooms = roomsToJoin(principal, query, config.maxRooms);
    const listening: Listening = {
      rooms,
      audiences: [...rooms.values()].flatMap((joined) => joined.audiences),
      view: viewOf(query, config),
      limit: query.limit,
    };
    const after = query.after === null ? null : requireWellFormedCursor('after', query.after);
    if (after === 'now') {
      const nothing: Answer = { records: [], position: bus.head, more: false, mode: 'resumed' };
      // Here the cursor is what was asked for, so another cursor is another answer.
      return answerPage(context, listening, nothing, etagOf(nothing, listening.view, bus.head));
    }

    let page = await firstPage(listening, after);
    const known = context.req.header('if-none-match');
    const nothingNew = page.records.length === 0 || matches(known, etagOf(page, listening.view));
    if (query.wait > 0 && context.req.method !== 'HEAD' && nothingNew) {
      // Nobody listens past the end of their token (protocol §11): the answer ends there, and the next request is a 401.
      const leftMs =
        principal.kind === 'token' && principal.expiresAtMs !== null ? principal.expiresAtMs - Date.now() : Infinity;
      const waitMs = Math.max(0, Math.min(query.wait * 1000, leftMs));
      const fresh = await longPoll(context, listening, page.position, waitMs);
      // A client that holds what was there already gets it together with what came, as it asked.
      if (page.records.length === 0) page = fresh;
      else if (fresh.records.length > 0) page = await firstPage(listening, after);
    }
    return answerPage(context, listening, page, etagOf(page, listening.view));
  }

  async function firstPage(listening: Listening, after: string | null): Promise<Answer> {
    if (after === null) return newestPage(listening);
    const start = await bus.resolve(after);
    if (start.kind === 'reset') throw gone(start);
    return pageAfter(listening, start.cursor);
  }

  async function newestPage({ audiences, view, limit }: Listening): Promise<Answer> {
    // A filter may leave fewer than `limit`; what it keeps is the newest of the newest.
    const page = await bus.newest(audiences, view.events === null ? limit : MAX_LIMIT);
    return { ...page, records: page.records.filter((record) => isSeen(record, view)).slice(-limit), mode: 'resumed' };
  }

  async function pageAfter({ audiences, view, limit }: Listening, after: Cursor): Promise<Answer> {
    const records: LogRecord[] = [];
    let position = after;
    for (let pages = 0; pages < MOST_PAGES; pages++) {
      const page = await bus.read(audiences, position, view.events === null ? limit - records.length : MAX_LIMIT);
      if ('reason' in page) {
        if (records.length === 0) throw gone(page);
        // What was read is whole; the next request is told what was trimmed meanwhile.
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

  /** Waits for the first commit with a record that this client sees; an empty page when the time is up. */
  async function longPoll(
    context: BridgeContext,
    listening: Listening,
    after: Cursor,
    waitMs: number,
  ): Promise<Answer> {
    const { rooms, view, limit } = listening;
    const { incoming, outgoing } = context.env;
    const release = await gate.admit(incoming);
    metrics.connected('longpoll', 1);
    return new Promise<Answer>((resolve, reject) => {
      let subscription: Subscription | null = null;
      let settled = false;
      /** Nothing for this client lies between `after` and here. */
      let passed = after;
      const settle = (act: () => void): void => {
        if (settled) return;
        settled = true;
        clearTimeout(timer);
        waiting.delete(giveUp);
        forget();
        subscription?.close();
        metrics.connected('longpoll', -1);
        release();
        act();
      };
      const giveUp = (): void =>
        settle(() => {
          const position = subscription?.cursor ?? passed;
          // A time that ran out on the way through the log left the rest of it unread.
          resolve({ records: [], position, more: position < bus.head, mode: 'live' });
        });
      const timer = setTimeout(giveUp, waitMs);
      const forget = onExchangeEnd(incoming, outgoing, giveUp);
      waiting.add(giveUp);
      if (hasExchangeEnded(incoming, outgoing) || gate.draining) giveUp();
      subscription = bus.subscribe(
        { rooms, after },
        {
          write(batch, mode, flushed) {
            const seen = batch.records.filter((record) => isSeen(record, view));
            const last = batch.records.at(-1) as LogRecord;
            if (seen.length === 0) {
              passed = last.id;
              return flushed?.();
            }
            // A step of a replay does not say what comes after it; a page does.
            if (mode !== 'live') return settle(() => resolve(pageAfter(listening, passed)));
            const more = seen.length > limit;
            const records = seen.slice(0, limit);
            settle(() => resolve({ records, position: ((more ? records.at(-1) : last) as LogRecord).id, more, mode }));
          },
          pendingBytes: () => 0,
          reset: (reset) => settle(() => reject(gone(reset))),
          cut: giveUp,
        },
      );
      if (settled) subscription.close();
    });
  }

  function answerPage(context: BridgeContext, { view }: Listening, page: Answer, etag: string): Response {
    const headers = { ETag: etag, 'Cache-Control': 'private, no-cache' };
    if (matches(context.req.header('if-none-match'), etag)) return answer(context, 304, headers);
    if (page.records.length > 0 && context.req.method !== 'HEAD') {
      createDeliveryCounter(metrics, 'longpoll', view)(createBatch(page.records), page.mode);
    }
    const items = page.records.flatMap((record) => framesOf(record, view).map((frame) => itemOf(record, frame)));
    return answer(context, 200, { ...headers, 'Content-Type': JSON_TYPE }, bodyOf(items, page.position, page.more));
  }

  /** Polling's `bridge.reset`: a 410 with the same fields (protocol §8). */
  function gone({ reason, after, oldest, cursor }: Reset): BridgeError {
    metrics.reset('longpoll', reason);
    const message =
      reason === 'expired'
        ? 'What came after the cursor is no longer kept whole; read the state routes and go on from `cursor`.'
        : 'The cursor names no record of this log; read the state routes and go on from `cursor`.';
    return new BridgeError(reason === 'expired' ? 'cursor_expired' : 'cursor_unknown', message, {
      fields: { reason, after, oldest, cursor },
    });
  }

  return {
    handle,
    drain() {
      for (const giveUp of [...waiting]) giveUp();
    },
  };
}

function isSeen(record: LogRecord, view: View): boolean {
  return namesSeen(record.event, view).length > 0;
}

function bodyOf(items: readonly string[], cursor: Cursor, more: boolean): string {
  return `{"events":[${items.join(',')}],"cursor":${JSON.stringify(cursor)},"hasMore":${more}}`;
}

/** The payload goes in as the text that it is, so that its bytes are the same as on every transport. */
function itemOf(record: LogRecord, frame: { event: string; payload: string; cursor: Cursor | null }): string {
  const { event, payload, cursor } = frame;
  return `{"id":${JSON.stringify(cursor)},"event":${JSON.stringify(event)},"rooms":${JSON.stringify(record.rooms)},"payload":${payload}}`;
}

/** Weak: the same events mean "nothing new", although the log's head may have moved on elsewhere. */
function etagOf({ records, more }: ReadPage, { key }: View, cursor = ''): string {
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

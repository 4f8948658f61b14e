/**
 * `roomcast log`: reads the durable log (`GET /log`, protocol §15), of a room or of all that the token reaches. By default it
 * prints the newest records, oldest first; `--follow` goes on from there.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Query, RoomcastError } from '../client/http.ts';
import { isWellFormedCursor } from '../contract/cursor.ts';
import type { LogAnswer, LogEntry } from '../contract/log.ts';
import { formatRoom, idOf, kindOf } from '../contract/rooms.ts';
import {
  BRIDGE_FLAGS,
  BRIDGE_HELP,
  checkNames,
  countOf,
  idsIn,
  instantOf,
  listOf,
  parseFlags,
  roomsIn,
  UsageError,
} from './arguments.ts';
import { bestRoom, createEventPrinter } from './event-view.ts';
import { faultOf } from './faults.ts';
import { createOperator, type Operator, orRefusal, sayThereAreMore } from './operate.ts';
import { complain, printJson } from './output.ts';

export const LOG_HELP = `Prints records of the log, oldest first: by default the newest 100.

Examples:
  roomcast log ticket:ticket-123
  roomcast log tenant:tenant-1 --since 2h --event messages.new --contains boleto
  roomcast log ticket:ticket-123 --since 2024-06-01T12:00:00Z --until 2024-06-01T12:05:00Z --pretty
  roomcast log ticket:ticket-123 --follow

Usage: roomcast log [ROOM …] [options]

  ROOM             a room by its name, such as ticket:123; without one, every record that the token reaches
  --ticket ID      the room ticket:ID; may be repeated
  --tenant ID      the tenant; may be repeated. By itself: every record of it; with rooms: only its records in these.
                   tenant:ID means the same
  --since TIME     accepted since then: 10m, 2h, 7d, or an instant such as 2024-06-01T12:00:00Z
  --until TIME     accepted until then
  --event NAME     only this event; may be repeated
  --contains TEXT  only records with this text in the payload
  --after CURSOR   only records after this one
  --before CURSOR  only records before this one
  --order ORDER    asc: the oldest records; desc: the newest, newest first (default: the newest, oldest first)
  --limit N        at most this many (default 100; at most 100000)
  --follow         then print new records as they come, until Ctrl-C
  --pretty         print the payload of each below it, indented
  --json           print one JSON object per line: {"id", "at", "event", "rooms", "payload"}; default in a pipe
${BRIDGE_HELP}

With tokens, this takes one with the scope admin. A record is there as long as the log keeps it (RETENTION_HOURS).

Exit codes: 0 success, also if no record matches; 1 refused; 2 wrong usage.
`;

const FLAGS = {
  ...BRIDGE_FLAGS,
  tenant: { type: 'string', multiple: true },
  ticket: { type: 'string', multiple: true },
  since: { type: 'string' },
  until: { type: 'string' },
  event: { type: 'string', multiple: true },
  contains: { type: 'string' },
  after: { type: 'string' },
  before: { type: 'string' },
  order: { type: 'string' },
  limit: { type: 'string', default: '100' },
  follow: { type: 'boolean', default: false },
  pretty: { type: 'boolean', default: false },
  json: { type: 'boolean', default: false },
} as const;

const MAX_LIMIT = 100_000;
const MAX_PAGE = 1_000;
const FOLLOW_MS = 1_000;

export async function log(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseFlags('log', argv, FLAGS, Number.POSITIVE_INFINITY);
  const { order, follow, since, until } = values;
  const rooms = [
    ...roomsIn('log', positionals),
    ...idsIn('log', 'tenant', values.tenant).map((id) => formatRoom('tenant', id)),
    ...idsIn('log', 'ticket', values.ticket).map((id) => formatRoom('ticket', id)),
  ];
  const isTenant = (room: (typeof rooms)[number]): boolean => kindOf(room) === 'tenant';
  if (order !== undefined) checkNames('log', 'order', [order], ['asc', 'desc']);
  const limit = countOf('log', 'limit', values.limit, MAX_LIMIT);
  if (follow && (order !== undefined || values.before !== undefined || until !== undefined)) {
    throw new UsageError('--follow goes with neither --order, --before nor --until', 'log');
  }
  if (values.json && values.pretty) throw new UsageError('give --pretty or --json, not both', 'log');
  const filter: Query = {
    tenantId: rooms.filter(isTenant).map(idOf),
    room: rooms.filter((room) => !isTenant(room)),
    event: listOf(values.event),
    contains: values.contains,
  };
  const range: Query = {
    since: since === undefined ? undefined : instantOf('log', 'since', since),
    until: until === undefined ? undefined : instantOf('log', 'until', until),
    after: cursorIn('after', values.after),
    before: cursorIn('before', values.before),
  };
  const operator = createOperator('log', values);
  const print = printerOf(values);

  return orRefusal(operator.url, async () => {
    // Before the first page: a record that comes in between is in both, and is printed once.
    const newest = follow ? await newestOf(operator) : null;
    const pages = readLog(operator, { ...filter, ...range, order: order ?? 'desc' }, limit);
    let last = newest;
    const held: LogEntry[] = [];
    for await (const record of pages) {
      if (order === undefined) held.push(record);
      else await print(record);
    }
    for (const record of held.reverse()) await print(record);
    if (held.length > 0) last = laterOf(last, held.at(-1)?.id ?? null);
    if (follow) await followLog(operator, filter, last, print);
    return 0;
  });
}

function cursorIn(flag: string, text: string | undefined): string | undefined {
  if (text === undefined || isWellFormedCursor(text)) return text;
  throw new UsageError(`--${flag} must be a cursor, the id of a record`, 'log');
}

function printerOf({ json, pretty }: { readonly json: boolean; readonly pretty: boolean }) {
  if (json || !(pretty || process.stdout.isTTY)) return (record: LogEntry): Promise<void> => printJson(record);
  const view = createEventPrinter(pretty);
  return ({ id, at, event, rooms, payload }: LogEntry): Promise<void> =>
    view({ id, at, event, payload: Object(payload), room: bestRoom(rooms) });
}

/** Cursors of one log sort as byte strings. */
const laterOf = (a: string | null, b: string | null): string | null => ((a ?? '') > (b ?? '') ? a : b);

async function readPage(operator: Operator, query: Query): Promise<LogAnswer> {
  const page = (await operator.request('GET', 'log', { query })) as LogAnswer;
  if (Array.isArray(page?.events)) return page;
  throw new RoomcastError('unreachable', 'This is not the bridge: other JSON.');
}

/** Says how many were left out only if there are more. */
async function* readLog(operator: Operator, query: Query, limit: number): AsyncGenerator<LogEntry> {
  let left = limit;
  let position: Query = {};
  for (;;) {
    const page = await readPage(operator, { ...query, ...position, limit: Math.min(MAX_PAGE, left) }).catch((error) => {
      // Retention has reached the place where the page before ended: there is nothing further down.
      if (error instanceof RoomcastError && error.status === 410 && query.order !== 'asc' && left < limit) return null;
      throw error;
    });
    if (page === null) return;
    for (const record of page.events.slice(0, left)) yield record;
    left -= page.events.length;
    if (!page.more) return;
    if (left <= 0) {
      sayThereAreMore(limit);
      return;
    }
    position = { [query.order === 'asc' ? 'after' : 'before']: page.scannedThrough };
  }
}

/** Of all that the token reaches, so that there is a place to go on from even if nothing matches yet. */
async function newestOf(operator: Operator): Promise<string> {
  const page = await readPage(operator, { order: 'desc', limit: 1 });
  return page.events[0]?.id ?? page.scannedThrough;
}

/** Until a signal. A bridge that is away is reported once, and asked again. */
async function followLog(
  operator: Operator,
  filter: Query,
  from: string | null,
  print: (record: LogEntry) => Promise<void>,
): Promise<void> {
  const stopping = new AbortController();
  const stop = (): void => stopping.abort();
  process.once('SIGINT', stop).once('SIGTERM', stop);
  let after = from;
  let reported = '';
  while (!stopping.signal.aborted) {
    try {
      const page = await readPage(operator, { ...filter, order: 'asc', limit: MAX_PAGE, after: after ?? undefined });
      reported = '';
      for (const record of page.events) await print(record);
      after = page.scannedThrough;
      if (page.more) continue;
    } catch (error) {
      if (!(error instanceof RoomcastError)) throw error;
      if (error.status === 410) {
        complain(
          'the log no longer has the last record that was printed, so records are lost; going on with the newest',
        );
        after = await newestOf(operator).catch(() => after);
      } else if (!error.passing) throw error;
      else {
        const text = `${faultOf(error, operator.url)}; retrying`;
        if (text !== reported) complain(text);
        reported = text;
      }
    }
    await sleep(FOLLOW_MS, undefined, { signal: stopping.signal }).catch(() => {});
  }
}

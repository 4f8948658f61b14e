/**
 * `roomcast tail`: prints the events of rooms, each once and in order, over any transport that works (@roomcast/client).
 * It resumes by cursor after a cut and, with `--state`, in the next run: the file holds the cursor of the newest event
 * that was printed, so that a run that was killed repeats at most one. Resets are reported on standard error.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Live, type Reset, RoomcastError, type Status, type TransportName } from '../client/client.ts';
import { isWellFormedCursor } from '../contract/cursor.ts';
import type { LogAnswer } from '../contract/log.ts';
import { BUILT_IN_KINDS, formatRoom, idField, idsByField, kindOfField, type Room, toId } from '../contract/rooms.ts';
import {
  BRIDGE_FLAGS,
  BRIDGE_HELP,
  bearerToken,
  bridgeUrl,
  checkNames,
  countOf,
  idsIn,
  instantOf,
  listOf,
  parseFlags,
  roomsIn,
  UsageError,
} from './arguments.ts';
import { createEventPrinter, timeOf } from './event-view.ts';
import { faultOf } from './faults.ts';
import { createOperator, type Operator } from './operate.ts';
import { complain, printJson, printLine } from './output.ts';

export const TAIL_HELP = `Prints each event of the rooms once and in order, until you stop it.

Examples:
  roomcast tail tenant:tenant-1
  roomcast tail --ticket ticket-123 --since 10m --pretty
  roomcast tail tenant:tenant-1 --after start --json | jq .payload.ticketId
  roomcast tail --tenant tenant-1 --event messages.new --state ./tail.cursor >> messages.log

Usage: roomcast tail ROOM … [options]

  ROOM             a room by its name, at least one: tenant:tenant-1, ticket:123, or one of a kind that the bridge
                   declares (ROOM_KINDS), such as queue:a
  --tenant ID      the room tenant:ID; repeat a flag, or separate its ids with commas
  --ticket ID      the same for ticket:ID,
  --agreement ID   agreement:ID
  --user ID        and user:ID
  --event NAME     print only these events; may be repeated
  --since TIME     begin with the events since then: 10m, 2h, 7d, or an instant such as 2024-06-01T12:00:00Z
  --after WHERE    a cursor, start (the oldest record) or now (the default)
  --state FILE     continue from the cursor in this file, and save it there; --after and --since are for the first run
  --count N        exit after N events
  --pretty         print the time, the name and the room, and below them the payload, indented
  --json           print one JSON object per line: {"id", "event", "payload"}
  --signals        also print signals as they begin and end, such as "somebody is typing":
                   signal begins EVENT ROOM SENDER PAYLOAD, with --json {"signal", "room", "from", "sender",
                   "payload", "active"}. A repeat prints nothing. They have no id, and count for neither
                   --count nor --state
  --transport T    websocket, sse or poll; may be repeated (default: the best of all that works)
  --socket-path P  the bridge's SOCKET_PATH (default /socket.io)
  --quiet          do not report changes of the connection; resets are always reported
${BRIDGE_HELP}

On a terminal, an event is one line: time, name, room, and what matters of the payload. The time is the one in the
payload, else that of the arrival. In a pipe it is ID EVENT PAYLOAD.

--since goes back as far as the log does (RETENTION_HOURS). The time is that of the acceptance, if the token may read
/log (scope admin; without tokens, any may). Otherwise it is the time in the payload, and events that have none are all
printed.

Events go to standard output, everything else to standard error. Ctrl-C stops the command. If the
bridge cannot be reached, it retries.

Exit codes: 0 stopped by you or --count, 1 refused, 2 wrong usage.
`;

const FLAGS = {
  ...BRIDGE_FLAGS,
  tenant: { type: 'string', multiple: true },
  ticket: { type: 'string', multiple: true },
  agreement: { type: 'string', multiple: true },
  user: { type: 'string', multiple: true },
  event: { type: 'string', multiple: true },
  since: { type: 'string' },
  after: { type: 'string' },
  state: { type: 'string' },
  count: { type: 'string' },
  pretty: { type: 'boolean', default: false },
  json: { type: 'boolean', default: false },
  signals: { type: 'boolean', default: false },
  transport: { type: 'string', multiple: true },
  'socket-path': { type: 'string' },
  quiet: { type: 'boolean', default: false },
} as const;

const TRANSPORTS: readonly TransportName[] = ['websocket', 'sse', 'poll'];

export async function tail(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseFlags('tail', argv, FLAGS, Number.POSITIVE_INFINITY);
  const ofKind = BUILT_IN_KINDS.flatMap((kind) => idsIn('tail', kind, values[kind]).map((id) => formatRoom(kind, id)));
  const rooms = idsByField([...roomsIn('tail', positionals), ...ofKind]);
  if (Object.keys(rooms).length === 0) {
    throw new UsageError('name at least one room, such as tenant:tenant-1 or queue:a', 'tail');
  }
  const names = listOf(values.transport);
  checkNames('tail', 'transport', names, TRANSPORTS);
  const transports = names.length === 0 ? TRANSPORTS : (names as TransportName[]);
  const events = listOf(values.event);
  const count = values.count === undefined ? Number.POSITIVE_INFINITY : countOf('tail', 'count', values.count);
  const { state, json, quiet } = values;
  if (json && values.pretty) throw new UsageError('give --pretty or --json, not both', 'tail');
  if (values.since !== undefined && values.after !== undefined) {
    throw new UsageError('give --since or --after, not both', 'tail');
  }
  const since = values.since === undefined ? null : instantOf('tail', 'since', values.since);
  const given = positionOf(values.after);
  const url = bridgeUrl('tail', values.url);
  const token = bearerToken('tail', values.token);
  const saved = state === undefined ? null : readState(state);
  const start = saved === null && since !== null ? await startOf(since, createOperator('tail', values)) : null;
  const after = saved ?? start?.after ?? given;

  const live = connect<Record<string, unknown>, string>({
    url,
    rooms,
    transports,
    ...(after === null ? {} : { after }),
    ...(token === undefined ? {} : { token }),
    ...(values['socket-path'] === undefined ? {} : { socketPath: values['socket-path'] }),
  });
  live.on('reset', printReset);
  if (!quiet) live.on('status', createStatusPrinter(url));
  if (values.signals) live.on('signals', createSignalPrinter(live, events, json));
  const stop = (): void => live.close();
  // A second signal ends the process at once, even if nothing reads the output.
  process.once('SIGINT', stop).once('SIGTERM', stop);

  const isForPeople = !json && (values.pretty || process.stdout.isTTY);
  const view = isForPeople ? createEventPrinter(values.pretty) : null;
  const kinds = kindsOf(rooms);
  let isOld = start?.notBefore ?? (() => false);
  let printed = 0;
  try {
    // After a stop, the loop still returns the events that had arrived.
    for await (const { event, cursor, payload } of live) {
      // A hostile server may send a payload that is no object.
      const facts = Object(payload) as Readonly<Record<string, unknown>>;
      if (isOld(facts)) continue;
      if (timeOf(facts) !== undefined) isOld = () => false;
      if (events.length > 0 && !events.includes(event)) continue;
      if (view !== null) await view({ id: cursor, event, payload: facts, room: roomOf(facts, kinds), at: null });
      else if (json) await printJson({ id: cursor, event, payload });
      else await printLine(`${cursor} ${event} ${JSON.stringify(payload)}`);
      if (state !== undefined) writeState(state, cursor);
      printed++;
      if (printed === count) return 0;
    }
    // Every event up to this cursor was printed or filtered out.
    if (state !== undefined && live.cursor !== null) writeState(state, live.cursor);
    return 0;
  } catch (error) {
    throw error instanceof RoomcastError ? new Error(faultOf(error, url)) : error;
  } finally {
    live.close();
  }
}

interface Start {
  /** A cursor, or `start`. */
  readonly after: string;
  /** Whether an event is older, where the cursor cannot say so. */
  readonly notBefore?: (payload: Readonly<Record<string, unknown>>) => boolean;
}

/**
 * The position of an instant in the log: after the newest record before it. A token that may not read /log starts at the
 * oldest record, and skips what its payload says to be older, up to the first event that is not.
 */
async function startOf(since: string, operator: Operator): Promise<Start> {
  try {
    // What was accepted at the instant itself belongs to the answer.
    const query = { until: new Date(Date.parse(since) - 1).toISOString(), order: 'desc', limit: 1 };
    let page = (await operator.request('GET', 'log', { query })) as LogAnswer;
    while (page.events.length === 0 && page.more) {
      page = (await operator.request('GET', 'log', { query: { ...query, before: page.scannedThrough } })) as LogAnswer;
    }
    return { after: page.events[0]?.id ?? 'start' };
  } catch (error) {
    if (!(error instanceof RoomcastError)) throw error;
    if (![401, 403, 404].includes(error.status)) throw new Error(faultOf(error, operator.url));
    complain('this token may not read /log, so --since goes by the times in the payloads');
    const sinceMs = Date.parse(since);
    return { after: 'start', notBefore: (payload) => Date.parse(String(timeOf(payload))) < sinceMs };
  }
}

/** The kinds whose rooms say most of an event, best first. */
function kindsOf(rooms: Readonly<Record<string, unknown>>): readonly string[] {
  const joined = Object.keys(rooms).map((field) => kindOfField(field) as string);
  return [...new Set(['ticket', ...joined.filter((kind) => kind !== 'tenant'), 'agreement', 'user', 'tenant'])];
}

/** The room of the first kind of which the payload has an id. */
function roomOf(payload: Readonly<Record<string, unknown>>, kinds: readonly string[]): string {
  for (const kind of kinds) {
    const id = toId(payload[idField(kind)]);
    if (id !== null) return formatRoom(kind, id);
  }
  return '';
}

/** Null means now. */
function positionOf(after: string | undefined): string | null {
  if (after === undefined || after === 'now') return null;
  if (isWellFormedCursor(after)) return after;
  throw new UsageError('--after must be a cursor, start or now', 'tail');
}

/** Null if there is no file yet. */
function readState(file: string): string | null {
  let cursor: string;
  try {
    cursor = readFileSync(file, 'utf8').trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  if (isWellFormedCursor(cursor)) return cursor;
  throw new Error(`${file} does not hold a cursor: --state needs a new file, or one that tail wrote`);
}

/**
 * Replaces the whole file at once, so that a crash cannot lose the cursor. Only its owner may read it. A file that is
 * already there is not written to: it may have another mode, or be a link.
 */
function writeState(file: string, cursor: string): void {
  rmSync(`${file}.new`, { force: true });
  writeFileSync(`${file}.new`, `${cursor}\n`, { mode: 0o600, flag: 'wx' });
  renameSync(`${file}.new`, file);
}

function printReset({ reason, after, cursor }: Reset): void {
  const why = reason === 'expired' ? 'is older than the log' : 'belongs to another log';
  complain(`reset (${reason}): the cursor ${after ?? 'start'} ${why}, so events are lost; continuing after ${cursor}`);
}

/** Prints what began and what ended in a room since the last time. */
function createSignalPrinter(
  live: Live<Record<string, unknown>, string>,
  events: readonly string[],
  json: boolean,
): (room: string) => void {
  type Active = ReturnType<typeof live.signals>[number];
  const printed = new Map<string, ReadonlyMap<string, Active>>();

  function print({ event, room, from, sender, payload }: Active, active: boolean): void {
    if (json) void printJson({ signal: event, room, from, sender, payload, active });
    else {
      const change = active ? 'begins' : 'ends';
      void printLine(`signal ${change} ${event} ${room} ${from ?? sender} ${JSON.stringify(payload)}`);
    }
  }

  return (room) => {
    // A slow reader of the output gets the difference later.
    if (process.stdout.writableNeedDrain) return;
    const shown = live.signals(room as Room).filter(({ event }) => events.length === 0 || events.includes(event));
    const now = new Map(shown.map((one) => [JSON.stringify([one.event, one.sender, one.payload]), one]));
    const before = printed.get(room) ?? new Map<string, Active>();
    printed.set(room, now);
    for (const [key, one] of before) if (!now.has(key)) print(one, false);
    for (const [key, one] of now) if (!before.has(key)) print(one, true);
  };
}

/** Prints each change: the transport that works, or why none does. */
function createStatusPrinter(url: string): (status: Status) => void {
  let printed = '';
  return ({ state, transport, error }) => {
    if (state === 'closed') return;
    const text = state === 'live' ? `live over ${transport}` : error === null ? '' : `${faultOf(error, url)}; retrying`;
    if (text === '' || text === printed) return;
    printed = text;
    complain(text);
  };
}

/**
 * `roomcast tail`: prints the events of rooms, each once and in order, over any transport that works (roomcast/client).
 * It resumes by cursor after a cut and, with `--state`, in the next run: the file holds the cursor of the newest event
 * that was printed, so that a run that was killed repeats at most one. Resets are reported on standard error.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Live, type Reset, RoomcastError, type Status, type TransportName } from '../client/client.ts';
import { isWellFormedCursor } from '../contract/cursor.ts';
import { BUILT_IN_KINDS, formatRoom, idsByField, type Room } from '../contract/rooms.ts';
import {
  BRIDGE_FLAGS,
  BRIDGE_HELP,
  bearerToken,
  bridgeUrl,
  causeOf,
  checkNames,
  idsIn,
  listOf,
  parseFlags,
  roomsIn,
  UsageError,
} from './arguments.ts';
import { complain, printJson, printLine } from './output.ts';

export const TAIL_HELP = `Prints each event of the rooms once and in order, until you stop it.

Usage: roomcast tail ROOM … [options]

  ROOM             a room by its name, at least one: tenant:tenant-1, ticket:123, or one of a kind that the bridge
                   declares (ROOM_KINDS), such as queue:a
  --tenant ID      the room tenant:ID; repeat a flag, or separate its ids with commas
  --ticket ID      the same for ticket:ID,
  --agreement ID   agreement:ID
  --user ID        and user:ID
  --event NAME     print only these events; may be repeated
  --after WHERE    a cursor, start (the oldest record) or now (the default)
  --state FILE     continue from the cursor in this file, and save it there; --after is for the first run
  --count N        exit after N events
  --json           print one JSON object per line: {"id", "event", "payload"}; default ID EVENT PAYLOAD
  --signals        also print signals as they begin and end, such as "somebody is typing":
                   signal begins EVENT ROOM SENDER PAYLOAD, with --json {"signal", "room", "from", "sender",
                   "payload", "active"}. A repeat prints nothing. They have no id, and count for neither
                   --count nor --state
  --transport T    websocket, sse or poll; may be repeated (default: the best of all that works)
  --socket-path P  the bridge's SOCKET_PATH (default /socket.io)
  --quiet          do not report changes of the connection; resets are always reported
${BRIDGE_HELP}

Events go to standard output, everything else to standard error. Ctrl-C stops the command. If the
bridge cannot be reached, it retries. Exit codes: 0 stopped by you or --count, 1 refused, 2 wrong usage.

Examples:
  roomcast tail tenant:tenant-1 --after start --json | jq .payload.ticketId
  roomcast tail queue:a queue:b
  roomcast tail --tenant tenant-1 --event messages.new --state ./tail.cursor >> messages.log
`;

const FLAGS = {
  ...BRIDGE_FLAGS,
  tenant: { type: 'string', multiple: true },
  ticket: { type: 'string', multiple: true },
  agreement: { type: 'string', multiple: true },
  user: { type: 'string', multiple: true },
  event: { type: 'string', multiple: true },
  after: { type: 'string' },
  state: { type: 'string' },
  count: { type: 'string' },
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
  const count = countOf(values.count);
  const { state, json, quiet } = values;
  const after = (state === undefined ? null : readState(state)) ?? positionOf(values.after);
  const url = bridgeUrl('tail', values.url);
  const token = bearerToken('tail', values.token);

  const live = connect<Record<string, unknown>, string>({
    url,
    rooms,
    transports,
    ...(after === null ? {} : { after }),
    ...(token === undefined ? {} : { token }),
    ...(values['socket-path'] === undefined ? {} : { socketPath: values['socket-path'] }),
  });
  live.on('reset', printReset);
  if (!quiet) live.on('status', createStatusPrinter());
  if (values.signals) live.on('signals', createSignalPrinter(live, events, json));
  const stop = (): void => live.close();
  // A second signal ends the process at once, even if nothing reads the output.
  process.once('SIGINT', stop).once('SIGTERM', stop);

  let printed = 0;
  try {
    // After a stop, the loop still returns the events that had arrived.
    for await (const { event, cursor, payload } of live) {
      if (events.length > 0 && !events.includes(event)) continue;
      await (json
        ? printJson({ id: cursor, event, payload })
        : printLine(`${cursor} ${event} ${JSON.stringify(payload)}`));
      if (state !== undefined) writeState(state, cursor);
      printed++;
      if (printed === count) return 0;
    }
    // Every event up to this cursor was printed or filtered out.
    if (state !== undefined && live.cursor !== null) writeState(state, live.cursor);
    return 0;
  } catch (error) {
    throw error instanceof RoomcastError ? new Error(describe(error)) : error;
  } finally {
    live.close();
  }
}

function countOf(text: string | undefined): number {
  if (text === undefined) return Number.POSITIVE_INFINITY;
  if (/^[1-9]\d{0,9}$/.test(text)) return Number(text);
  throw new UsageError(`--count must be a whole number of at least 1, not ${JSON.stringify(text)}`, 'tail');
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
function createStatusPrinter(): (status: Status) => void {
  let printed = '';
  return ({ state, transport, error }) => {
    if (state === 'closed') return;
    const text = state === 'live' ? `live over ${transport}` : error === null ? '' : `${describe(error)} Retrying.`;
    if (text === '' || text === printed) return;
    printed = text;
    complain(text);
  };
}

function describe(error: Error): string {
  const code = error instanceof RoomcastError ? `${error.code}: ` : '';
  return `${code}${error.message}${causeOf(error)}`;
}

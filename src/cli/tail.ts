/**
 * `roomcast tail`: the events of rooms on standard output, each once and in order, over whatever gets through
 * (roomcast/client). Resumes by cursor over cuts, and with `--state` over runs: the file holds the cursor of the newest
 * event that was printed, so that a run that was killed repeats at most one. A gap is told on standard error.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { connect, type Reset, RoomcastError, type Status, type TransportName } from '../client/client.ts';
import { isWellFormedCursor } from '../contract/cursor.ts';
import { printableJson } from '../contract/printable.ts';
import {
  BRIDGE_FLAGS,
  BRIDGE_HELP,
  bearerToken,
  bridgeUrl,
  causeOf,
  listOf,
  parseFlags,
  UsageError,
} from './arguments.ts';

export const TAIL_HELP = `Follows rooms, and prints each event once and in order until it is stopped.

Usage: roomcast tail --tenant TENANT [options]

  --tenant ID      rooms to follow, at least one; each may be repeated, or hold
  --ticket ID      several ids, comma-separated
  --agreement ID
  --user ID
  --event NAME     only these; may be repeated
  --after WHERE    a cursor, start (the oldest kept) or now (the default)
  --state FILE     go on from the cursor in this file, and keep it there; --after is for the first run
  --count N        end after so many events
  --json           one JSON object a line: {"id", "event", "payload"}; else ID EVENT PAYLOAD
  --transport T    websocket, sse, poll; may be repeated (default all three, the best that works)
  --socket-path P  where the bridge has set SOCKET_PATH (default /socket.io)
  --quiet          say nothing of the connection's ups and downs; gaps are told all the same
${BRIDGE_HELP}

Events go to standard output, all else to standard error. Ctrl-C ends it. A bridge that cannot be
reached is waited for. Exit codes: 0 ended by you or --count, 1 refused, 2 used wrongly.

Examples:
  roomcast tail --tenant tenant-1 --after start --json | jq .payload.ticketId
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
  transport: { type: 'string', multiple: true },
  'socket-path': { type: 'string' },
  quiet: { type: 'boolean', default: false },
} as const;

const TRANSPORTS: readonly TransportName[] = ['websocket', 'sse', 'poll'];

export async function tail(argv: readonly string[]): Promise<number> {
  const { values } = parseFlags('tail', argv, FLAGS);
  const rooms = {
    tenantId: listOf(values.tenant),
    ticketId: listOf(values.ticket),
    agreementId: listOf(values.agreement),
    userId: listOf(values.user),
  };
  if (Object.values(rooms).every((ids) => ids.length === 0)) {
    throw new UsageError('it takes a room: --tenant, --ticket, --agreement or --user', 'tail');
  }
  const transports = transportsOf(listOf(values.transport));
  const events = listOf(values.event);
  const count = countOf(values.count);
  const { state, json, quiet } = values;
  const after = (state === undefined ? null : readState(state)) ?? placeOf(values.after);
  const url = bridgeUrl('tail', values.url);
  const token = bearerToken('tail', values.token);

  const live = connect({
    url,
    rooms,
    transports,
    ...(after === null ? {} : { after }),
    ...(token === undefined ? {} : { token }),
    ...(values['socket-path'] === undefined ? {} : { socketPath: values['socket-path'] }),
  });
  live.on('reset', warnOfGap);
  if (!quiet) live.on('status', createNarrator());
  const stop = (): void => live.close();
  // A second one ends it at once, also where nobody takes the output.
  process.once('SIGINT', stop).once('SIGTERM', stop);

  let printed = 0;
  try {
    // Once stopped, the loop still brings what had arrived.
    for await (const { event, cursor, payload } of live) {
      if (events.length > 0 && !events.includes(event)) continue;
      await print(
        json
          ? JSON.stringify({ id: cursor, event, payload })
          : `${cursor} ${event} ${printableJson(JSON.stringify(payload))}`,
      );
      if (state !== undefined) writeState(state, cursor);
      printed++;
      if (printed === count) return 0;
    }
    // Everything up to here was printed or filtered out.
    if (state !== undefined && live.cursor !== null) writeState(state, live.cursor);
    return 0;
  } catch (error) {
    throw error instanceof RoomcastError ? new Error(describe(error)) : error;
  } finally {
    live.close();
  }
}

function transportsOf(given: readonly string[]): readonly TransportName[] {
  const odd = given.find((name) => !(TRANSPORTS as readonly string[]).includes(name));
  if (odd === undefined) return given.length === 0 ? TRANSPORTS : (given as TransportName[]);
  throw new UsageError(`--transport got ${JSON.stringify(odd)}: it takes ${TRANSPORTS.join(', ')}`, 'tail');
}

function countOf(text: string | undefined): number {
  if (text === undefined) return Number.POSITIVE_INFINITY;
  if (/^[1-9]\d{0,9}$/.test(text)) return Number(text);
  throw new UsageError(`--count got ${JSON.stringify(text)}: it takes a whole number from 1`, 'tail');
}

/** Null: from now on. */
function placeOf(after: string | undefined): string | null {
  if (after === undefined || after === 'now') return null;
  if (isWellFormedCursor(after)) return after;
  throw new UsageError('--after takes a cursor, start or now', 'tail');
}

/** Null when there is none yet. */
function readState(file: string): string | null {
  let cursor: string;
  try {
    cursor = readFileSync(file, 'utf8').trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  if (isWellFormedCursor(cursor)) return cursor;
  throw new Error(`${file} holds no cursor: it is not a file of tail --state`);
}

/** Whole or not at all, so that a crash in the middle loses no place. */
function writeState(file: string, cursor: string): void {
  writeFileSync(`${file}.new`, `${cursor}\n`);
  renameSync(`${file}.new`, file);
}

/** Resolves when the reader has it: one that is slow slows the transport down, which resumes by cursor. */
function print(line: string): Promise<void> {
  return new Promise((resolve) => process.stdout.write(`${line}\n`, () => resolve()));
}

function warnOfGap({ reason, after, cursor }: Reset): void {
  const why = reason === 'expired' ? 'is older than what the log keeps' : 'is not of this log';
  process.stderr.write(
    `roomcast: GAP (${reason}): the cursor ${after ?? 'start'} ${why}, so events may be missing here; going on from ${cursor}\n`,
  );
}

/** Says what changed for whoever watches: how it listens, or why it does not. */
function createNarrator(): (status: Status) => void {
  let said = '';
  return ({ state, transport, error }) => {
    if (state === 'closed') return;
    const text = state === 'live' ? `live over ${transport}` : error === null ? '' : `${describe(error)} Trying again.`;
    if (text === '' || text === said) return;
    said = text;
    process.stderr.write(`roomcast: ${text}\n`);
  };
}

function describe(error: Error): string {
  const code = error instanceof RoomcastError ? `${error.code}: ` : '';
  return `${code}${error.message}${causeOf(error)}`;
}

/**
 * `roomcast connections`: who is connected to any node of the bridge (protocol §15), one of them in full, or the end of
 * some: clients come back by themselves, unless they are refused.
 */
import { RoomcastError } from '../client/http.ts';
import { TRANSPORTS } from '../contract/names.ts';
import type { ConnectionItem, OperatorPage } from '../contract/operating.ts';
import { BRIDGE_FLAGS, BRIDGE_HELP, checkNames, countOf, parseFlags, UsageError, withIds } from './arguments.ts';
import { createOperator, type Operator, orRefusal, readItems, show } from './operate.ts';
import { complain, printJson, printText } from './output.ts';
import { type Column, confirm, duration, paint, visible } from './terminal.ts';

export const CONNECTIONS_HELP = `Lists who is connected, to any node, oldest first; or closes connections.

Examples:
  roomcast connections
  roomcast connections --sub user-1
  roomcast connections --room ticket:ticket-123 --transport sse
  roomcast connections Yk3dQ0b1cR7oZ2aXAAAB
  roomcast connections close Yk3dQ0b1cR7oZ2aXAAAB
  roomcast connections close --sub user-1 --yes

Usage: roomcast connections [options]               the connections that match all filters
       roomcast connections ID                      one of them, in full
       roomcast connections close ID                closes it
       roomcast connections close FILTER … [--yes]  closes those that match all filters; at least one filter

  --sub USER       of this user
  --room ROOM      in this room, such as ticket:123
  --tenant ID      with a token for this tenant
  --address IP     from this address
  --transport T    websocket, polling, sse or longpoll
  --limit N        list at most this many (default 100)
  --yes            close without asking
  --json           print one JSON object per line; default in a pipe
${BRIDGE_HELP}

With tokens, this takes one with the scope admin; it sees the connections of its tenants. A closed client comes back by
itself: roomcast revoke keeps a user out.

Exit codes: 0 success, also if nobody matches; 1 refused, or no such connection, or not confirmed; 2 wrong usage.
`;

const FLAGS = {
  ...BRIDGE_FLAGS,
  sub: { type: 'string' },
  room: { type: 'string' },
  tenant: { type: 'string' },
  address: { type: 'string' },
  transport: { type: 'string' },
  limit: { type: 'string' },
  yes: { type: 'boolean', default: false },
  json: { type: 'boolean', default: false },
} as const;

const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 100_000;

export async function connections(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseFlags('connections', withIds(argv), FLAGS, 2);
  const isClose = positionals[0] === 'close';
  const [id, extra] = isClose ? positionals.slice(1) : positionals;
  const { sub, room, tenant, address, transport } = values;
  if (transport !== undefined) checkNames('connections', 'transport', [transport], TRANSPORTS);
  const filters = { sub, room, tenantId: tenant, address, transport };
  const hasFilter = Object.values(filters).some((value) => value !== undefined);
  if (extra !== undefined) throw new UsageError(`unexpected argument ${JSON.stringify(extra)}`, 'connections');
  if (id !== undefined && hasFilter)
    throw new UsageError('give the id of a connection or filters, not both', 'connections');
  if (isClose && id === undefined && !hasFilter) {
    throw new UsageError('close takes the id of a connection, or a filter such as --sub user-1', 'connections');
  }
  if (isClose && !values.yes && !process.stdin.isTTY) {
    throw new UsageError('close asks on a terminal; elsewhere, add --yes', 'connections');
  }
  const limit = values.limit === undefined ? DEFAULT_LIMIT : countOf('connections', 'limit', values.limit, MAX_LIMIT);
  const operator = createOperator('connections', values);
  const asJson = values.json || !process.stdout.isTTY;

  return orRefusal(operator.url, async () => {
    if (isClose) return close(operator, id, filters, values.yes);
    if (id !== undefined) return showOne(operator, id, asJson);
    const items = await readItems<ConnectionItem>(operator, 'connections', filters, limit);
    await show(items, asJson, COLUMNS, hasFilter ? 'nobody who matches is connected' : 'nobody is connected');
    return 0;
  });
}

const COLUMNS: readonly Column<ConnectionItem>[] = [
  { title: 'ID', min: 20, max: 36, text: ({ id }) => visible(id) },
  { title: 'BY', min: 9, max: 9, text: ({ transport }) => visible(transport), style: () => 'cyan' },
  { title: 'FOR', min: 3, max: 4, text: ({ since }) => duration(Date.now() - Date.parse(since)) },
  {
    title: 'BEHIND',
    min: 6,
    max: 6,
    text: ({ behindMs }) => (behindMs > 0 ? duration(behindMs) : '-'),
    style: ({ behindMs }) => (behindMs > 5_000 ? 'yellow' : 'dim'),
  },
  { title: 'USER', min: 10, max: 36, text: ({ sub }) => visible(sub ?? '-') },
  { title: 'TENANT', min: 8, max: 24, from: 110, text: ({ tenantIds }) => visible(tenantIds.join(',') || '-') },
  { title: 'ADDRESS', min: 9, max: 39, from: 100, text: ({ address }) => visible(address) },
  { title: 'ROOMS', min: 8, max: 60, text: roomsOf },
];

function roomsOf({ rooms, roomCount }: ConnectionItem): string {
  const [first = '-'] = rooms;
  return visible(roomCount > 1 ? `${roomCount}: ${rooms.join(' ')}` : first);
}

const pathOf = (id: string): string => `connections/${encodeURIComponent(id)}`;

async function showOne(operator: Operator, id: string, asJson: boolean): Promise<number> {
  const connection = (await operator.request('GET', pathOf(id))) as Readonly<Record<string, unknown>>;
  if (asJson) await printJson(connection);
  else {
    for (const [key, value] of Object.entries(connection)) {
      const text = (Array.isArray(value) ? value.join(' ') : String(value ?? '')) || '-';
      await printText(`${paint('dim', visible(key).padEnd(15))}${visible(text)}`);
    }
  }
  return 0;
}

async function close(
  operator: Operator,
  id: string | undefined,
  filters: Readonly<Record<string, string | undefined>>,
  isConfirmed: boolean,
): Promise<number> {
  if (!isConfirmed) {
    const question = id === undefined ? await countMatching(operator, filters) : `Close the connection ${visible(id)}?`;
    if (question === null) {
      complain('nobody who matches is connected');
      return 0;
    }
    if (!(await confirm(question))) {
      complain('nothing was closed');
      return 1;
    }
  }
  const path = id === undefined ? 'connections' : pathOf(id);
  const answer = await operator.request('DELETE', path, id === undefined ? { query: filters } : {});
  const { closed } = Object(answer) as { readonly closed?: unknown };
  if (!Number.isInteger(closed)) throw new RoomcastError('unreachable', 'This is not the bridge: other JSON.');
  if (!process.stdout.isTTY) await printText(String(closed));
  complain(`closed ${closed === 1 ? '1 connection' : `${closed} connections`}`);
  return 0;
}

/** Null if nobody matches. */
async function countMatching(
  operator: Operator,
  filters: Readonly<Record<string, string | undefined>>,
): Promise<string | null> {
  const query = { ...filters, limit: MAX_COUNTED };
  const page = (await operator.request('GET', 'connections', { query })) as Partial<OperatorPage<ConnectionItem>>;
  const { items = [], nextPage } = page;
  if (items.length === 0) return null;
  if (items.length === 1) return `Close 1 connection, of ${visible(items[0]?.sub ?? 'an anonymous client')}?`;
  return `Close ${nextPage == null ? '' : 'more than '}${items.length} connections?`;
}

/** The bridge's largest page. */
const MAX_COUNTED = 1_000;

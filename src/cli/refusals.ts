/** `roomcast refusals`: who was refused lately, at which step and why (protocol §15), newest first. */
import type { RefusalItem } from '../contract/operating.ts';
import { BRIDGE_FLAGS, BRIDGE_HELP, countOf, parseFlags } from './arguments.ts';
import { createOperator, orRefusal, readItems, show } from './operate.ts';
import { type Column, duration, visible } from './terminal.ts';

export const REFUSALS_HELP = `Lists the newest refusals, newest first: connects, joins and requests that the bridge refused, and why.

Examples:
  roomcast refusals
  roomcast refusals --sub user-1
  roomcast refusals --address 203.0.113.7 --json | jq -r .message

Usage: roomcast refusals [options]

  --sub USER       of this user; a refused token names a user only if its signature is good
  --address IP     from this address
  --limit N        list at most this many (default 100)
  --json           print one JSON object per line; default in a pipe
${BRIDGE_HELP}

Each node keeps its newest 1000, until it restarts. With tokens, this takes one with the scope admin, which sees the
refusals of its tenants.

Exit codes: 0 success, also if nothing was refused; 1 refused; 2 wrong usage.
`;

const FLAGS = {
  ...BRIDGE_FLAGS,
  sub: { type: 'string' },
  address: { type: 'string' },
  limit: { type: 'string', default: '100' },
  json: { type: 'boolean', default: false },
} as const;

const MAX_LIMIT = 100_000;

export async function refusals(argv: readonly string[]): Promise<number> {
  const { values } = parseFlags('refusals', argv, FLAGS);
  const { sub, address } = values;
  const limit = countOf('refusals', 'limit', values.limit, MAX_LIMIT);
  const operator = createOperator('refusals', values);
  return orRefusal(operator.url, async () => {
    const items = await readItems<RefusalItem>(operator, 'refusals', { sub, address }, limit);
    await show(items, values.json || !process.stdout.isTTY, COLUMNS, 'nothing was refused', ({ message }) =>
      visible(message),
    );
    return 0;
  });
}

const COLUMNS: readonly Column<RefusalItem>[] = [
  { title: 'AGO', min: 3, max: 4, text: ({ at }) => duration(Date.now() - Date.parse(at)) },
  { title: 'CODE', min: 13, max: 20, text: ({ code }) => visible(code), style: () => 'yellow' },
  { title: 'WHAT', min: 12, max: 60, text: ({ what }) => visible(what) },
  { title: 'BY', min: 9, max: 9, from: 100, text: ({ transport }) => visible(transport) },
  { title: 'USER', min: 8, max: 24, text: ({ sub }) => visible(sub ?? '-') },
  { title: 'ADDRESS', min: 9, max: 39, from: 100, text: ({ address }) => visible(address) },
];

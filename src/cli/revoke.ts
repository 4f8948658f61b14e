/**
 * `roomcast revoke`: cuts off a user, a token or a tenant (protocol §15): their tokens are refused from now on, and their
 * connections end. It also lists revocations, and lifts one.
 */
import { RoomcastError } from '../client/http.ts';
import { BRIDGE_FLAGS, BRIDGE_HELP, countOf, instantOf, parseFlags, UsageError, withIds } from './arguments.ts';
import { createOperator, orRefusal, readItems, show } from './operate.ts';
import { complain, printJson, printLine } from './output.ts';
import { type Column, confirm, duration, visible } from './terminal.ts';

export const REVOKE_HELP = `Cuts off a user, a token or a tenant: their tokens are refused, and their connections end.

Examples:
  roomcast revoke --sub user-1
  roomcast revoke --sub user-1 --tenant tenant-1
  roomcast revoke --jti token-9
  roomcast revoke list
  roomcast revoke lift V1StGXR8_Z5jdHi6B-myT

Usage: roomcast revoke [--sub USER] [--tenant ID] [--jti ID] [options]   all that are given must match
       roomcast revoke list [--limit N]                                  newest first
       roomcast revoke lift ID                                           the tokens are accepted again

  --sub USER       the user
  --tenant ID      the tenant. By itself, all of its users
  --jti ID         the token with this id
  --before TIME    tokens issued until then: an instant, or 10m, 2h (default now). A token that is issued later is
                   accepted: a user who may sign in again can come back
  --limit N        list at most this many (default 100)
  --yes            revoke a whole tenant without asking
  --json           print the answer in full; list prints JSON in a pipe in any case
${BRIDGE_HELP}

It prints the id of the revocation, which lift takes. It needs tokens (AUTH_MODE=jwt), and one with the scope admin; an
admin of a tenant must give --tenant.

Exit codes: 0 success; 1 refused, or no such revocation, or not confirmed; 2 wrong usage.
`;

const FLAGS = {
  ...BRIDGE_FLAGS,
  sub: { type: 'string' },
  tenant: { type: 'string' },
  jti: { type: 'string' },
  before: { type: 'string' },
  limit: { type: 'string' },
  yes: { type: 'boolean', default: false },
  json: { type: 'boolean', default: false },
} as const;

interface Revocation {
  readonly id: string;
  readonly sub: string | null;
  readonly tenantId: string | null;
  readonly jti: string | null;
  readonly before: string;
  readonly createdAt: string;
}

const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 100_000;

export async function revoke(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseFlags('revoke', withIds(argv), FLAGS, 2);
  const [action, id] = positionals;
  const { sub, tenant: tenantId, jti } = values;
  const hasTarget = [sub, tenantId, jti].some((value) => value !== undefined);
  if (action !== undefined && action !== 'list' && action !== 'lift') {
    throw new UsageError(
      `revoke takes list, lift or options such as --sub ${action}, not ${JSON.stringify(action)}`,
      'revoke',
    );
  }
  if (action === undefined && !hasTarget) throw new UsageError('give at least one of --sub, --tenant, --jti', 'revoke');
  if (action !== undefined && (hasTarget || values.before !== undefined)) {
    throw new UsageError(`${action} takes none of --sub, --tenant, --jti, --before`, 'revoke');
  }
  if (action === 'lift' && id === undefined) throw new UsageError('lift takes the id of a revocation', 'revoke');
  if (action === 'list' && id !== undefined)
    throw new UsageError(`unexpected argument ${JSON.stringify(id)}`, 'revoke');
  const before = values.before === undefined ? undefined : instantOf('revoke', 'before', values.before);
  const limit = values.limit === undefined ? DEFAULT_LIMIT : countOf('revoke', 'limit', values.limit, MAX_LIMIT);
  const isWholeTenant = action === undefined && sub === undefined && jti === undefined;
  if (isWholeTenant && !values.yes && !process.stdin.isTTY) {
    throw new UsageError('a whole tenant is revoked after a question on a terminal; elsewhere, add --yes', 'revoke');
  }
  const operator = createOperator('revoke', values);

  return orRefusal(operator.url, async () => {
    if (action === 'list') {
      const items = await readItems<Revocation>(operator, 'revocations', {}, limit);
      await show(items, values.json || !process.stdout.isTTY, COLUMNS, 'nothing is revoked');
      return 0;
    }
    if (action === 'lift') {
      await operator.request('DELETE', `revocations/${encodeURIComponent(id as string)}`);
      complain('lifted; tokens that were refused for it are accepted again until they expire');
      return 0;
    }
    if (
      isWholeTenant &&
      !values.yes &&
      !(await confirm(`Cut off everybody of the tenant ${visible(tenantId ?? '')}?`))
    ) {
      complain('nothing was revoked');
      return 1;
    }
    const revoked = (await operator.request('POST', 'revocations', {
      body: { sub, tenantId, jti, before },
    })) as Revocation;
    if (typeof revoked?.id !== 'string') throw new RoomcastError('unreachable', 'This is not the bridge: other JSON.');
    if (values.json) await printJson(revoked);
    else if (!process.stdout.isTTY) await printLine(revoked.id);
    complain(`revoked ${targetOf(revoked)}; to lift it: roomcast revoke lift ${revoked.id}`);
    return 0;
  });
}

function targetOf({ sub, tenantId, jti, before }: Revocation): string {
  const parts = [sub && `the user ${sub}`, jti && `the token ${jti}`, tenantId && `the tenant ${tenantId}`];
  return `tokens of ${parts.filter((part) => part !== null).join(' in ')}, issued until ${before}`;
}

const COLUMNS: readonly Column<Revocation>[] = [
  { title: 'ID', min: 21, max: 36, text: ({ id }) => visible(id) },
  { title: 'AGO', min: 3, max: 4, text: ({ createdAt }) => duration(Date.now() - Date.parse(createdAt)) },
  { title: 'USER', min: 8, max: 36, text: ({ sub }) => visible(sub ?? '-') },
  { title: 'TENANT', min: 8, max: 24, text: ({ tenantId }) => visible(tenantId ?? '-') },
  { title: 'TOKEN', min: 6, max: 36, text: ({ jti }) => visible(jti ?? '-') },
  { title: 'ISSUED UNTIL', min: 19, max: 24, text: ({ before }) => visible(before.slice(0, 19)) },
];

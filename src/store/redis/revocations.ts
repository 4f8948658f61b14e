/** Revocations in Redis. scripts/prelude/revocations.lua describes how it keeps them. */
import { randomBytes } from 'node:crypto';
import {
  beforeNumber,
  createFollower,
  erasedTenant,
  formatRevocationId,
  type NewRevocation,
  pageOfRevocations,
  parseRevocationId,
  REVOCATION_SLICE,
  type Revocation,
  type RevocationKey,
  type RevocationLimits,
  type Revocations,
  type RevocationsQuery,
  withoutIds,
} from '../revocations.ts';
import type { Calls } from './calls.ts';
import type { Context } from './connection.ts';
import { defineScript } from './script.ts';

/** Milliseconds between two looks for revocations of other nodes. */
const FOLLOW_INTERVAL_MS = 250;
/** Revocations of which one script takes the ids. */
const ERASE_SLICE = 256;

/** The last revocation that was read, and the text that changes when one is removed. */
interface Position {
  readonly changed: string;
  readonly number: string;
  readonly nonce: string;
}

const freshText = (): string => randomBytes(8).toString('hex');

const claimsOf = ({ sub, jti }: NewRevocation): string => JSON.stringify([sub, jti]);

function textOf({ id, ...revocation }: Revocation): string {
  const [number, nonce] = parseRevocationId(id) as RevocationKey;
  const { tenantId, beforeMs, createdAtMs } = revocation;
  const head = [number, createdAtMs, beforeMs, nonce, ...(tenantId === null ? [] : [tenantId])];
  return `${head.join(' ')}\n${claimsOf(revocation)}`;
}

function parseText(text: string): Revocation {
  const lineFeed = text.indexOf('\n');
  // The name in place of an erased tenant has a space.
  const [number = '', createdAtMs, beforeMs, nonce = '', ...tenant] = text.slice(0, lineFeed).split(' ');
  const [sub, jti] = JSON.parse(text.slice(lineFeed + 1)) as [string | null, string | null];
  return {
    id: formatRevocationId([Number(number), nonce]),
    ...{ sub, jti, tenantId: tenant.length === 0 ? null : tenant.join(' ') },
    ...{ beforeMs: Number(beforeMs), createdAtMs: Number(createdAtMs) },
  };
}

const parseTexts = (reply: unknown): Revocation[] => (reply as string[]).map(parseText);
const keyArgv = ([number, nonce]: RevocationKey): string[] => [String(number), nonce];

const REVOKE = defineScript(
  'revoke',
  ({ nonce, limits, ...revocation }: NewRevocation & { readonly nonce: string; readonly limits: RevocationLimits }) => {
    const { tenantId, createdAtMs, beforeMs } = revocation;
    const times = [String(createdAtMs), String(beforeMs)];
    return [nonce, tenantId ?? '', ...times, claimsOf(revocation), String(limits.ofTenant), String(limits.inAll)];
  },
  (reply) => reply as string | null,
);
const LIST = defineScript(
  'revocations',
  ({ tenants, limit, before }: Omit<RevocationsQuery, 'page'> & { readonly before: number | null }) => [
    ...[before === null ? '' : String(before), String(limit), tenants === null ? '1' : ''],
    ...(tenants ?? []),
  ],
  parseTexts,
);
const FIND = defineScript('find-revocation', keyArgv, (reply) => (reply === null ? null : parseText(reply as string)));
const LIFT = defineScript(
  'lift-revocation',
  (key: RevocationKey) => [...keyArgv(key), freshText()],
  (reply) => reply === 1,
);
const AFTER = defineScript(
  'revocations-after',
  (position: Position | null) => {
    const { changed, number, nonce } = position ?? { changed: '-', number: '0', nonce: '' };
    return [changed, number, nonce, String(REVOCATION_SLICE)];
  },
  (reply) => {
    const [isWhole, changed, ...texts] = reply as [string, string, ...string[]];
    return { isWhole: isWhole === '1', changed, revocations: parseTexts(texts) };
  },
);
const TRIM = defineScript(
  'trim-revocations',
  (beforeMs: number) => [String(beforeMs), String(REVOCATION_SLICE), freshText()],
  (reply) => reply === 1,
);
const REPLACE = defineScript(
  'replace-revocations',
  ({ tenantId, found }: { readonly tenantId: string; readonly found: readonly Revocation[] }) => [
    ...[tenantId, erasedTenant(tenantId), freshText()],
    ...found.flatMap((revocation) => {
      const [number] = parseRevocationId(revocation.id) as RevocationKey;
      return [String(number), textOf(revocation), textOf(withoutIds(revocation, tenantId))];
    }),
  ],
  () => {},
);

export function createRevocations({ read, write }: Calls, { logger, signal }: Context) {
  const follower = createFollower({
    async readAfter(position: Position | null) {
      // On the connection for writes, where it does not wait for the reads of callers.
      const { revocations, changed, isWhole } = await write(AFTER, position);
      const last = revocations.at(-1);
      const [number, nonce] = last === undefined ? [] : (parseRevocationId(last.id) as RevocationKey);
      const from = position === null || isWhole ? { number: '0', nonce: '' } : position;
      return {
        ...{ revocations, isWhole, more: revocations.length === REVOCATION_SLICE },
        position: { changed, number: String(number ?? from.number), nonce: nonce ?? from.nonce },
      };
    },
    intervalMs: FOLLOW_INTERVAL_MS,
    logger,
  });
  signal.addEventListener('abort', () => follower.stop());

  const port: Revocations = {
    async revoke(revocation, limits) {
      const nonce = freshText();
      const number = await write(REVOKE, { ...revocation, nonce, limits });
      if (number === null) return 'full';
      await follower.refresh();
      return { id: formatRevocationId([Number(number), nonce]), ...revocation };
    },
    async revocations({ caller, tenants, limit, page }) {
      const query = { tenants, limit: limit + 1, before: beforeNumber(page) };
      return pageOfRevocations(await read(LIST, query, caller), limit);
    },
    async findRevocation(id) {
      const key = parseRevocationId(id);
      return key === null ? null : write(FIND, key);
    },
    async liftRevocation(id) {
      const key = parseRevocationId(id);
      const lifted = key !== null && (await write(LIFT, key));
      await follower.refresh();
      return lifted;
    },
    followRevocations: (listener) => follower.follow(listener),
  };

  return {
    port,
    async trim(beforeMs: number): Promise<void> {
      while (!signal.aborted && (await write(TRIM, beforeMs)));
    },
    /** Takes the ids out of the revocations of a tenant. Resolves to their number. */
    async eraseIds(tenantId: string): Promise<number> {
      for (let erased = 0; ; ) {
        const found = await write(LIST, { tenants: [tenantId], limit: ERASE_SLICE, before: null });
        if (found.length === 0) return erased;
        await write(REPLACE, { tenantId, found });
        erased += found.length;
      }
    },
  };
}

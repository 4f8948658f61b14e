/** Trims and erases in slices of a few milliseconds; other calls run between them. */
import { audienceOf } from '../../contract/audiences.ts';
import { formatRoom } from '../../contract/rooms.ts';
import { type EraseTarget, type Erasure, erasureKey, type Log, type Retention } from '../store.ts';
import { type Calls, WRITE_MS } from './calls.ts';
import { type Context, readInfo } from './connection.ts';
import { ownList } from './record.ts';
import type { createRevocations } from './revocations.ts';
import { defineScript, type Script } from './script.ts';

/** Records, entries or keys that one script processes. */
const SLICE = '256';

type LogSlice = EraseTarget & { readonly list: string; readonly after: string };

/** Whether there is more to trim. */
const hasMore = (reply: unknown): boolean => reply === 1;

const TRIM_LOG = defineScript(
  'trim-log',
  ({ trimBeforeMs, maxRecords }: Retention) => [String(trimBeforeMs), String(maxRecords), SLICE],
  hasMore,
);
const TRIM_STATE = defineScript('trim-state', (beforeMs: number) => [String(beforeMs), SLICE], hasMore);
const TRIM_KEYS = defineScript('trim-keys', (beforeMs: number) => [String(beforeMs), SLICE], hasMore);
const TRIM_SESSIONS = defineScript('trim-sessions', (nowMs: number) => [String(nowMs), SLICE], hasMore);

const escapeGlob = (text: string) => text.replace(/[*?[\]\\^-]/g, '\\$&');

const SCAN_STATE = defineScript(
  'scan-state',
  ({ cursor, tenantId }: { cursor: string; tenantId: string }) => [
    cursor,
    `${escapeGlob(tenantId)},*`,
    SLICE,
    tenantId,
  ],
  (reply) => {
    const [cursor, members] = reply as [string, string[]];
    return { cursor, members };
  },
);
const ERASE_STATE = defineScript(
  'erase-state',
  ({ tenantId, ticketId, members }: EraseTarget & { members: readonly string[] }) =>
    [tenantId, ticketId ?? '', SLICE].concat(members),
  (reply) => {
    const [more, erased] = reply as [number, number];
    return { more: hasMore(more), erased };
  },
);
const ERASE_LOG = defineScript(
  'erase-log',
  ({ list, tenantId, ticketId, after }: LogSlice) => [list, tenantId, ticketId ?? '', after, SLICE],
  (reply) => {
    const [next, erased] = reply as [string | null, number];
    return { next, erased };
  },
);

const UPGRADE_DUE = defineScript(
  'upgrade-due',
  () => [],
  (reply) => reply === 1,
);
/** The tenant '' ends the upgrade. */
const UPGRADE = defineScript(
  'upgrade',
  ({ tenantId, cursor }: { readonly tenantId: string; readonly cursor: string }) => [tenantId, cursor, SLICE],
  (reply) => reply as string,
);

/** Erasures that nodes can still learn of. A node that was away for more takes it that anything may have been erased. */
const NOTED = '100';
const NOTE_ERASURE = defineScript(
  'note-erasure',
  ({ erased, ...target }: EraseTarget & { readonly erased: number }) => [
    ...[erasureKey(target), NOTED, String(erased)],
    ...[target.tenantId, target.ticketId ?? ''],
  ],
  () => {},
);
const REWRITE_DUE = defineScript(
  'rewrite-due',
  (done: string) => [done],
  (reply) => reply as string | null,
);

/** A node asks Redis at most this often to rewrite its file: many erasures share a rewrite. */
const REWRITE_INTERVAL_MS = 10_000;

export function createRetention(
  { write }: Calls,
  context: Context,
  revocations: Pick<ReturnType<typeof createRevocations>, 'trim' | 'eraseIds'>,
): Erasure & Pick<Log, 'trim'> {
  const {
    target: { keyPrefix },
    settings,
    writer,
    logger,
    signal,
  } = context;

  async function trimAll<Arguments>(script: Script<Arguments, boolean>, args: Arguments): Promise<void> {
    while (!signal.aborted && (await write(script, args)));
  }

  async function eraseState(target: EraseTarget): Promise<number> {
    const { tenantId, ticketId } = target;
    let erased = 0;
    let found = { cursor: '0', members: [`${tenantId},${ticketId}`] };
    do {
      if (ticketId === null) found = await write(SCAN_STATE, { cursor: found.cursor, tenantId });
      for (let more = found.members.length > 0; more; ) {
        const reply = await write(ERASE_STATE, { ...target, members: found.members });
        erased += reply.erased;
        more = reply.more;
      }
    } while (found.cursor !== '0');
    return erased;
  }

  async function eraseLog(target: EraseTarget): Promise<number> {
    const { tenantId, ticketId } = target;
    const room = ticketId === null ? formatRoom('tenant', tenantId) : formatRoom('ticket', ticketId);
    let erased = 0;
    for (const list of [audienceOf(settings.keying, tenantId, room), ownList(tenantId, ticketId)]) {
      let after: string | null = '0';
      while (after !== null) {
        const reply: ReturnType<typeof ERASE_LOG.parse> = await write(ERASE_LOG, { ...target, list, after });
        erased += reply.erased;
        after = reply.next;
      }
    }
    return erased;
  }

  /** In steps, because a log may hold many names. What is not converted yet is understood (scripts/append.lua). */
  async function upgrade(): Promise<void> {
    const names = `${keyPrefix}dedupe:`;
    if (!(await write(UPGRADE_DUE, undefined))) return;
    for (let scanned: string | null = '0'; scanned !== null; ) {
      const found = await writer.command(
        ['SCAN', scanned, 'MATCH', `${escapeGlob(names)}*`, 'COUNT', '1000'],
        WRITE_MS,
      );
      const [next, keys] = found as [string, string[]];
      for (const key of keys) {
        const tenantId = key.slice(names.length);
        for (let cursor: string | null = '0'; cursor !== null && !signal.aborted; ) {
          const after: string = await write(UPGRADE, { tenantId, cursor });
          cursor = after === '0' ? null : after;
        }
      }
      if (signal.aborted) return;
      scanned = next === '0' ? null : next;
    }
    await write(UPGRADE, { tenantId: '', cursor: '0' });
    logger.info({}, 'the log was upgraded to the format of this version');
  }

  let rewrittenAtMs = Number.NEGATIVE_INFINITY;

  /** The append-only file contains the erased records until Redis rewrites it. What is due is kept in Redis. */
  async function rewriteFile(): Promise<void> {
    if (performance.now() - rewrittenAtMs < REWRITE_INTERVAL_MS) return;
    const due = await write(REWRITE_DUE, '');
    if (due === null) return;
    rewrittenAtMs = performance.now();
    try {
      const { aof_enabled } = await readInfo(writer, 'persistence', WRITE_MS);
      if (aof_enabled === '1') await writer.command(['BGREWRITEAOF'], WRITE_MS);
      await write(REWRITE_DUE, due);
    } catch (error) {
      const message = 'Redis did not rewrite its append-only file, so the file still contains erased records;';
      logger.warn({ cause: String(error) }, `${message} the bridge asks again`);
    }
  }

  return {
    async trim(retention) {
      await upgrade();
      await trimAll(TRIM_LOG, retention);
      await trimAll(TRIM_STATE, retention.stateBeforeMs);
      await trimAll(TRIM_KEYS, retention.dedupeBeforeMs);
      await trimAll(TRIM_SESSIONS, retention.nowMs);
      await revocations.trim(retention.revokedBeforeMs);
      await rewriteFile();
    },
    async erase(target) {
      const erased = (await eraseState(target)) + (await eraseLog(target));
      const revoked = target.ticketId === null ? await revocations.eraseIds(target.tenantId) : 0;
      await write(NOTE_ERASURE, { ...target, erased: erased + revoked });
      await rewriteFile();
      return erased;
    },
  };
}

/**
 * The log in Redis (>= 7) or Valkey, for any number of nodes.
 *
 * Three connections, so that a long read or a blocked tail holds up no append: one writes, one reads, one waits for
 * news. What must be one step is one script (redis-scripts.ts). Redis being away, slow or replaced is normal: calls end
 * within their time, and all goes on by itself.
 */
import { randomBytes } from 'node:crypto';
import { ErrorReply } from 'redis';
import { audienceOf, type Keying } from '../../contract/audiences.ts';
import { type Cursor, type CursorParts, formatCursor, parseCursor } from '../../contract/cursor.ts';
import { BridgeError } from '../../contract/errors.ts';
import type { LogRecord } from '../../contract/frames.ts';
import { formatRoom, idOf, type Room } from '../../contract/rooms.ts';
import type { Logger } from '../../logger.ts';
import {
  type AppendEvent,
  type AppendRequest,
  invalidPage,
  type LogBounds,
  type Retention,
  type StatePage,
  type Store,
} from '../store.ts';
import { createAppender, idText } from './appender.ts';
import { createConnection, findMaster, isFault, NoAnswer, NotSent, Refused } from './connection.ts';
import { OPEN } from './scripts/append.ts';
import * as keep from './scripts/keep.ts';
import * as reads from './scripts/read.ts';
import { type Script, STATE_KEY } from './scripts/script.ts';
import { runTail } from './tail.ts';
import { describeTarget, parseRedisUrl, REDIS_URL_RULE } from './url.ts';

export interface RedisOptions {
  /** See REDIS_URL_RULE. */
  readonly url: string;
  readonly keying: Keying;
  readonly logger: Logger;
}

/** Reads, sessions and the rest: one attempt, and all attempts together, under the 5 s of protocol §10. */
const READ_MS = 2_000;
const WRITE_MS = 3_000;
const CALLS_MS = 4_000;
/** With less than this left, another attempt is not worth it. */
const LEFT_MS = 500;
/** A Redis away for longer than this fails calls at once. */
const AWAY_MS = 1_500;
const OPEN_MS = 5_000;
/** How often the writer asks whether writes are taken, and how slow an answer is already a fault. */
const PROBE_MS = 1_000;
const SLOW_MS = 2_000;
/** How often a node asks the Sentinels whether its master still is the master. */
const SENTINEL_CHECK_MS = 5_000;
/** Entries of one slice of `trim` and `erase`: a few milliseconds of Redis. */
const SLICE = 256;
/** A page of large payloads is read in steps of so many characters. */
const PAGE_STEP_CHARS = 2 * 1024 * 1024;

const ALPHABET = '0123456789abcdefghijklmnopqrstuvwxyz';

/** @throws {Error} of one line when Redis cannot be reached, or cannot be the log of this node. */
export async function openRedisStore(options: RedisOptions): Promise<Store> {
  const { keying, logger } = options;
  const parsed = parseRedisUrl(options.url);
  if (parsed === null) throw new Error(`STORE_URL: not a Redis URL; it takes ${REDIS_URL_RULE}`);
  const target = parsed;

  const writer = createConnection({ target, name: 'writer', logger });
  const reader = createConnection({ target, name: 'reader', logger });
  const listening = createConnection({ target, name: 'tail', logger });
  const tailEnd = new AbortController();
  const closing = new AbortController();
  const draw = createDraw();
  let tailing: Promise<void> | null = null;

  const appender = createAppender({
    connection: writer,
    keying,
    newEpoch: () => draw(8),
    newNonce: () => draw(4),
    encode: encodeRecord,
    logger,
  });

  let opened: CursorParts & { readonly bounds: LogBounds };
  try {
    opened = await open();
  } catch (error) {
    await appender.close();
    for (const connection of [writer, reader, listening]) connection.close();
    throw error;
  }

  const probing = setInterval(() => void probe(), PROBE_MS);
  const checking = target.masterName === null ? null : setInterval(() => void checkMaster(), SENTINEL_CHECK_MS);

  async function open(): Promise<CursorParts & { readonly bounds: LogBounds }> {
    const where = `STORE_URL: Redis at ${describeTarget(target)}`;
    const untilMs = performance.now() + OPEN_MS;
    for (;;) {
      if (!(await writer.whenReady(untilMs - performance.now()))) {
        throw new Error(`${where} cannot be reached (${writer.lastFault()})`);
      }
      try {
        const info = String(await writer.command(['INFO'], WRITE_MS));
        const version = Number(/^redis_version:(\d+)/m.exec(info)?.[1] ?? 0);
        if (version < 7) throw new Error(`${where} is of version ${version}, it takes 7 or newer`);
        const policy = /^maxmemory_policy:(\S+)/m.exec(info)?.[1] ?? 'noeviction';
        if (policy.startsWith('allkeys')) {
          throw new Error(`${where} evicts keys (maxmemory-policy ${policy}), a log takes noeviction`);
        }
        const reply = (await writer.run(OPEN, [draw(8), keying], WRITE_MS)) as unknown[];
        if (reply[8] !== keying) {
          throw new Error(`${where} holds a log keyed by ${reply[8]}, this node keys by ${keying} (AUTH_MODE)`);
        }
        const head = { epoch: reply[1] as string, seq: Number(reply[2]), nonce: reply[3] as string };
        return { ...head, bounds: boundsOf(reply) };
      } catch (error) {
        if (error instanceof ErrorReply) throw new Error(`${where} cannot hold a log: ${error.message}`);
        if (!isFault(error)) throw error;
        if (performance.now() >= untilMs) throw new Error(`${where} takes no writes: ${error.message}`);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }

  /** Finds out that Redis hangs, or takes no writes, when nobody appends; and that it takes them again. */
  async function probe(): Promise<void> {
    // A reader that hangs is found out and given up by this alone, whether it answers or not.
    reader.command(['PING'], READ_MS).catch(() => {});
    if (!writer.ready()) return;
    try {
      const reply = (await writer.run(OPEN, [draw(8), keying], WRITE_MS)) as unknown[];
      appender.tell(reply[8] === keying ? 'taken' : 'refused');
    } catch (error) {
      if (error instanceof Refused || error instanceof ErrorReply) appender.tell('refused');
    }
  }

  /** A master that was cut off from its Sentinels goes on as if nothing had happened. */
  async function checkMaster(): Promise<void> {
    const found = await findMaster(target).catch(() => null);
    if (found === null) return;
    for (const connection of [writer, reader, listening]) {
      const address = connection.address();
      if (address !== null && (address.host !== found.host || address.port !== found.port)) connection.drop();
    }
  }

  /**
   * Runs a script, again when the connection broke meanwhile: only for what may run twice.
   * @throws {BridgeError} `unavailable`
   */
  async function call(script: Script, args: readonly string[], writes: boolean): Promise<unknown> {
    const connection = writes ? writer : reader;
    const untilMs = performance.now() + CALLS_MS;
    for (;;) {
      const leftMs = untilMs - performance.now();
      try {
        if (closing.signal.aborted) throw new NotSent('the log is closed');
        if (connection.downForMs() > AWAY_MS || !(await connection.whenReady(Math.min(leftMs, AWAY_MS)))) {
          throw new NotSent('no connection to Redis');
        }
        return await connection.run(script, args, Math.min(leftMs, writes ? WRITE_MS : READ_MS));
      } catch (error) {
        // An error reply of an unknown kind, as proxies have them: whether it passes is not for this node to say.
        if (error instanceof ErrorReply) logger.error({ cause: error.message }, 'Redis answers with an error');
        else if (!isFault(error)) throw error;
        if (error instanceof NoAnswer && untilMs - performance.now() > LEFT_MS) continue;
        throw new BridgeError('unavailable', 'The log cannot be used now', { cause: error });
      }
    }
  }

  const write = (script: Script, args: readonly string[]) => call(script, args, true);

  /** Scripts answer 'none' when Redis holds no log, after a flush: then this node makes one. */
  async function read(script: Script, args: readonly string[]): Promise<unknown[]> {
    let reply = (await call(script, args, false)) as unknown[];
    if (reply[0] === 'none') {
      await write(OPEN, [draw(8), keying]);
      reply = (await call(script, args, false)) as unknown[];
      if (reply[0] === 'none') throw new BridgeError('unavailable', 'The log was emptied');
    }
    return reply;
  }

  async function bounds(): Promise<LogBounds> {
    return boundsOf(await read(reads.RESOLVE, ['', '0', '']));
  }

  /** Calls a script until it says that it is done, letting others in between. */
  async function untilDone(script: Script, args: readonly string[]): Promise<void> {
    while (!closing.signal.aborted && (await write(script, args)) === 1);
  }

  async function trim(retention: Retention): Promise<void> {
    const slice = String(SLICE);
    await untilDone(keep.TRIM_LOG, [String(retention.trimBeforeMs), String(retention.maxRecords), slice]);
    await untilDone(keep.TRIM_STATE, [String(retention.stateBeforeMs), slice]);
    await untilDone(keep.TRIM_KEYS, ['idempotency', 'idempotency:', `(${retention.dedupeBeforeMs}`, slice]);
    await untilDone(keep.TRIM_KEYS, ['sessions', 'session:', String(retention.nowMs), slice]);
  }

  async function erase(tenantId: string, ticketId: string | null): Promise<number> {
    let erased = await eraseState(tenantId, ticketId);
    const room = ticketId === null ? formatRoom('tenant', tenantId) : formatRoom('ticket', ticketId);
    const audience = audienceOf(keying, tenantId, room);
    for (let after: string | null = '0'; after !== null; ) {
      const args: string[] = [audience, tenantId, ticketId ?? '', after, String(SLICE)];
      const [next, count] = (await write(keep.ERASE_LOG, args)) as [string | null, number];
      erased += count;
      after = next;
    }
    await rewriteFile();
    return erased;
  }

  async function eraseState(tenantId: string, ticketId: string | null): Promise<number> {
    const pattern = `${tenantId.replace(/[*?[\]\\^-]/g, '\\$&')},*`;
    let erased = 0;
    let cursor = '0';
    do {
      let entries = ticketId === null ? [] : [`${tenantId},${ticketId}`];
      if (ticketId === null) {
        const args = [STATE_KEY, cursor, 'MATCH', pattern, 'COUNT', String(SLICE)];
        const [next, found] = (await write(reads.SCAN_STATE, args)) as [string, string[]];
        cursor = next;
        entries = found;
      }
      for (let more = entries.length > 0; more; ) {
        const args = [tenantId, ticketId ?? '', String(SLICE), ...entries];
        const [again, count] = (await write(keep.ERASE_STATE, args)) as [number, number];
        erased += count;
        more = again === 1;
      }
    } while (cursor !== '0');
    return erased;
  }

  async function usedMemory(): Promise<number> {
    try {
      const info = String(await reader.command(['INFO', 'memory'], READ_MS));
      return Number(/^used_memory:(\d+)/m.exec(info)?.[1] ?? 0);
    } catch (error) {
      throw isFault(error) ? new BridgeError('unavailable', 'The log cannot be used now', { cause: error }) : error;
    }
  }

  /** The append-only file holds the erased records until Redis rewrites it. */
  async function rewriteFile(): Promise<void> {
    try {
      const info = String(await writer.command(['INFO', 'persistence'], WRITE_MS));
      if (/^aof_enabled:1/m.test(info)) await writer.command(['BGREWRITEAOF'], WRITE_MS);
    } catch (error) {
      logger.warn({ cause: String(error) }, 'Redis did not rewrite its append-only file; erased records remain in it');
    }
  }

  return {
    opened: opened.bounds,
    tail(listener) {
      if (tailing !== null) throw new Error('the tail has been started already');
      const reopen = async () => void (await write(OPEN, [draw(8), keying]));
      const from = { epoch: opened.epoch, seq: opened.seq, nonce: opened.nonce };
      tailing = runTail({ connection: listening, from, listener, logger, reopen, boundsOf, recordsOf }, tailEnd.signal);
    },
    append: (request) => appender.append(request),
    bounds,
    async resolve(cursor) {
      const place = placeOf(cursor);
      const reply = await read(reads.RESOLVE, place);
      const kind = reply[0] as 'ok' | 'expired' | 'unknown';
      return kind === 'ok' ? { kind } : { kind, ...boundsOf(reply) };
    },
    async read({ audiences, after, limit, maxChars }) {
      const place = placeOf(after);
      const args = [...place, String(limit), String(maxChars), ...new Set(audiences)];
      const reply = await read(reads.READ, args);
      const kind = reply[0] as 'ok' | 'expired' | 'unknown';
      if (kind !== 'ok') return { kind, ...boundsOf(reply) };
      const records = recordsOf(reply[1] as string, reply, 9);
      const more = reply[8] === '1';
      const last = records.at(-1);
      return { kind, records, more, position: more && last !== undefined ? last.id : headOf(reply) };
    },
    async newest({ audiences, limit, maxChars }) {
      const reply = await read(reads.NEWEST, [String(limit), String(maxChars), ...new Set(audiences)]);
      return { records: recordsOf(reply[1] as string, reply, 8).reverse(), head: headOf(reply) };
    },
    async tickets({ tenantId, ticketIds, agreementIds, agreementId, status, updatedAfter, page, ...size }) {
      const filter = [...listArguments(ticketIds), ...listArguments(agreementIds)];
      const first = page === null ? '' : ticketPlace(page);
      const { nextPage, ...found } = await pageFrom(first, size, (bounds) =>
        read(reads.TICKETS, [tenantId, status ?? '', agreementId ?? '', updatedAfter ?? '', ...bounds, ...filter]),
      );
      return { ...found, nextPage: nextPage?.replace(',', '-') ?? null };
    },
    async ticket(tenantId, ticketId) {
      const reply = await read(reads.TICKET, [tenantId, ticketId]);
      const record = (reply[8] ?? null) as string | null;
      return { payload: record === null ? null : payloadOf(record), cursor: headOf(reply) };
    },
    async messages({ tenantId, ticketId, order, page, ...size }) {
      if (page !== null && !/^\d{1,16}$/.test(page)) throw invalidPage();
      return pageFrom(page ?? '', size, (bounds) => read(reads.MESSAGES, [tenantId, ticketId, order, ...bounds]));
    },
    async saveSession({ pid, owner, data, expiresAtMs }) {
      return (await write(keep.SAVE_SESSION, [pid, owner, data, String(expiresAtMs)])) === 1;
    },
    async claimSession(pid, owner, nowMs) {
      const reply = (await write(keep.CLAIM_SESSION, [pid, owner, String(nowMs)])) as string[];
      if (reply[0] === undefined) return null;
      return { pid, owner, data: reply[0], expiresAtMs: Number(reply[1]) };
    },
    async touchSessions(sessions) {
      for (let at = 0; at < sessions.length; at += SLICE) {
        const slice = sessions.slice(at, at + SLICE);
        await write(
          keep.TOUCH_SESSIONS,
          slice.flatMap(({ pid, owner, expiresAtMs }) => [pid, owner, String(expiresAtMs)]),
        );
      }
    },
    async dropSession(pid, owner) {
      await write(keep.DROP_SESSION, [pid, owner]);
    },
    trim,
    async secret(name) {
      return (await write(keep.SECRET, [name, randomBytes(32).toString('base64url')])) as string;
    },
    erase: ({ tenantId, ticketId }) => erase(tenantId, ticketId),
    async stats() {
      const [records, oldest, newest] = (await call(reads.STATS, [], false)) as [number, string?, string?];
      const at = (time: string | undefined): number | null => (time === undefined ? null : Number(time));
      return {
        records,
        oldestAcceptedAtMs: at(oldest),
        newestAcceptedAtMs: at(newest),
        bytes: await usedMemory(),
      };
    },
    async announce({ id, facts, ttlMs }) {
      return (await write(keep.MEET, [id, facts, String(ttlMs)])) as string[];
    },
    healthy() {
      return !closing.signal.aborted && writer.ready() && !appender.refused() && writer.waitingForMs() < SLOW_MS;
    },
    async close() {
      clearInterval(probing);
      if (checking !== null) clearInterval(checking);
      await appender.close();
      closing.abort();
      tailEnd.abort();
      for (const connection of [writer, reader, listening]) connection.close();
      await tailing;
    },
  };
}

/** The fixed head of every answer about the log: status, epoch, head, floor, oldest. */
function boundsOf(reply: readonly unknown[]): LogBounds {
  const at = (index: number): Cursor =>
    formatCursor({ epoch: reply[1] as string, seq: Number(reply[index]), nonce: reply[index + 1] as string });
  return { floor: at(4), oldest: at(6), head: at(2) };
}

function headOf(reply: readonly unknown[]): Cursor {
  return formatCursor({ epoch: reply[1] as string, seq: Number(reply[2]), nonce: reply[3] as string });
}

/** What is no cursor of ours names no record of any log: no epoch is empty. */
function placeOf(cursor: string): string[] {
  const parts = parseCursor(cursor);
  return parts === null ? ['', '0', ''] : [parts.epoch, String(parts.seq), parts.nonce];
}

type Header = readonly [
  event: string,
  rooms: readonly Room[],
  audiences: readonly string[],
  acceptedAtMs: number,
  nonce: string,
  kind: 't' | 'm' | '',
  tenantId: string,
  ticketId: string,
  messageId: string,
  providerMessageId: string,
  idempotencyKey: string,
];

/**
 * The payload's length in characters, a header that scripts read too, a line feed (which JSON text never holds), and the
 * payload.
 */
function encodeRecord(event: AppendEvent, nonce: string, request: AppendRequest): string {
  const ticketRoom = event.rooms.find((room) => room.startsWith('ticket:'));
  const header: Header = [
    event.event,
    event.rooms,
    event.audiences,
    request.acceptedAtMs,
    nonce,
    event.ticket ? 't' : event.message ? 'm' : '',
    event.tenantId,
    ticketRoom === undefined ? '' : idOf(ticketRoom),
    idText(event.message?.messageId ?? ''),
    idText(event.message?.providerMessageId ?? ''),
    request.idempotency?.key ?? '',
  ];
  return `${event.payload.length}${JSON.stringify(header)}\n${event.payload}`;
}

/** Seqs and records in turn, from `first` on. */
function recordsOf(epoch: string, reply: readonly unknown[], first: number): LogRecord[] {
  const records: LogRecord[] = [];
  for (let i = first; i + 1 < reply.length; i += 2) {
    const text = reply[i + 1] as string;
    const end = text.indexOf('\n');
    const header = JSON.parse(text.slice(text.indexOf('['), end)) as Header;
    records.push({
      id: formatCursor({ epoch, seq: Number(reply[i]), nonce: header[4] }),
      event: header[0],
      rooms: header[1],
      audiences: header[2],
      payload: text.slice(end + 1),
      acceptedAtMs: header[3],
    });
  }
  return records;
}

function payloadOf(record: string): string {
  return record.slice(record.indexOf('\n') + 1);
}

/**
 * A page of a state list, in as many steps as its payloads take. A step answers where to go on (`''` when all was looked
 * at), then place, record, …; `nextPage` is the place of the page's last item.
 */
async function pageFrom(
  first: string,
  { limit, maxChars }: { readonly limit: number; readonly maxChars: number },
  step: (bounds: readonly string[]) => Promise<readonly unknown[]>,
): Promise<StatePage> {
  const items: string[] = [];
  let chars = 0;
  let last: string | null = null;
  let from = first;
  let cursor: Cursor | null = null;
  do {
    const reply = await step([from, String(limit + 1 - items.length), String(PAGE_STEP_CHARS)]);
    // Of several steps the first: whatever changed since lies after its head.
    cursor ??= headOf(reply);
    from = reply[8] as string;
    for (let i = 9; i + 1 < reply.length; i += 2) {
      if (items.length === limit || chars > maxChars) return { items, nextPage: last, cursor };
      last = reply[i] as string;
      const payload = payloadOf(reply[i + 1] as string);
      items.push(payload);
      chars += payload.length;
    }
  } while (from !== '' && chars <= maxChars);
  return { items, nextPage: from === '' ? null : last, cursor };
}

/** A page of tickets is `{updatedAt}-{seq}` of its last item; the entries of redis-scripts.ts have a comma there. */
function ticketPlace(page: string): string {
  if (!/^\d{12}\.\d*-\d{16}$/.test(page)) throw invalidPage();
  return page.replace('-', ',');
}

function listArguments(ids: readonly string[] | null): string[] {
  return ids === null ? ['-1'] : [String(ids.length), ...ids];
}

/** Draws strings of [0-9a-z] from pooled random bytes. 252 is the largest multiple of 36 in a byte. */
function createDraw(): (length: number) => string {
  let pool = randomBytes(0);
  let at = 0;
  return (length) => {
    let text = '';
    while (text.length < length) {
      if (at === pool.length) {
        pool = randomBytes(4096);
        at = 0;
      }
      const byte = pool[at++] as number;
      if (byte < 252) text += ALPHABET[byte % 36];
    }
    return text;
  };
}

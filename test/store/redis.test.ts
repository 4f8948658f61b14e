/** The store on real Redis servers: the conformance suite, many nodes, and every failure that a log must survive. */
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, it, type TestContext } from 'node:test';
import { setImmediate as immediate } from 'node:timers/promises';
import { HEARS_ALL } from '../../src/contract/audiences.ts';
import type { Cursor } from '../../src/contract/cursor.ts';
import { BridgeError } from '../../src/contract/errors.ts';
import { createEventCatalog } from '../../src/contract/events.ts';
import type { LogRecord } from '../../src/contract/frames.ts';
import { createLogger } from '../../src/logger.ts';
import { withoutCredentials } from '../../src/store/open.ts';
import { openRedisStore } from '../../src/store/redis/store.ts';
import { parseRedisUrl } from '../../src/store/redis/url.ts';
import { SCAN_ROWS } from '../../src/store/scan.ts';
import type { ScanQuery } from '../../src/store/store.ts';
import {
  type AppendEvent,
  type AppendResult,
  type EraseTarget,
  erasureKey,
  type LogBounds,
  type Retention,
  type Store,
} from '../../src/store/store.ts';
import { type CutProxy, startCutProxy } from '../support/cut-proxy.ts';
import { missing, type RedisServer, startRedis, startSentinels, useRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';
import {
  append,
  declared,
  type Engine,
  HOUR,
  message,
  readAll,
  refusedAs,
  request,
  sessionChange,
  storeConformance,
  tailOf,
  ticket,
} from './conformance.ts';
import { messageConformance } from './message-conformance.ts';
import { step } from './scan.ts';

const logger = createLogger('silent');
const absent = missing('redis-server');
const EVERYTHING: Retention = {
  trimBeforeMs: 1e15,
  maxRecords: 0,
  stateBeforeMs: 0,
  dedupeBeforeMs: 0,
  revokedBeforeMs: 0,
  nowMs: 0,
};

interface Node {
  readonly store: Store;
  readonly records: LogRecord[];
  readonly gaps: { readonly kind: 'expired' | 'unknown'; readonly bounds: LogBounds; readonly after: number }[];
  readonly forgotten: Cursor[];
  readonly erased: (string | null)[];
}

async function startNode(t: TestContext, url: string, onCall = (_calls: number) => {}): Promise<Node> {
  const store = await openRedisStore({ url, keying: 'room', logger });
  t.after(() => store.close());
  const node: Node = { store, records: [], gaps: [], forgotten: [], erased: [] };
  store.tail({
    records: (records) => onCall(node.records.push(...records)),
    gap: (kind, bounds) => onCall(node.gaps.push({ kind, bounds, after: node.records.length })),
    forgotten: (through) => onCall(node.forgotten.push(through)),
    erased: (key) => void node.erased.push(key),
  });
  return node;
}

/** A node that reaches Redis through a proxy. */
async function startBehindProxy(t: TestContext, url: string): Promise<Node & { readonly proxy: CutProxy }> {
  const proxy = await startCutProxy(url);
  t.after(() => proxy.close());
  return { ...(await startNode(t, proxy.url.replace('http', 'redis'))), proxy };
}

/** The names and values of all keys. */
async function contentsOf(redis: RedisServer): Promise<string> {
  const keys = (await redis.command('KEYS', '*')) as string[];
  const READ: Record<string, readonly string[]> = {
    string: ['GET'],
    list: ['LRANGE', '0', '-1'],
    hash: ['HGETALL'],
    set: ['SMEMBERS'],
    zset: ['ZRANGE', '0', '-1'],
    stream: ['XRANGE', '-', '+'],
  };
  const values = await Promise.all(
    keys.map(async (key) => {
      const [name = '', ...rest] = READ[String(await redis.command('TYPE', key))] ?? [];
      return redis.command(name, key, ...rest);
    }),
  );
  return JSON.stringify([keys, values]);
}

async function appendOnlyFile(redis: RedisServer): Promise<string> {
  const { dir: folder = '' } = (await redis.command('CONFIG', 'GET', 'dir')) as Record<string, string>;
  const files = await readdir(join(folder, 'appendonlydir'));
  return (await Promise.all(files.map((file) => readFile(join(folder, 'appendonlydir', file), 'latin1')))).join();
}

const ids = (records: readonly LogRecord[]): Cursor[] => records.map(({ id }) => id);
const inOrderAndOnce = (records: readonly LogRecord[]): void =>
  assert.deepEqual(ids(records), [...new Set(ids(records))].sort());

/** Waits until the tails are at the head. The log may still be recovering. */
async function atHead(...nodes: readonly Node[]): Promise<void> {
  for (const { store, records } of nodes) {
    await until('the tail is at the head', async () => {
      const bounds = await store.bounds().catch(() => null);
      return bounds !== null && records.at(-1)?.id === bounds.head;
    });
  }
}

/** How a call ended, and after how many milliseconds. */
async function ending(call: Promise<unknown>): Promise<{ readonly code: string; readonly ms: number }> {
  const startedMs = performance.now();
  const code = await call.then(
    () => 'done',
    (error) => (error instanceof BridgeError ? error.code : String(error)),
  );
  return { code, ms: performance.now() - startedMs };
}

/** Repeats a publish under its key, as a publisher should, until it gets an answer. */
async function publish(store: Store, key: string): Promise<Cursor> {
  const keyed = request([declared({ key })], Date.now(), key);
  const results: AppendResult[] = [];
  const isAppended = async (): Promise<boolean> => {
    const attempt = await store.append(keyed).catch((error: unknown) => {
      assert.ok(error instanceof BridgeError && error.passing, String(error));
      return null;
    });
    return attempt !== null && results.push(attempt) > 0;
  };
  // Sentinels whose votes were split try again after four seconds.
  await until(`${key} is appended`, isAppended, 30_000);
  assert.ok(results[0]?.kind === 'appended');
  return results[0].events[0]?.id as Cursor;
}

/** Publishes one event after the other. The returned function ends that and resolves to the acknowledged cursors. */
function publishMany(store: Store, name: string): () => Promise<Cursor[]> {
  let going = true;
  const running = (async () => {
    const acknowledged: Cursor[] = [];
    for (let n = 0; going; n++) acknowledged.push(await publish(store, `${name}-${n}`));
    return acknowledged;
  })();
  return () => {
    going = false;
    return running;
  };
}

if (absent === false) {
  const engine: Engine = {
    keeps: true,
    rekeys: false,
    nodes: 'many',
    create: async () => {
      const redis = await startRedis();
      return { open: (keying = 'room') => openRedisStore({ url: redis.url, keying, logger }), remove: redis.stop };
    },
  };
  storeConformance('Redis', engine);
  messageConformance('Redis', engine);
}

describe('a Redis URL', () => {
  it('names a server, with or without credentials, TLS and a database', () => {
    const target = parseRedisUrl('rediss://bot:p%40ss@redis.example:6380/3');
    assert.deepEqual(target?.nodes, [{ host: 'redis.example', port: 6380 }]);
    assert.deepEqual([target?.tls, target?.username, target?.password, target?.database], [true, 'bot', 'p@ss', 3]);
    assert.deepEqual(parseRedisUrl('redis://[::1]')?.nodes, [{ host: '::1', port: 6379 }]);
    assert.equal(parseRedisUrl('redis://:secret@h')?.username, null);
    const { nodes, password } = parseRedisUrl('redis://:p@ss@h') ?? {};
    assert.deepEqual([nodes, password], [[{ host: 'h', port: 6379 }], 'p@ss'], 'the host comes after the last @');
  });

  it('is named without its credentials', () => {
    for (const [url, named] of [
      ['redis://bot:pw@h:1/2', 'redis://***@h:1/2'],
      ['rediss://:p@w@h', 'rediss://***@h'],
      ['redis+sentinel://:pw@a,b/main?sentinelUsername=u&sentinelPassword=pw', 'redis+sentinel://***@a,b/main'],
      ['redis://h', 'redis://h'],
      ['sqlite:./a@b/c?d.db', 'sqlite:./a@b/c?d.db'],
    ] as const) {
      assert.equal(withoutCredentials(url), named);
    }
  });

  it('names Sentinels and their master', () => {
    const target = parseRedisUrl('redis+sentinel://:pw@a,b:5000,[::1]:6000/main/1?sentinelPassword=x');
    assert.deepEqual(target?.nodes, [
      { host: 'a', port: 26379 },
      { host: 'b', port: 5000 },
      { host: '::1', port: 6000 },
    ]);
    assert.deepEqual([target?.masterName, target?.database, target?.sentinelPassword], ['main', 1, 'x']);
  });

  for (const url of ['redis://', 'redis://a,b', 'redis://h:0', 'redis://h/x', 'redis+sentinel://h', 'http://h', '']) {
    it(`is not ${url || 'empty'}`, () => assert.equal(parseRedisUrl(url), null));
  }
});

describe('a scan of the log in Redis', { skip: absent }, () => {
  const redis = useRedis();

  it('goes to an instant by the time in the cursors, as far as the clocks agree', async (t) => {
    const store = await openRedisStore({ url: redis.url, keying: 'room', logger });
    t.after(() => store.close());
    tailOf(store);
    // More than one step looks at.
    const fill = (atMs: number) =>
      append(
        store,
        Array.from({ length: SCAN_ROWS + 10 }, () => declared()),
        atMs,
      );
    await fill(Date.now());
    const sinceMs = Date.now() + 1;
    await until('the clock moves on', () => Date.now() > sinceMs);
    const late = await fill(sinceMs);
    const found = async (query: Partial<ScanQuery>) =>
      (await step(store, { ...query, limit: 1 })).records.map(({ id }) => id);
    const [key = ''] = (await redis.command('KEYS', '*log')) as string[];
    const drift = Number(await redis.command('HGET', key, 'drift'));
    assert.ok(drift >= 0 && drift < 60_000, `${drift} ms between acceptance and append`);
    await redis.command('HSET', key, 'drift', '0');
    assert.deepEqual(await found({ sinceMs }), [late[0]], 'the first step finds it');
    // A clock is an hour wrong: nothing is skipped any more, and nothing is lost.
    await append(store, [declared()], Date.now() - HOUR);
    assert.deepEqual(await found({ sinceMs }), [], 'it is on the way');
    const untilMs = Date.now() - HOUR;
    const { records } = await step(store, { untilMs, order: 'desc' });
    assert.equal(records.length, 1);
  });
});

describe('many nodes on one Redis', { skip: absent }, () => {
  const redis = useRedis();
  beforeEach(() => redis.command('FLUSHALL'));

  it('append a message once when all publish it at once', async (t) => {
    const nodes = await Promise.all([1, 2, 3].map(() => startNode(t, redis.url)));
    const messages = Array.from({ length: 100 }, (_, n) => message({ messageId: `m${n}` }));
    const results = await Promise.all(
      messages.flatMap((event) => nodes.map(({ store }) => store.append(request([event])))),
    );
    const appended = results.flatMap((result) => (result.kind === 'appended' ? result.events : []));
    assert.equal(appended.filter(({ duplicate }) => !duplicate).length, 100);
    assert.equal(new Set(appended.map(({ id }) => id)).size, 100);
    for (const { records } of nodes) {
      await until('the tail has all', () => records.length === 100);
      inOrderAndOnce(records);
    }
  });

  it('share idempotency keys, sessions and secrets', async (t) => {
    const [a, b] = await Promise.all([startNode(t, redis.url), startNode(t, redis.url)]);
    const keyed = request([declared(), declared()], Date.now(), 'key');
    const [first, second] = await Promise.all([a.store.append(keyed), b.store.append(keyed)]);
    assert.deepEqual(
      [first, second].map((result) => result.kind === 'appended' && result.events.map(({ id }) => id)),
      Array(2).fill(first.kind === 'appended' && first.events.map(({ id }) => id)),
    );
    assert.equal((await b.store.append(request([declared()], Date.now(), 'key', 'other'))).kind, 'conflict');
    assert.equal(await a.store.secret('pass'), await b.store.secret('pass'));

    await a.store.saveSession(sessionChange());
    assert.equal((await b.store.claimSession('p', 'b', Date.now()))?.owner, 'b');
    assert.equal(await a.store.saveSession(sessionChange({ isWhole: false })), 'foreign');
  });

  it('learn that another node trimmed or erased records', async (t) => {
    const [a, b] = await Promise.all([startNode(t, redis.url), startNode(t, redis.url)]);
    await append(a.store, [declared()]);
    const [last] = await append(a.store, [declared({ tenantId: 'gone' })]);
    await until('the tail has both', () => b.records.length === 2);
    await a.store.erase({ tenantId: 'gone', ticketId: null });
    await until('the erasure is reported', () => b.forgotten.at(-1) === last);
    const reported = b.forgotten.length;
    await a.store.trim(EVERYTHING);
    await until('the trim is reported', () => b.forgotten.length > reported && b.forgotten.at(-1) === last);
    assert.deepEqual(b.gaps, []);
  });

  it('get the next commit when the listener throws', async (t) => {
    const { store, records, gaps, forgotten } = await startNode(t, redis.url, () => {
      throw new Error('a fault of the listener');
    });
    const [first] = await append(store, [declared()]);
    await until('the record is handed over', () => records.length === 1);
    await store.trim(EVERYTHING);
    await until('the trim is reported', () => forgotten.length === 1);
    await redis.command('FLUSHALL');
    await until('the gap is reported', () => gaps.length === 1);
    const [second] = await append(store, [declared()]);
    await until('the next record is handed over', () => records.length === 2);
    assert.deepEqual([ids(records), forgotten, gaps[0]?.kind], [[first, second], [first], 'unknown']);
  });

  it('get rising cursors when the clock of Redis stands or steps back', async (t) => {
    await (await openRedisStore({ url: redis.url, keying: 'room', logger })).close();
    // As if the clock had stepped back by an hour since the newest record.
    const last = String((Date.now() + 3_600_000) * 1000);
    await redis.command('HSET', '{roomcast}:log', 'last', last, 'trimmed', last);
    const [a, b] = await Promise.all([startNode(t, redis.url), startNode(t, redis.url)]);
    const appended: Cursor[] = [];
    for (const { store } of [a, b, a]) appended.push(...(await append(store, [declared(), declared()])));
    assert.deepEqual(appended, [...new Set(appended)].sort());
    assert.ok(appended.every((id) => id > a.store.opened.head));
    await until('the tail of the other node has all', () => b.records.length === appended.length);
    assert.deepEqual(ids(b.records), appended);
    assert.deepEqual(ids((await readAll(b.store, ['tenant:t1'], appended[1] as Cursor)).records), appended.slice(2));
  });

  it('learn what another node erased, also after they were away, and hold no id of it', async (t) => {
    const [a, b] = await Promise.all([startNode(t, redis.url), startBehindProxy(t, redis.url)]);
    const of = (tenantId: string) => [message({ tenantId, ticketId: `${tenantId}-k` }), ticket({ tenantId })];
    await a.store.append(request(of('gone-1'), Date.now(), 'publisher\ngone-1\nkey'));
    await a.store.append(request([declared({ tenantId: 'gone-1' })], Date.now(), 'publisher\ngone-1\nother'));
    await append(a.store, [...of('gone-2'), declared()]);
    // Its idempotency key is all that is left of this one.
    await a.store.trim({ ...EVERYTHING, maxRecords: 4 });
    const [first, second] = ['gone-1', 'gone-2'].map((tenantId) => ({ tenantId, ticketId: null })) as [
      EraseTarget,
      EraseTarget,
    ];
    await a.store.erase(first);
    await until('both know', () => a.erased.length === 1 && b.erased.length === 1);
    b.proxy.cut();
    await a.store.erase(second);
    await until('both know', () => a.erased.length === 2 && b.erased.length === 2);
    assert.deepEqual(b.erased, [first, second].map(erasureKey));
    assert.doesNotMatch(await contentsOf(redis), /gone-/);
    await until('the append-only file holds nothing of it, either', async () => {
      return !(await appendOnlyFile(redis)).includes('gone-1');
    });
    for (let n = 0; n < 150; n++) await a.store.erase({ tenantId: `nothing-${n}`, ticketId: null });
    await until('all have arrived', () => a.erased.length + (a.erased.includes(null) ? 152 : 0) >= 152);
  });

  it('do not see the log, sessions or secrets of another prefix', async (t) => {
    const [a, b] = await Promise.all([startNode(t, `${redis.url}?prefix=a`), startNode(t, `${redis.url}?prefix=a.b`)]);
    const event = ticket({ agreementId: 'g' });
    const keyed = request([event, message({ messageId: 'm' })], Date.now(), 'key');
    for (const { store } of [a, b]) {
      const result = await store.append(keyed);
      assert.deepEqual(result.kind === 'appended' && result.events.map(({ duplicate }) => duplicate), [false, false]);
      await store.saveSession(sessionChange({ owner: 'o', data: '{}' }));
    }
    assert.notEqual(await a.store.secret('pass'), await b.store.secret('pass'));
    assert.deepEqual(await a.store.announce({ id: 'n', facts: 'a', ttlMs: 9e5 }), ['a']);
    assert.deepEqual(await b.store.announce({ id: 'n', facts: 'b', ttlMs: 9e5 }), ['b']);
    await a.store.dropSession('p', 'o');
    await a.store.erase({ tenantId: 't1', ticketId: null });
    await a.store.trim({ ...EVERYTHING, stateBeforeMs: 2e15, dedupeBeforeMs: 2e15, nowMs: 3e15 });
    await until('both tails have both', () => a.records.length === 2 && b.records.length === 2);
    const { records } = await readAll(b.store, ['tenant:t1'], b.store.opened.head);
    assert.deepEqual(records, b.records);
    assert.equal((await b.store.ticket({ tenantId: 't1', ticketId: 'k1', hearing: HEARS_ALL })).payload, event.payload);
    assert.equal((await b.store.claimSession('p', 'o', Date.now()))?.data, '{}');
    assert.deepEqual([a.gaps, b.gaps, b.forgotten], [[], [], []]);
    const keys = (await redis.command('KEYS', '*')) as string[];
    assert.deepEqual(
      keys.filter((key) => !key.startsWith('{a}:') && !key.startsWith('{a.b}:')),
      [],
    );
  });

  it('must have the same keying', async (t) => {
    await startNode(t, redis.url);
    await assert.rejects(openRedisStore({ url: redis.url, keying: 'tenant', logger }), /by room.*by tenant.*AUTH_MODE/);
  });
});

describe('the format of a log on Redis', { skip: absent }, () => {
  const redis = useRedis();
  beforeEach(() => redis.command('FLUSHALL'));
  const changed = (fields: object): AppendEvent => {
    const base = { tenantId: 't1', ticketId: 'k1', messageUpdatedAt: '2026-01-01T00:00:00Z', message: {} };
    const result = createEventCatalog().check('messages.updated', { ...base, ...fields });
    assert.ok(result.kind === 'ok');
    return { ...result.event, audiences: result.event.rooms };
  };

  it('stops a node that does not know it, in one sentence, and every call of a node that runs', async (t) => {
    const { store } = await startNode(t, redis.url);
    await redis.command('HSET', '{roomcast}:log', 'format', '9');
    const opening = openRedisStore({ url: redis.url, keying: 'room', logger });
    await assert.rejects(
      opening,
      /format 9, but this version knows format 2; start the version that wrote it, or a newer/,
    );
    const calls = [
      () => store.append(request([declared()], Date.now())),
      () => store.trim(EVERYTHING),
      () => store.erase({ tenantId: 't1', ticketId: null }),
      () => store.bounds(),
    ];
    for (const call of calls) await assert.rejects(call(), refusedAs('unavailable'));
    await until('it is not healthy', () => !store.healthy());
    await redis.command('HSET', '{roomcast}:log', 'format', '2');
    await until('it is healthy again', () => store.healthy());
  });

  it('locks out nodes of format 1: what they read first has another type', async (t) => {
    await startNode(t, redis.url);
    await assert.rejects(redis.command('HMGET', '{roomcast}:meta', 'epoch'), /WRONGTYPE/);
  });

  /** The keys as a node of format 1 wrote them. */
  async function load(): Promise<void> {
    const file = new URL('redis-format-1.json', import.meta.url);
    const commands = JSON.parse(await readFile(file, 'utf8')) as string[][];
    for (const command of commands) await redis.command(...command);
  }

  it('becomes that of this version, at once for its readers and in steps for its names of messages', async (t) => {
    await load();
    const epoch = await redis.command('HGET', '{roomcast}:meta', 'epoch');
    const [{ store }, other] = [await startNode(t, redis.url), await startNode(t, redis.url)];
    assert.ok(store.opened.head.startsWith(`${epoch}-`));
    assert.equal((await store.stats()).records, 5);
    const base = { agreementId: 'g' };
    const known = [
      message({ ...base, messageId: 'm1', providerMessageId: 'p1' }),
      message({ ...base, messageId: 'm1' }),
      message({ ...base, messageId: 'k2,m2' }),
      message({ ...base, providerMessageId: 'p1', ticketId: 'k2', messageId: 'other' }),
      message({ ...base, messageId: 'm2', ticketId: 'k2' }),
      message({ ...base, messageId: 'm1', ticketId: 'k2', tenantId: 't2' }),
    ];
    const isKnown = async (event: AppendEvent, on = store) => {
      const result = await on.append(request([event], Date.now()));
      assert.ok(result.kind === 'appended');
      return result.events[0]?.duplicate;
    };
    // By format 1, a messageId named one message of its tenant; its meaning stays within the ticket.
    for (const event of known) assert.equal(await isKnown(event), true, event.payload);
    assert.equal(await isKnown(message({ messageId: 'm1', ticketId: 'k2' })), false);
    const edit = changed({ messageId: 'm1' });
    await append(store, [edit]);
    await Promise.all([store.trim({ ...EVERYTHING, maxRecords: 1e9, trimBeforeMs: 0 }), other.store.trim(EVERYTHING)]);
    assert.equal(await redis.command('HGET', '{roomcast}:log', 'upgrade'), null);
    assert.doesNotMatch(await contentsOf(redis), /"m,/);
    for (const event of known) assert.equal(await isKnown(event, other.store), true, event.payload);
    const page = { tenantId: 't1', hearing: HEARS_ALL, limit: 10, maxChars: 1e9, page: null } as const;
    const { items } = await store.messages({ ...page, ticketId: 'k1', order: 'asc' });
    assert.equal(items.length, 2);
    assert.equal(items[0], edit.payload);
    const tickets = { ...page, agreementId: null, status: null, updatedAfter: null };
    for (const rooms of [['agreement:g'], ['ticket:k1', 'ticket:k2'], ['tenant:t1']] as const) {
      assert.equal((await store.tickets({ ...tickets, hearing: { kinds: [], rooms } })).items.length, 2);
    }
    await store.erase({ tenantId: 't1', ticketId: 'k2' });
    assert.equal(await isKnown(known[4] as AppendEvent), false);
    assert.equal(await isKnown(known[5] as AppendEvent), true);
  });

  it('answers an Idempotency-Key of format 1', async (t) => {
    await load();
    const { store } = await startNode(t, redis.url);
    const repeated = request([ticket(), message(), message()], Date.now(), 'key');
    const result = await store.append(repeated);
    assert.deepEqual(result.kind === 'appended' && result.events.map(({ duplicate }) => duplicate), [true, true, true]);
  });

  it('forgets names that are not converted yet', async (t) => {
    for (const forget of ['erase', 'trim'] as const) {
      await redis.command('FLUSHALL');
      await load();
      const { store } = await startNode(t, redis.url);
      if (forget === 'erase') await store.erase({ tenantId: 't1', ticketId: 'k1' });
      else await store.trim({ ...EVERYTHING, stateBeforeMs: 2e15 });
      assert.deepEqual(await redis.command('HMGET', '{roomcast}:dedupe:t1', 'm,m1', 'm,k2,m2', 'i,k1,m1'), [
        null,
        null,
        null,
      ]);
    }
  });

  it('writes nothing for a ticket or message beyond its record, its entry and its names', async (t) => {
    const { store } = await startNode(t, redis.url);
    await append(store, [ticket({ agreementId: 'g' }), message({ messageId: 'm', agreementId: 'g' }), declared()]);
    const keys = ((await redis.command('KEYS', '*')) as string[]).map((key) => key.split(':')[1]);
    const kinds = ['agreement', 'claimed', 'dedupe', 'feed', 'log', 'messages', 'meta', 'recent', 'record', 'room'];
    assert.deepEqual([...new Set(keys)].sort(), [...kinds, 'state', 'tickets']);
  });

  it('keeps no name of what is erased, whatever changed and wherever it went', async (t) => {
    const { store } = await startNode(t, redis.url);
    const there = { ticketId: 'gone-1', agreementId: 'gone-2' };
    const away = (event: AppendEvent): AppendEvent => {
      const rooms = ['queue:q', 'user:gone-3'] as const;
      return { ...event, rooms, audiences: rooms, roomsAreNamed: true };
    };
    const fill = () =>
      append(store, [
        away(ticket(there)),
        changed({ ...there, messageId: 'gone-4' }),
        away(changed({ ...there, providerMessageId: 'gone-5' })),
        changed({ ...there, messageId: 'gone-4', providerMessageId: 'gone-5', n: 1 }),
        away(message({ ...there, messageId: 'gone-4' })),
        changed({ ...there, messageId: 'gone-4', providerMessageId: 'gone-6', n: 2 }),
        changed({ ...there, messageId: 'gone-7' }),
        away(declared({ ticketId: 'gone-1' })),
      ]);
    for (const before of [
      async () => {},
      () => store.trim({ ...EVERYTHING, maxRecords: 3 }),
      () => store.trim(EVERYTHING),
    ]) {
      await fill();
      await before();
      await store.erase({ tenantId: 't1', ticketId: 'gone-1' });
      assert.doesNotMatch(await contentsOf(redis), /gone-/);
      assert.equal(await redis.command('EXISTS', '{roomcast}:shown:t1,queue:q'), 0);
    }
    await fill();
    await store.trim({ ...EVERYTHING, stateBeforeMs: 2e15, dedupeBeforeMs: 2e15 });
    assert.doesNotMatch(await contentsOf(redis), /gone-/);
  });
});

describe('settings that all nodes of a log on Redis share', { skip: absent }, () => {
  const redis = useRedis();

  it('a node with other CLAIMED_ROOM_KINDS does not start beside live ones, and starts once they have ended', async () => {
    const open = (...claimedRoomKinds: string[]) =>
      openRedisStore({ url: redis.url, keying: 'room', claimedRoomKinds, logger });
    const nodes = [await open('team', 'queue'), await open('queue', 'team')];
    await Promise.all([
      assert.rejects(
        open(),
        /^Error: STORE_URL: .* CLAIMED_ROOM_KINDS queue,team, but this node has none; .* stop them all/,
      ),
      assert.rejects(open('queue'), /CLAIMED_ROOM_KINDS queue,team, but this node has queue;/),
    ]);
    assert.ok(nodes.every((node) => node.healthy()));
    await nodes[0]?.close();
    await nodes[1]?.close();
    const changed = await open('queue');
    assert.ok(changed.healthy());
    await changed.close();
  });
});

describe('when Redis fails', { skip: absent }, () => {
  const redis = useRedis();
  beforeEach(() => redis.command('FLUSHALL'));

  it('keeps acknowledged records when Redis is killed and restarted', async (t) => {
    const [a, b] = await Promise.all([startNode(t, redis.url), startNode(t, redis.url)]);
    const publishers = Array.from({ length: 20 }, (_, n) => publishMany(a.store, `p${n}`));
    for (let round = 0; round < 3; round++) {
      const goal = b.records.length + 200;
      await until('events flow', () => b.records.length > goal);
      await redis.kill();
      await until('the log is not healthy', () => !a.store.healthy());
      await redis.restart();
    }
    const acknowledged = (await Promise.all(publishers.map((end) => end()))).flat();
    await atHead(a, b);
    for (const { records, gaps } of [a, b]) {
      inOrderAndOnce(records);
      assert.deepEqual(gaps, []);
      assert.deepEqual(new Set(ids(records)), new Set(acknowledged));
      // A publish that was repeated under its key appears once.
      assert.equal(new Set(records.map(({ payload }) => JSON.parse(payload).key)).size, acknowledged.length);
    }
    assert.equal(a.store.healthy(), true);
  });

  it('answers within its deadline when Redis hangs, and recovers when Redis wakes', async (t) => {
    const [a, b] = await Promise.all([startNode(t, redis.url), startNode(t, redis.url)]);
    await append(a.store, [declared()]);
    redis.pause();
    t.after(() => redis.resume());
    const keyed = request([declared({ hanging: true })], Date.now(), 'hanging');
    const [write, read, session] = await Promise.all([
      ending(a.store.append(keyed)),
      ending(a.store.bounds()),
      ending(a.store.claimSession('p', 'o', 0)),
    ]);
    assert.deepEqual([write.code, read.code, session.code], ['outcome_unknown', 'unavailable', 'unavailable']);
    for (const { ms } of [write, read, session]) assert.ok(ms < 5_000, `${ms} ms`);
    await until('the log is not healthy', () => !a.store.healthy());
    // The hanging connection is gone by now: nothing is sent, so nothing can appear later.
    const later = await ending(a.store.append(request([declared({ discarded: true })])));
    assert.equal(later.code, 'unavailable');

    redis.resume();
    const next = await publish(a.store, 'after');
    const repeated = await a.store.append(keyed);
    assert.equal(repeated.kind, 'appended');
    await atHead(a, b);
    for (const { records, gaps } of [a, b]) {
      inOrderAndOnce(records);
      assert.deepEqual(gaps, []);
      assert.ok(ids(records).includes(next));
      assert.equal(records.filter(({ payload }) => payload.includes('hanging')).length, 1);
      assert.equal(records.filter(({ payload }) => payload.includes('discarded')).length, 0);
    }
    await until('the log is healthy', () => a.store.healthy());
  });

  it('does not append a request twice when only the answer was lost', async (t) => {
    const node = await startBehindProxy(t, redis.url);
    await append(node.store, [declared()]);
    node.proxy.loseDownstream();
    const keyed = request([declared()], Date.now(), 'key');
    assert.equal((await ending(node.store.append(keyed))).code, 'outcome_unknown');
    await until('it can be repeated', async () => (await ending(node.store.append(keyed))).code === 'done');
    const repeated = await node.store.append(keyed);
    assert.ok(repeated.kind === 'appended' && repeated.events[0]?.duplicate);
    await until('the tail has both', () => node.records.length === 2);
    assert.equal((await node.store.stats()).records, 2);
    assert.deepEqual(node.gaps, []);
  });

  it('catches up without a gap when its connections are cut at random', async (t) => {
    const [a, b] = await Promise.all([startNode(t, redis.url), startBehindProxy(t, redis.url)]);
    const endPublishing = publishMany(a.store, 'p');
    for (let cut = 0; cut < 10; cut++) {
      const goal = b.records.length + 20;
      await until('events flow', () => b.records.length > goal);
      b.proxy.cut();
    }
    const acknowledged = await endPublishing();
    await until('the tail has all', () => b.records.length === acknowledged.length);
    assert.deepEqual(ids(b.records), acknowledged);
    assert.deepEqual(b.gaps, []);
  });

  it('reports a gap when the missed records were trimmed', async (t) => {
    const [a, b] = await Promise.all([startNode(t, redis.url), startBehindProxy(t, redis.url)]);
    await append(a.store, [declared()]);
    await until('the tail has it', () => b.records.length === 1);
    b.proxy.refuse();
    await append(a.store, [declared(), declared()]);
    await a.store.trim(EVERYTHING);
    const [kept] = await append(a.store, [declared()]);
    b.proxy.restore();
    await until('the gap is reported', () => b.gaps.length === 1);
    assert.equal(b.gaps[0]?.kind, 'expired');
    assert.equal(b.gaps[0]?.bounds.head, kept);
    const [next] = await append(a.store, [declared()]);
    await until('the tail continues', () => b.records.at(-1)?.id === next);
    assert.equal(b.records.length, 2);
  });

  it('catches up without a gap when only records before its position were trimmed', async (t) => {
    const [a, b] = await Promise.all([startNode(t, redis.url), startBehindProxy(t, redis.url)]);
    await append(a.store, [declared(), declared()]);
    await until('the tail has both', () => b.records.length === 2);
    b.proxy.refuse();
    await a.store.trim(EVERYTHING);
    await append(a.store, [declared()]);
    b.proxy.restore();
    await until('the tail has the third', () => b.records.length === 3);
    assert.deepEqual(b.gaps, []);
  });

  it('reports a gap when Redis was emptied, and continues with a new log', async (t) => {
    const [a, b] = await Promise.all([startNode(t, redis.url), startNode(t, redis.url)]);
    const [old] = (await append(a.store, [declared(), declared()])) as [Cursor, Cursor];
    await until('both tails have it', () => a.records.length === 2 && b.records.length === 2);
    await redis.command('FLUSHALL');
    await until('both tails report the gap', () => a.gaps.length === 1 && b.gaps.length === 1);
    assert.deepEqual([a.gaps[0]?.kind, b.gaps[0]?.kind], ['unknown', 'unknown']);
    assert.equal((await a.store.resolve(old)).kind, 'unknown');
    const [next] = await append(b.store, [declared()]);
    await until('both tails continue', () => a.records.at(-1)?.id === next && b.records.at(-1)?.id === next);
    assert.equal((await readAll(a.store, ['tenant:t1'], a.gaps[0]?.bounds.head as Cursor)).records.length, 1);
    assert.deepEqual([a.gaps.length, b.gaps.length], [1, 1]);
  });

  it('reports a gap when a replica without the newest records becomes the master', async (t) => {
    const replica = await startRedis([`replicaof 127.0.0.1 ${redis.port}`]);
    t.after(() => replica.stop());
    const node = await startBehindProxy(t, redis.url);
    const [kept] = (await append(node.store, [declared()])) as [Cursor];
    await until('the replica has it', async () => String(await replica.command('XLEN', '{roomcast}:feed')) === '1');
    await replica.command('REPLICAOF', 'NO', 'ONE');
    const nine = Array.from({ length: 9 }, () => declared({ lost: true }));
    await append(node.store, nine);
    const [lost] = (await append(node.store, [declared({ lost: true })])) as [Cursor];
    await until('the tail has all', () => node.records.length === 11);
    node.proxy.retarget(replica.url);
    node.proxy.cut();
    await until('the gap is reported', () => node.gaps.length === 1);
    assert.equal(node.gaps[0]?.kind, 'unknown');
    const [next] = (await append(node.store, [declared()])) as [Cursor];
    assert.ok(next > lost, 'a cursor was given out again');
    assert.equal((await node.store.resolve(lost)).kind, 'unknown');
    assert.equal((await node.store.resolve(kept)).kind, 'ok');
    await until('the tail continues', () => node.records.at(-1)?.id === next);
  });

  it('refuses events while Redis is out of memory, and accepts them again', async (t) => {
    const { store, records } = await startNode(t, redis.url);
    const [first] = (await append(store, [declared()])) as [Cursor];
    await redis.command('CONFIG', 'SET', 'maxmemory', '1');
    t.after(() => redis.command('CONFIG', 'SET', 'maxmemory', '0'));
    await assert.rejects(store.append(request([declared()])), refusedAs('unavailable'));
    assert.equal(store.healthy(), false);
    assert.equal((await store.bounds()).head, first);
    await store.trim(EVERYTHING);
    await redis.command('CONFIG', 'SET', 'maxmemory', '0');
    await until('the log is healthy without an append', () => store.healthy());
    const [next] = await append(store, [declared()]);
    await until('the tail has it', () => records.at(-1)?.id === next);
    assert.equal(records.length, 2);
  });

  it('is unavailable while Redis answers with an error of any kind', async (t) => {
    await redis.command('ACL', 'SETUSER', 'bot', 'on', '>secret', '~*', '+@all');
    const { store } = await startNode(t, redis.url.replace('//', '//bot:secret@'));
    await append(store, [declared()]);
    await redis.command('ACL', 'SETUSER', 'bot', 'resetkeys');
    await assert.rejects(store.bounds(), refusedAs('unavailable'));
    await assert.rejects(store.saveSession(sessionChange()), refusedAs('unavailable'));
    await until('the log is not healthy', () => !store.healthy());
    await redis.command('ACL', 'SETUSER', 'bot', '~*');
    await until('the log is healthy', () => store.healthy());
    await append(store, [declared()]);
  });

  it('restores sessions while Redis is out of memory', async (t) => {
    const { store } = await startNode(t, redis.url);
    await store.saveSession(sessionChange());
    await redis.command('CONFIG', 'SET', 'maxmemory', '1');
    t.after(() => redis.command('CONFIG', 'SET', 'maxmemory', '0'));
    const claimed = await store.claimSession('p', 'b', Date.now());
    assert.deepEqual([claimed?.owner, claimed?.rooms], ['b', [['tenant:t1', '1']]]);
    await store.touchSessions([{ pid: 'p', owner: 'b', expiresAtMs: 3e15 }]);
    assert.equal((await store.claimSession('p', 'c', Date.now()))?.expiresAtMs, 3e15);
  });

  it('bounds the requests that wait', async (t) => {
    const { store } = await startNode(t, redis.url);
    redis.pause();
    t.after(() => redis.resume());
    const payload = 'x'.repeat(1024 * 1024);
    const calls = Array.from({ length: 100 }, () => ending(store.append(request([declared({ payload })]))));
    // Past the bound, an append fails at once, before anything else can happen.
    const first = await Promise.race([...calls, immediate({ code: 'waited' })]);
    assert.equal(first.code, 'unavailable');
    const codes = (await Promise.all(calls)).map(({ code }) => code);
    redis.resume();
    assert.deepEqual([...new Set(codes)].sort(), ['outcome_unknown', 'unavailable']);
    await until('the log is healthy', () => store.healthy());
    await publish(store, 'after');
  });

  it('loads its scripts again when Redis has lost them', async (t) => {
    const { store } = await startNode(t, redis.url);
    await append(store, [declared()]);
    await redis.command('SCRIPT', 'FLUSH');
    await append(store, [declared()]);
  });

  it('reports in one line why it does not start', async () => {
    const open = (url: string) => openRedisStore({ url, keying: 'room', logger });
    await redis.command('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru');
    await assert.rejects(open(redis.url), /^Error: STORE_URL: .*allkeys-lru.*noeviction$/);
    await redis.command('CONFIG', 'SET', 'maxmemory-policy', 'noeviction');
    await assert.rejects(open('redis://:secret@127.0.0.1:1'), (error: Error) => !error.message.includes('secret'));
    await redis.command('ACL', 'SETUSER', 'stranger', 'on', '>secret', '~other:*', '+@all');
    await assert.rejects(
      open(redis.url.replace('//', '//stranger:secret@')),
      /^Error: STORE_URL: Redis at 127\.0\.0\.1:\d+ cannot hold a log: .*NOPERM .* one of the keys/,
    );
  });
});

describe('Sentinels', { skip: missing('redis-server', 'redis-sentinel') }, () => {
  it('lead all nodes to the new master', async (t) => {
    const sentinels = await startSentinels();
    t.after(() => sentinels.stop());
    const [a, b] = await Promise.all([startNode(t, sentinels.url), startNode(t, sentinels.url)]);
    const before = await append(a.store, [declared(), declared()]);
    const master = await sentinels.master();
    // Replication is asynchronous: only records that the replica has are safe.
    const replica = sentinels.servers.find((server) => server !== master) as RedisServer;
    await until('the replica is in sync', async () => String(await replica.command('XLEN', '{roomcast}:feed')) === '1');
    await master.kill();
    await until('the log is not healthy', () => !a.store.healthy());
    const next = await publish(a.store, 'after');
    for (const { records, gaps } of [a, b]) {
      await until('the tail continues', () => records.at(-1)?.id === next);
      assert.deepEqual(ids(records), [...before, next]);
      assert.deepEqual(gaps, []);
    }

    // The old master returns as a replica. The store keeps working with the new one.
    await master.restart();
    await until('the old master is in sync', async () => {
      // The Sentinels make it a replica and kill its connections, also the one of this command.
      const info = await master.command('INFO', 'replication').catch(() => '');
      return /role:slave[\s\S]*master_link_status:up/.test(String(info));
    });
    assert.equal((await sentinels.master()).port, replica.port);
    assert.equal((await publish(b.store, 'again')) > next, true);
  });
});

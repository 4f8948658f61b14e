/** The conformance suite on SQLite, and the faults of a file: kills, full or hanging disks, locks and lost files. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { backup as backUp, DatabaseSync } from 'node:sqlite';
import { describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Worker } from 'node:worker_threads';
import { createLogger } from '../../src/logger.ts';
import { STRETCH_RECORDS } from '../../src/store/sqlite/schema.ts';
import { openSqliteStore, type SqliteOptions } from '../../src/store/sqlite/store.ts';
import type { ScanQuery, Store } from '../../src/store/store.ts';
import { until } from '../support/until.ts';
import {
  ALL_MESSAGES,
  ALL_TICKETS,
  append,
  declared,
  type Engine,
  KEEP,
  message,
  NOW,
  readAll,
  refusedAs,
  request,
  storeConformance,
  tailOf,
  ticket,
} from './conformance.ts';
import { messageConformance } from './message-conformance.ts';
import { step } from './scan.ts';

const logger = createLogger('silent');
const CHILD = fileURLToPath(import.meta.resolve('./sqlite.child.ts'));

function temporaryFolder(): string {
  return mkdtempSync(join(tmpdir(), 'roomcast-'));
}

const IN_MEMORY: Engine = {
  keeps: false,
  rekeys: false,
  nodes: 'one',
  create: async () => ({
    open: (keying = 'room') => openSqliteStore({ file: ':memory:', keying, logger }),
    remove: async () => {},
  }),
};

const IN_FILE: Engine = {
  keeps: true,
  rekeys: true,
  nodes: 'one',
  create: async () => {
    const folder = temporaryFolder();
    return {
      open: (keying = 'room') => openSqliteStore({ file: join(folder, 'log.db'), keying, logger }),
      remove: async () => rmSync(folder, { recursive: true }),
    };
  },
};

for (const [name, engine] of [
  ['SQLite in memory', IN_MEMORY],
  ['SQLite file', IN_FILE],
] as const) {
  storeConformance(name, engine);
  messageConformance(name, engine);
}

describe('a log in a file', () => {
  /** Makes a new folder. The end of the test closes its stores and removes it. */
  function setUp(t: TestContext) {
    const folder = temporaryFolder();
    const file = join(folder, 'log.db');
    const stores: Store[] = [];
    t.after(async () => {
      await Promise.all(stores.map((store) => store.close()));
      rmSync(folder, { recursive: true });
    });
    const open = async (options: Partial<SqliteOptions> = {}) => {
      const store = await openSqliteStore({ file, keying: 'room', logger, ...options });
      stores.push(store);
      return { store, tail: tailOf(store) };
    };
    return { folder, file, open };
  }

  /** Blocks the writer from its file, as a hanging disk would, until it is released. */
  function block(t: TestContext, file: string): { release(): void } {
    const other = new DatabaseSync(file);
    other.exec('BEGIN IMMEDIATE');
    t.after(() => other.isOpen && other.close());
    return { release: () => other.close() };
  }

  it('is scanned from an instant without a look at what is known to be outside, also after a trim and a restart', async (t) => {
    const { open } = setUp(t);
    let { store } = await open();
    const total = 6 * STRETCH_RECORDS;
    const fill = async (from: number, to: number) => {
      for (let n = from; n < to; n += 128) {
        await append(
          store,
          Array.from({ length: 128 }, (_, k) => declared({ n: n + k })),
          NOW + n,
        );
      }
    };
    await fill(0, total / 2);
    await store.close();
    ({ store } = await open());
    await fill(total / 2, total);
    // Only the first step: it looks at SCAN_ROWS at most.
    const numbers = async (query: Partial<ScanQuery>) => {
      const { records, more } = await step(store, query);
      return [records.map(({ payload }) => (JSON.parse(payload) as { n: number }).n), more] as const;
    };
    const check = async () => {
      const late = total - STRETCH_RECORDS;
      assert.deepEqual((await numbers({ sinceMs: NOW + late, limit: 1 }))[0], [late]);
      assert.deepEqual(await numbers({ sinceMs: NOW + 2 * total }), [[], false], 'nothing is that late');
      assert.deepEqual((await numbers({ untilMs: NOW + total / 3 - 130, order: 'desc', limit: 1 }))[0], [
        total / 3 - 129,
      ]);
      assert.deepEqual(await numbers({ untilMs: NOW - 1, order: 'desc' }), [[], false], 'nothing is that early');
    };
    await check();
    await store.trim({ ...KEEP, maxRecords: total - 700 });
    await check();
  });

  function start(t: TestContext, mode: string, path: string): { child: ChildProcess; lines: AsyncIterator<string> } {
    const child = spawn(process.execPath, [CHILD, mode, path], { stdio: ['pipe', 'pipe', 'inherit'] });
    t.after(() => child.kill('SIGKILL'));
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();
    return { child, lines };
  }

  it('has every acknowledged record once, and only whole batches, after a kill during appends', async (t) => {
    const { file, open } = setUp(t);
    let acknowledged = 0;
    for (const rounds of [1, 40, 400]) {
      const { child, lines } = start(t, 'append', file);
      const acknowledgedBatches = new Map<string, string[]>();
      while (acknowledgedBatches.size < rounds) {
        const { batch, cursors } = JSON.parse((await lines.next()).value);
        acknowledgedBatches.set(batch, cursors);
      }
      child.kill('SIGKILL');
      for (let line = await lines.next(); !line.done; line = await lines.next()) {
        const { batch, cursors } = JSON.parse(line.value);
        acknowledgedBatches.set(batch, cursors);
      }
      const { store } = await open();
      const { floor } = await store.bounds();
      const { records } = await readAll(store, ['tenant:t1'], floor);
      const found = records.map(({ id }) => id);
      assert.deepEqual(found, [...new Set(found)].sort());
      acknowledged += acknowledgedBatches.size * 3;
      assert.ok(found.length >= acknowledged);
      const indexes = new Map(found.map((id, index) => [id as string, index]));
      for (const [batch, cursors] of acknowledgedBatches) {
        const first = indexes.get(cursors[0] as string) ?? Number.NaN;
        assert.deepEqual(
          cursors.map((cursor) => indexes.get(cursor)),
          [first, first + 1, first + 2],
          batch,
        );
        assert.equal(JSON.parse(records[first]?.payload ?? '').batch, batch);
      }
      // A batch that was committed but not yet acknowledged may be there too, whole.
      assert.equal(found.length % 3, 0);
      for (let n = 0; n < found.length; n += 3) {
        const batches = records.slice(n, n + 3).map(({ payload }) => JSON.parse(payload).batch);
        assert.equal(new Set(batches).size, 1);
      }
      acknowledged = found.length;
      await store.close();
    }
  });

  describe('at the start', () => {
    const oneLine = (pattern: RegExp) => (error: unknown) => {
      assert.ok(error instanceof Error);
      assert.match(error.message, pattern);
      assert.doesNotMatch(error.message, /\n/);
      return true;
    };

    it('refuses a second server, under any name of the file, until the first has ended', async (t) => {
      const { folder, file, open } = setUp(t);
      const { child, lines } = start(t, 'demand', file);
      await lines.next();
      await assert.rejects(open(), oneLine(/another server has it open/));
      child.kill('SIGKILL');
      await once(child, 'exit');
      const { store } = await open();
      mkdirSync(join(folder, 'sub'));
      symlinkSync(file, join(folder, 'sub', 'link.db'));
      symlinkSync(folder, join(folder, 'sub', 'folder'));
      for (const name of [file, join(folder, 'sub', 'link.db'), join(folder, 'sub', 'folder', 'log.db')]) {
        await assert.rejects(open({ file: name }), oneLine(/another server has it open/), name);
      }
      await append(store, [declared()]);
      await store.close();
      await (await open()).store.close();
    });

    it('adds the indexes that a file of an earlier version lacks', async (t) => {
      const { file, open } = setUp(t);
      const { store } = await open();
      const update = ticket({ ticketStatus: 'OPEN', agreementId: 'g1' });
      await append(store, [update, message()]);
      await store.close();
      const earlier = new DatabaseSync(file);
      earlier.exec('DROP INDEX tickets_by_status; DROP INDEX tickets_by_agreement;');
      earlier.close();
      const again = (await open()).store;
      const hearing = { kinds: [], rooms: ['agreement:g1'] } as const;
      for (const filter of [{ status: 'OPEN' }, { agreementId: 'g1' }, { hearing }]) {
        assert.deepEqual((await again.tickets({ ...ALL_TICKETS, tenantId: 't1', ...filter })).items, [update.payload]);
      }
    });

    it('refuses a file with a second hard link, because no lock protects it', async (t) => {
      const { folder, file, open } = setUp(t);
      const { store } = await open();
      linkSync(file, join(folder, 'hard.db'));
      await assert.rejects(open({ file: join(folder, 'hard.db') }), oneLine(/it has 2 names \(hard links\)/));
      await append(store, [declared()]);
      await store.close();
      rmSync(join(folder, 'hard.db'));
      await (await open()).store.close();
    });

    it('creates the folder, and follows a link to a file that does not exist yet', async (t) => {
      const { folder, open } = setUp(t);
      symlinkSync(join(folder, 'a-b.db'), join(folder, 'link.db'));
      await open({ file: join(folder, 'a', 'b', 'log.db') });
      const { store } = await open({ file: join(folder, 'link.db') });
      await append(store, [declared()]);
      assert.ok(readdirSync(folder).includes('a-b.db-wal'));
    });

    it('refuses in one line a file that is not a log, and does not change it', async (t) => {
      const { folder, file, open } = setUp(t);
      writeFileSync(file, 'A letter to a friend.\n'.repeat(1000));
      await assert.rejects(open(), oneLine(/cannot open the log .*log\.db: file is not a database/));
      assert.match(readFileSync(file, 'utf8'), /^A letter/);
      const other = join(folder, 'other.db');
      const foreign = new DatabaseSync(other);
      foreign.exec('CREATE TABLE things (a)');
      foreign.close();
      await assert.rejects(open({ file: other }), oneLine(/another program/));
      await assert.rejects(open({ file: folder }), oneLine(/cannot open the log .*not a file/));
      await assert.rejects(open({ file: join(file, 'below.db') }), oneLine(/cannot open the log/));
    });

    it('refuses in one line a log that is overwritten or truncated', async (t) => {
      const { file, open } = setUp(t);
      const { store } = await open();
      for (let n = 0; n < 20; n++) await append(store, [message({ ticketId: `k${n}` }), ticket()]);
      await store.close();
      const whole = readFileSync(file);
      writeFileSync(file, whole.subarray(0, whole.length / 2));
      await assert.rejects(open(), oneLine(/cannot open the log .*malformed|not a database/));
      writeFileSync(file, Buffer.concat([whole.subarray(0, 4096), Buffer.alloc(whole.length - 4096, 0x5a)]));
      await assert.rejects(open(), oneLine(/cannot open the log .*malformed/));
      writeFileSync(file, whole);
      assert.equal((await (await open()).store.stats()).records, 40);
    });

    for (const [what, appended] of [
      ['a young log', 0],
      ['a log', 40],
    ] as const) {
      it(`refuses in one line a copy of ${what} without its write-ahead log, and takes a whole one`, async (t) => {
        const { folder, file, open } = setUp(t);
        const { store } = await open();
        const events = [declared(), ...Array.from({ length: appended }, () => message({ text: 'x'.repeat(2_000) }))];
        for (const event of events) await append(store, [event]);
        const copy = (name: string, ...ends: string[]) => {
          for (const end of ends) copyFileSync(`${file}${end}`, join(folder, `${name}${end}`));
          return join(folder, name);
        };
        const alone = copy('alone.db', '');
        const emptied = copy('emptied.db', '');
        writeFileSync(`${emptied}-wal`, '');
        const whole = copy('whole.db', '', '-wal');
        const source = new DatabaseSync(file);
        const backup = join(folder, 'backup.db');
        await backUp(source, backup);
        const into = join(folder, 'into.db');
        source.exec(`VACUUM INTO '${into}'`);
        source.close();
        for (const lost of [alone, emptied]) {
          await assert.rejects(
            open({ file: lost }),
            oneLine(/write-ahead log .*-wal is missing.*PRAGMA application_id/),
          );
        }
        await store.close();
        for (const [name, complete] of Object.entries({ whole, backup, into, closed: copy('closed.db', '') })) {
          const { store: copied } = await open({ file: complete });
          assert.equal((await copied.stats()).records, events.length, name);
          await append(copied, [declared()]);
        }
        const without = new DatabaseSync(alone);
        without.exec('PRAGMA application_id = 1380143956');
        without.close();
        const { store: accepted } = await open({ file: alone });
        assert.ok((await accepted.stats()).records <= events.length);
      });
    }

    it('refuses in one line a backup beside the write-ahead log of the log before it, and takes it without', async (t) => {
      const { folder, file, open } = setUp(t);
      const { store } = await open();
      const lines = (count: number) => Array.from({ length: count }, () => message({ text: 'x'.repeat(2_000) }));
      await append(store, lines(40));
      const source = new DatabaseSync(file, { readOnly: true });
      const copy = join(folder, 'copy.db');
      source.exec(`VACUUM INTO '${copy}'`);
      source.close();
      await append(store, lines(40));
      const restored = join(folder, 'restored.db');
      copyFileSync(`${file}-wal`, `${restored}-wal`);
      copyFileSync(copy, restored);
      await assert.rejects(open({ file: restored }), oneLine(/restored\.db-wal beside it .*move .*-wal and .*-shm/));
      rmSync(`${restored}-wal`);
      const { store: again } = await open({ file: restored });
      assert.equal((await again.stats()).records, 40);
      await append(again, lines(1));
      assert.equal((await again.stats()).records, 41);
    });

    it('keeps its files to itself, and names the command for those that others can read', async (t) => {
      const { folder, open } = setUp(t);
      const warnings: string[] = [];
      const logger = Object.assign(createLogger('silent'), { warn: (_: object, text: string) => warnings.push(text) });
      const file = join(folder, 'made', 'log.db');
      const { store } = await open({ file, logger });
      await append(store, [declared()]);
      const modes = () =>
        [file, `${file}-wal`, `${file}-shm`, `${file}.lock`].map((name) => statSync(name).mode & 0o777);
      assert.deepEqual(modes(), [0o600, 0o600, 0o600, 0o600]);
      assert.equal(statSync(join(folder, 'made')).mode & 0o777, 0o700);
      assert.deepEqual(warnings, []);
      await store.close();
      chmodSync(join(folder, 'made'), 0o755);
      chmodSync(file, 0o644);
      await (await open({ file, logger })).store.close();
      assert.deepEqual(warnings.length, 1);
      const [, command = ''] = /run: (chmod 700 .* && chmod 600 .*)$/.exec(warnings[0] ?? '') ?? [];
      execFileSync('sh', ['-c', command]);
      assert.deepEqual([statSync(join(folder, 'made')).mode & 0o777, statSync(file).mode & 0o777], [0o700, 0o600]);
      await open({ file, logger });
      assert.equal(warnings.length, 1);
    });

    it('refuses a log of a later format version', async (t) => {
      const { file, open } = setUp(t);
      await (await open()).store.close();
      const later = new DatabaseSync(file);
      later.exec('PRAGMA user_version = 999');
      later.close();
      await assert.rejects(open(), oneLine(/format is 999/));
    });
  });

  describe('on a disk that hangs', () => {
    it('blocks neither the event loop nor reads, and commits the waiting appends in one group', async (t) => {
      const { file, open } = setUp(t);
      const { store, tail } = await open();
      const [first] = await append(store, [declared()]);
      const blocked = block(t, file);
      const appending = [append(store, [declared()])];
      // A blocked event loop could neither read here nor release the file below.
      const { records } = await readAll(store, ['tenant:t1'], store.opened.head);
      assert.deepEqual(
        records.map(({ id }) => id),
        [first],
      );
      for (let n = 0; n < 500; n++) appending.push(append(store, [declared()]));
      assert.equal(tail.commits.length, 1);
      blocked.release();
      await Promise.all(appending);
      assert.deepEqual(
        tail.commits.map(({ length }) => length),
        [1, 1, 500],
      );
    });

    it('responds in time, never writes an `unavailable` append, and shows the one under way later', async (t) => {
      const { file, open } = setUp(t);
      const { store, tail } = await open({ deadlineMs: 500 });
      const blocked = block(t, file);
      const underWay = store.append(request([declared({ name: 'under way' }), declared({ name: 'under way' })]));
      const waiting = Array.from({ length: 10 }, () => store.append(request([declared({ name: 'waiting' })])));
      await assert.rejects(underWay, refusedAs('outcome_unknown'));
      for (const append of waiting) await assert.rejects(append, refusedAs('unavailable'));
      assert.equal(tail.records.length, 0);
      assert.equal(store.healthy(), false);
      blocked.release();
      await until('the append under way reaches the tail', () => tail.records.length === 2);
      await until('the log is healthy', () => store.healthy());
      const { records } = await readAll(store, ['tenant:t1'], store.opened.head);
      assert.deepEqual(records, tail.records);
      assert.deepEqual(
        records.map(({ payload }) => JSON.parse(payload).name),
        ['under way', 'under way'],
      );
    });

    it('bounds the appends that wait', async (t) => {
      const { file, open } = setUp(t);
      const { store } = await open();
      const blocked = block(t, file);
      const large = declared({ text: 'x'.repeat(1_000_000) });
      const all = Array.from({ length: 100 }, () => store.append(request([large])));
      const refused = all.slice(80).map((append) => assert.rejects(append, refusedAs('unavailable')));
      await Promise.all(refused);
      blocked.release();
      const settled = await Promise.allSettled(all);
      const accepted = settled.filter(({ status }) => status === 'fulfilled').length;
      assert.ok(accepted > 50 && accepted < 80, `${accepted} were accepted`);
      assert.equal((await store.stats()).records, accepted);
    });

    it('can be closed', async (t) => {
      const { file, open } = setUp(t);
      const { store } = await open({ deadlineMs: 500 });
      block(t, file);
      const underWay = assert.rejects(store.append(request([declared()])), refusedAs('outcome_unknown'));
      await store.close();
      await underWay;
    });
  });

  it('refuses appends while the disk is full, and continues once there is space', (t) => {
    const { folder } = setUp(t);
    // A file system of 5 MiB that disappears with the child.
    const script = 'mount -t tmpfs -o size=5m tmpfs "$1" && exec "$2" "$3" full "$1"';
    const inNamespace = (...command: string[]) =>
      spawnSync('unshare', ['-rm', 'sh', '-c', ...command], { encoding: 'utf8' });
    if (inNamespace('mount -t tmpfs tmpfs /mnt').status !== 0) return t.skip('this system allows no mount namespace');
    const run = inNamespace(script, 'sh', folder, process.execPath, CHILD);
    assert.equal(run.status, 0, run.stderr);
    const { full, after, acknowledged, logged, tailed } = JSON.parse(run.stdout);
    assert.ok(acknowledged.length > 3);
    const fault = 'database or disk is full';
    assert.deepEqual(full, { code: 'unavailable', healthy: false, fault, read: acknowledged.length - 1 });
    assert.deepEqual(after, { cursor: acknowledged.at(-1), healthy: true, fault: null });
    assert.deepEqual(logged, acknowledged);
    assert.deepEqual(tailed, acknowledged);
  });

  it('reports an unknown outcome for a commit whose write failed', async (t) => {
    const { file } = setUp(t);
    const { child, lines } = start(t, 'demand', file);
    const next = async () => JSON.parse((await lines.next()).value);
    const { pid } = await next();
    const tryOne = () => {
      child.stdin?.write('go\n');
      return next();
    };
    const limit = (bytes: string) => execFileSync('prlimit', ['--pid', String(pid), `--fsize=${bytes}:`]);
    assert.equal((await tryOne()).healthy, true);
    limit('65536');
    const failed = await tryOne();
    assert.deepEqual([failed.code, failed.healthy], ['outcome_unknown', false]);
    limit('unlimited');
    const again = await tryOne();
    assert.equal(again.healthy, true);
    assert.match(again.cursor, /./);
    child.stdin?.end();
    await once(child, 'exit');
  });

  for (const [what, how] of [
    ['removed', (file: string) => rmSync(file)],
    ['moved', (file: string) => renameSync(file, `${file}.old`)],
    [
      'replaced',
      (file: string) => {
        copyFileSync(file, `${file}.copy`);
        renameSync(`${file}.copy`, file);
      },
    ],
    ['left without its write-ahead log', (file: string) => rmSync(`${file}-wal`)],
    ['left without its lock', (file: string) => rmSync(`${file}.lock`)],
  ] as const) {
    it(`refuses appends once its file was ${what}`, async (t) => {
      const { file, open } = setUp(t);
      const { store, tail } = await open();
      await append(store, [declared()]);
      how(file);
      await assert.rejects(append(store, [declared()]), refusedAs('unavailable'));
      assert.equal(store.healthy(), false);
      await assert.rejects(append(store, [declared()]), refusedAs('unavailable'));
      assert.equal(tail.records.length, 1);
    });
  }

  for (const which of ['writer', 'reader'] as const) {
    it(`is unavailable, and logs it, once its ${which} has ended`, async (t) => {
      const workers: Worker[] = [];
      const collect = (worker: Worker) => workers.push(worker);
      process.on('worker', collect);
      t.after(() => process.off('worker', collect));
      const { open } = setUp(t);
      const errors: string[] = [];
      const { store } = await open({
        logger: Object.assign(createLogger('silent'), { error: (_: object, text: string) => errors.push(text) }),
      });
      await append(store, [declared()]);
      assert.equal(workers.length, 2);
      const pending = [store.append(request([declared()])), store.append(request([declared()]))];
      pending.push(store.bounds() as never);
      const settled = Promise.allSettled(pending);
      await workers[which === 'writer' ? 0 : 1]?.terminate();
      await settled;
      assert.equal(store.healthy(), false);
      assert.match(errors.join(), /a thread of the log ended/);
      await assert.rejects(store.append(request([declared()])), refusedAs('unavailable'));
      await assert.rejects(store.bounds(), refusedAs('unavailable'));
      await store.close();
    });
  }

  it('holds no erased data in any of its files', async (t) => {
    const { folder, open } = setUp(t);
    const { store } = await open();
    const SECRETS = ['text', 'tenant', 'ticket', 'message', 'provider', 'key', 'agreement'].map(
      (word) => `gone-${word}`,
    );
    const gone = (n: number, size: number) => ({
      ...{ tenantId: 'gone-tenant', ticketId: `gone-ticket-${n % 20}`, agreementId: `gone-agreement-${n % 3}` },
      ...{ ticketUpdatedAt: new Date(1e12 + n).toISOString(), text: `gone-text-${n} `.repeat(size) },
    });
    const other = (n: number, size: number) => ({
      tenantId: 'kept-tenant',
      ticketId: `k${n % 20}`,
      text: `kept-${n} `.repeat(size),
    });
    // Sizes vary and the log is trimmed, so that pages are split, merged and freed with copies of the data in them.
    for (let n = 0; n < 400; n++) {
      const size = [1, 20, 90, 700][n % 4] as number;
      const id = { messageId: `gone-message-${n}`, providerMessageId: `gone-provider-${n}` };
      const events = [
        message({ ...gone(n, size), ...id }),
        message(other(n, size)),
        ticket(gone(n, size)),
        ticket(other(n, size)),
      ];
      await store.append(request(events.slice(0, 1), n, `gone-key-${n}`));
      await store.append(request(events.slice(1), n));
      if (n % 50 === 49) {
        const nothing = { trimBeforeMs: 0, stateBeforeMs: 0, dedupeBeforeMs: 0, revokedBeforeMs: 0, nowMs: 0 };
        await store.trim({ ...nothing, maxRecords: 60 });
      }
    }
    const filesWith = (text: string) =>
      readdirSync(folder).filter((name) => readFileSync(join(folder, name)).includes(text));
    assert.notDeepEqual(filesWith('gone-text-10 '), []);
    assert.ok((await store.erase({ tenantId: 'gone-tenant', ticketId: null })) > 400);
    for (const secret of SECRETS) assert.deepEqual(filesWith(secret), [], secret);
    assert.notDeepEqual(filesWith('kept-399 '), []);
    await append(store, [message({ tenantId: 'kept-tenant' })]);
    await store.close();
    for (const secret of SECRETS) assert.deepEqual(filesWith(secret), [], secret);
    const { store: reopened } = await open();
    const messages = await reopened.messages({ ...ALL_MESSAGES, tenantId: 'kept-tenant', limit: 1000 });
    assert.equal(messages.items.length, 21);
  });

  it('writes nothing to its files for an erasure that finds nothing', async (t) => {
    const { file, folder, open } = setUp(t);
    const { store, tail } = await open();
    await append(store, [message({ text: 'kept' })]);
    // The first one projects what was appended.
    await store.erase({ tenantId: 't1', ticketId: 'nothing' });
    const bytes = () => [file, `${file}-wal`].map((name) => readFileSync(name, 'base64'));
    const before = bytes();
    for (let n = 0; n < 3; n++) {
      assert.equal(await store.erase({ tenantId: 't1', ticketId: `nothing-${n}` }), 0);
      assert.equal(await store.erase({ tenantId: `nothing-${n}`, ticketId: null }), 0);
    }
    assert.deepEqual(bytes(), before, folder);
    assert.deepEqual(tail.forgotten, []);
  });

  it('holds nothing of several tenants in its files once each erasure has resolved, while appends go on', async (t) => {
    const { folder, open } = setUp(t);
    const { store } = await open();
    let n = 0;
    const put = (tenantId: string) => {
      const text = `${tenantId}-${++n} `.repeat([1, 10, 60, 500, 3][n % 5] as number);
      const ids = {
        messageId: `${tenantId}-m${n}`,
        ticketId: `${tenantId}-k${n % 40}`,
        agreementId: `${tenantId}-a${n % 7}`,
      };
      return store.append(
        request([message({ tenantId, ...ids, text }), ticket({ tenantId, ...ids, text })], n, `${tenantId}-${n}`),
      );
    };
    const TENANTS = ['gone-1', 'gone-2', 'gone-3'];
    await Promise.all(Array.from({ length: 900 }, (_, i) => put([...TENANTS, 'kept'][i % 4] as string)));
    let going = true;
    const publishing = (async () => {
      while (going) await put('kept');
    })();
    // The second request for the same tenant finds nothing more, but resolves only once the files are clean, too.
    await Promise.all(
      [...TENANTS, 'gone-1'].map(async (tenantId) => {
        await store.erase({ tenantId, ticketId: null });
        const holding = readdirSync(folder).filter((name) => readFileSync(join(folder, name)).includes(tenantId));
        assert.deepEqual(holding, [], tenantId);
      }),
    );
    going = false;
    await publishing;
    await store.close();
    for (const name of readdirSync(folder)) assert.doesNotMatch(readFileSync(join(folder, name), 'latin1'), /gone-/);
    const file = new DatabaseSync(join(folder, 'log.db'));
    assert.equal(file.prepare('PRAGMA integrity_check').get()?.integrity_check, 'ok');
    assert.ok(Number(file.prepare("SELECT count(*) AS n FROM records WHERE tenant = 'kept'").get()?.n) >= 225);
    file.close();
  });

  it('erases a ticket with many messages, and trims past many tombstones, in slices', async (t) => {
    const { open } = setUp(t);
    const { store } = await open();
    const many = Array.from({ length: 1_000 }, () => message({ ticketId: 'many' }));
    await append(store, many);
    await append(store, [declared()]);
    await store.trim({
      trimBeforeMs: 0,
      maxRecords: 401,
      stateBeforeMs: 0,
      dedupeBeforeMs: 0,
      revokedBeforeMs: 0,
      nowMs: 0,
    });
    assert.equal(await store.erase({ tenantId: 't1', ticketId: 'many' }), 1_000);
    assert.equal((await store.stats()).records, 1);
    await store.trim({
      trimBeforeMs: 0,
      maxRecords: 0,
      stateBeforeMs: 0,
      dedupeBeforeMs: 0,
      revokedBeforeMs: 0,
      nowMs: 0,
    });
    const { floor, head } = await store.bounds();
    assert.equal(floor, head);
  });

  it('rewrites a file of an earlier version once, so that its free pages hold nothing', async (t) => {
    const { file, open } = setUp(t);
    await (await open()).store.close();
    const earlier = new DatabaseSync(file);
    earlier.exec(`
      PRAGMA secure_delete = OFF;
      DELETE FROM meta WHERE name = 'secure_delete';
      DROP INDEX idempotency_by_scope;
      CREATE TABLE scratch (text);
      INSERT INTO scratch VALUES ('gone-text ${'x'.repeat(20_000)}');
      DROP TABLE scratch;
    `);
    earlier.close();
    assert.ok(readFileSync(file).includes('gone-text'));
    const { store } = await open();
    await append(store, [declared()]);
    await store.close();
    assert.ok(!readFileSync(file).includes('gone-text'));
  });

  it('finishes at the next start an erasure that a running backup prevented', async (t) => {
    const { folder, file, open } = setUp(t);
    const { store } = await open();
    await append(store, [message({ tenantId: 'gone-tenant', text: 'gone-text' }), declared()]);
    const backup = new DatabaseSync(file);
    backup.exec('BEGIN; SELECT * FROM records');
    backup.prepare('SELECT count(*) FROM records').get();
    await assert.rejects(store.erase({ tenantId: 'gone-tenant', ticketId: null }), refusedAs('unavailable'));
    assert.notEqual(backup.prepare("SELECT * FROM records WHERE tenant = 'gone-tenant'").get(), undefined);
    backup.exec('COMMIT');
    assert.equal(backup.prepare("SELECT value FROM meta WHERE name = 'rewrite'").get()?.value, 'due');
    // As after a crash: the write-ahead log still holds erased data.
    for (const end of ['', '-wal']) copyFileSync(`${file}${end}`, `${file}.copy${end}`);
    backup.close();
    await store.close();
    rmSync(file);
    for (const end of ['', '-wal']) renameSync(`${file}.copy${end}`, `${file}${end}`);
    const filesWithText = () =>
      readdirSync(folder).filter((name) => readFileSync(join(folder, name)).includes('gone-text'));
    assert.notDeepEqual(filesWithText(), []);
    const again = (await open()).store;
    assert.deepEqual(filesWithText(), []);
    assert.equal((await again.stats()).records, 1);
  });
});

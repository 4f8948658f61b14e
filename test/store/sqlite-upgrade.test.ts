/** The upgrade of a log of an earlier format: what it keeps, and what it refuses. test/slow/ has its kills. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createLogger } from '../../src/logger.ts';
import { SCHEMA_VERSION } from '../../src/store/sqlite/schema.ts';
import { openSqliteStore } from '../../src/store/sqlite/store.ts';
import type { Store } from '../../src/store/store.ts';
import { message, outcome, request, sessionChange, tailOf } from './conformance.ts';
import { assertWhole, formatOf, makeFormat } from './format-2.ts';

const CHILD = fileURLToPath(import.meta.resolve('./sqlite.child.ts'));

describe('the upgrade of a log file', () => {
  function setUp(t: TestContext, version: 1 | 2 = 2, count = 2_500) {
    const folder = mkdtempSync(join(tmpdir(), 'roomcast-'));
    const file = join(folder, 'log.db');
    const stores: Store[] = [];
    t.after(async () => {
      await Promise.all(stores.map((store) => store.close()));
      rmSync(folder, { recursive: true });
    });
    makeFormat(version, file, count);
    const lines: string[] = [];
    const logger = Object.assign(createLogger('silent'), { info: (_: object, text: string) => lines.push(text) });
    const open = async (path = file): Promise<Store> => {
      const store = await openSqliteStore({ file: path, keying: 'room', logger });
      stores.push(store);
      tailOf(store);
      return store;
    };
    return { folder, file, copy: `${file}.format-${version}`, count, lines, open };
  }

  for (const version of [1, 2] as const) {
    it(`takes a log of format ${version} as it is, and keeps a private copy`, async (t) => {
      const { folder, file, copy, count, lines, open } = setUp(t, version);
      const store = await open();
      await assertWhole(store, count);
      assert.equal(await store.claimSession('p', 'a', Date.now()), null, 'sessions of format 1 are dropped');
      assert.equal(await store.saveSession(sessionChange()), 'saved');
      const next = message({ ticketId: 'k1', messageId: 'new' });
      // In earlier versions, the id of another ticket's message made this one a repeat.
      const elsewhere = message({ ticketId: 'k1', messageId: 'm2' });
      assert.deepEqual(
        (await outcome(store, request([next, elsewhere]))).map(({ duplicate }) => duplicate),
        [false, false],
      );
      await store.close();
      assert.equal(formatOf(file), SCHEMA_VERSION);
      assert.ok(!readFileSync(file, 'latin1').includes('readable'));
      assert.equal(formatOf(copy), version);
      assert.equal(statSync(copy).mode & 0o777, 0o600);
      assert.equal(lines.length, 2);
      assert.match(
        lines[0] ?? '',
        new RegExp(`format ${version} .* format ${SCHEMA_VERSION}; .*log\\.db\\.format-${version} keeps`),
      );
      const made = statSync(copy).mtimeMs;
      await (await open()).close();
      assert.equal(lines.length, 2, 'a second start has nothing to say');
      assert.equal(statSync(copy).mtimeMs, made);
      assert.deepEqual(
        readdirSync(folder).filter((name) => name.includes('.part')),
        [],
      );
      renameSync(copy, file);
      for (const name of [`${file}-wal`, `${file}-shm`]) rmSync(name, { force: true });
      assert.equal(
        (await (await open()).stats()).records,
        count + 10 - Math.floor(count / 2),
        'the copy is a whole log',
      );
    });
  }

  it('takes a log of format 3 without a copy, closed or killed, because only what may be behind has changed', async (t) => {
    const { folder, file, open } = setUp(t, 2, 200);
    let store = await open();
    // As an earlier version leaves it: nothing is behind, and no events are noted as declared.
    await store.close();
    const earlier = new DatabaseSync(file);
    earlier.exec("PRAGMA user_version = 3; DELETE FROM meta WHERE name = 'declared'");
    const killed = join(folder, 'killed.db');
    for (const end of ['', '-wal']) copyFileSync(`${file}${end}`, `${killed}${end}`);
    earlier.close();
    assert.deepEqual([formatOf(file), formatOf(killed)], [3, 3]);
    for (const [name, log] of Object.entries({ closed: file, killed })) {
      store = await open(log);
      await assertWhole(store, 200);
      await outcome(store, request([message({ ticketId: 'k1', messageId: `new ${name}` })]));
      await store.close();
      assert.equal(formatOf(log), 4, name);
    }
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.includes('format-3')),
      [],
    );
  });

  it('refuses to begin if a file that is no copy of the log has the name of the copy', async (t) => {
    const { file, copy, count, open } = setUp(t);
    const refused = (error: unknown): boolean => {
      assert.match(
        (error as Error).message,
        /format 2, .* keeps a copy of it in .*format-2, but .*: move it away and start again$/,
      );
      return true;
    };
    writeFileSync(copy, 'A letter to a friend.');
    await assert.rejects(open(), refused);
    assert.equal(readFileSync(copy, 'utf8'), 'A letter to a friend.');
    rmSync(copy);
    makeFormat(2, copy, 10);
    await assert.rejects(open(), refused);
    assert.equal(formatOf(file), 2);
    rmSync(copy);
    await assertWhole(await open(), count);
  });

  it('refuses to begin without room for the copy, and says how much it takes', (t) => {
    const { folder } = setUp(t, 2, 10);
    const script = 'mount -t tmpfs -o size=5m tmpfs "$1" && exec "$2" "$3" upgrade-full "$1"';
    const inNamespace = (...command: string[]) =>
      spawnSync('unshare', ['-rm', 'sh', '-c', ...command], { encoding: 'utf8', timeout: 60_000 });
    if (inNamespace('mount -t tmpfs tmpfs /mnt').status !== 0) return t.skip('this system allows no mount namespace');
    const run = inNamespace(script, 'sh', folder, process.execPath, CHILD);
    assert.equal(run.status, 0, run.stderr);
    const { message, names, format } = JSON.parse(run.stdout);
    assert.match(message, /that takes \d+ MB in .*, which has \d+ MB; free some space and start again, or go on with/);
    assert.deepEqual(
      names.filter((name: string) => name.includes('format-2')),
      [],
    );
    assert.equal(format, 2);
  });
});

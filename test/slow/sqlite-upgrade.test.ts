/** The upgrade of a log file under `kill -9`: a process upgrades it, and is killed after longer and longer times. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';
import { it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { createLogger } from '../../src/logger.ts';
import { openSqliteStore } from '../../src/store/sqlite/store.ts';
import { tailOf } from '../store/conformance.ts';
import { assertWhole, formatOf, makeFormat } from '../store/format-2.ts';

const CHILD = fileURLToPath(import.meta.resolve('../store/sqlite.child.ts'));

it('an upgrade of a log file goes on after a kill at any instant, and keeps the copy that it made before its first change', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'roomcast-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const [file, count] = [join(folder, 'log.db'), 20_000];
  const copy = `${file}.format-2`;
  makeFormat(2, file, count);
  const seen = new Set<string>();
  let made: number | null = null;
  for (let delayMs = 1; ; delayMs = Math.ceil(delayMs * 1.4)) {
    const child = spawn(process.execPath, [CHILD, 'upgrade', file], { stdio: ['ignore', 'pipe', 'inherit'] });
    const exited = once(child, 'exit');
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    // The process is about to open the log.
    await lines.next();
    const opened = lines.next();
    const isOpen = await Promise.race([opened.then(({ done }) => done !== true), sleep(delayMs, false)]);
    child.kill('SIGKILL');
    await exited;
    const format = formatOf(file);
    const db = new DatabaseSync(file, { readOnly: true });
    const isHalf = db.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'messages_2'").get() !== undefined;
    db.close();
    seen.add(`${format}${existsSync(copy) ? ' copied' : ''}${isHalf ? ' half' : ''}`);
    if (existsSync(copy)) {
      made ??= statSync(copy).mtimeMs;
      assert.equal(statSync(copy).mtimeMs, made, 'the copy is made once');
      assert.equal(formatOf(copy), 2);
    } else {
      assert.equal(format, 2, 'nothing changes before the copy is there');
    }
    if (isOpen) break;
  }
  t.diagnostic([...seen].join(', '));
  const store = await openSqliteStore({ file, keying: 'room', logger: createLogger('silent') });
  t.after(() => store.close());
  tailOf(store);
  await assertWhole(store, count);
});

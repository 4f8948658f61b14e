/** A process for the SQLite tests to kill, or to run out of space. It reports each step as a line of JSON. */
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { BridgeError } from '../../src/contract/errors.ts';
import { createLogger } from '../../src/logger.ts';
import { openSqliteStore } from '../../src/store/sqlite/store.ts';
import type { Store } from '../../src/store/store.ts';
import { append, declared, readAll, tailOf } from './conformance.ts';
import { makeFormat } from './format-2.ts';

const [mode, path] = process.argv.slice(2) as [string, string];
const open = (file: string) => openSqliteStore({ file, keying: 'room', logger: createLogger('silent') });
/** Writes the line before it returns, because standard output is synchronous if it is a pipe. */
const report = (step: unknown) => process.stdout.write(`${JSON.stringify(step)}\n`);

/** Appends three events at a time, forever, and reports their cursors once they are acknowledged. */
async function appendForEver(file: string): Promise<void> {
  const store = await open(file);
  tailOf(store);
  const caller = async (name: number) => {
    for (let n = 0; ; n++) {
      const batch = `${name}-${n}`;
      report({ batch, cursors: await append(store, [declared({ batch }), declared({ batch }), declared({ batch })]) });
    }
  };
  await Promise.all(Array.from({ length: 8 }, (_, name) => caller(name)));
}

/** Appends 64 KiB. Returns the cursor or the error code. */
async function tryAppend(store: Store, ticketId = 'k'): Promise<{ cursor: string } | { code: string }> {
  try {
    return { cursor: (await append(store, [declared({ ticketId, text: 'x'.repeat(65_536) })]))[0] as string };
  } catch (error) {
    if (error instanceof BridgeError) return { code: error.code };
    throw error;
  }
}

/** Fills a file system of a few MiB, frees some space, and appends again. */
async function fillTheDisk(folder: string): Promise<void> {
  const filler = join(folder, 'filler');
  writeFileSync(filler, Buffer.alloc(2 * 1024 * 1024));
  const file = join(folder, 'log.db');
  const store = await open(file);
  const tail = tailOf(store);
  const acknowledged: string[] = [];
  // The failed append is repeated in the same room: the writer must have dropped its caches of that room.
  const next = () => tryAppend(store, `k${acknowledged.length}`);
  let result = await next();
  for (; 'cursor' in result; result = await next()) acknowledged.push(result.cursor);
  const full = { code: result.code, healthy: store.healthy(), fault: store.fault(), read: await count(store) };
  rmSync(filler);
  result = await next();
  if ('cursor' in result) acknowledged.push(result.cursor);
  const after = { ...result, healthy: store.healthy(), fault: store.fault() };
  await store.close();
  const reopened = await open(file);
  const rooms = acknowledged.map((_, n) => `ticket:k${n}`);
  const { records } = await readAll(reopened, rooms, store.opened.head);
  await reopened.close();
  const ids = (of: readonly { id: string }[]) => of.map(({ id }) => id);
  report({ full, after, acknowledged, logged: ids(records), tailed: ids(tail.records) });
}

/** Appends once per line of input and reports the result. The test limits the size of the file meanwhile. */
async function appendOnDemand(file: string): Promise<void> {
  // Without a listener, the signal would end a process whose file grows past the limit.
  process.on('SIGXFSZ', () => {});
  const store = await open(file);
  tailOf(store);
  report({ pid: process.pid });
  for await (const _ of process.stdin) report({ ...(await tryAppend(store)), healthy: store.healthy() });
  await store.close();
}

async function count(store: Store): Promise<number> {
  return (await readAll(store, ['tenant:t1'], store.opened.head)).records.length;
}

/** Opens a log of an earlier format, and keeps it open. */
async function upgrade(file: string): Promise<void> {
  report('opening');
  await open(file);
  report('open');
}

/** Opens a log of an earlier format on a file system of a few MiB, without room for its copy. */
async function upgradeWithoutRoom(folder: string): Promise<void> {
  const file = join(folder, 'log.db');
  makeFormat(2, file, 8_000);
  const message = await open(file).then(
    (store) => store.close().then(() => 'opened'),
    (error: Error) => error.message,
  );
  const db = new DatabaseSync(file);
  const { user_version: format } = db.prepare('PRAGMA user_version').get() as { user_version: number };
  report({ message, names: readdirSync(folder), format });
}

const modes: Record<string, (path: string) => Promise<void>> = {
  append: appendForEver,
  full: fillTheDisk,
  demand: appendOnDemand,
  upgrade,
  'upgrade-full': upgradeWithoutRoom,
};
await modes[mode]?.(path);

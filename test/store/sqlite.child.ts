/** A server of the SQLite tests that is there to be killed, or to run out of space. It tells what it did, a line each. */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BridgeError } from '../../src/contract/errors.ts';
import { createLogger } from '../../src/logger.ts';
import { openSqliteStore } from '../../src/store/sqlite/store.ts';
import type { Store } from '../../src/store/store.ts';
import { append, declared, readAll, tailOf } from './conformance.ts';

const [mode, place] = process.argv.slice(2) as [string, string];
const open = (file: string) => openSqliteStore({ file, keying: 'room', logger: createLogger('silent') });
/** Written before it returns: standard output is synchronous where it is a pipe. */
const tell = (what: unknown) => process.stdout.write(`${JSON.stringify(what)}\n`);

/** Appends without end, three events at a time, and tells the cursors only when they were acknowledged. */
async function appendForEver(file: string): Promise<void> {
  const store = await open(file);
  tailOf(store);
  const caller = async (name: number) => {
    for (let n = 0; ; n++) {
      const batch = `${name}-${n}`;
      tell({ batch, cursors: await append(store, [declared({ batch }), declared({ batch }), declared({ batch })]) });
    }
  };
  await Promise.all(Array.from({ length: 8 }, (_, name) => caller(name)));
}

/** How an append of 64 KiB ended: its cursor, or the code of the refusal. */
async function tryAppend(store: Store, ticketId = 'k'): Promise<{ cursor: string } | { code: string }> {
  try {
    return { cursor: (await append(store, [declared({ ticketId, text: 'x'.repeat(65_536) })]))[0] as string };
  } catch (error) {
    if (error instanceof BridgeError) return { code: error.code };
    throw error;
  }
}

/** On a file system of a few MiB. */
async function fillTheDisk(folder: string): Promise<void> {
  const filler = join(folder, 'filler');
  writeFileSync(filler, Buffer.alloc(2 * 1024 * 1024));
  const file = join(folder, 'log.db');
  const store = await open(file);
  const tail = tailOf(store);
  const acknowledged: string[] = [];
  // The one that fails is tried again in the same room, of which nothing may be remembered from the failed attempt.
  const next = () => tryAppend(store, `k${acknowledged.length}`);
  let result = await next();
  for (; 'cursor' in result; result = await next()) acknowledged.push(result.cursor);
  const full = { code: result.code, healthy: store.healthy(), read: await count(store) };
  rmSync(filler);
  result = await next();
  if ('cursor' in result) acknowledged.push(result.cursor);
  const after = { ...result, healthy: store.healthy() };
  await store.close();
  const reopened = await open(file);
  const { records } = await readAll(
    reopened,
    acknowledged.map((_, n) => `ticket:k${n}`),
    store.opened.head,
  );
  await reopened.close();
  const kept = records.map(({ id }) => id);
  tell({ full, after, acknowledged, kept, told: tail.records.map(({ id }) => id) });
}

/** Appends when told to, and tells how it went. The one who tells sets how large a file may grow. */
async function appendOnDemand(file: string): Promise<void> {
  // Without a listener the system ends a process whose file would grow too large.
  process.on('SIGXFSZ', () => {});
  const store = await open(file);
  tailOf(store);
  tell({ pid: process.pid });
  for await (const _ of process.stdin) tell({ ...(await tryAppend(store)), healthy: store.healthy() });
  await store.close();
}

async function count(store: Store): Promise<number> {
  return (await readAll(store, ['tenant:t1'], store.opened.head)).records.length;
}

const modes: Record<string, (place: string) => Promise<void>> = {
  append: appendForEver,
  full: fillTheDisk,
  demand: appendOnDemand,
};
await modes[mode]?.(place);

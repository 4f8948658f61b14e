/**
 * A process whose writer thread fails as the test wants (writer.preload.ts). It checks by itself what a log promises
 * meanwhile, and exits with an error if that does not hold.
 */
import assert from 'node:assert/strict';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createLogger } from '../../src/logger.ts';
import { openSqliteStore, type SqliteOptions } from '../../src/store/sqlite/store.ts';
import type { AppendEvent } from '../../src/store/store.ts';
import { createRandom } from '../support/random.ts';
import { until } from '../support/until.ts';
import { append, declared, refusedAs, request, tailOf } from './conformance.ts';
import { compare } from './lives.ts';
import { allLooks, drawLooks, seqOf, Viewed } from './looks.ts';
import { createPlan } from './random-log.ts';

const [mode, folder] = process.argv.slice(2) as [string, string];
const keying = 'room';
const warnings: string[] = [];
const logger = Object.assign(createLogger('silent'), { warn: (_: object, text: string) => warnings.push(text) });
const open = async (file: string, projectAt: SqliteOptions['projectAt']): Promise<Viewed> => {
  const store = await openSqliteStore({ file, keying, logger, ...(projectAt === undefined ? {} : { projectAt }) });
  tailOf(store);
  return new Viewed(store);
};
const tell = (name: string, what = '') => writeFileSync(join(folder, name), what);
const stopTelling = (name: string) => rmSync(join(folder, name), { force: true });
const isThere = (name: string) => existsSync(join(folder, name));

const quietMs = 1e9;
const reference = await open(':memory:', undefined);
const random = createRandom(11);
const plan = createPlan({ random: random.fork('plan'), keying, trims: 0, erasures: 0, most: 4 });

/** One request to the log, and to the reference if the log has accepted it. */
async function appendBoth(viewed: Viewed, events: readonly AppendEvent[]): Promise<void> {
  const result = await viewed.store.append(request(events));
  assert.deepEqual(viewed.seqsOf([result]), reference.seqsOf([await reference.store.append(request(events))]));
}

/** Appends to the log and to the reference at once. */
async function appendNext(viewed: Viewed): Promise<void> {
  const step = plan.next();
  assert.ok(step.kind === 'append');
  const both = [viewed, reference].map(async (each) =>
    each.seqsOf(await Promise.all(step.requests.map((one) => each.store.append(one)))),
  );
  const [found, expected] = await Promise.all(both);
  assert.deepEqual(found, expected);
}

async function agrees(viewed: Viewed, when: string): Promise<void> {
  const { floor, head } = await reference.store.bounds();
  const known = { keying, floor: seqOf(floor), head: seqOf(head), pages: new Map() } as const;
  await compare([...allLooks(known), ...drawLooks(random, 100, known)], reference, [['the log', viewed]], when);
}

/** On a disk that hangs, every read answers, and shows what was acknowledged before. */
async function hang(): Promise<void> {
  const viewed = await open(join(folder, 'log.db'), { records: 30, quietMs });
  for (let n = 0; n < 30; n++) await appendNext(viewed);
  tell('hang-commit');
  const underWay = appendBoth(viewed, [declared()]);
  await until('the commit hangs', () => isThere('hang-commit.reached'));
  await agrees(viewed, 'while a commit hangs');
  stopTelling('hang-commit');
  await underWay;
  await agrees(viewed, 'after a commit that hung');
  tell('hang-projection');
  // The projection begins after an answer, so every request but one is answered.
  await appendBoth(
    viewed,
    Array.from({ length: 30 }, () => declared()),
  );
  await until('the projection hangs', () => isThere('hang-projection.reached'));
  await agrees(viewed, 'while a projection hangs');
  const waiting = appendBoth(viewed, [declared()]);
  await agrees(viewed, 'while an append waits for a projection that hangs');
  stopTelling('hang-projection');
  await waiting;
  await agrees(viewed, 'after a projection that hung');
  await viewed.store.close();
}

/** The projection fails at each of its statements in turn; what was appended is there, and is projected in the end. */
async function fail(): Promise<void> {
  const viewed = await open(join(folder, 'log.db'), { records: 10, quietMs });
  for (const refused of ['BEGIN', 'INTO tickets', 'audience_records', 'UPDATE log', 'COMMIT']) {
    tell('fail', refused);
    for (let n = 0; n < 20; n++) await appendNext(viewed);
    await agrees(viewed, `while a projection is refused its ${refused}`);
    stopTelling('fail');
    for (let n = 0; n < 3; n++) await appendNext(viewed);
    await agrees(viewed, `after a projection was refused its ${refused}`);
  }
  assert.ok(warnings.length > 0);
  assert.equal(viewed.store.healthy(), true);
  await viewed.store.close();
}

/** Not even the failed transaction can be taken back: what is acknowledged meanwhile is synced, and the rest is refused. */
async function stick(): Promise<void> {
  const viewed = await open(join(folder, 'log.db'), { records: 10, quietMs });
  for (const refused of [
    'COMMIT\nROLLBACK',
    'audience_records\nROLLBACK',
    '1:COMMIT\n1:ROLLBACK',
    '1:UPDATE log\n1:ROLLBACK',
  ]) {
    tell('fail', refused);
    for (let n = 0; n < 20; n++) {
      await appendBoth(viewed, [declared()]).catch((error: unknown) => {
        if (!refusedAs('unavailable')(error)) throw error;
      });
    }
    await agrees(viewed, 'while a projection sticks');
    stopTelling('fail');
    await until('the log accepts events again', () => viewed.store.healthy());
    for (let n = 0; n < 5; n++) await appendNext(viewed);
    await agrees(viewed, 'after a projection that stuck');
  }
  await viewed.store.close();
}

/** Past a bound, appends are refused until the projection succeeds: neither memory nor the work of a read grows. */
async function refuse(): Promise<void> {
  const viewed = await open(join(folder, 'log.db'), { records: 500, quietMs });
  const manySmall = () => Array.from({ length: 1000 }, () => declared());
  const fewLarge = () => Array.from({ length: 10 }, () => declared({ text: 'x'.repeat(100_000) }));
  for (const [batch, most] of [
    [manySmall, 20_000],
    [fewLarge, 400],
  ] as const) {
    const before = (await viewed.store.stats()).records;
    tell('fail', 'audience_records');
    let accepted = 0;
    let refused: unknown = null;
    while (refused === null && accepted <= most) {
      const events = batch();
      await append(viewed.store, events).then(
        () => {
          accepted += events.length;
        },
        (error: unknown) => {
          refused = error;
        },
      );
    }
    assert.ok(refusedAs('unavailable')(refused), `after ${accepted}: ${refused}`);
    assert.ok(accepted >= most / 4, `${accepted} were accepted`);
    assert.equal(viewed.store.healthy(), false);
    await assert.rejects(append(viewed.store, batch()), refusedAs('unavailable'));
    assert.equal((await viewed.store.stats()).records, before + accepted);
    stopTelling('fail');
    await until('the log accepts events again', () => viewed.store.healthy());
    const more = await append(viewed.store, batch());
    assert.equal((await viewed.store.stats()).records, before + accepted + more.length);
  }
  await viewed.store.close();
}

const modes: Record<string, () => Promise<void>> = { hang, fail, stick, refuse };
await modes[mode]?.();
assert.ok(!isThere('unsynced'), 'a group was committed without a sync');
await reference.store.close();

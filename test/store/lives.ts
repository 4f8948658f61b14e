/**
 * The differential test of projections: stores that project at other moments live the same random life, and every read of
 * them is the same, also of what a killed process leaves behind.
 */
import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Keying } from '../../src/contract/audiences.ts';
import { createLogger } from '../../src/logger.ts';
import { openSqliteStore, type SqliteOptions } from '../../src/store/sqlite/store.ts';
import type { AppendResult, Store } from '../../src/store/store.ts';
import { createRandom } from '../support/random.ts';
import { caughtUp, tailOf } from './conformance.ts';
import { allLooks, drawLooks, type Known, type Look, seqOf, Viewed } from './looks.ts';
import { createPlan, type PlanOptions, play, type Step } from './random-log.ts';

/** Only a trim, an erasure and the close of the log project. */
export const LATE = { records: 1e9, quietMs: 1e9 };

type Name = 'prompt' | 'late' | 'unread' | 'often';

/** A folder for logs. The end of the test closes its stores and removes it. */
export function logsOf(t: TestContext, keying: Keying) {
  const folder = mkdtempSync(join(tmpdir(), 'roomcast-'));
  const stores: Store[] = [];
  t.after(async () => {
    await Promise.all(stores.map((store) => store.close()));
    rmSync(folder, { recursive: true });
  });
  const open = async (file: string, options: Partial<SqliteOptions> = {}): Promise<Store> => {
    const path = file === ':memory:' ? file : join(folder, file);
    const store = await openSqliteStore({ file: path, keying, logger: createLogger('silent'), ...options });
    stores.push(store);
    const tail = tailOf(store);
    const { trim, erase } = store;
    // A tail that is behind what is removed gets a gap.
    store.trim = (retention) => caughtUp(store, tail).then(() => trim(retention));
    store.erase = (target) => caughtUp(store, tail).then(() => erase(target));
    return store;
  };
  let copies = 0;
  /** The log as a process that is killed now leaves it. Nothing may be under way. */
  const killed = (file: string): string => {
    const copy = `killed-${++copies}.db`;
    for (const end of ['', '-wal']) copyFileSync(join(folder, `${file}${end}`), join(folder, `${copy}${end}`));
    return copy;
  };
  return { open, killed };
}

export const compare = async (
  looks: readonly Look[],
  expected: Viewed,
  others: readonly [string, Viewed][],
  when: string,
) => {
  const [right, ...found] = await Promise.all(
    [expected, ...others.map(([, viewed]) => viewed)].map((viewed) =>
      Promise.all(looks.map((look) => look.at(viewed))),
    ),
  );
  for (const [index, answers] of found.entries()) {
    for (const [at, look] of looks.entries()) {
      assert.deepEqual(answers[at], right?.[at], `${when}: ${others[index]?.[0]}: ${look.name}`);
    }
  }
};

export interface Life extends Omit<PlanOptions, 'random' | 'keying'> {
  readonly steps: number;
  /** Reads after each step. */
  readonly looks: number;
  /** Of the store that projects often. */
  readonly atRecords: number;
  /** Half way, changes of messages become declared events, for good or back again in the last quarter. */
  readonly declares?: boolean;
}

export async function live(
  t: TestContext,
  seed: number,
  keying: Keying,
  { steps, looks, atRecords, declares = false, ...life }: Life,
) {
  const { open, killed } = logsOf(t, keying);
  const random = createRandom(seed);
  const plan = createPlan({ random: random.fork('plan'), keying, ...life });
  const chance = random.fork('looks');
  const projectAt = { prompt: LATE, late: LATE, unread: LATE, often: { ...LATE, records: atRecords } };
  const [prompt, late, unread, often] = await Promise.all([
    open(':memory:'),
    open('late.db', { projectAt: projectAt.late }),
    open('unread.db', { projectAt: projectAt.unread }),
    open('often.db', { projectAt: projectAt.often }),
  ]);
  const views: Record<Name, Viewed> = {
    ...{ prompt: new Viewed(prompt), late: new Viewed(late) },
    ...{ unread: new Viewed(unread), often: new Viewed(often) },
  };
  const files = { prompt: '', late: 'late.db', unread: 'unread.db', often: 'often.db' };
  let extraEvents: readonly string[] = [];
  const known = { keying, head: 0, floor: 0, pages: new Map<string, string>() };
  const look = async () => {
    const { floor, head } = await views.prompt.store.bounds();
    Object.assign(known, { floor: seqOf(floor), head: seqOf(head) });
    return known satisfies Known;
  };
  const read = (...names: readonly Name[]) => names.map((name) => [name, views[name]] as [string, Viewed]);

  for (let number = 1; number <= steps; number++) {
    const step = plan.next();
    const when = `seed ${seed}, step ${number} (${what(step)})`;
    const answers = await Promise.all(
      Object.values(views).map(async (viewed) => {
        const answer = await play(viewed.store, step);
        return step.kind === 'append' ? viewed.seqsOf(answer as AppendResult[], known.floor) : answer;
      }),
    );
    for (const [index, name] of Object.keys(views).entries()) {
      assert.deepEqual(answers[index], answers[0], `${when}: ${name} answers`);
    }
    const looked = drawLooks(chance, looks, await look());
    await compare(looked, views.prompt, read('late', 'often'), when);
    if (number % (steps / 4) !== 0) continue;
    // Read once where a process was killed, and one goes on from there.
    const isHalf = number === steps / 2;
    if (declares) {
      extraEvents = isHalf ? ['messages.updated', 'messages.deleted'] : [];
      plan.declare(extraEvents);
    }
    const names: Name[] = declares ? ['late', 'unread', 'often'] : isHalf ? ['late', 'often'] : ['late'];
    for (const name of names) {
      const copy = killed(files[name]);
      const after = views[name].reopened(await open(copy, { projectAt: projectAt[name], extraEvents }));
      await compare([...looked, ...drawLooks(chance, 20, known)], views.prompt, [[`${name}, killed`, after]], when);
      await views[name].store.close();
      views[name] = after;
      files[name] = copy;
    }
  }
  const all = allLooks(await look());
  await compare(all, views.prompt, read('late', 'often', 'unread'), `seed ${seed}, at the end`);
  const redone = views.unread.reopened(await open(killed(files.unread), { extraEvents }));
  await compare(all, views.prompt, [['unread, killed', redone]], `seed ${seed}, at the end`);
}

const what = (step: Step): string =>
  step.kind === 'append'
    ? step.requests.map(({ events }) => events.map(({ event, payload }) => `${event} ${payload}`).join(', ')).join('; ')
    : JSON.stringify(step);

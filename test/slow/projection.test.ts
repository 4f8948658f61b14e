/**
 * Projections under `kill -9`, at every statement of their transaction, at the start and at the close of a log, and in a
 * trim and an erasure; and under a power cut, at pages of the commit that is not synced. The log that is left shows
 * what was acknowledged, and lives on as if nothing had happened. Then the random lives of test/store, with more seeds.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Keying } from '../../src/contract/audiences.ts';
import type { Cursor } from '../../src/contract/cursor.ts';
import { createLogger } from '../../src/logger.ts';
import { openSqliteStore } from '../../src/store/sqlite/store.ts';
import type { AppendResult } from '../../src/store/store.ts';
import { caughtUp, tailOf } from '../store/conformance.ts';
import { compare, LATE } from '../store/lives.ts';
import { allLooks, seqOf, Viewed } from '../store/looks.ts';
import type { LifeOfChild } from '../store/projection.child.ts';
import { createPlan, type Plan, play, type Step } from '../store/random-log.ts';
import type { Image, WriterTask } from '../store/writer.preload.ts';
import { createRandom } from '../support/random.ts';

const CHILD = fileURLToPath(import.meta.resolve('../store/projection.child.ts'));
const PRELOAD = import.meta.resolve('../store/writer.preload.ts');

type Life = Pick<LifeOfChild, 'seed' | 'plan'>;
type ProjectAt = LifeOfChild['projectAt'];

/** Steps after a kill. */
const MORE = 8;

async function openView(
  t: TestContext,
  file: string,
  keying: Keying,
  cursors: readonly Cursor[],
  projectAt: ProjectAt,
) {
  const store = await openSqliteStore({ file, keying, logger: createLogger('silent'), projectAt });
  t.after(() => store.close());
  const tail = tailOf(store);
  const viewed = Viewed.of(store, cursors);
  const playStep = async (step: Step): Promise<unknown> => {
    if (step.kind !== 'append') await caughtUp(store, tail);
    const floor = seqOf((await store.bounds()).floor);
    const answer = await play(store, step);
    return step.kind === 'append' ? viewed.seqsOf(answer as AppendResult[], floor) : null;
  };
  return { viewed, play: playStep };
}

/** A log that lived the first steps of a life without a fault, and the plan of the rest. */
async function rightAfter(t: TestContext, { seed, plan }: Life, steps: number) {
  const right = await openView(t, ':memory:', plan.keying, [], LATE);
  const rest = createPlan({ ...plan, random: createRandom(seed).fork('plan') });
  let last: Step | null = null;
  for (let number = 1; number <= steps; number++) {
    last = rest.next();
    await right.play(last);
  }
  return { ...right, rest, last };
}

async function looksOf({ store }: Viewed, keying: Keying) {
  const { floor, head } = await store.bounds();
  return allLooks({ keying, floor: seqOf(floor), head: seqOf(head), pages: new Map() });
}

/** The logs show what the right one shows, and go on to do so in the next steps. */
async function liveOn(
  right: { readonly viewed: Viewed; play(step: Step): Promise<unknown>; readonly rest: Plan },
  logs: readonly { readonly name: string; readonly viewed: Viewed; play(step: Step): Promise<unknown> }[],
  keying: Keying,
): Promise<void> {
  const views = logs.map(({ name, viewed }) => [name, viewed] as [string, Viewed]);
  await compare(await looksOf(right.viewed, keying), right.viewed, views, 'as it was left');
  for (let number = 1; number <= MORE; number++) {
    const step = right.rest.next();
    const expected = await right.play(step);
    const answers = await Promise.all(logs.map((log) => log.play(step)));
    for (const [index, answer] of answers.entries()) {
      assert.deepEqual(answer, expected, `${logs[index]?.name}: ${number} steps later`);
    }
  }
  await compare(await looksOf(right.viewed, keying), right.viewed, views, `${MORE} steps later`);
}

interface Reported {
  readonly number: number;
  readonly ids: readonly Cursor[];
}

/** Runs a process that lives a part of a life, to its end or to its kill. */
async function run(t: TestContext, life: LifeOfChild, writer: WriterTask) {
  const args = ['--disable-warning=ExperimentalWarning', '--import', PRELOAD, CHILD, JSON.stringify(life)];
  const child = spawn(process.execPath, args, {
    env: { ...process.env, WRITER: JSON.stringify(writer) },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk;
  });
  const [code, signal] = await once(child, 'close');
  const lines = output.split('\n').slice(0, -1);
  return { code, signal, steps: lines.map((line) => JSON.parse(line) as Reported) };
}

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'roomcast-'));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

const WAL_HEADER = 32;
const FRAME = 24 + 4096;

/** The images, and between two of one commit what a cut after some of its pages leaves. */
function withCuts(folder: string, images: readonly Image[]): (Image & { readonly file: string })[] {
  const path = (number: number) => join(folder, 'images', `${number}.db`);
  const walOf = (number: number) =>
    existsSync(`${path(number)}-wal`) ? readFileSync(`${path(number)}-wal`, 'latin1') : '';
  return images.flatMap((image, index) => {
    const whole = { ...image, file: path(image.number) };
    const next = images[index + 1];
    if (next === undefined || next.label !== image.label) return [whole];
    const [from, to] = [walOf(image.number), walOf(next.number)];
    if (!to.startsWith(from) || readFileSync(path(next.number)).compare(readFileSync(path(image.number))) !== 0)
      return [whole];
    const begin = Math.max(from.length, WAL_HEADER);
    const pages = (to.length - begin) / FRAME;
    // After some whole pages, and within one.
    const cuts = [...new Set([1, Math.floor(pages / 2), pages - 1])]
      .filter((count) => count > 0 && count < pages)
      .map((count) => begin + count * FRAME);
    if (pages > 1) cuts.push(to.length - 100);
    return [
      whole,
      ...cuts.map((bytes) => {
        const file = path(image.number).replace(/db$/, `${bytes}.db`);
        copyFileSync(path(image.number), file);
        writeFileSync(`${file}-wal`, to.slice(0, bytes), 'latin1');
        return { ...image, sql: `${image.sql} + ${bytes - from.length} bytes`, file };
      }),
    ];
  });
}

describe('a projection under kill -9', () => {
  const plan = { keying: 'room', trims: 0, erasures: 0, most: 4, atOnce: 1 } as const;
  const often: ProjectAt = { records: 12, quietMs: 1e9 };

  for (const [what, life, to, projectAt] of [
    ['in its transaction, and at the close', { seed: 21, plan }, 30, often],
    [
      'in a trim and in an erasure',
      { seed: 22, plan: { ...plan, keying: 'tenant', trims: 150, erasures: 150 } },
      30,
      LATE,
    ],
  ] as const) {
    it(`leaves a whole log at every statement, and if its pages are cut: ${what}`, async (t) => {
      const folder = folderOf(t);
      const { code, steps } = await run(
        t,
        { ...life, folder, from: 0, to, projectAt, closes: true },
        { mode: 'images', folder },
      );
      assert.equal(code, 0);
      const images = withCuts(
        folder,
        readFileSync(join(folder, 'images.jsonl'), 'utf8')
          .split('\n')
          .filter(Boolean)
          .map((line) => JSON.parse(line) as Image),
      );
      // Many are made while a log is created: more threads than a machine likes at once.
      const few = images.filter(({ label }, index) => label !== 'start 0' || index % 4 === 0);
      const byStep = Map.groupBy(few, ({ label }) => Number(label.split(' ')[1]));
      t.diagnostic(
        `${images.length} images at ${byStep.size} steps, ${images.filter((one) => one.isProjecting).length} in projections`,
      );
      const cursors = steps.flatMap(({ ids }) => ids);
      assert.ok(images.length > 20);
      for (const [number, left] of byStep) {
        const right = await rightAfter(t, life, number);
        const logs = await Promise.all(
          left.map(async ({ file, label, sql }) => ({
            name: `${label}, ${sql}`,
            ...(await openView(t, file, life.plan.keying, cursors, often)),
          })),
        );
        // A removal that was under way is made again.
        const { last } = right;
        if (last !== null && last.kind !== 'append') await Promise.all(logs.map((log) => log.play(last)));
        await liveOn(right, logs, life.plan.keying);
        await Promise.all([right, ...logs].map(({ viewed }) => viewed.store.close()));
      }
    });
  }

  it('leaves a whole log wherever a real process is killed: at its start with records to project, and later', async (t) => {
    const [folder, from, to] = [folderOf(t), 12, 30];
    const life: Life = { seed: 23, plan };
    const part = { ...life, folder, closes: false };
    // It ends by a kill of its own, and has projected nothing.
    const first = await run(t, { ...part, from: 0, to: from, projectAt: LATE }, { mode: 'kill', folder, at: 0 });
    assert.deepEqual([first.signal, first.steps.at(-1)?.number], ['SIGKILL', from]);
    const statements = [1, 150, 300, 340, 380, 420, 460, 500, 560, 620];
    const offset = createRandom(23).whole(0, 19);
    const seen = new Set<number>();
    for (const at of statements.map((statement) => statement + offset)) {
      const own = folderOf(t);
      const file = join(own, 'log.db');
      for (const end of ['', '-wal']) copyFileSync(join(folder, `log.db${end}`), `${file}${end}`);
      const killed = await run(
        t,
        { ...part, folder: own, from, to, projectAt: often },
        { mode: 'kill', folder: own, at },
      );
      assert.equal(killed.signal, 'SIGKILL');
      const answered = killed.steps.at(-1)?.number ?? from;
      seen.add(answered);
      const cursors = [...first.steps, ...killed.steps].flatMap(({ ids }) => ids);
      const right = await rightAfter(t, life, answered);
      const log = { name: `killed at ${at}`, ...(await openView(t, file, plan.keying, cursors, often)) };
      const headOf = async ({ viewed }: { readonly viewed: Viewed }) => seqOf((await viewed.store.bounds()).head);
      // What was committed, and killed before it was answered.
      if ((await headOf(log)) > (await headOf(right))) await right.play(right.rest.next());
      await liveOn(right, [log], plan.keying);
      await Promise.all([right, log].map(({ viewed }) => viewed.store.close()));
    }
    t.diagnostic(`killed after the steps ${[...seen].join(', ')}`);
    assert.ok(seen.size > 1, 'kills at the start and later');
  });
});

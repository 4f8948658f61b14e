/**
 * A process whose writer thread is watched (writer.preload.ts). It lives the random life of a log, step by step, and
 * reports the number and the cursors of each step that was answered as a line of JSON.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createLogger } from '../../src/logger.ts';
import { openSqliteStore } from '../../src/store/sqlite/store.ts';
import type { AppendResult } from '../../src/store/store.ts';
import { createRandom } from '../support/random.ts';
import { caughtUp, tailOf } from './conformance.ts';
import { createPlan, type PlanOptions, play } from './random-log.ts';

export interface LifeOfChild {
  readonly folder: string;
  readonly seed: number;
  readonly plan: Omit<PlanOptions, 'random'>;
  /** Plays the steps after `from`, up to `to`. */
  readonly from: number;
  readonly to: number;
  readonly projectAt: { readonly records: number; readonly quietMs: number };
  /** Closes the log at the end. Otherwise the process kills itself. */
  readonly closes: boolean;
}

const life = JSON.parse(process.argv[2] as string) as LifeOfChild;
const { folder, seed, plan, from, to, projectAt } = life;
/** Writes the line before it returns, because standard output is synchronous if it is a pipe. */
const report = (line: unknown) => process.stdout.write(`${JSON.stringify(line)}\n`);
/** `isWatched`: the writer is watched all the time. Otherwise only while it projects. */
function begin(label: string, isWatched: boolean): void {
  writeFileSync(join(folder, 'label'), label);
  if (isWatched) writeFileSync(join(folder, 'watch'), '');
  else rmSync(join(folder, 'watch'), { force: true });
}

begin(`start ${from}`, true);
const store = await openSqliteStore({
  ...{ file: join(folder, 'log.db'), keying: plan.keying, logger: createLogger('silent') },
  projectAt,
});
const tail = tailOf(store);
report({ number: from, ids: [store.opened.floor] });
const { next } = createPlan({ ...plan, random: createRandom(seed).fork('plan') });
for (let number = 1; number <= to; number++) {
  const step = next();
  if (number <= from) continue;
  begin(`step ${number}`, step.kind !== 'append');
  if (step.kind !== 'append') await caughtUp(store, tail);
  const answer = await play(store, step);
  const results = step.kind === 'append' ? (answer as AppendResult[]) : [];
  const ids = results.flatMap((result) => (result.kind === 'appended' ? result.events.map(({ id }) => id) : []));
  report({ number, ids });
  // The writer answers this after the projection that the step has brought about.
  await store.findSession('nobody', 0);
}
if (life.closes) {
  begin(`close ${to}`, true);
  await store.close();
} else process.kill(process.pid, 'SIGKILL');

/**
 * Loaded into a process with a log (`node --import`) to watch its writer thread, statement by statement, and to do what
 * a test asks for in the variable `WRITER`:
 *
 * `images`: keeps the files of the log as a kill at each statement would leave them, while the file `watch` is in the
 * folder or a projection runs; the content of `label` is noted with each image. `kill`: kills the process at one statement. `hang`: holds a commit for as
 * long as the file `hang-commit` or `hang-projection` is in the folder. `fail`: refuses the statements that contain a line
 * of the file `fail`, once if the line begins with `1:`. A record that is written without a sync leaves the file
 * `unsynced`.
 *
 * A projection is what runs between `PRAGMA synchronous = NORMAL` and `PRAGMA synchronous = FULL`.
 */
import { appendFileSync, copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync, StatementSync } from 'node:sqlite';
import { workerData } from 'node:worker_threads';

export interface WriterTask {
  readonly mode: 'images' | 'kill' | 'hang' | 'fail';
  /** Of the log, and of the files that tell what to do. The log is `log.db`. */
  readonly folder: string;
  /** `kill`: the number of the statement, counted while `watch` is there or a projection runs; the first one is 1. */
  readonly at?: number;
}

/** One line of `images.jsonl`: the files `N.db` and `N.db-wal` of the folder `images`. */
export interface Image {
  readonly number: number;
  /** What the file `label` said. */
  readonly label: string;
  readonly sql: string;
  readonly isProjecting: boolean;
}

const FULL = 2;

type Moment = 'before' | 'after';

const task = JSON.parse(process.env.WRITER ?? 'null') as WriterTask | null;
const thread = workerData as { readonly role?: string; readonly file?: string } | null;
if (task !== null && thread?.role === 'writer' && thread.file === join(task.folder, 'log.db')) watch(task);

function watch({ mode, folder, at = 0 }: WriterTask): void {
  const file = join(folder, 'log.db');
  const images = join(folder, 'images');
  let isProjecting = false;
  let statements = 0;
  let kept = 0;
  let newest = '';
  /** Of syncs (https://sqlite.org/pragma.html#pragma_synchronous). */
  let level: (() => unknown) | null = null;

  const told = (name: string): string | null => {
    const path = join(folder, name);
    return existsSync(path) ? readFileSync(path, 'utf8') : null;
  };

  function keepImage(sql: string): void {
    if (!existsSync(file)) return;
    const bytes = ['', '-wal'].map((end) =>
      existsSync(`${file}${end}`) ? readFileSync(`${file}${end}`, 'latin1') : '',
    );
    const both = bytes.join();
    if (both === newest) return;
    newest = both;
    mkdirSync(images, { recursive: true });
    const number = ++kept;
    for (const end of ['', '-wal']) {
      if (existsSync(`${file}${end}`)) copyFileSync(`${file}${end}`, join(images, `${number}.db${end}`));
    }
    const image: Image = { number, label: told('label') ?? '', sql: sql.slice(0, 80), isProjecting };
    appendFileSync(join(folder, 'images.jsonl'), `${JSON.stringify(image)}\n`);
  }

  function waitWhile(name: string): void {
    const sleeper = new Int32Array(new SharedArrayBuffer(4));
    if (told(name) !== null) appendFileSync(join(folder, `${name}.reached`), 'x');
    while (told(name) !== null) Atomics.wait(sleeper, 0, 0, 5);
  }

  /** A projection alone is refused its transaction; other statements are refused at any time. */
  function refuses(sql: string): boolean {
    const lines = told('fail')?.split('\n') ?? [];
    if (!isProjecting && /^(BEGIN|COMMIT)/.test(sql)) return false;
    const refusing = lines.find((line) => line !== '' && sql.includes(line.replace(/^1:/, '')));
    if (refusing?.startsWith('1:'))
      writeFileSync(join(folder, 'fail'), lines.filter((line) => line !== refusing).join('\n'));
    return refusing !== undefined;
  }

  function step(moment: Moment, sql: string): void {
    if (moment === 'before' && sql.includes('synchronous = NORMAL')) isProjecting = true;
    const isWatched = isProjecting || told('watch') !== null;
    if (mode === 'images') {
      if (isWatched) keepImage(sql);
    } else if (mode === 'kill') {
      // Before the statement, and after it: two numbers.
      if (isWatched && ++statements === at) process.kill(process.pid, 'SIGKILL');
    } else if (mode === 'hang') {
      if (moment === 'before' && sql.trim() === 'COMMIT') waitWhile(isProjecting ? 'hang-projection' : 'hang-commit');
    } else if (moment === 'before' && refuses(sql)) {
      throw Object.assign(new Error('database or disk is full'), { errcode: 13, code: 'ERR_SQLITE_ERROR' });
    }
    if (moment === 'before' && sql.includes('INTO records') && level?.() !== FULL) {
      appendFileSync(join(folder, 'unsynced'), 'x');
    }
    if (moment === 'after' && sql.includes('synchronous = FULL')) isProjecting = false;
  }

  const { exec, prepare } = DatabaseSync.prototype;
  DatabaseSync.prototype.exec = function (sql) {
    if (level === null && sql.includes('synchronous = FULL')) {
      const pragma = prepare.call(this, 'PRAGMA synchronous');
      level = () => (get.call(pragma, {}) as { synchronous?: unknown } | undefined)?.synchronous;
    }
    step('before', sql);
    exec.call(this, sql);
    step('after', sql);
  };
  const { get } = StatementSync.prototype;
  for (const name of ['run', 'get', 'all'] as const) {
    const original = StatementSync.prototype[name] as (...values: unknown[]) => unknown;
    const wrapped = function (this: StatementSync, ...values: unknown[]): unknown {
      step('before', this.sourceSQL);
      const result = original.apply(this, values);
      step('after', this.sourceSQL);
      return result;
    };
    Object.defineProperty(StatementSync.prototype, name, { value: wrapped });
  }
}

/**
 * `npm run torture -- [--seed N] [--minutes N] [--only NAME[,NAME]] [--listeners N] [--short] [--list]`
 *
 * Real processes, real stores and real intermediaries, one property (checker.ts), a table at the end. A failure prints
 * the seed and what the listeners concerned lived through. Exits 1 when anything objects.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { createRandom } from '../support/random.ts';
import { SCENARIOS, type Scenario } from './scenarios.ts';
import type { Verdict } from './stage.ts';

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    minutes: { type: 'string' },
    only: { type: 'string' },
    listeners: { type: 'string' },
    short: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
  },
});
if (values.list) {
  for (const { name, tells } of SCENARIOS) console.log(`${name.padEnd(16)} ${tells}`);
  process.exit(0);
}
const seed = Number(values.seed ?? Math.floor(Math.random() * 1_000_000_000));
const minutes = values.minutes === undefined ? null : Number(values.minutes);
if (!Number.isSafeInteger(seed) || (minutes !== null && !(minutes > 0))) {
  console.error('--seed takes a whole number, --minutes a number above 0');
  process.exit(2);
}
const listeners = values.listeners === undefined ? null : Number(values.listeners);
const only = values.only?.split(',');
const unknown = only?.find((name) => !SCENARIOS.some((scenario) => scenario.name === name));
if (unknown !== undefined) {
  console.error(`no scenario is called ${unknown}; there are ${SCENARIOS.map(({ name }) => name).join(', ')}`);
  process.exit(2);
}

interface Row {
  readonly scenario: string;
  readonly result: 'holds' | 'FAILS' | 'not run';
  readonly seconds: number;
  readonly tells: string;
}

/** A scenario that hangs fails. */
const HANG_MS = 150_000;
const MOST_OBJECTIONS = 8;
const table: Row[] = [];
const startedAt = Date.now();
const chosen = SCENARIOS.filter(
  ({ name, short, onRequest }) =>
    only?.includes(name) ?? (values.short ? short : onRequest !== true || (minutes !== null && minutes >= 30)),
);
console.log(`seed ${seed}; ${chosen.length} scenarios${minutes === null ? '' : `, at least ${minutes} minutes`}`);

let round = 0;
do {
  const share = minutes === null ? 0 : (minutes * 60_000) / chosen.length / (only === undefined ? 2 : 1);
  for (const scenario of chosen) table.push(await run(scenario, seed + round, share));
  round++;
} while (
  minutes !== null &&
  Date.now() - startedAt < minutes * 60_000 &&
  !table.some(({ result }) => result === 'FAILS')
);

const widths = { scenario: Math.max(8, ...table.map(({ scenario }) => scenario.length)), result: 7, seconds: 7 };
console.log(`\n${'scenario'.padEnd(widths.scenario)} | result  | seconds | what happened`);
console.log(`${'-'.repeat(widths.scenario)} | ------- | ------- | -------------`);
for (const { scenario, result, seconds, tells } of table) {
  console.log(
    `${scenario.padEnd(widths.scenario)} | ${result.padEnd(7)} | ${seconds.toFixed(1).padStart(7)} | ${tells}`,
  );
}
const failed = table.filter(({ result }) => result === 'FAILS').length;
const idle = table.filter(({ result }) => result === 'not run').length;
console.log(`\nseed ${seed}: ${table.length - failed - idle} held, ${failed} failed, ${idle} not run`);
process.exit(failed > 0 ? 1 : 0);

async function run({ name, play, needs }: Scenario, runSeed: number, budgetMs: number): Promise<Row> {
  const begunAt = Date.now();
  const missing = needs?.() ?? null;
  if (missing !== null) return { scenario: name, result: 'not run', seconds: 0, tells: missing };
  const scratch = mkdtempSync(join(tmpdir(), `roomcast-${name}-`));
  let hint = '';
  const say = (text: string): void => {
    if (process.stdout.isTTY) process.stdout.write(`\r\x1b[K${name}: ${text}`);
  };
  console.log(`${name} …`);
  let hanging: NodeJS.Timeout | undefined;
  try {
    const verdict = await Promise.race([
      play({
        ...{ seed: runSeed, random: createRandom(runSeed).fork(name), scratch, budgetMs },
        ...{ long: minutes !== null, judgesTimes: !values.short, listeners },
        progress(text) {
          hint = text;
          say(text);
        },
      }),
      new Promise<never>((_, reject) => {
        hanging = setTimeout(() => reject(new Error(`hangs at: ${hint}`)), budgetMs + HANG_MS);
      }),
    ]);
    if (process.stdout.isTTY) process.stdout.write('\r\x1b[K');
    report(name, runSeed, verdict);
    const tells = Object.entries(verdict.figures).map(([key, value]) => `${key} ${value}`);
    const result = verdict.objections.length === 0 ? 'holds' : 'FAILS';
    return { scenario: name, result, seconds: (Date.now() - begunAt) / 1000, tells: tells.join(', ') };
  } catch (error) {
    console.log(`FAILS ${name}, seed ${runSeed}: ${error instanceof Error ? error.stack : String(error)}`);
    const tells = error instanceof Error ? error.message : String(error);
    return { scenario: name, result: 'FAILS', seconds: (Date.now() - begunAt) / 1000, tells };
  } finally {
    clearTimeout(hanging);
    rmSync(scratch, { recursive: true, force: true });
  }
}

function report(name: string, runSeed: number, { objections, stories = [], rows = [] }: Verdict): void {
  if (rows.length > 0) {
    const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
    const width = (column: string): number =>
      Math.max(column.length, ...rows.map((row) => String(row[column] ?? '').length));
    const line = (cells: readonly string[]): string =>
      `| ${cells.map((cell, index) => cell.padEnd(width(columns[index] ?? ''))).join(' | ')} |`;
    console.log(line(columns));
    console.log(line(columns.map((column) => '-'.repeat(width(column)))));
    for (const row of rows) console.log(line(columns.map((column) => String(row[column] ?? ''))));
  }
  if (objections.length === 0) return;
  const laws = new Map<string, number>();
  for (const { law } of objections) laws.set(law, (laws.get(law) ?? 0) + 1);
  console.log(`FAILS ${name}, seed ${runSeed}: ${[...laws].map(([law, count]) => `${law} × ${count}`).join(', ')}`);
  for (const { law, who, detail } of objections.slice(0, MOST_OBJECTIONS)) console.log(`  ${law}: ${who} ${detail}`);
  if (objections.length > MOST_OBJECTIONS) console.log(`  … and ${objections.length - MOST_OBJECTIONS} more`);
  for (const lines of stories) console.log(lines.map((text) => `    ${text}`).join('\n'));
}

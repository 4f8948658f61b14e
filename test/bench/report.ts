/** The figures as tables: for the terminal, for docs/performance.md and as JSON. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import {
  type Case,
  type CaseResult,
  type Column,
  median,
  type Results,
  type Scenario,
  type Target,
} from './figures.ts';
import { type Cores, describePinning } from './machine.ts';

export interface ScenarioReport {
  readonly scenario: Scenario;
  readonly runs: number;
  readonly cases: ReadonlyMap<string, CaseResult>;
  readonly results: Results;
  readonly targets: readonly Target[];
  /** Why entrants did not take part, by name. */
  readonly skipped: ReadonlyMap<string, string>;
}

/** The setting of a bench, as its page tells it. */
export interface Setting {
  readonly command: string;
  readonly date: string;
  readonly machine: string;
  readonly cores: Cores | null;
}

function shown(value: number | null, decimals: number): string {
  if (value === null || !Number.isFinite(value)) return '—';
  return value.toLocaleString('en-US', { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => (row[column] ?? '').length)));
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0))).join(' | ')} |`;
  const rule = `| ${widths.map((width, column) => (column === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`)).join(' | ')} |`;
  return [line(head), rule, ...rows.map(line)].join('\n');
}

function caseTable({ name, columns, entrants }: Case, { runs, cases, results, skipped }: ScenarioReport): string {
  const present = entrants.filter(({ name: entrant }) => !skipped.has(entrant));
  const first = present[0]?.name ?? '';
  const has = ({ key }: Column): boolean => present.some((one) => results.median(name, one.name, key) !== null);
  const told = columns.filter(has);
  const head = [name, ...told.flatMap((column) => [column.heading, ...(column.compared ? ['ours ÷ its'] : [])])];
  const rows = present.map((one) => {
    const failed = (cases.get(name)?.get(one.name) ?? []).every((figures) => figures === null);
    return [
      `${one.name}${one.once && runs > 1 ? ', one run' : ''}${failed ? ' (failed)' : ''}`,
      ...told.flatMap(({ key, decimals = 0, compared }) => [
        shown(results.median(name, one.name, key), decimals),
        ...(compared ? [one.name === first ? '' : shown(results.ratio(name, first, one.name, key), 2)] : []),
      ]),
    ];
  });
  return table(head, rows);
}

export function sectionOf(report: ScenarioReport): string {
  const { scenario, targets, skipped } = report;
  const verdict = ({ got, holds }: Target): string => {
    if (got === null) return 'not measured';
    return holds === null ? '' : holds ? 'yes' : '**no**';
  };
  const parts = scenario.cases.map((one) => caseTable(one, report));
  for (const [name, reason] of skipped) parts.push(`Not measured: ${name}, since ${reason}.`);
  parts.push(
    table(
      ['target', 'wanted', 'got', 'holds'],
      targets.map((target) => [target.what, target.wants, shown(target.got, 2), verdict(target)]),
    ),
  );
  return parts.join('\n\n');
}

/** Replaces what stands between a scenario's markers; a page without them gets them at its end. */
export function writePage(file: string, reports: readonly ScenarioReport[], setting: Setting): void {
  let page = existsSync(file) ? readFileSync(file, 'utf8') : '# Performance\n';
  for (const report of reports) {
    const { name, title, sharesCores = false } = report.scenario;
    const pinning = describePinning(setting.cores, sharesCores);
    const [opening, closing] = [`<!-- bench:${name} -->`, `<!-- /bench:${name} -->`];
    const how = `${setting.date}; \`${setting.command}\`, median of ${report.runs}; ${setting.machine}; ${pinning}.`;
    const section = `${opening}\n\n${how}\n\n${sectionOf(report)}\n\n${closing}`;
    const from = page.indexOf(opening);
    const to = page.indexOf(closing);
    if (from === -1 || to === -1) page = `${page.trimEnd()}\n\n## ${name}. ${title}\n\n${section}\n`;
    else page = page.slice(0, from) + section + page.slice(to + closing.length);
  }
  writeFileSync(file, page);
}

export function writeJson(file: string, reports: readonly ScenarioReport[], setting: Setting): void {
  const scenarios = reports.map(({ scenario, runs, cases, targets, skipped }) => ({
    name: scenario.name,
    title: scenario.title,
    runs,
    targets,
    skipped: Object.fromEntries(skipped),
    cases: scenario.cases.map(({ name, columns, entrants }) => ({
      name,
      entrants: entrants.map((one) => {
        const made = (cases.get(name)?.get(one.name) ?? []).filter((figures) => figures !== null);
        const medians = columns.map(({ key }) => [key, median(made.map((figures) => figures[key] ?? Number.NaN))]);
        return { name: one.name, median: Object.fromEntries(medians), runs: made };
      }),
    })),
  }));
  writeFileSync(file, `${JSON.stringify({ ...setting, scenarios }, null, 2)}\n`);
}

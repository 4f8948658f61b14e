/**
 * A check as plain text, to copy for support and for the terminal. What a person needs who was not there: no cookies, no
 * tokens, no addresses but the server's origin.
 */

import { adviceTitle, fill, type Language, numberText, say, TEXTS, verdictText } from './texts.ts';
import { type Judgement, secondsOf, type TransportJudgement } from './verdict.ts';

export interface ReportFacts {
  readonly atMs: number;
  readonly origin: string;
  /** A browser's user agent, or Node's version. */
  readonly from: string;
}

export function reportText(judgement: Judgement, facts: ReportFacts, language: Language): string {
  const texts = TEXTS[language];
  const { level, rung, advice, notes, transports } = judgement;
  const list = (title: string, lines: readonly string[]): string[] =>
    lines.length === 0 ? [] : ['', `${title}:`, ...lines.map((line) => `- ${line}`)];
  return [
    `Roomcast: ${texts.title}`,
    `${texts.time}: ${new Date(facts.atMs).toISOString()}`,
    `${texts.server}: ${facts.origin}`,
    `${texts.from}: ${facts.from}`,
    '',
    `${texts.verdictLabel}: ${texts.levels[level]}. ${verdictText(judgement, language)}`,
    `${texts.rungLabel}: ${rung === null ? texts.noRung : texts.rungs[rung]}`,
    ...(transports.every(({ fault, firstMs }) => fault === null && firstMs === null)
      ? []
      : ['', ...table(transports, language)]),
    ...list(
      adviceTitle(judgement, language),
      advice.map((one) => say(texts.advices, one, language)),
    ),
    ...list(
      texts.notes,
      notes.map((one) => say(texts.noteTexts, one, language)),
    ),
    '',
  ].join('\n');
}

/** What came of one transport, in a word or two. */
export function resultText({ outcome, fault, quiet }: TransportJudgement, language: Language): string {
  const { outcomes, faults, cut } = TEXTS[language];
  if (outcome === 'passes' && quiet !== null && (quiet.cutMs !== null || quiet.isDead)) return cut;
  if (outcome !== 'fails' || fault === null) return outcomes[outcome];
  const detail = fault.detail === '' ? '' : ` (${fault.detail})`;
  return `${faults[fault.kind]}${detail}`;
}

/** What was measured, as sentences for the page. */
export function factTexts({ connectMs, firstMs, heldMs, quiet }: TransportJudgement, language: Language): string[] {
  const texts = TEXTS[language];
  const facts: string[] = [];
  if (connectMs !== null) facts.push(fill(texts.connects, { ms: connectMs }, language));
  if (firstMs !== null) facts.push(fill(texts.first, { ms: firstMs }, language));
  if (heldMs !== null) facts.push(fill(texts.held, { ms: heldMs }, language));
  if (quiet?.isDead) facts.push(texts.wentDead);
  else if (quiet?.cutMs != null) facts.push(fill(texts.cutAfter, { seconds: secondsOf(quiet.cutMs) }, language));
  else if (quiet != null) facts.push(fill(texts.open, { seconds: secondsOf(quiet.watchedMs) }, language));
  return facts;
}

function table(transports: readonly TransportJudgement[], language: Language): string[] {
  const { columns, transports: names } = TEXTS[language];
  const ms = (value: number | null): string => (value === null ? '-' : `${value} ms`);
  const rows = [
    [columns.transport, columns.connects, columns.first, columns.held, columns.quiet, columns.result],
    ...transports.map((one) => [
      names[one.transport],
      ms(one.connectMs),
      ms(one.firstMs),
      ms(one.heldMs),
      quietText(one, language),
      resultText(one, language),
    ]),
  ];
  const widths = columnWidths(rows);
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}

function quietText({ quiet }: TransportJudgement, language: Language): string {
  if (quiet === null) return '-';
  const mark = quiet.isDead || quiet.cutMs !== null ? '✗' : '✓';
  return `${mark} ${numberText(secondsOf(quiet.cutMs ?? quiet.watchedMs), language)} s`;
}

function columnWidths(rows: readonly (readonly string[])[]): number[] {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, cell.length);
  }
  return widths;
}

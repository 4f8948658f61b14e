/**
 * A verdict as plain text, for the terminal and to send to support: what a person needs who was not there. It holds no
 * cookies, no tokens and no address except the server's origin, and what a hostile server sent is safe to show.
 */

import { printable } from '../contract/printable.ts';
import type { Cause } from './causes.ts';
import {
  adviceTitle,
  causeText,
  fill,
  fixText,
  type Language,
  linesTitle,
  messageText,
  numberText,
  TEXTS,
  verdictText,
} from './texts.ts';
import { isCut, secondsOf, type TransportVerdict, type Verdict } from './verdict.ts';

export interface ReportFacts {
  readonly atMs: number;
  readonly origin: string;
  /** The browser's user agent, or Node's version. */
  readonly from: string;
}

export function reportText(verdict: Verdict, facts: ReportFacts, language: Language): string {
  const texts = TEXTS[language];
  const { level, transport, causes, advice, notes, transports } = verdict;
  const list = (title: string, lines: readonly string[]): string[] =>
    lines.length === 0 ? [] : ['', `${title}:`, ...lines.map((line) => `- ${line}`)];
  return [
    `Roomcast: ${texts.title}`,
    `${texts.time}: ${new Date(facts.atMs).toISOString()}`,
    `${texts.server}: ${facts.origin}`,
    `${texts.from}: ${facts.from}`,
    '',
    `${texts.verdict}: ${texts.levels[level]}. ${verdictText(verdict, language)}`,
    `${texts.transportUsed}: ${transport === null ? texts.noTransport : texts.clientTransports[transport]}`,
    ...(transports.every(({ fault, firstMs }) => fault === null && firstMs === null)
      ? []
      : ['', ...table(transports, language)]),
    ...list(
      texts.causeTitle,
      causes.map((cause) => causeText(cause, language)),
    ),
    ...fixLines(causes, language),
    ...list(
      adviceTitle(verdict, language),
      advice.map((message) => messageText(texts.advice, message, language)),
    ),
    ...list(
      texts.notesTitle,
      notes.map((message) => messageText(texts.notes, message, language)),
    ),
    '',
  ]
    .map(printable)
    .join('\n');
}

/** What to change at the server's own proxy, with the lines to paste. */
function fixLines(causes: readonly Cause[], language: Language): string[] {
  const fixes = causes.flatMap((cause) => {
    const fix = fixText(cause, language);
    return fix === null ? [] : [{ fix, remedies: cause.remedies }];
  });
  if (fixes.length === 0) return [];
  return [
    ...['', `${TEXTS[language].fixTitle}:`],
    ...fixes.flatMap(({ fix, remedies }) => [
      `- ${fix}`,
      ...remedies.flatMap(({ proxy, lines }) => [
        `  ${linesTitle(proxy, language)}:`,
        ...lines.split('\n').map((line) => `    ${line}`),
      ]),
    ]),
  ];
}

/** One transport's result in a few words. */
export function resultText({ outcome, fault, quiet }: TransportVerdict, language: Language): string {
  const { outcomes, faults, cut } = TEXTS[language];
  if (outcome === 'passes' && isCut(quiet)) return cut;
  if (outcome !== 'fails' || fault === null) return outcomes[outcome];
  const detail = fault.detail === '' ? '' : ` (${fault.detail})`;
  return `${faults[fault.kind]}${detail}`;
}

/** What was measured of one transport, for the page. */
export function factTexts({ connectMs, firstMs, heldMs, quiet }: TransportVerdict, language: Language): string[] {
  const texts = TEXTS[language];
  const facts: string[] = [];
  if (connectMs !== null) facts.push(fill(texts.connected, { ms: connectMs }, language));
  if (firstMs !== null) facts.push(fill(texts.firstUpdate, { ms: firstMs }, language));
  if (heldMs !== null) facts.push(fill(texts.extraDelay, { ms: heldMs }, language));
  if (quiet?.isDead) facts.push(texts.wentDead);
  else if (quiet?.cutMs != null) facts.push(fill(texts.cutAfter, { seconds: secondsOf(quiet.cutMs) }, language));
  else if (quiet != null) facts.push(fill(texts.staysOpen, { seconds: secondsOf(quiet.watchedMs) }, language));
  return facts;
}

function table(transports: readonly TransportVerdict[], language: Language): string[] {
  const { columns, transports: names } = TEXTS[language];
  const ms = (value: number | null): string => (value === null ? '-' : `${value} ms`);
  const rows = [
    [columns.transport, columns.connected, columns.first, columns.delay, columns.quiet, columns.result],
    ...transports.map((one) => [
      names[one.transport],
      ms(one.connectMs),
      ms(one.firstMs),
      ms(one.heldMs),
      quietText(one, language),
      resultText(one, language),
    ]),
  ];
  const widthOf = (column: number): number => Math.max(...rows.map((row) => row[column]?.length ?? 0));
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widthOf(column)))
      .join('  ')
      .trimEnd(),
  );
}

function quietText({ quiet }: TransportVerdict, language: Language): string {
  if (quiet === null) return '-';
  return `${isCut(quiet) ? '✗' : '✓'} ${numberText(secondsOf(quiet.cutMs ?? quiet.watchedMs), language)} s`;
}

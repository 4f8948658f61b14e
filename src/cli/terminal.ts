/**
 * What the commands know of a terminal: its colours (NO_COLOR and FORCE_COLOR decide, as Node has it), its width, how many
 * columns a text takes there, and tables that fit. Everything here returns text that is safe to show.
 */
import { createInterface } from 'node:readline/promises';
import { styleText } from 'node:util';
import { printable } from '../contract/printable.ts';

export type Style = Parameters<typeof styleText>[0];

export function paint(style: Style, text: string, stream: NodeJS.WriteStream = process.stdout): string {
  return text === '' ? '' : styleText(style, text, { stream });
}

/** Of standard output; a terminal without a size has 80. */
export const columns = (): number => process.stdout.columns || 80;

/** Characters without a shape of their own: in a name, they hide a difference. */
const INVISIBLE = /\p{Cf}/gu;

/** A name from outside, such as a room's or a user's: each character is visible. */
export function visible(name: string): string {
  return printable(name).replaceAll(INVISIBLE, (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`);
}

const graphemes = new Intl.Segmenter(undefined, { granularity: 'grapheme' });
/** East Asian wide characters and emoji take two columns. */
const WIDE =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}|\ufe0f/u;
const ZERO = /^[\p{Mn}\p{Me}\p{Cf}]+$/u;

const columnsOf = (grapheme: string): number => (WIDE.test(grapheme) ? 2 : ZERO.test(grapheme) ? 0 : 1);

export function widthOf(text: string): number {
  let width = 0;
  for (const { segment } of graphemes.segment(text)) width += columnsOf(segment);
  return width;
}

/** A longer text than this is cut before it is measured: no terminal shows more of it in one line. */
const MAX_CHARACTERS = 2_000;

/** Cut to a width, with `…` if something is missing. */
export function cut(text: string, width: number): string {
  const short = text.slice(0, MAX_CHARACTERS);
  if (short.length === text.length && widthOf(short) <= width) return text;
  let kept = '';
  let taken = 0;
  for (const { segment } of graphemes.segment(short)) {
    taken += columnsOf(segment);
    if (taken > width - 1) break;
    kept += segment;
  }
  return width > 0 ? `${kept}…` : '';
}

/** Cut or filled up to exactly this width. */
export function fit(text: string, width: number): string {
  const fitting = cut(text, width);
  return fitting + ' '.repeat(Math.max(0, width - widthOf(fitting)));
}

export interface Column<Row> {
  readonly title: string;
  text(row: Row): string;
  style?(row: Row): Style | null;
  /** Narrower than this, the column is of no use. */
  readonly min: number;
  readonly max: number;
  /** Shown only if the terminal has this many columns. */
  readonly from?: number;
}

const GAP = '  ';

/**
 * A table that fits into the terminal: columns are as wide as their texts; the last ones give way first.
 * @param below a text that stands whole under each row
 */
export function table<Row>(rows: readonly Row[], all: readonly Column<Row>[], below?: (row: Row) => string): string[] {
  const width = columns();
  const shown = all.filter(({ from = 0 }) => width >= from);
  const texts = rows.map((row) => shown.map(({ text }) => text(row)));
  const widths = shown.map(({ title, max }, index) =>
    Math.min(max, Math.max(title.length, ...texts.map((cells) => widthOf(cells[index] as string)))),
  );
  let excess = widths.reduce((sum, one) => sum + one + GAP.length, -GAP.length) - width;
  for (let index = shown.length - 1; index >= 0 && excess > 0; index--) {
    const spare = Math.max(0, (widths[index] as number) - (shown[index] as Column<Row>).min);
    widths[index] = (widths[index] as number) - Math.min(spare, excess);
    excess -= Math.min(spare, excess);
  }
  const line = (cells: readonly string[], styleOf: (index: number) => Style | null): string =>
    cells
      .map((cell, index) => {
        const isLast = index === cells.length - 1;
        const text = isLast ? cut(cell, widths[index] as number) : fit(cell, widths[index] as number);
        const style = styleOf(index);
        return style === null ? text : paint(style, text);
      })
      .join(GAP)
      .trimEnd();
  return [
    line(
      shown.map(({ title }) => title),
      () => 'dim',
    ),
    ...rows.flatMap((row, at) => {
      const first = line(texts[at] as string[], (index) => shown[index]?.style?.(row) ?? null);
      return below === undefined ? first : [first, paint('dim', `${GAP}${below(row)}`)];
    }),
  ];
}

const UNITS = [
  [86_400, 'd'],
  [3_600, 'h'],
  [60, 'm'],
  [1, 's'],
] as const;

/** In its largest unit: `3d`, `2h`, `5m`, `12s`. */
export function duration(milliseconds: number): string {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  const [size, unit] = UNITS.find(([size]) => seconds >= size) ?? UNITS[3];
  return `${Math.floor(seconds / size)}${unit}`;
}

/** Asks on the terminal. Only `y` and `yes` mean yes. */
export async function confirm(question: string): Promise<boolean> {
  const asking = createInterface({ input: process.stdin, output: process.stderr });
  const closed = new Promise<string>((resolve) => asking.once('close', () => resolve('')));
  const answer = await Promise.race([asking.question(`${printable(question)} [y/N] `), closed]);
  asking.close();
  return /^y(es)?$/i.test(answer.trim());
}

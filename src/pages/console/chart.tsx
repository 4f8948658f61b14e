/**
 * A chart over time (uPlot). The pointer or the arrow keys move along it, in all charts at once, and the legend shows the
 * values of that instant. Who cannot see it gets the same by the keyboard as words, and its data as a table.
 */
import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import UPlot from 'uplot';
import { language } from '../language.ts';
import { NOTHING, timeOfDay } from './format.ts';
import { useModels } from './model.ts';
import { overviewTexts } from './texts/overview.ts';
import type { ThemeChoice } from './theme.ts';

export interface Series {
  readonly label: string;
  /** A CSS custom property. */
  readonly color: string;
  /** One per instant; null while unknown. */
  readonly values: readonly (number | null)[];
}

interface ChartProps {
  readonly title: string;
  readonly note?: ComponentChildren;
  readonly instants: readonly number[];
  readonly series: readonly Series[];
  readonly format: (value: number | null) => string;
  /** Whole numbers only, on the axis as well. */
  readonly isCount?: boolean;
  /** What to show while no value is known. */
  readonly empty: string;
  /** The time that the chart shows, until now. */
  readonly spanMs: number;
  /** Times to mark behind the lines: `[from, to]`. */
  readonly marks: readonly (readonly [number, number])[];
  readonly theme: ThemeChoice;
}

const HEIGHT = 140;
const TABLE_ROWS = 30;
/** Pixels: half the width of a time label, less what may reach beyond the plot. */
const LABEL_MARGIN = 30;
/** Steps of the axis of time, in seconds. */
const TIME_STEPS = [15, 30, 60, 120, 300, 600, 900, 1800];
const COUNT_STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6];

export function Chart(props: ChartProps) {
  useModels(language);
  const { title, note, instants, series, format, empty, spanMs, theme } = props;
  const t = overviewTexts().chart;
  const container = useRef<HTMLDivElement>(null);
  const plot = useRef<UPlot | null>(null);
  /** uPlot is made once per set of lines; what changes meanwhile is read from here. */
  const latest = useRef(props);
  latest.current = props;
  const [cursor, setCursor] = useState<number | null>(null);
  const lines = series.map(({ label }) => label).join('\n');

  useEffect(() => {
    const element = container.current as HTMLDivElement;
    const created = new UPlot(options(element, latest, setCursor), dataOf(latest.current), element);
    plot.current = created;
    const observer = new ResizeObserver(() => created.setSize({ width: element.clientWidth, height: HEIGHT }));
    observer.observe(element);
    const unsubscribe = theme.changes.subscribe(() => created.redraw(false, true));
    return () => {
      unsubscribe();
      observer.disconnect();
      created.destroy();
    };
  }, [lines]);
  useEffect(() => plot.current?.setData(dataOf(latest.current)), [instants, spanMs]);

  const isEmpty = series.every(({ values }) => values.every((value) => value === null));
  const shown = cursor !== null && cursor < instants.length ? cursor : null;
  const at = shown ?? instants.length - 1;
  const valuesAt = (index: number): string =>
    series.map(({ label, values }) => `${label} ${format(values[index] ?? null)}`).join(', ');
  const when = shown === null ? t.now : timeOfDay(instants[shown] as number);

  function onKeyDown(event: KeyboardEvent): void {
    const last = instants.length - 1;
    const step = event.key.startsWith('Page') ? 10 : 1;
    const next = {
      ArrowLeft: Math.max(0, at - step),
      PageDown: Math.max(0, at - step),
      ArrowRight: Math.min(last, at + step),
      PageUp: Math.min(last, at + step),
      Home: instants.findIndex((atMs) => atMs > Date.now() - spanMs),
      End: last,
      Escape: -1,
    }[event.key];
    if (next === undefined || last < 0) return;
    event.preventDefault();
    const left = next < 0 ? -10 : (plot.current?.valToPos((instants[next] as number) / 1000, 'x') ?? -10);
    plot.current?.setCursor({ left, top: next < 0 ? -10 : HEIGHT / 3 });
    setCursor(next < 0 ? null : next);
  }

  return (
    <figure class="chart">
      <figcaption>
        <h4>{title}</h4>
        {note !== undefined && <span class="note">{note}</span>}
        <ul class="legend">
          {series.map(({ label, color, values }) => (
            <li key={label}>
              <span class="swatch" style={{ background: `var(${color})` }} />
              {label} <strong>{format(values[at] ?? null)}</strong>
            </li>
          ))}
          {shown !== null && <li>{when}</li>}
        </ul>
      </figcaption>
      <div
        class="plot"
        ref={container}
        role="slider"
        tabIndex={0}
        aria-label={t.label(title)}
        aria-valuemin={0}
        aria-valuemax={Math.max(0, instants.length - 1)}
        aria-valuenow={Math.max(0, at)}
        aria-valuetext={isEmpty ? empty : `${when}: ${valuesAt(at)}`}
        data-empty={isEmpty ? empty : undefined}
        onKeyDown={onKeyDown}
        onBlur={() => plot.current?.setCursor({ left: -10, top: -10 })}
      />
      {!isEmpty && (
        <details>
          <summary>{t.table}</summary>
          <DataOf instants={instants} series={series} format={format} title={title} />
        </details>
      )}
    </figure>
  );
}

/** About thirty instants, evenly spaced over the whole range, newest first. */
function DataOf({ title, instants, series, format }: Pick<ChartProps, 'title' | 'instants' | 'series' | 'format'>) {
  const stride = Math.max(1, Math.ceil(instants.length / TABLE_ROWS));
  const rows = instants
    .map((atMs, index) => ({ atMs, index }))
    .reverse()
    .filter((_, place) => place % stride === 0);
  return (
    <table aria-label={title}>
      <thead>
        <tr>
          <th scope="col">{overviewTexts().chart.time}</th>
          {series.map(({ label }) => (
            <th key={label} scope="col" class="number">
              {label}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map(({ atMs, index }) => (
          <tr key={atMs}>
            <td>{timeOfDay(atMs)}</td>
            {series.map(({ label, values }) => (
              <td key={label} class="number">
                {format(values[index] ?? null)}
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

const dataOf = ({ instants, series }: ChartProps): UPlot.AlignedData => [
  instants.map((atMs) => atMs / 1000),
  ...series.map(({ values }) => [...values]),
];

/** Near an edge, a label would be cut off or overlap the other axis. */
function fitsLabel(plot: UPlot, at: number): boolean {
  const left = plot.valToPos(at, 'x');
  return left > LABEL_MARGIN && left < plot.over.clientWidth - LABEL_MARGIN;
}

function options(
  element: HTMLElement,
  latest: { readonly current: ChartProps },
  setCursor: (index: number | null) => void,
): UPlot.Options {
  // A canvas cannot use custom properties, and reading one does not resolve its `light-dark()`.
  const color = (property: string) => (): string => {
    element.style.color = `var(${property})`;
    const resolved = getComputedStyle(element).color;
    element.style.color = '';
    return resolved;
  };
  const axis = { stroke: color('--quiet'), ticks: { show: false }, font: '12px system-ui, sans-serif' } as const;
  return {
    width: element.clientWidth,
    height: HEIGHT,
    padding: [8, 8, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: 'overview' }, drag: { x: false, y: false }, y: false, points: { size: 7 } },
    hooks: {
      setCursor: [({ cursor }) => setCursor(cursor.idx ?? null)],
      drawClear: [(plot) => drawMarks(plot, latest.current.marks, color('--bad-soft')())],
    },
    scales: {
      x: { range: () => [(Date.now() - latest.current.spanMs) / 1000, Date.now() / 1000] },
      y: { range: (_, _min, max) => [0, max > 0 ? max * 1.15 : 1] },
    },
    axes: [
      {
        ...axis,
        grid: { show: false },
        size: 26,
        space: 76,
        incrs: TIME_STEPS,
        values: (plot, splits) =>
          splits.map((at) => (fitsLabel(plot, at) ? timeOfDay(at * 1000).replace(/:00$/, '') : '')),
      },
      {
        ...axis,
        grid: { stroke: color('--line'), width: 1 },
        size: 64,
        space: 36,
        ...(latest.current.isCount && { incrs: COUNT_STEPS }),
        values: (_, splits) => splits.map((value) => (value === null ? NOTHING : latest.current.format(value))),
      },
    ],
    series: [
      {},
      ...latest.current.series.map(({ label, color: property }) => ({
        label,
        stroke: color(property),
        width: 1.5,
        points: { show: false },
      })),
    ],
  };
}

/** Tints behind the lines, at least two pixels wide. */
function drawMarks(plot: UPlot, marks: ChartProps['marks'], tint: string): void {
  const { ctx, bbox } = plot;
  const right = bbox.left + bbox.width;
  ctx.save();
  ctx.fillStyle = tint;
  for (const [fromMs, toMs] of marks) {
    const from = Math.max(bbox.left, plot.valToPos(fromMs / 1000, 'x', true));
    const to = Math.min(right, Math.max(from + 2, plot.valToPos(toMs / 1000, 'x', true)));
    if (to > from) ctx.fillRect(from, bbox.top, to - from, bbox.height);
  }
  ctx.restore();
}

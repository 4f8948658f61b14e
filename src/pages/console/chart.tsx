/** A live chart (uPlot). People who cannot see it get its newest values in words and its data as a table. */
import { useEffect, useRef } from 'preact/hooks';
import UPlot from 'uplot';
import { NOTHING, timeOfDay } from './format.ts';
import { HISTORY_MS } from './stats.ts';
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
  readonly instants: readonly number[];
  readonly series: readonly Series[];
  readonly format: (value: number | null) => string;
  /** What to show while no value is known. */
  readonly empty: string;
  readonly theme: ThemeChoice;
}

const HEIGHT = 180;
const MIN_WINDOW_MS = 60_000;
const TABLE_ROWS = 15;
/** Pixels: half the width of a time label, less what may reach beyond the plot. */
const LABEL_MARGIN = 22;

export function Chart({ title, instants, series, format, empty, theme }: ChartProps) {
  const container = useRef<HTMLDivElement>(null);
  const plot = useRef<UPlot | null>(null);

  useEffect(() => {
    const element = container.current as HTMLDivElement;
    const created = new UPlot(options(element, series, format), [[], ...series.map(() => [])], element);
    plot.current = created;
    const observer = new ResizeObserver(() => created.setSize({ width: element.clientWidth, height: HEIGHT }));
    observer.observe(element);
    const unsubscribe = theme.changes.subscribe(() => created.redraw(false, true));
    return () => {
      unsubscribe();
      observer.disconnect();
      created.destroy();
    };
  }, []);

  useEffect(() => {
    plot.current?.setData([instants.map((atMs) => atMs / 1000), ...series.map(({ values }) => [...values])]);
  }, [instants]);

  const isEmpty = series.every(({ values }) => values.every((value) => value === null));
  const words = series.map(({ label, values }) => `${label} ${format(values.at(-1) ?? null)}`).join(', ');
  return (
    <figure class="chart">
      <figcaption>
        <h3>{title}</h3>
        <ul class="legend">
          {series.map(({ label, color, values }) => (
            <li key={label}>
              <span class="swatch" style={{ background: `var(${color})` }} />
              {label} <strong>{format(values.at(-1) ?? null)}</strong>
            </li>
          ))}
        </ul>
      </figcaption>
      <div
        class="plot"
        ref={container}
        role="img"
        aria-label={`${title}, the last five minutes. Now: ${words}.`}
        data-empty={isEmpty ? empty : undefined}
      />
      <details>
        <summary>As a table</summary>
        <table>
          <thead>
            <tr>
              <th scope="col">Time</th>
              {series.map(({ label }) => (
                <th key={label} scope="col" class="number">
                  {label}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {instants
              .map((atMs, index) => ({ atMs, index }))
              .slice(-TABLE_ROWS)
              .reverse()
              .map(({ atMs, index }) => (
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
      </details>
    </figure>
  );
}

/** The chart's window grows with the history, from one minute to five. */
function rangeFrom(firstSeconds: number | null): number {
  const nowMs = Date.now();
  const firstMs = firstSeconds === null ? nowMs : firstSeconds * 1000;
  return Math.max(nowMs - HISTORY_MS, Math.min(nowMs - MIN_WINDOW_MS, firstMs)) / 1000;
}

/** Near an edge, a label would be cut off or overlap the other axis. */
function fitsLabel(plot: UPlot, at: number): boolean {
  const left = plot.valToPos(at, 'x');
  return left > LABEL_MARGIN && left < plot.over.clientWidth - LABEL_MARGIN;
}

function options(element: HTMLElement, series: readonly Series[], format: ChartProps['format']): UPlot.Options {
  // A canvas cannot use custom properties, and reading one does not resolve its `light-dark()`.
  const color = (property: string) => (): string => {
    element.style.color = `var(${property})`;
    const resolved = getComputedStyle(element).color;
    element.style.color = '';
    return resolved;
  };
  const axis = { stroke: color('--quiet'), ticks: { show: false }, font: '12px system-ui, sans-serif' } as const;
  const grid = { stroke: color('--line'), width: 1 };
  return {
    width: element.clientWidth,
    height: HEIGHT,
    padding: [8, 8, 0, 0],
    legend: { show: false },
    cursor: { show: false },
    scales: {
      x: { range: (_, first) => [rangeFrom(first), Date.now() / 1000] },
      y: { range: (_, _min, max) => [0, max > 0 ? max * 1.15 : 1] },
    },
    axes: [
      {
        ...axis,
        grid: { show: false },
        size: 26,
        space: 70,
        incrs: [15, 30, 60, 120],
        values: (plot, splits) => splits.map((at) => (fitsLabel(plot, at) ? timeOfDay(at * 1000) : '')),
      },
      {
        ...axis,
        grid,
        size: 68,
        values: (_, splits) => splits.map((value) => (value === null ? NOTHING : format(value))),
      },
    ],
    series: [
      {},
      ...series.map(({ label, color: property }) => ({
        label,
        stroke: color(property),
        width: 2,
        points: { show: false },
      })),
    ],
  };
}

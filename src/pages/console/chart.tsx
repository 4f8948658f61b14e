/** A live chart (uPlot), with its figures in words and as a table for those who do not see it. */
import { useEffect, useRef } from 'preact/hooks';
import UPlot from 'uplot';
import { NOTHING, timeOfDay } from './format.ts';
import { HISTORY_MS } from './stats.ts';
import type { ThemeChoice } from './theme.ts';

export interface Series {
  readonly label: string;
  /** A custom property of the theme. */
  readonly color: string;
  /** One for each instant; null where nothing is known. */
  readonly values: readonly (number | null)[];
}

interface ChartProps {
  readonly title: string;
  readonly instants: readonly number[];
  readonly series: readonly Series[];
  readonly format: (value: number | null) => string;
  /** Said in place of lines while nothing is known. */
  readonly empty: string;
  readonly theme: ThemeChoice;
}

const HEIGHT = 180;
const SHORTEST_MS = 60_000;
const TABLE_ROWS = 15;
/** Pixels: half of a label of the time axis, less what may lie beside the plot. */
const LABEL_ROOM = 22;

export function Chart({ title, instants, series, format, empty, theme }: ChartProps) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<UPlot | null>(null);

  useEffect(() => {
    const element = place.current as HTMLDivElement;
    const drawn = new UPlot(options(element, series, format), [[], ...series.map(() => [])], element);
    plot.current = drawn;
    const resized = new ResizeObserver(() => drawn.setSize({ width: element.clientWidth, height: HEIGHT }));
    resized.observe(element);
    const off = theme.changes.on(() => drawn.redraw(false, true));
    return () => {
      off();
      resized.disconnect();
      drawn.destroy();
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
        ref={place}
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

/** The window grows with what is known, from one minute to five. */
function rangeFrom(firstSeconds: number | null): number {
  const nowMs = Date.now();
  const firstMs = firstSeconds === null ? nowMs : firstSeconds * 1000;
  return Math.max(nowMs - HISTORY_MS, Math.min(nowMs - SHORTEST_MS, firstMs)) / 1000;
}

/** Near an edge a label would be cut off, or run into the other axis. */
function hasRoom(plot: UPlot, at: number): boolean {
  const left = plot.valToPos(at, 'x');
  return left > LABEL_ROOM && left < plot.over.clientWidth - LABEL_ROOM;
}

function options(element: HTMLElement, series: readonly Series[], format: ChartProps['format']): UPlot.Options {
  // A canvas knows no custom properties, and `light-dark()` is not resolved in them.
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
        values: (plot, splits) => splits.map((at) => (hasRoom(plot, at) ? timeOfDay(at * 1000) : '')),
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

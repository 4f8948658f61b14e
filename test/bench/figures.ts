/** What is measured, and how runs become one figure: medians, and ratios within one run before any median. */
import type { Programs } from './programs.ts';
import type { Stage } from './stage.ts';

/** By column; one that could not be had is left out. */
export type Figures = Readonly<Record<string, number>>;

export interface Column {
  readonly key: string;
  readonly heading: string;
  /** Decimals shown. Default 0. */
  readonly decimals?: number;
  /** Followed by a column of ratios: the first entrant's figure over each other's. */
  readonly compared?: boolean;
}

export interface Entrant {
  readonly name: string;
  /** Why it cannot take part here; null when it can. */
  missing(programs: Programs): string | null;
  measure(stage: Stage): Promise<Figures>;
  readonly isBridge: boolean;
  /** Takes part in the first run only: no target needs more. */
  readonly once?: boolean;
}

export const once = (entrant: Entrant): Entrant => ({ ...entrant, once: true });

/** Entrants measured in turn (A B C A B C …), the one that the others are compared with first. */
export interface Case {
  readonly name: string;
  readonly columns: readonly Column[];
  readonly entrants: readonly Entrant[];
}

export interface Scenario {
  readonly name: string;
  readonly title: string;
  /** Unless `--runs` says otherwise. */
  readonly runs: number;
  /** Whether the tree of `--against` takes part where `--only` does not choose scenarios. */
  readonly isCompared: boolean;
  /** The server uses two cores, those of the load among them. Default: one of its own. */
  readonly sharesCores?: boolean;
  readonly cases: readonly Case[];
  targets(results: Results): Target[];
}

export interface Target {
  readonly what: string;
  readonly wants: string;
  /** Null: it could not be measured. */
  readonly got: number | null;
  /** Null: reported only, or not measured. */
  readonly holds: boolean | null;
}

/** Figures of each run, by entrant; a run that failed or was not made is null. */
export type CaseResult = ReadonlyMap<string, readonly (Figures | null)[]>;

export interface Results {
  median(ofCase: string, entrant: string, key: string): number | null;
  /** The median, over the runs, of one entrant's figure over another's in the same run. */
  ratio(ofCase: string, entrant: string, other: string, key: string): number | null;
  /** The median, over the runs, of what `of` makes of the figures of some entrants in the same run. */
  combined(ofCase: string, entrants: readonly string[], of: (...figures: Figures[]) => number): number | null;
}

/** The same entrant of the tree that `--against` names. */
export const before = (entrant: string): string => `${entrant} (before)`;

export function median(values: readonly number[]): number | null {
  const sorted = values.filter((value) => Number.isFinite(value)).sort((a, b) => a - b);
  if (sorted.length === 0) return null;
  const middle = sorted.length / 2;
  const upper = sorted[Math.floor(middle)] as number;
  return Number.isInteger(middle) ? ((sorted[middle - 1] as number) + upper) / 2 : upper;
}

export function resultsOf(cases: ReadonlyMap<string, CaseResult>): Results {
  const combined: Results['combined'] = (ofCase, entrants, of) => {
    const runs = entrants.map((entrant) => cases.get(ofCase)?.get(entrant) ?? []);
    const values = (runs[0] ?? []).map((_, run) => {
      const figures = runs.map((ofEntrant) => ofEntrant[run] ?? null);
      return figures.includes(null) ? Number.NaN : of(...(figures as Figures[]));
    });
    return median(values);
  };
  return {
    combined,
    median: (ofCase, entrant, key) => combined(ofCase, [entrant], (figures) => figures[key] ?? Number.NaN),
    ratio: (ofCase, entrant, other, key) =>
      combined(ofCase, [entrant, other], (one, two) => (one[key] ?? Number.NaN) / (two[key] ?? Number.NaN)),
  };
}

export function atLeast(what: string, got: number | null, least: number, unit = '×'): Target {
  return { what, got, wants: `≥ ${least} ${unit}`, holds: got === null ? null : got >= least };
}

export function atMost(what: string, got: number | null, most: number, unit = '×'): Target {
  return { what, got, wants: `≤ ${most} ${unit}`, holds: got === null ? null : got <= most };
}

export function reported(what: string, got: number | null, wants: string): Target {
  return { what, got, wants, holds: null };
}

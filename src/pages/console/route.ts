/**
 * The view and its parameters, as the address says them after the `#`: `#find?q=ana`, `#log?room=ticket:1&at=…`. Views link
 * to each other this way, a link can be sent to a colleague, and the browser's back button works.
 */
import { createChanges, type Model } from './model.ts';

/** In the order of the navigation. The first is shown when the address names none. */
export const VIEWS = ['find', 'log', 'overview', 'live', 'publish', 'compare'] as const;
export type View = (typeof VIEWS)[number];

/** Names of earlier versions, so that bookmarks keep working. */
const EARLIER: ReadonlyMap<string, View> = new Map([
  ['tail', 'live'],
  ['parity', 'compare'],
]);

/** By name, as text; a view checks what it takes. */
export type Parameters = Readonly<Record<string, string>>;

export interface Route {
  readonly view: View;
  readonly parameters: Parameters;
}

/** @returns `#log?room=ticket%3A1`; parameters that are undefined or empty are left out */
export function hrefOf(view: View, parameters: Readonly<Record<string, string | undefined>> = {}): string {
  const given = Object.entries(parameters).filter((entry): entry is [string, string] => !!entry[1]);
  return given.length === 0 ? `#${view}` : `#${view}?${new URLSearchParams(given)}`;
}

/** An unknown view is the first one. A name that is given twice counts once, with its last value. */
export function routeOf(hash: string): Route {
  const [name = '', query = ''] = hash.replace(/^#/, '').split(/\?(.*)/s);
  const view = VIEWS.find((known) => known === name) ?? EARLIER.get(name) ?? VIEWS[0];
  return { view, parameters: Object.fromEntries(new URLSearchParams(query)) };
}

/** Where the page is. A component with `useModels(route)` renders again when that changes. */
export const route: Model & { readonly current: Route } = createRoute();

function createRoute(): Model & { readonly current: Route } {
  const changes = createChanges();
  addEventListener('hashchange', () => changes.notify());
  return {
    changes,
    get current() {
      return routeOf(location.hash);
    },
  };
}

/** Goes to a view as a click on a link does. */
export function goTo(view: View, parameters: Readonly<Record<string, string | undefined>> = {}): void {
  location.hash = hrefOf(view, parameters);
}

/** Writes the view's own parameters into the address, for a link to share, without a step in the browser's history. */
export function replaceParameters(parameters: Readonly<Record<string, string | undefined>>): void {
  const { view } = route.current;
  history.replaceState(history.state, '', hrefOf(view, parameters));
  route.changes.notify();
}

/** The signs of the navigation, drawn on a grid of 16 by 16. They stand beside a word, so screen readers skip them. */
import type { View } from './route.ts';

const PATHS: Readonly<Record<View, string>> = {
  find: 'M7 2.5a4.5 4.5 0 1 1 0 9 4.5 4.5 0 0 1 0-9ZM10.4 10.4 14 14',
  log: 'M2.5 4h11M2.5 8h11M2.5 12h7',
  overview: 'M2.5 13.5h11M4 11V8M8 11V3M12 11V6',
  live: 'M1.5 8h3l2-5 3 10 2-5h3',
  publish: 'M14 2 1.5 7l5 2.5M14 2 9.5 14.5l-3-5M14 2 6.5 9.5',
  compare: 'M2 4.5h8.5M8 2l2.5 2.5L8 7M14 11.5H5.5M8 9l-2.5 2.5L8 14',
};

export function Icon({ of }: { readonly of: View }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
      <path d={PATHS[of]} />
    </svg>
  );
}

/** The view Find. */
import type { Access } from './access.ts';
import { EmptyState, SearchField } from './elements.tsx';
import { replaceParameters, route } from './route.ts';

export function Find(_: { readonly access: Access }) {
  const query = route.current.parameters.q ?? '';
  return (
    <>
      <SearchField
        label="Find"
        value={query}
        hasShortcut
        onInput={(q) => replaceParameters({ q })}
        onSearch={() => {}}
      />
      <EmptyState title="Nothing to show yet" />
    </>
  );
}

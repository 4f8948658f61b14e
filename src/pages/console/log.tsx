/** The view Log. */
import type { Access } from './access.ts';
import { EmptyState } from './elements.tsx';

export function Log(_: { readonly access: Access }) {
  return <EmptyState title="Nothing to show yet" />;
}

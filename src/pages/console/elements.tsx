/** What scrolls within the page, so that the page does not: reached and scrolled by the keyboard, and named. */
import type { ComponentChildren } from 'preact';

interface ScrollProps {
  readonly label: string;
  readonly class?: string;
  readonly children: ComponentChildren;
}

export function Scroll({ label, class: more = '', children }: ScrollProps) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached by the keyboard
    <section class={`scroll ${more}`} aria-label={`${label}, scrollable`} tabIndex={0}>
      {children}
    </section>
  );
}

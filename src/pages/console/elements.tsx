/** Elements that several views share. */
import type { ComponentChildren } from 'preact';
import { allKinds, type RoomKind } from '../../contract/rooms.ts';
import { ROOM_KINDS } from './access.ts';

interface ScrollProps {
  readonly label: string;
  readonly class?: string;
  readonly children: ComponentChildren;
}

/** A part that scrolls in place of the page. The keyboard can reach and scroll it, so it needs a name. */
export function Scroll({ label, class: more = '', children }: ScrollProps) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: the keyboard must reach what scrolls
    <section class={`scroll ${more}`} aria-label={`${label}, scrollable`} tabIndex={0}>
      {children}
    </section>
  );
}

/** A name and its value, inside of `<dl class="facts">`. */
export function Fact({ name, children }: { readonly name: string; readonly children: ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** A coloured dot and a word; null is neutral. */
export function State({ isGood, children }: { readonly isGood: boolean | null; readonly children: ComponentChildren }) {
  return <span class={`state ${isGood === null ? '' : isGood ? 'good' : 'bad'}`}>{children}</span>;
}

interface RoomFieldsProps {
  readonly kind: RoomKind;
  readonly id: string;
  readonly isFixed?: boolean;
  readonly isInvalid: boolean;
  /** The id of the element that says what is wrong. */
  readonly faultId: string;
  /** The id of a `<datalist>`. */
  readonly list?: string | undefined;
  readonly setKind: (kind: RoomKind) => void;
  readonly setId: (id: string) => void;
}

export function RoomFields({ kind, id, isFixed = false, isInvalid, faultId, list, setKind, setId }: RoomFieldsProps) {
  return (
    <>
      <label>
        Kind
        <select value={kind} disabled={isFixed} onChange={(event) => setKind(event.currentTarget.value)}>
          {allKinds(ROOM_KINDS).map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      </label>
      <label class="grow">
        Id
        <input
          value={id}
          readOnly={isFixed}
          type="text"
          list={list}
          autocomplete="off"
          spellcheck={false}
          aria-invalid={isInvalid}
          aria-describedby={faultId}
          onInput={(event) => setId(event.currentTarget.value)}
        />
      </label>
    </>
  );
}

/**
 * The elements that all views share. They hold what every view needs to get right: labels, keyboard, contrast, texts in
 * both languages, narrow screens. Their looks are in elements.css; its values are those of theme.css.
 */
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useId, useMemo, useRef, useState } from 'preact/hooks';
import type { RoomcastError } from '../../client/http.ts';
import { printableJson } from '../../contract/printable.ts';
import { allKinds, type RoomKind } from '../../contract/rooms.ts';
import { ROOM_KINDS } from './access.ts';
import { bytes, dateAndTime, relativeTime } from './format.ts';
import { elementTexts } from './texts/elements.ts';
import { errorSentence } from './texts/errors.ts';

/** The row of a list to which a key leads from row `at`, where the last one is `last`; undefined for any other key. */
export function rowAfter(key: string, at: number, last: number): number | undefined {
  const rows: Readonly<Record<string, number>> = {
    ArrowDown: Math.min(last, at + 1),
    ArrowUp: Math.max(0, at - 1),
    PageDown: Math.min(last, at + 10),
    PageUp: Math.max(0, at - 10),
    Home: 0,
    End: last,
  };
  return rows[key];
}

/** What a colour means: all is well, look here, act now, or nothing of that kind. */
export type Tone = 'good' | 'warn' | 'bad' | 'neutral';

interface ButtonProps {
  /** `primary`: the one thing to do here. `danger`: ends or removes something. `quiet`: without a frame, for rows. */
  readonly kind?: 'primary' | 'plain' | 'quiet' | 'danger';
  readonly type?: 'button' | 'submit';
  /** The button keeps the focus and does nothing. */
  readonly isDisabled?: boolean;
  /** The name, where the content is only a sign. */
  readonly label?: string | undefined;
  /** Of a switch: whether it is on. */
  readonly isPressed?: boolean;
  readonly onClick?: () => void;
  readonly children: ComponentChildren;
}

/** A button. While it is disabled it can still have the focus, so that the keyboard does not lose its place. */
export function Button({ kind = 'plain', type = 'button', isDisabled = false, ...rest }: ButtonProps) {
  const { label, isPressed, onClick, children } = rest;
  return (
    <button
      type={type}
      class={kind}
      aria-disabled={isDisabled}
      aria-label={label}
      aria-pressed={isPressed}
      onClick={(event) => {
        if (isDisabled) event.preventDefault();
        else onClick?.();
      }}
    >
      {children}
    </button>
  );
}

interface FieldProps {
  readonly label: string;
  /** Shows the label to screen readers only; the placeholder or the place says enough. */
  readonly isLabelHidden?: boolean;
  readonly value: string;
  readonly onInput: (value: string) => void;
  /** One line below the field that says what to enter. */
  readonly hint?: ComponentChildren;
  /** What is wrong; the field is marked. Empty or null: nothing. */
  readonly fault?: ComponentChildren;
  /** Says "optional" beside the label. */
  readonly isOptional?: boolean;
  readonly isRequired?: boolean;
  readonly isReadOnly?: boolean;
  /** More than one line of text, of this many rows. */
  readonly rows?: number;
  readonly type?: 'text' | 'password' | 'datetime-local';
  readonly placeholder?: string | undefined;
  /** Suggestions. */
  readonly options?: readonly string[];
  /** In place of a generated id. */
  readonly id?: string;
  /** Takes the free width of a row. */
  readonly isWide?: boolean;
}

/** A labelled text field with its hint and its fault. */
export function Field({ label, value, onInput, ...rest }: FieldProps) {
  const { isLabelHidden = false, hint, fault, isOptional, isRequired, isReadOnly, rows, type = 'text' } = rest;
  const { placeholder, options, isWide = false } = rest;
  const generated = useId();
  const id = rest.id ?? generated;
  const hasFault = fault !== undefined && fault !== null && fault !== '';
  const shared = {
    id,
    value,
    placeholder,
    readOnly: isReadOnly,
    autocomplete: 'off',
    spellcheck: false,
    'aria-required': isRequired,
    'aria-invalid': hasFault,
    'aria-describedby': `${id}-hint ${id}-fault`,
    onInput: (event: { readonly currentTarget: { readonly value: string } }) => onInput(event.currentTarget.value),
  } as const;
  // The types of an input are a union over `type`, which is not known here.
  const input = { ...shared, type, list: options && `${id}-options` } as JSX.IntrinsicElements['input'];
  return (
    <div class={isWide ? 'field wide' : 'field'}>
      <label for={id} class={isLabelHidden ? 'hidden' : ''}>
        {label}
        {isOptional && <span class="note"> {elementTexts().optional}</span>}
      </label>
      {rows === undefined ? <input {...input} /> : <textarea {...shared} rows={rows} />}
      {options !== undefined && (
        <datalist id={`${id}-options`}>
          {options.map((option) => (
            <option key={option} value={option} />
          ))}
        </datalist>
      )}
      <FieldNotes id={id} hint={hint} fault={fault} />
    </div>
  );
}

function FieldNotes({ id, hint, fault }: Pick<FieldProps, 'hint' | 'fault'> & { readonly id: string }) {
  return (
    <>
      <p class="note" id={`${id}-hint`}>
        {hint}
      </p>
      <p class="fault" id={`${id}-fault`} role="alert">
        {fault}
      </p>
    </>
  );
}

interface SelectProps<Value extends string> {
  readonly label: string;
  readonly isLabelHidden?: boolean;
  readonly value: Value;
  readonly onChoose: (value: Value) => void;
  /** Values, or values with their names. */
  readonly options: readonly (Value | { readonly value: Value; readonly name: string })[];
  readonly hint?: ComponentChildren;
  readonly fault?: ComponentChildren;
  readonly isOptional?: boolean;
  readonly isDisabled?: boolean;
  readonly id?: string;
}

/** A labelled choice of one among a few. */
export function Select<Value extends string>({ label, value, onChoose, options, ...rest }: SelectProps<Value>) {
  const { isLabelHidden = false, hint, fault, isOptional, isDisabled } = rest;
  const generated = useId();
  const id = rest.id ?? generated;
  return (
    <div class="field">
      <label for={id} class={isLabelHidden ? 'hidden' : ''}>
        {label}
        {isOptional && <span class="note"> {elementTexts().optional}</span>}
      </label>
      <select
        id={id}
        value={value}
        disabled={isDisabled}
        aria-invalid={fault !== undefined && fault !== null && fault !== ''}
        aria-describedby={`${id}-hint ${id}-fault`}
        onChange={(event) => onChoose(event.currentTarget.value as Value)}
      >
        {options.map((option) => {
          const [one, name] = typeof option === 'string' ? [option, option] : [option.value, option.name];
          return (
            <option key={one} value={one}>
              {name}
            </option>
          );
        })}
      </select>
      <FieldNotes id={id} hint={hint} fault={fault} />
    </div>
  );
}

interface SearchFieldProps {
  readonly label: string;
  readonly value: string;
  readonly onInput: (value: string) => void;
  /** By Enter, or by the button. */
  readonly onSearch: () => void;
  readonly placeholder?: string;
  /** On the button. */
  readonly action?: string;
  readonly hint?: ComponentChildren;
  readonly fault?: ComponentChildren;
  /** The key `/` anywhere on the page brings the focus here. */
  readonly hasShortcut?: boolean;
}

/** The one large field of a view that searches. */
export function SearchField({ label, value, onInput, onSearch, ...rest }: SearchFieldProps) {
  const { placeholder, action = elementTexts().search, hint, fault, hasShortcut = false } = rest;
  const id = useId();
  return (
    // biome-ignore lint/a11y/useSemanticElements: not every supported browser has <search>
    <form
      role="search"
      class="search"
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        onSearch();
      }}
    >
      <label for={id} class="hidden">
        {label}
      </label>
      <div class="search-box">
        <input
          id={id}
          type="search"
          value={value}
          placeholder={placeholder}
          autocomplete="off"
          autocapitalize="off"
          spellcheck={false}
          enterkeyhint="search"
          data-shortcut={hasShortcut ? '/' : undefined}
          aria-keyshortcuts={hasShortcut ? '/' : undefined}
          aria-invalid={!!fault}
          aria-describedby={`${id}-hint ${id}-fault`}
          onInput={(event) => onInput(event.currentTarget.value)}
        />
        {hasShortcut && value === '' && (
          <span class="key" aria-hidden="true">
            /
          </span>
        )}
        <Button kind="primary" type="submit">
          {action}
        </Button>
      </div>
      <FieldNotes id={id} hint={hint} fault={fault} />
    </form>
  );
}

interface CardProps {
  readonly title: string;
  /** Beside the title. */
  readonly actions?: ComponentChildren;
  /** Below the title: one sentence. */
  readonly note?: ComponentChildren;
  readonly class?: string;
  readonly children?: ComponentChildren;
}

/** A section of a view, on a surface of its own, with its heading. */
export function Card({ title, actions, note, class: more = '', children }: CardProps) {
  const id = useId();
  return (
    <section class={`card ${more}`} aria-labelledby={id}>
      <div class="bar">
        <h3 id={id}>{title}</h3>
        {actions}
      </div>
      {note !== undefined && <p class="note">{note}</p>}
      {children}
    </section>
  );
}

/** One column of a `DataTable`. */
export interface Column<Row> {
  /** Shown at the top; beside each value where the rows are cards. */
  readonly title: string;
  readonly value: (row: Row) => ComponentChildren;
  /** Numbers stand to the right. */
  readonly isNumber?: boolean;
  /** Makes the title a button. `sorted` says whether this column orders the rows. */
  readonly sort?: { readonly sorted: 'ascending' | 'descending' | null; readonly onSort: () => void };
}

interface DataTableProps<Row> {
  /** Names the table for screen readers. */
  readonly label: string;
  /** The first one names the row. */
  readonly columns: readonly Column<Row>[];
  readonly rows: readonly Row[];
  readonly keyOf: (row: Row) => string;
  /** Makes each row a button. */
  readonly onChoose?: (row: Row) => void;
  readonly chosenKey?: string | null;
}

/** A table that becomes a list of cards on a narrow screen, each value with its column's title. */
export function DataTable<Row>({ label, columns, rows, keyOf, onChoose, chosenKey = null }: DataTableProps<Row>) {
  return (
    <table class="data" aria-label={label}>
      <thead>
        <tr>
          {columns.map(({ title, isNumber, sort }) => (
            <th
              key={title}
              scope="col"
              class={isNumber ? 'number' : ''}
              aria-sort={sort === undefined ? undefined : (sort.sorted ?? 'none')}
            >
              {sort === undefined ? (
                title
              ) : (
                <button type="button" class="sort" onClick={sort.onSort}>
                  {title}
                  <span aria-hidden="true">
                    {sort.sorted === null ? '' : sort.sorted === 'descending' ? ' ▾' : ' ▴'}
                  </span>
                </button>
              )}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => {
          const key = keyOf(row);
          const [first, ...others] = columns;
          return (
            <tr key={key} class={onChoose === undefined ? '' : 'choosable'} data-chosen={key === chosenKey}>
              <th scope="row" data-title={first?.title}>
                {onChoose === undefined ? (
                  first?.value(row)
                ) : (
                  <button type="button" class="link" aria-pressed={key === chosenKey} onClick={() => onChoose(row)}>
                    {first?.value(row)}
                  </button>
                )}
              </th>
              {others.map(({ title, value, isNumber }) => (
                <td key={title} data-title={title} class={isNumber ? 'number' : ''}>
                  {value(row)}
                </td>
              ))}
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}

/** A short word on a tint: a scope, a transport, a code. */
export function Badge({ tone = 'neutral', children }: { readonly tone?: Tone; readonly children: ComponentChildren }) {
  return <span class={`badge ${tone}`}>{children}</span>;
}

/** A coloured dot and words. The words say it all: the colour is no information of its own. */
export function State({ tone, children }: { readonly tone: Tone; readonly children: ComponentChildren }) {
  return <span class={`state ${tone}`}>{children}</span>;
}

interface EmptyStateProps {
  readonly title: string;
  /** What to do next. */
  readonly children?: ComponentChildren;
}

/** In place of content that is not there: why, and what to do next. */
export function EmptyState({ title, children }: EmptyStateProps) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children}
    </div>
  );
}

interface NoticeProps {
  readonly tone: Tone;
  readonly title?: string;
  readonly children?: ComponentChildren;
  /** Screen readers say it when it appears. Default: true. */
  readonly isAnnounced?: boolean;
}

/** A message about the view as a whole: a fault, an outcome, a verdict. */
export function Notice({ tone, title, children, isAnnounced = true }: NoticeProps) {
  return (
    <div class={`notice ${tone}`} role={isAnnounced ? (tone === 'bad' ? 'alert' : 'status') : undefined}>
      {title !== undefined && <p class="notice-title">{title}</p>}
      {children}
    </div>
  );
}

/** An error of the bridge: its own words and its code, after a sentence in the reader's language if that is another. */
export function Fault({ error }: { readonly error: RoomcastError }) {
  const sentence = errorSentence(error.code);
  return (
    <p class="error">
      {sentence !== null && <strong>{sentence} </strong>}
      <span lang="en">{error.message}</span> <code>{error.code}</code>
    </p>
  );
}

interface DialogProps {
  readonly title: string;
  /** Called by Escape and by the buttons. */
  readonly onClose: () => void;
  /** What happens, to whom, and whether it can be undone. */
  readonly children: ComponentChildren;
  /** On the button that does it, as a verb: "Disconnect 3 connections". */
  readonly action: string;
  readonly isDangerous?: boolean;
  /** Does it. The dialog stays open until its caller removes it. */
  readonly onConfirm: () => void;
  readonly isBusy?: boolean;
}

/** Asks before something is done. Show it by rendering it, and hide it by not rendering it. */
export function Dialog({ title, onClose, children, action, isDangerous = false, onConfirm, isBusy }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const isShown = useRef(true);
  const id = useId();
  useEffect(() => {
    const element = dialog.current;
    element?.showModal();
    return () => {
      isShown.current = false;
      // Closing, unlike removing, brings the focus back to where it was.
      element?.close();
    };
  }, []);
  return (
    <dialog ref={dialog} aria-labelledby={id} onClose={() => isShown.current && onClose()}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (!isBusy) onConfirm();
        }}
      >
        <h3 id={id}>{title}</h3>
        {children}
        <div class="actions">
          <Button onClick={onClose}>{elementTexts().cancel}</Button>
          <Button type="submit" kind={isDangerous ? 'danger' : 'primary'} isDisabled={isBusy ?? false}>
            {action}
          </Button>
        </div>
      </form>
    </dialog>
  );
}

/** Copies a text, and says so. */
export function CopyButton({ text, label }: { readonly text: string | (() => string); readonly label?: string }) {
  const t = elementTexts();
  const [outcome, setOutcome] = useState<boolean | null>(null);
  useEffect(() => {
    if (outcome === null) return;
    const timer = setTimeout(() => setOutcome(null), COPIED_MS);
    return () => clearTimeout(timer);
  }, [outcome]);
  const click = async (): Promise<void> => setOutcome(await copyText(typeof text === 'string' ? text : text()));
  return (
    <span class="copy">
      <Button onClick={() => void click()}>{label ?? t.copy}</Button>
      <span class="note" role="status">
        {outcome === null ? '' : outcome ? t.copied : t.notCopied}
      </span>
    </span>
  );
}

const COPIED_MS = 2_000;

/** Over plain http, browsers give a page no clipboard; copying a selection still works. */
async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement('textarea');
    area.value = text;
    // A modal dialog makes everything outside of it inert.
    (document.querySelector('dialog[open]') ?? document.body).append(area);
    area.select();
    const isCopied = document.execCommand('copy');
    area.remove();
    return isCopied;
  }
}

/** A page of a megabyte takes a moment to lay out, so the rest of a large payload waits for a click. */
const FIRST_CHARACTERS = 20_000;

interface JsonProps {
  /** JSON. */
  readonly text: string;
  readonly label?: string;
  /** More buttons beside that which copies. */
  readonly actions?: ComponentChildren;
}

/** A payload, indented, with a button that copies it as it is. Invisible and reordering characters show as escapes. */
export function Json({ text, label, actions }: JsonProps) {
  const t = elementTexts();
  const [isWhole, setWhole] = useState(false);
  useEffect(() => setWhole(false), [text]);
  const pretty = useMemo(() => printableJson(JSON.stringify(JSON.parse(text), null, 2)), [text]);
  return (
    <div class="json">
      <div class="actions">
        <CopyButton text={text} label={t.copyPayload} />
        {actions}
      </div>
      <Scroll label={label ?? t.payload}>
        <pre dir="ltr">{isWhole ? pretty : pretty.slice(0, FIRST_CHARACTERS)}</pre>
      </Scroll>
      {!isWhole && pretty.length > FIRST_CHARACTERS && (
        <p class="bar">
          <span class="note">{t.firstPart(bytes(FIRST_CHARACTERS))} </span>
          <Button onClick={() => setWhole(true)}>{t.showAll}</Button>
        </p>
      )}
    </div>
  );
}

/** Renders the component again every `intervalMs`. @returns the time now */
export function useNow(intervalMs: number): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), intervalMs);
    return () => clearInterval(timer);
  }, [intervalMs]);
  return Math.max(now, Date.now());
}

/** An instant, relative and absolute: `5 min ago · 14:03:59`. */
export function Time({ at }: { readonly at: string | number }) {
  const date = new Date(at);
  const atMs = date.getTime();
  const nowMs = useNow(Math.abs(Date.now() - atMs) < 60_000 ? 1_000 : 10_000);
  const iso = date.toISOString();
  return (
    <time dateTime={iso} title={iso}>
      {relativeTime(atMs, nowMs)} <span class="note">· {dateAndTime(atMs, nowMs)}</span>
    </time>
  );
}

interface ScrollProps {
  readonly label: string;
  readonly class?: string;
  readonly children: ComponentChildren;
}

/** A part that scrolls in place of the page. The keyboard can reach and scroll it, so it needs a name. */
export function Scroll({ label, class: more = '', children }: ScrollProps) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: the keyboard must reach what scrolls
    <section class={`scroll ${more}`} aria-label={elementTexts().scrollable(label)} tabIndex={0}>
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

interface RoomFieldsProps {
  readonly kind: RoomKind;
  readonly id: string;
  readonly isFixed?: boolean;
  readonly fault?: ComponentChildren;
  /** Ids to suggest. */
  readonly options?: readonly string[];
  readonly setKind: (kind: RoomKind) => void;
  readonly setId: (id: string) => void;
}

/** The two parts of a room's name. */
export function RoomFields({ kind, id, isFixed = false, fault, options, setKind, setId }: RoomFieldsProps) {
  const t = elementTexts();
  return (
    <>
      <Select label={t.kind} value={kind} isDisabled={isFixed} onChoose={setKind} options={allKinds(ROOM_KINDS)} />
      <Field
        label={t.id}
        value={id}
        isReadOnly={isFixed}
        fault={fault}
        {...(options && { options })}
        isWide
        onInput={(typed) => {
          // A whole name, as one pastes it: `ticket:123`.
          const [, named = '', rest = ''] = /^([a-z0-9]+):(.*)$/s.exec(typed) ?? [];
          const isName = allKinds(ROOM_KINDS).includes(named);
          if (isName) setKind(named);
          setId(isName ? rest : typed);
        }}
      />
    </>
  );
}

/** A form that publishes a test event as any publisher does, and shows the bridge's errors at their fields. */
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { RoomcastError } from '../../client/http.ts';
import { kindOf, type Room } from '../../contract/rooms.ts';
import { type Access, canListen, defaultTenant, rememberTenant } from './access.ts';
import { curlOf } from './curl.ts';
import { Button, Card, CopyButton, EmptyState, Fault, Field, Notice, Select } from './elements.tsx';
import { EventViewer, LiveEvents } from './live.tsx';
import type { LiveTail, TailEvent } from './live-tail.ts';
import { useModels } from './model.ts';
import { hrefOf } from './route.ts';
import type { StatsFeed } from './stats.ts';
import {
  type Draft,
  type FormField,
  fieldsOf,
  type Payload,
  type Published,
  publish,
  sampleOf,
  type TestEvent,
  takeDraft,
} from './test-events.ts';
import { publishTexts } from './texts/publish.ts';

interface PublishProps {
  readonly access: Access;
  readonly feed: StatsFeed;
  readonly tail: LiveTail;
  readonly eventNames: readonly string[];
}

type Values = Readonly<Record<string, string>>;

interface FieldFault {
  /** The JSON Pointer into the request, if the bridge found the fault. */
  readonly pointer: string | null;
  readonly message: string;
}

type Faults = Readonly<Record<string, FieldFault>>;

/** The input for keys of the payload that have no input of their own. */
const MORE_KEYS: FormField = { name: 'more keys', isRequired: false, isObject: true };
/** Members beside the payload (protocol §9). */
const ROOMS: FormField = { name: 'rooms', isRequired: false };
const TENANT: FormField = { name: 'tenant', isRequired: false };

export function Publish({ access, feed, tail, eventNames }: PublishProps) {
  useModels(access, tail);
  const [selected, setSelected] = useState<TailEvent | null>(null);
  const t = publishTexts();
  return (
    <div class="columns even">
      <PublishForm access={access} feed={feed} tail={tail} eventNames={eventNames} />
      <div class="stack">
        {tail.rooms.length === 0 ? (
          <Card title={t.heard}>
            <EmptyState title={t.waiting}>{!canListen(access) && t.cannotListen}</EmptyState>
          </Card>
        ) : (
          <>
            <LiveEvents tail={tail} eventNames={eventNames} selected={selected} select={setSelected} />
            {selected !== null && <EventViewer event={selected} close={() => setSelected(null)} />}
          </>
        )}
      </div>
    </div>
  );
}

function PublishForm({ access, feed, tail, eventNames }: PublishProps) {
  const t = publishTexts();
  const [draft] = useState<Draft | null>(takeDraft);
  const [event, setEvent] = useState(draft?.event ?? eventNames[0] ?? '');
  const [sample, setSample] = useState<Payload>(() => (draft === null ? sampleOf(event) : renewed(draft)));
  /** What the operator typed; a field that nobody typed into shows the sample's value. */
  const [typed, setTyped] = useState<Values>(() => (draft === null ? {} : keptOf(draft)));
  const [faults, setFaults] = useState<Faults>({});
  const [outcome, setOutcome] = useState<Published | RoomcastError | null>(null);
  const [isBusy, setBusy] = useState(false);
  const form = useRef<HTMLFormElement>(null);
  const fields = fieldsOf(event);
  const tenantId = defaultTenant(access);
  const shown = useMemo(() => shownValues(fields, { ...sample, tenantId }, typed), [fields, sample, tenantId, typed]);
  const knownTenants = useMemo(() => tenantsOf(feed), [event]);

  const needed = fields.filter(isProminent);
  const extra = [...fields.filter((field) => !isProminent(field)), MORE_KEYS, ROOMS, TENANT];
  const [isMoreOpen, setMoreOpen] = useState(false);

  // What is sent or at fault must be in sight. Layout effects run before the focus moves.
  useLayoutEffect(() => {
    if (extra.some(({ name }) => faults[name] !== undefined || (shown[name] ?? '') !== '')) setMoreOpen(true);
  }, [event, faults]);
  useEffect(() => {
    if (Object.keys(faults).length > 0) form.current?.querySelector<HTMLElement>('[aria-invalid=true]')?.focus();
  }, [faults]);

  /** Null if a field holds no JSON; it is marked. */
  function eventOf(): TestEvent | null {
    const { payload, faults: found } = payloadOf(fields, shown);
    setFaults(found);
    setOutcome(null);
    if (Object.keys(found).length > 0) return null;
    const rooms = (shown[ROOMS.name] ?? '').split(/[\s,]+/).filter((room) => room !== '');
    const tenantId = shown[TENANT.name] ?? '';
    return { event, payload, ...(tenantId !== '' && { tenantId }), ...(rooms.length > 0 && { rooms }) };
  }

  async function submit(submitted: Event): Promise<void> {
    submitted.preventDefault();
    const sent = isBusy ? null : eventOf();
    if (sent === null) return;
    setBusy(true);
    try {
      const published = await publish(access, sent);
      rememberTenant(String(sent.payload.tenantId ?? sent.tenantId));
      setOutcome(published);
      listenTo(published.rooms as readonly Room[]);
      setSample(sampleOf(event));
      setTyped((values) => without(values, (name) => fields.some((field) => field.name === name && field.isFresh)));
    } catch (error) {
      setOutcome(error as RoomcastError);
      setFaults(faultsOf(error as RoomcastError, fields));
    }
    setBusy(false);
  }

  /** Only once the bridge has named the rooms: the tail then starts with the event itself, from the log. */
  function listenTo(rooms: readonly Room[]): void {
    // A token that is for some tickets cannot listen to its tenant.
    const room = rooms.find((name) => kindOf(name) === 'ticket') ?? rooms[0];
    if (room !== undefined && canListen(access) && !rooms.some((name) => tail.isListening(name))) tail.add(room);
  }

  function choose(chosen: string): void {
    setEvent(chosen);
    setSample(sampleOf(chosen));
    // Ids and rooms stay, because the next event is about the same ticket.
    setTyped((values) => without(values, (name) => !isKept(name)));
    setFaults({});
    setOutcome(null);
  }

  const input = (field: FormField) => (
    <Input
      key={field.name}
      field={field}
      value={shown[field.name] ?? ''}
      fault={faults[field.name] ?? null}
      options={field.name === 'tenantId' ? knownTenants : []}
      change={(value) => setTyped({ ...typed, [field.name]: value })}
    />
  );
  return (
    <Card title={t.title} note={t.note} class="publish">
      <form ref={form} class="stacked" onSubmit={(submitted) => void submit(submitted)} noValidate>
        <div class="choice">
          <Select
            id="input-event"
            label={t.event}
            value={event}
            onChoose={choose}
            options={eventNames.includes(event) ? eventNames : [event, ...eventNames]}
          />
          <Button onClick={() => setSample(sampleOf(event))}>{t.sample}</Button>
        </div>
        <div class="keys">{needed.map(input)}</div>
        <details open={isMoreOpen} onToggle={({ currentTarget }) => setMoreOpen(currentTarget.open)}>
          <summary>{t.more}</summary>
          <div class="keys">{extra.map(input)}</div>
        </details>
        <div class="actions">
          <Button kind="primary" type="submit" isDisabled={isBusy}>
            {isBusy ? t.publishing : t.publish}
          </Button>
          <CopyButton
            label={t.curl}
            text={() => curlOf(access, { path: 'events', body: JSON.stringify(eventOf() ?? { event }) })}
          />
        </div>
      </form>
      <div role="status">
        <Outcome outcome={outcome} access={access} />
      </div>
    </Card>
  );
}

/** Whether the next event has this, too. */
const isKept = (name: string): boolean => name !== 'messageId' && /Id$|^rooms$|^tenant$/.test(name);

const keptOf = ({ payload, rooms }: Draft): Values => ({
  ...Object.fromEntries(
    Object.entries(payload).flatMap(([name, value]) => (isKept(name) && value != null ? [[name, String(value)]] : [])),
  ),
  ...(rooms && { [ROOMS.name]: rooms.join(', ') }),
});

/** Required keys and choices stand first. */
const isProminent = ({ isRequired, options }: FormField): boolean => isRequired || options !== undefined;

interface InputProps {
  readonly field: FormField;
  readonly value: string;
  readonly fault: FieldFault | null;
  readonly options: readonly string[];
  readonly change: (value: string) => void;
}

function Input({ field, value, fault, options: suggestions, change }: InputProps) {
  const t = publishTexts();
  const { name, isRequired, isObject, options } = field;
  const titles = new Map([
    [MORE_KEYS, t.moreKeys],
    [ROOMS, t.rooms],
    [TENANT, t.tenant],
  ]);
  const title = titles.get(field) ?? name;
  const shared = {
    id: `input-${name.replaceAll(' ', '-')}`,
    label: isObject ? t.jsonObject(title) : title,
    value,
    isOptional: !isRequired,
    fault: fault && (
      <>
        {fault.pointer !== null && <code>{fault.pointer}</code>} {fault.message}
      </>
    ),
  };
  if (options !== undefined) return <Select {...shared} onChoose={change} options={['', ...options]} />;
  return (
    <Field
      {...shared}
      isRequired={isRequired}
      hint={field === ROOMS ? t.roomsHint : field === TENANT ? t.tenantHint : undefined}
      onInput={change}
      {...(isObject && { rows: Math.min(14, Math.max(2, value.split('\n').length)) })}
      {...(suggestions.length > 0 && { options: suggestions })}
    />
  );
}

interface OutcomeProps {
  readonly outcome: Published | RoomcastError | null;
  readonly access: Access;
}

function Outcome({ outcome, access }: OutcomeProps) {
  const t = publishTexts();
  if (outcome === null) return null;
  if (outcome instanceof Error) {
    const isDenied = outcome.status === 401 || outcome.status === 403;
    return (
      <Notice tone="bad" title={t.notPublished} isAnnounced={false}>
        {outcome.problem.errors === undefined ? (
          <Fault error={outcome} />
        ) : (
          <p>
            {t.correct} <code>{outcome.code}</code>
          </p>
        )}
        {isDenied && access.token !== null && <p>{t.needsScope}</p>}
      </Notice>
    );
  }
  const { id, rooms, duplicate } = outcome;
  return (
    <Notice tone={duplicate ? 'warn' : 'good'} title={duplicate ? t.duplicate : t.published} isAnnounced={false}>
      <p>
        <code>{id}</code>
      </p>
      <p>
        {t.publishedTo}{' '}
        {rooms.map((room, index) => (
          <span key={room}>
            {index > 0 && ', '}
            <bdi>{room}</bdi>
          </span>
        ))}
      </p>
      <p>
        <a href={hrefOf('log', { room: rooms[0] })}>{t.inLog}</a>
        {!canListen(access) && ` ${t.cannotListen}`}
      </p>
    </Notice>
  );
}

const tenantsOf = ({ stats }: StatsFeed): readonly string[] => [
  ...new Set(
    [...(stats?.rooms.byListeners.top ?? []), ...(stats?.rooms.byEvents.top ?? [])].flatMap(({ room, tenantId }) =>
      room.startsWith('tenant:') ? [room.slice('tenant:'.length)] : (tenantId ?? []),
    ),
  ),
];

/** What a repeated event needs anew, so that it is no duplicate. */
function renewed({ event, payload }: Draft): Payload {
  const sample = sampleOf(event);
  const keys = fieldsOf(event).flatMap(({ name, isFresh }) => (isFresh ? name : []));
  const isChange = keys.includes('messageUpdatedAt');
  const fresh = (isChange ? ['messageUpdatedAt'] : [...keys, 'providerMessageId']).filter((key) => key in sample);
  return { ...payload, ...Object.fromEntries(fresh.map((key) => [key, sample[key]])) };
}

function shownValues(fields: readonly FormField[], sample: Payload, typed: Values): Values {
  const text = (value: unknown): string =>
    value === undefined || value === null
      ? ''
      : typeof value === 'object'
        ? JSON.stringify(value, null, 2)
        : String(value);
  const rest = without(sample, (name) => fields.some((field) => field.name === name));
  const { ticketId = sample.ticketId } = typed;
  const ticket = typeof sample.ticket === 'object' && { ticket: { ...sample.ticket, id: ticketId } };
  return {
    ...Object.fromEntries(fields.map(({ name }) => [name, text({ ...sample, ...ticket }[name])])),
    [MORE_KEYS.name]: Object.keys(rest).length === 0 ? '' : text(rest),
    ...typed,
  };
}

const without = <Value,>(
  values: Readonly<Record<string, Value>>,
  isDropped: (name: string) => boolean,
): Record<string, Value> => Object.fromEntries(Object.entries(values).filter(([name]) => !isDropped(name)));

/** Leaves out empty optional fields. Empty required ones go out, so that the bridge says what it needs. */
function payloadOf(fields: readonly FormField[], values: Values): { payload: Payload; faults: Faults } {
  const faults: Record<string, FieldFault> = {};
  const payload: Record<string, unknown> = {};
  for (const { name, isRequired, isObject } of fields) {
    const value = values[name] ?? '';
    const isBeside = name === 'tenantId' && values[TENANT.name] !== undefined && values[TENANT.name] !== '';
    if (value === '' && (!isRequired || isBeside)) continue;
    payload[name] = isObject ? parsed(value, name, faults) : value;
  }
  const more = values[MORE_KEYS.name] ?? '';
  if (more.trim() !== '') Object.assign(payload, parsed(more, MORE_KEYS.name, faults));
  return { payload, faults };
}

function parsed(text: string, name: string, faults: Record<string, FieldFault>): unknown {
  const t = publishTexts();
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
    faults[name] = { pointer: null, message: t.notObject };
  } catch (error) {
    faults[name] = { pointer: null, message: t.notJson((error as Error).message) };
  }
  return null;
}

/** Maps the problem's JSON Pointers to the inputs. */
function faultsOf({ problem }: RoomcastError, fields: readonly FormField[]): Faults {
  const faults: Record<string, FieldFault> = {};
  for (const { path, message } of (problem.errors ?? []) as readonly { path: string; message: string }[]) {
    const [, member, key = ''] = path.split('/');
    const isOwn = fields.some(({ name }) => name === key);
    const name = member === 'rooms' ? ROOMS.name : member === 'tenantId' ? TENANT.name : isOwn ? key : MORE_KEYS.name;
    faults[name] ??= { pointer: path, message };
  }
  return faults;
}

/** A form that publishes a test event as any publisher does, and shows the bridge's errors at their fields. */
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { RoomcastError } from '../../client/http.ts';
import { formatRoom, idOf, isRoomId, type Room } from '../../contract/rooms.ts';
import { type Access, defaultTenant } from './access.ts';
import type { LiveTail } from './live-tail.ts';
import { useModels } from './model.ts';
import { type Field, fieldsOf, type Published, publish, type TestEvent } from './test-events.ts';

interface PublishProps {
  readonly access: Access;
  readonly tail: LiveTail;
  readonly eventNames: readonly string[];
}

type Values = Readonly<Record<string, string>>;
type Faults = Readonly<Record<string, string>>;

/** The input for keys that have no input of their own. */
const MORE_KEYS: Field = { name: 'more keys', isRequired: false, isObject: true, initial: () => '' };
/** Members beside the payload (protocol §9). */
const ROOMS: Field = { name: 'rooms', isRequired: false, initial: () => '' };
const TENANT: Field = { name: 'tenant', isRequired: false, initial: () => '' };
const TITLES: ReadonlyMap<Field, string> = new Map([
  [MORE_KEYS, 'More keys'],
  [ROOMS, 'Rooms, in place of those of the ids: user:ana, ticket:1'],
  [TENANT, 'Tenant, beside the payload'],
]);

export function Publish({ access, tail, eventNames }: PublishProps) {
  useModels(access);
  const [event, setEvent] = useState(eventNames[0] ?? '');
  const fields = fieldsOf(event);
  const [values, setValues] = useState<Values>({});
  const [faults, setFaults] = useState<Faults>({});
  const [outcome, setOutcome] = useState<Published | RoomcastError | null>(null);
  const [isBusy, setBusy] = useState(false);
  const form = useRef<HTMLFormElement>(null);

  // A layout effect fills the form before anyone can type into it.
  useLayoutEffect(
    () => setValues((typed) => initialValues(fields, renewed(fields, typed), access)),
    [event, access.claims?.tenants[0]],
  );

  useEffect(() => {
    if (Object.keys(faults).length > 0) form.current?.querySelector<HTMLElement>('[aria-invalid=true]')?.focus();
  }, [faults]);

  async function submit(submitted: Event): Promise<void> {
    submitted.preventDefault();
    if (isBusy) return;
    const { payload, faults: found } = payloadOf(fields, values);
    setFaults(found);
    setOutcome(null);
    if (Object.keys(found).length > 0) return;
    setBusy(true);
    const rooms = (values[ROOMS.name] ?? '').split(/[\s,]+/).filter((room) => room !== '');
    const tenantId = values[TENANT.name] ?? '';
    const sent = { event, payload, ...(tenantId !== '' && { tenantId }), ...(rooms.length > 0 && { rooms }) };
    tailRoomOf(sent);
    try {
      setOutcome(await publish(access, sent));
      setValues((typed) => renewed(fields, typed));
    } catch (error) {
      setOutcome(error as RoomcastError);
      setFaults(faultsOf(error as RoomcastError, fields));
    }
    setBusy(false);
  }

  /** Joins a room of the event before the event goes out, so that the tail shows it: a named one, else its tenant's. */
  function tailRoomOf({ payload, tenantId = payload.tenantId as string, rooms }: TestEvent): void {
    const ticket = formatRoom('ticket', String(payload.ticketId));
    const [first, ...others] = rooms ?? [formatRoom('tenant', tenantId), ticket];
    if (!isRoomId(idOf(first as Room)) || others.some((room) => tail.isListening(room as Room))) return;
    tail.add(first as Room);
  }

  return (
    <section class="card" aria-labelledby="publish">
      <h3 id="publish">Publish a test event</h3>
      <p class="note">This is a real event: all listeners of its rooms receive it, and the log keeps it.</p>
      <form ref={form} onSubmit={(submitted) => void submit(submitted)} noValidate>
        <div class="field">
          <label for="input-event">Event</label>
          <select
            id="input-event"
            value={event}
            onChange={(picked) => {
              setEvent(picked.currentTarget.value);
              setFaults({});
              setOutcome(null);
            }}
          >
            {eventNames.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </div>
        {[...fields, MORE_KEYS, ROOMS, TENANT].map((field) => (
          <Input
            key={field.name}
            field={field}
            value={values[field.name] ?? ''}
            fault={faults[field.name] ?? null}
            change={(value) => setValues({ ...values, [field.name]: value })}
          />
        ))}
        <p class="actions">
          <button type="submit" class="primary" aria-disabled={isBusy}>
            {isBusy ? 'Publishing…' : 'Publish'}
          </button>
        </p>
      </form>
      <div role="status">
        <Outcome outcome={outcome} tail={tail} />
      </div>
    </section>
  );
}

interface InputProps {
  readonly field: Field;
  readonly value: string;
  readonly fault: string | null;
  readonly change: (value: string) => void;
}

function Input({ field, value, fault, change }: InputProps) {
  const { name, isRequired, isObject, options } = field;
  const inputId = `input-${name.replaceAll(' ', '-')}`;
  const faultId = `fault-${inputId}`;
  const shared = {
    id: inputId,
    value,
    spellcheck: false,
    autocomplete: 'off',
    'aria-required': isRequired,
    'aria-invalid': fault !== null,
    'aria-describedby': faultId,
  } as const;
  const title = TITLES.get(field) ?? name;
  return (
    <div class="field">
      <label for={inputId}>
        {isObject ? `${title} (JSON object)` : title}
        {!isRequired && <span class="note"> optional</span>}
      </label>
      {isObject ? (
        <textarea
          {...shared}
          rows={field === MORE_KEYS ? 2 : 4}
          onInput={(event) => change(event.currentTarget.value)}
        />
      ) : options ? (
        <select {...shared} onChange={(event) => change(event.currentTarget.value)}>
          {['', ...options].map((option) => (
            <option key={option}>{option}</option>
          ))}
        </select>
      ) : (
        <input {...shared} onInput={(event) => change(event.currentTarget.value)} />
      )}
      <p class="fault" id={faultId}>
        {fault}
      </p>
    </div>
  );
}

interface OutcomeProps {
  readonly outcome: Published | RoomcastError | null;
  readonly tail: LiveTail;
}

function Outcome({ outcome, tail }: OutcomeProps) {
  if (outcome === null) return null;
  if (outcome instanceof Error) {
    return (
      <div class="outcome bad">
        <p>
          <strong>Not published.</strong>{' '}
          {outcome.problem.errors === undefined ? outcome.message : 'Correct the marked fields.'}{' '}
          <code>{outcome.code}</code>
        </p>
        {(outcome.status === 401 || outcome.status === 403) && (
          <p>
            Publishing needs a token with the scope <code>publish</code> for this tenant.
          </p>
        )}
      </div>
    );
  }
  const { id, rooms, duplicate } = outcome;
  const isListening = rooms.some((room) => tail.isListening(room as Room));
  return (
    <div class="outcome good">
      <p>
        <strong>{duplicate ? 'Duplicate: already published, and not delivered again.' : 'Published.'}</strong>{' '}
        <code>{id}</code>
      </p>
      <p>
        Rooms:{' '}
        {rooms.map((room, index) => (
          <span key={room}>
            {index > 0 && ', '}
            <bdi>{room}</bdi>
          </span>
        ))}
        .{!isListening && ' This token cannot tail any of them.'}
      </p>
    </div>
  );
}

function initialValues(fields: readonly Field[], typed: Values, access: Access): Values {
  const empty = fields.filter(({ name }) => (typed[name] ?? '') === '');
  const entries = empty.map(({ name, initial }) => [name, name === 'tenantId' ? defaultTenant(access) : initial()]);
  return { ...typed, ...Object.fromEntries(entries) };
}

/** The next event needs a new instant and a new message id. */
function renewed(fields: readonly Field[], typed: Values): Values {
  const again = fields.filter(({ isFresh }) => isFresh);
  return { ...typed, ...Object.fromEntries(again.map(({ name, initial }) => [name, initial()])) };
}

/** Leaves out empty optional fields. Empty required ones go out, so that the bridge says what it needs. */
function payloadOf(fields: readonly Field[], values: Values): { payload: Record<string, unknown>; faults: Faults } {
  const faults: Record<string, string> = {};
  const payload: Record<string, unknown> = {};
  for (const { name, isRequired, isObject } of fields) {
    const value = values[name] ?? '';
    if (value === '' && !isRequired) continue;
    payload[name] = isObject ? parsed(value, name, faults) : value;
  }
  const more = values[MORE_KEYS.name] ?? '';
  if (more.trim() !== '') Object.assign(payload, parsed(more, MORE_KEYS.name, faults));
  return { payload, faults };
}

function parsed(text: string, name: string, faults: Record<string, string>): unknown {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
    faults[name] = 'must be a JSON object, such as { "key": "value" }';
  } catch (error) {
    faults[name] = `is not JSON: ${(error as Error).message}`;
  }
  return null;
}

/** Maps the problem's JSON Pointers to the inputs. */
function faultsOf({ problem }: RoomcastError, fields: readonly Field[]): Faults {
  const faults: Record<string, string> = {};
  for (const { path, message } of (problem.errors ?? []) as readonly { path: string; message: string }[]) {
    const [, member, key = ''] = path.split('/');
    if (member === 'rooms') faults[ROOMS.name] ??= `${path} ${message}`;
    else if (member === 'tenantId') faults[TENANT.name] ??= message;
    else if (fields.some(({ name }) => name === key)) faults[key] ??= message;
    else faults[MORE_KEYS.name] ??= `${path} ${message}`;
  }
  return faults;
}

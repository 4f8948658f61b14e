/** A form that publishes a test event as any publisher would, and shows what the bridge says, at the field at fault. */
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { RoomcastError } from '../../client/http.ts';
import type { Room } from '../../contract/rooms.ts';
import type { Access } from './access.ts';
import type { Tailing } from './live-tail.ts';
import { useChanges } from './model.ts';
import { type Field, fieldsOf, type Published, publish } from './test-events.ts';

interface PublishProps {
  readonly access: Access;
  readonly tailing: Tailing;
  readonly eventNames: readonly string[];
}

type Values = Readonly<Record<string, string>>;
type Faults = Readonly<Record<string, string>>;

const REST = 'further keys';

export function Publish({ access, tailing, eventNames }: PublishProps) {
  useChanges(access.changes);
  const [event, setEvent] = useState(eventNames[0] ?? '');
  const fields = fieldsOf(event);
  const [values, setValues] = useState<Values>({});
  const [faults, setFaults] = useState<Faults>({});
  const [outcome, setOutcome] = useState<Published | RoomcastError | null>(null);
  const [isBusy, setBusy] = useState(false);
  const form = useRef<HTMLFormElement>(null);

  // What was typed is kept; what begins each time anew is not. Before anything is shown, and so before anything is typed.
  useLayoutEffect(() => setValues((typed) => begun(fields, typed, access)), [event, access.claims?.tenants[0]]);

  // Whoever sent a wrong form goes on at the first field that is wrong.
  useEffect(() => {
    if (Object.keys(faults).length > 0) form.current?.querySelector<HTMLElement>('[aria-invalid=true]')?.focus();
  }, [faults]);

  async function send(submitted: Event): Promise<void> {
    submitted.preventDefault();
    if (isBusy) return;
    const { payload, faults: found } = payloadOf(fields, values);
    setFaults(found);
    setOutcome(null);
    if (Object.keys(found).length > 0) return;
    setBusy(true);
    hear(payload);
    try {
      const published = await publish(access.http, event, payload, new AbortController().signal);
      setOutcome(published);
      setValues((typed) => renewed(fields, typed));
    } catch (error) {
      setOutcome(error as RoomcastError);
      setFaults(faultsOf(error as RoomcastError, fields));
    }
    setBusy(false);
  }

  /** The event is to be seen in the tail: its tenant's room is listened to before it goes out. */
  function hear({ tenantId, ticketId }: Readonly<Record<string, unknown>>): void {
    if (typeof tenantId !== 'string' || tailing.hears(`ticket:${ticketId}`)) return;
    tailing.add(`tenant:${tenantId}`);
  }

  return (
    <section class="panel" aria-labelledby="publish">
      <h3 id="publish">Publish a test event</h3>
      <p class="note">A real event: everyone who hears its rooms gets it, and the log keeps it.</p>
      <form ref={form} onSubmit={(submitted) => void send(submitted)} noValidate>
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
        {[...fields, REST_FIELD].map((field) => (
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
        <Outcome outcome={outcome} tailing={tailing} />
      </div>
    </section>
  );
}

const REST_FIELD: Field = { name: REST, isRequired: false, isObject: true, first: () => '' };

interface InputProps {
  readonly field: Field;
  readonly value: string;
  readonly fault: string | null;
  readonly change: (value: string) => void;
}

function Input({ field: { name, isRequired, isObject }, value, fault, change }: InputProps) {
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
  const label = name === REST ? 'Further keys (JSON object)' : isObject ? `${name} (JSON object)` : name;
  return (
    <div class="field">
      <label for={inputId}>
        {label}
        {!isRequired && <span class="note"> optional</span>}
      </label>
      {isObject ? (
        <textarea {...shared} rows={name === REST ? 2 : 4} onInput={(event) => change(event.currentTarget.value)} />
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
  readonly tailing: Tailing;
}

function Outcome({ outcome, tailing }: OutcomeProps) {
  if (outcome === null) return null;
  if (outcome instanceof Error) {
    const isAtFields = outcome.problem.errors !== undefined;
    return (
      <div class="outcome bad">
        <p>
          <strong>Not published.</strong> {isAtFields ? 'What is wrong stands at the fields.' : outcome.message}{' '}
          <code>{outcome.code}</code>
        </p>
        {(outcome.status === 401 || outcome.status === 403) && (
          <p>
            Publishing needs a token with the scope <code>publish</code> that names this tenant.
          </p>
        )}
      </div>
    );
  }
  const { id, rooms, duplicate } = outcome;
  const isHeard = rooms.some((room) => tailing.hears(room as Room));
  return (
    <div class="outcome good">
      <p>
        <strong>{duplicate ? 'A repeat: published before, and nobody gets it again.' : 'Published.'}</strong>{' '}
        <code>{id}</code>
      </p>
      <p>
        Goes to{' '}
        {rooms.map((room, index) => (
          <span key={room}>
            {index > 0 && ', '}
            <bdi>{room}</bdi>
          </span>
        ))}
        .{!isHeard && ' None of them could be tailed with this token.'}
      </p>
    </div>
  );
}

function begun(fields: readonly Field[], typed: Values, access: Access): Values {
  const tenant = access.claims?.tenants.find((name) => name !== '*');
  return {
    ...typed,
    ...Object.fromEntries(
      fields
        .filter(({ name }) => typed[name] === undefined || typed[name] === '')
        .map(({ name, first }) => [name, name === 'tenantId' ? (tenant ?? first()) : first()]),
    ),
  };
}

/** The next event is another one: its instant and its message's id are new. */
function renewed(fields: readonly Field[], typed: Values): Values {
  const again = fields.filter(({ name }) => name === 'ticketUpdatedAt' || name === 'messageId');
  return { ...typed, ...Object.fromEntries(again.map(({ name, first }) => [name, first()])) };
}

/** What is left empty is left out, unless it is required: then the bridge may say what it misses. */
function payloadOf(fields: readonly Field[], values: Values): { payload: Record<string, unknown>; faults: Faults } {
  const faults: Record<string, string> = {};
  const payload: Record<string, unknown> = {};
  for (const { name, isRequired, isObject } of fields) {
    const value = values[name] ?? '';
    if (value === '' && !isRequired) continue;
    payload[name] = isObject ? parsed(value, name, faults) : value;
  }
  const rest = values[REST] ?? '';
  if (rest.trim() !== '') Object.assign(payload, parsed(rest, REST, faults));
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

/** From the problem's JSON Pointers to the inputs that they point into. */
function faultsOf({ problem }: RoomcastError, fields: readonly Field[]): Faults {
  const faults: Record<string, string> = {};
  for (const { path, message } of (problem.errors ?? []) as readonly { path: string; message: string }[]) {
    const name = path.split('/')[2] ?? '';
    const field = fields.some((known) => known.name === name) ? name : REST;
    faults[field] ??= field === name ? message : `${path} ${message}`;
  }
  return faults;
}

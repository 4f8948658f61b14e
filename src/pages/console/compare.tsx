/** The parity view: one room on four transports side by side, with a button that cuts each. */
import { useEffect, useState } from 'preact/hooks';
import { TRANSPORTS, type TransportName } from '../../contract/names.ts';
import { formatRoom, ID_RULE, isRoomId, type RoomKind } from '../../contract/rooms.ts';
import { type Access, defaultTenant } from './access.ts';
import {
  agreementOf,
  type ClientSummary,
  type ComparedEvent,
  type Comparison,
  HAS_SHA256,
  TEST_EVENTS,
} from './comparison.ts';
import { Fact, RoomFields, Scroll, State } from './elements.tsx';
import { count, TRANSPORT_LABELS } from './format.ts';
import { useModels } from './model.ts';
import { CUT_MS } from './stock-clients.ts';

const STATES = { connecting: 'connecting', open: 'open', cut: 'cut', down: 'down, reconnecting' } as const;

interface ParityProps {
  readonly access: Access;
  readonly comparison: Comparison;
  readonly eventNames: readonly string[];
}

export function Parity({ access, comparison, eventNames }: ParityProps) {
  useModels(comparison, access);
  // Leaving the view closes the four connections; the results stay.
  useEffect(() => comparison.stop, []);
  const tenant = defaultTenant(access);
  const [kind, setKind] = useState<RoomKind>('tenant');
  const [id, setId] = useState(tenant);
  const [publisher, setPublisher] = useState(tenant);
  const [fault, setFault] = useState('');
  const { room, clients, events, agreed, differing, publishing, error } = comparison;
  const tenantId = kind === 'tenant' ? id : publisher;
  const conclusion =
    differing > 0
      ? `${count(differing)} events differ.`
      : agreed === 0
        ? 'No events to compare yet. Publish test events, or wait for others.'
        : `${count(agreed)} events agree on all four.`;

  function submit(event: Event): void {
    event.preventDefault();
    const isValid = isRoomId(id) && isRoomId(tenantId);
    setFault(isValid ? '' : `An id is ${ID_RULE}.`);
    if (room !== null) comparison.stop();
    else if (isValid) void comparison.start(formatRoom(kind, id), eventNames);
  }

  return (
    <>
      <section class="card" aria-labelledby="parity-room">
        <h3 id="parity-room">One room, four transports</h3>
        <p class="note">
          A stock client listens on each transport. An event agrees when all four received the same bytes, exactly once,
          under the same cursor.
        </p>
        <form class="inline" onSubmit={submit} noValidate>
          <RoomFields
            kind={kind}
            id={id}
            isFixed={room !== null}
            fault={fault}
            setKind={setKind}
            setId={(typed) => {
              setId(typed);
              setFault('');
            }}
          />
          {kind !== 'tenant' && (
            <label class="grow">
              Tenant of the test events
              <input
                value={publisher}
                readOnly={room !== null}
                autocomplete="off"
                spellcheck={false}
                onInput={(event) => setPublisher(event.currentTarget.value)}
              />
            </label>
          )}
          <button type="submit" class={room === null ? 'primary' : ''}>
            {room === null ? 'Connect all four' : 'Disconnect'}
          </button>
          <button
            type="button"
            aria-disabled={room === null || publishing !== null}
            onClick={() => room !== null && void comparison.publishTestEvents(tenantId)}
          >
            {publishing === null
              ? `Publish ${TEST_EVENTS} test events`
              : `Publishing ${publishing.sent} of ${publishing.of}`}
          </button>
        </form>
        {error !== null && (
          <p class="fault" role="alert">
            {error.message} To connect, you need a token with the scope <code>subscribe</code> for this room; to publish
            test events, one with <code>publish</code> for this tenant.
          </p>
        )}
        {!HAS_SHA256 && (
          <p class="note">
            Over plain http, browsers offer no SHA-256. The page compares payloads by a 32-bit FNV-1a hash instead.
          </p>
        )}
      </section>
      {clients.length > 0 && (
        <>
          <div class="clients">
            {clients.map((client) => (
              <ClientCard
                key={client.transport}
                client={client}
                isConnected={room !== null}
                cut={() => comparison.cut(client.transport)}
              />
            ))}
          </div>
          <p class={differing > 0 ? 'conclusion bad' : 'conclusion'}>{conclusion}</p>
          {/* Screen readers hear it at the end, not after each event. */}
          <p class="hidden" role="status">
            {publishing === null ? conclusion : ''}
          </p>
          {events.length > 0 && <Events events={events} />}
        </>
      )}
    </>
  );
}

interface ClientCardProps {
  readonly client: ClientSummary;
  readonly isConnected: boolean;
  readonly cut: () => void;
}

function ClientCard({ client, isConnected, cut }: ClientCardProps) {
  const { transport, state, reason, received, duplicates, outOfOrder, resets, lastResume } = client;
  const shown = isConnected ? state : 'closed';
  return (
    <section class="client card" aria-labelledby={`client-${transport}`} data-transport={transport} data-state={shown}>
      <h3 id={`client-${transport}`}>{TRANSPORT_LABELS[transport]}</h3>
      <p>
        <State tone={shown === 'open' ? 'good' : shown === 'cut' || shown === 'down' ? 'bad' : 'neutral'}>
          {isConnected ? STATES[state] : 'closed'}
        </State>{' '}
        <span class="note">{reason}</span>
      </p>
      <dl class="facts">
        <Fact name="Received">{count(received)}</Fact>
        <Fact name="Duplicates">
          <span class={duplicates > 0 ? 'bad' : ''}>{count(duplicates)}</span>
        </Fact>
        <Fact name="Out of order">
          <span class={outOfOrder > 0 ? 'bad' : ''}>{count(outOfOrder)}</span>
        </Fact>
        <Fact name="Last resume">
          {lastResume === null
            ? 'none yet'
            : `missed ${count(lastResume.missed)}, caught up ${count(lastResume.caughtUp)}`}
          {lastResume !== null && lastResume.how !== '' && `; ${lastResume.how}`}
          {resets > 0 && <strong class="bad"> {count(resets)} resets</strong>}
        </Fact>
      </dl>
      <button type="button" aria-disabled={shown !== 'open'} onClick={() => shown === 'open' && cut()}>
        Cut for {CUT_MS / 1000} s<span class="hidden">: {TRANSPORT_LABELS[transport]}</span>
      </button>
    </section>
  );
}

function Events({ events }: { readonly events: readonly ComparedEvent[] }) {
  return (
    <Scroll label="Events compared" class="tall card">
      <table class="compared">
        <thead>
          <tr>
            <th scope="col">Event</th>
            {TRANSPORTS.map((transport) => (
              <th key={transport} scope="col">
                {TRANSPORT_LABELS[transport]}
              </th>
            ))}
            <th scope="col">Agree</th>
          </tr>
        </thead>
        <tbody>
          {events.map((event) => (
            <EventRow key={event.cursor} compared={event} />
          ))}
        </tbody>
      </table>
    </Scroll>
  );
}

function EventRow({ compared }: { readonly compared: ComparedEvent }) {
  const agreement = agreementOf(compared);
  const { event, cursor, sentAtMs, firstAtMs } = compared;
  return (
    <tr data-agreement={agreement}>
      <th scope="row">
        <span>{event}</span>
        <code>{cursor}</code>
        {sentAtMs !== null && firstAtMs !== null && <span class="note">delivered in {inMs(firstAtMs - sentAtMs)}</span>}
      </th>
      {TRANSPORTS.map((transport) => (
        <ArrivalCell key={transport} compared={compared} transport={transport} />
      ))}
      <td class={agreement === 'agree' ? 'good' : agreement === 'differ' ? 'bad' : 'note'}>
        {agreement === 'agree' ? '✓ yes' : agreement === 'differ' ? '✗ no' : 'waiting'}
      </td>
    </tr>
  );
}

interface ArrivalCellProps {
  readonly compared: ComparedEvent;
  readonly transport: TransportName;
}

function ArrivalCell({ compared: { arrivals, firstAtMs }, transport }: ArrivalCellProps) {
  const arrival = arrivals[transport];
  if (arrival === undefined) return <td class="note">–</td>;
  const { atMs, hash, times, isLate } = arrival;
  return (
    <td>
      <span class={isLate ? 'late' : ''}>
        {atMs === firstAtMs ? 'first' : `+${inMs(atMs - (firstAtMs ?? atMs))}`}
        {isLate && ' caught up'}
        {times > 1 && <strong class="bad"> {times}×</strong>}
      </span>
      <code>{hash ?? '…'}</code>
    </td>
  );
}

const inMs = (milliseconds: number): string => `${milliseconds.toFixed(1)} ms`;

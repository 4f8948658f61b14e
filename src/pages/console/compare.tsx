/** The view Compare: one room on four transports side by side, with a button that cuts each. */
import { useEffect, useState } from 'preact/hooks';
import { TRANSPORTS, type TransportName } from '../../contract/names.ts';
import { formatRoom, isRoomId, type RoomKind } from '../../contract/rooms.ts';
import { type Access, defaultTenant } from './access.ts';
import {
  agreementOf,
  type ClientSummary,
  type ComparedEvent,
  type Comparison,
  HAS_SHA256,
  TEST_EVENTS,
} from './comparison.ts';
import {
  Button,
  Card,
  EmptyState,
  Fact,
  Fault,
  Field,
  Notice,
  RoomFields,
  Scroll,
  State,
  type Tone,
} from './elements.tsx';
import { count, milliseconds, NOTHING, TRANSPORT_LABELS } from './format.ts';
import { useModels } from './model.ts';
import { CUT_MS } from './stock-clients.ts';
import { compareTexts } from './texts/compare.ts';

interface CompareProps {
  readonly access: Access;
  readonly comparison: Comparison;
  readonly eventNames: readonly string[];
}

export function Compare({ access, comparison, eventNames }: CompareProps) {
  useModels(comparison, access);
  // Leaving the view closes the four connections; the results stay.
  useEffect(() => comparison.stop, []);
  const t = compareTexts();
  const { clients, events, agreed, differing, publishing } = comparison;
  const conclusion = differing > 0 ? t.differ(differing) : agreed === 0 ? t.nothing : t.agree(agreed);
  return (
    <>
      <CompareForm access={access} comparison={comparison} eventNames={eventNames} />
      {clients.length === 0 ? (
        <Card title={t.list}>
          <EmptyState title={t.nothing} />
        </Card>
      ) : (
        <>
          <div class="clients">
            {clients.map((client) => (
              <ClientCard
                key={client.transport}
                client={client}
                isConnected={comparison.room !== null}
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

function CompareForm({ access, comparison, eventNames }: CompareProps) {
  const tenant = defaultTenant(access);
  const [kind, setKind] = useState<RoomKind>('tenant');
  const [id, setId] = useState(tenant);
  const [publisher, setPublisher] = useState(tenant);
  const [fault, setFault] = useState('');
  const t = compareTexts();
  const { room, publishing, error } = comparison;
  const tenantId = kind === 'tenant' ? id : publisher;

  function submit(event: Event): void {
    event.preventDefault();
    const isValid = isRoomId(id) && isRoomId(tenantId);
    setFault(isValid ? '' : t.badId);
    if (room !== null) comparison.stop();
    else if (isValid) void comparison.start(formatRoom(kind, id), eventNames);
  }

  return (
    <Card title={t.title} note={t.note}>
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
          <Field label={t.tenant} value={publisher} isReadOnly={room !== null} onInput={setPublisher} isWide />
        )}
        <Button type="submit" kind={room === null ? 'primary' : 'plain'}>
          {room === null ? t.connect : t.disconnect}
        </Button>
        <Button
          isDisabled={room === null || publishing !== null}
          onClick={() => void comparison.publishTestEvents(tenantId)}
        >
          {publishing === null ? t.publish(TEST_EVENTS) : t.publishing(publishing.sent, publishing.of)}
        </Button>
      </form>
      {error !== null && (
        <Notice tone="bad">
          <Fault error={error} />
          {(error.status === 401 || error.status === 403) && <p>{t.needs}</p>}
        </Notice>
      )}
      {!HAS_SHA256 && <p class="note">{t.noSha256}</p>}
    </Card>
  );
}

interface ClientCardProps {
  readonly client: ClientSummary;
  readonly isConnected: boolean;
  readonly cut: () => void;
}

const TONES: Readonly<Record<ClientSummary['state'] | 'closed', Tone>> = {
  connecting: 'neutral',
  open: 'good',
  cut: 'bad',
  down: 'bad',
  closed: 'neutral',
};

function ClientCard({ client, isConnected, cut }: ClientCardProps) {
  const { transport, state, reason, received, duplicates, outOfOrder, resets, lastResume } = client;
  const shown = isConnected ? state : 'closed';
  const label = TRANSPORT_LABELS[transport];
  const id = `client-${transport}`;
  const t = compareTexts();
  return (
    <section class="client card" aria-labelledby={id} data-transport={transport} data-state={shown}>
      <h3 id={id}>{label}</h3>
      <p>
        <State tone={TONES[shown]}>{t.states[shown]}</State> <span class="note">{reason}</span>
      </p>
      <dl class="facts">
        <Fact name={t.received}>{count(received)}</Fact>
        <Fact name={t.duplicates}>
          <span class={duplicates > 0 ? 'bad' : ''}>{count(duplicates)}</span>
        </Fact>
        <Fact name={t.outOfOrder}>
          <span class={outOfOrder > 0 ? 'bad' : ''}>{count(outOfOrder)}</span>
        </Fact>
        <Fact name={t.resume}>
          {lastResume === null ? t.noResume : t.resumed(lastResume.missed, lastResume.caughtUp)}
          {lastResume?.how != null && `; ${t.how[lastResume.how]}`}
          {resets > 0 && <strong class="bad"> {t.resets(resets)}</strong>}
        </Fact>
      </dl>
      <p>
        <Button isDisabled={shown !== 'open'} onClick={cut}>
          {t.cut(CUT_MS / 1000)}
          <span class="hidden">: {label}</span>
        </Button>
      </p>
    </section>
  );
}

function Events({ events }: { readonly events: readonly ComparedEvent[] }) {
  const t = compareTexts();
  return (
    <Scroll label={t.list} class="tall card">
      <table class="compared">
        <thead>
          <tr>
            <th scope="col">{t.event}</th>
            {TRANSPORTS.map((transport) => (
              <th key={transport} scope="col">
                {TRANSPORT_LABELS[transport]}
              </th>
            ))}
            <th scope="col">{t.agrees}</th>
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
  const t = compareTexts();
  return (
    <tr data-agreement={agreement}>
      <th scope="row">
        <span>{event}</span>
        <code>{cursor}</code>
        {sentAtMs !== null && firstAtMs !== null && <span class="note">{t.delivered(inMs(firstAtMs - sentAtMs))}</span>}
      </th>
      {TRANSPORTS.map((transport) => (
        <ArrivalCell key={transport} compared={compared} transport={transport} />
      ))}
      <td class={agreement === 'agree' ? 'good' : agreement === 'differ' ? 'bad' : 'note'}>
        {agreement === 'agree' ? `✓ ${t.yes}` : agreement === 'differ' ? `✗ ${t.no}` : t.waiting}
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
  const t = compareTexts();
  if (arrival === undefined) return <td class="note">{NOTHING}</td>;
  const { atMs, hash, times, isLate } = arrival;
  return (
    <td>
      <span class={isLate ? 'late' : ''}>
        {atMs === firstAtMs ? t.first : `+${inMs(atMs - (firstAtMs ?? atMs))}`}
        {isLate && ` ${t.late}`}
        {times > 1 && <strong class="bad"> {times}×</strong>}
      </span>
      <code>{hash ?? '…'}</code>
    </td>
  );
}

const inMs = (ms: number): string => milliseconds(ms / 1000);

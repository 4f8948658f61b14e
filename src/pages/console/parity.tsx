/** The parity view: one room on four transports side by side, with a button to cut each and see it come back. */
import { useEffect, useState } from 'preact/hooks';
import { formatRoom, ID_RULE, isRoomId, ROOM_KINDS, type RoomKind } from '../../contract/rooms.ts';
import type { Access } from './access.ts';
import { BURST, type LaneView, type Proof, type Row, verdictOf } from './comparison.ts';
import { HAS_SHA } from './digest.ts';
import { Scroll } from './elements.tsx';
import { count } from './format.ts';
import { useChanges } from './model.ts';
import { CUT_MS, LANES, type LaneName } from './stock-clients.ts';

const LABELS = {
  websocket: 'Socket.IO, websocket',
  polling: 'Socket.IO, polling',
  sse: 'SSE',
  longpoll: 'Long poll',
} as const;
const SHORT = { websocket: 'WebSocket', polling: 'Polling', sse: 'SSE', longpoll: 'Long poll' } as const;
const STATES = { connecting: 'connecting', open: 'open', cut: 'cut', down: 'down, comes back' } as const;

interface ParityProps {
  readonly access: Access;
  readonly proof: Proof;
  readonly eventNames: readonly string[];
}

export function Parity({ access, proof, eventNames }: ParityProps) {
  useChanges(proof.changes, access.changes);
  // Four connections are not kept open for a page that nobody looks at; what they brought stays.
  useEffect(() => proof.stop, []);
  const tenant = access.claims?.tenants.find((name) => name !== '*') ?? 'console';
  const [kind, setKind] = useState<RoomKind>('tenant');
  const [id, setId] = useState(tenant);
  const [publisher, setPublisher] = useState(tenant);
  const [fault, setFault] = useState('');
  const { room, lanes, rows, agreed, differing, burst, error } = proof;
  const tenantId = kind === 'tenant' ? id : publisher;
  const verdict =
    differing > 0
      ? `${count(differing)} events differ.`
      : agreed === 0
        ? 'Nothing to compare yet: publish test events, or wait for others.'
        : `${count(agreed)} events agree on all four.`;

  function submit(event: Event): void {
    event.preventDefault();
    const isValid = isRoomId(id) && isRoomId(tenantId);
    setFault(isValid ? '' : `An id is ${ID_RULE}.`);
    if (room !== null) proof.stop();
    else if (isValid) void proof.start(formatRoom(kind, id), eventNames);
  }

  return (
    <>
      <section class="panel" aria-labelledby="parity-room">
        <h3 id="parity-room">One room, four transports</h3>
        <p class="note">
          Each transport is used as a stock client would use it. A row agrees once all four brought the same bytes of an
          event, once, under the same cursor.
        </p>
        <form class="inline" onSubmit={submit} noValidate>
          <label>
            Kind
            <select
              value={kind}
              disabled={room !== null}
              onChange={(event) => setKind(event.currentTarget.value as RoomKind)}
            >
              {ROOM_KINDS.map((name) => (
                <option key={name}>{name}</option>
              ))}
            </select>
          </label>
          <label class="grow">
            Id
            <input
              value={id}
              readOnly={room !== null}
              autocomplete="off"
              spellcheck={false}
              aria-invalid={fault !== ''}
              aria-describedby="parity-fault"
              onInput={(event) => {
                setId(event.currentTarget.value);
                setFault('');
              }}
            />
          </label>
          {kind !== 'tenant' && kind !== 'user' && (
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
          {kind !== 'user' && (
            <button
              type="button"
              aria-disabled={room === null || burst !== null}
              onClick={() => room !== null && void proof.publishBurst(tenantId)}
            >
              {burst === null ? `Publish ${BURST.events} test events` : `Publishing ${burst.sent} of ${burst.of}`}
            </button>
          )}
        </form>
        <p id="parity-fault" class="fault" role="alert">
          {fault}
        </p>
        {error !== null && (
          <p class="fault" role="alert">
            {error.message} Connecting needs a token with the scope <code>subscribe</code> for this room, test events
            one with <code>publish</code> for this tenant.
          </p>
        )}
        {kind === 'user' && (
          <p class="note">
            Test events are <code>tickets.updated</code>, which goes to no user’s room: what others publish is compared.
          </p>
        )}
        {!HAS_SHA && (
          <p class="note">
            This page came over plain http, where browsers offer no SHA-256: payloads are compared by a 32-bit FNV-1a.
          </p>
        )}
      </section>
      {lanes.length > 0 && (
        <>
          <div class="lanes">
            {lanes.map((lane) => (
              <LaneCard key={lane.name} lane={lane} isConnected={room !== null} cut={() => proof.cut(lane.name)} />
            ))}
          </div>
          <p class={differing > 0 ? 'verdict bad' : 'verdict'}>{verdict}</p>
          {/* Told once it is over, not with each event. */}
          <p class="hidden" role="status">
            {burst === null ? verdict : ''}
          </p>
          {rows.length > 0 && <Rows rows={rows} />}
        </>
      )}
    </>
  );
}

interface LaneCardProps {
  readonly lane: LaneView;
  readonly isConnected: boolean;
  readonly cut: () => void;
}

function LaneCard({ lane, isConnected, cut }: LaneCardProps) {
  const { name, state, reason, received, doubles, disorder, resets, resume } = lane;
  const shown = isConnected ? state : 'closed';
  return (
    <section class="lane panel" aria-labelledby={`lane-${name}`} data-lane={name} data-state={shown}>
      <h3 id={`lane-${name}`}>{LABELS[name]}</h3>
      <p>
        <span class={shown === 'open' ? 'state good' : shown === 'cut' || shown === 'down' ? 'state bad' : 'state'}>
          {isConnected ? STATES[state] : 'closed'}
        </span>{' '}
        <span class="note">{reason}</span>
      </p>
      <dl class="facts">
        <div>
          <dt>Received</dt>
          <dd>{count(received)}</dd>
        </div>
        <div>
          <dt>Twice, out of order</dt>
          <dd class={doubles + disorder > 0 ? 'bad' : ''}>
            {count(doubles)}, {count(disorder)}
          </dd>
        </div>
        <div>
          <dt>Last resume</dt>
          <dd>
            {resume === null ? (
              'none yet'
            ) : (
              <>
                missed {count(resume.missed)}, caught up {count(resume.caughtUp)}
                {resume.how !== '' && `; ${resume.how}`}
              </>
            )}
            {resets > 0 && <strong class="bad"> {count(resets)} resets</strong>}
          </dd>
        </div>
      </dl>
      <button type="button" aria-disabled={shown !== 'open'} onClick={() => shown === 'open' && cut()}>
        Cut for {CUT_MS / 1000} s<span class="hidden">: {LABELS[name]}</span>
      </button>
    </section>
  );
}

function Rows({ rows }: { readonly rows: readonly Row[] }) {
  return (
    <Scroll label="Events compared" class="tall panel">
      <table class="parity">
        <thead>
          <tr>
            <th scope="col">Event</th>
            {LANES.map((name) => (
              <th key={name} scope="col">
                {SHORT[name]}
              </th>
            ))}
            <th scope="col">Agree</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <CompareRow key={row.cursor} row={row} />
          ))}
        </tbody>
      </table>
    </Scroll>
  );
}

function CompareRow({ row }: { readonly row: Row }) {
  const verdict = verdictOf(row);
  const { sentAtMs, firstAtMs } = row;
  return (
    <tr data-verdict={verdict}>
      <th scope="row">
        <span>{row.event}</span>
        <code>{row.cursor}</code>
        {sentAtMs !== null && firstAtMs !== null && (
          <span class="note">{inMs(firstAtMs - sentAtMs)} after the publish</span>
        )}
      </th>
      {LANES.map((name) => (
        <LaneCell key={name} row={row} name={name} />
      ))}
      <td class={verdict === 'agree' ? 'good' : verdict === 'differ' ? 'bad' : 'note'}>
        {verdict === 'agree' ? '✓ yes' : verdict === 'differ' ? '✗ no' : 'waiting'}
      </td>
    </tr>
  );
}

function LaneCell({ row: { by, firstAtMs }, name }: { readonly row: Row; readonly name: LaneName }) {
  const arrival = by[name];
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

/** All about one person: the verdict and what to do, the connections, the refusals, and what the operator can do to them. */
import { type ComponentChildren, Fragment } from 'preact';
import { useMemo, useState } from 'preact/hooks';
import type { RoomcastError } from '../../client/http.ts';
import type { ConnectionItem, RefusalItem } from '../../contract/operating.ts';
import type { Room } from '../../contract/rooms.ts';
import { LANGUAGE_NAMES, type Language, language } from '../language.ts';
import { type Access, BASE, ROOM_KINDS } from './access.ts';
import { agentInWords } from './agent.ts';
import type { Level, RoomTraffic } from './diagnosis.ts';
import {
  Badge,
  Button,
  Card,
  CopyButton,
  Dialog,
  Fact,
  Field,
  Notice,
  Select,
  State,
  Time,
  type Tone,
} from './elements.tsx';
import { formatReading, type Reading, roomFrom } from './find-query.ts';
import type { Dossier, Finder, Person } from './finder.ts';
import { bytes, count, duration, TRANSPORT_LABELS } from './format.ts';
import { goTo, hrefOf } from './route.ts';
import { findTexts, hintText, reasonText, verdictText } from './texts/find.ts';

export const TONES: Readonly<Record<Level, Tone>> = { good: 'good', fair: 'warn', bad: 'bad' };

/** A user's name, or the address and id of a connection without one. */
export function nameOf({ sub, connections, refusals }: Person): string {
  if (sub !== null) return sub;
  const address = connections[0]?.address ?? refusals[0]?.address ?? '';
  const id = connections[0]?.id;
  return id === undefined ? `${findTexts().unknownUser}, ${address}` : `${address} · ${id}`;
}

interface PersonProps {
  readonly access: Access;
  readonly finder: Finder;
  readonly dossier: Dossier;
}

interface PersonViewProps extends PersonProps {
  readonly nodeName: (id: string) => string;
}

export function PersonView({ access, finder, dossier, nodeName }: PersonViewProps) {
  const t = findTexts();
  const { person, diagnosis, evidence } = dossier;
  const { level, verdict, hints, next } = diagnosis;
  // Its words change with the time; screen readers say it when the verdict itself does.
  const announced = useMemo(() => verdictText(verdict), [verdict.code, language.current]);
  return (
    <div class="stack" data-verdict={verdict.code}>
      <Card
        class="find-who"
        title={nameOf(person)}
        actions={<Actions access={access} finder={finder} dossier={dossier} />}
      >
        <Notice tone={TONES[level]} title={verdictText(verdict)} isAnnounced={false}>
          {'refusal' in verdict && <p lang="en">{verdict.refusal.message}</p>}
          {hints.length > 0 && (
            <ul>
              {hints.map((hint, index) => (
                <li key={`${hint.code}-${index}`}>{hintText(hint)}</li>
              ))}
            </ul>
          )}
        </Notice>
        <span class="hidden" role="status">
          {announced}
        </span>
        <h4>{t.next}</h4>
        <ol class="find-next">
          {next.map((code) => (
            <li key={code}>{t.nextSteps[code]}</li>
          ))}
        </ol>
        {person.connections.length > 0 && <MissedRoom person={person} about={evidence.about} />}
        <CheckLink />
      </Card>
      {person.connections.map((connection) => (
        <Connection
          key={connection.id}
          connection={connection}
          refusals={person.refusals}
          traffic={evidence.traffic}
          actions={
            person.connections.length > 1 && (
              <Disconnect finder={finder} who={connection.id} connections={[connection]} />
            )
          }
          nodeName={nodeName}
        />
      ))}
      {person.refusals.length > 0 && <Refusals refusals={person.refusals} />}
    </div>
  );
}

/** The reading that means this person alone. */
function readingOf({ sub, connections, refusals }: Person): Reading {
  if (sub !== null) return { kind: 'user', name: sub };
  const [only] = connections;
  if (only !== undefined) return { kind: 'connection', name: only.id };
  return { kind: 'address', name: refusals[0]?.address ?? '' };
}

function MissedRoom({ person, about }: { readonly person: Person; readonly about: RoomTraffic | null }) {
  const t = findTexts();
  const [typed, setTyped] = useState(about?.room ?? '');
  // Mostly it is a ticket.
  const room = roomFrom(typed, ROOM_KINDS) ?? roomFrom(`ticket:${typed.trim()}`, ROOM_KINDS);
  return (
    <form
      class="inline"
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        goTo('find', { q: `${formatReading(readingOf(person))} ${room ?? ''}`.trim() });
      }}
    >
      <Field label={t.missRoom} placeholder={t.missHint} value={typed} onInput={setTyped} isWide />
      <Button type="submit">{t.missAction}</Button>
    </form>
  );
}

function CheckLink() {
  const t = findTexts();
  const [chosen, setChosen] = useState<Language>(language.current);
  const link = new URL(`check?lang=${chosen}`, BASE).href;
  return (
    <section class="find-check" aria-label={t.checkTitle}>
      <h4>{t.checkTitle}</h4>
      <p class="note">{t.checkNote}</p>
      <div class="bar">
        <a href={link} target="_blank" rel="noreferrer">
          {link}
        </a>
        <Select
          label={t.checkLanguage}
          isLabelHidden
          value={chosen}
          onChoose={setChosen}
          options={(['en', 'pt'] as const).map((value) => ({ value, name: LANGUAGE_NAMES[value] }))}
        />
        <CopyButton text={link} label={t.checkCopy} />
      </div>
    </section>
  );
}

interface ConnectionProps {
  readonly connection: ConnectionItem;
  readonly refusals: readonly RefusalItem[];
  readonly traffic: readonly RoomTraffic[];
  /** Where there are others. */
  readonly actions: ComponentChildren;
  readonly nodeName: (id: string) => string;
}

const BEHIND_MS = 1_000;

function Connection({ connection, refusals, traffic, actions, nodeName }: ConnectionProps) {
  const t = findTexts();
  const { id, transport, since, behindMs, pendingBytes, lastDeliveryAt, address, userAgent, node } = connection;
  const { tenantIds, expiresAt, rooms, roomCount, cursor } = connection;
  const f = t.facts;
  const refusal = refusals.find((one) => one.address === address) ?? refusals[0];
  return (
    <Card title={t.connection} class="find-connection" actions={actions}>
      <dl class="facts">
        <Fact name={f.transport}>{TRANSPORT_LABELS[transport]}</Fact>
        <Fact name={f.since}>
          <Time at={since} />
        </Fact>
        <Fact name={f.behind}>
          <State tone={behindMs > BEHIND_MS ? 'warn' : 'good'}>
            {behindMs === 0 ? f.upToDate : duration(behindMs / 1000)}
          </State>
        </Fact>
        <Fact name={f.unread}>{bytes(pendingBytes)}</Fact>
        <Fact name={f.lastDelivery}>{lastDeliveryAt === null ? f.noDelivery : <Time at={lastDeliveryAt} />}</Fact>
        <Fact name={f.lastRefusal}>
          {refusal === undefined ? (
            f.none
          ) : (
            <>
              <Time at={refusal.at} /> <code>{refusal.code}</code>
            </>
          )}
        </Fact>
        <Fact name={f.address}>
          <a href={hrefOf('find', { q: `address:${address}` })}>
            <bdi>{address}</bdi>
          </a>
        </Fact>
        <Fact name={f.device}>
          <bdi title={userAgent ?? ''}>{agentInWords(userAgent) ?? t.none}</bdi>
        </Fact>
        {tenantIds.length > 0 && (
          <Fact name={f.tenants}>
            <bdi>{tenantIds.includes('*') ? f.allTenants : tenantIds.join(', ')}</bdi>
          </Fact>
        )}
        {expiresAt !== null && (
          <Fact name={f.expires}>
            <Time at={expiresAt} />
          </Fact>
        )}
        <Fact name={f.node}>
          <bdi title={node}>{nodeName(node)}</bdi>
        </Fact>
        <Fact name={f.id}>
          <code>{id}</code>
        </Fact>
        <Fact name={f.cursor}>
          <code>{cursor}</code>
        </Fact>
      </dl>
      <h4>{f.rooms(roomCount)}</h4>
      <ul class="find-rooms">
        {rooms.map((room) => (
          <RoomItem key={room} room={room as Room} traffic={traffic.find((one) => one.room === room)} />
        ))}
        {roomCount > rooms.length && <li class="note">{f.moreRooms(roomCount - rooms.length)}</li>}
      </ul>
    </Card>
  );
}

function RoomItem({ room, traffic }: { readonly room: Room; readonly traffic: RoomTraffic | undefined }) {
  const { openLog, noEventsInLog } = findTexts();
  return (
    <li>
      <a href={hrefOf('log', { room })} title={openLog(room)}>
        <bdi>{room}</bdi>
      </a>
      {traffic !== undefined && (
        <span class="note">{traffic.last === null ? noEventsInLog : <Time at={traffic.last.at} />}</span>
      )}
    </li>
  );
}

const FIRST_REFUSALS = 10;

/** Whether the page has words of its own, beside those of the bridge. */
const isNamed = (refusal: RefusalItem): boolean => !refusal.message.startsWith(reasonText(refusal));

function Refusals({ refusals }: { readonly refusals: readonly RefusalItem[] }) {
  const t = findTexts();
  const [shown, setShown] = useState(FIRST_REFUSALS);
  return (
    <Card title={`${t.refusals} (${count(refusals.length)})`}>
      <ul class="find-refusals">
        {refusals.slice(0, shown).map((refusal, index) => (
          <li key={`${refusal.at}\n${index}`}>
            <Time at={refusal.at} />
            <code>
              <bdi>{refusal.what}</bdi>
            </code>
            <span>
              {reasonText(refusal)} <Badge tone="bad">{refusal.code}</Badge>
              <br />
              {isNamed(refusal) && <span class="note">{refusal.message}</span>}
            </span>
            <span class="note">
              <bdi>{refusal.address}</bdi>
            </span>
          </li>
        ))}
      </ul>
      {refusals.length > shown && <Button onClick={() => setShown(shown + 50)}>{t.more}</Button>}
    </Card>
  );
}

type Asked = 'revoke' | 'lift';

interface DisconnectProps {
  readonly finder: Finder;
  readonly who: string;
  readonly connections: readonly ConnectionItem[];
}

/** Closes one connection, or all of a person. */
function Disconnect({ finder, who, connections }: DisconnectProps) {
  const t = findTexts();
  /** Those that the dialog asks about; others may come meanwhile. */
  const [asked, setAsked] = useState<readonly ConnectionItem[] | null>(null);
  const [isBusy, setBusy] = useState(false);
  const [outcome, setOutcome] = useState('');

  async function close(targets: readonly ConnectionItem[]): Promise<void> {
    setBusy(true);
    const text = await finder.disconnect(targets).then(t.disconnected, (error: Error) => t.failed(error.message));
    setOutcome(text);
    setBusy(false);
    setAsked(null);
  }

  return (
    <>
      {connections.length > 0 && (
        <Button onClick={() => setAsked(connections)}>{t.disconnect(connections.length)}</Button>
      )}
      <span class="note" role="status">
        {outcome}
      </span>
      {asked !== null && (
        <Dialog
          title={t.disconnectTitle(who)}
          action={t.disconnect(asked.length)}
          isDangerous
          isBusy={isBusy}
          onClose={() => setAsked(null)}
          onConfirm={() => void close(asked)}
        >
          <p>{t.disconnectText(asked.length)}</p>
        </Dialog>
      )}
    </>
  );
}

/** Buttons, each with a dialog that says what will happen. */
function Actions({ access, finder, dossier }: PersonProps) {
  const t = findTexts();
  const { person, evidence } = dossier;
  const { sub, connections } = person;
  const [asked, setAsked] = useState<Asked | null>(null);
  const [isBusy, setBusy] = useState(false);
  const [outcome, setOutcome] = useState<{ readonly isGood: boolean; readonly text: string } | null>(null);
  const ownTenants = access.claims?.tenants.filter((id) => id !== '*') ?? [];
  const isForAll = access.claims === null || access.claims.tenants.includes('*');
  const tenants = [...new Set([...connections.flatMap(({ tenantIds }) => tenantIds), ...ownTenants])].filter(
    (id) => id !== '*',
  );
  const [tenantId, setTenantId] = useState('');
  const tenant = tenantId !== '' ? tenantId : isForAll ? '' : (tenants[0] ?? '');

  async function act(done: () => Promise<string>): Promise<void> {
    setBusy(true);
    try {
      setOutcome({ isGood: true, text: await done() });
    } catch (error) {
      setOutcome({ isGood: false, text: t.failed((error as RoomcastError).message) });
    }
    setBusy(false);
    setAsked(null);
  }

  const close = (): void => setAsked(null);
  const dialogs: Readonly<Record<Asked, () => ComponentChildren>> = {
    revoke: () => (
      <Dialog
        title={t.revokeTitle(nameOf(person))}
        action={t.revoke}
        isDangerous
        isBusy={isBusy}
        onClose={close}
        onConfirm={() =>
          void act(async () => {
            await finder.revoke({ sub: sub as string, ...(tenant !== '' && { tenantId: tenant }) });
            return t.revoked;
          })
        }
      >
        <p>{t.revokeText(nameOf(person))}</p>
        {tenants.length > 0 && (
          <Select
            label={t.revokeTenant}
            value={tenant}
            onChoose={setTenantId}
            options={[
              ...(isForAll ? [{ value: '', name: t.revokeAllTenants }] : []),
              ...tenants.map((id) => ({ value: id, name: id })),
            ]}
          />
        )}
        {tenant !== '' && <p>{t.revokeTenantText(tenant)}</p>}
      </Dialog>
    ),
    lift: () => (
      <Dialog
        title={t.liftTitle}
        action={t.lift}
        isBusy={isBusy}
        onClose={close}
        onConfirm={() =>
          void act(async () => {
            if (evidence.revocation !== null) await finder.lift(evidence.revocation);
            return t.lifted;
          })
        }
      >
        <p>{t.liftText}</p>
      </Dialog>
    ),
  };
  return (
    <Fragment>
      <div class="actions">
        <Disconnect finder={finder} who={nameOf(person)} connections={connections} />
        {sub !== null && <Button onClick={() => setAsked('revoke')}>{t.revoke}</Button>}
        {evidence.revocation !== null && <Button onClick={() => setAsked('lift')}>{t.lift}</Button>}
      </div>
      {outcome !== null && (
        <p class={outcome.isGood ? 'note' : 'fault'} role="status">
          {outcome.text}
        </p>
      )}
      {asked !== null && dialogs[asked]()}
    </Fragment>
  );
}

/** One event of the log in full, or what differs between two, and what the operator can do with it. */
import { useState } from 'preact/hooks';
import type { RoomcastError } from '../../client/http.ts';
import type { LogEntry } from '../../contract/log.ts';
import { printable } from '../../contract/printable.ts';
import { type Access, ROOM_KINDS } from './access.ts';
import { curlOf } from './curl.ts';
import { tenantOf } from './diagnosis.ts';
import { compare } from './difference.ts';
import { Button, Card, CopyButton, Dialog, EmptyState, Fact, Field, Json, Notice, Scroll, Time } from './elements.tsx';
import { roomFrom } from './find-query.ts';
import { bytes } from './format.ts';
import { hrefOf } from './route.ts';
import { MESSAGES_NEW, publish } from './test-events.ts';
import { logTexts } from './texts/log.ts';

interface LogEventProps {
  readonly access: Access;
  readonly entry: LogEntry | null;
  /** The event to compare with. */
  readonly pinned: LogEntry | null;
  readonly pin: (entry: LogEntry | null) => void;
}

export function LogEvent({ access, entry, pinned, pin }: LogEventProps) {
  const t = logTexts();
  const [isSending, setSending] = useState(false);
  const [published, setPublished] = useState('');
  if (entry === null) {
    return (
      <Card title={t.details}>
        <EmptyState title={t.choose} />
      </Card>
    );
  }
  if (pinned !== null && pinned.id !== entry.id)
    return <Differences one={pinned} other={entry} stop={() => pin(null)} />;
  const { event, at, id, rooms, payload } = entry;
  const text = JSON.stringify(payload);
  const tenant = tenantOf(entry);
  return (
    <Card title={t.details}>
      <dl class="facts">
        <Fact name={t.facts.event}>{event}</Fact>
        <Fact name={t.facts.accepted}>
          <Time at={at} />
        </Fact>
        <Fact name={t.facts.cursor}>
          <code>{id}</code>
        </Fact>
        {tenant !== null && (
          <Fact name={t.facts.tenant}>
            <a href={hrefOf('find', { q: `tenant:${tenant}` })}>
              <bdi>{tenant}</bdi>
            </a>
          </Fact>
        )}
        <Fact name={t.facts.rooms}>
          <ul class="find-rooms">
            {rooms.map((room) => (
              <li key={room}>
                <a href={hrefOf('find', { q: room })} title={t.findRoom(room)}>
                  <bdi>{room}</bdi>
                </a>
              </li>
            ))}
          </ul>
        </Fact>
        <Fact name={t.facts.size}>{bytes(new Blob([text]).size)}</Fact>
      </dl>
      <div class="actions">
        <CopyButton text={id} label={t.copyCursor} />
        <CopyButton
          text={() => curlOf(access, { path: 'events', body: JSON.stringify({ event, rooms, payload }) })}
          label={t.copyCurl}
        />
        <Button isPressed={pinned !== null} onClick={() => pin(pinned === null ? entry : null)}>
          {pinned === null ? t.compare : t.compareStop}
        </Button>
        <Button
          onClick={() => {
            setPublished('');
            setSending(true);
          }}
        >
          {t.again}
        </Button>
      </div>
      <p class="note" role="status">
        {pinned !== null ? t.compareChoose : published === '' ? '' : t.againDone(published)}
      </p>
      <Json text={text} />
      {isSending && (
        <SendAgain
          access={access}
          entry={entry}
          close={(cursor) => {
            setSending(false);
            setPublished(cursor ?? '');
          }}
        />
      )}
    </Card>
  );
}

interface DifferencesProps {
  readonly one: LogEntry;
  readonly other: LogEntry;
  readonly stop: () => void;
}

function Differences({ one, other, stop }: DifferencesProps) {
  const t = logTexts();
  const [before, after] = one.id < other.id ? [one, other] : [other, one];
  const { differences, equal, isCut } = compare(before.payload, after.payload);
  return (
    <Card title={t.compareTitle} actions={<Button onClick={stop}>{t.compareStop}</Button>}>
      <p class="note">
        {differences.length === 0 ? t.compareSame : t.compareEqual(equal)} {isCut && t.compareCut}
      </p>
      <Scroll label={t.compareTitle} class="tall">
        <table class="log-differences">
          <thead>
            <tr>
              <th scope="col">{t.member}</th>
              {[before, after].map(({ id, event, at }) => (
                <th key={id} scope="col">
                  {event}
                  <br />
                  <Time at={at} />
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {differences.map(({ path, kind, before: was, after: is }) => (
              <tr key={path} data-kind={kind}>
                <th scope="row">
                  <code>{path === '' ? t.whole : printable(path.slice(1).replaceAll('/', ' › '))}</code>
                </th>
                <td class="log-was">
                  {was === null ? <span class="note">{t.nothingThere}</span> : <Value json={was} />}
                </td>
                <td class="log-is">{is === null ? <span class="note">{t.nothingThere}</span> : <Value json={is} />}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
    </Card>
  );
}

const MAX_CHARACTERS = 2_000;

function Value({ json }: { readonly json: string }) {
  const text = printable(json);
  return <code dir="ltr">{text.length > MAX_CHARACTERS ? `${text.slice(0, MAX_CHARACTERS)}…` : text}</code>;
}

interface SendAgainProps {
  readonly access: Access;
  readonly entry: LogEntry;
  /** @param cursor of the published event; null: it was not published */
  readonly close: (cursor: string | null) => void;
}

function SendAgain({ access, entry, close }: SendAgainProps) {
  const t = logTexts();
  const [typed, setTyped] = useState('');
  const [text, setText] = useState(() => JSON.stringify(renewed(entry), null, 2));
  const [faults, setFaults] = useState({ room: '', payload: '', whole: '' });
  const [isBusy, setBusy] = useState(false);
  const room = roomFrom(typed, ROOM_KINDS);

  async function send(): Promise<void> {
    const { payload, fault } = parsed(text);
    const found = {
      room: room === null ? t.againRoomFault : '',
      payload: fault === '' ? '' : t.notJson(fault),
      whole: '',
    };
    setFaults(found);
    if (room === null || found.payload !== '') return;
    setBusy(true);
    try {
      const { id } = await publish(access, { event: entry.event, payload, rooms: [room] });
      close(id);
    } catch (error) {
      setBusy(false);
      setFaults({ ...found, whole: (error as RoomcastError).message });
    }
  }

  return (
    <Dialog
      title={t.againTitle}
      action={t.againAction(room ?? '')}
      isBusy={isBusy}
      onClose={() => close(null)}
      onConfirm={() => void send()}
    >
      <p>{t.againText(room ?? '')}</p>
      <Field label={t.againRoom} value={typed} onInput={setTyped} fault={faults.room} placeholder="ticket:test" />
      <Field label={t.againPayload} value={text} onInput={setText} fault={faults.payload} rows={10} />
      {faults.whole !== '' && <Notice tone="bad">{faults.whole}</Notice>}
    </Dialog>
  );
}

/** The bridge takes an event with the same message id for the same event, and an older time for old news. */
function renewed({ event, payload }: LogEntry): Record<string, unknown> {
  const now = new Date().toISOString();
  return {
    ...payload,
    ...(event === MESSAGES_NEW && { messageId: `test-${Date.now().toString(36)}` }),
    ...('ticketUpdatedAt' in payload && { ticketUpdatedAt: now }),
    ...('messageUpdatedAt' in payload && { messageUpdatedAt: now }),
  };
}

function parsed(text: string): { readonly payload: Record<string, unknown>; readonly fault: string } {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      return { payload: value as Record<string, unknown>, fault: '' };
    }
    return { payload: {}, fault: '{ … }' };
  } catch (error) {
    return { payload: {}, fault: (error as Error).message };
  }
}

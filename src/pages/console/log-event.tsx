/** One event of the log in full, or what differs between two, and what the operator can do with it. */
import type { LogEntry } from '../../contract/log.ts';
import { printable } from '../../contract/printable.ts';
import type { Access } from './access.ts';
import { curlOf } from './curl.ts';
import { tenantOf } from './diagnosis.ts';
import { compare } from './difference.ts';
import { Button, Card, CopyButton, Fact, Json, Scroll, Time } from './elements.tsx';
import { bytes } from './format.ts';
import { hrefOf } from './route.ts';
import { openInPublish } from './test-events.ts';
import { logTexts } from './texts/log.ts';

interface LogEventProps {
  readonly access: Access;
  readonly entry: LogEntry;
  /** The event to compare with. */
  readonly pinned: LogEntry | null;
  readonly pin: (entry: LogEntry | null) => void;
}

export function LogEvent({ access, entry, pinned, pin }: LogEventProps) {
  const t = logTexts();
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
        <Button onClick={() => openInPublish({ event, payload, rooms })}>{t.again}</Button>
      </div>
      <p class="note" role="status">
        {pinned !== null && t.compareChoose}
      </p>
      <Json text={text} />
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

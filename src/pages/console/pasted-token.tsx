/** What the claims of a pasted token say. The text of the token is not here. */
import { formatRoom } from '../../contract/rooms.ts';
import { type Claims, isForAllTenants } from './claims.ts';
import { judgeClaims, type RoomTraffic } from './diagnosis.ts';
import { Badge, Card, Fact, Notice, Time } from './elements.tsx';
import { findingText, findTexts } from './texts/find.ts';

interface TokenCardProps {
  /** Null: they cannot be read. */
  readonly claims: Claims | null;
  readonly about: RoomTraffic | null;
}

export function TokenCard({ claims, about }: TokenCardProps) {
  const t = findTexts().token;
  if (claims === null) return <Notice tone="bad">{t.unreadable}</Notice>;
  const [first, ...others] = judgeClaims(claims, Date.now(), about);
  const isFine = first.code === 'fine';
  const { subject, tenants, scopes, expiresAtMs } = claims;
  return (
    <Card title={t.title} note={t.notKept}>
      <Notice tone={isFine ? 'good' : 'bad'} title={findingText(first)}>
        {others.length > 0 && (
          <ul>
            {others.map((finding) => (
              <li key={finding.code}>{findingText(finding)}</li>
            ))}
          </ul>
        )}
      </Notice>
      <dl class="facts">
        <Fact name={t.subject}>{subject === null ? t.noSubject : <bdi>{subject}</bdi>}</Fact>
        <Fact name={t.tenants}>
          <bdi>{tenants.join(', ') || '–'}</bdi>
        </Fact>
        <Fact name={t.scopes}>
          {scopes === null ? t.defaultScope : scopes.map((scope) => <Badge key={scope}>{scope}</Badge>)}
        </Fact>
        <Fact name={t.hears}>
          <bdi>{hearsOf(claims)}</bdi>
        </Fact>
        <Fact name={t.expires}>{expiresAtMs === null ? t.never : <Time at={expiresAtMs} />}</Fact>
      </dl>
    </Card>
  );
}

const MAX_NAMED = 10;

function hearsOf(claims: Claims): string {
  const t = findTexts().token;
  const { subject, tenants, scopes, named } = claims;
  if (isForAllTenants(claims) || tenants.length === 0 || scopes?.includes('subscribe') === false) return t.hearsNothing;
  const own = subject === null ? [] : [formatRoom('user', subject)];
  const rooms = [...named.flatMap((one) => one.rooms), ...own];
  if (named.length > 0) return t.hearsOnly(rooms.slice(0, MAX_NAMED).join(', ') || '–');
  return [...tenants.slice(0, MAX_NAMED).map(t.hearsTenant), ...own].join(', ');
}

/** Asks for a token if the bridge needs one, and says what the token allows. */
import { useState } from 'preact/hooks';
import { ALL_TENANTS } from '../../contract/rooms.ts';
import { type Access, type Claims, NEEDS_TOKENS } from './access.ts';
import { Badge, Button, Card, Fault, Field, Notice, useNow } from './elements.tsx';
import { duration } from './format.ts';
import { useModels } from './model.ts';
import type { StatsFeed } from './stats.ts';
import { tokenTexts } from './texts/token.ts';

interface TokenPanelProps {
  readonly access: Access;
  readonly feed: StatsFeed;
}

export function TokenPanel({ access, feed }: TokenPanelProps) {
  useModels(access, feed);
  const { token, claims } = access;
  const { error } = feed;
  const t = tokenTexts();
  const isRefused = feed.state === 'refused';
  if (!NEEDS_TOKENS) {
    // No token helps here; the bridge's message says what does.
    if (!isRefused || error === null) return null;
    return (
      <Notice tone="warn" title={t.closed}>
        <Fault error={error} />
      </Notice>
    );
  }
  if (token === null && !isRefused) return null;
  const forget = (
    <Button kind="quiet" onClick={() => access.setToken(null)}>
      {t.forget}
    </Button>
  );
  // A token that works takes one line; more on demand.
  if (!isRefused) {
    return (
      <section class="token" aria-label={t.title}>
        <details>
          <summary>
            {t.title}
            {claims !== null && <bdi>{[namesOf(claims.tenants).join(', '), ...claims.scopes].join(' · ')}</bdi>}
          </summary>
          {claims === null ? <p>{t.unreadable}</p> : <Summary claims={claims} />}
          {claims !== null && <Limits claims={claims} />}
        </details>
        {forget}
      </section>
    );
  }
  return (
    <Card title={t.title} actions={token !== null && forget}>
      {token === null && <p>{t.needed}</p>}
      {token !== null && (claims === null ? <p>{t.unreadable}</p> : <Summary claims={claims} />)}
      {claims !== null && <Limits claims={claims} />}
      {token !== null && error !== null && (
        <Notice tone="bad" title={t.refused}>
          <Fault error={error} />
        </Notice>
      )}
      <TokenForm access={access} label={token === null ? t.title : t.another} />
    </Card>
  );
}

function TokenForm({ access, label }: { readonly access: Access; readonly label: string }) {
  const [typed, setTyped] = useState('');
  const t = tokenTexts();
  return (
    <form
      class="inline"
      onSubmit={(event) => {
        event.preventDefault();
        if (typed.trim() === '') return;
        access.setToken(typed);
        setTyped('');
      }}
    >
      <Field type="password" label={label} value={typed} onInput={setTyped} isWide />
      <Button kind="primary" type="submit">
        {t.use}
      </Button>
    </form>
  );
}

const MAX_NAMED = 5;

function namesOf(tenants: readonly string[]): readonly string[] {
  const t = tokenTexts();
  if (tenants.includes(ALL_TENANTS)) return [t.all];
  return tenants.length === 0 ? [t.none] : tenants.slice(0, MAX_NAMED);
}

function Summary({ claims: { scopes, tenants, expiresAtMs } }: { readonly claims: Claims }) {
  const nowMs = useNow(1_000);
  const t = tokenTexts();
  const leftMs = expiresAtMs === null ? null : expiresAtMs - nowMs;
  return (
    <dl class="claims">
      <div>
        <dt>{t.tenants}</dt>
        <dd>
          {namesOf(tenants).map((id) => (
            <Badge key={id}>
              <bdi>{id}</bdi>
            </Badge>
          ))}
          {!tenants.includes(ALL_TENANTS) && tenants.length > MAX_NAMED && ` ${t.more(tenants.length - MAX_NAMED)}`}
        </dd>
      </div>
      <div>
        <dt>{t.scopes}</dt>
        <dd>
          {(scopes.length === 0 ? [t.none] : scopes).map((scope) => (
            <Badge key={scope}>{scope}</Badge>
          ))}
        </dd>
      </div>
      <div>
        <dt>{t.expires}</dt>
        <dd class={leftMs !== null && leftMs <= 0 ? 'bad' : ''}>
          {leftMs === null ? t.never : leftMs <= 0 ? t.expired : t.in(duration(leftMs / 1000))}
        </dd>
      </div>
    </dl>
  );
}

const NEEDED = ['admin', 'subscribe', 'publish'] as const;

function Limits({ claims: { scopes, tenants } }: { readonly claims: Claims }) {
  const t = tokenTexts();
  const missing = NEEDED.filter((scope) => !scopes.includes(scope));
  const cannotListen = tenants.includes(ALL_TENANTS) && scopes.includes('subscribe');
  if (missing.length === 0 && !cannotListen) return null;
  return (
    <ul class="note">
      {missing.map((scope) => (
        <li key={scope}>
          {t.without(scope)} {t.lacks[scope]}
        </li>
      ))}
      {cannotListen && <li>{t.allTenants}</li>}
    </ul>
  );
}

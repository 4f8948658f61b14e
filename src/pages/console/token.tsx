/** Asks for a token if the bridge needs one, and says what the token allows. */
import { useState } from 'preact/hooks';
import type { Access, Claims } from './access.ts';
import { duration } from './format.ts';
import { useModels } from './model.ts';
import type { StatsFeed } from './stats.ts';

const NEEDS = [
  ['admin', 'no statistics'],
  ['subscribe', 'no tail and no parity view'],
  ['publish', 'no publishing'],
] as const;

interface TokenPanelProps {
  readonly access: Access;
  readonly feed: StatsFeed;
}

export function TokenPanel({ access, feed }: TokenPanelProps) {
  useModels(access, feed);
  const [typed, setTyped] = useState('');
  const { token, claims } = access;
  const { state, error } = feed;
  if (token === null && state !== 'refused') return null;

  function submit(event: Event): void {
    event.preventDefault();
    if (typed.trim() === '') return;
    access.setToken(typed);
    setTyped('');
  }

  return (
    <section class="card token" aria-labelledby="token">
      <h3 id="token">Token</h3>
      {token === null ? (
        <p>
          This server needs a token. The page keeps it in this tab until you close the tab, and sends it in a header
          only.
        </p>
      ) : (
        <div class="bar">
          <p>{claims === null ? 'A token is in use, but this page cannot read its claims.' : summaryOf(claims)}</p>
          <button type="button" onClick={() => access.setToken(null)}>
            Forget token
          </button>
        </div>
      )}
      {state === 'refused' && error !== null && (
        <p class="fault">
          Statistics refused: {error.message} <code>{error.code}</code>
        </p>
      )}
      {claims !== null && <Limits claims={claims} />}
      {state === 'refused' && (
        <form class="inline" onSubmit={submit}>
          <label class="grow">
            {token === null ? 'Token' : 'Another token'}
            <input
              type="password"
              value={typed}
              autocomplete="off"
              spellcheck={false}
              onInput={(event) => setTyped(event.currentTarget.value)}
            />
          </label>
          <button type="submit" class="primary">
            Use token
          </button>
        </form>
      )}
    </section>
  );
}

const MAX_NAMED = 5;

function summaryOf({ scopes, tenants, expiresAtMs }: Claims): string {
  const leftMs = expiresAtMs === null ? null : expiresAtMs - Date.now();
  const expiry =
    leftMs === null
      ? 'It does not expire'
      : leftMs <= 0
        ? 'It has expired'
        : `It expires in ${duration(leftMs / 1000)}`;
  const more = tenants.length - MAX_NAMED;
  const named = `${tenants.slice(0, MAX_NAMED).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
  const whose = tenants.includes('*') ? 'all' : tenants.length === 0 ? 'none' : named;
  return `Tenants: ${whose}. Scopes: ${scopes.length === 0 ? 'none' : scopes.join(', ')}. ${expiry}.`;
}

function Limits({ claims: { scopes, tenants } }: { readonly claims: Claims }) {
  const missing = NEEDS.filter(([scope]) => !scopes.includes(scope));
  const cannotListen = tenants.includes('*') && scopes.includes('subscribe');
  return (
    <>
      {missing.length > 0 && (
        <ul class="note">
          {missing.map(([scope, effect]) => (
            <li key={scope}>
              Without <code>{scope}</code>: {effect}.
            </li>
          ))}
        </ul>
      )}
      {cannotListen && <p class="note">A token for all tenants cannot listen: no tail and no parity view.</p>}
    </>
  );
}

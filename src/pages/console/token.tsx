/** Asks for a token when the bridge wants one, says what a token lacks, and forgets it. */
import { useState } from 'preact/hooks';
import type { Access, Claims } from './access.ts';
import { duration } from './format.ts';
import { useChanges } from './model.ts';
import type { Figures } from './stats.ts';

const NEEDS = [
  ['admin', 'no figures'],
  ['subscribe', 'no tail and no parity view'],
  ['publish', 'no publishing'],
] as const;

interface TokenPanelProps {
  readonly access: Access;
  readonly figures: Figures;
}

export function TokenPanel({ access, figures }: TokenPanelProps) {
  useChanges(access.changes, figures.changes);
  const [typed, setTyped] = useState('');
  const { token, claims } = access;
  const { state, error } = figures;
  if (token === null && state !== 'refused') return null;

  function use(event: Event): void {
    event.preventDefault();
    if (typed.trim() === '') return;
    access.use(typed);
    setTyped('');
  }

  return (
    <section class="panel token" aria-labelledby="token">
      <h3 id="token">Token</h3>
      {token === null ? (
        <p>
          This bridge wants a token. It stays in this browser tab, is sent in a header only, and is gone when the tab is
          closed.
        </p>
      ) : (
        <div class="bar">
          <p>{claims === null ? 'A token is in use; what it says cannot be read here.' : saysOf(claims)}</p>
          <button type="button" onClick={() => access.forget()}>
            Forget the token
          </button>
        </div>
      )}
      {state === 'refused' && error !== null && (
        <p class="fault">
          Figures refused: {error.message} <code>{error.code}</code>
        </p>
      )}
      {claims !== null && <Lacks claims={claims} />}
      {state === 'refused' && (
        <form class="inline" onSubmit={use}>
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
            Use it
          </button>
        </form>
      )}
    </section>
  );
}

const MOST_NAMED = 5;

function named(tenants: readonly string[]): string {
  const more = tenants.length - MOST_NAMED;
  return `${tenants.slice(0, MOST_NAMED).join(', ')}${more > 0 ? ` and ${more} more tenants` : ''}`;
}

function saysOf({ scopes, tenants, expiresAtMs }: Claims): string {
  const leftMs = expiresAtMs === null ? null : expiresAtMs - Date.now();
  const ends =
    leftMs === null ? 'does not expire' : leftMs <= 0 ? 'has expired' : `expires in ${duration(leftMs / 1000)}`;
  const whose = tenants.includes('*') ? 'all tenants' : tenants.length === 0 ? 'no tenant' : named(tenants);
  return `The token is for ${whose}, with ${scopes.length === 0 ? 'no scope' : scopes.join(', ')}; it ${ends}.`;
}

function Lacks({ claims: { scopes, tenants } }: { readonly claims: Claims }) {
  const lacking = NEEDS.filter(([scope]) => !scopes.includes(scope));
  const cannotListen = tenants.includes('*') && scopes.includes('subscribe');
  return (
    <>
      {lacking.length > 0 && (
        <ul class="note">
          {lacking.map(([scope, what]) => (
            <li key={scope}>
              Without <code>{scope}</code>: {what}.
            </li>
          ))}
        </ul>
      )}
      {cannotListen && <p class="note">A token for all tenants listens to none: no tail and no parity view.</p>}
    </>
  );
}

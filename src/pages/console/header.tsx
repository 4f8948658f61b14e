/** Whether the bridge answers and over what the console hears it, on every view; changes are told to screen readers. */

import type { Access } from './access.ts';
import { isRefused, type Tailing } from './live-tail.ts';
import { useChanges } from './model.ts';
import type { Figures } from './stats.ts';
import { THEMES, type ThemeChoice } from './theme.ts';

interface HeaderProps {
  readonly figures: Figures;
  readonly tailing: Tailing;
  readonly access: Access;
  readonly theme: ThemeChoice;
}

const OVER = { websocket: 'websocket', sse: 'SSE', poll: 'polling' } as const;

export function Header({ figures, tailing, access, theme }: HeaderProps) {
  useChanges(figures.changes, tailing.changes, access.changes, theme.changes);
  return (
    <header>
      <h1>
        Roomcast <span class="note">console</span>
      </h1>
      <p class="statuses" role="status">
        <BridgeStatus figures={figures} />
        <TailStatus tailing={tailing} />
      </p>
      <label class="theme">
        <span class="hidden">Theme</span>
        <select
          value={theme.theme}
          onChange={(event) => theme.choose(event.currentTarget.value as ThemeChoice['theme'])}
        >
          {THEMES.map((name) => (
            <option key={name} value={name}>
              {name === 'system' ? 'System theme' : name === 'light' ? 'Light' : 'Dark'}
            </option>
          ))}
        </select>
      </label>
    </header>
  );
}

function BridgeStatus({ figures: { state, stats } }: { readonly figures: Figures }) {
  if (state === 'asking') return <span class="state">Asking the bridge</span>;
  if (state === 'away') return <span class="state bad">Bridge does not answer; asking again</span>;
  if (state === 'refused') return <span class="state">Bridge answers, figures refused</span>;
  if (stats?.node.draining) return <span class="state bad">Bridge is shutting down</span>;
  if (stats?.log.healthy === false) return <span class="state bad">Bridge lives, its log takes no events</span>;
  return <span class="state good">Bridge lives</span>;
}

function TailStatus({ tailing: { rooms, status } }: { readonly tailing: Tailing }) {
  if (rooms.length === 0) return <span class="state">Tail: no room</span>;
  if (rooms.every(isRefused)) return <span class="state bad">Tail: refused</span>;
  const { state, transport } = status;
  if (state === 'live') {
    return <span class="state good">Tail: live over {transport === null ? 'nothing yet' : OVER[transport]}</span>;
  }
  return <span class={state === 'connecting' ? 'state' : 'state bad'}>Tail: {state}</span>;
}

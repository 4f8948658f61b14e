/**
 * How a connection check's websocket handshake looked when it arrived here. A browser hides why a handshake failed, so a
 * check names itself in the handshake's query (`check=ID`) and asks afterwards at `GET /check/poll?id=ID`
 * (docs/check.md): a proxy that dropped `Upgrade` shows as a request without it.
 */
import type { IncomingMessage } from 'node:http';

/** Newest handshakes that a node remembers. Past that, the oldest is forgotten. */
const MAX_ARRIVALS = 1_000;
/** An id that a check may give itself. */
export const CHECK_ID = /^[\w-]{8,40}$/;

export interface Arrival {
  readonly httpVersion: string;
  /** It had `Upgrade: websocket`. */
  readonly hasUpgrade: boolean;
  /** Its `Connection` named the upgrade. Without that, `Upgrade` counts for nothing (RFC 9110 §7.8). */
  readonly hasConnection: boolean;
}

export interface CheckArrivals {
  /** @param id the query's `check`; nothing is noted unless it is a check's id */
  note(id: string, request: Pick<IncomingMessage, 'httpVersion' | 'headers'>): void;
  find(id: string): Arrival | null;
}

export function createCheckArrivals(): CheckArrivals {
  const arrivals = new Map<string, Arrival>();
  return {
    note(id, { httpVersion, headers: { upgrade, connection } }) {
      if (!CHECK_ID.test(id)) return;
      arrivals.delete(id);
      arrivals.set(id, {
        httpVersion,
        hasUpgrade: /^\s*websocket\s*$/i.test(upgrade ?? ''),
        hasConnection: /(^|,)\s*upgrade\s*(,|$)/i.test(connection ?? ''),
      });
      for (const oldest of arrivals.keys()) {
        if (arrivals.size <= MAX_ARRIVALS) break;
        arrivals.delete(oldest);
      }
    },
    find: (id) => arrivals.get(id) ?? null,
  };
}

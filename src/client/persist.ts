/**
 * What a client keeps for the next connection: its cursor, and the transport that worked, so that the next connection to
 * the origin begins there. The transport counts for ten minutes, since networks change, and only among connections that
 * allow the same transports. It is kept in the page and, like the cursor, in the application's storage if there is one.
 */
import type { TransportName } from './events.ts';

/** The part of the Web Storage API that the client uses. */
export interface Memory {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
}

const EXPIRES_MS = 600_000;
const inPage = new Map<string, string>();

/** Storage that is missing, forbidden or full keeps nothing, and never throws. */
export function tolerant(memory: Memory | null | undefined): Memory {
  const attempt = <T>(act: () => T): T | null => {
    try {
      return act();
    } catch {
      return null; // the log has the events, and the picker finds the transport again
    }
  };
  return {
    getItem: (key) => attempt(() => memory?.getItem(key) ?? null),
    setItem: (key, value) => void attempt(() => memory?.setItem(key, value)),
  };
}

export function recallTransport(key: string, memory: Memory): TransportName | null {
  const text = inPage.get(key) ?? memory.getItem(key);
  const [transport, expiresAtMs] = text?.split(' ') ?? [];
  return Number(expiresAtMs) > Date.now() ? (transport as TransportName) : null;
}

export function rememberTransport(key: string, transport: TransportName, memory: Memory): void {
  const text = `${transport} ${Date.now() + EXPIRES_MS}`;
  inPage.set(key, text);
  memory.setItem(key, text);
}

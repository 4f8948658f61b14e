/**
 * How many requests may stay open. Over HTTP/1.1 a browser opens six connections to an origin, for all of its tabs: eight
 * tabs with a stream each would leave two of them deaf, and no plain request would be answered. So all tabs together hold
 * at most four streams and one waiting poll. Over HTTP/2 and 3, and outside of browsers, there is no limit.
 */

import { aborted, lockManager } from '../tabs/locks.ts';
import type { OpenConnection } from './connection.ts';

const SLOTS = { sse: 4, poll: 1 } as const;

/** False if other tabs have all of them. What is taken is released when the signal aborts. */
export async function takeSlot(kind: keyof typeof SLOTS, url: URL, until: AbortSignal): Promise<boolean> {
  const locks = lockManager();
  if (locks === null || !isHttp1(url)) return true;
  for (let slot = 1; slot <= SLOTS[kind]; slot++) {
    const isFree = await new Promise<boolean>((resolve) => {
      const hold = (lock: object | null): Promise<void> | undefined => {
        resolve(lock !== null);
        return lock ? aborted(until) : undefined;
      };
      // An opaque origin has no locks.
      locks.request(`roomcast:${kind}:${url.origin}:${slot}`, { ifAvailable: true }, hold).catch(() => resolve(true));
    });
    if (isFree) return true;
  }
  return false;
}

/** A stream that takes a slot for as long as it is open, and ends if there is none. */
export const withinSlots =
  (open: OpenConnection): OpenConnection =>
  (options, events) => {
    const life = new AbortController();
    const connection = open(options, events);
    const slot = takeSlot('sse', options.http.url, life.signal);
    return {
      ...connection,
      async attach() {
        const isFree = await slot;
        if (life.signal.aborted) return;
        if (isFree) connection.attach();
        else events.ended({ isCrowded: true });
      },
      close() {
        life.abort();
        connection.close();
      },
    };
  };

interface ResourceTiming {
  readonly name: string;
  /** Empty where the browser does not tell. */
  readonly nextHopProtocol: string;
}

/** What the newest answer came over; while that is not known, HTTP/2 where there is TLS. */
function isHttp1({ origin, protocol }: URL): boolean {
  if (!('document' in globalThis)) return false;
  const answers = performance.getEntriesByType('resource') as object[] as ResourceTiming[];
  const newest = answers.findLast(({ name, nextHopProtocol }) => nextHopProtocol && name.startsWith(`${origin}/`));
  return newest?.nextHopProtocol.startsWith('http/1') ?? protocol === 'http:';
}

/**
 * How many requests may stay open. Over HTTP/1.1 a browser opens six connections to an origin, for all of its tabs: eight
 * tabs with a stream each would leave two of them deaf, and no plain request would be answered. So all tabs together hold
 * at most four streams and one waiting poll. Over HTTP/2 and 3, and outside of browsers, there is no limit.
 */
import type { OpenConnection } from './connection.ts';
import { aborted, lockManager } from './locks.ts';

const SLOTS = { sse: 4, poll: 1 } as const;

/** False if other tabs have all of them. What is taken is released when the signal aborts. */
export async function takeSlot(kind: keyof typeof SLOTS, url: URL, until: AbortSignal): Promise<boolean> {
  const locks = lockManager();
  if (locks === null || !isHttp1(url)) return true;
  const take = (name: string): Promise<boolean> =>
    new Promise((resolve) => {
      const hold = (lock: object | null): Promise<void> | void => {
        resolve(lock !== null);
        return lock === null ? undefined : aborted(until);
      };
      // An opaque origin has no locks.
      locks.request(name, { ifAvailable: true }, hold).catch(() => resolve(true));
    });
  for (let slot = 1; slot <= SLOTS[kind]; slot++) {
    if (await take(`roomcast:${kind}:${url.origin}:${slot}`)) return true;
  }
  return false;
}

/** A stream that takes a slot for as long as it is open, and ends if there is none. */
export const withinSlots =
  (open: OpenConnection): OpenConnection =>
  (options, events) => {
    const life = new AbortController();
    const connection = open(options, events);
    let slot: Promise<boolean> | null = null;
    return {
      ...connection,
      async attach() {
        slot ??= takeSlot('sse', options.http.url, life.signal);
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

/** What the newest answer came over; if the browser does not tell, it may be HTTP/2 where there is TLS. */
function isHttp1({ origin, protocol }: URL): boolean {
  if (!('document' in globalThis)) return false;
  const used = performance
    .getEntriesByType('resource')
    .filter(({ name }) => name.startsWith(`${origin}/`))
    .map((entry) => (entry as unknown as { readonly nextHopProtocol: string }).nextHopProtocol)
    .filter((name) => name !== '');
  return used.length > 0 ? /^http\/1/.test(used.at(-1) as string) : protocol === 'http:';
}

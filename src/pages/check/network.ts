/** How the page reaches the bridge: `fetch` and socket.io-client, as any application in this browser does. */
import { io } from 'socket.io-client';
import { Fault } from '../../check/result.ts';
import type { Network } from '../../check/run.ts';

/** The bridge's base: what stands before `/check` in the page's address. */
const BASE = new URL('.', location.href);

export function createBrowserNetwork(): Network {
  return {
    async request(path, { accept, signal }) {
      try {
        // A redirect is told as such, and not followed to a page of the network's.
        const answer = await fetch(new URL(path, BASE), {
          headers: { accept },
          cache: 'no-store',
          redirect: 'manual',
          signal,
        });
        return {
          status: answer.status,
          wasRedirected: answer.type === 'opaqueredirect',
          header: (name) => answer.headers.get(name),
          pieces: piecesOf(answer),
        };
      } catch (cause) {
        throw new Fault(navigator.onLine ? 'unreachable' : 'offline', '', { cause });
      }
    },
    connect(transport, socketPath, timeoutMs) {
      return io(new URL('/check', BASE).href, {
        path: socketPath,
        transports: [transport],
        forceNew: true,
        reconnection: false,
        timeout: timeoutMs,
        withCredentials: true,
      });
    },
  };
}

/** Not every browser's streams can be iterated over. */
async function* piecesOf({ body }: Response): AsyncGenerator<Uint8Array> {
  const reader = body?.getReader();
  for (;;) {
    const { done = true, value } = (await reader?.read()) ?? {};
    if (done) return;
    if (value !== undefined) yield value;
  }
}

/** The `Network` of the page: `fetch` and socket.io-client, as any application in this browser uses them. */
import { io } from 'socket.io-client';
import type { Network } from '../../check/network.ts';
import { CheckError } from '../../check/result.ts';

/** The page is `{base}/check`. */
const BASE = new URL('.', location.href);

export const browserNetwork: Network = {
  async request(path, { accept, signal }) {
    try {
      const url = new URL(path, BASE);
      const response = await fetch(url, {
        headers: { accept },
        cache: 'no-store',
        redirect: 'manual',
        signal,
      });
      return {
        status: response.status,
        wasRedirected: response.type === 'opaqueredirect',
        header: (name) => response.headers.get(name),
        protocol: protocolOf(url.href),
        body: chunksOf(response),
      };
    } catch (cause) {
      throw new CheckError(navigator.onLine ? 'unreachable' : 'offline', '', { cause });
    }
  },
  connect(transport, { socketPath, timeoutMs, query }) {
    return io(new URL('/check', BASE).href, {
      path: socketPath,
      query,
      transports: [transport],
      forceNew: true,
      reconnection: false,
      timeout: timeoutMs,
      withCredentials: true,
    });
  },
};

/** What the newest request to the URL was sent over, as far as the browser tells. */
function protocolOf(url: string): string | null {
  const [newest] = performance.getEntriesByName(url, 'resource').slice(-1) as PerformanceResourceTiming[];
  return newest?.nextHopProtocol || null;
}

/** Not every browser can iterate over a ReadableStream. */
async function* chunksOf({ body }: Response): AsyncGenerator<Uint8Array> {
  const reader = body?.getReader();
  for (;;) {
    const { done = true, value } = (await reader?.read()) ?? {};
    if (done) return;
    if (value !== undefined) yield value;
  }
}

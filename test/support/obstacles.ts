/**
 * An HTTP intermediary with the bad habits of real ones, each to be turned on and off while connections live: it refuses
 * upgrades, or accepts them and drops the frames; it holds a stream back until its end; it cuts everything now and then.
 */
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import { until } from './until.ts';

export interface Habits {
  /** `bad-gateway`, `unavailable`: 502; 503 with a Retry-After of an hour. `hang`: takes what is asked, and never answers. */
  bridge: 'up' | 'bad-gateway' | 'unavailable' | 'hang';
  /** `swallow`: the handshake passes, what the server sends after it does not. */
  upgrade: 'pass' | 'refuse' | 'swallow';
  /** `hold`: nothing more of the answer passes before it has ended. `compress`: the same, and then compressed. */
  sse: 'pass' | 'hold' | 'compress' | 'refuse';
  /** `hold`: no answer passes while it is so. */
  polls: 'pass' | 'hold' | 'refuse';
  /** A poll's answer that is longer is cut off in the middle. */
  mostPollBytes: number;
  /** Cuts every connection so often; 0: never. */
  cutEveryMs: number;
}

export interface Obstacle {
  readonly url: string;
  readonly habits: Habits;
  /** The method and URL of every request so far, as it arrived. */
  readonly seen: string[];
  /** How often everything was cut. */
  readonly cuts: number;
  retarget(url: string): void;
  cut(): void;
  close(): Promise<void>;
}

export async function startObstacle(targetUrl: string, initial: Partial<Habits> = {}): Promise<Obstacle> {
  const habits: Habits = {
    bridge: 'up',
    upgrade: 'pass',
    sse: 'pass',
    polls: 'pass',
    mostPollBytes: Infinity,
    cutEveryMs: 0,
    ...initial,
  };
  const seen: string[] = [];
  const sockets = new Set<Socket>();
  let target = new URL(targetUrl);

  function relay(incoming: IncomingMessage, outgoing: ServerResponse): void {
    seen.push(`${incoming.method} ${incoming.url}`);
    if (habits.bridge === 'hang') return;
    if (habits.bridge !== 'up') {
      const status = habits.bridge === 'unavailable' ? 503 : 502;
      outgoing.writeHead(status, status === 503 ? { 'retry-after': '3600' } : {}).end();
      return;
    }
    const isSse = /^\/(sse|check\/stream)\b/.test(incoming.url ?? '');
    const isPoll = incoming.method === 'GET' && incoming.url?.startsWith('/events') === true;
    if ((isSse && habits.sse === 'refuse') || (isPoll && habits.polls === 'refuse')) {
      outgoing.writeHead(403, { 'content-type': 'text/html' }).end('<h1>Blocked</h1>');
      return;
    }
    const upstream = request(
      { port: target.port, path: incoming.url, method: incoming.method, headers: incoming.headers },
      async (answer) => {
        if (isPoll) await until('polls pass', () => habits.polls !== 'hold');
        const held: Buffer[] = [];
        // What is held stays held, also when the habit is given up.
        let isCaught = false;
        const isHeld = (): boolean => {
          isCaught ||= isSse && (habits.sse === 'hold' || habits.sse === 'compress');
          return isCaught;
        };
        const begin = (): void => {
          if (!outgoing.headersSent) outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
          outgoing.flushHeaders();
        };
        if (!isHeld()) begin();
        let bytes = 0;
        answer.on('data', (chunk: Buffer) => {
          bytes += chunk.length;
          if (isPoll && bytes > habits.mostPollBytes) outgoing.destroy();
          else if (isHeld()) held.push(chunk);
          else outgoing.write(chunk);
        });
        answer.on('end', () => {
          const isCompressed = isSse && habits.sse === 'compress';
          if (isCompressed) answer.headers['content-encoding'] = 'gzip';
          begin();
          outgoing.end(isCompressed ? gzipSync(Buffer.concat(held)) : Buffer.concat(held));
        });
      },
    );
    upstream.on('error', () => outgoing.destroy());
    outgoing.on('close', () => upstream.destroy());
    incoming.pipe(upstream);
  }

  const server = createServer(relay);
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).on('close', () => sockets.delete(socket));
  });
  server.on('upgrade', (incoming, client: Socket, head) => {
    seen.push(`UPGRADE ${incoming.url}`);
    if (habits.bridge === 'hang') return;
    if (habits.upgrade === 'refuse' || habits.bridge !== 'up') {
      client.end('HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
      return;
    }
    const upstream = connect(Number(target.port), target.hostname, () => {
      const headers = Object.entries(incoming.headers).map(([name, value]) => `${name}: ${value}\r\n`);
      upstream.write(`GET ${incoming.url} HTTP/1.1\r\n${headers.join('')}\r\n`);
      upstream.write(head);
      client.pipe(upstream);
    });
    let handshake = '';
    upstream.on('data', (chunk: Buffer) => {
      const end = handshake.indexOf('\r\n\r\n');
      if (end !== -1) {
        if (habits.upgrade === 'pass') client.write(chunk);
        return;
      }
      const before = handshake.length;
      handshake += chunk.toString('latin1');
      const headEnd = handshake.indexOf('\r\n\r\n');
      const passes = habits.upgrade === 'pass' || headEnd === -1 ? chunk.length : headEnd + 4 - before;
      client.write(chunk.subarray(0, passes));
    });
    const end = (): void => {
      client.destroy();
      upstream.destroy();
    };
    for (const socket of [client, upstream]) socket.on('error', end).on('close', end);
  });
  await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve));

  let cuts = 0;
  const cut = (): void => {
    cuts++;
    for (const socket of sockets) socket.destroy();
  };
  let cutAtMs = performance.now();
  const cutting = setInterval(() => {
    if (habits.cutEveryMs === 0 || performance.now() - cutAtMs < habits.cutEveryMs) return;
    cutAtMs = performance.now();
    cut();
  }, 20);
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    habits,
    seen,
    get cuts() {
      return cuts;
    },
    retarget(url) {
      target = new URL(url);
    },
    cut,
    async close() {
      clearInterval(cutting);
      cut();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

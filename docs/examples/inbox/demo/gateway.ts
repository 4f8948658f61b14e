/**
 * A small proxy in front of the bridge, which does what bad networks do: it cuts websockets, refuses upgrades, refuses SSE.
 * Whatever it cuts is a real socket. The page knows nothing of it.
 */
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import type { Duplex } from 'node:stream';

export type Way = 'websocket' | 'sse';

export interface Gateway {
  readonly url: string;
  readonly isBlocked: Readonly<Record<Way, boolean>>;
  /** Closes all connections of this kind. Clients may come back at once. */
  cut(way: Way): void;
  /** Cuts them, and answers 403 to new ones. */
  block(way: Way): void;
  allow(way: Way): void;
  close(): void;
}

const HOST = '127.0.0.1';

/** @param targetPort where the bridge listens; asked for each connection */
export async function startGateway(port: number, targetPort: () => number): Promise<Gateway> {
  const isBlocked = { websocket: false, sse: false };
  const open = { websocket: new Set<Duplex>(), sse: new Set<Duplex>() };

  function track(way: Way, socket: Duplex): void {
    open[way].add(socket);
    socket.once('close', () => open[way].delete(socket));
  }

  function relay(incoming: IncomingMessage, outgoing: ServerResponse): void {
    if (incoming.url?.startsWith('/sse')) {
      if (isBlocked.sse) {
        outgoing.writeHead(403, { 'content-type': 'text/plain' }).end('SSE is blocked.\n');
        return;
      }
      track('sse', incoming.socket);
    }
    const { method, url: path, headers } = incoming;
    const upstream = request({ host: HOST, port: targetPort(), method, path, headers, agent: false });
    upstream.on('response', (answer) => {
      const { connection, ...kept } = answer.headers; // it is about the connection behind
      outgoing.writeHead(answer.statusCode ?? 502, kept);
      outgoing.flushHeaders();
      answer.on('error', () => outgoing.destroy());
      answer.pipe(outgoing);
    });
    upstream.on('error', () => outgoing.destroy()); // also when the bridge is dead
    outgoing.on('close', () => upstream.destroy());
    incoming.pipe(upstream);
  }

  function relayUpgrade({ method, url, rawHeaders }: IncomingMessage, client: Duplex, head: Buffer): void {
    if (isBlocked.websocket) {
      client.end('HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
      return;
    }
    track('websocket', client);
    const upstream = connect(targetPort(), HOST, () => {
      const lines = rawHeaders.map((text, index) => (index % 2 === 0 ? `\r\n${text}: ` : text));
      upstream.write(`${method} ${url} HTTP/1.1${lines.join('')}\r\n\r\n`);
      upstream.write(head);
      client.pipe(upstream).pipe(client);
    });
    const end = (): void => {
      client.destroy();
      upstream.destroy();
    };
    for (const socket of [client, upstream]) socket.on('error', end).on('close', end);
  }

  const server = createServer(relay).on('upgrade', relayUpgrade);
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, HOST, resolve));

  function cut(way: Way): void {
    for (const socket of open[way]) socket.destroy();
  }
  return {
    url: `http://${HOST}:${(server.address() as AddressInfo).port}`,
    isBlocked,
    cut,
    block(way) {
      isBlocked[way] = true;
      cut(way);
    },
    allow(way) {
      isBlocked[way] = false;
    },
    close() {
      for (const way of ['websocket', 'sse'] as const) cut(way);
      server.closeAllConnections();
      server.close();
    },
  };
}

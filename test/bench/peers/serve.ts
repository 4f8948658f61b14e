/** What the peers share: where they say that they listen, and how they end. Their ways to fan out stand in each. */
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import type { AddressInfo, Server as NetServer } from 'node:net';

export interface Envelope {
  readonly event: string;
  readonly payload: { readonly tenantId: string };
}

/** Listens on a free port of the loopback address and prints it as one JSON line; ends with its parent. */
export function announce(server: Server | NetServer): void {
  server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
    const { port } = server.address() as AddressInfo;
    console.log(JSON.stringify({ port }));
  });
  process.on('disconnect', () => process.exit(0));
  process.on('SIGTERM', () => process.exit(0));
}

export function createHttpServer(handle?: RequestListener): Server {
  const server = createServer(handle);
  server.keepAliveTimeout = 75_000;
  return server;
}

export function readBody(request: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => resolve(Buffer.concat(parts).toString()));
    request.on('error', reject);
  });
}

export async function readEnvelope(request: IncomingMessage): Promise<Envelope> {
  return JSON.parse(await readBody(request)) as Envelope;
}

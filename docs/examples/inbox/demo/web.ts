/**
 * The page's own server, which in your application is your API server: it serves the page, takes the answers that agents
 * write, and, for the panel only, takes its buttons and tells every open page what they did.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname } from 'node:path';
import { json } from 'node:stream/consumers';

export interface Web {
  readonly origin: string;
  /** Sends an event to the panel of each open page. */
  tell(event: string, data: unknown): void;
  close(): void;
}

export interface WebOptions {
  readonly port: number;
  /** What each path holds. */
  file(path: string): string | undefined;
  /** What a page posts. Rejects what it does not take. */
  take(path: string, body: unknown): Promise<void>;
  /** A panel has opened: what it should know first. */
  greet(): readonly (readonly [event: string, data: unknown])[];
  /** How many pages are open has changed. */
  watched(pages: number): void;
}

const TYPES: Record<string, string> = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };

export async function startWeb({ port, file, take, greet, watched }: WebOptions): Promise<Web> {
  const panels = new Set<ServerResponse>();
  const block = (event: string, data: unknown): string => `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;

  /** Beside the bridge, so that it works whatever the buttons do to the bridge. */
  function openPanel(response: ServerResponse): void {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    for (const [event, data] of greet()) response.write(block(event, data));
    panels.add(response);
    watched(panels.size);
    response.once('close', () => {
      panels.delete(response);
      watched(panels.size);
    });
  }

  async function post(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // Another website must not press the buttons.
    if (request.headers.origin !== origin) return void response.writeHead(403).end();
    try {
      await take(request.url ?? '', await json(request));
      response.writeHead(202).end();
    } catch (error) {
      response.writeHead(400, { 'content-type': 'text/plain' }).end(String(error));
    }
  }

  const server = createServer((request, response) => {
    if (request.method === 'POST') return void post(request, response);
    if (request.url === '/panel') return openPanel(response);
    const path = request.url === '/' ? '/index.html' : (request.url ?? '');
    const text = file(path);
    response.writeHead(text === undefined ? 404 : 200, {
      'content-type': `${TYPES[extname(path)] ?? 'text/plain'}; charset=utf-8`,
      'cache-control': 'no-cache',
    });
    response.end(text ?? 'Not here.');
  });
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve));
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    origin,
    tell(event, data) {
      for (const panel of panels) panel.write(block(event, data));
    },
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

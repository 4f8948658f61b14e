/**
 * `npm run demo`: a bridge, an inbox page, and a synthetic day of events that are published until you stop it.
 * Open the page in two windows: each is an agent, and they see each other.
 *
 * The page has another origin than the bridge, as a front end usually has. `BRIDGE_PORT` and `PAGE_PORT` choose the ports
 * (default 4003 and 4004; 0 takes any free port). Stop and restart the demo to see the page reconnect.
 */
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname } from 'node:path';
import { json } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import { build } from 'esbuild';
import { createBridge } from '../../../src/bridge.ts';
import { createPublisher } from '../../../src/client/publisher.ts';
import { answer, createDay, type Step } from './day.ts';

const here = new URL('.', import.meta.url).pathname;
const page = createServer((request, response) => {
  if (request.method === 'POST') {
    reply(request).then(
      () => response.writeHead(202).end(),
      () => response.writeHead(400).end(),
    );
    return;
  }
  const file = files.get(request.url ?? '') ?? files.get('/index.html');
  response.writeHead(200, { 'content-type': file?.type }).end(file?.text);
});
await new Promise<void>((resolve) => page.listen(Number(process.env.PAGE_PORT ?? 4004), '127.0.0.1', resolve));
const origin = `http://127.0.0.1:${(page.address() as AddressInfo).port}`;

const bridge = await createBridge({
  port: Number(process.env.BRIDGE_PORT ?? 4003),
  storeUrl: process.env.STORE_URL ?? 'sqlite::memory:',
  signals: ['tickets.viewing', 'tickets.typing', 'agents.online'],
  corsOrigins: [origin, origin.replace('127.0.0.1', 'localhost')],
  logLevel: 'warn',
});
const { url } = await bridge.listen();

const { outputFiles } = await build({
  stdin: {
    contents: readFileSync(`${here}page.js`, 'utf8').replace('__BRIDGE__', url),
    resolveDir: here,
    sourcefile: 'page.js',
  },
  alias: { 'roomcast/client': new URL('../../../src/client/client.ts', import.meta.url).pathname },
  bundle: true,
  splitting: true,
  format: 'esm',
  outdir: '/',
  entryNames: 'page',
  write: false,
});
const TYPES: Record<string, string> = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };
const served = [{ path: '/index.html', text: readFileSync(`${here}index.html`, 'utf8') }, ...outputFiles];
const files = new Map(served.map(({ path, text }) => [path, { type: `${TYPES[extname(path)]}; charset=utf-8`, text }]));
console.log(`The bridge: ${url}\nThe inbox:  ${origin}`);

const publisher = createPublisher({ url });
const stopping = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stopping.abort());
await play(createDay());
await publisher.close();
await bridge.close();
page.closeAllConnections();
page.close();

/** Publishes what happens, until it is over or you stop the demo. */
async function play(steps: Iterable<Step>): Promise<void> {
  const report = (error: Error) => console.error(error.message);
  for (const step of steps) {
    if ('event' in step) publisher.publish(step.event, step.payload).catch(report);
    else post('/signals', step.signal).catch(report);
    await pause(step.thenMs, undefined, { signal: stopping.signal }).catch(() => {});
    if (stopping.signal.aborted) break;
  }
}

async function post(path: string, body: object): Promise<void> {
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(url + path, { method: 'POST', headers, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(await response.text());
}

/** An agent's page sends a reply to its API server, which publishes it. Here that is this program. */
async function reply(request: IncomingMessage): Promise<void> {
  const { ticketId, content, author } = (await json(request)) as Record<string, unknown>;
  play(answer(String(ticketId), String(content), String(author)));
}

/**
 * `npm run demo`: a bridge, an inbox page, and a synthetic day of events that are published until you stop it.
 *
 * The page has another origin than the bridge, as a front end usually has. `BRIDGE_PORT` and `PAGE_PORT` choose the ports
 * (default 4003 and 4004; 0 takes any free port). Stop and restart the demo to see the page reconnect.
 */
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { build } from 'esbuild';
import { createBridge } from '../../../src/bridge.ts';
import { createPublisher } from '../../../src/client/publisher.ts';
import { createDay } from './day.ts';

const here = new URL('.', import.meta.url).pathname;
const page = createServer((request, response) => {
  const file = files.get(request.url ?? '') ?? files.get('/');
  response.writeHead(200, { 'content-type': file?.type }).end(file?.text);
});
await new Promise<void>((resolve) => page.listen(Number(process.env.PAGE_PORT ?? 4004), '127.0.0.1', resolve));
const origin = `http://127.0.0.1:${(page.address() as AddressInfo).port}`;

const bridge = await createBridge({
  port: Number(process.env.BRIDGE_PORT ?? 4003),
  storeUrl: process.env.STORE_URL ?? 'sqlite::memory:',
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
const files = new Map<string, { readonly type: string; readonly text: string }>([
  ['/', { type: 'text/html; charset=utf-8', text: readFileSync(`${here}index.html`, 'utf8') }],
  ...outputFiles.map(({ path, text }) => [path, { type: 'text/javascript; charset=utf-8', text }] as const),
]);
console.log(`The bridge: ${url}\nThe inbox:  ${origin}`);

const publisher = createPublisher({ url });
const stopping = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stopping.abort());
for (const { event, payload, afterMs } of createDay()) {
  await pause(afterMs, undefined, { signal: stopping.signal }).catch(() => {});
  if (stopping.signal.aborted) break;
  publisher.publish(event, payload).catch((error: Error) => console.error(error.message));
}
await publisher.close();
await bridge.close();
page.closeAllConnections();
page.close();

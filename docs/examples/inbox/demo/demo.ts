/**
 * `npm run demo`: an inbox whose network you can break. A bridge in a process of its own, a gateway in front of it, the page
 * and its server, and people who write while a page is open. Open the page in two windows: each is an agent, and they see
 * each other.
 *
 *   page ── gateway ── bridge ── log (a SQLite file)
 *                        └───── publisher, simulated agents
 *
 * The page has another origin than the bridge, as a front end usually has. `BRIDGE_PORT` and `PAGE_PORT` choose the ports
 * (default 4003 and 4004; 0 takes any free port). `STORE_URL` keeps the log; without it, the log ends with the demo.
 * `PACE=0.5` lets people write twice as fast.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createPublisher } from '../../../../src/client/publisher.ts';
import { bundlePage } from './bundle.ts';
import { createDay } from './day.ts';
import { startGateway } from './gateway.ts';
import { createServer } from './server.ts';
import { startWeb } from './web.ts';

/** Events that may wait for a server that is away. Past that, the people of the day wait. */
const MOST_WAITING = 40;
/** The publisher tries for a day: you may leave the server dead for as long as you like. */
const RETRY_MS = 86_400_000;

const portOf = (name: string, byDefault: number): number => Number(process.env[name] ?? byDefault);
const explain = (name: string) => (error: NodeJS.ErrnoException) => {
  console.error(`${error.message}. Stop what uses this port, or set ${name}.`);
  process.exit(1);
};

const directory = mkdtempSync(join(tmpdir(), 'roomcast-demo-'));
process.once('exit', () => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }));

const server = createServer({ STORE_URL: process.env.STORE_URL ?? `sqlite:${join(directory, 'log.db')}` }, tellState);
const gateway = await startGateway(portOf('BRIDGE_PORT', 4003), () => server.port).catch(explain('BRIDGE_PORT'));
let tell: ((event: string, data: unknown) => void) | null = null; // once the page is served
await server.start();
const url = `http://127.0.0.1:${server.port}`; // the services are behind the gateway: it is the page's network

/** Each event has a number, in the order of publishing. The page checks every one of them: count.js. */
const run = Date.now().toString(36);
let published = 0;
/** How many events waited when the panels were last told: more than 0 only while the server is away, and shortly after. */
let waiting = 0;
const publisher = createPublisher({ url, retryMs: RETRY_MS });
function publish(event: string, payload: object): void {
  published += 1;
  const numbered = { ...payload, demo: { run, number: published, at: Date.now() } };
  publisher
    .publish(event, numbered)
    .catch((error: Error) => console.error(error.message))
    .finally(() => {
      if (waiting > 0) tellState();
    });
  if (!server.isUp) tellState();
}

const day = createDay({
  url,
  publish,
  customerTypes(ticketId, name, ttlSeconds) {
    const typing = { name, by: 'customer' };
    publisher.signal('tickets.typing', `ticket:${ticketId}`, typing, { ttlSeconds }).catch(() => {}); // the server is dead
  },
  pace: Number(process.env.PACE ?? 1),
  isJammed: () => publisher.pending >= MOST_WAITING,
});
day.tellPast();
await publisher.flush();

function state() {
  waiting = server.isUp && waiting === 0 ? 0 : publisher.pending;
  return { blocked: gateway.isBlocked, isUp: server.isUp, waiting };
}
function tellState(): void {
  tell?.('state', state());
}

const BUTTONS: Readonly<Record<string, () => void | Promise<void>>> = {
  cut: () => gateway.cut('websocket'),
  'block-websocket': () => gateway.block('websocket'),
  'allow-websocket': () => gateway.allow('websocket'),
  'block-sse': () => gateway.block('sse'),
  'allow-sse': () => gateway.allow('sse'),
  kill: () => server.kill(),
  start: () => server.start(),
};

async function take(path: string, body: unknown): Promise<void> {
  if (path === '/replies') return answer(body as Record<string, unknown>);
  const name = path.replace('/buttons/', '');
  const press = BUTTONS[name];
  if (press === undefined) throw new Error('There is no such button.');
  // Told before it shows; a start, when it is over.
  if (name !== 'start') tell?.('pressed', name);
  await press();
  if (name === 'start') tell?.('pressed', name);
  tellState();
}

/** An agent's page sends a reply to its API server, which publishes it. Here that is this program. */
function answer({ ticketId, messageId, content, author }: Record<string, unknown>): void {
  if (!/^[\w-]{1,64}$/.test(String(messageId))) throw new Error('A reply needs a messageId.');
  const isKnown = day.answer(String(ticketId), String(messageId), String(content).slice(0, 4_000), String(author));
  if (!isKnown) throw new Error('There is no such ticket.');
}

let watching: AbortController | null = null;
const files = await bundlePage(gateway.url);
const web = await startWeb({
  port: portOf('PAGE_PORT', 4004),
  file: (path) => files.get(path),
  take,
  greet: () => [['state', state()]],
  watched(pages) {
    if (pages === 0) watching?.abort();
    else if (watching === null || watching.signal.aborted) {
      watching = new AbortController();
      day.run(watching.signal);
    }
  },
}).catch(explain('PAGE_PORT'));
tell = web.tell;
console.log(`The bridge: ${gateway.url}\nThe inbox:  ${web.origin}`);

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, stop);
async function stop(): Promise<void> {
  watching?.abort();
  web.close();
  await publisher.close(server.isUp ? 2_000 : 0);
  await server.stop();
  gateway.close();
  process.exit();
}

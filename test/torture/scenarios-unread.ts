/** Clients that ask and do not read: their answers wait within bounds, and other callers notice nothing. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { underAttack } from './attack.ts';
import type { Objection } from './checker.ts';
import { sqlite } from './scenarios-crash.ts';
import type { Server } from './server.ts';
import { type Kit, onStage, type Verdict } from './stage.ts';

const TENANT = 'large';
const TICKETS = 1_000;
const TICKET_BYTES = 8_000;
const BATCH = 100;
/** Requests in one packet. Their answers would take gigabytes. */
const PIPELINED = 400;
const PER_ADDRESS = 5;
const UNREAD = 25;

const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`;

async function publishAll(server: Server, events: readonly { event: string; payload: object }[]): Promise<void> {
  for (let at = 0; at < events.length; at += BATCH) {
    const body = JSON.stringify({ events: events.slice(at, at + BATCH) });
    const headers = { 'content-type': 'application/json' };
    const { status } = await fetch(`${server.url}/events`, { method: 'POST', headers, body });
    if (status !== 201) throw new Error(`a publish got ${status}`);
  }
}

/** Eight megabytes of state and of events: more than the kernel takes for a client that does not read. */
async function seed(server: Server): Promise<void> {
  const ticket = { text: 'x'.repeat(TICKET_BYTES) };
  const ticketUpdatedAt = '2024-06-01T12:00:00Z';
  const events = Array.from({ length: TICKETS }, (_, index) => {
    const payload = { tenantId: TENANT, ticketId: `t${index}`, ticketStatus: 'OPEN', ticketUpdatedAt, ticket };
    return { event: 'tickets.updated', payload };
  });
  await publishAll(server, events);
}

/** A connection that sends a request again and again, and never reads. */
function deaf(server: Server, text: string): Socket {
  const socket = connect(server.port, '127.0.0.1', () => socket.write(text));
  socket.on('error', () => {});
  return socket;
}

/** Opens the connections one after the other, and closes them when the attack ends. */
async function holdOpen(server: Server, texts: readonly string[], signal: AbortSignal): Promise<void> {
  const sockets = texts.map((text) => deaf(server, text));
  await once(signal, 'abort');
  for (const socket of sockets) socket.destroy();
}

/** The sum of a metric with one label. */
async function metric(server: Server, series: string): Promise<number> {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  return Number(
    text
      .split('\n')
      .find((line) => line.startsWith(`${series} `))
      ?.slice(series.length + 1) ?? 0,
  );
}

const LARGE = [`/tickets?tenantId=${TENANT}&limit=1000`, `/events?tenantId=${TENANT}&limit=1000`] as const;

/** Few connections, each with hundreds of requests for large pages in one packet. */
export function pipelined(kit: Kit): Promise<Verdict> {
  return onStage(kit, { env: sqlite(kit) }, async (stage) => {
    await seed(stage.server);
    const texts = [...LARGE, '/docs', `/events?tenantId=${TENANT}&after=start&limit=1000`].map((path) =>
      get(path).repeat(PIPELINED),
    );
    const attack = (signal: AbortSignal) => holdOpen(stage.server, texts, signal);
    const { figures, objections } = await underAttack(kit, { server: stage.server, attack });
    return stage.verdict({ requests: texts.length * PIPELINED, ...figures }, { objections });
  });
}

/** More large answers than the address may have connections. */
export function unread(kit: Kit): Promise<Verdict> {
  const env = { ...sqlite(kit), MAX_CONNECTIONS_PER_ADDRESS: String(PER_ADDRESS) };
  return onStage(kit, { env }, async (stage) => {
    await seed(stage.server);
    const texts = Array.from({ length: UNREAD }, (_, index) => get(LARGE[index % LARGE.length] as string));
    const attack = (signal: AbortSignal) => holdOpen(stage.server, texts, signal);
    const { figures, objections } = await underAttack(kit, { server: stage.server, attack });
    const refused = await metric(stage.server, 'roomcast_refused_total{code="too_many_connections"}');
    if (refused !== UNREAD - PER_ADDRESS) {
      const detail = `${UNREAD - refused} answers waited, with MAX_CONNECTIONS_PER_ADDRESS=${PER_ADDRESS}`;
      return stage.verdict(figures, { objections: [...objections, objection(detail)] });
    }
    return stage.verdict({ unread: UNREAD, refused, ...figures }, { objections });
  });
}

/** The page that takes no token in `none` mode, with thousands of rooms in it. */
export function metricsUnread(kit: Kit): Promise<Verdict> {
  return onStage(kit, { env: sqlite(kit) }, async (stage) => {
    const events = Array.from({ length: 8_000 }, (_, index) => {
      return { event: 'leads.updated', payload: { tenantId: `tenant-${index}`, userId: `user-${index}` } };
    });
    await publishAll(stage.server, events);
    const openMetrics = get('/metrics').replace('\r\n\r\n', '\r\nAccept: application/openmetrics-text\r\n\r\n');
    const texts = Array.from({ length: UNREAD }, (_, index) => (index % 2 === 0 ? get('/metrics') : openMetrics));
    const attack = (signal: AbortSignal) =>
      holdOpen(
        stage.server,
        texts.map((text) => text.repeat(PIPELINED)),
        signal,
      );
    const { figures, objections } = await underAttack(kit, { server: stage.server, attack });
    return stage.verdict({ requests: UNREAD * PIPELINED, ...figures }, { objections });
  });
}

const objection = (detail: string): Objection => ({ law: 'lost', who: 'server', detail });

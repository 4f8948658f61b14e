/**
 * A calm hour at three help desks, for the pictures: some thirty people listen over all transports, some eight events a
 * second arrive, and Ana, whose token has expired, is refused.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { SignJWT } from 'jose';
import { CONVERSATIONS } from '../../docs/examples/inbox/demo/conversations.ts';
import { type Bridge, createBridge } from '../../src/bridge.ts';
import { connect } from '../../src/client/client.ts';
import type { TransportName } from '../../src/client/events.ts';

const SECRET = 'a secret for the pictures, of 32 bytes or more';
const TENANTS = ['norte', 'centro', 'sul'];
const PEOPLE =
  'bruno carla davi elisa fabio gabi helena igor julia lucas marina nina otavio paula rafa sofia tiago vera'.split(' ');
/** Most people have websockets; some networks do not let them through. */
const TRANSPORTS: readonly TransportName[] = ['websocket', 'websocket', 'sse', 'websocket', 'websocket', 'poll'];
const CUSTOMERS = 12;
/** Between two messages, on average. Each brings two or three events. */
const MESSAGE_MS = 300;
/** The pace rises and falls within six times this. */
const WAVE_S = 20;

export interface Load {
  readonly url: string;
  /** A token for the console: all tenants. */
  readonly operator: string;
  /** Ana's page comes back with the token that has expired, as it does every few seconds. */
  refuseAna(): Promise<void>;
  close(): Promise<void>;
}

function token(claims: object, expires = '2h'): Promise<string> {
  return new SignJWT({ ...claims })
    .setProtectedHeader({ alg: 'HS256' })
    .setIssuedAt()
    .setExpirationTime(expires)
    .sign(new TextEncoder().encode(SECRET));
}

export async function startLoad(port: number, storeUrl: string): Promise<Load> {
  const bridge = await createBridge({
    port,
    storeUrl,
    authMode: 'jwt',
    jwtSecret: SECRET,
    signals: ['tickets.viewing', 'tickets.typing'],
    logLevel: 'silent',
  });
  const { url } = await bridge.listen();
  const stopping = new AbortController();
  const { signal } = stopping;

  for (const [index, sub] of PEOPLE.entries()) {
    const tenantId = TENANTS[index % TENANTS.length] as string;
    const own = await token({ sub, tenantId, scope: 'subscribe signal' });
    const transports = [TRANSPORTS[index % TRANSPORTS.length] as TransportName];
    const live = connect({ url, token: own, rooms: { tenantId }, transports, signal });
    live.join({ ticketId: `${tenantId}-${index % CONVERSATIONS.length}` }).catch(() => {}); // it is over
  }
  for (let index = 0; index < CUSTOMERS; index++) {
    const ticketId = `${TENANTS[index % TENANTS.length]}-${index % CONVERSATIONS.length}`;
    const claims = { sub: `customer-${index}`, tenantId: ticketId.split('-')[0], ticketIds: [ticketId] };
    const own = await token({ ...claims, scope: 'subscribe' });
    const transports = [index % 3 === 0 ? 'sse' : 'websocket'] as TransportName[];
    connect({ url, token: own, rooms: { ticketId }, transports, signal });
  }
  const publishing = publish(bridge, signal);
  const expired = await token({ sub: 'ana', tenantId: 'norte', scope: 'subscribe' }, '-1m');

  return {
    url,
    operator: await token({ sub: 'operator', tenantId: '*', scope: 'admin publish' }),
    async refuseAna() {
      const headers = { authorization: `Bearer ${expired}`, accept: 'text/event-stream' };
      await (await fetch(`${url}/sse?tenantId=norte`, { headers })).text();
    },
    async close() {
      stopping.abort();
      await publishing;
      await bridge.close();
    },
  };
}

/** Conversations at a calm pace that rises and falls a little. */
async function publish(bridge: Bridge, signal: AbortSignal): Promise<void> {
  for (let count = 0; !signal.aborted; count++) {
    const tenantId = TENANTS[count % TENANTS.length] as string;
    const index = (count * 5) % CONVERSATIONS.length;
    const { contact, subject, turns } = CONVERSATIONS[index] as (typeof CONVERSATIONS)[number];
    const [who, content] = turns[Math.floor(count / CONVERSATIONS.length) % turns.length] as (typeof turns)[number];
    const at = new Date().toISOString();
    const ids = {
      tenantId,
      ticketId: `${tenantId}-${index}`,
      messageId: `message-${count}`,
      ticketStatus: 'OPEN',
      ticketUpdatedAt: at,
    };
    const direction = who === 'agent' ? 'OUTBOUND' : 'INBOUND';
    const message = { id: ids.messageId, direction, type: 'TEXT', content, createdAt: at };
    await bridge.publish('messages.new', { ...ids, message });
    const ticket = { id: ids.ticketId, subject, contact: { name: contact }, lastMessagePreview: content };
    await bridge.publish('tickets.updated', { ...ids, ticket });
    if (direction === 'OUTBOUND')
      await bridge.publish('messages.updated', { ...ids, messageUpdatedAt: at, messageStatus: 'delivered', message });
    const wave = 1 + 0.3 * Math.sin(Date.now() / 1_000 / WAVE_S);
    await pause(MESSAGE_MS * wave, undefined, { signal }).catch(() => {}); // it is over
  }
}

/**
 * The clients that the delivery suite runs the same cases over: stock `socket.io-client` on either transport, a real
 * EventSource, a long-polling loop, and the client library. Each records the events that it receives, in order.
 */
import { EventSource } from 'eventsource';
import { io, type Socket } from 'socket.io-client';
import { connect as connectLibrary } from '../../src/client/client.ts';
import type { TransportName as LibraryTransport } from '../../src/client/events.ts';
import type { TransportName } from '../../src/contract/names.ts';
import { until } from './until.ts';

export type RoomIds = Partial<Record<'tenantId' | 'ticketId' | 'agreementId' | 'userId' | 'queueId', string[]>>;

export interface Heard {
  readonly event: string;
  /** JSON text. */
  readonly payload: string;
  readonly id: string | null;
  readonly replay: boolean;
}

export interface Reset {
  readonly reason: string;
  readonly after: string | null;
  readonly oldest: string;
  readonly cursor: string;
}

export interface Client {
  readonly heard: Heard[];
  readonly resets: Reset[];
  /** The place from which this client would go on elsewhere. */
  cursor(): string | null;
  close(): void;
}

export interface ConnectOptions {
  readonly after?: string;
  readonly legacy?: boolean;
  /** Whether `bridge.audience` marks records that are not routed by their ids. Over `/events` nothing does. */
  readonly audience?: boolean;
  readonly token?: string;
}

/** Resolves once the client hears the rooms, and rejects when the bridge refuses them. */
export type Connect = (url: string, rooms: RoomIds, options?: ConnectOptions) => Promise<Client>;

export const EVENT_NAMES = [
  'tickets.updated',
  'messages.new',
  'messages.updated',
  'messages.deleted',
  'ticket.updated',
  'ticket.message',
  'ticket.message.created',
  'message:created',
  'message:updated',
  'leads.updated',
  'bridge.audience',
];

const CANONICAL = new Set(['tickets.updated', 'messages.new', 'messages.updated', 'messages.deleted', 'leads.updated']);

const JOIN_OF = {
  tenantId: 'join-tenant',
  ticketId: 'join-ticket',
  agreementId: 'join-agreement',
  userId: 'join-user',
  queueId: 'join-queue',
};

export interface SocketClient extends Client {
  readonly socket: Socket;
  /** Every `recovered` seen, one per connect. */
  readonly recoveries: boolean[];
  join(kind: keyof RoomIds, id: string, after?: string): Promise<{ ok: boolean; cursor: string; code?: string }>;
}

export function connectSocket(transport: 'websocket' | 'polling') {
  return async (url: string, rooms: RoomIds, options: ConnectOptions = {}): Promise<SocketClient> => {
    const socket = io(url, {
      transports: [transport],
      forceNew: true,
      reconnectionDelay: 20,
      reconnectionDelayMax: 100,
      auth: {
        ...(options.legacy === false ? { legacy: false } : {}),
        ...(options.audience ? { audience: true } : {}),
        ...(options.token === undefined ? {} : { token: options.token }),
      },
    });
    const heard: Heard[] = [];
    const resets: Reset[] = [];
    const recoveries: boolean[] = [];
    let cursor: string | null = null;
    for (const event of EVENT_NAMES) {
      socket.on(event, (payload: object, id?: string, flags?: { replay: boolean }) => {
        heard.push({ event, payload: JSON.stringify(payload), id: id ?? null, replay: flags?.replay ?? false });
        if (id !== undefined && (cursor === null || id > cursor)) cursor = id;
      });
    }
    socket.on('bridge.cursor', (_: object, id: string) => {
      cursor = id;
    });
    socket.on('bridge.reset', (reset: Reset) => resets.push(reset));
    socket.on('connect', () => recoveries.push(socket.recovered));
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('connect_error', reject);
    });
    const client: SocketClient = {
      socket,
      heard,
      resets,
      recoveries,
      cursor: () => cursor,
      async join(kind, id, after) {
        return socket.emitWithAck(JOIN_OF[kind], id, after === undefined ? {} : { after });
      },
      close: () => void socket.disconnect(),
    };
    for (const [kind, ids] of Object.entries(rooms) as [keyof RoomIds, string[]][]) {
      for (const id of ids) {
        const answer = await client.join(kind, id, options.after);
        if (answer.ok) continue;
        socket.disconnect();
        throw new Error(`refused: ${answer.code}`);
      }
    }
    return client;
  };
}

export function queryOf(rooms: RoomIds, options: Record<string, unknown> = {}): URLSearchParams {
  const query = new URLSearchParams();
  for (const [name, ids] of Object.entries(rooms)) for (const id of ids ?? []) query.append(name, id);
  for (const [name, value] of Object.entries(options)) if (value !== undefined) query.set(name, String(value));
  return query;
}

export const connectSse: Connect = async (url, rooms, { token, ...options } = {}) => {
  const source = new EventSource(`${url}/sse?${queryOf(rooms, { ...options, access_token: token })}`);
  const heard: Heard[] = [];
  const resets: Reset[] = [];
  let cursor: string | null = null;
  for (const event of EVENT_NAMES) {
    source.addEventListener(event, (message) => {
      const id = CANONICAL.has(event) ? message.lastEventId : null;
      heard.push({ event, payload: message.data, id, replay: false });
      if (id !== null) cursor = id;
    });
  }
  source.addEventListener('bridge.reset', (message) => resets.push(JSON.parse(message.data)));
  await new Promise<void>((resolve, reject) => {
    source.addEventListener('bridge.cursor', (message) => {
      cursor = message.lastEventId;
      resolve();
    });
    source.addEventListener('error', ({ code }) => {
      if (source.readyState === EventSource.CLOSED) reject(new Error(`refused: ${code}`));
    });
  });
  return { heard, resets, cursor: () => cursor, close: () => source.close() };
};

export const connectLongPoll: Connect = async (url, rooms, options = {}) => {
  const heard: Heard[] = [];
  const resets: Reset[] = [];
  let closed = false;
  const aborter = new AbortController();
  const legacy = options.legacy ?? true;
  let cursor = options.after ?? null;
  const poll = async (wait: number): Promise<void> => {
    const query = queryOf(rooms, { after: cursor ?? 'now', wait, legacy, limit: 1000 });
    const headers: Record<string, string> =
      options.token === undefined ? {} : { authorization: `Bearer ${options.token}` };
    const response = await fetch(`${url}/events?${query}`, { signal: aborter.signal, headers });
    const body = (await response.json()) as Reset & { events: { id: string | null; event: string; payload: object }[] };
    // A server that is going down says so with a 503, which names no cursor.
    if (!response.ok && response.status !== 410) throw new Error(`refused: ${response.status}`);
    if (response.status === 410) resets.push(body);
    for (const { id, event, payload } of body.events ?? []) {
      heard.push({ event, payload: JSON.stringify(payload), id, replay: false });
    }
    cursor = body.cursor;
  };
  await poll(0);
  const loop = async (): Promise<void> => {
    while (!closed) {
      try {
        await poll(20);
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    }
  };
  void loop();
  return {
    heard,
    resets,
    cursor: () => cursor,
    close() {
      closed = true;
      aborter.abort();
    },
  };
};

/** The client library, allowed these transports; resolves once the first of them brings events. */
function connectByLibrary(...transports: LibraryTransport[]): Connect {
  return async (url, rooms, { after, legacy = true, token } = {}) => {
    const heard: Heard[] = [];
    const resets: Reset[] = [];
    const live = connectLibrary<Record<string, unknown>>({
      url,
      rooms,
      transports,
      // A machine that is busy for two seconds must not look like a network that swallows streams.
      heartbeatMs: 4000,
      ...(after === undefined ? {} : { after }),
      ...(token === undefined ? {} : { token }),
    });
    for (const event of EVENT_NAMES) {
      if (!legacy && !CANONICAL.has(event)) continue;
      if (event.startsWith('bridge.')) continue;
      live.on(event, (payload, { cursor, replay }) => {
        heard.push({ event, payload: JSON.stringify(payload), id: CANONICAL.has(event) ? cursor : null, replay });
      });
    }
    live.on('reset', (reset) => resets.push(reset));
    const listens = until(`live over ${transports}`, () => {
      if (live.status.state === 'closed') throw new Error(`refused: ${live.status.error?.code}`);
      return live.status.transport === transports[0];
    });
    await listens.catch((error) => {
      live.close();
      throw error;
    });
    return { heard, resets, cursor: () => live.cursor, close: live.close };
  };
}

export interface ClientKind {
  readonly connect: Connect;
  /** As the bridge's metrics name it. */
  readonly transport: TransportName;
  /** Whether it passes on `audience`. */
  readonly marks?: true;
}

export const CLIENTS: Readonly<Record<string, ClientKind>> = {
  websocket: { connect: connectSocket('websocket'), transport: 'websocket', marks: true },
  polling: { connect: connectSocket('polling'), transport: 'polling', marks: true },
  sse: { connect: connectSse, transport: 'sse', marks: true },
  longpoll: { connect: connectLongPoll, transport: 'longpoll' },
  'the client library': { connect: connectByLibrary('websocket', 'sse', 'poll'), transport: 'websocket' },
  'the client library (sse)': { connect: connectByLibrary('sse', 'poll'), transport: 'sse' },
  'the client library (poll)': { connect: connectByLibrary('poll'), transport: 'longpoll' },
};

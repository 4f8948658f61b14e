/**
 * The clients that the delivery suite runs the same cases over: stock `socket.io-client` on either transport, a real
 * EventSource, and a long-polling loop. Each notes what it heard, in order.
 */
import { EventSource } from 'eventsource';
import { io, type Socket } from 'socket.io-client';

export type RoomIds = Partial<Record<'tenantId' | 'ticketId' | 'agreementId' | 'userId', string[]>>;

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
}

/** Resolves once the client hears the rooms. */
export type Connect = (url: string, rooms: RoomIds, options?: ConnectOptions) => Promise<Client>;

export const EVENT_NAMES = [
  'tickets.updated',
  'messages.new',
  'ticket.updated',
  'ticket.message',
  'ticket.message.created',
  'message:created',
  'leads.updated',
];

const JOIN_OF = {
  tenantId: 'join-tenant',
  ticketId: 'join-ticket',
  agreementId: 'join-agreement',
  userId: 'join-user',
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
      auth: options.legacy === false ? { legacy: false } : {},
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
        if (!answer.ok) throw new Error(`join refused: ${JSON.stringify(answer)}`);
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

export const connectSse: Connect = async (url, rooms, options = {}) => {
  const source = new EventSource(`${url}/sse?${queryOf(rooms, { ...options })}`);
  const heard: Heard[] = [];
  const resets: Reset[] = [];
  let cursor: string | null = null;
  const canonical = new Set(['tickets.updated', 'messages.new', 'leads.updated']);
  for (const event of EVENT_NAMES) {
    source.addEventListener(event, (message) => {
      const id = canonical.has(event) ? message.lastEventId : null;
      heard.push({ event, payload: message.data, id, replay: false });
      if (id !== null) cursor = id;
    });
  }
  source.addEventListener('bridge.reset', (message) => resets.push(JSON.parse(message.data)));
  await new Promise<void>((resolve) =>
    source.addEventListener('bridge.cursor', (message) => {
      cursor = message.lastEventId;
      resolve();
    }),
  );
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
    const response = await fetch(`${url}/events?${query}`, { signal: aborter.signal });
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

export const TRANSPORTS: Readonly<Record<string, Connect>> = {
  websocket: connectSocket('websocket'),
  polling: connectSocket('polling'),
  sse: connectSse,
  longpoll: connectLongPoll,
};

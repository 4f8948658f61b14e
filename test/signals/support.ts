/**
 * Signals (protocol §14) as clients see them: four kinds of listeners that keep everything that they receive, in order,
 * and the ways to send one. Nothing here knows how the bridge works.
 */
import assert from 'node:assert/strict';
import { io, type Socket } from 'socket.io-client';
import type { Config } from '../../src/config.ts';
import { metric, startBridge, type TestBridge } from '../support/bridge.ts';
import { missing, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';

export const TYPING = 'tickets.typing';
export const VIEWING = 'tickets.viewing';
/** Of the original application. */
export const OLD_TYPING = 'ticket:typing';
export const NAMES = [TYPING, VIEWING, OLD_TYPING];

/** What every test of signals starts with. */
export const SETTINGS = {
  signals: NAMES,
  extraEvents: ['leads.updated'],
  roomKinds: ['queue', 'team'],
  claimedRoomKinds: ['team'],
  rateSignals: 10_000,
} as const;

export type Json = Readonly<Record<string, unknown>>;

/** An event as it came to a listener. */
export interface Heard {
  readonly event: string;
  readonly payload: Json;
  /** Its cursor; null if it came without one. */
  readonly id: string | null;
  /** Of a Socket.IO event: all of its arguments. */
  readonly args?: readonly unknown[];
  /** Of an entry of a long poll. */
  readonly rooms?: readonly string[];
  readonly atMs: number;
}

export const TRANSPORTS = ['websocket', 'polling', 'sse', 'longpoll'] as const;
export type Transport = (typeof TRANSPORTS)[number];

export interface Ear {
  readonly transport: Transport;
  readonly heard: Heard[];
  /** The signals among them. */
  signals(): Heard[];
  /** Resolves when it would get a signal that is sent now. Only a long poll may have a gap. */
  ready(): Promise<void>;
  close(): void;
}

export interface EarOptions {
  /** Credentials and options: of Socket.IO's `auth`, else of the query. */
  readonly auth?: Readonly<Record<string, unknown>>;
  readonly events?: readonly string[];
  readonly after?: string;
}

export interface SocketEar extends Ear {
  readonly socket: Socket;
}

/** Not those of `settle`. */
const isSignal = ({ event, payload }: Heard): boolean => NAMES.includes(event) && payload.fence === undefined;

/** A stock client, joined to the rooms. */
export async function socketEar(
  url: string,
  rooms: readonly string[],
  { auth = {} }: EarOptions = {},
  transport: 'websocket' | 'polling' = 'websocket',
): Promise<SocketEar> {
  const socket = io(url, {
    transports: [transport],
    forceNew: true,
    reconnectionDelay: 20,
    reconnectionDelayMax: 100,
    auth: { ...auth },
  });
  const heard: Heard[] = [];
  socket.onAny((event: string, ...args: unknown[]) => {
    const id = typeof args[1] === 'string' ? args[1] : null;
    heard.push({ event, payload: args[0] as Json, id, args, atMs: performance.now() });
  });
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('connect_error', reject);
  });
  if (rooms.length > 0) {
    const ack = await socket.emitWithAck('join', rooms);
    assert.equal(ack.ok, true, JSON.stringify(ack));
  }
  return {
    ...{ transport, socket, heard },
    signals: () => heard.filter(isSignal),
    ready: async () => {},
    close: () => void socket.disconnect(),
  };
}

export function roomQuery(rooms: readonly string[], more: Readonly<Record<string, unknown>> = {}): URLSearchParams {
  const query = new URLSearchParams();
  for (const room of rooms) query.append(`${room.slice(0, room.indexOf(':'))}Id`, room.slice(room.indexOf(':') + 1));
  for (const [name, value] of Object.entries(more)) if (value !== undefined) query.set(name, String(value));
  return query;
}

/** The blocks of an event stream. */
export function parseBlocks(text: string): { event: string; data: string; id: string | null; block: string }[] {
  return text
    .split('\n\n')
    .slice(0, -1)
    .map((block) => {
      const field = (name: string) => new RegExp(`^${name}: ?([^\\n]*)$`, 'm').exec(block)?.[1] ?? null;
      return { event: field('event') ?? '', data: field('data') ?? '', id: field('id'), block };
    });
}

export interface SseEar extends Ear {
  text(): string;
  ended(): boolean;
}

export async function sseEar(url: string, rooms: readonly string[], options: EarOptions = {}): Promise<SseEar> {
  const { auth = {}, events, after } = options;
  const aborter = new AbortController();
  const query = roomQuery(rooms, { ...auth, events, after });
  const response = await fetch(`${url}/sse?${query}`, { signal: aborter.signal });
  assert.equal(response.status, 200, `sse ${query}`);
  let text = '';
  let rest = '';
  let ended = false;
  const heard: Heard[] = [];
  void (async () => {
    const decoder = new TextDecoder();
    for await (const chunk of response.body ?? []) {
      const some = decoder.decode(chunk, { stream: true });
      text += some;
      rest += some;
      const end = rest.lastIndexOf('\n\n') + 2;
      if (end === 1) continue;
      for (const { event, data, id } of parseBlocks(rest.slice(0, end))) {
        if (event !== '') heard.push({ event, payload: JSON.parse(data), id, atMs: performance.now() });
      }
      rest = rest.slice(end);
    }
    ended = true;
  })().catch(() => {
    ended = true;
  });
  await until('the stream begins', () => heard.some(({ event }) => event === 'bridge.cursor'));
  return {
    ...{ transport: 'sse', heard },
    text: () => text,
    ended: () => ended,
    signals: () => heard.filter(isSignal),
    ready: async () => {},
    close: () => aborter.abort(),
  };
}

/** The long polls that this process keeps open at each bridge. */
const polls = new Map<string, number>();

export async function pollEar(bridge: TestBridge, rooms: readonly string[], options: EarOptions = {}): Promise<Ear> {
  const { auth = {}, events, after } = options;
  const { url } = bridge;
  const aborter = new AbortController();
  const heard: Heard[] = [];
  let cursor = after ?? 'now';
  const poll = async (wait: number): Promise<void> => {
    const query = roomQuery(rooms, { ...auth, events, after: cursor, wait, signals: true, limit: 1000 });
    const response = await fetch(`${url}/events?${query}`, { signal: aborter.signal });
    const text = await response.text();
    if (response.status !== 200) throw new Error(`poll ${query}: ${response.status} ${text}`);
    const page = JSON.parse(text) as { events: Omit<Heard, 'atMs'>[]; cursor: string };
    heard.push(...page.events.map((item) => ({ ...item, atMs: performance.now() })));
    ({ cursor } = page);
  };
  await poll(0);
  polls.set(url, (polls.get(url) ?? 0) + 1);
  void (async () => {
    while (!aborter.signal.aborted) await poll(20);
  })().catch(() => {});
  return {
    ...{ transport: 'longpoll', heard },
    signals: () => heard.filter(isSignal),
    ready: () =>
      until('the long polls wait', async () => {
        const open = await metric(bridge, 'roomcast_connections{transport="longpoll"}');
        return open === (polls.get(url) ?? 0);
      }),
    close() {
      if (!aborter.signal.aborted) polls.set(url, (polls.get(url) as number) - 1);
      aborter.abort();
    },
  };
}

export function listen(
  transport: Transport,
  bridge: TestBridge,
  rooms: readonly string[],
  options: EarOptions = {},
): Promise<Ear> {
  if (transport === 'sse') return sseEar(bridge.url, rooms, options);
  if (transport === 'longpoll') return pollEar(bridge, rooms, options);
  return socketEar(bridge.url, rooms, options, transport);
}

export interface Answer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: the bodies of many routes
  readonly body: any;
  readonly headers: Headers;
}

export async function request(
  { url }: { readonly url: string },
  route: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const [method = '', path = ''] = route.split(' ');
  const response = await fetch(url + path, {
    method,
    headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  const text = await response.text();
  const isJson = response.headers.get('content-type')?.includes('json') === true && text !== '';
  return { status: response.status, body: isJson ? JSON.parse(text) : text, headers: response.headers };
}

export const bearer = (token: string | undefined): Record<string, string> =>
  token === undefined ? {} : { authorization: `Bearer ${token}` };

/** `POST /signals`. */
export const post = (bridge: { readonly url: string }, body: unknown, token?: string): Promise<Answer> =>
  request(bridge, 'POST /signals', body, bearer(token));

export interface Active {
  readonly event: string;
  readonly room: string;
  readonly from: string | null;
  readonly sender: string;
  readonly payload: Json;
  readonly expiresAt: string;
}

/** `GET /signals`, without those of `settle`. */
export async function active(
  bridge: { readonly url: string },
  rooms: readonly string[],
  more: Readonly<Record<string, unknown>> = {},
): Promise<Active[]> {
  const answer = await request(bridge, `GET /signals?${roomQuery(rooms, more)}`);
  assert.equal(answer.status, 200, JSON.stringify(answer.body));
  return (answer.body as { signals: Active[] }).signals.filter(({ payload }) => payload.fence === undefined);
}

/** What a payload has beside the four members that the bridge adds. */
export function ownMembers(payload: Json): Json {
  const { room, from, sender, ttlSeconds, ...own } = payload;
  return own;
}

let count = 0;
/** A room that no other test uses. */
export const freshRoom = (kind = 'ticket'): string => `${kind}:${kind[0]}${++count}`;

export const ids = (payloads: readonly Heard[]): unknown[] => payloads.map(({ payload }) => payload.n);

/**
 * Waits until a signal that is sent now has come, so that whatever was sent before it, and goes the same way, has come
 * or never will.
 */
export async function settle(bridge: TestBridge, ears: readonly Ear[], room: string, more: Json = {}): Promise<void> {
  const fence = `fence ${++count}`;
  await Promise.all(ears.map((ear) => ear.ready()));
  const answer = await post(bridge, {
    event: VIEWING,
    room,
    payload: { fence },
    client: 'fence',
    ttlSeconds: 1,
    ...more,
  });
  assert.equal(answer.status, 202, JSON.stringify(answer.body));
  for (const ear of ears) {
    await until(`${ear.transport} is up to date`, () => ear.heard.some(({ payload }) => payload?.fence === fence));
  }
}

/** One bridge on SQLite, or two nodes on Redis: `to` takes requests, and `at` has the listeners. */
export interface Place {
  readonly to: TestBridge;
  readonly at: TestBridge;
  stop(): Promise<void>;
}

export const PLACES: readonly {
  readonly name: string;
  readonly skip: string | false;
  readonly start: (more?: Partial<Config>) => Promise<Place>;
}[] = [
  {
    name: 'one node on SQLite',
    skip: false,
    async start(more = {}) {
      const bridge = await startBridge({ ...SETTINGS, ...more });
      return { to: bridge, at: bridge, stop: () => bridge.close() };
    },
  },
  {
    name: 'two nodes on Redis',
    skip: missing('redis-server'),
    async start(more = {}) {
      const redis = await startRedis();
      const settings = { ...SETTINGS, ...more, storeUrl: redis.url };
      const to = await startBridge(settings);
      const at = await startBridge(settings);
      return {
        ...{ to, at },
        async stop() {
          await Promise.all([to.close(), at.close()]);
          await redis.stop();
        },
      };
    },
  },
];

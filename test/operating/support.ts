/**
 * Operating a bridge (protocol §15) as an operator sees it: whole servers over real sockets, one on SQLite and two nodes
 * on a real Redis, where the clients are at one node and the operator asks the other. Nothing here knows how the bridge
 * works.
 */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { type JWTPayload, SignJWT } from 'jose';
import { io, type Socket } from 'socket.io-client';
import type { Config } from '../../src/config.ts';
import { startBridge, type TestBridge } from '../support/bridge.ts';
import { missing, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';

export const SECRET = 'a secret of thirty-two bytes or more';
export const JWT = { authMode: 'jwt', jwtSecret: SECRET } as const;
export const nowS = (): number => Math.floor(Date.now() / 1000);

/** A token of a minute ago: of user u1 of tenant t1, who listens. */
export const sign = (claims: JWTPayload = {}, key: string = SECRET): Promise<string> =>
  new SignJWT({ tenantId: 't1', sub: 'u1', scope: 'subscribe', iat: nowS() - 60, ...claims })
    .setProtectedHeader({ alg: 'HS256' })
    .sign(Buffer.from(key));
export const adminOf = (...tenantIds: readonly string[]): Promise<string> =>
  sign({ tenantId: [...tenantIds], sub: 'root', scope: 'admin' });
export const admin = (): Promise<string> => sign({ tenantId: '*', sub: 'root', scope: 'admin' });

/** An unsigned token (`alg` none). */
export function unsigned(claims: object): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part({ alg: 'none' })}.${part(claims)}.`;
}

export interface Connection {
  readonly id: string;
  readonly node: string;
  readonly transport: string;
  readonly since: string;
  readonly address: string;
  readonly userAgent: string | null;
  readonly tenantIds: readonly string[];
  readonly sub: string | null;
  readonly rooms: readonly string[];
  readonly roomCount: number;
  readonly cursor: string | null;
  readonly behindMs: number;
  readonly pendingBytes: number;
  readonly lastDeliveryAt: string | null;
  readonly expiresAt: string | null;
}

export interface Refusal {
  readonly at: string;
  readonly node: string;
  readonly address: string;
  readonly transport: string;
  readonly sub: string | null;
  readonly tenantIds: readonly string[];
  readonly what: string;
  readonly code: string;
  readonly message: string;
}

export interface Logged {
  readonly id: string;
  readonly event: string;
  readonly rooms: readonly string[];
  readonly payload: Readonly<Record<string, unknown>>;
  readonly at: string;
}

export interface Answer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: the bodies of many routes
  readonly body: any;
  readonly text: string;
  readonly headers: Headers;
}

type Query = Readonly<Record<string, string | number | undefined>>;

export function toQuery(query: Query): string {
  const set = Object.entries(query).filter((pair): pair is [string, string | number] => pair[1] !== undefined);
  return String(new URLSearchParams(set.map(([name, value]): [string, string] => [name, String(value)])));
}

export async function call(
  { url }: { readonly url: string },
  route: string,
  token?: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const [method = '', path = ''] = route.split(' ');
  const response = await fetch(url + path, {
    method,
    headers: {
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  const text = await response.text();
  const isJson = response.headers.get('content-type')?.includes('json') === true && text !== '';
  return { status: response.status, body: isJson ? JSON.parse(text) : null, text, headers: response.headers };
}

/** All items of a listing, page by page; every node must answer. */
async function all<T>(bridge: TestBridge, path: string, query: Query, token: string | undefined): Promise<T[]> {
  const items: T[] = [];
  let page: string | undefined;
  do {
    const answer = await call(bridge, `GET ${path}?${toQuery({ ...query, page })}`, token);
    assert.equal(answer.status, 200, answer.text);
    assert.deepEqual(Object.keys(answer.body).sort(), ['items', 'missing', 'nextPage']);
    assert.deepEqual(answer.body.missing, []);
    items.push(...answer.body.items);
    page = answer.body.nextPage ?? undefined;
  } while (page !== undefined);
  return items;
}

export const connections = (bridge: TestBridge, query: Query = {}, token?: string): Promise<Connection[]> =>
  all(bridge, '/connections', query, token);

export const refusals = (bridge: TestBridge, query: Query = {}, token?: string): Promise<Refusal[]> =>
  all(bridge, '/refusals', query, token);

export const TRANSPORTS = ['websocket', 'polling', 'sse', 'longpoll'] as const;
export type Transport = (typeof TRANSPORTS)[number];

export interface Held {
  readonly transport: Transport;
  /** Of Socket.IO. */
  readonly socket: Socket | null;
  /** The status of a long poll's answer once it is there; of a stream, 200 once it has ended. */
  readonly ended: Promise<number>;
  close(): void;
}

export interface HoldOptions {
  readonly token?: string | undefined;
  readonly userAgent?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export function roomQuery(rooms: readonly string[], more: Query = {}): string {
  const query = new URLSearchParams(toQuery(more));
  for (const room of rooms) query.append(`${room.slice(0, room.indexOf(':'))}Id`, room.slice(room.indexOf(':') + 1));
  return String(query);
}

/** Opens a connection that hears the rooms; resolves once the bridge has accepted it (a long poll: once it is listed). */
export async function hold(
  t: TestContext,
  transport: Transport,
  bridge: TestBridge,
  rooms: readonly string[],
  { token, userAgent = 'a test', headers = {} }: HoldOptions = {},
): Promise<Held> {
  const sent = { 'user-agent': userAgent, ...headers };
  if (transport === 'websocket' || transport === 'polling') {
    const socket = io(bridge.url, {
      transports: [transport],
      forceNew: true,
      reconnectionDelay: 20,
      reconnectionDelayMax: 100,
      auth: token === undefined ? {} : { token },
      extraHeaders: sent,
    });
    t.after(() => void socket.disconnect());
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('connect_error', reject);
    });
    if (rooms.length > 0) {
      const ack = await socket.emitWithAck('join', rooms);
      assert.equal(ack.ok, true, JSON.stringify(ack));
    }
    const ended = new Promise<number>((resolve) => socket.once('disconnect', () => resolve(200)));
    return { transport, socket, ended, close: () => void socket.disconnect() };
  }
  const aborter = new AbortController();
  t.after(() => aborter.abort());
  const authorization: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const path =
    transport === 'sse' ? `/sse?${roomQuery(rooms)}` : `/events?${roomQuery(rooms, { after: 'now', wait: 0 })}`;
  const response = await fetch(bridge.url + path, {
    signal: aborter.signal,
    headers: { ...sent, ...authorization },
  });
  assert.equal(response.status, 200, path);
  if (transport === 'sse') {
    const reader = response.body?.getReader();
    const first = await reader?.read();
    assert.equal(first?.done, false, 'the stream begins');
    const ended = (async () => {
      while ((await reader?.read())?.done === false);
      return 200;
    })().catch(() => 0);
    return { transport, socket: null, ended, close: () => aborter.abort() };
  }
  const { cursor } = (await response.json()) as { cursor: string };
  const waiting = fetch(`${bridge.url}/events?${roomQuery(rooms, { after: cursor, wait: 25 })}`, {
    signal: aborter.signal,
    headers: { ...sent, ...authorization },
  });
  const ended = waiting.then(
    async (answer) => {
      await answer.text();
      return answer.status;
    },
    () => 0,
  );
  return { transport, socket: null, ended, close: () => aborter.abort() };
}

/** Waits until the listing has so many connections, and resolves to them. */
export async function untilListed(
  bridge: TestBridge,
  count: number,
  query: Query = {},
  token?: string,
): Promise<Connection[]> {
  let items: Connection[] = [];
  await until(`${count} connections are listed for ${JSON.stringify(query)}`, async () => {
    items = await connections(bridge, query, token);
    return items.length === count;
  }).catch((error: Error) => {
    throw new Error(`${error.message}; listed: ${JSON.stringify(items).slice(0, 2000)}`);
  });
  return items;
}

/** One bridge on SQLite, or two nodes on Redis: the operator asks `a`, the clients are at `b`. */
export interface Place {
  readonly a: TestBridge;
  readonly b: TestBridge;
}

export interface PlaceKind {
  readonly name: string;
  readonly skip: string | false;
  readonly nodes: number;
  start(t: TestContext, config?: Partial<Config>): Promise<Place>;
}

export const PLACES: readonly PlaceKind[] = [
  {
    name: 'one node on SQLite',
    skip: false,
    nodes: 1,
    async start(t, config = {}) {
      const bridge = await startBridge(config);
      t.after(() => bridge.close());
      return { a: bridge, b: bridge };
    },
  },
  {
    name: 'two nodes on Redis',
    skip: missing('redis-server'),
    nodes: 2,
    async start(t, config = {}) {
      const redis = await startRedis();
      const bridges: TestBridge[] = [];
      t.after(async () => {
        await Promise.all(bridges.map((bridge) => bridge.close()));
        await redis.stop();
      });
      for (let n = 0; n < 2; n++) bridges.push(await startBridge({ ...config, storeUrl: redis.url }));
      const [a, b] = bridges as [TestBridge, TestBridge];
      return { a, b };
    },
  },
];

/**
 * The client runs in React Native, as far as that can be tried without a phone: in a context that has the globals of React
 * Native and no others, against a real bridge. Its `fetch` cannot stream, its AbortController is the package that it uses,
 * its URL has few members, and what its engine, Hermes, has lacked is deleted.
 */
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { createContext, runInContext, Script } from 'node:vm';
import { AbortController as NativeAbortController } from 'abort-controller';
import { build } from 'esbuild';
import type { connect, RoomcastEvents, Signal, Status } from '../../src/client/client.ts';
import { messageNew, startBridge } from '../support/bridge.ts';
import { until } from '../support/until.ts';

/** Hermes 0.12 has none of these. */
const MISSING = `
for (const name of ['at', 'findLast', 'findLastIndex', 'toReversed', 'toSorted', 'toSpliced', 'with']) {
  delete Array.prototype[name];
}
for (const name of ['at', 'isWellFormed', 'toWellFormed']) delete String.prototype[name];
for (const name of ['union', 'intersection', 'difference', 'isSubsetOf']) delete Set.prototype[name];
for (const name of ['any', 'try', 'withResolvers']) delete Promise[name];
delete Array.fromAsync;
delete Object.groupBy;
delete Map.groupBy;
for (const name of ['AggregateError', 'Iterator', 'WeakRef', 'FinalizationRegistry']) delete globalThis[name];
globalThis.window = globalThis.self = globalThis.global = globalThis;
`;

/** React Native 0.81 to 0.88: nothing is parsed, and nothing can be set. */
class NativeUrl {
  readonly #text: string;
  readonly #query: string[] = [];
  constructor(url: string, base?: string | NativeUrl) {
    this.#text = base === undefined || /^https?:/.test(url) ? url : `${String(base).replace(/\/$/, '')}/${url}`;
  }
  get origin(): string {
    return /^https?:\/\/[^/]+/.exec(this.#text)?.[0] ?? '';
  }
  get href(): string {
    return this.toString();
  }
  get searchParams() {
    const append = (name: string, value: string) => this.#query.push(`${name}=${encodeURIComponent(value)}`);
    return { append };
  }
  toString(): string {
    return this.#query.length === 0 ? this.#text : `${this.#text}?${this.#query.join('&')}`;
  }
}

/** Over XMLHttpRequest: the answer is there when it is complete, and a request that is not to be cached gets a `_`. */
async function nativeFetch(input: unknown, init: RequestInit & { readonly signal: EventTarget }) {
  const aborter = new AbortController();
  init.signal.addEventListener('abort', () => aborter.abort());
  const url = new URL(String(input));
  if (init.cache === 'no-store' && init.method === 'GET') url.searchParams.append('_', String(Date.now()));
  const response = await fetch(url, { ...init, signal: aborter.signal });
  const text = await response.text();
  return {
    ok: response.ok,
    status: response.status,
    url: response.url,
    headers: { get: (name: string) => response.headers.get(name) },
    text: async () => text,
    json: async () => JSON.parse(text),
  };
}

let text = '';
let script: Script;
before(async () => {
  const { outputFiles } = await build({
    entryPoints: ['src/client/client.ts'],
    bundle: true,
    write: false,
    format: 'iife',
    globalName: 'roomcast',
    platform: 'browser',
    conditions: ['react-native'],
    target: 'es2022',
  });
  text = outputFiles[0]?.text ?? '';
  script = new Script(text);
});

/** The client's `connect`, in a context of its own. */
function load(): typeof connect {
  const { setTimeout, clearTimeout, setInterval, clearInterval, queueMicrotask, console, WebSocket } = globalThis;
  const context = createContext({
    ...{ setTimeout, clearTimeout, setInterval, clearInterval, queueMicrotask, console, WebSocket },
    performance: { now: () => performance.now() },
    navigator: { product: 'ReactNative' },
    URL: NativeUrl,
    AbortController: NativeAbortController,
    fetch: nativeFetch,
  });
  runInContext(MISSING, context);
  script.runInContext(context);
  return runInContext('roomcast.connect', context);
}

describe('in React Native', () => {
  for (const [transports, expected] of [
    [['websocket', 'poll'], 'websocket'],
    [['poll'], 'poll'],
    // SSE never gets a byte.
    [['sse', 'poll'], 'poll'],
  ] as const) {
    test(`with ${transports.join(' and ')} the events come over ${expected}, and signals too`, async (t) => {
      const bridge = await startBridge({ signals: ['tickets.typing'], basePath: '/bridge' });
      t.after(bridge.close);
      const live = load()<RoomcastEvents & { 'tickets.typing': Signal<{ name: string }> }>({
        url: bridge.url,
        rooms: { tenantId: 'tenant-1', ticketId: 'ação' },
        token: async () => 'a token that nobody checks',
        transports,
        patienceMs: 1_000,
      });
      t.after(live.close);
      const heard: [string, string][] = [];
      const states: Status['state'][] = [];
      live.on('messages.new', ({ messageId }, { transport }) => heard.push([String(messageId), transport]));
      live.on('status', ({ state }) => states.push(state));
      await until('it is live', () => live.status.transport === expected);
      const payload = messageNew();
      await bridge.publish('messages.new', payload);
      await until('the event arrives', () => heard.length > 0);
      assert.deepEqual(heard, [[payload.messageId, expected]]);

      live.wake(); // as an application calls it when it comes to the front
      await live.join({ ticketId: 'ticket-9' });
      await live.signal('tickets.typing', 'ticket:ticket-9', { name: 'Ana' });
      live.close();
      assert.equal(states.at(-1), 'closed');
    });
  }

  test('a token function that hangs is let go of when the client closes', async (t) => {
    const bridge = await startBridge();
    t.after(bridge.close);
    let calls = 0;
    const token = (): Promise<string> => {
      calls++;
      return new Promise(() => {});
    };
    const live = load()({ url: bridge.url, rooms: { tenantId: 'tenant-1' }, token, patienceMs: 1_000 });
    await until('the token is asked for', () => calls > 0);
    live.close();
    assert.equal(live.status.error, null);
  });

  test('mistakes are named', () => {
    const connect = load();
    assert.throws(() => connect({ url: 'bridge.example' }), /url must be an http or https URL/);
    assert.throws(() => connect({ url: 'http://x', rooms: { tenantId: 'a b' } }), /rooms.tenantId must be/);
    assert.throws(() => connect({ url: 'http://x', rooms: { tenantId: '\ud800' } }), /rooms.tenantId must be/);
  });

  test('no pattern needs what Hermes has lacked', () => assert.doesNotMatch(text, /\\p\{/));
});

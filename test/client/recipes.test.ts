/**
 * docs/recipes.md, for frameworks: the recipes for Angular, Svelte and React Native, bundled as an application bundles them,
 * against a real bridge. (Those for other languages run in test/slow/other-clients.test.ts.)
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, type TestContext, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import {
  createEnvironmentInjector,
  type EnvironmentInjector,
  type InjectionToken,
  Injector,
  NgZone,
  runInInjectionContext,
  ɵNoopNgZone,
} from '@angular/core';
import { build, type Plugin } from 'esbuild';
import type { Observable } from 'rxjs';
import type { Component } from 'svelte';
import { compile } from 'svelte/compiler';
import { render } from 'svelte/server';
import type { Readable } from 'svelte/store';
import type { ConnectOptions, Live, RoomcastEvents, Status } from '../../src/client/client.ts';
import { messageNew, startBridge } from '../support/bridge.ts';
import { until } from '../support/until.ts';

const RECIPES = 'docs/examples/recipes';
const directory = mkdtempSync(join(tmpdir(), 'roomcast-recipes-'));
symlinkSync(resolve('node_modules'), join(directory, 'node_modules'));
after(() => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }));

const svelte: Plugin = {
  name: 'svelte',
  setup({ onLoad }) {
    onLoad({ filter: /\.svelte$/ }, ({ path }) => {
      const { js, warnings } = compile(readFileSync(path, 'utf8'), { filename: path, generate: 'server' });
      assert.deepEqual(warnings, []);
      return { contents: js.code };
    });
  },
};

/**
 * The exports of this module in the folder of the recipes, with this bridge in place of localhost:4003.
 * @param stubs modules that are too large to install for this
 */
async function load<Exports>(
  entry: string,
  url: string,
  stubs: Readonly<Record<string, string>> = {},
): Promise<Exports> {
  const folder = mkdtempSync(join(directory, 'bundle-'));
  const alias: Record<string, string> = { '@roomcast/client': resolve('src/client/client.ts') };
  for (const [name, text] of Object.entries(stubs)) {
    alias[name] = join(folder, `${Object.keys(alias).length}.mjs`);
    writeFileSync(alias[name], text);
  }
  const outfile = join(folder, 'recipe.mjs');
  const atBridge: Plugin = {
    name: 'at the bridge',
    setup({ onLoad }) {
      onLoad({ filter: /recipes\/.*\.ts$/ }, ({ path }) => ({
        contents: readFileSync(path, 'utf8').replaceAll('http://localhost:4003', url),
        loader: 'ts',
      }));
    },
  };
  await build({
    stdin: { contents: entry, resolveDir: RECIPES },
    bundle: true,
    format: 'esm',
    platform: 'node',
    outfile,
    alias,
    external: ['@angular/core', 'rxjs', 'socket.io-client', 'svelte'],
    plugins: [atBridge, svelte],
    tsconfig: join(RECIPES, 'tsconfig.json'),
    logLevel: 'silent',
  });
  return (await import(pathToFileURL(outfile).href)) as Exports;
}

/** A bridge that ends with the test, and the options for it. */
async function startBridgeFor(t: TestContext) {
  const bridge = await startBridge();
  t.after(bridge.close);
  const options: ConnectOptions = { url: bridge.url, rooms: { tenantId: 'tenant-1' } };
  const publish = async (): Promise<string> => {
    const message = messageNew();
    await bridge.publish('messages.new', message);
    return message.messageId;
  };
  return { url: bridge.url, options, publish };
}

test('Angular: a service with a signal and observables, which ends with its injector', async (t) => {
  interface LiveService {
    readonly live: Live;
    status(): Status;
    on(name: string): Observable<{ readonly payload: RoomcastEvents['messages.new'] }>;
  }
  const { url, options, publish } = await startBridgeFor(t);
  const recipe = await load<{ LiveService: new () => LiveService; LIVE_OPTIONS: InjectionToken<ConnectOptions> }>(
    `export * from './angular/live.service.ts'`,
    url,
  );
  const zone = new ɵNoopNgZone();
  const outside = t.mock.method(zone, 'runOutsideAngular');
  const inside = t.mock.method(zone, 'run');
  const injector = createEnvironmentInjector(
    [
      { provide: NgZone, useValue: zone },
      { provide: recipe.LIVE_OPTIONS, useValue: options },
    ],
    Injector.NULL as EnvironmentInjector,
  );
  const service = runInInjectionContext(injector, () => new recipe.LiveService());
  t.after(() => service.live.close());
  assert.equal(outside.mock.callCount(), 1);
  const seen: unknown[] = [];
  const subscription = service.on('messages.new').subscribe(({ payload }) => seen.push(payload.messageId));
  await until('it is live', () => service.status().state === 'live');
  const first = await publish();
  await until('it is heard', () => seen.length > 0);
  assert.ok(inside.mock.callCount() > 1);
  subscription.unsubscribe();
  const { cursor } = service.live;
  await publish();
  await until('the next one has arrived', () => service.live.cursor !== cursor);
  injector.destroy();
  assert.equal(service.live.status.state, 'closed');
  assert.equal(service.status().state, 'closed');
  assert.deepEqual(seen, [first]);
});

test('Svelte: stores that follow the status and the messages of a ticket, and a component of Svelte 5', async (t) => {
  interface Recipe {
    readonly live: Live;
    readonly status: Readable<Status>;
    messagesOf(ticketId: string): Readable<readonly RoomcastEvents['messages.new'][]>;
    readonly default: Component;
  }
  const { url, publish } = await startBridgeFor(t);
  const {
    live,
    status,
    messagesOf,
    default: Conversation,
  } = await load<Recipe>(
    `export * from './svelte/live.ts'; export { default } from './svelte/Conversation.svelte'`,
    url,
  );
  t.after(() => live.close());
  const states: string[] = [];
  t.after(status.subscribe(({ state }) => states.push(state)));
  let ids: unknown[] = [];
  const others: unknown[] = [];
  const unsubscribe = messagesOf('ticket-123').subscribe((messages) => {
    ids = messages.map(({ messageId }) => messageId);
  });
  const unsubscribeOther = messagesOf('ticket-9').subscribe((messages) => others.push(...messages));
  await until('it is live', () => states.at(-1) === 'live');
  const first = await publish();
  const second = await publish();
  await until('both are in the store', () => ids.length === 2);
  assert.deepEqual(ids, [first, second]);
  assert.deepEqual(others, []);
  unsubscribe();
  unsubscribeOther();
  const { cursor } = live;
  await publish();
  await until('the next one has arrived', () => live.cursor !== cursor);
  assert.deepEqual(ids, [first, second]);

  const { body } = await render(Conversation, { props: { ticketId: 'ticket-123', onreset() {} } });
  assert.match(body, /<p>live<\/p>/);
});

test('React Native: the client is woken when the app is in front again, and lets go of the app when it is closed', async (t) => {
  interface Stub {
    readonly listeners: Set<(state: string) => void>;
  }
  const { url, options, publish } = await startBridgeFor(t);
  const { connectApp } = await load<{ connectApp: (options: ConnectOptions) => Live }>(
    `export * from './react-native/live.ts'`,
    url,
    {
      'react-native': `
      globalThis.reactNative = { listeners: new Set() };
      export const AppState = {
        addEventListener(type, listener) {
          globalThis.reactNative.listeners.add(listener);
          return { remove: () => globalThis.reactNative.listeners.delete(listener) };
        },
      };`,
    },
  );
  const { listeners } = (globalThis as unknown as { reactNative: Stub }).reactNative;
  const live = connectApp(options);
  t.after(() => live.close());
  const seen: unknown[] = [];
  live.on('messages.new', ({ messageId }) => seen.push(messageId));
  await until('it is live', () => live.status.state === 'live');
  const wake = t.mock.method(live, 'wake');
  for (const listener of listeners) listener('background');
  assert.equal(wake.mock.callCount(), 0);
  for (const listener of listeners) listener('active');
  assert.equal(wake.mock.callCount(), 1);
  const first = await publish();
  await until('it is heard', () => seen.length > 0);
  assert.deepEqual(seen, [first]);
  live.close();
  assert.equal(listeners.size, 0);
});

/** What the adapters for React and Vue promise, in Chromium, on a page of test/support. */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import type { Page } from 'playwright-core';
import type { LiveList } from '../../src/client/lists/collections.ts';
import { messageNew, metric, startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { CHROMIUM, startBrowser, type TestBrowser } from '../support/browser.ts';
import { startObstacle } from '../support/obstacles.ts';
import { keepPublishing, type Publishing } from '../support/publishing.ts';
import { until } from '../support/until.ts';

interface Drawing {
  readonly options: { readonly url: string; readonly rooms?: object };
  readonly tenantId: string;
  readonly open?: readonly (string | null)[];
  readonly isOwn?: boolean;
}

let tenants = 0;
const freshTenant = (): string => `adapter-${++tenants}`;

export interface AdapterOptions {
  /** Files and packages in place of those that the page imports. With another React, what depends on it least is left out. */
  readonly alias?: Record<string, string>;
  /** The example of the docs: a module that exports `App`, which the page draws with `window.drawApp(tenantId)`. */
  readonly example?: string;
}

export function describeAdapter(name: string, file: string, { alias, example }: AdapterOptions = {}): void {
  describe(`${name} in Chromium`, { skip: CHROMIUM === null ? 'chromium is not installed' : false }, () => {
    let browser: TestBrowser;
    let bridge: TestBridge;
    before(async () => {
      // Named: a bundler drops a module of which nothing is used.
      const app = example === undefined ? '' : `${example}; window.App = App;`;
      const code = `import { adapter } from './test/support/${file}'; window.adapter = adapter; ${app}`;
      browser = await startBrowser({ code, ready: 'adapter', alias: alias ?? {} });
      bridge = await startBridge({
        heartbeatMs: 500,
        retryMs: 20,
        drainMs: 200,
        corsOrigins: [browser.origin],
        signals: ['tickets.typing'],
      });
    });
    after(async () => {
      await browser.close();
      await bridge.close();
    });
    const closing: (() => unknown)[] = [];
    afterEach(async () => {
      for (const close of closing.splice(0).reverse()) await close();
    });

    async function open(): Promise<Page> {
      const { page, context } = await browser.open();
      closing.push(() => context.close());
      page.on('pageerror', (error) => assert.fail(error));
      page.on('console', (message) => {
        if (/warn|error/.test(message.type()) && !/Failed to load|React DevTools/.test(message.text()))
          assert.fail(message.text());
      });
      return page;
    }

    const draw = (page: Page, drawing: Drawing) => page.evaluate(`window.draw(${JSON.stringify(drawing)})`);
    const see = <Value>(page: Page, what: string) => page.evaluate<Value>(`window.see(${JSON.stringify(what)})`);
    const heardBy = (page: Page) => page.evaluate<[string, string, string][]>('window.heard');
    const live = (page: Page) =>
      until('live', async () => (await see<{ state: string }>(page, 'status')).state === 'live', 20_000);
    const roomsOf = (page: Page) => page.evaluate<string[] | undefined>('window.see("live")?.rooms');
    const ticketOf = (tenantId: string, number = 1): string => `${tenantId}-${number}`;
    const connections = () => metric(bridge, 'roomcast_connections{transport="websocket"}');

    /** Messages of two tickets, and the tickets themselves, without a pause, until `stop`. */
    function publishOn(tenantIds: readonly string[]): Publishing {
      let count = 0;
      const publishing = keepPublishing(async () => {
        count++;
        const tenantId = tenantIds[count % tenantIds.length] as string;
        const ids = { tenantId, ticketId: ticketOf(tenantId, 1 + (count % 4 > 1 ? 1 : 0)), agreementId: null };
        if (count % 3 !== 0) return (await bridge.publish('messages.new', messageNew(ids))).id;
        await bridge.publish('tickets.updated', ticketUpdated({ ...ids, ticket: { count } }));
        return null;
      });
      closing.push(publishing.stop);
      return publishing;
    }

    async function showsState(page: Page, tenantId: string, url = bridge.url): Promise<void> {
      const read = async (path: string) =>
        ((await (await fetch(`${url}/${path}tenantId=${tenantId}&limit=1000`)).json()) as { items: unknown[] }).items;
      for (const [what, path] of [
        ['tickets', 'tickets?'],
        ['messages0', `tickets/${ticketOf(tenantId)}/messages?`],
      ] as const) {
        const expected = JSON.stringify(await read(path));
        let shown = '';
        await until(`${what} are the state`, async () => {
          const list = await see<LiveList<unknown>>(page, what);
          if (list.hasMore && !list.isLoading) await page.evaluate(`window.see(${JSON.stringify(what)}).loadMore()`);
          shown = JSON.stringify(list.items);
          return shown === expected && !list.hasMore;
        }).catch(() => assert.equal(shown.slice(0, 1000), expected.slice(0, 1000)));
      }
    }

    test('one connection hears each event once, and conversations that open meanwhile have no gap', async () => {
      const tenantId = freshTenant();
      const [first, second] = [ticketOf(tenantId, 1), ticketOf(tenantId, 2)];
      const page = await open();
      const drawing = { options: { url: bridge.url, rooms: { tenantId } }, tenantId };
      await draw(page, drawing);
      await live(page);
      await until('one connection', async () => (await connections()) === 1);
      const publishing = publishOn([tenantId]);
      const heard = (count: number) => until('heard', async () => (await heardBy(page)).length > count);
      await heard(50);
      await draw(page, { ...drawing, open: [first, first, second] });
      await heard(150);
      await draw(page, { ...drawing, open: [null, first] });
      await draw(page, { ...drawing, open: [first, first] });
      await heard(300);
      const published = await publishing.stop();
      await until('all heard', async () => (await heardBy(page)).length >= published.length);
      assert.deepEqual(
        (await heardBy(page)).map(([, , cursor]) => cursor),
        published,
      );
      await showsState(page, tenantId);
      assert.deepEqual(await see(page, 'messages1'), await see(page, 'messages0'));
      // What nobody shows is left; what two showed stays for the other one.
      await until('the other one is left', async () => !(await roomsOf(page))?.includes(`ticket:${second}`));
      await draw(page, { ...drawing, open: [null, first] });
      const signal = { event: 'tickets.typing', room: `ticket:${first}`, payload: { name: 'Ana' }, tenantId };
      const send = (ttlSeconds: number) =>
        fetch(`${bridge.url}/signals`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ ...signal, ttlSeconds }),
        });
      const typing = () => see<{ payload: unknown }[]>(page, 'signals1');
      assert.equal((await send(60)).status, 202);
      await until('typing', async () => (await typing()).length === 1);
      assert.deepEqual((await typing())[0]?.payload, { name: 'Ana' });
      await send(0);
      await until('typed', async () => (await typing()).length === 0);
      assert.equal(await connections(), 1);
      await page.evaluate('window.clear()');
      await until('closed', async () => (await connections()) === 0);
    });

    test('another tenant: the old client is closed, and none of its events reaches a handler of the new one', async () => {
      const [first, second] = [freshTenant(), freshTenant()];
      const page = await open();
      const publishing = publishOn([first, second]);
      const of = (tenantId: string): Drawing => {
        return { options: { url: bridge.url, rooms: { tenantId } }, tenantId, open: [ticketOf(tenantId)] };
      };
      for (let turn = 1; turn <= 6; turn++) {
        const tenantId = turn % 2 === 0 ? second : first;
        await draw(page, of(tenantId));
        // The same values in another object change nothing.
        await draw(page, of(tenantId));
        const before = (await heardBy(page)).length;
        await until('heard', async () => (await heardBy(page)).length > before + 20);
      }
      await publishing.stop();
      const heard = await heardBy(page);
      assert.deepEqual(
        heard.filter(([shown, own]) => shown !== own),
        [],
      );
      assert.equal(new Set(heard.map(([, , cursor]) => cursor)).size, heard.length);
      assert.deepEqual(new Set(heard.map(([shown]) => shown)), new Set([first, second]));
      await live(page);
      await showsState(page, second);
      await until('one connection', async () => (await connections()) === 1);
    });

    if (alias?.react !== undefined) return;

    test('a lost log: what is shown is read again', async () => {
      const tenantId = freshTenant();
      const fresh = await startBridge({ drainMs: 200, corsOrigins: [browser.origin] });
      closing.push(fresh.close);
      const ticketId = ticketOf(tenantId);
      for (const each of [bridge, bridge, fresh]) {
        await each.publish('messages.new', messageNew({ tenantId, ticketId }));
        await each.publish('tickets.updated', ticketUpdated({ tenantId, ticketId }));
      }
      const between = await startObstacle(bridge.url);
      closing.push(between.close);
      const page = await open();
      await draw(page, { options: { url: between.url, rooms: { tenantId } }, tenantId, open: [ticketId] });
      await live(page);
      await showsState(page, tenantId);
      between.retarget(fresh.url);
      between.cut();
      await showsState(page, tenantId, fresh.url);
      await fresh.publish('messages.new', messageNew({ tenantId, ticketId }));
      await showsState(page, tenantId, fresh.url);
    });

    test('a client of your own is used, its handlers are removed, and you close it', async () => {
      const tenantId = freshTenant();
      const page = await open();
      const drawing = { options: { url: bridge.url, rooms: { tenantId } }, tenantId, isOwn: true };
      await draw(page, drawing);
      await live(page);
      // Drawn again and again, the handler is not registered again.
      await page.evaluate('window.ons = 0; const { on } = own; own.on = (...given) => (window.ons++, on(...given));');
      for (let turn = 0; turn < 5; turn++) await draw(page, drawing);
      assert.equal(await page.evaluate('window.ons'), 0);
      await page.evaluate('window.clear(); window.got = 0; own.on("messages.new", () => window.got++)');
      await bridge.publish('messages.new', messageNew({ tenantId }));
      await until('heard', () => page.evaluate<boolean>('window.got === 1'));
      assert.deepEqual(await heardBy(page), []);
      await page.evaluate('own.close()');
    });

    if (example === undefined) return;
    test('the example of the docs is an inbox', async () => {
      const tenantId = freshTenant();
      const ticketId = ticketOf(tenantId);
      await bridge.publish('tickets.updated', ticketUpdated({ tenantId, ticketId, ticket: { subject: 'Bom dia' } }));
      const page = await open();
      await page.evaluate(
        `window.bridgeUrl = ${JSON.stringify(bridge.url)}; window.drawApp(${JSON.stringify(tenantId)})`,
      );
      await page.getByText('Bom dia').click();
      await page.locator('ul').waitFor({ state: 'attached' });
      await bridge.publish('messages.new', messageNew({ tenantId, ticketId, message: { content: 'Tudo bem?' } }));
      await page.getByText('Tudo bem?').waitFor();
      await until('live', async () => (await page.locator('main').getAttribute('data-status')) === 'live');
      const signal = { event: 'tickets.typing', room: `ticket:${ticketId}`, tenantId };
      await fetch(`${bridge.url}/signals`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(signal),
      });
      await page.getByText('1 typing').waitFor();
    });
  });
}

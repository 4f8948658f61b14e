/** The client library in Chromium: cross-origin, on bad networks, behind forward proxies, across reloads, offline. */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import type { Page } from 'playwright-core';
import { messageNew, startBridge, type TestBridge } from '../support/bridge.ts';
import { CHROMIUM, startBrowser, type TestBrowser } from '../support/browser.ts';
import { type Habits, type Obstacle, startObstacle } from '../support/obstacles.ts';
import { programOf, programPath, startProxy } from '../support/proxies.ts';
import { keepPublishing, type Publishing } from '../support/publishing.ts';
import { until } from '../support/until.ts';

let tenants = 0;
const freshTenant = (): string => `browser-${++tenants}`;

const heardBy = (page: Page): Promise<string[]> => page.evaluate('window.heard');
const transportOf = (page: Page): Promise<string | null> => page.evaluate('window.live.status.transport');

describe('in Chromium', { skip: CHROMIUM === null ? 'chromium is not installed' : false }, () => {
  let browser: TestBrowser;
  let bridge: TestBridge;
  before(async () => {
    browser = await startBrowser();
    bridge = await startBridge({
      heartbeatMs: 500,
      retryMs: 20,
      corsOrigins: [browser.origin],
      signals: ['tickets.viewing'],
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

  async function obstacle(habits: Partial<Habits> = {}): Promise<Obstacle> {
    const started = await startObstacle(bridge.url, habits);
    closing.push(started.close);
    return started;
  }

  async function open(options: object, proxy?: string): Promise<Page> {
    const { page, context } = await browser.open(proxy === undefined ? {} : { proxy });
    closing.push(() => context.close());
    await connectOn(page, options);
    return page;
  }

  async function connectOn(page: Page, options: object): Promise<void> {
    await page.evaluate(`window.connectHere(${JSON.stringify({ heartbeatMs: 500, patienceMs: 1500, ...options })})`);
    await until('begun', async () => (await page.evaluate('window.live.cursor')) !== null);
  }

  const over = (page: Page, transport: string) =>
    until(`live over ${transport}`, async () => (await transportOf(page)) === transport);

  function publishOn(tenantId: string): Publishing {
    const publishing = keepPublishing(
      async () => (await bridge.publish('messages.new', messageNew({ tenantId, agreementId: null }))).id,
    );
    closing.push(publishing.stop);
    return publishing;
  }

  async function heardAll(page: Page, published: readonly string[]): Promise<void> {
    await until('all heard', async () => (await heardBy(page)).length >= published.length);
    assert.deepEqual(await heardBy(page), published);
  }

  for (const [name, habits, lands] of [
    ['lets everything through', {}, 'websocket'],
    ['refuses upgrades', { upgrade: 'refuse' }, 'sse'],
    ['accepts upgrades and drops the frames', { upgrade: 'swallow' }, 'sse'],
    ['drops frames and holds streams back', { upgrade: 'swallow', sse: 'hold' }, 'poll'],
  ] as const) {
    test(`a network that ${name} uses ${lands}, and the events equal the log`, async () => {
      const tenantId = freshTenant();
      const between = await obstacle(habits);
      const page = await open({ url: between.url, rooms: { tenantId } });
      const publishing = publishOn(tenantId);
      await over(page, lands);
      await until('heard over it', () => page.evaluate(`window.by.includes(${JSON.stringify(lands)})`));
      Object.assign(between.habits, { upgrade: 'pass', sse: 'pass' });
      await over(page, 'websocket');
      await heardAll(page, await publishing.stop());
    });
  }

  test('connections that are cut every few hundred milliseconds, at full speed, lose no event', async () => {
    const tenantId = freshTenant();
    const between = await obstacle();
    const page = await open({ url: between.url, rooms: { tenantId } });
    between.habits.cutEveryMs = 300;
    const publishing = publishOn(tenantId);
    await until('a long list', async () => between.cuts > 8 && (await heardBy(page)).length > 1000);
    await heardAll(page, await publishing.stop());
  });

  test('a page that is reloaded again and again continues at its cursor', async () => {
    const tenantId = freshTenant();
    const options = { url: bridge.url, rooms: { tenantId }, persist: true };
    const page = await open(options);
    const publishing = publishOn(tenantId);
    const all: string[] = [];
    for (let load = 0; load < 4; load++) {
      await until('some heard', async () => (await heardBy(page)).length > 20);
      // In one step, so that no event arrives between the copy and the end of the page.
      all.push(...(await page.evaluate<string[]>('(window.live.close(), window.heard)')));
      await page.reload();
      await page.waitForFunction('window.connectHere !== undefined');
      await connectOn(page, options);
    }
    const published = await publishing.stop();
    await until('all heard', async () => all.length + (await heardBy(page)).length >= published.length);
    assert.deepEqual([...all, ...(await heardBy(page))], published);
  });

  test('offline it sends no request; online again it gets the missed events', async () => {
    const tenantId = freshTenant();
    const between = await obstacle();
    const page = await open({ url: between.url, rooms: { tenantId } });
    await over(page, 'websocket');
    await page.context().setOffline(true);
    between.cut();
    await until('not live', async () => (await transportOf(page)) === null);
    const asked = between.seen.length;
    const published: string[] = [];
    for (let count = 0; count < 200; count++) {
      published.push((await bridge.publish('messages.new', messageNew({ tenantId }))).id);
    }
    assert.equal(between.seen.length, asked);
    await page.context().setOffline(false);
    await heardAll(page, published);
  });

  for (const transport of ['websocket', 'sse', 'poll'] as const) {
    const activeIn = async (tenantId: string): Promise<unknown[]> => {
      const response = await fetch(`${bridge.url}/signals?tenantId=${tenantId}`);
      return ((await response.json()) as { signals: unknown[] }).signals;
    };
    const keep = (page: Page, tenantId: string): Promise<unknown> =>
      page.evaluate(`void live.keep('tickets.viewing', 'tenant:${tenantId}', {}, { ttlSeconds: 100 })`);

    test(`two tabs over ${transport} see each other's signal and not their own`, async () => {
      const tenantId = freshTenant();
      const options = { url: bridge.url, rooms: { tenantId }, transports: [transport] };
      const first = await open(options);
      const second = await first.context().newPage();
      await second.goto(browser.origin);
      await second.waitForFunction('window.connectHere !== undefined');
      await connectOn(second, options);
      for (const page of [first, second]) await keep(page, tenantId);
      await until('both active', async () => (await activeIn(tenantId)).length === 2);
      for (const page of [first, second]) {
        await until('the other', () => page.evaluate('live.signals().length === 1'));
      }
    });

    test(`a page that is hidden, or left, ends what it keeps over ${transport}`, async () => {
      const tenantId = freshTenant();
      const page = await open({ url: bridge.url, rooms: { tenantId }, transports: [transport] });
      await over(page, transport);
      await keep(page, tenantId);
      await until('active', async () => (await activeIn(tenantId)).length === 1);
      // A page of a headless Chromium is always visible.
      const show = (state: string): Promise<unknown> =>
        page.evaluate(`
          Object.defineProperty(document, 'visibilityState', { configurable: true, value: '${state}' });
          document.dispatchEvent(new Event('visibilitychange', { bubbles: true }));
        `);
      await show('hidden');
      await until('ended', async () => (await activeIn(tenantId)).length === 0);
      await show('visible');
      await until('active again', async () => (await activeIn(tenantId)).length === 1);
      await page.goto('about:blank');
      await until('ended', async () => (await activeIn(tenantId)).length === 0);
    });
  }

  for (const name of ['squid', 'tinyproxy'] as const) {
    const skip = programPath(programOf(name)) === null ? `${name} is not installed` : false;
    test(`behind ${name}, as in an office, it uses SSE because no websocket passes`, { skip }, async () => {
      const tenantId = freshTenant();
      const proxy = await startProxy(name, bridge.url);
      closing.push(proxy.close);
      const page = await open({ url: bridge.url, rooms: { tenantId } }, proxy.url);
      const publishing = publishOn(tenantId);
      await over(page, 'sse');
      await until('heard over it', () => page.evaluate('window.by.filter((by) => by === "sse").length > 100'));
      await heardAll(page, await publishing.stop());
    });
  }
});

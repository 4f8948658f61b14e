/** Waking in Chromium: a tab that was frozen, a network that went and came back, and a look at a page whose connections are dead. */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import type { Page } from 'playwright-core';
import { messageNew, startBridge, type TestBridge } from '../support/bridge.ts';
import { CHROMIUM, startBrowser, type TestBrowser } from '../support/browser.ts';
import { startCutProxy } from '../support/cut-proxy.ts';
import { until } from '../support/until.ts';

describe('waking in Chromium', { skip: CHROMIUM === null ? 'chromium is not installed' : false }, () => {
  let browser: TestBrowser;
  let bridge: TestBridge;
  before(async () => {
    browser = await startBrowser();
    // Nothing but a look finds out in time.
    bridge = await startBridge({ heartbeatMs: 60_000, corsOrigins: [browser.origin] });
  });
  after(async () => {
    await browser.close();
    await bridge.close();
  });
  const closing: (() => unknown)[] = [];
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close();
  });

  let tenants = 0;
  async function open(url: string, transport: string): Promise<{ page: Page; publish(): Promise<string> }> {
    const tenantId = `woken-${++tenants}`;
    const { page, context } = await browser.open();
    closing.push(() => context.close());
    const options = { url, rooms: { tenantId }, transports: [transport], heartbeatMs: 60_000 };
    await page.evaluate(`window.connectHere(${JSON.stringify(options)})`);
    await until('live', async () => (await page.evaluate('live.status.transport')) === transport);
    const publish = async () => (await bridge.publish('messages.new', messageNew({ tenantId }))).id;
    return { page, publish };
  }

  async function heardAll(page: Page, published: readonly string[]): Promise<void> {
    await until('all heard', async () => ((await page.evaluate('heard.length')) as number) >= published.length);
    assert.deepEqual(await page.evaluate('heard'), published);
  }

  for (const transport of ['websocket', 'sse', 'poll']) {
    test(`over ${transport}, a tab that was frozen gets what it missed, once and in order`, async (t) => {
      const { page, publish } = await open(bridge.url, transport);
      const published = [await publish()];
      await heardAll(page, published);
      const devtools = await page.context().newCDPSession(page);
      await devtools.send('Page.setWebLifecycleState', { state: 'frozen' });
      for (let count = 0; count < 20; count++) published.push(await publish());
      await devtools.send('Page.setWebLifecycleState', { state: 'active' });
      const lookedMs = performance.now();
      await heardAll(page, published);
      t.diagnostic(`the missed events after ${Math.round(performance.now() - lookedMs)} ms`);
      await until('live', async () => (await page.evaluate('live.status.state')) === 'live');
      published.push(await publish());
      await heardAll(page, published);
    });

    test(`over ${transport}, a look brings what a dead network connection did not`, async (t) => {
      const proxy = await startCutProxy(bridge.url);
      closing.push(proxy.close);
      const { page, publish } = await open(proxy.url, transport);
      const published = [await publish()];
      await heardAll(page, published);
      proxy.loseDownstream();
      published.push(await publish(), await publish());
      const lookedMs = performance.now();
      await page.evaluate("window.dispatchEvent(new Event('focus'))");
      await heardAll(page, published);
      t.diagnostic(`the missed events after ${Math.round(performance.now() - lookedMs)} ms`);
      await until('replaced', async () => {
        published.push(await publish());
        return (await page.evaluate('live.status.state')) === 'live' && (await arrives(page, published));
      });
      await heardAll(page, published);
    });

    test(`over ${transport}, offline is not live, and online again it gets what it missed`, async () => {
      const { page, publish } = await open(bridge.url, transport);
      await page.context().setOffline(true);
      await until('not live', async () => (await page.evaluate('live.status.state')) === 'reconnecting');
      const published = [await publish(), await publish()];
      await page.context().setOffline(false);
      await heardAll(page, published);
      await until('live', async () => (await page.evaluate('live.status.state')) === 'live');
      published.push(await publish());
      await heardAll(page, published);
    });
  }

  /** Whether all is there when a message of the server had the time to arrive. */
  async function arrives(page: Page, published: readonly string[]): Promise<boolean> {
    await page.evaluate(`fetch('${bridge.url}/events?tenantId=x').then((answer) => answer.text())`);
    return (await page.evaluate('heard.length')) === published.length;
  }
});

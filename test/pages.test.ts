/**
 * The two pages in a real Chromium, in short: the console shows an event as it is published, the connection check comes
 * to a verdict. The slow suite holds everything else about them. Needs the pages built: `npm run build:pages`.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { type Browser, chromium, type Page } from 'playwright-core';
import { startBridge, type TestBridge, ticketUpdated } from './support/bridge.ts';
import { CHROMIUM, FLAGS } from './support/browser.ts';
import { until } from './support/until.ts';

describe('the pages in Chromium', { skip: CHROMIUM === null ? 'chromium is not installed' : false }, () => {
  let browser: Browser;
  let bridge: TestBridge;
  before(async () => {
    assert.ok(existsSync('dist/pages/console.html'), 'the pages are not built: npm run build:pages');
    browser = await chromium.launch({ executablePath: CHROMIUM as string, args: FLAGS });
    bridge = await startBridge();
  });
  after(async () => {
    await browser.close();
    await bridge.close();
  });

  /** A page, and the errors that it has logged or thrown. */
  async function open(path: string): Promise<{ page: Page; faults: string[] }> {
    const page = await browser.newPage();
    const faults: string[] = [];
    page.on('pageerror', (error) => faults.push(error.message));
    page.on('console', (message) => {
      if (message.type() === 'error') faults.push(message.text());
    });
    await page.goto(bridge.url + path);
    return { page, faults };
  }

  test('every view of the console loads, and Live shows what is published', async () => {
    const { page, faults } = await open('/console');
    const links = page.locator('nav a[href^="#"]');
    await links.first().waitFor();
    for (const link of await links.all()) {
      const view = await link.getAttribute('href');
      await link.click();
      await page.locator(`nav a[href="${view}"][aria-current=page]`).waitFor();
    }
    await page.locator('nav a[href="#live"]').click();
    await page.locator('form input[list]').fill('tenant-1');
    await page.locator('form button[type=submit]').click();
    await until('the event is shown', async () => {
      await bridge.publish('tickets.updated', ticketUpdated());
      return (await page.locator('[role=listbox] [role=option]').count()) > 0;
    });
    assert.deepEqual(faults, []);
  });

  test('the connection check finds that every transport passes', async () => {
    const { page, faults } = await open('/check?idle=0');
    await page.locator('[data-verdict]').waitFor();
    assert.equal(await page.locator('[data-transport][data-outcome=passes]').count(), 4);
    assert.deepEqual(faults, []);
  });
});

/**
 * The console in a real Chromium against a real bridge, for the suites of its views (test/slow/console*.test.ts). Needs
 * `npm run build:pages`.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, afterEach, before, describe } from 'node:test';
import { SignJWT } from 'jose';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import type { Config } from '../../src/config.ts';
import { startBridge, type TestBridge } from './bridge.ts';
import { CHROMIUM, FLAGS } from './browser.ts';

/** In the order of the navigation. */
export const VIEWS = ['find', 'log', 'overview', 'live', 'publish', 'compare'] as const;
export type View = (typeof VIEWS)[number];

export const SECRET = 'a secret of at least thirty-two bytes';

/** A token of a bridge with `{ authMode: 'jwt', jwtSecret: SECRET }`; it expires in an hour unless the claims say when. */
export const token = (claims: object): Promise<string> => {
  const jwt = new SignJWT({ ...claims }).setProtectedHeader({ alg: 'HS256' });
  return ('exp' in claims ? jwt : jwt.setExpirationTime('1h')).sign(new TextEncoder().encode(SECRET));
};

/** A page, its errors and the URLs that it requested. */
export interface Watched {
  readonly page: Page;
  /** Console errors, page errors and violations of the page's policy. */
  readonly faults: string[];
  readonly urls: string[];
}

export interface ConsoleSuite {
  /** Starts a bridge that ends with the test. */
  start(options?: Partial<Config>): Promise<TestBridge>;
  /**
   * Opens the console in a fresh browser profile that ends with the test.
   * @param hash the view, perhaps with parameters: `log?room=ticket:1`
   */
  open(url: string, hash?: string, options?: BrowserContextOptions): Promise<Watched>;
  /** Calls this when the test ends. */
  defer(close: () => unknown): void;
}

/** A suite with one Chromium; it is skipped where there is none. */
export function describeConsole(title: string, body: (suite: ConsoleSuite) => void): void {
  describe(title, { skip: CHROMIUM === null ? 'chromium is not installed' : false }, () => {
    let browser: Browser;
    before(async () => {
      assert.ok(existsSync('dist/pages/console.html'), 'the pages are not built: npm run build:pages');
      browser = await chromium.launch({ executablePath: CHROMIUM as string, args: FLAGS });
    });
    after(() => browser.close());
    const closing: (() => unknown)[] = [];
    afterEach(async () => {
      for (const close of closing.splice(0).reverse()) await close();
    });
    body({
      async start(options = {}) {
        const bridge = await startBridge(options);
        closing.push(bridge.close);
        return bridge;
      },
      async open(url, hash = 'find', options = {}) {
        const context = await browser.newContext({
          locale: 'en-US',
          viewport: { width: 1440, height: 900 },
          ...options,
        });
        closing.push(() => context.close());
        const page = await context.newPage();
        page.setDefaultTimeout(20_000);
        const faults: string[] = [];
        const urls: string[] = [];
        page.on('console', (message) => {
          if (message.type() === 'error' || message.type() === 'warning') faults.push(message.text());
        });
        page.on('pageerror', (error) => faults.push(error.message));
        page.on('request', (request) => urls.push(request.url()));
        page.on('websocket', (socket) => urls.push(socket.url().replace(/^ws/, 'http')));
        await page.goto(`${url}/console#${hash}`);
        await page.locator('.statuses:not([data-server=loading])').waitFor();
        return { page, faults, urls };
      },
      defer: (close) => closing.push(close),
    });
  });
}

/** Goes to a view by the navigation. */
export async function goTo(page: Page, view: View): Promise<void> {
  await page.locator(`nav a[href="#${view}"]`).click();
  await page.locator(`nav a[href="#${view}"][aria-current=page]`).waitFor();
}

/** By how many pixels the page is wider than the window. */
export const overflow = (page: Page): Promise<number> =>
  page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth');

const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
export const WIDTHS = [360, 768, 1440] as const;

interface Violation {
  readonly id: string;
  readonly impact: string;
  readonly nodes: readonly { readonly html: string; readonly failureSummary: string }[];
}

/**
 * At each width nothing is wider than the window, and the accessibility audit finds nothing serious. Open the page with
 * `bypassCSP`: its policy forbids foreign scripts.
 */
export async function assertSound(page: Page, what: string, widths: readonly number[] = WIDTHS): Promise<void> {
  const before = page.viewportSize();
  for (const width of widths) {
    await page.setViewportSize({ width, height: 900 });
    assert.equal(await overflow(page), 0, `${what} at ${width} px is too wide`);
    if (!(await page.evaluate<boolean>('"axe" in window'))) await page.evaluate(readFileSync(AXE, 'utf8'));
    const { violations } = await page.evaluate<{ violations: readonly Violation[] }>(
      'axe.run(document, { resultTypes: ["violations"] })',
    );
    const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
    assert.deepEqual(
      serious.map(({ id, nodes }) => `${id}: ${nodes[0]?.html} ${nodes[0]?.failureSummary}`),
      [],
      `${what} at ${width} px`,
    );
  }
  if (before !== null) await page.setViewportSize(before);
}

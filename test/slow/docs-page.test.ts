/**
 * The API reference `/docs` in a real Chromium: it reads well without scripts, loads nothing from elsewhere, keeps its
 * Content-Security-Policy, and sends requests to this server, streams and deletions included.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, afterEach, before, describe, test } from 'node:test';
import { SignJWT } from 'jose';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { startBridge, type TestBridge, ticketUpdated } from '../support/bridge.ts';
import { CHROMIUM, FLAGS } from '../support/browser.ts';
import { until } from '../support/until.ts';

const AXE = readFileSync(new URL('../../node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
/** One of each thing on the page: the whole of it takes axe half a minute. */
const AUDITED = [
  '.top',
  '.contents',
  '.intro',
  'article:has(#publish)',
  '#schemas',
  'section:has(> #schemas) > details:first-of-type',
];
const SECRET = 'a secret of thirty-two bytes or more';

describe('/docs in Chromium', { skip: CHROMIUM === null ? 'chromium is not installed' : false }, () => {
  let browser: Browser;
  let bridge: TestBridge;
  const closing: (() => unknown)[] = [];
  before(async () => {
    browser = await chromium.launch({ executablePath: CHROMIUM as string, args: FLAGS });
    bridge = await startBridge({ basePath: '/rt' });
  });
  after(async () => {
    await browser.close();
    await bridge.close();
  });
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close();
  });

  /** A page on which nothing goes wrong: no error, no violated policy, no request to another origin. */
  async function open(url: string, options: BrowserContextOptions = {}): Promise<Page> {
    const context = await browser.newContext({ locale: 'en-US', ...options });
    const page = await context.newPage();
    const faults: string[] = [];
    page.on('pageerror', ({ message }) => faults.push(message));
    page.on('console', (message) => {
      // The browser also logs each answer of 400 and more.
      if (message.type() === 'error' && !message.text().startsWith('Failed to load')) faults.push(message.text());
    });
    page.on('request', (sent) => {
      const { origin, protocol } = new URL(sent.url());
      if (protocol !== 'data:' && origin !== new URL(url).origin) faults.push(sent.url());
    });
    closing.push(async () => {
      await context.close();
      assert.deepEqual(faults, []);
    });
    await page.goto(url);
    return page;
  }

  /** The operation, scrolled to, with its form open. */
  async function openForm(page: Page, operationId: string) {
    const article = page.locator(`article:has(#${operationId})`);
    // On a narrow screen it stands below the text, and is built when it comes near.
    await article
      .locator('.try')
      .evaluate((place) => (place as unknown as { scrollIntoView(): void }).scrollIntoView());
    await article.locator('.try button.primary').click();
    return article;
  }

  async function assertSound(page: Page, what: string): Promise<void> {
    // evaluate is not bound by the page's policy.
    const found = (await page.evaluate(
      `${AXE};axe.run(${JSON.stringify(AUDITED)}).then(({ violations }) => violations.map(({ id, nodes }) => id + ' ' + nodes[0].html))`,
    )) as string[];
    assert.deepEqual(found, [], what);
    const ids = await page.evaluate<string[]>("[...document.querySelectorAll('[id]')].map(({ id }) => id)");
    assert.deepEqual(
      ids.filter((id, n) => ids.indexOf(id) !== n),
      [],
      `${what}: the same id twice`,
    );
    assert.ok(await page.evaluate('document.documentElement.scrollWidth <= innerWidth'), `${what}: overflow`);
  }

  for (const [width, colorScheme, locale] of [
    [360, 'dark', 'pt-BR'],
    [768, 'light', 'en-US'],
    [1440, 'dark', 'en-US'],
    [1440, 'light', 'pt-BR'],
  ] as const) {
    test(`passes the audit at ${width} px, ${colorScheme}, ${locale}, with an answer`, async () => {
      const page = await open(`${bridge.url}/docs`, { colorScheme, locale, viewport: { width, height: 800 } });
      const article = await openForm(page, 'publish');
      await article.locator('button[type=submit]').click();
      await article.locator('.answer strong').waitFor();
      await assertSound(page, 'with an answer');
      if (width >= 960) return;
      await page.locator('.menu button').click();
      await page.locator('.contents').waitFor();
      await assertSound(page, 'with its contents');
      await page.locator('.contents a[href="#stream"]').click();
      await page.locator('.contents').waitFor({ state: 'hidden' });
    });
  }

  test('without scripts: every operation, its links, and schemas that open', async () => {
    const page = await open(`${bridge.url}/docs`, { javaScriptEnabled: false });
    assert.ok((await page.locator('article').count()) > 20);
    assert.equal(await page.locator('.contents li li').count(), await page.locator('article').count());
    await page.locator('article:has(#publish) a[href="#schema-publishone"]').first().click();
    await page.locator('#schema-publishone').waitFor();
    await page.locator('#schema-publishone summary', { hasText: 'messages.new' }).click();
    await page.locator('#schema-publishone a[href="#schema-messagesnew"]').first().click();
    await page.locator('#schema-messagesnew').getByText('providerMessageId').first().waitFor();
  });

  test('the search narrows the contents, and Enter goes to the first route', async () => {
    const page = await open(`${bridge.url}/docs`);
    await page.locator('#search input').waitFor();
    await page.keyboard.press('/');
    await page.keyboard.type('revocations lift');
    await page.getByText('1 route', { exact: true }).waitFor();
    assert.equal(await page.locator('.contents li li:visible').count(), 1);
    await page.keyboard.press('Enter');
    await until('there', () => page.url().endsWith('#liftRevocation'));
    await page.locator('.contents a[aria-current][href="#liftRevocation"]').waitFor();
    await page.locator('#search input').fill('zebra');
    await page.getByText(/^No route matches/).waitFor();
  });

  test('sends what its samples say, under a base path and behind a proxy that strips a prefix', async () => {
    const target = new URL(bridge.url);
    const proxy = createServer((incoming, outgoing) => {
      const path = incoming.url?.replace('/prefix', '/rt');
      const { method, headers } = incoming;
      const passed = request({ port: target.port, path, method, headers }, (answer) => {
        outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(outgoing);
      });
      outgoing.on('close', () => passed.destroy());
      passed.on('error', () => outgoing.destroy());
      incoming.pipe(passed);
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    closing.push(() => {
      proxy.closeAllConnections();
      proxy.close();
    });
    for (const url of [bridge.url, `http://127.0.0.1:${(proxy.address() as AddressInfo).port}/prefix`]) {
      const page = await open(`${url}/docs`);
      const article = await openForm(page, 'publish');
      await article.getByRole('button', { name: 'Send' }).click();
      await article.locator('.answer strong', { hasText: /^20[01]/ }).waitFor();
      await article
        .locator('.answer')
        .getByText(/"duplicate":/)
        .waitFor();
      assert.match(
        (await article.locator('.try pre').first().textContent()) ?? '',
        new RegExp(`^curl '${url}/events'`),
      );
      await article.getByRole('button', { name: 'JavaScript' }).click();
      assert.match((await article.locator('.try pre').first().textContent()) ?? '', /^const response = await fetch\(/);

      const ticket = await openForm(page, 'getTicket');
      await ticket.getByRole('button', { name: 'Send' }).click();
      await ticket.locator('.answer').getByText('"subject": "Delivery"').waitFor();
      await ticket.locator('.answer summary').click();
      await ticket
        .locator('.answer')
        .getByText(/x-request-id: /)
        .waitFor();
      await ticket.getByLabel('ticketId').fill('');
      await ticket.getByRole('button', { name: 'Send' }).click();
      await ticket.getByText('Fill this in.').waitFor();
    }
  });

  test('shows a stream as it arrives, until it is stopped', async () => {
    const page = await open(`${bridge.url}/docs`);
    const article = await openForm(page, 'stream');
    await article.getByRole('button', { name: 'Send' }).click();
    await article.locator('.answer').getByText('event: bridge.cursor').waitFor();
    await bridge.publish('tickets.updated', ticketUpdated({ ticketId: 'as it arrives'.replaceAll(' ', '-') }));
    await article.locator('.answer').getByText('"ticketId":"as-it-arrives"').waitFor();
    await article.getByRole('button', { name: 'Stop' }).click();
    await article.getByRole('button', { name: 'Send' }).waitFor();
    await article
      .locator('.answer')
      .getByText(/end after \d+ ms/)
      .waitFor();
    await until('the stream is closed', async () => {
      const metrics = await (await fetch(`${bridge.url}/metrics`)).text();
      return /^roomcast_connections\{transport="sse"\} 0$/m.test(metrics);
    });
  });

  test('asks before it deletes', async () => {
    await bridge.publish('tickets.updated', ticketUpdated({ ticketId: 'ticket-123', tenantId: 'tenant-1' }));
    const page = await open(`${bridge.url}/docs`);
    const deletions: string[] = [];
    page.on('request', (sent) => void (sent.method() === 'DELETE' && deletions.push(sent.url())));
    const article = await openForm(page, 'eraseTicket');
    await article.getByRole('button', { name: 'Send' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText('Send DELETE /rt/tickets/ticket-123?').waitFor();
    await dialog.getByRole('button', { name: 'Cancel' }).click();
    assert.deepEqual(deletions, []);
    await article.getByRole('button', { name: 'Send' }).click();
    await dialog.getByRole('button', { name: 'Send DELETE' }).click();
    await article
      .locator('.answer')
      .getByText(/"erased": \d/)
      .waitFor();
    assert.equal(deletions.length, 1);
  });

  test('keeps a token in the tab, sends it in a header, and shows it nowhere', async () => {
    const locked = await startBridge({ authMode: 'jwt', jwtSecret: SECRET });
    closing.push(() => locked.close());
    const token = await new SignJWT({ tenantId: 'acme', sub: 'ana', scope: 'subscribe publish' })
      .setProtectedHeader({ alg: 'HS256' })
      .setExpirationTime('5m')
      .sign(new TextEncoder().encode(SECRET));
    const page = await open(`${locked.url}/docs`);
    const article = await openForm(page, 'listTickets');
    await article.getByRole('button', { name: 'Send' }).click();
    await article.locator('.answer').getByText('"code": "unauthorized"').waitFor();
    await page.getByRole('button', { name: 'Add a token' }).click();
    await page.getByRole('dialog').getByLabel('Token').fill(` Bearer ${token}\n`);
    await page.getByRole('button', { name: 'Use token' }).click();
    await article.getByLabel('tenantId').fill('acme');
    await article.getByRole('button', { name: 'Send' }).click();
    await article.locator('.answer').getByText('"items": []').waitFor();
    assert.match((await article.locator('.try pre').first().textContent()) ?? '', /Bearer \$TOKEN/);
    assert.ok(!(await page.content()).includes(token));
    assert.equal(await page.evaluate('JSON.stringify(localStorage) + document.cookie'), '{}');
    assert.ok(!page.url().includes(token));
  });

  test('hostile answers stay text, and a long one is cut', async () => {
    const page = await open(`${bridge.url}/docs`);
    const article = await openForm(page, 'poll');
    const answers = ['<img src=x onerror="document.title=\'owned\'">\u202e', 'x'.repeat(1_000_000)];
    await page.route('**/events?*', (route) =>
      route.fulfill({ contentType: 'text/html', body: answers.shift() ?? '' }),
    );
    await article.getByRole('button', { name: 'Send' }).click();
    await article.locator('.answer').getByText('onerror').waitFor();
    assert.match((await article.locator('.answer').textContent()) ?? '', /\\u202e/);
    assert.equal(await page.locator('.answer img').count(), 0);
    await article.getByRole('button', { name: 'Send' }).click();
    await article.getByText('Only part of the body is shown.').waitFor();
    assert.equal((await article.locator('.answer .scroll pre').textContent())?.length, 200_000);
  });
});

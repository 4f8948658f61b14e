/** The page `/check` in a real Chromium, on a free network and behind obstacles: its verdicts, languages and layout. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, afterEach, before, describe, test } from 'node:test';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { startBridge, type TestBridge } from '../support/bridge.ts';
import { CHROMIUM, FLAGS } from '../support/browser.ts';
import { type Habits, startObstacle } from '../support/obstacles.ts';
import { type ProxyName, programOf, programPath, startProxy } from '../support/proxies.ts';
import { until } from '../support/until.ts';

const AXE = readFileSync(new URL('../../node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
/** Longer than the check's default timeout and its ticks. */
const VERDICT_MS = 40_000;

interface Finding {
  readonly id: string;
  readonly impact: string | null;
}

describe('/check in Chromium', { skip: CHROMIUM === null ? 'chromium is not installed' : false }, () => {
  let bridge: TestBridge;
  let browser: Browser;
  const closing: (() => unknown)[] = [];
  before(async () => {
    browser = await chromium.launch({ executablePath: CHROMIUM as string, args: FLAGS });
    bridge = await startBridge({
      heartbeatMs: 200,
      authMode: 'jwt',
      jwtSecret: 'a secret of thirty-two bytes or more',
    });
  });
  after(async () => {
    await browser.close();
    await bridge.close();
  });
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close();
  });

  async function open(url: string, options: BrowserContextOptions = {}, by = browser): Promise<Page> {
    const context = await by.newContext({ locale: 'en-US', ...options });
    closing.push(() => context.close());
    const page = await context.newPage();
    page.on('pageerror', (error) => assert.fail(error));
    await page.goto(url);
    return page;
  }

  const verdictOf = async (page: Page) => {
    await page.locator('[data-verdict]').waitFor({ timeout: VERDICT_MS });
    return page.locator('[data-verdict]').getAttribute('data-verdict');
  };
  /** A machine that is busy with other tests may delay ticks itself, so a check that says so runs again. */
  const untilVerdict = async (page: Page, verdict: string) => {
    for (let runs = 0; (await verdictOf(page)) !== verdict; runs++) {
      assert.ok(runs < 5, await reportOf(page));
      await page.locator('.verdict button').click();
      await page.locator('progress').waitFor();
    }
  };
  const reportOf = (page: Page) => page.locator('textarea').inputValue();

  /** The audit finds nothing serious, and nothing is wider than the window. */
  async function assertSound(page: Page, what: string): Promise<void> {
    await page.evaluate(AXE);
    const { violations } = (await page.evaluate('axe.run()')) as { violations: Finding[] };
    const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
    assert.deepEqual(
      serious.map(({ id }) => id),
      [],
      what,
    );
    assert.ok(await page.evaluate('document.documentElement.scrollWidth <= innerWidth'), `${what}: overflow`);
  }

  for (const locale of ['en-US', 'pt-BR']) {
    for (const colorScheme of ['light', 'dark'] as const) {
      for (const width of [360, 1440]) {
        test(`on a free network, in ${locale}, ${colorScheme}, ${width} px`, async () => {
          const { url } = await obstacle({ upgrade: width === 360 ? 'refuse' : 'pass' });
          const page = await open(`${url}/check?idle=1`, { locale, colorScheme, viewport: { width, height: 800 } });
          await page.locator('progress').waitFor();
          await assertSound(page, 'while it runs');
          await untilVerdict(page, width === 360 ? 'websocketBlocked' : 'good');
          assert.equal(await page.getAttribute('html', 'lang'), locale === 'pt-BR' ? 'pt-BR' : 'en');
          await assertSound(page, 'when it is done');
        });
      }
    }
  }

  test('keeps its colours in a browser without light-dark()', async () => {
    const page = await open('about:blank', { colorScheme: 'dark' });
    await page.route('**/assets/check.css', async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, body: (await response.text()).replaceAll('light-dark(', 'not-known(') });
    });
    await page.goto(`${bridge.url}/check?idle=0`);
    await verdictOf(page);
    const colors = await page.evaluate<
      string[]
    >(`['body', '.verdict .mark', '.languages [aria-pressed=true]'].map((of) =>
      getComputedStyle(document.querySelector(of)).backgroundColor)`);
    assert.equal(colors[0], 'rgb(255, 255, 255)');
    assert.ok(!colors.includes('rgba(0, 0, 0, 0)'), colors.join(' '));
    await assertSound(page, 'in an old browser');
  });

  async function obstacle(habits: Partial<Habits>) {
    const started = await startObstacle(bridge.url, habits);
    closing.push(started.close);
    return started;
  }

  test('starts by itself, says one sentence in each language, and offers a report to copy', async () => {
    const page = await open(`${bridge.url}/check?idle=1`, { permissions: ['clipboard-read', 'clipboard-write'] });
    await untilVerdict(page, 'good');
    assert.match(
      (await page.locator('.verdict').textContent()) ?? '',
      /Everything works\. Live updates arrive by WebSocket\./,
    );
    assert.equal(await page.locator('[data-transport] .used').count(), 1);
    assert.equal(await page.locator('[data-transport=websocket] .used').count(), 1);
    for (const transport of ['websocket', 'polling', 'sse', 'longpoll']) {
      assert.equal(await page.locator(`[data-transport=${transport}]`).getAttribute('data-outcome'), 'passes');
    }
    await page.context().addCookies([{ name: 'access_token', value: 'cookie-canary', url: bridge.url }]);
    const report = await reportOf(page);
    assert.match(report, /^Server: http:\/\/127\.0\.0\.1:\d+$/m);
    assert.match(report, /^From: Mozilla/m);
    assert.doesNotMatch(report, /canary|\?|undefined|null|NaN|\{/);
    await page.getByRole('button', { name: 'Copy the report' }).click();
    await page.getByText('Copied.').waitFor();
    assert.equal(await page.evaluate('navigator.clipboard.readText()'), report);

    await page.getByRole('button', { name: 'Português' }).click();
    assert.match((await page.locator('.verdict').textContent()) ?? '', /Tudo funciona\./);
    assert.match(await reportOf(page), /^Veredito: Tudo certo\./m);
    assert.equal(await page.title(), 'Teste de conexão · Roomcast');
  });

  test('runs again by keyboard, and the button keeps the focus', async () => {
    const page = await open(`${bridge.url}/check?idle=0`);
    await verdictOf(page);
    for (let n = 0; n < 3; n++) await page.keyboard.press('Tab');
    assert.equal(await page.evaluate('document.activeElement.textContent'), 'Run again');
    await page.keyboard.press('Enter');
    await page.locator('progress').waitFor();
    assert.equal(await page.evaluate('document.activeElement.textContent'), 'Run again');
    assert.equal(await verdictOf(page), 'good');
  });

  for (const [name, habits, verdict, used] of [
    ['frames are swallowed', { upgrade: 'swallow' }, 'websocketSilent', 'sse'],
    ['streams are held', { sse: 'hold' }, 'fallbackFails', 'websocket'],
    ['upgrades are refused, streams held', { upgrade: 'refuse', sse: 'hold' }, 'onlyPoll', 'longpoll'],
  ] as readonly [string, Partial<Habits>, string, string][]) {
    test(`where ${name}`, async () => {
      const { url } = await obstacle(habits);
      const page = await open(`${url}/check?idle=0`);
      assert.equal(await verdictOf(page), verdict);
      assert.equal(await page.locator('.verdict').getAttribute('data-level'), 'fair');
      assert.equal(await page.locator(`[data-transport=${used}] .used`).count(), 1);
      assert.ok((await page.locator('section[aria-labelledby=advice] li').count()) > 0);
    });
  }

  test('under a base path, with another Socket.IO path', async () => {
    const based = await startBridge({ basePath: '/rt', socketPath: '/live' });
    closing.push(() => based.close());
    const page = await open(`${based.url}/check?idle=0`);
    assert.equal(await verdictOf(page), 'good');
  });

  test('reports that the device is offline or the server gone, and recovers', async () => {
    const page = await open(`${bridge.url}/check?idle=0`);
    await verdictOf(page);
    const again = () => page.getByRole('button', { name: 'Run again' }).click();
    await page.context().setOffline(true);
    await again();
    await until('offline', async () => (await verdictOf(page)) === 'offline');
    await assertSound(page, 'offline');
    await page.context().setOffline(false);
    await again();
    await until('well again', async () => (await verdictOf(page)) === 'good');
    await page.route('**/check/poll?*', (route) => route.abort('connectionrefused'));
    await again();
    await until('unreachable', async () => (await verdictOf(page)) === 'unreachable');
    assert.equal(await page.locator('.verdict').getAttribute('data-level'), 'bad');
  });

  test('a sign-in page, a page of another server, and a firewall', async () => {
    const page = await open(`${bridge.url}/check?idle=0`);
    await verdictOf(page);
    const portal = createServer((_, response) => void response.end('<h1>Sign in</h1>'));
    await new Promise<void>((resolve) => portal.listen(0, '127.0.0.1', resolve));
    closing.push(() => portal.close());
    const location = `http://127.0.0.1:${(portal.address() as AddressInfo).port}/`;
    for (const [answer, verdict] of [
      [{ status: 302, headers: { location } }, 'redirected'],
      [{ status: 200, contentType: 'text/html', body: '<script>alert(1)</script>' }, 'notOurs'],
      [{ status: 403, contentType: 'text/html', body: 'no' }, 'blocked'],
    ] as const) {
      await page.route('**/check/poll?*', (route) => route.fulfill(answer));
      await page.getByRole('button', { name: 'Run again' }).click();
      await until(verdict, async () => (await verdictOf(page)) === verdict);
      await page.unroute('**/check/poll?*');
    }
  });

  test('a full server, and a wrong clock', async () => {
    const full = await startBridge({ maxConnections: 1 });
    closing.push(() => full.close());
    const leaving = new AbortController();
    await fetch(`${full.url}/sse?tenantId=t`, { signal: leaving.signal });
    closing.push(() => leaving.abort());
    assert.equal(await verdictOf(await open(`${full.url}/check?idle=0`)), 'busy');

    const page = await open('about:blank');
    await page.addInitScript(`{ const now = Date.now; Date.now = () => now() + 600_000; }`);
    await page.goto(`${bridge.url}/check?idle=0`);
    assert.equal(await verdictOf(page), 'clock');
    assert.match(await reportOf(page), /10 min/);
  });

  test('leaves no connection open when the page closes during a check', async () => {
    const page = await open(`${bridge.url}/check?idle=60`);
    await page.getByText(/s to go/).waitFor({ timeout: VERDICT_MS });
    await page.close();
    await until('all counted out', async () => {
      const text = await (await fetch(`${bridge.url}/metrics`)).text();
      return [...text.matchAll(/^roomcast_connections\{.*\} (\d+)$/gm)].every(([, count]) => count === '0');
    });
  });

  for (const [name, verdict] of [
    ['nginx', 'websocketBlocked'],
    ['nginx, buffering', 'onlyPoll'],
    ['haproxy', 'websocketBlocked'],
    ['squid', 'websocketBlocked'],
    ['tinyproxy', 'websocketBlocked'],
  ] as readonly [ProxyName, string][]) {
    const program = programOf(name);
    const skip = programPath(program) === null ? `${program} is not installed` : false;
    test(`behind ${name}`, { skip }, async () => {
      const proxy = await startProxy(name, bridge.url);
      closing.push(() => proxy.close());
      if (program === 'squid' || program === 'tinyproxy') {
        const proxied = await chromium.launch({
          executablePath: CHROMIUM as string,
          args: FLAGS,
          proxy: { server: proxy.url, bypass: '<-loopback>' },
        });
        closing.push(() => proxied.close());
        const page = await open(`${bridge.url}/check?idle=0`, {}, proxied);
        assert.equal(await verdictOf(page), verdict);
        assert.match((await page.locator('section[aria-labelledby=notes]').textContent()) ?? '', /proxy/i);
      } else {
        assert.equal(await verdictOf(await open(`${proxy.url}/check?idle=0`)), verdict);
      }
    });
  }
});

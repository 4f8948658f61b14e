/**
 * `npm run screenshots`: the pictures of README.md and docs/, of the pages as they are now, with calm figures. It starts the
 * demo, and a bridge with a calm load (load.ts), and opens a real Chromium. The overview shows the last minutes: it is taken
 * last, when the load has run for `WARM_UP_S` (default 300). `PORT` (default 4003) must be free: it is in the pictures.
 *
 *   npm run screenshots            all of them, in six minutes
 *   npm run screenshots -- demo    those whose name begins with this; without the overview, in less than a minute
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { CHROMIUM, FLAGS } from '../support/browser.ts';
import { until } from '../support/until.ts';
import { startLoad } from './load.ts';
import { toPalettePng } from './palette-png.ts';

const OUT = 'docs/screenshots';
const MOST_BYTES = 150_000;
const WIDE = { viewport: { width: 1280, height: 900 } };
const PHONE = { viewport: { width: 360, height: 740 } };
const WARM_UP_S = Number(process.env.WARM_UP_S ?? 300);
const [wanted = ''] = process.argv.slice(2);

interface Picture {
  readonly name: string;
  readonly path: string;
  readonly options: BrowserContextOptions;
  /** What is on the page when it is taken. */
  readonly show: (page: Page) => Promise<unknown>;
}

const themes = ['light', 'dark'] as const;

const showVerdict = (page: Page) =>
  page
    .getByText(/expired|expirou/)
    .first()
    .waitFor();

const DEMO: readonly Picture[] = [
  ...themes.map((colorScheme) => ({
    name: `demo-${colorScheme}`,
    path: '/',
    options: { viewport: { width: 1440, height: 860 }, colorScheme },
    show: showFault,
  })),
  { name: 'demo-phone', path: '/', options: PHONE, show: showPresence },
];

const CONSOLE: readonly Picture[] = [
  ...themes.map((colorScheme) => ({
    name: `console-find-${colorScheme}`,
    path: '/console#find?q=user:ana',
    options: { ...WIDE, colorScheme },
    show: showVerdict,
  })),
  {
    name: 'console-find.pt-BR',
    path: '/console#find?q=user:ana',
    options: { ...WIDE, locale: 'pt-BR' },
    show: showVerdict,
  },
  {
    name: 'console-log',
    path: '/console#log?room=tenant:norte',
    options: WIDE,
    show: (page) => page.locator('[role=listbox] [role=option]').nth(2).click(),
  },
  {
    name: 'check',
    path: '/check',
    options: { viewport: { width: 900, height: 860 } },
    // The verdict comes after half a minute.
    show: (page) => page.getByText('Checking…').waitFor({ state: 'detached', timeout: 120_000 }),
  },
  {
    name: 'reference',
    path: '/docs',
    options: WIDE,
    show: (page) => page.getByRole('heading').first().waitFor(),
  },
];

/** Taken last: their charts show the minutes before. */
const OVERVIEW: readonly Picture[] = themes.map((colorScheme) => ({
  name: `console-overview-${colorScheme}`,
  path: '/console#overview?range=5',
  options: { ...WIDE, colorScheme },
  show: (page) => page.locator('canvas').first().waitFor(),
}));

/** The server was killed and came back, what happened meanwhile was replayed, and somebody types. */
async function showFault(page: Page): Promise<void> {
  await page.locator('#messages li').nth(3).waitFor();
  await pause(8_000);
  await page.locator('[data-button=kill]').click();
  await pause(4_000);
  await page.locator('[data-button=start]').click();
  await page.locator('#transport[data-transport=websocket]').waitFor({ timeout: 60_000 });
  await until('events that were replayed', async () => (await page.locator('#replayed').textContent()) !== '0', 60_000);
  await page.mouse.move(0, 0);
  await showPresence(page);
}

async function showPresence(page: Page): Promise<void> {
  await page.locator('#status[data-state=live]').waitFor();
  await until('somebody types', async () => (await page.locator('#typing').textContent()) !== '', 60_000);
}

async function take(browser: Browser, picture: Picture, url: string, operator?: string): Promise<void> {
  const context = await browser.newContext(picture.options);
  const page = await context.newPage();
  if (operator !== undefined)
    await context.addInitScript(`sessionStorage.setItem('roomcast:console:token', ${JSON.stringify(operator)})`);
  await page.goto(url + picture.path);
  await picture.show(page);
  await pause(1_500); // charts and fonts have settled
  const screenshot = await page.screenshot({ animations: 'disabled' });
  await context.close();
  const blank = await browser.newPage();
  const png = await toPalettePng(blank, screenshot);
  await blank.close();
  if (png.length > MOST_BYTES) throw new Error(`${picture.name}.png has ${png.length} bytes, more than ${MOST_BYTES}.`);
  writeFileSync(join(OUT, `${picture.name}.png`), png);
  console.log(`${picture.name}.png  ${Math.round(png.length / 1_000)} kB`);
}

const chosen = (pictures: readonly Picture[]): Picture[] => pictures.filter(({ name }) => name.startsWith(wanted));

async function takeDemo(browser: Browser): Promise<void> {
  const demo = spawn('npm', ['run', '--silent', 'demo'], {
    env: { ...process.env, BRIDGE_PORT: '0', PAGE_PORT: '0' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  demo.stdout.on('data', (chunk) => {
    output += chunk;
  });
  try {
    await until('the demo listens', () => output.includes('The inbox:'), 30_000);
    const inbox = /The inbox: +(\S+)/.exec(output)?.[1] as string;
    for (const picture of chosen(DEMO)) await take(browser, picture, inbox);
  } finally {
    const exited = once(demo, 'exit');
    if (demo.kill('SIGTERM')) await exited;
  }
}

async function takeConsole(browser: Browser): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'roomcast-screenshots-'));
  const load = await startLoad(Number(process.env.PORT ?? 4003), `sqlite:${join(directory, 'log.db')}`);
  const startedMs = performance.now();
  const refusing = setInterval(() => load.refuseAna().catch(() => {}), 9_000); // the bridge is closing
  try {
    await load.refuseAna();
    await pause(12_000);
    for (const picture of chosen(CONSOLE)) await take(browser, picture, load.url, load.operator);
    const overview = chosen(OVERVIEW);
    if (overview.length > 0) await pause(Math.max(0, startedMs + WARM_UP_S * 1_000 - performance.now()));
    for (const picture of overview) await take(browser, picture, load.url, load.operator);
  } finally {
    clearInterval(refusing);
    await load.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

if (CHROMIUM === null) throw new Error('Install chromium: the pictures are taken with it.');
mkdirSync(OUT, { recursive: true });
const browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
try {
  if (chosen(DEMO).length > 0) await takeDemo(browser);
  if (chosen([...CONSOLE, ...OVERVIEW]).length > 0) await takeConsole(browser);
} finally {
  await browser.close();
}
